//! The agent's HTTP side: libprocess messages, the executor API, the legacy endpoints.

use std::sync::Arc;
use std::time::Instant;

use access::Action;
use access::acls::Object;
use access::cram_md5::Authenticatee;
use access::firewall::Firewall;
use access::guard::{Caller, Guard};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use mesos::content::ContentType;
use mesos::flags::Values;
use mesos::libprocess::connection::{self, Limits, Mailbox};
use mesos::libprocess::inbound;
use mesos::v1;
use mesos::v1::executor::{Call, call};
use serde_json::json;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use web::files::Attached;
use web::routes::{Route, Routes};
use web::{files, help, respond};

use super::actor::{Handle, Input};
use super::{containers, metrics, operator_api, origin, view};
use crate::containerizer::cgroups::Cgroups;
use crate::containerizer::fetch::Fetching;
use crate::containerizer::images::Provisioner;
use crate::core::CallError;

pub(super) const BODY_MAX: usize = 64 << 20;

/// The realm of what is only looked at.
pub(super) const READ_ONLY: &str = "mesos-agent-readonly";
/// The realm of what changes something, and of the operator API.
pub(super) const READ_WRITE: &str = "mesos-agent-readwrite";
/// The realm of executors.
pub(super) const EXECUTOR: &str = "mesos-agent-executor";

const EXPECTED_TYPE: &str =
    "Expecting 'Content-Type' of application/json or application/x-protobuf";

/// All endpoints there are.
const ROUTES: Routes = Routes {
    own: "slave(1)",
    endpoints: &[
        "/api/v1",
        "/api/v1/executor",
        "/api/v1/resource_provider",
        "/containers",
        "/flags",
        "/health",
        "/monitor/statistics",
        "/state",
    ],
    others: &[
        "/files/browse",
        "/files/debug",
        "/files/download",
        "/files/read",
        "/logging/toggle",
        "/metrics/prometheus",
        "/metrics/snapshot",
        "/profiler/start",
        "/profiler/stop",
        "/system/stats.json",
        "/version",
    ],
};

/// What `/help` tells of.
const HELP: &help::Endpoints = &[
    ("files", help::FILES),
    ("logging", help::LOGGING),
    ("metrics", help::METRICS),
    ("profiler", help::PROFILER),
    (
        "slave(1)",
        &[
            ("/api/v1", "The operator API: calls of `mesos.v1.agent.Call` by POST."),
            ("/api/v1/executor", "The executor API: calls of `mesos.v1.executor.Call` by POST."),
            ("/api/v1/resource_provider", "This agent has no resource providers: answers 501."),
            ("/containers", "Shows executors' containers and what they use: container_id=VALUE."),
            ("/flags", "Shows the flags that the agent runs with."),
            ("/health", "Answers 200 where the agent is well."),
            ("/monitor/statistics", "Shows what executors use."),
            ("/state", "Shows the agent, its frameworks, executors and tasks."),
        ],
    ),
    ("system", help::SYSTEM),
    ("version", help::VERSION),
];

/// What requests need.
#[derive(Clone)]
pub(super) struct App {
    pub(super) fetching: Arc<Fetching>,
    /// What makes images ready, where that is wanted.
    pub(super) provisioner: Option<Provisioner>,
    /// Images that are never removed.
    pub(super) kept_images: Arc<[v1::Image]>,
    /// Where containers' cgroups are, if they have some.
    pub(super) cgroups: Option<Cgroups>,
    pub(super) handle: Handle,
    pub(super) flags: Arc<Values>,
    /// `--http_heartbeat_interval`.
    pub(super) heartbeat: std::time::Duration,
    pub(super) guard: Arc<Guard>,
    pub(super) firewall: Arc<Firewall>,
    pub(super) start_time: f64,
    pub(super) started: Instant,
}

pub(super) fn bad_request(text: impl Into<Body>) -> Response {
    respond::text(StatusCode::BAD_REQUEST, text)
}

impl App {
    /// The directories and files that a caller may look into.
    pub(super) async fn attached(&self, caller: &Caller) -> Attached {
        let owner = caller.clone();
        let sees = move |user: &str| owner.may(Action::AccessSandboxes, Object::Named(user));
        let found = self.handle.look(move |agent| view::attached(agent, &sees)).await;
        let mut attached = found.unwrap_or_default();
        if let Some(path) = files::log_file(&self.flags, super::PROGRAM) {
            attached.attach("/slave/log".to_owned(), path, caller.may_any(Action::AccessMesosLogs));
        }
        attached
    }

    /// The answer when there is nobody left to give one.
    #[expect(clippy::unused_self, reason = "an agent that answers so is this one")]
    pub(super) fn ending(&self) -> Response {
        respond::text(StatusCode::SERVICE_UNAVAILABLE, "Agent is terminating")
    }
}

/// The router of everything that the agent answers.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .fallback(dispatch)
        .layer(axum::middleware::from_fn_with_state(app.clone(), messages))
        .layer(axum::Extension(app))
}

async fn messages(
    State(app): State<App>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let Some(header) = inbound::classify(request.method(), request.uri().path(), request.headers())
    else {
        return next.run(request).await;
    };
    let Ok(body) = Limited::new(request.into_body(), BODY_MAX).collect().await else {
        return bad_request("The body can't be read");
    };
    if !app.knows(&header.to) {
        return respond::not_found();
    }
    app.deliver(header, body.to_bytes()).await;
    respond::empty(StatusCode::ACCEPTED)
}

impl Mailbox for App {
    fn knows(&self, process: &str) -> bool {
        process == "slave(1)" || process == Authenticatee::PROCESS
    }

    async fn deliver(&self, header: inbound::Header, body: Bytes) {
        self.handle.send(Input::Message(header, body)).await;
    }
}

/// Serves messages before HTTP. A v0 driver sends what it has to say to executors on a connection that it closes behind the last
/// one: an HTTP server gives up all that it has not answered then.
pub(super) fn messages_first(app: &App) -> web::First {
    let app = Arc::new(app.clone());
    let limits = Limits { body_max: BODY_MAX, pause_max: web::Options::default().header_timeout };
    web::First::new(move |stream| {
        let app = app.clone();
        async move { connection::deliver(stream, &*app, limits).await }
    })
}

async fn dispatch(axum::Extension(app): axum::Extension<App>, request: Request) -> Response {
    if !request.headers().contains_key(ORIGIN) {
        return answer(app, request).await;
    }
    let asked = request.headers().clone();
    let master =
        app.handle.look(|agent| Some((agent.master.clone()?, agent.master_hostname.clone())));
    let master = master.await.flatten();
    origin::allow(answer(app, request).await, &asked, master.as_ref())
}

async fn answer(app: App, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let route = ROUTES.find(path);
    let rules = |form: &str| app.firewall.refusal(form);
    if let Some(refusal) = ROUTES.refusal(path, route.as_ref(), rules) {
        return respond::text(StatusCode::FORBIDDEN, refusal);
    }
    // In no realm: it tells of no cluster.
    let plain = path.trim_end_matches('/').replace("%28", "(").replace("%29", ")");
    if let Some(help) = help::answer(&plain, query, &parts.headers, HELP) {
        return help;
    }
    let Some(Route { endpoint: local, .. }) = route else { return respond::not_found() };
    let parameter = |name: &str| respond::query_parameter(query, name);
    let caller = match app.guard.caller(realm(local), &parts.headers) {
        Ok(caller) => caller,
        Err(refused) => return respond::unauthorized(&refused.challenge),
    };
    if !may(&caller, local) {
        return respond::forbidden();
    }
    let (start_time, flags) = (app.start_time, app.flags.clone());
    let ending = || app.ending();
    match local {
        "/health" => respond::empty(StatusCode::OK),
        "/version" => respond::jsonp(json!({"build_date": crate::BUILD_DATE, "build_time": crate::BUILD_TIME, "build_user": "meso", "version": mesos::VERSION}).to_string(), query),
        "/flags" => respond::jsonp(json!({"flags": flags.as_strings()}).to_string(), query),
        "/state" => match app.handle.look(move |agent| view::state(agent, start_time, flags.as_strings(), &caller)).await {
            Some(value) => respond::jsonp(value.to_string(), query),
            None => ending(),
        },
        "/containers" | "/monitor/statistics" => {
            let show = if local == "/containers" { containers::containers } else { containers::monitor };
            let Some(mut all) = app.handle.look(move |agent| containers::of_executors(agent, &caller)).await else {
                return ending();
            };
            if let (Some(id), "/containers") = (parameter("container_id"), local) {
                all.retain(|own| own.is(&id));
            }
            let now = app.start_time + app.started.elapsed().as_secs_f64();
            let cgroups = app.cgroups.clone();
            match tokio::task::spawn_blocking(move || show(&all, now, cgroups.as_ref())).await {
                Ok(value) => respond::jsonp(value.to_string(), query),
                Err(_) => ending(),
            }
        }
        "/metrics/snapshot" | "/metrics/prometheus" => {
            if let Some(timeout) = parameter("timeout")
                && let Err(error) = mesos::units::parse_duration(&timeout)
            {
                return bad_request(format!("Invalid timeout '{timeout}': {error}.\n"));
            }
            let uptime = app.started.elapsed().as_secs_f64();
            match app.handle.look(move |agent| metrics::metrics(agent, uptime)).await {
                Some(mut all) => {
                    all.extend(app.fetching.metrics().map(|(name, value)| (name.to_owned(), value)));
                    all.extend(metrics::system());
                    if local == "/metrics/prometheus" {
                        metrics::prometheus(&all).respond()
                    } else {
                        respond::jsonp(json!(all).to_string(), query)
                    }
                }
                None => ending(),
            }
        }
        _ if files::is_ours(local) => {
            files::answer(local, query, app.attached(&caller).await).await
        }
        "/api/v1/executor" if parts.method != Method::POST => respond::method_not_allowed(&["POST"], &parts.method),
        "/api/v1/executor" => match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => executor(&app, &caller, &parts.headers, body.to_bytes()).await,
            Err(_) => bad_request("The body can't be read"),
        },
        "/api/v1" if parts.method != Method::POST => respond::method_not_allowed(&["POST"], &parts.method),
        "/api/v1" => Box::pin(operator_api::handle(&app, &caller, &parts.headers, body)).await,
        "/api/v1/resource_provider" if parts.method != Method::POST => {
            respond::method_not_allowed(&["POST"], &parts.method)
        }
        "/api/v1/resource_provider" => no_resource_provider(&parts.headers),
        "/profiler/start" | "/profiler/stop" => bad_request(respond::NO_PROFILER),
        "/system/stats.json" => respond::jsonp(metrics::stats().to_string(), query),
        "/logging/toggle" => web::logging::toggle(query, |text| {
            mesos::units::parse_duration(text).map_err(|error| error.to_string())
        }),
        _ => respond::not_found(),
    }
}

/// The realm of an endpoint, if it is in one.
fn realm(local: &str) -> Option<&'static str> {
    match local {
        "/health" | "/version" => None,
        "/api/v1/executor" => Some(EXECUTOR),
        "/state"
        | "/flags"
        | "/containers"
        | "/monitor/statistics"
        | "/metrics/snapshot"
        | "/metrics/prometheus" => Some(READ_ONLY),
        _ if local.starts_with("/files/") => Some(READ_ONLY),
        _ => Some(READ_WRITE),
    }
}

/// Whether a caller may have an endpoint as a whole.
fn may(caller: &Caller, local: &str) -> bool {
    match local {
        "/flags" => caller.may_any(Action::ViewFlags),
        "/containers"
        | "/files/debug"
        | "/monitor/statistics"
        | "/metrics/snapshot"
        | "/logging/toggle" => caller.may(Action::GetEndpoints, Object::Named(local)),
        // What says the same needs the same permission.
        "/metrics/prometheus" => {
            caller.may(Action::GetEndpoints, Object::Named("/metrics/snapshot"))
        }
        _ => true,
    }
}

fn refusal(error: CallError) -> Response {
    match error {
        CallError::BadRequest(text) => bad_request(text),
        CallError::Forbidden(text) => respond::text(StatusCode::FORBIDDEN, text),
    }
}

/// Resource providers are told that there are none here, whatever they call.
fn no_resource_provider(headers: &HeaderMap) -> Response {
    let content = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content.and_then(ContentType::parse).is_none() {
        return respond::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, EXPECTED_TYPE);
    }
    respond::text(StatusCode::NOT_IMPLEMENTED, "This agent has no resource providers")
}

async fn executor(app: &App, caller: &Caller, headers: &HeaderMap, body: Bytes) -> Response {
    let Some(content) = headers.get(CONTENT_TYPE) else {
        return bad_request("Expecting 'Content-Type' to be present");
    };
    let Some(content) = content.to_str().ok().and_then(ContentType::parse) else {
        return respond::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, EXPECTED_TYPE);
    };
    let call: Call = match content.decode(&body) {
        Ok(call) => call,
        Err(error) => return bad_request(error.to_string()),
    };
    let ending = || app.ending();
    if let Some(claims) = caller.claims.clone() {
        let (framework, executor) =
            (call.framework_id.value.clone(), call.executor_id.value.clone());
        let checked =
            app.handle.look(move |agent| agent.check_claims(&claims, &framework, &executor)).await;
        if let Some(Err(reason)) = checked {
            return respond::text(StatusCode::FORBIDDEN, reason);
        }
    }
    if call.r#type.is_none() || call.r#type() != call::Type::Subscribe {
        return match app.handle.call(call).await {
            Some(Ok(())) => respond::empty(StatusCode::ACCEPTED),
            Some(Err(error)) => refusal(error),
            None => ending(),
        };
    }
    let Some(accepted) =
        ContentType::accepted(headers.get(ACCEPT).and_then(|value| value.to_str().ok()))
    else {
        return respond::text(
            StatusCode::NOT_ACCEPTABLE,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        );
    };
    match app.handle.subscribe(accepted, call).await {
        Some(Ok((_, records))) => {
            let body = Body::from_stream(
                ReceiverStream::new(records).map(Ok::<Bytes, std::convert::Infallible>),
            );
            respond::body(StatusCode::OK, accepted.as_str(), body)
        }
        Some(Err(error)) => refusal(error),
        None => ending(),
    }
}
