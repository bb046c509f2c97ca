//! Cgroups of containers: CPU shares, a memory limit, and ending every process of one.
//!
//! Version 1 keeps a hierarchy a controller (`<hierarchy>/<controller>/mesos/<container>`), version 2 one for all.
//! Paths are looked for where they are mounted; nothing here is needed for the posix launcher.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesos::resources::Resources;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What is limited (`--isolation`); all processes of a container are found by its cgroup in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// CPU shares.
    pub cpu: bool,
    /// Memory.
    pub memory: bool,
}

/// Where containers' cgroups are made.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mounted: Mounted,
    limits: Limits,
}

/// The cgroup file systems that containers may use.
#[derive(Debug, Clone)]
enum Mounted {
    /// One hierarchy a controller: the directories of `mesos` in each.
    V1 {
        /// Of `cpu`.
        cpu: PathBuf,
        /// Of `memory`.
        memory: PathBuf,
        /// Of `freezer`.
        freezer: PathBuf,
    },
    /// The unified hierarchy: the directory of `mesos` in it.
    V2(PathBuf),
}

impl Mounted {
    fn prepare(hierarchy: &Path, root: &str) -> io::Result<Self> {
        if hierarchy.join("cgroup.controllers").exists() {
            let directory = hierarchy.join(root);
            fs::create_dir_all(&directory)?;
            for path in [hierarchy, &directory] {
                fs::write(path.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
            }
            return Ok(Self::V2(directory));
        }
        let make = |controller: &str| -> io::Result<PathBuf> {
            let directory = hierarchy.join(controller).join(root);
            fs::create_dir_all(&directory)?;
            // Writable in earnest: a read-only mount lets directories that exist pass.
            let probe = directory.join("probe");
            fs::create_dir_all(&probe).and_then(|()| fs::remove_dir(&probe))?;
            Ok(directory)
        };
        Ok(Self::V1 { cpu: make("cpu")?, memory: make("memory")?, freezer: make("freezer")? })
    }
}

/// The smallest memory limit, as the original's.
const MEMORY_MIN: u64 = 32 << 20;

impl Cgroups {
    /// Finds out what is mounted below `hierarchy` and makes `root` in it.
    ///
    /// # Errors
    /// When it may not be written to.
    pub fn prepare(hierarchy: &Path, root: &str, limits: Limits) -> io::Result<Self> {
        Ok(Self { mounted: Mounted::prepare(hierarchy, root)?, limits })
    }

    fn directories(&self, container: &str) -> Vec<PathBuf> {
        match &self.mounted {
            Mounted::V1 { cpu, memory, freezer } => {
                [cpu, memory, freezer].map(|directory| directory.join(container)).to_vec()
            }
            Mounted::V2(directory) => vec![directory.join(container)],
        }
    }

    /// Makes a container's cgroups with its limits.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn create(&self, container: &str, resources: &Resources) -> io::Result<()> {
        for directory in self.directories(container) {
            fs::create_dir_all(&directory)?;
        }
        self.write_limits(container, resources, false)
    }

    /// Changes a container's limits.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn limit(&self, container: &str, resources: &Resources) -> io::Result<()> {
        self.write_limits(container, resources, true)
    }

    fn write_limits(&self, container: &str, resources: &Resources, is_set: bool) -> io::Result<()> {
        let shares = ((resources.cpus() * 1024.0) as u64).max(2);
        let memory = ((resources.mem() * 1_048_576.0) as u64).max(MEMORY_MIN);
        let write = |path: PathBuf, value: String| {
            fs::write(&path, value).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        if self.limits.cpu {
            match &self.mounted {
                Mounted::V1 { cpu, .. } => {
                    write(cpu.join(container).join("cpu.shares"), shares.to_string())?;
                }
                Mounted::V2(root) => {
                    let weight = (1 + (shares - 2) * 9999 / 262_142).min(10_000);
                    write(root.join(container).join("cpu.weight"), weight.to_string())?;
                }
            }
        }
        let Some((_, limit)) = self.memory_files(container) else { return Ok(()) };
        if let Mounted::V1 { memory: root, .. } = &self.mounted {
            let soft = root.join(container).join("memory.soft_limit_in_bytes");
            write(soft, memory.to_string())?;
        }
        // It is only raised: a lower one could kill what runs.
        let is_lower = is_set && number(&limit).is_some_and(|own| own >= memory);
        if is_lower { Ok(()) } else { write(limit, memory.to_string()) }
    }

    /// Puts a process, and what it starts from then on, into a container's cgroups.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(&self, container: &str, pid: i32) -> io::Result<()> {
        self.directories(container)
            .iter()
            .try_for_each(|directory| fs::write(directory.join("cgroup.procs"), pid.to_string()))
    }

    /// The processes of a container.
    pub fn processes(&self, container: &str) -> Vec<i32> {
        let directory = match &self.mounted {
            Mounted::V1 { freezer, .. } => freezer.join(container),
            Mounted::V2(root) => root.join(container),
        };
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The files that tell of a container's kills for memory and of its limit, if memory is limited.
    pub fn memory_files(&self, container: &str) -> Option<(PathBuf, PathBuf)> {
        if !self.limits.memory {
            return None;
        }
        let (directory, events, limit) = match &self.mounted {
            Mounted::V1 { memory, .. } => (memory, "memory.oom_control", "memory.limit_in_bytes"),
            Mounted::V2(root) => (root, "memory.events", "memory.max"),
        };
        let directory = directory.join(container);
        Some((directory.join(events), directory.join(limit)))
    }

    /// What is to be said when a process of a container was killed for memory.
    pub fn out_of_memory(&self, container: &str) -> Option<String> {
        let (events, limit) = self.memory_files(container)?;
        out_of_memory(&events, &limit)
    }

    /// The containers that have cgroups.
    pub fn containers(&self) -> Vec<String> {
        let directory = match &self.mounted {
            Mounted::V1 { freezer, .. } => freezer,
            Mounted::V2(root) => root,
        };
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Kills every process of a container and removes its cgroups. Blocks until they are gone, a minute at most.
    pub fn destroy(&self, container: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        if let Mounted::V1 { freezer, .. } = &self.mounted {
            // Frozen, a fork bomb can't outrun the kill.
            let _ = fs::write(freezer.join(container).join("freezer.state"), "FROZEN");
        }
        while Instant::now() < deadline {
            let processes = self.processes(container);
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                // Gone already is as good.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            match &self.mounted {
                Mounted::V1 { freezer, .. } => {
                    let _ = fs::write(freezer.join(container).join("freezer.state"), "THAWED");
                }
                Mounted::V2(root) => {
                    let _ = fs::write(root.join(container).join("cgroup.kill"), "1");
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for directory in self.directories(container) {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// A number in a file; `max` counts as the largest.
fn number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// What is to be said when a process was killed for memory, from the files of [`Cgroups::memory_files`].
pub fn out_of_memory(events: &Path, limit: &Path) -> Option<String> {
    let text = fs::read_to_string(events).ok()?;
    let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    if kills.trim() == "0" {
        return None;
    }
    let megabytes = |bytes: u64| format!("{}MB", bytes >> 20);
    let limit_bytes = number(limit).unwrap_or_default();
    let most = ["memory.max_usage_in_bytes", "memory.peak"];
    let used = most.iter().find_map(|name| number(&events.with_file_name(name)));
    let statistics = fs::read_to_string(events.with_file_name("memory.stat")).unwrap_or_default();
    Some(format!(
        "Memory limit exceeded: Requested: {} Maximum Used: {}\n\nMEMORY STATISTICS: \n{statistics}",
        megabytes(limit_bytes),
        megabytes(used.unwrap_or(limit_bytes))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_1(limits: Limits) -> (tempfile::TempDir, Cgroups) {
        let hierarchy = tempfile::TempDir::new().unwrap();
        let cgroups = Cgroups::prepare(hierarchy.path(), "mesos", limits).unwrap();
        (hierarchy, cgroups)
    }

    fn resources(text: &str) -> Resources {
        Resources::parse(text, "*").unwrap()
    }

    #[test]
    fn limits_are_written_as_the_original_does_and_memory_is_only_raised() {
        let (hierarchy, cgroups) = version_1(Limits { cpu: true, memory: true });
        let read = |file: &str| fs::read_to_string(hierarchy.path().join(file)).unwrap();
        cgroups.create("c", &resources("cpus:0.5;mem:64")).unwrap();
        assert_eq!(read("cpu/mesos/c/cpu.shares"), "512");
        assert_eq!(read("memory/mesos/c/memory.limit_in_bytes"), (64u64 << 20).to_string());
        cgroups.limit("c", &resources("cpus:1;mem:48")).unwrap();
        assert_eq!(read("cpu/mesos/c/cpu.shares"), "1024");
        assert_eq!(read("memory/mesos/c/memory.limit_in_bytes"), (64u64 << 20).to_string());
        assert_eq!(read("memory/mesos/c/memory.soft_limit_in_bytes"), (48u64 << 20).to_string());
        cgroups.limit("c", &resources("cpus:1;mem:128")).unwrap();
        assert_eq!(read("memory/mesos/c/memory.limit_in_bytes"), (128u64 << 20).to_string());
        cgroups.create("small", &resources("cpus:0.001;mem:1")).unwrap();
        assert_eq!(read("cpu/mesos/small/cpu.shares"), "2");
        assert_eq!(read("memory/mesos/small/memory.limit_in_bytes"), (32u64 << 20).to_string());
    }

    #[test]
    fn posix_isolation_limits_nothing() {
        let (hierarchy, cgroups) = version_1(Limits { cpu: false, memory: false });
        cgroups.create("c", &resources("cpus:0.5;mem:64")).unwrap();
        assert!(!hierarchy.path().join("cpu/mesos/c/cpu.shares").exists());
        assert!(!hierarchy.path().join("memory/mesos/c/memory.limit_in_bytes").exists());
        assert_eq!(cgroups.containers(), ["c"]);
        assert!(cgroups.memory_files("c").is_none());
    }

    #[test]
    fn kills_for_memory_are_told_with_their_numbers() {
        let directory = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let (events, limit) = (
            directory.path().join("memory.oom_control"),
            directory.path().join("memory.limit_in_bytes"),
        );
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        write("memory.limit_in_bytes", "67108864\n");
        write("memory.stat", "cache 0\n");
        assert_eq!(out_of_memory(&events, &limit), None);
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        let expected = "Memory limit exceeded: Requested: 64MB Maximum Used: 64MB\n\nMEMORY STATISTICS: \ncache 0\n";
        assert_eq!(out_of_memory(&events, &limit).as_deref(), Some(expected));
    }
}
