//! How often the kernel was short of memory for a container, by how much (`linux/cgroups.cpp`: `memory::pressure`).
//! Version 1 tells by events, which are counted from the time on that the agent listens.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mesos::v1::ResourceStatistics;

use super::memory::listen;

/// What is listened to.
const FILE: &str = "memory.pressure_level";

/// Events of one level.
#[derive(Debug)]
struct Level {
    notifier: OwnedFd,
    counted: AtomicU64,
}

impl Level {
    fn begin(group: &Path, level: &str) -> Option<Self> {
        let notifier = listen(&group.join(FILE), level).ok()?;
        Some(Self { notifier, counted: AtomicU64::new(0) })
    }

    fn count(&self) -> u64 {
        let mut more = [0; size_of::<u64>()];
        // Nothing to read: nothing has happened.
        let is_more = rustix::io::read(&self.notifier, &mut more).is_ok_and(|read| read > 0);
        let more = if is_more { u64::from_ne_bytes(more) } else { 0 };
        self.counted.fetch_add(more, Ordering::Relaxed) + more
    }
}

/// Counts events for as long as it is there.
#[derive(Debug)]
pub(super) struct Pressure {
    low: Option<Level>,
    medium: Option<Level>,
    critical: Option<Level>,
}

impl Pressure {
    /// Begins to listen to a group, as far as the kernel tells.
    pub(super) fn begin(group: &Path) -> Self {
        let level = |name: &str| Level::begin(group, name);
        Self { low: level("low"), medium: level("medium"), critical: level("critical") }
    }

    /// Writes the counts down.
    pub(super) fn add_to(&self, into: &mut ResourceStatistics) {
        let count = |level: &Option<Level>| level.as_ref().map(Level::count);
        into.mem_low_pressure_counter = count(&self.low);
        into.mem_medium_pressure_counter = count(&self.medium);
        into.mem_critical_pressure_counter = count(&self.critical);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_level_by_level() {
        let group = tempfile::TempDir::new().unwrap();
        let mut found = ResourceStatistics::default();
        Pressure::begin(group.path()).add_to(&mut found);
        assert_eq!(found.mem_low_pressure_counter, None, "nothing tells");

        std::fs::write(group.path().join(FILE), "").unwrap();
        let pressure = Pressure::begin(group.path());
        let order = std::fs::read_to_string(group.path().join("cgroup.event_control")).unwrap();
        assert!(order.ends_with(" critical"), "{order}");
        for times in [1u64, 2] {
            let medium = pressure.medium.as_ref().unwrap();
            rustix::io::write(&medium.notifier, &times.to_ne_bytes()).unwrap();
            pressure.add_to(&mut found);
        }
        let counts = [
            found.mem_low_pressure_counter,
            found.mem_medium_pressure_counter,
            found.mem_critical_pressure_counter,
        ];
        assert_eq!(counts, [Some(0), Some(3), Some(0)]);
    }
}
