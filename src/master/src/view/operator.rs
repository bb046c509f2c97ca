//! The operator API's read calls (`/api/v1`): messages from the master's state.

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::master::{Response, response};

use super::state::Used;
use super::summary;
use crate::core::Master;
use crate::core::model::{Agent, Connection, Framework};

fn time(seconds: f64) -> Option<v1::TimeInfo> {
    (seconds > 0.0).then_some(v1::TimeInfo { nanoseconds: (seconds * 1e9) as i64 })
}

fn agent(master: &Master, agent: &Agent, used: &Used<'_>) -> response::get_agents::Agent {
    let offers = agent.offers.iter().filter_map(|id| master.offers.get(id));
    let offered: Resources = offers.map(|offer| &offer.resources).sum();
    let mut info = agent.info.clone();
    info.resources = Resources::from_protos(&info.resources).to_protos();
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
        total_resources: agent.total.to_protos_for_endpoints(),
        allocated_resources: used.on(&agent.id).to_protos_for_endpoints(),
        offered_resources: offered.to_protos_for_endpoints(),
        capabilities: agent.capabilities.clone(),
        ..Default::default()
    }
}

fn framework(master: &Master, framework: &Framework) -> response::get_frameworks::Framework {
    let offers: Vec<&crate::core::model::Offer> =
        framework.offers.keys().filter_map(|id| master.offers.get(id)).collect();
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
        inverse_offers: master
            .inverse_offers
            .values()
            .filter(|offer| offer.framework_id.value == framework.id)
            .cloned()
            .collect(),
    }
}

/// One agent as `GET_AGENTS` shows it.
pub fn one_agent(master: &Master, id: &str) -> Option<response::get_agents::Agent> {
    master.agents.get(id).map(|known| agent(master, known, &Used::of(master.frameworks.values())))
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
pub fn agents(master: &Master) -> response::GetAgents {
    let used = Used::of(master.frameworks.values());
    response::GetAgents {
        agents: master.agents.values().map(|known| agent(master, known, &used)).collect(),
        recovered_agents: master.recovered_agents.values().cloned().collect(),
    }
}

/// `GET_FRAMEWORKS`.
pub fn frameworks(master: &Master) -> response::GetFrameworks {
    response::GetFrameworks {
        frameworks: master.frameworks.values().map(|known| framework(master, known)).collect(),
        completed_frameworks: master
            .completed_frameworks
            .values()
            .map(|known| framework(master, known))
            .collect(),
        ..Default::default()
    }
}

/// `GET_TASKS`.
pub fn tasks(master: &Master) -> response::GetTasks {
    let all = || master.frameworks.values().chain(master.completed_frameworks.values());
    response::GetTasks {
        tasks: all().flat_map(|known| known.tasks.values().cloned()).collect(),
        unreachable_tasks: all().flat_map(|known| known.unreachable.values().cloned()).collect(),
        completed_tasks: all()
            .flat_map(|known| known.completed.iter().map(|task| v1::Task::clone(task)))
            .collect(),
        ..Default::default()
    }
}

/// `GET_EXECUTORS`.
pub fn executors(master: &Master) -> response::GetExecutors {
    let executors =
        master.frameworks.values().flat_map(|known| &known.executors).map(|((agent, _), info)| {
            response::get_executors::Executor {
                executor_info: info.clone(),
                agent_id: v1::AgentId { value: agent.clone() },
            }
        });
    response::GetExecutors { executors: executors.collect(), ..Default::default() }
}

/// `GET_STATE`.
pub fn state(master: &Master) -> response::GetState {
    response::GetState {
        get_tasks: Some(tasks(master)),
        get_executors: Some(executors(master)),
        get_frameworks: Some(frameworks(master)),
        get_agents: Some(agents(master)),
    }
}

/// `GET_ROLES`.
pub fn roles(master: &Master) -> response::GetRoles {
    let role = |(name, frameworks): (String, Vec<&Framework>)| {
        let (mut held, offered) = summary::held(master, &name, &frameworks);
        held.add(&offered);
        let sums = held.scalars().into_iter().filter(|(_, value)| value.0 > 0);
        v1::Role {
            weight: summary::weight(master, &name),
            frameworks: frameworks
                .iter()
                .map(|known| v1::FrameworkId { value: known.id.clone() })
                .collect(),
            resources: sums
                .map(|(name, value)| v1::Resource {
                    name,
                    r#type: v1::value::Type::Scalar as i32,
                    scalar: Some(v1::value::Scalar { value: value.to_f64() }),
                    ..Default::default()
                })
                .collect(),
            name,
        }
    };
    response::GetRoles { roles: summary::known_roles(master).into_iter().map(role).collect() }
}

/// `GET_OPERATIONS`.
pub fn operations(master: &Master) -> response::GetOperations {
    let operations = master.agents.values().flat_map(|agent| agent.operations.values());
    response::GetOperations { operations: operations.cloned().collect() }
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

/// An answer with nothing in it but its type.
pub fn answer(kind: response::Type) -> Response {
    Response { r#type: Some(kind as i32), ..Default::default() }
}

/// The lists that the original writes in JSON even when they are empty, in order, by the member that holds them.
const LISTS: &[(&str, &[&str])] = &[
    ("get_tasks", &["tasks", "unreachable_tasks", "completed_tasks"]),
    ("get_executors", &["executors"]),
    ("get_frameworks", &["frameworks", "completed_frameworks"]),
    ("get_agents", &["agents", "recovered_agents"]),
];

/// An answer's JSON with its empty lists.
pub fn with_empty_lists(value: &mut serde_json::Value) {
    mesos::json::with_empty_lists(value, LISTS);
}
