//! The endpoints that are older than the v1 API: which there are, what they show, what they change.

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use mesos::json::{self, Dialect};
use mesos::v1;
use serde_json::{Value, json};
use web::routes::{Route, Routes};
use web::{files, respond};

use super::http::{App, bad_request};
use super::permissions;
use super::visible::Visible;
use super::{operator_api, streamed, wanted};
use crate::core::Master;
use crate::view::shown::View;
use crate::view::{metrics, operator, prometheus, state, summary};

/// All endpoints there are.
pub(super) const ROUTES: Routes = Routes {
    own: "master",
    endpoints: &[
        "/api/v1",
        "/api/v1/scheduler",
        "/create-volumes",
        "/destroy-volumes",
        "/flags",
        "/frameworks",
        "/health",
        "/machine/down",
        "/machine/up",
        "/maintenance/schedule",
        "/maintenance/status",
        "/quota",
        "/redirect",
        "/reserve",
        "/roles",
        "/slaves",
        "/state",
        "/state-summary",
        "/tasks",
        "/teardown",
        "/unreserve",
        "/weights",
    ],
    others: &[
        "/allocator/offer_constraints_debug",
        "/files/browse",
        "/files/debug",
        "/files/download",
        "/files/read",
        "/logging/toggle",
        "/metrics/prometheus",
        "/metrics/snapshot",
        "/profiler/start",
        "/profiler/stop",
        "/registrar(1)/registry",
        "/system/stats.json",
        "/version",
    ],
};

/// What every master answers, whoever leads.
pub(super) async fn anywhere(
    app: &App,
    caller: &Caller,
    route: &Route<'_>,
    query: Option<&str>,
) -> Option<Response> {
    let local = route.endpoint;
    let hidden = match local {
        "/flags" => !caller.may_any(Action::ViewFlags),
        // What says the same needs the same permission.
        "/metrics/snapshot" | "/metrics/prometheus" => {
            !caller.may(Action::GetEndpoints, Object::Named("/metrics/snapshot"))
        }
        "/files/debug" | "/logging/toggle" => {
            !caller.may(Action::GetEndpoints, Object::Named(local))
        }
        _ => false,
    };
    if hidden {
        return Some(respond::forbidden());
    }
    Some(match local {
        "/health" => respond::empty(StatusCode::OK),
        "/version" => respond::jsonp(state::version().to_string(), query),
        "/flags" => respond::jsonp(json!({"flags": app.flags.as_strings()}).to_string(), query),
        "/metrics/snapshot" | "/metrics/prometheus" => {
            // It never takes long enough for the time to be up.
            if let Some(timeout) = respond::query_parameter(query, "timeout")
                && let Err(reason) = mesos::units::parse_duration(&timeout)
            {
                return Some(bad_request(format!("Invalid timeout '{timeout}': {reason}.\n")));
            }
            let all = app.metrics().await;
            if local == "/metrics/prometheus" {
                prometheus::families(&all).respond()
            } else {
                respond::jsonp(json!(all).to_string(), query)
            }
        }
        "/system/stats.json" => respond::jsonp(metrics::stats().to_string(), query),
        // Nobody is sent round in circles.
        "/redirect" => match (app.leader_location(), &*route.path) {
            (Some(location), "/master/redirect") => respond::temporary_redirect(&location),
            (Some(_), path) if path.starts_with("/master/redirect/") => respond::not_found(),
            (_, path) => app.to_leader(path, query),
        },
        _ if files::is_ours(local) => files::answer(local, query, app.attached(caller)).await,
        "/logging/toggle" => web::logging::toggle(query, |text| {
            mesos::units::parse_duration(text).map_err(|error| error.to_string())
        }),
        "/profiler/start" | "/profiler/stop" => bad_request(respond::NO_PROFILER),
        _ => return None,
    })
}

/// The methods of an endpoint of the leader: none are listed where any will do; `None` if there is no such endpoint.
pub(super) fn methods(local: &str) -> Option<&'static [&'static str]> {
    Some(match local {
        "/state"
        | "/state-summary"
        | "/slaves"
        | "/frameworks"
        | "/tasks"
        | "/roles"
        | "/registrar(1)/registry" => &[],
        "/api/v1" | "/api/v1/scheduler" | "/teardown" | "/reserve" | "/unreserve"
        | "/create-volumes" | "/destroy-volumes" | "/machine/down" | "/machine/up" => &["POST"],
        "/weights" => &["GET", "PUT"],
        "/quota" => &["GET", "POST", "DELETE"],
        "/maintenance/schedule" => &["GET", "POST"],
        "/maintenance/status" => &["GET"],
        "/allocator/offer_constraints_debug" => &[],
        _ => return None,
    })
}

/// What the leader shows; what is long is compressed for who takes `gzip`.
pub(super) async fn shown(
    app: &App,
    caller: &Caller,
    local: &str,
    query: Option<&str>,
    gzip: bool,
) -> Response {
    let visible = Visible(caller.clone());
    if let Some(view) = view(app, local, query) {
        let callback = respond::query_parameter(query, "jsonp");
        return streamed::answer(app, visible, view, callback, gzip).await;
    }
    let show: fn(&Master, &Visible) -> Value = match local {
        "/weights" => |master, visible| weighed(&visible.weights(operator::weights(master))),
        "/quota" => {
            |master, visible| json::to_value(&visible.quotas(master.quota_status()), Dialect::V0)
        }
        "/maintenance/schedule" => |master, visible| sorted(&visible.schedule(master.schedule())),
        "/maintenance/status" => {
            |master, visible| sorted(&visible.machines(master.maintenance_status()))
        }
        "/allocator/offer_constraints_debug" => {
            |master, visible| summary::constraints(master, visible)
        }
        _ => |master, _| sorted(&master.registry),
    };
    let shown = app.handle.look(move |master, _| show(master, &visible)).await;
    jsonp(app, shown, query)
}

/// As the older endpoint lists weights.
fn weighed(all: &v1::master::response::GetWeights) -> Value {
    let each = all.weight_infos.iter();
    each.map(|info| json!({"role": info.role(), "weight": info.weight})).collect()
}

/// What is put together from a copy of the state, while the master goes on.
fn view(app: &App, local: &str, query: Option<&str>) -> Option<View> {
    let parameter = |name: &str| respond::query_parameter(query, name);
    let flags = app.flags.clone();
    Some(match local {
        "/state" => View::State(app.start_time, flags),
        "/state-summary" => View::Summary(flags),
        "/slaves" => View::Slaves(parameter("slave_id")),
        "/frameworks" => View::Frameworks(parameter("framework_id")),
        "/roles" => View::Roles,
        "/tasks" => View::Tasks(summary::TaskQuery {
            limit: parameter("limit").and_then(|limit| limit.parse().ok()),
            offset: parameter("offset").and_then(|offset| offset.parse().ok()).unwrap_or_default(),
            ascending: parameter("order").as_deref() == Some("asc"),
            framework: parameter("framework_id"),
            task: parameter("task_id"),
        }),
        _ => return None,
    })
}

/// `DELETE /quota/<role>`; `path` is the whole one, as libprocess sees it.
pub(super) async fn remove_quota(app: &App, caller: &Caller, path: &str) -> Response {
    let role = match wanted::role_of_path(path) {
        Ok(role) => role.to_owned(),
        Err(reason) => return bad_request(reason),
    };
    let remove_quota = Some(v1::master::call::RemoveQuota { role: role.clone() });
    let kind = v1::master::call::Type::RemoveQuota as i32;
    let call = v1::master::Call { r#type: Some(kind), remove_quota, ..Default::default() };
    if !permissions::may_call(caller, &call) {
        return respond::forbidden();
    }
    let place = format!("path '{path}'");
    app.change(move |master, _| master.remove_quota_at(&role, &place)).await
}

/// As the original writes what it keeps in a map first: members by name.
fn sorted<M: json::Json>(message: &M) -> Value {
    let mut value = json::to_value(message, Dialect::V0);
    value.sort_all_objects();
    value
}

fn jsonp(app: &App, shown: Option<Value>, query: Option<&str>) -> Response {
    match shown {
        Some(value) => respond::jsonp(value.to_string(), query),
        None => app.not_recovered(),
    }
}

/// What the leader changes.
pub(super) async fn changed(
    app: &App,
    caller: &Caller,
    local: &str,
    method: &Method,
    body: &Bytes,
) -> Response {
    let text = String::from_utf8_lossy(body).into_owned();
    match wanted::planned(local, &text) {
        Some(Ok(call)) if !permissions::may_call(caller, &call) => return respond::forbidden(),
        Some(Ok(call)) => return operator_api::planned(app, *call).await,
        Some(Err(reason)) => return bad_request(reason),
        None => {}
    }
    if is_form(local)
        && let Err(reason) = respond::check_form(&text)
    {
        return bad_request(reason);
    }
    match local {
        "/teardown" => match respond::query_parameter(Some(&text), "frameworkId") {
            None => bad_request("Missing 'frameworkId' query parameter in the request body"),
            Some(id) => app.teardown(caller, id).await,
        },
        "/weights" => match weights(&text) {
            Ok(weights) if !permissions::may_weigh(caller, &weights) => respond::forbidden(),
            Ok(weights) => app.change(move |master, _| master.update_weights(&weights)).await,
            Err(reason) => bad_request(reason),
        },
        "/reserve" | "/unreserve" | "/create-volumes" | "/destroy-volumes" => {
            match wanted::from_form(local, &text) {
                Ok((agent, operation)) => app.operate(caller, agent, operation).await,
                Err(reason) => bad_request(reason),
            }
        }
        _ => respond::text(
            StatusCode::NOT_IMPLEMENTED,
            format!("{method} {local} is not supported by this master yet"),
        ),
    }
}

/// The endpoints that take what an HTML form sends.
fn is_form(local: &str) -> bool {
    matches!(
        local,
        "/teardown" | "/reserve" | "/unreserve" | "/create-volumes" | "/destroy-volumes"
    )
}

fn weights(text: &str) -> Result<Vec<v1::WeightInfo>, String> {
    let items = wanted::items(text).map_err(|reason| {
        format!("Failed to parse update weights request JSON '{text}': {reason}")
    })?;
    wanted::messages(&items).map_err(|reason| {
        format!("Failed to convert weights JSON array to protobuf '{text}': {reason}")
    })
}
