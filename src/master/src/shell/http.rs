//! The master's HTTP side: libprocess messages, the legacy endpoints, redirects to the leader.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Instant;

use access::Action;
use access::firewall::Firewall;
use access::guard::{Caller, Guard};
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mesos::flags::Values;
use mesos::libprocess::connection::{self, Limits, Mailbox};
use mesos::libprocess::inbound;
use mesos::v1;
use mesos::v1::offer::Operation;
use nix::sys::resource::{Resource, getrlimit};
use replicated_log::ReplicatedLog;
use tokio::sync::watch;
use web::files::Attached;
use web::{files, help, respond};

use super::actor::{Handle, Input};
use super::{background, legacy, operator_api, permissions, scheduler_api};
use crate::core::authentication::SESSION_PREFIX;
use crate::core::model::Now;
use crate::core::{Master, Refusal};
use crate::view::metrics;

/// Longest body taken, in bytes.
const BODY_MAX: usize = 64 << 20;

/// Shorter bodies are not compressed, in bytes.
const COMPRESSED_MIN: u64 = 1024;

/// What `/help` tells of.
const HELP: &help::Endpoints = &[
    ("allocator", &[("/offer_constraints_debug", "Shows which offers frameworks constrain.")]),
    ("files", help::FILES),
    ("logging", help::LOGGING),
    (
        "master",
        &[
            ("/api/v1", "The operator API: calls of `mesos.v1.master.Call` by POST."),
            ("/api/v1/scheduler", "The scheduler API: calls of `mesos.v1.scheduler.Call` by POST."),
            ("/create-volumes", "Makes persistent volumes: slaveId=VALUE, volumes=VALUE by POST."),
            ("/destroy-volumes", "Removes them: slaveId=VALUE, volumes=VALUE by POST."),
            ("/flags", "Shows the flags that the master runs with."),
            ("/frameworks", "Shows frameworks: framework_id=VALUE."),
            ("/health", "Answers 200 where the master is well."),
            ("/machine/down", "Takes machines down: a list of them by POST."),
            ("/machine/up", "Takes them up again: a list of them by POST."),
            ("/maintenance/schedule", "Shows the maintenance that is planned, or sets it by POST."),
            ("/maintenance/status", "Shows which machines are being maintained."),
            ("/quota", "Shows quotas, sets one by POST, removes one by DELETE."),
            ("/redirect", "Leads to the leading master."),
            ("/reserve", "Reserves resources: slaveId=VALUE, resources=VALUE by POST."),
            ("/roles", "Shows roles, their weights and what they have."),
            ("/slaves", "Shows agents: slave_id=VALUE."),
            ("/state", "Shows the master, its agents, frameworks and tasks."),
            ("/state-summary", "Shows how many of each there are."),
            ("/tasks", "Shows tasks: limit=VALUE, offset=VALUE, order=(asc|desc)."),
            ("/teardown", "Ends a framework: frameworkId=VALUE by POST."),
            ("/unreserve", "Takes a reservation back: slaveId=VALUE, resources=VALUE by POST."),
            ("/weights", "Shows weights of roles, or sets them by PUT."),
        ],
    ),
    ("metrics", help::METRICS),
    ("profiler", help::PROFILER),
    ("registrar(1)", &[("/registry", "Shows what the registry holds.")]),
    ("system", help::SYSTEM),
    ("version", help::VERSION),
];

/// What requests need.
#[derive(Clone)]
pub(super) struct App {
    pub(super) handle: Handle,
    pub(super) log: Option<ReplicatedLog>,
    pub(super) flags: Arc<Values>,
    pub(super) guard: Arc<Guard>,
    pub(super) firewall: Arc<Firewall>,
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
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    if !app.knows(&header.to) {
        return respond::not_found();
    }
    app.deliver(header, body).await;
    respond::empty(StatusCode::ACCEPTED)
}

impl Mailbox for App {
    fn knows(&self, process: &str) -> bool {
        process == "master"
            || process.starts_with("slave-observer(")
            || process.starts_with(SESSION_PREFIX)
            || self.log.is_some() && replicated_log::message::is_ours(process)
    }

    async fn deliver(&self, header: inbound::Header, body: Bytes) {
        match self.log.as_ref().filter(|_| replicated_log::message::is_ours(&header.to)) {
            Some(log) => log.deliver(header, &body),
            None => self.handle.send(Input::Message(header, body)).await,
        }
    }
}

/// How connections are served: messages of agents and drivers without the machinery of HTTP.
pub(super) fn serving(app: &App, tls: Option<tls::Tls>) -> web::Options {
    let app = Arc::new(app.clone());
    let limits = Limits { body_max: BODY_MAX, pause_max: web::Options::default().header_timeout };
    web::Options {
        connections_max: connections_max(),
        tls,
        first: Some(web::First::new(move |stream| {
            let app = app.clone();
            async move { connection::deliver(stream, &*app, limits).await }
        })),
        ..web::Options::default()
    }
}

/// Each agent has a connection to the master, and the master one to each agent: as many as there may be open files for,
/// with some left for the registry, ZooKeeper and the like.
fn connections_max() -> usize {
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    (files as usize / 2).saturating_sub(64).max(256)
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
    let accepts = request.headers().get(http::header::ACCEPT_ENCODING);
    let gzip =
        accepts.and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("gzip"));
    let response = answer(app, request, gzip).await;
    if gzip { compressed(response).await } else { response }
}

/// A whole body that is worth it, compressed; a stream stays as it is.
async fn compressed(response: Response) -> Response {
    let size = response.body().size_hint().exact().unwrap_or_default();
    if size < COMPRESSED_MIN {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(whole) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, "the answer can't be read");
    };
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    match encoder.write_all(&whole).and_then(|()| encoder.finish()) {
        Ok(small) => {
            parts.headers.remove(http::header::CONTENT_LENGTH);
            parts
                .headers
                .insert(http::header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
            Response::from_parts(parts, small.into())
        }
        Err(_) => Response::from_parts(parts, whole.into()),
    }
}

async fn answer(app: App, request: Request, gzip: bool) -> Response {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let route = legacy::ROUTES.find(path);
    let rules = |form: &str| app.firewall.refusal(form);
    if let Some(refusal) = legacy::ROUTES.refusal(path, route.as_ref(), rules) {
        return respond::text(StatusCode::FORBIDDEN, refusal);
    }
    // In no realm: it tells of no cluster.
    if let Some(help) = help::answer(path.trim_end_matches('/'), query, &parts.headers, HELP) {
        return help;
    }
    let Some(route) = route else { return respond::not_found() };
    let local = route.endpoint;
    let caller = match app.guard.caller(permissions::realm(local), &parts.headers) {
        Ok(caller) => caller,
        Err(refused) => return respond::unauthorized(&refused.challenge),
    };
    if let Some(response) = legacy::anywhere(&app, &caller, &route, query).await {
        return response;
    }
    let Some(methods) = legacy::methods(local) else { return respond::not_found() };
    if !app.leads() {
        // A registrar has nothing to hide: one that has recovered nothing yet shows that.
        if local.starts_with("/registrar(1)/") {
            return respond::json("{}");
        }
        return app.to_leader(&route.path, query);
    }
    if !methods.is_empty() && !methods.contains(&parts.method.as_str()) {
        return respond::method_not_allowed(methods, &parts.method);
    }
    if methods.is_empty() || parts.method == Method::GET {
        return legacy::shown(&app, &caller, local, query, gzip).await;
    }
    let body = match read(body).await {
        Ok(body) => decoded(&parts.headers, body),
        Err(response) => return response,
    };
    let body = match body {
        Ok(body) => body,
        Err(response) => return *response,
    };
    match local {
        "/api/v1" => operator_api::handle(&app, &caller, &parts.headers, body).await,
        "/api/v1/scheduler" => scheduler_api::handle(&app, &caller, &parts.headers, body).await,
        "/quota" if parts.method == Method::DELETE => {
            legacy::remove_quota(&app, &caller, &route.path).await
        }
        _ => legacy::changed(&app, &caller, local, &parts.method, &body).await,
    }
}

/// A body as it was before its `Content-Encoding`.
fn decoded(headers: &http::HeaderMap, body: Bytes) -> Result<Bytes, Box<Response>> {
    if headers.get(http::header::CONTENT_ENCODING).is_none_or(|encoding| encoding != "gzip") {
        return Ok(body);
    }
    let mut plain = Vec::new();
    let limit = BODY_MAX as u64 + 1;
    match GzDecoder::new(body.as_ref()).take(limit).read_to_end(&mut plain) {
        Ok(length) if length > BODY_MAX => Err(Box::new(respond::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is longer than {BODY_MAX} bytes"),
        ))),
        Ok(_) => Ok(plain.into()),
        Err(_) => {
            Err(Box::new(respond::text(StatusCode::INTERNAL_SERVER_ERROR, "failed to decode body")))
        }
    }
}

impl App {
    pub(super) fn leads(&self) -> bool {
        self.leader.borrow().as_ref().is_some_and(|leader| leader.id == self.own_id)
    }

    /// The files that a caller may look into.
    pub(super) fn attached(&self, caller: &Caller) -> Attached {
        let mut attached = Attached::default();
        if let Some(path) = files::log_file(&self.flags, super::PROGRAM) {
            let may_see = caller.may_any(Action::AccessMesosLogs);
            attached.attach("/master/log".to_owned(), path, may_see);
        }
        attached
    }

    pub(super) fn leader_location(&self) -> Option<String> {
        let leader = self.leader.borrow();
        let leader = leader.as_ref()?;
        Some(format!("//{}:{}", leader.hostname(), leader.port))
    }

    /// All metrics as they are now.
    pub(super) async fn metrics(&self) -> metrics::Snapshot {
        let around = metrics::Around {
            uptime: self.started.elapsed().as_secs_f64(),
            queued: self.handle.queued(),
            unstored: self.handle.unstored(),
            // A log that is not replicated is read when it is opened.
            ensemble: self.log.as_ref().map_or(1, ReplicatedLog::replicas),
            log_recovered: self.log.as_ref().is_none_or(ReplicatedLog::has_recovered),
        };
        let moment = self.handle.look(|master, _| metrics::Moment::of(master)).await;
        let all = background::spawn(move || metrics::snapshot(moment.as_ref(), around));
        all.await.unwrap_or_default()
    }

    /// Where the leader has the same; the path is as libprocess sees it.
    pub(super) fn to_leader(&self, path: &str, query: Option<&str>) -> Response {
        match self.leader_location() {
            Some(location) => {
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                respond::temporary_redirect(&format!("{location}{path}{query}"))
            }
            None => respond::text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected"),
        }
    }

    pub(super) fn not_recovered(&self) -> Response {
        respond::text(StatusCode::SERVICE_UNAVAILABLE, "Master has not finished recovery")
    }

    /// Answers an operator's change of the state once it is on disk.
    pub(super) async fn change(
        &self,
        change: impl FnOnce(&mut Master, Now) -> Result<(), Refusal> + Send + 'static,
    ) -> Response {
        self.change_to(StatusCode::OK, change).await
    }

    /// As [`App::change`], with another code for what was done.
    pub(super) async fn change_to(
        &self,
        done: StatusCode,
        change: impl FnOnce(&mut Master, Now) -> Result<(), Refusal> + Send + 'static,
    ) -> Response {
        match self.handle.change(change).await {
            Some(Ok(())) => respond::empty(done),
            Some(Err(Refusal::BadRequest(text))) => bad_request(text),
            Some(Err(Refusal::Forbidden)) => respond::forbidden(),
            Some(Err(Refusal::NotFound(text))) => respond::text(StatusCode::NOT_FOUND, text),
            Some(Err(Refusal::Conflict(text))) => respond::text(StatusCode::CONFLICT, text),
            None => self.not_recovered(),
        }
    }

    /// Carries out an operator's operation on an agent's resources.
    pub(super) async fn operate(
        &self,
        caller: &Caller,
        agent: String,
        operation: Box<Operation>,
    ) -> Response {
        let principal = caller.principal.as_ref().map(|principal| principal.0.clone());
        self.change_to(StatusCode::ACCEPTED, move |master, _| {
            master.operate_as_operator(&agent, principal.as_deref(), *operation)
        })
        .await
    }

    pub(super) async fn teardown(&self, caller: &Caller, framework: String) -> Response {
        let caller = caller.clone();
        self.change(move |master, now| {
            if !master.frameworks.contains_key(&framework) {
                return Err(Refusal::BadRequest("No framework found with specified ID".to_owned()));
            }
            if !permissions::may_tear_down(&caller, master, &framework) {
                return Err(Refusal::Forbidden);
            }
            master.remove_framework(now, &framework);
            Ok(())
        })
        .await
    }
}
