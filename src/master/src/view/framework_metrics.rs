//! Metrics of each framework, role and quota, under the original's names (`master/metrics.cpp`,
//! `allocator/mesos/metrics.cpp`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mesos::resources::Milli;
use mesos::v1::TaskState;

use super::metrics::Moment;
use crate::core::allocator::{Limits, Quantities};
use crate::core::model::Framework;
use crate::core::scene::Scene;

const CALLS: &[&str] = &[
    "accept",
    "accept_inverse_offers",
    "acknowledge",
    "acknowledge_operation_status",
    "decline",
    "decline_inverse_offers",
    "kill",
    "message",
    "reconcile",
    "reconcile_operations",
    "request",
    "revive",
    "shutdown",
    "subscribe",
    "suppress",
    "teardown",
    "update_framework",
];
const EVENTS: &[&str] = &[
    "error",
    "failure",
    "heartbeat",
    "inverse_offers",
    "message",
    "offers",
    "rescind",
    "rescind_inverse_offer",
    "subscribed",
    "update",
    "update_operation_status",
];
const OFFERS: &[&str] = &["accepted", "declined", "rescinded", "sent"];
const OPERATIONS: &[&str] = &[
    "create",
    "create_disk",
    "destroy",
    "destroy_disk",
    "grow_volume",
    "launch",
    "launch_group",
    "reserve",
    "shrink_volume",
    "unreserve",
];
const ACTIVE: &[TaskState] = &[
    TaskState::TaskKilling,
    TaskState::TaskRunning,
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskUnknown,
    TaskState::TaskUnreachable,
];
const TERMINAL: &[TaskState] = &[
    TaskState::TaskDropped,
    TaskState::TaskError,
    TaskState::TaskFailed,
    TaskState::TaskFinished,
    TaskState::TaskGone,
    TaskState::TaskGoneByOperator,
    TaskState::TaskKilled,
    TaskState::TaskLost,
];

/// Metrics of frameworks, if they are wanted; of those that are over as long as they are remembered. The original counts
/// principals' messages on after their frameworks' end where those spoke HTTP (`Master::removeFramework`).
pub(super) fn frameworks(moment: &Moment, put: &mut impl FnMut(&str, f64)) {
    let mut processed: BTreeMap<&str, u64> = BTreeMap::new();
    let over = moment.scene.completed_frameworks.values().map(|known| (known, known.pid.is_none()));
    let all = moment.scene.frameworks.values().map(|known| (known, true)).chain(over);
    for (known, is_counted) in all {
        if let (Some(principal), true) = (&known.info.principal, is_counted) {
            *processed.entry(principal).or_default() += known.messages;
        }
        if let Some(suppressed) = moment.suppressed.get(&known.id) {
            framework(known, suppressed, put);
        }
    }
    for (principal, processed) in processed {
        let received = processed + moment.unprocessed.get(principal).copied().unwrap_or_default();
        put(&format!("frameworks/{principal}/messages_received"), received as f64);
        put(&format!("frameworks/{principal}/messages_processed"), processed as f64);
    }
}

/// A framework's name as a part of metrics' names (`process::http::encode`).
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!'()*-._\x7f".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn framework(known: &Framework, suppressed: &BTreeSet<String>, put: &mut impl FnMut(&str, f64)) {
    let prefix = format!("master/frameworks/{}/{}", encoded(&known.info.name), known.id);
    let count = |name: &str| known.counters.get(name).copied().unwrap_or_default() as f64;
    for name in ["calls", "events", "operations"] {
        put(&format!("{prefix}/{name}"), count(name));
    }
    for (group, names) in
        [("calls", CALLS), ("events", EVENTS), ("offers", OFFERS), ("operations", OPERATIONS)]
    {
        for name in names {
            let name = format!("{group}/{name}");
            put(&format!("{prefix}/{name}"), count(&name));
        }
    }
    put(&format!("{prefix}/subscribed"), f64::from(u8::from(known.active)));
    for role in known.roles() {
        let is_suppressed = f64::from(u8::from(suppressed.contains(&role)));
        put(&format!("{prefix}/roles/{role}/suppressed"), is_suppressed);
    }
    let lower = |state: TaskState| state.as_str_name().to_ascii_lowercase();
    for state in ACTIVE {
        let tasks = known.tasks.values().chain(known.unreachable.values());
        let active = tasks.filter(|task| task.state() == *state).count();
        put(&format!("{prefix}/tasks/active/{}", lower(*state)), active as f64);
    }
    for state in TERMINAL {
        let name = lower(*state);
        put(&format!("{prefix}/tasks/terminal/{name}"), count(&format!("terminal/{name}")));
    }
}

/// Metrics of roles and quotas.
pub(super) fn roles(moment: &Moment, put: &mut impl FnMut(&str, f64)) {
    let scene = &moment.scene;
    let reserved = scene.agents.values().flat_map(|agent| agent.total.reservations().into_keys());
    for role in reserved {
        put(&format!("allocator/mesos/offer_filters/roles/{role}/active"), 0.0);
    }
    let in_use: BTreeSet<String> = scene.frameworks.values().flat_map(Framework::roles).collect();
    for (role, share, filters) in &moment.shares {
        put(&format!("allocator/mesos/offer_filters/roles/{role}/active"), *filters as f64);
        if in_use.contains(role) {
            put(&format!("allocator/mesos/roles/{role}/shares/dominant"), *share);
        }
    }
    let amount = |value: i64| Milli(value).to_f64();
    for config in &scene.quotas {
        let role = &config.role;
        let prefix = format!("allocator/mesos/quota/roles/{role}/resources");
        let guarantees = Quantities::from_map(&config.guarantees);
        let limits = Limits::from_map(&config.limits);
        let given = moment.given.get(role).cloned().unwrap_or_default();
        let mut names: Vec<&str> = Vec::new();
        for (name, value) in guarantees.iter() {
            put(&format!("{prefix}/{name}/guarantee"), amount(value));
            names.push(name);
        }
        for (name, value) in limits.iter() {
            put(&format!("{prefix}/{name}/limit"), amount(value));
            names.push(name);
        }
        for name in names {
            put(&format!("{prefix}/{name}/offered_or_allocated"), amount(given.get(name)));
        }
    }
    let mut whole = Quantities::default();
    for (role, consumed) in consumed(scene) {
        for (name, value) in consumed.iter() {
            put(
                &format!("allocator/mesos/quota/roles/{role}/resources/{name}/consumed"),
                amount(value),
            );
        }
        if !role.contains('/') {
            whole.plus(&consumed);
        }
    }
    for (name, value) in whole.iter() {
        put(&format!("allocator/mesos/quota/roles//resources/{name}/consumed"), amount(value));
    }
}

/// What each role and all below consume of a quota, whether they have one or not.
fn consumed(scene: &Scene) -> BTreeMap<String, Quantities> {
    let mut own: BTreeMap<String, Quantities> = BTreeMap::new();
    let mut add = |role: &str, quantities: &Quantities| {
        let mut role = Some(role);
        while let Some(name) = role {
            own.entry(name.to_owned()).or_default().plus(quantities);
            role = name.rsplit_once('/').map(|(above, _)| above);
        }
    };
    for agent in scene.agents.values() {
        for (role, reserved) in agent.total.reservations() {
            add(&role, &Quantities::of(&reserved));
        }
    }
    for known in scene.frameworks.values() {
        for (role, used) in known.used_by_role() {
            add(&role, &Quantities::of(&used.unreserved().non_revocable()));
        }
    }
    own
}
