//! What is shown of containers: `/containers`, `/monitor/statistics` and GET_CONTAINERS (`slave/http.cpp`).

use access::Action;
use access::guard::Caller;
use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::agent::call;
use mesos::v1::agent::response::get_containers;
use serde_json::{Map, Value, json};

use crate::containerizer::cgroups::Cgroups;
use crate::containerizer::processes;
use crate::core::container_id::ContainerId;
use crate::core::{Agent, DiskUse};

/// One container, as the agent knows it.
#[derive(Debug, Clone)]
pub struct Shown {
    id: v1::ContainerId,
    pid: Option<i32>,
    /// Whose it is; `None` for a container that an operator or an executor asked for.
    owner: Option<Owner>,
}

#[derive(Debug, Clone)]
struct Owner {
    framework: String,
    executor: String,
    name: String,
    source: String,
    resources: Resources,
    disk: Option<DiskUse>,
}

/// The containers of executors, as far as a caller sees them.
pub fn of_executors(agent: &Agent, caller: &Caller) -> Vec<Shown> {
    let of_framework = |(id, framework): (&String, &crate::core::Framework)| {
        let id = id.clone();
        let seen = framework
            .executors
            .values()
            .filter(|own| caller.sees_container(&framework.info, &own.info));
        let shown = seen.map(move |executor| Shown {
            id: v1::ContainerId { value: executor.run.container.clone(), parent: None },
            pid: executor.pid,
            owner: Some(Owner {
                framework: id.clone(),
                executor: executor.info.executor_id.value.clone(),
                name: executor.info.name().to_owned(),
                source: executor.info.source().to_owned(),
                resources: executor.resources(),
                disk: agent.disk_use.get(&executor.run.container).cloned(),
            }),
        });
        shown.collect::<Vec<_>>()
    };
    agent.frameworks.iter().flat_map(of_framework).collect()
}

/// The containers of executors, and of the others those that are wanted.
pub fn all(agent: &Agent, caller: &Caller, wanted: call::GetContainers) -> Vec<Shown> {
    let mut all = of_executors(agent, caller);
    let is_seen = |id: &ContainerId| {
        let root = id.root();
        let executors = agent.frameworks.values().flat_map(|framework| {
            framework.executors.values().map(move |executor| (&framework.info, executor))
        });
        // One without an executor is standing alone, or is in one that does.
        let mut owners = executors.filter(|(_, executor)| executor.run.container == root);
        owners.next().map_or_else(
            || caller.may_whatever(Action::ViewStandaloneContainers),
            |(framework, executor)| caller.sees_container(framework, &executor.info),
        )
    };
    let shown = agent.containers.iter().filter(|(id, container)| {
        let is_wanted =
            if id.depth() > 0 { wanted.show_nested() } else { wanted.show_standalone() };
        is_wanted && container.is_alive() && is_seen(id)
    });
    all.extend(shown.map(|(id, container)| Shown {
        id: id.to_proto(),
        pid: container.pid,
        owner: None,
    }));
    all
}

impl Shown {
    /// Whether it is the outermost container of this id.
    pub fn is(&self, id: &str) -> bool {
        self.id.parent.is_none() && self.id.value == id
    }

    /// What it uses at `now` (seconds since 1970); reads `/proc` and its cgroups.
    fn statistics(&self, now: f64, cgroups: Option<&Cgroups>) -> v1::ResourceStatistics {
        let mut statistics = v1::ResourceStatistics { timestamp: now, ..Default::default() };
        self.add_processes(&mut statistics);
        let container = ContainerId::parse(&self.id).ok();
        if let (Some(cgroups), Some(container)) = (cgroups, container) {
            cgroups.add_statistics(&container.to_string(), &mut statistics);
        }
        statistics
    }

    /// What the agent and `/proc` know of an executor's.
    fn add_processes(&self, statistics: &mut v1::ResourceStatistics) {
        let Some(owner) = &self.owner else { return };
        let memory = (owner.resources.mem() * 1_048_576.0) as u64;
        statistics.cpus_soft_limit = Some(owner.resources.cpus());
        statistics.mem_limit_bytes = Some(memory);
        statistics.mem_soft_limit_bytes = Some(memory);
        if let Some(DiskUse { sandbox, volumes }) = &owner.disk {
            statistics.disk_limit_bytes = sandbox.as_ref().and_then(|own| own.limit_bytes);
            statistics.disk_used_bytes = sandbox.as_ref().and_then(|own| own.used_bytes);
            statistics.disk_statistics = volumes.iter().chain(sandbox).cloned().collect();
        }
        if let Some(usage) = self.pid.and_then(processes::usage) {
            statistics.cpus_user_time_secs = Some(usage.user_seconds);
            statistics.cpus_system_time_secs = Some(usage.system_seconds);
            statistics.mem_rss_bytes = Some(usage.resident_bytes);
        }
    }

    fn status(&self) -> v1::ContainerStatus {
        v1::ContainerStatus {
            container_id: Some(self.id.clone()),
            executor_pid: self.pid.and_then(|pid| u32::try_from(pid).ok()),
            ..Default::default()
        }
    }

    /// As GET_CONTAINERS shows it.
    pub fn message(&self, now: f64, cgroups: Option<&Cgroups>) -> get_containers::Container {
        let owner = self.owner.as_ref();
        get_containers::Container {
            framework_id: owner.map(|owner| v1::FrameworkId { value: owner.framework.clone() }),
            executor_id: owner.map(|owner| v1::ExecutorId { value: owner.executor.clone() }),
            executor_name: owner.map(|owner| owner.name.clone()),
            // Of a nested one only the last part, as the original has it; the status names the parents.
            container_id: v1::ContainerId { value: self.id.value.clone(), parent: None },
            container_status: Some(self.status()),
            resource_statistics: Some(self.statistics(now, cgroups)),
        }
    }

    /// As the old endpoints show an executor's: names in alphabetical order.
    fn legacy(&self, now: f64, cgroups: Option<&Cgroups>, is_whole: bool) -> Value {
        let sorted = |value: Value| {
            let mut value = value;
            value.sort_all_objects();
            value
        };
        let to_value = |message| mesos::json::to_value(message, mesos::json::Dialect::V0);
        let mut object = Map::new();
        if is_whole {
            object.insert("container_id".to_owned(), json!(self.id.value));
        }
        if let Some(owner) = &self.owner {
            object.insert("executor_id".to_owned(), json!(owner.executor));
            object.insert("executor_name".to_owned(), json!(owner.name));
            object.insert("framework_id".to_owned(), json!(owner.framework));
            object.insert("source".to_owned(), json!(owner.source));
        }
        object.insert("statistics".to_owned(), sorted(to_value(&self.statistics(now, cgroups))));
        if is_whole {
            let status = mesos::json::to_value(&self.status(), mesos::json::Dialect::V0);
            object.insert("status".to_owned(), sorted(status));
        }
        Value::Object(object)
    }
}

/// `/containers`.
pub fn containers(all: &[Shown], now: f64, cgroups: Option<&Cgroups>) -> Value {
    all.iter().map(|shown| shown.legacy(now, cgroups, true)).collect()
}

/// `/monitor/statistics`.
pub fn monitor(all: &[Shown], now: f64, cgroups: Option<&Cgroups>) -> Value {
    all.iter().map(|shown| shown.legacy(now, cgroups, false)).collect()
}
