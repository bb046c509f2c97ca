//! Resources: what agents have, offers hold and tasks use (Mesos' `common/resources.cpp`).
//!
//! A [`Resources`] is a set of entries that differ in identity: name, reservations, allocation, disk, provider,
//! revocability. Adding and subtracting works entry by entry. Scalars are kept in thousandths, as the original
//! rounds them, so that `(a + b) - b == a` holds. Persistent volumes and whole disks are kept one by one; of a shared
//! volume, copies are counted.

mod entry;
mod forms;
pub mod operations;
mod print;
mod ranges;
mod text;
mod validate;

use std::collections::BTreeMap;

pub use entry::{Milli, reserved_role};
pub use forms::Model;
pub use operations::{Conversion, conversions};
pub use print::message as describe;
pub use ranges::Ranges;
pub use text::{ParseError, parse_attributes};

use crate::{roles, v1};
use entry::{Entry, Quantity};

/// A set of resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    entries: Vec<Entry>,
}

impl Resources {
    /// No resources.
    pub fn new() -> Self {
        Self::default()
    }

    /// From messages; entries without a usable value are left out.
    pub fn from_protos(resources: &[v1::Resource]) -> Self {
        let mut set = Self::new();
        set.add_protos(resources);
        set
    }

    /// From text, `cpus:4;mem(role):1024;ports:[31000-32000]`, or a JSON array of resources.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str, default_role: &str) -> Result<Self, ParseError> {
        text::parse_resources(text, default_role)
    }

    /// As messages, in order of insertion, reservations as a stack only: for frameworks with RESERVATION_REFINEMENT.
    pub fn to_protos(&self) -> Vec<v1::Resource> {
        self.entries.iter().map(Entry::to_proto).collect()
    }

    /// As messages in the form before Mesos 1.4, `role` and `reservation`: for frameworks without
    /// RESERVATION_REFINEMENT and for checkpoints. What is reserved more than once has no such form and is left out.
    pub fn to_protos_unrefined(&self) -> Vec<v1::Resource> {
        self.entries.iter().filter_map(|entry| forms::unrefined(entry.to_proto())).collect()
    }

    /// As messages in both forms at once, as HTTP endpoints show them (`…_full`, `total_resources`).
    pub fn to_protos_for_endpoints(&self) -> Vec<v1::Resource> {
        self.entries.iter().map(|entry| forms::both(entry.to_proto())).collect()
    }

    fn add_entry(&mut self, entry: Entry) {
        if entry.is_empty() {
            return;
        }
        match self.entries.iter_mut().find(|own| own.merges_with(&entry)) {
            Some(own) => own.add(&entry),
            None => self.entries.push(entry),
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        if self.entries.is_empty() {
            self.entries.clone_from(&other.entries);
            return;
        }
        for entry in &other.entries {
            self.add_entry(entry.clone());
        }
    }

    /// Adds messages, as [`Resources::from_protos`] takes them.
    pub fn add_protos(&mut self, resources: &[v1::Resource]) {
        for resource in resources {
            // Sums of very many tasks are of few kinds: what there is already is not copied to be added.
            let known = self.entries.iter_mut().find_map(|own| own.same_scalar(resource));
            match known {
                Some((sum, value)) => *sum = sum.plus(value),
                None => Entry::from_proto(resource).into_iter().for_each(|own| self.add_entry(own)),
            }
        }
    }

    /// Takes `other` away; what isn't there is ignored.
    pub fn subtract(&mut self, other: &Self) {
        for entry in &other.entries {
            self.subtract_entry(entry);
        }
    }

    fn subtract_entry(&mut self, entry: &Entry) {
        if let Some(index) = self.entries.iter().position(|own| own.can_hold(entry)) {
            self.entries[index].subtract(entry);
            if self.entries[index].is_empty() {
                self.entries.remove(index);
            }
        }
    }

    /// Whether all of `other` is in here, with the same identity.
    pub fn contains(&self, other: &Self) -> bool {
        let is_one_by_one = |entry: &Entry| entry.is_whole() || entry.is_shared();
        if !other.entries.iter().any(is_one_by_one) {
            // Of anything else there is one entry on either side.
            return other
                .entries
                .iter()
                .all(|entry| self.entries.iter().any(|own| own.contains(entry)));
        }
        // Two equal volumes must be found twice: what was found is taken away.
        let mut left = self.clone();
        other.entries.iter().all(|entry| {
            let found = left.entries.iter().any(|own| own.contains(entry));
            left.subtract_entry(entry);
            found || entry.is_empty()
        })
    }

    /// Shares memory with `other` where entries are of the same identity. Sets that share it are compared much quicker.
    pub fn share_with(&mut self, other: &Self) {
        for entry in &mut self.entries {
            if let Some(same) = other.entries.iter().find(|own| own.is_same_thing(entry)) {
                entry.identity = same.identity.clone();
            }
        }
    }

    /// Whether nothing is in here.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn scalar(&self, name: &str) -> Milli {
        let of_name = self.entries.iter().filter(|entry| entry.identity.name == name);
        of_name.filter_map(Entry::scalar).sum()
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
            if let Some(value) = entry.scalar() {
                let sum = sums.entry(entry.identity.name.clone()).or_default();
                *sum = sum.plus(value);
            }
        }
        sums
    }

    fn map(&self, change: impl Fn(&mut v1::Resource)) -> Self {
        let mut set = Self::new();
        for entry in &self.entries {
            let mut entry = entry.clone();
            change(std::sync::Arc::make_mut(&mut entry.identity));
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
        if self.entries.iter().all(|entry| entry.identity.allocation_info.is_none()) {
            return self.clone();
        }
        self.map(|identity| identity.allocation_info = None)
    }

    /// The entries that `keep` takes. It sees their identity, in the form of [`Resources::to_protos`] without values.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&v1::Resource) -> bool) -> Self {
        let kept = self.entries.iter().filter(|entry| keep(&entry.identity));
        Self { entries: kept.cloned().collect() }
    }

    /// The entries of one name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        self.filter(|identity| identity.name == name)
    }

    /// What is reserved for nobody.
    #[must_use]
    pub fn unreserved(&self) -> Self {
        self.filter(|identity| identity.reservations.is_empty())
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
        self.filter(|identity| {
            let reserved = reserved_role(identity);
            reserved == roles::DEFAULT || reserved == role || roles::is_below(role, reserved)
        })
    }

    /// What is revocable.
    #[must_use]
    pub fn revocable(&self) -> Self {
        self.filter(|identity| identity.revocable.is_some())
    }

    /// What is not revocable.
    #[must_use]
    pub fn non_revocable(&self) -> Self {
        self.filter(|identity| identity.revocable.is_none())
    }

    /// What several tasks may use at once.
    #[must_use]
    pub fn shared(&self) -> Self {
        self.filter(|identity| identity.shared.is_some())
    }

    /// What only one task may use at once.
    #[must_use]
    pub fn non_shared(&self) -> Self {
        self.filter(|identity| identity.shared.is_none())
    }

    /// Persistent volumes.
    #[must_use]
    pub fn persistent_volumes(&self) -> Self {
        self.filter(operations::is_persistent_volume)
    }

    /// Tells of each entry that is a scalar: its identity, as [`Resources::filter`] shows it, and how much it is.
    pub fn each_scalar(&self, mut tell: impl FnMut(&v1::Resource, Milli)) {
        for entry in &self.entries {
            if let Some(value) = entry.scalar() {
                tell(&entry.identity, value);
            }
        }
    }

    /// Splits the entries in those that `belongs` takes and the others. It sees identities as [`Resources::filter`].
    pub fn partition(&self, belongs: impl Fn(&v1::Resource) -> bool) -> (Self, Self) {
        let (yes, no) = self.entries.iter().cloned().partition(|entry| belongs(&entry.identity));
        (Self { entries: yes }, Self { entries: no })
    }

    /// How much there is of each name: scalars, and how many elements ranges and sets have (`ResourceQuantities`).
    pub fn quantities(&self) -> BTreeMap<String, Milli> {
        let mut sums: BTreeMap<String, Milli> = BTreeMap::new();
        for entry in &self.entries {
            let sum = sums.entry(entry.identity.name.clone()).or_default();
            *sum = sum.plus(entry.quantity.size());
        }
        sums
    }

    /// Cuts scalars down so that there is no more of each name than `most` says; what it knows nothing of stays whole,
    /// and so does what is no scalar.
    #[must_use]
    pub fn shrunk_to(&self, most: impl Fn(&str) -> Option<Milli>) -> Self {
        let mut left: BTreeMap<&str, Option<Milli>> = BTreeMap::new();
        let mut set = Self::new();
        for entry in &self.entries {
            let mut cut = entry.clone();
            if let Quantity::Scalar(value) = &mut cut.quantity {
                let name = entry.identity.name.as_str();
                if let Some(left) = left.entry(name).or_insert_with(|| most(name)) {
                    value.0 = value.0.min(left.0.max(0));
                    left.0 -= value.0;
                }
            }
            set.add_entry(cut);
        }
        set
    }
}

impl std::iter::Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(iterator: I) -> Self {
        iterator.fold(Self::new(), |mut sum, resources| {
            sum.add(&resources);
            sum
        })
    }
}

impl<'a> std::iter::Sum<&'a Resources> for Resources {
    fn sum<I: Iterator<Item = &'a Resources>>(iterator: I) -> Self {
        let mut sum = Self::new();
        iterator.for_each(|resources| sum.add(resources));
        sum
    }
}

#[cfg(test)]
mod tests;
