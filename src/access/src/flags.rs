//! Security from a daemon's flags: the same for masters and agents.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesos::flags::Values;

use crate::acls::AclsError;
use crate::cram_md5::Authenticatee;
use crate::credentials::{self, CredentialsError};
use crate::firewall::{Firewall, FirewallError};
use crate::guard::Guard;
use crate::jwt::Key;
use crate::{Acls, Credentials};

/// Why a daemon must not start with these flags; what is wrong with a value is in the error's source.
#[derive(Debug, thiserror::Error)]
pub enum FlagsError {
    /// `--acls`.
    #[error("--acls")]
    Acls(#[from] AclsError),
    /// `--firewall_rules`.
    #[error("--firewall_rules")]
    Firewall(#[from] FirewallError),
    /// A file of credentials.
    #[error("--{flag}")]
    Credentials {
        /// The flag that names it.
        flag: &'static str,
        /// What is wrong.
        source: CredentialsError,
    },
    /// The file of a key.
    #[error("--jwt_secret_key: {}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Somebody would be asked for credentials that nobody has.
    #[error("--{flag} needs --{needs}: without any, nobody could get in")]
    Missing {
        /// The flag that asks.
        flag: &'static str,
        /// The flag that names credentials.
        needs: &'static str,
    },
    /// A module that is not built in.
    #[error("--{flag}: '{given}' is not known: only {known} is built in")]
    Unknown {
        /// The flag.
        flag: &'static str,
        /// What was given.
        given: String,
        /// What there is.
        known: &'static str,
    },
}

/// Longest key that is read, in bytes.
const KEY_MAX: u64 = 1 << 20;

fn path(text: &str) -> &Path {
    Path::new(text.strip_prefix("file://").unwrap_or(text))
}

/// Refuses modules other than the built-in ones, each given as its flag and the one name known.
///
/// # Errors
/// [`FlagsError::Unknown`].
pub fn only_built_in(
    values: &Values,
    known: &[(&'static str, &'static str)],
) -> Result<(), FlagsError> {
    for (flag, known) in known {
        if let Some(given) = values.text(flag).filter(|given| given != known) {
            return Err(FlagsError::Unknown { flag, given: given.to_owned(), known });
        }
    }
    Ok(())
}

/// The ACLs of `--acls`; without it, everything is allowed.
///
/// # Errors
/// [`FlagsError::Acls`].
pub fn acls(values: &Values) -> Result<Arc<Acls>, FlagsError> {
    let acls = values.text("acls").map(Acls::parse).transpose()?;
    Ok(Arc::new(acls.unwrap_or_default()))
}

/// The rules of `--firewall_rules`; without it, everything passes.
///
/// # Errors
/// [`FlagsError::Firewall`].
pub fn firewall(values: &Values) -> Result<Firewall, FlagsError> {
    Ok(values.text("firewall_rules").map(Firewall::parse).transpose()?.unwrap_or_default())
}

/// The flags as `/flags` shows them: ACLs in the form that the original shows.
pub fn shown(values: Values, acls: &Acls) -> Values {
    match values.text("acls") {
        Some(_) => values.showing("acls", acls.to_text()),
        None => values,
    }
}

/// The credentials in the file that a flag names.
///
/// # Errors
/// [`FlagsError::Credentials`].
pub fn credentials(
    values: &Values,
    flag: &'static str,
) -> Result<Option<Arc<Credentials>>, FlagsError> {
    let read = values.text(flag).map(|text| Credentials::read(path(text))).transpose();
    Ok(read.map_err(|source| FlagsError::Credentials { flag, source })?.map(Arc::new))
}

/// The key in the file of `--jwt_secret_key`, which is all of it.
///
/// # Errors
/// [`FlagsError::Key`].
pub fn key(values: &Values) -> Result<Option<Arc<Key>>, FlagsError> {
    let Some(path) = values.text("jwt_secret_key").map(path) else { return Ok(None) };
    let wrong = |reason: String| FlagsError::Key { path: path.to_owned(), reason };
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut secret = Vec::new();
    let metadata = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        tracing::warn!(
            "Permissions on executor secret key file '{}' are too open; it is recommended that your key file is NOT accessible by others",
            path.display()
        );
    }
    file.take(KEY_MAX).read_to_end(&mut secret).map_err(|error| wrong(error.to_string()))?;
    let key = Key::new(&secret).ok_or_else(|| wrong("it is empty".to_owned()))?;
    Ok(Some(Arc::new(key)))
}

/// The credential that a daemon itself proves who it is with.
///
/// # Errors
/// [`FlagsError::Credentials`].
pub fn own_credential(
    values: &Values,
    flag: &'static str,
) -> Result<Option<Authenticatee>, FlagsError> {
    let read = values.text(flag).map(|text| credentials::read_one(path(text))).transpose();
    let own = read.map_err(|source| FlagsError::Credentials { flag, source })?;
    Ok(own.map(|(principal, secret)| Authenticatee::new(principal, secret)))
}

/// Refuses a flag that asks for credentials where there are none.
///
/// # Errors
/// [`FlagsError::Missing`].
pub fn needs(
    values: &Values,
    flag: &'static str,
    needs: &'static str,
    credentials: Option<&Arc<Credentials>>,
) -> Result<Option<Arc<Credentials>>, FlagsError> {
    match (values.boolean(flag), credentials) {
        (false, _) => Ok(None),
        (true, Some(credentials)) => Ok(Some(credentials.clone())),
        (true, None) => Err(FlagsError::Missing { flag, needs }),
    }
}

/// What stands before HTTP endpoints, by pairs of a flag and the realm that it makes ask for the credentials that
/// the flag `from` names.
///
/// # Errors
/// [`FlagsError::Missing`].
pub fn guard(
    values: &Values,
    acls: Arc<Acls>,
    from: &'static str,
    credentials: Option<&Arc<Credentials>>,
    realms: &[(&'static str, &'static str)],
) -> Result<Guard, FlagsError> {
    let mut guard = Guard::new(acls);
    for (flag, realm) in realms {
        if let Some(credentials) = needs(values, flag, from, credentials)? {
            guard.ask(realm, credentials);
        }
    }
    Ok(guard)
}
