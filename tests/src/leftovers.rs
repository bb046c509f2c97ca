//! What tests that were killed leave behind, and how the next ones remove it: directories named by their test's process,
//! what runs and is mounted in them, and empty cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use crate::daemon::kill_all_under;

/// Short, for sockets have to be found below.
const PREFIX: &str = ".m";
/// How long what runs may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// A temporary directory that is known to be left behind once this process is gone. What others left is removed.
///
/// # Panics
/// When there can be none.
#[must_use]
pub fn directory() -> TempDir {
    for path in left_behind(&std::env::temp_dir()) {
        remove(&path);
    }
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(4).tempdir().expect("a temporary directory")
}

/// The process that a directory is named by.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

fn left_behind(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_left = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let owner = name.and_then(|name| owner(&name));
        owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    entries.map(|entry| entry.path()).filter(is_left).collect()
}

fn remove(path: &Path) {
    let deadline = Instant::now() + ENDING;
    // What forks faster than it is killed has until then.
    while kill_all_under(path) && Instant::now() < deadline {}
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    for point in points.filter(|point| point.starts_with(path)) {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(path);
}

/// Removes the cgroups below one that have no processes.
pub fn remove_groups(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_test_left_is_removed_and_nothing_else() {
        let mut gone = std::process::Command::new("true").spawn().expect("a process");
        let dead = gone.id();
        gone.wait().expect("its end");
        let all = TempDir::new().expect("a directory");
        let left = all.path().join(format!("{PREFIX}{dead}-abcd"));
        let own = all.path().join(format!("{PREFIX}{}-abcd", std::process::id()));
        for path in [&left, &own, &all.path().join("other")] {
            fs::create_dir(path).expect("a directory");
        }
        assert_eq!(left_behind(all.path()), std::slice::from_ref(&left));
        let mut sleeper = std::process::Command::new("sleep");
        let mut sleeper = sleeper.arg("600").current_dir(&left).spawn().expect("a process");
        let waits = std::thread::spawn(move || sleeper.wait());
        remove(&left);
        assert!(!waits.join().expect("a thread").expect("its end").success());
        assert!(left_behind(all.path()).is_empty() && own.is_dir());
        assert!(directory().path().is_dir());
    }
}
