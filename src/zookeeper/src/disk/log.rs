//! Transaction logs (`FileTxnLog`): header, then entries of checksum, length, payload and the letter B, then zeros.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jute::txn::Entry;
use jute::{Reader, Writer};

use super::{DiskError, adler32, at};

const MAGIC: i32 = 0x5a4b_4c47;
const VERSION: i32 = 2;
pub(super) const HEADER: usize = 16;
const END: u8 = 0x42;
/// Files grow by this much at a time, so that most syncs don't change their size.
const GROWTH: u64 = if cfg!(test) { 8192 } else { 64 << 20 };
/// A new file is begun after this many bytes.
const FILE_MAX: u64 = 512 << 20;

/// How a log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes that a file grows by at a time (`preAllocSize`).
    pub growth: u64,
    /// Bytes after which a new file is begun (`txnLogSizeLimitInKb`).
    pub file_max: u64,
    /// Whether entries are synced before they are acknowledged (`forceSync`).
    pub sync: bool,
    /// A sync that takes longer than this is told of (`fsync.warningthresholdms`).
    pub slow_sync: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let slow_sync = Duration::from_secs(1);
        Self { growth: GROWTH, file_max: FILE_MAX, sync: true, slow_sync }
    }
}

/// The log being written.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    options: Options,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    written: u64,
    allocated: u64,
}

impl Log {
    /// A log in `directory`. The first entry begins a new file: what is there already is never appended to.
    pub fn new(directory: PathBuf, options: Options) -> Self {
        Self { directory, options, current: None }
    }

    /// The next entry begins a new file.
    pub fn roll(&mut self) {
        self.current = None;
    }

    /// Appends entries and returns when they are on disk.
    ///
    /// # Errors
    /// When the disk refuses; what was half written is cut again.
    pub fn append(&mut self, entries: &[&Entry]) -> Result<(), DiskError> {
        let payloads: Vec<_> = entries.iter().map(|entry| (entry.zxid, entry.encode())).collect();
        self.append_encoded(&payloads)
    }

    /// [`Log::append`] of entries as they are in the log, with their zxids.
    ///
    /// # Errors
    /// As there.
    pub fn append_encoded(&mut self, entries: &[(i64, impl AsRef<[u8]>)]) -> Result<(), DiskError> {
        let Some((first, _)) = entries.first() else { return Ok(()) };
        if self.current.as_ref().is_some_and(|current| current.written > self.options.file_max) {
            self.current = None;
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => self.current.insert(begin(&self.directory, *first)?),
        };
        let mut batch = Vec::with_capacity(entries.len() * 128);
        for (_, payload) in entries {
            let payload = payload.as_ref();
            let mut head = Writer::new();
            head.long(adler32(payload)).buffer(Some(payload));
            batch.extend_from_slice(head.as_bytes());
            batch.push(END);
        }
        if let Err(source) = current.write(&batch, &self.options) {
            // If this fails too, the next start cuts the tail.
            let _ = current.file.set_len(current.written);
            current.allocated = current.written;
            return Err(DiskError::Io { action: "append to", path: current.path.clone(), source });
        }
        Ok(())
    }
}

fn begin(directory: &Path, zxid: i64) -> Result<Current, DiskError> {
    let path = directory.join(format!("log.{zxid:x}"));
    // A file of that name can only be one whose first entry was torn: nothing in it was acknowledged.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(at("create", &path))?;
    let mut header = Writer::new();
    header.int(MAGIC).int(VERSION).long(0);
    file.write_all(header.as_bytes()).and_then(|()| file.sync_all()).map_err(at("write", &path))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at("sync", directory))?;
    Ok(Current { path, file, written: HEADER as u64, allocated: HEADER as u64 })
}

impl Current {
    fn write(&mut self, batch: &[u8], options: &Options) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let end = self.written + batch.len() as u64;
        if end + 4096 > self.allocated {
            let size = end + options.growth;
            // Where the disk has no room for more, the entries themselves may still fit.
            if self.file.set_len(size).is_ok() {
                self.allocated = size;
            }
        }
        self.file.write_all_at(batch, self.written)?;
        if options.sync {
            let began = Instant::now();
            self.file.sync_data()?;
            let took = began.elapsed();
            if took > options.slow_sync {
                tracing::warn!(
                    "syncing {} took {} ms: writes wait for it; is the disk overloaded?",
                    self.path.display(),
                    took.as_millis()
                );
            }
        }
        self.written = end;
        Ok(())
    }
}

/// How a log file ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Behind its last entry is nothing.
    Whole,
    /// At this byte an entry begins that can't be read, for this reason, and no whole one follows.
    Torn(usize, String),
}

/// What a log file holds.
#[derive(Debug)]
pub struct Content {
    /// Its whole entries.
    pub entries: Vec<Entry>,
    /// What is behind them.
    pub end: End,
}

/// Reads a log file.
///
/// # Errors
/// When the file can't be read, or is damaged before its end.
pub fn read(path: &Path) -> Result<Content, DiskError> {
    let bytes = std::fs::read(path).map_err(at("read", path))?;
    let corrupt = |offset: usize, reason: &str| DiskError::CorruptLog {
        path: path.to_owned(),
        offset,
        reason: reason.to_owned(),
    };
    let mut content = Content { entries: Vec::new(), end: End::Whole };
    if bytes.len() < HEADER {
        // Nothing but the beginning of a header was written.
        return Ok(content);
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(content);
    }
    let mut header = Reader::new(&bytes);
    if header.int() != Ok(MAGIC) {
        return Err(corrupt(0, "this is no transaction log"));
    }
    let mut offset = HEADER;
    loop {
        match look(&bytes, offset) {
            Found::Entry(entry, next) => {
                content.entries.push(*entry);
                offset = next;
            }
            Found::End if bytes[offset.min(bytes.len())..].iter().all(|byte| *byte == 0) => {
                return Ok(content);
            }
            found => {
                let reason = match found {
                    Found::Broken(reason) => reason,
                    _ => "there are zeros in the middle",
                };
                if anything_valid_after(&bytes, offset) {
                    return Err(corrupt(offset, reason));
                }
                content.end = End::Torn(offset, reason.to_owned());
                return Ok(content);
            }
        }
    }
}

pub(super) enum Found {
    Entry(Box<Entry>, usize),
    End,
    Broken(&'static str),
}

pub(super) fn look(bytes: &[u8], offset: usize) -> Found {
    let rest = &bytes[offset.min(bytes.len())..];
    let mut reader = Reader::new(rest);
    let Ok(checksum) = reader.long() else {
        return if rest.iter().all(|byte| *byte == 0) {
            Found::End
        } else {
            Found::Broken("the entry ends too early")
        };
    };
    match reader.buffer() {
        Ok(Some([])) if checksum == 0 => Found::End,
        Ok(Some(payload)) => {
            let next = offset + 12 + payload.len() + 1;
            if adler32(payload) != checksum {
                return Found::Broken("the checksum is wrong");
            }
            if reader.rest().first() != Some(&END) {
                return Found::Broken("the end mark is missing");
            }
            match Entry::decode(payload) {
                Ok(entry) => Found::Entry(Box::new(entry), next),
                Err(_) => Found::Broken("the entry can't be read"),
            }
        }
        _ => Found::Broken("the length is wrong"),
    }
}

/// Whether a whole entry begins anywhere behind a broken one: then it is no torn tail.
fn anything_valid_after(bytes: &[u8], offset: usize) -> bool {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // An entry begins after the end mark of one before, or behind zeros.
    (offset + 1..end)
        .filter(|place| matches!(bytes[place - 1], END | 0) && may_begin(bytes, *place))
        .any(|place| matches!(look(bytes, place), Found::Entry(..)))
}

/// Cheaply, before anything is summed: a checksum of 32 bits, a length and an end mark that fit.
fn may_begin(bytes: &[u8], place: usize) -> bool {
    let mut reader = Reader::new(&bytes[place..]);
    matches!(reader.long(), Ok(1..=0xffff_ffff))
        && matches!(reader.buffer(), Ok(Some([_, ..])))
        && reader.rest().first() == Some(&END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jute::txn::Txn;
    use proptest::prelude::*;

    fn entry(zxid: i64) -> Box<Entry> {
        Box::new(Entry {
            session: 1,
            cxid: 2,
            zxid,
            time: 3,
            txn: Txn::Delete { path: format!("/{zxid}") },
            digest: Some(4),
        })
    }

    fn file_with(entries: i64) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::TempDir::new().unwrap();
        let mut log = Log::new(directory.path().to_owned(), Options::default());
        for zxid in 1..=entries {
            log.append(&[&entry(zxid)]).unwrap();
        }
        let path = directory.path().join("log.1");
        (directory, path)
    }

    /// The file without its zeros at the end.
    fn trimmed(path: &Path) -> Vec<u8> {
        let mut bytes = std::fs::read(path).unwrap();
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        bytes
    }

    #[test]
    fn the_first_entry_has_the_originals_bytes() {
        let first = Entry {
            session: 0,
            cxid: 0,
            zxid: 1,
            time: 0,
            txn: Txn::CreateSession { timeout: 20000 },
            digest: Some(0),
        };
        assert_eq!(first.encode().len(), 0x30);
    }

    #[test]
    fn entries_are_read_back() {
        let (_directory, path) = file_with(3);
        let content = read(&path).unwrap();
        assert_eq!(content.entries.iter().map(|entry| entry.zxid).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(content.end, End::Whole);
    }

    #[test]
    fn a_broken_middle_is_refused_with_file_and_offset() {
        let (_directory, path) = file_with(3);
        let mut bytes = trimmed(&path);
        bytes[HEADER + 20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("log.1 is corrupt at byte 16"), "{error}");
    }

    #[test]
    fn a_hole_of_zeros_is_refused() {
        let (_directory, path) = file_with(3);
        let mut bytes = trimmed(&path);
        let entry = (bytes.len() - HEADER) / 3;
        bytes[HEADER + entry..HEADER + 2 * entry].fill(0);
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("log.1 is corrupt at byte {}", HEADER + entry)), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_torn_tail_costs_only_the_last_entry(cut in 1usize..50) {
            let (_directory, path) = file_with(3);
            let bytes = trimmed(&path);
            std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            let content = read(&path).unwrap();
            prop_assert_eq!(content.entries.len(), 2);
            prop_assert!(cut < 50);
        }
    }
}
