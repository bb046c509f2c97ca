//! The endpoints that are older than the v1 API: which there are, what they show, what they change.

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use mesos::json::{self, Dialect};
use mesos::v1;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use web::respond;

use super::http::{App, bad_request};
use super::permissions;
use super::visible::{self, Visible};
use super::{background, operator_api, wanted};
use crate::core::scene::Scene;
use crate::view::{metrics, prometheus, state, summary};

/// `/state` is written in pieces of about this many bytes.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a slow reader; who writes them waits as well.
const PIECES_MAX: usize = 8;

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
            let uptime = app.started.elapsed().as_secs_f64();
            let queued = app.handle.queued();
            let all = app
                .handle
                .look(move |master, _| metrics::snapshot(Some(master), uptime, queued))
                .await;
            let all = all.unwrap_or_else(|| metrics::snapshot(None, uptime, queued));
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
        // glog's verbosity, which is not what is changed here.
        "/logging/toggle" if query.is_none() => respond::text(StatusCode::OK, "0\n"),
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

/// What the leader shows.
pub(super) async fn shown(
    app: &App,
    caller: &Caller,
    local: &str,
    query: Option<&str>,
) -> Response {
    let parameter = |name: &str| respond::query_parameter(query, name);
    let flags = app.flags.clone();
    let start_time = app.start_time;
    let (slave_id, framework_id) = (parameter("slave_id"), parameter("framework_id"));
    let callback = parameter("jsonp").filter(|name| !name.is_empty());
    if local == "/state" && callback.is_none() && visible::sees_all(caller) {
        return whole_state(app).await;
    }
    let shown = match local {
        "/state" => {
            let state = move |scene: &Scene| {
                state::state(scene, start_time, flags.as_strings()).into_value()
            };
            shown_outside(app, state).await
        }
        "/state-summary" => {
            shown_outside(app, move |scene| summary::summary(scene, flags.as_strings())).await
        }
        "/slaves" => {
            shown_outside(app, move |scene| state::slaves(scene, slave_id.as_deref())).await
        }
        "/frameworks" => {
            shown_outside(app, move |scene| state::frameworks(scene, framework_id.as_deref())).await
        }
        "/roles" => app.handle.look(|master, _| summary::roles(master)).await,
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
        "/tasks" => {
            let tasks = summary::TaskQuery {
                limit: parameter("limit").and_then(|limit| limit.parse().ok()),
                offset: parameter("offset")
                    .and_then(|offset| offset.parse().ok())
                    .unwrap_or_default(),
                ascending: parameter("order").as_deref() == Some("asc"),
                framework: framework_id,
                task: parameter("task_id"),
            };
            shown_outside(app, move |scene| summary::tasks(scene, &tasks)).await
        }
        _ => app.handle.look(|master, _| sorted(&master.registry)).await,
    };
    let Some(mut value) = shown else { return app.not_recovered() };
    if let Some(visible) = Visible::of(caller, &app.handle).await {
        visible.prune_json(&mut value);
    }
    match callback {
        // What is written as a stream ends without a semicolon.
        Some(function) => {
            respond::body(StatusCode::OK, "text/javascript", format!("{function}({value})"))
        }
        None => respond::json(value.to_string()),
    }
}

/// What is put together from a copy of the state, while the master goes on.
async fn shown_outside<T: Send + 'static>(
    app: &App,
    show: impl FnOnce(&Scene) -> T + Send + 'static,
) -> Option<T> {
    let scene = app.handle.look(|master, _| master.scene()).await?;
    background::spawn(move || show(&scene)).await.ok()
}

/// `/state` for who may see all of it: written while it is put together, if it is long.
async fn whole_state(app: &App) -> Response {
    let (start_time, flags) = (app.start_time, app.flags.clone());
    let Some(scene) = app.handle.look(|master, _| master.scene()).await else {
        return app.not_recovered();
    };
    let (pieces, mut written) = mpsc::channel(PIECES_MAX);
    background::spawn(move || {
        let state = state::state(&scene, start_time, flags.as_strings());
        state.write(PIECE, |piece| pieces.blocking_send(Bytes::from(piece)).is_ok());
    });
    let first = written.recv().await.unwrap_or_default();
    if first.len() < PIECE {
        return respond::json(first);
    }
    let rest = ReceiverStream::new(written);
    let all = tokio_stream::once(first).chain(rest).map(Ok::<Bytes, std::convert::Infallible>);
    respond::body(StatusCode::OK, "application/json", Body::from_stream(all))
}

fn is_quota(local: &str) -> bool {
    local == "/quota" || local.starts_with("/quota/")
}

/// What is written whole, not as a stream.
/// As the original writes what it keeps in a map first: members by name.
fn sorted<M: json::Json>(message: &M) -> serde_json::Value {
    let mut value = json::to_value(message, Dialect::V0);
    value.sort_all_objects();
    value
}

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
