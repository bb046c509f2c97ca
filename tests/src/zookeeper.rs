//! ZooKeeper servers, ours and Apache's: standalone ones here, [`ensemble`]s with [`proxies`] between their members, with
//! roles of their [`members`], [`secured`] ones, and a [`session`] for tests that must know what each request came to.

pub mod ensemble;
pub mod members;
pub mod proxies;
pub mod secured;
pub mod session;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::cluster::four_letter_word;
use crate::programs::{binary, python, root, run};
use crate::{Daemon, ports, wait};

/// How long a server may take to serve.
const LIMIT: Duration = Duration::from_secs(40);

/// What Debian's package runs, with all of Netty and Jetty and with a log on standard error.
pub const ORIGINAL_CLASSES: &str = "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar:/usr/share/java/netty-transport-native-unix-common.jar:/usr/share/java/slf4j-simple.jar:/usr/share/java/servlet-api.jar:/usr/share/java/jetty9-util-ajax.jar";

/// Whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Ours,
    /// Apache's, as Debian packs it.
    Original,
}

impl Kind {
    /// What runs a server, with flags for a JVM: ours takes them from the environment. The configuration's file is to
    /// follow.
    #[must_use]
    pub fn command(self, flags: &[&str]) -> Command {
        match self {
            Self::Ours => {
                let mut ours = Command::new(binary("zookeeper-server"));
                ours.env("SERVER_JVMFLAGS", flags.join(" "));
                ours
            }
            Self::Original => {
                let mut java = Command::new("java");
                java.args(["-Xmx256m", "-cp", ORIGINAL_CLASSES]).args(flags);
                java.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
                java
            }
        }
    }
}

/// A data directory with a port, and the server that runs on it, if any.
pub struct Server {
    /// For clients.
    pub port: u16,
    /// With `zoo.cfg`, the data and the log.
    pub directory: TempDir,
    /// What runs on it.
    pub daemon: Option<Daemon>,
}

impl Server {
    /// Not started; `further` lines of configuration.
    ///
    /// # Panics
    /// When there is no place for it.
    #[must_use]
    pub fn new(further: &str) -> Self {
        let [port] = ports::free();
        let directory = TempDir::new().expect("a temporary directory");
        let text = format!(
            "tickTime=500\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\nmaxSessionTimeout=60000\n{further}",
            directory.path().join("data").display()
        );
        std::fs::write(directory.path().join("zoo.cfg"), text).expect("zoo.cfg");
        Self { port, directory, daemon: None }
    }

    /// With all four-letter words, and TTL nodes, on a data directory of its own.
    #[must_use]
    pub fn started(kind: Kind) -> Self {
        let mut server = Self::new(
            "4lw.commands.whitelist=*\nextendedTypesEnabled=true\nznode.container.checkIntervalMs=100000000\nenforceQuota=true\n",
        );
        server.start(kind);
        server
    }

    /// Its `zoo.cfg`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("zoo.cfg")
    }

    /// Starts it, and waits until it serves.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn start(&mut self, kind: Kind) {
        self.start_with(kind, &[]);
    }

    /// [`Server::start`] with flags for a JVM; ours takes them from the environment.
    ///
    /// # Panics
    /// As there.
    pub fn start_with(&mut self, kind: Kind, flags: &[&str]) {
        let mut command = kind.command(flags);
        command.arg(self.config());
        self.daemon = Some(Daemon::start("zookeeper", self.directory.path(), &mut command));
        wait::until("the ZooKeeper server to serve", LIMIT, || {
            let text = four_letter_word(self.port, "srvr")?;
            if text.contains("Mode: standalone") { Ok(()) } else { Err(text) }
        });
    }

    /// Takes what runs, to end it.
    ///
    /// # Panics
    /// When nothing runs.
    pub fn daemon(&mut self) -> Daemon {
        self.daemon.take().expect("a running server")
    }

    /// A Python script of `tests/clients`.
    ///
    /// # Panics
    /// When there is no Python for it.
    #[must_use]
    pub fn client(script: &str) -> Command {
        let mut command = Command::new(python().expect("checked before"));
        command.arg(root().join("tests/clients").join(script));
        command
    }

    /// `zookeeper_kazoo.py` on this server.
    #[must_use]
    pub fn kazoo(&self, arguments: &[&str]) -> Command {
        let mut command = Self::client("zookeeper_kazoo.py");
        command.arg(self.port.to_string()).args(arguments);
        command
    }

    /// The tree, as kazoo sees it.
    ///
    /// # Panics
    /// When it can't be read.
    #[must_use]
    pub fn dump(&self) -> String {
        run(&mut self.kazoo(&["dump"])).expect("the tree")
    }
}
