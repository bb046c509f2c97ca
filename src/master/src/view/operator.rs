//! The operator API's read calls (`/api/v1`): messages from the master's state.

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::master::{Event, Response, event, response};

use super::seen::{Everything, Seen, Sight};
use super::state::Used;
use crate::core::copies::Copies;
use crate::core::model::{Agent, Connection, Framework, Offer};
use crate::core::scene::Scene;
use crate::core::{HEARTBEAT_SECONDS, Master};

fn time(seconds: f64) -> Option<v1::TimeInfo> {
    (seconds > 0.0).then_some(v1::TimeInfo { nanoseconds: (seconds * 1e9) as i64 })
}

/// Those of these resources that are seen.
fn visible(seen: &dyn Seen, mut resources: Vec<v1::Resource>) -> Vec<v1::Resource> {
    resources.retain(|resource| seen.resource(resource));
    resources
}

fn agent(
    seen: &dyn Seen,
    agent: &Agent,
    offers: &Copies<Offer>,
    used: &Resources,
) -> response::get_agents::Agent {
    let shown = |resources: &Resources| visible(seen, resources.to_protos_for_endpoints());
    let offers = agent.offers.iter().filter_map(|id| offers.get(id));
    let offered: Resources = offers.map(|offer| &offer.resources).sum();
    let mut info = agent.info.clone();
    info.resources = visible(seen, Resources::from_protos(&info.resources).to_protos());
    response::get_agents::Agent {
        agent_info: info,
        active: agent.is_active(),
        deactivated: Some(agent.deactivated),
        drain_info: agent.drain,
        estimated_drain_start_time: agent.drain_since.and_then(time),
        version: agent.version.clone(),
        pid: Some(agent.pid.to_string()),
        registered_time: time(agent.registered),
        reregistered_time: time(agent.reregistered),
        total_resources: shown(&agent.total),
        allocated_resources: shown(used),
        offered_resources: shown(&offered),
        capabilities: agent.capabilities.clone(),
        ..Default::default()
    }
}

fn framework(scene: &Scene, framework: &Framework) -> response::get_frameworks::Framework {
    let offers: Vec<&Offer> =
        framework.offers.keys().filter_map(|id| scene.offers.get(id)).collect();
    let offered: Resources = offers.iter().map(|offer| &offer.resources).sum();
    response::get_frameworks::Framework {
        framework_info: framework.info.clone(),
        active: framework.active,
        connected: framework.is_connected(),
        recovered: framework.connection == Connection::Recovered,
        registered_time: time(framework.registered),
        reregistered_time: time(framework.reregistered),
        unregistered_time: time(framework.unregistered),
        offers: offers.iter().map(|offer| offer.message.clone()).collect(),
        allocated_resources: framework.used(None).to_protos_for_endpoints(),
        offered_resources: offered.to_protos_for_endpoints(),
        offer_constraints: Some(framework.constraints.clone()),
        inverse_offers: scene
            .inverse_offers
            .values()
            .filter(|offer| offer.framework_id.value == framework.id)
            .cloned()
            .collect(),
    }
}

/// One agent, of which this is used, as `GET_AGENTS` shows it.
pub fn one_agent(
    master: &Master,
    id: &str,
    used: &Resources,
) -> Option<response::get_agents::Agent> {
    master.agents.get(id).map(|known| agent(&Everything, known, &master.offers, used))
}

/// One framework as events show it: without what it holds, with all its times.
pub fn one_framework(master: &Master, id: &str) -> Option<response::get_frameworks::Framework> {
    let known = master.frameworks.get(id)?;
    Some(response::get_frameworks::Framework {
        framework_info: known.info.clone(),
        active: known.active,
        connected: known.is_connected(),
        recovered: known.connection == Connection::Recovered,
        registered_time: time(known.registered),
        reregistered_time: time(known.reregistered),
        unregistered_time: Some(v1::TimeInfo { nanoseconds: (known.unregistered * 1e9) as i64 }),
        ..Default::default()
    })
}

/// `GET_AGENTS`.
pub fn agents(Sight { scene, seen }: Sight<'_>) -> response::GetAgents {
    let used = Used::of(scene.frameworks.values());
    let recovered = |info: &v1::AgentInfo| {
        let resources = visible(seen, info.resources.clone());
        v1::AgentInfo { resources, ..info.clone() }
    };
    response::GetAgents {
        agents: scene
            .agents
            .values()
            .map(|known| agent(seen, known, &scene.offers, &used.on(&known.id)))
            .collect(),
        recovered_agents: scene.recovered_agents.values().map(recovered).collect(),
    }
}

/// `GET_FRAMEWORKS`.
pub fn frameworks(sight: Sight<'_>) -> response::GetFrameworks {
    let shown = |known| framework(sight.scene, known);
    response::GetFrameworks {
        frameworks: sight.frameworks().map(shown).collect(),
        completed_frameworks: sight.completed_frameworks().map(shown).collect(),
        ..Default::default()
    }
}

/// `GET_TASKS`.
pub fn tasks(sight: Sight<'_>) -> response::GetTasks {
    let mut shown = response::GetTasks::default();
    for known in sight.all_frameworks() {
        shown.tasks.extend(sight.of_tasks(known, known.tasks.values()).cloned());
        let unreachable = sight.of_tasks(known, known.unreachable.values());
        shown.unreachable_tasks.extend(unreachable.cloned());
        shown.completed_tasks.extend(sight.of_tasks(known, known.completed_tasks()).cloned());
    }
    shown
}

/// `GET_EXECUTORS`.
pub fn executors(sight: Sight<'_>) -> response::GetExecutors {
    let mut shown = response::GetExecutors::default();
    for known in sight.frameworks() {
        for ((agent, _), info) in &known.executors {
            if sight.seen.executor(&known.info, info) {
                shown.executors.push(response::get_executors::Executor {
                    executor_info: info.clone(),
                    agent_id: v1::AgentId { value: agent.clone() },
                });
            }
        }
    }
    shown
}

/// `GET_STATE`.
pub fn state(sight: Sight<'_>) -> response::GetState {
    response::GetState {
        get_tasks: Some(tasks(sight)),
        get_executors: Some(executors(sight)),
        get_frameworks: Some(frameworks(sight)),
        get_agents: Some(agents(sight)),
    }
}

/// `GET_OPERATIONS`.
pub fn operations(Sight { scene, seen }: Sight<'_>) -> response::GetOperations {
    let operations = scene.agents.values().flat_map(|agent| agent.operations.values());
    // Who sees what an operation takes sees the operation.
    let is_seen = |operation: &&v1::Operation| {
        let conversions = mesos::resources::conversions(&operation.info);
        conversions.is_ok_and(|all| {
            let consumed = all.iter().flat_map(|conversion| conversion.consumed.to_protos());
            consumed.into_iter().all(|resource| seen.resource(&resource))
        })
    };
    response::GetOperations { operations: operations.filter(is_seen).cloned().collect() }
}

/// What a new subscriber of events hears first.
pub fn greeting(sight: Sight<'_>) -> [Event; 2] {
    let subscribed = event::Subscribed {
        get_state: Some(state(sight)),
        heartbeat_interval_seconds: Some(HEARTBEAT_SECONDS),
    };
    [
        Event { subscribed: Some(subscribed), ..notice(event::Type::Subscribed) },
        notice(event::Type::Heartbeat),
    ]
}

/// `GET_WEIGHTS`.
pub fn weights(master: &Master) -> response::GetWeights {
    response::GetWeights {
        weight_infos: master.registry.weights.iter().map(|weight| weight.info.clone()).collect(),
    }
}

/// `GET_MASTER`.
pub fn master(master: &Master, start_time: f64) -> response::GetMaster {
    response::GetMaster {
        master_info: Some(master.info.clone()),
        start_time: Some(start_time),
        elected_time: Some(master.elected),
    }
}

/// An event with nothing in it but its type.
pub fn notice(kind: event::Type) -> Event {
    Event { r#type: Some(kind as i32), ..Default::default() }
}

/// An answer with nothing in it but its type.
pub fn answer(kind: response::Type) -> Response {
    Response { r#type: Some(kind as i32), ..Default::default() }
}
