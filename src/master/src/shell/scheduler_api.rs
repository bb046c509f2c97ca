//! `POST /api/v1/scheduler`.

use access::guard::Caller;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use mesos::content::ContentType;
use mesos::v1::scheduler::{Call, call};
use tokio_stream::StreamExt as _;
use web::respond;

use super::actor::Asked;
use super::http::{App, bad_request};
use crate::core::{CallError, Master};

/// The header that names a framework's stream.
const STREAM_ID: &str = "mesos-stream-id";

/// The content type of a v1 request, or the refusal.
pub(super) fn content_type(headers: &HeaderMap) -> Result<ContentType, Box<Response>> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(Box::new(bad_request("Expecting 'Content-Type' to be present")));
    };
    value.to_str().ok().and_then(ContentType::parse).ok_or_else(|| {
        Box::new(respond::text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ))
    })
}

/// The content type of the answer, or the refusal.
pub(super) fn accepted(headers: &HeaderMap) -> Result<ContentType, Box<Response>> {
    ContentType::accepted(headers.get(ACCEPT).and_then(|value| value.to_str().ok())).ok_or_else(
        || {
            Box::new(respond::text(
                StatusCode::NOT_ACCEPTABLE,
                "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
            ))
        },
    )
}

fn refusal(error: CallError) -> Response {
    match error {
        CallError::BadRequest(text) => bad_request(text),
        CallError::Forbidden(text) => respond::text(StatusCode::FORBIDDEN, text),
        CallError::NotImplemented(text) => respond::text(StatusCode::NOT_IMPLEMENTED, text),
    }
}

/// Answers a call.
pub(super) async fn handle(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let content = match content_type(headers) {
        Ok(content) => content,
        Err(response) => return *response,
    };
    let mut call: Call = match content.decode(&body) {
        Ok(call) => call,
        Err(error) => return bad_request(error.to_string()),
    };
    let stream = headers.get(STREAM_ID).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if call.r#type.is_none() || call.r#type() != call::Type::Subscribe {
        // Once its answer was to have a body: what is accepted is asked about still.
        if call.r#type() == call::Type::ReconcileOperations {
            if let Err(error) = Master::check_call(&call) {
                return refusal(error);
            }
            if let Err(response) = accepted(headers) {
                return *response;
            }
        }
        let applied = call.r#type() == call::Type::UpdateFramework;
        let asked = Asked { principal: caller.principal.clone(), stream, call };
        return match app.handle.call(asked).await {
            Some(Ok(())) if applied => respond::empty(StatusCode::OK),
            Some(Ok(())) => respond::empty(StatusCode::ACCEPTED),
            Some(Err(error)) => refusal(error),
            None => app.not_recovered(),
        };
    }
    if let Err(error) = Master::check_subscribe(caller.principal.as_ref(), &call) {
        return refusal(error);
    }
    let accepted = match accepted(headers) {
        Ok(accepted) => accepted,
        Err(response) => return *response,
    };
    if stream.is_some() {
        return bad_request("Subscribe calls should not include the 'Mesos-Stream-Id' header");
    }
    // A framework that doesn't say who it is, is who it has proved to be.
    if let (Some(subscribe), Some(known)) = (&mut call.subscribe, &caller.principal) {
        subscribe.framework_info.principal.get_or_insert_with(|| known.0.clone());
    }
    let Some(subscription) = app.handle.subscribe(accepted, call).await else {
        return app.not_recovered();
    };
    let id = subscription.stream;
    let body = Body::from_stream(subscription.records().map(Ok::<Bytes, std::convert::Infallible>));
    let mut response = respond::body(StatusCode::OK, accepted.as_str(), body);
    if let Ok(value) = HeaderValue::from_str(&id.0.to_string()) {
        response.headers_mut().insert(STREAM_ID, value);
    }
    response
}
