//! Which executors are taken (`validation::executor`).

use mesos::debug_text;
use mesos::resources::Resources;
use mesos::units::Bytes;
use mesos::v1;
use mesos::v1::executor_info::Type;

use super::{Place, is_negative, parts, used};

/// Least that an executor of groups takes itself.
const CPUS_MIN: f64 = 0.01;
const MEM_MIN: Bytes = Bytes(32 << 20);

/// What holds for every executor; whether it does not run yet.
pub(super) fn any(place: Place<'_>, info: &v1::ExecutorInfo) -> Result<bool, String> {
    match info.r#type() {
        Type::Default => of_groups(info)?,
        Type::Custom if info.command.is_none() => {
            return Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned());
        }
        Type::Custom | Type::Unknown => {}
    }
    mesos::ids::validate(&info.executor_id.value)?;
    if is_negative(info.shutdown_grace_period.as_ref()) {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".to_owned());
    }
    parts::launched("Executor's", info.command.as_ref(), info.container.as_ref())?;
    let Some(framework) = &info.framework_id else {
        return Err("'ExecutorInfo.framework_id' must be set".to_owned());
    };
    if framework.value != place.framework.id {
        return Err(format!(
            "ExecutorInfo has an invalid FrameworkID (Actual: {} vs Expected: {})",
            framework.value, place.framework.id
        ));
    }
    used::by_one("Executor", &info.resources)?;
    is_new(place, info)
}

fn of_groups(info: &v1::ExecutorInfo) -> Result<(), String> {
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
    match place.framework.executors.get(&(place.agent.id.clone(), id.clone())) {
        None => Ok(true),
        Some(running) if running == info => Ok(false),
        Some(running) => Err(format!(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{line}\nExisting ExecutorInfo:\n{}\n{line}\nExecutorInfo:\n{}\n{line}\n",
            debug_text::of(running),
            debug_text::of(info),
            line = "-".repeat(60)
        )),
    }
}

/// What a task names as its executor.
pub(super) fn of_task(place: Place<'_>, info: &v1::ExecutorInfo) -> Result<bool, String> {
    let is_new = any(place, info)?;
    if info.r#type.is_some() && info.r#type() != Type::Custom {
        return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned());
    }
    if info.command.is_none() {
        return Err("'ExecutorInfo.command' must be set".to_owned());
    }
    let resources = Resources::from_protos(&info.resources);
    if !resources.shared().is_empty() {
        return Err(format!(
            "Executor resources {resources} should not contain any shared resources"
        ));
    }
    shares_no_cgroups(info)?;
    Ok(is_new)
}

/// What runs a group.
pub(super) fn of_group(
    place: Place<'_>,
    info: &v1::ExecutorInfo,
    tasks: &[v1::TaskInfo],
) -> Result<bool, String> {
    let is_new = any(place, info)?;
    if info.r#type.is_none() {
        return Err("'ExecutorInfo.type' must be set".to_owned());
    }
    if info.r#type() == Type::Unknown {
        return Err("Unknown executor type".to_owned());
    }
    if info.container.as_ref().is_some_and(parts::is_of_docker) {
        return Err("Docker ContainerInfo is not supported on the executor".to_owned());
    }
    let is_another = |task: &&v1::TaskInfo| task.executor.as_ref().is_some_and(|own| own != info);
    if let Some(task) = tasks.iter().find(is_another) {
        return Err(format!(
            "The `ExecutorInfo` of task '{}' is different from executor '{}'",
            task.task_id.value, info.executor_id.value
        ));
    }
    has_enough(info)?;
    Ok(is_new)
}

/// Whether an executor of groups has what it needs itself.
fn has_enough(info: &v1::ExecutorInfo) -> Result<(), String> {
    let (id, own) = (&info.executor_id.value, Resources::from_protos(&info.resources));
    let (cpus, mem) = (own.cpus(), Bytes((own.mem() * 1024.0 * 1024.0) as u64));
    let shown = |text: String, is_there: bool| if is_there { text } else { "None".to_owned() };
    if cpus < CPUS_MIN {
        let cpus = shown(cpus.to_string(), cpus > 0.0);
        return Err(format!(
            "Executor '{id}' uses less CPUs ({cpus}) than the minimum required ({CPUS_MIN})"
        ));
    }
    if mem < MEM_MIN {
        let mem = shown(mem.to_string(), mem > Bytes(0));
        return Err(format!(
            "Executor '{id}' uses less memory ({mem}) than the minimum required ({MEM_MIN})"
        ));
    }
    if own.disk() <= 0.0 {
        return Err(format!("Executor '{id}' uses no disk"));
    }
    Ok(())
}

/// An executor has cgroups of its own, always.
pub(super) fn shares_no_cgroups(info: &v1::ExecutorInfo) -> Result<(), String> {
    let linux = super::linux(info.container.as_ref());
    if linux.is_some_and(|linux| linux.share_cgroups == Some(true)) {
        return Err(
            "The 'share_cgroups' field cannot be set to 'true' on executor containers".to_owned()
        );
    }
    Ok(())
}
