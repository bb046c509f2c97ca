//! Tasks as `/state` shows them, by the master and by an agent (`common/http.cpp`): members in the original's order.

use serde_json::{Map, Value, json};

use crate::json::{self, Dialect};
use crate::resources::Resources;
use crate::v1;

/// The role that resources were allocated to; the original never mixes roles here.
pub fn role(resources: &[v1::Resource]) -> Option<&str> {
    resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.as_deref())
}

/// Labels, without the message around them.
pub fn labels(labels: &v1::Labels) -> Value {
    labels.labels.iter().map(|label| json::to_value(label, Dialect::V0)).collect()
}

/// What a task or an executor takes.
pub fn resources(resources: &[v1::Resource]) -> Value {
    Value::Object(Resources::from_protos(resources).to_model())
}

/// A command.
pub fn command(command: &v1::CommandInfo) -> Value {
    let mut shown = Map::new();
    if let Some(shell) = command.shell {
        shown.insert("shell".to_owned(), json!(shell));
    }
    if let Some(value) = &command.value {
        shown.insert("value".to_owned(), json!(value));
    }
    shown.insert("argv".to_owned(), json!(command.arguments));
    if let Some(environment) = &command.environment {
        shown.insert("environment".to_owned(), json::to_value(environment, Dialect::V0));
    }
    let uri =
        |uri: &v1::command_info::Uri| json!({"value": uri.value, "executable": uri.executable()});
    shown.insert("uris".to_owned(), command.uris.iter().map(uri).collect());
    Value::Object(shown)
}

/// One status of a task.
pub fn status(status: &v1::TaskStatus) -> Value {
    let mut object = Map::new();
    object.insert("state".to_owned(), json!(status.state().as_str_name()));
    object.insert("timestamp".to_owned(), json!(status.timestamp.unwrap_or_default()));
    if let Some(given) = &status.labels {
        object.insert("labels".to_owned(), labels(given));
    }
    if let Some(container) = &status.container_status {
        // Process ids of executors are not for the old endpoints.
        let shown = v1::ContainerStatus { executor_pid: None, ..container.clone() };
        object.insert("container_status".to_owned(), json::to_value(&shown, Dialect::V0));
    }
    if let Some(healthy) = status.healthy {
        object.insert("healthy".to_owned(), json!(healthy));
    }
    Value::Object(object)
}

/// A task.
pub fn task(task: &v1::Task) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(task.task_id.value));
    put("name", json!(task.name));
    put("framework_id", json!(task.framework_id.value));
    put("executor_id", json!(task.executor_id.as_ref().map_or("", |id| id.value.as_str())));
    put("slave_id", json!(task.agent_id.value));
    put("state", json!(task.state().as_str_name()));
    put("resources", resources(&task.resources));
    if !task.limits.is_empty() {
        let limit =
            |(name, limit): (&String, &v1::value::Scalar)| (name.clone(), json!(limit.value));
        put("limits", Value::Object(task.limits.iter().map(limit).collect()));
    }
    put("role", json!(role(&task.resources).unwrap_or("*")));
    put("statuses", task.statuses.iter().map(status).collect());
    if let Some(user) = &task.user {
        put("user", json!(user));
    }
    if let Some(given) = &task.labels {
        put("labels", labels(given));
    }
    if let Some(discovery) = &task.discovery {
        put("discovery", json::to_value(discovery, Dialect::V0));
    }
    if let Some(container) = &task.container {
        put("container", json::to_value(container, Dialect::V0));
    }
    if let Some(check) = &task.health_check {
        put("health_check", json::to_value(check, Dialect::V0));
    }
    Value::Object(object)
}

/// A task that waits for its executor.
pub fn queued_task(task: &v1::TaskInfo) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(task.task_id.value));
    put("name", json!(task.name));
    put("slave_id", json!(task.agent_id.value));
    put("resources", resources(&task.resources));
    put("role", json!(role(&task.resources).unwrap_or("*")));
    if let Some(given) = &task.command {
        put("command", command(given));
    }
    if let Some(executor) = &task.executor {
        put("executor_id", json!(executor.executor_id.value));
    }
    if let Some(discovery) = &task.discovery {
        put("discovery", json::to_value(discovery, Dialect::V0));
    }
    Value::Object(object)
}
