//! What a running server tells of itself: the one view of its state that words, the administrator's commands and
//! metrics are made of.

mod environment;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Config;
use crate::core::Core;
use crate::metrics::{Metrics, Number};
use crate::quorum::configuration::{Address, Configuration};

pub use environment::{environment, process};

/// The version that clients and exporters look for, then our own.
pub const VERSION: &str =
    concat!("3.8.4-meso-", env!("CARGO_PKG_VERSION"), ", built on 2024-02-12 22:16 UTC");

/// What outlives a single question.
#[derive(Debug)]
pub struct Standing {
    /// The trace mask (`ZooTrace`), which is kept for those who ask: this server traces by RUST_LOG.
    pub trace_mask: i64,
}

impl Default for Standing {
    fn default() -> Self {
        // Client requests, client pings left out, sessions and warnings, as the original's default.
        Self { trace_mask: 306 }
    }
}

/// What a member of an ensemble tells.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its id.
    pub id: i64,
    /// The servers.
    pub servers: Configuration,
    /// Ticks that joining a leader may take.
    pub init_limit: u32,
    /// Ticks that a member may be silent.
    pub sync_limit: u32,
    /// Its leader, if it has one.
    pub leader: Option<i64>,
    /// `looking`, `following`, `leading` or `observing`.
    pub state: &'static str,
    /// `election`, `discovery`, `synchronization` or `broadcast`.
    pub phase: &'static str,
    /// What a leader knows of the others.
    pub leading: Option<Leading>,
    /// Synchronised observers of a follower, if it serves any (`observerMasterPort`).
    pub observers: Option<Vec<i64>>,
}

impl Member {
    /// Observers that are synchronised with this server.
    pub fn synced_observers(&self) -> Option<&[i64]> {
        let leading = self.leading.as_ref().map(|leading| &leading.synced_observers);
        leading.or(self.observers.as_ref()).map(Vec::as_slice)
    }

    /// Where a server listens for the others: the first address, if it has several.
    pub fn address(&self, id: i64) -> Option<&Address> {
        self.servers.servers().get(&id)?.addresses.first()
    }
}

/// What a leader tells.
#[derive(Debug, Clone, Default)]
pub struct Leading {
    /// Connected members.
    pub learners: usize,
    /// Synchronised members that vote.
    pub synced_followers: usize,
    /// Synchronised observers.
    pub synced_observers: Vec<i64>,
    /// How long it has led.
    pub uptime: Duration,
}

/// The view.
pub struct View<'a> {
    /// Tree, sessions, connections.
    pub core: &'a mut Core,
    /// The configuration.
    pub config: &'a Config,
    /// See there.
    pub standing: &'a mut Standing,
    /// Metrics.
    pub metrics: &'a Metrics,
    /// Of a member of an ensemble.
    pub member: Option<Member>,
    /// Requests that wait.
    pub outstanding: usize,
    /// Time since the start.
    pub uptime: Duration,
    /// The core's clock in ms.
    pub core_ms: i64,
    /// The wall's clock in ms since 1970.
    pub wall_ms: i64,
    /// Syncs of the log that took longer than `fsync.warningthresholdms`.
    pub slow_syncs: u64,
    /// The connection that asks by a four-letter word: the original counts it among its clients'.
    pub asker: Option<&'a str>,
}

impl View<'_> {
    /// Whether clients are served.
    pub fn is_serving(&self) -> bool {
        self.core.mode != "looking" && !(self.core.mode == "leader" && self.is_closed())
    }

    /// Whether this server serves no clients while it leads (`leaderServes`).
    fn is_closed(&self) -> bool {
        self.config.ensemble.as_ref().is_some_and(|ensemble| !ensemble.leader_serves)
    }

    /// Whether only reads are served.
    pub fn is_read_only(&self) -> bool {
        self.core.is_read_only()
    }

    /// Connections of clients; one that asks by a word counts.
    pub fn connection_count(&self) -> usize {
        self.core.connections().count() + usize::from(self.asker.is_some())
    }

    /// `following - broadcast` and the like.
    pub fn peer_state(member: &Member) -> String {
        if member.phase == "election" {
            member.state.to_owned()
        } else {
            format!("{} - {}", member.state, member.phase)
        }
    }

    /// The time on the wall of a time of the core's clock, in ms since 1970.
    pub fn wall_of(&self, core_ms: i64) -> i64 {
        self.wall_ms.saturating_add(core_ms.saturating_sub(self.core_ms))
    }

    /// What is measured when it is asked for (`ZooKeeperServer.registerMetrics` and those of its children).
    pub fn gauges(&self) -> Vec<(&'static str, Number)> {
        let whole = |number: usize| Number::Whole(number as i64);
        let tree = self.core.tree();
        let latency = &self.core.latency;
        let (responses, proposals) =
            (self.metrics.responses.totals(), self.metrics.proposals.totals());
        let mut gauges = vec![
            ("avg_latency", Number::Decimal(latency.average_ms())),
            ("max_latency", Number::Whole(latency.max_ms as i64)),
            ("min_latency", Number::Whole(latency.min_ms as i64)),
            ("packets_received", Number::Whole(self.core.received as i64)),
            ("packets_sent", Number::Whole(self.core.sent as i64)),
            ("num_alive_connections", whole(self.connection_count())),
            ("outstanding_requests", whole(self.outstanding)),
            ("uptime", Number::Whole(self.uptime.as_millis() as i64)),
            ("znode_count", whole(tree.node_count())),
            ("watch_count", whole(self.core.watch_total())),
            ("ephemerals_count", whole(tree.ephemeral_count())),
            ("approximate_data_size", whole(tree.data_size())),
            ("global_sessions", whole(self.core.session_ends().count())),
            ("local_sessions", whole(self.core.local_session_ends().count())),
            ("open_file_descriptor_count", Number::Whole(environment::open_files())),
            ("max_file_descriptor_count", Number::Whole(environment::open_files_max())),
            ("connection_drop_probability", Number::Decimal(self.metrics.drop_chance())),
            ("last_client_response_size", Number::Whole(responses.last)),
            ("max_client_response_size", Number::Whole(responses.most)),
            ("min_client_response_size", Number::Whole(responses.least)),
            ("outstanding_tls_handshake", Number::Whole(0)),
            ("auth_failed_count", Number::Whole(self.core.auth_failed as i64)),
            ("non_mtls_remote_conn_count", Number::Whole(0)),
            ("non_mtls_local_conn_count", Number::Whole(0)),
        ];
        let Some(member) = &self.member else { return gauges };
        gauges.push(("quorum_size", whole(member.servers.voters().count())));
        if let Some(observers) = &member.observers {
            gauges.push(("synced_observers", whole(observers.len())));
        }
        if let Some(leading) = &member.leading {
            gauges.extend([
                ("learners", whole(leading.learners)),
                ("synced_followers", whole(leading.synced_followers)),
                ("synced_non_voting_followers", Number::Whole(0)),
                ("synced_observers", whole(leading.synced_observers.len())),
                ("pending_syncs", Number::Whole(0)),
                ("leader_uptime", Number::Whole(leading.uptime.as_millis() as i64)),
                ("last_proposal_size", Number::Whole(proposals.last)),
                ("max_proposal_size", Number::Whole(proposals.most)),
                ("min_proposal_size", Number::Whole(proposals.least)),
            ]);
        }
        gauges
    }

    /// Sessions by when they end if nothing is heard of them, on the core's clock. Only where sessions are tracked:
    /// not on followers.
    pub fn session_ends(&self) -> BTreeMap<i64, Vec<i64>> {
        if self.tracks_sessions() { by_end(self.core.session_ends()) } else { BTreeMap::new() }
    }

    /// Whether this server ends sessions, alone or as a leader.
    pub fn tracks_sessions(&self) -> bool {
        matches!(self.core.mode, "standalone" | "leader")
    }
}

/// Sessions by when they end.
pub(crate) fn by_end(ends: impl Iterator<Item = (i64, i64)>) -> BTreeMap<i64, Vec<i64>> {
    let mut sets = BTreeMap::<i64, Vec<i64>>::new();
    for (session, end) in ends {
        sets.entry(end).or_default().push(session);
    }
    for sessions in sets.values_mut() {
        sessions.sort_unstable();
    }
    sets
}

/// Files of a data directory and their bytes; their room for more counts, as in the original.
pub fn directory_size(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory.join("version-2")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// The newest snapshot in a data directory: its zxid, and when it was written, in s since 1970.
pub fn last_snapshot(directory: &std::path::Path) -> Option<(i64, i64)> {
    let entries = std::fs::read_dir(directory.join("version-2")).ok()?.flatten();
    let snapshots = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        // Of a compressed one there is a suffix behind the number.
        let number = name.strip_prefix("snapshot.")?.split('.').next()?.to_owned();
        let written = entry.metadata().ok()?.modified().ok()?;
        let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some((i64::from_str_radix(&number, 16).ok()?, since.as_secs() as i64))
    });
    snapshots.max()
}

/// The port of an address, −1 for none.
pub fn port(address: Option<SocketAddr>) -> i32 {
    address.map_or(-1, |address| i32::from(address.port()))
}

/// An address as the original writes it, nothing for none.
pub fn shown(address: Option<SocketAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}
