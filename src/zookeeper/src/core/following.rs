//! A follower's clients: reads are answered here, writes go to the leader and are answered when they come back as
//! committed transactions.
//!
//! Requests of a connection are answered in order: what comes behind a write waits in the connection's queue.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use jute::records::{ConnectRequest, Id};
use jute::request::{Request, opcode};
use jute::txn::{Entry, Txn};
use jute::{Code, Reader, Writer};

use super::local::Upgrade;
use super::read_only::Visit;
use super::{ConnectionId, Core, State, password};
use crate::metrics::Counter;

/// Requests of one connection that may wait; a client that sends more is cut off.
const QUEUE_MAX: usize = 10_000;

/// What an ensemble adds to a server's state.
#[derive(Debug, Default)]
pub(super) struct Ensemble {
    /// Which server has a session, as far as the leader knows.
    pub(super) owners: HashMap<i64, i64>,
    /// Sessions heard of since the leader last asked.
    touched: HashSet<i64>,
    queues: HashMap<ConnectionId, VecDeque<Queued>>,
    /// Connections that wait for the leader's word on their session.
    opening: HashMap<i64, Opening>,
    syncs: VecDeque<ConnectionId>,
    /// Connections of whose requests one was answered that had waited, once for each.
    answered: Vec<ConnectionId>,
    /// Clients that read while there is no leader.
    pub(super) visits: HashMap<ConnectionId, Visit>,
    forwards: Vec<Forward>,
}

impl Ensemble {
    /// Whether requests of a connection wait for the leader: what comes behind them is answered behind them.
    pub(super) fn has_queue(&self, id: ConnectionId) -> bool {
        self.queues.get(&id).is_some_and(|queue| !queue.is_empty())
    }

    fn queued(&self, id: ConnectionId) -> usize {
        self.queues.get(&id).map_or(0, VecDeque::len)
    }

    pub(super) fn closed(&mut self, id: ConnectionId) {
        self.queues.remove(&id);
        self.visits.remove(&id);
    }
}

#[derive(Debug)]
enum Queued {
    Write { cxid: i32 },
    Refused { xid: i32 },
    Sync { xid: i32, path: String },
    Frame(Vec<u8>),
}

#[derive(Debug)]
struct Opening {
    connection: ConnectionId,
    timeout_ms: i32,
    read_only: Option<bool>,
}

/// What is to go to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// A request: session and frame, and whose it is.
    Request(Vec<u8>, Vec<Id>),
    /// Whether a session is still valid: session and timeout.
    Revalidate(i64, i32),
}

impl Core {
    /// Sessions that begin here have the server's id in front.
    pub fn set_server_id(&mut self, id: i64) {
        self.next_session = (self.next_session & ((1 << 56) - 1)) | (id << 56);
    }

    /// Replaces tree and sessions by what a leader sent or the disk holds.
    pub fn restore(&mut self, state: State) {
        let fresh = Self::new(self.settings.clone(), state, 0);
        (self.tree, self.zxid, self.sessions) = (fresh.tree, fresh.zxid, fresh.sessions);
        self.settled = self.zxid;
    }

    /// Begins to follow a leader whose first number is `zxid`, or to observe: everything before it is in the tree.
    pub fn follow(&mut self, zxid: i64, observes: bool) {
        self.mode = if observes { "observer" } else { "follower" };
        // Clients that come from the leader may have seen it.
        self.zxid = self.zxid.max(zxid);
    }

    /// There is no leader: clients are sent away.
    pub fn without_leader(&mut self) {
        self.mode = "looking";
        for id in super::sorted(self.connections.keys().copied()) {
            self.close(id);
        }
        self.ensemble = Ensemble::default();
        self.forget_local();
    }

    /// What is to go to the leader since the last call.
    pub fn take_forwards(&mut self) -> Vec<Forward> {
        std::mem::take(&mut self.ensemble.forwards)
    }

    /// Requests of a connection that wait for the leader, or behind such.
    pub fn queued(&self, id: ConnectionId) -> usize {
        self.ensemble.queued(id)
    }

    /// The connections of those requests that have waited so, and were answered since the last call; in the order in
    /// which they came.
    pub fn take_answered(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.ensemble.answered)
    }

    /// A client of an observer that this server serves has been heard of there.
    pub fn heard_elsewhere(&mut self, session: i64) {
        self.ensemble.touched.insert(session);
    }

    /// Sessions and timeouts to tell the leader of.
    pub fn take_touched(&mut self) -> Vec<(i64, i32)> {
        let touched = std::mem::take(&mut self.ensemble.touched);
        let known = touched
            .into_iter()
            .filter_map(|id| self.sessions.get(&id).map(|session| (id, session.timeout_ms)));
        super::sorted(known)
    }

    /// [`Core::frame`] of a server that follows.
    pub fn follower_frame(&mut self, now_ms: i64, from: ConnectionId, frame: &[u8]) {
        self.received += 1;
        let Some(connection) = self.connections.get_mut(&from) else { return };
        connection.received += 1;
        let Some(session) = connection.session else {
            self.open_session(now_ms, from, frame);
            return;
        };
        if self.is_local(session) {
            self.touch(session, now_ms);
        } else {
            self.ensemble.touched.insert(session);
        }
        let Ok(framed) = Request::decode(frame) else {
            self.close(from);
            return;
        };
        if !self.admit(from, (framed.xid, framed.opcode), &framed.request) {
            return;
        }
        let queue = self.ensemble.queues.entry(from).or_default();
        if queue.len() >= QUEUE_MAX {
            tracing::warn!("a client with {QUEUE_MAX} requests outstanding is cut off");
            self.close(from);
            return;
        }
        let upgrade = framed
            .request
            .as_ref()
            .map_or(Upgrade::Unneeded, |request| self.upgrade(session, request));
        if let Upgrade::Needed(timeout_ms) = upgrade {
            self.ask_upgrade(from, session, timeout_ms);
        }
        let queued = match &framed.request {
            Ok(_) if upgrade == Upgrade::Refused => {
                let refused = Queued::Refused { xid: framed.xid };
                self.ensemble.queues.entry(from).or_default().push_back(refused);
                self.answer_waiting(from);
                return;
            }
            Ok(Request::CloseSession) if self.is_local(session) => {
                self.answer_in_turn(from, session, frame);
                return;
            }
            Ok(request) if self.is_forwarded(request) => Queued::Write { cxid: framed.xid },
            Ok(Request::Sync { path }) => Queued::Sync { xid: framed.xid, path: path.clone() },
            _ => {
                self.answer_in_turn(from, session, frame);
                return;
            }
        };
        if matches!(queued, Queued::Sync { .. }) {
            self.ensemble.syncs.push_back(from);
        }
        self.ensemble.queues.entry(from).or_default().push_back(queued);
        let mut data = Writer::with_capacity(size_of::<i64>() + frame.len());
        data.long(session).raw(frame);
        let ids = self.ids(from).to_vec();
        self.ensemble.forwards.push(Forward::Request(data.into_bytes(), ids));
    }

    fn is_forwarded(&self, request: &Request) -> bool {
        match request {
            // The original's leader does not survive a TTL node when it has them switched off.
            Request::Create(create) if create.opcode == opcode::CREATE_TTL => {
                self.settings.extended_types
            }
            Request::Create(_)
            | Request::Delete { .. }
            | Request::SetData { .. }
            | Request::SetAcl { .. }
            | Request::Check { .. }
            | Request::Reconfig { .. }
            | Request::Multi(_)
            | Request::CloseSession => true,
            _ => false,
        }
    }

    /// Answers now, or behind what waits for the leader.
    fn answer_in_turn(&mut self, from: ConnectionId, session: i64, frame: &[u8]) {
        match self.ensemble.queues.get_mut(&from) {
            Some(queue) if !queue.is_empty() => queue.push_back(Queued::Frame(frame.to_vec())),
            _ => self.answer(from, session, frame),
        }
    }

    pub(super) fn push_forward(&mut self, forward: Forward) {
        self.ensemble.forwards.push(forward);
    }

    /// What is answered without the leader.
    fn answer(&mut self, from: ConnectionId, session: i64, frame: &[u8]) {
        let Ok(framed) = Request::decode(frame) else { return };
        let xid = framed.xid;
        let result = match framed.request {
            Ok(Request::Unknown) => {
                self.reply(from, xid, -1, Err(Code::Unimplemented));
                self.close(from);
                return;
            }
            Err(_) => Err(Code::MarshallingError),
            Ok(_) if !self.sessions.contains_key(&session) => Err(Code::SessionExpired),
            Ok(Request::Create(_)) => Err(Code::Unimplemented),
            Ok(Request::CloseSession) => {
                self.end_local(session);
                self.reply(from, xid, self.zxid, Ok(Writer::new()));
                self.close(from);
                return;
            }
            Ok(request) => self.read(from, session, request),
        };
        self.reply(from, xid, self.zxid, result);
    }

    fn open_session(&mut self, now_ms: i64, from: ConnectionId, frame: &[u8]) {
        self.metrics.count(Counter::ConnectionRequestCount);
        let Ok(request) = ConnectRequest::decode(frame) else {
            self.close(from);
            return;
        };
        if request.last_zxid_seen > self.zxid {
            tracing::info!("a client has seen a later zxid than ours 0x{:x}", self.zxid);
            self.close(from);
            return;
        }
        let timeout_ms = request
            .timeout
            .clamp(self.settings.session_timeout_min_ms, self.settings.session_timeout_max_ms);
        let opening = Opening { connection: from, timeout_ms, read_only: request.read_only };
        if request.session == 0 && self.has_local_sessions() {
            let session = self.begin_local(now_ms, from, timeout_ms);
            self.ensemble.opening.insert(session, opening);
            self.validated(session, true);
        } else if self.is_local(request.session) && request.password == password(request.session) {
            self.touch(request.session, now_ms);
            self.ensemble.opening.insert(request.session, opening);
            self.validated(request.session, true);
        } else if request.session == 0 {
            let session = self.number_session();
            let mut data = Writer::new();
            data.long(session).int(0).int(opcode::CREATE_SESSION).int(timeout_ms);
            let ids = self.ids(from).to_vec();
            self.ensemble.forwards.push(Forward::Request(data.into_bytes(), ids));
            self.ensemble.opening.insert(session, opening);
        } else if request.password == password(request.session) {
            self.metrics.count(Counter::ConnectionRevalidateCount);
            self.ensemble.forwards.push(Forward::Revalidate(request.session, timeout_ms));
            self.ensemble.opening.insert(request.session, opening);
        } else {
            self.connect_reply(from, 0, 0, &[0; 16], request.read_only);
            self.close(from);
        }
    }

    /// The leader's word on a session.
    pub fn validated(&mut self, session: i64, is_valid: bool) {
        let Some(opening) = self.ensemble.opening.remove(&session) else { return };
        let Opening { connection: from, timeout_ms, read_only } = opening;
        let (true, Some(known)) = (is_valid, self.sessions.get_mut(&session)) else {
            self.connect_reply(from, 0, 0, &[0; 16], read_only);
            self.close(from);
            return;
        };
        let Some(connection) = self.connections.get_mut(&from) else { return };
        connection.session = Some(session);
        known.timeout_ms = timeout_ms;
        let other = known.connection.replace(from).filter(|other| *other != from);
        if let Some(other) = other {
            self.close(other);
            if let Some(known) = self.sessions.get_mut(&session) {
                known.connection = Some(from);
            }
        }
        self.connect_reply(from, timeout_ms, session, &password(session), read_only);
    }

    /// The leader has committed everything that it had when a client asked for it.
    pub fn synchronised(&mut self) {
        let Some(from) = self.ensemble.syncs.pop_front() else { return };
        let Some(queue) = self.ensemble.queues.get_mut(&from) else { return };
        if let Some(Queued::Sync { xid, path }) = queue.front() {
            let (xid, mut body) = (*xid, Writer::new());
            body.string(path);
            queue.pop_front();
            self.ensemble.answered.push(from);
            self.reply(from, xid, self.zxid, Ok(body));
            self.answer_waiting(from);
        }
    }

    fn answer_waiting(&mut self, from: ConnectionId) {
        while let Some(queue) = self.ensemble.queues.get_mut(&from) {
            let is_next =
                |queued: &mut Queued| matches!(queued, Queued::Frame(_) | Queued::Refused { .. });
            let Some(queued) = queue.pop_front_if(is_next) else { return };
            self.ensemble.answered.push(from);
            let frame = match queued {
                Queued::Frame(frame) => frame,
                Queued::Refused { xid } => {
                    self.reply(from, xid, self.zxid, Err(Code::EphemeralOnLocalSession));
                    continue;
                }
                Queued::Write { .. } | Queued::Sync { .. } => return,
            };
            let Some(session) = self.connections.get(&from).and_then(|one| one.session) else {
                return;
            };
            self.answer(from, session, &frame);
        }
    }

    /// Applies a committed transaction, and answers the client that it is from, if it is here.
    pub fn deliver(&mut self, entry: &Entry) {
        self.zxid = entry.zxid;
        let from = self.sessions.get(&entry.session).and_then(|session| session.connection);
        let is_ours = from.is_some_and(|from| self.is_waited_for(from, entry));
        let result = self.apply_and_tell(entry, is_ours);
        self.note_digest();
        self.compare_digest(entry);
        match entry.txn {
            Txn::CreateSession { .. } => {
                self.validated(entry.session, true);
                return;
            }
            // Whoever came back for it is told, whatever the leader says then.
            Txn::CloseSession { .. } => self.validated(entry.session, false),
            _ => {}
        }
        let Some(from) = from else { return };
        let ended = matches!(entry.txn, Txn::CloseSession { .. })
            || result.as_ref().err() == Some(&Code::SessionMoved.number());
        if is_ours {
            // The leader's error may be one that this server never gives itself.
            let mut frame = self.body();
            frame.int(entry.cxid).long(entry.zxid).int(result.as_ref().err().copied().unwrap_or(0));
            if let Ok(body) = result {
                frame.raw(body.as_bytes());
                self.take_back(body.into_bytes());
            }
            self.send(from, frame.into_bytes());
        }
        if ended {
            self.close(from);
        } else if is_ours {
            self.answer_waiting(from);
        }
    }

    /// Whether the next that a connection waits for is this transaction, which it waits for no longer then.
    fn is_waited_for(&mut self, from: ConnectionId, entry: &Entry) -> bool {
        let is_it =
            |queued: &mut Queued| matches!(queued, Queued::Write { cxid } if *cxid == entry.cxid);
        let queue = self.ensemble.queues.get_mut(&from);
        let is_waited_for = !matches!(entry.txn, Txn::CreateSession { .. })
            && queue.and_then(|queue| queue.pop_front_if(is_it)).is_some();
        if is_waited_for {
            self.ensemble.answered.push(from);
        }
        is_waited_for
    }

    /// Compares the tree with what the leader says it is (`DataTree.compareDigest`).
    fn compare_digest(&mut self, entry: &Entry) {
        if self.settings.digests {
            let before = self.compared.mismatches;
            self.compared.compare(entry.zxid, self.tree.digest(), entry.digest);
            let more = self.compared.mismatches - before;
            self.metrics.add(Counter::DigestMismatchesCount, more);
        }
    }

    /// The result is what the reply holds, if there `is_reply`, or an error's number.
    fn apply_and_tell(&mut self, entry: &Entry, is_reply: bool) -> Result<Writer, i32> {
        let (session, zxid, time) = (entry.session, entry.zxid, entry.time);
        let mut body = if is_reply { self.body() } else { Writer::new() };
        match &entry.txn {
            Txn::Error { code } => return Err(*code),
            Txn::Multi(txns) => {
                let failed = txns.iter().any(|txn| matches!(txn, Txn::Error { .. }));
                for txn in txns {
                    if failed {
                        let code = if let Txn::Error { code } = txn { *code } else { 0 };
                        body.int(-1).boolean(false).int(code).int(code);
                        continue;
                    }
                    self.apply(session, zxid, time, txn);
                    if !is_reply {
                        continue;
                    }
                    let kind = match txn.kind() {
                        opcode::CREATE_CONTAINER | opcode::CREATE_TTL => opcode::CREATE2,
                        kind => kind,
                    };
                    body.int(kind).boolean(false).int(0);
                    self.result(txn, &mut body);
                }
                body.int(-1).boolean(true).int(-1);
            }
            txn => {
                self.apply(session, zxid, time, txn);
                if is_reply {
                    self.result(txn, &mut body);
                }
            }
        }
        Ok(body)
    }
}

/// Reads what a leader is told of sessions: ids and timeouts.
pub(crate) fn read_touched(data: &[u8]) -> Vec<(i64, i32)> {
    let (mut reader, mut touched) = (Reader::new(data), Vec::new());
    while let (Ok(session), Ok(timeout)) = (reader.long(), reader.int()) {
        touched.push((session, timeout));
    }
    touched
}

#[cfg(test)]
pub(super) mod tests;
