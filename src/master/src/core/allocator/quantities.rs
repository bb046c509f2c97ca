//! How much there is of each scalar resource, and what a role may and must have of it (`ResourceQuantities`, `Quota`).

use std::collections::BTreeSet;

use mesos::resources::{Milli, Resources};
use mesos::v1;

/// Amounts by name, in thousandths; none is below 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quantities {
    /// Of the usual names: rounds reckon with these all the time.
    usual: [i64; USUAL.len()],
    /// Of others, sorted by name.
    others: Vec<(String, i64)>,
}

/// The usual names, sorted.
const USUAL: [&str; 4] = ["cpus", "disk", "gpus", "mem"];

fn place_of(name: &str) -> Option<usize> {
    match name {
        "cpus" => Some(0),
        "disk" => Some(1),
        "gpus" => Some(2),
        "mem" => Some(3),
        _ => None,
    }
}

impl Quantities {
    /// The scalars among resources.
    pub fn of(resources: &Resources) -> Self {
        let mut sums = Self::default();
        resources.each_scalar(|identity, value| sums.add(&identity.name, value.0));
        sums
    }

    /// From the form in which quotas are told; what is not above 0 is left out.
    pub fn from_map<'a>(
        map: impl IntoIterator<Item = (&'a String, &'a v1::value::Scalar)>,
    ) -> Self {
        let mut sums = Self::default();
        for (name, scalar) in map {
            sums.add(name, Milli::from_f64(scalar.value).0);
        }
        sums
    }

    /// How much of one name.
    pub fn get(&self, name: &str) -> i64 {
        match place_of(name) {
            Some(at) => self.usual[at],
            None => self.others.iter().find(|(own, _)| own == name).map_or(0, |(_, value)| *value),
        }
    }

    /// All names and amounts above 0, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        let mut all: Vec<(&str, i64)> = self.each().collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// All names and amounts above 0.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, i64)> {
        let others = self.others.iter().map(|(name, value)| (name.as_str(), *value));
        USUAL.into_iter().zip(self.usual).chain(others).filter(|(_, value)| *value > 0)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.each().next().is_none()
    }

    /// Adds an amount, or takes it away; what would be below 0 is 0.
    pub fn add(&mut self, name: &str, value: i64) {
        if let Some(at) = place_of(name) {
            self.usual[at] = self.usual[at].saturating_add(value).max(0);
            return;
        }
        match self.others.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = own.saturating_add(value).max(0),
            None if value > 0 => {
                let at = self.others.partition_point(|(own, _)| own.as_str() < name);
                self.others.insert(at, (name.to_owned(), value));
            }
            None => {}
        }
    }

    /// Adds all of another.
    pub fn plus(&mut self, other: &Self) {
        for (own, value) in self.usual.iter_mut().zip(other.usual) {
            *own = own.saturating_add(value);
        }
        for (name, value) in &other.others {
            self.add(name, *value);
        }
    }

    /// Takes another away, down to 0.
    pub fn minus(&mut self, other: &Self) {
        for (own, value) in self.usual.iter_mut().zip(other.usual) {
            *own = own.saturating_sub(value).max(0);
        }
        for (name, value) in &other.others {
            self.add(name, -value);
        }
    }

    /// What is left without another, down to 0.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.minus(other);
        left
    }

    /// Whether there is as much of everything as in another.
    pub fn contains(&self, other: &Self) -> bool {
        self.usual.iter().zip(&other.usual).all(|(own, value)| own >= value)
            && other.others.iter().all(|(name, value)| self.get(name) >= *value)
    }

    /// The largest part that any of it is of a total, but for names that are excluded.
    pub(super) fn share_of(&self, total: &Self, excluded: &BTreeSet<String>) -> f64 {
        let part = |own: i64, all: i64| if all > 0 { own as f64 / all as f64 } else { 0.0 };
        let counts = |name: &str| excluded.is_empty() || !excluded.contains(name);
        let usual = (0..USUAL.len())
            .filter(|at| counts(USUAL[*at]))
            .map(|at| part(self.usual[at], total.usual[at]));
        let others = self.others.iter().filter(|(name, _)| counts(name));
        let others = others.map(|(name, value)| part(*value, total.get(name)));
        usual.chain(others).fold(0.0, f64::max)
    }
}

impl std::fmt::Display for Quantities {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return formatter.write_str("{}");
        }
        for (index, (name, value)) in self.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(formatter, "{separator}{name}:{}", Milli(value).to_f64())?;
        }
        Ok(())
    }
}

/// The most that a role may have: of names that are not here, as much as there is. Amounts may be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    amounts: Vec<(String, i64)>,
}

impl Limits {
    /// From the form in which quotas are told.
    pub fn from_map<'a>(
        map: impl IntoIterator<Item = (&'a String, &'a v1::value::Scalar)>,
    ) -> Self {
        let amount = |(name, scalar): (&String, &v1::value::Scalar)| {
            (name.clone(), Milli::from_f64(scalar.value).0)
        };
        Self { amounts: map.into_iter().map(amount).collect() }
    }

    /// The limit of one name, if there is one.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.amounts.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    /// All that are limited.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.amounts.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.amounts.is_empty()
    }

    /// Whether quantities stay within the limits.
    pub fn contains(&self, quantities: &Quantities) -> bool {
        self.iter().all(|(name, most)| quantities.get(name) <= most)
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return formatter.write_str("{}");
        }
        for (index, (name, value)) in self.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(formatter, "{separator}{name}:{}", Milli(value).to_f64())?;
        }
        Ok(())
    }
}

/// What a role must be able to have, and the most that it may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quota {
    /// What is kept for it when it does not use it.
    pub guarantees: Quantities,
    /// The most that it gets.
    pub limits: Limits,
}

impl Quota {
    /// From an operator's wish.
    pub fn from_config(config: &v1::quota::QuotaConfig) -> Self {
        Self {
            guarantees: Quantities::from_map(&config.guarantees),
            limits: Limits::from_map(&config.limits),
        }
    }

    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        self.guarantees.is_empty() && self.limits.is_empty()
    }
}
