//! Four-letter words: what monitoring asks on the port for clients (`org.apache.zookeeper.server.command`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jute::request::opcode;

use crate::config::Config;
use crate::core::Connection;
use crate::metrics::{self, decimal};
use crate::status::{self, View, directory_size};

pub use status::VERSION;

/// All words that may be answered.
const WORDS: [&str; 18] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "crst", "srst", "dump", "envi", "isro", "wchs",
    "wchc", "wchp", "dirs", "hash", "gtmk", "stmk",
];
/// Those that are answered without a leader too.
const ALWAYS: [&str; 5] = ["ruok", "envi", "isro", "gtmk", "stmk"];
/// The one that is followed by eight bytes.
pub const SET_TRACE_MASK: &[u8; 4] = b"stmk";

/// Whether a connection that begins so asks a word.
pub fn is_word(first: &[u8; 4]) -> bool {
    WORDS.iter().any(|known| known.as_bytes() == first)
}

/// The answer to a word, and the number behind it, if it is `stmk`; `None` if it is no word.
pub fn answer(word: &[u8; 4], argument: Option<i64>, view: &mut View) -> Option<String> {
    let word = *WORDS.iter().find(|known| known.as_bytes() == word)?;
    if !view.config.words.iter().any(|allowed| allowed == "*" || allowed == word) {
        return Some(format!("{word} is not executed because it is not in the whitelist.\n"));
    }
    if !view.is_serving() && !ALWAYS.contains(&word) {
        let newline = if word == "hash" { "" } else { "\n" };
        return Some(format!("This ZooKeeper instance is not currently serving requests{newline}"));
    }
    Some(match word {
        "ruok" => "imok".to_owned(),
        "isro" if !view.is_serving() => "null".to_owned(),
        "isro" if view.is_read_only() => "ro".to_owned(),
        "isro" => "rw".to_owned(),
        "srvr" => server(view, false),
        "stat" => server(view, true),
        "mntr" => monitor(view),
        "conf" => configuration(view),
        "cons" => clients(view, true) + "\n",
        "crst" => {
            view.core.reset_connection_statistics();
            "Connection stats reset.\n".to_owned()
        }
        "srst" => {
            reset(view);
            "Server stats reset.\n".to_owned()
        }
        "dump" => dump(view),
        "envi" => status::environment().iter().fold(
            "Environment:\n".to_owned(),
            |mut text, (name, value)| {
                let _ = writeln!(text, "{name}={value}");
                text
            },
        ),
        "wchs" => {
            let (connections, paths, watches) = view.core.watch_counts();
            format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
        }
        "wchc" => {
            grouped(view.core.watches().map(|(id, path)| (format!("0x{id:x}"), path.to_owned())))
        }
        "wchp" => {
            grouped(view.core.watches().map(|(id, path)| (path.to_owned(), format!("0x{id:x}"))))
        }
        "dirs" => format!(
            "datadir_size: {}\nlogdir_size: {}\n",
            directory_size(&view.config.data_dir),
            directory_size(&view.config.data_log_dir)
        ),
        "gtmk" => view.standing.trace_mask.to_string(),
        "stmk" => {
            view.standing.trace_mask = argument.unwrap_or_default();
            view.standing.trace_mask.to_string()
        }
        _ => view.core.digests().iter().fold(String::new(), |mut text, (zxid, digest)| {
            let _ = writeln!(text, "{zxid:x}: {digest}");
            text
        }),
    })
}

/// What `srst` and the administrator's `stat_reset` begin anew. Prometheus's counters only ever grow.
pub(crate) fn reset(view: &mut View) {
    view.core.reset_statistics();
    view.metrics.responses.reset();
    if view.config.metrics.is_none() {
        view.metrics.reset();
    }
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

/// The line of each connection; the one that asks is the last.
fn clients(view: &View, with_session: bool) -> String {
    let mut text: String =
        view.core.connections().map(|one| client(view, one, with_session)).collect();
    if let Some(asker) = view.asker {
        let _ = writeln!(text, " /{asker}[0](queued=0,recved=1,sent=0)");
    }
    text
}

fn client(view: &View, connection: &Connection, with_session: bool) -> String {
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
            view.core.timeout_ms(connection).unwrap_or_default()
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
pub(crate) fn operation(code: i32) -> &'static str {
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

fn server(view: &View, with_clients: bool) -> String {
    let mut text = format!("Zookeeper version: {VERSION}\n");
    if view.is_read_only() {
        text.push_str("READ-ONLY mode; serving only read-only clients\n");
    }
    if with_clients {
        let _ = write!(text, "Clients:\n{}\n", clients(view, false));
    }
    let core = &view.core;
    let latency = &core.latency;
    let _ = write!(
        text,
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {}\nNode count: {}\n",
        latency.min_ms,
        decimal(latency.average_ms()),
        latency.max_ms,
        core.received,
        core.sent,
        view.connection_count(),
        view.outstanding,
        core.zxid(),
        core.mode,
        core.tree().node_count()
    );
    if core.mode == "leader" {
        let sizes = view.metrics.proposals.totals();
        let _ = writeln!(
            text,
            "Proposal sizes last/min/max: {}/{}/{}",
            sizes.last, sizes.least, sizes.most
        );
    }
    text
}

fn monitor(view: &View) -> String {
    let mut text = format!("zk_version\t{VERSION}\nzk_server_state\t{}\n", view.core.mode);
    if let Some(member) = &view.member {
        let _ = writeln!(text, "zk_peer_state\t{}", View::peer_state(member));
        if member.state == "observing" {
            let _ = writeln!(text, "zk_observer_master_id\t{}", member.leader.unwrap_or(-1));
        }
    }
    for (name, value) in view.gauges() {
        let _ = writeln!(text, "zk_{name}\t{value}");
    }
    for (name, value) in metrics::key_values(view.metrics) {
        let _ = writeln!(text, "zk_{name}\t{value}");
    }
    text
}

fn configuration(view: &View) -> String {
    let config: &Config = view.config;
    let mut text = format!(
        "clientPort={}\nsecureClientPort={}\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\nserverId={}\n",
        status::port(config.client_address),
        status::port(config.security.secure_address),
        config.data_dir.join("version-2").display(),
        directory_size(&config.data_dir),
        config.data_log_dir.join("version-2").display(),
        directory_size(&config.data_log_dir),
        config.tick_ms,
        config.connections_per_address_max,
        config.session_timeout_min_ms,
        config.session_timeout_max_ms,
        config.listen_backlog,
        config.ensemble.as_ref().map_or(0, |ensemble| ensemble.id)
    );
    if let Some(member) = &view.member {
        let own = member.address(member.id);
        let _ = write!(
            text,
            "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={}\nmembership: \n{}",
            member.init_limit,
            member.sync_limit,
            own.map_or(0, |address| address.election_port),
            own.map_or(0, |address| address.quorum_port),
            i32::from(member.servers.is_observer(member.id)),
            member.servers
        );
    }
    text
}

fn dump(view: &View) -> String {
    let mut text = "SessionTracker dump:\n".to_owned();
    if view.core.has_local_sessions() {
        text.push_str("Local ");
        session_sets(view, &status::by_end(view.core.local_session_ends()), &mut text);
        if view.tracks_sessions() {
            text.push_str("Global ");
        }
    }
    if view.tracks_sessions() {
        session_sets(view, &view.session_ends(), &mut text);
    } else {
        let sessions = view.core.sessions();
        let _ = writeln!(text, "Global Sessions({}):", sessions.len());
        for (session, timeout_ms) in sessions {
            let _ = writeln!(text, "0x{session:x}\t{timeout_ms}ms");
        }
    }
    let ephemerals: Vec<i64> = view.core.tree().ephemeral_owners().collect();
    let _ =
        write!(text, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", ephemerals.len());
    for session in ephemerals {
        let _ = writeln!(text, "0x{session:x}:");
        for path in view.core.tree().ephemerals(session) {
            let _ = writeln!(text, "\t{path}");
        }
    }
    connections(view, &mut text);
    text
}

fn session_sets(view: &View, sets: &BTreeMap<i64, Vec<i64>>, text: &mut String) {
    let count: usize = sets.values().map(Vec::len).sum();
    let _ = writeln!(text, "Session Sets ({})/({count}):", sets.len());
    for (end, sessions) in sets {
        let _ = writeln!(text, "{} expire at {}:", sessions.len(), date(view.wall_of(*end)));
        for session in sessions {
            let _ = writeln!(text, "\t0x{session:x}");
        }
    }
}

/// Connections by when they end if nothing comes: with their session, or soon if they have none yet.
fn connections(view: &View, text: &mut String) {
    let mut sets: BTreeMap<i64, Vec<(String, i64)>> = BTreeMap::new();
    let wait_ms = view.config.first_frame.as_millis() as i64;
    for connection in view.core.connections() {
        let timeout_ms = view.core.timeout_ms(connection).map(i64::from);
        let heard = connection.last.map_or(view.core_ms, |(_, _, _, at)| at);
        let end = view.wall_of(heard).saturating_add(timeout_ms.unwrap_or(wait_ms));
        let line = (connection.peer.clone(), connection.session.unwrap_or_default());
        sets.entry(end / 1000).or_default().push(line);
    }
    if let Some(asker) = view.asker {
        let end = view.wall_ms.saturating_add(wait_ms);
        sets.entry(end / 1000).or_default().push((asker.to_owned(), 0));
    }
    let count: usize = sets.values().map(Vec::len).sum();
    let _ = write!(text, "Connections dump:\nConnections Sets ({})/({count}):\n", sets.len());
    for (end_s, lines) in sets {
        let _ = writeln!(text, "{} expire at {}:", lines.len(), date(end_s * 1000));
        for (peer, session) in lines {
            let _ = writeln!(text, "\tip: /{peer} sessionId: 0x{session:x}");
        }
    }
}

/// A time as Java's `Date` writes it: `Thu Nov 26 09:51:39 UTC 2026`.
fn date(wall_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or_default();
    jiff::ZonedDateTime::new(time, jiff::tz::TimeZone::system())
        .strftime("%a %b %d %H:%M:%S %Z %Y")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_known_and_no_length_is() {
        assert!(WORDS.iter().all(|word| is_word(word.as_bytes().try_into().unwrap())));
        assert!(!is_word(&[0, 0, 0, 44]) && !is_word(b"abcd"));
    }
}
