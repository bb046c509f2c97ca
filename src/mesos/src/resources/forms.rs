//! The forms that resources take outside: before and after reservations could be refined, and in `/state`.

use serde_json::{Map, Value, json};

use super::Milli;
use super::entry::{Entry, Quantity};
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

pub(super) fn model(entries: &[Entry]) -> Map<String, Value> {
    let mut sums: Vec<(String, Quantity)> = ["disk", "mem", "gpus", "cpus"]
        .map(|name| (name.to_owned(), Quantity::Scalar(Milli(0))))
        .into();
    for entry in entries {
        let mut name = entry.identity.name.clone();
        if entry.identity.revocable.is_some() {
            name.push_str("_revocable");
        }
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => sum.add(&entry.quantity),
            None => sums.push((name, entry.quantity.clone())),
        }
    }
    sums.into_iter()
        .map(|(name, quantity)| match quantity {
            Quantity::Scalar(value) => (name, json!(value.to_f64())),
            other => (name, json!(other.to_string())),
        })
        .collect()
}
