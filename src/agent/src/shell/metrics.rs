//! `/metrics/snapshot`: names and meanings of `slave/metrics.cpp` and libprocess' `metrics`.

use std::collections::BTreeMap;
use std::fs;

use mesos::resources::Resources;
use web::prometheus::Families;

use crate::core::{Agent, Executor, ExecutorState, Registration};

/// Counters that are shown before anything is counted.
const COUNTERS: &[&str] = &[
    "containerizer/fetcher/cache_size_total_bytes",
    "containerizer/fetcher/cache_size_used_bytes",
    "containerizer/fetcher/task_fetches_failed",
    "containerizer/fetcher/task_fetches_succeeded",
    "containerizer/mesos/container_destroy_errors",
    "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
    "containerizer/mesos/provisioner/remove_container_errors",
    "gc/path_removals_failed",
    "gc/path_removals_succeeded",
    "resource_provider_manager/events/disconnect",
    "resource_provider_manager/events/subscribe",
    "resource_provider_manager/subscribed",
    "slave/container_launch_errors",
    "slave/executors_preempted",
    "slave/executors_terminated",
    "slave/invalid_framework_messages",
    "slave/invalid_status_updates",
    "slave/recovery_errors",
    "slave/tasks_failed",
    "slave/tasks_finished",
    "slave/tasks_gone",
    "slave/tasks_killed",
    "slave/tasks_lost",
    "slave/valid_framework_messages",
    "slave/valid_status_updates",
];

/// The host's load and memory; empty where they can't be read.
pub fn system() -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    for (name, value) in ["1min", "5min", "15min"].iter().zip(load.split_whitespace()) {
        if let Ok(value) = value.parse() {
            all.insert(format!("system/load_{name}"), value);
        }
    }
    if let Ok(info) = nix::sys::sysinfo::sysinfo() {
        all.insert("system/mem_total_bytes".to_owned(), info.ram_total() as f64);
        all.insert("system/mem_free_bytes".to_owned(), info.ram_unused() as f64);
    }
    if let Ok(cpus) = std::thread::available_parallelism() {
        all.insert("system/cpus_total".to_owned(), cpus.get() as f64);
    }
    all
}

/// `/system/stats.json`.
pub fn stats() -> serde_json::Value {
    let all = system();
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

/// `/metrics/snapshot`.
pub fn metrics(agent: &Agent, uptime_seconds: f64) -> BTreeMap<String, f64> {
    use mesos::v1::TaskState as S;
    let mut all = BTreeMap::new();
    let mut put = |name: String, value: f64| all.insert(name, value);
    put("slave/uptime_secs".into(), uptime_seconds);
    put(
        "slave/registered".into(),
        f64::from(u8::from(agent.registration == Registration::Running)),
    );
    put("slave/recovery_time_secs".into(), agent.recovery_seconds);
    put(
        "slave/executor_directory_max_allowed_age_secs".into(),
        agent.garbage.max_age().as_secs_f64(),
    );
    put("slave/frameworks_active".into(), agent.frameworks.len() as f64);
    let executors = || agent.frameworks.values().flat_map(|framework| framework.executors.values());
    let in_state =
        |is: fn(&Executor) -> bool| executors().filter(|executor| is(executor)).count() as f64;
    put(
        "slave/executors_registering".into(),
        in_state(|executor| matches!(executor.state, ExecutorState::Registering(_))),
    );
    put(
        "slave/executors_running".into(),
        in_state(|executor| {
            matches!(executor.state, ExecutorState::Running | ExecutorState::Reregistering(_))
        }),
    );
    put(
        "slave/executors_terminating".into(),
        in_state(|executor| matches!(executor.state, ExecutorState::Terminating(_))),
    );
    for (state, name) in [
        (S::TaskStaging, "staging"),
        (S::TaskStarting, "starting"),
        (S::TaskRunning, "running"),
        (S::TaskKilling, "killing"),
    ] {
        put(
            format!("slave/tasks_{name}"),
            executors()
                .flat_map(|executor| executor.tasks.values())
                .filter(|task| task.state() == state)
                .count() as f64,
        );
    }
    let total = agent.total.clone();
    let used: Resources = executors().map(Executor::resources).collect::<Vec<_>>().iter().sum();
    let (used, revocable) = (used.non_revocable(), used.revocable());
    for name in ["cpus", "gpus", "mem", "disk"] {
        put(format!("slave/{name}_total"), total.get(name));
        put(format!("slave/{name}_used"), used.get(name));
        put(
            format!("slave/{name}_percent"),
            if total.get(name) > 0.0 { used.get(name) / total.get(name) } else { 0.0 },
        );
    }
    let more = Resources::from_protos(&agent.settings.oversubscribed);
    for name in ["cpus", "gpus", "mem", "disk"] {
        let (total, used) = (more.get(name), revocable.get(name));
        put(format!("slave/{name}_revocable_total"), total);
        put(format!("slave/{name}_revocable_used"), used);
        put(
            format!("slave/{name}_revocable_percent"),
            if total > 0.0 { used / total } else { 0.0 },
        );
    }
    for name in COUNTERS {
        put((*name).to_owned(), 0.0);
    }
    put("gc/path_removals_pending".into(), agent.garbage.pending() as f64);
    for (name, value) in &agent.counters {
        put(name.clone(), *value as f64);
    }
    all
}

/// `/metrics/prometheus`, which the original has not: the same, under names that Prometheus can take.
pub fn prometheus(metrics: &BTreeMap<String, f64>) -> Families {
    let mut families = Families::default();
    for (name, value) in metrics {
        families.add(&format!("mesos_{name}"), &[], *value);
    }
    families
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_host_has_load_and_memory() {
        let all = super::system();
        for name in ["system/load_1min", "system/mem_total_bytes", "system/cpus_total"] {
            assert!(all.contains_key(name), "{name} {all:?}");
        }
    }
}
