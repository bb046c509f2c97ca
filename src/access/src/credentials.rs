//! Principals and their secrets, as `--credentials`, `--http_credentials` and `--credential` name them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use subtle::ConstantTimeEq as _;

use crate::Principal;

/// A file of credentials is not longer than this, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// A secret. It can be compared and used, not shown.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Its bytes, to compute with.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is `other`, in a time that tells nothing but the length.
    pub fn is(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Why credentials can't be used. No secret is in the text.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be read.
    #[error("cannot read the credentials in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file has another form.
    #[error("the credentials in {} are not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: &'static str,
    },
}

/// Principals and their secrets.
#[derive(Debug, Clone, Default)]
pub struct Credentials(BTreeMap<Principal, Secret>);

impl Credentials {
    /// Reads `--credentials`: JSON `{"credentials": [{"principal": …, "secret": …}]}`, or lines `principal secret`.
    ///
    /// # Errors
    /// When the file can't be read or has another form.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let text = read(path)?;
        let invalid = |reason| CredentialsError::Invalid { path: path.to_owned(), reason };
        Self::parse(&text).map_err(invalid)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.trim_start().starts_with('{') {
            let lines = text.lines().filter(|line| !line.trim().is_empty()).map(pair);
            return Ok(Self(
                lines.collect::<Option<_>>().ok_or(
                    "expected a principal and a secret on each line, separated by a space",
                )?,
            ));
        }
        let wrong = r#"expected JSON like {"credentials": [{"principal": "…", "secret": "…"}]}"#;
        let value: Value = serde_json::from_str(text).map_err(|_| wrong)?;
        let list = value.get("credentials").and_then(Value::as_array).ok_or(wrong)?;
        list.iter().map(object).collect::<Option<_>>().map(Self).ok_or(wrong)
    }

    /// The secret of a principal.
    pub fn secret(&self, principal: &str) -> Option<&Secret> {
        self.0.get(&Principal(principal.to_owned()))
    }

    /// The principal, if that is its secret.
    pub fn check(&self, principal: &str, secret: &[u8]) -> Option<Principal> {
        let principal = Principal(principal.to_owned());
        self.0.get(&principal).is_some_and(|known| known.is(secret)).then_some(principal)
    }
}

/// Reads `--credential`, a file with one: JSON `{"principal": …, "secret": …}`, or `principal secret`.
///
/// # Errors
/// When the file can't be read or has another form.
pub fn read_one(path: &Path) -> Result<(Principal, Secret), CredentialsError> {
    let text = read(path)?;
    let one = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).ok().as_ref().and_then(object)
    } else {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.next().and_then(pair).filter(|_| lines.next().is_none())
    };
    one.ok_or_else(|| CredentialsError::Invalid {
        path: path.to_owned(),
        reason: r#"expected JSON like {"principal": "…", "secret": "…"}, or a principal and a secret on one line"#,
    })
}

fn read(path: &Path) -> Result<String, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable { path: path.to_owned(), source };
    let data = std::fs::metadata(path).map_err(unreadable)?;
    if data.len() > FILE_MAX {
        let reason = "the file is longer than 1 MiB";
        return Err(CredentialsError::Invalid { path: path.to_owned(), reason });
    }
    if data.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            "permissions on credential file '{}' are too open; it is recommended that your credential file is NOT accessible by others (chmod 600)",
            path.display()
        );
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn pair(line: &str) -> Option<(Principal, Secret)> {
    let mut words = line.split_whitespace();
    let (principal, secret) = (words.next()?, words.next()?);
    words.next().is_none().then(|| (Principal(principal.to_owned()), secret.into()))
}

fn object(value: &Value) -> Option<(Principal, Secret)> {
    let principal = value.get("principal")?.as_str().filter(|name| !name.is_empty())?;
    // Without a secret an entry only names somebody who can't authenticate here; the original asks for both as well.
    Some((Principal(principal.to_owned()), value.get("secret")?.as_str()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for text in [
            r#"{"credentials": [{"principal": "a", "secret": "1"}, {"principal": "b", "secret": "2"}]}"#,
            "a 1\n\n b\t2 \n",
        ] {
            let read = Credentials::parse(text).unwrap();
            assert_eq!(read.check("a", b"1"), Some(Principal("a".to_owned())), "{text}");
            assert_eq!(read.check("b", b"1"), None, "{text}");
            assert_eq!(read.check("c", b"1"), None, "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["a", "a b c", "{", "{}", r#"{"credentials": [{"principal": "a"}]}"#] {
            assert!(Credentials::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_single_credential_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [r#"{"principal": "a", "secret": "1"}"#, "a 1\n"] {
            std::fs::write(file.path(), text).unwrap();
            let (principal, secret) = read_one(file.path()).unwrap();
            assert_eq!((principal.0.as_str(), secret.expose()), ("a", b"1".as_slice()));
        }
        std::fs::write(file.path(), "a 1\nb 2\n").unwrap();
        assert!(read_one(file.path()).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Credentials::parse("a hidden").unwrap());
        assert!(shown.contains("***") && !shown.contains("hidden"), "{shown}");
    }
}
