//! Processes that are no children of ours: whether one is who it was, and ending one with all that it started.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use nix::sys::signal::{Signal, kill};
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

/// Whether a process belongs to a container: an executor, or what stays beside a container without one.
pub fn is_of(pid: i32, container: &str) -> bool {
    let supervisor = format!("--container={container}");
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // What the original's agent left beside a nested one knows it by its sandbox.
    let sandbox = container.replace('.', "/containers/");
    environment_has(pid, container)
        || environment_has(pid, &sandbox)
        || command.split(|byte| *byte == 0).any(|word| word == supervisor.as_bytes())
}

/// What a process found in its environment when it began; nothing when it is gone.
pub fn environment(pid: i32) -> Vec<(OsString, OsString)> {
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variable = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (line[..at].to_vec(), line[at + 1..].to_vec());
        Some((OsString::from_vec(name), OsString::from_vec(value)))
    };
    text.split(|byte| *byte == 0).filter_map(variable).collect()
}

/// Kills all that this process has started, and what fell to it when others ended.
pub fn kill_children() {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    // What a killed one left behind becomes a child in turn.
    loop {
        let children: Vec<i32> = descendants(own).into_iter().filter(|pid| *pid != own).collect();
        let living = children.iter().filter(|pid| start_time(**pid).is_some());
        let living: Vec<i32> = living.copied().collect();
        if living.is_empty() {
            return;
        }
        for pid in living {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Kills what a container left behind that is no descendant of its first process any more: all that found the
/// container's sandbox in their environment. It is for where there are no cgroups, which find every process.
pub fn kill_stray(container: &str) {
    const ROUNDS: usize = 100;
    for _ in 0..ROUNDS {
        let strays: Vec<Pid> =
            all().filter(|pid| is_in_sandbox(*pid, container)).map(Pid::from_raw).collect();
        if strays.is_empty() {
            return;
        }
        // Stopped first, they can't outrun the kill.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in &strays {
                let _ = kill(*pid, signal);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn is_in_sandbox(pid: i32, container: &str) -> bool {
    let variables = environment(pid);
    // Who has a root of its own knows only from the second where the sandbox is on the host.
    let mut sandboxes =
        variables.iter().filter(|(name, _)| name == "MESOS_SANDBOX" || name == "MESOS_DIRECTORY");
    sandboxes.any(|(_, path)| {
        std::path::Path::new(path).components().any(|part| part.as_os_str() == container)
    }) && start_time(pid).is_some()
}

/// The numbers of all processes.
fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
}

/// Sends a signal, whatever its number: those of the real-time kind have no name that libraries know, and some programs
/// end by one. 0 only asks.
///
/// # Errors
/// What the kernel says.
#[expect(unsafe_code, reason = "only named signals have a safe form")]
pub fn send(pid: i32, signal: i32) -> std::io::Result<()> {
    // SAFETY: numbers only: no memory is passed.
    let result = unsafe { nix::libc::kill(pid, signal) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Kills a process, its group, and all descendants, also those that left the group.
pub fn kill_tree(root: i32) {
    signal_tree(root, Signal::SIGKILL);
}

/// Sends a signal to a process, all descendants, and to the groups and sessions that one of them leads (`os::killtree`).
/// Those that one only is in are left alone: the agent's own session is that of containers, too.
pub fn signal_tree(root: i32, signal: Signal) {
    let mut tree: Vec<i32> = Vec::new();
    let mut found = vec![root];
    while let Some(pid) = found.pop() {
        // Stopped, it starts no further ones while we look.
        let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
        tree.push(pid);
        let belongs = |pid: &i32| {
            let Some(Kin { parent, group, session }) = kin(*pid) else { return false };
            [parent, group, session].iter().any(|own| tree.contains(own))
        };
        let more = all().filter(|pid| !tree.contains(pid) && !found.contains(pid));
        found = found.iter().copied().chain(more.filter(belongs)).collect();
    }
    for signal in [signal, Signal::SIGCONT] {
        for pid in &tree {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }
}

/// To whom a process belongs.
#[derive(Debug, Clone, Copy)]
struct Kin {
    parent: i32,
    group: i32,
    session: i32,
}

fn kin(pid: i32) -> Option<Kin> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    let mut next = || fields.next()?.parse().ok();
    Some(Kin { parent: next()?, group: next()?, session: next()? })
}

fn parent(pid: i32) -> Option<i32> {
    kin(pid).map(|kin| kin.parent)
}

/// What a process and all its descendants use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time in user mode.
    pub user_seconds: f64,
    /// CPU time in the kernel.
    pub system_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// What a process and all its descendants use; `None` when it is gone.
pub fn usage(root: i32) -> Option<Usage> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??.max(1) as f64;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??.max(1) as u64;
    start_time(root)?;
    let mut all = Usage::default();
    for pid in descendants(root) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<u64> = rest
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        // Fields 14, 15 and 24 of proc(5); the parent, field 4, is the first here.
        all.user_seconds += field(10) as f64 / ticks;
        all.system_seconds += field(11) as f64 / ticks;
        all.resident_bytes += field(20) * page;
    }
    Some(all)
}

/// A process and all that descend from it.
pub(super) fn descendants(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut tree = vec![root];
    let mut index = 0;
    while index < tree.len() {
        let of = tree[index];
        let children = parents.iter().filter(|(pid, parent)| *parent == of && !tree.contains(pid));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        tree.extend(children);
        index += 1;
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_uses_nothing_and_this_one_uses_memory() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(usage(own).unwrap().resident_bytes > 0);
        assert_eq!(usage(i32::MAX), None);
        assert!(start_time(own).is_some());
    }

    #[test]
    fn the_environment_of_a_process_is_what_it_began_with() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .env_clear()
            .envs([("A", "1=2"), ("B", "")])
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let expected = [("A", "1=2"), ("B", "")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(environment(pid), expected);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(environment(i32::MAX).is_empty());
    }

    #[test]
    fn a_killed_tree_takes_nobody_along_who_shares_its_group_or_session() {
        let mut shell = std::process::Command::new("setsid")
            .args(["/bin/sh", "-c", "sleep 1001 & sleep 1002 & wait"])
            .spawn()
            .unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        while descendants(root).len() < 3 {
            std::thread::yield_now();
        }
        let tree = descendants(root);
        let [_, first, second] = tree[..] else { panic!("{tree:?}") };
        kill_tree(first);
        while start_time(first).is_some() {
            std::thread::yield_now();
        }
        assert!(start_time(second).is_some() && start_time(root).is_some());
        kill_tree(root);
        shell.wait().unwrap();
    }

    #[test]
    fn a_killed_tree_has_no_survivors() {
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "setsid sleep 1000 & sleep 1000"])
            .spawn()
            .unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        while descendants(root).len() < 3 {
            std::thread::yield_now();
        }
        let tree = descendants(root);
        kill_tree(root);
        shell.wait().unwrap();
        for pid in tree {
            while start_time(pid).is_some() {
                std::thread::yield_now();
            }
        }
    }
}
