//! All znodes, one after the other: of a tree, or of a copy of it that later changes don't touch.

use super::acls::Acls;
use super::nodes::{NodeId, Nodes};
use super::{Node, Tree};

/// A tree as it was at one moment. Taking it costs little; what is changed later in the tree is copied first.
#[derive(Debug)]
pub struct Frozen {
    nodes: Nodes,
    acls: Acls,
    digest: i64,
}

impl Frozen {
    /// Every znode, parents before children.
    pub fn walk(&self) -> Walk<'_> {
        Walk::new(&self.nodes, &self.acls)
    }

    /// The digest over all znodes.
    pub fn digest(&self) -> i64 {
        self.digest
    }
}

impl Tree {
    /// The tree as it is now, for another thread to write.
    pub fn freeze(&self) -> Frozen {
        Frozen { nodes: self.nodes.clone(), acls: self.acls.clone(), digest: self.digest }
    }

    /// Every znode, parents before children.
    pub fn walk(&self) -> Walk<'_> {
        Walk::new(&self.nodes, &self.acls)
    }
}

/// A way through all znodes. The root's path is "".
#[derive(Debug)]
pub struct Walk<'a> {
    nodes: &'a Nodes,
    acls: &'a Acls,
    path: String,
    /// Where the walk is; `None` before it has begun.
    at: Option<NodeId>,
    is_over: bool,
}

impl<'a> Walk<'a> {
    fn new(nodes: &'a Nodes, acls: &'a Acls) -> Self {
        Self { nodes, acls, path: String::new(), at: None, is_over: nodes.len() == 0 }
    }

    /// The next znode with its path, which holds until the next call. No iterator, because the path is lent.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    pub fn next(&mut self) -> Option<(&str, Node<'a>)> {
        if self.is_over {
            return None;
        }
        let id = match self.at {
            None => NodeId::ROOT,
            Some(at) => match self.after(at) {
                Some(next) => next,
                None => {
                    self.is_over = true;
                    return None;
                }
            },
        };
        self.at = Some(id);
        Some((&self.path, Node::new(self.nodes, self.acls, id)))
    }

    fn after(&mut self, mut at: NodeId) -> Option<NodeId> {
        let mut next = self.nodes.first_child(at);
        while next.is_none() {
            let parent = self.nodes.parent(at)?;
            self.path.truncate(self.path.rfind('/').unwrap_or(0));
            next = self.nodes.next_sibling(at);
            at = parent;
        }
        let id = next?;
        self.path.push('/');
        self.path.push_str(self.nodes.get(id).name());
        Some(id)
    }
}
