//! The data tree (`DataTree`): znodes by path, who owns the ephemeral ones, and the digest over all.
//!
//! Changes go through verbs that keep children, owners and digest in step. While an undo list is kept (multi), each
//! verb notes what was there before.

mod acls;
mod nodes;
mod quota;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use jute::records::{Acl, Stat, StatPersisted};

use crate::path;
use acls::Acls;
use nodes::{NodeId, Nodes, Slot};
pub use walk::{Frozen, Walk};

/// A container's owner field.
pub const CONTAINER_OWNER: i64 = i64::MIN;

/// The time to live that an owner field holds, if it does.
pub fn ttl_ms(owner: i64) -> Option<i64> {
    (owner as u64 >> 56 == 0xff).then_some(owner & 0xff_ffff_ffff)
}

/// Whether an owner field names a session. Containers and TTL nodes use it for something else.
fn is_session(owner: i64) -> bool {
    owner != 0 && owner != CONTAINER_OWNER && ttl_ms(owner).is_none()
}

/// One znode.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    nodes: &'a Nodes,
    acls: &'a Acls,
    id: NodeId,
    slot: &'a Slot,
}

impl<'a> Node<'a> {
    fn new(nodes: &'a Nodes, acls: &'a Acls, id: NodeId) -> Self {
        Self { nodes, acls, id, slot: nodes.get(id) }
    }

    /// Null is not the same as empty.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.slot.data()
    }

    /// Bytes of data.
    pub fn data_length(&self) -> usize {
        self.data().map_or(0, <[u8]>::len)
    }

    /// Who may do what; empty stands for everybody everything.
    pub fn acl(&self) -> &'a Arc<[Acl]> {
        self.acls.get(self.slot.acl)
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.slot.acl == acls::AclId::OPEN
    }

    /// The rest, as it is kept.
    pub fn persisted(&self) -> &'a StatPersisted {
        &self.slot.stat
    }

    /// Number of children.
    pub fn child_count(&self) -> usize {
        self.slot.children()
    }

    /// Names of children, sorted.
    pub fn children(&self) -> Vec<&'a str> {
        let nodes = self.nodes;
        let mut names = Vec::with_capacity(self.child_count());
        names.extend(nodes.children(self.id).map(|id| nodes.get(id).name()));
        names.sort_unstable();
        names
    }

    /// Whether it ends with a session.
    pub fn is_ephemeral(&self) -> bool {
        is_session(self.slot.stat.ephemeral_owner)
    }

    /// What clients are told: `cversion` counts deletions too, containers have no owner.
    pub fn stat(&self) -> Stat {
        let children = self.child_count() as i32;
        let mut persisted = self.slot.stat;
        persisted.cversion = persisted.cversion.wrapping_mul(2).wrapping_sub(children);
        if !self.is_ephemeral() {
            persisted.ephemeral_owner = 0;
        }
        Stat { persisted, data_length: self.data_length() as i32, num_children: children }
    }
}

/// What a znode was.
#[derive(Debug, Clone)]
struct Former {
    stat: StatPersisted,
    acl: Arc<[Acl]>,
    data: Option<Box<[u8]>>,
}

#[derive(Debug, Clone)]
enum Undo {
    Made(String),
    Changed(String, Former),
    Deleted(String, Former),
}

/// All znodes. The root's path is "".
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Nodes,
    /// Znodes by path.
    index: HashTable<NodeId>,
    hasher: DefaultHashBuilder,
    acls: Acls,
    /// Znodes by what the owner field holds, if anything.
    owned: BTreeMap<i64, BTreeSet<NodeId>>,
    digest: i64,
    /// Bytes of paths and data.
    bytes: usize,
    undo: Option<Vec<Undo>>,
    /// Paths with a quota.
    quotas: BTreeSet<String>,
}

/// `world:anyone` everything.
pub fn open_acl() -> Vec<Acl> {
    vec![Acl::anyone(31)]
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

/// A hash of 32 bits, as slots keep it, for a table that wants 64.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Tree {
    /// A fresh server's tree: the root and `/zookeeper` with its two children.
    pub fn new() -> Self {
        let mut tree = Self::empty();
        let (open, stat) = (open_acl(), StatPersisted::default());
        for path in ["", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
            tree.insert(path, Some(&[]), &open, stat);
        }
        tree.set_acl("/zookeeper/config", &[Acl::anyone(1)], -1);
        tree
    }

    /// A tree without any znode, to load a snapshot into.
    pub fn empty() -> Self {
        Self {
            nodes: Nodes::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            acls: Acls::new(),
            owned: BTreeMap::new(),
            digest: 0,
            bytes: 0,
            undo: None,
            quotas: BTreeSet::new(),
        }
    }

    fn key(path: &str) -> &str {
        if path == "/" { "" } else { path }
    }

    fn hash(&self, path: &str) -> u32 {
        self.hasher.hash_one(path.as_bytes()) as u32
    }

    fn find(&self, path: &str) -> Option<NodeId> {
        let path = Self::key(path);
        let hash = self.hash(path);
        let is_it = |id: &NodeId| self.nodes.get(*id).hash == hash && self.nodes.is_at(*id, path);
        self.index.find(spread(hash), is_it).copied()
    }

    fn parent_of<'p>(&self, path: &'p str) -> Option<(&'p str, NodeId)> {
        let (above, _) = path.rsplit_once('/').filter(|(above, _)| path != "/" && *above != "/")?;
        Some((above, self.find(above)?))
    }

    /// The znode at a path.
    pub fn get(&self, path: &str) -> Option<Node<'_>> {
        self.find(path).map(|id| Node::new(&self.nodes, &self.acls, id))
    }

    /// The zxid of the last change to what a path's data, children and being there are, as znodes tell it; ACLs have
    /// none.
    pub fn changed(&self, path: &str) -> i64 {
        if let Some(id) = self.find(path) {
            let stat = &self.nodes.get(id).stat;
            return stat.mzxid.max(stat.pzxid);
        }
        // Whatever took it away took it from the first that is left.
        let mut above = path;
        loop {
            above = path::parent(above);
            match self.find(above) {
                Some(id) => return self.nodes.get(id).stat.pzxid,
                None if above.is_empty() => return i64::MAX,
                None => {}
            }
        }
    }

    /// Number of znodes; the root counts twice, as in the original.
    pub fn node_count(&self) -> usize {
        self.nodes.len() + 1
    }

    /// Bytes of paths and data, roughly; the root's one byte counts (`DataTree.approximateDataSize`).
    pub fn data_size(&self) -> usize {
        self.bytes + 1
    }

    /// The digest over all znodes.
    pub fn digest(&self) -> i64 {
        self.digest
    }

    /// Paths that end with a session, sorted.
    pub fn ephemerals(&self, session: i64) -> Vec<String> {
        let ids = self.owned.get(&session).into_iter().flatten();
        let mut paths: Vec<String> = ids.map(|id| self.nodes.path(*id)).collect();
        paths.sort_unstable();
        paths
    }

    /// Sessions with ephemeral znodes.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = i64> {
        self.owned.keys().copied().filter(|owner| is_session(*owner))
    }

    /// Number of ephemeral znodes.
    pub fn ephemeral_count(&self) -> usize {
        self.owned.iter().filter(|(owner, _)| is_session(**owner)).map(|(_, ids)| ids.len()).sum()
    }

    /// Containers that have had children and have none now, or that never had any for longer than `unused_max_ms`, and TTL
    /// nodes without children whose time is over.
    pub fn outlived(
        &self,
        wall_ms: i64,
        unused_max_ms: Option<i64>,
    ) -> impl Iterator<Item = String> {
        let is_over = move |stat: &StatPersisted| {
            let age_ms = wall_ms.saturating_sub(stat.mtime);
            match ttl_ms(stat.ephemeral_owner) {
                Some(ttl_ms) => age_ms > ttl_ms,
                None if stat.ephemeral_owner != CONTAINER_OWNER => false,
                None => stat.cversion > 0 || unused_max_ms.is_some_and(|most_ms| age_ms > most_ms),
            }
        };
        self.owned
            .iter()
            .filter(|(owner, _)| !is_session(**owner))
            .flat_map(|(_, ids)| ids)
            .filter(move |id| {
                let slot = self.nodes.get(**id);
                slot.children() == 0 && is_over(&slot.stat)
            })
            .map(|id| self.nodes.path(*id))
    }

    /// Znodes below a path, itself not counted. Below "" is "/" too, as in the original.
    pub fn descendants(&self, path: &str) -> usize {
        if Self::key(path).is_empty() {
            return self.nodes.len() - usize::from(path == "/");
        }
        self.find(path).map_or(0, |id| self.subtree(id).count() - 1)
    }

    /// A znode and all below it.
    fn subtree(&self, top: NodeId) -> impl Iterator<Item = NodeId> {
        let next = move |at: &NodeId| {
            let mut at = *at;
            let mut next = self.nodes.first_child(at);
            while next.is_none() && at != top {
                next = self.nodes.next_sibling(at);
                at = self.nodes.parent(at)?;
            }
            next
        };
        std::iter::successors(Some(top), next)
    }

    fn digest_of(path: &str, slot: &Slot) -> u32 {
        if path.starts_with("/zookeeper/") {
            return 0;
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(path.as_bytes());
        if let Some(data) = slot.data() {
            hasher.update(data);
        }
        let stat = &slot.stat;
        let mut fields = [0; 60];
        let values = [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime];
        for (field, value) in fields.chunks_exact_mut(8).zip(values) {
            field.copy_from_slice(&value.to_be_bytes());
        }
        let values = [stat.version, stat.cversion, stat.aversion];
        for (field, value) in fields[40..].chunks_exact_mut(4).zip(values) {
            field.copy_from_slice(&value.to_be_bytes());
        }
        fields[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
        hasher.update(&fields);
        hasher.finalize()
    }

    fn former(&self, id: NodeId) -> Former {
        let slot = self.nodes.get(id);
        Former {
            stat: slot.stat,
            acl: self.acls.get(slot.acl).clone(),
            data: slot.data().map(Into::into),
        }
    }

    /// Makes a znode; the counters of its parent are not touched. False if there is one already, or no parent.
    pub fn insert(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        stat: StatPersisted,
    ) -> bool {
        if self.find(path).is_some() {
            return false;
        }
        if path.is_empty() {
            return self.make(path, None, data, acl, stat);
        }
        match self.parent_of(path) {
            Some((_, parent)) => self.make(path, Some(parent), data, acl, stat),
            None => false,
        }
    }

    /// [`Tree::insert`] where it is known that there is none yet.
    fn make(
        &mut self,
        path: &str,
        parent: Option<NodeId>,
        data: Option<&[u8]>,
        acl: &[Acl],
        stat: StatPersisted,
    ) -> bool {
        let hash = self.hash(path);
        let Some(id) = self.nodes.add(parent, path::name(path), data) else { return false };
        let acl = self.acls.take(acl);
        let slot = self.nodes.get_mut(id);
        (slot.stat, slot.acl, slot.hash) = (stat, acl, hash);
        slot.digest = Self::digest_of(path, slot);
        self.digest = self.digest.wrapping_add(i64::from(slot.digest));
        self.bytes += path.len() + data.map_or(0, <[u8]>::len);
        let nodes = &self.nodes;
        self.index.insert_unique(spread(hash), id, |id| spread(nodes.get(*id).hash));
        if stat.ephemeral_owner != 0 {
            self.owned.entry(stat.ephemeral_owner).or_default().insert(id);
        }
        self.note_quota(path, true);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Made(path.to_owned()));
        }
        true
    }

    /// Takes a znode without children away; the counters of its parent are not touched.
    fn remove(&mut self, path: &str, id: NodeId) {
        if self.undo.is_some() {
            let former = self.former(id);
            if let Some(undo) = &mut self.undo {
                undo.push(Undo::Deleted(path.to_owned(), former));
            }
        }
        self.note_quota(path, false);
        let slot = self.nodes.get(id);
        let (owner, acl, hash) = (slot.stat.ephemeral_owner, slot.acl, slot.hash);
        self.digest = self.digest.wrapping_sub(i64::from(slot.digest));
        self.bytes -= path.len() + slot.data().map_or(0, <[u8]>::len);
        if let Some(ids) = self.owned.get_mut(&owner) {
            ids.remove(&id);
            if ids.is_empty() {
                self.owned.remove(&owner);
            }
        }
        self.acls.release(acl);
        if let Ok(entry) = self.index.find_entry(spread(hash), |other| *other == id) {
            entry.remove();
        }
        self.nodes.remove(id);
    }

    /// Changes a znode in place.
    fn change(&mut self, path: &str, id: NodeId, change: impl FnOnce(&mut Slot)) {
        self.note(path, id);
        self.update(path, id, change);
    }

    /// Notes what a znode is before it changes, if changes may be taken back.
    fn note(&mut self, path: &str, id: NodeId) {
        if self.undo.is_some() {
            let former = self.former(id);
            if let Some(undo) = &mut self.undo {
                undo.push(Undo::Changed(path.to_owned(), former));
            }
        }
    }

    fn update(&mut self, path: &str, id: NodeId, change: impl FnOnce(&mut Slot)) {
        let slot = self.nodes.get_mut(id);
        let (digest, bytes) = (slot.digest, slot.data().map_or(0, <[u8]>::len));
        change(slot);
        slot.digest = Self::digest_of(path, slot);
        self.digest =
            self.digest.wrapping_sub(i64::from(digest)).wrapping_add(i64::from(slot.digest));
        self.bytes = self.bytes - bytes + slot.data().map_or(0, <[u8]>::len);
    }

    /// Makes a znode. On replay of what a snapshot already has, only the ACL and the parent's counters are set.
    #[expect(clippy::too_many_arguments, reason = "the fields of the transaction")]
    pub fn create(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        owner: i64,
        parent_cversion: i32,
        zxid: i64,
        time: i64,
    ) -> bool {
        let Some((above, parent)) = self.parent_of(path) else { return false };
        self.change(above, parent, |slot| {
            let stat = &mut slot.stat;
            let next =
                if parent_cversion == -1 { stat.cversion.wrapping_add(1) } else { parent_cversion };
            // Not in the ring: after 2147483647 the original counts no further, and so repeats the last number.
            if next > stat.cversion {
                stat.cversion = next;
                stat.pzxid = zxid;
            }
        });
        if let Some(id) = self.find(path) {
            self.note(path, id);
            self.put_acl(id, acl);
            return true;
        }
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: owner,
            ..StatPersisted::default()
        };
        let is_made = self.make(path, Some(parent), data, acl, stat);
        self.account(path, 1, data.map_or(0, <[u8]>::len) as i64);
        is_made
    }

    /// Deletes a znode. One with children stays: no request and no log deletes such.
    pub fn delete(&mut self, path: &str, zxid: i64) -> bool {
        let Some((above, parent)) = self.parent_of(path) else { return false };
        self.change(above, parent, |slot| slot.stat.pzxid = slot.stat.pzxid.max(zxid));
        let Some(id) = self.find(path) else { return false };
        let slot = self.nodes.get(id);
        if slot.children() > 0 {
            return false;
        }
        let bytes = slot.data().map_or(0, <[u8]>::len) as i64;
        self.remove(path, id);
        self.account(path, -1, -bytes);
        true
    }

    /// Replaces a znode's data.
    pub fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        zxid: i64,
        time: i64,
    ) -> bool {
        let Some(id) = self.find(path) else { return false };
        let mut grown = data.map_or(0, <[u8]>::len) as i64;
        self.change(Self::key(path), id, |slot| {
            grown -= slot.data().map_or(0, <[u8]>::len) as i64;
            slot.set_data(data);
            slot.stat.version = version;
            slot.stat.mzxid = zxid;
            slot.stat.mtime = time;
        });
        self.account(path, 0, grown);
        true
    }

    /// Replaces a znode's ACL.
    pub fn set_acl(&mut self, path: &str, acl: &[Acl], version: i32) -> bool {
        let Some(id) = self.find(path) else { return false };
        self.note(Self::key(path), id);
        self.put_acl(id, acl);
        self.update(Self::key(path), id, |slot| slot.stat.aversion = version);
        true
    }

    fn put_acl(&mut self, id: NodeId, acl: &[Acl]) {
        let new = self.acls.take(acl);
        let old = std::mem::replace(&mut self.nodes.get_mut(id).acl, new);
        self.acls.release(old);
    }

    /// Begins to note what changes.
    pub fn begin(&mut self) {
        self.undo = Some(Vec::new());
    }

    /// Keeps what changed since [`Tree::begin`].
    pub fn keep(&mut self) {
        self.undo = None;
    }

    /// Takes back what changed since [`Tree::begin`].
    pub fn roll_back(&mut self) {
        for undo in self.undo.take().unwrap_or_default().into_iter().rev() {
            match undo {
                Undo::Made(path) => {
                    if let Some(id) = self.find(&path) {
                        self.remove(&path, id);
                    }
                }
                Undo::Deleted(path, former) => {
                    self.insert(&path, former.data.as_deref(), &former.acl, former.stat);
                }
                Undo::Changed(path, former) => {
                    let Some(id) = self.find(&path) else { continue };
                    self.put_acl(id, &former.acl);
                    self.update(&path, id, |slot| {
                        slot.set_data(former.data.as_deref());
                        slot.stat = former.stat;
                    });
                }
            }
        }
    }
}
