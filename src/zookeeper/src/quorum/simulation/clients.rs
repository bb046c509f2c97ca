//! Clients of a simulated ensemble: they connect to one server after the other, ask, watch, and hold every reply against
//! what was agreed on ([`super::promises`]).
//!
//! A reply names the transaction behind which it was made. Writes are in the log under that number, once, and numbered
//! behind all writes that anybody had been told of when they were asked for. A read shows the tree as it was then, and
//! numbers never fall within a session. A watch that fires once does so at the first change, before any reply shows it;
//! one that stays fires at each. A session ends when it was closed, or was silent for its timeout.

mod broken;

use std::collections::{BTreeMap, VecDeque};

use jute::request::opcode;
use jute::{Reader, Writer};

use super::promises::{Change, Model};
use super::{Event, Random, Simulation};
use crate::core::password;

pub(super) const TIMEOUT_MS: i64 = 1500;
const REGISTERS: u64 = 3;
const NO_NODE: i32 = -101;
const PING: i32 = -2;
const SET_WATCHES: i32 = -8;
const EVENT: i32 = -1;
/// Its znode is watched by watches that stay.
const BELL: &str = "/bell";

#[derive(Debug, Clone, Copy)]
struct Link {
    id: u64,
    server: i64,
    up_ms: i64,
    down_ms: i64,
    is_open: bool,
}

#[derive(Debug, Clone)]
enum Wish {
    Connect,
    /// With the number of the last write that anybody knew of.
    Write(i64),
    /// Close the session; as for a write.
    Close(i64),
    Get {
        path: String,
        watch: bool,
    },
    Exists {
        path: String,
        watch: bool,
    },
    Stay,
    Sync,
    Ping,
    SetWatches,
}

/// A watch that fires once: behind which transaction it was set, and whether the znode was there.
#[derive(Debug, Clone, Copy)]
struct Watch {
    since: i64,
    is_of_data: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) writes: u64,
    pub(super) reads: u64,
    pub(super) events: u64,
    pub(super) moves: u64,
    pub(super) expired: u64,
    pub(super) deferred: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    index: u64,
    link: Option<Link>,
    /// 0 before the first.
    session: i64,
    seen: i64,
    xid: i32,
    outstanding: VecDeque<(i32, Wish)>,
    watches: BTreeMap<String, Watch>,
    /// Set when it watches [`BELL`]: up to where the changes were counted, and events since.
    bell: Option<(i64, u64)>,
    is_rearming: bool,
    asked_ms: i64,
    /// It does nothing until then, maybe for longer than its session lasts.
    away_ms: i64,
    /// It says nothing ever again.
    pub(super) is_silent: bool,
    told: Told,
    /// Its session when it last was to live on.
    kept: i64,
}

impl Client {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index: index as u64,
            link: None,
            session: 0,
            seen: 0,
            xid: 0,
            outstanding: VecDeque::new(),
            watches: BTreeMap::new(),
            bell: None,
            is_rearming: false,
            asked_ms: 0,
            away_ms: 0,
            is_silent: false,
            told: Told::default(),
            kept: 0,
        }
    }

    /// Whether it has a session and waits for nothing, or is gone.
    pub(super) fn is_idle(&self) -> bool {
        self.is_silent || self.outstanding.is_empty() && self.link.is_some_and(|link| link.is_open)
    }

    fn lose_link(&mut self) {
        self.link = None;
        self.outstanding.clear();
        self.bell = None;
        self.is_rearming = false;
    }

    fn lose_session(&mut self) {
        self.session = 0;
        self.watches.clear();
    }

    fn is(&self, connection: u64) -> bool {
        self.link.is_some_and(|link| link.id == connection)
    }

    fn own(&self) -> String {
        format!("/ephemeral-{}", self.index)
    }

    fn hello(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let password = if self.session == 0 { [0; 16] } else { password(self.session) };
        out.int(0).long(self.seen).int(TIMEOUT_MS as i32).long(self.session);
        out.buffer(Some(&password)).boolean(false);
        out.into_bytes()
    }

    /// All watches that fire once, set again behind what was seen.
    fn set_watches(&self) -> Vec<u8> {
        let of = |is_of_data: bool| -> Vec<String> {
            let watches = self.watches.iter().filter(|(_, watch)| watch.is_of_data == is_of_data);
            watches.map(|(path, _)| path.clone()).collect()
        };
        let mut out = Writer::new();
        out.int(SET_WATCHES).int(opcode::SET_WATCHES2).long(self.seen);
        for paths in [of(true), of(false), Vec::new(), Vec::new(), Vec::new()] {
            out.vector(&paths, |out, path| {
                out.string(path);
            });
        }
        out.into_bytes()
    }

    /// Something to ask for.
    fn wish(&mut self, random: &mut Random, known: i64) -> (i32, Wish, Vec<u8>) {
        self.xid += 1;
        let (xid, own) = (self.xid, self.own());
        let register = format!("/register-{}", random.below(REGISTERS));
        let other = format!("/ephemeral-{}", random.below(4));
        let mut out = Writer::new();
        let watch = random.percent(40);
        let create = |out: &mut Writer, path: &str, flags: i32| {
            out.int(xid).int(opcode::CREATE).string(path).buffer(Some(&xid.to_be_bytes()));
            out.int(1).int(31).string("world").string("anyone").int(flags);
        };
        let wish = match random.below(100) {
            0..8 => {
                create(&mut out, &register, 0);
                Wish::Write(known)
            }
            8..12 => {
                out.int(xid).int(opcode::DELETE).string(&register).int(-1);
                Wish::Write(known)
            }
            12..37 => {
                out.int(xid).int(opcode::SET_DATA).string(&register);
                out.buffer(Some(&(self.index << 32 | xid as u64).to_be_bytes())).int(-1);
                Wish::Write(known)
            }
            37..42 => {
                create(&mut out, BELL, 0);
                Wish::Write(known)
            }
            42..50 => {
                out.int(xid).int(opcode::SET_DATA).string(BELL).buffer(None).int(-1);
                Wish::Write(known)
            }
            50..58 => {
                create(&mut out, &own, 1);
                Wish::Write(known)
            }
            58..60 => {
                out.int(xid).int(opcode::DELETE).string(&own).int(-1);
                Wish::Write(known)
            }
            60..78 => {
                out.int(xid).int(opcode::GET_DATA).string(&register).boolean(watch);
                Wish::Get { path: register, watch }
            }
            78..90 => {
                out.int(xid).int(opcode::EXISTS).string(&other).boolean(watch);
                Wish::Exists { path: other, watch }
            }
            90..94 => {
                out.int(xid).int(opcode::ADD_WATCH).string(BELL).int(0);
                Wish::Stay
            }
            94..99 => {
                out.int(xid).int(opcode::SYNC).string("/");
                Wish::Sync
            }
            _ => {
                out.int(xid).int(opcode::CLOSE_SESSION);
                Wish::Close(known)
            }
        };
        (xid, wish, out.into_bytes())
    }

    /// Everything up to `zxid` has been shown: what was to be told by then was.
    fn check_watches(&mut self, model: &Model, zxid: i64) {
        let index = self.index;
        for (path, watch) in &self.watches {
            let missed = model.changes(path, watch.since, zxid).first();
            assert!(missed.is_none(), "client {index} is not told of {path}: {missed:?}");
        }
        if let Some((since, count)) = &mut self.bell {
            let changes = model.changes(BELL, *since, zxid).len() as u64;
            assert_eq!(*count, changes, "client {index}: events of {BELL} behind 0x{since:x}");
            (*since, *count) = (zxid.max(*since), 0);
        }
    }

    fn event(&mut self, model: &Model, reader: &mut Reader<'_>) {
        let (kind, state) = (reader.int().unwrap(), reader.int().unwrap());
        let path = reader.string().unwrap();
        assert_eq!(state, 3);
        self.told.events += 1;
        if let (BELL, Some((_, count))) = (path.as_str(), &mut self.bell) {
            *count += 1;
            return;
        }
        // Fired on its way to be told that it stays: counted from there on.
        let is_to_stay = self.outstanding.iter().any(|(_, wish)| matches!(wish, Wish::Stay));
        if path == BELL {
            assert!(is_to_stay, "an event of {path} that nobody watches");
            return;
        }
        let watch = self.watches.remove(&path);
        let watch = watch.unwrap_or_else(|| panic!("an event of {path}, which is not watched"));
        let change = model.changes(&path, watch.since, i64::MAX).first();
        let change = change.unwrap_or_else(|| panic!("an event of {path}, which has not changed"));
        assert!(change.zxid > self.seen, "an event of {path} comes behind what shows its cause");
        // Of what was missed only the last is told.
        let is_alike = change.change as i32 == kind;
        assert!(is_alike || self.is_rearming, "{path}: event {kind} for {change:?}");
    }

    /// Watches that were set again are so behind `zxid`; those that have fired are gone.
    fn rearmed(&mut self, model: &Model, zxid: i64) {
        self.is_rearming = false;
        for (path, watch) in &mut self.watches {
            let znode = model.at(path, zxid);
            let is_unchanged = match znode {
                Some(znode) => watch.is_of_data && znode.zxid <= watch.since,
                None => !watch.is_of_data,
            };
            assert!(is_unchanged, "a change of {path} while its watcher was away is not told");
            watch.since = zxid;
        }
    }

    fn reply(&mut self, model: &Model, frame: &[u8]) -> Option<Event> {
        let mut reader = Reader::new(frame);
        let xid = reader.int().unwrap();
        let (zxid, code) = (reader.long().unwrap(), reader.int().unwrap());
        if xid == EVENT {
            self.event(model, &mut reader);
            return None;
        }
        let (asked, wish) = self.outstanding.pop_front().expect("a reply that nobody asked for");
        assert_eq!(xid, asked, "replies come in order");
        assert!(zxid >= self.seen, "0x{zxid:x} behind 0x{:x}: back in time", self.seen);
        if matches!(wish, Wish::SetWatches) {
            self.rearmed(model, zxid);
        }
        if self.is_rearming {
            // Watches are not all set again yet.
            self.seen = zxid;
        } else {
            self.check_watches(model, zxid);
            self.seen = zxid;
        }
        match wish {
            Wish::Write(known) | Wish::Close(known) => {
                self.told.writes += 1;
                let outcome = model.outcome(zxid);
                let outcome = outcome.unwrap_or_else(|| panic!("0x{zxid:x} is not in the log"));
                assert_eq!((outcome.session, outcome.cxid), (self.session, xid));
                assert_eq!(outcome.code, code, "0x{zxid:x} is another in the log");
                assert!(zxid > known, "0x{zxid:x} was begun when 0x{known:x} was known");
            }
            Wish::Get { path, watch } => {
                self.told.reads += 1;
                let znode = model.at(&path, zxid);
                assert_eq!(code, if znode.is_some() { 0 } else { NO_NODE }, "{path} 0x{zxid:x}");
                if let Some(znode) = znode {
                    let data = reader.buffer().unwrap().unwrap_or_default();
                    assert_eq!(data, znode.data, "{path} behind 0x{zxid:x}");
                    self.compare(&mut reader, znode.version, znode.zxid, 0);
                    self.watch(path, watch, zxid, true);
                }
            }
            Wish::Exists { path, watch } => {
                self.told.reads += 1;
                let znode = model.at(&path, zxid);
                assert_eq!(code, if znode.is_some() { 0 } else { NO_NODE }, "{path} 0x{zxid:x}");
                if let Some(znode) = znode {
                    self.compare(&mut reader, znode.version, znode.zxid, znode.owner);
                }
                self.watch(path, watch, zxid, znode.is_some());
            }
            Wish::Stay => self.bell = Some((zxid, 0)),
            Wish::Sync | Wish::Ping | Wish::SetWatches => assert_eq!(code, 0),
            Wish::Connect => unreachable!("replies to it are of another form"),
        }
        None
    }

    fn watch(&mut self, path: String, is_wanted: bool, since: i64, is_of_data: bool) {
        if is_wanted {
            self.watches.insert(path, Watch { since, is_of_data });
        }
    }

    /// A `Stat` shows this version.
    fn compare(&self, reader: &mut Reader<'_>, version: i32, mzxid: i64, owner: i64) {
        let [_, modified, _, _] = std::array::from_fn(|_| reader.long().unwrap());
        let [found, _, _] = std::array::from_fn(|_| reader.int().unwrap());
        assert_eq!((found, modified), (version, mzxid), "client {}", self.index);
        assert_eq!(reader.long().unwrap(), owner);
    }

    fn connected(&mut self, model: &Model, frame: &[u8]) {
        let mut reader = Reader::new(frame);
        let _protocol = reader.int().unwrap();
        let (_timeout, session) = (reader.int().unwrap(), reader.long().unwrap());
        self.outstanding.pop_front();
        if session == 0 {
            let is_over = model.has_ended(self.session) || model.doomed.contains(&self.session);
            assert!(is_over, "session {:x} is told to be over, and is not", self.session);
            assert_ne!(self.session, self.kept, "session {:x} was to live on", self.session);
            self.told.expired += 1;
            self.lose_session();
            self.lose_link();
            return;
        }
        self.told.moves += u64::from(self.session == session);
        assert!(self.session == 0 || self.session == session, "another's session");
        if self.session == 0 {
            // Sessions count their requests from the start.
            self.xid = 0;
        }
        self.session = session;
        self.link.as_mut().expect("a connection").is_open = true;
    }
}

impl Simulation {
    fn client(&mut self, connection: u64) -> &mut Client {
        &mut self.clients[(connection % 16) as usize]
    }

    /// A server sends something, or closes a connection.
    pub(super) fn tell(&mut self, server: i64, connection: u64, frame: Option<Vec<u8>>) {
        let delay_ms = 1 + self.random.below(20) as i64;
        let now_ms = self.now_ms;
        let client = self.client(connection);
        let Some(link) = client.link.as_mut().filter(|link| link.id == connection) else { return };
        assert_eq!(link.server, server);
        link.down_ms = (now_ms + delay_ms).max(link.down_ms);
        let at_ms = link.down_ms;
        self.at(at_ms - now_ms, Event::Told { connection, frame });
    }

    fn ask(&mut self, index: usize, frame: Option<Vec<u8>>) {
        let delay_ms = 1 + self.random.below(20) as i64;
        let now_ms = self.now_ms;
        let Some(link) = &mut self.clients[index].link else { return };
        link.up_ms = (now_ms + delay_ms).max(link.up_ms);
        let (at, connection, at_ms) = (link.server, link.id, link.up_ms);
        self.clients[index].asked_ms = now_ms;
        self.at(at_ms - now_ms, Event::Asked { at, connection, frame });
    }

    pub(super) fn told(&mut self, connection: u64, frame: Option<Vec<u8>>) {
        let index = (connection % 16) as usize;
        if !self.clients[index].is(connection) {
            return;
        }
        let Some(frame) = frame else {
            self.clients[index].lose_link();
            return;
        };
        let client = &mut self.clients[index];
        let model = &self.checks.model;
        if !matches!(client.outstanding.front(), Some((_, Wish::Connect))) {
            let is_close = matches!(client.outstanding.front(), Some((_, Wish::Close(_))));
            let before = client.told.writes;
            client.reply(model, &frame);
            if client.told.writes > before {
                self.known = self.known.max(client.seen);
                if is_close {
                    client.lose_session();
                    self.hang_up(index);
                }
            }
            return;
        }
        client.connected(model, &frame);
        let has_watches = client.link.is_some() && !client.watches.is_empty();
        if has_watches {
            client.is_rearming = true;
            client.outstanding.push_back((SET_WATCHES, Wish::SetWatches));
            let frame = client.set_watches();
            self.ask(index, Some(frame));
        }
    }

    fn hang_up(&mut self, index: usize) {
        self.ask(index, None);
        self.clients[index].lose_link();
    }

    /// A server is no more: its clients notice.
    pub(super) fn hang_up_all(&mut self, server: i64) {
        let links = self.clients.iter().filter_map(|client| client.link);
        let there: Vec<u64> =
            links.filter(|link| link.server == server).map(|link| link.id).collect();
        for connection in there {
            self.tell(server, connection, None);
        }
    }

    pub(super) fn tick_clients(&mut self) {
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            if client.is_silent {
                continue;
            }
            let Some(link) = client.link else {
                if client.away_ms <= self.now_ms && self.random.percent(20) {
                    self.connect(index);
                }
                continue;
            };
            let is_stuck = !client.outstanding.is_empty()
                && self.now_ms - client.asked_ms > TIMEOUT_MS
                && !self.calm;
            if is_stuck || !self.calm && self.random.below(200) == 0 {
                if self.random.percent(30) {
                    let away_ms = self.random.below(2 * TIMEOUT_MS as u64) as i64;
                    self.clients[index].away_ms = self.now_ms + away_ms;
                }
                self.hang_up(index);
            } else if !link.is_open {
            } else if self.calm {
                self.ping(index);
            } else if client.outstanding.len() < 4 && self.random.percent(40) {
                let known = self.known;
                let (xid, wish, frame) = self.clients[index].wish(&mut self.random, known);
                let is_last = self.clients[index]
                    .outstanding
                    .iter()
                    .any(|(_, wish)| matches!(wish, Wish::Close(_)));
                if !is_last {
                    self.clients[index].outstanding.push_back((xid, wish));
                    self.ask(index, Some(frame));
                }
            } else {
                self.ping(index);
            }
        }
    }

    fn ping(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.outstanding.is_empty() && self.now_ms - client.asked_ms > TIMEOUT_MS / 4 {
            client.outstanding.push_back((PING, Wish::Ping));
            let mut out = Writer::new();
            out.int(PING).int(opcode::PING);
            self.ask(index, Some(out.into_bytes()));
        }
    }

    fn connect(&mut self, index: usize) {
        let server = 1 + self.random.below(self.nodes.len() as u64) as i64;
        self.connections_of_clients += 16;
        let (id, now_ms) = (self.connections_of_clients + index as u64, self.now_ms);
        let client = &mut self.clients[index];
        client.link = Some(Link { id, server, up_ms: now_ms, down_ms: now_ms, is_open: false });
        client.outstanding.push_back((0, Wish::Connect));
        let hello = client.hello();
        self.ask(index, Some(Vec::new()));
        self.ask(index, Some(hello));
    }

    /// Some clients are not heard of any more; the sessions of the others are to live on.
    pub(super) fn silence_some(&mut self) {
        for index in 0..self.clients.len() {
            let is_silent = self.random.percent(40);
            let client = &mut self.clients[index];
            client.is_silent = is_silent;
            if is_silent {
                client.lose_link();
            } else {
                client.kept = client.session;
            }
        }
    }

    /// At the end: sessions that were silent are over, the others are not, and every server has the same znodes.
    pub(super) fn check_clients(&self) {
        let model = &self.checks.model;
        for client in &self.clients {
            let is_over = model.has_ended(client.session);
            if client.is_silent {
                assert!(is_over || client.session == 0, "session {:x} never ends", client.session);
            } else {
                assert!(!is_over, "session {:x} ended while it was heard of", client.session);
            }
        }
        for (id, node) in &self.nodes {
            let Some(service) = &node.service else { continue };
            for path in model.paths() {
                let expected = model.at(path, i64::MAX).map(|znode| (znode.owner, znode.zxid));
                let found = service.core.tree().get(path).map(|znode| {
                    let stat = znode.stat();
                    (stat.persisted.ephemeral_owner, stat.persisted.mzxid)
                });
                assert_eq!(found, expected, "{path} at server {id}");
            }
        }
    }

    /// Where things are, for whoever looks into a failure.
    pub(super) fn standing(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (id, node) in &self.nodes {
            let serves = node.member.as_ref().is_some_and(super::Member::serves);
            let (tree, committed) = (node.tree.len(), node.committed);
            write!(text, "server {id} serves {serves}, {committed} of {tree}; ").unwrap();
        }
        for client in self.clients.iter().filter(|client| !client.is_idle()) {
            write!(text, "client {}: {:?}; ", client.index, client.outstanding).unwrap();
        }
        text
    }

    pub(super) fn told_clients(&self) -> Told {
        let mut all = Told { deferred: self.deferred, ..Told::default() };
        for Told { writes, reads, events, moves, expired, .. } in
            self.clients.iter().map(|client| client.told)
        {
            all.writes += writes;
            all.reads += reads;
            all.events += events;
            all.moves += moves;
            all.expired += expired;
        }
        all
    }
}

/// Events are told apart by the change that they are of.
const _: () = assert!(Change::Created as i32 == 1 && Change::DataChanged as i32 == 3);
