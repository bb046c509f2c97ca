//! Answers in the form that libprocess gives them (its `http.cpp`): plain-text errors with the status in them, JSON
//! with `jsonp`, `Content-Type` spelled as there.

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

/// What `/profiler/*` says where there is none, as in the original as it is published.
pub const NO_PROFILER: &str =
    "Perftools is disabled. To enable perftools, configure libprocess with --enable-perftools.\n";

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

/// JSON, wrapped in a call when the query names a `jsonp` function, be its name empty.
pub fn jsonp(text: String, query: Option<&str>) -> Response {
    match query_parameter(query, "jsonp") {
        Some(function) => body(StatusCode::OK, "text/javascript", format!("{function}({text})")),
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

/// A query's parameter, percent-decoded; the last of that name. `;` separates as `&` does.
pub fn query_parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.rsplit(['&', ';']).find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode(value))
    })
}

/// Checks what was sent as a form: [`query_parameter`] takes a `%` without two digits as it stands, which is right for
/// a query only.
///
/// # Errors
/// `Unable to decode query string: Malformed % escape in '…': '%4'`, for the first that is wrong.
pub fn check_form(form: &str) -> Result<(), String> {
    for part in form.split(['&', ';', '=']) {
        for (at, _) in part.match_indices('%') {
            let escape: String = part[at..].chars().take(3).collect();
            if escape.len() != 3 || !escape[1..].bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!(
                    "Unable to decode query string: Malformed % escape in '{part}': '{escape}'"
                ));
            }
        }
    }
    Ok(())
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
        assert_eq!(query_parameter(Some("a=1;b=2&a=3"), "a").as_deref(), Some("3"));
        assert_eq!(query_parameter(Some("a&b"), "a").as_deref(), Some(""));
    }

    #[test]
    fn forms_with_half_an_escape_are_refused() {
        assert_eq!(check_form("a=%41&b=%2F%2f"), Ok(()));
        for (form, part, escape) in
            [("a=1&frameworkId=%41%2", "%41%2", "%2"), ("%zz=1", "%zz", "%zz"), ("%", "%", "%")]
        {
            assert_eq!(
                check_form(form).unwrap_err(),
                format!(
                    "Unable to decode query string: Malformed % escape in '{part}': '{escape}'"
                )
            );
        }
    }

    #[test]
    fn jsonp_wraps_only_when_asked() {
        assert_eq!(jsonp("{}".into(), Some("jsonp=cb")).headers()[CONTENT_TYPE], "text/javascript");
        assert_eq!(jsonp("{}".into(), Some("jsonp=")).headers()[CONTENT_TYPE], "text/javascript");
        assert_eq!(jsonp("{}".into(), None).headers()[CONTENT_TYPE], "application/json");
    }
}
