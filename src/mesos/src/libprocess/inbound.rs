//! Telling libprocess messages from ordinary HTTP requests on the same port.

use http::Method;
use http::header::{HeaderMap, USER_AGENT};

use super::Upid;

/// What a message says of itself before its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Who claims to have sent it. Only a claim: match it with what is registered.
    pub from: Upid,
    /// The receiving process' id.
    pub to: String,
    /// The message's full type name; empty if the path has none.
    pub name: String,
}

/// The header of a libprocess message, or `None` for an ordinary request.
///
/// A `POST` with `Libprocess-From`, or with `User-Agent: libprocess/<upid>`, is a message. A sender that is no UPID
/// is taken as `@0.0.0.0:0`, as the original takes it.
pub fn classify(method: &Method, path: &str, headers: &HeaderMap) -> Option<Header> {
    if method != Method::POST {
        return None;
    }
    let text = |name: &http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    Header::read(path, text(&http::HeaderName::from_static("libprocess-from")), text(&USER_AGENT))
}

impl Header {
    /// The header of a `POST` by its path and the two headers that make a message of it; `None` without either.
    pub(super) fn read(path: &str, from: Option<&str>, user_agent: Option<&str>) -> Option<Self> {
        let from = match from {
            Some(from) => from,
            None => user_agent?.strip_prefix("libprocess/")?,
        };
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let to = percent_decode(parts.next().unwrap_or_default());
        let name = parts.next().unwrap_or_default().to_owned();
        Some(Self { from: from.trim().parse().unwrap_or_else(|_| Upid::none()), to, name })
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = (bytes[index] == b'%')
            .then(|| bytes.get(index + 1..index + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escaped {
            decoded.push(byte);
            index += 3;
        } else {
            decoded.push(bytes[index]);
            index += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn either_header_makes_a_message() {
        for headers in [
            headers("libprocess-from", "slave(1)@127.0.0.1:5051"),
            headers("user-agent", "libprocess/slave(1)@127.0.0.1:5051"),
        ] {
            let header =
                classify(&Method::POST, "/master/mesos.internal.RegisterSlaveMessage", &headers)
                    .unwrap();
            assert_eq!(header.from.to_string(), "slave(1)@127.0.0.1:5051");
            assert_eq!(
                (header.to.as_str(), header.name.as_str()),
                ("master", "mesos.internal.RegisterSlaveMessage")
            );
        }
        assert_eq!(
            classify(&Method::POST, "/slave%281%29/x", &headers("libprocess-from", "junk"))
                .unwrap()
                .to,
            "slave(1)"
        );
    }

    #[test]
    fn ordinary_requests_are_none() {
        assert_eq!(
            classify(&Method::GET, "/master/x", &headers("libprocess-from", "a@1.2.3.4:5")),
            None
        );
        assert_eq!(
            classify(&Method::POST, "/master/api/v1", &headers("user-agent", "curl/8")),
            None
        );
    }
}
