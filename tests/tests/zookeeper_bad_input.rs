//! What nobody should send, or put where our ZooKeeper server reads: refused with the reason, others and their data
//! untouched.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::keys::Authority;
use end_to_end::programs::{binary, python, root, run};
use end_to_end::zookeeper::Server;
use end_to_end::zookeeper::secured::{LOCALHOST, tls_lines};
use end_to_end::{Daemon, http, need, ports, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
/// Memory that a server under garbage may take, in KiB: it is many times what it needs, and a small part of what is
/// announced to it.
const MEMORY_MAX_KIB: u64 = 200 << 10;

/// Three members, each with every kind of port.
struct Ensemble {
    directory: TempDir,
    /// By member: for clients, secure, for learners, for elections, for administrators, for metrics.
    ports: Vec<[u16; 6]>,
    members: Vec<Daemon>,
}

impl Ensemble {
    fn start() -> Self {
        let all = ports::free::<18>();
        let ports: Vec<[u16; 6]> = all.chunks(6).map(|six| six.try_into().expect("six")).collect();
        let directory = TempDir::new().expect("a directory");
        let authority = Authority::new(directory.path(), "authority");
        let key_store = authority.issue("server", LOCALHOST);
        let tls = tls_lines("ssl.", &key_store, &authority.path("authority"));
        let mut lines = String::new();
        for (index, six) in ports.iter().enumerate() {
            writeln!(lines, "server.{}=127.0.0.1:{}:{}", index + 1, six[2], six[3]).expect("text");
        }
        let mut ensemble = Self { directory, ports, members: Vec::new() };
        for index in 0..3 {
            let [client, secure, _, _, admin, metrics] = ensemble.ports[index];
            let data = ensemble.data(index);
            std::fs::create_dir(&data).expect("a directory");
            std::fs::write(data.join("myid"), (index + 1).to_string()).expect("myid");
            let text = format!(
                "tickTime=500\ninitLimit=20\nsyncLimit=6\ndataDir={}\nclientPort={client}\nclientPortAddress=127.0.0.1\nsecureClientPort={secure}\nsecureClientPortAddress=127.0.0.1\nadmin.serverPort={admin}\nadmin.serverAddress=127.0.0.1\nmetricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\nmetricsProvider.httpHost=127.0.0.1\nmetricsProvider.httpPort={metrics}\n4lw.commands.whitelist=*\n{tls}{lines}",
                data.display()
            );
            std::fs::write(ensemble.config(index), text).expect("zoo.cfg");
            let mut command = Command::new(binary("zookeeper-server"));
            command.arg(ensemble.config(index));
            let name = format!("member{index}");
            ensemble.members.push(Daemon::start(&name, ensemble.directory.path(), &mut command));
        }
        ensemble.wait();
        ensemble
    }

    fn data(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("data{index}"))
    }

    fn config(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("{index}.cfg"))
    }

    fn mode(&self, index: usize) -> String {
        let text = four_letter_word(self.ports[index][0], "srvr").unwrap_or_default();
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.unwrap_or_default().to_owned()
    }

    fn wait(&self) {
        wait::until("a leader and two followers", LIMIT, || {
            let mut modes: Vec<String> = (0..3).map(|index| self.mode(index)).collect();
            modes.sort();
            if modes == ["follower", "follower", "leader"] { Ok(()) } else { Err(modes.join(" ")) }
        });
    }
}

/// What a peer that means harm, or another program, may send.
fn garbage() -> Vec<Vec<u8>> {
    let int = |number: i32| number.to_be_bytes().to_vec();
    let long = |number: i64| number.to_be_bytes().to_vec();
    let joined = |parts: &[Vec<u8>]| parts.concat();
    vec![
        Vec::new(),
        vec![0],
        vec![0xff; 100_000],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        // Lengths that are none, of frames and notifications.
        int(i32::MAX),
        int(-1),
        joined(&[int(64 << 20), vec![7; 1000]]),
        // Hellos of the election: versions, ids and lengths of addresses that can't be.
        joined(&[long(-65536), long(2), int(i32::MAX)]),
        joined(&[long(-65536), long(0), int(3), b"x:1".to_vec()]),
        joined(&[long(-65536), long(300), int(3), b"x:1".to_vec()]),
        joined(&[long(-65536), long(7), int(3), b"x:1".to_vec(), int(i32::MAX)]),
        joined(&[long(-65535), long(7), int(2000), vec![b'|'; 2000], int(40), vec![9; 40]]),
        // Packets of learners: kinds, lengths and ids that can't be.
        joined(&[int(11), long(0), int(i32::MAX)]),
        joined(&[int(11), long(0), int(20), long(300), int(0x1_0000), long(0), int(-1)]),
        joined(&[int(11), long(i64::MAX), int(20), long(9), int(0x1_0000), long(0), int(-1)]),
        joined(&[int(11), long(0), int(-1), int(i32::MAX)]),
        joined(&[int(15), long(0), int(-1), int(-1), vec![1; 50_000]]),
        joined(&[int(99), long(0), int(-1), int(-1)]),
        // The beginning of a handshake, and one of many bytes.
        vec![0x16, 3, 1, 0xff, 0xff, 1, 0, 0, 1, 0],
        joined(&[vec![0x16, 3, 1, 0x40, 0], vec![1; 0x4000]]),
        // A session of a client, then a request that has no end.
        joined(&[
            int(44),
            int(0),
            long(0),
            int(5000),
            long(0),
            int(16),
            vec![0; 16],
            int(20),
            int(1),
            int(1),
            int(i32::MAX),
        ]),
    ]
}

/// Sends to a port, and waits until the other end has closed, or has answered and waits for more.
fn send(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    // An error means that it is refused already.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 4096];
    while let Ok(1..) = stream.read(&mut answer) {}
}

/// Memory of a process in KiB.
fn memory(member: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", member.pid())).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn garbage_on_any_port_harms_nobody_else() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let mut ensemble = Ensemble::start();
    let leader = (0..3).position(|index| ensemble.mode(index) == "leader").expect("a leader");
    let mut writer = Command::new(python().expect("checked before"));
    writer.arg(root().join("tests/clients/zookeeper_ensemble.py")).arg("write");
    let hosts: Vec<String> =
        ensemble.ports.iter().map(|six| format!("127.0.0.1:{}", six[0])).collect();
    writer.arg(hosts.join(","));
    let writer = Daemon::start("writer", ensemble.directory.path(), &mut writer);
    let written = || writer.output().lines().count();
    wait::until_true("writes", LIMIT, || written() > 20);
    for bytes in garbage() {
        for index in [leader, (leader + 1) % 3] {
            for port in ensemble.ports[index] {
                send(port, &bytes);
            }
        }
    }
    let before = written();
    wait::until_true("further writes", LIMIT, || written() > before + 20);
    assert_eq!(ensemble.mode(leader), "leader", "the ensemble is the same");
    for (index, member) in ensemble.members.iter_mut().enumerate() {
        assert!(member.is_running(), "member {index}: {}", member.output());
        assert!(!member.output().contains("panicked"), "{}", member.output());
        let used = memory(member);
        assert!(used < MEMORY_MAX_KIB, "member {index} uses {used} KiB");
    }
    for reason in ["unreasonable length", "it is no learner", "ids go from 1 to 255", "no TLS"] {
        let said = ensemble.members[leader].output() + &ensemble.members[(leader + 1) % 3].output();
        assert!(said.contains(reason), "{reason}: {said}");
    }
    let [_, _, _, _, admin, metrics] = ensemble.ports[leader];
    for url in [format!("{admin}/commands/ruok"), format!("{metrics}/metrics")] {
        let answer = http::get(&format!("http://127.0.0.1:{url}")).expect("an answer");
        assert_eq!(answer.status, 200, "{url}");
    }
    let paths = ensemble.directory.path().join("paths");
    std::fs::write(&paths, writer.output()).expect("the paths");
    writer.kill();
    for host in &hosts {
        let mut check = Command::new(python().expect("checked before"));
        check.arg(root().join("tests/clients/zookeeper_ensemble.py")).args(["check", host]);
        run(check.arg(&paths)).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// What a start says that must not succeed.
fn refusal(server: &Server) -> String {
    let output = Command::new(binary("zookeeper-server")).arg(server.config()).output();
    let output = output.expect("a run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn data_that_can_not_be_this_servers_is_refused_and_left_as_it_is() {
    let ensemble = "initLimit=5\nsyncLimit=2\nserver.1=127.0.0.1:1:2\nserver.2=127.0.0.1:3:4\n";
    let elsewhere = b"something that another program wrote";
    for (lines, files, reason) in [
        ("", vec![("log.1".to_owned(), elsewhere.to_vec())], "log.1"),
        (
            ensemble,
            vec![
                ("acceptedEpoch".to_owned(), b"1\n".to_vec()),
                ("currentEpoch".to_owned(), b"2\n".to_vec()),
            ],
            "acceptedEpoch is 1, less than currentEpoch 2",
        ),
        (ensemble, vec![("currentEpoch".to_owned(), b"soon".to_vec())], "currentEpoch"),
        (ensemble, vec![("acceptedEpoch".to_owned(), b"-".to_vec())], "acceptedEpoch"),
    ] {
        let [quorum, election] = ports::free();
        let lines = lines.replace(":1:2", &format!(":{quorum}:{election}"));
        let server = Server::new(&lines);
        let data = server.directory.path().join("data");
        std::fs::create_dir_all(data.join("version-2")).expect("a directory");
        std::fs::write(data.join("myid"), "1").expect("myid");
        for (name, bytes) in &files {
            std::fs::write(data.join("version-2").join(name), bytes).expect("a file");
        }
        let said = refusal(&server);
        assert!(said.contains(reason), "{reason}: {said}");
        for (name, bytes) in &files {
            let after = std::fs::read(data.join("version-2").join(name)).expect("the file");
            assert_eq!(after, *bytes, "{name} is as it was");
        }
    }
}

#[test]
fn a_server_with_another_ensembles_history_neither_leads_nor_spoils_it() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let mut ensemble = Ensemble::start();
    let leader = (0..3).position(|index| ensemble.mode(index) == "leader").expect("a leader");
    let follower = (leader + 1) % 3;
    let ports = ensemble.ports.clone();
    let client = |index: usize, command: &str, arguments: &[&str]| {
        let mut client = Command::new(python().expect("checked before"));
        client.arg(root().join("tests/clients/zookeeper_reconfig.py")).arg(command);
        client.arg(format!("127.0.0.1:{}", ports[index][0])).args(arguments);
        run(&mut client).unwrap_or_else(|error| panic!("{error}")).trim().to_owned()
    };
    assert_eq!(client(leader, "put", &["/kept", "here"]), "/kept");
    // The follower comes back with what a server by itself wrote in a far later epoch.
    let other = TempDir::new().expect("a directory");
    let copied = other.path().join("version-2");
    std::fs::create_dir(&copied).expect("a directory");
    for (name, text) in [("acceptedEpoch", "900\n"), ("currentEpoch", "900\n")] {
        std::fs::write(copied.join(name), text).expect("an epoch");
    }
    let data = ensemble.data(follower);
    ensemble.members.remove(follower).kill();
    std::fs::rename(data.join("version-2"), other.path().join("before")).expect("moved");
    std::fs::rename(&copied, data.join("version-2")).expect("moved");
    let mut command = Command::new(binary("zookeeper-server"));
    command.arg(ensemble.config(follower));
    let member = Daemon::start("stranger", ensemble.directory.path(), &mut command);
    ensemble.members.insert(follower, member);
    // Those who promised less go on: with it in the end, in an epoch beyond its own, or without it.
    wait::until("the two others to serve", LIMIT, || {
        let modes: Vec<String> = (0..3).map(|index| ensemble.mode(index)).collect();
        let serving = modes.iter().filter(|mode| !mode.is_empty()).count();
        if serving >= 2 && modes.iter().any(|mode| mode == "leader") {
            Ok(())
        } else {
            Err(modes.join(" "))
        }
    });
    for index in (0..3).filter(|index| *index != follower) {
        assert_eq!(client(index, "get", &["/kept"]), "here");
    }
}
