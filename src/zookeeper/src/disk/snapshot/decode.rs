//! Reading a snapshot as it streams in, packed or not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use adler2::Adler32;
use jute::Reader;
use jute::records::{Acl, Id, StatPersisted};

use super::{DIGEST_VERSION, MAGIC, OPEN, STREAM_END, Trailer, VERSION, parse_name};
use crate::core::State;
use crate::disk::input::Input;
use crate::disk::{DiskError, at};
use crate::tree::{Tree, open_acl};

/// A seal: checksum, and "/" as text.
const SEAL: usize = 8 + 5;

/// A snapshot as it was read.
#[derive(Debug)]
pub struct Snapshot {
    /// Tree, sessions, and the zxid of the file's name.
    pub state: State,
    /// What is behind the tree.
    pub trailer: Trailer,
}

/// Why a snapshot can't be read: not whole, damaged, or none at all.
fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason.into())
}

/// Reads a file.
///
/// # Errors
/// When it can't be read, or is not a whole snapshot.
pub fn file(path: &Path) -> Result<Snapshot, DiskError> {
    let (zxid, compression) = parse_name(path).unwrap_or_default();
    let damaged = |source: io::Error| match source.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            let reason = if source.kind() == ErrorKind::UnexpectedEof {
                "it ends too early".to_owned()
            } else {
                source.to_string()
            };
            DiskError::BadSnapshot { path: path.to_owned(), reason }
        }
        _ => DiskError::Io { action: "read", path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(at("open", path))?;
    read(compression.reader(file), zxid).map_err(damaged)
}

/// Reads an unpacked one.
///
/// # Errors
/// When it can't be read, or is not whole.
pub fn read(source: impl Read, zxid: i64) -> io::Result<Snapshot> {
    let mut input = Input::new(source);
    if input.int()? != MAGIC {
        return Err(invalid("this is no snapshot"));
    }
    let version = input.int()?;
    if version != VERSION {
        return Err(invalid(format!("its version is {version}, not {VERSION}")));
    }
    let _database = input.long()?;
    let state = content(&mut input, zxid)?;
    let sum = input.checksum();
    if input.long()? != sum {
        return Err(invalid("its checksum is wrong"));
    }
    input.string()?;
    let trailer = trailer(&mut input, sum)?;
    Ok(Snapshot { state, trailer })
}

/// What is behind the first seal tells itself by its length: the digest, the last zxid, both, or nothing. Older servers
/// write nothing.
fn trailer<R: Read>(input: &mut Input<R>, first_sum: i64) -> io::Result<Trailer> {
    const DIGEST: usize = 8 + 4 + 8;
    const ZXID: usize = 8;
    const LONGEST: usize = DIGEST + SEAL + ZXID + SEAL;
    let mut rest = Vec::new();
    while rest.len() <= LONGEST && !input.is_at_end()? {
        rest.push(input.byte()?);
    }
    let (has_digest, has_zxid) = match rest.len() {
        LONGEST => (true, true),
        length if length == DIGEST + SEAL => (true, false),
        length if length == ZXID + SEAL => (false, true),
        _ => return Ok(Trailer::default()),
    };
    let mut sum = Adler32::from_checksum(first_sum as u32);
    let mut seal = Vec::from(first_sum.to_be_bytes());
    seal.extend_from_slice(&[0, 0, 0, 1, b'/']);
    sum.write_slice(&seal);
    let mut trailer = Trailer::default();
    let mut part = |begin: usize, length: usize| {
        let (content, seal) = rest[begin..begin + length + SEAL].split_at(length);
        sum.write_slice(content);
        let expected = i64::from(sum.checksum());
        sum.write_slice(seal);
        let mut reader = Reader::new(seal);
        if reader.long().ok() == Some(expected) {
            Ok(Reader::new(content))
        } else {
            Err(invalid("the checksum behind its digest is wrong"))
        }
    };
    let short = |_| io::Error::from(ErrorKind::UnexpectedEof);
    if has_digest {
        let mut reader = part(0, DIGEST)?;
        let (zxid, version) = (reader.long().map_err(short)?, reader.int().map_err(short)?);
        let digest = reader.long().map_err(short)?;
        // A server that has applied nothing yet writes zeros.
        trailer.digest = (zxid > 0 && version == DIGEST_VERSION).then_some((zxid, digest));
    }
    if has_zxid {
        let begin = if has_digest { DIGEST + SEAL } else { 0 };
        trailer.last_zxid = Some(part(begin, ZXID)?.long().map_err(short)?);
    }
    Ok(trailer)
}

/// Reads what a leader sends behind a SNAP packet. What was read beyond it comes back too.
///
/// # Errors
/// When it can't be read, or is not whole.
pub(super) fn stream(source: impl Read, zxid: i64) -> io::Result<(State, Vec<u8>)> {
    let mut input = Input::new(source);
    let state = content(&mut input, zxid)?;
    if input.string()? != STREAM_END {
        return Err(invalid("its last word is missing"));
    }
    Ok((state, input.rest()))
}

/// For an ACL whose transaction is still to be replayed.
fn closed_acl() -> Vec<Acl> {
    vec![Acl { perms: 0, id: Id { scheme: "world".to_owned(), id: "anyone".to_owned() } }]
}

fn content<R: Read>(input: &mut Input<R>, zxid: i64) -> io::Result<State> {
    let mut sessions = HashMap::new();
    for _ in 0..input.count()? {
        sessions.insert(input.long()?, input.int()?);
    }
    let mut acls = HashMap::from([(OPEN, open_acl())]);
    for _ in 0..input.count()? {
        let id = input.long()?;
        let mut acl = Vec::new();
        for _ in 0..input.count()? {
            let perms = input.int()?;
            acl.push(Acl { perms, id: Id { scheme: input.string()?, id: input.string()? } });
        }
        acls.insert(id, acl);
    }
    let mut tree = Tree::empty();
    let (mut data, mut bytes) = (Vec::new(), Vec::new());
    let (mut stat, closed, mut dangling) = ([0; 60], closed_acl(), 0);
    loop {
        input.buffer(&mut bytes)?;
        if bytes == b"/" {
            break;
        }
        let path = String::from_utf8_lossy(&bytes);
        let has_data = input.buffer(&mut data)?;
        let acl = acls.get(&input.long()?).unwrap_or_else(|| {
            dangling += 1;
            &closed
        });
        input.exact(&mut stat)?;
        let stat = StatPersisted::read(&mut Reader::new(&stat))
            .map_err(|error| invalid(error.to_string()))?;
        if !tree.insert(&path, has_data.then_some(data.as_slice()), acl, stat) {
            return Err(invalid(format!("{path} is there twice, or its parent is missing")));
        }
    }
    if tree.get("/").is_none() {
        return Err(invalid("it has no root"));
    }
    if dangling > 0 {
        tracing::debug!("{dangling} znodes have ACLs that the log must say");
    }
    tree.recount_quotas();
    Ok(State { tree, zxid, sessions, ..State::default() })
}
