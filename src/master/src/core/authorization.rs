//! What principals may do to resources (`master/authorization.cpp`).

use std::collections::BTreeSet;
use std::fmt;

use access::Action;
use access::acls::Object;
use mesos::json::{self, Dialect};
use mesos::resources::reserved_role;
use mesos::v1;
use mesos::v1::offer::Operation;
use mesos::v1::offer::operation::{Reserve, Type};

use super::Master;

/// Something that is done to a resource, or to nothing in particular (`ActionObject`).
#[derive(Debug, Clone, PartialEq)]
struct Deed {
    action: Action,
    /// The resource, and what of it is asked about: its role, or a principal.
    on: Option<(v1::Resource, String)>,
}

impl Deed {
    fn whatever(action: Action) -> Self {
        Self { action, on: None }
    }

    fn on(action: Action, resource: &v1::Resource, named: &str) -> Self {
        Self { action, on: Some((resource.clone(), named.to_owned())) }
    }

    fn object(&self) -> Object<'_> {
        self.on.as_ref().map_or(Object::Any, |(_, named)| Object::Named(named))
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Named as in `authorizer.proto`: these differ from the ACLs' lists by their number.
        let name = match self.action {
            Action::ReserveResources => "RESERVE_RESOURCES",
            Action::UnreserveResources => "UNRESERVE_RESOURCES",
            Action::CreateVolumes => "CREATE_VOLUME",
            Action::DestroyVolumes => "DESTROY_VOLUME",
            Action::ResizeVolumes => "RESIZE_VOLUME",
            other => other.name(),
        };
        match &self.on {
            None => write!(f, "perform action {name} on ANY object"),
            Some((resource, named)) => {
                let resource = json::to_value(resource, Dialect::V0);
                let object = serde_json::json!({"value": named, "resource": resource});
                write!(f, "perform action {name} on object {object}")
            }
        }
    }
}

/// For each role that these are, or are to be, reserved for.
fn by_role(action: Action, resources: &[v1::Resource]) -> Vec<Deed> {
    let mut seen = BTreeSet::new();
    let roles = resources.iter().map(|resource| (resource, reserved_role(resource)));
    let new = roles.filter(|(_, role)| seen.insert(*role));
    new.map(|(resource, role)| Deed::on(action, resource, role)).collect()
}

/// Each by who reserved it; where nobody knows who, it takes the right to give up any.
fn unreserve(resources: &[v1::Resource]) -> Vec<Deed> {
    let action = Action::UnreserveResources;
    let reserver = |resource: &v1::Resource| {
        let principal = resource.reservations.last()?.principal.as_deref()?;
        Some(Deed::on(action, resource, principal))
    };
    let mut deeds: Vec<Deed> = resources.iter().filter_map(reserver).collect();
    if deeds.len() < resources.len() {
        deeds.push(Deed::whatever(action));
    }
    deeds
}

/// A reservation; one that replaces another gives that up, layer by layer, down to what both have.
fn reserve(wanted: &Reserve) -> Vec<Deed> {
    let (Some(from), Some(to)) = (wanted.source.first(), wanted.resources.first()) else {
        return by_role(Action::ReserveResources, &wanted.resources);
    };
    let pairs = from.reservations.iter().zip(&to.reservations);
    let common = pairs.take_while(|(one, other)| one == other).count();
    let (mut current, mut deeds) = (wanted.source.clone(), Vec::new());
    for _ in common..from.reservations.len() {
        deeds.extend(unreserve(&current));
        for resource in &mut current {
            resource.reservations.pop();
        }
    }
    for layer in to.reservations.iter().skip(common) {
        for resource in &mut current {
            resource.reservations.push(layer.clone());
        }
        deeds.extend(by_role(Action::ReserveResources, &current));
    }
    deeds
}

/// By who made the volumes.
fn destroy(volumes: &[v1::Resource]) -> Vec<Deed> {
    let action = Action::DestroyVolumes;
    let creator = |volume: &v1::Resource| {
        let persistence = volume.disk.as_ref()?.persistence.as_ref()?;
        Some(Deed::on(action, volume, persistence.principal()))
    };
    or_whatever(action, volumes.iter().filter_map(creator).collect())
}

/// These, or if there are none, anything.
fn or_whatever(action: Action, deeds: Vec<Deed>) -> Vec<Deed> {
    if deeds.is_empty() { vec![Deed::whatever(action)] } else { deeds }
}

/// What an operation, whose resources are in the newest form, does.
fn deeds(operation: &Operation) -> Vec<Deed> {
    let resize = |volume: &v1::Resource| {
        vec![Deed::on(Action::ResizeVolumes, volume, reserved_role(volume))]
    };
    let deeds = match operation.r#type() {
        Type::Reserve => operation.reserve.as_ref().map(reserve),
        Type::Unreserve => operation.unreserve.as_ref().map(|own| unreserve(&own.resources)),
        Type::Create => operation.create.as_ref().map(|own| {
            let action = Action::CreateVolumes;
            or_whatever(action, by_role(action, &own.volumes))
        }),
        Type::Destroy => operation.destroy.as_ref().map(|own| destroy(&own.volumes)),
        Type::GrowVolume => operation.grow_volume.as_ref().map(|own| resize(&own.volume)),
        Type::ShrinkVolume => operation.shrink_volume.as_ref().map(|own| resize(&own.volume)),
        _ => None,
    };
    deeds.unwrap_or_default()
}

impl Master {
    /// What of an operation a principal, or somebody unknown, may not do.
    fn forbidden(&self, principal: Option<&str>, operation: &Operation) -> Option<Deed> {
        let may = |deed: &Deed| self.allows(principal, deed.action, deed.object());
        deeds(operation).into_iter().find(|deed| !may(deed))
    }

    /// Whether a principal, or somebody unknown, may carry out an operation.
    pub(super) fn may_operate(&self, principal: Option<&str>, operation: &Operation) -> bool {
        self.forbidden(principal, operation).is_none()
    }

    /// Whether a framework may carry out an operation.
    pub(super) fn authorize_operation(
        &self,
        framework: &v1::FrameworkInfo,
        operation: &Operation,
    ) -> Result<(), String> {
        match self.forbidden(framework.principal.as_deref(), operation) {
            None => Ok(()),
            Some(deed) => {
                Err(format!("Principal '{}' no authorized to {deed}", framework.principal()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(layers: &[(&str, Option<&str>)]) -> v1::Resource {
        let layer = |(role, principal): &(&str, Option<&str>)| v1::resource::ReservationInfo {
            role: Some((*role).to_owned()),
            principal: principal.map(str::to_owned),
            ..Default::default()
        };
        v1::Resource {
            name: "cpus".to_owned(),
            reservations: layers.iter().map(layer).collect(),
            ..Default::default()
        }
    }

    /// Actions, each with what it is asked about.
    fn asked(deeds: &[Deed]) -> Vec<(Action, Object<'_>)> {
        deeds.iter().map(|deed| (deed.action, deed.object())).collect()
    }

    #[test]
    fn each_layer_that_is_given_up_or_made_is_asked_about() {
        use Action::{ReserveResources as Make, UnreserveResources as GiveUp};
        use Object::{Any, Named};
        let (p, q) = (Some("p"), Some("q"));
        let (ab, abc) = ([("a", p), ("a/b", q)], [("a", p), ("a/b", q), ("a/b/c", p)]);
        let check = |source: &[(&str, Option<&str>)], target: &[_], expected: &[_]| {
            let (source, resources) = (vec![reserved(source)], vec![reserved(target)]);
            assert_eq!(asked(&reserve(&Reserve { source, resources })), expected);
        };
        let from_below = [(GiveUp, Named("q")), (GiveUp, Named("p")), (Make, Named("c"))];
        check(&ab, &[("c", p)], &from_below);
        check(&ab, &abc, &[(Make, Named("a/b/c"))]);
        check(&abc, &ab, &[(GiveUp, Named("p"))]);
        check(&ab, &ab, &[]);
        check(&[("a", None)], &[("b", p)], &[(GiveUp, Any), (Make, Named("b"))]);
    }

    #[test]
    fn an_operation_on_nothing_takes_the_right_to_all() {
        let create = Operation {
            r#type: Some(Type::Create as i32),
            create: Some(v1::offer::operation::Create::default()),
            ..Default::default()
        };
        let found = deeds(&create);
        assert_eq!(asked(&found), [(Action::CreateVolumes, Object::Any)]);
        assert_eq!(found[0].to_string(), "perform action CREATE_VOLUME on ANY object");
    }

    #[test]
    fn what_is_forbidden_is_told_in_the_originals_words() {
        let deed = &by_role(Action::ReserveResources, &[reserved(&[("a", Some("p"))])])[0];
        assert_eq!(
            deed.to_string(),
            r#"perform action RESERVE_RESOURCES on object {"value":"a","resource":{"name":"cpus","type":"SCALAR","reservations":[{"role":"a","principal":"p"}]}}"#
        );
    }
}
