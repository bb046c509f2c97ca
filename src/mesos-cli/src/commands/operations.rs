//! `reserve`, `unreserve`, `volumes`, `teardown`.

use anyhow::{Context as _, Result, anyhow, bail};
use mesos::json::{self, Dialect};
use mesos::resources::Resources;
use mesos::units::Bytes;
use mesos::v1;
use mesos::v1::master::Call;
use mesos::v1::master::call::{self, Type};
use mesos::v1::resource::{DiskInfo, ReservationInfo, disk_info, reservation_info};

use super::Context;
use crate::cli::{Reservation, Volumes};
use crate::find::{self, master_call};
use crate::show::{self, number};

fn reservation(role: &str, principal: Option<String>) -> ReservationInfo {
    ReservationInfo {
        r#type: Some(reservation_info::Type::Dynamic as i32),
        role: Some(role.to_owned()),
        principal,
        ..Default::default()
    }
}

fn resources(context: &Context, wanted: &Reservation) -> Result<Vec<v1::Resource>> {
    if wanted.resources.trim_start().starts_with('[') {
        // The reader of messages reads a list as a member of one.
        let text =
            format!("{{\"agent_id\":{{\"value\":\"\"}},\"resources\":{}}}", wanted.resources);
        let read: call::ReserveResources = json::from_slice(text.as_bytes(), Dialect::V1)?;
        return Ok(read.resources);
    }
    let role = wanted.role.as_deref().context("say for which role: --role")?;
    let parsed = Resources::parse(&wanted.resources, "*")
        .map_err(|error| anyhow!("'{}': {error}", wanted.resources))?;
    let principal = wanted.reserver.clone().or_else(|| context.principal.clone());
    let mut resources = parsed.to_protos();
    for resource in &mut resources {
        resource.role = None;
        resource.reservations = vec![reservation(role, principal.clone())];
    }
    Ok(resources)
}

pub(super) async fn reserve(context: &Context, wanted: Reservation) -> Result<()> {
    let resources = resources(context, &wanted)?;
    let agent_id = agent_id(context, &wanted.agent).await?;
    let reserve = call::ReserveResources { agent_id, resources, ..Default::default() };
    let call = Call { reserve_resources: Some(reserve), ..master_call(Type::ReserveResources) };
    context.client.call(&call).await.map(drop)
}

pub(super) async fn unreserve(context: &Context, wanted: Reservation) -> Result<()> {
    let resources = resources(context, &wanted)?;
    let agent_id = agent_id(context, &wanted.agent).await?;
    let unreserve = call::UnreserveResources { agent_id, resources };
    let call =
        Call { unreserve_resources: Some(unreserve), ..master_call(Type::UnreserveResources) };
    context.client.call(&call).await.map(drop)
}

async fn agent_id(context: &Context, name: &str) -> Result<v1::AgentId> {
    let agent = find::agent(&context.client, name).await?;
    Ok(v1::AgentId { value: find::id_of(&agent).to_owned() })
}

fn volume_id(resource: &v1::Resource) -> Option<&str> {
    Some(&resource.disk.as_ref()?.persistence.as_ref()?.id)
}

pub(super) async fn volumes(context: &Context, command: Volumes) -> Result<()> {
    match command {
        Volumes::List => list(context).await,
        Volumes::Create { agent, id, size, role, container_path, creator } => {
            let size: Bytes = size
                .parse()
                .map_err(|error| anyhow!("--size: {error}: expecting the like of 64MB"))?;
            let principal = creator.or_else(|| context.principal.clone());
            let volume = v1::Resource {
                name: "disk".to_owned(),
                r#type: v1::value::Type::Scalar as i32,
                scalar: Some(v1::value::Scalar { value: size.0 as f64 / f64::from(1 << 20) }),
                reservations: vec![reservation(&role, principal.clone())],
                disk: Some(Box::new(DiskInfo {
                    persistence: Some(disk_info::Persistence { id, principal }),
                    volume: Some(v1::Volume {
                        container_path,
                        mode: v1::volume::Mode::Rw as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                })),
                ..Default::default()
            };
            let agent_id = agent_id(context, &agent).await?;
            let create = call::CreateVolumes { agent_id, volumes: vec![volume] };
            let call = Call { create_volumes: Some(create), ..master_call(Type::CreateVolumes) };
            context.client.call(&call).await.map(drop)
        }
        Volumes::Destroy { agent, id } => {
            let agent = find::agent(&context.client, &agent).await?;
            let volumes: Vec<v1::Resource> = agent
                .total_resources
                .iter()
                .filter(|resource| volume_id(resource) == Some(&id))
                .cloned()
                .collect();
            if volumes.is_empty() {
                bail!(
                    "agent {} has no volume '{id}'; `mesos volumes list` lists them",
                    find::id_of(&agent)
                );
            }
            let agent_id = v1::AgentId { value: find::id_of(&agent).to_owned() };
            let destroy = call::DestroyVolumes { agent_id, volumes };
            let call = Call { destroy_volumes: Some(destroy), ..master_call(Type::DestroyVolumes) };
            context.client.call(&call).await.map(drop)
        }
    }
}

async fn list(context: &Context) -> Result<()> {
    let agents = find::agents(&context.client).await?;
    let volumes = agents.iter().flat_map(|agent| {
        agent.total_resources.iter().filter_map(move |own| Some((agent, own, volume_id(own)?)))
    });
    if context.json {
        let all: Vec<serde_json::Value> = volumes
            .map(|(agent, own, _)| {
                serde_json::json!({"agent_id": find::id_of(agent), "resource": json::to_value(own, Dialect::V1)})
            })
            .collect();
        return show::value(&all.into());
    }
    let rows: Vec<Vec<String>> = volumes
        .map(|(agent, own, id)| {
            vec![
                id.to_owned(),
                agent.agent_info.hostname.clone(),
                own.reservations.last().map(|own| own.role().to_owned()).unwrap_or_default(),
                format!("{}MB", number(own.scalar.as_ref().map_or(0.0, |scalar| scalar.value))),
                find::id_of(agent).to_owned(),
            ]
        })
        .collect();
    show::table(&["ID", "HOST", "ROLE", "SIZE", "AGENT"], &rows)
}

pub(super) async fn teardown(context: &Context, framework: String) -> Result<()> {
    let teardown = call::Teardown { framework_id: v1::FrameworkId { value: framework } };
    let call = Call { teardown: Some(teardown), ..master_call(Type::Teardown) };
    let answer = context.client.call(&call).await.map(drop);
    answer.context("expecting a framework's id, as `mesos frameworks` lists them")
}
