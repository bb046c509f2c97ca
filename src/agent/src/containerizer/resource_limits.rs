//! Resource limits (`TaskInfo.limits`): how much a container may take beyond what it asks for, while nobody else wants
//! it. What it asks for and what it is limited to become numbers for the kernel here, whoever writes these.

use std::collections::BTreeMap;

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::value::Scalar;

/// The period of CPU quotas in microseconds.
pub(super) const CPU_PERIOD: u64 = 100_000;
/// The smallest quota, as the original's.
const CPU_QUOTA_MIN: u64 = 1000;
/// The smallest memory limit, as the original's.
const MEMORY_MIN: u64 = 32 << 20;
const MEGABYTE: f64 = 1_048_576.0;

/// How much of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Most {
    /// This much.
    Number(u64),
    /// Whatever there is.
    Infinite,
}

impl Most {
    /// With another word for infinity.
    pub fn or(self, infinity: &str) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Infinite => infinity.to_owned(),
        }
    }
}

/// What a container is limited to. Where nothing is said it may take what it asks for; of CPUs more than that, unless
/// they are limited in any case (`--cgroups_enable_cfs`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ResourceLimits {
    /// CPUs, perhaps infinitely many.
    pub cpus: Option<f64>,
    /// Megabytes of memory, perhaps infinitely many.
    pub mem: Option<f64>,
}

/// As exact as resources are.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// CPUs as weight among containers.
pub(super) fn cpu_shares(resources: &Resources) -> u64 {
    ((resources.cpus() * 1024.0) as u64).max(2)
}

/// The memory that is asked for, in bytes.
pub(super) fn memory_asked(resources: &Resources) -> u64 {
    ((resources.mem() * MEGABYTE) as u64).max(MEMORY_MIN)
}

impl ResourceLimits {
    /// What a task or a container is limited to.
    pub fn of(limits: &BTreeMap<String, Scalar>) -> Self {
        let of = |name: &str| limits.get(name).map(|limit| limit.value);
        Self { cpus: of("cpus"), mem: of("mem") }
    }

    /// What an executor's container is limited to, from what the executor itself asks for, and what each of its tasks asks
    /// for and is limited to; `has_quota` is `--cgroups_enable_cfs` (`Slave::computeExecutorLimits`).
    pub fn of_executor<'a>(
        own: &Resources,
        tasks: impl Iterator<Item = (&'a [v1::Resource], &'a BTreeMap<String, Scalar>)>,
        has_quota: bool,
    ) -> Self {
        let (mut cpus, mut mem) = (Sum::default(), Sum::default());
        for (resources, limits) in tasks {
            let (asked, limits) = (Resources::from_protos(resources), Self::of(limits));
            cpus.add(asked.cpus(), limits.cpus);
            mem.add(asked.mem(), limits.mem);
        }
        // Without quotas a task that has no limit must not be held back by those of others.
        let is_cpu_limited = has_quota || cpus.unlimited <= 0.0;
        Self { cpus: cpus.with(own.cpus()).filter(|_| is_cpu_limited), mem: mem.with(own.mem()) }
    }

    /// The CPU time of a period in microseconds; `None` where none is to be set.
    pub fn cpu_quota(&self, resources: &Resources, has_quota: bool) -> Option<Most> {
        let cpus = self.cpus.or_else(|| has_quota.then(|| resources.cpus()))?;
        if cpus.is_infinite() {
            return Some(Most::Infinite);
        }
        Some(Most::Number(((cpus * CPU_PERIOD as f64) as u64).max(CPU_QUOTA_MIN)))
    }

    /// The memory that may be used, in bytes.
    pub fn memory(&self, resources: &Resources) -> Most {
        match self.mem {
            None => Most::Number(memory_asked(resources)),
            Some(limit) if limit.is_infinite() => Most::Infinite,
            Some(limit) => Most::Number(((limit.trunc() * MEGABYTE) as u64).max(MEMORY_MIN)),
        }
    }

    /// What makes the kernel, when the host's memory runs out, first end processes of containers that use more than they
    /// ask for (`calculateOOMScoreAdj`); `None` for those that may not.
    pub fn oom_score_adjustment(&self, resources: &Resources) -> Option<i32> {
        let asked = memory_asked(resources);
        if Most::Number(asked) >= self.memory(resources) {
            return None;
        }
        let total = nix::sys::sysinfo::sysinfo().ok()?.ram_total().max(1);
        let part = (1000 * u128::from(asked) / u128::from(total)).min(1000);
        Some(1000 - i32::try_from(part).unwrap_or(1000))
    }
}

/// The limits of several tasks together.
#[derive(Default)]
struct Sum {
    limits: Option<f64>,
    /// What those ask for that have no limit.
    unlimited: f64,
}

impl Sum {
    fn add(&mut self, asked: f64, limit: Option<f64>) {
        match limit {
            Some(limit) => self.limits = Some(self.limits.unwrap_or_default() + limit),
            None => self.unlimited += asked,
        }
    }

    fn with(&self, executor: f64) -> Option<f64> {
        self.limits.map(|limits| rounded(limits + executor + self.unlimited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> Resources {
        Resources::parse(text, "*").unwrap()
    }

    /// Of tasks, each with what it asks for and its limits.
    fn of_executor(tasks: &[(&str, &[(&str, f64)])], has_quota: bool) -> ResourceLimits {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|(asked, limits)| {
                let limits: BTreeMap<String, Scalar> = limits
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), Scalar { value: *value }))
                    .collect();
                (resources(asked).to_protos(), limits)
            })
            .collect();
        let tasks = tasks.iter().map(|(asked, limits)| (&asked[..], limits));
        ResourceLimits::of_executor(&resources("cpus:0.1;mem:32"), tasks, has_quota)
    }

    #[test]
    fn an_executor_may_take_what_its_tasks_may_take_together() {
        const INFINITE: f64 = f64::INFINITY;
        let task = "cpus:0.2;mem:64";
        for (tasks, has_quota, cpus, mem) in [
            (&[(task, &[][..])][..], true, None, None),
            (&[(task, &[("cpus", 0.5), ("mem", 100.0)])], false, Some(0.6), Some(132.0)),
            // One without a limit counts as what it asks for, but for CPUs that are not limited.
            (
                &[(task, &[("cpus", 0.5), ("mem", 100.0)]), (task, &[])],
                true,
                Some(0.8),
                Some(196.0),
            ),
            (&[(task, &[("cpus", 0.5), ("mem", 100.0)]), (task, &[])], false, None, Some(196.0)),
            (
                &[(task, &[("cpus", INFINITE)]), (task, &[("cpus", 1.0)])],
                false,
                Some(INFINITE),
                None,
            ),
            (&[(task, &[("mem", INFINITE)]), (task, &[])], false, None, Some(INFINITE)),
        ] {
            let found = of_executor(tasks, has_quota);
            assert_eq!(found, ResourceLimits { cpus, mem }, "{tasks:?} {has_quota}");
        }
    }

    #[test]
    fn limits_become_what_the_kernel_takes() {
        let asked = resources("cpus:0.1;mem:64");
        let of = |cpus, mem| ResourceLimits { cpus, mem };
        let none = ResourceLimits::default();
        assert_eq!(none.cpu_quota(&asked, false), None);
        assert_eq!(none.cpu_quota(&asked, true), Some(Most::Number(10_000)));
        assert_eq!(of(Some(0.6), None).cpu_quota(&asked, false), Some(Most::Number(60_000)));
        assert_eq!(of(Some(0.001), None).cpu_quota(&asked, false), Some(Most::Number(1000)));
        assert_eq!(of(Some(f64::INFINITY), None).cpu_quota(&asked, true), Some(Most::Infinite));
        assert_eq!(none.memory(&asked), Most::Number(64 << 20));
        assert_eq!(of(None, Some(96.5)).memory(&asked), Most::Number(96 << 20));
        assert_eq!(of(None, Some(f64::INFINITY)).memory(&asked), Most::Infinite);
        assert_eq!(Most::Infinite.or("max"), "max");
        assert_eq!(none.oom_score_adjustment(&asked), None);
        assert_eq!(of(None, Some(64.0)).oom_score_adjustment(&asked), None);
        let score = of(None, Some(96.0)).oom_score_adjustment(&asked).unwrap();
        assert!((0..1000).contains(&score), "{score}");
        assert_eq!(of(None, Some(f64::INFINITY)).oom_score_adjustment(&asked), Some(score));
    }
}
