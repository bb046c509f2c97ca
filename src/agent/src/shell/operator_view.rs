//! The operator API's read calls: messages from the agent's state (`slave/http.cpp`).

use access::guard::Caller;
use mesos::resources::{Resources, conversions};
use mesos::v1;
use mesos::v1::TaskState;
use mesos::v1::agent::{Response, response};

use crate::core::{Agent, Executor, Framework};

/// An answer with nothing in it but its type.
pub fn answer(kind: response::Type) -> Response {
    Response { r#type: Some(kind as i32), ..Default::default() }
}

/// Those that are here and those that are over, as far as a caller sees them.
fn all_frameworks<'a>(
    agent: &'a Agent,
    caller: &'a Caller,
) -> impl Iterator<Item = (&'a str, &'a Framework)> {
    let running = agent.frameworks.iter().map(|(id, framework)| (id.as_str(), framework));
    let completed = &agent.completed_frameworks;
    let all = running.chain(completed.iter().map(|(id, framework)| (id.as_str(), framework)));
    all.filter(|(_, framework)| caller.sees_framework(&framework.info))
}

fn framework(id: &str, framework: &Framework) -> response::get_frameworks::Framework {
    let mut info = framework.info.clone();
    info.id.get_or_insert_with(|| v1::FrameworkId { value: id.to_owned() });
    response::get_frameworks::Framework { framework_info: info }
}

/// `GET_FRAMEWORKS`.
pub fn frameworks(agent: &Agent, caller: &Caller) -> response::GetFrameworks {
    let is_seen = |known: &Framework| caller.sees_framework(&known.info);
    let running = agent.frameworks.iter().filter(|(_, known)| is_seen(known));
    let completed = agent.completed_frameworks.iter().filter(|(_, known)| is_seen(known));
    response::GetFrameworks {
        frameworks: running.map(|(id, known)| framework(id, known)).collect(),
        completed_frameworks: completed.map(|(id, known)| framework(id, known)).collect(),
    }
}

/// `GET_EXECUTORS`.
pub fn executors(agent: &Agent, caller: &Caller) -> response::GetExecutors {
    let mut shown = response::GetExecutors::default();
    for (_, framework) in all_frameworks(agent, caller) {
        let seen = |executor: &&Executor| caller.sees_executor(&framework.info, &executor.info);
        let message = |executor: &Executor| response::get_executors::Executor {
            executor_info: executor.info.clone(),
        };
        shown.executors.extend(framework.executors.values().filter(seen).map(message));
        shown.completed_executors.extend(framework.completed.iter().filter(seen).map(message));
    }
    shown
}

/// `GET_TASKS`.
pub fn tasks(agent: &Agent, caller: &Caller) -> response::GetTasks {
    let mut tasks = response::GetTasks::default();
    for (id, framework) in all_frameworks(agent, caller) {
        let of = &framework.info;
        let executors = framework.executors.values().chain(&framework.completed);
        for executor in executors.filter(|own| caller.sees_executor(of, &own.info)) {
            let queued = executor.queued.values().filter(|task| caller.sees_queued(of, task));
            tasks
                .queued_tasks
                .extend(queued.map(|task| crate::core::task_of(task, id, TaskState::TaskStaging)));
            let launched = executor.tasks.values().filter(|task| caller.sees_task(of, task));
            tasks.launched_tasks.extend(launched.map(|task| agent.task_with_head(id, task)));
            for task in executor.completed.iter().filter(|task| caller.sees_task(of, task)) {
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
pub fn state(agent: &Agent, caller: &Caller) -> response::GetState {
    response::GetState {
        get_tasks: Some(tasks(agent, caller)),
        get_executors: Some(executors(agent, caller)),
        get_frameworks: Some(frameworks(agent, caller)),
    }
}

/// `GET_OPERATIONS`: those all of whose resources a caller sees.
pub fn operations(agent: &Agent, caller: &Caller) -> response::GetOperations {
    let is_seen = |operation: &&v1::Operation| {
        conversions(&operation.info).is_ok_and(|all| {
            let mut consumed = all.iter().flat_map(|own| own.consumed.to_protos());
            consumed.all(|resource| caller.sees_resource(&resource))
        })
    };
    response::GetOperations { operations: agent.operations().filter(is_seen).cloned().collect() }
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
