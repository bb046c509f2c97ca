//! What the benchmarks share: what the kernel knows of a process, and limits.

use std::net::TcpListener;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// User and system CPU time of processes, in seconds.
///
/// # Errors
/// When one of them is gone.
pub fn cpu_seconds(pids: &[u32]) -> anyhow::Result<f64> {
    let mut ticks = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name, in parentheses, may have spaces.
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        for field in [11, 12] {
            ticks += fields.get(field).context("/proc/PID/stat is short")?.parse::<f64>()?;
        }
    }
    // USER_HZ is 100 on every Linux that we run on.
    Ok(ticks / 100.0)
}

/// Memory of a process that is in RAM, in bytes.
///
/// # Errors
/// When it is gone.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Allows as many open files as the hard limit does; what is started later has them too.
pub fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // A lower limit shows in the run with many connections.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The most memory of a process that was in RAM at once, in bytes.
///
/// # Errors
/// When it is gone.
pub fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, field: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// How many files this process, and what it starts, may have open.
pub fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Ports that nobody else has now.
///
/// # Errors
/// When there are none.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(held.iter().filter_map(|one| one.local_addr().ok()).map(|one| one.port()).collect())
}
