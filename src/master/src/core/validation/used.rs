//! Which resources tasks and executors may use, alone and together (`validation::resource`).

use std::collections::{BTreeMap, BTreeSet};

use mesos::resources::{Milli, Resources, reserved_role};
use mesos::v1;

use super::operations;

/// Checks what a task or an executor uses; in the middle of some texts it is called otherwise.
pub(super) fn by_one(what: &str, resources: &[v1::Resource]) -> Result<(), String> {
    operations::resources(resources)
        .map_err(|reason| format!("{what} uses invalid resources: {reason}"))?;
    let set = Resources::from_protos(resources);
    different_volumes(&set)
        .map_err(|reason| format!("{what} uses duplicate persistence ID: {reason}"))?;
    operations::of_one_role(resources)
        .map_err(|reason| format!("Invalid {} resources: {reason}", what.to_lowercase()))?;
    of_one_kind(&set)
        .map_err(|reason| format!("{what} mixes revocable and non-revocable resources: {reason}"))
}

/// Checks what a task and its executor use together.
pub(super) fn by_task(task: &v1::TaskInfo) -> Result<(), String> {
    let own = Resources::from_protos(&task.resources);
    let executor = task.executor.as_ref();
    let others = executor.map(|info| Resources::from_protos(&info.resources)).unwrap_or_default();
    let mut total = own.clone();
    total.add(&others);
    if overlap(&[&own, &others]) {
        return Err(format!(
            "There are overlapping resources in the task resources {own} and executor resources {others}"
        ));
    }
    different_volumes(&total).map_err(|reason| {
        format!("Task and its executor use duplicate persistence ID: {reason}")
    })?;
    of_one_kind(&total).map_err(|reason| {
        format!("Task and its executor mix revocable and non-revocable resources: {reason}")
    })
}

/// Checks what a group and its executor use together.
pub(super) fn by_group(tasks: &[v1::TaskInfo], info: &v1::ExecutorInfo) -> Result<(), String> {
    let executor = Resources::from_protos(&info.resources);
    let each: Vec<Resources> =
        tasks.iter().map(|task| Resources::from_protos(&task.resources)).collect();
    let mut total = executor.clone();
    for own in &each {
        total.add(own);
    }
    different_volumes(&total).map_err(|reason| {
        format!("Task group and executor use duplicate persistence ID: {reason}")
    })?;
    of_one_kind(&total).map_err(|reason| {
        format!("Task group and executor mix revocable and non-revocable resources: {reason}")
    })?;
    let all: Vec<&Resources> = each.iter().chain([&executor]).collect();
    if overlap(&all) {
        let each: Vec<String> = each.iter().map(ToString::to_string).collect();
        return Err(format!(
            "There are overlapping resources in the task group's task resources [ {} ] and/or executor resources {executor}",
            each.join(", ")
        ));
    }
    Ok(())
}

fn different_volumes(resources: &Resources) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for volume in resources.persistent_volumes().to_protos() {
        let persistence = volume.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
        let Some(id) = persistence.map(|persistence| persistence.id.clone()) else { continue };
        if !seen.insert((reserved_role(&volume).to_owned(), id.clone())) {
            return Err(format!("Persistence ID '{id}' is not unique"));
        }
    }
    Ok(())
}

fn of_one_kind(resources: &Resources) -> Result<(), String> {
    let mut kinds: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for resource in resources.to_protos() {
        kinds.entry(resource.name).or_default().insert(resource.revocable.is_some());
    }
    match kinds.iter().find(|(_, kinds)| kinds.len() > 1) {
        Some((name, _)) => {
            Err(format!("Cannot use both revocable and non-revocable '{name}' at the same time"))
        }
        None => Ok(()),
    }
}

/// Whether a port, or an element of a set, is used twice.
fn overlap(sets: &[&Resources]) -> bool {
    let mut sums: BTreeMap<String, Milli> = BTreeMap::new();
    let mut whole = Resources::new();
    for set in sets {
        for (name, value) in set.quantities() {
            let sum = sums.entry(name).or_default();
            *sum = sum.plus(value);
        }
        whole.add(set);
    }
    sums != whole.quantities()
}
