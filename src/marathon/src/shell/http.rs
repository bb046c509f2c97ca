//! Marathon's HTTP side: who may ask, whether this Marathon answers or passes on, and what goes to the core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use election::latch::LatchState;
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, EXPIRES, LOCATION, PRAGMA,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request};
use mesos::flags::Values;
use serde_json::{Value, json};
use tokio::sync::watch;
use web::respond;

use super::actor::Handle;
use super::events::Bus;
use super::info;
use super::proxy::Proxy;
use crate::core::api::{self, Answer};

/// Longest body taken, in bytes: what ZooKeeper would not keep is not read.
const BODY_MAX: usize = 1 << 20;
/// How long a request waits for a leader to be elected.
const LEADER_WAIT: Duration = Duration::from_millis(2500);

/// What requests are answered from.
pub(super) struct App {
    pub(super) flags: Values,
    /// The election.
    pub(super) latch: watch::Receiver<LatchState>,
    /// The core, while this Marathon leads and has loaded its state.
    pub(super) core: watch::Receiver<Option<Handle>>,
    pub(super) bus: Bus,
    pub(super) proxy: Proxy,
    /// `host:port` of this Marathon.
    pub(super) own: String,
    /// `user:password` that is asked for.
    pub(super) credentials: Option<String>,
    pub(super) started_ms: i64,
    /// Ends this Marathon's leadership.
    pub(super) abdicate: tokio::sync::mpsc::Sender<()>,
}

pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Serves everything.
pub(super) fn router(app: App) -> Router {
    Router::new().fallback(handle).with_state(Arc::new(app))
}

async fn handle(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let origin = head.headers.get("origin").cloned();
    let mut response = answer(&app, peer, head, body).await;
    finish(&app, origin.as_ref(), response.headers_mut());
    response
}

fn finish(app: &App, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let (Some(origin), Some(allowed)) = (origin, app.flags.text("access_control_allow_origin")) {
        let matches = allowed.split(',').any(|one| one.trim() == "*" || origin == one.trim());
        if matches {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
    }
}

async fn answer(app: &App, peer: SocketAddr, head: request::Parts, body: Body) -> Response {
    if !may_ask(app, &head) {
        return unauthorised(app);
    }
    let state = election(app.latch.clone()).await;
    let Some(leader) = state.leader else {
        return respond::text(StatusCode::BAD_GATEWAY, "Could not determine the current leader");
    };
    let path = head.uri.path().to_owned();
    if !state.leading {
        if path.starts_with("/v2/events") {
            let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            return found(&format!("http://{leader}{target}"));
        }
        let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else { return too_long() };
        return app.proxy.pass(&leader, &head, body, peer).await;
    }
    let mut response = as_leader(app, peer, &head, &path, body).await;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&format!("http://{}", app.own)) {
        headers.insert(HeaderName::from_static("x-marathon-leader"), value);
    }
    for (name, value) in [
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (HeaderName::from_static("x-xss-protection"), "1; mode=block"),
        (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (PRAGMA, "no-cache"),
        (EXPIRES, "0"),
    ] {
        if !(path.starts_with("/assets/") && name == CACHE_CONTROL) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Who leads; waits a while where nobody does.
async fn election(mut latch: watch::Receiver<LatchState>) -> LatchState {
    let known =
        tokio::time::timeout(LEADER_WAIT, latch.wait_for(|state| state.leader.is_some())).await;
    known.ok().and_then(Result::ok).map(|state| state.clone()).unwrap_or_default()
}

async fn as_leader(
    app: &App,
    peer: SocketAddr,
    head: &request::Parts,
    path: &str,
    body: Body,
) -> Response {
    let read = head.method == http::Method::GET || head.method == http::Method::HEAD;
    match path {
        "/" if read => return found("/ui/"),
        "/ui" | "/ui/" if read => return web::ui::asset("marathon.html"),
        "/ping" if read => {
            let wants_json = head
                .headers
                .get(ACCEPT)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|value| value.starts_with("application/json"));
            return if wants_json {
                respond::json("\"pong\"")
            } else {
                respond::text(StatusCode::OK, "pong")
            };
        }
        "/v2/leader" if read => return json_answer(200, &json!({"leader": app.own})),
        "/v2/leader" if head.method == http::Method::DELETE => {
            // A full queue means that it is under way already.
            let _ = app.abdicate.try_send(());
            return json_answer(200, &json!({"message": "Leadership abdicated"}));
        }
        "/v2/plugins" if read => return json_answer(200, &json!({"plugins": []})),
        _ => {}
    }
    if let Some(asset) = path.strip_prefix('/').filter(|path| read && path.starts_with("assets/")) {
        return web::ui::asset(asset);
    }
    let Some(core) = app.core.borrow().clone() else {
        return json_answer(503, &json!({"message": "Marathon is loading its state: try again"}));
    };
    match path {
        "/v2/events" if read => {
            let wants_events =
                head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_none_or(
                    |value| value.contains("text/event-stream") || value.contains("*/*"),
                );
            if !wants_events {
                return json_answer(406, &json!({"message": "Not Acceptable"}));
            }
            let kinds = query(head.uri.query())
                .into_iter()
                .filter(|(name, _)| name == "event_type")
                .map(|(_, value)| value)
                .collect();
            return app.bus.listen(kinds, peer, now_ms());
        }
        "/v2/info" if read => {
            let look = core.look().await;
            return json_answer(200, &info::info(&app.flags, true, Some(&app.own), look.as_ref()));
        }
        "/metrics" | "/metrics/prometheus" if read => {
            let Some(look) = core.look().await else { return ended() };
            return if path == "/metrics" {
                json_answer(200, &info::metrics(&look, app.started_ms, now_ms()))
            } else {
                info::prometheus(&look, app.started_ms, now_ms()).respond()
            };
        }
        _ => {}
    }
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else { return too_long() };
    let request = api::Request {
        method: if read { "GET".to_owned() } else { head.method.to_string() },
        path: respond::percent_decode(&path.replace('+', "%2B")).trim_end_matches('/').to_owned(),
        query: query(head.uri.query()),
        body: Bytes::into(body),
    };
    match core.request(request).await {
        Some(answer) => response(answer),
        None => ended(),
    }
}

fn query(text: Option<&str>) -> Vec<(String, String)> {
    text.unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (respond::percent_decode(name), respond::percent_decode(value))
        })
        .collect()
}

fn json_answer(status: u16, value: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond::body(status, "application/json", value.to_string())
}

fn response(answer: Answer) -> Response {
    let mut response = if answer.body.is_null() {
        respond::empty(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK))
    } else {
        json_answer(answer.status, &answer.body)
    };
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    };
    put(HeaderName::from_static("marathon-deployment-id"), answer.deployment);
    put(LOCATION, answer.location);
    response
}

fn found(location: &str) -> Response {
    let mut response = respond::empty(StatusCode::FOUND);
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn too_long() -> Response {
    json_answer(
        413,
        &json!({"message": format!("the body is longer than {BODY_MAX} bytes, or broke off")}),
    )
}

fn ended() -> Response {
    json_answer(503, &json!({"message": "Marathon is ending: nothing was changed"}))
}

/// `/ping` and `/metrics` are for machines that have no password.
fn may_ask(app: &App, head: &request::Parts) -> bool {
    let Some(wanted) = &app.credentials else { return true };
    if matches!(head.uri.path(), "/ping" | "/metrics") {
        return true;
    }
    head.headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|value| STANDARD.decode(value.trim()).ok())
        .is_some_and(|given| same(&given, wanted.as_bytes()))
}

/// Compares in time that does not depend on where the difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn unauthorised(app: &App) -> Response {
    let mut response = json_answer(401, &json!({"message": "Invalid username or password."}));
    let realm = app.flags.text("http_realm").unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&format!("Basic realm=\"{realm}\"")) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}
