//! An ensemble of ours and Apache's servers with roles, which come and go while it runs. Server `n` listens for the others
//! at 127.0.0.n, so that all may have one port for observers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::Kind::{self, Original, Ours};
use crate::cluster::four_letter_word;
use crate::daemon::Daemon;
use crate::programs::{binary, python, root, run};
use crate::{ports, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// `super:admin`.
const SUPER: &str = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";

/// Three voters and two observers, of both kinds each.
pub const MIXED_WITH_OBSERVERS: [(Kind, &str); 5] = [
    (Ours, "participant"),
    (Original, "participant"),
    (Ours, "participant"),
    (Ours, "observer"),
    (Original, "observer"),
];

/// One server.
pub struct Server {
    /// Whose.
    pub kind: Kind,
    /// Its port for clients.
    pub client: u16,
    /// What stands behind `server.N=`.
    pub line: String,
    /// What runs, if it does.
    pub daemon: Option<Daemon>,
}

/// Servers by id, from 1.
pub struct Ensemble {
    /// The servers.
    pub servers: Vec<Server>,
    ports: std::array::IntoIter<u16, 18>,
    /// With each server's `zoo.cfg`, data and log.
    pub directory: TempDir,
}

impl Ensemble {
    /// An ensemble of servers of these kinds and roles, with more lines in every `zoo.cfg`.
    pub fn start(kinds: &[(Kind, &str)], lines: &str) -> Self {
        let mut ensemble = Self::prepare(kinds, lines, |_| String::new());
        ensemble.start_all();
        ensemble
    }

    /// The same, but nothing runs yet; `own` gives further lines for the server with this data directory.
    #[must_use]
    pub fn prepare(kinds: &[(Kind, &str)], lines: &str, own: impl Fn(&Path) -> String) -> Self {
        let mut ensemble = Self {
            servers: Vec::new(),
            ports: ports::free().into_iter(),
            directory: TempDir::new().expect("a temporary directory"),
        };
        for (kind, role) in kinds {
            ensemble.add(*kind, role);
        }
        let members: Vec<usize> = (1..=kinds.len()).collect();
        for id in &members {
            ensemble.configure(*id, &members, lines);
            let own = own(&ensemble.path(&format!("data{id}")));
            let config = ensemble.config(*id);
            let text = std::fs::read_to_string(&config).expect("zoo.cfg");
            std::fs::write(&config, format!("{text}{own}\n")).expect("zoo.cfg");
        }
        ensemble
    }

    /// Starts all.
    pub fn start_all(&mut self) {
        for id in 1..=self.servers.len() {
            self.start_server(id);
        }
    }

    /// One more server, which does not run yet; its id.
    pub fn add(&mut self, kind: Kind, role: &str) -> usize {
        let mut port = || self.ports.next().expect("ports for six servers");
        let (client, quorum, election) = (port(), port(), port());
        let host = format!("127.0.0.{}", self.servers.len() + 1);
        let line = format!("{host}:{quorum}:{election}:{role};127.0.0.1:{client}");
        self.servers.push(Server { kind, client, line, daemon: None });
        self.servers.len()
    }

    /// Other ports for a server; its line with them.
    pub fn move_ports(&mut self, id: usize) -> String {
        let [client, quorum, election] =
            std::array::from_fn(|_| self.ports.next().expect("ports for six servers"));
        let line = format!("127.0.0.{id}:{quorum}:{election}:participant;127.0.0.1:{client}");
        (self.servers[id - 1].client, self.servers[id - 1].line) = (client, line);
        format!("server.{id}={}", self.line(id))
    }

    /// Writes a server's `zoo.cfg` and `myid`.
    pub fn configure(&self, id: usize, members: &[usize], lines: &str) {
        let data = self.path(&format!("data{id}"));
        std::fs::create_dir(&data).expect("a data directory");
        std::fs::write(data.join("myid"), id.to_string()).expect("myid");
        let mut text = format!(
            "tickTime=500\ninitLimit=20\nsyncLimit=6\ndataDir={}\nadmin.enableServer=false\n4lw.commands.whitelist=*\nDigestAuthenticationProvider.superDigest={SUPER}\n{lines}\n",
            data.display()
        );
        for member in members {
            writeln!(text, "server.{member}={}", self.line(*member)).expect("text");
        }
        std::fs::write(self.config(id), text).expect("zoo.cfg");
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server's `zoo.cfg`.
    pub fn config(&self, id: usize) -> PathBuf {
        self.path(&format!("{id}.cfg"))
    }

    /// What stands behind `server.N=`.
    pub fn line(&self, id: usize) -> &str {
        &self.servers[id - 1].line
    }

    /// Where clients connect.
    pub fn host(&self, id: usize) -> String {
        format!("127.0.0.1:{}", self.servers[id - 1].client)
    }

    /// Starts one that does not run.
    pub fn start_server(&mut self, id: usize) {
        let mut command = match self.servers[id - 1].kind {
            Ours => Command::new(binary("zookeeper-server")),
            Original => {
                let mut command = Command::new("java");
                command
                    .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
                    .args(["-cp", "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar"])
                    .arg("-Dzookeeper.root.logger=INFO,CONSOLE")
                    .arg(format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER}"))
                    .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
                command
            }
        };
        command.arg(self.config(id));
        let daemon = Daemon::start(&format!("server{id}"), self.directory.path(), &mut command);
        self.servers[id - 1].daemon = Some(daemon);
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: usize) {
        self.servers[id - 1].daemon.take().expect("a running server").kill();
    }

    /// What a server is: `leader`, `follower`, …
    ///
    /// # Errors
    /// What it says instead.
    pub fn mode(&self, id: usize) -> Result<String, String> {
        let text = four_letter_word(self.servers[id - 1].client, "srvr")?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(str::to_owned).ok_or(text)
    }

    /// Waits until the running servers are one leader, and so many followers and observers.
    pub fn wait_for(&self, followers: usize, observers: usize) {
        let mut expected = vec!["follower"; followers];
        expected.push("leader");
        expected.extend(vec!["observer"; observers]);
        expected.sort_unstable();
        wait::until(&format!("{expected:?}"), LIMIT, || {
            let running = (1..=self.servers.len())
                .filter(|id| self.servers[id - 1].daemon.is_some())
                .map(|id| self.mode(id));
            let mut modes = running.collect::<Result<Vec<_>, _>>()?;
            modes.sort();
            if modes == expected { Ok(()) } else { Err(modes.join(" ")) }
        });
    }

    /// Waits until a server answers `isro` so.
    pub fn wait_for_isro(&self, id: usize, expected: &str) {
        wait::until(expected, LIMIT, || {
            let said = four_letter_word(self.servers[id - 1].client, "isro")?;
            if said == expected { Ok(()) } else { Err(said) }
        });
    }

    /// Who leads.
    pub fn leader(&self) -> usize {
        let ids = 1..=self.servers.len();
        ids.clone()
            .filter(|id| self.servers[id - 1].daemon.is_some())
            .find(|id| self.mode(*id).as_deref() == Ok("leader"))
            .expect("a leader")
    }

    /// What `zookeeper_reconfig.py` prints.
    pub fn client(&self, command: &str, id: usize, arguments: &[&str]) -> String {
        let mut client = Command::new(python().expect("kazoo"));
        client.arg(root().join("tests/clients/zookeeper_reconfig.py"));
        client.arg(command).arg(self.host(id)).args(arguments);
        run(&mut client).unwrap_or_else(|error| panic!("{error}")).trim().to_owned()
    }

    /// What is written through each server is read at every other one.
    pub fn all_agree(&self, ids: &[usize], name: &str) {
        let path = |id: usize| format!("/{name}/{id}");
        for id in ids {
            assert_eq!(self.client("put", *id, &[&path(*id), name]), path(*id));
        }
        for id in ids {
            let next = ids[(ids.iter().position(|other| other == id).expect("it") + 1) % ids.len()];
            assert_eq!(self.client("get", *id, &[&path(next)]), name);
        }
    }
}
