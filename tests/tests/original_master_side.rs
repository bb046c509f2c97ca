//! Agents and v0 drivers of the original (Mesos 1.11) under our master, found through our ZooKeeper, while the master
//! is killed, replaced, and started again.

use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::golden::{self, Mode, Names};
use end_to_end::programs::original_mesos;
use end_to_end::{http, need, ports, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// Our ZooKeeper and master, with an agent of the original's that is registered.
struct Mixed {
    cluster: Cluster,
    agent: Option<Daemon>,
}

impl Mixed {
    fn start() -> Self {
        let mut cluster = Cluster::new();
        cluster.start_zookeeper();
        cluster.start_master();
        let mut mixed = Self { cluster, agent: None };
        mixed.start_agent();
        mixed.cluster.wait_for_agent();
        mixed
    }

    fn start_agent(&mut self) {
        let original = original_mesos().expect("checked before");
        let directory = self.cluster.directory();
        let mut command = Command::new(original.join("bin/mesos-agent"));
        command
            .arg(format!("--master={}", self.cluster.zk()))
            .arg(format!("--port={}", self.cluster.agent_port))
            .arg(format!("--work_dir={}", directory.join("original-agent").display()))
            .arg(format!("--runtime_dir={}", directory.join("original-runtime").display()))
            .arg(format!("--launcher_dir={}", original.join("bin").display()))
            .args(["--ip=127.0.0.1", "--hostname=agent1.example", "--launcher=posix"])
            .args(["--isolation=posix/cpu,posix/mem", "--containerizers=mesos"])
            .args(["--no-systemd_enable_support", "--resources=cpus:4;mem:2048;disk:4096"]);
        self.agent = Some(Daemon::start("original-agent", directory, &mut command));
    }

    /// The original's scheduler driver, running `tasks` tasks one after the other.
    fn driver(&self, arguments: &[&str]) -> Daemon {
        let original = original_mesos().expect("checked before");
        let mut command = Command::new(original.join("bin/mesos-sched"));
        command.arg(self.cluster.zk()).args(arguments).env("LIBPROCESS_IP", "127.0.0.1");
        Daemon::start("driver", self.cluster.directory(), &mut command)
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        http::get_json(&self.cluster.master_url(path))
    }

    /// The ids of tasks in a state, sorted.
    fn tasks(&self, state: &str) -> Result<Vec<String>, String> {
        let tasks = self.get("/tasks")?;
        let mut ids: Vec<String> = tasks["tasks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|task| task["state"] == state)
            .filter_map(|task| task["id"].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        Ok(ids)
    }

    fn wait_for_tasks(&self, state: &str, expected: &[&str]) {
        wait::until(&format!("tasks {expected:?} in {state}"), LIMIT, || {
            let ids = self.tasks(state)?;
            if ids == expected { Ok(()) } else { Err(format!("{ids:?}")) }
        });
    }
}

fn wait_for_line(daemon: &Daemon, start: &str, count: usize) {
    wait::until(&format!("{count} times '{start}'"), LIMIT, || {
        let output = daemon.output();
        let seen = output.lines().filter(|line| line.starts_with(start)).count();
        if seen >= count { Ok(()) } else { Err(format!("{seen} times")) }
    });
}

#[test]
fn a_driver_and_an_agent_of_the_original_keep_their_tasks_when_our_master_dies() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let mut mixed = Mixed::start();
    let driver = mixed.driver(&["--tasks=2", "--command=sleep 1000", "--hold=600", "--checkpoint"]);
    mixed.wait_for_tasks("TASK_RUNNING", &["task-0", "task-1"]);
    let before = mixed.get("/state").expect("our master answers");
    let framework = &before["frameworks"][0];
    assert!(
        framework["pid"].as_str().is_some_and(|pid| pid.starts_with("scheduler-")),
        "{framework}"
    );
    let agent = before["slaves"][0]["id"].clone();

    mixed.cluster.master.take().expect("a running master").kill();
    mixed.cluster.start_master();
    mixed.cluster.wait_for_agent();
    wait_for_line(&driver, "registered:", 2);
    mixed.wait_for_tasks("TASK_RUNNING", &["task-0", "task-1"]);
    let after = mixed.get("/state").expect("our master answers");
    assert_eq!(after["slaves"][0]["id"], agent, "the agent was re-admitted under its id");
    assert_eq!(after["frameworks"][0]["id"], before["frameworks"][0]["id"]);
    assert_ne!(after["id"], before["id"]);
    assert!(!driver.output().contains("TASK_LOST"), "{}", driver.output());

    // The agent dies and is started again: its tasks are recovered from its checkpoint.
    mixed.agent.take().expect("a running agent").kill();
    wait::until("the agent to count as disconnected", LIMIT, || {
        let state = mixed.get("/state")?;
        if state["slaves"][0]["active"] == json!(false) {
            Ok(())
        } else {
            Err(state["slaves"].to_string())
        }
    });
    mixed.start_agent();
    mixed.cluster.wait_for_agent();
    mixed.wait_for_tasks("TASK_RUNNING", &["task-0", "task-1"]);

    // A clean leave of the agent takes its tasks along, and the driver is told.
    mixed.agent.as_ref().expect("a running agent").signal(Signal::SIGUSR1);
    wait_for_line(&driver, "slaveLost:", 1);
    wait_for_line(&driver, "status: task_id { value: \"task-1\" } state: TASK_LOST", 1);
    let state = mixed.get("/state").expect("our master answers");
    assert_eq!(state["slaves"], json!([]));
}

#[test]
fn a_driver_that_ends_takes_its_framework_along() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let mixed = Mixed::start();
    let mut driver = mixed.driver(&["--tasks=3", "--command=exit 0"]);
    assert!(driver.wait_for_end(LIMIT).success(), "{}", driver.output());
    mixed.wait_for_tasks("TASK_FINISHED", &["task-0", "task-1", "task-2"]);
    let state = mixed.get("/state").expect("our master answers");
    assert_eq!(state["frameworks"], json!([]));
    assert_eq!(state["completed_frameworks"].as_array().map(Vec::len), Some(1), "{state}");
}

#[test]
fn of_two_masters_one_leads_and_the_other_takes_over() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let mut mixed = Mixed::start();
    let [second_port] = ports::free();
    let mut command = Command::new(end_to_end::programs::binary("mesos-master"));
    command
        .arg(format!("--zk={}", mixed.cluster.zk()))
        .args([
            "--quorum=1",
            "--ip=127.0.0.1",
            "--hostname=127.0.0.1",
            "--zk_session_timeout=4secs",
        ])
        .arg(format!("--port={second_port}"))
        .arg(format!("--work_dir={}", mixed.cluster.directory().join("second").display()));
    let mut second = Daemon::start("second-master", mixed.cluster.directory(), &mut command);
    let second_url = |path: &str| format!("http://127.0.0.1:{second_port}{path}");
    let driver = mixed.driver(&["--tasks=1", "--command=sleep 1000", "--hold=600", "--checkpoint"]);
    mixed.wait_for_tasks("TASK_RUNNING", &["task-0"]);

    wait::until("the second master to redirect", LIMIT, || {
        let reply = http::get_unredirected(&second_url("/master/state?a=b"))?;
        let expected = format!("//127.0.0.1:{}/master/state?a=b", mixed.cluster.master_port);
        if (reply.status, reply.location.as_deref()) == (307, Some(expected.as_str())) {
            Ok(())
        } else {
            Err(format!("{reply:?}"))
        }
    });
    let health = http::get(&second_url("/health")).expect("the second master answers");
    assert_eq!(health.status, 200, "what is not the leader's business is answered here");

    // What the original's follower answered, ours does, too.
    let mut names = Names::default();
    names.add("master0.example:5050", format!("127.0.0.1:{}", mixed.cluster.master_port));
    let mut replayed = 0;
    for exchange in golden::load("ha") {
        let Some(what) = exchange.name.strip_prefix("three/follower/") else { continue };
        // We are no collection of processes; which metrics there are is compared where one leads.
        if matches!(what, "__processes__" | "metrics/snapshot") {
            continue;
        }
        let mode = if what == "flags" { Mode::Shape } else { Mode::Values };
        let ours =
            golden::replay(&exchange, second_port, &names).expect("the second master answers");
        let differing = golden::differences(exchange.reply.as_ref(), ours.as_ref(), mode);
        assert!(differing.is_empty(), "{what}: {differing:?}");
        replayed += 1;
    }
    assert!(replayed > 10, "{replayed} exchanges with a follower");

    // The second has a registry of its own that knows nothing of the agent: it is admitted all the same.
    mixed.cluster.master.take().expect("a running master").kill();
    wait::until("the agent and its task at the second master", LIMIT, || {
        let tasks = http::get_json(&second_url("/tasks"))?;
        if tasks["tasks"][0]["state"] == "TASK_RUNNING" { Ok(()) } else { Err(tasks.to_string()) }
    });
    wait_for_line(&driver, "registered:", 2);
    let registry = http::get_json(&second_url("/registrar(1)/registry")).expect("the registry");
    assert_eq!(registry["slaves"]["slaves"].as_array().map(Vec::len), Some(1), "{registry}");

    // The first comes back as a follower.
    mixed.cluster.start_master();
    wait::until("the first master to redirect", LIMIT, || {
        let reply = http::get_unredirected(&mixed.cluster.master_url("/state"))?;
        if reply.status == 307 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    assert!(second.is_running());
}
