//! What a client's properties say of TLS and SASL (`ZKClientConfig`): `zookeeper.ssl.*` and others, in a file and as `-D`
//! flags of `CLIENT_JVMFLAGS` and `JVMFLAGS`. The file wins.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use super::environment::Environment;
use super::security::{Reader, Side};
use super::values::Value;
use super::{ConfigError, Origin, Values, properties};
use crate::secret::Secret;
use crate::tls;

/// Keys that act here, without `zookeeper.` in front.
const KNOWN: [&str; 5] = [
    "client.secure",
    "clientCnxnSocket",
    "sasl.client",
    "sasl.clientconfig",
    "java.security.auth.login.config",
];

/// How a client connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// TLS, if it is to be spoken.
    pub tls: Option<tls::Settings>,
    /// Name and password for SASL, if it is to be used.
    pub user: Option<(String, Secret)>,
    /// What a person should know: keys of the file that are without effect.
    pub notices: Vec<String>,
}

impl Client {
    /// Reads the file, if there is one, and the flags.
    ///
    /// # Errors
    /// When something that is asked for can't be had; the message names the place.
    pub fn read(file: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let text = file.map(properties::read_file).transpose()?.unwrap_or_default();
        let path = file.unwrap_or(Path::new("CLIENT_JVMFLAGS"));
        let mut values =
            Values { path: path.to_owned(), given: HashMap::new(), notices: RefCell::default() };
        for flag in environment.client_flags() {
            let key = flag.key.strip_prefix("zookeeper.").unwrap_or(&flag.key).to_owned();
            let value = Value { text: flag.value, origin: Origin::Flag(flag.origin) };
            values.given.insert(key, value);
        }
        let mut notices = Vec::new();
        for property in properties::read(&text) {
            let key = property.key.strip_prefix("zookeeper.").unwrap_or(&property.key).to_owned();
            if !(KNOWN.contains(&key.as_str()) || key.starts_with("ssl.")) {
                notices.push(format!(
                    "{}:{}: {}: without effect here",
                    path.display(),
                    property.line,
                    property.key
                ));
            }
            let value = Value { text: property.value, origin: Origin::Line(property.line) };
            values.given.insert(key, value);
        }
        // With the original's other transport a session that was to be secret would begin in the clear.
        let is_secure = values.boolean("client.secure")?;
        let uses_sasl = values.boolean_or("sasl.client", true)?;
        let mut reader = Reader { values: &values, warnings: Vec::new() };
        let tls = if is_secure { Some(reader.tls(Side::Client)?) } else { None };
        let jaas = if uses_sasl { reader.jaas()? } else { None };
        let section = reader.text("sasl.clientconfig").unwrap_or("Client").to_owned();
        let user = jaas.filter(|jaas| jaas.has(&section)).map(|jaas| jaas.credentials(&section));
        let user = user.transpose().map_err(|reason| reader.wrong_jaas(reason))?;
        notices.extend(reader.warnings);
        notices.extend(values.notices.into_inner());
        Ok(Self { tls, user, notices })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn read(text: &str, flags: &str) -> Result<Client, String> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("client.properties");
        fs::write(&path, text).unwrap();
        let environment = Environment::of([("CLIENT_JVMFLAGS".to_owned(), flags.to_owned())]);
        let read = Client::read(Some(&path), &environment).map_err(|error| error.to_string());
        let hide = |text: String| text.replace(directory.path().to_str().unwrap(), "");
        read.map(|mut client| {
            client.notices = client.notices.into_iter().map(hide).collect();
            client
        })
        .map_err(hide)
    }

    #[test]
    fn tls_is_read_from_both_places_and_the_file_wins() {
        let text = "zookeeper.client.secure=true\nzookeeper.ssl.trustStore.location=/t.p12\nzookeeper.ssl.trustStore.password=secret\nzookeeper.request.timeout=5\n";
        let client = read(text, "-Dzookeeper.ssl.trustStore.location=/other.jks").unwrap();
        assert_eq!(
            client.notices,
            ["/client.properties:4: zookeeper.request.timeout: without effect here"]
        );
        let tls = client.tls.unwrap();
        let trust_store = tls.trust_store.unwrap();
        assert_eq!(trust_store.path, Path::new("/t.p12"));
        assert_eq!(trust_store.password.expose(), "secret");
        assert!(tls.checks_servers && tls.key_store.is_none());
        let by_flags = read(
            "",
            "-Dzookeeper.client.secure=true -Dzookeeper.ssl.keyStore.location=/k.pem -Dzookeeper.ssl.trustStore.location=/t.pem -Dzookeeper.ssl.hostnameVerification=false",
        );
        let tls = by_flags.unwrap().tls.unwrap();
        assert!(!tls.checks_servers && tls.key_store.is_some());
        assert_eq!(read("zookeeper.client.secure=false", "").unwrap(), Client::default());
    }

    #[test]
    fn what_can_not_be_had_is_refused_before_anything_is_sent() {
        for (text, reason) in [
            ("zookeeper.client.secure=true", "ssl.trustStore.location is not set"),
            ("zookeeper.client.secure=perhaps", ":1: client.secure: "),
            (
                "zookeeper.client.secure=true\nzookeeper.ssl.trustStore.location=/t",
                ":2: ssl.trustStore.location: unable to tell the type",
            ),
            ("java.security.auth.login.config=/none", "/none: No such file"),
        ] {
            let error = read(text, "").unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_user_of_sasl_is_in_a_file_of_its_own() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("jaas.conf");
        let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
        let text = format!("Client {{ {module} username=\"ann\" password=\"b\"; }};");
        fs::write(&path, text).unwrap();
        let key = format!("-Djava.security.auth.login.config={}", path.display());
        let user = |more: &str| read("", &format!("{key} {more}")).unwrap().user;
        assert_eq!(user(""), Some(("ann".to_owned(), Secret::new("b"))));
        assert_eq!(user("-Dzookeeper.sasl.client=false"), None);
        assert_eq!(user("-Dzookeeper.sasl.clientconfig=Other"), None);
    }
}
