//! What a container uses, as its cgroups count it (`usage` of `isolators/cgroups/subsystems/*.cpp`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mesos::v1::ResourceStatistics;

use super::tree::place;
use super::{Cgroups, Controller, Mounted, blkio, number};

/// Numbers by name, a line each.
fn table(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

const NANOSECONDS: f64 = 1e9;
const MICROSECONDS: f64 = 1e6;

fn scheduled(
    stat: &BTreeMap<String, u64>,
    (throttled, unit): (&str, f64),
    into: &mut ResourceStatistics,
) {
    let count = |name: &str| stat.get(name).map(|count| u32::try_from(*count).unwrap_or(u32::MAX));
    into.cpus_nr_periods = count("nr_periods");
    into.cpus_nr_throttled = count("nr_throttled");
    into.cpus_throttled_time_secs = stat.get(throttled).map(|time| *time as f64 / unit);
}

impl Cgroups {
    /// Writes what a container with cgroups of its own uses over what is known of that otherwise. Reads files.
    pub fn add_statistics(&self, container: &str, into: &mut ResourceStatistics) {
        if !self.is_there(container) {
            return;
        }
        match &self.mounted {
            Mounted::V1(all) => {
                for (controller, root) in all {
                    self.add_of(*controller, &place(root, container), into);
                }
            }
            Mounted::V2(root) => self.add_unified(&place(root, container), into),
        }
        if self.limits.memory {
            self.add_pressure(container, into);
        }
        if self.limits.counts {
            self.count(container, into);
        }
        if self.limits.perf_event {
            into.perf = Some(self.perf_statistics(container, into.timestamp));
        }
    }

    /// How many processes and threads there are (`--cgroups_cpu_enable_pids_and_tids_count`), those of nested containers
    /// among them.
    fn count(&self, container: &str, into: &mut ResourceStatistics) {
        let processes = self.processes(container);
        let threads =
            |pid: &i32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        into.processes = Some(bounded(processes.len()));
        into.threads = Some(bounded(processes.iter().map(threads).sum()));
    }

    fn add_of(&self, controller: Controller, own: &Path, into: &mut ResourceStatistics) {
        match controller {
            Controller::Cpu if self.limits.cpu_quota => {
                let stat = table(&own.join("cpu.stat"));
                scheduled(&stat, ("throttled_time", NANOSECONDS), into);
            }
            Controller::Cpuacct => {
                let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
                let ticks = ticks.ok().flatten().unwrap_or(100).max(1) as f64;
                let stat = table(&own.join("cpuacct.stat"));
                if let (Some(user), Some(system)) = (stat.get("user"), stat.get("system")) {
                    into.cpus_user_time_secs = Some(*user as f64 / ticks);
                    into.cpus_system_time_secs = Some(*system as f64 / ticks);
                }
            }
            Controller::Memory => {
                into.mem_total_bytes = number(&own.join("memory.usage_in_bytes"));
                if self.limits.swap {
                    into.mem_total_memsw_bytes = number(&own.join("memory.memsw.usage_in_bytes"));
                }
                let stat = table(&own.join("memory.stat"));
                let of = |name: &str| stat.get(&format!("total_{name}")).copied();
                let (cache, resident) = (of("cache"), of("rss"));
                add_memory(cache, resident, into);
                into.mem_mapped_file_bytes = of("mapped_file");
                into.mem_swap_bytes = of("swap");
                into.mem_unevictable_bytes = of("unevictable");
            }
            Controller::Blkio => into.blkio_statistics = Some(blkio::statistics(own)),
            _ => {}
        }
    }

    fn add_unified(&self, own: &Path, into: &mut ResourceStatistics) {
        let limits = self.limits;
        if limits.cpu {
            let stat = table(&own.join("cpu.stat"));
            if let (Some(user), Some(system)) = (stat.get("user_usec"), stat.get("system_usec")) {
                into.cpus_user_time_secs = Some(*user as f64 / MICROSECONDS);
                into.cpus_system_time_secs = Some(*system as f64 / MICROSECONDS);
            }
            if limits.cpu_quota {
                scheduled(&stat, ("throttled_usec", MICROSECONDS), into);
            }
        }
        if limits.memory {
            let current = number(&own.join("memory.current"));
            let swapped = number(&own.join("memory.swap.current"));
            into.mem_total_bytes = current;
            if limits.swap {
                into.mem_total_memsw_bytes = current.zip(swapped).map(|(own, swap)| own + swap);
            }
            let stat = table(&own.join("memory.stat"));
            let of = |name: &str| stat.get(name).copied();
            add_memory(of("file"), of("anon"), into);
            into.mem_mapped_file_bytes = of("file_mapped");
            into.mem_swap_bytes = swapped;
            into.mem_unevictable_bytes = of("unevictable");
        }
        if limits.blkio {
            let text = fs::read_to_string(own.join("io.stat")).unwrap_or_default();
            into.blkio_statistics = Some(blkio::unified(&text));
        }
    }
}

/// Each under its name of today and of before.
fn add_memory(cache: Option<u64>, resident: Option<u64>, into: &mut ResourceStatistics) {
    into.mem_file_bytes = cache;
    into.mem_cache_bytes = cache;
    into.mem_anon_bytes = resident;
    into.mem_rss_bytes = resident.or(into.mem_rss_bytes);
}

#[cfg(test)]
mod tests {
    use mesos::resources::Resources;

    use super::super::{Limits, ResourceLimits};
    use super::*;

    /// A container's statistics with these limits and files.
    fn of(limits: Limits, is_v2: bool, files: &[(&str, &str)]) -> ResourceStatistics {
        let hierarchy = tempfile::TempDir::new().unwrap();
        if is_v2 {
            fs::write(hierarchy.path().join("cgroup.controllers"), "cpu io memory").unwrap();
        }
        let cgroups = Cgroups::prepare(hierarchy.path(), "mesos", limits).unwrap();
        let asked = Resources::parse("cpus:1;mem:64", "*").unwrap();
        cgroups.create("c", &asked, &ResourceLimits::default()).unwrap();
        for (file, text) in files {
            fs::write(hierarchy.path().join(file), text).unwrap();
        }
        let mut found = ResourceStatistics { mem_rss_bytes: Some(1), ..Default::default() };
        cgroups.add_statistics("c", &mut found);
        cgroups.add_statistics("c.nested", &mut found);
        found
    }

    const ALL: Limits = Limits {
        cpu: true,
        cpu_quota: true,
        memory: true,
        blkio: true,
        swap: false,
        pids: false,
        pids_max: None,
        cpuset: false,
        devices: false,
        hugetlb: false,
        net_cls: false,
        net_prio: false,
        perf_event: false,
        counts: false,
    };

    #[test]
    fn both_versions_tell_the_same() {
        let memory = "total_cache 1\ntotal_rss 2\ntotal_mapped_file 3\ntotal_swap 4\ntotal_unevictable 5\ncache 9\n";
        let version_1 = of(
            ALL,
            false,
            &[
                ("cpuacct/mesos/c/cpuacct.stat", "user 150\nsystem 50\n"),
                (
                    "cpu/mesos/c/cpu.stat",
                    "nr_periods 7\nnr_throttled 2\nthrottled_time 500000000\n",
                ),
                ("memory/mesos/c/memory.usage_in_bytes", "4096\n"),
                ("memory/mesos/c/memory.stat", memory),
                ("blkio/mesos/c/blkio.throttle.io_serviced", "Total 0\n"),
            ],
        );
        let used = "user_usec 1500000\nsystem_usec 500000\nnr_periods 7\nnr_throttled 2\nthrottled_usec 500000\n";
        let version_2 = of(
            ALL,
            true,
            &[
                ("mesos/c/cpu.stat", used),
                ("mesos/c/memory.current", "4096\n"),
                ("mesos/c/memory.swap.current", "4\n"),
                ("mesos/c/memory.stat", "file 1\nanon 2\nfile_mapped 3\nunevictable 5\n"),
            ],
        );
        let expected = ResourceStatistics {
            cpus_user_time_secs: Some(1.5),
            cpus_system_time_secs: Some(0.5),
            cpus_nr_periods: Some(7),
            cpus_nr_throttled: Some(2),
            cpus_throttled_time_secs: Some(0.5),
            mem_total_bytes: Some(4096),
            mem_file_bytes: Some(1),
            mem_cache_bytes: Some(1),
            mem_anon_bytes: Some(2),
            mem_rss_bytes: Some(2),
            mem_mapped_file_bytes: Some(3),
            mem_swap_bytes: Some(4),
            mem_unevictable_bytes: Some(5),
            ..Default::default()
        };
        for found in [version_1, version_2] {
            assert!(found.blkio_statistics.is_some());
            assert_eq!(ResourceStatistics { blkio_statistics: None, ..found }, expected);
        }
    }

    #[test]
    fn what_is_not_limited_is_known_otherwise() {
        let found = of(Limits::default(), false, &[]);
        let expected = ResourceStatistics { mem_rss_bytes: Some(1), ..Default::default() };
        assert_eq!(found, expected);
    }
}
