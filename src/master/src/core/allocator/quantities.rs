//! How much there is of each scalar resource, and what a role may and must have of it (`ResourceQuantities`, `Quota`).

use std::borrow::Cow;

use mesos::resources::{Milli, Resources};
use mesos::v1;

/// Amounts by name, in thousandths; none is below 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quantities {
    // Few and short: quicker to go through than a map. Sorted by name.
    amounts: Vec<(Cow<'static, str>, i64)>,
}

/// The usual names are not copied each time.
fn own_name(name: &str) -> Cow<'static, str> {
    match name {
        "cpus" => Cow::Borrowed("cpus"),
        "disk" => Cow::Borrowed("disk"),
        "gpus" => Cow::Borrowed("gpus"),
        "mem" => Cow::Borrowed("mem"),
        other => Cow::Owned(other.to_owned()),
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
        self.amounts.iter().find(|(own, _)| own == name).map_or(0, |(_, value)| *value)
    }

    /// All names and amounts above 0, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.amounts
            .iter()
            .filter(|(_, value)| *value > 0)
            .map(|(name, value)| (name.as_ref(), *value))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.amounts.iter().all(|(_, value)| *value <= 0)
    }

    /// Adds an amount, or takes it away; what would be below 0 is 0.
    pub fn add(&mut self, name: &str, value: i64) {
        match self.amounts.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = own.saturating_add(value).max(0),
            None if value > 0 => {
                let at = self.amounts.partition_point(|(own, _)| own.as_ref() < name);
                self.amounts.insert(at, (own_name(name), value));
            }
            None => {}
        }
    }

    /// Adds all of another.
    pub fn plus(&mut self, other: &Self) {
        for (name, value) in &other.amounts {
            self.add(name, *value);
        }
    }

    /// Takes another away, down to 0.
    pub fn minus(&mut self, other: &Self) {
        for (name, value) in &other.amounts {
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
        other.iter().all(|(name, value)| self.get(name) >= value)
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
