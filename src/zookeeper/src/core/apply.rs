//! Applying transactions to the tree, and telling watches.

use std::collections::BTreeSet;

use jute::Writer;
use jute::records::Acl;
use jute::request::opcode;
use jute::txn::{CONFIG_NODE, Txn};

use super::local::Scope;
use super::{ConnectionId, Core, Session};
use crate::acl::{self, perms};
use crate::metrics::{Counter, Set, Summary};
use crate::path;
use crate::tree::CONTAINER_OWNER;

/// Bytes that a znode's `Stat` counts as.
const STAT_BYTES: usize = 68;

/// Events, as clients number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Created = 1,
    Deleted = 2,
    DataChanged = 3,
    ChildrenChanged = 4,
}

/// The owner field of a znode that a transaction makes.
pub(crate) fn owner(kind: i32, ephemeral: bool, ttl: i64, session: i64) -> i64 {
    match kind {
        opcode::CREATE_CONTAINER => CONTAINER_OWNER,
        opcode::CREATE_TTL => (0xff << 56) | ttl,
        _ if ephemeral => session,
        _ => 0,
    }
}

impl Core {
    pub(super) fn apply(&mut self, session: i64, zxid: i64, time: i64, txn: &Txn) {
        match txn {
            Txn::CreateSession { timeout } => {
                let known = self.sessions.entry(session).or_insert(Session {
                    timeout_ms: *timeout,
                    expires_ms: i64::MAX,
                    connection: None,
                    scope: Scope::Global,
                });
                known.scope = Scope::Global;
            }
            Txn::CloseSession { paths } => {
                self.sessions.remove(&session);
                for path in paths {
                    self.delete(path, zxid);
                }
                for path in self.tree.ephemerals(session) {
                    self.delete(&path, zxid);
                }
            }
            Txn::Create { opcode, path, data, acl, ephemeral, parent_cversion, ttl } => {
                let owner = owner(*opcode, *ephemeral, *ttl, session);
                let (data, parent_cversion) = (data.as_deref(), *parent_cversion);
                if parent_cversion == i32::MIN {
                    // The parent does not tell of it: see `Tree::create`.
                    self.unmarked = zxid;
                }
                self.tree.create(path, data, acl, owner, parent_cversion, zxid, time);
                self.note_write(path, data.map_or(0, <[u8]>::len));
                self.tell(path, Event::Created);
                self.tell(path::parent(path), Event::ChildrenChanged);
            }
            Txn::Delete { path } => self.delete(path, zxid),
            Txn::SetData { path, data, version } => {
                self.tree.set_data(path, data.as_deref(), *version, zxid, time);
                self.note_write(path, data.as_ref().map_or(0, Vec::len));
                self.tell(path, Event::DataChanged);
            }
            Txn::Reconfig { data } => {
                self.changes.is_under_way = true;
                self.tree.set_data(CONFIG_NODE, data.as_deref(), -1, zxid, time);
                self.tell(CONFIG_NODE, Event::DataChanged);
            }
            Txn::SetAcl { path, acl, version } => {
                self.tree.set_acl(path, acl, *version);
                self.unmarked = zxid;
            }
            Txn::Multi(txns) => {
                if txns.iter().all(|txn| !matches!(txn, Txn::Error { .. })) {
                    for txn in txns {
                        self.apply(session, zxid, time, txn);
                    }
                }
            }
            Txn::Check { .. } | Txn::Error { .. } => {}
        }
    }

    /// `DataTree.updateWriteStat`: path and data, nothing for the rest of a znode.
    fn note_write(&self, path: &str, bytes: usize) {
        self.note_of_namespace(Set::WritePerNamespace, path, bytes);
    }

    /// `DataTree.updateReadStat`: the stat counts too, asked for or not.
    pub(super) fn note_read(&self, path: &str, bytes: usize) {
        self.note_of_namespace(Set::ReadPerNamespace, path, bytes + STAT_BYTES);
    }

    /// Counts bytes under the first name of a path.
    fn note_of_namespace(&self, set: Set, path: &str, bytes: usize) {
        if let Some(name) = path.split('/').nth(1).filter(|name| !name.is_empty()) {
            self.metrics.note_of(set, name, (path.len() + bytes) as u64);
        }
    }

    fn delete(&mut self, path: &str, zxid: i64) {
        let is_watched = !(self.data_watches.is_empty() && self.child_watches.is_empty());
        let node = if is_watched { self.tree.get(path) } else { None };
        let acl = node.map(|node| node.acl().clone()).unwrap_or_default();
        if self.tree.delete(path, zxid) {
            self.note_write(path, 0);
            let mut told = self.data_watches.trigger(path, false);
            told.extend(self.child_watches.trigger(path, false));
            if !told.is_empty() {
                self.metrics.note(Summary::NodeDeletedWatchCount, told.len() as u64);
            }
            self.tell_those_who_may_read(&told, path, Event::Deleted, &acl);
            self.tell(path::parent(path), Event::ChildrenChanged);
        }
    }

    /// Tells those who watch a znode that is there.
    fn tell(&mut self, path: &str, event: Event) {
        let path = if path.is_empty() { "/" } else { path };
        let told = match event {
            Event::ChildrenChanged => self.child_watches.trigger(path, true),
            _ => self.data_watches.trigger(path, false),
        };
        if !told.is_empty() {
            let count = match event {
                Event::Created => Summary::NodeCreatedWatchCount,
                Event::Deleted => Summary::NodeDeletedWatchCount,
                Event::DataChanged => Summary::NodeChangedWatchCount,
                Event::ChildrenChanged => Summary::NodeChildrenWatchCount,
            };
            self.metrics.note(count, told.len() as u64);
            let acl = self.tree.get(path).map(|node| node.acl().clone()).unwrap_or_default();
            self.tell_those_who_may_read(&told, path, event, &acl);
        }
    }

    /// One event a connection; a watch of one that may not read the znode has fired too, but is not told.
    fn tell_those_who_may_read(
        &mut self,
        told: &BTreeSet<ConnectionId>,
        path: &str,
        event: Event,
        acl: &[Acl],
    ) {
        for connection in told {
            if self.settings.skip_acl
                || acl::is_allowed(&self.settings.auth, acl, perms::READ, self.ids(*connection))
            {
                self.send_event(*connection, path, event);
            }
        }
    }

    pub(super) fn send_event(&mut self, to: ConnectionId, path: &str, event: Event) {
        const SYNC_CONNECTED: i32 = 3;
        let mut frame = Writer::new();
        frame.int(-1).long(-1).int(0).int(event as i32).int(SYNC_CONNECTED).string(path);
        self.metrics.add(Counter::WatchBytes, frame.as_bytes().len() as u64);
        self.send(to, frame.into_bytes());
    }
}
