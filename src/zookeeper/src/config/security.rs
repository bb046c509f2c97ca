//! Keys of TLS, SASL and authentication: what is read here is only taken apart; files of keys are read at start.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::services::{Admin, Https};
use super::{ConfigError, Values, listen_address};
use crate::auth::{Auth, DigestAlgorithm};
use crate::quorum::security as quorum;
use crate::sasl::jaas::Jaas;
use crate::secret::{self, Secret};
use crate::tls::{self, ClientAuth, Version};

/// Where users and passwords of SASL are, as it is given to a JVM.
const JAAS_FILE: &str = "java.security.auth.login.config";

/// What protects the server.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Where clients connect that speak TLS.
    pub secure_address: Option<SocketAddr>,
    /// TLS with clients.
    pub tls: Option<tls::Settings>,
    /// Whether the other port takes TLS as well.
    pub unifies_ports: bool,
    /// Who clients may prove to be.
    pub auth: Auth,
    /// What protects the connections between members.
    pub quorum: quorum::Settings,
    /// TLS with administrators, where it is spoken.
    pub admin_tls: Option<tls::Settings>,
}

impl Security {
    /// Reads the keys.
    pub(super) fn read(values: &mut Values) -> Result<Self, ConfigError> {
        let mut reader = Reader { values, warnings: Vec::new() };
        let secure_address = listen_address(values, "secureClientPort", "secureClientPortAddress")?;
        let unifies_ports = values.boolean("client.portUnification")?;
        let wants_tls = secure_address.is_some() || unifies_ports;
        let tls = if wants_tls { Some(reader.tls(Side::Clients)?) } else { None };
        let jaas = reader.jaas()?;
        let auth = reader.auth(wants_tls, jaas.as_ref())?;
        let quorum = reader.quorum(jaas.as_ref())?;
        let admin_tls = reader.admin_tls()?;
        let warnings = reader.warnings;
        values.notices.get_mut().extend(warnings);
        Ok(Self { secure_address, tls, unifies_ports, auth, quorum, admin_tls })
    }
}

/// Which end of which connections keys are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A server's, with clients.
    Clients,
    /// A server's, with other members.
    Members,
    /// A client's.
    Client,
}

pub(super) struct Reader<'a> {
    pub(super) values: &'a Values,
    pub(super) warnings: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.text(key).filter(|text| !text.is_empty())
    }

    /// Keys that begin so, and their values, in order.
    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let keys = self.values.given.keys().filter(|key| key.starts_with(prefix));
        let mut found: Vec<(String, String)> = keys
            .map(|key| (key.clone(), self.values.text(key).unwrap_or_default().to_owned()))
            .collect();
        found.sort();
        found
    }

    /// The keys of TLS.
    pub(super) fn tls(&mut self, side: Side) -> Result<tls::Settings, ConfigError> {
        let is_quorum = side == Side::Members;
        let prefix = if is_quorum { "ssl.quorum." } else { "ssl." };
        let key = |name: &str| format!("{prefix}{name}");
        if self.values.decided(&key("ocsp"), false)? {
            let reason = "OCSP is not asked by this server: set it to false, and crl to true, which fetches the lists that certificates name";
            return Err(self.values.error(&key("ocsp"), reason));
        }
        let checks_revocation = self.values.decided(&key("crl"), false)?;
        if self.text(&key("context.supplier.class")).is_some() {
            let reason = "Java's classes can't be loaded by this server";
            return Err(self.values.error(&key("context.supplier.class"), reason));
        }
        let client_auth = match self.text(&key("clientAuth")).map(str::to_ascii_lowercase) {
            _ if side == Side::Client => ClientAuth::None,
            None => ClientAuth::Need,
            Some(text) => match text.as_str() {
                "need" => ClientAuth::Need,
                "want" => ClientAuth::Want,
                "none" => ClientAuth::None,
                other => {
                    let reason = format!("'{other}' is none of need, want and none");
                    return Err(self.values.error(&key("clientAuth"), reason));
                }
            },
        };
        let key_store = self.store(&key("keyStore"))?;
        if key_store.is_none() && side != Side::Client {
            return Err(self.values.whole(format!(
                "{} is not set, but TLS needs a key and a certificate",
                key("keyStore.location")
            )));
        }
        let trust_store = self.store(&key("trustStore"))?;
        if trust_store.is_none() && (client_auth != ClientAuth::None || side != Side::Clients) {
            let hint = match side {
                Side::Clients => {
                    format!("; set it, or {}=none if nobody is to show one", key("clientAuth"))
                }
                Side::Members | Side::Client => String::new(),
            };
            return Err(self.values.whole(format!(
                "{} is not set, but certificates are to be checked{hint}",
                key("trustStore.location")
            )));
        }
        let checks_servers = self.values.decided(&key("hostnameVerification"), true)?;
        // Clients of the client port come from anywhere; members come from their hosts.
        let checks_clients =
            checks_servers && self.values.decided(&key("clientHostnameVerification"), is_quorum)?;
        let reloads = if is_quorum {
            self.values.boolean("sslQuorumReloadCertFiles")?
        } else {
            self.values.boolean("client.certReload")?
        };
        Ok(tls::Settings {
            key_store,
            trust_store,
            client_auth,
            versions: self.versions(prefix)?,
            suites: self
                .text(&key("ciphersuites"))
                .map(|text| text.split(',').map(|suite| suite.trim().to_owned()).collect())
                .unwrap_or_default(),
            checks_servers,
            checks_clients,
            asks_names: self.values.boolean_or(&key("allowReverseDnsLookup"), is_quorum)?,
            reloads,
            checks_revocation,
        })
    }

    /// The versions that are enabled; without a word TLS 1.2 alone, as the original.
    fn versions(&mut self, prefix: &str) -> Result<Vec<Version>, ConfigError> {
        let (enabled, protocol) =
            (format!("{prefix}enabledProtocols"), format!("{prefix}protocol"));
        let key = if self.text(&enabled).is_some() { enabled } else { protocol };
        let text = self.text(&key).unwrap_or("TLSv1.2").to_owned();
        let (mut versions, mut others) = (Vec::new(), Vec::new());
        for name in text.split(',').map(str::trim) {
            match name {
                "TLSv1.2" => versions.push(Version::Tls12),
                "TLSv1.3" => versions.push(Version::Tls13),
                other => others.push(other),
            }
        }
        let others = others.join(",");
        if versions.is_empty() {
            let reason = format!("'{others}' is not supported; TLSv1.2 and TLSv1.3 are");
            return Err(self.values.error(&key, reason));
        }
        if !others.is_empty() {
            self.warnings.push(format!("{key}: '{others}' is not supported, and left out"));
        }
        Ok(versions)
    }

    /// A file of keys or certificates, if it is given.
    fn store(&mut self, prefix: &str) -> Result<Option<tls::File>, ConfigError> {
        let key = |name: &str| format!("{prefix}.{name}");
        let Some(path) = self.text(&key("location")).map(PathBuf::from) else { return Ok(None) };
        let kind = tls::Kind::of(self.text(&key("type")), &path)
            .map_err(|reason| self.values.error(&key("location"), reason))?;
        let password = match self.text(&key("passwordPath")).map(PathBuf::from) {
            // The file wins.
            Some(file) => {
                self.warnings.extend(secret::exposure(&file));
                Secret::read(&file).map_err(|source| ConfigError::Io { path: file, source })?
            }
            None => Secret::new(self.text(&key("password")).unwrap_or_default()),
        };
        if prefix.ends_with("keyStore") && password.expose().is_empty() {
            self.warnings.extend(secret::exposure(&path));
        }
        Ok(Some(tls::File { path, password, kind }))
    }

    pub(super) fn jaas(&mut self) -> Result<Option<Jaas>, ConfigError> {
        let Some(path) = self.text(JAAS_FILE).map(PathBuf::from) else { return Ok(None) };
        self.warnings.extend(secret::exposure(&path));
        let text = fs::read_to_string(&path)
            .map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        let parsed = Jaas::parse(&text);
        parsed.map(Some).map_err(|reason| ConfigError::Whole { path, reason })
    }

    /// What is wrong with the file of users.
    pub(super) fn wrong_jaas(&self, reason: String) -> ConfigError {
        let path = Path::new(self.text(JAAS_FILE).unwrap_or(JAAS_FILE)).to_owned();
        ConfigError::Whole { path, reason }
    }

    fn auth(&mut self, has_tls: bool, jaas: Option<&Jaas>) -> Result<Auth, ConfigError> {
        const ALGORITHM: &str = "DigestAuthenticationProvider.digestAlg";
        let algorithm = match self.text(ALGORITHM) {
            None => DigestAlgorithm::default(),
            Some(name) => DigestAlgorithm::named(name).ok_or_else(|| {
                let reason = format!("'{name}' is not supported; SHA1, SHA-256 and SHA-512 are");
                self.values.error(ALGORITHM, reason)
            })?,
        };
        let has_digest = self.values.boolean_or("DigestAuthenticationProvider.enabled", true)?;
        let owned = |key: &str| self.text(key).map(str::to_owned);
        let mut auth = Auth {
            digest: has_digest.then_some(algorithm),
            super_digest: owned("DigestAuthenticationProvider.superDigest"),
            x509: has_tls,
            x509_super_user: owned("X509AuthenticationProvider.superUser"),
            sasl_any_user: owned("letAnySaslUserDoX"),
            allows_failed_sasl: self.values.boolean_or("allowSaslFailedClients", false)?,
            ..Auth::default()
        };
        let super_users = self.with_prefix("superUser").into_iter();
        auth.sasl_super_users = super_users
            .filter(|(key, _)| key == "superUser" || key.starts_with("superUser."))
            .map(|(_, value)| value)
            .collect();
        self.providers(&mut auth, algorithm)?;
        let section = self.text("sasl.serverconfig").unwrap_or("Server");
        if let Some(jaas) = jaas.filter(|jaas| jaas.has(section)) {
            let mut users = jaas.users(section).map_err(|reason| self.wrong_jaas(reason))?;
            let super_password = self.text("SASLAuthenticationProvider.superPassword");
            if let (Some(known), Some(password)) = (users.get_mut("super"), super_password) {
                *known = Secret::new(password);
            }
            auth.sasl_users = Some(users);
        }
        auth.enforced = self.enforced(&auth)?;
        Ok(auth)
    }

    /// Schemes that are switched on by the names of Java's classes.
    fn providers(&self, auth: &mut Auth, algorithm: DigestAlgorithm) -> Result<(), ConfigError> {
        const PACKAGE: &str = "org.apache.zookeeper.server.auth.";
        for (key, class) in self.with_prefix("authProvider.") {
            match class.strip_prefix(PACKAGE) {
                Some("SASLAuthenticationProvider") => auth.sasl = true,
                Some("X509AuthenticationProvider") => auth.x509 = true,
                Some("DigestAuthenticationProvider") => auth.digest = Some(algorithm),
                Some("IPAuthenticationProvider") => {}
                Some("EnsembleAuthenticationProvider") => {
                    let names = self.text("ensembleAuthName").unwrap_or_default().split(',');
                    let names = names.map(|name| name.trim().to_owned());
                    auth.ensemble = Some(names.filter(|name| !name.is_empty()).collect());
                }
                _ => {
                    let reason = format!(
                        "Java's class {class} can't be loaded by this server; of {PACKAGE} it has SASL-, X509-, Digest-, IP- and EnsembleAuthenticationProvider"
                    );
                    return Err(self.values.error(&key, reason));
                }
            }
        }
        match self.text("ssl.authProvider") {
            None | Some("x509") => Ok(()),
            Some(other) => {
                let reason = format!("there is no scheme '{other}' for certificates; x509 is");
                Err(self.values.error("ssl.authProvider", reason))
            }
        }
    }

    fn enforced(&self, auth: &Auth) -> Result<Option<Vec<String>>, ConfigError> {
        const SCHEMES: &str = "enforce.auth.schemes";
        let (key, schemes) = if self.values.decided("sessionRequireClientSASLAuth", false)? {
            ("sessionRequireClientSASLAuth", vec!["sasl".to_owned()])
        } else if self.values.decided("enforce.auth.enabled", false)? {
            let schemes = self.text(SCHEMES).unwrap_or_default().split(',').map(str::trim);
            let schemes = schemes.filter(|scheme| !scheme.is_empty()).map(str::to_owned);
            (SCHEMES, schemes.collect())
        } else {
            return Ok(None);
        };
        if schemes.is_empty() {
            let reason = format!("is true, but {SCHEMES} is not set");
            return Err(self.values.error("enforce.auth.enabled", reason));
        }
        if let Some(missing) = schemes.iter().find(|scheme| !auth.has(scheme)) {
            let hint = match missing.as_str() {
                "sasl" => {
                    "; authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider switches it on"
                }
                _ => "",
            };
            let reason = format!("authentication scheme {missing} is not available{hint}");
            return Err(self.values.error(key, reason));
        }
        Ok(Some(schemes))
    }

    /// Administrators are shown the certificate for members, and asked for none (`JettyAdminServer`).
    fn admin_tls(&mut self) -> Result<Option<tls::Settings>, ConfigError> {
        let speaks = Admin::read(self.values)?.is_some_and(|admin| admin.https != Https::Off);
        if !speaks {
            return Ok(None);
        }
        let members = self.tls(Side::Members)?;
        Ok(Some(tls::Settings {
            client_auth: ClientAuth::None,
            versions: vec![Version::Tls12, Version::Tls13],
            suites: Vec::new(),
            checks_clients: false,
            checks_revocation: false,
            ..members
        }))
    }

    fn quorum(&mut self, jaas: Option<&Jaas>) -> Result<quorum::Settings, ConfigError> {
        let dials_tls = self.values.boolean("sslQuorum")?;
        let takes_both = self.values.boolean("portUnification")?;
        let tls = if dials_tls || takes_both { Some(self.tls(Side::Members)?) } else { None };
        let sasl = self.quorum_sasl(jaas)?;
        let dial_limit = Duration::from_millis(self.values.number("cnxTimeout", 5000)?);
        let keeps_alive = self.values.boolean("tcpKeepAlive")?;
        Ok(quorum::Settings { tls, dials_tls, takes_both, sasl, dial_limit, keeps_alive })
    }

    fn quorum_sasl(&self, jaas: Option<&Jaas>) -> Result<Option<quorum::Sasl>, ConfigError> {
        const ENABLED: &str = "quorum.auth.enableSasl";
        const LEARNER: &str = "quorum.auth.learnerRequireSasl";
        const SERVER: &str = "quorum.auth.serverRequireSasl";
        let is_enabled = self.values.boolean(ENABLED)?;
        let (learner, server) = (self.values.boolean(LEARNER)?, self.values.boolean(SERVER)?);
        for (key, other, is_wrong) in [
            (SERVER, ENABLED, !is_enabled && server),
            (LEARNER, ENABLED, !is_enabled && learner),
            (SERVER, LEARNER, !learner && server),
        ] {
            if is_wrong {
                return Err(self.values.error(key, format!("is true, but {other} is not")));
            }
        }
        if !is_enabled {
            return Ok(None);
        }
        let Some(jaas) = jaas else {
            let reason = format!("there are no users: {JAAS_FILE} is to name a file of JAAS");
            return Err(self.values.error(ENABLED, reason));
        };
        let section = |key: &str, default| self.text(key).unwrap_or(default).to_owned();
        let wrong = |reason| self.wrong_jaas(reason);
        let learner_section = section("quorum.auth.learner.saslLoginContext", "QuorumLearner");
        let server_section = section("quorum.auth.server.saslLoginContext", "QuorumServer");
        let credentials = jaas.credentials(&learner_section).map_err(wrong)?;
        Ok(Some(quorum::Sasl {
            credentials: learner.then_some(credentials),
            users: jaas.users(&server_section).map_err(wrong)?,
            is_needed: server,
        }))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config::Config;
    use crate::tls::Kind;

    const TLS: &str =
        "secureClientPort=5\nssl.keyStore.location=/k.pem\nssl.trustStore.location=/t.jks\n";

    fn parse(lines: &str) -> Result<Config, String> {
        let text = format!("dataDir=/d\nclientPort=1\n{lines}");
        Config::parse(Path::new("zoo.cfg"), &text).map_err(|error| error.to_string())
    }

    fn security(lines: &str) -> Security {
        parse(lines).unwrap().security
    }

    #[test]
    fn tls_is_read_with_the_originals_defaults() {
        let clients = security(&format!("{TLS}ssl.trustStore.password=secret"));
        assert_eq!(clients.secure_address, Some("0.0.0.0:5".parse().unwrap()));
        assert!(clients.auth.x509 && !clients.unifies_ports);
        let tls = clients.tls.unwrap();
        assert_eq!((tls.client_auth, tls.versions), (ClientAuth::Need, vec![Version::Tls12]));
        assert!(tls.checks_servers && !tls.checks_clients && !tls.asks_names && !tls.reloads);
        let trust_store = tls.trust_store.unwrap();
        assert!(tls.key_store.is_some());
        assert_eq!((trust_store.kind, trust_store.password.expose()), (Kind::Binary, "secret"));
        let members = security(
            "sslQuorum=true\nssl.quorum.keyStore.location=/k\nssl.quorum.keyStore.type=pkcs12\nssl.quorum.trustStore.location=/t.pem\nssl.quorum.enabledProtocols=TLSv1.3, TLSv1.2,TLSv1",
        );
        let tls = members.quorum.tls.unwrap();
        assert!(tls.checks_clients && tls.asks_names);
        assert_eq!(tls.versions, [Version::Tls13, Version::Tls12]);
        let strict = security(&format!("{TLS}ssl.crl=true")).tls.unwrap();
        assert!(strict.checks_revocation && !tls.checks_revocation);
        let newer = security(&format!("{TLS}ssl.protocol=TLSv1.3"));
        assert_eq!(newer.tls.unwrap().versions, [Version::Tls13]);
    }

    #[test]
    fn a_servers_tls_port_may_be_its_only_one() {
        let text = format!("dataDir=/d\n{TLS}");
        let config = Config::parse(Path::new("zoo.cfg"), &text).unwrap();
        assert_eq!(config.client_address, None);
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_line() {
        for (lines, expected) in [
            (
                "secureClientPortAddress=::1",
                "zoo.cfg: secureClientPortAddress is set but secureClientPort is not set",
            ),
            (
                "secureClientPort=5",
                "zoo.cfg: ssl.keyStore.location is not set, but TLS needs a key and a certificate",
            ),
            (
                "secureClientPort=5\nssl.keyStore.location=/k.pem",
                "zoo.cfg: ssl.trustStore.location is not set, but certificates are to be checked; set it, or ssl.clientAuth=none if nobody is to show one",
            ),
            (
                "secureClientPort=5\nssl.keyStore.location=/k",
                "zoo.cfg:4: ssl.keyStore.location: unable to tell the type of /k by its name: set the .type key to PEM, PKCS12 or JKS",
            ),
            (
                "secureClientPort=5\nssl.keyStore.location=/k.bcfks",
                "zoo.cfg:4: ssl.keyStore.location: stores of type BCFKS are not read by this server; convert it: keytool -importkeystore -srckeystore /k.bcfks -srcstoretype BCFKS -destkeystore store.p12 -deststoretype PKCS12",
            ),
            (
                "TLS\nssl.ocsp=true",
                "zoo.cfg:7: ssl.ocsp: OCSP is not asked by this server: set it to false, and crl to true, which fetches the lists that certificates name",
            ),
            (
                "TLS\nssl.clientAuth=perhaps",
                "zoo.cfg:7: ssl.clientAuth: 'perhaps' is none of need, want and none",
            ),
            (
                "TLS\nssl.protocol=TLSv1.1",
                "zoo.cfg:7: ssl.protocol: 'TLSv1.1' is not supported; TLSv1.2 and TLSv1.3 are",
            ),
            (
                "TLS\nssl.keyStore.passwordPath=/none",
                "/none: No such file or directory (os error 2)",
            ),
            (
                "TLS\nssl.context.supplier.class=x",
                "zoo.cfg:7: ssl.context.supplier.class: Java's classes can't be loaded by this server",
            ),
            (
                "DigestAuthenticationProvider.digestAlg=ROT13",
                "zoo.cfg:3: DigestAuthenticationProvider.digestAlg: 'ROT13' is not supported; SHA1, SHA-256 and SHA-512 are",
            ),
            (
                "authProvider.1=com.example.Mine",
                "zoo.cfg:3: authProvider.1: Java's class com.example.Mine can't be loaded by this server; of org.apache.zookeeper.server.auth. it has SASL-, X509-, Digest-, IP- and EnsembleAuthenticationProvider",
            ),
            (
                "enforce.auth.enabled=true",
                "zoo.cfg:3: enforce.auth.enabled: is true, but enforce.auth.schemes is not set",
            ),
            (
                "enforce.auth.enabled=true\nenforce.auth.schemes=digest,x",
                "zoo.cfg:4: enforce.auth.schemes: authentication scheme x is not available",
            ),
            (
                "sessionRequireClientSASLAuth=true",
                "zoo.cfg:3: sessionRequireClientSASLAuth: authentication scheme sasl is not available; authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider switches it on",
            ),
            (
                "java.security.auth.login.config=/none",
                "/none: No such file or directory (os error 2)",
            ),
            (
                "quorum.auth.serverRequireSasl=true",
                "zoo.cfg:3: quorum.auth.serverRequireSasl: is true, but quorum.auth.enableSasl is not",
            ),
            (
                "quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true",
                "zoo.cfg:4: quorum.auth.serverRequireSasl: is true, but quorum.auth.learnerRequireSasl is not",
            ),
            (
                "quorum.auth.enableSasl=true",
                "zoo.cfg:3: quorum.auth.enableSasl: there are no users: java.security.auth.login.config is to name a file of JAAS",
            ),
            (
                "sslQuorum=true\nssl.quorum.keyStore.location=/k.pem",
                "zoo.cfg: ssl.quorum.trustStore.location is not set, but certificates are to be checked",
            ),
        ] {
            let lines = lines.replace("TLS\n", &format!("{TLS}\n"));
            assert_eq!(parse(&lines).unwrap_err(), expected, "{lines}");
        }
    }

    #[test]
    fn users_are_read_and_their_file_must_be_private() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("jaas.conf");
        let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
        let text = format!(
            "Server {{ {module} user_super=\"a\" user_bob=\"b\"; }};\nQuorumServer {{ {module} user_m=\"c\"; }};\nQuorumLearner {{ {module} username=\"m\" password=\"c\"; }};"
        );
        fs::write(&path, &text).unwrap();
        let key = format!("java.security.auth.login.config={}", path.display());
        let lines = format!(
            "{key}\nSASLAuthenticationProvider.superPassword=d\nsuperUser=x\nsuperUser.1=y\nquorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true"
        );
        let config = parse(&lines).unwrap();
        let users = config.security.auth.sasl_users.unwrap();
        assert_eq!((users["super"].expose(), users["bob"].expose()), ("d", "b"));
        assert_eq!(config.security.auth.sasl_super_users, ["x", "y"]);
        let sasl = config.security.quorum.sasl.unwrap();
        assert_eq!(sasl.credentials, Some(("m".to_owned(), Secret::new("c"))));
        assert!(!sasl.is_needed && sasl.users.contains_key("m"));
        let told = config.notices.iter().filter(|notice| notice.contains("may be read by others"));
        assert_eq!(told.count(), 1, "{:?}", config.notices);
        let with_other_section = format!("{key}\nsasl.serverconfig=Other");
        assert_eq!(security(&with_other_section).auth.sasl_users, None);
        fs::write(
            &path,
            text.replace(module, "com.sun.security.auth.module.Krb5LoginModule required"),
        )
        .unwrap();
        let error = parse(&key).unwrap_err();
        assert!(
            error.contains("wants Kerberos (GSSAPI)") && error.contains("jaas.conf"),
            "{error}"
        );
    }
}
