//! `/state`, `/slaves`, `/frameworks`, `/tasks`, `/roles`, `/state-summary`.

use std::collections::{BTreeMap, HashMap};

use mesos::json::{self, Dialect};
use mesos::model;
use mesos::resources::Resources;
use mesos::v1;
use serde_json::{Map, Value, json};

use super::parts::Part;
use crate::core::model::{Agent, Connection, Framework, is_terminal};
use crate::core::scene::Scene;

/// Resources as the legacy endpoints write them.
pub fn resources(resources: &Resources) -> Value {
    Value::Object(resources.to_model())
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

/// What runs on each agent, found in one pass.
pub struct Used<'a>(HashMap<&'a str, Vec<&'a [v1::Resource]>>);

impl<'a> Used<'a> {
    /// Of all frameworks' tasks and executors.
    pub fn of(frameworks: impl Iterator<Item = &'a Framework>) -> Self {
        let mut all: HashMap<&str, Vec<&[v1::Resource]>> = HashMap::new();
        for framework in frameworks {
            for task in framework.tasks.values().filter(|task| !is_terminal(task.state())) {
                all.entry(&task.agent_id.value).or_default().push(&task.resources);
            }
            for ((agent, _), executor) in &framework.executors {
                all.entry(agent).or_default().push(&executor.resources);
            }
        }
        Self(all)
    }

    /// The sum on one agent.
    pub fn on(&self, agent: &str) -> Resources {
        let mut sum = Resources::new();
        self.0.get(agent).into_iter().flatten().for_each(|resources| sum.add_protos(resources));
        sum
    }
}

/// What offers hold, by their ids.
pub fn offered<'a>(scene: &'a Scene, offers: impl Iterator<Item = &'a str>) -> Resources {
    offers.filter_map(|id| scene.offers.get(id)).map(|offer| &offer.resources).sum()
}

/// One agent.
pub fn slave(scene: &Scene, agent: &Agent, used: &Used<'_>) -> Value {
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
    put("used_resources", resources(&used.on(&agent.id)));
    put("offered_resources", resources(&offered(scene, agent.offers.iter().map(String::as_str))));
    put("reserved_resources", Value::Object(reserved));
    put("unreserved_resources", resources(&agent.total.unreserved()));
    put("active", json!(agent.is_active()));
    put("deactivated", json!(agent.deactivated));
    put("version", json!(agent.version));
    put("capabilities", capabilities(&agent.capabilities));
    if let Some(drain) = &agent.drain {
        put("drain_info", json::to_value(drain, Dialect::V0));
    }
    if let Some(since) = agent.drain_since {
        put("estimated_drain_start_time_seconds", json!(since));
    }
    Value::Object(object)
}

fn capabilities(capabilities: &[v1::agent_info::Capability]) -> Value {
    capabilities
        .iter()
        .filter(|capability| capability.r#type.is_some())
        .map(|capability| json!(capability.r#type().as_str_name()))
        .collect()
}

fn executor(executor: &v1::ExecutorInfo, agent: &str) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("executor_id", json!(executor.executor_id.value));
    put("name", json!(executor.name()));
    put("framework_id", json!(executor.framework_id.as_ref().map_or("", |id| id.value.as_str())));
    put("command", model::command(&executor.command.clone().unwrap_or_default()));
    put("resources", model::resources(&executor.resources));
    if let Some(role) = model::role(&executor.resources) {
        put("role", json!(role));
    }
    if let Some(labels) = &executor.labels {
        put("labels", model::labels(labels));
    }
    if executor.r#type.is_some() {
        put("type", json!(executor.r#type().as_str_name()));
    }
    put("slave_id", json!(agent));
    Value::Object(object)
}

/// What `/state-summary` also says of a framework.
pub fn framework_head(
    framework: &Framework,
    used: &Resources,
    offered: &Resources,
) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", json!(framework.id));
    put("name", json!(framework.info.name));
    if let Some(pid) = &framework.pid {
        put("pid", json!(pid.to_string()));
    }
    put("used_resources", resources(used));
    put("offered_resources", resources(offered));
    let capabilities = framework.info.capabilities.iter();
    put("capabilities", capabilities.map(|own| json!(own.r#type().as_str_name())).collect());
    put("hostname", json!(framework.info.hostname()));
    put("webui_url", json!(framework.info.webui_url()));
    put("active", json!(framework.active));
    put("connected", json!(framework.is_connected()));
    put("recovered", json!(framework.connection == Connection::Recovered));
    object
}

/// One framework, with its tasks.
pub fn framework<'a>(scene: &'a Scene, framework: &'a Framework) -> Part<'a> {
    let (mut both, offered) = (framework.used(None), offered(scene, framework.offers.keys()));
    let mut object = Part::from(framework_head(framework, &both, &offered));
    both.add(&offered);
    let mut put = |name: &str, value: Value| object.put(name, value);
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
    object.put("tasks", Part::list(framework.tasks.values().map(model::task)));
    object.put("unreachable_tasks", Part::list(framework.unreachable.values().map(model::task)));
    object
        .put("completed_tasks", Part::list(framework.completed.iter().map(|own| model::task(own))));
    let offers =
        framework.offers.keys().filter_map(move |id| scene.offers.get(id)).map(move |offer| {
            json!({
                "id": offer.message.id.value,
                "framework_id": framework.id,
                "allocation_info": {"role": offer.role},
                "slave_id": offer.message.agent_id.value,
                "resources": resources(&offer.resources),
            })
        });
    object.put("offers", Part::list(offers));
    let executors = framework.executors.iter().map(|((agent, _), info)| executor(info, agent));
    object.put("executors", Part::list(executors));
    if let Some(labels) = &framework.info.labels {
        object.put("labels", model::labels(labels));
    }
    object.put("offer_constraints", json::to_value(&framework.constraints, Dialect::V0));
    object
}

fn recovered_slaves(scene: &Scene) -> Value {
    scene
        .recovered_agents
        .iter()
        .map(|(id, info)| {
            json!({
                "id": id,
                "hostname": info.hostname,
                "port": info.port(),
                "attributes": attributes(&info.attributes),
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
pub fn state<'a>(
    scene: &'a Scene,
    start_time: f64,
    flags: &BTreeMap<&'static str, String>,
) -> Part<'a> {
    let active = scene.agents.values().filter(|agent| agent.is_active()).count();
    let pid = scene.info.pid.clone().unwrap_or_default();
    let mut object = Part::Object(Vec::new());
    let mut put = |name: &str, value: Value| object.put(name, value);
    put("version", json!(mesos::VERSION));
    put("build_date", json!(crate::BUILD_DATE));
    put("build_time", json!(crate::BUILD_TIME));
    put("build_user", json!("meso"));
    put("start_time", json!(start_time));
    put("elected_time", json!(scene.elected));
    put("id", json!(scene.info.id));
    put("pid", json!(pid));
    put("hostname", json!(scene.info.hostname()));
    let capabilities = scene.info.capabilities.iter().map(|own| own.r#type().as_str_name());
    put("capabilities", capabilities.collect());
    put("activated_slaves", json!(active as f64));
    put("deactivated_slaves", json!((scene.agents.len() - active) as f64));
    put("unreachable_slaves", json!(scene.unreachable_agents as f64));
    put("leader", json!(pid));
    put(
        "leader_info",
        json!({"id": scene.info.id, "pid": pid, "port": scene.info.port, "hostname": scene.info.hostname()}),
    );
    if let Some(cluster) = flags.get("cluster") {
        put("cluster", json!(cluster));
    }
    if let Some(directory) = flags.get("log_dir") {
        put("log_dir", json!(directory));
    }
    put("flags", json!(flags));
    let used = Used::of(scene.frameworks.values());
    let slaves = scene.agents.values().map(move |agent| slave(scene, agent, &used));
    object.put("slaves", Part::list(slaves));
    object.put("recovered_slaves", recovered_slaves(scene));
    let shown = move |known: &'a Framework| framework(scene, known);
    object.put("frameworks", Part::list(scene.frameworks.values().map(shown)));
    object.put("completed_frameworks", Part::list(scene.completed_frameworks.values().map(shown)));
    object.put("orphan_tasks", json!([]));
    object.put("unregistered_frameworks", json!([]));
    object
}

/// `/slaves`, all or the one named.
pub fn slaves(scene: &Scene, only: Option<&str>) -> Value {
    let full = |resources: &Resources| -> Value {
        let shown = resources.to_protos_for_endpoints();
        shown.iter().map(|resource| json::to_value(resource, Dialect::V0)).collect()
    };
    let used = Used::of(scene.frameworks.values());
    let slaves: Vec<Value> = scene
        .agents
        .values()
        .filter(|agent| only.is_none_or(|id| agent.id == id))
        .map(|agent| {
            let mut object = slave(scene, agent, &used);
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
                object.insert("used_resources_full".to_owned(), full(&used.on(&agent.id)));
                object.insert(
                    "offered_resources_full".to_owned(),
                    full(&offered(scene, agent.offers.iter().map(String::as_str))),
                );
            }
            object
        })
        .collect();
    let recovered = if only.is_none() { recovered_slaves(scene) } else { json!([]) };
    json!({"slaves": slaves, "recovered_slaves": recovered})
}

/// `/frameworks`, all or the one named.
pub fn frameworks(scene: &Scene, only: Option<&str>) -> Value {
    let shown = |known: &&Framework| only.is_none_or(|id| known.id == id);
    json!({
        "frameworks": scene.frameworks.values().filter(shown).map(|known| framework(scene, known).into_value()).collect::<Vec<_>>(),
        "completed_frameworks": scene.completed_frameworks.values().filter(shown).map(|known| framework(scene, known).into_value()).collect::<Vec<_>>(),
        "unregistered_frameworks": [],
    })
}
