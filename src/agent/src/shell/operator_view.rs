//! The operator API's read calls: messages from the agent's state (`slave/http.cpp`).

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::TaskState;
use mesos::v1::agent::{Response, response};

use crate::core::{Agent, Executor, Framework};

/// An answer with nothing in it but its type.
pub fn answer(kind: response::Type) -> Response {
    Response { r#type: Some(kind as i32), ..Default::default() }
}

fn all_frameworks(agent: &Agent) -> impl Iterator<Item = (&str, &Framework)> {
    let running = agent.frameworks.iter().map(|(id, framework)| (id.as_str(), framework));
    let completed = &agent.completed_frameworks;
    running.chain(completed.iter().map(|(id, framework)| (id.as_str(), framework)))
}

fn framework(id: &str, framework: &Framework) -> response::get_frameworks::Framework {
    let mut info = framework.info.clone();
    info.id.get_or_insert_with(|| v1::FrameworkId { value: id.to_owned() });
    response::get_frameworks::Framework { framework_info: info }
}

/// `GET_FRAMEWORKS`.
pub fn frameworks(agent: &Agent) -> response::GetFrameworks {
    response::GetFrameworks {
        frameworks: agent.frameworks.iter().map(|(id, known)| framework(id, known)).collect(),
        completed_frameworks: agent
            .completed_frameworks
            .iter()
            .map(|(id, known)| framework(id, known))
            .collect(),
    }
}

/// `GET_EXECUTORS`.
pub fn executors(agent: &Agent) -> response::GetExecutors {
    let shown = |executor: &Executor| response::get_executors::Executor {
        executor_info: executor.info.clone(),
    };
    response::GetExecutors {
        executors: agent.executors().map(shown).collect(),
        completed_executors: all_frameworks(agent)
            .flat_map(|(_, framework)| framework.completed.iter().map(shown))
            .collect(),
    }
}

/// `GET_TASKS`.
pub fn tasks(agent: &Agent) -> response::GetTasks {
    let mut tasks = response::GetTasks::default();
    for (id, framework) in all_frameworks(agent) {
        for executor in framework.executors.values().chain(&framework.completed) {
            tasks.queued_tasks.extend(
                executor
                    .queued
                    .values()
                    .map(|task| crate::core::task_of(task, id, TaskState::TaskStaging)),
            );
            let launched = executor.tasks.values();
            tasks.launched_tasks.extend(launched.map(|task| agent.task_with_head(id, task)));
            for task in &executor.completed {
                let is_pending =
                    agent.updates.has_pending(&(id.to_owned(), task.task_id.value.clone()));
                let task = agent.task_with_head(id, task);
                if is_pending {
                    tasks.terminated_tasks.push(task);
                } else {
                    tasks.completed_tasks.push(task);
                }
            }
        }
    }
    tasks
}

/// `GET_STATE`.
pub fn state(agent: &Agent) -> response::GetState {
    response::GetState {
        get_tasks: Some(tasks(agent)),
        get_executors: Some(executors(agent)),
        get_frameworks: Some(frameworks(agent)),
    }
}

/// `GET_AGENT`.
pub fn agent(agent: &Agent) -> response::GetAgent {
    let mut info = agent.info.clone();
    info.resources = Resources::from_protos(&info.resources).to_protos();
    let began =
        |drain: &crate::core::Drain| v1::TimeInfo { nanoseconds: (drain.began * 1e9) as i64 };
    response::GetAgent {
        agent_info: Some(info),
        drain_config: agent.draining.as_ref().map(|drain| drain.config),
        estimated_drain_start_time: agent.draining.as_ref().map(began),
    }
}
