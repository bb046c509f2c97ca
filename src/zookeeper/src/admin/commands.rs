//! The administrator's commands (`Commands`), with the original's keys.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Command};
use crate::core::Connection;
use crate::metrics::{self, Number, Sizes};
use crate::quorum::configuration::{Address, Endpoint, Role, Server};
use crate::status::{self, Member, VERSION, View, directory_size};
use crate::words::{self, operation};

/// Every command: its name, then its other names.
pub(super) const NAMES: [&[&str]; 26] = [
    &["connection_stat_reset", "crst"],
    &["configuration", "conf", "config"],
    &["connections", "cons"],
    &["hash"],
    &["dirs"],
    &["dump"],
    &["environment", "env", "envi"],
    &["get_trace_mask", "gtmk"],
    &["initial_configuration", "icfg"],
    &["is_read_only", "isro"],
    &["last_snapshot", "lsnp"],
    &["leader", "lead"],
    &["monitor", "mntr"],
    &["observer_connection_stat_reset", "orst"],
    &["ruok"],
    &["set_trace_mask", "stmk"],
    &["server_stats", "srvr"],
    &["stats", "stat"],
    &["stat_reset", "srst"],
    &["observers", "obsr"],
    &["system_properties", "sysp"],
    &["voting_view"],
    &["watches", "wchc"],
    &["watches_by_path", "wchp"],
    &["watch_summary", "wchs"],
    &["zabstate"],
];

/// Those that are answered while clients are not served.
const ALWAYS: [&str; 6] =
    ["environment", "get_trace_mask", "monitor", "set_trace_mask", "system_properties", "zabstate"];

/// The answer to a command. Errors are in it: its `error` is null if there was none.
pub(crate) fn answer(command: &Command, view: &mut View) -> Answer {
    let mut answer = Answer::new();
    let names = NAMES.iter().find(|names| names.contains(&command.name.as_str()));
    let Some(name) = names.map(|names| names[0]) else {
        let error = format!("Unknown command: {}", command.name);
        return end(answer, &command.name, Some(error));
    };
    if !view.is_serving() && !ALWAYS.contains(&name) {
        let error = "This ZooKeeper instance is not currently serving requests".to_owned();
        return end(answer, &command.name, Some(error));
    }
    let error = run(name, command, view, &mut answer);
    end(answer, name, error)
}

fn end(mut answer: Answer, name: &str, error: Option<String>) -> Answer {
    answer.insert("command".to_owned(), json!(name));
    answer.insert("error".to_owned(), json!(error));
    answer
}

/// Fills the answer; the error, if there is one.
fn run(name: &str, command: &Command, view: &mut View, answer: &mut Answer) -> Option<String> {
    let mut put = |key: &str, value: Value| drop(answer.insert(key.to_owned(), value));
    match name {
        "connection_stat_reset" => view.core.reset_connection_statistics(),
        "stat_reset" => words::reset(view),
        "configuration" => configuration(view, &mut put),
        "connections" => {
            put("connections", connections(view, false));
            put("secure_connections", json!([]));
        }
        "dirs" => {
            put("datadir_size", json!(directory_size(&view.config.data_dir)));
            put("logdir_size", json!(directory_size(&view.config.data_log_dir)));
        }
        "dump" => {
            let ends: BTreeMap<String, Vec<i64>> = view
                .session_ends()
                .into_iter()
                .map(|(end, sessions)| (end.to_string(), sessions))
                .collect();
            put("expiry_time_to_session_ids", json!(ends));
            let tree = view.core.tree();
            let ephemerals: BTreeMap<String, Vec<String>> = tree
                .ephemeral_owners()
                .map(|session| (session.to_string(), tree.ephemerals(session)))
                .collect();
            put("session_id_to_ephemeral_paths", json!(ephemerals));
        }
        "environment" => {
            for (key, value) in status::environment() {
                put(key, json!(value));
            }
        }
        "get_trace_mask" => put("tracemask", json!(view.standing.trace_mask)),
        "set_trace_mask" => {
            let Some(text) = &command.trace_mask else {
                return Some("setTraceMask requires long traceMask argument".to_owned());
            };
            let Ok(mask) = text.parse::<i64>() else {
                return Some(format!("setTraceMask requires long traceMask argument, got {text}"));
            };
            view.standing.trace_mask = mask;
            put("tracemask", json!(mask));
        }
        "hash" => {
            let digest = |(zxid, digest): &(i64, i64)| json!({"zxid": zxid, "digest_version": 2, "digest": digest});
            put("digests", view.core.digests().iter().map(digest).collect());
        }
        "initial_configuration" => put("initial_configuration", json!(view.config.initial)),
        "is_read_only" => put("read_only", json!(view.is_read_only())),
        "last_snapshot" => {
            let last = status::last_snapshot(&view.config.data_dir);
            let (zxid, written_s) = last.unwrap_or((-1, -1));
            put("zxid", json!(format!("{zxid:x}")));
            put("timestamp", json!(written_s));
        }
        "leader" => {
            let Some(member) = &view.member else {
                return Some("server is not initialized".to_owned());
            };
            let leader = member.leader.and_then(|id| member.address(id));
            put("is_leader", json!(member.leading.is_some()));
            put("leader_id", json!(member.leader.unwrap_or(-1)));
            put("leader_ip", json!(leader.map_or("", |address| &address.host)));
        }
        "monitor" => monitor(view, &mut put),
        "server_stats" => server(view, &mut put),
        "stats" => {
            server(view, &mut put);
            put("connections", connections(view, true));
            put("secure_connections", json!([]));
        }
        "observers" => {
            let ids = view.member.as_ref().and_then(Member::synced_observers).unwrap_or_default();
            put("synced_observers", json!(ids.len()));
            put("observers", ids.iter().map(|id| json!({"sid": id})).collect());
        }
        "system_properties" => {
            for (key, value) in &view.config.given {
                put(key, json!(value));
            }
        }
        "voting_view" => {
            let members = view.member.as_ref().map(|member| voters(view, member));
            put("current_config", json!(members.unwrap_or_default()));
        }
        "watches" => {
            let mut sessions: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (session, path) in view.core.watches() {
                sessions.entry(session.to_string()).or_default().push(path);
            }
            put("session_id_to_watched_paths", json!(sessions));
        }
        "watches_by_path" => {
            let mut paths: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
            for (session, path) in view.core.watches() {
                paths.entry(path).or_default().push(session);
            }
            put("path_to_session_ids", json!(paths));
        }
        "watch_summary" => {
            let (connections, paths, watches) = view.core.watch_counts();
            put("num_connections", json!(connections));
            put("num_paths", json!(paths));
            put("num_total_watches", json!(watches));
        }
        "zabstate" => zab_state(view, &mut put),
        // `ruok` has nothing to say, and observers' connections are not counted.
        _ => {}
    }
    None
}

fn configuration(view: &View, put: &mut impl FnMut(&str, Value)) {
    let config = view.config;
    put("client_port", json!(status::port(config.client_address)));
    if config.security.secure_address.is_some() {
        put("secure_client_port", json!(status::port(config.security.secure_address)));
    }
    put("data_dir", json!(config.data_dir.join("version-2")));
    put("data_log_dir", json!(config.data_log_dir.join("version-2")));
    put("tick_time", json!(config.tick_ms));
    put("max_client_cnxns", json!(config.connections_per_address_max));
    put("min_session_timeout", json!(config.session_timeout_min_ms));
    put("max_session_timeout", json!(config.session_timeout_max_ms));
    put("server_id", json!(config.ensemble.as_ref().map_or(0, |ensemble| ensemble.id)));
    put("client_port_listen_backlog", json!(config.listen_backlog));
}

fn connections(view: &View, is_brief: bool) -> Value {
    let one = |connection: &Connection| {
        let Connection { peer, received, sent, latency, .. } = connection;
        let mut info = json!({
            "remote_socket_address": peer,
            "interest_ops": i32::from(connection.session.is_some()),
            "outstanding_requests": 0,
            "packets_received": received,
            "packets_sent": sent,
        });
        if let (false, Some(fields)) = (is_brief, info.as_object_mut()) {
            let (code, xid, zxid, at) = connection.last.unwrap_or((0, -1, -1, 0));
            for (key, value) in [
                ("session_id", json!(connection.session.unwrap_or_default())),
                ("last_operation", json!(operation(code))),
                ("established", json!(connection.opened_wall_ms)),
                ("session_timeout", json!(view.core.timeout_ms(connection).unwrap_or_default())),
                ("last_cxid", json!(xid)),
                ("last_zxid", json!(zxid)),
                ("last_response_time", json!(at)),
                ("last_latency", json!(latency.last_ms)),
                ("min_latency", json!(latency.min_ms)),
                ("avg_latency", json!(latency.average_ms() as u64)),
                ("max_latency", json!(latency.max_ms)),
            ] {
                fields.insert(key.to_owned(), value);
            }
        }
        info
    };
    view.core.connections().map(one).collect()
}

fn number(number: Number) -> Value {
    match number {
        Number::Whole(number) => json!(number),
        Number::Decimal(number) => json!((number * 10_000.0).round() / 10_000.0),
    }
}

fn monitor(view: &View, put: &mut impl FnMut(&str, Value)) {
    put("version", json!(VERSION));
    put("server_state", json!(view.core.mode));
    if let Some(member) = &view.member {
        put("peer_state", json!(View::peer_state(member)));
        if member.state == "observing" {
            put("observer_master_id", json!(member.leader.unwrap_or(-1)));
        }
    }
    for (name, value) in view.gauges() {
        put(name, number(value));
    }
    for (name, value) in metrics::key_values(view.metrics) {
        put(&name, number(value));
    }
}

fn sizes(sizes: &Sizes) -> Value {
    let totals = sizes.totals();
    json!({
        "last_buffer_size": totals.last,
        "min_buffer_size": totals.least,
        "max_buffer_size": totals.most,
    })
}

fn server(view: &View, put: &mut impl FnMut(&str, Value)) {
    let core = &view.core;
    let responses = sizes(&view.metrics.responses);
    put("version", json!(VERSION));
    put("read_only", json!(view.is_read_only()));
    put(
        "server_stats",
        json!({
            "packets_sent": core.sent,
            "packets_received": core.received,
            "fsync_threshold_exceed_count": view.slow_syncs,
            "client_response_stats": responses,
            "data_dir_size": directory_size(&view.config.data_dir),
            "log_dir_size": directory_size(&view.config.data_log_dir),
            "provider_null": false,
            "server_state": core.mode,
            "last_processed_zxid": core.zxid(),
            "outstanding_requests": view.outstanding,
            "avg_latency": number(Number::Decimal(core.latency.average_ms())),
            "max_latency": core.latency.max_ms,
            "min_latency": core.latency.min_ms,
            "num_alive_client_connections": view.connection_count(),
            "uptime": view.uptime.as_millis() as u64,
            "auth_failed_count": core.auth_failed,
            "non_mtlsremote_conn_count": 0,
            "non_mtlslocal_conn_count": 0,
        }),
    );
    put("client_response", responses);
    if core.mode == "leader" {
        put("proposal_stats", sizes(&view.metrics.proposals));
    }
    put("node_count", json!(core.tree().node_count()));
}

fn voters(view: &View, member: &Member) -> Answer {
    let voter = |(id, server): (&i64, &Server)| {
        let own = (*id == member.id).then(|| status::shown(view.config.client_address));
        let client = server.client.as_ref().map(ToString::to_string).or(own).unwrap_or_default();
        let addresses = &server.addresses;
        let quorum: Vec<_> = addresses.iter().map(|one| one.quorum().to_string()).collect();
        let election: Vec<_> = addresses.iter().map(|one| one.election().to_string()).collect();
        let shown = json!({
            "server_addresses": quorum,
            "election_addresses": election,
            "client_address": client,
            "learner_type": "participant",
        });
        (id.to_string(), shown)
    };
    let servers = member.servers.servers().iter();
    servers.filter(|(_, server)| server.role == Role::Participant).map(voter).collect()
}

fn zab_state(view: &View, put: &mut impl FnMut(&str, Value)) {
    let Some(member) = &view.member else {
        put("voting", json!(false));
        put("zabstate", json!(""));
        return;
    };
    let addresses = member.servers.servers().get(&member.id).map(|own| own.addresses.as_slice());
    let addresses = addresses.unwrap_or_default();
    let election = addresses.iter().map(Address::election).collect();
    let zxid = view.core.zxid();
    put("myid", json!(member.id));
    put("is_leader", json!(member.leading.is_some()));
    put("quorum_address", several(addresses.iter().map(Address::quorum).collect()));
    put("election_address", several(election));
    put("client_address", json!(status::shown(view.config.client_address)));
    put("voting", json!(member.servers.is_voter(member.id)));
    put("last_zxid", json!(format!("0x{zxid:x}")));
    put("zab_epoch", json!(zxid >> 32));
    put("zab_counter", json!(zxid & 0xffff_ffff));
    put("zabstate", json!(member.phase));
}

/// The addresses of a server (`MultipleAddresses`). Which of them can be reached is not tried: all are named.
fn several(endpoints: Vec<Endpoint>) -> Value {
    let all: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let one = all.first().cloned().unwrap_or_default();
    let ports: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.port).collect();
    let hosts: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.host.as_str()).collect();
    let wildcards: Vec<String> = ports.iter().map(|port| format!("0.0.0.0:{port}")).collect();
    json!({
        "empty": all.is_empty(),
        "all_addresses": all,
        "all_reachable_addresses": all,
        "one": one,
        "reachable_address": one,
        "wildcard_addresses": wildcards,
        "all_ports": ports,
        "all_host_strings": hosts,
        "all_reachable_addresses_or_all": all,
        "reachable_or_one": one,
    })
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn no_two_commands_share_a_name() {
        let mut names: Vec<&str> = NAMES.iter().flat_map(|names| names.iter().copied()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
