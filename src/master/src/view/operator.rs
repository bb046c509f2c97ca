//! The operator API's read calls (`/api/v1`): messages from the master's state.

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::master::{Response, response};

use crate::core::Master;
use crate::core::model::{Agent, Connection, Framework};

fn time(seconds: f64) -> Option<v1::TimeInfo> {
    (seconds > 0.0).then_some(v1::TimeInfo { nanoseconds: (seconds * 1e9) as i64 })
}

fn agent(master: &Master, agent: &Agent) -> response::get_agents::Agent {
    let used: Resources = master
        .frameworks
        .values()
        .map(|framework| framework.used(Some(&agent.id)))
        .collect::<Vec<_>>()
        .iter()
        .sum();
    let offered: Resources = agent
        .offers
        .iter()
        .filter_map(|id| master.offers.get(id))
        .map(|offer| &offer.resources)
        .sum();
    let mut info = agent.info.clone();
    info.checkpoint = None;
    response::get_agents::Agent {
        agent_info: info,
        active: agent.connected,
        deactivated: Some(false),
        version: agent.version.clone(),
        pid: Some(agent.pid.to_string()),
        registered_time: time(agent.registered),
        reregistered_time: time(agent.reregistered),
        total_resources: agent.total.to_protos(),
        allocated_resources: used.to_protos(),
        offered_resources: offered.to_protos(),
        capabilities: agent.capabilities.clone(),
        ..Default::default()
    }
}

fn framework(master: &Master, framework: &Framework) -> response::get_frameworks::Framework {
    let offers: Vec<&crate::core::model::Offer> =
        framework.offers.iter().filter_map(|id| master.offers.get(id)).collect();
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
        allocated_resources: framework.used(None).to_protos(),
        offered_resources: offered.to_protos(),
        ..Default::default()
    }
}

/// `GET_AGENTS`.
pub fn agents(master: &Master) -> response::GetAgents {
    response::GetAgents {
        agents: master.agents.values().map(|known| agent(master, known)).collect(),
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
        completed_tasks: all().flat_map(|known| known.completed.iter().cloned()).collect(),
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
    let mut names: Vec<String> = master.frameworks.values().flat_map(Framework::roles).collect();
    names.sort();
    names.dedup();
    let roles = names.into_iter().map(|name| v1::Role {
        frameworks: master
            .frameworks
            .values()
            .filter(|known| known.roles().contains(&name))
            .map(|known| v1::FrameworkId { value: known.id.clone() })
            .collect(),
        resources: master
            .frameworks
            .values()
            .filter(|known| known.roles().contains(&name))
            .map(|known| known.used(None))
            .collect::<Vec<_>>()
            .iter()
            .sum::<Resources>()
            .to_protos(),
        name,
        weight: 1.0,
    });
    response::GetRoles { roles: roles.collect() }
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
