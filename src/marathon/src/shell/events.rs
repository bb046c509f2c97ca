//! `/v2/events`: server-sent events to those who listen.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use web::respond;

use crate::core::timestamp;

/// Events that a slow listener may be behind; what is older is dropped for it.
const BEHIND_MAX: usize = 1024;
/// How often an idle stream says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// One event.
#[derive(Debug, Clone)]
pub(super) struct Told {
    kind: String,
    frame: Bytes,
}

/// Where events go.
#[derive(Debug, Clone)]
pub(super) struct Bus(broadcast::Sender<Told>);

fn frame(kind: &str, value: &Value) -> Bytes {
    Bytes::from(format!("event: {kind}\r\ndata: {value}\r\n\r\n"))
}

impl Bus {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(BEHIND_MAX).0)
    }

    /// Tells all who listen.
    pub(super) fn tell(&self, kind: &str, value: &Value) {
        // An error means that nobody listens.
        let _ = self.0.send(Told { kind: kind.to_owned(), frame: frame(kind, value) });
    }

    /// A stream of events, of these kinds or of all where none is named.
    pub(super) fn listen(&self, kinds: Vec<String>, peer: SocketAddr, now_ms: i64) -> Response {
        let attached = json!({
            "remoteAddress": peer.ip().to_string(),
            "eventType": "event_stream_attached",
            "timestamp": timestamp(now_ms),
        });
        let first = frame("event_stream_attached", &attached);
        let stream = stream(self.0.subscribe(), kinds, first);
        let mut response = respond::empty(StatusCode::OK);
        *response.body_mut() = Body::from_stream(stream);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }
}

fn stream(
    told: broadcast::Receiver<Told>,
    kinds: Vec<String>,
    first: Bytes,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::unfold((told, kinds, Some(first)), |(mut told, kinds, first)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (told, kinds, None)));
        }
        loop {
            match tokio::time::timeout(HEARTBEAT, told.recv()).await {
                Err(_) => return Some((Ok(Bytes::from_static(b"\r\n")), (told, kinds, None))),
                Ok(Ok(event)) if kinds.is_empty() || kinds.contains(&event.kind) => {
                    return Some((Ok(event.frame), (told, kinds, None)));
                }
                Ok(Ok(_)) => {}
                Ok(Err(broadcast::error::RecvError::Lagged(count))) => {
                    tracing::warn!(
                        count,
                        "a listener of /v2/events is too slow: events are dropped for it"
                    );
                }
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;

    #[tokio::test]
    async fn only_the_kinds_asked_for_arrive() {
        let bus = Bus::new();
        let events = stream(bus.0.subscribe(), vec!["b".to_owned()], Bytes::from_static(b"hello"));
        let mut events = std::pin::pin!(events);
        bus.tell("a", &json!({"n": 1}));
        bus.tell("b", &json!({"n": 2}));
        assert_eq!(events.next().await.unwrap().unwrap(), "hello");
        assert_eq!(events.next().await.unwrap().unwrap(), "event: b\r\ndata: {\"n\":2}\r\n\r\n");
    }
}
