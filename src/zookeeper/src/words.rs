//! Four-letter words: what monitoring asks on the client port.

use std::fmt::Write as _;
use std::time::SystemTime;

use crate::config::Config;
use crate::core::Core;

/// The version that clients and exporters look for, then our own.
pub const VERSION: &str =
    concat!("3.8.4-meso-", env!("CARGO_PKG_VERSION"), ", built on 2024-02-12 22:16 UTC");

/// All words that may be answered.
const WORDS: [&str; 14] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "crst", "srst", "dump", "envi", "isro", "wchs",
    "dirs", "hash",
];

/// The answer to what a connection begins with; `None` if it is no word.
pub fn answer(word: &[u8; 4], config: &Config, core: &mut Core) -> Option<String> {
    let word = WORDS.iter().find(|known| known.as_bytes() == word)?;
    if !config.words.iter().any(|allowed| allowed == "*" || allowed == word) {
        return Some(format!("{word} is not executed because it is not in the whitelist.\n"));
    }
    Some(match *word {
        "ruok" => "imok".to_owned(),
        "isro" => "rw".to_owned(),
        "srvr" => server(core, false),
        "stat" => server(core, true),
        "mntr" => monitor(core),
        "conf" => configuration(config),
        "cons" => connections(core, true) + "\n",
        "crst" => "Connection stats reset.\n".to_owned(),
        "srst" => {
            (core.received, core.sent) = (0, 0);
            "Server stats reset.\n".to_owned()
        }
        "dump" => dump(core),
        "envi" => environment(),
        "wchs" => {
            let (connections, paths, watches) = core.watch_counts();
            format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
        }
        "dirs" => format!(
            "datadir_size: {}\nlogdir_size: {}\n",
            size(&config.data_dir, "snapshot"),
            size(&config.data_log_dir, "log")
        ),
        _ => format!("{:x}: {:x}\n", core.zxid(), core.tree().digest()),
    })
}

fn size(directory: &std::path::Path, prefix: &str) -> u64 {
    let entries = std::fs::read_dir(directory.join("version-2")).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| file.len())
        .sum()
}

fn connections(core: &Core, with_session: bool) -> String {
    let mut text = String::new();
    for (peer, session, received, sent) in core.connections() {
        let _ = write!(
            text,
            " /{peer}[{}](queued=0,recved={received},sent={sent}",
            i32::from(session.is_some())
        );
        if let (true, Some(session)) = (with_session, session) {
            let _ = write!(text, ",sid=0x{session:x}");
        }
        text.push_str(")\n");
    }
    text
}

fn server(core: &Core, with_clients: bool) -> String {
    let mut text = format!("Zookeeper version: {VERSION}\n");
    if with_clients {
        let _ = write!(text, "Clients:\n{}\n", connections(core, false));
    }
    let _ = write!(
        text,
        "Latency min/avg/max: 0/0.0/0\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: 0\nZxid: 0x{:x}\nMode: standalone\nNode count: {}\n",
        core.received,
        core.sent,
        core.connections().count(),
        core.zxid(),
        core.tree().node_count()
    );
    text
}

fn monitor(core: &Core) -> String {
    let (_, _, watches) = core.watch_counts();
    let tree = core.tree();
    let ephemerals: usize =
        tree.all_ephemerals().values().map(std::collections::BTreeSet::len).sum();
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let lines: [(&str, String); 14] = [
        ("zk_version", VERSION.to_owned()),
        ("zk_server_state", "standalone".to_owned()),
        ("zk_avg_latency", "0.0".to_owned()),
        ("zk_max_latency", "0".to_owned()),
        ("zk_min_latency", "0".to_owned()),
        ("zk_packets_received", core.received.to_string()),
        ("zk_packets_sent", core.sent.to_string()),
        ("zk_num_alive_connections", core.connections().count().to_string()),
        ("zk_outstanding_requests", "0".to_owned()),
        ("zk_znode_count", tree.node_count().to_string()),
        ("zk_watch_count", watches.to_string()),
        ("zk_ephemerals_count", ephemerals.to_string()),
        ("zk_approximate_data_size", tree.data_size().to_string()),
        ("zk_open_file_descriptor_count", files.to_string()),
    ];
    lines.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}\t{value}");
        text
    })
}

fn configuration(config: &Config) -> String {
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId=0\n",
        config.client_address.port(),
        config.data_dir.join("version-2").display(),
        size(&config.data_dir, "snapshot"),
        config.data_log_dir.join("version-2").display(),
        size(&config.data_log_dir, "log"),
        config.tick_ms,
        config.connections_per_address_max,
        config.session_timeout_min_ms,
        config.session_timeout_max_ms
    )
}

fn dump(core: &Core) -> String {
    let sessions: Vec<(i64, i64)> = core.session_ends().collect();
    let mut text = format!("SessionTracker dump:\nSession Sets ({0})/({0}):\n", sessions.len());
    for (session, _) in &sessions {
        let _ = writeln!(text, "\t0x{session:x}");
    }
    let ephemerals = core.tree().all_ephemerals();
    let _ =
        write!(text, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", ephemerals.len());
    for (session, paths) in ephemerals {
        let _ = writeln!(text, "0x{session:x}:");
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    let _ =
        writeln!(text, "Connections dump:\nConnections Sets (1)/({}):", core.connections().count());
    for (peer, session, ..) in core.connections() {
        let _ = writeln!(text, "\tip: /{peer} sessionId: 0x{:x}", session.unwrap_or_default());
    }
    text
}

fn environment() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\nos.name=Linux\nos.arch={}\nuser.dir={}\nserver.time={now}\n",
        host.trim(),
        std::env::consts::ARCH,
        std::env::current_dir().unwrap_or_default().display()
    )
}
