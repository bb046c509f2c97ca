//! The tree against a simple model of it.

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

/// One step: what, where, and with which ACL.
type Step = (u8, usize, i32);

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u8..5, 0usize..8, 1i32..4), 0..count)
}

const PATHS: [&str; 8] = ["/a", "/b", "/a/c", "/a/c/d", "/a/e", "/ab", "/a/c/ee", "/"];

type Content = (Option<Vec<u8>>, Vec<Acl>, StatPersisted);

/// What the tree should be, kept as simply as can be.
#[derive(Debug, Clone, PartialEq, Default)]
struct Model(BTreeMap<String, Content>);

impl Model {
    fn children(&self, path: &str) -> Vec<&str> {
        let below = |other: &&String| !other.is_empty() && path::parent(other) == path;
        self.0.keys().filter(below).map(|other| path::name(other)).collect()
    }
}

fn key(path: &str) -> String {
    if path == "/" { String::new() } else { path.to_owned() }
}

fn data(zxid: i64) -> Option<Vec<u8>> {
    (zxid % 4 != 0).then(|| vec![zxid as u8; zxid as usize % 3])
}

/// Does a step to both; what no server does is left out.
fn act(tree: &mut Tree, model: &mut Model, (kind, index, perms): Step, zxid: i64) {
    let path = PATHS[index];
    let (acl, data) = (vec![Acl::anyone(perms)], data(zxid));
    let (is_there, above) = (model.0.contains_key(&key(path)), path::parent(path).to_owned());
    match kind {
        0 | 1 if !is_there && model.0.contains_key(&above) => {
            assert!(tree.create(path, data.as_deref(), &acl, zxid % 3, -1, zxid, 5));
            let parent = &mut model.0.get_mut(&above).unwrap().2;
            parent.cversion += 1;
            parent.pzxid = zxid;
            let stat = StatPersisted {
                czxid: zxid,
                mzxid: zxid,
                pzxid: zxid,
                ctime: 5,
                mtime: 5,
                ephemeral_owner: zxid % 3,
                ..StatPersisted::default()
            };
            model.0.insert(path.to_owned(), (data, acl, stat));
        }
        2 if is_there && path != "/" && model.children(path).is_empty() => {
            assert!(tree.delete(path, zxid));
            model.0.get_mut(&above).unwrap().2.pzxid = zxid;
            model.0.remove(path);
        }
        3 => {
            assert_eq!(tree.set_data(path, data.as_deref(), 3, zxid, 6), is_there);
            if let Some(node) = model.0.get_mut(&key(path)) {
                node.0 = data;
                (node.2.version, node.2.mzxid, node.2.mtime) = (3, zxid, 6);
            }
        }
        4 => {
            assert_eq!(tree.set_acl(path, &acl, 7), is_there);
            if let Some(node) = model.0.get_mut(&key(path)) {
                node.1 = acl;
                node.2.aversion = 7;
            }
        }
        _ => {}
    }
}

fn content(mut walk: Walk<'_>) -> Model {
    let mut model = Model::default();
    while let Some((path, node)) = walk.next() {
        let acl = node.acl().to_vec();
        let node = (node.data().map(<[u8]>::to_vec), acl, *node.persisted());
        assert!(model.0.insert(path.to_owned(), node).is_none(), "{path} twice");
    }
    model
}

/// The tree's own sums, and those made anew of what it holds.
fn check(tree: &Tree, model: &Model) {
    assert_eq!(&content(tree.walk()), model);
    let mut anew = Tree::empty();
    for (path, (data, acl, stat)) in &model.0 {
        assert!(anew.insert(path, data.as_deref(), acl, *stat));
        let node = tree.get(path).unwrap();
        assert_eq!(node.children(), model.children(path));
        assert_eq!((node.child_count(), node.data()), (node.children().len(), data.as_deref()));
        assert_eq!(tree.descendants(path), anew_descendants(model, path), "{path}");
    }
    assert_eq!((tree.digest(), tree.bytes), (anew.digest(), anew.bytes));
    assert_eq!((tree.node_count(), anew.node_count()), (model.0.len() + 1, model.0.len() + 1));
    for owner in 0..3 {
        let is_owned =
            |(_, (_, _, stat)): &(&String, &Content)| stat.ephemeral_owner == owner && owner != 0;
        let owned: Vec<&String> = model.0.iter().filter(is_owned).map(|(path, _)| path).collect();
        assert_eq!(tree.ephemerals(owner).iter().collect::<Vec<_>>(), owned);
    }
}

fn anew_descendants(model: &Model, path: &str) -> usize {
    let prefix = format!("{path}/");
    let below = model.0.keys().filter(|other| other.starts_with(&prefix)).count();
    below + usize::from(path.is_empty())
}

proptest! {
    #[test]
    fn the_tree_does_as_a_simple_model(all in steps(60)) {
        let mut tree = Tree::new();
        let mut model = content(tree.walk());
        for (index, step) in all.into_iter().enumerate() {
            act(&mut tree, &mut model, step, index as i64 + 1);
        }
        check(&tree, &model);
    }

    #[test]
    fn rolling_back_leaves_no_trace(kept in steps(10), taken_back in steps(30)) {
        let mut tree = Tree::new();
        let mut model = content(tree.walk());
        for (index, step) in kept.into_iter().enumerate() {
            act(&mut tree, &mut model, step, index as i64 + 1);
        }
        let mut changed = model.clone();
        tree.begin();
        for (index, step) in taken_back.into_iter().enumerate() {
            act(&mut tree, &mut changed, step, index as i64 + 100);
        }
        tree.roll_back();
        check(&tree, &model);
    }

    #[test]
    fn a_frozen_tree_stays_as_it_was(before in steps(20), after in steps(20)) {
        let mut tree = Tree::new();
        let mut model = content(tree.walk());
        for (index, step) in before.into_iter().enumerate() {
            act(&mut tree, &mut model, step, index as i64 + 1);
        }
        let (frozen, then) = (tree.freeze(), model.clone());
        for (index, step) in after.into_iter().enumerate() {
            act(&mut tree, &mut model, step, index as i64 + 100);
        }
        check(&tree, &model);
        prop_assert_eq!(content(frozen.walk()), then);
    }
}

#[test]
fn slots_are_used_again_and_more_than_a_chunk_is_found() {
    let mut tree = Tree::new();
    let all = || (0..1000).map(|number| format!("/n{number}"));
    for _ in 0..2 {
        for path in all() {
            assert!(tree.create(&path, Some(path.as_bytes()), &open_acl(), 0, -1, 1, 1));
        }
        assert!(all().all(|path| tree.get(&path).unwrap().data() == Some(path.as_bytes())));
        assert_eq!(tree.node_count(), 1005);
        for path in all() {
            assert!(tree.delete(&path, 2));
        }
        assert_eq!((tree.node_count(), tree.get("/").unwrap().child_count()), (5, 1));
    }
}

#[test]
fn what_can_not_be_is_refused() {
    let mut tree = Tree::new();
    for path in ["", "/", "x", "//", "//x", "/no/x"] {
        assert!(!tree.create(path, None, &open_acl(), 0, -1, 1, 1), "{path:?}");
    }
    assert!(!tree.delete("/zookeeper", 1) && !tree.delete("/", 1));
    assert_eq!(tree.node_count(), 5);
}

#[test]
fn children_are_counted_up_to_the_largest_number() {
    let mut tree = Tree::new();
    let acl = open_acl();
    tree.create("/d", None, &acl, 0, -1, 1, 1);
    tree.create("/d/a", None, &acl, 0, i32::MAX, 2, 2);
    tree.create("/d/b", None, &acl, 0, i32::MIN, 3, 3);
    let stat = *tree.get("/d").unwrap().persisted();
    assert_eq!((stat.cversion, stat.pzxid), (i32::MAX, 2));
}
