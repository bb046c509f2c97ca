//! The two web UIs, built from `ui/` and embedded.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use rust_embed::RustEmbed;

use crate::respond;

#[derive(RustEmbed)]
#[folder = "ui/dist"]
struct Assets;

/// Which UI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// The master's, on 5050.
    Mesos,
    /// Marathon's, on 8080.
    Marathon,
}

impl App {
    fn page(self) -> &'static str {
        match self {
            Self::Mesos => "mesos.html",
            Self::Marathon => "marathon.html",
        }
    }
}

/// Serves a UI: its page at `/`, what it loads below `/assets/`.
pub fn router(app: App) -> Router {
    let page = move || async move { asset(app.page()) };
    Router::new().route("/", get(page)).route(
        "/assets/{*path}",
        get(|Path(path): Path<String>| async move { asset(&format!("assets/{path}")) }),
    )
}

/// A file of the UI, or 404.
pub fn asset(path: &str) -> Response {
    let Some(file) = Assets::get(path) else { return respond::not_found() };
    let mut response = Response::new(axum::body::Body::from(file.data.into_owned()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(file.metadata.mimetype()) {
        headers.insert(http::header::CONTENT_TYPE, value);
    }
    // Names below assets/ carry a hash of their content; pages don't.
    let caching = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' http: https:; frame-ancestors 'none'"),
    );
    response
}
