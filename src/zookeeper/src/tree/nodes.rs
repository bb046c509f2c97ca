//! Where znodes are: slots in chunks that copies of the tree share until one of them changes.
//!
//! A znode knows its parent, its siblings and its first child by number, so that a million of them cost no more than
//! their slots, their bytes and one entry each in the table of paths. Name and data share one allocation.

use std::sync::Arc;

use jute::records::StatPersisted;

use super::acls::AclId;

/// Slots that are copied at once when a shared one changes.
const CHUNK: usize = 128;
const NAME_MAX: u32 = i32::MAX as u32;
/// Set beside the name's length where there is no data: null is not the same as empty.
const NULL_DATA: u32 = 1 << 31;

/// A znode's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The root's.
    pub(super) const ROOT: Self = Self(0);
    const NONE: Self = Self(u32::MAX);

    fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// One znode.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) stat: StatPersisted,
    /// Name, then data.
    bytes: Box<[u8]>,
    name_length: u32,
    pub(super) acl: AclId,
    /// The node's part of the tree's digest.
    pub(super) digest: u32,
    /// Of its path.
    pub(super) hash: u32,
    parent: NodeId,
    first_child: NodeId,
    next: NodeId,
    /// Of a first child: the last one.
    previous: NodeId,
    children: u32,
}

impl Slot {
    fn free(next: NodeId) -> Self {
        Self {
            stat: StatPersisted::default(),
            bytes: Box::default(),
            name_length: 0,
            acl: AclId::OPEN,
            digest: 0,
            hash: 0,
            parent: NodeId::NONE,
            first_child: NodeId::NONE,
            next,
            previous: NodeId::NONE,
            children: 0,
        }
    }

    fn name_end(&self) -> usize {
        (self.name_length & !NULL_DATA) as usize
    }

    /// The last part of its path.
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.name_end()]).unwrap_or_default()
    }

    fn name_bytes(&self) -> &[u8] {
        &self.bytes[..self.name_end()]
    }

    pub(super) fn data(&self) -> Option<&[u8]> {
        (self.name_length & NULL_DATA == 0).then(|| &self.bytes[self.name_end()..])
    }

    pub(super) fn set_data(&mut self, data: Option<&[u8]>) {
        let name_end = self.name_end();
        let given = data.unwrap_or_default();
        if self.bytes.len() - name_end == given.len() {
            self.bytes[name_end..].copy_from_slice(given);
        } else {
            self.bytes = [self.name_bytes(), given].concat().into();
        }
        self.name_length =
            if data.is_none() { name_end as u32 | NULL_DATA } else { name_end as u32 };
    }

    pub(super) fn children(&self) -> usize {
        self.children as usize
    }
}

/// All slots.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    chunks: Vec<Arc<[Slot; CHUNK]>>,
    /// The first slot that is free; each knows the next.
    free: NodeId,
    count: usize,
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: NodeId::NONE, count: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// A slot that is known to be there: ids come only from links, the table of paths and lists of owners.
    pub(super) fn get(&self, id: NodeId) -> &Slot {
        &self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> &mut Slot {
        &mut Arc::make_mut(&mut self.chunks[id.0 as usize / CHUNK])[id.0 as usize % CHUNK]
    }

    /// Makes a znode, the last child of `parent`; without a parent it is the root. `None` if there is no room.
    pub(super) fn add(
        &mut self,
        parent: Option<NodeId>,
        name: &str,
        data: Option<&[u8]>,
    ) -> Option<NodeId> {
        if name.len() > NAME_MAX as usize {
            return None;
        }
        if self.free == NodeId::NONE {
            self.grow()?;
        }
        let id = self.free;
        let slot = self.get_mut(id);
        let next_free = slot.next;
        *slot = Slot::free(NodeId::NONE);
        slot.bytes = [name.as_bytes(), data.unwrap_or_default()].concat().into();
        slot.name_length = name.len() as u32 | if data.is_none() { NULL_DATA } else { 0 };
        self.free = next_free;
        self.count += 1;
        if let Some(parent) = parent {
            self.link(parent, id);
        }
        Some(id)
    }

    fn grow(&mut self) -> Option<()> {
        let begin = u32::try_from(self.chunks.len() * CHUNK).ok()?;
        let end = begin.checked_add(CHUNK as u32).filter(|end| *end < NodeId::NONE.0)?;
        self.chunks.push(Arc::new(std::array::from_fn(|index| {
            let next = begin + index as u32 + 1;
            Slot::free(if next == end { NodeId::NONE } else { NodeId(next) })
        })));
        self.free = NodeId(begin);
        Some(())
    }

    fn link(&mut self, parent: NodeId, id: NodeId) {
        let first = self.get(parent).first_child.some();
        let last = first.map(|first| self.get(first).previous);
        if let (Some(first), Some(last)) = (first, last) {
            self.get_mut(last).next = id;
            self.get_mut(first).previous = id;
        }
        let slot = self.get_mut(id);
        slot.parent = parent;
        slot.previous = last.unwrap_or(id);
        let above = self.get_mut(parent);
        above.children += 1;
        if first.is_none() {
            above.first_child = id;
        }
    }

    /// Takes a znode without children away.
    pub(super) fn remove(&mut self, id: NodeId) {
        let slot = self.get(id);
        let (parent, next, previous) = (slot.parent, slot.next, slot.previous);
        let first = self.get(parent).first_child;
        if first == id {
            self.get_mut(parent).first_child = next;
            if let Some(next) = next.some() {
                self.get_mut(next).previous = previous;
            }
        } else {
            self.get_mut(previous).next = next;
            // Behind the last one: the first one, which knows the last.
            self.get_mut(next.some().unwrap_or(first)).previous = previous;
        }
        self.get_mut(parent).children -= 1;
        *self.get_mut(id) = Slot::free(self.free);
        self.free = id;
        self.count -= 1;
    }

    pub(super) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.get(id).parent.some()
    }

    pub(super) fn first_child(&self, id: NodeId) -> Option<NodeId> {
        self.get(id).first_child.some()
    }

    pub(super) fn next_sibling(&self, id: NodeId) -> Option<NodeId> {
        self.get(id).next.some()
    }

    /// Children in the order in which they were made.
    pub(super) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(self.first_child(id), |id| self.next_sibling(*id))
    }

    /// Whether a znode is at `path`.
    pub(super) fn is_at(&self, mut id: NodeId, path: &str) -> bool {
        let mut rest = path.as_bytes();
        while let Some(parent) = self.parent(id) {
            let above = rest.strip_suffix(self.get(id).name_bytes());
            let Some(above) = above.and_then(|above| above.strip_suffix(b"/")) else {
                return false;
            };
            (rest, id) = (above, parent);
        }
        rest.is_empty()
    }

    /// Where a znode is.
    pub(super) fn path(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(parent) = self.parent(at) {
            names.push(self.get(at).name());
            at = parent;
        }
        names.iter().rev().fold(String::new(), |path, name| path + "/" + name)
    }
}
