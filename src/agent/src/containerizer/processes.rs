//! Processes that are no children of ours: whether one is who it was, and ending one with all that it started.

use std::fs;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// When a process began, in the kernel's ticks: with it a number names one process only. `None` when it is gone.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether a process is the executor of a container: a number from before a reboot may be anybody's.
pub fn environment_has(pid: i32, container: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(container))
}

/// Kills a process, its group, and all descendants, also those that left the group.
pub fn kill_tree(root: i32) {
    let mut tree = vec![root];
    let mut index = 0;
    while index < tree.len() {
        let children: Vec<i32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
            .filter(|pid| parent(*pid) == Some(tree[index]))
            .collect();
        // Stopped, it starts no further ones while we look.
        let _ = kill(Pid::from_raw(tree[index]), Signal::SIGSTOP);
        tree.extend(children.into_iter().filter(|pid| !tree.contains(pid)).collect::<Vec<_>>());
        index += 1;
    }
    let _ = killpg(Pid::from_raw(root), Signal::SIGKILL);
    for pid in tree {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
