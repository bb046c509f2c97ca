//! The server's decisions, without I/O: frames of clients and time come in, effects go out.
//!
//! A request goes decode → check and number (prep) → tree and watches → reply, and its transaction to the log.
//! Effects are carried out in order; nothing that follows an [`Effect::Append`] may leave before it is on disk.

mod apply;
mod authenticate;
mod connect;
mod following;
mod leading;
mod local;
mod read;
mod read_only;
mod reconfig;
mod settled;
mod statistics;
mod suspend;
mod sweep;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use jute::records::Id;
use jute::request::Request;
use jute::txn::{Entry, Txn};
use jute::{Code, Writer};

use crate::auth::Auth;
use crate::disk::replay::Digests;
use crate::metrics::{Counter, Metrics};
use crate::sasl::digest_md5;
use crate::tree::Tree;
use crate::watch::Table;

pub(crate) use apply::owner;
pub use connect::password;
pub use following::Forward;
pub(crate) use following::read_touched;
pub use local::LocalSessions;
pub use reconfig::Changes;
pub use statistics::Latency;

/// The tree's digest is kept of every so manyth transaction (`DataTree.DIGEST_LOG_INTERVAL`).
const DIGEST_EVERY: i64 = 128;
/// Bytes of a reply's header.
const HEADER: usize = 16;
/// What most replies hold, in bytes.
const BODY: usize = 256;
/// Buffers of replies that are kept for the next ones, and the largest of them in bytes.
const SPARE_MAX: (usize, usize) = (256, 1024);
/// Digests kept.
const DIGESTS_MAX: usize = 1024;

/// A connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a frame's body.
    Send(ConnectionId, Vec<u8>),
    /// Send a frame's body that shows nothing but what is settled, and behind which nothing waits: it may leave before
    /// what was appended.
    SendAtOnce(ConnectionId, Vec<u8>),
    /// Close a connection after what was sent to it.
    Close(ConnectionId),
    /// Put a transaction into the log, on disk before what follows leaves.
    Append(Box<Entry>),
}

/// What is in no order, in one that is always the same.
fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut sorted: Vec<T> = items.collect();
    sorted.sort_unstable();
    sorted
}

/// Limits and switches of the configuration that the core knows.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `tickTime` in ms.
    pub tick_ms: i64,
    /// Shortest session timeout in ms.
    pub session_timeout_min_ms: i32,
    /// Longest session timeout in ms.
    pub session_timeout_max_ms: i32,
    /// `extendedTypesEnabled`.
    pub extended_types: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `znode.container.checkIntervalMs`.
    pub container_check_ms: i64,
    /// `znode.container.maxPerMinute`.
    pub container_max_per_minute: usize,
    /// How long a container may wait for its first child, in ms, if not for ever.
    pub container_unused_max_ms: Option<i64>,
    /// `skipACL`.
    pub skip_acl: bool,
    /// Who clients may prove to be.
    pub auth: Arc<Auth>,
    /// What nonces are made of; nobody else may know it.
    pub nonce_seed: [u8; 32],
    /// `digest.enabled`.
    pub digests: bool,
    /// What new sessions are, in an ensemble.
    pub local_sessions: LocalSessions,
}

#[cfg(test)]
impl Settings {
    /// Short times, everything allowed.
    pub(crate) fn for_tests() -> Self {
        Self {
            tick_ms: 10,
            session_timeout_min_ms: 20,
            session_timeout_max_ms: 200,
            extended_types: true,
            enforce_quota: true,
            container_check_ms: 100,
            container_max_per_minute: 10_000,
            container_unused_max_ms: None,
            skip_acl: false,
            auth: Arc::default(),
            nonce_seed: [0; 32],
            digests: true,
            local_sessions: LocalSessions::Off,
        }
    }
}

#[derive(Debug, Clone)]
struct Session {
    timeout_ms: i32,
    expires_ms: i64,
    connection: Option<ConnectionId>,
    scope: local::Scope,
}

/// What is known of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub peer: String,
    pub ids: Vec<Id>,
    pub sasl: Option<Box<digest_md5::Server>>,
    pub session: Option<i64>,
    pub received: u64,
    pub sent: u64,
    pub opened_wall_ms: i64,
    pub latency: Latency,
    /// The last transaction when something was last sent that waits for it.
    pub told: i64,
    /// Opcode, xid and zxid of the last request that was answered, and when, on the core's clock.
    pub last: Option<(i32, i32, i64, i64)>,
}

/// The server's state.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    tree: Tree,
    zxid: i64,
    /// Transactions up to here are on disk, or committed.
    settled: i64,
    /// The last transaction that changed what no zxid of a znode tells of.
    unmarked: i64,
    sessions: HashMap<i64, Session>,
    next_session: i64,
    connections: HashMap<ConnectionId, Connection>,
    data_watches: Table,
    child_watches: Table,
    ensemble: following::Ensemble,
    /// What the ensemble is, and what may be made of it.
    pub changes: Changes,
    /// What this server is, as `srvr` says it.
    pub mode: &'static str,
    /// Requests and replies so far, for `srvr`.
    pub received: u64,
    /// See `received`.
    pub sent: u64,
    /// How long requests took, for `srvr`.
    pub latency: Latency,
    nonces: authenticate::Nonces,
    /// Proofs of clients that were none.
    pub auth_failed: u64,
    /// Where everything else is counted.
    pub metrics: Arc<Metrics>,
    /// Zxids and the tree's digest behind each.
    digests: VecDeque<(i64, i64)>,
    /// Whether the tree is what logs and leaders say it is.
    compared: Digests,
    effects: Vec<Effect>,
    /// Buffers of replies that have been sent.
    spare: Vec<Vec<u8>>,
    /// Writes are refused.
    is_suspended: bool,
    /// When to look for containers and TTL nodes that have outlived their use.
    next_sweep_ms: i64,
}

/// What a core begins with.
#[derive(Debug, Default)]
pub struct State {
    /// The tree.
    pub tree: Tree,
    /// The last zxid in it.
    pub zxid: i64,
    /// Sessions and their timeouts in ms.
    pub sessions: std::collections::HashMap<i64, i32>,
    /// What is known of the tree's digests.
    pub digests: Digests,
    /// What loading it took.
    pub loaded: Loaded,
}

/// What loading a data directory took (`startup_snap_load_time`, `startup_txns_loaded`, `startup_txns_load_time`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Reading the snapshot.
    pub snapshot: Duration,
    /// Transactions of the logs behind it.
    pub transactions: u64,
    /// Replaying them.
    pub logs: Duration,
}

impl Core {
    /// A core with what was on disk. `now_ms` and `wall_ms` as for [`Core::frame`]; sessions get their whole timeout.
    pub fn new(settings: Settings, state: State, now_ms: i64) -> Self {
        let sessions: HashMap<i64, Session> = state
            .sessions
            .into_iter()
            .map(|(id, timeout_ms)| {
                let expires_ms = now_ms + i64::from(timeout_ms) + settings.tick_ms;
                let scope = local::Scope::Global;
                (id, Session { timeout_ms, expires_ms, connection: None, scope })
            })
            .collect();
        let next_session = (((now_ms as u64) << 24) >> 8) as i64 | (1 << 56);
        Self {
            sessions,
            next_sweep_ms: now_ms + settings.container_check_ms,
            settings,
            tree: state.tree,
            zxid: state.zxid,
            settled: state.zxid,
            unmarked: 0,
            next_session,
            connections: HashMap::new(),
            data_watches: Table::default(),
            child_watches: Table::default(),
            ensemble: following::Ensemble::default(),
            changes: Changes::default(),
            mode: "standalone",
            received: 0,
            sent: 0,
            latency: Latency::default(),
            nonces: authenticate::Nonces::default(),
            auth_failed: 0,
            metrics: Arc::default(),
            digests: VecDeque::new(),
            compared: state.digests,
            effects: Vec::new(),
            spare: Vec::new(),
            is_suspended: false,
        }
    }

    /// What is to be done since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Takes back what [`Effect::Send`] held, for replies to come.
    pub fn take_back(&mut self, mut body: Vec<u8>) {
        if self.spare.len() < SPARE_MAX.0 && (BODY..=SPARE_MAX.1).contains(&body.capacity()) {
            body.clear();
            self.spare.push(body);
        }
    }

    /// What a reply is written into.
    fn body(&mut self) -> Writer {
        self.spare.pop().map_or_else(|| Writer::with_capacity(BODY), Writer::from)
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The last zxid.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// Sessions and their timeouts in ms, as a snapshot holds them: without those that only this server knows.
    pub fn sessions(&self) -> Vec<(i64, i32)> {
        let global = self.sessions.iter().filter(|(_, one)| one.scope == local::Scope::Global);
        sorted(global.map(|(id, session)| (*id, session.timeout_ms)))
    }

    /// The tree's digest behind every so manyth transaction: zxids and digests.
    pub fn digests(&self) -> &VecDeque<(i64, i64)> {
        &self.digests
    }

    fn note_digest(&mut self) {
        if self.zxid % DIGEST_EVERY == 0 {
            if self.digests.len() == DIGESTS_MAX {
                self.digests.pop_front();
            }
            self.digests.push_back((self.zxid, self.tree.digest()));
        }
    }

    /// A number for a session. It is none that is known, should the clock have gone back. (Beyond those that are known
    /// would be where some have ended: what is asked under their numbers may still be on its way.)
    fn number_session(&mut self) -> i64 {
        let mut free = self.next_session;
        while self.sessions.contains_key(&free) {
            free = free.wrapping_add(1);
        }
        self.next_session = free.wrapping_add(1);
        free
    }

    /// A client has connected from an address and port, and its connection proves `ids`.
    pub fn opened(&mut self, wall_ms: i64, id: ConnectionId, peer: &str, ids: Vec<Id>) {
        let connection = Connection {
            peer: peer.to_owned(),
            ids,
            sasl: None,
            session: None,
            received: 0,
            sent: 0,
            opened_wall_ms: wall_ms,
            latency: Latency::default(),
            told: 0,
            last: None,
        };
        self.connections.insert(id, connection);
    }

    /// A client's connection is closed; its session lives on.
    pub fn closed(&mut self, id: ConnectionId) {
        self.ensemble.closed(id);
        self.data_watches.remove_connection(id);
        self.child_watches.remove_connection(id);
        let session = self.connections.remove(&id).and_then(|connection| connection.session);
        let session = session.and_then(|session| self.sessions.get_mut(&session));
        if let Some(session) = session.filter(|session| session.connection == Some(id)) {
            session.connection = None;
        }
    }

    fn send(&mut self, to: ConnectionId, body: Vec<u8>) {
        let zxid = self.zxid;
        if let Some(connection) = self.count_sent(to, body.len()) {
            connection.told = zxid;
            self.effects.push(Effect::Send(to, body));
        }
    }

    fn count_sent(&mut self, to: ConnectionId, bytes: usize) -> Option<&mut Connection> {
        self.sent += 1;
        self.metrics.add(Counter::ResponseBytes, bytes as u64);
        self.metrics.responses.note(bytes);
        let connection = self.connections.get_mut(&to)?;
        connection.sent += 1;
        Some(connection)
    }

    fn close(&mut self, id: ConnectionId) {
        self.effects.push(Effect::Close(id));
        self.closed(id);
    }

    fn reply(&mut self, to: ConnectionId, xid: i32, zxid: i64, result: Result<Writer, Code>) {
        let body = self.framed(xid, zxid, result);
        self.send(to, body);
    }

    /// A reply's bytes.
    fn framed(&mut self, xid: i32, zxid: i64, result: Result<Writer, Code>) -> Vec<u8> {
        self.auth_failed += u64::from(matches!(result, Err(Code::AuthFailed)));
        let error = result.as_ref().map_or_else(|code| code.number(), |_| 0);
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&xid.to_be_bytes());
        header[4..12].copy_from_slice(&zxid.to_be_bytes());
        header[12..].copy_from_slice(&error.to_be_bytes());
        // Most bodies have room for it.
        let mut frame = result.map(Writer::into_bytes).unwrap_or_default();
        drop(frame.splice(..0, header));
        frame
    }

    /// A frame of a client that waited for too long to be carried out: it is answered with an error, in its turn.
    /// False if the request must be carried out all the same.
    pub fn throttled_frame(&mut self, now_ms: i64, from: ConnectionId, frame: &[u8]) -> bool {
        let Some(session) = self.connections.get(&from).and_then(|one| one.session) else {
            return false;
        };
        let xid = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
        let (Some(xid), false) = (xid, self.ensemble.has_queue(from)) else { return false };
        self.received += 1;
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.received += 1;
        }
        self.touch(session, now_ms);
        self.reply(from, xid, self.zxid, Err(Code::ThrottledOp));
        true
    }

    /// A frame of a client. `now_ms` is of a monotonic clock, `wall_ms` since 1970.
    pub fn frame(&mut self, now_ms: i64, wall_ms: i64, from: ConnectionId, frame: &[u8]) {
        self.received += 1;
        let Some(connection) = self.connections.get_mut(&from) else { return };
        connection.received += 1;
        let Some(session) = connection.session else {
            self.connect(now_ms, wall_ms, from, frame);
            return;
        };
        let Ok(framed) = Request::decode(frame) else {
            self.close(from);
            return;
        };
        let is_known = self.touch(session, now_ms);
        let (xid, opcode) = (framed.xid, framed.opcode);
        if !self.admit(from, (xid, opcode), &framed.request) || self.refuses(from, xid, opcode) {
            return;
        }
        let request = match framed.request {
            Ok(Request::Unknown) => {
                self.reply(from, xid, -1, Err(Code::Unimplemented));
                self.close(from);
                return;
            }
            Ok(request) => request,
            Err(_) => {
                // A write that can't be read takes a number like any that fails.
                let is_write = matches!(opcode, 1 | 2 | 5 | 7 | 13 | 14 | 15 | 16 | 19 | 21);
                if is_write {
                    self.fail(session, xid, wall_ms, Code::MarshallingError);
                }
                self.reply(from, xid, self.zxid, Err(Code::MarshallingError));
                return;
            }
        };
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.last = Some((opcode, xid, self.zxid, now_ms));
        }
        if !is_known {
            self.reply(from, xid, self.zxid, Err(Code::SessionExpired));
            return;
        }
        if request == Request::CloseSession {
            self.close_session(session, xid, wall_ms);
            self.reply(from, xid, self.zxid, Ok(Writer::new()));
            self.close(from);
            return;
        }
        match self.upgrade(session, &request) {
            local::Upgrade::Unneeded => {}
            local::Upgrade::Needed(timeout_ms) => self.upgrade_here(session, timeout_ms, wall_ms),
            local::Upgrade::Refused => {
                self.fail(session, xid, wall_ms, Code::EphemeralOnLocalSession);
                self.reply(from, xid, self.zxid, Err(Code::EphemeralOnLocalSession));
                return;
            }
        }
        let result = match request {
            Request::Create(_)
            | Request::Delete { .. }
            | Request::SetData { .. }
            | Request::SetAcl { .. }
            | Request::Check { .. }
            | Request::Reconfig { .. }
            | Request::Multi(_) => self.write(from, session, xid, wall_ms, request),
            request => {
                let shown = self.shown(&request);
                let result = self.read(from, session, request);
                self.answer_read(from, xid, shown, result);
                return;
            }
        };
        self.reply(from, xid, self.zxid, result);
    }

    /// Numbers a transaction, applies it and sends it to the log, in front of the events that it causes.
    fn commit(&mut self, session: i64, cxid: i32, time: i64, txn: Txn) {
        self.commit_and_show(session, cxid, time, txn, |_, _| ());
    }

    /// [`Core::commit`], with what `show` makes of the transaction once it is applied.
    fn commit_and_show<T>(
        &mut self,
        session: i64,
        cxid: i32,
        time: i64,
        txn: Txn,
        show: impl FnOnce(&Self, &Txn) -> T,
    ) -> T {
        self.zxid += 1;
        let before = self.effects.len();
        self.apply(session, self.zxid, time, &txn);
        let shown = show(self, &txn);
        let digest = self.settings.digests.then(|| self.tree.digest());
        let entry = Entry { session, cxid, zxid: self.zxid, time, txn, digest };
        self.effects.insert(before, Effect::Append(Box::new(entry)));
        self.note_digest();
        shown
    }

    /// A write that failed takes a number too.
    fn fail(&mut self, session: i64, cxid: i32, time: i64, code: Code) {
        self.commit(session, cxid, time, Txn::Error { code: code.number() });
    }

    /// A session is heard of; false if it is not known.
    fn touch(&mut self, id: i64, now_ms: i64) -> bool {
        let tick = self.settings.tick_ms;
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        session.expires_ms = ((now_ms + i64::from(session.timeout_ms)) / tick + 1) * tick;
        true
    }

    /// Ends sessions that have been silent for too long, and znodes that have outlived their use.
    pub fn tick(&mut self, now_ms: i64, wall_ms: i64) {
        if self.is_suspended {
            return;
        }
        self.sweep(now_ms, wall_ms);
        let ended = self.sessions.iter().filter(|(_, session)| session.expires_ms <= now_ms);
        let ended = sorted(ended.map(|(id, session)| (*id, session.connection)));
        for (id, connection) in ended {
            tracing::info!("expiring session 0x{id:x}");
            self.metrics.count(Counter::StaleSessionsExpired);
            self.close_session(id, 0, wall_ms);
            if let Some(connection) = connection {
                self.close(connection);
            }
        }
    }

    fn close_session(&mut self, session: i64, cxid: i32, wall_ms: i64) {
        if self.end_local(session) {
            return;
        }
        let paths = self.tree.ephemerals(session);
        self.commit(session, cxid, wall_ms, Txn::CloseSession { paths });
    }

    fn ids(&self, connection: ConnectionId) -> &[Id] {
        self.connections.get(&connection).map_or(&[], |connection| &connection.ids)
    }
}
