//! An ensemble whose members are processes, and reach each other through [`Proxies`].

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::Kind;
use super::proxies::Proxies;
use crate::cluster::four_letter_word;
use crate::disk::SmallDisk;
use crate::{Daemon, ports, programs, wait};

/// Size of a member's own disk, in MiB: [`Ensemble::purge`] must come round before half of it is written.
const DISK: usize = 96;
/// How long an ensemble may take to agree on a leader.
const LIMIT: Duration = Duration::from_secs(60);

/// The members' processes and the links between them.
pub struct Ensemble {
    /// With each member's `zoo.cfg`, data and log.
    pub directory: TempDir,
    /// The links.
    pub proxies: Proxies,
    /// Each member's port for clients.
    pub clients: Vec<u16>,
    kinds: Vec<Kind>,
    members: Vec<Option<Daemon>>,
    /// Members that ended without being told to: which, and the end of what they said.
    pub ended: Vec<String>,
    /// A disk for each member's data, where one can be mounted.
    disks: Vec<SmallDisk>,
}

impl Ensemble {
    /// Configures and starts members of these kinds, and waits until they serve. `further` lines go into each `zoo.cfg`.
    ///
    /// # Panics
    /// When they don't.
    #[must_use]
    pub fn start(kinds: &[Kind], further: &str) -> Self {
        let count = kinds.len();
        let held = ports::lasting(count * 3);
        let (clients, quorum, election) =
            (&held[..count], &held[count..2 * count], &held[2 * count..]);
        let directory = TempDir::new().expect("a temporary directory");
        let proxies = Proxies::default();
        let mut disks = Vec::new();
        for (own, client) in clients.iter().enumerate() {
            let data = directory.path().join(format!("data{own}"));
            disks.extend(SmallDisk::mount(&data, DISK));
            std::fs::write(data.join("myid"), (own + 1).to_string()).expect("myid");
            let mut text = format!(
                "tickTime=300\ninitLimit=20\nsyncLimit=6\nmaxSessionTimeout=60000\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n{further}",
                data.display(),
                client
            );
            for other in 0..count {
                let through =
                    |port| if own == other { port } else { proxies.add(own, other, port) };
                let (quorum, election) = (through(quorum[other]), through(election[other]));
                writeln!(text, "server.{}=127.0.0.1:{quorum}:{election}", other + 1).expect("text");
            }
            std::fs::write(directory.path().join(format!("{own}.cfg")), text).expect("zoo.cfg");
        }
        let mut ensemble = Self {
            directory,
            proxies,
            clients: clients.to_vec(),
            kinds: kinds.to_vec(),
            members: kinds.iter().map(|_| None).collect(),
            ended: Vec::new(),
            disks,
        };
        for index in 0..count {
            ensemble.start_member(index);
        }
        ensemble.wait_for_all();
        ensemble
    }

    /// A member's data directory.
    #[must_use]
    pub fn data(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("data{index}"))
    }

    /// A member's disk, if it has one of its own and survives that it is full: Apache's server ends.
    #[must_use]
    pub fn disk(&self, index: usize) -> Option<&SmallDisk> {
        self.disks.get(index).filter(|_| self.kinds[index] == Kind::Ours)
    }

    /// What an operator's timer does: old snapshots and logs leave disks that become full.
    ///
    /// # Panics
    /// When the tool fails.
    pub fn purge(&self) {
        for (index, _) in self.disks.iter().enumerate().filter(|(_, disk)| disk.is_half_full()) {
            let mut tool = Command::new(programs::binary("zookeeper-server"));
            programs::run(tool.arg("purge").arg(self.data(index))).expect("a purge");
        }
    }

    /// Starts a member that does not run.
    pub fn start_member(&mut self, index: usize) {
        let mut command: Command = self.kinds[index].command(&[]);
        command.arg(self.directory.path().join(format!("{index}.cfg")));
        // Each life's log is kept, for the person who looks into a failure.
        let mut lives = 0;
        while self.directory.path().join(format!("member{index}-{lives}.log")).exists() {
            lives += 1;
        }
        let name = format!("member{index}-{lives}");
        self.members[index] = Some(Daemon::start(&name, self.directory.path(), &mut command));
    }

    /// Notes if a member has ended by itself.
    fn look_at(&mut self, index: usize) {
        if let Some(member) = &mut self.members[index]
            && !member.is_running()
        {
            let output = member.output();
            let last: Vec<&str> = output.lines().rev().take(5).collect();
            self.ended.push(format!("member {index}: {last:?}"));
            self.members[index] = None;
        }
    }

    /// `kill -9`, if it runs.
    pub fn kill(&mut self, index: usize) {
        self.look_at(index);
        if let Some(member) = self.members[index].take() {
            member.kill();
        }
    }

    /// Sends a signal, if it runs.
    pub fn signal(&mut self, index: usize, signal: Signal) {
        self.look_at(index);
        if let Some(member) = &self.members[index] {
            member.signal(signal);
        }
    }

    /// Starts what does not run: killed, or ended by itself.
    pub fn start_missing(&mut self) {
        for index in 0..self.members.len() {
            self.look_at(index);
            if self.members[index].is_none() {
                self.start_member(index);
            }
        }
    }

    /// What a member is: `leader`, `follower`, …
    ///
    /// # Errors
    /// What it says instead.
    pub fn mode(&self, index: usize) -> Result<String, String> {
        let text = four_letter_word(self.clients[index], "srvr")?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(str::to_owned).ok_or(text)
    }

    /// Waits for one leader that all others follow.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn wait_for_all(&self) {
        wait::until("one leader that all others follow", LIMIT, || {
            let modes: Vec<String> = (0..self.clients.len())
                .map(|index| self.mode(index).unwrap_or_else(|error| format!("({})", error.trim())))
                .collect();
            let count = |mode| modes.iter().filter(|found| *found == mode).count();
            let followers = count("follower");
            if count("leader") == 1 && followers + 1 == modes.len() {
                Ok(())
            } else {
                Err(modes.join(" "))
            }
        });
    }

    /// The logs of all members' lives.
    #[must_use]
    pub fn logs(&self) -> Vec<PathBuf> {
        logs_in(self.directory.path())
    }
}

fn logs_in(directory: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut logs: Vec<PathBuf> = entries
        .map(|paths| {
            paths.filter(|path| path.extension().is_some_and(|name| name == "log")).collect()
        })
        .unwrap_or_default();
    logs.sort();
    logs
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.proxies.end();
        // Nobody uses a disk any more when it is unmounted, and nothing is mounted in what is removed.
        self.members.clear();
        self.disks.clear();
    }
}
