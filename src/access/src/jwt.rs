//! Tokens that executors prove themselves with: JSON Web Tokens under HMAC-SHA-256 (RFC 7519; libprocess' `jwt.cpp`,
//! `jwt_authenticator.cpp`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{KeyInit as _, Mac as _};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use crate::basic::Unauthorized;

type HmacSha256 = hmac::Hmac<sha2::Sha256>;

/// Longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 16 << 10;

/// What a token says of whoever has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims(BTreeMap<String, String>);

impl Claims {
    /// An executor's: its framework, its id and its container.
    pub fn of_executor(framework: &str, executor: &str, container: &str) -> Self {
        let claims = [("fid", framework), ("eid", executor), ("cid", container)];
        Self(claims.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Display for Claims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        write!(formatter, "{{ {} }}", each.join(", "))
    }
}

/// The key that tokens are signed with.
#[derive(Clone)]
pub struct Key(HmacSha256);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key")
    }
}

impl Key {
    /// A key of these bytes; `None` if there are none.
    pub fn new(secret: &[u8]) -> Option<Self> {
        if secret.is_empty() {
            return None;
        }
        HmacSha256::new_from_slice(secret).ok().map(Self)
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Claims) -> String {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
        let payload = URL_SAFE_NO_PAD.encode(json!(claims.0).to_string());
        let signed = format!("{header}.{payload}");
        let signature = self.0.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// What a token says, if it was signed with this key and has not expired at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not taken, in the original's words.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, String> {
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(format!("Expected 3 components in token, got {}", parts.len()));
        };
        let fields =
            object(header).map_err(|text| format!("Failed to decode token header: {text}"))?;
        match fields.get("alg").map(Value::as_str) {
            None => return Err("Failed to locate 'alg' in token JSON header".to_owned()),
            Some(None) => return Err("Token 'alg' field is not a string".to_owned()),
            Some(Some("HS256")) => {}
            Some(Some(other)) => {
                return Err(format!(
                    "Token 'alg' value \"{other}\" does not match, expected \"HS256\""
                ));
            }
        }
        if fields.contains_key("crit") {
            return Err("Token 'crit' field is unsupported".to_owned());
        }
        let given = decode(signature)
            .ok_or_else(|| "Failed to base64url-decode token signature".to_owned())?;
        // Compares in constant time.
        let mac = self.0.clone().chain_update(header).chain_update(".").chain_update(payload);
        mac.verify_slice(&given).map_err(|_| "Token signature does not match".to_owned())?;
        let claims =
            object(payload).map_err(|text| format!("Failed to decode token payload: {text}"))?;
        if let Some(expiry) = claims.get("exp") {
            let expiry = expiry.as_f64().ok_or("JSON payload 'exp' field is not a number")? as i64;
            if expiry < now {
                return Err(format!("Token has expired: exp({expiry}) < now({now})"));
            }
        }
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Claims(claims.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }

    /// Who sent a request, by the token in its `Authorization`.
    ///
    /// # Errors
    /// When it has none, or none that is taken.
    pub fn authenticate(&self, realm: &str, headers: &HeaderMap) -> Result<Claims, Unauthorized> {
        let challenge = |problem: Option<String>| {
            let problem = problem.map(|text| {
                // What a client sent must not end the quotes.
                let text = text.replace(['"', '\\'], "'");
                format!(", error=\"invalid_token\", error_description=\"{text}\"")
            });
            Unauthorized {
                challenge: format!("Bearer realm=\"{realm}\"{}", problem.unwrap_or_default()),
            }
        };
        let Some(value) = headers.get(AUTHORIZATION) else { return Err(challenge(None)) };
        let malformed = || challenge(Some("Malformed 'Authorization' header".to_owned()));
        let text = value.to_str().map_err(|_| malformed())?;
        let Some((scheme, token)) = text.split_once(' ').filter(|_| text.len() <= TOKEN_MAX) else {
            return Err(malformed());
        };
        if scheme != "Bearer" {
            return Err(challenge(Some(format!("Scheme '{scheme}' unsupported"))));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = self
            .verify(token, i64::try_from(now).unwrap_or(i64::MAX))
            .map_err(|reason| challenge(Some(format!("Invalid JWT: {reason}"))))?;
        if claims.0.is_empty() {
            return Err(challenge(Some("JWT claims missing".to_owned())));
        }
        Ok(claims)
    }
}

/// Some write padding, some do not.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).or_else(|_| URL_SAFE.decode(part)).ok()
}

fn object(part: &str) -> Result<Map<String, Value>, String> {
    let bytes = decode(part).ok_or("Failed to base64url-decode")?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("Failed to parse into JSON: it is no object".to_owned()),
        Err(error) => Err(format!("Failed to parse into JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(header: &str, payload: &str) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    fn signed(key: &Key, header: &str, payload: &str) -> String {
        let text = encoded(header, payload);
        let signature = key.0.clone().chain_update(&text).finalize().into_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The token of RFC 7515, appendix A.1.
    #[test]
    fn the_tokens_of_the_standard_are_taken() {
        let key = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let key = Key::new(&key).unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let claims = key.verify(token, 1_300_819_380).unwrap();
        assert_eq!(
            (claims.get("iss"), claims.get("http://example.com/is_root")),
            (Some("joe"), Some("true"))
        );
        let late = key.verify(token, 1_300_819_381).unwrap_err();
        assert_eq!(late, "Token has expired: exp(1300819380) < now(1300819381)");
    }

    #[test]
    fn only_what_was_signed_with_the_key_is_taken() {
        let (key, other) = (Key::new(b"secret").unwrap(), Key::new(b"guess").unwrap());
        let claims = Claims::of_executor("f", "e", "c");
        let token = key.sign(&claims);
        assert_eq!(key.verify(&token, 0), Ok(claims));
        assert_eq!(other.verify(&token, 0), Err("Token signature does not match".to_owned()));
        let unsigned = encoded(r#"{"alg":"none"}"#, r#"{"cid":"c"}"#) + ".";
        for (token, reason) in [
            ("a.b", "Expected 3 components in token, got 2"),
            ("a.b.c.d", "got 4"),
            ("!.b.c", "Failed to base64url-decode"),
            (&unsigned, "does not match, expected \"HS256\""),
            (&signed(&key, r#"{"alg":"HS256","crit":["x"]}"#, "{}"), "'crit' field is unsupported"),
            (&signed(&key, r#"{"alg":"HS256"}"#, "[]"), "no object"),
            (
                &signed(&key, r#"{"alg":"HS256"}"#, r#"{"exp":"soon"}"#),
                "'exp' field is not a number",
            ),
            (&signed(&key, "{}", "{}"), "Failed to locate 'alg'"),
        ] {
            let error = key.verify(token, 0).unwrap_err();
            assert!(error.contains(reason), "{token}: {error}");
        }
        assert!(Key::new(b"").is_none());
    }

    #[test]
    fn requests_without_a_good_token_are_challenged() {
        let key = Key::new(b"secret").unwrap();
        let ask = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (AUTHORIZATION, value.parse().unwrap())));
            key.authenticate("r", &headers).map_err(|refused| refused.challenge)
        };
        let token = key.sign(&Claims::of_executor("f", "e", "c"));
        assert_eq!(ask(Some(&format!("Bearer {token}"))).unwrap().get("fid"), Some("f"));
        assert_eq!(ask(None).unwrap_err(), "Bearer realm=\"r\"");
        let invalid = "Bearer realm=\"r\", error=\"invalid_token\", error_description=";
        assert_eq!(
            ask(Some("x")).unwrap_err(),
            format!("{invalid}\"Malformed 'Authorization' header\"")
        );
        assert_eq!(
            ask(Some("Basic x")).unwrap_err(),
            format!("{invalid}\"Scheme 'Basic' unsupported\"")
        );
        let empty = signed(&key, r#"{"alg":"HS256"}"#, "{}");
        assert_eq!(
            ask(Some(&format!("Bearer {empty}"))).unwrap_err(),
            format!("{invalid}\"JWT claims missing\"")
        );
        assert!(
            ask(Some("Bearer a.b.c"))
                .unwrap_err()
                .starts_with(&format!("{invalid}\"Invalid JWT: "))
        );
    }
}
