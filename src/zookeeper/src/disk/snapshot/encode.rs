//! The bytes of a snapshot, piece by piece.

use std::collections::HashMap;

use jute::Writer;
use jute::records::Acl;

use super::{MAGIC, OPEN, STREAM_END, VERSION};
use crate::tree::{Frozen, open_acl};

/// A piece is about this long, in bytes.
const PIECE: usize = 256 << 10;

/// Where a tree is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A file, up to its first checksum.
    File,
    /// The wire, behind a SNAP packet: no header, and a word at the end.
    Stream,
}

/// Puts out a tree, never more than a piece and one znode at a time.
///
/// # Errors
/// Those of `put`.
pub fn content<E>(
    tree: &Frozen,
    sessions: &[(i64, i32)],
    form: Form,
    mut put: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = Writer::new();
    if form == Form::File {
        out.int(MAGIC).int(VERSION).long(-1);
    }
    out.vector(sessions, |out, (id, timeout)| {
        out.long(*id).int(*timeout);
    });
    // ACLs come before the znodes that name them.
    let (mut ids, mut acls): (HashMap<&[Acl], i64>, Vec<&[Acl]>) = (HashMap::new(), Vec::new());
    let open = open_acl();
    let mut nodes = tree.walk();
    while let Some((_, node)) = nodes.next() {
        let acl: &[Acl] = node.acl();
        if acl != open && !acl.is_empty() && !ids.contains_key(acl) {
            acls.push(acl);
            ids.insert(acl, acls.len() as i64);
        }
    }
    out.int(acls.len() as i32);
    for (index, acl) in acls.iter().enumerate() {
        out.long(index as i64 + 1).vector(acl, |out, entry| entry.write(out));
    }
    let mut nodes = tree.walk();
    while let Some((path, node)) = nodes.next() {
        let acl = ids.get(&**node.acl()).copied().unwrap_or(OPEN);
        out.string(path).buffer(node.data()).long(acl);
        node.persisted().write(&mut out);
        if out.as_bytes().len() >= PIECE {
            put(out.as_bytes())?;
            out = Writer::new();
        }
    }
    out.string("/");
    if form == Form::Stream {
        out.string(STREAM_END);
    }
    put(out.as_bytes())
}
