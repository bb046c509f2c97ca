//! The data tree (`DataTree`): znodes by path, who owns the ephemeral ones, and the digest over all.
//!
//! Changes go through verbs that keep children, owners and digest in step. While an undo list is kept (multi), each
//! verb notes what was there before.

mod quota;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jute::records::{Acl, Stat, StatPersisted};

use crate::path;

/// A container's owner field.
pub const CONTAINER_OWNER: i64 = i64::MIN;

/// The time to live that an owner field holds, if it does.
pub fn ttl_ms(owner: i64) -> Option<i64> {
    (owner as u64 >> 56 == 0xff).then_some(owner & 0xff_ffff_ffff)
}

/// One znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Null is not the same as empty.
    pub data: Option<Vec<u8>>,
    /// Who may do what; empty stands for everybody everything.
    pub acl: Vec<Acl>,
    /// The rest.
    pub stat: StatPersisted,
    /// Names of children.
    pub children: BTreeSet<String>,
}

impl Node {
    /// Whether it ends with a session. Containers and TTL nodes use the owner field for something else.
    pub fn is_ephemeral(&self) -> bool {
        let owner = self.stat.ephemeral_owner;
        owner != 0 && owner != CONTAINER_OWNER && ttl_ms(owner).is_none()
    }

    /// What clients are told: `cversion` counts deletions too, containers have no owner.
    pub fn stat(&self) -> Stat {
        let mut persisted = self.stat;
        persisted.cversion =
            self.stat.cversion.wrapping_mul(2).wrapping_sub(self.children.len() as i32);
        if !self.is_ephemeral() {
            persisted.ephemeral_owner = 0;
        }
        Stat {
            persisted,
            data_length: self.data.as_ref().map_or(0, Vec::len) as i32,
            num_children: self.children.len() as i32,
        }
    }
}

type Undo = Vec<(String, Option<Node>)>;

/// All znodes. The root's path is "".
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: HashMap<String, Node>,
    /// Paths by what the owner field holds, if anything.
    owned: BTreeMap<i64, BTreeSet<String>>,
    digest: i64,
    undo: Option<Undo>,
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

impl Tree {
    /// A fresh server's tree: the root and `/zookeeper` with its two children.
    pub fn new() -> Self {
        let mut tree = Self {
            nodes: HashMap::new(),
            owned: BTreeMap::new(),
            digest: 0,
            undo: None,
            quotas: BTreeSet::new(),
        };
        let node = |children: &[&str]| Node {
            data: Some(Vec::new()),
            acl: open_acl(),
            stat: StatPersisted::default(),
            children: children.iter().map(|name| (*name).to_owned()).collect(),
        };
        tree.set("", Some(node(&["zookeeper"])));
        tree.set("/zookeeper", Some(node(&["config", "quota"])));
        tree.set("/zookeeper/quota", Some(node(&[])));
        let mut config = node(&[]);
        config.acl = vec![Acl::anyone(1)];
        config.stat.aversion = -1;
        tree.set("/zookeeper/config", Some(config));
        tree
    }

    /// A tree without any znode, to load a snapshot into.
    pub fn empty() -> Self {
        Self {
            nodes: HashMap::new(),
            owned: BTreeMap::new(),
            digest: 0,
            undo: None,
            quotas: BTreeSet::new(),
        }
    }

    fn key(path: &str) -> &str {
        if path == "/" { "" } else { path }
    }

    /// The znode at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(Self::key(path))
    }

    /// Number of znodes; the root counts twice, as in the original.
    pub fn node_count(&self) -> usize {
        self.nodes.len() + 1
    }

    /// Bytes of paths and data, roughly.
    pub fn data_size(&self) -> usize {
        self.nodes
            .iter()
            .map(|(path, node)| path.len() + node.data.as_ref().map_or(0, Vec::len))
            .sum()
    }

    /// The digest over all znodes.
    pub fn digest(&self) -> i64 {
        self.digest
    }

    /// Paths that end with a session.
    pub fn ephemerals(&self, session: i64) -> impl Iterator<Item = &String> {
        self.owned.get(&session).into_iter().flatten()
    }

    /// Ephemeral paths of all sessions.
    pub fn all_ephemerals(&self) -> impl Iterator<Item = (i64, &BTreeSet<String>)> {
        let owned = self.owned.iter().map(|(owner, paths)| (*owner, paths));
        owned.filter(|(owner, _)| *owner != CONTAINER_OWNER && ttl_ms(*owner).is_none())
    }

    /// Containers that have had children and have none now, and TTL nodes without children whose time is over.
    pub fn outlived(&self, wall_ms: i64) -> impl Iterator<Item = &String> {
        let is_over = move |node: &Node| match ttl_ms(node.stat.ephemeral_owner) {
            Some(ttl_ms) => wall_ms.saturating_sub(node.stat.mtime) > ttl_ms,
            None => node.stat.ephemeral_owner == CONTAINER_OWNER && node.stat.cversion > 0,
        };
        self.owned
            .iter()
            .filter(|(owner, _)| **owner == CONTAINER_OWNER || ttl_ms(**owner).is_some())
            .flat_map(|(_, paths)| paths)
            .filter(move |path| {
                self.nodes.get(*path).is_some_and(|node| node.children.is_empty() && is_over(node))
            })
    }

    /// Znodes below a path, itself not counted. Below "" is "/" too, as in the original.
    pub fn descendants(&self, path: &str) -> usize {
        if Self::key(path).is_empty() {
            return self.nodes.len() - usize::from(path == "/");
        }
        let prefix = format!("{path}/");
        self.nodes.keys().filter(|other| other.starts_with(&prefix)).count()
    }

    /// Every znode, parents before children.
    pub fn walk(&self) -> Vec<(&String, &Node)> {
        let mut all: Vec<_> = self.nodes.iter().collect();
        all.sort_by(|a, b| a.0.cmp(b.0));
        all
    }

    fn digest_of(path: &str, node: &Node) -> i64 {
        if path.starts_with("/zookeeper/") {
            return 0;
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(path.as_bytes());
        if let Some(data) = &node.data {
            hasher.update(data);
        }
        let stat = &node.stat;
        for value in [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime] {
            hasher.update(&value.to_be_bytes());
        }
        for value in [stat.version, stat.cversion, stat.aversion] {
            hasher.update(&value.to_be_bytes());
        }
        hasher.update(&stat.ephemeral_owner.to_be_bytes());
        i64::from(hasher.finalize())
    }

    /// Puts a znode, or takes it away; parents are not touched.
    pub fn set(&mut self, path: &str, node: Option<Node>) {
        self.note_quota(path, node.is_some());
        let owner = node.as_ref().map_or(0, |node| node.stat.ephemeral_owner);
        if let Some(node) = &node {
            self.digest = self.digest.wrapping_add(Self::digest_of(path, node));
        }
        if owner != 0 {
            self.owned.entry(owner).or_default().insert(path.to_owned());
        }
        let before = match node {
            Some(node) => self.nodes.insert(path.to_owned(), node),
            None => self.nodes.remove(path),
        };
        if let Some(before) = &before {
            self.digest = self.digest.wrapping_sub(Self::digest_of(path, before));
            let former = before.stat.ephemeral_owner;
            if former != owner
                && let Some(paths) = self.owned.get_mut(&former)
            {
                paths.remove(path);
                if paths.is_empty() {
                    self.owned.remove(&former);
                }
            }
        }
        if let Some(undo) = &mut self.undo {
            undo.push((path.to_owned(), before));
        }
    }

    /// Changes a znode in place; false if there is none.
    fn change(&mut self, path: &str, change: impl FnOnce(&mut Node)) -> bool {
        let path = Self::key(path);
        let Some(node) = self.nodes.get_mut(path) else { return false };
        if let Some(undo) = &mut self.undo {
            undo.push((path.to_owned(), Some(node.clone())));
        }
        let before = Self::digest_of(path, node);
        change(node);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(Self::digest_of(path, node));
        true
    }

    /// Makes a znode. On replay of what a snapshot already has, only the ACL and the parent's counters are set.
    #[expect(clippy::too_many_arguments, reason = "the fields of the transaction")]
    pub fn create(
        &mut self,
        path: &str,
        data: Option<Vec<u8>>,
        acl: Vec<Acl>,
        owner: i64,
        parent_cversion: i32,
        zxid: i64,
        time: i64,
    ) -> bool {
        let parent = path::parent(path).to_owned();
        let name = path::name(path).to_owned();
        if !self.change(&parent, |node| {
            let next = if parent_cversion == -1 {
                node.stat.cversion.wrapping_add(1)
            } else {
                parent_cversion
            };
            if next.wrapping_sub(node.stat.cversion) > 0 {
                node.stat.cversion = next;
                node.stat.pzxid = zxid;
            }
            node.children.insert(name);
        }) {
            return false;
        }
        if self.nodes.contains_key(path) {
            return self.change(path, |node| node.acl = acl);
        }
        let bytes = data.as_ref().map_or(0, Vec::len) as i64;
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: owner,
            ..StatPersisted::default()
        };
        self.set(path, Some(Node { data, acl, stat, children: BTreeSet::new() }));
        self.account(path, 1, bytes);
        true
    }

    /// Deletes a znode.
    pub fn delete(&mut self, path: &str, zxid: i64) -> bool {
        let parent = path::parent(path).to_owned();
        let name = path::name(path).to_owned();
        self.change(&parent, |node| {
            node.children.remove(&name);
            node.stat.pzxid = node.stat.pzxid.max(zxid);
        });
        let Some(node) = self.nodes.get(path) else { return false };
        let bytes = node.data.as_ref().map_or(0, Vec::len) as i64;
        self.set(path, None);
        self.account(path, -1, -bytes);
        true
    }

    /// Replaces a znode's data.
    pub fn set_data(
        &mut self,
        path: &str,
        data: Option<Vec<u8>>,
        version: i32,
        zxid: i64,
        time: i64,
    ) -> bool {
        let length = |data: &Option<Vec<u8>>| data.as_ref().map_or(0, Vec::len) as i64;
        let mut grown = length(&data);
        let changed = self.change(path, |node| {
            grown -= length(&node.data);
            node.data = data;
            node.stat.version = version;
            node.stat.mzxid = zxid;
            node.stat.mtime = time;
        });
        if changed {
            self.account(path, 0, grown);
        }
        changed
    }

    /// Replaces a znode's ACL.
    pub fn set_acl(&mut self, path: &str, acl: Vec<Acl>, version: i32) -> bool {
        self.change(path, |node| {
            node.acl = acl;
            node.stat.aversion = version;
        })
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
        for (path, node) in self.undo.take().unwrap_or_default().into_iter().rev() {
            self.set(&path, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fresh_tree_has_the_originals_digest_and_counts() {
        let tree = Tree::new();
        assert_eq!(tree.digest(), 0x51c6_d660);
        assert_eq!(tree.node_count(), 5);
        assert_eq!(tree.get("/").unwrap().stat().persisted.cversion, -1);
        assert_eq!(tree.get("/zookeeper").unwrap().stat().persisted.cversion, -2);
    }

    proptest! {
        #[test]
        fn rolling_back_leaves_no_trace(steps in prop::collection::vec((0u8..4, 0usize..4), 0..30), kept in 0usize..10) {
            let mut tree = Tree::new();
            let act = |tree: &mut Tree, (kind, index): &(u8, usize), zxid: i64| {
                let path = ["/a", "/b", "/a/c", "/a/c/d"][*index];
                match kind {
                    0 if tree.get(path).is_none() && tree.get(path::parent(path)).is_some() => drop(tree.create(path, Some(vec![1]), open_acl(), zxid % 3, -1, zxid, 5)),
                    1 if tree.get(path).is_some_and(|node| node.children.is_empty()) => drop(tree.delete(path, zxid)),
                    2 => drop(tree.set_data(path, Some(vec![zxid as u8]), 3, zxid, 6)),
                    _ => drop(tree.set_acl(path, vec![Acl::anyone(zxid as i32)], 1)),
                }
            };
            for (zxid, step) in steps.iter().take(kept).enumerate() {
                act(&mut tree, step, zxid as i64 + 1);
            }
            let before = tree.clone();
            tree.begin();
            for (zxid, step) in steps.iter().skip(kept).enumerate() {
                act(&mut tree, step, zxid as i64 + 100);
            }
            tree.roll_back();
            prop_assert_eq!(tree.digest(), before.digest());
            prop_assert_eq!(&tree.owned, &before.owned);
            prop_assert_eq!(tree.walk(), before.walk());
        }
    }
}
