//! A small blocking HTTP client for tests.

use std::time::Duration;

use serde_json::Value;

/// A reply: status and body. Any status is a reply, not an error.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// Body as text.
    pub body: String,
    /// The `Location` header, where a redirect was not followed.
    pub location: Option<String>,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When the body is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| {
            panic!("not JSON ({error}), status {}: {}", self.status, self.body)
        })
    }
}

fn agent() -> ureq::Agent {
    agent_within(Duration::from_secs(10))
}

fn agent_within(limit: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(limit))
        .build()
        .new_agent()
}

fn reply(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply, String> {
    let mut response = result.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let location = response.headers().get("location");
    let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok(Reply { status, body, location })
}

/// `GET url`.
///
/// # Errors
/// When no reply came.
pub fn get(url: &str) -> Result<Reply, String> {
    reply(agent().get(url).call())
}

/// `GET url`, a redirect being a reply as any other.
///
/// # Errors
/// When no reply came.
pub fn get_unredirected(url: &str) -> Result<Reply, String> {
    reply(agent().get(url).config().max_redirects(0).max_redirects_will_error(false).build().call())
}

/// `GET url`, expecting status 200 and JSON.
///
/// # Errors
/// When no reply came, the status is another, or the body isn't JSON.
pub fn get_json(url: &str) -> Result<Value, String> {
    let reply = get(url)?;
    if reply.status != 200 {
        return Err(format!("{url}: {} {}", reply.status, reply.body));
    }
    serde_json::from_str(&reply.body).map_err(|error| format!("{url}: {error}: {}", reply.body))
}

/// `POST url` with a JSON body.
///
/// # Errors
/// When no reply came.
pub fn post(url: &str, body: &Value) -> Result<Reply, String> {
    reply(agent().post(url).content_type("application/json").send(body.to_string()))
}

/// [`post`] to who may take longer.
///
/// # Errors
/// When no reply came within `limit`.
pub fn post_within(url: &str, body: &Value, limit: Duration) -> Result<Reply, String> {
    reply(agent_within(limit).post(url).content_type("application/json").send(body.to_string()))
}

/// `PUT url` with a JSON body.
///
/// # Errors
/// When no reply came.
pub fn put(url: &str, body: &Value) -> Result<Reply, String> {
    reply(agent().put(url).content_type("application/json").send(body.to_string()))
}

/// `DELETE url`.
///
/// # Errors
/// When no reply came.
pub fn delete(url: &str) -> Result<Reply, String> {
    reply(agent().delete(url).call())
}
