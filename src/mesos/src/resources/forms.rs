//! The forms that resources take outside: before and after reservations could be refined, and in `/state`.

use std::borrow::Cow;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::entry::Quantity;
use super::{Milli, Resources};
use crate::{roles, v1};

/// `role` and `reservation` as they stood before Mesos 1.4, for a resource that is reserved at most once.
fn describe_unrefined(resource: &mut v1::Resource) -> bool {
    use v1::resource::reservation_info::Type;
    let Some(reservation) = resource.reservations.first().cloned() else {
        resource.role = Some(roles::DEFAULT.to_owned());
        return true;
    };
    if resource.reservations.len() > 1 {
        return false;
    }
    resource.role.clone_from(&reservation.role);
    if reservation.r#type == Some(Type::Dynamic as i32) {
        resource.reservation =
            Some(v1::resource::ReservationInfo { r#type: None, role: None, ..reservation });
    }
    true
}

pub(super) fn unrefined(mut resource: v1::Resource) -> Option<v1::Resource> {
    if !describe_unrefined(&mut resource) {
        return None;
    }
    resource.reservations.clear();
    Some(resource)
}

pub(super) fn both(mut resource: v1::Resource) -> v1::Resource {
    describe_unrefined(&mut resource);
    resource
}

/// Resources as `/state` shows them: the four usual scalars always, others where there are some, ranges and sets as
/// text; what is revocable apart, as `…_revocable`.
#[derive(Debug, Clone)]
pub struct Model<'a>(Vec<(Cow<'a, str>, Quantity)>);

impl<'a> Model<'a> {
    fn new() -> Self {
        let none = |name| (Cow::Borrowed(name), Quantity::Scalar(Milli(0)));
        // With room for ports and one more.
        let mut sums = Vec::with_capacity(6);
        sums.extend(["disk", "mem", "gpus", "cpus"].map(none));
        Self(sums)
    }

    /// Of a set.
    pub fn of(resources: &'a Resources) -> Self {
        let mut model = Self::new();
        for entry in &resources.entries {
            model.add(&entry.identity, Cow::Borrowed(&entry.quantity));
        }
        model
    }

    /// Of messages; entries without a usable value are left out.
    pub fn of_protos(resources: &'a [v1::Resource]) -> Self {
        // What is shared counts once, as a set knows.
        if resources.iter().any(|resource| resource.shared.is_some()) {
            let set = Resources::from_protos(resources);
            let sums = Model::of(&set).0.into_iter();
            return Self(sums.map(|(name, sum)| (Cow::Owned(name.into_owned()), sum)).collect());
        }
        let mut model = Self::new();
        for resource in resources {
            if let Some(quantity) = Quantity::of(resource).filter(|own| !own.is_empty()) {
                model.add(resource, Cow::Owned(quantity));
            }
        }
        model
    }

    fn add(&mut self, identity: &'a v1::Resource, quantity: Cow<'_, Quantity>) {
        let name = match &identity.revocable {
            Some(_) => Cow::Owned(format!("{}_revocable", identity.name)),
            None => Cow::Borrowed(identity.name.as_str()),
        };
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => sum.add(&quantity),
            None => self.0.push((name, quantity.into_owned())),
        }
    }
}

impl Serialize for Model<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for (name, quantity) in &self.0 {
            match quantity {
                Quantity::Scalar(value) => object.serialize_entry(name, &value.to_f64())?,
                other => object.serialize_entry(name, &format_args!("{other}"))?,
            }
        }
        object.end()
    }
}
