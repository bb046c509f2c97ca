//! Replaying logged transactions on a tree, and comparing the digests that they carry (`DataTree.processTxn`).

use jute::txn::{CONFIG_NODE, Entry, Txn};

use super::snapshot::Trailer;
use crate::core::State;
use crate::tree::Tree;

/// What is known of digests while a log is replayed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Digests {
    /// The digest that the snapshot says for a later transaction. Before it has come, the tree holds some of what
    /// follows already, and nothing can be compared.
    awaited: Option<(i64, i64)>,
    /// Transactions after which the tree was another than the log says (`digest_mismatches_count`).
    pub mismatches: u64,
}

impl Digests {
    /// Behind a snapshot of `zxid`.
    pub fn after(zxid: i64, trailer: Trailer) -> Self {
        // One that is older says nothing: a new epoch has begun since.
        Self { awaited: trailer.digest.filter(|(at, _)| *at >= zxid), mismatches: 0 }
    }

    /// The tree has this digest after `zxid`; the log says `expected`, if anything.
    pub fn compare(&mut self, zxid: i64, digest: i64, expected: Option<i64>) {
        let expected = match self.awaited {
            Some((at, _)) if zxid < at => return,
            Some((at, awaited)) => {
                self.awaited = None;
                if at == zxid {
                    Some(awaited)
                } else {
                    tracing::warn!("The txn 0x{at:x} of snapshot digest does not exist.");
                    expected
                }
            }
            None => expected,
        };
        let Some(expected) = expected.filter(|expected| *expected != digest) else { return };
        if self.mismatches == 0 {
            tracing::error!(
                "Digests are not matching. Value is Zxid. {zxid}: first digest mismatch on txn 0x{zxid:x}, expected digest is {expected}, actual digest is {digest}"
            );
        }
        self.mismatches += 1;
    }
}

/// Applies an entry, which may be in the tree already in part or as a whole.
pub fn replay(state: &mut State, entry: Entry) {
    state.zxid = entry.zxid;
    match entry.txn {
        Txn::CreateSession { timeout } => {
            state.sessions.insert(entry.session, timeout);
        }
        Txn::CloseSession { paths } => {
            state.sessions.remove(&entry.session);
            let own = state.tree.ephemerals(entry.session);
            for path in paths.iter().chain(&own) {
                delete(&mut state.tree, path, entry.zxid);
            }
        }
        txn => apply(state, entry.session, entry.zxid, entry.time, txn),
    }
    state.digests.compare(entry.zxid, state.tree.digest(), entry.digest);
}

/// Deletes a znode, and what is below it: a snapshot of the original's, taken while transactions went on, may have
/// children that were made after their parent had been deleted and made again. They are made anew by what follows.
fn delete(tree: &mut Tree, path: &str, zxid: i64) {
    let mut waiting = vec![path.to_owned()];
    while let Some(last) = waiting.last() {
        let children = tree.get(last).map(|node| node.children()).unwrap_or_default();
        if children.is_empty() {
            tree.delete(last, zxid);
            waiting.pop();
        } else {
            let children = children.into_iter().map(|name| format!("{last}/{name}"));
            let children: Vec<String> = children.collect();
            waiting.extend(children);
        }
    }
}

fn apply(state: &mut State, session: i64, zxid: i64, time: i64, txn: Txn) {
    let tree = &mut state.tree;
    match txn {
        Txn::Create { opcode, path, data, acl, ephemeral, parent_cversion, ttl } => {
            let owner = crate::core::owner(opcode, ephemeral, ttl, session);
            tree.create(&path, data.as_deref(), &acl, owner, parent_cversion, zxid, time);
        }
        Txn::Delete { path } => {
            delete(tree, &path, zxid);
        }
        Txn::SetData { path, data, version } => {
            tree.set_data(&path, data.as_deref(), version, zxid, time);
        }
        Txn::Reconfig { data } => {
            tree.set_data(CONFIG_NODE, data.as_deref(), -1, zxid, time);
        }
        Txn::SetAcl { path, acl, version } => {
            tree.set_acl(&path, &acl, version);
        }
        Txn::Multi(txns) if txns.iter().all(|txn| !matches!(txn, Txn::Error { .. })) => {
            for txn in txns {
                apply(state, session, zxid, time, txn);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::open_acl;

    fn entry(zxid: i64, txn: Txn) -> Entry {
        Entry { session: 0, cxid: 0, zxid, time: zxid, txn, digest: None }
    }

    fn create(zxid: i64, path: &str, parent_cversion: i32) -> Entry {
        let txn = Txn::Create {
            opcode: 1,
            path: path.to_owned(),
            data: Some(zxid.to_string().into()),
            acl: open_acl(),
            ephemeral: false,
            parent_cversion,
            ttl: 0,
        };
        entry(zxid, txn)
    }

    /// Any mixture of znodes before and after: what a walk sees while a tree is deleted and made again.
    #[test]
    fn replaying_heals_a_snapshot_that_holds_parts_of_what_follows() {
        let delete = |zxid, path: &str| entry(zxid, Txn::Delete { path: path.to_owned() });
        let before = [create(1, "/a", 1), create(2, "/a/y", 1), create(3, "/a/z", 2)];
        let after = [
            delete(4, "/a/y"),
            delete(5, "/a/z"),
            delete(6, "/a"),
            create(7, "/a", 2),
            create(8, "/a/z", 1),
            create(9, "/a/z/deep", 1),
            entry(10, Txn::SetData { path: "/a/z".into(), data: None, version: 1 }),
            entry(11, Txn::SetAcl { path: "/a".into(), acl: vec![], version: 1 }),
            create(12, "/a/gone", 2),
            delete(13, "/a/gone"),
        ];
        let mut states = vec![State::default()];
        for entry in before.iter().chain(&after) {
            let mut state = State::default();
            for done in before.iter().chain(&after).take_while(|done| done.zxid <= entry.zxid) {
                replay(&mut state, done.clone());
            }
            states.push(state);
        }
        let whole = states.last().map(|state| state.tree.digest());
        let paths = ["", "/zookeeper", "/a", "/a/gone", "/a/y", "/a/z", "/a/z/deep"];
        // Each znode as it was at a moment of its own, none earlier than the one before.
        let moments = 3..states.len();
        for (first, second, third) in moments
            .clone()
            .flat_map(|one| moments.clone().map(move |two| (one, two)))
            .flat_map(|(one, two)| moments.clone().map(move |three| (one, two, three)))
            .filter(|(one, two, three)| one <= two && two <= three)
        {
            let mut fuzzy = State { tree: Tree::empty(), zxid: 3, ..State::default() };
            for path in paths {
                let moment = match path {
                    "" | "/zookeeper" | "/a" => first,
                    "/a/gone" | "/a/y" => second,
                    _ => third,
                };
                if let Some(node) = states[moment].tree.get(path) {
                    // Where the parent is not there the walk does not come.
                    fuzzy.tree.insert(path, node.data(), node.acl(), *node.persisted());
                }
            }
            for entry in &after {
                replay(&mut fuzzy, entry.clone());
            }
            let missing = ["/zookeeper/config", "/zookeeper/quota"];
            assert!(missing.iter().all(|path| fuzzy.tree.get(path).is_none()));
            assert_eq!(Some(fuzzy.tree.digest()), whole, "{first} {second} {third}");
        }
    }

    #[test]
    fn digests_are_compared_from_where_the_snapshot_says() {
        let trailer = Trailer { digest: Some((5, 50)), last_zxid: None };
        let mut digests = Digests::after(3, trailer);
        for (zxid, digest, expected, mismatches) in [
            (4, 1, Some(40), 0),
            (5, 50, Some(51), 0),
            (6, 60, None, 0),
            (7, 70, Some(71), 1),
            (8, 80, Some(80), 1),
        ] {
            digests.compare(zxid, digest, expected);
            assert_eq!(digests.mismatches, mismatches, "{zxid}");
        }
        let mut without = Digests::after(6, trailer);
        without.compare(7, 1, Some(2));
        assert_eq!(without.mismatches, 1);
        let mut late = Digests::after(3, trailer);
        late.compare(6, 1, Some(2));
        assert_eq!(late.mismatches, 1);
    }
}
