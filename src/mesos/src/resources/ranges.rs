//! Sets of whole numbers as ranges: ports.

use std::fmt;

use crate::v1;

/// Disjoint, sorted, inclusive ranges that don't touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges {
    ranges: Vec<(u64, u64)>,
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
        Self { ranges: merged }
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

    /// Whether a number is in here.
    pub fn has(&self, number: u64) -> bool {
        self.ranges.iter().any(|(begin, end)| (*begin..=*end).contains(&number))
    }

    /// Whether all of `other` is in here.
    pub fn contains(&self, other: &Self) -> bool {
        other
            .ranges
            .iter()
            .all(|(begin, end)| self.ranges.iter().any(|own| own.0 <= *begin && *end <= own.1))
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        *self = Self::new(self.ranges.iter().chain(&other.ranges).copied());
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        for (begin, end) in &other.ranges {
            let mut left = Vec::with_capacity(self.ranges.len() + 1);
            for own in &self.ranges {
                if own.1 < *begin || *end < own.0 {
                    left.push(*own);
                    continue;
                }
                if own.0 < *begin {
                    left.push((own.0, begin - 1));
                }
                if *end < own.1 {
                    left.push((end + 1, own.1));
                }
            }
            self.ranges = left;
        }
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
