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

/// The cgroup file systems that containers may use.
#[derive(Debug, Clone)]
pub enum Cgroups {
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

/// The smallest memory limit, as the original's.
const MEMORY_MIN: u64 = 32 << 20;

impl Cgroups {
    /// Finds out what is mounted below `hierarchy` and makes `root` in it.
    ///
    /// # Errors
    /// When it may not be written to.
    pub fn prepare(hierarchy: &Path, root: &str) -> io::Result<Self> {
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

    fn directories(&self, container: &str) -> Vec<PathBuf> {
        match self {
            Self::V1 { cpu, memory, freezer } => {
                [cpu, memory, freezer].map(|directory| directory.join(container)).to_vec()
            }
            Self::V2(directory) => vec![directory.join(container)],
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
        self.limit(container, resources)
    }

    /// Sets a container's limits.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn limit(&self, container: &str, resources: &Resources) -> io::Result<()> {
        let shares = ((resources.cpus() * 1024.0) as u64).max(2);
        let memory = ((resources.mem() * 1_048_576.0) as u64).max(MEMORY_MIN);
        let write = |path: PathBuf, value: String| {
            fs::write(&path, value).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        match self {
            Self::V1 { cpu, memory: memory_root, .. } => {
                write(cpu.join(container).join("cpu.shares"), shares.to_string())?;
                let directory = memory_root.join(container);
                write(directory.join("memory.limit_in_bytes"), memory.to_string())?;
                write(directory.join("memory.soft_limit_in_bytes"), memory.to_string())
            }
            Self::V2(root) => {
                let directory = root.join(container);
                write(
                    directory.join("cpu.weight"),
                    (1 + (shares - 2) * 9999 / 262_142).min(10_000).to_string(),
                )?;
                write(directory.join("memory.max"), memory.to_string())
            }
        }
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

    fn processes(&self, container: &str) -> Vec<i32> {
        let directory = match self {
            Self::V1 { freezer, .. } => freezer.join(container),
            Self::V2(root) => root.join(container),
        };
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Whether a container was killed for its memory, and its limit in bytes.
    pub fn out_of_memory(&self, container: &str) -> Option<u64> {
        let (events, limit) = match self {
            Self::V1 { memory, .. } => (
                memory.join(container).join("memory.oom_control"),
                memory.join(container).join("memory.limit_in_bytes"),
            ),
            Self::V2(root) => (
                root.join(container).join("memory.events"),
                root.join(container).join("memory.max"),
            ),
        };
        let text = fs::read_to_string(events).ok()?;
        let kills: u64 =
            text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()?;
        (kills > 0).then(|| {
            fs::read_to_string(limit)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or_default()
        })
    }

    /// Kills every process of a container and removes its cgroups. Blocks until they are gone, a minute at most.
    pub fn destroy(&self, container: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        if let Self::V1 { freezer, .. } = self {
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
            match self {
                Self::V1 { freezer, .. } => {
                    let _ = fs::write(freezer.join(container).join("freezer.state"), "THAWED");
                }
                Self::V2(root) => {
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
