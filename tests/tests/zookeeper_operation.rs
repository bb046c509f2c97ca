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
