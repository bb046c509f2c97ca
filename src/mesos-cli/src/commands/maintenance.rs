//! `maintenance`, `drain`, `deactivate`, `reactivate`, `gone`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mesos::json::{self, Dialect};
use mesos::v1;
use mesos::v1::master::Call;
use mesos::v1::master::call::{self, Type};

use super::Context;
use crate::cli::Maintenance;
use crate::find::{self, master_call};
use crate::show;

/// A machine from `HOST` or `HOST/IP`.
fn machine(text: &str) -> v1::MachineId {
    match text.split_once('/') {
        Some((host, ip)) => {
            v1::MachineId { hostname: Some(host.to_owned()), ip: Some(ip.to_owned()) }
        }
        None => v1::MachineId { hostname: Some(text.to_owned()), ip: None },
    }
}

fn name(machine: &v1::MachineId) -> String {
    match (machine.hostname.as_deref(), machine.ip.as_deref()) {
        (Some(host), Some(ip)) => format!("{host}/{ip}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => String::new(),
    }
}

pub(super) async fn run(context: &Context, command: Maintenance) -> Result<()> {
    match command {
        Maintenance::Schedule { file: Some(file) } => set(context, &file).await,
        Maintenance::Schedule { file: None } => {
            let answer = context.client.call(&master_call(Type::GetMaintenanceSchedule)).await?;
            show::message(&answer.get_maintenance_schedule.unwrap_or_default().schedule)
        }
        Maintenance::Status => status(context).await,
        Maintenance::Down { machines } => {
            let machines = machines.iter().map(|text| machine(text)).collect();
            let call = Call {
                start_maintenance: Some(call::StartMaintenance { machines }),
                ..master_call(Type::StartMaintenance)
            };
            context.client.call(&call).await.map(drop)
        }
        Maintenance::Up { machines } => {
            let machines = machines.iter().map(|text| machine(text)).collect();
            let call = Call {
                stop_maintenance: Some(call::StopMaintenance { machines }),
                ..master_call(Type::StopMaintenance)
            };
            context.client.call(&call).await.map(drop)
        }
    }
}

async fn set(context: &Context, file: &PathBuf) -> Result<()> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| file.display().to_string())?
    };
    let schedule: v1::maintenance::Schedule = json::from_slice(text.as_bytes(), Dialect::V1)
        .with_context(|| format!("{} is no schedule", file.display()))?;
    let call = Call {
        update_maintenance_schedule: Some(call::UpdateMaintenanceSchedule { schedule }),
        ..master_call(Type::UpdateMaintenanceSchedule)
    };
    context.client.call(&call).await.map(drop)
}

async fn status(context: &Context) -> Result<()> {
    let answer = context.client.call(&master_call(Type::GetMaintenanceStatus)).await?;
    let status = answer.get_maintenance_status.unwrap_or_default().status;
    if context.json {
        return show::message(&status);
    }
    let draining = status.draining_machines.iter().map(|own| (&own.id, "draining"));
    let down = status.down_machines.iter().map(|own| (own, "down"));
    let rows: Vec<Vec<String>> =
        draining.chain(down).map(|(id, state)| vec![name(id), state.to_owned()]).collect();
    show::table(&["MACHINE", "STATE"], &rows)
}

async fn id(context: &Context, agent: &str) -> Result<v1::AgentId> {
    let agent = find::agent(&context.client, agent).await?;
    Ok(v1::AgentId { value: find::id_of(&agent).to_owned() })
}

pub(super) async fn drain(
    context: &Context,
    agent: &str,
    max_grace_period: Option<&str>,
    mark_gone: bool,
) -> Result<()> {
    let max_grace_period = max_grace_period
        .map(|text| {
            let period = mesos::units::parse_duration(text).map_err(|error| {
                anyhow::anyhow!("--max-grace-period: {error}: expecting the like of 30secs")
            })?;
            Ok::<_, anyhow::Error>(prost_types::Duration {
                seconds: i64::try_from(period.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(period.subsec_nanos()).unwrap_or_default(),
            })
        })
        .transpose()?;
    let drain = call::DrainAgent {
        agent_id: id(context, agent).await?,
        max_grace_period,
        mark_gone: mark_gone.then_some(true),
    };
    let call = Call { drain_agent: Some(drain), ..master_call(Type::DrainAgent) };
    context.client.call(&call).await.map(drop)
}

pub(super) async fn deactivate(context: &Context, agent: &str) -> Result<()> {
    let deactivate = call::DeactivateAgent { agent_id: id(context, agent).await? };
    let call = Call { deactivate_agent: Some(deactivate), ..master_call(Type::DeactivateAgent) };
    context.client.call(&call).await.map(drop)
}

pub(super) async fn reactivate(context: &Context, agent: &str) -> Result<()> {
    let reactivate = call::ReactivateAgent { agent_id: id(context, agent).await? };
    let call = Call { reactivate_agent: Some(reactivate), ..master_call(Type::ReactivateAgent) };
    context.client.call(&call).await.map(drop)
}

pub(super) async fn gone(context: &Context, agent: String) -> Result<()> {
    // Who is given up for good is named in full, and may not be registered any more.
    let gone = call::MarkAgentGone { agent_id: v1::AgentId { value: agent } };
    let call = Call { mark_agent_gone: Some(gone), ..master_call(Type::MarkAgentGone) };
    let answer = context.client.call(&call).await.map(drop);
    answer.context("expecting an agent's id, as `mesos agents` lists them")
}
