//! The media types of the operator API: messages in JSON or protobuf, and streams of them (`application/recordio`).
//!
//! The checks, their order and their texts are those of `slave/http.cpp`, `Http::api`.

use axum::response::Response;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mesos::content::{ContentError, ContentType};
use mesos::json::Json;
use prost::Message;
use web::respond;

/// The type of a stream of messages.
pub(super) const RECORDIO: &str = "application/recordio";
/// Says in which form a stream's messages are.
pub(super) const MESSAGE_CONTENT_TYPE: HeaderName = HeaderName::from_static("message-content-type");
const MESSAGE_ACCEPT: HeaderName = HeaderName::from_static("message-accept");

/// How a body comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// One message.
    One(ContentType),
    /// A stream of messages.
    Stream(ContentType),
}

/// What a request is in, and what it wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) content: Media,
    pub(super) accept: Media,
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// Whether an `Accept` value allows a type; an absent one allows all.
fn accepts(value: Option<&str>, wanted: &str) -> bool {
    value.is_none_or(|value| {
        value
            .split(',')
            .map(|media| media.split(';').next().unwrap_or_default().trim())
            .any(|media| media == wanted || media == "*/*" || media == "application/*")
    })
}

impl Wanted {
    /// From a request's headers, or the refusal.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Box<Response>> {
        Ok(Self { content: content(headers)?, accept: accept(headers)? })
    }
}

/// The refusal, boxed as an error should be that is larger than what is returned otherwise.
fn refused<T>(status: StatusCode, reason: &'static str) -> Result<T, Box<Response>> {
    Err(Box::new(respond::text(status, reason)))
}

fn content(headers: &HeaderMap) -> Result<Media, Box<Response>> {
    let of_messages = text(headers, &MESSAGE_CONTENT_TYPE);
    let Some(content) = text(headers, &CONTENT_TYPE) else {
        return refused(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present");
    };
    let one = ContentType::parse(content);
    if one.is_none() && content != RECORDIO {
        return refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio",
        );
    }
    match (one, of_messages, of_messages.and_then(ContentType::parse)) {
        (Some(one), None, _) => Ok(Media::One(one)),
        (Some(_), Some(_), _) => refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Expecting 'Message-Content-Type' to be not set for non-streaming requests",
        ),
        (None, None, _) => refused(
            StatusCode::BAD_REQUEST,
            "Expecting 'Message-Content-Type' to be set for streaming requests",
        ),
        (None, Some(_), Some(messages)) => Ok(Media::Stream(messages)),
        (None, Some(_), None) => refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Expecting 'Message-Content-Type' of application/json or application/x-protobuf",
        ),
    }
}

fn accept(headers: &HeaderMap) -> Result<Media, Box<Response>> {
    let (value, of_messages) = (text(headers, &ACCEPT), text(headers, &MESSAGE_ACCEPT));
    let refused = |reason| refused(StatusCode::NOT_ACCEPTABLE, reason);
    let one = [ContentType::Json, ContentType::Protobuf]
        .into_iter()
        .find(|one| accepts(value, one.as_str()));
    match (one, of_messages) {
        (Some(one), None) => Ok(Media::One(one)),
        (Some(_), Some(_)) => {
            refused("Expecting 'Message-Accept' to be not set for non-streaming responses")
        }
        (None, _) if !accepts(value, RECORDIO) => refused(
            "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio",
        ),
        (None, _) => match ContentType::accepted(of_messages) {
            Some(messages) => Ok(Media::Stream(messages)),
            None => refused(
                "Expecting 'Message-Accept' to allow application/json or application/x-protobuf",
            ),
        },
    }
}

/// Decodes a message; what is wrong is said in the words of this API, which differ from the master's.
pub(super) fn decode<M: Json + Message>(content: ContentType, body: &[u8]) -> Result<M, String> {
    content.decode(body).map_err(|error| match error {
        ContentError::Syntax(_) => error.to_string(),
        ContentError::Shape(inner) => inner.to_string(),
        ContentError::Protobuf => "Failed to parse body into a protobuf object".to_owned(),
    })
}

/// A reply that is a stream of records.
pub(super) fn stream(
    accept: Media,
    records: impl tokio_stream::Stream<Item = bytes::Bytes> + Send + 'static,
) -> Response {
    use tokio_stream::StreamExt as _;
    let body =
        axum::body::Body::from_stream(records.map(Ok::<bytes::Bytes, std::convert::Infallible>));
    match accept {
        Media::One(content) => respond::body(StatusCode::OK, content.as_str(), body),
        Media::Stream(content) => {
            let mut response = respond::body(StatusCode::OK, RECORDIO, body);
            let value = HeaderValue::from_static(content.as_str());
            response.headers_mut().insert(MESSAGE_CONTENT_TYPE, value);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(headers: &[(&'static str, &'static str)]) -> Result<Wanted, StatusCode> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Wanted::from_headers(&headers.collect()).map_err(|refusal| refusal.status())
    }

    #[test]
    fn streams_name_the_form_of_their_messages_and_others_do_not() {
        let json = ("content-type", "application/json");
        let stream = ("content-type", RECORDIO);
        let of_json = ("message-content-type", "application/json");
        assert_eq!(wanted(&[json]).unwrap().accept, Media::One(ContentType::Json));
        assert_eq!(wanted(&[stream]).unwrap_err(), StatusCode::BAD_REQUEST);
        assert_eq!(wanted(&[json, of_json]).unwrap_err(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let found = wanted(&[stream, of_json, ("accept", "application/x-protobuf")]).unwrap();
        assert_eq!(found.content, Media::Stream(ContentType::Json));
        assert_eq!(found.accept, Media::One(ContentType::Protobuf));
        let found = wanted(&[json, ("accept", RECORDIO)]).unwrap();
        assert_eq!(found.accept, Media::Stream(ContentType::Json));
        let refused = wanted(&[json, ("message-accept", "application/json")]).unwrap_err();
        assert_eq!(refused, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(
            wanted(&[json, ("accept", "text/plain")]).unwrap_err(),
            StatusCode::NOT_ACCEPTABLE
        );
        assert_eq!(wanted(&[]).unwrap_err(), StatusCode::BAD_REQUEST);
    }
}
