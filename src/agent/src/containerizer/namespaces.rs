//! Joining another process's namespaces, as far as they are not this process's own.

use std::fs::{self, File};
use std::io;

use nix::sched::{CloneFlags, setns};

fn differs(pid: i32, name: &str) -> bool {
    let link = |of: &str| fs::read_link(format!("/proc/{of}/ns/{name}")).ok();
    // Where the kernel has no such namespaces both are missing.
    link(&pid.to_string()) != link("self")
}

fn join(pid: i32, name: &str, kind: CloneFlags) -> io::Result<()> {
    if !differs(pid, name) {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/{name}");
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    let file = File::open(&path).map_err(named)?;
    setns(&file, kind).map_err(|error| named(error.into()))
}

/// The process to look into where a container is looked into: an executor of ours stays with the host's files when its
/// task has others, and what stands in for a program stays with the host's processes.
pub(super) fn of_task(first: i32) -> i32 {
    const OURS: &[&str] = &["mesos-executor", "mesos-containerizer"];
    let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let is_ours = |pid: i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let name = command.split(|byte| *byte == 0).next().unwrap_or_default();
        OURS.iter().any(|own| own.as_bytes() == name)
    };
    let mut found = first;
    while is_ours(found) {
        let own = of(found);
        let mut below = super::processes::descendants(found).into_iter();
        match below.find(|pid| of(*pid) != own) {
            Some(next) => found = next,
            None => break,
        }
    }
    found
}

/// What this process starts from then on sees the processes that `pid` sees.
///
/// # Errors
/// What the system says, with the namespace.
pub(super) fn share_processes(pid: i32) -> io::Result<()> {
    // A container's own processes may be in a namespace that its first process is not in.
    join(pid, "pid", CloneFlags::CLONE_NEWPID)
}

/// Joins all other namespaces of `pid`; its files last, since the rest is found by them.
///
/// # Errors
/// What the system says, with the namespace.
pub(super) fn share_the_rest(pid: i32) -> io::Result<()> {
    let names = [
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    // Opened before the first is joined: afterwards /proc may be another.
    let wanted: Vec<_> = names.into_iter().filter(|(name, _)| differs(pid, name)).collect();
    let mut files = Vec::new();
    for (name, kind) in wanted {
        let path = format!("/proc/{pid}/ns/{name}");
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        files.push((File::open(&path).map_err(named)?, kind, path));
    }
    for (file, kind, path) in files {
        setns(&file, kind).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
    }
    Ok(())
}
