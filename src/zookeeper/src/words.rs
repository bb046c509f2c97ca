//! Four-letter words: what monitoring asks on the client port.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use jute::request::opcode;

use crate::config::Config;
use crate::core::{Connection, Core, Latency};

/// The version that clients and exporters look for, then our own.
pub const VERSION: &str =
    concat!("3.8.4-meso-", env!("CARGO_PKG_VERSION"), ", built on 2024-02-12 22:16 UTC");

/// All words that may be answered.
const WORDS: [&str; 16] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "crst", "srst", "dump", "envi", "isro", "wchs",
    "wchc", "wchp", "dirs", "hash",
];

/// What only the shell knows.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Requests that wait for the core.
    pub waiting: usize,
    /// Time since the start.
    pub uptime: Duration,
    /// The core's clock.
    pub core_ms: i64,
}

/// The answer to what a connection begins with; `None` if it is no word.
pub fn answer(word: &[u8; 4], config: &Config, core: &mut Core, now: Now) -> Option<String> {
    let word = WORDS.iter().find(|known| known.as_bytes() == word)?;
    if !config.words.iter().any(|allowed| allowed == "*" || allowed == word) {
        return Some(format!("{word} is not executed because it is not in the whitelist.\n"));
    }
    if core.mode == "looking" && !matches!(*word, "ruok" | "conf" | "envi") {
        return Some("This ZooKeeper instance is not currently serving requests\n".to_owned());
    }
    Some(match *word {
        "ruok" => "imok".to_owned(),
        "isro" => "rw".to_owned(),
        "srvr" => server(core, false, now),
        "stat" => server(core, true, now),
        "mntr" => monitor(core, now),
        "conf" => configuration(config),
        "cons" => core.connections().map(|one| client(core, one, true)).collect::<String>() + "\n",
        "crst" => {
            core.reset_connection_statistics();
            "Connection stats reset.\n".to_owned()
        }
        "srst" => {
            (core.received, core.sent, core.latency) = (0, 0, Latency::default());
            "Server stats reset.\n".to_owned()
        }
        "dump" => dump(core, now),
        "envi" => environment(),
        "wchs" => {
            let (connections, paths, watches) = core.watch_counts();
            format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
        }
        "wchc" => grouped(core.watches().map(|(id, path)| (format!("0x{id:x}"), path.to_owned()))),
        "wchp" => grouped(core.watches().map(|(id, path)| (path.to_owned(), format!("0x{id:x}")))),
        "dirs" => format!(
            "datadir_size: {}\nlogdir_size: {}\n",
            size(&config.data_dir),
            size(&config.data_log_dir)
        ),
        _ => format!("{:x}: {:x}\n", core.zxid(), core.tree().digest()),
    })
}

fn grouped(pairs: impl Iterator<Item = (String, String)>) -> String {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (group, member) in pairs {
        groups.entry(group).or_default().insert(member);
    }
    let mut text = String::new();
    for (group, members) in groups {
        let _ = writeln!(text, "{group}");
        for member in members {
            let _ = writeln!(text, "\t{member}");
        }
    }
    text + "\n"
}

/// Bytes of the files in a data directory; their room for more counts, as in the original.
fn size(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory.join("version-2")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// A Java double with at most 4 decimals.
fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

fn client(core: &Core, connection: &Connection, with_session: bool) -> String {
    let Connection { peer, received, sent, latency, .. } = connection;
    let interest = i32::from(connection.session.is_some());
    let mut text = format!(" /{peer}[{interest}](queued=0,recved={received},sent={sent}");
    if let (true, Some(session)) = (with_session, connection.session) {
        let (code, xid, zxid, at) = connection.last.unwrap_or((opcode::ERROR, -1, -1, 0));
        let _ = write!(
            text,
            ",sid=0x{session:x},lop={},est={},to={}",
            operation(code),
            connection.opened_wall_ms,
            core.timeout_ms(connection).unwrap_or_default()
        );
        if xid >= 0 {
            let _ = write!(text, ",lcxid=0x{xid:x}");
        }
        let _ = write!(
            text,
            ",lzxid=0x{zxid:x},lresp={at},llat={},minlat={},avglat={},maxlat={}",
            latency.last_ms,
            latency.min_ms,
            latency.average_ms() as u64,
            latency.max_ms
        );
    }
    text + ")\n"
}

/// The original's short names (`Request.op2String`).
fn operation(code: i32) -> &'static str {
    match code {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => "CREA",
        opcode::DELETE => "DELE",
        opcode::EXISTS => "EXIS",
        opcode::GET_DATA => "GETD",
        opcode::SET_DATA => "SETD",
        opcode::GET_ACL => "GETA",
        opcode::SET_ACL => "SETA",
        opcode::GET_CHILDREN | opcode::GET_CHILDREN2 => "GETC",
        opcode::SYNC => "SYNC",
        opcode::PING => "PING",
        opcode::CHECK => "CHEC",
        opcode::MULTI => "MULT",
        opcode::MULTI_READ => "MLTR",
        opcode::CHECK_WATCHES => "CHKW",
        opcode::REMOVE_WATCHES => "REMW",
        opcode::SET_WATCHES => "SETW",
        opcode::SET_WATCHES2 => "STW2",
        opcode::ADD_WATCH => "ADDW",
        opcode::GET_EPHEMERALS => "GETE",
        opcode::GET_ALL_CHILDREN_NUMBER => "GETACN",
        opcode::WHO_AM_I => "HOMI",
        opcode::RECONFIG => "RECO",
        opcode::CREATE_SESSION => "SESS",
        opcode::CLOSE_SESSION => "CLOS",
        _ => "NA",
    }
}

fn server(core: &Core, with_clients: bool, now: Now) -> String {
    let mut text = format!("Zookeeper version: {VERSION}\n");
    if with_clients {
        let clients: String = core.connections().map(|one| client(core, one, false)).collect();
        let _ = write!(text, "Clients:\n{clients}\n");
    }
    let latency = &core.latency;
    let _ = write!(
        text,
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {}\nNode count: {}\n",
        latency.min_ms,
        decimal(latency.average_ms()),
        latency.max_ms,
        core.received,
        core.sent,
        // The one that asks counts.
        core.connections().count() + 1,
        now.waiting,
        core.zxid(),
        core.mode,
        core.tree().node_count()
    );
    text
}

fn monitor(core: &Core, now: Now) -> String {
    let (_, _, watches) = core.watch_counts();
    let tree = core.tree();
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let lines: [(&str, String); 18] = [
        ("zk_version", VERSION.to_owned()),
        ("zk_server_state", core.mode.to_owned()),
        ("zk_ephemerals_count", tree.ephemeral_count().to_string()),
        ("zk_num_alive_connections", (core.connections().count() + 1).to_string()),
        ("zk_avg_latency", decimal(core.latency.average_ms())),
        ("zk_outstanding_requests", now.waiting.to_string()),
        ("zk_znode_count", tree.node_count().to_string()),
        ("zk_global_sessions", core.session_ends().count().to_string()),
        ("zk_packets_sent", core.sent.to_string()),
        ("zk_packets_received", core.received.to_string()),
        ("zk_watch_count", watches.to_string()),
        ("zk_min_latency", core.latency.min_ms.to_string()),
        ("zk_max_file_descriptor_count", files_max()),
        ("zk_approximate_data_size", tree.data_size().to_string()),
        ("zk_open_file_descriptor_count", files.to_string()),
        ("zk_local_sessions", "0".to_owned()),
        ("zk_uptime", now.uptime.as_millis().to_string()),
        ("zk_max_latency", core.latency.max_ms.to_string()),
    ];
    lines.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}\t{value}");
        text
    })
}

/// The limit of open files; −1 where the system doesn't tell.
fn files_max() -> String {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("-1").to_owned()
}

fn configuration(config: &Config) -> String {
    let port = |address: Option<SocketAddr>| address.map_or(-1, |at| i32::from(at.port()));
    format!(
        "clientPort={}\nsecureClientPort={}\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId={}\n",
        port(config.client_address),
        port(config.security.secure_address),
        config.data_dir.join("version-2").display(),
        size(&config.data_dir),
        config.data_log_dir.join("version-2").display(),
        size(&config.data_log_dir),
        config.tick_ms,
        config.connections_per_address_max,
        config.session_timeout_min_ms,
        config.session_timeout_max_ms,
        config.ensemble.as_ref().map_or(0, |ensemble| ensemble.id)
    )
}

fn dump(core: &Core, now: Now) -> String {
    let mut sets: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (session, end) in core.session_ends() {
        sets.entry(end).or_default().push(session);
    }
    let count: usize = sets.values().map(Vec::len).sum();
    let mut text = format!("SessionTracker dump:\nSession Sets ({})/({count}):\n", sets.len());
    for (end, sessions) in &sets {
        let _ = writeln!(text, "{} expire in {} ms:", sessions.len(), end - now.core_ms);
        for session in sessions {
            let _ = writeln!(text, "\t0x{session:x}");
        }
    }
    let ephemerals: Vec<_> = core.tree().ephemeral_owners().collect();
    let _ =
        write!(text, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", ephemerals.len());
    for session in ephemerals {
        let _ = writeln!(text, "0x{session:x}:");
        for path in core.tree().ephemerals(session) {
            let _ = writeln!(text, "\t{path}");
        }
    }
    let _ =
        writeln!(text, "Connections dump:\nConnections Sets (1)/({}):", core.connections().count());
    for connection in core.connections() {
        let session = connection.session.unwrap_or_default();
        let _ = writeln!(text, "\tip: /{} sessionId: 0x{session:x}", connection.peer);
    }
    text
}

fn environment() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let version = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\nos.name=Linux\nos.arch={}\nos.version={}\nuser.dir={}\n",
        host.trim(),
        std::env::consts::ARCH,
        version.trim(),
        std::env::current_dir().unwrap_or_default().display()
    )
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn numbers_are_written_as_java_writes_them() {
        assert_eq!([0.0, 6.0, 20.0 / 3.0, 0.5].map(decimal), ["0.0", "6.0", "6.6667", "0.5"]);
    }
}
