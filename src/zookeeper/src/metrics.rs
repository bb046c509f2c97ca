//! Metrics: counted where something happens, without locks, and shown by `mntr`, the administrator's `monitor` and
//! Prometheus's `/metrics` under the original's names.

mod names;
mod show;
mod summary;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

pub use names::{Counter, Set, Summary};
pub use show::{Number, decimal, key_values, prometheus};
pub use summary::{Totals, Values};

/// Different keys of a set; what is beyond is not counted by key.
const KEYS_MAX: usize = 1000;

/// All counters and summaries of a server.
#[derive(Debug)]
pub struct Metrics {
    counters: Vec<AtomicU64>,
    summaries: Vec<Values>,
    sets: Vec<Mutex<BTreeMap<String, Arc<Values>>>>,
    /// Sizes of replies to clients, in bytes.
    pub responses: Sizes,
    /// Sizes of a leader's proposals, in bytes.
    pub proposals: Sizes,
    /// The bits of the chance that a new session is dropped.
    drop_chance: AtomicU64,
}

/// Last, least and most of some sizes in bytes, −1 before there is any (`BufferStats`).
#[derive(Debug)]
pub struct Sizes {
    last: AtomicI64,
    least: AtomicI64,
    most: AtomicI64,
}

/// What [`Sizes`] are at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeTotals {
    /// The last.
    pub last: i64,
    /// The least.
    pub least: i64,
    /// The most.
    pub most: i64,
}

impl Default for Sizes {
    fn default() -> Self {
        let none = || AtomicI64::new(-1);
        Self { last: none(), least: none(), most: none() }
    }
}

impl Sizes {
    /// One more; only one at a time may note.
    pub fn note(&self, size: usize) {
        let size = size as i64;
        self.last.store(size, Relaxed);
        // As unsigned numbers, -1 is more than any size.
        if (size as u64) < self.least.load(Relaxed) as u64 {
            self.least.store(size, Relaxed);
        }
        if size > self.most.load(Relaxed) {
            self.most.store(size, Relaxed);
        }
    }

    /// What there is so far.
    pub fn totals(&self) -> SizeTotals {
        let of = |number: &AtomicI64| number.load(Relaxed);
        SizeTotals { last: of(&self.last), least: of(&self.least), most: of(&self.most) }
    }

    /// Begins anew.
    pub fn reset(&self) {
        for number in [&self.last, &self.least, &self.most] {
            number.store(-1, Relaxed);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            counters: Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            summaries: Summary::ALL.iter().map(|_| Values::default()).collect(),
            sets: Set::ALL.iter().map(|_| Mutex::default()).collect(),
            responses: Sizes::default(),
            proposals: Sizes::default(),
            drop_chance: AtomicU64::new(0f64.to_bits()),
        }
    }
}

impl Metrics {
    /// Counts.
    pub fn add(&self, counter: Counter, more: u64) {
        // Every counter has its place.
        if let Some(count) = self.counters.get(counter as usize) {
            count.fetch_add(more, Relaxed);
        }
    }

    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// A counter's value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// The chance that a new session is dropped to keep their number down, from 0 to 1.
    pub fn drop_chance(&self) -> f64 {
        f64::from_bits(self.drop_chance.load(Relaxed))
    }

    /// See [`Metrics::drop_chance`].
    pub fn set_drop_chance(&self, chance: f64) {
        self.drop_chance.store(chance.to_bits(), Relaxed);
    }

    /// One more value of a summary; times are in ms. Each summary is of one task, or noted under a lock.
    pub fn note(&self, summary: Summary, value: u64) {
        if let Some(values) = self.summaries.get(summary as usize) {
            values.add(value);
        }
    }

    /// A summary.
    pub fn summary(&self, summary: Summary) -> Option<&Values> {
        self.summaries.get(summary as usize)
    }

    /// One more value of a key's summary.
    pub fn note_of(&self, set: Set, key: &str, value: u64) {
        let Some(values) = self.sets.get(set as usize) else { return };
        let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = values.get(key) {
            values.add(value);
        } else if values.len() < KEYS_MAX {
            let new = Values::default();
            new.add(value);
            values.insert(key.to_owned(), Arc::new(new));
        }
    }

    /// A set's summaries by key.
    pub fn set(&self, set: Set) -> Vec<(String, Arc<Values>)> {
        let Some(values) = self.sets.get(set as usize) else { return Vec::new() };
        let values = values.lock().unwrap_or_else(PoisonError::into_inner);
        values.iter().map(|(key, values)| (key.clone(), values.clone())).collect()
    }

    /// Begins anew, as `srst` asks.
    pub fn reset(&self) {
        for count in &self.counters {
            count.store(0, Relaxed);
        }
        for values in &self.summaries {
            values.reset();
        }
        for set in &self.sets {
            for values in set.lock().unwrap_or_else(PoisonError::into_inner).values() {
                values.reset();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded_and_all_is_reset() {
        let metrics = Metrics::default();
        metrics.count(Counter::LookingCount);
        metrics.note(Summary::FsyncTime, 3);
        for key in 0..2 * KEYS_MAX {
            metrics.note_of(Set::ReadPerNamespace, &key.to_string(), 1);
        }
        assert_eq!(metrics.set(Set::ReadPerNamespace).len(), KEYS_MAX);
        assert_eq!(metrics.get(Counter::LookingCount), 1);
        metrics.reset();
        assert_eq!(metrics.get(Counter::LookingCount), 0);
        assert_eq!(metrics.summary(Summary::FsyncTime).unwrap().totals().count, 0);
    }

    #[test]
    fn names_are_there_once() {
        let mut names: Vec<&str> = Counter::ALL.iter().map(|one| one.name()).collect();
        names.extend(Summary::ALL.iter().map(|one| one.name()));
        names.extend(Set::ALL.iter().map(|one| one.name()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(!Summary::SocketClosingTime.has_percentiles());
        assert!(Summary::ReadLatency.has_percentiles());
    }
}
