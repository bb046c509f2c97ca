//! A server, ours or Apache's, with a port for TLS and users of SASL, and clients that use them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Kind, Server};
use crate::keys::Authority;
use crate::programs::run;
use crate::{Daemon, ports};

/// Names of this host.
pub const LOCALHOST: &[&str] = &["localhost", "127.0.0.1"];
/// A file of users as both kinds of servers read it.
pub const JAAS: &str = r#"
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_super="adminsecret"
    user_bob="bob's secret"
    user_admin="rules";
};
QuorumServer {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_member="member's secret";
};
QuorumLearner {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    username="member"
    password="member's secret";
};
"#;
/// Its user bob, as the original's clients read it.
pub const CLIENT_JAAS: &str = r#"
Client {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    username="bob"
    password="bob's secret";
};
"#;

/// A file that only its owner may read.
///
/// # Panics
/// When it can't be written.
#[must_use]
pub fn private_file(path: PathBuf, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    path
}

/// A server with a port for TLS and users of SASL.
pub struct Secured {
    /// The server.
    pub server: Server,
    /// Its port for TLS.
    pub secure_port: u16,
    /// Whom it trusts.
    pub authority: Authority,
}

/// The keys of TLS in a configuration, with this prefix.
#[must_use]
pub fn tls_lines(prefix: &str, key_store: &Path, trust_store: &Path) -> String {
    format!(
        "{prefix}keyStore.location={}\n{prefix}trustStore.location={}\n",
        key_store.display(),
        trust_store.display()
    )
}

impl Secured {
    /// Starts one; `further` lines of configuration.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start(kind: Kind, further: &str) -> Self {
        let [secure_port] = ports::free();
        let mut server = Server::new("");
        let authority = Authority::new(server.directory.path(), "authority");
        let key_store = authority.issue("server", LOCALHOST);
        let users = private_file(server.directory.path().join("jaas.conf"), JAAS);
        let mut text = std::fs::read_to_string(server.config()).expect("zoo.cfg");
        write!(
            text,
            "secureClientPort={secure_port}\nsecureClientPortAddress=127.0.0.1\n\
             serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n\
             superUser=admin\nX509AuthenticationProvider.superUser=CN=root,O=Meso\n\
             DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=\n\
             {}{further}",
            tls_lines("ssl.", &key_store, &authority.path("authority"))
        )
        .expect("text");
        std::fs::write(server.config(), text).expect("zoo.cfg");
        let flag = format!("-Djava.security.auth.login.config={}", users.display());
        server.start_with(kind, &[&flag]);
        Self { server, secure_port, authority }
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.daemon.as_ref().map(Daemon::output).unwrap_or_default()
    }

    /// What each step of a client gives on the port for TLS, with a certificate of this file.
    ///
    /// # Panics
    /// When the client can't be run.
    #[must_use]
    pub fn tls(&self, certificate: &Path, steps: &[&str]) -> String {
        self.tls_within("20", certificate, steps)
    }

    /// The same for one who waits so many seconds for its session.
    ///
    /// # Panics
    /// When the client can't be run.
    #[must_use]
    pub fn tls_within(&self, seconds: &str, certificate: &Path, steps: &[&str]) -> String {
        let mut command = Server::client("zookeeper_security.py");
        command.arg(format!("localhost:{}", self.secure_port)).args(["--within", seconds]);
        command.arg("--tls").arg(self.authority.path("authority")).arg(certificate).args(steps);
        run(&mut command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same on the other port.
    ///
    /// # Panics
    /// When the client can't be run.
    #[must_use]
    pub fn plain(&self, arguments: &[&str]) -> String {
        let mut command = Server::client("zookeeper_security.py");
        command.arg(format!("127.0.0.1:{}", self.server.port)).args(arguments);
        run(&mut command).unwrap_or_else(|error| panic!("{error}"))
    }
}
