//! `meso up`: from nothing to a cluster with an app, and back to nothing; apps come back with the next run.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use end_to_end::cluster::wait_for_tasks;
use end_to_end::daemon::kill_all_under;
use end_to_end::programs::binary;
use end_to_end::{Daemon, http, ports, wait};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(90);

/// A `meso up` on ports and in a directory of its own. Whatever it leaves running ends with the test.
struct Up {
    directory: TempDir,
    ports: [u16; 4],
    task_ports: String,
}

/// A range of ports that no other test's tasks get: the sample app really listens.
fn task_ports() -> String {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let block = std::process::id() % 1000 * 20 + TAKEN.fetch_add(5, Ordering::Relaxed) % 20;
    format!("{}-{}", 10_000 + block, 10_000 + block + 4)
}

impl Up {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self { directory, ports: ports::free(), task_ports: task_ports() }
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self) -> Command {
        let [zookeeper, master, agent, marathon] = self.ports;
        let mut command = Command::new(binary("meso"));
        command
            .arg("up")
            .arg(format!("--dir={}", self.data().display()))
            .arg(format!("--zookeeper-port={zookeeper}"))
            .arg(format!("--master-port={master}"))
            .arg(format!("--agent-port={agent}"))
            .arg(format!("--marathon-port={marathon}"))
            .arg(format!("--task-ports={}", self.task_ports));
        command
    }

    /// Starts it and waits until it has said all that it has to say.
    fn start(&self) -> Daemon {
        let mut daemon = Daemon::start("up", self.directory.path(), &mut self.command());
        let before = daemon.output().matches("Ctrl-C").count();
        wait::until("meso up to be up", START, || {
            assert!(daemon.is_running(), "meso up ended: {}", daemon.output());
            let output = daemon.output();
            if output.matches("Ctrl-C").count() > before { Ok(()) } else { Err(output) }
        });
        daemon
    }

    fn master(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[1])
    }

    fn marathon(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[3])
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        kill_all_under(self.directory.path());
    }
}

/// Processes that work below a directory, or name it: what a cluster there must not leave behind.
fn left_under(directory: &Path) -> Vec<String> {
    let text = directory.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .flatten()
        .filter(|entry| {
            entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
        })
        .filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let cwd = std::fs::read_link(entry.path().join("cwd"));
            let is_below = cwd.is_ok_and(|path| path.starts_with(directory));
            (is_below || line.contains(&text)).then_some(line)
        })
        .collect()
}

/// The page that the app's only task serves.
fn page(up: &Up) -> Result<String, String> {
    let app = http::get_json(&up.marathon("/v2/apps/hello"))?;
    let task = &app["app"]["tasks"][0];
    let (host, port) = (task["host"].as_str(), task["ports"][0].as_u64());
    let (Some(host), Some(port)) = (host, port) else { return Err(app.to_string()) };
    let reply = http::get(&format!("http://{host}:{port}/"))?;
    if reply.status == 200 { Ok(reply.body) } else { Err(reply.body) }
}

#[test]
fn a_cluster_comes_up_scales_stops_without_a_trace_and_comes_back() {
    let up = Up::new();
    let daemon = up.start();
    let output = daemon.output();
    for url in [up.master(""), up.marathon("")] {
        assert!(output.contains(&url), "{url} in {output}");
        let reply = http::get(&format!("{url}/")).expect("a page");
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains("<!doctype html>"), "{}", reply.body);
    }
    // The curl that was printed works as soon as it is there.
    let reply = http::put(&up.marathon("/v2/apps/hello"), &json!({"instances": 2}));
    let reply = reply.expect("Marathon answers");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let both = wait_for_tasks(&up.marathon(""), "/hello", 2);
    let shown = wait::until("the sample's page", START, || page(&up));
    assert!(both.iter().any(|id| shown.contains(id)), "{both:?} in {shown}");

    let status = daemon.terminate();
    assert!(status.success(), "{status}");
    assert_eq!(left_under(up.directory.path()), Vec::<String>::new());

    let daemon = up.start();
    // Until the agent has told, Marathon takes the tasks of the run before for running.
    wait::until("new tasks in the place of the ended", START, || {
        let again = wait_for_tasks(&up.marathon(""), "/hello", 2);
        if again.iter().any(|id| both.contains(id)) { Err(format!("{again:?}")) } else { Ok(()) }
    });
    let _page = wait::until("the sample's page again", START, || page(&up));
    assert!(daemon.terminate().success());
    assert_eq!(left_under(up.directory.path()), Vec::<String>::new());
}

#[test]
fn what_a_killed_run_left_behind_does_not_outlive_the_next() {
    let up = Up::new();
    let daemon = up.start();
    let _ids = wait_for_tasks(&up.marathon(""), "/hello", 1);
    daemon.kill();
    assert_ne!(
        left_under(up.directory.path()),
        Vec::<String>::new(),
        "tasks outlive a killed agent"
    );

    let daemon = up.start();
    let _ids = wait_for_tasks(&up.marathon(""), "/hello", 1);
    daemon.signal(Signal::SIGINT);
    let mut daemon = daemon;
    assert!(daemon.wait_for_end(Duration::from_secs(30)).success());
    assert_eq!(left_under(up.directory.path()), Vec::<String>::new());
}

#[test]
fn a_directory_is_for_one_cluster() {
    let up = Up::new();
    let _daemon = up.start();
    let ids = wait_for_tasks(&up.marathon(""), "/hello", 1);
    let output = up.command().output().expect("meso runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("a cluster runs in this directory already"), "{errors}");
    assert_eq!(wait_for_tasks(&up.marathon(""), "/hello", 1), ids, "the first goes on");
}

#[test]
fn a_taken_port_is_named_before_anything_starts() {
    let up = Up::new();
    let held = std::net::TcpListener::bind(("127.0.0.1", up.ports[3])).expect("a free port");
    let output = up.command().output().expect("meso runs");
    drop(held);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for word in [up.ports[3].to_string().as_str(), "Marathon", "--marathon-port"] {
        assert!(errors.contains(word), "{word} in {errors}");
    }
    assert!(!up.data().join("zookeeper").exists(), "nothing started");
}
