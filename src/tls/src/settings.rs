//! What the environment says: `LIBPROCESS_SSL_*`, and `SSL_*` as it was called before Mesos 1.0.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::TlsError;

const PREFIX: &str = "LIBPROCESS_SSL_";
const OLD_PREFIX: &str = "SSL_";
/// What an agent tells its executors, beside what operators do: not the names above, or programs of libprocess that run
/// as tasks would take them for theirs.
const EXECUTOR_PREFIX: &str = "MESOS_EXECUTOR_SSL_";

/// How the other end's name is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// By the name that its address has, at both ends.
    #[default]
    Legacy,
    /// By the name or the address that was dialled; who dials is not asked for its name.
    OpenSsl,
}

/// What is known of TLS before any file is read. The default is what the originals have where TLS is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether connections without TLS are taken, and made where the other end speaks none.
    pub support_downgrade: bool,
    /// Own certificate, and those between it and the authority, in PEM.
    pub cert_file: Option<PathBuf>,
    /// Own key, in PEM.
    pub key_file: Option<PathBuf>,
    /// Whether servers are checked.
    pub verify_server_cert: bool,
    /// Whether those who connect must have a certificate that is good.
    pub require_client_cert: bool,
    /// Whether an address in a certificate counts.
    pub verify_ipadd: bool,
    /// How many certificates may be between one and its authority.
    pub verification_depth: usize,
    /// Directory of authorities.
    pub ca_dir: Option<PathBuf>,
    /// File of authorities.
    pub ca_file: Option<PathBuf>,
    /// Suites by OpenSSL's names; all where none is named.
    pub ciphers: Vec<String>,
    /// Groups by OpenSSL's names, the preferred first; all where none is named.
    pub ecdh_curves: Vec<String>,
    /// How names are checked.
    pub scheme: Scheme,
    /// Whether TLS 1.2 is spoken.
    pub tls_v1_2: bool,
    /// Whether TLS 1.3 is spoken.
    pub tls_v1_3: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            support_downgrade: false,
            cert_file: None,
            key_file: None,
            verify_server_cert: false,
            require_client_cert: false,
            verify_ipadd: false,
            verification_depth: 4,
            ca_dir: None,
            ca_file: None,
            ciphers: Vec::new(),
            ecdh_curves: Vec::new(),
            scheme: Scheme::Legacy,
            tls_v1_2: true,
            tls_v1_3: false,
        }
    }
}

/// Names that are known, without their prefix.
const NAMES: &[&str] = &[
    "CA_DIR",
    "CA_FILE",
    "CERT_FILE",
    "CIPHERS",
    "ECDH_CURVE",
    "ECDH_CURVES",
    "ENABLED",
    "ENABLE_SSL_V3",
    "ENABLE_TLS_V1_0",
    "ENABLE_TLS_V1_1",
    "ENABLE_TLS_V1_2",
    "ENABLE_TLS_V1_3",
    "HOSTNAME_VALIDATION_SCHEME",
    "KEY_FILE",
    "REQUIRE_CERT",
    "REQUIRE_CLIENT_CERT",
    "SUPPORT_DOWNGRADE",
    "VERIFICATION_DEPTH",
    "VERIFY_CERT",
    "VERIFY_DEPTH",
    "VERIFY_IPADD",
    "VERIFY_SERVER_CERT",
];

/// Variables by their name without prefix, with the whole name that gave them.
struct Given(BTreeMap<&'static str, (String, String)>);

impl Given {
    fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut given: BTreeMap<&'static str, (String, String)> = BTreeMap::new();
        for (variable, value) in variables {
            let (rest, is_old) = match variable.strip_prefix(PREFIX) {
                Some(rest) => (rest, false),
                None => match variable.strip_prefix(OLD_PREFIX) {
                    Some(rest) => (rest, true),
                    None => continue,
                },
            };
            let Some(name) = NAMES.iter().find(|name| rest.eq_ignore_ascii_case(name)) else {
                if !is_old {
                    tracing::warn!("{variable} is unknown: ignored");
                }
                continue;
            };
            if !is_old || !given.contains_key(name) {
                given.insert(name, (variable, value));
            }
        }
        Self(given)
    }

    fn wrong(&self, name: &'static str, reason: impl Into<String>) -> TlsError {
        let variable =
            self.0.get(name).map_or_else(|| format!("{PREFIX}{name}"), |one| one.0.clone());
        TlsError::Variable { variable, reason: reason.into() }
    }

    fn text(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(|(_, value)| value.as_str())
    }

    fn path(&self, name: &'static str) -> Option<PathBuf> {
        let text = self.text(name)?;
        // As stout reads paths.
        Some(PathBuf::from(text.strip_prefix("file://").unwrap_or(text)))
    }

    fn boolean(&self, name: &'static str) -> Result<Option<bool>, TlsError> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => {
                Err(self.wrong(name, format!("'{other}' is neither true (1) nor false (0)")))
            }
        }
    }

    fn list(&self, names: &[&'static str]) -> Vec<String> {
        let text = names.iter().find_map(|name| self.text(name)).unwrap_or_default();
        let parts = text.split([':', ',']).map(str::trim).filter(|part| !part.is_empty());
        parts.filter(|part| *part != "auto").map(str::to_owned).collect()
    }
}

impl Settings {
    /// Reads the environment; nothing where TLS is not turned on in it.
    ///
    /// # Errors
    /// When a variable can't be understood. What can't be followed without harm is logged, by name.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Option<Self>, TlsError> {
        let given = Given::of(variables);
        if !given.boolean("ENABLED")?.unwrap_or(false) {
            return Ok(None);
        }
        let on = |name| Ok::<_, TlsError>(given.boolean(name)?.unwrap_or(false));
        for old in ["ENABLE_SSL_V3", "ENABLE_TLS_V1_0", "ENABLE_TLS_V1_1"] {
            if on(old)? {
                tracing::warn!(
                    "{PREFIX}{old}: that version is not secure, and not spoken: ignored"
                );
            }
        }
        for (old, new) in
            [("VERIFY_CERT", "VERIFY_SERVER_CERT"), ("REQUIRE_CERT", "REQUIRE_CLIENT_CERT")]
        {
            if given.text(old).is_some() {
                tracing::warn!("{PREFIX}{old} is deprecated: it is {PREFIX}{new} now");
            }
        }
        let require_client_cert = on("REQUIRE_CLIENT_CERT")? || on("REQUIRE_CERT")?;
        let verify_server_cert =
            on("VERIFY_SERVER_CERT")? || on("VERIFY_CERT")? || require_client_cert;
        let depth = ["VERIFICATION_DEPTH", "VERIFY_DEPTH"].into_iter().find_map(|name| {
            let text = given.text(name)?;
            Some(text.parse().map_err(|_| given.wrong(name, format!("'{text}' is no number"))))
        });
        let scheme = match given.text("HOSTNAME_VALIDATION_SCHEME") {
            None | Some("legacy") => Scheme::Legacy,
            Some("openssl") => Scheme::OpenSsl,
            Some(other) => {
                let reason = format!("'{other}' is neither legacy nor openssl");
                return Err(given.wrong("HOSTNAME_VALIDATION_SCHEME", reason));
            }
        };
        let settings = Self {
            support_downgrade: on("SUPPORT_DOWNGRADE")?,
            cert_file: given.path("CERT_FILE"),
            key_file: given.path("KEY_FILE"),
            verify_server_cert,
            require_client_cert,
            verify_ipadd: on("VERIFY_IPADD")?,
            verification_depth: depth.transpose()?.unwrap_or(4),
            ca_dir: given.path("CA_DIR"),
            ca_file: given.path("CA_FILE"),
            ciphers: given.list(&["CIPHERS"]),
            ecdh_curves: given.list(&["ECDH_CURVES", "ECDH_CURVE"]),
            scheme,
            tls_v1_2: given.boolean("ENABLE_TLS_V1_2")?.unwrap_or(true),
            tls_v1_3: on("ENABLE_TLS_V1_3")?,
        };
        settings.versions()?;
        if settings.support_downgrade && verify_server_cert {
            tracing::warn!(
                "certificates are checked, but {PREFIX}SUPPORT_DOWNGRADE lets others in without TLS"
            );
        }
        Ok(Some(settings))
    }

    /// Versions that are spoken.
    pub(crate) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let versions: Vec<_> = [(self.tls_v1_2, &TLS12), (self.tls_v1_3, &TLS13)]
            .into_iter()
            .filter_map(|(is_on, version)| is_on.then_some(version))
            .collect();
        if versions.is_empty() {
            return Err(TlsError::Variable {
                variable: format!("{PREFIX}ENABLE_TLS_V1_2"),
                reason: "neither TLS 1.2 nor 1.3 is enabled: no other version is spoken".to_owned(),
            });
        }
        Ok(versions)
    }

    /// Whether there is a key and a certificate, as one that is dialled must have.
    ///
    /// # Errors
    /// Which of them is missing.
    pub fn needs_identity(&self) -> Result<(), TlsError> {
        for (name, file) in [("KEY_FILE", &self.key_file), ("CERT_FILE", &self.cert_file)] {
            if file.is_none() {
                return Err(TlsError::Variable {
                    variable: format!("{PREFIX}{name}"),
                    reason: "TLS is enabled, and needs it".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// What an executor goes by: what it was given as any program of libprocess, else what its agent says.
    ///
    /// # Errors
    /// As [`Settings::from_environment`].
    pub fn of_executor(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Option<Self>, TlsError> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        if let Some(given) = Self::from_environment(variables.clone())? {
            return Ok(Some(given));
        }
        let told = variables.into_iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(EXECUTOR_PREFIX)?;
            Some((format!("{PREFIX}{name}"), value))
        });
        Self::from_environment(told)
    }

    /// Variables that tell an executor how to check this daemon, without any key ([`Settings::of_executor`]).
    pub fn for_executors(&self) -> Vec<(String, String)> {
        let mut variables = vec![("ENABLED", "true".to_owned())];
        let mut flag = |name, value: bool| variables.push((name, value.to_string()));
        flag("SUPPORT_DOWNGRADE", self.support_downgrade);
        flag("VERIFY_SERVER_CERT", self.verify_server_cert);
        flag("VERIFY_IPADD", self.verify_ipadd);
        flag("ENABLE_TLS_V1_2", self.tls_v1_2);
        flag("ENABLE_TLS_V1_3", self.tls_v1_3);
        variables.push(("VERIFICATION_DEPTH", self.verification_depth.to_string()));
        if self.scheme == Scheme::OpenSsl {
            variables.push(("HOSTNAME_VALIDATION_SCHEME", "openssl".to_owned()));
        }
        for (name, path) in [("CA_FILE", &self.ca_file), ("CA_DIR", &self.ca_dir)] {
            if let Some(path) = path {
                variables.push((name, path.to_string_lossy().into_owned()));
            }
        }
        for (name, list) in [("CIPHERS", &self.ciphers), ("ECDH_CURVES", &self.ecdh_curves)] {
            if !list.is_empty() {
                variables.push((name, list.join(":")));
            }
        }
        variables
            .into_iter()
            .map(|(name, value)| (format!("{EXECUTOR_PREFIX}{name}"), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_environment(owned).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_counts_unless_it_is_enabled() {
        assert_eq!(read(&[("LIBPROCESS_SSL_VERIFY_CERT", "maybe")]), Ok(None));
        assert_eq!(read(&[("SSL_CERT_FILE", "/etc/ssl/cert.pem")]), Ok(None));
        assert_eq!(read(&[("LIBPROCESS_SSL_ENABLED", "0")]), Ok(None));
        assert_eq!(read(&[("SSL_ENABLED", "1")]), Ok(Some(Settings::default())));
    }

    #[test]
    fn new_names_go_before_old_ones_and_one_check_implies_the_other() {
        let given = read(&[
            ("LIBPROCESS_SSL_ENABLED", "true"),
            ("SSL_CERT_FILE", "/old"),
            ("LIBPROCESS_SSL_CERT_FILE", "file:///new"),
            ("LIBPROCESS_SSL_REQUIRE_CERT", "1"),
            ("LIBPROCESS_SSL_VERIFY_DEPTH", "2"),
            ("LIBPROCESS_SSL_ECDH_CURVES", "auto"),
            ("LIBPROCESS_SSL_CIPHERS", "A:B"),
            ("LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME", "openssl"),
        ]);
        let expected = Settings {
            cert_file: Some("/new".into()),
            require_client_cert: true,
            verify_server_cert: true,
            verification_depth: 2,
            ciphers: vec!["A".to_owned(), "B".to_owned()],
            scheme: Scheme::OpenSsl,
            ..Settings::default()
        };
        assert_eq!(given, Ok(Some(expected)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (name, value, expected) in [
            ("LIBPROCESS_SSL_ENABLED", "yes", "LIBPROCESS_SSL_ENABLED: 'yes' is neither"),
            ("SSL_VERIFY_IPADD", "on", "SSL_VERIFY_IPADD: 'on'"),
            ("LIBPROCESS_SSL_VERIFY_DEPTH", "-1", "'-1' is no number"),
            ("LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME", "none", "neither legacy nor openssl"),
            ("LIBPROCESS_SSL_ENABLE_TLS_V1_2", "false", "neither TLS 1.2 nor 1.3"),
        ] {
            let error = read(&[("LIBPROCESS_SSL_ENABLED", "1"), (name, value)]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let settings = Settings { key_file: Some("/k".into()), ..Settings::default() };
        let error = settings.needs_identity().unwrap_err().to_string();
        assert!(error.starts_with("LIBPROCESS_SSL_CERT_FILE: "), "{error}");
    }

    #[test]
    fn executors_are_told_how_to_check_but_no_key() {
        let settings = Settings {
            verify_server_cert: true,
            key_file: Some("/secret".into()),
            ca_file: Some("/ca".into()),
            scheme: Scheme::OpenSsl,
            tls_v1_3: true,
            ..Settings::default()
        };
        let mut told = settings.for_executors();
        told.push(("LIBPROCESS_IP".to_owned(), "127.0.0.1".to_owned()));
        assert_eq!(Settings::from_environment(told.clone()).unwrap(), None, "tasks are not told");
        assert!(told.iter().all(|(_, value)| value != "/secret"));
        let expected = Settings { key_file: None, ..settings };
        assert_eq!(Settings::of_executor(told).unwrap(), Some(expected));
    }
}
