//! A whole cluster of our daemons on loopback: ZooKeeper, master, agent and Marathon, on free ports, in one
//! directory, each of them stoppable, killable and startable again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, kill_all_under};
use crate::programs::binary;
use crate::{http, ports, wait};

const START: Duration = Duration::from_secs(40);

/// The cluster. Dropping it ends every process that it started, tasks included.
#[derive(Debug)]
pub struct Cluster {
    /// Port of the ZooKeeper server.
    pub zookeeper_port: u16,
    /// Port of the master.
    pub master_port: u16,
    /// Port of the agent.
    pub agent_port: u16,
    /// Port of Marathon.
    pub marathon_port: u16,
    /// The ZooKeeper server, if running.
    pub zookeeper: Option<Daemon>,
    /// The master, if running.
    pub master: Option<Daemon>,
    /// The agent, if running.
    pub agent: Option<Daemon>,
    /// Marathon, if running.
    pub marathon: Option<Daemon>,
    /// What master, agent and Marathon have in their environment beside the tests' own.
    pub environment: Vec<(String, String)>,
    directory: TempDir,
}

impl Cluster {
    /// An empty cluster: ports chosen, nothing started.
    ///
    /// # Panics
    /// When there is no temporary directory.
    #[must_use]
    pub fn new() -> Self {
        Self::in_directory(TempDir::new().expect("a temporary directory"))
    }

    /// One whose files are in memory, where that can be had: for tests in which much is written and no power is lost.
    ///
    /// # Panics
    /// When there is no temporary directory.
    #[must_use]
    pub fn in_memory() -> Self {
        let memory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
        Self::in_directory(memory.expect("a temporary directory"))
    }

    fn in_directory(directory: TempDir) -> Self {
        let [zookeeper_port, master_port, agent_port, marathon_port] = ports::free();
        Self {
            zookeeper_port,
            master_port,
            agent_port,
            marathon_port,
            zookeeper: None,
            master: None,
            agent: None,
            marathon: None,
            environment: Vec::new(),
            directory,
        }
    }

    /// All four daemons, started and seen to work together: an agent registered and Marathon leading.
    #[must_use]
    pub fn start() -> Self {
        let mut cluster = Self::new();
        cluster.start_zookeeper();
        cluster.start_master();
        cluster.start_agent();
        cluster.start_marathon();
        cluster.wait_for_agent();
        cluster.wait_for_marathon();
        cluster
    }

    /// The directory that everything lies under.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn subdirectory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory of the test");
        path
    }

    /// `zk://127.0.0.1:PORT/mesos`.
    #[must_use]
    pub fn zk(&self) -> String {
        format!("zk://127.0.0.1:{}/mesos", self.zookeeper_port)
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

    /// A URL of Marathon.
    #[must_use]
    pub fn marathon_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.marathon_port)
    }

    fn zoo_cfg(&self) -> PathBuf {
        let data = self.subdirectory("zookeeper");
        let config = self.directory().join("zoo.cfg");
        let text = format!(
            "tickTime=500\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\n",
            data.display(),
            self.zookeeper_port
        );
        std::fs::write(&config, text).expect("zoo.cfg");
        config
    }

    /// Starts our ZooKeeper server and waits until it says `imok`.
    pub fn start_zookeeper(&mut self) {
        let mut command = Command::new(binary("zookeeper-server"));
        command.arg(self.zoo_cfg());
        self.zookeeper = Some(Daemon::start("zookeeper", self.directory(), &mut command));
        self.wait_for_zookeeper();
    }

    /// Starts Apache's ZooKeeper server (Debian's package) on the same configuration and data.
    pub fn start_original_zookeeper(&mut self) {
        let mut command = Command::new("java");
        command
            .args([
                "-Xmx256m",
                "-cp",
                "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar",
                "-Dzookeeper.root.logger=INFO,CONSOLE",
            ])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(self.zoo_cfg());
        self.zookeeper = Some(Daemon::start("zookeeper", self.directory(), &mut command));
        self.wait_for_zookeeper();
    }

    /// Waits until whatever serves the ZooKeeper port says `imok`.
    pub fn wait_for_zookeeper(&self) {
        wait::until("the ZooKeeper server", START, || {
            four_letter_word(self.zookeeper_port, "ruok").map(|_| ())
        });
    }

    /// Starts our master.
    pub fn start_master(&mut self) {
        let work = self.subdirectory("master");
        let mut command = Command::new(binary("mesos-master"));
        command
            .arg(format!("--zk={}", self.zk()))
            .args([
                "--quorum=1",
                "--ip=127.0.0.1",
                "--hostname=127.0.0.1",
                "--zk_session_timeout=4secs",
            ])
            .arg(format!("--port={}", self.master_port))
            .arg(format!("--work_dir={}", work.display()))
            .envs(self.environment.iter().cloned());
        self.master = Some(Daemon::start("master", self.directory(), &mut command));
    }

    /// Starts our agent with process containers.
    pub fn start_agent(&mut self) {
        self.start_agent_with(&[
            "--containerizers=mesos",
            "--launcher=posix",
            "--isolation=posix/cpu,posix/mem",
        ]);
    }

    /// Starts our agent with further flags.
    pub fn start_agent_with(&mut self, flags: &[&str]) {
        let work = self.subdirectory("agent");
        let runtime = self.subdirectory("agent-runtime");
        let launcher = self.subdirectory("agent-launcher");
        for name in ["mesos-executor", "mesos-docker-executor", "mesos-default-executor"] {
            let link = launcher.join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(binary("mesos-agent"), &link)
                    .expect("a link in the launcher directory");
            }
        }
        let mut command = Command::new(binary("mesos-agent"));
        command
            .arg(format!("--master={}", self.zk()))
            .args(["--ip=127.0.0.1", "--hostname=127.0.0.1", "--no-systemd_enable_support"])
            .args([
                "--resources=cpus:4;mem:2048;disk:4096;ports:[31000-32000]",
                "--executor_registration_timeout=15mins",
            ])
            .arg(format!("--port={}", self.agent_port))
            .arg(format!("--work_dir={}", work.display()))
            .arg(format!("--runtime_dir={}", runtime.display()))
            .arg(format!("--launcher_dir={}", launcher.display()))
            .args(flags)
            .envs(self.environment.iter().cloned());
        self.agent = Some(Daemon::start("agent", self.directory(), &mut command));
    }

    /// Starts our Marathon.
    pub fn start_marathon(&mut self) {
        let mut command = Command::new(binary("marathon"));
        command
            .args([
                "--master",
                &self.zk(),
                "--zk",
                &format!("zk://127.0.0.1:{}/marathon", self.zookeeper_port),
            ])
            .args([
                "--hostname",
                "127.0.0.1",
                "--http_address",
                "127.0.0.1",
                "--http_port",
                &self.marathon_port.to_string(),
            ])
            .args([
                "--zk_session_timeout",
                "4000",
                "--reconciliation_initial_delay",
                "1000",
                "--scale_apps_initial_delay",
                "1000",
            ])
            .envs(self.environment.iter().cloned());
        self.marathon = Some(Daemon::start("marathon", self.directory(), &mut command));
    }

    /// Waits until the master leads and counts one active agent.
    pub fn wait_for_agent(&self) {
        wait::until("an active agent", START, || {
            let state = http::get_json(&self.master_url("/state"))?;
            if state["activated_slaves"].as_f64() == Some(1.0) {
                Ok(())
            } else {
                Err(state["slaves"].to_string())
            }
        });
    }

    /// Waits until Marathon leads and is registered as a framework.
    pub fn wait_for_marathon(&self) {
        wait::until("Marathon to lead", START, || {
            let info = http::get_json(&self.marathon_url("/v2/info"))?;
            if info["frameworkId"].is_string() { Ok(()) } else { Err(info.to_string()) }
        });
    }

    /// An app that runs a shell command, created and waited for.
    ///
    /// # Panics
    /// When Marathon refuses it or it doesn't run.
    pub fn run_app(&self, id: &str, command: &str, instances: u32) {
        let app = json!({"id": id, "cmd": command, "cpus": 0.1, "mem": 32, "instances": instances});
        let reply = http::post(&self.marathon_url("/v2/apps"), &app).expect("Marathon answers");
        assert_eq!(reply.status, 201, "{}", reply.body);
        let _ids = self.wait_for_tasks(id, instances as usize);
    }

    /// Waits until exactly `count` tasks of an app run; their ids, sorted.
    #[must_use = "or ignore the ids explicitly"]
    pub fn wait_for_tasks(&self, id: &str, count: usize) -> Vec<String> {
        wait_for_tasks(&self.marathon_url(""), id, count)
    }
}

/// Waits until exactly `count` tasks of an app run under the Marathon at `base`; their ids, sorted.
pub fn wait_for_tasks(base: &str, id: &str, count: usize) -> Vec<String> {
    wait::until(&format!("{count} running tasks of {id}"), Duration::from_secs(60), || {
        let app = http::get_json(&format!("{base}/v2/apps{id}"))?;
        let tasks = app["app"]["tasks"].as_array().cloned().unwrap_or_default();
        let running: Vec<&Value> =
            tasks.iter().filter(|task| task["state"] == "TASK_RUNNING").collect();
        if running.len() != count || tasks.len() != count {
            return Err(app.to_string());
        }
        let mut ids: Vec<String> =
            running.iter().filter_map(|task| task["id"].as_str().map(str::to_owned)).collect();
        ids.sort();
        Ok(ids)
    })
}

/// Sends one of ZooKeeper's four-letter words.
///
/// # Errors
/// When nothing answers.
pub fn four_letter_word(port: u16, word: &str) -> Result<String, String> {
    use std::io::{Read as _, Write as _};
    let answer = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(word.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    match answer() {
        Ok(text) if text.is_empty() => Err(format!("no answer to {word}")),
        Ok(text) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.marathon = None;
        self.agent = None;
        self.master = None;
        self.zookeeper = None;
        kill_all_under(self.directory.path());
    }
}
