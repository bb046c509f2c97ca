//! What a Marathon that doesn't lead does with requests: it passes them on to the one that leads
//! (`LeaderProxyFilter`).

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, request};
use web::respond;

const VIA: &str = "X-Marathon-Via";

/// Passes requests on.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    http: reqwest::Client,
    own: String,
}

impl Proxy {
    /// `own` is `host:port` of this Marathon.
    pub(super) fn new(own: String, connect: Duration, read: Duration) -> anyhow::Result<Self> {
        let http = tls::client::builder(None)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect)
            .read_timeout(read)
            .build()?;
        Ok(Self { http, own })
    }

    fn via(&self) -> String {
        format!("1.1 {}", self.own)
    }

    /// Whether the request has been here before.
    fn looped(&self, headers: &HeaderMap) -> bool {
        let via = self.via();
        headers
            .get_all(VIA)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|values| values.split(',').any(|value| value.trim() == via))
    }

    /// Sends a request to `leader` (`host:port`) and gives its answer back.
    pub(super) async fn pass(
        &self,
        leader: &str,
        head: &request::Parts,
        body: Bytes,
        peer: SocketAddr,
    ) -> Response {
        if self.looped(&head.headers) {
            return respond::text(StatusCode::BAD_GATEWAY, "Detected proxying loop.");
        }
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request =
            self.http.request(head.method.clone(), format!("http://{leader}{path}")).body(body);
        for (name, value) in &head.headers {
            if !matches!(
                name.as_str(),
                "connection" | "host" | "content-length" | "transfer-encoding"
            ) {
                request = request.header(name, value);
            }
        }
        let forwarded = head.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let forwarded = forwarded
            .map_or_else(|| peer.ip().to_string(), |before| format!("{before}, {}", peer.ip()));
        let request = request.header(VIA, self.via()).header("X-Forwarded-For", forwarded);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => {
                return respond::text(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Connection to leader timed out.",
                );
            }
            Err(error) if error.is_connect() => {
                return respond::text(StatusCode::BAD_GATEWAY, "Connection to leader refused.");
            }
            Err(error) => {
                tracing::warn!(leader, %error, "request not passed on");
                return respond::text(
                    StatusCode::BAD_GATEWAY,
                    "Failed to successfully establish a connection to the leader.",
                );
            }
        };
        let mut response = respond::empty(answer.status());
        for (name, value) in answer.headers() {
            if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding") {
                response.headers_mut().append(name.clone(), value.clone());
            }
        }
        if let Ok(via) = HeaderValue::from_str(&self.via()) {
            response.headers_mut().append(VIA, via);
        }
        *response.body_mut() = Body::from_stream(answer.bytes_stream());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_here_is_known_again() {
        let proxy = Proxy::new("b:8080".to_owned(), Duration::from_secs(1), Duration::from_secs(1))
            .unwrap();
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.1 a:8080"));
        assert!(!proxy.looped(&headers));
        headers.append(VIA, HeaderValue::from_static("1.1 c:8080, 1.1 b:8080"));
        assert!(proxy.looped(&headers));
    }
}
