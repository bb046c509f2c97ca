//! What the agent shows of itself: field names, order and kinds of `slave/http.cpp`.

use std::collections::BTreeMap;

use mesos::json::{self, Dialect};
use mesos::resources::Resources;
use mesos::v1;
use serde_json::{Map, Value, json};

use super::files::Attached;
use crate::containerizer::processes;
use crate::core::{Agent, CAPABILITIES, Executor, Framework};

fn resources(resources: &Resources) -> Value {
    let mut object = Map::new();
    for name in ["disk", "mem", "gpus", "cpus"] {
        object.insert(name.to_owned(), json!(resources.get(name)));
    }
    for (name, value) in resources.scalars() {
        object.entry(name).or_insert(json!(value.to_f64()));
    }
    if !resources.ports().is_empty() {
        object.insert("ports".to_owned(), json!(resources.ports().to_string()));
    }
    Value::Object(object)
}

fn full(resources: &Resources) -> Value {
    let shown = |resource: &v1::Resource| {
        let mut value = json::to_value(resource, Dialect::V0);
        if let (Some(object), true) = (value.as_object_mut(), resource.reservations.is_empty()) {
            object.entry("role").or_insert(json!("*"));
        }
        value
    };
    resources.to_protos().iter().map(shown).collect()
}

/// The role that resources were allocated to.
fn role(resources: &[v1::Resource]) -> String {
    let allocated =
        resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
    allocated.unwrap_or_else(|| "*".to_owned())
}

fn task(task: &v1::Task) -> Value {
    let statuses: Vec<Value> = task
        .statuses
        .iter()
        .map(|status| {
            let mut object = Map::new();
            object.insert("state".to_owned(), json!(status.state().as_str_name()));
            object.insert("timestamp".to_owned(), json!(status.timestamp.unwrap_or_default()));
            if let Some(container) = &status.container_status {
                let mut container = container.clone();
                // The original shows it only in `/containers`.
                container.executor_pid = None;
                object
                    .insert("container_status".to_owned(), json::to_value(&container, Dialect::V0));
            }
            if let Some(healthy) = status.healthy {
                object.insert("healthy".to_owned(), json!(healthy));
            }
            Value::Object(object)
        })
        .collect();
    json!({
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.as_ref().map_or("", |id| id.value.as_str()),
        "slave_id": task.agent_id.value,
        "state": task.state().as_str_name(),
        "role": role(&task.resources),
        "resources": resources(&Resources::from_protos(&task.resources)),
        "statuses": statuses,
    })
}

fn executor(agent: &Agent, executor: &Executor) -> Value {
    let queued: Vec<Value> = executor
        .queued
        .values()
        .map(|task| json!({"id": task.task_id.value, "name": task.name, "slave_id": task.agent_id.value, "resources": resources(&Resources::from_protos(&task.resources))}))
        .collect();
    json!({
        "id": executor.info.executor_id.value,
        "name": executor.info.name(),
        "source": executor.info.source(),
        "container": executor.run.container,
        "directory": executor.run.sandbox(&agent.settings.work_dir),
        "resources": resources(&executor.resources()),
        "role": role(&executor.info.resources),
        "tasks": executor.tasks.values().map(task).collect::<Vec<_>>(),
        "queued_tasks": queued,
        "completed_tasks": executor.completed.iter().map(task).collect::<Vec<_>>(),
    })
}

fn framework(agent: &Agent, id: &str, framework: &Framework) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(id));
    put("name", json!(framework.info.name));
    put("user", json!(framework.info.user));
    put("failover_timeout", json!(framework.info.failover_timeout()));
    put("checkpoint", json!(framework.info.checkpoint()));
    put("hostname", json!(framework.info.hostname()));
    if let Some(principal) = &framework.info.principal {
        put("principal", json!(principal));
    }
    if framework.info.roles.is_empty() {
        put("role", json!(framework.info.role()));
    } else {
        put("roles", json!(framework.info.roles));
    }
    put("executors", framework.executors.values().map(|known| executor(agent, known)).collect());
    put(
        "completed_executors",
        framework.completed.iter().map(|known| executor(agent, known)).collect(),
    );
    Value::Object(object)
}

/// `/state`.
pub fn state(agent: &Agent, start_time: f64, flags: &BTreeMap<&'static str, String>) -> Value {
    let total = Resources::from_protos(&agent.info.resources);
    let used: Resources = agent
        .frameworks
        .values()
        .flat_map(|framework| framework.executors.values().map(Executor::resources))
        .collect::<Vec<_>>()
        .iter()
        .sum();
    let by_role = |of: &dyn Fn(&Resources) -> Value| -> Value {
        Value::Object(
            total
                .reservations()
                .iter()
                .map(|(role, reserved)| (role.clone(), of(reserved)))
                .collect(),
        )
    };
    let attributes: Map<String, Value> = agent
        .info
        .attributes
        .iter()
        .map(|attribute| {
            let value = match (&attribute.scalar, &attribute.text, &attribute.ranges) {
                (Some(scalar), ..) => json!(scalar.value),
                (_, Some(text), _) => json!(text.value),
                (_, _, Some(ranges)) => {
                    json!(mesos::resources::Ranges::from_proto(ranges).to_string())
                }
                _ => Value::Null,
            };
            (attribute.name.clone(), value)
        })
        .collect();
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("version", json!(mesos::VERSION));
    put("build_date", json!(crate::BUILD_DATE));
    put("build_time", json!(crate::BUILD_TIME));
    put("build_user", json!("meso"));
    put("start_time", json!(start_time));
    put("id", json!(agent.id().unwrap_or_default()));
    put("pid", json!(format!("slave(1)@{}", agent.settings.endpoint)));
    put("hostname", json!(agent.info.hostname));
    put(
        "capabilities",
        CAPABILITIES.iter().map(|capability| json!(capability.as_str_name())).collect(),
    );
    put("resources", resources(&total));
    put("reserved_resources", by_role(&resources));
    put("unreserved_resources", resources(&total.unreserved()));
    put("reserved_resources_full", by_role(&full));
    put("unreserved_resources_full", full(&total.unreserved()));
    put("reserved_resources_allocated", json!({}));
    put("unreserved_resources_allocated", resources(&used));
    put("resource_providers", json!([]));
    put("attributes", Value::Object(attributes));
    if let Some(hostname) = &agent.master_hostname {
        put("master_hostname", json!(hostname));
    }
    if let Some(directory) = flags.get("log_dir") {
        put("log_dir", json!(directory));
    }
    put("flags", json!(flags));
    put(
        "frameworks",
        agent.frameworks.iter().map(|(id, known)| framework(agent, id, known)).collect(),
    );
    put(
        "completed_frameworks",
        agent.completed_frameworks.iter().map(|(id, known)| framework(agent, id, known)).collect(),
    );
    Value::Object(object)
}

/// `/containers`, without statistics: what is known of each, and its first process.
pub fn containers(agent: &Agent) -> Vec<(Value, Option<i32>)> {
    let mut all = Vec::new();
    for (id, framework) in &agent.frameworks {
        for executor in framework.executors.values() {
            let mut status = json!({"container_id": {"value": executor.run.container}});
            if let Some(pid) = executor.pid {
                status["executor_pid"] = json!(pid);
            }
            let limits = executor.resources();
            let memory = limits.mem() * 1_048_576.0;
            let container = json!({
                "container_id": executor.run.container,
                "executor_id": executor.info.executor_id.value,
                "executor_name": executor.info.name(),
                "framework_id": id,
                "source": executor.info.source(),
                "statistics": {
                    "cpus_soft_limit": limits.cpus(),
                    "mem_limit_bytes": memory as u64,
                    "mem_soft_limit_bytes": memory as u64,
                },
                "status": status,
            });
            all.push((container, executor.pid));
        }
    }
    all
}

/// `/containers` with what the containers use now; reads `/proc`.
pub fn with_statistics(containers: Vec<(Value, Option<i32>)>, now: f64) -> Value {
    let fill = |(mut container, pid): (Value, Option<i32>)| {
        let statistics = &mut container["statistics"];
        statistics["timestamp"] = json!(now);
        if let Some(usage) = pid.and_then(processes::usage) {
            statistics["cpus_user_time_secs"] = json!(usage.user_seconds);
            statistics["cpus_system_time_secs"] = json!(usage.system_seconds);
            statistics["mem_rss_bytes"] = json!(usage.resident_bytes);
        }
        container
    };
    Value::Array(containers.into_iter().map(fill).collect())
}

/// The virtual paths of all sandboxes.
pub fn attached(agent: &Agent) -> Attached {
    let mut attached = Attached::new();
    let work_dir = &agent.settings.work_dir;
    let frameworks = agent
        .frameworks
        .iter()
        .chain(agent.completed_frameworks.iter().map(|(id, framework)| (id, framework)));
    for (id, framework) in frameworks {
        for executor in framework.completed.iter().chain(framework.executors.values()) {
            let sandbox = executor.run.sandbox(work_dir);
            attached.insert(
                format!("/frameworks/{id}/executors/{}/runs/latest", executor.run.executor),
                sandbox.clone(),
            );
            let latest = sandbox.parent().unwrap_or(&sandbox).join("latest");
            attached.insert(latest.to_string_lossy().into_owned(), sandbox.clone());
            attached.insert(sandbox.to_string_lossy().into_owned(), sandbox);
        }
    }
    attached
}
