//! Ending what is left of the directory's tasks: the agent's own end reaches its containers' process trees, but not a
//! process that moved to a session of its own and lost its parents.
//!
//! Tasks and their executors are told by what the agent put into their environment, wherever they work now; a person's
//! shell that happens to be in the directory is none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(3);
/// How long the kernel may take to end them.
const KILL_MAX: Duration = Duration::from_secs(5);

/// Variables that name a task's sandbox.
const SANDBOX: [&[u8]; 2] = [b"MESOS_SANDBOX=", b"MESOS_DIRECTORY="];

/// Ends every process whose sandbox lies below `directory`; at once, or after a request and a while.
pub(super) async fn end(directory: &Path, at_once: bool) {
    if !at_once {
        gone(directory, Signal::SIGTERM, GRACE).await;
    }
    if !gone(directory, Signal::SIGKILL, KILL_MAX).await {
        tracing::warn!(directory = %directory.display(), "processes below the directory don't end");
    }
}

/// Signals until nothing is there any more; false if it still is after `limit`.
async fn gone(directory: &Path, signal: Signal, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut told = Vec::new();
    loop {
        let left = processes(directory);
        if left.is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        for pid in left {
            if !told.contains(&pid) {
                // An error means that it has ended already.
                let _ = kill(pid, signal);
                told.push(pid);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Processes whose sandbox lies below `directory`, as far as this user may look at them.
fn processes(directory: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = Pid::this();
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let is_task = environment.split(|byte| *byte == 0).any(|variable| {
                let sandbox = SANDBOX.iter().find_map(|name| variable.strip_prefix(*name));
                sandbox
                    .is_some_and(|path| Path::new(OsStr::from_bytes(path)).starts_with(directory))
            });
            (is_task && pid != own).then_some(pid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn tasks_of_the_directory_are_ended_and_nothing_else() {
        let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let start = |script: &str, sandbox: Option<&Path>, place: &Path| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(place);
            command.envs(sandbox.map(|sandbox| ("MESOS_SANDBOX", sandbox.join("s"))));
            command.spawn().unwrap()
        };
        let deaf = "trap '' TERM; while :; do sleep 60; done";
        let mut task = start(deaf, Some(ours.path()), Path::new("/"));
        let mut shell = start("exec sleep 60", None, ours.path());
        let mut other = start("exec sleep 60", Some(others.path()), Path::new("/"));
        let reaped = std::thread::spawn(move || task.wait().unwrap());
        end(ours.path(), true).await;
        assert!(processes(ours.path()).is_empty());
        assert!(!reaped.join().unwrap().success());
        for kept in [&mut shell, &mut other] {
            assert!(kept.try_wait().unwrap().is_none());
            kept.kill().unwrap();
            kept.wait().unwrap();
        }
    }
}
