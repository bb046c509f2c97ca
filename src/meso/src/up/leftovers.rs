//! Ending what still runs below the directory: the agent's own end reaches its containers' process trees, but not a
//! task that moved to a session of its own and lost its parents.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(3);
/// How long the kernel may take to end them.
const KILL_MAX: Duration = Duration::from_secs(5);

/// Ends every process of this user that works below `directory`; at once, or after a request and a while.
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

/// Processes of this user whose working directory lies below `directory`, ours excepted.
fn processes(directory: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = Pid::this();
    let user = Uid::effective();
    entries
        .flatten()
        .filter_map(|entry| {
            use std::os::unix::fs::MetadataExt as _;
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
            let works_below = std::fs::read_link(entry.path().join("cwd"))
                .is_ok_and(|path| path.starts_with(directory));
            let is_ours =
                user.is_root() || entry.metadata().is_ok_and(|of| of.uid() == user.as_raw());
            (works_below && is_ours && pid != own).then_some(pid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn what_works_below_is_ended_and_nothing_else() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let start = |script: &str, place: &Path| {
            Command::new("sh").args(["-c", script]).current_dir(place).spawn().unwrap()
        };
        let mut deaf = start("trap '' TERM; while :; do sleep 60; done", inside.path());
        let mut other = start("exec sleep 60", outside.path());
        let directory = inside.path().canonicalize().unwrap();
        let reaped = std::thread::spawn(move || deaf.wait().unwrap());
        end(&directory, true).await;
        assert!(processes(&directory).is_empty());
        assert!(!reaped.join().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
