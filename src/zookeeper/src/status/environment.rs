//! What the process runs in (`Environment`). Java's own entries have no counterpart and are left out.

use std::path::Path;

use super::VERSION;

/// Names and values, in the original's order.
pub fn environment() -> Vec<(&'static str, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let (name, home) = user.map_or_else(
        || (nix::unistd::getuid().to_string(), String::new()),
        |user| (user.name, user.dir.display().to_string()),
    );
    let directory = std::env::current_dir().unwrap_or_default();
    vec![
        ("zookeeper.version", VERSION.to_owned()),
        ("host.name", read("/proc/sys/kernel/hostname")),
        ("os.name", "Linux".to_owned()),
        ("os.arch", architecture().to_owned()),
        ("os.version", read("/proc/sys/kernel/osrelease")),
        ("user.name", name),
        ("user.home", home),
        ("user.dir", directory.display().to_string()),
        ("os.memory.free", megabytes("MemAvailable:")),
        ("os.memory.max", megabytes("MemTotal:")),
        ("os.memory.total", megabytes("MemTotal:")),
    ]
}

/// The processor as Java calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

/// A line of `/proc/meminfo`.
fn megabytes(name: &str) -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    format!("{}MB", kib / 1024)
}

/// Files that the process has open; −1 where the system doesn't tell.
pub(super) fn open_files() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(-1, |entries| entries.count() as i64)
}

/// How many it may have open; −1 where the system doesn't tell.
pub(super) fn open_files_max() -> i64 {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(-1, |(soft, _)| i64::try_from(soft).unwrap_or(i64::MAX))
}

/// What Prometheus's library tells of a process, by name.
pub fn process() -> Vec<(&'static str, f64)> {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold blanks.
    let fields: Vec<f64> = text
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(|field| field.trim().parse().unwrap_or(0.0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .map_or(100.0, |ticks| ticks as f64);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4096.0, |page| page as f64);
    vec![
        ("process_cpu_seconds_total", (field(14) + field(15)) / ticks),
        ("process_start_time_seconds", booted() + field(22) / ticks),
        ("process_open_fds", open_files() as f64),
        ("process_max_fds", open_files_max() as f64),
        ("process_virtual_memory_bytes", field(23)),
        ("process_resident_memory_bytes", field(24) * page),
    ]
}

/// When the system started, in s since 1970.
fn booted() -> f64 {
    let text = std::fs::read_to_string(Path::new("/proc/stat")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_process_is_this_one() {
        let process = super::process();
        let of = |name: &str| process.iter().find(|(known, _)| *known == name).unwrap().1;
        assert!(of("process_resident_memory_bytes") > 1e6 && of("process_open_fds") > 2.0);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!((now - of("process_start_time_seconds")).abs() < 600.0);
    }

    #[test]
    fn the_environment_has_the_originals_names() {
        let environment = super::environment();
        assert!(environment.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
        assert!(
            environment
                .iter()
                .any(|(name, value)| *name == "os.memory.max" && value.ends_with("MB"))
        );
    }
}
