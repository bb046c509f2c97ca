//! Each ACL once, however many znodes have it (`ReferenceCountedACLCache`).

use std::collections::HashMap;
use std::sync::Arc;

use jute::records::Acl;

/// One of the ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AclId(u32);

impl AclId {
    /// Everybody everything.
    pub(super) const OPEN: Self = Self(0);
}

/// All ACLs of a tree, counted.
#[derive(Debug, Clone)]
pub(super) struct Acls {
    entries: Vec<(Arc<[Acl]>, usize)>,
    ids: HashMap<Arc<[Acl]>, AclId>,
    free: Vec<AclId>,
}

impl Acls {
    pub(super) fn new() -> Self {
        Self { entries: vec![(super::open_acl().into(), 1)], ids: HashMap::new(), free: Vec::new() }
    }

    pub(super) fn get(&self, id: AclId) -> &Arc<[Acl]> {
        &self.entries[id.0 as usize].0
    }

    /// One znode more has this ACL.
    pub(super) fn take(&mut self, acl: &[Acl]) -> AclId {
        if acl == &**self.get(AclId::OPEN) {
            return AclId::OPEN;
        }
        if let Some(id) = self.ids.get(acl) {
            self.entries[id.0 as usize].1 += 1;
            return *id;
        }
        let acl: Arc<[Acl]> = acl.into();
        let id = if let Some(id) = self.free.pop() {
            self.entries[id.0 as usize] = (acl.clone(), 1);
            id
        } else {
            // There are fewer ACLs than znodes, whose numbers have 32 bits.
            self.entries.push((acl.clone(), 1));
            AclId(self.entries.len() as u32 - 1)
        };
        self.ids.insert(acl, id);
        id
    }

    /// One znode fewer has it.
    pub(super) fn release(&mut self, id: AclId) {
        if id == AclId::OPEN {
            return;
        }
        let (acl, count) = &mut self.entries[id.0 as usize];
        *count -= 1;
        if *count == 0 {
            self.ids.remove(acl);
            *acl = Arc::default();
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_znode_has_any_more_is_forgotten() {
        let mut acls = Acls::new();
        assert_eq!(acls.take(&[Acl::anyone(31)]), AclId::OPEN);
        let (read, write) = ([Acl::anyone(1)], [Acl::anyone(2)]);
        let id = acls.take(&read);
        assert_eq!(acls.take(&read), id);
        acls.release(id);
        assert_eq!(**acls.get(id), read);
        acls.release(id);
        assert_eq!((acls.ids.len(), acls.take(&write)), (0, id));
        assert_eq!((**acls.get(id)).to_vec(), write);
    }
}
