//! Answers in the form that libprocess gives them (its `http.cpp`): plain-text errors with the status in them, JSON
//! with `jsonp`, `Content-Type` spelled as there.

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

/// An answer with a body and its type.
pub fn body(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 200 with JSON.
pub fn json(text: impl Into<Body>) -> Response {
    body(StatusCode::OK, "application/json", text)
}

/// JSON, wrapped in a call when the query names a `jsonp` function.
pub fn jsonp(text: String, query: Option<&str>) -> Response {
    let function = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| pair.strip_prefix("jsonp="))
        .filter(|name| !name.is_empty());
    match function {
        Some(function) => body(StatusCode::OK, "text/javascript", format!("{function}({text});")),
        None => json(text),
    }
}

/// A plain-text answer.
pub fn text(status: StatusCode, text: impl Into<Body>) -> Response {
    body(status, "text/plain; charset=utf-8", text)
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// `401 Unauthorized.`, with what the client must answer.
pub fn unauthorized(challenge: &str) -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "401 Unauthorized.");
    if let Ok(value) = HeaderValue::from_str(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}

/// `403 Forbidden.`
pub fn forbidden() -> Response {
    text(StatusCode::FORBIDDEN, "403 Forbidden.")
}

/// `404 Not Found.`
pub fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 Not Found.")
}

/// `405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.`
pub fn method_not_allowed(expected: &[&str], received: &http::Method) -> Response {
    let quoted: Vec<String> = expected.iter().map(|method| format!("'{method}'")).collect();
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "405 Method Not Allowed. Expecting one of {{ {} }}, but received '{received}'.",
            quoted.join(", ")
        ),
    );
    if let Ok(value) = HeaderValue::from_str(&expected.join(", ")) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// A redirect that keeps the method.
pub fn temporary_redirect(location: &str) -> Response {
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// A query's parameter, percent-decoded; the first of that name.
pub fn query_parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode(value))
    })
}

/// Decodes `%41` and `+` of a query.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = bytes
                    .get(index + 1..index + 3)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => {
                        decoded.push(byte);
                        index += 2;
                    }
                    None => decoded.push(b'%'),
                }
            }
            byte => decoded.push(byte),
        }
        index += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_decoded() {
        assert_eq!(query_parameter(Some("a=1&path=%2Fx+y&b"), "path").as_deref(), Some("/x y"));
        assert_eq!(query_parameter(Some("a=100%"), "a").as_deref(), Some("100%"));
        assert_eq!(query_parameter(Some("a=1"), "b"), None);
        assert_eq!(query_parameter(None, "b"), None);
    }

    #[test]
    fn jsonp_wraps_only_when_asked() {
        assert_eq!(jsonp("{}".into(), Some("jsonp=cb")).headers()[CONTENT_TYPE], "text/javascript");
        assert_eq!(jsonp("{}".into(), None).headers()[CONTENT_TYPE], "application/json");
    }
}
