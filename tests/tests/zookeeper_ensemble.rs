//! Ensembles of our ZooKeeper servers, and of ours and Apache's together, whose leaders are killed under load.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::daemon::Daemon;
use end_to_end::need;
use end_to_end::programs::{binary, has_original_zookeeper, python, root, run};
use end_to_end::{ports, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ours,
    Apache,
}

struct Ensemble {
    directory: TempDir,
    kinds: [Kind; 3],
    clients: [u16; 3],
    servers: [Option<Daemon>; 3],
}

impl Ensemble {
    fn start(kinds: [Kind; 3]) -> Self {
        let ports = ports::free::<9>();
        let directory = TempDir::new().expect("a temporary directory");
        let mut lines = String::new();
        for index in 0..3 {
            let (quorum, election) = (ports[3 + index], ports[6 + index]);
            writeln!(lines, "server.{}=127.0.0.1:{quorum}:{election}", index + 1).expect("text");
        }
        let clients = [ports[0], ports[1], ports[2]];
        for (index, port) in clients.iter().enumerate() {
            let data = directory.path().join(format!("data{index}"));
            std::fs::create_dir(&data).expect("a data directory");
            std::fs::write(data.join("myid"), (index + 1).to_string()).expect("myid");
            let config = format!(
                "tickTime=500\ninitLimit=20\nsyncLimit=6\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\n{lines}",
                data.display()
            );
            std::fs::write(directory.path().join(format!("{index}.cfg")), config).expect("zoo.cfg");
        }
        let mut ensemble = Self { directory, kinds, clients, servers: [None, None, None] };
        for index in 0..3 {
            ensemble.start_server(index);
        }
        ensemble.wait_for_all();
        ensemble
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start_server(&mut self, index: usize) {
        let mut command = match self.kinds[index] {
            Kind::Ours => Command::new(binary("zookeeper-server")),
            Kind::Apache => {
                let mut command = Command::new("java");
                command
                    .args(["-Xmx256m", "-cp", "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar"])
                    .arg("-Dzookeeper.root.logger=INFO,CONSOLE")
                    .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
                command
            }
        };
        command.arg(self.path(&format!("{index}.cfg")));
        let name = format!("server{index}");
        self.servers[index] = Some(Daemon::start(&name, self.directory.path(), &mut command));
    }

    fn mode(&self, index: usize) -> Result<String, String> {
        let text = four_letter_word(self.clients[index], "srvr")?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(str::to_owned).ok_or(text)
    }

    fn wait_for_all(&self) {
        wait::until("one leader and two followers", LIMIT, || {
            let mut modes = (0..3).map(|index| self.mode(index)).collect::<Result<Vec<_>, _>>()?;
            modes.sort();
            if modes == ["follower", "follower", "leader"] { Ok(()) } else { Err(modes.join(" ")) }
        });
    }

    fn kill_leader(&mut self) -> usize {
        let leader = (0..3).find(|index| self.mode(*index).as_deref() == Ok("leader"));
        let leader = leader.expect("a leader");
        self.servers[leader].take().expect("a running leader").kill();
        leader
    }

    /// Writes while leaders are killed and started again, `rounds` times; who led.
    fn survive(&mut self, rounds: usize) -> Vec<Kind> {
        let hosts = self.clients.map(|port| format!("127.0.0.1:{port}")).join(",");
        let mut command = client(&["write", &hosts]);
        let writer = Daemon::start("writer", self.directory.path(), &mut command);
        let written = |writer: &Daemon| writer.output().lines().count();
        let mut led = Vec::new();
        for _ in 0..rounds {
            let before = written(&writer);
            wait::until_true("writes", LIMIT, || written(&writer) > before + 100);
            let leader = self.kill_leader();
            led.push(self.kinds[leader]);
            let before = written(&writer);
            wait::until_true("writes without it", LIMIT, || written(&writer) > before + 100);
            self.start_server(leader);
            self.wait_for_all();
        }
        writer.kill();
        let log = self.path("writer.log");
        for port in self.clients {
            let host = format!("127.0.0.1:{port}");
            let count = run(&mut client(&["check", &host, log.to_str().expect("a path")]))
                .unwrap_or_else(|error| panic!("{error}"));
            assert!(
                count.trim().parse::<usize>().is_ok_and(|count| count > 200 * rounds),
                "{count}"
            );
        }
        led
    }
}

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(python().expect("kazoo"));
    command.arg(root().join("tests/clients/zookeeper_ensemble.py")).args(arguments);
    command
}

#[test]
fn no_acknowledged_write_is_lost_when_leaders_are_killed() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    let mut ensemble = Ensemble::start([Kind::Ours; 3]);
    assert_eq!(ensemble.survive(3).len(), 3);
}

#[test]
fn our_servers_and_apaches_are_one_ensemble_whoever_leads() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let mut ensemble = Ensemble::start([Kind::Ours, Kind::Apache, Kind::Ours]);
    let led = ensemble.survive(3);
    assert!(led.contains(&Kind::Ours), "ours never led");
    // If Apache's did not get its turn by itself, it does when both of ours have just been killed once.
    if !led.contains(&Kind::Apache) {
        let led = ensemble.survive(2);
        assert!(led.contains(&Kind::Apache), "Apache's never led");
    }
}

#[test]
fn without_a_quorum_clients_are_refused() {
    let mut ensemble = Ensemble::start([Kind::Ours; 3]);
    let leader = ensemble.kill_leader();
    let other = (leader + 1) % 3;
    ensemble.servers[other].take().expect("a follower").kill();
    let left = ensemble.clients[(leader + 2) % 3];
    wait::until("the last server to serve no more", LIMIT, || {
        let text = four_letter_word(left, "srvr")?;
        if text.contains("not currently serving requests") { Ok(()) } else { Err(text) }
    });
    assert_eq!(four_letter_word(left, "ruok").as_deref(), Ok("imok"));
    let last = ensemble.servers[(leader + 2) % 3].take().expect("the last server");
    assert!(last.terminate().success(), "a server without a leader ends when it is told to");
    for index in 0..3 {
        ensemble.start_server(index);
    }
    ensemble.wait_for_all();
}
