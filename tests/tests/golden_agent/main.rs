//! What the original's agent answered, asked of ours: every recorded exchange of `mesos-golden/core` that is with the
//! agent, in the recorded order, under our master and with a framework as in the recording.
//!
//! What does not match yet is listed with its reason in `not_yet.rs`. The list can only shrink: an exchange that is
//! listed and matches fails the test, as does one that is not listed and differs.

mod containers;
#[path = "../golden_master/framework.rs"]
#[expect(dead_code, reason = "the master's test ends the framework")]
mod framework;
mod not_yet;
mod tasks;

use std::process::Command;
use std::time::Duration;

use end_to_end::daemon::{Daemon, kill_all_under};
use end_to_end::golden::{self, Exchange, Mode, Names, Tally};
use end_to_end::programs::{binary, shared};
use end_to_end::{http, need, ports, wait};
use serde_json::Value;

const RECORDED_MASTER: &str = "abacdcb6-732a-4ee7-8fe6-a5ee06c94294";
const RECORDED_CONTAINER: &str = "082e7866-379f-4d1e-a74f-eeb122f35d6f";
const LIMIT: Duration = Duration::from_secs(60);

struct Site {
    directory: tempfile::TempDir,
    master_port: u16,
    port: u16,
    running: Vec<Daemon>,
}

impl Site {
    /// A master and an agent.
    fn start() -> Self {
        let [master_port, port] = ports::free();
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let mut site = Self { directory, master_port, port, running: Vec::new() };
        let path = |name: &str| site.directory.path().join(name);
        let mut master = Command::new(binary("mesos-master"));
        master
            .args(["--ip=127.0.0.1", "--hostname=localhost"])
            .arg(format!("--port={master_port}"))
            .arg(format!("--work_dir={}", path("master").display()));
        site.running.push(Daemon::start("master", site.directory.path(), &mut master));
        std::fs::create_dir(path("launcher")).expect("a directory");
        for name in ["mesos-executor", "mesos-default-executor"] {
            let link = path("launcher").join(name);
            std::os::unix::fs::symlink(binary("mesos-agent"), link).expect("a link");
        }
        let resources = "--resources=cpus:4;mem:2048;disk:4096;ports:[31000-32000]";
        site.start_agent(1, port, &["--attributes=rack:r1;zone:z1", resources]);
        site
    }

    /// An agent more, with further flags.
    fn start_agent(&mut self, number: usize, port: u16, flags: &[&str]) {
        let path = |name: &str| self.directory.path().join(name);
        let name = format!("agent{number}");
        let mut agent = Command::new(binary("mesos-agent"));
        agent
            .arg(format!("--master=127.0.0.1:{}", self.master_port))
            .arg(format!("--port={port}"))
            .arg(format!("--hostname={name}.example"))
            .arg(format!("--work_dir={}", path(&name).display()))
            .arg(format!("--runtime_dir={}", path(&format!("runtime{number}")).display()))
            .arg(format!("--launcher_dir={}", path("launcher").display()))
            .args(["--ip=127.0.0.1", "--launcher=posix", "--isolation=posix/cpu,posix/mem"])
            .args(["--containerizers=mesos", "--no-systemd_enable_support"])
            .arg("--docker_registry=https://docker-registry.example")
            .args(flags);
        let daemon = Daemon::start(&name, self.directory.path(), &mut agent);
        self.running.push(daemon);
        let master_port = self.master_port;
        wait::until("an agent more", LIMIT, || {
            let slaves = http::get_json(&format!("http://127.0.0.1:{master_port}/slaves"))?;
            let all = slaves["slaves"].as_array().into_iter().flatten();
            let is_there =
                all.into_iter().any(|agent| agent["hostname"] == format!("{name}.example"));
            if is_there { Ok(()) } else { Err(slaves.to_string()) }
        });
    }

    fn names(&self) -> Names {
        let mut names = Names::default();
        names.add(RECORDED_MASTER, state(self.master_port)["id"].as_str().unwrap_or_default());
        for (recorded, ours) in [(5050, self.master_port), (5051, self.port)] {
            names.add(format!("127.0.0.1:{recorded}"), format!("127.0.0.1:{ours}"));
            names.add(format!("\"port\":{recorded}"), format!("\"port\":{ours}"));
            names.add(format!("\"{recorded}\""), format!("\"{ours}\""));
        }
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        names.add("/var/lib/mesos/agent1", path("agent1"));
        names.add("/var/run/mesos/agent1", path("runtime1"));
        names.add("/usr/libexec/mesos", path("launcher"));
        names
    }
}

fn state(port: u16) -> Value {
    http::get_json(&format!("http://127.0.0.1:{port}/state")).expect("the state")
}

impl Drop for Site {
    fn drop(&mut self) {
        self.running.clear();
        kill_all_under(self.directory.path());
    }
}

fn is_with_agent(exchange: &Exchange) -> bool {
    let parts: Vec<&str> = exchange.name.split('/').collect();
    matches!(
        parts.as_slice(),
        ["empty" | "running" | "errors", "agent", ..] | ["errors", "executor", ..]
    )
}

fn mode(exchange: &Exchange) -> Mode {
    if exchange.path.starts_with("/metrics/") || exchange.name.ends_with("GET_METRICS") {
        return Mode::Names;
    }
    // What runs when is not the same in two runs.
    if exchange.name.starts_with("running/") { Mode::Shape } else { Mode::Values }
}

#[test]
fn our_agent_answers_what_the_original_answered() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    need!(shared().join("oracle/py/v1exec.py").is_file(), "../shared/oracle is missing");
    let site = Site::start();
    let mut names = site.names();
    let mut framework = None;
    let mut tally = Tally::new("core, the agent", not_yet::ALLOWED);
    for exchange in &golden::load("core") {
        if !is_with_agent(exchange) || tally.passes_over(exchange) {
            continue;
        }
        if framework.is_none() && exchange.name.starts_with("running/") {
            framework = Some(framework::Framework::start(site.master_port, false));
            let state = state(site.port);
            let container = &state["frameworks"][0]["executors"][0]["container"];
            names.add(RECORDED_CONTAINER, container.as_str().expect("a container"));
        }
        let ours = golden::replay(exchange, site.port, &names).expect("our agent answers");
        tally.reply(exchange, ours.as_ref(), mode(exchange));
    }
    tally.finish();
}
