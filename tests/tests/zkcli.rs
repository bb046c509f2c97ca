//! `zkcli` beside `zkCli.sh`: what both print, on our server and on Apache's; JSON, scripts, the terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::keys::Authority;
use end_to_end::need;
use end_to_end::programs::{binary, has_original_zookeeper, root, zk_cli};
use end_to_end::zookeeper::secured::{CLIENT_JAAS, Secured, private_file, tls_lines};
use end_to_end::zookeeper::{Kind, ORIGINAL_CLASSES, Server};

const LIMIT: Duration = Duration::from_secs(20);
const NO_ORIGINAL: &str = "Debian's zookeeper package is not installed";

fn zkcli(server: &Server) -> Command {
    let mut command = Command::new(binary("zkcli"));
    command.args(["-server", &format!("127.0.0.1:{}", server.port)]);
    command.env("TZ", "UTC").env("HOME", server.directory.path()).env_remove("ZKCLI_HISTORY");
    command
}

/// What a program says to a script: its exit code, standard output, standard error.
fn said(mut command: Command, script: &Path) -> (i32, String, String) {
    let output = command
        .stdin(File::open(script).expect("a script"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("a run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().expect("an exit"), text(output.stdout), text(output.stderr))
}

/// Without what differs between two runs, and between the two programs.
fn masked(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| {
            !["SLF4J", "JLine", "Connecting", "Welcome"].iter().any(|start| line.starts_with(start))
        })
        .map(|line| match line.split_once(" = ") {
            Some((key @ ("ctime" | "mtime"), _)) => format!("{key} = (time)"),
            Some((key @ "ephemeralOwner", owner)) if owner != "0x0" => format!("{key} = (session)"),
            _ if line.starts_with("ZooKeeper CLI version: 3.8.") => "(version)".to_owned(),
            _ => line
                // These two have options that 3.8.0 has not.
                .replace("[-b] [-x] path", "path")
                .replace("[-b] path data", "path data"),
        })
        .collect();
    // An event and its frame are printed as they arrive; the first one says that the session is there.
    lines.retain(|line| !line.is_empty() && line != "WATCHER::" && !line.contains("type:None"));
    // Java's order of a set.
    for pair in 1..lines.len() {
        if lines[pair].starts_with("ip: ") && lines[pair - 1].starts_with("digest: ") {
            lines.swap(pair, pair - 1);
        }
    }
    lines
}

#[test]
fn ours_prints_what_the_original_prints_on_both_servers() {
    need!(zk_cli().is_some() && has_original_zookeeper(), "{NO_ORIGINAL}");
    for script in ["zookeeper_commands.txt", "zkcli_commands.txt"] {
        let script = root().join("tests/clients").join(script);
        let mut all = Vec::new();
        for kind in [Kind::Original, Kind::Ours] {
            for ours in [false, true] {
                let server = Server::started(kind);
                let command = if ours {
                    zkcli(&server)
                } else {
                    let mut command = Command::new(zk_cli().expect("checked before"));
                    command.args(["-server", &format!("127.0.0.1:{}", server.port)]);
                    command.env("TZ", "UTC");
                    command
                };
                let (code, out, err) = said(command, &script);
                all.push((kind, ours, code, masked(&out), masked(&err)));
            }
        }
        let (_, _, code, out, err) = &all[0];
        assert!(out.len() + err.len() > 100, "{out:#?}\n{err:#?}");
        for (kind, ours, code_here, out_here, err_here) in &all[1..] {
            let what = format!("{}: zkcli {ours} on {kind:?}", script.display());
            assert_eq!(out_here.join("\n"), out.join("\n"), "{what}, standard output");
            assert_eq!(err_here.join("\n"), err.join("\n"), "{what}, standard error");
            assert_eq!(code_here, code, "{what}");
        }
    }
}

#[test]
fn one_command_is_executed_and_its_outcome_is_the_exit_code() {
    let server = Server::started(Kind::Ours);
    let run = |arguments: &[&str]| {
        let output = zkcli(&server).args(arguments).output().expect("a run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().expect("an exit"), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(run(&["create", "/one", "data"]).0, 0);
    let (code, out, _) = run(&["get", "/one"]);
    assert!(code == 0 && out.ends_with("\ndata\n"), "{out}");
    let (code, _, err) = run(&["get", "/none"]);
    assert_eq!((code, err.as_str()), (1, "Node does not exist: /none\n"));
    let (code, _, err) = run(&["nosuch"]);
    assert!(code == 127 && err.contains("\n\taddauth scheme auth\n"), "{err}");
    assert_eq!(run(&["-nosuch", "ls", "/"]).0, 2);
    let (code, out, _) = run(&["--json", "get", "/one"]);
    assert_eq!(code, 0);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["event"]["state"], "SyncConnected");
    assert_eq!(lines[1]["result"]["data"], "data");
    assert_eq!(lines[1]["result"]["stat"]["dataLength"], 4);
    let (code, out, err) = run(&["--json", "delete", "-v", "5", "/one"]);
    let error: serde_json::Value =
        serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!((code, &error["error"]["code"], err.as_str()), (1, &(-103).into(), ""));
}

#[test]
fn a_chroot_is_the_root_and_a_server_that_is_not_there_is_told() {
    let server = Server::started(Kind::Ours);
    let address = format!("127.0.0.1:{}", server.port);
    for (at, command) in [("", "create /base x"), ("/base", "create /in y")] {
        let mut run = Command::new(binary("zkcli"));
        run.args(["-server", &format!("{address}{at}")]).args(command.split(' '));
        assert!(run.output().expect("a run").status.success(), "{command}");
    }
    let output = zkcli(&server).args(["ls", "-R", "/base"]).output().expect("a run");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\n/base\n/base/in\n"));
    let output = Command::new(binary("zkcli"))
        .args(["-server", "127.0.0.1:1", "ls", "/"])
        .output()
        .expect("a run");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "KeeperErrorCode = ConnectionLoss for /\n");
    let configuration = server.directory.path().join("client.properties");
    std::fs::write(&configuration, "zookeeper.client.secure=true\n").expect("a file");
    let output = zkcli(&server)
        .args(["-client-configuration", configuration.to_str().expect("a path"), "ls", "/"])
        .output()
        .expect("a run");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ssl.trustStore.location is not set"), "{said}");
}

/// The program of zkCli.sh, with what it needs for TLS.
fn original_cli() -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", ORIGINAL_CLASSES]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-Djava.awt.headless=true"]);
    java
}

/// What a client says that a session is secured by, and what it may do then.
const SECURED: &str = "addauth digest ann:b\ncreate /by-certificate data auth::cdrwa\ngetAcl /by-certificate\nget /by-certificate\nwhoami\nls /none\nquit\n";

#[test]
fn tls_and_sasl_are_spoken_as_zkcli_sh_does() {
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    for kind in [Kind::Original, Kind::Ours] {
        let secured = Secured::start(kind, "");
        let directory = secured.server.directory.path();
        let script = private_file(directory.join("script"), SECURED);
        let users = private_file(directory.join("client-jaas.conf"), CLIENT_JAAS);
        let certificate = secured.authority.issue("alice", &[]);
        let text = std::fs::read_to_string(&certificate).expect("the certificate");
        let certificate = private_file(directory.join("alice-private.pem"), &text);
        let tls = format!(
            "zookeeper.client.secure=true\nzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty\n{}",
            tls_lines("zookeeper.ssl.", &certificate, &secured.authority.path("authority"))
        );
        let tls = private_file(directory.join("tls.properties"), &tls);
        let jaas = format!("-Djava.security.auth.login.config={}", users.display());
        let certain = format!("localhost:{}", secured.secure_port);
        let plain = format!("127.0.0.1:{}", secured.server.port);
        let said_by = |by_tls: bool, ours: bool, delete: bool| {
            let mut command = if ours { Command::new(binary("zkcli")) } else { original_cli() };
            command.env("HOME", directory).env_remove("ZKCLI_HISTORY");
            if ours && !by_tls {
                command.env("CLIENT_JVMFLAGS", &jaas);
            } else if !by_tls {
                command.arg(&jaas);
            }
            if !ours {
                command.arg("org.apache.zookeeper.ZooKeeperMain");
            }
            command.args(["-server", if by_tls { &certain } else { &plain }]);
            if by_tls {
                command.arg("-client-configuration").arg(&tls);
            }
            if delete {
                command.args(["delete", "/by-certificate"]);
                let output = command.output().expect("a run");
                return (output.status.code().unwrap_or(-1), Vec::new(), Vec::new());
            }
            let (code, out, err) = said(command, &script);
            // The original's end is logged, and commas of names are written as in an address.
            let mut err = masked(&err);
            err.retain(|line| !line.contains("ServiceUtils"));
            (code, masked(&out.replace("%2C", ",")), err)
        };
        for (by_tls, scheme) in [(true, "x509"), (false, "sasl")] {
            let ours = said_by(by_tls, true, false);
            assert!(ours.1.iter().any(|line| line.contains(scheme)), "{kind:?}: {ours:#?}");
            assert_eq!(said_by(by_tls, true, true).0, 0, "{kind:?}, {scheme}");
            let original = said_by(by_tls, false, false);
            assert_eq!(ours, original, "{kind:?}, {scheme}");
            assert_eq!(said_by(by_tls, true, true).0, 0, "{kind:?}, {scheme}");
        }
        // A server that is not who it must be gets nothing.
        let stranger = Authority::new(directory, "stranger");
        let other = format!(
            "zookeeper.client.secure=true\nzookeeper.ssl.trustStore.location={}\n",
            stranger.path("stranger").display()
        );
        let other = private_file(directory.join("other.properties"), &other);
        let mut command = Command::new(binary("zkcli"));
        command.args(["-server", &certain, "-client-configuration"]).arg(&other);
        let output = command.args(["ls", "/"]).output().expect("a run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("UnknownIssuer") && said.contains("ConnectionLoss"), "{said}");
    }
}

/// A program on a terminal of its own.
struct Terminal {
    child: std::process::Child,
    screen: File,
    seen: String,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let side = || pty.slave.try_clone().expect("a descriptor");
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm");
        let child = command.spawn().expect("a start");
        Self { child, screen: File::from(pty.master), seen: String::new() }
    }

    fn type_in(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).expect("typing");
    }

    /// Reads until `text` is on the screen, and forgets what was before it.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(Instant::now() < deadline, "waited for {text:?} in {:?}", self.seen);
            let mut ready = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(&self.screen),
                nix::poll::PollFlags::POLLIN,
            )];
            if nix::poll::poll(&mut ready, 100_u16).expect("poll") > 0 {
                let count = self.screen.read(&mut buffer).unwrap_or(0);
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_terminal_completes_keeps_history_and_prints_events_as_they_arrive() {
    let server = Server::started(Kind::Ours);
    let mut terminal = Terminal::start(zkcli(&server));
    terminal.expect("(CONNECTED) 0] ");
    terminal.type_in("creat\t/watched one\r");
    terminal.expect("Created /watched");
    terminal.expect("(CONNECTED) 1] ");
    terminal.type_in("get -w /watc\t\r");
    terminal.expect("\none");
    terminal.expect("(CONNECTED) 2] ");
    // Somebody else, while the terminal waits for a line.
    let set = zkcli(&server).args(["set", "/watched", "two"]).output().expect("a run");
    assert!(set.status.success());
    terminal.expect("WatchedEvent state:SyncConnected type:NodeDataChanged path:/watched");
    terminal.type_in("addauth digest ann:secret\r");
    terminal.expect("(CONNECTED) 3] ");
    terminal.type_in("history\r");
    terminal.expect("1 - get -w /watched");
    terminal.expect("(CONNECTED) 4] ");
    terminal.type_in("quit\r");
    let status = terminal.child.wait().expect("an end");
    assert!(status.success(), "{status}");
    let kept = std::fs::read_to_string(server.directory.path().join(".zkcli_history"))
        .expect("the history");
    assert!(kept.contains("create /watched one") && !kept.contains("secret"), "{kept}");
}
