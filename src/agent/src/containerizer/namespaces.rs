//! Joining another process's namespaces, as far as they are not this process's own.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::cni::Network;

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

/// Makes a network namespace that stays, with its loopback up, and names it by a file.
///
/// # Errors
/// What the system says.
pub(super) fn make_network(path: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()?;
    File::create(path)?;
    let none = None::<&str>;
    Ok(mount(Some("/proc/self/ns/net"), path, none, MsFlags::MS_BIND, none)?)
}

#[expect(unsafe_code, reason = "flags of interfaces have no safe form in the libraries at hand")]
fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zero is a request with an empty name, and a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call, and is what this call reads.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Joins a network, under a host's name of its own.
///
/// # Errors
/// What the system says.
pub(super) fn join_network(network: &Network) -> io::Result<()> {
    setns(File::open(&network.namespace)?, CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWUTS)?;
    Ok(nix::unistd::sethostname(&network.hostname)?)
}

/// What this process starts from then on sees the processes that `pid` sees.
///
/// # Errors
/// What the system says, with the namespace.
pub(super) fn share_processes(pid: i32) -> io::Result<()> {
    // A container's own processes may be in a namespace that its first process is not in.
    join(pid, "pid", CloneFlags::CLONE_NEWPID)
}

/// This process, and what it starts, has the IPC objects of `pid`.
///
/// # Errors
/// What the system says, with the namespace.
pub(super) fn share_ipc(pid: i32) -> io::Result<()> {
    join(pid, "ipc", CloneFlags::CLONE_NEWIPC)
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
