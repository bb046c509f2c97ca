//! `POST /api/v1`: the operator API.

use access::guard::Caller;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mesos::content::ContentType;
use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::master::{Call, Response as Answer, call, response};
use tokio_stream::StreamExt as _;
use web::files::FileError;
use web::{files, logging, respond};

use super::background;
use super::http::{App, bad_request};
use super::permissions;
use super::scheduler_api::{accepted, content_type};
use super::visible::Visible;
use super::wanted;
use crate::view::seen::Sight;
use crate::view::{operator, roles};

/// Answers a call.
pub(super) async fn handle(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    use call::Type as T;
    let content = match content_type(headers) {
        Ok(content) => content,
        Err(response) => return *response,
    };
    let call: Call = match content.decode(&body) {
        Ok(call) => call,
        Err(error) => return bad_request(error.to_string()),
    };
    // A number that this version doesn't know is as good as none.
    let kind = call.r#type.and_then(|kind| T::try_from(kind).ok());
    if kind == Some(T::Unknown) {
        return respond::text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented.");
    }
    let checked = kind.ok_or_else(|| "Expecting 'type' to be present".to_owned());
    let kind = match checked.and_then(|kind| check(&call, kind).map(|()| kind)) {
        Ok(kind) => kind,
        Err(reason) => {
            return bad_request(format!("Failed to validate master::Call: {reason}"));
        }
    };
    let accepted = match accepted(headers) {
        Ok(accepted) => accepted,
        Err(response) => return *response,
    };
    if !permissions::may_call(caller, &call) {
        return respond::forbidden();
    }
    let visible = Visible(caller.clone());
    if let Some(show) = of_scene(kind) {
        return shown(app, accepted, visible, show).await;
    }
    let answer =
        |answer: Answer| respond::body(StatusCode::OK, accepted.as_str(), accepted.encode(&answer));
    let start = app.start_time;
    macro_rules! look {
        ($field:ident, $kind:ident, $look:expr) => {
            match app.handle.look($look).await {
                Some(value) => answer(Answer {
                    $field: Some(value),
                    ..operator::answer(response::Type::$kind)
                }),
                None => app.not_recovered(),
            }
        };
    }
    match kind {
        T::GetHealth => answer(Answer {
            get_health: Some(response::GetHealth { healthy: true }),
            ..operator::answer(response::Type::GetHealth)
        }),
        T::GetVersion => {
            let info = v1::VersionInfo {
                version: mesos::VERSION.to_owned(),
                build_date: Some(crate::BUILD_DATE.to_owned()),
                build_time: Some(crate::BUILD_TIME),
                build_user: Some("meso".to_owned()),
                ..Default::default()
            };
            answer(Answer {
                get_version: Some(response::GetVersion { version_info: info }),
                ..operator::answer(response::Type::GetVersion)
            })
        }
        T::GetFlags => {
            let flags = app
                .flags
                .as_strings()
                .iter()
                .map(|(name, value)| v1::Flag {
                    name: (*name).to_owned(),
                    value: Some(value.clone()),
                })
                .collect();
            answer(Answer {
                get_flags: Some(response::GetFlags { flags }),
                ..operator::answer(response::Type::GetFlags)
            })
        }
        T::GetMetrics => {
            let metrics = app.metrics().await;
            let metrics = metrics
                .into_iter()
                .map(|(name, value)| v1::Metric { name, value: Some(value) })
                .collect();
            answer(Answer {
                get_metrics: Some(response::GetMetrics { metrics }),
                ..operator::answer(response::Type::GetMetrics)
            })
        }
        T::GetMaster => {
            look!(get_master, GetMaster, move |master, _| operator::master(master, start))
        }
        T::GetWeights => {
            // Without weights the member is left out.
            match app.handle.look(move |master, _| visible.weights(operator::weights(master))).await
            {
                Some(weights) => answer(Answer {
                    get_weights: (!weights.weight_infos.is_empty()).then_some(weights),
                    ..operator::answer(response::Type::GetWeights)
                }),
                None => app.not_recovered(),
            }
        }
        T::GetMaintenanceStatus => {
            look!(get_maintenance_status, GetMaintenanceStatus, move |master, _| {
                let status = visible.machines(master.maintenance_status());
                response::GetMaintenanceStatus { status }
            })
        }
        T::GetMaintenanceSchedule => {
            look!(get_maintenance_schedule, GetMaintenanceSchedule, move |master, _| {
                let schedule = visible.schedule(master.schedule());
                response::GetMaintenanceSchedule { schedule }
            })
        }
        T::GetQuota => look!(get_quota, GetQuota, move |master, _| {
            response::GetQuota { status: visible.quotas(master.quota_status()) }
        }),
        T::GetLoggingLevel => answer(Answer {
            get_logging_level: Some(response::GetLoggingLevel { level: logging::verbosity() }),
            ..operator::answer(response::Type::GetLoggingLevel)
        }),
        T::SetLoggingLevel => {
            let set = call.set_logging_level.unwrap_or_default();
            logging::set_verbosity(set.level, set.duration.duration());
            respond::empty(StatusCode::OK)
        }
        T::ListFiles | T::ReadFile => match file(app, caller, call).await {
            Ok(found) => answer(found),
            Err(error) => error.into_response(),
        },
        T::UpdateWeights => {
            let weights = call.update_weights.unwrap_or_default().weight_infos;
            app.change(move |master, _| master.update_weights(&weights)).await
        }
        T::DeactivateAgent => {
            let id = call.deactivate_agent.unwrap_or_default().agent_id.value;
            app.change(move |master, _| master.deactivate_agent(&id)).await
        }
        T::ReactivateAgent => {
            let id = call.reactivate_agent.unwrap_or_default().agent_id.value;
            app.change(move |master, _| master.reactivate_agent(&id)).await
        }
        T::DrainAgent => {
            let drain = call.drain_agent.unwrap_or_default();
            app.change(move |master, now| master.drain_agent(now, &drain)).await
        }
        T::MarkAgentGone => {
            let id = call.mark_agent_gone.unwrap_or_default().agent_id.value;
            app.change(move |master, now| master.mark_agent_gone(now, &id)).await
        }
        T::Subscribe => match app.handle.observe(accepted, caller.clone()).await {
            Some((first, subscription)) => {
                let records = tokio_stream::once(first).chain(subscription.records());
                let records = records.map(Ok::<Bytes, std::convert::Infallible>);
                respond::body(StatusCode::OK, accepted.as_str(), Body::from_stream(records))
            }
            None => app.not_recovered(),
        },
        T::Teardown => {
            app.teardown(caller, call.teardown.unwrap_or_default().framework_id.value).await
        }
        T::UpdateQuota
        | T::SetQuota
        | T::RemoveQuota
        | T::UpdateMaintenanceSchedule
        | T::StartMaintenance
        | T::StopMaintenance => planned(app, call).await,
        T::ReserveResources
        | T::UnreserveResources
        | T::CreateVolumes
        | T::DestroyVolumes
        | T::GrowVolume
        | T::ShrinkVolume => match wanted::operation(call) {
            Some((agent, operation)) => app.operate(caller, agent, operation).await,
            None => bad_request("No agent found with specified ID"),
        },
        other => respond::text(
            StatusCode::NOT_IMPLEMENTED,
            format!("{} is not supported by this master yet", other.as_str_name()),
        ),
    }
}

type Show = fn(Sight<'_>) -> Answer;

/// How calls are answered that may get a long answer.
fn of_scene(kind: call::Type) -> Option<Show> {
    use call::Type as T;
    use response::Type as A;
    Some(match kind {
        T::GetState => |sight| Answer {
            get_state: Some(operator::state(sight)),
            ..operator::answer(A::GetState)
        },
        T::GetAgents => |sight| Answer {
            get_agents: Some(operator::agents(sight)),
            ..operator::answer(A::GetAgents)
        },
        T::GetFrameworks => |sight| Answer {
            get_frameworks: Some(operator::frameworks(sight)),
            ..operator::answer(A::GetFrameworks)
        },
        T::GetExecutors => |sight| Answer {
            get_executors: Some(operator::executors(sight)),
            ..operator::answer(A::GetExecutors)
        },
        T::GetTasks => |sight| Answer {
            get_tasks: Some(operator::tasks(sight)),
            ..operator::answer(A::GetTasks)
        },
        T::GetRoles => |sight| Answer {
            get_roles: Some(roles::messages(sight)),
            ..operator::answer(A::GetRoles)
        },
        T::GetOperations => |sight| Answer {
            get_operations: Some(operator::operations(sight)),
            ..operator::answer(A::GetOperations)
        },
        _ => return None,
    })
}

/// Answers with what is put together from a copy of the state, while the master goes on.
async fn shown(app: &App, content: ContentType, visible: Visible, show: Show) -> Response {
    let Some(scene) = app.handle.look(|master, _| master.scene()).await else {
        return app.not_recovered();
    };
    let encoded =
        background::spawn(move || content.encode(&show(Sight { scene: &scene, seen: &visible })));
    match encoded.await {
        Ok(body) => respond::body(StatusCode::OK, content.as_str(), body),
        Err(_) => app.not_recovered(),
    }
}

async fn file(app: &App, caller: &Caller, call: Call) -> Result<Answer, FileError> {
    let attached = app.attached(caller);
    if let Some(wanted) = call.list_files {
        let file_infos = files::listed(attached, wanted.path).await?;
        return Ok(Answer {
            list_files: Some(response::ListFiles { file_infos }),
            ..operator::answer(response::Type::ListFiles)
        });
    }
    let wanted = call.read_file.unwrap_or_default();
    let (size, data) =
        files::sliced(attached, wanted.path, Some(wanted.offset), wanted.length).await?;
    Ok(Answer {
        read_file: Some(response::ReadFile { size, data }),
        ..operator::answer(response::Type::ReadFile)
    })
}

/// Changes what is planned of the cluster: quotas and maintenance.
pub(super) async fn planned(app: &App, call: Call) -> Response {
    use call::Type as T;
    match call.r#type() {
        T::UpdateQuota => {
            let update = call.update_quota.unwrap_or_default();
            app.change(move |master, _| master.update_quota(&update.quota_configs, update.force()))
                .await
        }
        T::SetQuota => {
            let request = call.set_quota.unwrap_or_default().quota_request;
            app.change(move |master, _| master.set_quota(&request)).await
        }
        T::RemoveQuota => {
            let role = call.remove_quota.unwrap_or_default().role;
            app.change(move |master, _| master.remove_quota(&role)).await
        }
        T::UpdateMaintenanceSchedule => {
            let schedule = call.update_maintenance_schedule.unwrap_or_default().schedule;
            app.change(move |master, _| master.update_schedule(schedule)).await
        }
        T::StartMaintenance => {
            let machines = call.start_maintenance.unwrap_or_default().machines;
            app.change(move |master, now| master.start_maintenance(now, &machines)).await
        }
        _ => {
            let machines = call.stop_maintenance.unwrap_or_default().machines;
            app.change(move |master, _| master.stop_maintenance(&machines)).await
        }
    }
}

/// What the original checks of a call before anything else (`master/validation.cpp`).
fn check(call: &Call, kind: call::Type) -> Result<(), String> {
    const NOWHERE: &str =
        "Expecting 'agent_id' to be present; only agent default resources are supported right now";
    if let Some(name) = missing(call, kind) {
        return Err(format!("Expecting '{name}' to be present"));
    }
    if let Some(reserve) = &call.reserve_resources {
        Resources::validate(&reserve.resources)?;
    }
    if let Some(unreserve) = &call.unreserve_resources {
        Resources::validate(&unreserve.resources)?;
    }
    let agents = [
        call.grow_volume.as_ref().map(|grow| grow.agent_id.is_some()),
        call.shrink_volume.as_ref().map(|shrink| shrink.agent_id.is_some()),
    ];
    if agents.contains(&Some(false)) { Err(NOWHERE.to_owned()) } else { Ok(()) }
}

/// The member that a call lacks, if any.
fn missing(call: &Call, kind: call::Type) -> Option<&'static str> {
    use call::Type as T;
    let (present, name) = match kind {
        T::GetMetrics => (call.get_metrics.is_some(), "get_metrics"),
        T::SetLoggingLevel => (call.set_logging_level.is_some(), "set_logging_level"),
        T::ListFiles => (call.list_files.is_some(), "list_files"),
        T::ReadFile => (call.read_file.is_some(), "read_file"),
        T::UpdateWeights => (call.update_weights.is_some(), "update_weights"),
        T::ReserveResources => (call.reserve_resources.is_some(), "reserve_resources"),
        T::UnreserveResources => (call.unreserve_resources.is_some(), "unreserve_resources"),
        T::CreateVolumes => (call.create_volumes.is_some(), "create_volumes"),
        T::DestroyVolumes => (call.destroy_volumes.is_some(), "destroy_volumes"),
        T::GrowVolume => (call.grow_volume.is_some(), "grow_volume"),
        T::ShrinkVolume => (call.shrink_volume.is_some(), "shrink_volume"),
        T::UpdateMaintenanceSchedule => {
            (call.update_maintenance_schedule.is_some(), "update_maintenance_schedule")
        }
        T::StartMaintenance => (call.start_maintenance.is_some(), "start_maintenance"),
        T::StopMaintenance => (call.stop_maintenance.is_some(), "stop_maintenance"),
        T::DrainAgent => (call.drain_agent.is_some(), "drain_agent"),
        T::DeactivateAgent => (call.deactivate_agent.is_some(), "deactivate_agent"),
        T::ReactivateAgent => (call.reactivate_agent.is_some(), "reactivate_agent"),
        T::UpdateQuota => (call.update_quota.is_some(), "update_quota"),
        T::SetQuota => (call.set_quota.is_some(), "set_quota"),
        T::RemoveQuota => (call.remove_quota.is_some(), "remove_quota"),
        T::Teardown => (call.teardown.is_some(), "teardown"),
        T::MarkAgentGone => (call.mark_agent_gone.is_some(), "mark_agent_gone"),
        _ => (true, ""),
    };
    (!present).then_some(name)
}
