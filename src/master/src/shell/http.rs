//! The master's HTTP side: libprocess messages, the legacy endpoints, redirects to the leader.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mesos::flags::Values;
use mesos::json::{self, Dialect};
use mesos::libprocess::inbound;
use mesos::v1;
use serde_json::json;
use tokio::sync::watch;
use web::respond;

use super::actor::{Handle, Input};
use super::{operator_api, scheduler_api};
use crate::view::{metrics, state};

/// Longest body taken, in bytes.
const BODY_MAX: usize = 64 << 20;

/// What requests need.
#[derive(Clone)]
pub(super) struct App {
    pub(super) handle: Handle,
    pub(super) flags: Arc<Values>,
    pub(super) own_id: String,
    pub(super) leader: watch::Receiver<Option<v1::MasterInfo>>,
    pub(super) start_time: f64,
    pub(super) started: Instant,
}

/// 400 with a text.
pub(super) fn bad_request(text: impl Into<Body>) -> Response {
    respond::text(StatusCode::BAD_REQUEST, text)
}

/// The router of everything that the master answers.
pub(super) fn router(app: App) -> Router {
    web::ui::router(web::ui::App::Mesos)
        .fallback(dispatch)
        .layer(axum::middleware::from_fn_with_state(app.clone(), messages))
        .layer(axum::Extension(app))
}

/// Takes libprocess messages out before routing: they are told apart by headers, not by path.
async fn messages(
    State(app): State<App>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let Some(header) = inbound::classify(request.method(), request.uri().path(), request.headers())
    else {
        return next.run(request).await;
    };
    let known = header.to == "master" || header.to.starts_with("slave-observer(");
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    if !known {
        return respond::not_found();
    }
    app.handle.send(Input::Message(header, body)).await;
    respond::empty(StatusCode::ACCEPTED)
}

async fn read(body: Body) -> Result<Bytes, Response> {
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(respond::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is longer than {BODY_MAX} bytes"),
        )),
        Err(_) => Err(respond::text(StatusCode::BAD_REQUEST, "The body can't be read")),
    }
}

async fn dispatch(axum::Extension(app): axum::Extension<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_end_matches('/');
    let query = parts.uri.query();
    let parameter = |name: &str| respond::query_parameter(query, name);
    let local = path.strip_prefix("/master").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let leads = || app.leads();
    let start_time = app.start_time;
    match local {
        "/health" => return respond::empty(StatusCode::OK),
        "/version" => return respond::jsonp(state::version().to_string(), query),
        "/flags" => {
            return respond::jsonp(json!({"flags": app.flags.as_strings()}).to_string(), query);
        }
        "/metrics/snapshot" => {
            let uptime = app.started.elapsed().as_secs_f64();
            let all =
                app.handle.look(move |master, _| metrics::snapshot(Some(master), uptime)).await;
            let all = all.unwrap_or_else(|| metrics::snapshot(None, uptime));
            return respond::jsonp(json!(all).to_string(), query);
        }
        "/redirect" => {
            return match app.leader_location() {
                Some(location) => respond::temporary_redirect(&location),
                None => respond::text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected"),
            };
        }
        "/files/debug" => return respond::json("{}"),
        "/files/browse" | "/files/read" | "/files/download" => {
            return match parameter("path") {
                None => bad_request("Expecting 'path=value' in query.\n"),
                Some(_) => respond::empty(StatusCode::NOT_FOUND),
            };
        }
        "/state"
        | "/state-summary"
        | "/slaves"
        | "/frameworks"
        | "/tasks"
        | "/roles"
        | "/registrar(1)/registry"
        | "/teardown"
        | "/api/v1"
        | "/api/v1/scheduler" => {}
        _ => return respond::not_found(),
    }
    if !leads() {
        return app.to_leader(&parts.uri);
    }
    if matches!(local, "/api/v1" | "/api/v1/scheduler" | "/teardown") {
        if parts.method != Method::POST {
            return respond::method_not_allowed(&["POST"], &parts.method);
        }
        let body = match read(body).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        return match local {
            "/api/v1" => operator_api::handle(&app, &parts.headers, body).await,
            "/api/v1/scheduler" => scheduler_api::handle(&app, &parts.headers, body).await,
            _ => {
                let text = String::from_utf8_lossy(&body).into_owned();
                match respond::query_parameter(Some(&text), "frameworkId") {
                    None => {
                        bad_request("Missing 'frameworkId' query parameter in the request body")
                    }
                    Some(id) => app.teardown(id).await,
                }
            }
        };
    }
    let flags = app.flags.clone();
    let (slave_id, framework_id) = (parameter("slave_id"), parameter("framework_id"));
    let shown = match local {
        "/state" => {
            app.handle
                .look(move |master, _| state::state(master, start_time, flags.as_strings()))
                .await
        }
        "/state-summary" => {
            app.handle.look(move |master, _| state::summary(master, flags.as_strings())).await
        }
        "/slaves" => {
            app.handle.look(move |master, _| state::slaves(master, slave_id.as_deref())).await
        }
        "/frameworks" => {
            app.handle
                .look(move |master, _| state::frameworks(master, framework_id.as_deref()))
                .await
        }
        "/roles" => app.handle.look(|master, _| state::roles(master)).await,
        "/tasks" => {
            let tasks = state::TaskQuery {
                limit: parameter("limit").and_then(|limit| limit.parse().ok()),
                offset: parameter("offset")
                    .and_then(|offset| offset.parse().ok())
                    .unwrap_or_default(),
                ascending: parameter("order").as_deref() == Some("asc"),
                framework: framework_id,
                task: parameter("task_id"),
            };
            app.handle.look(move |master, _| state::tasks(master, &tasks)).await
        }
        _ => {
            app.handle
                .look(|master, _| {
                    let mut value = json::to_value(&master.registry, Dialect::V0);
                    value.sort_all_objects();
                    value
                })
                .await
        }
    };
    match shown {
        Some(value) => respond::jsonp(value.to_string(), query),
        None => app.not_recovered(),
    }
}

impl App {
    fn leads(&self) -> bool {
        self.leader.borrow().as_ref().is_some_and(|leader| leader.id == self.own_id)
    }

    fn leader_location(&self) -> Option<String> {
        let leader = self.leader.borrow();
        let leader = leader.as_ref()?;
        Some(format!("//{}:{}", leader.hostname(), leader.port))
    }

    fn to_leader(&self, uri: &http::Uri) -> Response {
        match self.leader_location() {
            Some(location) => respond::temporary_redirect(&format!(
                "{location}{}",
                uri.path_and_query().map_or("/", |path| path.as_str())
            )),
            None => respond::text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected"),
        }
    }

    pub(super) fn not_recovered(&self) -> Response {
        respond::text(StatusCode::SERVICE_UNAVAILABLE, "Master has not finished recovery")
    }

    pub(super) async fn teardown(&self, framework: String) -> Response {
        let removed = self.handle.look(move |master, now| {
            let known = master.frameworks.contains_key(&framework);
            master.remove_framework(now, &framework);
            known
        });
        match removed.await {
            Some(true) => respond::empty(StatusCode::OK),
            Some(false) => bad_request("No framework found with specified ID"),
            None => self.not_recovered(),
        }
    }
}
