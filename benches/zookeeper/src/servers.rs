//! The servers: ours, Apache's and the limit, started alone or three together.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::load::connect;
use crate::process::free_ports;

const START: Duration = Duration::from_secs(60);
/// How long one that may not serve yet is given for an answer.
const PROBE: Duration = Duration::from_millis(100);

/// Whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Ours,
    /// Apache's 3.8, as Debian packages it.
    Apache,
    /// One that only frames and replies.
    Limit,
}

impl Kind {
    /// As the table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Apache => "apache",
            Self::Limit => "limit",
        }
    }
}

/// One server's place.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    directory: PathBuf,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// Servers that form an ensemble if there is more than one.
    pub(crate) fn prepare(directory: &Path, kind: Kind, count: usize) -> anyhow::Result<Vec<Self>> {
        let ports = free_ports(count * 3)?;
        let mut members = String::new();
        if count > 1 {
            for (index, ports) in ports.chunks(3).enumerate() {
                let _ =
                    writeln!(members, "server.{}=127.0.0.1:{}:{}", index + 1, ports[1], ports[2]);
            }
        }
        let mut servers = Vec::new();
        for (index, ports) in ports.chunks(3).enumerate() {
            let directory = directory.join(format!("{}-{count}-{}", kind.name(), index + 1));
            fs::create_dir_all(directory.join("data"))?;
            fs::write(directory.join("data/myid"), format!("{}\n", index + 1))?;
            let mut config = format!(
                "tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n{members}",
                directory.join("data").display(),
                ports[0]
            );
            if kind == Kind::Apache {
                config += "admin.enableServer=false\n";
            }
            fs::write(directory.join("zoo.cfg"), config)?;
            let address = ([127, 0, 0, 1], ports[0]).into();
            servers.push(Self { kind, directory, address, child: None });
        }
        Ok(servers)
    }

    /// Starts the program; it may not serve yet.
    pub(crate) fn spawn(&mut self) -> anyhow::Result<()> {
        let own = std::env::current_exe()?;
        let config = self.directory.join("zoo.cfg");
        let mut command = match self.kind {
            Kind::Ours => Command::new(own.with_file_name("zookeeper-server")),
            Kind::Apache => {
                let mut java = Command::new("java");
                // The heap is zkEnv.sh's in Apache's release.
                java.args(["-Xmx1000m", "-Dzookeeper.root.logger=WARN,CONSOLE", "-cp"])
                    .arg("/etc/zookeeper/conf:/usr/share/java/zookeeper.jar")
                    .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
                java
            }
            Kind::Limit => {
                let mut limit = Command::new(&own);
                limit.arg("limit").arg(self.address.port().to_string());
                limit.arg(self.directory.join("data/log"));
                limit
            }
        };
        if self.kind != Kind::Limit {
            command.arg(config);
        }
        let output = File::create(self.directory.join("output"))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child =
            command.spawn().with_context(|| format!("{} does not start", self.kind.name()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it gives a session.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if connect(self.address, PROBE).is_ok() {
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let output = fs::read_to_string(self.directory.join("output")).unwrap_or_default();
                bail!("{} does not serve:\n{output}", self.kind.name());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts it and waits; how long that took.
    pub(crate) fn start(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        self.spawn()?;
        self.wait()?;
        Ok(begin.elapsed())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Kills it, as a failing host would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills it and removes its data.
    pub(crate) fn wipe(&mut self) -> anyhow::Result<()> {
        self.kill();
        let version = self.directory.join("data/version-2");
        if version.is_dir() {
            fs::remove_dir_all(version)?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether Debian's package of Apache's server, and a Java, are installed.
pub(crate) fn has_apache() -> bool {
    Path::new("/usr/share/java/zookeeper.jar").is_file()
        && Command::new("java").arg("-version").output().is_ok()
}
