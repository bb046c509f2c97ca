//! HTTP Basic authentication in realms (RFC 7617; libprocess' `BasicAuthenticator`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::{Credentials, Principal};

/// A request that must be answered with 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unauthorized {
    /// What `WWW-Authenticate` must say.
    pub challenge: String,
}

/// Who sent a request, by its `Authorization`.
///
/// # Errors
/// When it has none, or not that of a principal with its secret.
pub fn authenticate(
    credentials: &Credentials,
    realm: &str,
    headers: &HeaderMap,
) -> Result<Principal, Unauthorized> {
    let known =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let encoded = value.strip_prefix("Basic ")?;
            let decoded = STANDARD.decode(encoded.trim()).ok()?;
            let colon = decoded.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&decoded[..colon]).ok()?;
            credentials.check(name, &decoded[colon + 1..])
        });
    known.ok_or_else(|| Unauthorized { challenge: format!("Basic realm=\"{realm}\"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_is_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "admin admin:pw\n").unwrap();
        let credentials = Credentials::read(file.path()).unwrap();
        let ask = |value: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            authenticate(&credentials, "r", &headers).map(|principal| principal.0)
        };
        let refused = Err(Unauthorized { challenge: "Basic realm=\"r\"".to_owned() });
        assert_eq!(
            ask(&format!("Basic {}", STANDARD.encode("admin:admin:pw"))),
            Ok("admin".to_owned())
        );
        for wrong in ["admin:admin", "admin", "", ":", "nobody:admin:pw"] {
            assert_eq!(ask(&format!("Basic {}", STANDARD.encode(wrong))), refused, "{wrong}");
        }
        for wrong in ["Bearer abc", "Basic !!!", "Basic", "", "basic"] {
            assert_eq!(ask(wrong), refused, "{wrong}");
        }
        assert_eq!(
            authenticate(&credentials, "r", &HeaderMap::new()).map(|principal| principal.0),
            refused
        );
    }
}
