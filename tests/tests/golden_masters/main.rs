//! What a group of three of the original's masters answered (`mesos-golden/ha`), asked of ours in the recorded order:
//! one master alone, a leader and its followers, the leader killed, an agent that dies, comes back and leaves. A v0
//! driver of the original and a v1 framework have tasks all the while.

mod not_yet;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::framework::{Framework, command_task, launch};
use end_to_end::golden::{self, Exchange, Mode, Names, Tally};
use end_to_end::programs::{binary, original_mesos};
use end_to_end::{http, need, ports, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const FIRST_MASTER: &str = "5e31d983-5b78-47ed-a197-86f4168775a7";
const SECOND_MASTER: &str = "f8e462d4-7e37-48b5-b97d-d96531b672bf";
const STREAM: &str = "97831da0-55fc-446a-a506-06af73c6abbf";
const DRIVER: &str = "scheduler-6dbe2a3c-5c4d-4d28-9487-a40d95300431@127.0.0.1:5060";

struct Site {
    // Dropped before the cluster, whose directory they are in.
    masters: [Option<Daemon>; 3],
    driver: Option<Daemon>,
    agent: Option<Daemon>,
    ports: [u16; 3],
    agent_port: u16,
    cluster: Cluster,
}

impl Site {
    fn start() -> Self {
        let mut cluster = Cluster::new();
        cluster.start_zookeeper();
        let [one, two, three, agent_port] = ports::free();
        let masters = [None, None, None];
        Self { masters, driver: None, agent: None, ports: [one, two, three], agent_port, cluster }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.directory().join(name)
    }

    fn start_master(&mut self, index: usize) {
        let mut master = Command::new(binary("mesos-master"));
        master
            .args(["--ip=127.0.0.1", "--quorum=2", "--zk_session_timeout=4secs"])
            .arg(format!("--hostname=master{index}.example"))
            .arg(format!("--zk={}", self.cluster.zk()))
            .arg(format!("--port={}", self.ports[index]))
            .arg(format!("--work_dir={}", self.path(&format!("m{index}")).display()));
        let name = format!("master{index}");
        self.masters[index] = Some(Daemon::start(&name, self.cluster.directory(), &mut master));
        wait::until("a master that knows who leads", LIMIT, || {
            let reply = self.get(index, "/redirect")?;
            if reply.status == 307 { Ok(()) } else { Err(reply.status.to_string()) }
        });
    }

    fn get(&self, index: usize, path: &str) -> Result<http::Reply, String> {
        http::get_unredirected(&format!("http://127.0.0.1:{}{path}", self.ports[index]))
    }

    /// Waits until this master serves, as others see it, too.
    fn wait_for_leader(&self, index: usize) {
        wait::until("the leader", LIMIT, || {
            let registry = self.get(index, "/registrar(1)/registry")?;
            if registry.status == 200 && registry.body.len() > 2 {
                Ok(())
            } else {
                Err(registry.body)
            }
        });
    }

    fn state(&self, index: usize) -> Result<Value, String> {
        let reply = self.get(index, "/state")?;
        if reply.status == 200 { Ok(reply.json()) } else { Err(reply.status.to_string()) }
    }

    fn wait_for_state(&self, index: usize, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, LIMIT, || {
            let state = self.state(index)?;
            if fits(&state) { Ok(state) } else { Err(state.to_string()) }
        })
    }

    fn start_agent(&mut self) {
        let launcher = self.path("launcher");
        if !launcher.exists() {
            std::fs::create_dir(&launcher).expect("a directory");
            std::os::unix::fs::symlink(binary("mesos-agent"), launcher.join("mesos-executor"))
                .expect("a link");
        }
        let mut agent = Command::new(binary("mesos-agent"));
        agent
            .arg(format!("--master={}", self.cluster.zk()))
            .arg(format!("--port={}", self.agent_port))
            .args(["--ip=127.0.0.1", "--hostname=agent1.example", "--attributes=rack:r1"])
            .args(["--launcher=posix", "--isolation=posix/cpu,posix/mem", "--containerizers=mesos"])
            .args(["--no-systemd_enable_support", "--zk_session_timeout=4secs"])
            .arg("--docker_registry=https://docker-registry.example")
            .arg("--resources=cpus:4;mem:2048;disk:4096;ports:[31000-32000]")
            .arg(format!("--work_dir={}", self.path("agent1").display()))
            .arg(format!("--runtime_dir={}", self.path("runtime1").display()))
            .arg(format!("--launcher_dir={}", launcher.display()));
        self.agent = Some(Daemon::start("agent1", self.cluster.directory(), &mut agent));
    }

    fn start_driver(&mut self) {
        let program = original_mesos().expect("checked before").join("bin/mesos-sched");
        let mut driver = Command::new(program);
        driver.env("LIBPROCESS_IP", "127.0.0.1").arg(self.cluster.zk()).args([
            "--checkpoint",
            "--failover_timeout=60",
            "--hold=600",
            "--command=sleep 600",
        ]);
        self.driver = Some(Daemon::start("driver", self.cluster.directory(), &mut driver));
    }

    fn names(&self) -> Names {
        let mut names = Names::default();
        let pairs = [
            (5050, self.ports[0]),
            (5150, self.ports[1]),
            (5250, self.ports[2]),
            (5051, self.agent_port),
            (2181, self.cluster.zookeeper_port),
        ];
        for (recorded, ours) in pairs {
            names.add(format!("127.0.0.1:{recorded}"), format!("127.0.0.1:{ours}"));
            names.add(format!(".example:{recorded}"), format!(".example:{ours}"));
            names.add(format!("\"port\":{recorded}"), format!("\"port\":{ours}"));
            names.add(format!("\"{recorded}\""), format!("\"{ours}\""));
        }
        names.add("\"10secs\"", "\"4secs\"");
        for (recorded, name) in [
            ("lib/mesos/m0", "m0"),
            ("lib/mesos/m1", "m1"),
            ("lib/mesos/m2", "m2"),
            ("lib/mesos/agent1", "agent1"),
            ("run/mesos/agent1", "runtime1"),
        ] {
            names.add(format!("/var/{recorded}"), self.path(name).display().to_string());
        }
        names.add("/usr/libexec/mesos", self.path("launcher").display().to_string());
        names
    }
}

fn v1_framework(port: u16) -> (Framework, Vec<Value>) {
    let info = json!({
        "user": "root", "name": "v1", "roles": ["v1"], "checkpoint": true, "failover_timeout": 60,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}],
    });
    let framework = Framework::start(port, &info);
    let offer = framework.offer(|_| true);
    let task = command_task("v1-task", &offer["agent_id"], "sleep 600");
    framework.accept(&offer, &[launch(&[task])]);
    let statuses = framework.wait_for("v1-task", "TASK_RUNNING");
    (framework, statuses)
}

fn mode(exchange: &Exchange) -> Mode {
    if exchange.path.starts_with("/metrics/") {
        return Mode::Names;
    }
    // The driver is offered something or not.
    let states = ["/state", "/leader/slaves", "/leader/v1/GET_AGENTS", "agent-back/v1/GET_AGENTS"];
    if states.iter().any(|end| exchange.name.ends_with(end)) { Mode::Shape } else { Mode::Values }
}

fn is_offered(state: &Value) -> bool {
    let mut frameworks = state["frameworks"].as_array().into_iter().flatten();
    frameworks.any(|known| known["name"] == "v1" && known["offers"] != json!([]))
}

fn is_registered(state: &Value) -> bool {
    state["activated_slaves"] == 1.0
}

#[test]
fn our_masters_answer_as_a_group_of_the_originals_did() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let mut site = Site::start();
    site.start_master(0);
    let mut names = site.names();
    let mut framework = None;
    let mut tally = Tally::new("ha", not_yet::ALLOWED);
    let mut scene = String::new();
    for exchange in &golden::load("ha") {
        let parts: Vec<&str> = exchange.name.split('/').collect();
        let now = match parts[0] {
            "failover" if matches!(parts[1], "leader" | "follower") => "failover, settled",
            first => first,
        };
        if now != scene {
            now.clone_into(&mut scene);
            match now {
                "three" => {
                    site.start_master(1);
                    site.start_master(2);
                    site.wait_for_leader(0);
                    let state = site.state(0).expect("the leader's state");
                    names.add(FIRST_MASTER, state["id"].as_str().unwrap_or_default());
                }
                "failover" => {
                    site.start_agent();
                    site.wait_for_state(0, "an agent", is_registered);
                    site.start_driver();
                    let has_task = |state: &Value| {
                        state["frameworks"][0]["tasks"][0]["state"] == "TASK_RUNNING"
                    };
                    site.wait_for_state(0, "the driver's task", has_task);
                    let (started, statuses) = v1_framework(site.ports[0]);
                    let recorded = golden::records("ha/scheduler-v1-on-leader.recordio");
                    names.add_statuses(&recorded, &statuses);
                    names.add(STREAM, &started.stream);
                    framework = Some(started);
                    // What the recording asked at once is asked before they can come back.
                    for held in [&site.agent, &site.driver] {
                        held.as_ref().expect("started").signal(Signal::SIGSTOP);
                    }
                    site.masters[0].take().expect("a leader").kill();
                    site.wait_for_leader(1);
                    let state = site.state(1).expect("the leader's state");
                    names.add(SECOND_MASTER, state["id"].as_str().unwrap_or_default());
                }
                "failover, settled" => {
                    for held in [&site.agent, &site.driver] {
                        held.as_ref().expect("started").signal(Signal::SIGCONT);
                    }
                    site.wait_for_state(1, "the agent", is_registered);
                    framework.as_mut().expect("a framework").rejoin(site.ports[1]);
                    let both = |state: &Value| {
                        if !is_offered(state) {
                            return false;
                        }
                        let all = state["frameworks"].as_array().cloned().unwrap_or_default();
                        all.len() == 2 && all.iter().all(|known| known["connected"] == true)
                    };
                    let state = site.wait_for_state(1, "both frameworks", both);
                    let driver = state["frameworks"].as_array().into_iter().flatten();
                    let mut pids = driver.filter_map(|known| known["pid"].as_str());
                    names.add(DRIVER, pids.next().expect("the driver's pid"));
                }
                "agent-down" => {
                    site.agent.take().expect("an agent").kill();
                    let is_gone = |state: &Value| state["activated_slaves"] == 0.0;
                    site.wait_for_state(1, "the agent's end", is_gone);
                }
                "agent-back" => {
                    site.start_agent();
                    site.wait_for_state(1, "the agent, and an offer of it", is_offered);
                }
                "agent-gone" => {
                    site.agent.as_ref().expect("an agent").signal(Signal::SIGUSR1);
                    let is_gone = |state: &Value| state["slaves"] == json!([]);
                    site.wait_for_state(1, "the agent's leave", is_gone);
                }
                _ => {}
            }
        }
        if tally.passes_over(exchange) {
            continue;
        }
        let port = match parts.as_slice() {
            ["alone", ..] | ["three", "leader", ..] => site.ports[0],
            ["failover", "follower", ..] => site.ports[2],
            ["agent-back", "agent", ..] => site.agent_port,
            _ => site.ports[1],
        };
        let ours = golden::replay(exchange, port, &names).expect("our daemon answers");
        tally.reply(exchange, ours.as_ref(), mode(exchange));
    }
    tally.finish();
}
