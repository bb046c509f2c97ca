//! One master, one agent and a scripted framework, of our kind or the original's, without ZooKeeper.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, kill_all_under};
use crate::programs::{binary, original_mesos, root};
use crate::{http, leftovers, ports, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Whose program something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// This project's.
    Ours,
    /// The original's, or a stand-in for what of it is not at hand.
    Original,
}

/// Which parts a site is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The master.
    pub master: Maker,
    /// The agent.
    pub agent: Maker,
    /// What is in the agent's launcher directory.
    pub executors: Maker,
    /// Further flags of the master.
    pub master_flags: Vec<&'static str>,
    /// Further flags of the agent.
    pub agent_flags: Vec<&'static str>,
    /// What the agent has in its environment beside the tests' own.
    pub agent_environment: Vec<(&'static str, String)>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            master: Maker::Ours,
            agent: Maker::Ours,
            executors: Maker::Ours,
            master_flags: Vec::new(),
            agent_flags: vec!["--launcher=posix", "--isolation=posix/cpu,posix/mem"],
            agent_environment: Vec::new(),
        }
    }
}

/// Running daemons. Dropping it ends them and all that they started.
#[derive(Debug)]
pub struct Site {
    directory: tempfile::TempDir,
    parts: Parts,
    master_port: u16,
    agent_port: u16,
    master: Option<Daemon>,
    agent: Option<Daemon>,
    framework: Option<Daemon>,
}

impl Site {
    /// Starts a master, an agent that is registered with it, and a framework.
    ///
    /// # Panics
    /// When they don't come up.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let [master_port, agent_port] = ports::free();
        let directory = leftovers::directory();
        let mut site = Self {
            directory,
            parts,
            master_port,
            agent_port,
            master: None,
            agent: None,
            framework: None,
        };
        site.start_master();
        site.start_agent();
        File::create(site.path("commands")).expect("a file of commands");
        let mut framework = Command::new("python3");
        framework
            .arg(root().join("tests/clients/console.py"))
            .arg(format!("127.0.0.1:{master_port}"))
            .arg(site.path("commands"));
        let started = Daemon::start("framework", site.directory.path(), &mut framework);
        site.framework = Some(started);
        site
    }

    fn program(maker: Maker, name: &str) -> PathBuf {
        match maker {
            Maker::Ours => binary(name),
            Maker::Original => original_mesos().expect("checked before").join("bin").join(name),
        }
    }

    /// A path in the site's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory that everything is in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn start_master(&mut self) {
        let mut master = Command::new(Self::program(self.parts.master, "mesos-master"));
        master
            .args(["--ip=127.0.0.1", "--hostname=master.example"])
            .arg(format!("--port={}", self.master_port))
            .arg(format!("--work_dir={}", self.path("master").display()))
            .args(&self.parts.master_flags);
        self.master = Some(Daemon::start("master", self.directory.path(), &mut master));
        wait::until("the master", LIMIT, || http::get(&self.master_url("/health")).map(|_| ()));
    }

    fn launcher_dir(&self) -> PathBuf {
        if self.parts.agent == Maker::Original && self.parts.executors == Maker::Original {
            return original_mesos().expect("checked before").join("bin");
        }
        let directory = self.path("launcher");
        if !directory.exists() {
            fs::create_dir(&directory).expect("a directory");
            let link = |from: PathBuf, name: &str| {
                std::os::unix::fs::symlink(from, directory.join(name)).expect("a link");
            };
            for name in ["mesos-executor", "mesos-default-executor"] {
                let program = match self.parts.executors {
                    Maker::Ours => binary("mesos-agent"),
                    Maker::Original => Self::program(Maker::Original, name),
                };
                link(program, name);
            }
            if self.parts.agent == Maker::Original {
                for name in ["mesos-containerizer", "mesos-io-switchboard"] {
                    link(Self::program(Maker::Original, name), name);
                }
            }
        }
        directory
    }

    /// Starts the agent, and waits until it is registered.
    ///
    /// # Panics
    /// When it isn't in time.
    pub fn start_agent(&mut self) {
        let mut agent = Command::new(Self::program(self.parts.agent, "mesos-agent"));
        agent
            .arg(format!("--master=127.0.0.1:{}", self.master_port))
            .arg(format!("--port={}", self.agent_port))
            .args(["--ip=127.0.0.1", "--hostname=agent1.example", "--containerizers=mesos"])
            .args(["--attributes=rack:r1;zone:z1", "--no-systemd_enable_support"])
            .arg("--resources=cpus:4;mem:2048;disk:4096;ports:[31000-32000]")
            .arg(format!("--work_dir={}", self.path("agent1").display()))
            .arg(format!("--runtime_dir={}", self.path("runtime1").display()))
            .arg(format!("--launcher_dir={}", self.launcher_dir().display()))
            .args(&self.parts.agent_flags)
            .envs(self.parts.agent_environment.iter().cloned());
        self.agent = Some(Daemon::start("agent1", self.directory.path(), &mut agent));
        wait::until("a registered agent", LIMIT, || {
            let metrics = http::get_json(&self.agent_url("/metrics/snapshot"))?;
            if metrics["slave/registered"] == 1.0 { Ok(()) } else { Err(metrics.to_string()) }
        });
    }

    /// Kills the agent, leaving what it started, and starts it again.
    ///
    /// # Panics
    /// When it doesn't come back.
    pub fn restart_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
        self.start_agent();
    }

    /// Kills the agent, leaving what it started, and starts one of another maker in its place.
    ///
    /// # Panics
    /// When that doesn't register.
    pub fn hand_over(&mut self, agent: Maker) {
        self.parts.agent = agent;
        self.restart_agent();
    }

    /// A URL of the master.
    #[must_use]
    pub fn master_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.master_port)
    }

    /// A URL of the agent.
    #[must_use]
    pub fn agent_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.agent_port)
    }

    /// The agent's port.
    #[must_use]
    pub fn agent_port(&self) -> u16 {
        self.agent_port
    }

    /// Calls the agent's operator API.
    ///
    /// # Panics
    /// When it doesn't answer.
    #[must_use]
    pub fn call(&self, call: &Value) -> http::Reply {
        http::post_within(&self.agent_url("/api/v1"), call, LIMIT).expect("the agent answers")
    }

    /// Has the framework do something: see `tests/clients/console.py`.
    ///
    /// # Panics
    /// When the command can't be written.
    pub fn order(&self, command: &Value) {
        let commands = File::options().append(true).open(self.path("commands"));
        writeln!(commands.expect("the commands"), "{command}").expect("a command");
    }

    /// What the framework heard of a task.
    #[must_use]
    pub fn updates(&self, task: &str) -> Vec<Value> {
        let output = self.framework.as_ref().map(Daemon::output).unwrap_or_default();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|update| update["task"] == task).collect()
    }

    /// Waits until the framework has heard that a task is in a state; what it heard.
    pub fn wait_for(&self, task: &str, state: &str) -> Value {
        wait::until(&format!("{state} of {task}"), LIMIT, || {
            let updates = self.updates(task);
            let found = updates.iter().find(|update| update["state"] == state);
            found.cloned().ok_or_else(|| format!("{updates:?}"))
        })
    }

    /// The states that the framework heard of a task, in order.
    #[must_use]
    pub fn states(&self, task: &str) -> Vec<String> {
        let text = |update: &Value| update["state"].as_str().unwrap_or_default().to_owned();
        self.updates(task).iter().map(text).collect()
    }

    /// Runs a group of tasks, each with 0.1 CPUs and 32 MB, under a default executor.
    pub fn run_group(&self, executor: &str, tasks: &[(&str, Value)]) {
        let tasks: Vec<Value> = tasks.iter().map(|(id, more)| task(id, more)).collect();
        let executor = json!({
            "type": "DEFAULT", "executor_id": {"value": executor}, "resources": resources(),
        });
        self.order(&json!({"group": tasks, "executor": executor}));
    }

    /// Runs a task with 0.1 CPUs and 32 MB.
    pub fn run(&self, id: &str, more: &Value) {
        self.order(&json!({"run": task(id, more)}));
    }

    /// The container and the sandbox of an executor that runs, or has run.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn executor(&self, id: &str) -> (String, PathBuf) {
        let state = http::get_json(&self.agent_url("/state")).expect("the agent's state");
        let frameworks = ["frameworks", "completed_frameworks"].map(|name| state[name].as_array());
        let lists = frameworks.into_iter().flatten().flatten().flat_map(|framework| {
            ["executors", "completed_executors"].map(|name| framework[name].as_array())
        });
        let executors = lists.flatten();
        let found = executors.flatten().find(|executor| executor["id"] == id);
        let found = found.unwrap_or_else(|| panic!("no executor {id} in {state}"));
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (text("container"), PathBuf::from(text("directory")))
    }
}

fn resources() -> Value {
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    json!([scalar("cpus", 0.1), scalar("mem", 32.0), scalar("disk", 32.0)])
}

fn task(id: &str, more: &Value) -> Value {
    let mut task = json!({"name": id, "task_id": {"value": id}, "resources": resources()});
    for (key, value) in more.as_object().into_iter().flatten() {
        task[key] = value.clone();
    }
    task
}

impl Drop for Site {
    fn drop(&mut self) {
        self.framework = None;
        self.agent = None;
        self.master = None;
        kill_all_under(self.directory.path());
    }
}
