//! Who has run out of memory (`isolators/cgroups/subsystems/memory.cpp`, `linux/cgroups.cpp`: `memory::oom::listen`).
//!
//! Version 1 tells by an event, for kernels before 4.13 count no kills; version 2 counts them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mesos::v1::ResourceStatistics;
use rustix::event::{EventfdFlags, eventfd};

use super::pressure::Pressure;
use super::tree::LEAF;
use super::{Cgroups, Controller, number};

/// Says of version 1 whether a group is out of memory, and passes on that it was.
const EVENTS_V1: &str = "memory.oom_control";
/// Where version 1 is told what is to be passed on to whom.
const LISTEN_V1: &str = "cgroup.event_control";

/// The files of a group that tell of its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFiles {
    /// Tells of processes that were killed for memory.
    pub events: PathBuf,
    /// How much there may be.
    pub limit: PathBuf,
}

/// What is to be said when a group has run out of memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Exceeded {
    /// For people.
    pub message: String,
    /// The most that was used, in bytes.
    pub used: u64,
}

/// Hears whether a group runs out of memory, for as long as it is there.
#[derive(Debug)]
pub struct Watch {
    files: MemoryFiles,
    /// Readable once it has, in version 1.
    notifier: Option<OwnedFd>,
    has_happened: AtomicBool,
    pressure: Option<Pressure>,
}

impl Watch {
    /// Begins to listen. What happened before is known where the kernel counts.
    pub fn begin(files: MemoryFiles) -> Self {
        let is_v1 = files.events.file_name().is_some_and(|name| name == EVENTS_V1);
        let notifier = is_v1.then(|| listen(&files.events, "")).and_then(|listening| {
            let failed = |error: &io::Error| {
                let path = files.events.display();
                tracing::warn!(%path, %error, "not told when memory runs out: kills are counted");
            };
            listening.inspect_err(failed).ok()
        });
        // After that, so that nothing is missed in between.
        let has_happened = AtomicBool::new(was_killed(&files.events));
        Self { files, notifier, has_happened, pressure: None }
    }

    /// Counts, too, how often memory is short.
    fn with_pressure(self) -> Self {
        let group = self.files.events.parent().filter(|_| self.notifier.is_some());
        let pressure = group.map(Pressure::begin);
        Self { pressure, ..self }
    }

    /// What is to be said if the group has run out of memory.
    pub fn exceeded(&self) -> Option<Exceeded> {
        let is_told = match &self.notifier {
            Some(notifier) => is_told(notifier),
            None => was_killed(&self.files.events),
        };
        // The kernel says as much when a group is removed.
        if is_told && self.files.events.exists() {
            self.has_happened.store(true, Ordering::Relaxed);
        }
        self.has_happened.load(Ordering::Relaxed).then(|| self.files.exceeded())
    }
}

/// Asks the kernel to be told of what a file of a group of version 1 stands for, with what is asked of that.
pub(super) fn listen(file: &Path, asked: &str) -> io::Result<OwnedFd> {
    let notifier = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let told_of = File::open(file)?;
    let order = format!("{} {} {asked}", notifier.as_raw_fd(), told_of.as_raw_fd());
    fs::write(file.with_file_name(LISTEN_V1), order.trim_end())?;
    Ok(notifier)
}

fn is_told(notifier: &OwnedFd) -> bool {
    let mut count = [0; size_of::<u64>()];
    // Nothing to read: nothing has happened.
    rustix::io::read(notifier, &mut count).is_ok_and(|read| read > 0)
}

/// How many processes were killed for memory, by the kernel's own count.
fn kills(events: &Path) -> u64 {
    let text = fs::read_to_string(events).unwrap_or_default();
    let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    kills.and_then(|kills| kills.trim().parse().ok()).unwrap_or_default()
}

fn was_killed(events: &Path) -> bool {
    let leaf = events.file_name().map(|name| events.with_file_name(LEAF).join(name));
    kills(events) > 0 || leaf.is_some_and(|leaf| kills(&leaf) > 0)
}

impl MemoryFiles {
    fn exceeded(&self) -> Exceeded {
        let beside = |name: &str| self.events.with_file_name(name);
        let megabytes = |bytes: u64| format!("{}MB", bytes >> 20);
        let limit = number(&self.limit).unwrap_or_default();
        let most = ["memory.max_usage_in_bytes", "memory.peak"];
        let used = most.iter().find_map(|name| number(&beside(name))).unwrap_or(limit);
        let statistics = fs::read_to_string(beside("memory.stat")).unwrap_or_default();
        let message = format!(
            "Memory limit exceeded: Requested: {} Maximum Used: {}\n\nMEMORY STATISTICS: \n{statistics}",
            megabytes(limit),
            megabytes(used)
        );
        Exceeded { message, used }
    }
}

/// Who is listened to, by container.
#[derive(Debug, Clone, Default)]
pub(super) struct Watches(Arc<Mutex<HashMap<String, Arc<Watch>>>>);

impl Watches {
    /// What listens to a container; begins where nothing does, as after a restart of the agent.
    fn of(&self, container: &str, files: MemoryFiles) -> Arc<Watch> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = all.entry(container.to_owned());
        watch.or_insert_with(|| Arc::new(Watch::begin(files).with_pressure())).clone()
    }

    /// A container is gone.
    pub(super) fn end(&self, container: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

impl Cgroups {
    /// The files that tell of a container's memory, if that is limited.
    pub fn memory_files(&self, container: &str) -> Option<MemoryFiles> {
        if !self.limits.memory {
            return None;
        }
        let of = |v1, v2| self.file(container, (Controller::Memory, v1), v2);
        // Of the container alone: where there is no such file, the other one doesn't count for those nested in it either.
        let local = of(EVENTS_V1, "memory.events.local");
        let events = if local.exists() { local } else { of(EVENTS_V1, "memory.events") };
        Some(MemoryFiles { events, limit: of("memory.limit_in_bytes", "memory.max") })
    }

    /// Writes down how often memory was short for a container. Listens from the first time on.
    pub(super) fn add_pressure(&self, container: &str, into: &mut ResourceStatistics) {
        let files = self.memory_files(container).filter(|files| files.events.exists());
        let watch = files.map(|files| self.watches.of(container, files));
        if let Some(pressure) = watch.as_ref().and_then(|watch| watch.pressure.as_ref()) {
            pressure.add_to(into);
        }
    }

    /// What is to be said if a container has run out of memory. Listens from the first time on.
    pub fn out_of_memory(&self, container: &str) -> Option<Exceeded> {
        let files = self.memory_files(container).filter(|files| files.events.exists())?;
        self.watches.of(container, files).exceeded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group in which a process was killed that often, `None` where the kernel doesn't count.
    fn group(events: &str, kills: Option<u64>) -> (tempfile::TempDir, MemoryFiles) {
        let directory = tempfile::TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let counted = kills.map(|kills| format!("oom_kill {kills}\n")).unwrap_or_default();
        let limit = if events == EVENTS_V1 { "memory.limit_in_bytes" } else { "memory.max" };
        for (name, text) in [
            (events, &format!("under_oom 0\n{counted}")[..]),
            (limit, "67108864\n"),
            ("memory.stat", "cache 0\n"),
        ] {
            fs::write(path(name), text).unwrap();
        }
        let files = MemoryFiles { events: path(events), limit: path(limit) };
        (directory, files)
    }

    const SAID: &str = "Memory limit exceeded: Requested: 64MB Maximum Used: 64MB\n\nMEMORY STATISTICS: \ncache 0\n";

    fn said() -> Option<Exceeded> {
        Some(Exceeded { message: SAID.to_owned(), used: 64 << 20 })
    }

    #[test]
    fn kills_are_told_with_their_numbers() {
        for events in ["memory.events", "memory.events.local"] {
            let (_directory, files) = group(events, Some(0));
            let watch = Watch::begin(files.clone());
            assert_eq!(watch.exceeded(), None);
            fs::write(&files.events, "oom 1\noom_kill 1\n").unwrap();
            assert_eq!(watch.exceeded(), said());
        }
    }

    #[test]
    fn the_kernel_is_asked_to_tell_where_it_may_not_count() {
        let (directory, files) = group(EVENTS_V1, None);
        let watch = Watch::begin(files);
        let order = fs::read_to_string(directory.path().join(LISTEN_V1)).unwrap();
        let notifier = watch.notifier.as_ref().unwrap();
        assert!(order.starts_with(&format!("{} ", notifier.as_raw_fd())), "{order}");
        assert_eq!(watch.exceeded(), None);
        rustix::io::write(notifier, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(
            (watch.exceeded(), watch.exceeded()),
            (said(), said()),
            "told once, known since"
        );

        // What an agent missed that was not there.
        let (_directory, files) = group(EVENTS_V1, Some(2));
        assert_eq!(Watch::begin(files).exceeded(), said());
    }

    #[test]
    fn a_group_that_is_removed_has_not_run_out_of_memory() {
        let (directory, files) = group(EVENTS_V1, Some(0));
        let watch = Watch::begin(files);
        drop(directory);
        rustix::io::write(watch.notifier.as_ref().unwrap(), &1u64.to_ne_bytes()).unwrap();
        assert_eq!(watch.exceeded(), None);
    }
}
