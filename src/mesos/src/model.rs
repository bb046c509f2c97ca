//! Tasks as `/state` shows them, by the master and by an agent (`common/http.cpp`): members in the original's order.
//! What is shown borrows what it shows: it is written as it is, without a JSON value of it first.

use std::borrow::Cow;

use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json::{self, Dialect, Json};
use crate::resources::Model;
use crate::v1;

/// The role that resources were allocated to; the original never mixes roles here.
pub fn role(resources: &[v1::Resource]) -> Option<&str> {
    resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.as_deref())
}

/// A list of what comes of a function, which is called each time that it is written.
#[derive(Debug, Clone, Copy)]
pub struct List<F>(pub F);

impl<F: Fn() -> I, I: IntoIterator<Item: Serialize>> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// An object of the members that come of a function, which is called each time that it is written.
#[derive(Debug, Clone, Copy)]
pub struct Members<F>(pub F);

impl<F: Fn() -> I, I: IntoIterator<Item = (K, V)>, K: Serialize, V: Serialize> Serialize
    for Members<F>
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map((self.0)())
    }
}

/// A message in the old API's form.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a, M>(pub &'a M);

impl<M: Json> Serialize for Message<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = json::to_string(self.0, Dialect::V0);
        RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// Labels, without the message around them.
pub fn labels(labels: &v1::Labels) -> impl Serialize {
    List(|| labels.labels.iter().map(Message))
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a>(pub &'a v1::CommandInfo);

impl Serialize for Command<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let command = self.0;
        let mut object = serializer.serialize_map(None)?;
        if let Some(shell) = command.shell {
            object.serialize_entry("shell", &shell)?;
        }
        if let Some(value) = &command.value {
            object.serialize_entry("value", value)?;
        }
        object.serialize_entry("argv", &command.arguments)?;
        if let Some(environment) = &command.environment {
            object.serialize_entry("environment", &Message(environment))?;
        }
        object.serialize_entry("uris", &List(|| command.uris.iter().map(Uri)))?;
        object.end()
    }
}

struct Uri<'a>(&'a v1::command_info::Uri);

impl Serialize for Uri<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("value", &self.0.value)?;
        object.serialize_entry("executable", &self.0.executable())?;
        object.end()
    }
}

/// One status of a task.
#[derive(Debug, Clone, Copy)]
pub struct Status<'a>(pub &'a v1::TaskStatus);

impl Serialize for Status<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = self.0;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("state", status.state().as_str_name())?;
        object.serialize_entry("timestamp", &status.timestamp.unwrap_or_default())?;
        if let Some(given) = &status.labels {
            object.serialize_entry("labels", &labels(given))?;
        }
        if let Some(container) = &status.container_status {
            // Process ids of executors are not for the old endpoints.
            let shown = if container.executor_pid.is_some() {
                Cow::Owned(v1::ContainerStatus { executor_pid: None, ..container.clone() })
            } else {
                Cow::Borrowed(container)
            };
            object.serialize_entry("container_status", &Message(&*shown))?;
        }
        if let Some(healthy) = status.healthy {
            object.serialize_entry("healthy", &healthy)?;
        }
        object.end()
    }
}

/// A task.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a>(pub &'a v1::Task);

impl Serialize for Task<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let task = self.0;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("id", &task.task_id.value)?;
        object.serialize_entry("name", &task.name)?;
        object.serialize_entry("framework_id", &task.framework_id.value)?;
        let executor = task.executor_id.as_ref().map_or("", |id| id.value.as_str());
        object.serialize_entry("executor_id", executor)?;
        object.serialize_entry("slave_id", &task.agent_id.value)?;
        object.serialize_entry("state", task.state().as_str_name())?;
        object.serialize_entry("resources", &Model::of_protos(&task.resources))?;
        if !task.limits.is_empty() {
            let limits = || task.limits.iter().map(|(name, limit)| (name, limit.value));
            object.serialize_entry("limits", &Members(limits))?;
        }
        object.serialize_entry("role", role(&task.resources).unwrap_or("*"))?;
        object.serialize_entry("statuses", &List(|| task.statuses.iter().map(Status)))?;
        if let Some(user) = &task.user {
            object.serialize_entry("user", user)?;
        }
        if let Some(given) = &task.labels {
            object.serialize_entry("labels", &labels(given))?;
        }
        if let Some(discovery) = &task.discovery {
            object.serialize_entry("discovery", &Message(discovery))?;
        }
        if let Some(container) = &task.container {
            object.serialize_entry("container", &Message(&**container))?;
        }
        if let Some(check) = &task.health_check {
            object.serialize_entry("health_check", &Message(&**check))?;
        }
        object.end()
    }
}

/// A task that waits for its executor.
#[derive(Debug, Clone, Copy)]
pub struct QueuedTask<'a>(pub &'a v1::TaskInfo);

impl Serialize for QueuedTask<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let task = self.0;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("id", &task.task_id.value)?;
        object.serialize_entry("name", &task.name)?;
        object.serialize_entry("slave_id", &task.agent_id.value)?;
        object.serialize_entry("resources", &Model::of_protos(&task.resources))?;
        object.serialize_entry("role", role(&task.resources).unwrap_or("*"))?;
        if let Some(given) = &task.command {
            object.serialize_entry("command", &Command(given))?;
        }
        if let Some(executor) = &task.executor {
            object.serialize_entry("executor_id", &executor.executor_id.value)?;
        }
        if let Some(discovery) = &task.discovery {
            object.serialize_entry("discovery", &Message(discovery))?;
        }
        object.end()
    }
}
