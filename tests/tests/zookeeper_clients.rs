//! Our ZooKeeper server with published clients, beside Apache's, and on each other's data.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::programs::{binary, has_original_zookeeper, python, root, run, zk_cli};
use end_to_end::zookeeper::{Kind, Server};
use end_to_end::{Daemon, need, wait};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(40);
const NO_VENV: &str = "target/venv is missing (tests/python-clients.sh)";
const NO_ORIGINAL: &str = "Debian's zookeeper package is not installed";

#[test]
fn kazoo_finds_everything_as_it_should_be() {
    need!(python().is_some(), "{NO_VENV}");
    let server = Server::started(Kind::Ours);
    run(&mut server.kazoo(&["behaviour"])).expect("kazoo's checks");
}

#[test]
fn sessions_ephemerals_and_watches_outlive_a_killed_server() {
    need!(python().is_some(), "{NO_VENV}");
    let mut server = Server::started(Kind::Ours);
    let ready = server.directory.path().join("ready");
    let mut holder =
        Daemon::start("holder", server.directory.path(), server.kazoo(&["hold"]).arg(&ready));
    wait::until_true("the session", LIMIT, || ready.exists());
    server.daemon().kill();
    server.start(Kind::Ours);
    let status = holder.wait_for_end(LIMIT);
    assert!(status.success(), "{}", holder.output());
}

#[test]
fn a_server_killed_under_load_loses_nothing_acknowledged() {
    need!(python().is_some(), "{NO_VENV}");
    let mut server = Server::new("4lw.commands.whitelist=*\nsnapCount=300\n");
    server.start(Kind::Ours);
    let noted = server.directory.path().join("noted");
    let path = noted.to_str().expect("a path");
    let mut writer =
        Daemon::start("writer", server.directory.path(), &mut server.kazoo(&["write", path, "8"]));
    for kill in 1..=3 {
        let lines = || std::fs::read_to_string(&noted).unwrap_or_default().lines().count();
        let before = lines();
        wait::until_true("some acknowledged writes", LIMIT, || lines() > before + 200 * kill);
        server.daemon().kill();
        server.start(Kind::Ours);
    }
    let status = writer.wait_for_end(LIMIT);
    assert!(status.success(), "{}", writer.output());
    run(&mut server.kazoo(&["check", path])).expect("every acknowledged write");
    let warnings = server.daemon().output();
    assert!(!warnings.contains("digest differs"), "{warnings}");
}

#[test]
fn random_operations_give_the_same_on_ours_and_on_the_original() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let seeds = std::env::var("MESO_SEEDS").unwrap_or_else(|_| "1 2".to_owned());
    for seed in seeds.split_whitespace() {
        let (ours, original) = (Server::started(Kind::Ours), Server::started(Kind::Original));
        let mut command = Server::client("zookeeper_differential.py");
        command.args([&ours.port.to_string(), &original.port.to_string(), seed, "2000"]);
        run(&mut command).expect("no difference");
    }
}

#[test]
fn sequence_numbers_end_as_the_originals_do() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let ports = [Kind::Ours, Kind::Original].map(|kind| {
        let mut server = Server::new("4lw.commands.whitelist=*\n");
        // An empty snapshot, without which a log would not be read.
        server.start(kind);
        server.daemon().kill();
        let data = server.directory.path().join("data");
        run(Server::client("zookeeper_overflow.py").arg("write").arg(data)).expect("a log");
        server.start(kind);
        (server.port.to_string(), server)
    });
    let mut compare = Server::client("zookeeper_overflow.py");
    compare.arg("compare").args(ports.each_ref().map(|(port, _)| port));
    let outcome = run(&mut compare).expect("no difference");
    // The last number comes again, and its name is taken.
    assert!(outcome.contains("/d/s-2147483647') (8, -110, None)"), "{outcome}");
}

/// The tree that one kind of server wrote, as read by it after a restart and then by the other kind.
fn hand_over(from: Kind, to: Kind, further: &str) {
    let mut server = Server::new(further);
    server.start(from);
    run(&mut server.kazoo(&["fill"])).expect("a tree");
    let written = server.dump();
    server.daemon().kill();
    server.start(to);
    assert_eq!(server.dump(), written, "{from:?} wrote, {to:?} read");
    run(&mut server.kazoo(&["behaviour"])).expect("kazoo's checks on the other's data");
    let before = server.dump();
    server.daemon().kill();
    // And back.
    server.start(from);
    assert_eq!(server.dump(), before, "{to:?} wrote, {from:?} read");
}

#[test]
fn our_data_opens_in_the_original_and_back() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    hand_over(Kind::Ours, Kind::Original, "");
}

#[test]
fn the_originals_data_opens_in_ours_and_back() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    // Snapshots in between, taken while transactions go on.
    hand_over(Kind::Original, Kind::Ours, "snapCount=20\n");
}

/// What zkCli.sh says to the commands of `zookeeper_commands.txt`, without times and ports.
fn commands(server: &Server) -> Vec<String> {
    let script = std::fs::File::open(root().join("tests/clients/zookeeper_commands.txt"))
        .expect("the commands");
    let output = Command::new(zk_cli().expect("checked before"))
        .arg("-server")
        .arg(format!("127.0.0.1:{}", server.port))
        .stdin(script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("zkCli.sh");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let lines = text.lines().filter(|line| {
        // What the client says of itself, in an order of its own.
        ![
            "SLF4J",
            "Connecting to ",
            "Welcome",
            "JLine",
            "WATCHER",
            "WatchedEvent state:SyncConnected type:None",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    });
    let mut lines: Vec<String> = lines
        .map(|line| match line.split_once(" = ") {
            Some((key @ ("ctime" | "mtime"), _)) => format!("{key} = (time)"),
            Some((key @ "ephemeralOwner", owner)) if owner != "0x0" => format!("{key} = (session)"),
            _ => line.to_owned(),
        })
        .collect();
    // Java's order of a set.
    for pair in 1..lines.len() {
        if lines[pair].starts_with("ip: ") && lines[pair - 1].starts_with("digest: ") {
            lines.swap(pair, pair - 1);
        }
    }
    lines
}

#[test]
fn the_command_line_client_says_the_same_on_ours_and_on_the_original() {
    need!(zk_cli().is_some() && has_original_zookeeper(), "{NO_ORIGINAL}");
    let (ours, original) = (Server::started(Kind::Ours), Server::started(Kind::Original));
    let expected = commands(&original);
    assert!(expected.len() > 100, "{expected:#?}");
    assert_eq!(commands(&ours).join("\n"), expected.join("\n"));
}

#[test]
fn four_letter_words_have_the_originals_form() {
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let (ours, original) = (Server::started(Kind::Ours), Server::started(Kind::Original));
    let mask = |text: String| {
        let lines = text.lines().map(|line| {
            let number = |c: char| c.is_ascii_digit() || c == '.';
            let masked: String = line.replace(number, "");
            if masked.starts_with("Zookeeper version") { "version".to_owned() } else { masked }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    for word in ["ruok", "isro", "srvr", "stat", "wchs", "wchc", "wchp", "crst", "srst", "dirs"] {
        let [ours, original] =
            [&ours, &original].map(|server| four_letter_word(server.port, word).expect(word));
        assert_eq!(mask(ours), mask(original), "{word}");
    }
    let keys = |text: String| -> Vec<String> {
        text.lines().filter_map(|line| line.split(['\t', '=']).next().map(str::to_owned)).collect()
    };
    let [own, theirs] =
        [&ours, &original].map(|server| keys(four_letter_word(server.port, "mntr").expect("mntr")));
    let known = |key: &String| theirs.contains(key) || key == "zk_slow_clients_evicted";
    assert!(own.len() > 400 && own.iter().all(known), "{own:?}\n{theirs:?}");
    let [own, theirs] =
        [&ours, &original].map(|server| keys(four_letter_word(server.port, "conf").expect("conf")));
    assert_eq!(own, theirs);
}

#[test]
fn words_that_are_not_whitelisted_are_refused() {
    let mut server = Server::new("");
    server.start(Kind::Ours);
    assert_eq!(
        four_letter_word(server.port, "ruok").expect("an answer"),
        "ruok is not executed because it is not in the whitelist.\n"
    );
}

/// Sends bytes on a connection of their own; whether the server closes it.
fn is_cut_off(port: u16, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // An error means that it is closed already.
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    !matches!(stream.read_to_end(&mut rest), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn resident_kb(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn garbage_on_the_port_harms_nobody_else() {
    need!(python().is_some(), "{NO_VENV}");
    let mut server = Server::started(Kind::Ours);
    let mut bystander =
        Daemon::start("kazoo", server.directory.path(), &mut server.kazoo(&["behaviour"]));
    let mut connect = vec![0, 0, 0, 44];
    connect.extend_from_slice(&[0; 44]);
    let mut negative = connect.clone();
    negative.extend_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    let mut unknown = connect.clone();
    unknown.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0x7f, 0xff]);
    let mut headless = connect.clone();
    headless.extend_from_slice(&[0, 0, 0, 2, 1, 1]);
    for _ in 0..20 {
        assert!(is_cut_off(server.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP");
        assert!(is_cut_off(server.port, b"zzzz"), "no word");
        assert!(is_cut_off(server.port, &[0xff; 4096]), "a frame of 4 GB");
        assert!(is_cut_off(server.port, &[0x00, 0x10, 0x00, 0x00, 1]), "a frame over the limit");
        assert!(is_cut_off(server.port, &[0, 0, 0, 3, 1, 2, 3]), "no connect request");
        assert!(is_cut_off(server.port, &negative), "a negative length");
        assert!(is_cut_off(server.port, &unknown), "an unknown opcode");
        assert!(is_cut_off(server.port, &headless), "a request without a header");
    }
    assert!(is_cut_off(server.port, &[0, 0, 0, 44, 0]), "a client that doesn't go on");
    let status = bystander.wait_for_end(LIMIT);
    assert!(status.success(), "{}", bystander.output());
    assert!(server.daemon.as_mut().expect("a server").is_running());
}

#[test]
fn a_client_that_asks_and_never_reads_does_not_grow_the_server() {
    need!(python().is_some(), "{NO_VENV}");
    let mut server = Server::started(Kind::Ours);
    run(Server::client("zookeeper_deaf.py").arg(server.port.to_string())).expect("a deaf client");
    let daemon = server.daemon();
    let resident = resident_kb(&daemon);
    assert!(resident < 200 * 1024, "{resident} kB");
}

fn start_and_fail(config: &Path) -> String {
    let output = Command::new(binary("zookeeper-server")).arg(config).output().expect("a run");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_can_not_be_served_is_refused_with_the_place_and_the_reason() {
    let mut server = Server::new("maxClientCnxns=many\n");
    let error = start_and_fail(&server.config());
    assert!(error.contains("zoo.cfg:8: maxClientCnxns: 'many' is not a number"), "{error}");
    let error = start_and_fail(Path::new("/nonexistent/zoo.cfg"));
    assert!(error.contains("/nonexistent/zoo.cfg: No such file"), "{error}");

    server = Server::new("");
    server.start(Kind::Ours);
    let error = start_and_fail(&server.config());
    assert!(error.contains("data/version-2 is in use by another server"), "{error}");
    let mut other = Server::new("");
    let text = std::fs::read_to_string(other.config()).expect("zoo.cfg");
    let clash = text
        .replace(&format!("clientPort={}\n", other.port), &format!("clientPort={}\n", server.port));
    std::fs::write(other.config(), clash).expect("zoo.cfg");
    let error = start_and_fail(&other.config());
    assert!(error.contains("cannot listen on 127.0.0.1:"), "{error}");
    other.port = 0;
}

#[test]
fn the_program_tells_its_version_and_its_usage_and_ends_cleanly() {
    let version =
        run(Command::new(binary("zookeeper-server")).arg("--version")).expect("a version");
    assert!(version.starts_with("zookeeper-server 3.8."), "{version}");
    let help = run(Command::new(binary("zookeeper-server")).arg("--help")).expect("help");
    assert!(help.contains("Usage: zookeeper-server"), "{help}");

    let server = Server::new("");
    let socket = server.directory.path().join("notify");
    let notified = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    notified.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut command = Command::new(binary("zookeeper-server"));
    command.arg("start-foreground").arg(server.config()).env("NOTIFY_SOCKET", &socket);
    let daemon = Daemon::start("zookeeper", server.directory.path(), &mut command);
    let mut message = [0; 256];
    let length = notified.recv(&mut message).expect("a notification");
    assert!(String::from_utf8_lossy(&message[..length]).contains("READY=1"));
    assert!(four_letter_word(server.port, "srvr").expect("srvr").contains("Mode: standalone"));
    daemon.signal(Signal::SIGCONT);
    assert!(daemon.terminate().success());
}
