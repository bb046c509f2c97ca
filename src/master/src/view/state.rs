//! `/state`, `/slaves`, `/frameworks`, `/tasks`, `/roles`, `/state-summary`.

use std::collections::{BTreeMap, BTreeSet};

use mesos::json::{self, Dialect};
use mesos::resources::Resources;
use mesos::v1::{self, TaskState};
use serde_json::{Map, Value, json};

use crate::core::Master;
use crate::core::model::{Agent, Connection, Framework, is_terminal};

/// Resources as the legacy endpoints write them: the four scalars always, everything else as text.
pub fn resources(resources: &Resources) -> Value {
    let mut object = Map::new();
    let scalars = resources.scalars();
    for name in ["disk", "mem", "gpus", "cpus"] {
        object.insert(name.to_owned(), json!(resources.get(name)));
    }
    for (name, value) in scalars {
        object.entry(name).or_insert(json!(value.to_f64()));
    }
    let ports = resources.ports();
    if !ports.is_empty() {
        object.insert("ports".to_owned(), json!(ports.to_string()));
    }
    Value::Object(object)
}

fn attributes(attributes: &[v1::Attribute]) -> Value {
    let mut object = Map::new();
    for attribute in attributes {
        let value = match (&attribute.scalar, &attribute.ranges, &attribute.set, &attribute.text) {
            (Some(scalar), ..) => json!(scalar.value),
            (_, Some(ranges), ..) => {
                json!(mesos::resources::Ranges::from_proto(ranges).to_string())
            }
            (_, _, Some(set), _) => json!(format!("{{{}}}", set.item.join(", "))),
            (_, _, _, Some(text)) => json!(text.value),
            _ => Value::Null,
        };
        object.insert(attribute.name.clone(), value);
    }
    Value::Object(object)
}

fn used_on(master: &Master, agent: &str) -> Resources {
    master
        .frameworks
        .values()
        .map(|framework| framework.used(Some(agent)))
        .collect::<Vec<_>>()
        .iter()
        .sum()
}

fn offered(master: &Master, offers: &BTreeSet<String>) -> Resources {
    offers.iter().filter_map(|id| master.offers.get(id)).map(|offer| &offer.resources).sum()
}

/// One agent.
pub fn slave(master: &Master, agent: &Agent) -> Value {
    let reserved: Map<String, Value> = agent
        .total
        .reservations()
        .iter()
        .map(|(role, reserved)| (role.clone(), resources(reserved)))
        .collect();
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(agent.id));
    put("hostname", json!(agent.info.hostname));
    put("port", json!(agent.info.port()));
    put("attributes", attributes(&agent.info.attributes));
    if let Some(domain) = &agent.info.domain {
        put("domain", json::to_value(domain, Dialect::V0));
    }
    put("pid", json!(agent.pid.to_string()));
    put("registered_time", json!(agent.registered));
    if agent.reregistered > 0.0 {
        put("reregistered_time", json!(agent.reregistered));
    }
    put("resources", resources(&agent.total));
    put("used_resources", resources(&used_on(master, &agent.id)));
    put("offered_resources", resources(&offered(master, &agent.offers)));
    put("reserved_resources", Value::Object(reserved));
    put("unreserved_resources", resources(&agent.total.unreserved()));
    put("active", json!(agent.connected));
    put("deactivated", json!(false));
    put("version", json!(agent.version));
    put("capabilities", capabilities(&agent.capabilities));
    Value::Object(object)
}

fn capabilities(capabilities: &[v1::agent_info::Capability]) -> Value {
    capabilities
        .iter()
        .filter(|capability| capability.r#type.is_some())
        .map(|capability| json!(capability.r#type().as_str_name()))
        .collect()
}

fn status(status: &v1::TaskStatus) -> Value {
    let mut object = Map::new();
    object.insert("state".to_owned(), json!(status.state().as_str_name()));
    object.insert("timestamp".to_owned(), json!(status.timestamp.unwrap_or_default()));
    if let Some(labels) = &status.labels {
        object.insert("labels".to_owned(), labels_value(labels));
    }
    if let Some(container) = &status.container_status {
        object.insert("container_status".to_owned(), json::to_value(container, Dialect::V0));
    }
    if let Some(healthy) = status.healthy {
        object.insert("healthy".to_owned(), json!(healthy));
    }
    Value::Object(object)
}

fn labels_value(labels: &v1::Labels) -> Value {
    labels.labels.iter().map(|label| json::to_value(label, Dialect::V0)).collect()
}

/// One task.
pub fn task(task: &v1::Task) -> Value {
    let role = task
        .resources
        .iter()
        .find_map(|resource| resource.allocation_info.as_ref()?.role.clone())
        .unwrap_or_else(|| "*".to_owned());
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(task.task_id.value));
    put("name", json!(task.name));
    put("framework_id", json!(task.framework_id.value));
    put("executor_id", json!(task.executor_id.as_ref().map_or("", |id| id.value.as_str())));
    put("slave_id", json!(task.agent_id.value));
    put("state", json!(task.state().as_str_name()));
    put("resources", resources(&Resources::from_protos(&task.resources)));
    put("role", json!(role));
    put("statuses", task.statuses.iter().map(status).collect());
    if let Some(user) = &task.user {
        put("user", json!(user));
    }
    if let Some(labels) = &task.labels {
        put("labels", labels_value(labels));
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

fn executor(executor: &v1::ExecutorInfo, agent: &str) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("executor_id", json!(executor.executor_id.value));
    put("name", json!(executor.name()));
    put("framework_id", json!(executor.framework_id.as_ref().map_or("", |id| id.value.as_str())));
    if let Some(command) = &executor.command {
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
        let uris: Vec<Value> = command
            .uris
            .iter()
            .map(|uri| json!({"value": uri.value, "executable": uri.executable()}))
            .collect();
        shown.insert("uris".to_owned(), json!(uris));
        put("command", Value::Object(shown));
    }
    put("resources", resources(&Resources::from_protos(&executor.resources)));
    if let Some(role) = executor
        .resources
        .iter()
        .find_map(|resource| resource.allocation_info.as_ref()?.role.clone())
    {
        put("role", json!(role));
    }
    if let Some(labels) = &executor.labels {
        put("labels", labels_value(labels));
    }
    if executor.r#type.is_some() {
        put("type", json!(executor.r#type().as_str_name()));
    }
    put("slave_id", json!(agent));
    Value::Object(object)
}

/// One framework, with its tasks.
pub fn framework(master: &Master, framework: &Framework) -> Value {
    let used = framework.used(None);
    let offered = offered(master, &framework.offers);
    let mut both = used.clone();
    both.add(&offered);
    let connected = framework.is_connected();
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(framework.id));
    put("name", json!(framework.info.name));
    if let Some(pid) = &framework.pid {
        put("pid", json!(pid.to_string()));
    }
    put("used_resources", resources(&used));
    put("offered_resources", resources(&offered));
    put(
        "capabilities",
        framework
            .info
            .capabilities
            .iter()
            .map(|capability| json!(capability.r#type().as_str_name()))
            .collect(),
    );
    put("hostname", json!(framework.info.hostname()));
    put("webui_url", json!(framework.info.webui_url()));
    put("active", json!(framework.active));
    put("connected", json!(connected));
    put("recovered", json!(framework.connection == Connection::Recovered));
    put("user", json!(framework.info.user));
    put("failover_timeout", json!(framework.info.failover_timeout()));
    put("checkpoint", json!(framework.info.checkpoint()));
    put("registered_time", json!(framework.registered));
    put("unregistered_time", json!(framework.unregistered));
    if let Some(principal) = &framework.info.principal {
        put("principal", json!(principal));
    }
    put("resources", resources(&both));
    if framework.reregistered > framework.registered {
        put("reregistered_time", json!(framework.reregistered));
    }
    if framework.can(v1::framework_info::capability::Type::MultiRole) {
        put("roles", json!(framework.info.roles));
    } else {
        put("role", json!(framework.info.role()));
    }
    put("tasks", framework.tasks.values().map(task).collect());
    put("unreachable_tasks", framework.unreachable.values().map(task).collect());
    put("completed_tasks", framework.completed.iter().map(task).collect());
    let offers = framework.offers.iter().filter_map(|id| master.offers.get(id)).map(|offer| {
        json!({
            "id": offer.message.id.value,
            "framework_id": framework.id,
            "allocation_info": {"role": offer.role},
            "slave_id": offer.message.agent_id.value,
            "resources": resources(&offer.resources),
        })
    });
    put("offers", offers.collect());
    put(
        "executors",
        framework.executors.iter().map(|((agent, _), info)| executor(info, agent)).collect(),
    );
    if let Some(labels) = &framework.info.labels {
        put("labels", labels_value(labels));
    }
    put("offer_constraints", json!({}));
    Value::Object(object)
}

fn recovered_slaves(master: &Master) -> Value {
    master
        .recovered_agents
        .iter()
        .map(|(id, info)| {
            json!({
                "id": id,
                "hostname": info.hostname,
                "port": info.port(),
                "attributes": attributes(&info.attributes),
                "resources": resources(&Resources::from_protos(&info.resources)),
            })
        })
        .collect()
}

/// What `/version` says, members sorted.
pub fn version() -> Value {
    json!({
        "build_date": crate::BUILD_DATE,
        "build_time": crate::BUILD_TIME,
        "build_user": "meso",
        "version": mesos::VERSION,
    })
}

/// `/state`.
pub fn state(master: &Master, start_time: f64, flags: &BTreeMap<&'static str, String>) -> Value {
    let active = master.agents.values().filter(|agent| agent.connected).count();
    let pid = master.info.pid.clone().unwrap_or_default();
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("version", json!(mesos::VERSION));
    put("build_date", json!(crate::BUILD_DATE));
    put("build_time", json!(crate::BUILD_TIME));
    put("build_user", json!("meso"));
    put("start_time", json!(start_time));
    put("elected_time", json!(master.elected));
    put("id", json!(master.info.id));
    put("pid", json!(pid));
    put("hostname", json!(master.info.hostname()));
    put("capabilities", json!(["AGENT_UPDATE"]));
    put("activated_slaves", json!(active as f64));
    put("deactivated_slaves", json!((master.agents.len() - active) as f64));
    put(
        "unreachable_slaves",
        json!(master.registry.unreachable.as_ref().map_or(0, |all| all.slaves.len()) as f64),
    );
    put("leader", json!(pid));
    put(
        "leader_info",
        json!({"id": master.info.id, "pid": pid, "port": master.info.port, "hostname": master.info.hostname()}),
    );
    if let Some(cluster) = flags.get("cluster") {
        put("cluster", json!(cluster));
    }
    if let Some(directory) = flags.get("log_dir") {
        put("log_dir", json!(directory));
    }
    put("flags", json!(flags));
    put("slaves", master.agents.values().map(|agent| slave(master, agent)).collect());
    put("recovered_slaves", recovered_slaves(master));
    put("frameworks", master.frameworks.values().map(|known| framework(master, known)).collect());
    put(
        "completed_frameworks",
        master.completed_frameworks.values().map(|known| framework(master, known)).collect(),
    );
    put("orphan_tasks", json!([]));
    put("unregistered_frameworks", json!([]));
    Value::Object(object)
}

/// `/slaves`, all or the one named.
pub fn slaves(master: &Master, only: Option<&str>) -> Value {
    let full = |resources: &Resources| -> Value {
        resources.to_protos().iter().map(|resource| json::to_value(resource, Dialect::V0)).collect()
    };
    let slaves: Vec<Value> = master
        .agents
        .values()
        .filter(|agent| only.is_none_or(|id| agent.id == id))
        .map(|agent| {
            let mut object = slave(master, agent);
            if let Value::Object(object) = &mut object {
                let reserved: Map<String, Value> = agent
                    .total
                    .reservations()
                    .iter()
                    .map(|(role, reserved)| (role.clone(), full(reserved)))
                    .collect();
                object.insert("reserved_resources_full".to_owned(), Value::Object(reserved));
                object.insert(
                    "unreserved_resources_full".to_owned(),
                    full(&agent.total.unreserved()),
                );
                object.insert("used_resources_full".to_owned(), full(&used_on(master, &agent.id)));
                object.insert(
                    "offered_resources_full".to_owned(),
                    full(&offered(master, &agent.offers)),
                );
            }
            object
        })
        .collect();
    let recovered = if only.is_none() { recovered_slaves(master) } else { json!([]) };
    json!({"slaves": slaves, "recovered_slaves": recovered})
}

/// `/frameworks`, all or the one named.
pub fn frameworks(master: &Master, only: Option<&str>) -> Value {
    let shown = |known: &&Framework| only.is_none_or(|id| known.id == id);
    json!({
        "frameworks": master.frameworks.values().filter(shown).map(|known| framework(master, known)).collect::<Vec<_>>(),
        "completed_frameworks": master.completed_frameworks.values().filter(shown).map(|known| framework(master, known)).collect::<Vec<_>>(),
        "unregistered_frameworks": [],
    })
}

/// What `/tasks` is asked for.
#[derive(Debug, Default)]
pub struct TaskQuery {
    /// At most so many.
    pub limit: Option<usize>,
    /// After leaving out so many.
    pub offset: usize,
    /// Oldest first.
    pub ascending: bool,
    /// Only of this framework.
    pub framework: Option<String>,
    /// Only this one.
    pub task: Option<String>,
}

/// `/tasks`: newest first by first status unless asked otherwise.
pub fn tasks(master: &Master, query: &TaskQuery) -> Value {
    let frameworks = master.frameworks.values().chain(master.completed_frameworks.values());
    let mut all: Vec<&v1::Task> = frameworks
        .filter(|known| query.framework.as_ref().is_none_or(|id| known.id == *id))
        .flat_map(|known| {
            known.tasks.values().chain(known.unreachable.values()).chain(known.completed.iter())
        })
        .filter(|task| query.task.as_ref().is_none_or(|id| task.task_id.value == *id))
        .collect();
    let first = |task: &v1::Task| {
        task.statuses.first().and_then(|status| status.timestamp).unwrap_or_default()
    };
    all.sort_by(|a, b| {
        if query.ascending { first(a).total_cmp(&first(b)) } else { first(b).total_cmp(&first(a)) }
    });
    let shown: Vec<Value> =
        all.into_iter().skip(query.offset).take(query.limit.unwrap_or(100)).map(task).collect();
    json!({"tasks": shown})
}

/// `/roles`.
pub fn roles(master: &Master) -> Value {
    let mut known: BTreeMap<String, Vec<&Framework>> = BTreeMap::new();
    for framework in master.frameworks.values() {
        for role in framework.roles() {
            known.entry(role).or_default().push(framework);
        }
    }
    let roles: Vec<Value> = known
        .into_iter()
        .map(|(role, frameworks)| {
            let of_role = |resources: Resources| resources.to_protos().into_iter().filter(|resource| resource.allocation_info.as_ref().is_some_and(|info| info.role() == role)).collect::<Vec<_>>();
            let allocated: Resources = frameworks.iter().map(|framework| Resources::from_protos(&of_role(framework.used(None)))).collect::<Vec<_>>().iter().sum();
            let offered: Resources = frameworks.iter().map(|framework| Resources::from_protos(&of_role(offered(master, &framework.offers)))).collect::<Vec<_>>().iter().sum();
            let mut both = allocated.clone();
            both.add(&offered);
            json!({
                "name": role,
                "weight": 1.0,
                "quota": {"role": role, "guarantee": {}, "limit": {}, "consumed": {}},
                "resources": resources(&both),
                "allocated": resources(&allocated),
                "offered": resources(&offered),
                "reserved": resources(&Resources::new()),
                "frameworks": frameworks.iter().map(|framework| framework.id.clone()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"roles": roles})
}

fn counts<'a>(tasks: impl Iterator<Item = &'a v1::Task>, object: &mut Map<String, Value>) {
    let mut by_state: BTreeMap<&'static str, u64> = BTreeMap::new();
    for task in tasks {
        *by_state.entry(task.state().as_str_name()).or_default() += 1;
    }
    use TaskState as S;
    for state in [
        S::TaskStaging,
        S::TaskStarting,
        S::TaskRunning,
        S::TaskKilling,
        S::TaskFinished,
        S::TaskKilled,
        S::TaskFailed,
        S::TaskLost,
        S::TaskError,
        S::TaskUnreachable,
    ] {
        object.insert(
            state.as_str_name().to_owned(),
            json!(by_state.get(state.as_str_name()).copied().unwrap_or_default()),
        );
    }
}

/// `/state-summary`.
pub fn summary(master: &Master, flags: &BTreeMap<&'static str, String>) -> Value {
    let everyone = || master.frameworks.values();
    let all_tasks = || {
        everyone().flat_map(|known| {
            known.tasks.values().chain(known.unreachable.values()).chain(known.completed.iter())
        })
    };
    let slaves: Vec<Value> = master
        .agents
        .values()
        .map(|agent| {
            let mut object = slave(master, agent);
            if let Value::Object(object) = &mut object {
                counts(all_tasks().filter(|task| task.agent_id.value == agent.id), object);
                let ids: Vec<&String> = everyone()
                    .filter(|known| {
                        known.tasks.values().any(|task| task.agent_id.value == agent.id)
                    })
                    .map(|known| &known.id)
                    .collect();
                object.insert("framework_ids".to_owned(), json!(ids));
            }
            object
        })
        .collect();
    let frameworks: Vec<Value> = everyone()
        .map(|known| {
            let mut object = framework(master, known);
            if let Value::Object(object) = &mut object {
                for name in [
                    "tasks",
                    "unreachable_tasks",
                    "completed_tasks",
                    "offers",
                    "executors",
                    "labels",
                    "offer_constraints",
                ] {
                    object.remove(name);
                }
                counts(
                    known
                        .tasks
                        .values()
                        .chain(known.unreachable.values())
                        .chain(known.completed.iter()),
                    object,
                );
                let ids: BTreeSet<&String> = known
                    .tasks
                    .values()
                    .filter(|task| !is_terminal(task.state()))
                    .map(|task| &task.agent_id.value)
                    .collect();
                object.insert("slave_ids".to_owned(), json!(ids));
            }
            object
        })
        .collect();
    let mut object = Map::new();
    object.insert("hostname".to_owned(), json!(master.info.hostname()));
    if let Some(cluster) = flags.get("cluster") {
        object.insert("cluster".to_owned(), json!(cluster));
    }
    object.insert("slaves".to_owned(), json!(slaves));
    object.insert("frameworks".to_owned(), json!(frameworks));
    Value::Object(object)
}
