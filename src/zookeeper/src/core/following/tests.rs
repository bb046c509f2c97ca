//! A leader and followers, wired together by hand.

use super::*;
use crate::core::{Effect, Settings};

const CLIENT: ConnectionId = ConnectionId(1);

fn settings() -> Settings {
    let directory = std::path::Path::new("zoo.cfg");
    let config = crate::Config::parse(directory, "dataDir=/d\nclientPort=1").unwrap();
    crate::server::settings(&config)
}

/// A leader and a follower with a client, and what the client was sent.
pub(in crate::core) struct Pair {
    pub(in crate::core) leader: Core,
    pub(in crate::core) follower: Core,
    pub(in crate::core) replies: Vec<(i32, i32)>,
}

/// The first frame of a client.
fn hello() -> Vec<u8> {
    let mut hello = Writer::new();
    hello.int(0).long(0).int(30_000).long(0).buffer(Some(&[0; 16])).boolean(false);
    hello.into_bytes()
}

impl Pair {
    fn new() -> Self {
        Self::with(|_| {})
    }

    pub(in crate::core) fn with(change: impl Fn(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let mut leader = Core::new(settings.clone(), State::default(), 0);
        let mut follower = Core::new(settings, State::default(), 0);
        leader.lead(0, 1 << 32);
        follower.set_server_id(2);
        follower.follow(1 << 32, false);
        follower.opened(0, CLIENT, "c:1", Vec::new());
        let mut pair = Self { leader, follower, replies: Vec::new() };
        pair.follower.follower_frame(0, CLIENT, &hello());
        pair.exchange();
        pair.replies.clear();
        pair
    }

    pub(in crate::core) fn ask(&mut self, xid: i32, kind: i32, body: impl FnOnce(&mut Writer)) {
        let mut frame = Writer::new();
        frame.int(xid).int(kind);
        body(&mut frame);
        self.follower.follower_frame(0, CLIENT, frame.as_bytes());
        self.collect();
    }

    /// The session of a client of the leader's own.
    pub(in crate::core) fn leader_session(&mut self) -> i64 {
        self.leader.opened(0, CLIENT, "c:1", Vec::new());
        self.leader.frame(0, 0, CLIENT, &hello());
        self.leader.take_effects();
        self.leader.connections().find_map(|connection| connection.session).unwrap()
    }

    /// What a client of the leader's own is answered: xid and code.
    pub(in crate::core) fn ask_leader(
        &mut self,
        xid: i32,
        kind: i32,
        body: impl FnOnce(&mut Writer),
    ) -> (i32, i32) {
        self.leader_session();
        let mut frame = Writer::new();
        frame.int(xid).int(kind);
        body(&mut frame);
        self.leader.frame(0, 0, CLIENT, frame.as_bytes());
        let effects = self.leader.take_effects();
        let reply = effects.iter().find_map(|effect| match effect {
            Effect::Send(_, body) => Some(body),
            _ => None,
        });
        let mut reader = Reader::new(reply.unwrap());
        let (xid, _, code) = (reader.int().unwrap(), reader.long().unwrap(), reader.int().unwrap());
        (xid, code)
    }

    fn collect(&mut self) {
        for effect in self.follower.take_effects() {
            if let Effect::Send(_, body) = effect {
                let mut reader = Reader::new(&body);
                let (xid, _, code) =
                    (reader.int().unwrap(), reader.long().unwrap(), reader.int().unwrap());
                self.replies.push((xid, code));
            }
        }
    }

    /// Requests go to the leader, transactions come back.
    pub(in crate::core) fn exchange(&mut self) {
        for forward in self.follower.take_forwards() {
            if let Forward::Request(data, ids) = forward {
                self.leader.forwarded(0, 0, 2, &data, ids);
            }
        }
        for effect in self.leader.take_effects() {
            if let Effect::Append(entry) = effect {
                self.follower.deliver(&Entry::decode(&entry.encode()).unwrap());
            }
        }
        self.collect();
    }
}

fn create(path: &'static str) -> impl FnOnce(&mut Writer) {
    create_with(path, 0)
}

pub(in crate::core) fn create_with(path: &'static str, flags: i32) -> impl FnOnce(&mut Writer) {
    move |body| {
        body.string(path).buffer(None).int(1).int(31);
        body.string("world").string("anyone").int(flags);
    }
}

pub(in crate::core) fn exists(path: &'static str) -> impl FnOnce(&mut Writer) {
    move |body| {
        body.string(path).boolean(false);
    }
}

#[test]
fn reads_wait_for_writes_before_them_and_see_them() {
    let mut pair = Pair::new();
    pair.ask(1, opcode::EXISTS, exists("/a"));
    assert_eq!(pair.replies, [(1, -101)]);
    pair.replies.clear();
    pair.ask(2, opcode::CREATE, create("/a"));
    pair.ask(3, opcode::EXISTS, exists("/a"));
    pair.ask(4, opcode::CREATE, create("/a"));
    pair.ask(5, opcode::EXISTS, exists("/b"));
    assert_eq!(pair.replies, []);
    pair.exchange();
    assert_eq!(pair.replies, [(2, 0), (3, 0), (4, -110), (5, -101)]);
    assert_eq!(pair.follower.tree().digest(), pair.leader.tree().digest());
}

#[test]
fn whoever_waits_for_the_leader_is_told_of_once_for_each_answer() {
    let mut pair = Pair::new();
    pair.ask(1, opcode::EXISTS, exists("/a"));
    assert_eq!((pair.follower.queued(CLIENT), pair.follower.take_answered()), (0, vec![]));
    pair.ask(2, opcode::CREATE, create("/a"));
    pair.ask(3, opcode::EXISTS, exists("/a"));
    assert_eq!((pair.follower.queued(CLIENT), pair.follower.take_answered()), (2, vec![]));
    pair.exchange();
    assert_eq!(pair.follower.queued(CLIENT), 0);
    assert_eq!(pair.follower.take_answered(), [CLIENT, CLIENT]);
    pair.ask(4, opcode::SYNC, |body| {
        body.string("/");
    });
    assert_eq!(pair.follower.queued(CLIENT), 1);
    pair.follower.synchronised();
    assert_eq!(pair.follower.take_answered(), [CLIENT]);
}

#[test]
fn a_sync_is_answered_when_the_leader_says_so() {
    let mut pair = Pair::new();
    pair.ask(1, opcode::SYNC, |body| {
        body.string("/");
    });
    pair.ask(2, opcode::EXISTS, exists("/"));
    assert_eq!(pair.replies, []);
    pair.follower.synchronised();
    pair.collect();
    assert_eq!(pair.replies, [(1, 0), (2, 0)]);
}

#[test]
fn a_session_that_moved_is_told_so_and_cut_off() {
    let mut pair = Pair::new();
    let session = *pair.follower.sessions.keys().next().unwrap();
    assert_eq!(session >> 56, 2);
    assert!(pair.leader.revalidate(0, 3, session));
    pair.ask(1, opcode::CREATE, create("/a"));
    pair.exchange();
    assert_eq!(pair.replies, [(1, Code::SessionMoved.number())]);
    assert_eq!(pair.follower.connections().count(), 0);
    assert!(!pair.leader.revalidate(0, 3, 77));
}

#[test]
fn who_comes_back_while_the_session_ends_is_told_so() {
    const BACK: ConnectionId = ConnectionId(2);
    let mut pair = Pair::new();
    let session = *pair.follower.sessions.keys().next().unwrap();
    pair.follower.opened(0, BACK, "c:2", Vec::new());
    let mut hello = Writer::new();
    hello.int(0).long(0).int(30_000).long(session).buffer(Some(&password(session)));
    pair.follower.follower_frame(0, BACK, hello.as_bytes());
    let zxid = pair.leader.zxid() + 1;
    let txn = Txn::CloseSession { paths: Vec::new() };
    pair.follower.deliver(&Entry { session, cxid: 0, zxid, time: 0, txn, digest: None });
    let effects = pair.follower.take_effects();
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Send(BACK, body) => Some(body[8..16] == [0; 8]),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [true], "session 0: {effects:?}");
    assert!(effects.contains(&Effect::Close(BACK)));
}

#[test]
fn a_tree_that_is_not_what_the_leader_says_is_counted() {
    let mut core = Core::new(settings(), State::default(), 0);
    let digest = core.tree().digest();
    for (zxid, digest, count) in
        [(1, Some(digest), 0), (2, None, 0), (3, Some(digest + 1), 1), (4, Some(digest), 1)]
    {
        let txn = Txn::Error { code: -1 };
        core.deliver(&Entry { session: 1, cxid: 1, zxid, time: 0, txn, digest });
        assert_eq!(core.metrics.get(Counter::DigestMismatchesCount), count, "{zxid}");
    }
}
