//! Cgroups of containers: CPU shares and quota, limits of memory and of processes, and ending every process of one.
//!
//! Version 1 keeps a hierarchy a controller (`<hierarchy>/<controller>/mesos/<container>`), version 2 one for all.
//! Paths are looked for where they are mounted; nothing here is needed for the posix launcher.

mod amounts;
mod blkio;
mod controllers;
pub mod devices;
mod extras;
pub mod gpus;
pub mod handles;
pub mod memory;
pub mod perf;
mod pressure;
mod statistics;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesos::resources::Resources;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::resource_limits::ResourceLimits;
use tree::place;

use controllers::Controller;
use memory::Watches;

pub use controllers::Limits;
pub use extras::Extras;

/// Where containers' cgroups are made.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mounted: Mounted,
    /// `--cgroups_root`.
    name: PathBuf,
    limits: Limits,
    extras: Extras,
    watches: Watches,
}

/// The cgroup file systems that containers may use.
#[derive(Debug, Clone)]
enum Mounted {
    /// One hierarchy a controller: the directory of `mesos` in each.
    V1(BTreeMap<Controller, PathBuf>),
    /// The unified hierarchy: the directory of `mesos` in it.
    V2(PathBuf),
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(named(path))
}

impl Mounted {
    fn prepare(hierarchy: &Path, root: &str, limits: Limits) -> io::Result<Self> {
        let controllers = limits.controllers();
        let offered = hierarchy.join("cgroup.controllers");
        if let Ok(offered) = fs::read_to_string(&offered) {
            let offered: Vec<&str> = offered.split_whitespace().collect();
            let wanted: Vec<&str> = controllers.iter().filter_map(|own| own.unified()).collect();
            if let Some(missing) = wanted.iter().find(|own| !offered.contains(own)) {
                return Err(io::Error::other(format!(
                    "{} has no controller '{missing}'",
                    hierarchy.display()
                )));
            }
            if limits.devices {
                devices::probe()?;
            }
            let directory = hierarchy.join(root);
            fs::create_dir_all(&directory).map_err(named(&directory))?;
            let enabled = limits.enabled();
            for path in [hierarchy, &directory].map(|path| path.join("cgroup.subtree_control")) {
                write(&path, &enabled)?;
            }
            return Ok(Self::V2(directory));
        }
        let make = |controller: Controller| -> io::Result<(Controller, PathBuf)> {
            let directory = hierarchy.join(controller.name()).join(root);
            fs::create_dir_all(&directory).map_err(named(&directory))?;
            // Writable in earnest: a read-only mount lets directories that exist pass.
            let probe = directory.join("probe");
            let probed = fs::create_dir_all(&probe).and_then(|()| fs::remove_dir(&probe));
            probed.map_err(named(&probe))?;
            if controller == Controller::Cpuset {
                inherit_processors(&directory)?;
            }
            Ok((controller, directory))
        };
        Ok(Self::V1(controllers.into_iter().map(make).collect::<io::Result<_>>()?))
    }
}

/// A group of processors begins with none, and takes no process until it has some: all those of the group above.
fn inherit_processors(directory: &Path) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (own, above) = (directory.join(name), directory.with_file_name(name));
        if fs::read_to_string(&own).is_ok_and(|text| !text.trim().is_empty()) {
            continue; // An operator chose.
        }
        let all = fs::read_to_string(&above).map_err(named(&above))?;
        write(&own, all.trim())?;
    }
    Ok(())
}

/// Pause between two looks at what is ending.
const PAUSE: Duration = Duration::from_millis(10);
/// How long processes may take to end once they are no longer listed.
const ENDING: Duration = Duration::from_secs(10);
/// Memory and swap together, of version 1.
const SWAP_LIMIT: &str = "memory.memsw.limit_in_bytes";

impl Cgroups {
    /// Finds out what is mounted below `hierarchy` and makes `root` in it.
    ///
    /// # Errors
    /// When it may not be written to, or lacks what is to be limited.
    pub fn prepare(hierarchy: &Path, root: &str, limits: Limits) -> io::Result<Self> {
        let mounted = Mounted::prepare(hierarchy, root, limits)?;
        let (extras, watches) = (Extras::default(), Watches::default());
        let cgroups = Self { mounted, name: root.into(), limits, extras, watches };
        if let Some(memory) = cgroups.v1(Controller::Memory)
            && limits.swap
            && !memory.join(SWAP_LIMIT).exists()
        {
            return Err(io::Error::other(
                "--cgroups_limit_swap: this kernel doesn't count swap (it was started without swapaccount=1)",
            ));
        }
        Ok(cgroups)
    }

    fn v1(&self, controller: Controller) -> Option<&Path> {
        match &self.mounted {
            Mounted::V1(all) => all.get(&controller).map(PathBuf::as_path),
            Mounted::V2(_) => None,
        }
    }

    /// The one directory that has a container's processes in either version.
    fn root(&self) -> &Path {
        match &self.mounted {
            // It is always among them.
            Mounted::V1(all) => all.get(&Controller::Freezer).map_or(Path::new(""), |path| path),
            Mounted::V2(root) => root,
        }
    }

    fn directories(&self, container: &str) -> Vec<PathBuf> {
        match &self.mounted {
            Mounted::V1(all) => all.values().map(|root| place(root, container)).collect(),
            Mounted::V2(root) => vec![place(root, container)],
        }
    }

    /// A file of a container: of a controller in version 1, or its counterpart in version 2.
    fn file(&self, container: &str, (controller, v1): (Controller, &str), v2: &str) -> PathBuf {
        match &self.mounted {
            Mounted::V1(all) => {
                all.get(&controller).map(|root| place(root, container).join(v1)).unwrap_or_default()
            }
            Mounted::V2(root) => place(root, container).join(v2),
        }
    }

    /// Makes a container's cgroups with its limits; those of a nested one are below those of what it is nested in.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn create(
        &self,
        container: &str,
        resources: &Resources,
        limits: &ResourceLimits,
    ) -> io::Result<()> {
        if let (Mounted::V2(root), Some((outer, _))) = (&self.mounted, container.rsplit_once('.')) {
            tree::split(&place(root, outer), &self.limits.enabled())?;
        }
        for directory in self.directories(container) {
            fs::create_dir_all(&directory).map_err(named(&directory))?;
        }
        if let Some(most) = self.limits.pids_max.filter(|_| self.limits.pids) {
            let path = self.file(container, (Controller::Pids, "pids.max"), "pids.max");
            write(&path, &most.to_string())?;
        }
        // From before its first process on.
        let _ = self.out_of_memory(container);
        self.prepare_extras(container)?;
        self.write_amounts(container, resources, limits, false)
    }

    /// Puts a process, and what it starts from then on, into a container's cgroups, or else into those of the nearest
    /// container that it is nested in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(&self, container: &str, pid: i32) -> io::Result<()> {
        let mut nearest = container;
        while let Some((outer, _)) = nearest.rsplit_once('.')
            && !self.is_there(nearest)
        {
            nearest = outer;
        }
        self.directories(nearest).iter().try_for_each(|directory| tree::enter(directory, pid))
    }

    /// Whether a container has cgroups of its own.
    pub fn is_there(&self, container: &str) -> bool {
        place(self.root(), container).is_dir()
    }

    /// The processes of a container and of all that are nested in it.
    pub fn processes(&self, container: &str) -> Vec<i32> {
        tree::processes(&place(self.root(), container))
    }

    /// The containers that have cgroups and are not nested.
    pub fn containers(&self) -> Vec<String> {
        tree::names(self.root())
    }

    /// The containers that have cgroups, those nested in others after these.
    fn all_containers(&self) -> Vec<String> {
        let mut all = self.containers();
        let mut index = 0;
        while let Some(container) = all.get(index).cloned() {
            let nested = tree::nested(&place(self.root(), &container));
            all.extend(nested.into_iter().map(|name| format!("{container}.{name}")));
            index += 1;
        }
        all
    }

    /// Kills every process of a container and removes its cgroups. Blocks until they are gone, a minute at most.
    pub fn destroy(&self, container: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        if let Some(freezer) = self.v1(Controller::Freezer) {
            // Frozen, a fork bomb can't outrun the kill.
            let _ = fs::write(place(freezer, container).join("freezer.state"), "FROZEN");
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
                Mounted::V1(_) => {
                    let state = place(self.root(), container).join("freezer.state");
                    let _ = fs::write(state, "THAWED");
                }
                Mounted::V2(root) => {
                    let _ = fs::write(place(root, container).join("cgroup.kill"), "1");
                }
            }
            std::thread::sleep(PAUSE);
        }
        // A process that is ending is not listed any more, but its groups are still busy, on a busy host for a while.
        let deadline = Instant::now() + ENDING;
        for directory in self.directories(container) {
            tree::remove(&directory, deadline);
        }
        self.extras.free(container);
        self.watches.end(container);
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

/// A number in a file; `max` counts as the largest.
fn number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: ResourceLimits = ResourceLimits { cpus: None, mem: None };

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
        let (hierarchy, cgroups) =
            version_1(Limits { cpu: true, memory: true, ..Limits::default() });
        let read = |file: &str| fs::read_to_string(hierarchy.path().join(file)).unwrap();
        cgroups.create("c", &resources("cpus:0.5;mem:64"), &NONE).unwrap();
        assert_eq!(read("cpu/mesos/c/cpu.shares"), "512");
        assert_eq!(read("memory/mesos/c/memory.limit_in_bytes"), (64u64 << 20).to_string());
        cgroups.limit("c", &resources("cpus:1;mem:48"), &NONE).unwrap();
        assert_eq!(read("cpu/mesos/c/cpu.shares"), "1024");
        assert_eq!(read("memory/mesos/c/memory.limit_in_bytes"), (64u64 << 20).to_string());
        assert_eq!(read("memory/mesos/c/memory.soft_limit_in_bytes"), (48u64 << 20).to_string());
        cgroups.limit("c", &resources("cpus:1;mem:128"), &NONE).unwrap();
        assert_eq!(read("memory/mesos/c/memory.limit_in_bytes"), (128u64 << 20).to_string());
        cgroups.create("small", &resources("cpus:0.001;mem:1"), &NONE).unwrap();
        assert_eq!(read("cpu/mesos/small/cpu.shares"), "2");
        assert_eq!(read("memory/mesos/small/memory.limit_in_bytes"), (32u64 << 20).to_string());
    }

    #[test]
    fn quotas_and_numbers_of_processes_are_limited_where_asked_for() {
        let limits = Limits {
            cpu: true,
            cpu_quota: true,
            pids: true,
            pids_max: Some(7),
            ..Limits::default()
        };
        let (hierarchy, cgroups) = version_1(limits);
        let read = |file: &str| fs::read_to_string(hierarchy.path().join(file)).unwrap();
        cgroups.create("c", &resources("cpus:0.5;mem:64"), &NONE).unwrap();
        assert_eq!(read("cpu/mesos/c/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("cpu/mesos/c/cpu.cfs_period_us"), "100000");
        assert_eq!(read("pids/mesos/c/pids.max"), "7");
        assert!(!hierarchy.path().join("memory").exists());
        let text = Cgroups::prepare(
            hierarchy.path(),
            "mesos",
            Limits { memory: true, swap: true, ..Limits::default() },
        );
        assert!(text.unwrap_err().to_string().contains("doesn't count swap"));
    }

    #[test]
    fn the_unified_hierarchy_has_one_directory_for_all() {
        let hierarchy = tempfile::TempDir::new().unwrap();
        fs::write(hierarchy.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let all =
            Limits { cpu: true, cpu_quota: true, memory: true, swap: true, ..Limits::default() };
        let cgroups = Cgroups::prepare(hierarchy.path(), "mesos", all).unwrap();
        let read = |file: &str| fs::read_to_string(hierarchy.path().join(file)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory");
        cgroups.create("c", &resources("cpus:1;mem:64"), &NONE).unwrap();
        for (file, expected) in [
            ("cpu.weight", "39"),
            ("cpu.max", "100000 100000"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
        ] {
            assert_eq!(read(&format!("mesos/c/{file}")), expected, "{file}");
        }
        let pids = Limits { pids: true, ..all };
        let text = Cgroups::prepare(hierarchy.path(), "mesos", pids).unwrap_err().to_string();
        assert!(text.ends_with("has no controller 'pids'"), "{text}");
    }

    #[test]
    fn limits_of_tasks_go_beyond_what_they_ask_for() {
        let infinite = ResourceLimits { cpus: Some(f64::INFINITY), mem: Some(f64::INFINITY) };
        let some = ResourceLimits { cpus: Some(0.5), mem: Some(96.0) };
        let limits = Limits { cpu: true, memory: true, ..Limits::default() };
        let (hierarchy, cgroups) = version_1(limits);
        let read = |file: &str| fs::read_to_string(hierarchy.path().join(file)).unwrap();
        cgroups.create("c", &resources("cpus:0.1;mem:64"), &some).unwrap();
        let (quota, memory) =
            ("cpu/mesos/c/cpu.cfs_quota_us", "memory/mesos/c/memory.limit_in_bytes");
        assert_eq!((read(quota), read(memory)), ("50000".to_owned(), (96u64 << 20).to_string()));
        assert_eq!(read("cpu/mesos/c/cpu.shares"), "102");
        assert_eq!(read("memory/mesos/c/memory.soft_limit_in_bytes"), (64u64 << 20).to_string());
        // A task without a limit is not to be held back by those of others.
        cgroups.limit("c", &resources("cpus:1;mem:64"), &NONE).unwrap();
        assert_eq!((read(quota), read(memory)), ("-1".to_owned(), (96u64 << 20).to_string()));
        cgroups.limit("c", &resources("cpus:1;mem:64"), &infinite).unwrap();
        assert_eq!((read(quota), read(memory)), ("-1".to_owned(), "-1".to_owned()));

        let hierarchy = tempfile::TempDir::new().unwrap();
        fs::write(hierarchy.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let cgroups = Cgroups::prepare(hierarchy.path(), "mesos", limits).unwrap();
        let read =
            |file: &str| fs::read_to_string(hierarchy.path().join("mesos/c").join(file)).unwrap();
        cgroups.create("c", &resources("cpus:0.1;mem:64"), &some).unwrap();
        assert_eq!(
            (read("cpu.max"), read("memory.max")),
            ("50000 100000".to_owned(), (96u64 << 20).to_string())
        );
        assert_eq!(read("memory.low"), (64u64 << 20).to_string());
        cgroups.limit("c", &resources("cpus:1;mem:64"), &infinite).unwrap();
        assert_eq!(
            (read("cpu.max"), read("memory.max")),
            ("max 100000".to_owned(), "max".to_owned())
        );
    }

    #[test]
    fn nested_containers_have_groups_below_those_of_what_they_are_nested_in() {
        let limits = Limits { memory: true, ..Limits::default() };
        let mem = |text: &str| resources(&format!("mem:{text}"));
        let (hierarchy, cgroups) = version_1(limits);
        let at = |file: &str| hierarchy.path().join(file);
        let read = |file: &str| fs::read_to_string(at(file)).unwrap_or_default();
        cgroups.create("a", &mem("128"), &NONE).unwrap();
        cgroups.create("a.b", &mem("64"), &NONE).unwrap();
        assert_eq!(read("memory/mesos/a/mesos/b/memory.limit_in_bytes"), (64u64 << 20).to_string());
        // In its own groups, in those that it shares, and in those of the nearest that has some.
        for (container, pid, place) in
            [("a", 1, "a"), ("a.c", 2, "a"), ("a.b", 3, "a/mesos/b"), ("a.b.c", 4, "a/mesos/b")]
        {
            cgroups.enter(container, pid).unwrap();
            for controller in ["freezer", "memory"] {
                assert_eq!(
                    read(&format!("{controller}/mesos/{place}/cgroup.procs")),
                    pid.to_string(),
                    "{container}"
                );
            }
        }
        assert_eq!((cgroups.processes("a"), cgroups.processes("a.b")), (vec![2, 4], vec![4]));
        assert_eq!(cgroups.containers(), ["a"]);

        let hierarchy = tempfile::TempDir::new().unwrap();
        let at = |file: &str| hierarchy.path().join(file);
        fs::write(at("cgroup.controllers"), "cpu memory").unwrap();
        let read = |file: &str| fs::read_to_string(at(file)).unwrap_or_default();
        let cgroups = Cgroups::prepare(hierarchy.path(), "mesos", limits).unwrap();
        cgroups.create("a", &mem("128"), &NONE).unwrap();
        cgroups.enter("a", 1).unwrap();
        cgroups.create("a.b", &mem("64"), &NONE).unwrap();
        assert_eq!(read("mesos/a/leaf/cgroup.procs"), "1", "moved, for no group has both");
        assert_eq!(read("mesos/a/cgroup.subtree_control"), "+memory");
        assert_eq!(read("mesos/a/mesos/cgroup.subtree_control"), "+memory");
        assert_eq!(read("mesos/a/mesos/b/memory.max"), (64u64 << 20).to_string());
        cgroups.enter("a.c", 2).unwrap();
        assert_eq!(read("mesos/a/leaf/cgroup.procs"), "2");
        // What is killed in the leaf is the container's, what is killed in a nested one is not.
        fs::write(at("mesos/a/memory.events"), "oom_kill 0\n").unwrap();
        for (group, said) in [("a/mesos/b", 1), ("a/leaf", 2)] {
            let file = at(&format!("mesos/{group}/memory.events"));
            fs::write(&file, "oom 1\noom_kill 1\n").unwrap();
            assert_eq!(cgroups.out_of_memory("a").is_some(), said == 2, "{group}");
        }
        assert!(cgroups.out_of_memory("a.b").is_some());
    }

    #[test]
    fn posix_isolation_limits_nothing() {
        let (hierarchy, cgroups) = version_1(Limits::default());
        cgroups.create("c", &resources("cpus:0.5;mem:64"), &NONE).unwrap();
        assert!(!hierarchy.path().join("cpu/mesos/c/cpu.shares").exists());
        assert!(!hierarchy.path().join("memory/mesos/c/memory.limit_in_bytes").exists());
        assert_eq!(cgroups.containers(), ["c"]);
        assert!(cgroups.memory_files("c").is_none());
    }
}
