//! How much of the host a container's cgroups let it have (`isolators/cgroups/subsystems/{cpu,memory}.cpp`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mesos::resources::Resources;

use super::super::resource_limits::{self, CPU_PERIOD, Most, ResourceLimits};
use super::{Cgroups, Controller, Mounted, SWAP_LIMIT, number, write};

impl Cgroups {
    /// Changes what a container is limited to.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn limit(
        &self,
        container: &str,
        resources: &Resources,
        limits: &ResourceLimits,
    ) -> io::Result<()> {
        self.write_amounts(container, resources, limits, true)
    }

    pub(super) fn write_amounts(
        &self,
        container: &str,
        resources: &Resources,
        limits: &ResourceLimits,
        is_set: bool,
    ) -> io::Result<()> {
        self.assign_gpus(container, resources)?;
        if self.limits.cpu {
            self.write_cpus(container, resources, limits, is_set)?;
        }
        match self.memory_files(container) {
            Some(files) => self.write_memory(&files.limit, resources, limits, is_set),
            None => Ok(()),
        }
    }

    fn is_v2(&self) -> bool {
        matches!(self.mounted, Mounted::V2(_))
    }

    fn write_cpus(
        &self,
        container: &str,
        resources: &Resources,
        limits: &ResourceLimits,
        is_set: bool,
    ) -> io::Result<()> {
        let shares = resource_limits::cpu_shares(resources);
        let weight = (1 + (shares - 2) * 9999 / 262_142).min(10_000);
        let value = if self.is_v2() { weight } else { shares };
        let path = self.file(container, (Controller::Cpu, "cpu.shares"), "cpu.weight");
        write(&path, &value.to_string())?;
        let path = self.file(container, (Controller::Cpu, "cpu.cfs_quota_us"), "cpu.max");
        let quota = limits.cpu_quota(resources, self.limits.cpu_quota).or_else(|| {
            // With a task that has no limit there is none any more.
            let had = fs::read_to_string(&path).ok().filter(|_| is_set)?;
            had.starts_with(|first: char| first.is_ascii_digit()).then_some(Most::Infinite)
        });
        match quota {
            None => Ok(()),
            Some(quota) if self.is_v2() => {
                write(&path, &format!("{} {CPU_PERIOD}", quota.or("max")))
            }
            Some(quota) => {
                write(&path.with_file_name("cpu.cfs_period_us"), &CPU_PERIOD.to_string())?;
                write(&path, &quota.or("-1"))
            }
        }
    }

    fn write_memory(
        &self,
        limit: &Path,
        resources: &Resources,
        limits: &ResourceLimits,
        is_set: bool,
    ) -> io::Result<()> {
        let soft = if self.is_v2() { "memory.low" } else { "memory.soft_limit_in_bytes" };
        let asked = resource_limits::memory_asked(resources);
        write(&limit.with_file_name(soft), &asked.to_string())?;
        let memory = limits.memory(resources);
        // It is only raised: a lower one could kill what runs.
        if is_set && number(limit).is_some_and(|own| Most::Number(own) >= memory) {
            return Ok(());
        }
        let with_swap: PathBuf = limit.with_file_name(SWAP_LIMIT);
        let text = memory.or(if self.is_v2() { "max" } else { "-1" });
        match (self.limits.swap, self.is_v2()) {
            (false, _) => write(limit, &text),
            (true, true) => {
                let swap = if memory == Most::Infinite { "max" } else { "0" };
                write(&limit.with_file_name("memory.swap.max"), swap)?;
                write(limit, &text)
            }
            // The kernel wants the one with swap never to be the smaller.
            (true, false) if is_set => {
                write(&with_swap, &text)?;
                write(limit, &text)
            }
            (true, false) => {
                write(limit, &text)?;
                write(&with_swap, &text)
            }
        }
    }

    /// Lets the kernel end a process first, when the host's memory runs out, that may use more than it asks for.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn prefer_to_end(
        &self,
        pid: i32,
        resources: &Resources,
        limits: &ResourceLimits,
    ) -> io::Result<()> {
        match limits.oom_score_adjustment(resources).filter(|_| self.limits.memory) {
            Some(score) => {
                write(Path::new(&format!("/proc/{pid}/oom_score_adj")), &score.to_string())
            }
            None => Ok(()),
        }
    }
}
