//! Operating our ZooKeeper server beside Apache's: words, administrator's commands and metrics side by side, limits, the
//! environment, and what is refused.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::four_letter_word;
use end_to_end::programs::{binary, has_original_zookeeper, python, root};
use end_to_end::{Daemon, http, need, ports, wait};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const NO_VENV: &str = "target/venv is missing (tests/python-clients.sh)";
const NO_ORIGINAL: &str = "Debian's zookeeper package is not installed";

/// Commands whose answers have the same shape on both.
const COMMANDS: [&str; 23] = [
    "configuration",
    "connections",
    "dirs",
    "dump",
    "get_trace_mask",
    "hash",
    "is_read_only",
    "last_snapshot",
    "leader",
    "ruok",
    "server_stats",
    "stats",
    "set_trace_mask?traceMask=306",
    "set_trace_mask?traceMask=x",
    "set_trace_mask",
    "voting_view",
    "watches",
    "watches_by_path",
    "watch_summary",
    "zabstate",
    "connection_stat_reset",
    "observer_connection_stat_reset",
    "nosuch",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    Original,
}

fn program(kind: Kind) -> Command {
    match kind {
        Kind::Ours => Command::new(binary("zookeeper-server")),
        Kind::Original => {
            let mut java = Command::new("java");
            // The package's manifest leaves out what Jetty needs.
            let jars = ["zookeeper.jar", "servlet-api.jar", "jetty9-util-ajax.jar"];
            let jars = jars.map(|jar| format!("/usr/share/java/{jar}")).join(":");
            java.args(["-Xmx200m", "-cp", &format!("/etc/zookeeper/conf:{jars}")]);
            java.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
            java
        }
    }
}

/// A server with ports for clients, administrators and metrics.
struct Server {
    client: u16,
    admin: u16,
    metrics: u16,
    directory: TempDir,
    daemon: Option<Daemon>,
}

impl Server {
    fn new(further: &str) -> Self {
        let [client, admin, metrics] = ports::free();
        let directory = TempDir::new().expect("a temporary directory");
        let text = format!(
            "tickTime=500\ndataDir={}\nclientPort={client}\nclientPortAddress=127.0.0.1\nadmin.serverPort={admin}\nadmin.serverAddress=127.0.0.1\n4lw.commands.whitelist=*\n{further}",
            directory.path().join("data").display()
        );
        let server = Self { client, admin, metrics, directory, daemon: None };
        std::fs::create_dir(server.data()).expect("a data directory");
        std::fs::write(server.config(), text).expect("zoo.cfg");
        server
    }

    fn started(kind: Kind, further: &str) -> Self {
        let mut server = Self::new(further);
        server.start(program(kind));
        server.wait();
        server
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("zoo.cfg")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn start(&mut self, mut command: Command) {
        command.arg(self.config());
        self.daemon = Some(Daemon::start("zookeeper", self.directory.path(), &mut command));
    }

    fn wait(&self) {
        wait::until("the ZooKeeper server to serve", LIMIT, || {
            let text = four_letter_word(self.client, "srvr")?;
            if text.contains("Mode: ") { Ok(()) } else { Err(text) }
        });
    }

    fn word(&self, word: &str) -> String {
        four_letter_word(self.client, word).unwrap_or_else(|error| panic!("{word}: {error}"))
    }

    fn command(&self, command: &str) -> String {
        let url = format!("http://127.0.0.1:{}/commands/{command}", self.admin);
        http::get(&url).unwrap_or_else(|error| panic!("{command}: {error}")).body
    }

    /// A client with a session, znodes and watches.
    fn held(&self, name: &str) -> Daemon {
        let mut command = Command::new(python().expect("checked before"));
        command.arg(root().join("tests/clients/zookeeper_hold.py"));
        command.arg(self.client.to_string()).arg(name);
        let client = Daemon::start(name, self.directory.path(), &mut command);
        wait::until("a client with a session", LIMIT, || match client.output() {
            text if text.contains("ready") => Ok(()),
            text => Err(text),
        });
        client
    }
}

/// The lines of a word's answer, without order, numbers taken out; of the version and of dates only that they are there.
fn lines(server: &Server, word: &str) -> BTreeSet<String> {
    let text = four_letter_word(server.client, word).unwrap_or_default();
    let text = text.replace(server.directory.path().to_str().expect("a path"), "");
    let masked = text.lines().map(|line| match line {
        line if line.starts_with("Zookeeper version") => "version".to_owned(),
        line if line.contains(" expire at ") => "expire at".to_owned(),
        line => line.replace(|c: char| c.is_ascii_digit() || "abcdef.".contains(c), ""),
    });
    masked.collect()
}

/// The shape of JSON: keys and types. Of a list, and of a map whose keys are data, that of the first entry.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(all) => format!("[{}]", all.first().map(shape).unwrap_or_default()),
        Value::Object(map) => {
            let is_data = |key: &String| key.starts_with('/') || key.parse::<i64>().is_ok();
            let mut entries: Vec<String> = map
                .iter()
                .map(|(key, value)| {
                    let key = if is_data(key) { "*" } else { key };
                    format!("{key}: {}", shape(value))
                })
                .collect();
            entries.sort();
            entries.dedup();
            // The original's queues keep times at which nothing ends any more.
            if entries.iter().any(|entry| entry.starts_with("*: [") && entry != "*: []") {
                entries.retain(|entry| entry != "*: []");
            }
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The keys of `mntr`, those with a client's znode or a server's id in them left out.
fn keys(server: &Server) -> BTreeSet<String> {
    let text = server.word("mntr");
    let keys = text.lines().filter_map(|line| line.split('\t').next());
    let is_plain = |key: &&str| {
        !["per_namespace", "learner_handler_qp", "ack_latency"]
            .iter()
            .any(|set| key.contains(set) && *key != "zk_quorum_ack_latency")
            || key.contains("quorum_ack_latency")
    };
    keys.filter(is_plain).map(str::to_owned).collect()
}

/// Keys that only one of both has, with what is known of them.
fn compare_keys(ours: &Server, original: &Server) {
    let (own, theirs) = (keys(ours), keys(original));
    let more: Vec<_> = own.difference(&theirs).map(String::as_str).collect();
    let less: Vec<_> = theirs.difference(&own).map(String::as_str).collect();
    // Apache's keeps what a client doesn't read in memory without a limit.
    assert_eq!(more, ["zk_slow_clients_evicted"]);
    assert_eq!(less, Vec::<&str>::new());
}

/// What is known to the byte: the tree's size, and what was written below each name.
fn compare_sizes(ours: &Server, original: &Server) {
    let sizes = |server: &Server| -> Vec<String> {
        let text = server.word("mntr");
        let lines = text.lines().filter(|line| {
            line.contains("zk_approximate_data_size")
                || line.contains("_write_per_namespace") && !line.contains("_zookeeper_")
        });
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // A change is applied later by those who were told of it later.
    wait::until("the same sizes", LIMIT, || {
        let (own, theirs) = (sizes(ours), sizes(original));
        if own == theirs { Ok(()) } else { Err(format!("{own:#?}\n{theirs:#?}")) }
    });
}

fn compare_commands(ours: &Server, original: &Server) {
    for command in COMMANDS {
        let [own, theirs] = [ours, original].map(|server| server.command(command));
        assert_eq!(shape(&parsed(&own)), shape(&parsed(&theirs)), "{command}\n{own}\n{theirs}");
    }
}

#[test]
fn a_server_alone_tells_what_apaches_tells() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let (ours, original) = (Server::started(Kind::Ours, ""), Server::started(Kind::Original, ""));
    let _clients = [&ours, &original].map(|server| server.held("a"));
    for word in ["stat", "cons", "dump", "wchs", "wchc", "wchp", "dirs", "conf", "hash", "gtmk"] {
        assert_eq!(lines(&ours, word), lines(&original, word), "{word}");
    }
    let set_mask = |server: &Server| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.client)).expect("a connection");
        stream.write_all(b"stmk\0\0\0\0\0\0\0\x07").expect("a mask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        (answer, server.word("gtmk"))
    };
    assert_eq!(set_mask(&ours), set_mask(&original));
    compare_keys(&ours, &original);
    compare_commands(&ours, &original);
    // The same text, but for the values.
    let layout =
        |server: &Server| server.command("configuration").replace(|c: char| c.is_ascii_digit(), "");
    let [own, theirs] = [&ours, &original].map(|server| {
        layout(server).replace(server.directory.path().to_str().expect("a path"), "")
    });
    let strip = |text: String| {
        text.lines().filter(|line| !line.contains("_dir\"")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(strip(own), strip(theirs));
    let links = |server: &Server| server.command("");
    assert_eq!(links(&ours), links(&original));
    let configuration = parsed(&ours.command("icfg"));
    let text = configuration["initial_configuration"].as_str().expect("a text");
    assert_eq!(text, std::fs::read_to_string(ours.config()).expect("zoo.cfg"));
    // Monitor says in JSON what `mntr` says.
    let monitor = parsed(&ours.command("monitor"));
    for key in keys(&ours) {
        assert!(monitor.get(key.trim_start_matches("zk_")).is_some(), "{key}");
    }
}

/// Two voters and an observer.
struct Ensemble {
    servers: [Server; 3],
}

impl Ensemble {
    fn start(kind: Kind) -> Self {
        let ports = ports::free::<6>();
        let mut lines = "initLimit=20\nsyncLimit=10\n".to_owned();
        for index in 0..3 {
            let role = if index == 2 { ":observer" } else { "" };
            let (quorum, election) = (ports[index], ports[3 + index]);
            let _ = writeln!(lines, "server.{}=127.0.0.1:{quorum}:{election}{role}", index + 1);
        }
        let mut servers = ["", "", "peerType=observer\n"]
            .map(|further| Server::new(&format!("{lines}{further}")));
        for (index, server) in servers.iter_mut().enumerate() {
            std::fs::write(server.data().join("myid"), (index + 1).to_string()).expect("myid");
            server.start(program(kind));
        }
        for server in &servers {
            server.wait();
        }
        Self { servers }
    }

    fn in_mode(&self, mode: &str) -> &Server {
        let found =
            self.servers.iter().find(|one| one.word("srvr").contains(&format!("Mode: {mode}")));
        found.unwrap_or_else(|| panic!("no {mode}"))
    }
}

#[test]
fn leaders_followers_and_observers_tell_what_apaches_tell() {
    need!(python().is_some(), "{NO_VENV}");
    need!(has_original_zookeeper(), "{NO_ORIGINAL}");
    let (ours, original) = (Ensemble::start(Kind::Ours), Ensemble::start(Kind::Original));
    let mut clients = Vec::new();
    for mode in ["leader", "follower", "observer"] {
        let pair = [&ours, &original].map(|ensemble| ensemble.in_mode(mode));
        clients.extend(pair.map(|server| server.held(mode)));
        let [own, theirs] = pair;
        compare_keys(own, theirs);
        compare_commands(own, theirs);
        for word in ["conf", "srvr", "dump", "isro"] {
            assert_eq!(lines(own, word), lines(theirs, word), "{mode}: {word}");
        }
    }
    for (mode, measured) in [
        ("leader", &["quorum_ack_latency", "propagation_latency"][..]),
        (
            "follower",
            &[
                "proposal_latency",
                "proposal_ack_creation_latency",
                "commit_propagation_latency",
                "propagation_latency",
            ],
        ),
        ("observer", &["commit_propagation_latency", "propagation_latency"]),
    ] {
        compare_sizes(ours.in_mode(mode), original.in_mode(mode));
        for name in measured {
            for ensemble in [&ours, &original] {
                let counted = metric(ensemble.in_mode(mode), &format!("cnt_{name}"));
                assert!(counted > 0, "{mode}: {name}");
            }
        }
    }
    let told = "learner_proposal_received_count";
    assert_eq!(metric(ours.in_mode("observer"), told), metric(original.in_mode("observer"), told));
    let leader = ours.in_mode("leader").word("mntr");
    for line in [
        "zk_peer_state\tleading - broadcast",
        "zk_synced_followers\t1",
        "zk_synced_observers\t1",
        "zk_learners\t2",
        "zk_quorum_size\t2",
    ] {
        assert!(leader.contains(line), "{line}\n{leader}");
    }
}

#[test]
fn prometheus_is_shown_the_originals_names_and_real_values() {
    need!(python().is_some(), "{NO_VENV}");
    let mut server = Server::new("");
    let class = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
    let text = std::fs::read_to_string(server.config()).expect("zoo.cfg");
    let further = format!(
        "metricsProvider.className={class}\nmetricsProvider.httpHost=127.0.0.1\nmetricsProvider.httpPort={}\n",
        server.metrics
    );
    std::fs::write(server.config(), text + &further).expect("zoo.cfg");
    server.start(program(Kind::Ours));
    server.wait();
    drop(server.held("gone"));
    let _client = server.held("a");
    let reply =
        http::get(&format!("http://127.0.0.1:{}/metrics", server.metrics)).expect("metrics");
    assert_eq!(reply.status, 200);
    let value = |name: &str| -> f64 {
        let line = reply.body.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}\n{}", reply.body)).parse().expect("a number")
    };
    for (name, least) in [
        ("znode_count", 7.0),
        ("watch_count", 3.0),
        ("ephemerals_count", 1.0),
        ("global_sessions", 1.0),
        ("num_alive_connections", 1.0),
        ("connection_request_count", 1.0),
        ("bytes_received_count", 100.0),
        ("response_bytes", 100.0),
        ("readlatency_count", 3.0),
        ("updatelatency_count", 4.0),
        ("fsynctime_count", 1.0),
        ("sync_processor_batch_size_sum", 4.0),
        ("snapshottime_count", 1.0),
        ("dbinittime_count", 1.0),
        ("startup_snap_load_time_count", 1.0),
        ("propagation_latency_count", 4.0),
        ("connection_drop_count", 1.0),
        ("read_per_namespace_count{key=\"a\",}", 2.0),
        ("write_per_namespace_count{key=\"a\",}", 3.0),
        ("process_resident_memory_bytes", 1e6),
    ] {
        assert!(value(name) >= least, "{name}: {}", value(name));
    }
    // What `mntr` has is here too, without its prefix, and of the kind that it says.
    let types: BTreeSet<&str> =
        reply.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for kind in [
        "znode_count gauge",
        "proposal_count counter",
        "readlatency summary",
        "ack_latency summary",
    ] {
        assert!(types.contains(kind), "{kind}: {types:?}");
    }
    let other = http::get(&format!("http://127.0.0.1:{}/", server.metrics)).expect("a reply");
    assert_eq!(other.status, 404);
}

/// A connect request for a new session, with its length in front.
fn connect() -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 44, 0, 0, 0, 0];
    frame.extend_from_slice(&0i64.to_be_bytes());
    frame.extend_from_slice(&10_000i32.to_be_bytes());
    frame.extend_from_slice(&0i64.to_be_bytes());
    frame.extend_from_slice(&16i32.to_be_bytes());
    frame.extend_from_slice(&[0; 16]);
    frame
}

/// A session of its own; `None` if the server closes the connection.
fn session(port: u16) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // An error means that it is closed already.
    let _ = stream.write_all(&connect());
    reply(&mut stream).map(|_| stream)
}

/// The body of the next reply; `None` if the server closes the connection.
fn reply(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

/// `getData` of `/`, or of a path as long as it is wanted.
fn get(stream: &mut TcpStream, path: &str) {
    let mut body = [1i32.to_be_bytes(), 4i32.to_be_bytes()].concat();
    body.extend_from_slice(&u32::try_from(path.len()).expect("a length").to_be_bytes());
    body.extend_from_slice(path.as_bytes());
    body.push(0);
    let mut frame = u32::try_from(body.len()).expect("a length").to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    // An error means that it is closed already.
    let _ = stream.write_all(&frame);
}

/// A metric of `mntr`.
fn metric(server: &Server, name: &str) -> i64 {
    let text = server.word("mntr");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("zk_{name}\t")));
    value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[test]
fn connections_sessions_and_requests_have_limits_and_are_counted() {
    let few = Server::started(Kind::Ours, "maxClientCnxns=3\n");
    let held: Vec<_> = (0..2).map(|_| session(few.client).expect("a session")).collect();
    let third = session(few.client).expect("a session");
    assert!(session(few.client).is_none(), "a fourth of one address");
    drop(third);
    wait::until("room for another", LIMIT, || {
        session(few.client).map(|_| ()).ok_or_else(|| "closed".to_owned())
    });
    wait::until("room for the word", LIMIT, || four_letter_word(few.client, "ruok").map(|_| ()));
    assert!(metric(&few, "connection_rejected") >= 1);
    drop(held);

    let tokens = "connection_throttle_tokens=2\nconnection_throttle_fill_time=3600000\n";
    let tokens = Server::started(Kind::Ours, tokens);
    let held = [session(tokens.client), session(tokens.client)];
    assert!(held.iter().all(Option::is_some), "a bucket of two");
    assert!(session(tokens.client).is_none(), "and no third");
    assert_eq!(metric(&tokens, "connection_rejected"), 1);
    assert_eq!(metric(&tokens, "max_connection_token_deficit"), 2);
    assert_eq!(metric(&tokens, "global_sessions"), 2);

    let large = "largeRequestThreshold=1000\nlargeRequestMaxBytes=2000\njute.maxbuffer=5000\n";
    let large = Server::started(Kind::Ours, large);
    let mut bystander = session(large.client).expect("a session");
    let mut stream = session(large.client).expect("a session");
    get(&mut stream, &format!("/{}", "a".repeat(1500)));
    assert!(reply(&mut stream).is_some(), "large, but not too large");
    get(&mut stream, &format!("/{}", "a".repeat(2500)));
    assert!(reply(&mut stream).is_none(), "more than may be under way");
    assert_eq!(metric(&large, "large_requests_rejected"), 1);
    let mut stream = session(large.client).expect("a session");
    get(&mut stream, &format!("/{}", "a".repeat(6000)));
    assert!(reply(&mut stream).is_none(), "longer than jute.maxbuffer");
    get(&mut bystander, "/");
    assert!(reply(&mut bystander).is_some(), "others are served as before");

    let one = "globalOutstandingLimit=1\nrequest_throttle_max_requests=1\n";
    let one = Server::started(Kind::Ours, one);
    let mut streams: Vec<_> = (0..4).map(|_| session(one.client).expect("a session")).collect();
    for stream in &mut streams {
        for _ in 0..50 {
            get(stream, "/");
        }
    }
    for stream in &mut streams {
        for _ in 0..50 {
            assert!(reply(stream).is_some(), "every request is answered, one after the other");
        }
    }
    assert!(metric(&one, "request_throttle_wait_count") > 0);
}

#[test]
fn a_client_that_says_nothing_is_cut_off_and_counted() {
    let server = Server::started(Kind::Ours, "nio.sessionlessCnxnTimeout=200\n");
    let mut stream = TcpStream::connect(("127.0.0.1", server.client)).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    assert!(reply(&mut stream).is_none());
    wait::until("its count", LIMIT, || match metric(&server, "sessionless_connections_expired") {
        0 => Err("0".to_owned()),
        _ => Ok(()),
    });
}

/// What a start on these lines, with this `myid`, says before it ends.
fn refusal(id: Option<&str>, further: &str) -> String {
    let server = Server::new(further);
    if let Some(id) = id {
        std::fs::write(server.data().join("myid"), id).expect("myid");
    }
    let output = program(Kind::Ours).arg(server.config()).output().expect("a run");
    assert!(!output.status.success(), "{further}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.replace(server.directory.path().to_str().expect("a path"), "DIR")
}

#[test]
fn ensembles_that_can_not_be_are_refused_with_the_place_and_the_reason() {
    let limits = "initLimit=5\nsyncLimit=2\n";
    for (id, lines, reason) in [
        (
            Some("1"),
            "server.0=h:1:2\nserver.1=h:3:4\n",
            "DIR/zoo.cfg:10: server.0: ids go from 1 to 255\n",
        ),
        (
            Some("1"),
            "server.256=h:1:2\nserver.1=h:3:4\n",
            "DIR/zoo.cfg:10: server.256: ids go from 1 to 255\n",
        ),
        (
            Some("1"),
            "server.1=h:1:2\nserver.2=h:3:4\nserver.1=i:1:2\n",
            "DIR/zoo.cfg:12: server.1: it is on line 10 already; keep one of them",
        ),
        (Some("3"), "server.1=h:1:2\nserver.2=h:3:4\n", "has no server.3 line"),
        (
            Some("x"),
            "server.1=h:1:2\nserver.2=h:3:4\n",
            "DIR/data/myid: serverid x is not a number",
        ),
        (None, "server.1=h:1:2\nserver.2=h:3:4\n", "echo 1 > DIR/data/myid"),
    ] {
        let error = refusal(id, &format!("{limits}{lines}"));
        assert!(error.contains(reason), "{lines}: {error}");
    }
    // Somebody else's files where the data should be.
    let server = Server::new("");
    let data = server.data().join("version-2");
    std::fs::create_dir(&data).expect("a directory");
    std::fs::write(data.join("log.1"), "a log of something else").expect("a file");
    let output = program(Kind::Ours).arg(server.config()).output().expect("a run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("log.1"), "{error}");
    assert_eq!(std::fs::read(data.join("log.1")).expect("it"), b"a log of something else");
}

#[test]
fn the_environment_of_the_packages_is_heeded() {
    let mut server = Server::new("snapcount=7\nserverCnxnFactory=x\n");
    std::fs::write(
        server.directory.path().join("java.env"),
        "export SERVER_JVMFLAGS=\"$SERVER_JVMFLAGS -Dzookeeper.maxCnxns=1\"\n",
    )
    .expect("java.env");
    let mut command = program(Kind::Ours);
    command.env("SERVER_JVMFLAGS", "-Xmx1g -Dzookeeper.enforceQuota=true");
    server.start(command);
    server.wait();
    let properties = parsed(&server.command("system_properties"));
    assert_eq!(properties["zookeeper.enforceQuota"], "true");
    assert_eq!(properties["zookeeper.maxCnxns"], "1");
    let _session = session(server.client).expect("a session");
    assert!(session(server.client).is_none(), "maxCnxns is 1");
    let mut check = program(Kind::Ours);
    let output = check.arg("--check").arg(server.config()).output().expect("a run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    for line in [
        "snapcount: no server of 3.8 knows this key: ignored; did you mean snapCount?",
        "serverCnxnFactory: it has no effect here",
        "can be used",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let keys = program(Kind::Ours).arg("--keys").output().expect("a run").stdout;
    assert!(String::from_utf8_lossy(&keys).contains("tickTime=3000: "));
    let page = program(Kind::Ours).arg("--man").output().expect("a run").stdout;
    assert!(String::from_utf8_lossy(&page).contains(".TH zookeeper-server 1"));
    // Its port for administrators is another's.
    let mut other = Server::new("");
    let text = std::fs::read_to_string(other.config()).expect("zoo.cfg");
    let clash = text.replace(&format!("={}\n", other.admin), &format!("={}\n", server.admin));
    std::fs::write(other.config(), clash).expect("zoo.cfg");
    let output = program(Kind::Ours).arg(other.config()).output().expect("a run");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("admin.enableServer=false"), "{error}");
    other.client = 0;
}
