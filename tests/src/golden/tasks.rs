//! What the recording `tasks` did: its frameworks and the first tasks that they ran.

use serde_json::{Value, json};

use super::directory;

/// The recording's master.
pub const MASTER: &str = "4f876669-8615-48fe-af3c-25a981c6c8ef";

/// Where those of its tasks go that agents run.
pub const STATES: [(&str, &str); 7] = [
    ("c-ok", "TASK_FINISHED"),
    ("c-fail", "TASK_FAILED"),
    ("c-argv", "TASK_FINISHED"),
    ("c-hold", "TASK_RUNNING"),
    ("c-kill", "TASK_RUNNING"),
    ("g-1", "TASK_RUNNING"),
    ("g-2", "TASK_RUNNING"),
];

/// A framework as the recorded ones describe themselves.
#[must_use]
pub fn info(name: &str, roles: &[&str]) -> Value {
    let capabilities = [
        "MULTI_ROLE",
        "RESERVATION_REFINEMENT",
        "PARTITION_AWARE",
        "TASK_KILLING_STATE",
        "GPU_RESOURCES",
        "SHARED_RESOURCES",
    ];
    let capabilities = capabilities.map(|kind| json!({"type": kind}));
    json!({
        "user": "root", "name": name, "roles": roles, "checkpoint": true, "failover_timeout": 60,
        "principal": "p", "capabilities": capabilities,
    })
}

/// The operations of the recording's first ACCEPT, for an agent of ours.
///
/// # Panics
/// When the recording can't be read.
#[must_use]
pub fn operations(agent: &Value, framework: &str) -> Vec<Value> {
    let path = directory().expect("checked before").join("tasks/scheduler-tasks.timeline.jsonl");
    let text = std::fs::read_to_string(path).expect("the recorded calls");
    let calls = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let accept = calls
        .map(|line| line["call"]["accept"].clone())
        .find(|accept| !accept.is_null())
        .expect("an ACCEPT")["operations"]
        .to_string()
        .replace(&format!("{MASTER}-S0"), agent["value"].as_str().expect("an id"))
        .replace(&format!("{MASTER}-0000"), framework);
    serde_json::from_str(&accept).expect("still JSON")
}
