//! What frameworks may launch (`master/validation.cpp`), checked in the original's order and refused in its words.

pub(super) mod operations;

use mesos::resources::Resources;
use mesos::units::Bytes;
use mesos::v1::executor_info::Type;
use mesos::v1::{self, health_check::Type as Check};

use super::model::Framework;

/// Least that an executor of groups takes itself.
const EXECUTOR_CPUS_MIN: f64 = 0.01;
const EXECUTOR_MEM_MIN: Bytes = Bytes(32 << 20);

/// Where a task is to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Whose it is.
    pub(super) framework: &'a Framework,
    /// The agent that the offers are of.
    pub(super) agent: &'a str,
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
    if let Some(info) = &task.executor {
        executor(place, info)?;
        if info.r#type.is_some() && info.r#type() != Type::Custom {
            return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned());
        }
        if info.command.is_none() {
            return Err("'ExecutorInfo.command' must be set".to_owned());
        }
        if is_new(place, info)? {
            needed.add(&Resources::from_protos(&info.resources));
        }
    }
    fits(place, &needed, "task and its executor is")?;
    Ok(needed)
}

/// Whether an executor of groups has what it needs itself.
fn has_enough(info: &v1::ExecutorInfo) -> Result<(), String> {
    let (id, own) = (&info.executor_id.value, Resources::from_protos(&info.resources));
    let (cpus, mem) = (own.cpus(), Bytes((own.mem() * 1024.0 * 1024.0) as u64));
    let shown = |text: String, is_there: bool| if is_there { text } else { "None".to_owned() };
    if cpus < EXECUTOR_CPUS_MIN {
        let cpus = shown(cpus.to_string(), cpus > 0.0);
        return Err(format!(
            "Executor '{id}' uses less CPUs ({cpus}) than the minimum required ({EXECUTOR_CPUS_MIN})"
        ));
    }
    if mem < EXECUTOR_MEM_MIN {
        let mem = shown(mem.to_string(), mem > Bytes(0));
        return Err(format!(
            "Executor '{id}' uses less memory ({mem}) than the minimum required ({EXECUTOR_MEM_MIN})"
        ));
    }
    if own.disk() <= 0.0 {
        return Err(format!("Executor '{id}' uses no disk"));
    }
    Ok(())
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
    executor(place, info)?;
    if info.r#type.is_none() {
        return Err("'ExecutorInfo.type' must be set".to_owned());
    }
    if info.r#type() == Type::Unknown {
        return Err("Unknown executor type".to_owned());
    }
    if is_of_docker(info.container.as_ref()) {
        return Err("Docker ContainerInfo is not supported on the executor".to_owned());
    }
    let mut needed = Resources::new();
    for task in tasks {
        if task.executor.as_ref().is_some_and(|own| own != info) {
            return Err(format!(
                "The `ExecutorInfo` of task '{}' is different from executor '{}'",
                task.task_id.value, info.executor_id.value
            ));
        }
        needed.add(&Resources::from_protos(&task.resources));
    }
    has_enough(info)?;
    let mut ids: Vec<&str> = tasks.iter().map(|task| task.task_id.value.as_str()).collect();
    ids.sort_unstable();
    if let Some([id, _]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("Task has duplicate ID: {id}"));
    }
    if is_new(place, info)? {
        needed.add(&Resources::from_protos(&info.resources));
    }
    fits(place, &needed, "task group and its executor are")?;
    Ok(needed)
}

fn of_group(place: Place<'_>, task: &v1::TaskInfo) -> Result<(), String> {
    by_itself(place, task)?;
    if is_of_docker(task.container.as_ref()) {
        return Err("Docker ContainerInfo is not supported on the task".to_owned());
    }
    Ok(())
}

fn is_of_docker(container: Option<&v1::ContainerInfo>) -> bool {
    container.is_some_and(|container| container.r#type() == v1::container_info::Type::Docker)
}

fn by_itself(place: Place<'_>, task: &v1::TaskInfo) -> Result<(), String> {
    let id = &task.task_id.value;
    mesos::ids::validate(id)?;
    if place.framework.tasks.contains_key(id) || place.framework.unreachable.contains_key(id) {
        return Err(format!("Task has duplicate ID: {id}"));
    }
    if task.agent_id.value != place.agent {
        return Err(format!(
            "Task uses invalid agent {} while agent {} is expected",
            task.agent_id.value, place.agent
        ));
    }
    if is_negative(task.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref())) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if is_negative(task.max_completion_time.as_ref()) {
        return Err("Task's `max_completion_time` must be non-negative".to_owned());
    }
    if let Some(check) = &task.health_check {
        health_check(check)
            .map_err(|reason| format!("Task uses invalid health check: {reason}"))?;
    }
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    operations::resources(&task.resources)
        .map_err(|reason| format!("Task uses invalid resources: {reason}"))?;
    if let Some(info) = &task.command {
        command(info).map_err(|reason| format!("Task's `CommandInfo` is invalid: {reason}"))?;
    }
    Ok(())
}

fn is_negative(duration: Option<&v1::DurationInfo>) -> bool {
    duration.is_some_and(|duration| duration.nanoseconds < 0)
}

fn health_check(check: &v1::HealthCheck) -> Result<(), String> {
    let (http, tcp) = (check.http.is_some(), check.tcp.is_some());
    match check.r#type.map(|_| check.r#type()) {
        None => return Err("HealthCheck must specify 'type'".to_owned()),
        Some(Check::Unknown) => {
            return Err("'UNKNOWN' is not a valid health check type".to_owned());
        }
        Some(Check::Command) => {
            let Some(info) = &check.command else {
                return Err("Expecting 'command' to be set for COMMAND health check".to_owned());
            };
            command(info)
                .map_err(|reason| format!("Health check's `CommandInfo` is invalid: {reason}"))?;
        }
        Some(Check::Http) if !http => {
            return Err("Expecting 'http' to be set for HTTP health check".to_owned());
        }
        Some(Check::Tcp) if !tcp => {
            return Err("Expecting 'tcp' to be set for TCP health check".to_owned());
        }
        Some(Check::Http | Check::Tcp) => {}
    }
    for (name, value) in [
        ("delay_seconds", check.delay_seconds()),
        ("interval_seconds", check.interval_seconds()),
        ("timeout_seconds", check.timeout_seconds()),
        ("grace_period_seconds", check.grace_period_seconds()),
    ] {
        if value < 0.0 || value.is_nan() {
            return Err(format!("Expecting '{name}' to be non-negative"));
        }
    }
    Ok(())
}

fn command(command: &v1::CommandInfo) -> Result<(), String> {
    for variable in command.environment.iter().flat_map(|environment| &environment.variables) {
        if variable.value.is_none() && variable.secret.is_none() {
            return Err(format!(
                "Environment variable '{}' of type 'VALUE' must have a value set",
                variable.name
            ));
        }
    }
    Ok(())
}

fn executor(place: Place<'_>, info: &v1::ExecutorInfo) -> Result<(), String> {
    mesos::ids::validate(&info.executor_id.value)?;
    let Some(framework) = &info.framework_id else {
        return Err("'ExecutorInfo.framework_id' must be set".to_owned());
    };
    if framework.value != place.framework.id {
        return Err(format!(
            "ExecutorInfo has an invalid FrameworkID (Actual: {} vs Expected: {})",
            framework.value, place.framework.id
        ));
    }
    match info.r#type() {
        Type::Default => of_default_executor(info)?,
        Type::Custom if info.command.is_none() => {
            return Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned());
        }
        Type::Custom | Type::Unknown => {}
    }
    if is_negative(info.shutdown_grace_period.as_ref()) {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".to_owned());
    }
    if let Some(info) = &info.command {
        command(info).map_err(|reason| format!("Executor's `CommandInfo` is invalid: {reason}"))?;
    }
    Resources::validate(&info.resources)
        .map_err(|reason| format!("Executor uses invalid resources: {reason}"))
}

fn of_default_executor(info: &v1::ExecutorInfo) -> Result<(), String> {
    if info.command.is_some() {
        return Err("'ExecutorInfo.command' must not be set for 'DEFAULT' executor".to_owned());
    }
    let Some(container) = &info.container else { return Ok(()) };
    if container.r#type() != v1::container_info::Type::Mesos {
        return Err(
            "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor".to_owned()
        );
    }
    if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
        return Err("'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor"
            .to_owned());
    }
    Ok(())
}

/// Whether an executor does not run yet; one that does must be the same.
fn is_new(place: Place<'_>, info: &v1::ExecutorInfo) -> Result<bool, String> {
    let id = &info.executor_id.value;
    match place.framework.executors.get(&(place.agent.to_owned(), id.clone())) {
        None => Ok(true),
        Some(running) if running == info => Ok(false),
        Some(running) => Err(format!(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{line}\nExisting ExecutorInfo:\n{running:?}\n{line}\nTask's ExecutorInfo:\n{info:?}\n{line}\n",
            line = "-".repeat(60)
        )),
    }
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
