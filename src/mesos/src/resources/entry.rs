//! One entry of a set of resources: a quantity and the identity that it is kept apart by.

use std::sync::Arc;

use super::Ranges;
use crate::units::format_significant;
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

    /// The sum; what does not fit stays at the limit.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Milli {
    fn sum<I: Iterator<Item = Self>>(iterator: I) -> Self {
        iterator.fold(Self::default(), Self::plus)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Quantity {
    Scalar(Milli),
    Ranges(Ranges),
    Set(Vec<String>),
}

impl Quantity {
    /// How much a message says; nothing where it does not say so in the way of its type.
    pub(super) fn of(resource: &v1::Resource) -> Option<Self> {
        use v1::value::Type;
        Some(match Type::try_from(resource.r#type).ok()? {
            Type::Scalar => Self::Scalar(Milli::from_f64(resource.scalar?.value)),
            Type::Ranges => Self::Ranges(Ranges::from_proto(resource.ranges.as_ref()?)),
            Type::Set => {
                let mut items = resource.set.as_ref()?.item.clone();
                items.sort();
                items.dedup();
                Self::Set(items)
            }
            Type::Text => return None,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(value) => value.0 <= 0,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(items) => items.is_empty(),
        }
    }

    /// How much it is: a range's or a set's number of elements.
    pub(super) fn size(&self) -> Milli {
        match self {
            Self::Scalar(value) => *value,
            Self::Ranges(ranges) => {
                Milli(i64::try_from(ranges.count()).unwrap_or(i64::MAX).saturating_mul(1000))
            }
            Self::Set(items) => Milli(items.len() as i64 * 1000),
        }
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a >= b,
            (Self::Ranges(a), Self::Ranges(b)) => a.contains(b),
            (Self::Set(a), Self::Set(b)) => b.iter().all(|item| a.contains(item)),
            _ => false,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
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

    pub(super) fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a.0 = a.0.saturating_sub(b.0),
            (Self::Ranges(a), Self::Ranges(b)) => a.subtract(b),
            (Self::Set(a), Self::Set(b)) => a.retain(|item| !b.contains(item)),
            _ => {}
        }
    }
}

/// One entry: a quantity and the identity that it is kept apart by.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The resource with its value taken out: what must be equal for two entries to be added. Sets are copied far more
    /// often than identities change.
    pub(super) identity: Arc<v1::Resource>,
    pub(super) quantity: Quantity,
    /// How often it is there: more than once only if it is shared.
    pub(super) copies: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        // Identities are compared last: that takes longest where they are not the same allocation.
        self.copies == other.copies && self.quantity == other.quantity && self.is_same_thing(other)
    }
}

/// Brings a resource to the newest form: its reservations as a stack.
pub(super) fn upgrade(resource: &mut v1::Resource) {
    // Two formats of a reservation mean the same: role and reservation (before 1.4), and a stack of reservations.
    if resource.reservations.is_empty() {
        let role = resource.role.take().unwrap_or_else(|| "*".to_owned());
        if role != "*" {
            let kind = if resource.reservation.is_some() {
                v1::resource::reservation_info::Type::Dynamic
            } else {
                v1::resource::reservation_info::Type::Static
            };
            let mut reservation = resource.reservation.take().unwrap_or_default();
            reservation.r#type = Some(kind as i32);
            reservation.role = Some(role);
            resource.reservations.push(reservation);
        }
    }
    resource.role = None;
    resource.reservation = None;
}

impl Entry {
    pub(super) fn from_proto(resource: &v1::Resource) -> Option<Self> {
        let quantity = Quantity::of(resource)?;
        let mut identity = resource.clone();
        match quantity {
            Quantity::Scalar(_) => identity.scalar = None,
            Quantity::Ranges(_) => identity.ranges = None,
            Quantity::Set(_) => identity.set = None,
        }
        upgrade(&mut identity);
        Some(Self { identity: Arc::new(identity), quantity, copies: 1 })
    }

    /// If a resource in its newest form is a scalar that makes one entry with this one: the sum so far and what is to be
    /// added.
    pub(super) fn same_scalar(&mut self, resource: &v1::Resource) -> Option<(&mut Milli, Milli)> {
        // Of each field it is said here whether it tells resources apart.
        let v1::Resource {
            name,
            r#type,
            scalar,
            ranges,
            set,
            role,
            reservation,
            reservations,
            allocation_info,
            disk,
            revocable,
            shared,
            provider_id,
        } = resource;
        let Quantity::Scalar(sum) = &mut self.quantity else { return None };
        let own = &*self.identity;
        let is_plain = ranges.is_none()
            && set.is_none()
            && role.is_none()
            && reservation.is_none()
            && disk.is_none()
            && shared.is_none();
        let is_same = is_plain
            && own.disk.is_none()
            && own.shared.is_none()
            && own.name == *name
            && own.r#type == *r#type
            && own.allocation_info == *allocation_info
            && own.reservations == *reservations
            && own.revocable == *revocable
            && own.provider_id == *provider_id;
        let value = Milli::from_f64((*scalar)?.value);
        (is_same && value.0 > 0).then_some((sum, value))
    }

    pub(super) fn to_proto(&self) -> v1::Resource {
        let mut resource = v1::Resource::clone(&self.identity);
        match &self.quantity {
            Quantity::Scalar(value) => {
                resource.scalar = Some(v1::value::Scalar { value: value.to_f64() });
            }
            Quantity::Ranges(ranges) => resource.ranges = Some(ranges.to_proto()),
            Quantity::Set(items) => resource.set = Some(v1::value::Set { item: items.clone() }),
        }
        resource
    }

    /// The amount, if it is a scalar.
    pub(super) fn scalar(&self) -> Option<Milli> {
        match self.quantity {
            Quantity::Scalar(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is one thing that can't be cut or merged, rather than a quantity: a persistent volume, a whole disk.
    pub(super) fn is_whole(&self) -> bool {
        use v1::resource::disk_info::source::Type;
        self.identity.disk.as_ref().is_some_and(|disk| {
            disk.persistence.is_some()
                || disk.source.as_ref().is_some_and(|source| {
                    source.r#type == Type::Mount as i32 || source.r#type == Type::Block as i32
                })
        })
    }

    pub(super) fn is_same_thing(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.identity, &other.identity)
            || is_same_identity(&self.identity, &other.identity)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.identity.shared.is_some()
    }

    /// Whether the two make one entry when added.
    pub(super) fn merges_with(&self, other: &Self) -> bool {
        self.is_same_thing(other)
            && if self.is_shared() { self.quantity == other.quantity } else { !self.is_whole() }
    }

    /// Whether the other can be taken from, or found in, this one.
    pub(super) fn can_hold(&self, other: &Self) -> bool {
        self.is_same_thing(other) && (!self.is_whole() || self.quantity == other.quantity)
    }

    /// Whether all of the other is in this one.
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.can_hold(other)
            && if self.is_shared() {
                self.copies >= other.copies
            } else {
                self.quantity.contains(&other.quantity)
            }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.copies == 0 || self.quantity.is_empty()
    }

    /// Adds another that it merges with.
    pub(super) fn add(&mut self, other: &Self) {
        if self.is_shared() {
            self.copies = self.copies.saturating_add(other.copies);
        } else {
            self.quantity.add(&other.quantity);
        }
    }

    /// Takes another away that it can hold.
    pub(super) fn subtract(&mut self, other: &Self) {
        if self.is_shared() {
            self.copies = self.copies.saturating_sub(other.copies);
        } else {
            self.quantity.subtract(&other.quantity);
        }
    }

    /// The role that it is reserved for last; `*` for none.
    pub(super) fn role(&self) -> &str {
        reserved_role(&self.identity)
    }
}

/// Whether two name the same thing (`compareResourceMetadata`). Of a persistent volume its id alone counts: where it is
/// mounted, and who is said to have made it, is how it is used, and each task may use it in another way.
fn is_same_identity(one: &v1::Resource, other: &v1::Resource) -> bool {
    // Of each field it is said here whether it tells resources apart.
    let v1::Resource {
        name,
        r#type,
        scalar,
        ranges,
        set,
        role,
        reservation,
        reservations,
        allocation_info,
        disk,
        revocable,
        shared,
        provider_id,
    } = one;
    *name == other.name
        && *r#type == other.r#type
        && *scalar == other.scalar
        && *ranges == other.ranges
        && *set == other.set
        && *role == other.role
        && *reservation == other.reservation
        && *reservations == other.reservations
        && *allocation_info == other.allocation_info
        && *revocable == other.revocable
        && *shared == other.shared
        && *provider_id == other.provider_id
        && match (disk, &other.disk) {
            (Some(one), Some(other)) => is_same_disk(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
}

fn is_same_disk(one: &v1::resource::DiskInfo, other: &v1::resource::DiskInfo) -> bool {
    let is_same_volume = match (&one.persistence, &other.persistence) {
        (Some(one), Some(other)) => one.id == other.id,
        (one, other) => one.is_none() && other.is_none(),
    };
    one.source == other.source && is_same_volume
}

/// The role that a resource (in the form of [`Resources::to_protos`](super::Resources::to_protos)) is reserved for;
/// `*` for none.
pub fn reserved_role(resource: &v1::Resource) -> &str {
    resource
        .reservations
        .last()
        .and_then(|reservation| reservation.role.as_deref())
        .unwrap_or(crate::roles::DEFAULT)
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scalar(value) => formatter.write_str(&format_significant(value.to_f64())),
            Self::Ranges(ranges) => ranges.fmt(formatter),
            Self::Set(items) => write!(formatter, "{{{}}}", items.join(", ")),
        }
    }
}
