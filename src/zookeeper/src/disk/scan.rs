//! Reading a transaction log from its beginning, entry by entry, with no more of it in memory than one entry.
//!
//! What can't be read at the end of a file is torn: a server was killed while it wrote it. What can't be read and has a
//! whole entry somewhere behind it is damage.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jute::Reader;
use jute::txn::Entry;

use super::input::Input;
use super::log::{END, HEADER, MAGIC};
use super::{DiskError, adler32, at};

/// How a log file ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Behind its last entry is nothing.
    Whole,
    /// At this byte an entry begins that can't be read, for this reason, and no whole one follows.
    Torn(u64, String),
}

/// What comes next in a log file.
#[derive(Debug)]
pub enum Next {
    /// A whole entry.
    Entry(Box<Entry>),
    /// Nothing.
    End(End),
}

/// A whole entry, right or not.
#[derive(Debug)]
pub struct Frame {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Whether its checksum is.
    pub is_sum_right: bool,
    /// What it holds, if it can be read.
    pub entry: Option<Entry>,
}

/// A log file being read.
pub struct Scan {
    path: PathBuf,
    input: Input<File>,
    size: u64,
    payload: Vec<u8>,
    /// Where the next entry begins.
    offset: u64,
    is_ended: bool,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scan").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Scan {
    /// Opens a file. One that does not hold a whole header yet is empty.
    ///
    /// # Errors
    /// When it can't be read, or is no log.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let file = File::open(path).map_err(at("open", path))?;
        let size = file.metadata().map_err(at("read", path))?.len();
        let mut scan = Self {
            path: path.to_owned(),
            input: Input::new(file),
            size,
            payload: Vec::new(),
            offset: HEADER as u64,
            is_ended: size < HEADER as u64,
        };
        if scan.is_ended {
            return Ok(scan);
        }
        let mut header = [0; HEADER];
        scan.input.exact(&mut header).map_err(at("read", path))?;
        if header == [0; HEADER] {
            if scan.rest_is_zeros()? {
                scan.is_ended = true;
                return Ok(scan);
            }
            return Err(scan.corrupt(0, "its header is missing"));
        }
        if Reader::new(&header).int() != Ok(MAGIC) {
            return Err(scan.corrupt(0, "this is no transaction log"));
        }
        Ok(scan)
    }

    fn corrupt(&self, offset: u64, reason: impl Into<String>) -> DiskError {
        DiskError::CorruptLog { path: self.path.clone(), offset, reason: reason.into() }
    }

    /// Where the next entry begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The payload of the entry that was read last.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The next entry, or how the file ends.
    ///
    /// # Errors
    /// When the file can't be read, or is damaged here.
    pub fn advance(&mut self) -> Result<Next, DiskError> {
        if self.is_ended {
            return Ok(Next::End(End::Whole));
        }
        let reason = match self.entry() {
            Ok(Some(entry)) => {
                self.offset = self.input.position();
                return Ok(Next::Entry(Box::new(entry)));
            }
            Ok(None) => {
                if self.rest_is_zeros()? {
                    self.is_ended = true;
                    return Ok(Next::End(End::Whole));
                }
                "there are zeros in the middle".to_owned()
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                "the entry ends too early".to_owned()
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => error.to_string(),
            Err(error) => return Err(at("read", &self.path)(error)),
        };
        self.is_ended = true;
        if self.anything_valid_behind()? {
            return Err(self.corrupt(self.offset, reason));
        }
        Ok(Next::End(End::Torn(self.offset, reason)))
    }

    fn entry(&mut self) -> io::Result<Option<Entry>> {
        let invalid = |reason: &str| io::Error::new(ErrorKind::InvalidData, reason);
        match self.raw()? {
            None => Ok(None),
            Some(false) => Err(invalid("the checksum is wrong")),
            Some(true) => Entry::decode(&self.payload)
                .map(Some)
                .map_err(|_| invalid("the entry can't be read")),
        }
    }

    /// Reads an entry's bytes, and whether their checksum is right; `None` where the room for more begins.
    fn raw(&mut self) -> io::Result<Option<bool>> {
        let invalid = |reason: &str| io::Error::new(ErrorKind::InvalidData, reason);
        if self.input.is_at_end()? {
            return Ok(None);
        }
        let mut head = [0; 12];
        if self.size - self.offset < head.len() as u64 {
            let mut rest = Vec::new();
            self.input.bytes((self.size - self.offset) as usize, &mut rest)?;
            return if rest.iter().all(|byte| *byte == 0) {
                Ok(None)
            } else {
                Err(ErrorKind::UnexpectedEof.into())
            };
        }
        self.input.exact(&mut head)?;
        if head == [0; 12] {
            return Ok(None);
        }
        let mut reader = Reader::new(&head);
        let (Ok(sum), Ok(length)) = (reader.long(), reader.int()) else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length > 0 && *length as u64 <= self.size - self.offset)
            .ok_or_else(|| invalid("the length is wrong"))?;
        self.input.bytes(length, &mut self.payload)?;
        if self.input.byte()? != END {
            return Err(invalid("the end mark is missing"));
        }
        Ok(Some(adler32(&self.payload) == sum))
    }

    /// The next entry, whatever its checksum; `None` where the room for more begins.
    ///
    /// # Errors
    /// When the file can't be read, or no entry ends here.
    pub fn frame(&mut self) -> Result<Option<Frame>, DiskError> {
        if self.is_ended {
            return Ok(None);
        }
        let offset = self.offset;
        match self.raw() {
            Ok(None) => Ok(None),
            Ok(Some(is_sum_right)) => {
                self.offset = self.input.position();
                let entry = Entry::decode(&self.payload).ok();
                Ok(Some(Frame { offset, is_sum_right, entry }))
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(self.corrupt(offset, "the entry ends too early"))
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Err(self.corrupt(offset, error.to_string()))
            }
            Err(error) => Err(at("read", &self.path)(error)),
        }
    }

    fn rest_is_zeros(&mut self) -> Result<bool, DiskError> {
        self.input.rest_is_zeros().map_err(at("read", &self.path))
    }

    /// Whether a whole entry begins anywhere behind the broken one.
    fn anything_valid_behind(&self) -> Result<bool, DiskError> {
        let failed = |source| at("read", &self.path)(source);
        let file = File::open(&self.path).map_err(at("open", &self.path))?;
        const WINDOW: usize = 1 << 20;
        let mut window = Vec::new();
        // The byte before a candidate is in the window too.
        let mut begin = self.offset;
        while begin < self.size {
            let length = (WINDOW + 13).min((self.size - begin) as usize);
            window.resize(length, 0);
            file.read_exact_at(&mut window, begin).map_err(failed)?;
            for place in 1..=length.saturating_sub(12).min(WINDOW) {
                if matches!(window[place - 1], END | 0)
                    && let Some(payload) = self.candidate(&window[place..], begin + place as u64)
                    && self.is_entry(&file, begin + place as u64, payload).map_err(failed)?
                {
                    return Ok(true);
                }
            }
            begin += WINDOW as u64;
        }
        Ok(false)
    }

    /// Cheaply, before anything is read or summed: a checksum of 32 bits and a length that fits.
    fn candidate(&self, head: &[u8], at: u64) -> Option<usize> {
        let mut reader = Reader::new(head);
        let (sum, length) = (reader.long().ok()?, reader.int().ok()?);
        let length = usize::try_from(length).ok()?;
        let fits = at + 12 + (length as u64) < self.size;
        (matches!(sum, 1..=0xffff_ffff) && length > 0 && fits).then_some(length)
    }

    fn is_entry(&self, file: &File, at: u64, length: usize) -> io::Result<bool> {
        let mut mark = [0];
        file.read_exact_at(&mut mark, at + 12 + length as u64)?;
        if mark != [END] {
            return Ok(false);
        }
        let mut bytes = vec![0; 8 + 4 + length];
        file.read_exact_at(&mut bytes, at)?;
        let (head, payload) = bytes.split_at(12);
        Ok(Reader::new(head).long() == Ok(adler32(payload)) && Entry::decode(payload).is_ok())
    }
}

/// What a log file holds, all at once.
#[derive(Debug)]
pub struct Content {
    /// Its whole entries.
    pub entries: Vec<Entry>,
    /// What is behind them.
    pub end: End,
}

/// Reads a log file as a whole.
///
/// # Errors
/// When the file can't be read, or is damaged before its end.
pub fn read(path: &Path) -> Result<Content, DiskError> {
    let mut scan = Scan::open(path)?;
    let mut entries = Vec::new();
    loop {
        match scan.advance()? {
            Next::Entry(entry) => entries.push(*entry),
            Next::End(end) => return Ok(Content { entries, end }),
        }
    }
}

impl<R: Read> Input<R> {
    /// Exactly as many bytes as fit.
    pub(super) fn exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            let taken = self.some(into.len() - filled)?;
            if taken.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            into[filled..filled + taken.len()].copy_from_slice(taken);
            filled += taken.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::log::{Log, Options};
    use jute::txn::Txn;
    use proptest::prelude::*;

    fn entry(zxid: i64) -> Entry {
        let txn = Txn::Delete { path: format!("/{zxid}") };
        Entry { session: 1, cxid: 2, zxid, time: 3, txn, digest: Some(4) }
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

    #[test]
    fn a_whole_entry_far_behind_a_broken_one_is_found() {
        let (_directory, path) = file_with(2);
        let bytes = trimmed(&path);
        let entry = (bytes.len() - HEADER) / 2;
        let (first, last) = bytes.split_at(HEADER + entry);
        for gap in [(1 << 20) - 13, (1 << 20) - 1, 1 << 20, 3 << 20] {
            let mut far = first.to_vec();
            far.push(7);
            far.resize(far.len() + gap, 0);
            far.extend_from_slice(last);
            std::fs::write(&path, far).unwrap();
            assert!(read(&path).is_err(), "{gap}");
        }
    }

    #[test]
    fn files_without_a_header_hold_nothing() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("log.1");
        for bytes in [vec![], b"ZKL".to_vec(), vec![0; 100]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap().entries, []);
        }
        std::fs::write(&path, b"something else, longer than a header").unwrap();
        assert!(read(&path).is_err());
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
            prop_assert!(matches!(content.end, End::Torn(..)));
        }
    }
}
