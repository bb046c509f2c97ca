//! The administrator's HTTP server (`JettyAdminServer`): `/commands` lists what may be asked, `/commands/NAME` answers in
//! JSON. Metrics for Prometheus are served the same way, on a port of their own.

mod commands;
mod json;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::header::{HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::{Method, StatusCode, Uri};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use commands::answer;

use crate::config::{Admin, Metrics};
use crate::server::{Door, Input, Opened, Question};

/// Connections of administrators at a time.
const CONNECTIONS_MAX: usize = 200;

/// Browsers that came under TLS are to come so again (`SecureRequestCustomizer`).
const FOR_A_DAY: HeaderValue = HeaderValue::from_static("max-age=86400; includeSubDomains");

/// A question of an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The command's name, as it was asked.
    pub name: String,
    /// `traceMask` of the query, if it was given.
    pub trace_mask: Option<String>,
}

/// What a command answers: keys and values in order.
pub type Answer = Map<String, Value>;

/// Answers commands until the shutdown.
pub(crate) async fn serve(
    listener: TcpListener,
    door: Door,
    options: Admin,
    inputs: mpsc::Sender<Input>,
    shutdown: CancellationToken,
) {
    let limits = web::Options {
        connections_max: CONNECTIONS_MAX,
        header_timeout: options.idle,
        first: Some(first(door)),
        ..web::Options::default()
    };
    let router = Router::new().fallback(move |request: Request| {
        let (options, inputs) = (options.clone(), inputs.clone());
        async move {
            let is_secure = request.extensions().get::<web::Secure>().is_some();
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let mut response = respond(&options, inputs, method, uri).await;
            if is_secure {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, FOR_A_DAY);
            }
            response
        }
    });
    if let Err(error) = web::serve(listener, router, limits, shutdown).await {
        tracing::warn!("the administrator's HTTP server ended: {error}");
    }
}

/// The handshake, if there is to be one, before HTTP.
fn first(door: Door) -> web::First {
    web::First::new(move |stream| {
        let door = door.clone();
        async move {
            let ::tls::Stream::Plain(stream) = stream else {
                return Err(std::io::Error::other("TLS under TLS"));
            };
            let opened = match door.shake_hands(stream).await? {
                Opened::Plain(stream) => stream.into(),
                Opened::Tls(stream) => (*stream).into(),
            };
            Ok(Some((opened, bytes::BytesMut::new())))
        }
    })
}

async fn respond(
    options: &Admin,
    inputs: mpsc::Sender<Input>,
    method: Method,
    uri: Uri,
) -> Response {
    let path = uri.path();
    let Some(rest) = path.strip_prefix(options.url.as_str()) else {
        return web::respond::not_found();
    };
    if !(rest.is_empty() || rest.starts_with('/')) {
        return web::respond::not_found();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return web::respond::method_not_allowed(&["GET"], &method);
    }
    let name = rest.trim_start_matches('/');
    if name.is_empty() {
        return web::respond::body(StatusCode::OK, "text/html;charset=utf-8", links(&options.url));
    }
    let trace_mask = web::respond::query_parameter(uri.query(), "traceMask");
    let name = web::respond::percent_decode(name);
    let (reply, answer) = oneshot::channel();
    let question = Question::Command(Command { name, trace_mask }, reply);
    let sent = inputs.send(Input::Question(question)).await;
    match (sent, answer.await) {
        (Ok(()), Ok(answer)) => {
            web::respond::body(StatusCode::OK, "application/json", json::text(&answer))
        }
        _ => ending(),
    }
}

fn ending() -> Response {
    web::respond::text(StatusCode::SERVICE_UNAVAILABLE, "the server is ending")
}

fn links(url: &str) -> String {
    let mut names = commands::NAMES.map(|names| names[0]);
    names.sort_unstable();
    let links = names.iter().map(|name| format!("<a href=\"{url}/{name}\">{name}</a>\n<br/>\n"));
    links.collect()
}

/// Shows metrics until the shutdown.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    options: Metrics,
    inputs: mpsc::Sender<Input>,
    shutdown: CancellationToken,
) {
    let limits = web::Options { connections_max: CONNECTIONS_MAX, ..web::Options::default() };
    let router = Router::new().fallback(move |method: Method, uri: Uri| {
        let inputs = inputs.clone();
        async move { respond_metrics(options.with_process, inputs, method, uri).await }
    });
    if let Err(error) = web::serve(listener, router, limits, shutdown).await {
        tracing::warn!("the metrics' HTTP server ended: {error}");
    }
}

async fn respond_metrics(
    with_process: bool,
    inputs: mpsc::Sender<Input>,
    method: Method,
    uri: Uri,
) -> Response {
    if uri.path() != "/metrics" {
        return web::respond::not_found();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return web::respond::method_not_allowed(&["GET"], &method);
    }
    let (reply, answer) = oneshot::channel();
    let sent = inputs.send(Input::Question(Question::Metrics(with_process, reply))).await;
    match (sent, answer.await) {
        (Ok(()), Ok(text)) => {
            web::respond::body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        _ => ending(),
    }
}
