//! Our ZooKeeper server with TLS and SASL, beside Apache's: clients that prove who they are, those that can't, and
//! ensembles whose members do.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::keys::Authority;
use end_to_end::programs::{binary, has_original_zookeeper, python, run};
use end_to_end::zookeeper::secured::{
    CLIENT_JAAS, JAAS, LOCALHOST, Secured, private_file, tls_lines,
};
use end_to_end::zookeeper::{Kind, ORIGINAL_CLASSES, Server};
use end_to_end::{Daemon, need, ports, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const NO_VENV: &str = "target/venv is missing (tests/python-clients.sh)";
const NO_ORIGINAL: &str = "Debian's zookeeper package is not installed";
/// Clients that show certificates.
fn certificates(kind: Kind) -> String {
    let server = Secured::start(kind, "");
    let issue = |name| server.authority.issue(name, &[]);
    let (alice, eve, root) = (issue("alice"), issue("eve"), issue("root"));
    let mut seen = server.tls(
        &alice,
        &[
            "whoami",
            "create,/alice,x509,CN=alice,O=Meso",
            "create,/auth,auth,",
            "acl,/auth",
            "create,/bad,x509,alice",
            "get,/alice",
        ],
    );
    seen += &server.tls(&eve, &["whoami", "get,/alice", "get,/auth"]);
    seen += &server.tls(&root, &["whoami", "get,/alice", "delete,/alice"]);
    seen += &server.plain(&["whoami", "get,/auth", "auth,x509,x"]);
    seen
}

#[test]
fn certificates_prove_who_clients_are_as_on_the_original() {
    need!(python().is_some(), "{NO_VENV}");
    let ours = certificates(Kind::Ours);
    insta::assert_snapshot!(ours);
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    assert_eq!(ours, certificates(Kind::Original), "the original's");
}

/// Clients that use SASL and other ways to prove who they are.
fn passwords(kind: Kind) -> String {
    let server = Secured::start(kind, "");
    let bob = ["--sasl", "bob", "bob's secret"];
    let with = |first: &[&str], steps: &[&str]| server.plain(&[first, steps].concat());
    let mut seen = with(
        &bob,
        &[
            "whoami",
            "create,/bob,sasl,bob",
            "create,/auth,auth,",
            "acl,/auth",
            "get,/bob",
            "create,/bad,sasl,a@b@c",
        ],
    );
    seen += &with(&["--sasl", "bob", "wrong"], &["whoami"]);
    seen += &with(&["--sasl", "nobody", "x"], &["whoami"]);
    seen += &with(&["--sasl", "super", "adminsecret"], &["whoami", "get,/bob"]);
    seen += &with(&["--sasl", "admin", "rules"], &["whoami", "get,/bob"]);
    seen += &with(&[], &["whoami", "get,/bob"]);
    seen += &with(
        &["--digest", "u:p"],
        &["whoami", "create,/u,auth,", "acl,/u", "create,/ip,ip,127.0.0.0/8", "get,/ip"],
    );
    seen += &with(&["--digest", "super:admin"], &["whoami", "get,/u", "create,/s,auth,", "acl,/s"]);
    seen += &with(&[], &["get,/u", "get,/ip", "create,/none,auth,", "auth,nonsense,x"]);
    seen
}

#[test]
fn passwords_prove_who_clients_are_as_on_the_original() {
    need!(python().is_some(), "{NO_VENV}");
    let ours = passwords(Kind::Ours);
    insta::assert_snapshot!(ours);
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    assert_eq!(ours, passwords(Kind::Original), "the original's");
}

/// Clients of a server that serves only some.
fn enforced(kind: Kind) -> String {
    let lines = "enforce.auth.enabled=true\nenforce.auth.schemes=sasl,x509\n";
    let server = Secured::start(kind, lines);
    let mut seen = server.plain(&["whoami"]);
    seen += &server.plain(&["--digest", "u:p", "whoami"]);
    seen += &server.plain(&["--sasl", "bob", "bob's secret", "whoami"]);
    seen += &server.plain(&["--sasl", "bob", "wrong", "whoami"]);
    seen + &server.tls(&server.authority.issue("alice", &[]), &["whoami"])
}

#[test]
fn clients_that_prove_nothing_are_refused_where_they_must() {
    need!(python().is_some(), "{NO_VENV}");
    let ours = enforced(Kind::Ours);
    insta::assert_snapshot!(ours);
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    assert_eq!(ours, enforced(Kind::Original), "the original's");
}

/// Serves a file at any path below `/lists/`, until the test's end.
fn serve(file: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = String::new();
            // One who only looks whether the port is open says nothing.
            let _ = BufReader::new(&stream).read_line(&mut request);
            let is_there =
                request.split(' ').nth(1).is_some_and(|path| path.starts_with("/lists/"));
            let status = if is_there { "200 OK" } else { "404 Not Found" };
            let body: &[u8] = if is_there { &file } else { b"" };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/pkix-crl\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    port
}

/// Clients whose certificates may have been taken back.
fn revoked(kind: Kind) -> String {
    let server = Secured::start(kind, "ssl.crl=true\n");
    let port = serve(server.authority.revoke(&[66]));
    let place = |name: &str| format!("http://127.0.0.1:{port}/{name}");
    let mut seen = String::new();
    // Java remembers for a while what it has not found: each has a place of its own.
    for (name, serial, places, within) in [
        ("alice", 5, vec![place("lists/alice")], "20"),
        ("mallory", 66, vec![place("lists/mallory")], "2"),
        ("nowhere", 6, vec![], "2"),
        ("lost", 7, vec![place("lost")], "2"),
        ("again", 5, vec![place("lists/alice")], "20"),
    ] {
        let certificate = server.authority.issue_listed(name, serial, &places);
        let answer = server.tls_within(within, &certificate, &["whoami"]);
        write!(seen, "{name}: {answer}").expect("text");
    }
    seen
}

#[test]
fn certificates_that_were_taken_back_prove_nothing_as_on_the_original() {
    need!(python().is_some(), "{NO_VENV}");
    let ours = revoked(Kind::Ours);
    insta::assert_snapshot!(ours);
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    assert_eq!(ours, revoked(Kind::Original), "the original's");
}

#[test]
fn who_does_not_belong_on_the_tls_port_is_refused_and_others_are_served() {
    need!(python().is_some(), "{NO_VENV}");
    let server = Secured::start(Kind::Ours, "");
    let good = server.authority.issue("good", &[]);
    let directory = server.server.directory.path();
    let mut holder = Server::client("zookeeper_security.py");
    holder.arg(format!("localhost:{}", server.secure_port)).arg("--tls");
    holder.arg(server.authority.path("authority")).arg(&good);
    let mut held = Command::new("sh")
        .args(["-c", "exec \"$@\"", "sh"])
        .arg(holder.get_program())
        .args(holder.get_args())
        .args(["create,/held,world,anyone", "get,/held"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client");
    let expired = server.authority.issue_expired("expired", &[]);
    let stranger = Authority::new(directory, "stranger").issue("foreign", &[]);
    for (certificate, reason) in [
        (expired.as_path(), "expired"),
        (stranger.as_path(), "UnknownIssuer"),
        (Path::new("-"), "it shows no certificate"),
    ] {
        let seen = server.tls_within("2", certificate, &["whoami"]);
        assert!(seen.starts_with("start: "), "{seen}");
        let log = server.log();
        let is_told = log.lines().any(|line| line.contains("is refused") && line.contains(reason));
        assert!(is_told, "{reason}: {log}");
    }
    // Plain words on the TLS port, and TLS on the plain one.
    let answer = four_letter_word(server.secure_port, "srvr").unwrap_or_default();
    assert!(!answer.contains("version"), "{answer}");
    wait::until("the reason", LIMIT, || {
        let log = server.log();
        if log.contains("it speaks no TLS") { Ok(()) } else { Err(log) }
    });
    let mut stream = TcpStream::connect(("127.0.0.1", server.server.port)).expect("a connection");
    stream.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).expect("a hello");
    let mut answer = Vec::new();
    // The connection may be reset: what was sent is not all read.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
    wait::until("the reason", LIMIT, || {
        let log = server.log();
        if log.contains("speaks TLS on a port that does not") { Ok(()) } else { Err(log) }
    });
    assert!(held.wait().expect("the client's end").success());
    let mut text = String::new();
    held.stdout.take().expect("output").read_to_string(&mut text).expect("text");
    assert!(text.contains("get,/held: x"), "{text}");
    for secret in ["adminsecret", "bob's secret", "PRIVATE KEY"] {
        assert!(!server.log().contains(secret), "{secret} is in the log");
    }
}

#[test]
fn one_port_takes_both_where_it_is_asked_to() {
    need!(python().is_some(), "{NO_VENV}");
    let mut server =
        Secured::start(Kind::Ours, "client.portUnification=true\nssl.clientAuth=want\n");
    assert_eq!(server.plain(&["whoami"]), "whoami: ip:127.0.0.1\n");
    server.secure_port = server.server.port;
    let alice = server.authority.issue("alice", &[]);
    assert_eq!(server.tls(&alice, &["whoami"]), "whoami: ip:127.0.0.1 x509:CN=alice,O=Meso\n");
    assert_eq!(server.tls(Path::new("-"), &["whoami"]), "whoami: ip:127.0.0.1\n");
    assert!(four_letter_word(server.server.port, "ruok").is_ok());
}

/// The program of `zkCli.sh` with these flags for its JVM, and what it prints.
fn console(port: u16, flags: &[String], commands: &str) -> String {
    let mut client = Command::new("java")
        .args(["-cp", ORIGINAL_CLASSES])
        .args(flags)
        .args(["org.apache.zookeeper.ZooKeeperMain", "-waitforconnection", "-server"])
        .arg(format!("localhost:{port}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java");
    let mut input = client.stdin.take().expect("its input");
    input.write_all(commands.as_bytes()).expect("commands");
    drop(input);
    let output = client.wait_with_output().expect("its end");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_originals_console_connects_by_tls_and_by_sasl() {
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let server = Secured::start(Kind::Ours, "");
    let alice = server.authority.issue("alice", &[]);
    let flags = [
        "-Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty".to_owned(),
        "-Dzookeeper.client.secure=true".to_owned(),
        format!("-Dzookeeper.ssl.keyStore.location={}", alice.display()),
        format!(
            "-Dzookeeper.ssl.trustStore.location={}",
            server.authority.path("authority").display()
        ),
    ];
    let seen = console(server.secure_port, &flags, "whoami\nquit\n");
    assert!(seen.contains("x509: CN=alice,O=Meso"), "{seen}");
    let jaas = private_file(server.server.directory.path().join("client.conf"), CLIENT_JAAS);
    let flags = [format!("-Djava.security.auth.login.config={}", jaas.display())];
    let seen =
        console(server.server.port, &flags, "whoami\ncreate /c x sasl:bob:r\nget /c\nquit\n");
    assert!(seen.contains("sasl: bob") && seen.contains("Created /c"), "{seen}");
}

#[test]
fn a_master_with_credentials_keeps_its_znodes_to_itself() {
    need!(python().is_some(), "{NO_VENV}");
    let server = Secured::start(Kind::Ours, "");
    let [port] = ports::free();
    let directory = server.server.directory.path();
    let secret = private_file(
        directory.join("zk"),
        &format!("zk://mesos:hidden@127.0.0.1:{}/mesos", server.server.port),
    );
    let mut command = Command::new(binary("mesos-master"));
    command.arg(format!("--zk=file://{}", secret.display())).arg("--quorum=1");
    command.arg(format!("--port={port}")).arg("--ip=127.0.0.1");
    command.arg(format!("--work_dir={}", directory.join("master").display()));
    let _master = Daemon::start("master", directory, &mut command);
    let owner = |steps: &[&str]| server.plain(&[&["--digest", "mesos:hidden"], steps].concat());
    let acl = wait::until("the master's znode", LIMIT, || {
        let acl = owner(&["acl,/mesos"]);
        if acl.contains("digest:mesos:") { Ok(acl) } else { Err(acl) }
    });
    assert!(
        acl.contains("acl,/mesos: 31:digest:mesos:") && acl.contains(" 1:world:anyone"),
        "{acl}"
    );
    let seen = server.plain(&["create,/mesos/x,world,anyone"]);
    assert_eq!(seen, "create,/mesos/x,world,anyone: NoAuthError\n");
    assert!(!server.log().contains("hidden"), "{}", server.log());
}

/// Three servers that speak as `lines` say, each with a certificate of its own.
struct Ensemble {
    directory: TempDir,
    authority: Authority,
    clients: [u16; 3],
    servers: [Option<Daemon>; 3],
}

impl Ensemble {
    fn start(kinds: [Kind; 3], lines: impl Fn(&Authority, usize) -> String) -> Self {
        let ports = ports::free::<9>();
        let directory = TempDir::new().expect("a temporary directory");
        let authority = Authority::new(directory.path(), "authority");
        let _ = private_file(directory.path().join("jaas.conf"), JAAS);
        let mut members = String::new();
        for index in 0..3 {
            let (quorum, election) = (ports[3 + index], ports[6 + index]);
            writeln!(members, "server.{}=127.0.0.1:{quorum}:{election}", index + 1).expect("text");
        }
        let clients = [ports[0], ports[1], ports[2]];
        for (index, port) in clients.iter().enumerate() {
            let data = directory.path().join(format!("data{index}"));
            std::fs::create_dir(&data).expect("a data directory");
            std::fs::write(data.join("myid"), (index + 1).to_string()).expect("myid");
            let config = format!(
                "tickTime=500\ninitLimit=20\nsyncLimit=6\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\n{members}{}",
                data.display(),
                lines(&authority, index)
            );
            std::fs::write(directory.path().join(format!("{index}.cfg")), config).expect("zoo.cfg");
        }
        let mut ensemble = Self { directory, authority, clients, servers: [None, None, None] };
        for (index, kind) in kinds.into_iter().enumerate() {
            ensemble.start_server(index, kind);
        }
        ensemble
    }

    fn start_server(&mut self, index: usize, kind: Kind) {
        let flag = format!(
            "-Djava.security.auth.login.config={}",
            self.directory.path().join("jaas.conf").display()
        );
        let mut command = kind.command(&[&flag]);
        command.arg(self.directory.path().join(format!("{index}.cfg")));
        let name = format!("server{index}");
        self.servers[index] = Some(Daemon::start(&name, self.directory.path(), &mut command));
    }

    fn mode(&self, index: usize) -> Result<String, String> {
        let text = four_letter_word(self.clients[index], "srvr")?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(str::to_owned).ok_or(text)
    }

    fn wait_for(&self, expected: &[&str]) {
        wait::until("the servers to find each other", LIMIT, || {
            let mut modes: Vec<String> =
                (0..3).map(|index| self.mode(index).unwrap_or_else(|_| "none".into())).collect();
            modes.sort();
            if modes == expected { Ok(()) } else { Err(modes.join(" ")) }
        });
    }

    /// What one server is told all have.
    fn agree(&self) {
        let client = |index: usize, steps: &[&str]| {
            let mut command = Server::client("zookeeper_security.py");
            command.arg(format!("127.0.0.1:{}", self.clients[index])).args(steps);
            run(&mut command).unwrap_or_else(|error| panic!("{error}"))
        };
        for index in 0..3 {
            let path = format!("/of{index}");
            let made = client(index, &[&format!("create,{path},world,anyone")]);
            assert!(made.ends_with(&format!(": {path}\n")), "{made}");
        }
        for index in 0..3 {
            wait::until("the others' znodes", LIMIT, || {
                let seen = client(index, &["get,/of0", "get,/of1", "get,/of2"]);
                if seen.matches(": x\n").count() == 3 { Ok(()) } else { Err(seen) }
            });
        }
    }

    /// Whoever leads is killed, and the two others go on; then it is started again.
    fn survive(&mut self, kinds: [Kind; 3]) {
        let leader = (0..3).find(|index| self.mode(*index).as_deref() == Ok("leader"));
        let leader = leader.expect("a leader");
        self.servers[leader].take().expect("a running leader").kill();
        self.wait_for(&["follower", "leader", "none"]);
        self.start_server(leader, kinds[leader]);
        self.wait_for(&["follower", "follower", "leader"]);
    }
}

fn quorum_tls(authority: &Authority, index: usize) -> String {
    let key_store = authority.issue(&format!("server{index}"), LOCALHOST);
    "sslQuorum=true\n".to_owned()
        + &tls_lines("ssl.quorum.", &key_store, &authority.path("authority"))
}

const QUORUM_SASL: &str = "quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\nquorum.auth.serverRequireSasl=true\n";

#[test]
fn members_speak_tls_with_each_other_and_with_apaches() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let kinds = [Kind::Ours, Kind::Original, Kind::Ours];
    let mut ensemble = Ensemble::start(kinds, quorum_tls);
    ensemble.wait_for(&["follower", "follower", "leader"]);
    ensemble.agree();
    ensemble.survive(kinds);
    ensemble.survive(kinds);
}

#[test]
fn members_use_sasl_with_each_other_and_with_apaches() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let kinds = [Kind::Ours, Kind::Original, Kind::Ours];
    let mut ensemble = Ensemble::start(kinds, |_, _| QUORUM_SASL.to_owned());
    ensemble.wait_for(&["follower", "follower", "leader"]);
    ensemble.agree();
    ensemble.survive(kinds);
    ensemble.survive(kinds);
}

#[test]
fn one_who_is_no_member_is_kept_out_and_the_others_go_on() {
    need!(python().is_some(), "{NO_VENV}");
    let stranger = |authority: &Authority, index: usize| {
        if index < 2 {
            return quorum_tls(authority, index) + QUORUM_SASL;
        }
        let directory = authority.path("x").parent().expect("a directory").to_owned();
        let key_store = Authority::new(&directory, "stranger").issue("server2", LOCALHOST);
        "sslQuorum=true\n".to_owned()
            + &tls_lines("ssl.quorum.", &key_store, &authority.path("authority"))
            + QUORUM_SASL
    };
    let mut ensemble = Ensemble::start([Kind::Ours; 3], stranger);
    ensemble.wait_for(&["follower", "leader", "none"]);
    let log = ensemble.servers[0].as_ref().map(Daemon::output).unwrap_or_default();
    assert!(log.contains("UnknownIssuer"), "{log}");
    // With a certificate it is known, but not with another password.
    ensemble.servers[2].take().expect("a running server").kill();
    ensemble.authority.issue("server2", LOCALHOST);
    let jaas = ensemble.directory.path().join("jaas.conf");
    let _ =
        private_file(jaas.clone(), &JAAS.replace("password=\"member's secret\"", "password=\"x\""));
    ensemble.start_server(2, Kind::Ours);
    wait::until("the reason", LIMIT, || {
        let log = ensemble.servers[0].as_ref().map(Daemon::output).unwrap_or_default();
        if log.contains("the password of \"member\" is wrong") { Ok(()) } else { Err(log) }
    });
    ensemble.wait_for(&["follower", "leader", "none"]);
    // As it should be, it is let in.
    ensemble.servers[2].take().expect("a running server").kill();
    let _ = private_file(jaas, JAAS);
    ensemble.start_server(2, Kind::Ours);
    ensemble.wait_for(&["follower", "follower", "leader"]);
}

/// What an administrator is answered under TLS and without.
fn administrator(kind: Kind, lines: &str) -> String {
    let [port] = ports::free();
    let mut server = Server::new(&format!(
        "admin.enableServer=true\nadmin.serverPort={port}\nadmin.serverAddress=127.0.0.1\n{lines}\n"
    ));
    let authority = Authority::new(server.directory.path(), "authority");
    let key_store = authority.issue("server", LOCALHOST);
    let mut text = std::fs::read_to_string(server.config()).expect("zoo.cfg");
    text.push_str(&tls_lines("ssl.quorum.", &key_store, &authority.path("authority")));
    text = text.replace("admin.enableServer=false\n", "");
    std::fs::write(server.config(), text).expect("zoo.cfg");
    server.start(kind);
    let mut client = Server::client("zookeeper_admin.py");
    client.arg(port.to_string()).arg(authority.path("authority"));
    run(&mut client).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn administrators_speak_tls_where_the_originals_do() {
    need!(python().is_some(), "target/venv has no kazoo; make test makes it");
    need!(has_original_zookeeper(), "Debian's zookeeper package is not installed");
    let (secure, plain) = ("https 200 None max-age=86400; includeSubDomains", "http 200 None None");
    for (lines, answers) in [
        ("admin.portUnification=true", [secure, plain]),
        ("admin.forceHttps=true", [secure, "http refused"]),
    ] {
        for kind in [Kind::Original, Kind::Ours] {
            let said = administrator(kind, lines);
            assert_eq!(said.lines().collect::<Vec<_>>(), answers, "{kind:?} {lines}");
        }
    }
}
