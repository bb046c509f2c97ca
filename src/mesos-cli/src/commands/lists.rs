//! `agents`, `frameworks`, `tasks`, `state`, `weights`.

use anyhow::{Context as _, Result};
use mesos::v1::master::call::{self, Type};
use mesos::v1::{self, TaskState};

use super::Context;
use crate::find::{self, master_call};
use crate::show::{self, number, scalar};

pub(super) async fn agents(context: &Context) -> Result<()> {
    if context.json {
        let answer = context.client.call(&master_call(Type::GetAgents)).await?;
        return show::message(&answer.get_agents.unwrap_or_default());
    }
    let used = |all: &[v1::Resource], held: &[v1::Resource], name: &str| {
        format!("{}/{}", number(scalar(held, name)), number(scalar(all, name)))
    };
    let rows: Vec<Vec<String>> = find::agents(&context.client)
        .await?
        .iter()
        .map(|agent| {
            let (all, held) = (&agent.total_resources, &agent.allocated_resources);
            let state = match (&agent.drain_info, agent.deactivated(), agent.active) {
                (Some(drain), ..) if drain.state() == v1::DrainState::Drained => "drained",
                (Some(_), ..) => "draining",
                (None, true, _) => "deactivated",
                (None, false, true) => "active",
                (None, false, false) => "inactive",
            };
            vec![
                find::id_of(agent).to_owned(),
                agent.agent_info.hostname.clone(),
                state.to_owned(),
                used(all, held, "cpus"),
                used(all, held, "mem"),
                used(all, held, "disk"),
                agent.version.clone(),
            ]
        })
        .collect();
    show::table(&["ID", "HOST", "STATE", "CPUS", "MEM", "DISK", "VERSION"], &rows)
}

pub(super) async fn frameworks(context: &Context, all: bool) -> Result<()> {
    let answer = context.client.call(&master_call(Type::GetFrameworks)).await?;
    let shown = answer.get_frameworks.unwrap_or_default();
    if context.json {
        return show::message(&shown);
    }
    let gone = shown.completed_frameworks.iter().filter(|_| all).map(|own| (own, true));
    let rows: Vec<Vec<String>> = shown
        .frameworks
        .iter()
        .map(|own| (own, false))
        .chain(gone)
        .map(|(own, is_gone)| {
            let info = &own.framework_info;
            let roles = match info.roles.as_slice() {
                [] => info.role().to_owned(),
                roles => roles.join(","),
            };
            let state = match (is_gone, own.connected, own.active) {
                (true, ..) => "completed",
                (false, true, true) => "active",
                (false, true, false) => "inactive",
                (false, false, _) => "disconnected",
            };
            vec![
                info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default(),
                info.name.clone(),
                state.to_owned(),
                info.user.clone(),
                roles,
            ]
        })
        .collect();
    show::table(&["ID", "NAME", "STATE", "USER", "ROLES"], &rows)
}

pub(super) async fn tasks(context: &Context, all: bool, framework: Option<&str>) -> Result<()> {
    let answer = context.client.call(&master_call(Type::GetTasks)).await?;
    let mut shown = answer.get_tasks.unwrap_or_default();
    let lists = [&mut shown.tasks, &mut shown.unreachable_tasks, &mut shown.completed_tasks];
    for list in lists {
        list.retain(|task| framework.is_none_or(|id| task.framework_id.value == id));
    }
    let known = [&shown.tasks, &shown.unreachable_tasks, &shown.completed_tasks];
    if let Some(id) = framework.filter(|_| known.iter().all(|list| list.is_empty())) {
        find::framework(&context.client, id).await?;
    }
    if !all {
        shown.completed_tasks.clear();
        shown.unreachable_tasks.clear();
    }
    if context.json {
        return show::message(&shown);
    }
    let hosts: Vec<(String, String)> = find::agents(&context.client)
        .await?
        .iter()
        .map(|agent| (find::id_of(agent).to_owned(), agent.agent_info.hostname.clone()))
        .collect();
    let row = |task: &v1::Task| {
        let host = hosts.iter().find(|(id, _)| *id == task.agent_id.value);
        let state = TaskState::try_from(task.state).map_or("?", |state| state.as_str_name());
        vec![
            task.task_id.value.clone(),
            task.name.clone(),
            state.trim_start_matches("TASK_").to_owned(),
            host.map_or_else(|| task.agent_id.value.clone(), |(_, host)| host.clone()),
            number(scalar(&task.resources, "cpus")),
            number(scalar(&task.resources, "mem")),
            task.framework_id.value.clone(),
        ]
    };
    let every = shown.tasks.iter().chain(&shown.unreachable_tasks).chain(&shown.completed_tasks);
    let rows: Vec<Vec<String>> = every.map(row).collect();
    show::table(&["ID", "NAME", "STATE", "HOST", "CPUS", "MEM", "FRAMEWORK"], &rows)
}

pub(super) async fn state(context: &Context) -> Result<()> {
    let answer = context.client.call(&master_call(Type::GetState)).await?;
    show::message(&answer.get_state.unwrap_or_default())
}

pub(super) async fn weights(context: &Context, weights: &[String]) -> Result<()> {
    if weights.is_empty() {
        let answer = context.client.call(&master_call(Type::GetWeights)).await?;
        let shown = answer.get_weights.unwrap_or_default();
        if context.json {
            return show::message(&shown);
        }
        let row = |own: &v1::WeightInfo| vec![own.role().to_owned(), number(own.weight)];
        let rows: Vec<Vec<String>> = shown.weight_infos.iter().map(row).collect();
        return show::table(&["ROLE", "WEIGHT"], &rows);
    }
    let parse = |text: &String| {
        let (role, weight) = text.split_once('=')?;
        Some(v1::WeightInfo { role: Some(role.to_owned()), weight: weight.parse().ok()? })
    };
    let weight_infos = weights
        .iter()
        .map(|text| parse(text).with_context(|| format!("'{text}' is not ROLE=WEIGHT")))
        .collect::<Result<_>>()?;
    let call = call::UpdateWeights { weight_infos };
    let call = v1::master::Call { update_weights: Some(call), ..master_call(Type::UpdateWeights) };
    context.client.call(&call).await.map(drop)
}
