//! Each promise, held against what breaks it: a check that nothing fails would prove nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jute::Writer;
use jute::txn::{Entry, Txn};

use super::*;
use crate::quorum::configuration::Configuration;
use crate::quorum::simulation::checks::Checks;
use crate::quorum::simulation::runs::said;
use crate::quorum::zab::Proposal;

const SESSION: i64 = 7;
const PATH: &str = "/register-0";

/// Something that must be noticed, by what is said of it.
type Breach = (&'static str, fn());

fn all_are_noticed(breaches: &[Breach]) {
    for (expected, breach) in breaches {
        let cause = catch_unwind(AssertUnwindSafe(breach)).expect_err(expected);
        let said = said(&*cause);
        assert!(said.contains(expected), "expected {expected:?}, not {said:?}");
    }
}

fn entry(cxid: i32, zxid: i64, txn: Txn) -> Vec<u8> {
    Entry { session: SESSION, cxid, zxid, time: 0, txn, digest: None }.encode()
}

fn create(data: &[u8], ephemeral: bool) -> Txn {
    Txn::Create {
        opcode: opcode::CREATE,
        path: PATH.to_owned(),
        data: Some(data.to_vec()),
        acl: Vec::new(),
        ephemeral,
        parent_cversion: 1,
        ttl: 0,
    }
}

fn set(data: &[u8], version: i32) -> Txn {
    Txn::SetData { path: PATH.to_owned(), data: Some(data.to_vec()), version }
}

fn delete() -> Txn {
    Txn::Delete { path: PATH.to_owned() }
}

/// What these came to, one after the other.
fn agreed(txns: Vec<Txn>) -> Model {
    let mut model = Model::default();
    for (index, txn) in txns.into_iter().enumerate() {
        model.agree(&entry(index as i32 + 1, index as i64 + 1, txn));
    }
    model
}

/// The session is 0x1, the znode 0x2, set by 0x3.
fn model() -> Model {
    agreed(vec![Txn::CreateSession { timeout: 1000 }, create(b"old", false), set(b"new", 1)])
}

/// A client that has seen 0x2, and asked this under number 3.
fn client(wish: Wish) -> Client {
    let mut client = Client::new(0);
    client.session = SESSION;
    client.seen = 2;
    client.outstanding.push_back((3, wish));
    client
}

fn watching(wish: Wish, since: i64) -> Client {
    let mut client = client(wish);
    client.watch(PATH.to_owned(), true, since, true);
    client
}

/// One that has just connected again.
fn linked() -> Client {
    let mut client = client(Wish::Connect);
    client.link = Some(Link { id: 1, server: 1, up_ms: 0, down_ms: 0, is_open: false });
    client
}

fn reply(xid: i32, zxid: i64, code: i32) -> Writer {
    let mut out = Writer::new();
    out.int(xid).long(zxid).int(code);
    out
}

/// A reply to the one request.
fn answer(mut client: Client, xid: i32, zxid: i64, code: i32) {
    client.reply(&model(), &reply(xid, zxid, code).into_bytes());
}

fn event(mut client: Client, kind: i32) {
    let mut out = reply(EVENT, -1, 0);
    out.int(kind).int(3).string(PATH);
    client.reply(&model(), &out.into_bytes());
}

fn connected(mut client: Client, session: i64) {
    let mut out = Writer::new();
    out.int(0).int(1000).long(session);
    client.connected(&model(), &out.into_bytes());
}

#[test]
fn what_no_log_may_hold_is_noticed() {
    assert!(model().at(PATH, 3).is_some_and(|znode| znode.data == b"new"), "sound ones pass");
    all_are_noticed(&[
        ("was carried out twice", || {
            let mut model = model();
            model.agree(&entry(3, 4, set(b"new", 2)));
        }),
        ("is of a session that is not there", || drop(agreed(vec![create(b"", true)]))),
        ("is made twice", || drop(agreed(vec![create(b"", false), create(b"", false)]))),
        ("is left out", || drop(agreed(vec![create(b"", false), set(b"", 2)]))),
        ("is deleted twice", || drop(agreed(vec![create(b"", false), delete(), delete()]))),
        ("ends twice", || {
            let end = || Txn::CloseSession { paths: Vec::new() };
            drop(agreed(vec![end(), end()]));
        }),
    ]);
}

#[test]
fn what_no_client_may_be_told_is_noticed() {
    answer(client(Wish::Write(2)), 3, 3, 0);
    answer(client(Wish::Sync), 3, 3, 0);
    event(watching(Wish::Sync, 2), Change::DataChanged as i32);
    connected(linked(), SESSION);
    all_are_noticed(&[
        ("nobody asked for", || {
            let mut client = client(Wish::Sync);
            client.outstanding.clear();
            answer(client, 3, 3, 0);
        }),
        ("replies come in order", || answer(client(Wish::Sync), 4, 3, 0)),
        ("back in time", || answer(client(Wish::Sync), 3, 1, 0)),
        ("is not in the log", || answer(client(Wish::Write(2)), 3, 4, 0)),
        ("is another in the log", || answer(client(Wish::Write(2)), 3, 3, NO_NODE)),
        // Not linearizable: another had been told of it before this was asked for.
        ("was begun when 0x3 was known", || answer(client(Wish::Write(3)), 3, 3, 0)),
        ("behind 0x3", || {
            let wish = Wish::Get { path: PATH.to_owned(), watch: false };
            let mut out = reply(3, 3, 0);
            out.buffer(Some(b"old"));
            client(wish).reply(&model(), &out.into_bytes());
        }),
        ("0x3", || {
            let wish = Wish::Exists { path: PATH.to_owned(), watch: false };
            answer(client(wish), 3, 3, NO_NODE);
        }),
        ("is not told of", || answer(watching(Wish::Sync, 2), 3, 3, 0)),
        ("which is not watched", || event(client(Wish::Sync), Change::DataChanged as i32)),
        ("which has not changed", || {
            event(watching(Wish::Sync, 3), Change::DataChanged as i32);
        }),
        ("comes behind what shows its cause", || {
            let mut client = watching(Wish::Sync, 2);
            client.seen = 3;
            event(client, Change::DataChanged as i32);
        }),
        ("event 2 for", || event(watching(Wish::Sync, 2), Change::Deleted as i32)),
        ("while its watcher was away", || {
            let mut client = watching(Wish::SetWatches, 2);
            client.is_rearming = true;
            answer(client, 3, 3, 0);
        }),
        ("is told to be over, and is not", || connected(linked(), 0)),
        ("another's session", || connected(linked(), SESSION + 1)),
    ]);
}

#[test]
fn members_that_do_not_agree_are_noticed() {
    fn proposal(zxid: i64) -> Proposal {
        Proposal { zxid, data: entry(0, zxid, Txn::Error { code: 0 }).into() }
    }
    all_are_noticed(&[
        ("server 2 disagrees at 0", || {
            let mut checks = Checks::default();
            checks.committed(1, 0, &proposal(1));
            checks.committed(2, 0, &proposal(2));
        }),
        ("nobody wrote what is agreed on", || {
            let mut checks = Checks::default();
            checks.committed(1, 0, &proposal(1));
            checks.finish();
        }),
        ("the write at 1 was done twice", || {
            let mut checks = Checks::default();
            checks.written(&proposal(1));
            checks.committed(1, 0, &proposal(1));
            checks.committed(1, 1, &proposal(1));
            checks.finish();
        }),
        ("epoch 1 has two leaders", || {
            let mut checks = Checks::default();
            checks.leads(1, 1);
            checks.leads(2, 1);
        }),
        ("server 2 has another version 1", || {
            let mut checks = Checks::default();
            checks.activated(1, &Configuration::for_tests(3, 0).at_version(1));
            checks.activated(2, &Configuration::for_tests(3, 1).at_version(1));
        }),
    ]);
}
