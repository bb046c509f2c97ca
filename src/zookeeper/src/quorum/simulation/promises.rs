//! What clients may be told: a model of the tree at every transaction that was agreed on, by which each reply is judged.

use std::collections::{BTreeMap, BTreeSet};

use jute::txn::{Entry, Txn};

/// A change of a znode, as events number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Created = 1,
    Deleted = 2,
    DataChanged = 3,
}

/// A znode from one change on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Znode {
    pub(super) zxid: i64,
    pub(super) change: Change,
    pub(super) data: Vec<u8>,
    pub(super) version: i32,
    pub(super) owner: i64,
}

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) session: i64,
    pub(super) cxid: i32,
    pub(super) code: i32,
}

/// The tree's history.
#[derive(Debug, Default)]
pub(super) struct Model {
    znodes: BTreeMap<String, Vec<Znode>>,
    outcomes: BTreeMap<i64, Outcome>,
    done: BTreeSet<(i64, i32)>,
    begun: BTreeSet<i64>,
    ended: BTreeSet<i64>,
    /// Sessions that some leader wanted to end.
    pub(super) doomed: BTreeSet<i64>,
}

impl Model {
    /// The next transaction that was agreed on.
    pub(super) fn agree(&mut self, data: &[u8]) {
        // Simulations without clients agree on values of no meaning, and change the ensemble.
        let Ok(entry) = Entry::decode(data) else { return };
        if matches!(entry.txn, Txn::Reconfig { .. }) {
            return;
        }
        let (session, cxid, zxid) = (entry.session, entry.cxid, entry.zxid);
        let is_first = cxid == 0 || self.done.insert((session, cxid));
        assert!(is_first, "request {cxid} of session {session:x} was carried out twice");
        let mut code = 0;
        match entry.txn {
            Txn::CreateSession { .. } => drop(self.begun.insert(session)),
            Txn::CloseSession { .. } => {
                assert!(self.ended.insert(session), "session {session:x} ends twice");
                let own: Vec<String> = self.owned_by(session).map(str::to_owned).collect();
                for path in own {
                    self.delete(&path, zxid);
                }
            }
            Txn::Create { path, data, ephemeral, .. } => {
                let is_alive = self.begun.contains(&session) && !self.ended.contains(&session);
                assert!(is_alive || !ephemeral, "{path} is of a session that is not there");
                assert!(self.at(&path, zxid).is_none(), "{path} is made twice");
                let owner = if ephemeral { session } else { 0 };
                let data = data.unwrap_or_default();
                self.push(&path, Znode { zxid, change: Change::Created, data, version: 0, owner });
            }
            Txn::SetData { path, data, version } => {
                let before = self.at(&path, zxid).unwrap_or_else(|| panic!("{path} is not there"));
                assert_eq!(version, before.version + 1, "a version of {path} is left out");
                let (owner, data) = (before.owner, data.unwrap_or_default());
                self.push(&path, Znode { zxid, change: Change::DataChanged, data, version, owner });
            }
            Txn::Delete { path } => self.delete(&path, zxid),
            Txn::Error { code: error } => code = error,
            other => panic!("no client asked for {other:?}"),
        }
        self.outcomes.insert(zxid, Outcome { session, cxid, code });
    }

    fn push(&mut self, path: &str, znode: Znode) {
        self.znodes.entry(path.to_owned()).or_default().push(znode);
    }

    fn delete(&mut self, path: &str, zxid: i64) {
        let before = self.at(path, zxid).unwrap_or_else(|| panic!("{path} is deleted twice"));
        let gone = Znode { zxid, change: Change::Deleted, data: Vec::new(), ..before.clone() };
        self.push(path, gone);
    }

    /// Znodes that a session owns at last.
    fn owned_by(&self, session: i64) -> impl Iterator<Item = &str> {
        let last = |path| self.at(path, i64::MAX);
        let paths = self.znodes.keys().map(String::as_str);
        paths.filter(move |path| last(path).is_some_and(|znode| znode.owner == session))
    }

    /// A znode as it is behind a transaction, if it is there.
    pub(super) fn at(&self, path: &str, zxid: i64) -> Option<&Znode> {
        let versions = self.znodes.get(path)?;
        let index = versions.partition_point(|version| version.zxid <= zxid);
        versions[..index].last().filter(|version| version.change != Change::Deleted)
    }

    /// The changes of a znode behind one transaction, up to another.
    pub(super) fn changes(&self, path: &str, after: i64, until: i64) -> &[Znode] {
        let versions = self.znodes.get(path).map_or(&[][..], Vec::as_slice);
        let begin = versions.partition_point(|version| version.zxid <= after);
        let end = versions.partition_point(|version| version.zxid <= until);
        &versions[begin..end.max(begin)]
    }

    /// What the transaction of a request came to.
    pub(super) fn outcome(&self, zxid: i64) -> Option<Outcome> {
        self.outcomes.get(&zxid).copied()
    }

    pub(super) fn has_ended(&self, session: i64) -> bool {
        self.ended.contains(&session)
    }

    /// Every path that ever was.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.znodes.keys().map(String::as_str)
    }
}
