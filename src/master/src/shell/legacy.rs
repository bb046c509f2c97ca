//! The endpoints that are older than the v1 API: which there are, what they show, what they change.

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use mesos::json::{self, Dialect};
use mesos::v1;
use serde_json::json;
use web::respond;

use super::http::{App, bad_request};
use super::permissions;
use super::visible::Visible;
use super::{operator_api, streamed, wanted};
use crate::view::shown::View;
use crate::view::{metrics, prometheus, state, summary};

/// What every master answers, whoever leads.
pub(super) async fn anywhere(
    app: &App,
    caller: &Caller,
    local: &str,
    query: Option<&str>,
) -> Option<Response> {
    let hidden = match local {
        "/flags" => !caller.may_any(Action::ViewFlags),
        // What says the same needs the same permission.
        "/metrics/snapshot" | "/metrics/prometheus" => {
            !caller.may(Action::GetEndpoints, Object::Named("/metrics/snapshot"))
        }
        "/logging/toggle" => !caller.may(Action::GetEndpoints, Object::Named(local)),
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
            let all = app.metrics().await;
            if local == "/metrics/prometheus" {
                prometheus::families(&all).respond()
            } else {
                respond::jsonp(json!(all).to_string(), query)
            }
        }
        "/system/stats.json" => respond::jsonp(metrics::stats().to_string(), query),
        "/redirect" => match app.leader_location() {
            Some(location) => respond::temporary_redirect(&location),
            None => respond::text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected"),
        },
        "/files/debug" => respond::json("{}"),
        "/files/browse" | "/files/read" | "/files/download" => {
            match respond::query_parameter(query, "path") {
                None => bad_request("Expecting 'path=value' in query.\n"),
                Some(_) => respond::text(StatusCode::NOT_FOUND, ""),
            }
        }
        "/logging/toggle" => web::logging::toggle(query, |text| {
            mesos::units::parse_duration(text).map_err(|error| error.to_string())
        }),
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
        _ if local.starts_with("/quota/") => &["GET", "POST", "DELETE"],
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
    let parameter = |name: &str| respond::query_parameter(query, name);
    let callback = parameter("jsonp").filter(|name| !name.is_empty());
    let visible = Visible(caller.clone());
    if let Some(view) = view(app, local, query) {
        return streamed::answer(app, visible, view, callback, gzip).await;
    }
    let shown = match local {
        "/weights" => {
            let weights = |weight: &mesos::internal::registry::Weight| json!({"role": weight.info.role(), "weight": weight.info.weight});
            app.handle
                .look(move |master, _| master.registry.weights.iter().map(weights).collect())
                .await
        }
        _ if is_quota(local) => {
            let shown =
                app.handle.look(|master, _| json::to_value(&master.quota_status(), Dialect::V0));
            return jsonp(app, shown.await, query);
        }
        "/maintenance/schedule" => {
            let shown = app.handle.look(|master, _| sorted(&master.schedule()));
            return jsonp(app, shown.await, query);
        }
        "/maintenance/status" => {
            let shown = app.handle.look(|master, _| sorted(&master.maintenance_status()));
            return jsonp(app, shown.await, query);
        }
        "/allocator/offer_constraints_debug" => {
            app.handle.look(|master, _| summary::constraints(master)).await
        }
        _ => app.handle.look(|master, _| sorted(&master.registry)).await,
    };
    let Some(mut value) = shown else { return app.not_recovered() };
    visible.prune_json(&mut value);
    as_stream_ends(&value, callback)
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

/// What is written as a stream ends without a semicolon.
fn as_stream_ends(value: &serde_json::Value, callback: Option<String>) -> Response {
    match callback {
        Some(function) => {
            respond::body(StatusCode::OK, "text/javascript", format!("{function}({value})"))
        }
        None => respond::json(value.to_string()),
    }
}

fn is_quota(local: &str) -> bool {
    local == "/quota" || local.starts_with("/quota/")
}

/// As the original writes what it keeps in a map first: members by name.
fn sorted<M: json::Json>(message: &M) -> serde_json::Value {
    let mut value = json::to_value(message, Dialect::V0);
    value.sort_all_objects();
    value
}

/// What is written whole, not as a stream.
fn jsonp(app: &App, shown: Option<serde_json::Value>, query: Option<&str>) -> Response {
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
    match wanted::planned(local, method, &text) {
        Some(Ok(call)) if !permissions::may_call(caller, &call) => return respond::forbidden(),
        Some(Ok(call)) => return operator_api::planned(app, *call).await,
        Some(Err(reason)) => return bad_request(reason),
        None => {}
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

fn weights(text: &str) -> Result<Vec<v1::WeightInfo>, String> {
    let wrong =
        |reason: String| format!("Failed to parse update weights request JSON '{text}': {reason}");
    // The reader of messages knows the original's words for what is no JSON; a list is read as a member of a message.
    let wrapped = format!("{{\"weight_infos\":{text}}}");
    let parsed: Result<v1::master::call::UpdateWeights, _> =
        json::from_slice(wrapped.as_bytes(), Dialect::V0);
    match parsed {
        Ok(update) => Ok(update.weight_infos),
        Err(error) => {
            let own =
                json::from_slice::<v1::master::call::UpdateWeights>(text.as_bytes(), Dialect::V0);
            let reason = own
                .err()
                .filter(|own| matches!(own, json::JsonError::Syntax { .. }))
                .unwrap_or(error);
            Err(wrong(reason.to_string()))
        }
    }
}
