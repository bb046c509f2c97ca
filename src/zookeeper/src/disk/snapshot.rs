//! Snapshots (`FileSnap`, `SerializeUtils`): sessions, ACLs, znodes, a checksum over all.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use jute::records::{Acl, StatPersisted};
use jute::{DecodeError, Reader, Writer};

use super::{DiskError, adler32, at};
use crate::core::State;
use crate::tree::{Tree, open_acl};

const MAGIC: i32 = 0x5a4b_534e;
const VERSION: i32 = 2;
const DIGEST_VERSION: i32 = 2;
/// The last word of a tree on the wire.
pub const STREAM_END: &str = "BenWasHere";
/// The id that stands for everybody everything.
const OPEN: i64 = -1;

/// The bytes of a snapshot.
pub fn encode(tree: &Tree, zxid: i64, sessions: &[(i64, i32)]) -> Vec<u8> {
    let mut out = Writer::new();
    out.int(MAGIC).int(VERSION).long(-1);
    content(&mut out, tree, sessions);
    seal(&mut out);
    out.long(zxid).int(DIGEST_VERSION).long(tree.digest());
    seal(&mut out);
    out.into_bytes()
}

/// What a leader sends behind a SNAP packet: the content without header and checksum, and a word at the end.
pub fn encode_stream(tree: &Tree, sessions: &[(i64, i32)]) -> Vec<u8> {
    let mut out = Writer::new();
    content(&mut out, tree, sessions);
    out.string(STREAM_END);
    out.into_bytes()
}

/// Reads what [`encode_stream`] makes, and how long it is; `None` while it is not whole.
pub fn decode_stream(bytes: &[u8], zxid: i64) -> Option<(State, usize)> {
    let mut reader = Reader::new(bytes);
    let state = read_content(&mut reader, zxid).ok()?;
    let is_whole = reader.string().is_ok_and(|end| end == STREAM_END);
    is_whole.then(|| (state, bytes.len() - reader.rest().len()))
}

fn content(out: &mut Writer, tree: &Tree, sessions: &[(i64, i32)]) {
    out.vector(sessions, |out, (id, timeout)| {
        out.long(*id).int(*timeout);
    });
    let (mut ids, mut acls): (HashMap<&[Acl], i64>, Vec<&[Acl]>) = (HashMap::new(), Vec::new());
    let open = open_acl();
    let mut nodes = tree.walk();
    while let Some((_, node)) = nodes.next() {
        let acl: &[Acl] = node.acl();
        if acl != open && !ids.contains_key(acl) {
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
        node.persisted().write(out);
    }
    out.string("/");
}

fn seal(out: &mut Writer) {
    let sum = adler32(out.as_bytes());
    out.long(sum).string("/");
}

/// Writes a snapshot beside its place, syncs it and renames it.
///
/// # Errors
/// When the disk refuses.
pub fn write(directory: &Path, zxid: i64, bytes: &[u8]) -> Result<(), DiskError> {
    let path = directory.join(format!("snapshot.{zxid:x}"));
    let temporary = directory.join(format!("snapshot.{zxid:x}.tmp"));
    let mut file = File::create(&temporary).map_err(at("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(at("rename", &temporary))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at("sync", directory))
}

/// Reads a snapshot; `None` if it is not whole.
pub fn decode(bytes: &[u8], zxid: i64) -> Option<State> {
    let mut reader = Reader::new(bytes);
    let mut state = read(&mut reader, zxid).ok()?;
    let read_bytes = bytes.len() - reader.rest().len();
    let sum = reader.long().ok()?;
    if sum != adler32(&bytes[..read_bytes]) {
        return None;
    }
    // Behind the first seal: the transaction whose digest is known, if digests were on.
    let mut known = || -> Result<i64, DecodeError> {
        reader.string()?;
        reader.long()
    };
    state.comparable_from = known().unwrap_or(0).max(zxid);
    Some(state)
}

fn read(reader: &mut Reader<'_>, zxid: i64) -> Result<State, DecodeError> {
    if reader.int()? != MAGIC || reader.int()? != VERSION {
        return Err(DecodeError::Short);
    }
    let _database = reader.long()?;
    read_content(reader, zxid)
}

fn read_content(reader: &mut Reader<'_>, zxid: i64) -> Result<State, DecodeError> {
    let wrong = DecodeError::Short;
    let sessions = reader
        .vector(|reader| Ok((reader.long()?, reader.int()?)))?
        .unwrap_or_default()
        .into_iter()
        .collect();
    let acls: HashMap<i64, Vec<Acl>> = reader
        .vector(|reader| Ok((reader.long()?, reader.vector(Acl::read)?.unwrap_or_default())))?
        .unwrap_or_default()
        .into_iter()
        .collect();
    let (mut tree, open) = (Tree::empty(), open_acl());
    loop {
        let path = reader.string()?;
        if path == "/" {
            break;
        }
        let data = reader.buffer()?;
        let acl = match reader.long()? {
            OPEN => &open,
            id => acls.get(&id).ok_or(wrong)?,
        };
        // Parents come before their children; the original reads no others either.
        if !tree.insert(&path, data, acl, StatPersisted::read(reader)?) {
            return Err(wrong);
        }
    }
    if tree.get("/").is_none() {
        return Err(wrong);
    }
    tree.recount_quotas();
    Ok(State { tree, zxid, sessions, comparable_from: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_back_and_a_damaged_one_refused() {
        let mut tree = Tree::new();
        tree.create("/a", None, &[Acl::anyone(1)], 7, -1, 5, 6);
        tree.create("/a/b", Some(&[1, 2]), &open_acl(), 0, -1, 6, 7);
        let bytes = encode(&tree, 6, &[(7, 4000)]);
        let state = decode(&bytes, 6).unwrap();
        assert_eq!((state.tree.digest(), state.sessions[&7]), (tree.digest(), 4000));
        assert_eq!(encode(&state.tree, 6, &[(7, 4000)]), bytes);
        assert_eq!(state.tree.ephemerals(7), ["/a"]);
        for damage in [20, 60, bytes.len() / 2] {
            let mut bytes = bytes.clone();
            bytes[damage] ^= 0x10;
            assert!(decode(&bytes, 6).is_none(), "{damage}");
        }
        assert!(decode(&bytes[..bytes.len() / 2], 6).is_none());
    }
}
