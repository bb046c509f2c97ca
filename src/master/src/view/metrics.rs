//! `/metrics/snapshot`: the original's names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesos::resources::Resources;
use mesos::v1::TaskState;
use prost::Message as _;

use super::framework_metrics;

use crate::core::Master;
use crate::core::allocator::Quantities;
use crate::core::scene::Scene;

/// Metrics by name, sorted.
pub type Snapshot = BTreeMap<String, f64>;

/// What is measured around the state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around {
    /// Seconds since the process began.
    pub uptime: f64,
    /// Inputs that wait for the master.
    pub queued: usize,
    /// Changes of the registry that wait for the one that is being stored.
    pub unstored: usize,
    /// Replicas of the registry's log.
    pub ensemble: usize,
    /// Whether the own replica takes part.
    pub log_recovered: bool,
}

/// What metrics are made of: a scene, and what else the master knows at that moment.
pub struct Moment {
    pub(super) scene: Scene,
    /// Messages of each principal that wait.
    pub(super) unprocessed: BTreeMap<String, u64>,
    /// Roles for which a framework suppressed offers, by framework; none where their metrics are not wanted.
    pub(super) suppressed: HashMap<String, BTreeSet<String>>,
    /// As [`crate::core::allocator::Allocator::shares`].
    pub(super) shares: Vec<(String, f64, usize)>,
    /// What roles with a quota were given of what it limits.
    pub(super) given: BTreeMap<String, Quantities>,
    operators: usize,
    registry_bytes: usize,
    timings: Vec<(String, f64)>,
    counters: BTreeMap<String, u64>,
    rounds: u64,
    /// Of `cpus`, `mem` and `disk`.
    taken: [(&'static str, f64); 3],
}

impl Moment {
    /// Of a master, at little cost: sums are for later.
    pub fn of(master: &Master) -> Self {
        let principals =
            master.frameworks.values().filter_map(|known| known.info.principal.clone());
        let unprocessed = |principal: String| {
            let unprocessed = master.unprocessed_messages(&principal);
            (principal, unprocessed)
        };
        let is_published = master.settings.publish_framework_metrics;
        let completed = master.completed_frameworks.keys().map(str::to_owned);
        let published = master.frameworks.keys().cloned().chain(completed);
        let published = published.filter(|_| is_published);
        let timings = master.timings.iter().flat_map(|(name, series)| {
            series
                .metrics()
                .into_iter()
                .map(move |(suffix, value)| (format!("{name}{suffix}"), value))
        });
        let given =
            |(role, _): (&str, _)| (role.to_owned(), master.allocator.given_unreserved(role));
        Self {
            scene: master.scene(),
            unprocessed: principals.map(unprocessed).collect(),
            suppressed: published
                .map(|id| {
                    let suppressed = master.allocator.suppressed(&id);
                    (id, suppressed)
                })
                .collect(),
            shares: master.allocator.shares(),
            given: master.quotas().into_iter().map(given).collect(),
            operators: master.operators(),
            registry_bytes: master.registry.encoded_len(),
            timings: timings.collect(),
            counters: master.counters.clone(),
            rounds: master.allocator.rounds,
            taken: ["cpus", "mem", "disk"].map(|name| (name, master.allocator.taken(name))),
        }
    }
}

/// All metrics of a master; of one that doesn't lead when there is no state.
pub fn snapshot(moment: Option<&Moment>, around: Around) -> Snapshot {
    let mut all = Snapshot::new();
    let mut put = |name: &str, value: f64| all.insert(name.to_owned(), value);
    put("master/uptime_secs", around.uptime);
    put("master/elected", f64::from(u8::from(moment.is_some())));
    system(&mut put);
    for name in COUNTERS {
        put(name, 0.0);
    }
    for state in OPERATION_STATES {
        put(&format!("master/operations/{state}"), 0.0);
        for operation in OPERATIONS {
            put(&format!("master/operations/{operation}/{state}"), 0.0);
        }
    }
    // There is one queue, of everything that the master takes in.
    for name in [
        "allocator/event_queue_dispatches",
        "allocator/mesos/event_queue_dispatches",
        "master/event_queue_http_requests",
        "master/event_queue_messages",
    ] {
        put(name, 0.0);
    }
    put("master/event_queue_dispatches", around.queued as f64);
    let observers = moment.map_or(0, |moment| moment.operators);
    put("master/operator_event_stream_subscribers", observers as f64);
    put("registrar/queued_operations", around.unstored as f64);
    put("registrar/log/ensemble_size", around.ensemble as f64);
    put("registrar/log/recovered", f64::from(u8::from(around.log_recovered)));
    for name in GAUGES {
        put(name, 0.0);
    }
    let Some(moment) = moment else { return all };
    let scene = &moment.scene;
    put("registrar/registry_size_bytes", moment.registry_bytes as f64);
    for (name, value) in &moment.timings {
        put(name, *value);
    }
    let total = scene.agents.len();
    let connected = scene.agents.values().filter(|agent| agent.connected).count();
    // Who is deactivated gets no tasks, but is there.
    let active =
        scene.agents.values().filter(|agent| agent.connected && !agent.deactivated).count();
    put("master/slaves_active", active as f64);
    put("master/slaves_connected", connected as f64);
    put("master/slaves_inactive", (total - active) as f64);
    put("master/slaves_disconnected", (total - connected) as f64);
    put("master/slaves_unreachable", scene.unreachable_agents as f64);
    let connected = scene.frameworks.values().filter(|framework| framework.is_connected()).count();
    let offered = scene.frameworks.values().filter(|framework| framework.active).count();
    put("master/frameworks_active", offered as f64);
    put("master/frameworks_connected", connected as f64);
    put("master/frameworks_inactive", (scene.frameworks.len() - offered) as f64);
    put("master/frameworks_disconnected", (scene.frameworks.len() - connected) as f64);
    put("master/outstanding_offers", scene.offers.len() as f64);
    put("allocator/mesos/allocation_runs", moment.rounds as f64);
    let states = [
        (TaskState::TaskStaging, "staging"),
        (TaskState::TaskStarting, "starting"),
        (TaskState::TaskRunning, "running"),
        (TaskState::TaskKilling, "killing"),
    ];
    let mut counts = [0_u64; 4];
    for task in scene.frameworks.values().flat_map(|framework| framework.tasks.values()) {
        for ((state, _), count) in states.iter().zip(&mut counts) {
            *count += u64::from(task.state() == *state);
        }
    }
    for ((_, name), count) in states.iter().zip(counts) {
        put(&format!("master/tasks_{name}"), count as f64);
    }
    // Those of frameworks that know no such state are lost.
    let unreachable = scene
        .frameworks
        .values()
        .flat_map(|framework| framework.unreachable.values())
        .filter(|task| task.state() == TaskState::TaskUnreachable);
    put("master/tasks_unreachable", unreachable.count() as f64);
    let whole: Resources = scene.agents.values().map(|agent| &agent.total).sum();
    let used: Resources = scene.frameworks.values().map(|framework| framework.used(None)).sum();
    for (name, taken) in moment.taken {
        put(&format!("allocator/mesos/resources/{name}/offered_or_allocated"), taken);
        put(&format!("allocator/mesos/resources/{name}/total"), whole.get(name));
    }
    for (kind, whole, used) in [
        ("", whole.non_revocable(), used.non_revocable()),
        ("_revocable", whole.revocable(), used.revocable()),
    ] {
        for name in ["cpus", "gpus", "mem", "disk"] {
            let (total, used) = (whole.get(name), used.get(name));
            let percent = if total > 0.0 { used / total } else { 0.0 };
            put(&format!("master/{name}{kind}_total"), total);
            put(&format!("master/{name}{kind}_used"), used);
            put(&format!("master/{name}{kind}_percent"), percent);
        }
    }
    for (name, value) in &moment.counters {
        put(name, *value as f64);
    }
    let kinds = OPERATIONS.iter().map(|operation| format!("{operation}/"));
    for kind in kinds.chain([String::new()]) {
        let in_state =
            |state: &&str| moment.counters.get(&format!("master/operations/{kind}{state}"));
        let total: u64 = OPERATION_STATES.iter().filter_map(in_state).sum();
        put(&format!("master/operations/{kind}total"), total as f64);
    }
    let mut put = |name: &str, value: f64| {
        all.insert(name.to_owned(), value);
    };
    framework_metrics::frameworks(moment, &mut put);
    framework_metrics::roles(moment, &mut put);
    all
}

/// `/system/stats.json`: the host's load and memory, members sorted.
pub fn stats() -> serde_json::Value {
    let mut all = Snapshot::new();
    system(&mut |name: &str, value: f64| all.insert(name.to_owned(), value));
    let get = |name: &str| all.get(name).copied().unwrap_or_default();
    serde_json::json!({
        "avg_load_15min": get("system/load_15min"),
        "avg_load_1min": get("system/load_1min"),
        "avg_load_5min": get("system/load_5min"),
        "cpus_total": get("system/cpus_total") as u64,
        "mem_free_bytes": get("system/mem_free_bytes") as u64,
        "mem_total_bytes": get("system/mem_total_bytes") as u64,
    })
}

fn system(put: &mut impl FnMut(&str, f64) -> Option<f64>) {
    put(
        "system/cpus_total",
        std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64),
    );
    if let Ok(info) = nix::sys::sysinfo::sysinfo() {
        let (one, five, fifteen) = info.load_average();
        put("system/load_1min", one);
        put("system/load_5min", five);
        put("system/load_15min", fifteen);
        put("system/mem_total_bytes", info.ram_total() as f64);
        put("system/mem_free_bytes", info.ram_unused() as f64);
    }
}

/// What is 0 while the master doesn't lead, and has no agents and frameworks.
const GAUGES: &[&str] = &[
    "allocator/mesos/allocation_runs",
    "allocator/mesos/resources/cpus/offered_or_allocated",
    "allocator/mesos/resources/cpus/total",
    "allocator/mesos/resources/disk/offered_or_allocated",
    "allocator/mesos/resources/disk/total",
    "allocator/mesos/resources/mem/offered_or_allocated",
    "allocator/mesos/resources/mem/total",
    "master/cpus_percent",
    "master/cpus_revocable_percent",
    "master/cpus_revocable_total",
    "master/cpus_revocable_used",
    "master/cpus_total",
    "master/cpus_used",
    "master/disk_percent",
    "master/disk_revocable_percent",
    "master/disk_revocable_total",
    "master/disk_revocable_used",
    "master/disk_total",
    "master/disk_used",
    "master/frameworks_active",
    "master/frameworks_connected",
    "master/frameworks_disconnected",
    "master/frameworks_inactive",
    "master/gpus_percent",
    "master/gpus_revocable_percent",
    "master/gpus_revocable_total",
    "master/gpus_revocable_used",
    "master/gpus_total",
    "master/gpus_used",
    "master/mem_percent",
    "master/mem_revocable_percent",
    "master/mem_revocable_total",
    "master/mem_revocable_used",
    "master/mem_total",
    "master/mem_used",
    "master/outstanding_offers",
    "master/slaves_active",
    "master/slaves_connected",
    "master/slaves_disconnected",
    "master/slaves_inactive",
    "master/slaves_unreachable",
    "master/tasks_killing",
    "master/tasks_running",
    "master/tasks_staging",
    "master/tasks_starting",
    "master/tasks_unreachable",
];

/// Counters that are there from the start.
const COUNTERS: &[&str] = &[
    "master/slave_registrations",
    "master/slave_reregistrations",
    "master/slave_removals",
    "master/slave_removals/reason_registered",
    "master/slave_removals/reason_unhealthy",
    "master/slave_removals/reason_unregistered",
    "master/slave_unreachable_completed",
    "master/recovery_slave_removals",
    "master/messages_register_framework",
    "master/messages_register_slave",
    "master/messages_reregister_slave",
    "master/messages_unregister_slave",
    "master/messages_update_slave",
    "master/messages_launch_tasks",
    "master/messages_decline_offers",
    "master/messages_revive_offers",
    "master/messages_suppress_offers",
    "master/messages_kill_task",
    "master/messages_reconcile_tasks",
    "master/messages_resource_request",
    "master/messages_status_update",
    "master/messages_status_update_acknowledgement",
    "master/messages_framework_to_executor",
    "master/messages_executor_to_framework",
    "master/messages_exited_executor",
    "master/dropped_messages",
    "master/valid_status_updates",
    "master/invalid_status_updates",
    "master/valid_status_update_acknowledgements",
    "master/invalid_status_update_acknowledgements",
    "master/tasks_finished",
    "master/tasks_failed",
    "master/tasks_killed",
    "master/tasks_lost",
    "master/tasks_error",
    "master/tasks_dropped",
    "master/tasks_gone",
    "master/tasks_gone_by_operator",
    "master/http_cache_hits",
    "master/invalid_executor_to_framework_messages",
    "master/invalid_framework_to_executor_messages",
    "master/invalid_operation_status_update_acknowledgements",
    "master/invalid_operation_status_updates",
    "master/messages_authenticate",
    "master/messages_deactivate_framework",
    "master/messages_operation_status_update",
    "master/messages_operation_status_update_acknowledgement",
    "master/messages_reconcile_operations",
    "master/messages_reregister_framework",
    "master/messages_unregister_framework",
    "master/slave_shutdowns_canceled",
    "master/slave_shutdowns_completed",
    "master/slave_shutdowns_scheduled",
    "master/slave_unreachable_canceled",
    "master/slave_unreachable_scheduled",
    "master/valid_executor_to_framework_messages",
    "master/valid_framework_to_executor_messages",
    "master/valid_operation_status_update_acknowledgements",
    "master/valid_operation_status_updates",
];

/// What an operation on resources can be, and how it can stand.
const OPERATIONS: &[&str] = &[
    "create",
    "create_disk",
    "destroy",
    "destroy_disk",
    "grow_volume",
    "reserve",
    "shrink_volume",
    "unreserve",
];
const OPERATION_STATES: &[&str] = &[
    "dropped",
    "error",
    "failed",
    "finished",
    "gone_by_operator",
    "pending",
    "recovering",
    "total",
    "unreachable",
];
