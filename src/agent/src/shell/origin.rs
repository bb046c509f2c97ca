//! Which web pages may read what the agent answers: the leading master's, which shows sandboxes.
//!
//! The original lets every page read it by JSONP. A browser inside a network would then carry what tasks print to any
//! site that its user visits, so ours names the one page that needs it.

use axum::response::Response;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HOST, ORIGIN, VARY};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use mesos::libprocess::Upid;

/// Whether the page that asks is the master's, under its own name or address, or under the name that the browser has for
/// this host.
fn is_masters(headers: &HeaderMap, master: &Upid, hostname: Option<&str>) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin = text(ORIGIN).and_then(|origin| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
    });
    let Some(origin) = origin.and_then(|origin| origin.parse::<Authority>().ok()) else {
        return false;
    };
    let own = text(HOST).and_then(|host| host.parse::<Authority>().ok());
    let ip = master.address.ip().to_string();
    let is_known = [hostname, Some(ip.as_str()), own.as_ref().map(Authority::host)]
        .into_iter()
        .flatten()
        .any(|known| known.eq_ignore_ascii_case(origin.host().trim_matches(['[', ']'])));
    is_known && origin.port_u16() == Some(master.address.port())
}

/// Lets the master's page read an answer.
pub(super) fn allow(
    mut response: Response,
    asked: &HeaderMap,
    master: Option<&(Upid, Option<String>)>,
) -> Response {
    let Some(origin) = asked.get(ORIGIN) else { return response };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if master.is_some_and(|(pid, hostname)| is_masters(asked, pid, hostname.as_deref())) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_page_may_read_and_no_other() {
        let master = Upid::new("master", "10.0.0.1:5050".parse().unwrap());
        let asked = |origin: &'static str| {
            let headers = [(ORIGIN, origin), (HOST, "tunnel:5051")]
                .map(|(name, value)| (name, HeaderValue::from_static(value)));
            is_masters(&headers.into_iter().collect(), &master, Some("m1.example.com"))
        };
        for page in [
            "http://10.0.0.1:5050",
            "http://M1.example.com:5050",
            "https://m1.example.com:5050",
            "http://tunnel:5050",
        ] {
            assert!(asked(page), "{page}");
        }
        for page in [
            "null",
            "http://10.0.0.1",
            "http://10.0.0.1:8080",
            "http://evil.example.com:5050",
            "http://m1.example.com.evil.com:5050",
            "m1.example.com:5050",
        ] {
            assert!(!asked(page), "{page}");
        }
        assert!(!is_masters(&HeaderMap::new(), &master, None));
    }
}
