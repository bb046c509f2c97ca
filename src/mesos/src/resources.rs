//! Resources: what agents have, offers hold and tasks use (Mesos' `common/resources.cpp`).
//!
//! A [`Resources`] is a set of entries that differ in identity: name, reservations, allocation, disk, provider,
//! revocability. Adding and subtracting works entry by entry. Scalars are kept in thousandths, as the original
//! rounds them, so that `(a + b) - b == a` holds.

mod ranges;
mod text;

use std::collections::BTreeMap;
use std::fmt;

pub use ranges::Ranges;
pub use text::{ParseError, parse_attributes};

use crate::v1;

/// A scalar in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Milli(pub i64);

impl Milli {
    /// From a double, rounded to three decimals.
    pub fn from_f64(value: f64) -> Self {
        Self((value * 1000.0).round() as i64)
    }

    /// As a double.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Quantity {
    Scalar(Milli),
    Ranges(Ranges),
    Set(Vec<String>),
}

impl Quantity {
    fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(value) => value.0 <= 0,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(items) => items.is_empty(),
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a >= b,
            (Self::Ranges(a), Self::Ranges(b)) => a.contains(b),
            (Self::Set(a), Self::Set(b)) => b.iter().all(|item| a.contains(item)),
            _ => false,
        }
    }

    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a.0 = a.0.saturating_add(b.0),
            (Self::Ranges(a), Self::Ranges(b)) => a.add(b),
            (Self::Set(a), Self::Set(b)) => {
                a.extend(b.iter().cloned());
                a.sort();
                a.dedup();
            }
            _ => {}
        }
    }

    fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a.0 = a.0.saturating_sub(b.0),
            (Self::Ranges(a), Self::Ranges(b)) => a.subtract(b),
            (Self::Set(a), Self::Set(b)) => a.retain(|item| !b.contains(item)),
            _ => {}
        }
    }
}

/// One entry: a quantity and the identity that it is kept apart by.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// The resource with its value taken out: what must be equal for two entries to be added.
    identity: v1::Resource,
    quantity: Quantity,
}

/// A set of resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    entries: Vec<Entry>,
}

impl Entry {
    fn from_proto(resource: &v1::Resource) -> Option<Self> {
        use v1::value::Type;
        let mut identity = resource.clone();
        let quantity = match Type::try_from(resource.r#type).ok()? {
            Type::Scalar => Quantity::Scalar(Milli::from_f64(identity.scalar.take()?.value)),
            Type::Ranges => Quantity::Ranges(Ranges::from_proto(&identity.ranges.take()?)),
            Type::Set => {
                let mut items = identity.set.take()?.item;
                items.sort();
                items.dedup();
                Quantity::Set(items)
            }
            Type::Text => return None,
        };
        // Two formats of a reservation mean the same: role and reservation (before 1.4), and a stack of reservations.
        if identity.reservations.is_empty() {
            let role = identity.role.take().unwrap_or_else(|| "*".to_owned());
            if role != "*" {
                let mut reservation = identity.reservation.take().unwrap_or_default();
                let kind = if resource.reservation.is_some() {
                    v1::resource::reservation_info::Type::Dynamic
                } else {
                    v1::resource::reservation_info::Type::Static
                };
                reservation.r#type = Some(kind as i32);
                reservation.role = Some(role);
                identity.reservations.push(reservation);
            }
        }
        identity.role = None;
        identity.reservation = None;
        Some(Self { identity, quantity })
    }

    fn to_proto(&self) -> v1::Resource {
        let mut resource = self.identity.clone();
        match &self.quantity {
            Quantity::Scalar(value) => {
                resource.scalar = Some(v1::value::Scalar { value: value.to_f64() });
            }
            Quantity::Ranges(ranges) => resource.ranges = Some(ranges.to_proto()),
            Quantity::Set(items) => resource.set = Some(v1::value::Set { item: items.clone() }),
        }
        resource
    }

    fn has_identity_of(&self, other: &Self) -> bool {
        // A persistent volume is one thing, not a quantity.
        let is_volume = |entry: &Self| {
            entry.identity.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())
        };
        self.identity == other.identity && !(is_volume(self) && self.quantity != other.quantity)
    }

    fn role(&self) -> &str {
        self.identity
            .reservations
            .last()
            .and_then(|reservation| reservation.role.as_deref())
            .unwrap_or("*")
    }
}

impl Resources {
    /// No resources.
    pub fn new() -> Self {
        Self::default()
    }

    /// From messages; entries without a usable value are left out.
    pub fn from_protos(resources: &[v1::Resource]) -> Self {
        let mut set = Self::new();
        for entry in resources.iter().filter_map(Entry::from_proto) {
            set.add_entry(entry);
        }
        set
    }

    /// Checks messages as the master does before it trusts them.
    ///
    /// # Errors
    /// What is wrong with which resource, in the original's words where it has some.
    pub fn validate(resources: &[v1::Resource]) -> Result<(), String> {
        for resource in resources {
            if resource.name.is_empty() {
                return Err("Empty resource name".to_owned());
            }
            let Some(entry) = Entry::from_proto(resource) else {
                return Err(format!("Invalid or missing value of resource '{}'", resource.name));
            };
            match &entry.quantity {
                Quantity::Scalar(_)
                    if resource
                        .scalar
                        .is_some_and(|scalar| !scalar.value.is_finite() || scalar.value < 0.0) =>
                {
                    return Err(format!("Invalid scalar resource '{}': value < 0", resource.name));
                }
                Quantity::Ranges(_) => {
                    for range in resource.ranges.iter().flat_map(|ranges| &ranges.range) {
                        if range.begin > range.end {
                            return Err(format!(
                                "Invalid ranges resource '{}': begin > end",
                                resource.name
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// From text, `cpus:4;mem(role):1024;ports:[31000-32000]`, or a JSON array of resources.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str, default_role: &str) -> Result<Self, ParseError> {
        text::parse_resources(text, default_role)
    }

    /// As messages, scalars first by name of the original's usual order of appearance (the order of insertion).
    pub fn to_protos(&self) -> Vec<v1::Resource> {
        self.entries.iter().map(Entry::to_proto).collect()
    }

    fn add_entry(&mut self, entry: Entry) {
        if entry.quantity.is_empty() {
            return;
        }
        match self.entries.iter_mut().find(|own| own.has_identity_of(&entry)) {
            Some(own) => own.quantity.add(&entry.quantity),
            None => self.entries.push(entry),
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        for entry in &other.entries {
            self.add_entry(entry.clone());
        }
    }

    /// Takes `other` away; what isn't there is ignored.
    pub fn subtract(&mut self, other: &Self) {
        for entry in &other.entries {
            if let Some(own) = self.entries.iter_mut().find(|own| own.has_identity_of(entry)) {
                own.quantity.subtract(&entry.quantity);
            }
        }
        self.entries.retain(|entry| !entry.quantity.is_empty());
    }

    /// Whether all of `other` is in here, with the same identity.
    pub fn contains(&self, other: &Self) -> bool {
        other.entries.iter().all(|entry| {
            entry.quantity.is_empty()
                || self
                    .entries
                    .iter()
                    .any(|own| own.has_identity_of(entry) && own.quantity.contains(&entry.quantity))
        })
    }

    /// Whether nothing is in here.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn scalar(&self, name: &str) -> Milli {
        Milli(
            self.entries
                .iter()
                .filter(|entry| entry.identity.name == name)
                .map(|entry| if let Quantity::Scalar(value) = entry.quantity { value.0 } else { 0 })
                .sum(),
        )
    }

    /// The sum of a scalar over all entries.
    pub fn get(&self, name: &str) -> f64 {
        self.scalar(name).to_f64()
    }

    /// CPUs.
    pub fn cpus(&self) -> f64 {
        self.get("cpus")
    }

    /// Memory in MB.
    pub fn mem(&self) -> f64 {
        self.get("mem")
    }

    /// Disk in MB.
    pub fn disk(&self) -> f64 {
        self.get("disk")
    }

    /// GPUs.
    pub fn gpus(&self) -> f64 {
        self.get("gpus")
    }

    /// All ports.
    pub fn ports(&self) -> Ranges {
        let mut all = Ranges::default();
        for entry in self.entries.iter().filter(|entry| entry.identity.name == "ports") {
            if let Quantity::Ranges(ranges) = &entry.quantity {
                all.add(ranges);
            }
        }
        all
    }

    /// The sums of all scalars, by name.
    pub fn scalars(&self) -> BTreeMap<String, Milli> {
        let mut sums: BTreeMap<String, Milli> = BTreeMap::new();
        for entry in &self.entries {
            if let Quantity::Scalar(value) = entry.quantity {
                sums.entry(entry.identity.name.clone()).or_default().0 += value.0;
            }
        }
        sums
    }

    fn map(&self, change: impl Fn(&mut v1::Resource)) -> Self {
        let mut set = Self::new();
        for entry in &self.entries {
            let mut entry = entry.clone();
            change(&mut entry.identity);
            set.add_entry(entry);
        }
        set
    }

    /// The same, allocated to a role (`allocation_info`).
    #[must_use]
    pub fn allocate(&self, role: &str) -> Self {
        self.map(|identity| {
            identity.allocation_info =
                Some(v1::resource::AllocationInfo { role: Some(role.to_owned()) });
        })
    }

    /// The same, allocated to nobody.
    #[must_use]
    pub fn unallocate(&self) -> Self {
        self.map(|identity| identity.allocation_info = None)
    }

    fn filter(&self, keep: impl Fn(&Entry) -> bool) -> Self {
        Self { entries: self.entries.iter().filter(|entry| keep(entry)).cloned().collect() }
    }

    /// What is reserved for nobody.
    #[must_use]
    pub fn unreserved(&self) -> Self {
        self.filter(|entry| entry.identity.reservations.is_empty())
    }

    /// What is reserved, by role.
    pub fn reservations(&self) -> BTreeMap<String, Self> {
        let mut by_role: BTreeMap<String, Self> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| !entry.identity.reservations.is_empty()) {
            by_role.entry(entry.role().to_owned()).or_default().add_entry(entry.clone());
        }
        by_role
    }

    /// What a framework of `role` may be offered: what is reserved for it or an ancestor of it, and what is unreserved.
    #[must_use]
    pub fn allocatable_to(&self, role: &str) -> Self {
        self.filter(|entry| {
            let reserved = entry.role();
            reserved == "*"
                || reserved == role
                || role.strip_prefix(reserved).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// What is revocable.
    #[must_use]
    pub fn revocable(&self) -> Self {
        self.filter(|entry| entry.identity.revocable.is_some())
    }
}

impl<'a> std::iter::Sum<&'a Resources> for Resources {
    fn sum<I: Iterator<Item = &'a Resources>>(iterator: I) -> Self {
        let mut sum = Self::new();
        iterator.for_each(|resources| sum.add(resources));
        sum
    }
}

/// `cpus:4; mem:1024; ports:[31000-32000]`, or `{}` for nothing, as the original prints resources in messages.
impl fmt::Display for Resources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return formatter.write_str("{}");
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            formatter.write_str(&entry.identity.name)?;
            if let Some(allocation) =
                entry.identity.allocation_info.as_ref().and_then(|info| info.role.as_deref())
            {
                write!(formatter, "(allocated: {allocation})")?;
            }
            if !entry.identity.reservations.is_empty() {
                write!(formatter, "(reservations: [(STATIC,{})])", entry.role())?;
            }
            match &entry.quantity {
                Quantity::Scalar(value) => write!(formatter, ":{}", value.to_f64())?,
                Quantity::Ranges(ranges) => write!(formatter, ":{ranges}")?,
                Quantity::Set(items) => write!(formatter, ":{{{}}}", items.join(", "))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arbitrary() -> impl Strategy<Value = Resources> {
        let entry = (0usize..3, 0u64..5000, prop::sample::select(vec!["*", "a", "a/b"])).prop_map(
            |(kind, amount, role)| {
                let text = match kind {
                    0 => format!("cpus({role}):{}.{:03}", amount / 1000, amount % 1000),
                    1 => format!("mem({role}):{amount}"),
                    _ => {
                        format!("ports({role}):[{}-{}]", 1000 + amount, 1000 + amount + amount % 7)
                    }
                };
                Resources::parse(&text, "*").unwrap()
            },
        );
        prop::collection::vec(entry, 0..6).prop_map(|parts| parts.iter().sum())
    }

    proptest! {
        #[test]
        fn adding_then_subtracting_scalars_gives_back(a in arbitrary(), b in arbitrary()) {
            let mut sum = a.clone();
            sum.add(&b);
            prop_assert!(sum.contains(&a) && sum.contains(&b));
            sum.subtract(&b);
            for (name, value) in a.scalars() {
                prop_assert_eq!(sum.scalars().get(&name).copied().unwrap_or_default(), value);
            }
        }

        #[test]
        fn messages_round_trip(a in arbitrary()) {
            let back = Resources::from_protos(&a.to_protos());
            prop_assert!(back.contains(&a) && a.contains(&back));
        }

        #[test]
        fn allocating_and_unallocating_changes_nothing(a in arbitrary()) {
            let back = a.allocate("r").unallocate();
            prop_assert!(back.contains(&a) && a.contains(&back));
        }
    }

    #[test]
    fn what_is_reserved_goes_to_its_role_and_below() {
        let all = Resources::parse("cpus:1;cpus(a):2;cpus(b):4", "*").unwrap();
        assert_eq!(all.allocatable_to("a/x").cpus(), 3.0);
        assert_eq!(all.allocatable_to("ab").cpus(), 1.0);
        assert_eq!(all.unreserved().cpus(), 1.0);
        assert_eq!(all.reservations()["b"].cpus(), 4.0);
    }

    #[test]
    fn many_small_subtractions_leave_no_dust() {
        let mut left = Resources::parse("cpus:1", "*").unwrap();
        let tenth = Resources::parse("cpus:0.1", "*").unwrap();
        for _ in 0..10 {
            assert!(left.contains(&tenth));
            left.subtract(&tenth);
        }
        assert!(left.is_empty());
    }

    #[test]
    fn resources_print_as_the_original_prints_them() {
        assert_eq!(
            Resources::parse("cpus:0.5;mem:64;ports:[1-2,5-6]", "*").unwrap().to_string(),
            "cpus:0.5; mem:64; ports:[1-2, 5-6]"
        );
        assert_eq!(Resources::new().to_string(), "{}");
    }
}
