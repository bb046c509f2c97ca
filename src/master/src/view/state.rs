//! `/state`, `/slaves`, `/frameworks`: written from the scene as it is, without JSON values of what is in it.

use std::collections::{BTreeMap, HashMap};

use mesos::model::{self, Command, List, Members, Message, Task};
use mesos::resources::{Model, Resources};
use mesos::v1;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::seen::Sight;
use crate::core::model::{Agent, Connection, Framework, Offer, is_terminal};
use crate::core::scene::Scene;

struct Attribute<'a>(&'a v1::Attribute);

impl Serialize for Attribute<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.0;
        match (&own.scalar, &own.ranges, &own.set, &own.text) {
            (Some(scalar), ..) => serializer.serialize_f64(scalar.value),
            (_, Some(ranges), ..) => {
                serializer.collect_str(&mesos::resources::Ranges::from_proto(ranges))
            }
            (_, _, Some(set), _) => {
                serializer.collect_str(&format_args!("{{{}}}", set.item.join(", ")))
            }
            (_, _, _, Some(text)) => serializer.serialize_str(&text.value),
            _ => serializer.serialize_unit(),
        }
    }
}

fn attributes(attributes: &[v1::Attribute]) -> impl Serialize {
    // Of several of one name the last is shown, in the first's place.
    let by_name = move || {
        let mut shown: Vec<(&str, Attribute<'_>)> = Vec::with_capacity(attributes.len());
        for own in attributes {
            match shown.iter_mut().find(|(name, _)| *name == own.name) {
                Some((_, value)) => value.0 = own,
                None => shown.push((&own.name, Attribute(own))),
            }
        }
        shown
    };
    Members(by_name)
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

/// Writes what is said of an agent wherever it is shown.
pub fn slave<M: SerializeMap>(
    object: &mut M,
    sight: Sight<'_>,
    agent: &Agent,
    used: &Used<'_>,
) -> Result<(), M::Error> {
    let reserved = agent.total.reservations();
    object.serialize_entry("id", &agent.id)?;
    object.serialize_entry("hostname", &agent.info.hostname)?;
    object.serialize_entry("port", &agent.info.port())?;
    object.serialize_entry("attributes", &attributes(&agent.info.attributes))?;
    if let Some(domain) = &agent.info.domain {
        object.serialize_entry("domain", &Message(domain))?;
    }
    object.serialize_entry("pid", &format_args!("{}", agent.pid))?;
    object.serialize_entry("registered_time", &agent.registered)?;
    if agent.reregistered > 0.0 {
        object.serialize_entry("reregistered_time", &agent.reregistered)?;
    }
    object.serialize_entry("resources", &Model::of(&agent.total))?;
    object.serialize_entry("used_resources", &Model::of(&used.on(&agent.id)))?;
    let offered = offered(sight.scene, agent.offers.iter().map(String::as_str));
    object.serialize_entry("offered_resources", &Model::of(&offered))?;
    let seen = || reserved.iter().filter(|(role, _)| sight.seen.role(role));
    let reserved = || seen().map(|(role, reserved)| (role, Model::of(reserved)));
    object.serialize_entry("reserved_resources", &Members(reserved))?;
    object.serialize_entry("unreserved_resources", &Model::of(&agent.total.unreserved()))?;
    object.serialize_entry("active", &agent.is_active())?;
    object.serialize_entry("deactivated", &agent.deactivated)?;
    object.serialize_entry("version", &agent.version)?;
    let typed = || agent.capabilities.iter().filter(|own| own.r#type.is_some());
    let names = || typed().map(|own| own.r#type().as_str_name());
    object.serialize_entry("capabilities", &List(names))?;
    if let Some(drain) = &agent.drain {
        object.serialize_entry("drain_info", &Message(drain))?;
    }
    if let Some(since) = agent.drain_since {
        object.serialize_entry("estimated_drain_start_time_seconds", &since)?;
    }
    Ok(())
}

/// An agent as `/state` shows it, or as `/slaves` does.
struct Slave<'a> {
    sight: Sight<'a>,
    agent: &'a Agent,
    used: &'a Used<'a>,
    in_full: bool,
}

/// Resources as messages.
struct Full<'a>(Sight<'a>, Resources);

impl Serialize for Full<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = || self.1.to_protos_for_endpoints().into_iter();
        let seen = || all().filter(|resource| self.0.seen.resource(resource));
        List(|| seen().map(Owned)).serialize(serializer)
    }
}

struct Owned(v1::Resource);

impl Serialize for Owned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Message(&self.0).serialize(serializer)
    }
}

impl Serialize for Slave<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { sight, agent, used, in_full } = *self;
        let mut object = serializer.serialize_map(None)?;
        slave(&mut object, sight, agent, used)?;
        if in_full {
            let full = |resources| Full(sight, resources);
            let reserved = || agent.total.reservations().into_iter();
            let seen = || reserved().filter(|(role, _)| sight.seen.role(role));
            let reserved = || seen().map(|(role, reserved)| (role, full(reserved)));
            object.serialize_entry("reserved_resources_full", &Members(reserved))?;
            object.serialize_entry("unreserved_resources_full", &full(agent.total.unreserved()))?;
            object.serialize_entry("used_resources_full", &full(used.on(&agent.id)))?;
            let offered = offered(sight.scene, agent.offers.iter().map(String::as_str));
            object.serialize_entry("offered_resources_full", &full(offered))?;
        }
        object.end()
    }
}

struct Executor<'a> {
    info: &'a v1::ExecutorInfo,
    agent: &'a str,
    is_seen: bool,
}

impl Serialize for Executor<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { info, agent, is_seen } = *self;
        let mut object = serializer.serialize_map(None)?;
        if !is_seen {
            // The original leaves the place of what may not be seen.
            return object.end();
        }
        object.serialize_entry("executor_id", &info.executor_id.value)?;
        object.serialize_entry("name", info.name())?;
        let framework = info.framework_id.as_ref().map_or("", |id| id.value.as_str());
        object.serialize_entry("framework_id", framework)?;
        let none = v1::CommandInfo::default();
        object.serialize_entry("command", &Command(info.command.as_ref().unwrap_or(&none)))?;
        object.serialize_entry("resources", &Model::of_protos(&info.resources))?;
        if let Some(role) = model::role(&info.resources) {
            object.serialize_entry("role", role)?;
        }
        if let Some(labels) = &info.labels {
            object.serialize_entry("labels", &model::labels(labels))?;
        }
        if info.r#type.is_some() {
            object.serialize_entry("type", info.r#type().as_str_name())?;
        }
        object.serialize_entry("slave_id", agent)?;
        object.end()
    }
}

/// Writes what `/state-summary` also says of a framework.
pub fn framework_head<M: SerializeMap>(
    object: &mut M,
    framework: &Framework,
    used: &Resources,
    offered: &Resources,
) -> Result<(), M::Error> {
    object.serialize_entry("id", &framework.id)?;
    object.serialize_entry("name", &framework.info.name)?;
    if let Some(pid) = &framework.pid {
        object.serialize_entry("pid", &format_args!("{pid}"))?;
    }
    object.serialize_entry("used_resources", &Model::of(used))?;
    object.serialize_entry("offered_resources", &Model::of(offered))?;
    let names = || framework.info.capabilities.iter().map(|own| own.r#type().as_str_name());
    object.serialize_entry("capabilities", &List(names))?;
    object.serialize_entry("hostname", framework.info.hostname())?;
    object.serialize_entry("webui_url", framework.info.webui_url())?;
    object.serialize_entry("active", &framework.active)?;
    object.serialize_entry("connected", &framework.is_connected())?;
    object.serialize_entry("recovered", &(framework.connection == Connection::Recovered))
}

/// A framework, with its tasks.
struct Whole<'a> {
    sight: Sight<'a>,
    framework: &'a Framework,
}

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { sight, framework } = *self;
        let scene = sight.scene;
        let (mut both, offered) = (framework.used(None), offered(scene, framework.offers.keys()));
        let mut object = serializer.serialize_map(None)?;
        framework_head(&mut object, framework, &both, &offered)?;
        both.add(&offered);
        object.serialize_entry("user", &framework.info.user)?;
        object.serialize_entry("failover_timeout", &framework.info.failover_timeout())?;
        object.serialize_entry("checkpoint", &framework.info.checkpoint())?;
        object.serialize_entry("registered_time", &framework.registered)?;
        object.serialize_entry("unregistered_time", &framework.unregistered)?;
        if let Some(principal) = &framework.info.principal {
            object.serialize_entry("principal", principal)?;
        }
        object.serialize_entry("resources", &Model::of(&both))?;
        if framework.reregistered > framework.registered {
            object.serialize_entry("reregistered_time", &framework.reregistered)?;
        }
        if framework.can(v1::framework_info::capability::Type::MultiRole) {
            object.serialize_entry("roles", &framework.info.roles)?;
        } else {
            object.serialize_entry("role", framework.info.role())?;
        }
        let tasks = || sight.of_tasks(framework, framework.tasks.values()).map(Task);
        object.serialize_entry("tasks", &List(tasks))?;
        let unreachable = || sight.of_tasks(framework, framework.unreachable.values()).map(Task);
        object.serialize_entry("unreachable_tasks", &List(unreachable))?;
        let completed = || sight.of_tasks(framework, framework.completed_tasks()).map(Task);
        object.serialize_entry("completed_tasks", &List(completed))?;
        let offers = || framework.offers.keys().filter_map(|id| scene.offers.get(id));
        object.serialize_entry("offers", &List(|| offers().map(Offered)))?;
        let executors = || {
            framework.executors.iter().map(|((agent, _), info)| {
                let is_seen = sight.seen.executor(&framework.info, info);
                Executor { info, agent, is_seen }
            })
        };
        object.serialize_entry("executors", &List(executors))?;
        if let Some(labels) = &framework.info.labels {
            object.serialize_entry("labels", &model::labels(labels))?;
        }
        object.serialize_entry("offer_constraints", &Message(&framework.constraints))?;
        object.end()
    }
}

struct Offered<'a>(&'a Offer);

impl Serialize for Offered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offer = self.0;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("id", &offer.message.id.value)?;
        object.serialize_entry("framework_id", &offer.message.framework_id.value)?;
        let role = || [("role", &offer.role)];
        object.serialize_entry("allocation_info", &Members(role))?;
        object.serialize_entry("slave_id", &offer.message.agent_id.value)?;
        object.serialize_entry("resources", &Model::of(&offer.resources))?;
        object.end()
    }
}

/// An agent that is known from the registry and has not come back.
struct Recovered<'a> {
    id: &'a str,
    info: &'a v1::AgentInfo,
}

impl Serialize for Recovered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("id", self.id)?;
        object.serialize_entry("hostname", &self.info.hostname)?;
        object.serialize_entry("port", &self.info.port())?;
        object.serialize_entry("attributes", &attributes(&self.info.attributes))?;
        object.end()
    }
}

fn recovered_slaves(scene: &Scene) -> impl Serialize {
    List(|| scene.recovered_agents.iter().map(|(id, info)| Recovered { id, info }))
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

/// Nothing, as a list.
const NONE: [(); 0] = [];

/// `/state`, of a master that was started at a time (in seconds since 1970) with flags.
pub fn state<S: Serializer>(
    serializer: S,
    sight: Sight<'_>,
    start_time: f64,
    flags: &BTreeMap<&'static str, String>,
) -> Result<S::Ok, S::Error> {
    let scene = sight.scene;
    let active = scene.agents.values().filter(|agent| agent.is_active()).count();
    let info = &scene.info;
    let pid = info.pid.as_deref().unwrap_or_default();
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("version", mesos::VERSION)?;
    object.serialize_entry("build_date", crate::BUILD_DATE)?;
    object.serialize_entry("build_time", &crate::BUILD_TIME)?;
    object.serialize_entry("build_user", "meso")?;
    object.serialize_entry("start_time", &start_time)?;
    object.serialize_entry("elected_time", &scene.elected)?;
    object.serialize_entry("id", &info.id)?;
    object.serialize_entry("pid", pid)?;
    object.serialize_entry("hostname", info.hostname())?;
    let capabilities = || info.capabilities.iter().map(|own| own.r#type().as_str_name());
    object.serialize_entry("capabilities", &List(capabilities))?;
    object.serialize_entry("activated_slaves", &(active as f64))?;
    object.serialize_entry("deactivated_slaves", &((scene.agents.len() - active) as f64))?;
    object.serialize_entry("unreachable_slaves", &(scene.unreachable_agents as f64))?;
    object.serialize_entry("leader", pid)?;
    let leader = json!({"id": info.id, "pid": pid, "port": info.port, "hostname": info.hostname()});
    object.serialize_entry("leader_info", &leader)?;
    if sight.seen.flags() {
        for named in ["cluster", "log_dir", "external_log_file"] {
            if let Some(value) = flags.get(named) {
                object.serialize_entry(named, value)?;
            }
        }
        object.serialize_entry("flags", flags)?;
    }
    let used = Used::of(scene.frameworks.values());
    let slave = |agent| Slave { sight, agent, used: &used, in_full: false };
    object.serialize_entry("slaves", &List(|| scene.agents.values().map(slave)))?;
    object.serialize_entry("recovered_slaves", &recovered_slaves(scene))?;
    write_frameworks(&mut object, sight, None)?;
    object.serialize_entry("orphan_tasks", &NONE)?;
    object.serialize_entry("unregistered_frameworks", &NONE)?;
    object.end()
}

/// Writes frameworks that are known and that are over, all or the one named.
fn write_frameworks<M: SerializeMap>(
    object: &mut M,
    sight: Sight<'_>,
    only: Option<&str>,
) -> Result<(), M::Error> {
    let shown = |framework: &&Framework| only.is_none_or(|id| framework.id == id);
    let whole = |framework| Whole { sight, framework };
    let known = || sight.frameworks().filter(shown).map(whole);
    object.serialize_entry("frameworks", &List(known))?;
    let completed = || sight.completed_frameworks().filter(shown).map(whole);
    object.serialize_entry("completed_frameworks", &List(completed))
}

/// `/slaves`, all or the one named.
pub fn slaves<S: Serializer>(
    serializer: S,
    sight: Sight<'_>,
    only: Option<&str>,
) -> Result<S::Ok, S::Error> {
    let scene = sight.scene;
    let used = Used::of(scene.frameworks.values());
    let shown = |agent: &&Agent| only.is_none_or(|id| agent.id == id);
    let slave = |agent| Slave { sight, agent, used: &used, in_full: true };
    let slaves = || scene.agents.values().filter(shown).map(slave);
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("slaves", &List(slaves))?;
    if only.is_none() {
        object.serialize_entry("recovered_slaves", &recovered_slaves(scene))?;
    } else {
        object.serialize_entry("recovered_slaves", &NONE)?;
    }
    object.end()
}

/// `/frameworks`, all or the one named.
pub fn frameworks<S: Serializer>(
    serializer: S,
    sight: Sight<'_>,
    only: Option<&str>,
) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(None)?;
    write_frameworks(&mut object, sight, only)?;
    object.serialize_entry("unregistered_frameworks", &NONE)?;
    object.end()
}
