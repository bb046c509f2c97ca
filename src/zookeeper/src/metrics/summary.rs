//! Number, sum, least, most and percentiles of values, without locks (`AvgMinMaxCounter`,
//! `AvgMinMaxPercentileCounter`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Up to here every value has a bucket of its own.
const EXACT: u64 = 16;
/// Above it, each doubling has so many.
const PARTS: usize = 8;
/// From this value on all are in the last bucket.
const VALUE_MAX: u64 = u32::MAX as u64;
const BUCKETS: usize = EXACT as usize + (32 - EXACT.ilog2() as usize) * PARTS;

/// Values summed up.
#[derive(Debug)]
pub struct Values {
    count: AtomicU64,
    sum: AtomicU64,
    least: AtomicU64,
    most: AtomicU64,
    buckets: Box<[AtomicU32]>,
}

/// What [`Values`] came to at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    /// How many there were.
    pub count: u64,
    /// What they add up to.
    pub sum: u64,
    /// The least, 0 of none.
    pub least: u64,
    /// The most, 0 of none.
    pub most: u64,
}

impl Totals {
    /// The mean, 0 of none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }
}

impl Default for Values {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            least: AtomicU64::new(u64::MAX),
            most: AtomicU64::new(0),
            buckets: std::iter::repeat_with(|| AtomicU32::new(0)).take(BUCKETS).collect(),
        }
    }
}

impl Values {
    /// One more. Only one at a time may add: then nothing gets lost, though nothing is locked.
    pub fn add(&self, value: u64) {
        let plus = |number: &AtomicU64, more: u64| {
            number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
        };
        plus(&self.count, 1);
        plus(&self.sum, value);
        if value < self.least.load(Relaxed) {
            self.least.store(value, Relaxed);
        }
        if value > self.most.load(Relaxed) {
            self.most.store(value, Relaxed);
        }
        if let Some(bucket) = self.buckets.get(bucket_of(value)) {
            bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Begins anew.
    pub fn reset(&self) {
        self.count.store(0, Relaxed);
        self.sum.store(0, Relaxed);
        self.least.store(u64::MAX, Relaxed);
        self.most.store(0, Relaxed);
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }

    /// What there is so far.
    pub fn totals(&self) -> Totals {
        let count = self.count.load(Relaxed);
        Totals {
            count,
            sum: self.sum.load(Relaxed),
            least: if count == 0 { 0 } else { self.least.load(Relaxed) },
            most: self.most.load(Relaxed),
        }
    }

    /// The value that a part (of 1) of all are not above: exact up to 16, then at most an eighth too low; 0 of none.
    pub fn percentile(&self, part: f64) -> u64 {
        let counts: Vec<u64> =
            self.buckets.iter().map(|one| u64::from(one.load(Relaxed))).collect();
        let all: u64 = counts.iter().sum();
        let wanted = ((all as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let index = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        index.map_or(0, lower_bound)
    }
}

fn bucket_of(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    if value < EXACT {
        return value as usize;
    }
    let doubling = value.ilog2();
    let part = (value >> (doubling - PARTS.ilog2())) as usize & (PARTS - 1);
    EXACT as usize + (doubling - EXACT.ilog2()) as usize * PARTS + part
}

fn lower_bound(bucket: usize) -> u64 {
    if bucket < EXACT as usize {
        return bucket as u64;
    }
    let above = bucket - EXACT as usize;
    let doubling = (above / PARTS) as u32 + EXACT.ilog2();
    (1 << doubling) + (((above % PARTS) as u64) << (doubling - PARTS.ilog2()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_zero() {
        let values = Values::default();
        assert_eq!(values.totals(), Totals { count: 0, sum: 0, least: 0, most: 0 });
        assert_eq!((values.percentile(0.5), values.totals().mean()), (0, 0.0));
    }

    #[test]
    fn percentiles_are_the_originals() {
        let values = Values::default();
        for value in 1..=10 {
            values.add(value);
        }
        let of = |part| values.percentile(part);
        assert_eq!((of(0.5), of(0.95), of(0.999)), (5, 10, 10));
        values.reset();
        assert_eq!((of(0.5), values.totals().count), (0, 0));
    }

    proptest! {
        #[test]
        fn a_bucket_is_not_far_below_its_values(value in 0u64..=VALUE_MAX) {
            let bucket = bucket_of(value);
            prop_assert!(bucket < BUCKETS);
            let lower = lower_bound(bucket);
            prop_assert!(lower <= value && value - lower <= value / 8, "{value}: {lower}");
            prop_assert_eq!(bucket_of(lower), bucket);
        }
    }
}
