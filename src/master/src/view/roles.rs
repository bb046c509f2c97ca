//! `/roles` and `GET_ROLES`: what each role holds, found in one pass over all there is.

use std::collections::{BTreeMap, BTreeSet};

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::master::response;
use serde_json::{Map, Value, json};

use super::seen::Sight;
use crate::core::model::Framework;
use crate::core::scene::Scene;

/// A role that is known: of frameworks, with a quota or a weight, reserved for, or above such a role. What it holds is what
/// those below hold as well.
#[derive(Default)]
struct Role<'a> {
    /// Those that are in it, and in none below.
    frameworks: Vec<&'a Framework>,
    /// In tasks and executors.
    allocated: Resources,
    /// In offers.
    offered: Resources,
    /// Of all agents.
    reserved: Resources,
}

impl Role<'_> {
    /// In tasks, executors and offers.
    fn held(&self) -> Resources {
        let mut held = self.allocated.clone();
        held.add(&self.offered);
        held
    }
}

/// Roles that may be seen, in order.
fn known(Sight { scene, seen }: Sight<'_>) -> BTreeMap<String, Role<'_>> {
    let mut known: BTreeMap<String, Role<'_>> = BTreeMap::new();
    for config in &scene.quotas {
        known.entry(config.role.clone()).or_default();
    }
    for weight in &scene.weights {
        known.entry(weight.role().to_owned()).or_default();
    }
    for agent in scene.agents.values() {
        for (role, reserved) in agent.total.reservations() {
            known.entry(role).or_default().reserved.add(&reserved);
        }
    }
    for framework in scene.frameworks.values() {
        let mut used = framework.used_by_role();
        for name in framework.roles() {
            let used = used.remove(&name).unwrap_or_default().unallocate();
            let role = known.entry(name).or_default();
            role.frameworks.push(framework);
            role.allocated.add(&used);
        }
        for offer in framework.offers.keys().filter_map(|id| scene.offers.get(id)) {
            if let Some(role) = known.get_mut(&offer.role) {
                role.offered.add(&offer.resources.unallocate());
            }
        }
    }
    sum_up(&mut known);
    // Where roles are listed by the operator, these are the ones that there are, and those above.
    if let Some(roles) = &scene.roles {
        let listed: BTreeSet<&str> = roles.iter().flat_map(|role| with_ancestors(role)).collect();
        known.retain(|role, _| listed.contains(role.as_str()));
        for role in listed {
            known.entry(role.to_owned()).or_default();
        }
    }
    known.retain(|role, _| seen.role(role));
    known
}

/// A role, and those above it.
fn with_ancestors(role: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(role), |role| Some(role.rsplit_once('/')?.0))
}

/// Adds to each role what those below it hold, and those above that nobody named.
fn sum_up(known: &mut BTreeMap<String, Role<'_>>) {
    let own = |role: &Role<'_>| [&role.allocated, &role.offered, &role.reserved].map(Clone::clone);
    let below: Vec<(String, [Resources; 3])> = known
        .iter()
        .filter(|(name, _)| name.contains('/'))
        .map(|(name, role)| (name.clone(), own(role)))
        .collect();
    for (name, [allocated, offered, reserved]) in &below {
        for above in with_ancestors(name).skip(1) {
            let above = known.entry(above.to_owned()).or_default();
            above.allocated.add(allocated);
            above.offered.add(offered);
            above.reserved.add(reserved);
        }
    }
}

/// A role's weight: 1 unless an operator gave it another.
fn weight(scene: &Scene, role: &str) -> f64 {
    let found = scene.weights.iter().find(|weight| weight.role() == role);
    found.map_or(1.0, |weight| weight.weight)
}

/// Quantities by name: what ranges hold is counted, nothing is left out of it but zeros.
fn quantities(resources: &Resources) -> Value {
    let mut object = Map::new();
    for (name, value) in resources.scalars() {
        object.insert(name, json!(value.to_f64()));
    }
    let ports: u64 = resources
        .to_protos()
        .iter()
        .filter(|resource| resource.name == "ports")
        .flat_map(|resource| resource.ranges.iter().flat_map(|ranges| &ranges.range))
        .map(|range| range.end.saturating_sub(range.begin).saturating_add(1))
        .sum();
    if ports > 0 {
        object.insert("ports".to_owned(), json!(ports as f64));
    }
    object.retain(|_, value| value.as_f64() != Some(0.0));
    object.sort_keys();
    Value::Object(object)
}

/// `/roles`.
pub fn shown(sight: Sight<'_>) -> Value {
    let shown = |(name, role): (String, Role<'_>)| {
        let quota = sight.scene.quotas.iter().find(|quota| quota.role == name);
        let amounts = |map: Option<&BTreeMap<String, v1::value::Scalar>>| -> Value {
            let each = map.into_iter().flatten();
            Value::Object(each.map(|(name, own)| (name.clone(), json!(own.value))).collect())
        };
        let mut consumed = role.allocated.unreserved();
        consumed.add(&role.reserved);
        json!({
            "name": name,
            "weight": weight(sight.scene, &name),
            "quota": {
                "role": name,
                "guarantee": amounts(quota.map(|quota| &quota.guarantees)),
                "limit": amounts(quota.map(|quota| &quota.limits)),
                "consumed": quantities(&consumed),
            },
            "resources": quantities(&role.held()),
            "allocated": quantities(&role.allocated),
            "offered": quantities(&role.offered),
            "reserved": quantities(&role.reserved),
            "frameworks": role.frameworks.iter().map(|known| &known.id).collect::<Vec<_>>(),
        })
    };
    let roles: Vec<Value> = known(sight).into_iter().map(shown).collect();
    json!({"roles": roles})
}

/// `GET_ROLES`.
pub fn messages(sight: Sight<'_>) -> response::GetRoles {
    let message = |(name, role): (String, Role<'_>)| {
        let held = role.held();
        let sums = held.scalars().into_iter().filter(|(_, value)| value.0 > 0);
        v1::Role {
            weight: weight(sight.scene, &name),
            frameworks: role
                .frameworks
                .iter()
                .map(|known| v1::FrameworkId { value: known.id.clone() })
                .collect(),
            resources: sums
                .map(|(name, value)| v1::Resource {
                    name,
                    r#type: v1::value::Type::Scalar as i32,
                    scalar: Some(v1::value::Scalar { value: value.to_f64() }),
                    ..Default::default()
                })
                .collect(),
            name,
        }
    };
    response::GetRoles { roles: known(sight).into_iter().map(message).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Resources {
        Resources::parse(text, "*").expect("resources")
    }

    #[test]
    fn roles_hold_what_those_below_hold_and_those_above_are_known() {
        let mut known: BTreeMap<String, Role<'_>> = BTreeMap::new();
        for (name, allocated, reserved) in
            [("a/b/c", "cpus:1", ""), ("a/b", "cpus:2", "cpus:8"), ("ab", "cpus:4", "")]
        {
            let role =
                Role { allocated: cpus(allocated), reserved: cpus(reserved), ..Role::default() };
            known.insert(name.to_owned(), role);
        }
        sum_up(&mut known);
        let shown: Vec<(&str, Value, Value)> = known
            .iter()
            .map(|(name, role)| {
                (name.as_str(), quantities(&role.allocated), quantities(&role.reserved))
            })
            .collect();
        let cpus = |value: f64| json!({"cpus": value});
        let expected = [
            ("a", cpus(3.0), cpus(8.0)),
            ("a/b", cpus(3.0), cpus(8.0)),
            ("a/b/c", cpus(1.0), json!({})),
            ("ab", cpus(4.0), json!({})),
        ];
        assert_eq!(shown, expected);
    }
}
