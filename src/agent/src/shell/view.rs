//! What the agent shows of itself: field names, order and kinds of `slave/http.cpp`.

use std::collections::BTreeMap;

use access::guard::Caller;
use mesos::json::{self, Dialect};
use mesos::model;
use mesos::resources::{Model, Resources};
use mesos::v1;
use serde_json::{Map, Value, json};
use web::files::Attached;

use crate::core::{Agent, CAPABILITIES, Executor, Framework};

fn resources(resources: &Resources) -> Value {
    json!(Model::of(resources))
}

/// As those show them who know nothing of refined reservations, and those who do.
fn full(resources: &Resources) -> Value {
    let all = resources.to_protos_for_endpoints();
    all.iter().map(|resource| json::to_value(resource, Dialect::V0)).collect()
}

fn executor(agent: &Agent, of: &v1::FrameworkInfo, executor: &Executor, caller: &Caller) -> Value {
    let info = &executor.info;
    let is_seen = |task: &&v1::Task| caller.sees_task(of, task);
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(info.executor_id.value));
    put("name", json!(info.name()));
    put("source", json!(info.source()));
    put("container", json!(executor.run.container));
    put("directory", json!(executor.run.sandbox(&agent.settings.work_dir)));
    put("resources", resources(&executor.resources()));
    if let Some(first) = info.resources.first() {
        put("role", json!(model::role(std::slice::from_ref(first)).unwrap_or("*")));
    }
    if let Some(labels) = &info.labels {
        put("labels", json!(model::labels(labels)));
    }
    if info.r#type.is_some() {
        put("type", json!(info.r#type().as_str_name()));
    }
    let tasks = executor.tasks.values().filter(is_seen);
    put("tasks", tasks.map(|task| json!(model::Task(task))).collect());
    let queued = executor.queued.values().filter(|task| caller.sees_queued(of, task));
    put("queued_tasks", queued.map(|task| json!(model::QueuedTask(task))).collect());
    let completed = executor.completed.iter().filter(is_seen);
    put("completed_tasks", completed.map(|task| json!(model::Task(task))).collect());
    Value::Object(object)
}

fn framework(agent: &Agent, id: &str, framework: &Framework, caller: &Caller) -> Value {
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
    let is_seen = |own: &&Executor| caller.sees_executor(&framework.info, &own.info);
    let shown = |own: &Executor| executor(agent, &framework.info, own, caller);
    put("executors", framework.executors.values().filter(is_seen).map(shown).collect());
    put("completed_executors", framework.completed.iter().filter(is_seen).map(shown).collect());
    Value::Object(object)
}

/// `/state`, as a caller sees it.
pub fn state(
    agent: &Agent,
    start_time: f64,
    flags: &BTreeMap<&'static str, String>,
    caller: &Caller,
) -> Value {
    let total = agent.total.clone();
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
                .filter(|(role, _)| caller.sees_role(role))
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
    if let Some(domain) = &agent.info.domain {
        put("domain", json::to_value(domain, Dialect::V0));
    }
    if let Some(drain) = &agent.draining {
        put("drain_config", json::to_value(&drain.config, Dialect::V0));
        put("estimated_drain_start_time_seconds", json!(drain.began as i64));
    }
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
    if caller.sees_flags() {
        for name in ["log_dir", "external_log_file"] {
            if let Some(path) = flags.get(name) {
                put(name, json!(path));
            }
        }
        put("flags", json!(flags));
    }
    let shown = |(id, known): (&String, &Framework)| {
        caller.sees_framework(&known.info).then(|| framework(agent, id, known, caller))
    };
    put("frameworks", agent.frameworks.iter().filter_map(shown).collect());
    let completed = agent.completed_frameworks.iter().map(|(id, known)| (id, known));
    put("completed_frameworks", completed.filter_map(shown).collect());
    Value::Object(object)
}

/// The virtual paths of all sandboxes; those of users that `sees` doesn't take are refused.
pub fn attached(agent: &Agent, sees: &dyn Fn(&str) -> bool) -> Attached {
    let mut attached = Attached::default();
    let work_dir = &agent.settings.work_dir;
    let frameworks = agent
        .frameworks
        .iter()
        .chain(agent.completed_frameworks.iter().map(|(id, framework)| (id, framework)));
    for (id, framework) in frameworks {
        for executor in framework.completed.iter().chain(framework.executors.values()) {
            let command = executor.info.command.as_ref();
            let user = command.and_then(|command| command.user.as_deref());
            let is_allowed = sees(user.unwrap_or(&framework.info.user));
            let sandbox = executor.run.sandbox(work_dir);
            let latest = sandbox.parent().unwrap_or(&sandbox).join("latest");
            for name in [
                format!("/frameworks/{id}/executors/{}/runs/latest", executor.run.executor),
                latest.to_string_lossy().into_owned(),
                sandbox.to_string_lossy().into_owned(),
            ] {
                attached.attach(name, sandbox.clone(), is_allowed);
            }
        }
    }
    attached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_resources_are_shown_in_both_forms() {
        let reserved = Resources::parse("cpus(a):2;mem:3", "*").unwrap();
        assert_eq!(
            full(&reserved),
            json!([
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 2.0}, "role": "a", "reservations": [{"type": "STATIC", "role": "a"}]},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 3.0}, "role": "*"},
            ])
        );
    }
}
