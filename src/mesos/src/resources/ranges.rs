//! Sets of whole numbers as ranges: ports.

use std::fmt;
use std::sync::Arc;

use crate::v1;

/// Disjoint, sorted, inclusive ranges that don't touch. Copies share them: sets are copied far more often than changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges {
    ranges: Arc<[(u64, u64)]>,
}

impl Ranges {
    /// From pairs of first and last; pairs the wrong way round are ignored.
    pub fn new(pairs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut ranges: Vec<(u64, u64)> =
            pairs.into_iter().filter(|(begin, end)| begin <= end).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (begin, end) in ranges {
            match merged.last_mut() {
                Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        Self { ranges: merged.into() }
    }

    /// From a message.
    pub fn from_proto(ranges: &v1::value::Ranges) -> Self {
        Self::new(ranges.range.iter().map(|range| (range.begin, range.end)))
    }

    /// As a message.
    pub fn to_proto(&self) -> v1::value::Ranges {
        v1::value::Ranges {
            range: self
                .ranges
                .iter()
                .map(|(begin, end)| v1::value::Range { begin: *begin, end: *end })
                .collect(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers are in here.
    pub fn count(&self) -> u64 {
        self.ranges
            .iter()
            .map(|(begin, end)| (end - begin).saturating_add(1))
            .fold(0, u64::saturating_add)
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges.iter().flat_map(|(begin, end)| *begin..=*end)
    }

    /// The range that a number would be in, if any is.
    fn around(&self, number: u64) -> Option<(u64, u64)> {
        let index = self.ranges.partition_point(|(_, end)| *end < number);
        self.ranges.get(index).copied().filter(|(begin, _)| *begin <= number)
    }

    /// Whether a number is in here.
    pub fn has(&self, number: u64) -> bool {
        self.around(number).is_some()
    }

    /// Whether all of `other` is in here.
    pub fn contains(&self, other: &Self) -> bool {
        let holds =
            |(begin, end): &(u64, u64)| self.around(*begin).is_some_and(|own| *end <= own.1);
        other.ranges.iter().all(holds)
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        *self = Self::new(self.ranges.iter().chain(other.ranges.iter()).copied());
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        let mut left = Vec::with_capacity(self.ranges.len() + 1);
        let mut taken = other.ranges.iter().peekable();
        for (mut begin, end) in self.ranges.iter().copied() {
            while taken.next_if(|gone| gone.1 < begin).is_some() {}
            // The last one that reaches in here may reach on into the next range: it is not passed by.
            let mut covered = false;
            while let Some(gone) = taken.peek().filter(|gone| gone.0 <= end) {
                if begin < gone.0 {
                    left.push((begin, gone.0 - 1));
                }
                if gone.1 >= end {
                    covered = true;
                    break;
                }
                begin = gone.1 + 1;
                taken.next();
            }
            if !covered {
                left.push((begin, end));
            }
        }
        self.ranges = left.into();
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.ranges.iter().map(|(begin, end)| format!("{begin}-{end}")).collect();
        write!(formatter, "[{}]", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_behave_as_sets(a in prop::collection::vec((0u64..60, 0u64..6), 0..6), b in prop::collection::vec((0u64..60, 0u64..6), 0..6)) {
            let set = |pairs: &[(u64, u64)]| pairs.iter().flat_map(|(begin, length)| *begin..=begin + length).collect::<BTreeSet<u64>>();
            let ranges = |pairs: &[(u64, u64)]| Ranges::new(pairs.iter().map(|(begin, length)| (*begin, begin + length)));
            let (mut sum, mut rest) = (ranges(&a), ranges(&a));
            sum.add(&ranges(&b));
            rest.subtract(&ranges(&b));
            prop_assert_eq!(sum.iter().collect::<BTreeSet<_>>(), &set(&a) | &set(&b));
            prop_assert_eq!(rest.iter().collect::<BTreeSet<_>>(), &set(&a) - &set(&b));
            prop_assert_eq!(ranges(&a).contains(&ranges(&b)), set(&b).is_subset(&set(&a)));
            prop_assert_eq!(sum.count() as usize, sum.iter().count());
        }
    }
}
