//! Who must prove who they are, with originals on the other end of the wire: a real agent and the real v0 driver
//! authenticate with our master, our agent with a real master; the right secret is taken and a wrong one is not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::{Daemon, kill_all_under};
use end_to_end::programs::{binary, original_mesos};
use end_to_end::{http, need, ports, wait};

const LIMIT: Duration = Duration::from_secs(60);
const WHY: &str = "a real Mesos 1.11 (../shared/oracle) can't be built here";

struct Site {
    directory: tempfile::TempDir,
    running: Vec<Daemon>,
    master_port: u16,
}

impl Site {
    /// A master that takes only who authenticates, started by `program`.
    fn start(program: &Path) -> Self {
        let [master_port] = ports::free();
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let mut site = Self { directory, running: Vec::new(), master_port };
        let credentials = site.secret(
            "credentials",
            r#"{"credentials": [{"principal": "agent", "secret": "agentpw"},
                                {"principal": "framework", "secret": "frameworkpw"}]}"#,
        );
        let mut master = Command::new(program);
        master
            .args(["--ip=127.0.0.1", "--hostname=127.0.0.1", "--registry=in_memory"])
            .args(["--authenticate_agents", "--authenticate_frameworks"])
            .arg(format!("--port={master_port}"))
            .arg(format!("--work_dir={}", site.path("master").display()))
            .arg(format!("--credentials={}", credentials.display()));
        site.run("master", &mut master);
        let health = format!("http://127.0.0.1:{master_port}/health");
        wait::until("the master to answer", LIMIT, || http::get(&health).map(drop));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory of the test");
        path
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(format!("{name}.json"));
        std::fs::write(&path, text).expect("a file of the test");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("a file of one's own");
        path
    }

    fn run(&mut self, name: &str, command: &mut Command) {
        let daemon = Daemon::start(name, self.directory.path(), command);
        self.running.push(daemon);
    }

    /// An agent with a secret.
    fn agent(&mut self, name: &str, program: &Path, launcher_dir: &Path, secret: &str) {
        let [port] = ports::free();
        let text = format!(r#"{{"principal": "agent", "secret": "{secret}"}}"#);
        let credential = self.secret(name, &text);
        let mut agent = Command::new(program);
        agent
            .arg(format!("--master=127.0.0.1:{}", self.master_port))
            .arg(format!("--port={port}"))
            .arg(format!("--credential={}", credential.display()))
            .arg(format!("--launcher_dir={}", launcher_dir.display()))
            .arg(format!("--work_dir={}", self.path(name).display()))
            .arg(format!("--runtime_dir={}", self.path(&format!("{name}-runtime")).display()))
            .args(["--ip=127.0.0.1", "--hostname=127.0.0.1", "--no-systemd_enable_support"])
            .args(["--launcher=posix", "--isolation=posix/cpu,posix/mem", "--containerizers=mesos"])
            .arg("--resources=cpus:4;mem:2048;disk:4096;ports:[31000-32000]");
        self.run(name, &mut agent);
    }

    fn wait_for_agents(&self, count: usize) {
        let url = format!("http://127.0.0.1:{}/slaves", self.master_port);
        wait::until("registered agents", LIMIT, || {
            let slaves = http::get_json(&url)?;
            let registered = slaves["slaves"].as_array().map_or(0, Vec::len);
            if registered == count { Ok(()) } else { Err(slaves.to_string()) }
        });
    }

    /// Waits until the last daemon's output has a text.
    fn wait_for_output(&self, text: &str) {
        let daemon = self.running.last().expect("a daemon");
        wait::until(text, LIMIT, || {
            let output = daemon.output();
            if output.contains(text) { Ok(()) } else { Err(output) }
        });
    }

    fn wait_for_end(&mut self) {
        let mut daemon = self.running.pop().expect("a daemon");
        daemon.wait_for_end(LIMIT);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.running.clear();
        kill_all_under(self.directory.path());
    }
}

fn our_programs() -> PathBuf {
    binary("mesos-agent").parent().expect("a directory").to_owned()
}

#[test]
fn an_original_agent_and_driver_authenticate_with_our_master() {
    need!(original_mesos().is_some(), "{WHY}");
    let original = original_mesos().expect("checked").join("bin");
    let mut site = Site::start(&binary("mesos-master"));
    site.agent("wrong", &original.join("mesos-agent"), &original, "nothing");
    site.wait_for_end();
    site.agent("right", &original.join("mesos-agent"), &original, "agentpw");
    site.wait_for_agents(1);

    let driver = |site: &mut Site, name: &str, more: &[&str]| {
        let mut driver = Command::new(original.join("mesos-sched"));
        driver
            .env("LIBPROCESS_IP", "127.0.0.1")
            .arg(format!("127.0.0.1:{}", site.master_port))
            .args(["--tasks=1", "--command=true"])
            .args(more);
        site.run(name, &mut driver);
    };
    driver(&mut site, "anonymous", &[]);
    site.wait_for_output("is not authenticated");
    driver(&mut site, "liar", &["--principal=framework", "--secret=guess"]);
    site.wait_for_output("Master refused authentication");
    driver(&mut site, "known", &["--principal=framework", "--secret=frameworkpw"]);
    site.wait_for_output("TASK_FINISHED");
}

#[test]
fn our_agent_authenticates_with_an_original_master_and_with_ours() {
    need!(original_mesos().is_some(), "{WHY}");
    let original = original_mesos().expect("checked").join("bin");
    for master in [original.join("mesos-master"), binary("mesos-master")] {
        let mut site = Site::start(&master);
        site.agent("wrong", &binary("mesos-agent"), &our_programs(), "nothing");
        site.wait_for_output("refused authentication");
        site.wait_for_end();
        site.wait_for_agents(0);
        site.agent("right", &binary("mesos-agent"), &our_programs(), "agentpw");
        site.wait_for_agents(1);
    }
}

/// No original has it: it needs a build with OpenSSL.
#[test]
fn executors_show_the_token_that_the_agent_gave_them() {
    let mut cluster = Cluster::new();
    let key = cluster.directory().join("jwt.key");
    std::fs::write(&key, "a key of the test").expect("a file of the test");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("one's own");
    cluster.start_zookeeper();
    cluster.start_master();
    cluster.start_agent_with(&[
        "--containerizers=mesos",
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem",
        "--authenticate_http_executors",
        &format!("--jwt_secret_key={}", key.display()),
    ]);
    cluster.start_marathon();
    cluster.wait_for_marathon();
    cluster.run_app("/known", "env; echo all of it; exec sleep 3600", 1);

    // Without a token nobody is an executor, whatever it calls itself.
    let call = serde_json::json!({"type": "SUBSCRIBE", "subscribe": {},
        "framework_id": {"value": "f"}, "executor_id": {"value": "e"}});
    let refused = http::post(&cluster.agent_url("/api/v1/executor"), &call).expect("an answer");
    assert_eq!(refused.status, 401, "{}", refused.body);

    // The token is the executor's: its task does not see it, and nobody sees the key.
    let tasks = http::get_json(&cluster.master_url("/tasks")).expect("tasks");
    let id = tasks["tasks"][0]["id"].as_str().expect("a task").to_owned();
    let variables = wait::until("the task's output", LIMIT, || {
        let printed = Command::new(binary("mesos"))
            .env("MESOS_MASTER", format!("127.0.0.1:{}", cluster.master_port))
            .env("HOME", cluster.directory())
            .args(["logs", &id])
            .output()
            .expect("mesos starts");
        let text = String::from_utf8_lossy(&printed.stdout).into_owned();
        if text.contains("all of it") { Ok(text) } else { Err(format!("{printed:?}")) }
    });
    assert!(variables.contains("MESOS_EXECUTOR_ID"), "{variables}");
    assert!(!variables.contains("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"), "{variables}");
    let shown = http::get(&cluster.agent_url("/flags")).expect("flags").body;
    assert!(!shown.contains("a key of the test"));
}
