//! Snapshots (`FileSnap`, `SnapStream`, `SerializeUtils`): sessions, ACLs, znodes, a checksum over all, then the digest
//! of the tree and a checksum over that too.
//!
//! [`encode`] makes its bytes of a frozen tree, [`file`] puts them on disk, [`decode`] reads them. Ours are of one
//! moment. The original's are taken while transactions go on: what follows in the log is replayed on what they have of
//! it already.

pub mod decode;
pub mod encode;
pub mod file;

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::compression::Compression;
use super::{DiskError, at};
use crate::core::State;
use crate::tree::Frozen;
#[cfg(test)]
use crate::tree::Tree;
use encode::{Form, content};
use file::{SnapshotFile, Unpublished};

const MAGIC: i32 = 0x5a4b_534e;
const VERSION: i32 = 2;
const DIGEST_VERSION: i32 = 2;
/// The last word of a tree on the wire.
pub const STREAM_END: &str = "BenWasHere";
/// The last bytes of a file: behind each checksum, `/` as a string.
const END: [u8; 5] = [0, 0, 0, 1, b'/'];
/// The id that stands for everybody everything.
const OPEN: i64 = -1;

/// What a directory has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The last transaction that is whole in it.
    pub zxid: i64,
    /// How it is packed.
    pub compression: Compression,
    /// The file.
    pub path: PathBuf,
}

impl Found {
    /// Whether its writer came to its end, as far as the last bytes tell (`SnapStream.isValidSnapshot`). Packed ones are
    /// taken for whole.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn looks_whole(&self) -> Result<bool, DiskError> {
        if self.compression != Compression::None {
            return Ok(true);
        }
        let last = || {
            let mut file = File::open(&self.path)?;
            if file.metadata()?.len() < END.len() as u64 {
                return Ok(false);
            }
            let mut last = END;
            file.seek(SeekFrom::End(-(END.len() as i64)))?;
            file.read_exact(&mut last)?;
            Ok(last == END)
        };
        last().map_err(at("read", &self.path))
    }
}

/// The zxid and the packing that a snapshot's name says, if it is one.
pub fn parse_name(path: &Path) -> Option<(i64, Compression)> {
    let name = path.file_name()?.to_str()?.strip_prefix("snapshot.")?;
    let (hex, compression) = Compression::ALL
        .into_iter()
        .filter(|method| *method != Compression::None)
        .find_map(|method| name.strip_suffix(method.suffix()).map(|hex| (hex, method)))
        .unwrap_or((name, Compression::None));
    Some((u64::from_str_radix(hex, 16).ok()? as i64, compression))
}

/// The snapshots of a directory, oldest first.
///
/// # Errors
/// When it can't be read.
pub fn list(directory: &Path) -> Result<Vec<Found>, DiskError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(at("read", directory))? {
        let path = entry.map_err(at("read", directory))?.path();
        if let Some((zxid, compression)) = parse_name(&path) {
            found.push(Found { zxid, compression, path });
        }
    }
    found.sort();
    Ok(found)
}

/// What is written behind the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trailer {
    /// `digest.enabled`: a zxid and the tree's digest after it.
    pub digest: Option<(i64, i64)>,
    /// `serializeLastProcessedZxid.enabled`, of 3.9: the last zxid.
    pub last_zxid: Option<i64>,
}

/// What a snapshot is made of.
#[derive(Debug)]
pub struct Content {
    /// The tree.
    pub tree: Frozen,
    /// Sessions and their timeouts in ms.
    pub sessions: Vec<(i64, i32)>,
    /// The last transaction in it.
    pub zxid: i64,
}

impl Content {
    /// What a state holds.
    pub fn of(state: &State) -> Self {
        let sessions = state.sessions.iter().map(|(id, timeout)| (*id, *timeout)).collect();
        Self { tree: state.tree.freeze(), sessions, zxid: state.zxid }
    }

    /// Writes a file that has no name yet. On disk when this returns. Asks now and then whether to go on; `None` if not.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(
        &self,
        directory: &Path,
        compression: Compression,
        trailer: Trailer,
        goes_on: impl Fn() -> bool,
    ) -> Result<Option<Unpublished>, DiskError> {
        let mut file = SnapshotFile::create(directory, self.zxid, compression)?;
        let put =
            |bytes: &[u8]| if goes_on() { file.write(bytes).map_err(Some) } else { Err(None) };
        match content(&self.tree, &self.sessions, Form::File, put) {
            Ok(()) => file.finish(trailer).map(Some),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }
}

/// Writes a state. On disk when this returns.
///
/// # Errors
/// When the disk refuses.
pub fn save(
    directory: &Path,
    state: &State,
    compression: Compression,
    trailer: Trailer,
) -> Result<PathBuf, DiskError> {
    match Content::of(state).write(directory, compression, trailer, || true)? {
        Some(unpublished) => unpublished.publish(),
        // It always goes on.
        None => Ok(directory.to_owned()),
    }
}

/// What a leader sends behind a SNAP packet: the content without header and checksum, and a word at the end.
#[cfg(test)]
pub fn encode_stream(tree: &Tree, sessions: &[(i64, i32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(()) = content(&tree.freeze(), sessions, Form::Stream, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), std::convert::Infallible>(())
    });
    bytes
}

/// Reads what a leader sends behind a SNAP packet. What was read beyond it comes back too.
///
/// # Errors
/// When it can't be read, or is not whole.
pub fn decode_stream(source: impl Read, zxid: i64) -> io::Result<(State, Vec<u8>)> {
    decode::stream(source, zxid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::open_acl;
    use jute::records::Acl;
    use std::fs;

    fn state() -> State {
        let mut state = State { zxid: 6, ..State::default() };
        state.sessions.insert(7, 4000);
        state.tree.create("/a", None, &[Acl::anyone(1)], 7, -1, 5, 6);
        state.tree.create("/a/b", Some(&[1, 2]), &open_acl(), 0, -1, 6, 7);
        let data: Vec<u8> = (0..600_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        for (number, data) in data.chunks(5000).enumerate() {
            let path = format!("/n{number}");
            state.tree.create(&path, Some(data), &[Acl::anyone(2)], 0, -1, 6, 7);
        }
        state
    }

    #[test]
    fn names_say_zxid_and_packing() {
        for (name, expected) in [
            ("snapshot.0", Some((0, Compression::None))),
            ("snapshot.1ff.gz", Some((0x1ff, Compression::Gzip))),
            ("snapshot.ffffffffffffffff.snappy", Some((-1, Compression::Snappy))),
            ("snapshot.x", None),
            ("snapshot.1.tmp", None),
            ("tmp.snapshot.1", None),
            ("log.1", None),
        ] {
            assert_eq!(parse_name(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn snapshots_of_every_packing_are_read_back_and_damaged_ones_refused() {
        let state = state();
        for compression in Compression::ALL {
            for (digest, last_zxid) in
                [(None, None), (Some((6, 9)), None), (Some((8, 9)), Some(8)), (None, Some(8))]
            {
                let directory = tempfile::TempDir::new().unwrap();
                let trailer = Trailer { digest, last_zxid };
                let path = save(directory.path(), &state, compression, trailer).unwrap();
                assert_eq!(parse_name(&path), Some((6, compression)));
                let read = decode::file(&path).unwrap();
                assert_eq!(read.state.tree.digest(), state.tree.digest());
                assert_eq!(encode_stream(&read.state.tree, &[]), encode_stream(&state.tree, &[]));
                assert_eq!(read.state.sessions, state.sessions);
                assert_eq!(read.state.tree.ephemerals(7), ["/a"]);
                assert_eq!(read.trailer, trailer, "{compression:?}");
                let bytes = fs::read(&path).unwrap();
                let places = (0..16).map(|part| part * bytes.len() / 16);
                for damage in places.filter(|place| compression == Compression::None || *place > 20)
                {
                    let mut bytes = bytes.clone();
                    bytes[damage] ^= 0x10;
                    fs::write(&path, &bytes).unwrap();
                    // A damaged reference to equal bytes does no harm.
                    let harmless = |read: decode::Snapshot| {
                        compression != Compression::None
                            && encode_stream(&read.state.tree, &[])
                                == encode_stream(&state.tree, &[])
                    };
                    let read = decode::file(&path);
                    assert!(read.map_or(true, harmless), "{compression:?} {damage}");
                }
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                assert!(decode::file(&path).is_err());
            }
        }
    }

    #[test]
    fn a_tree_on_the_wire_is_read_when_it_is_whole() {
        let state = state();
        let sessions = [(7, 4000)];
        let mut bytes = encode_stream(&state.tree, &sessions);
        let length = bytes.len();
        bytes.extend_from_slice(b"what follows");
        let (read, rest) = decode_stream(bytes.as_slice(), 6).unwrap();
        assert_eq!(read.tree.digest(), state.tree.digest());
        assert_eq!(rest, b"what follows");
        for end in [0, 10, length / 2, length - 1] {
            assert!(decode_stream(&bytes[..end], 6).is_err());
        }
    }
}
