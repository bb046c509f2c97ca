//! What frameworks may launch (`master/validation.cpp`), checked in the original's order and refused in its words.

mod executor;
pub(super) mod operations;
mod parts;
mod used;

use std::collections::BTreeMap;

use mesos::resources::Resources;
use mesos::v1::agent_info::capability::Type as Capability;
use mesos::v1::{self, health_check::Type as Check};

use super::model::{Agent, Framework};

/// Where a task is to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Whose it is.
    pub(super) framework: &'a Framework,
    /// The agent that the offers are of.
    pub(super) agent: &'a Agent,
    /// What is left of the offers.
    pub(super) remaining: &'a Resources,
}

/// Checks a task of a LAUNCH; what it and a new executor need.
pub(super) fn task(place: Place<'_>, task: &v1::TaskInfo) -> Result<Resources, String> {
    by_itself(place, task)?;
    if task.executor.is_some() == task.command.is_some() {
        return Err(
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
                .to_owned(),
        );
    }
    let mut needed = Resources::from_protos(&task.resources);
    if let Some(info) = &task.executor
        && executor::of_task(place, info)?
    {
        needed.add(&Resources::from_protos(&info.resources));
    }
    used::by_task(task)?;
    fits(place, &needed, "task and its executor is")?;
    if !shares_cgroups(task.container.as_ref()) {
        return Err("Only tasks in a task group may have 'share_cgroups' set to 'false'".to_owned());
    }
    Ok(needed)
}

/// Checks a LAUNCH_GROUP: nothing of it runs unless all may; what it and a new executor need.
pub(super) fn group(
    place: Place<'_>,
    info: &v1::ExecutorInfo,
    tasks: &[v1::TaskInfo],
) -> Result<Resources, String> {
    if tasks.is_empty() {
        return Err("Task group cannot be empty".to_owned());
    }
    for task in tasks {
        of_group(place, task)
            .map_err(|reason| format!("Task '{}' is invalid: {reason}", task.task_id.value))?;
    }
    let mut ids: Vec<&str> = tasks.iter().map(|task| task.task_id.value.as_str()).collect();
    ids.sort_unstable();
    if let Some([id, _]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("Task has duplicate ID: {id}"));
    }
    let is_new = executor::of_group(place, info, tasks)?;
    used::by_group(tasks, info)?;
    let mut needed = Resources::new();
    for task in tasks {
        needed.add(&Resources::from_protos(&task.resources));
    }
    if is_new {
        needed.add(&Resources::from_protos(&info.resources));
    }
    fits(place, &needed, "task group and its executor are")?;
    executor::shares_no_cgroups(info)?;
    share_cgroups_alike(place, info, tasks)?;
    Ok(needed)
}

fn linux(container: Option<&v1::ContainerInfo>) -> Option<&v1::LinuxInfo> {
    container.and_then(|container| container.linux_info.as_ref())
}

/// Whether a task shares the cgroups of its executor, as all do of which nothing else is said.
fn shares_cgroups(container: Option<&v1::ContainerInfo>) -> bool {
    linux(container).is_none_or(v1::LinuxInfo::share_cgroups)
}

fn of_group(place: Place<'_>, task: &v1::TaskInfo) -> Result<(), String> {
    by_itself(place, task)?;
    if let Some(container) = &task.container {
        let is_probed =
            |check: &v1::HealthCheck| matches!(check.r#type(), Check::Http | Check::Tcp);
        if !container.network_infos.is_empty() && task.health_check.as_ref().is_some_and(is_probed)
        {
            return Err("HTTP and TCP health checks are not supported for nested containers not joining parent's network".to_owned());
        }
        if parts::is_of_docker(container) {
            return Err("Docker ContainerInfo is not supported on the task".to_owned());
        }
    }
    if !task.limits.is_empty() && shares_cgroups(task.container.as_ref()) {
        return Err("Resource limits may only be set for tasks within a task group when the 'share_cgroups' field is set to 'false'.".to_owned());
    }
    Ok(())
}

/// All tasks of a group, and all that its executor has, share its cgroups or none does.
fn share_cgroups_alike(
    place: Place<'_>,
    info: &v1::ExecutorInfo,
    tasks: &[v1::TaskInfo],
) -> Result<(), String> {
    let known = place.framework.tasks.values().chain(place.framework.unreachable.values());
    let there = known.filter(|task| {
        task.agent_id.value == place.agent.id
            && task.executor_id.as_ref() == Some(&info.executor_id)
    });
    let mut all = tasks
        .iter()
        .map(|task| shares_cgroups(task.container.as_ref()))
        .chain(there.map(|task| shares_cgroups(task.container.as_deref())));
    let first = all.next();
    if all.any(|shares| Some(shares) != first) {
        return Err("If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under a single executor".to_owned());
    }
    Ok(())
}

fn by_itself(place: Place<'_>, task: &v1::TaskInfo) -> Result<(), String> {
    let id = &task.task_id.value;
    mesos::ids::validate(id)?;
    if place.framework.tasks.contains_key(id) {
        return Err(format!("Task has duplicate ID: {id}"));
    }
    if place.framework.unreachable.contains_key(id) {
        return Err(format!("Task reuses the ID of an unreachable task: {id}"));
    }
    if task.agent_id.value != place.agent.id {
        return Err(format!(
            "Task uses invalid agent {} while agent {} is expected",
            task.agent_id.value, place.agent.id
        ));
    }
    if is_negative(task.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref())) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if is_negative(task.max_completion_time.as_ref()) {
        return Err("Task's `max_completion_time` must be non-negative".to_owned());
    }
    if let Some(check) = &task.check {
        parts::check(check).map_err(|reason| format!("Task uses invalid check: {reason}"))?;
    }
    if let Some(check) = &task.health_check {
        parts::health_check(check)
            .map_err(|reason| format!("Task uses invalid health check: {reason}"))?;
    }
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    used::by_one("Task", &task.resources)?;
    parts::launched("Task's", task.command.as_ref(), task.container.as_ref())?;
    limits(place.agent, task)
}

/// Checks the most of CPUs and memory that a task may use, which may be more than it asks for.
fn limits(agent: &Agent, task: &v1::TaskInfo) -> Result<(), String> {
    let refuse = |text: &str| Err(text.to_owned());
    if task.limits.is_empty() {
        return Ok(());
    }
    if !agent.can(Capability::TaskResourceLimits) {
        return refuse("Agent is not capable of handling task resource limits");
    }
    let limits: BTreeMap<&str, f64> =
        task.limits.iter().map(|(name, limit)| (name.as_str(), limit.value)).collect();
    if limits.keys().any(|name| !matches!(*name, "cpus" | "mem")) {
        return refuse("Only cpus and mem may be included in a task's resource limits");
    }
    let requests = Resources::from_protos(&task.resources).scalars();
    let request = |name: &str| requests.get(name).map(|value| value.to_f64());
    for (name, first, second) in [("cpus", "CPU", "cpu"), ("mem", "memory", "memory")] {
        let Some(limit) = limits.get(name) else { continue };
        match request(name) {
            None => {
                return Err(format!(
                    "When a {first} limit is specified, a {first} request must also be specified"
                ));
            }
            Some(request) if *limit < request || limit.is_nan() => {
                return Err(format!(
                    "The {second} limit must be greater than or equal to the {second} request"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn is_negative(duration: Option<&v1::DurationInfo>) -> bool {
    duration.is_some_and(|duration| duration.nanoseconds < 0)
}

fn fits(place: Place<'_>, needed: &Resources, what: &str) -> Result<(), String> {
    if place.remaining.contains(needed) {
        return Ok(());
    }
    Err(format!(
        "Total resources {needed} required by {what} more than available {}",
        place.remaining
    ))
}
