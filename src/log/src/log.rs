//! The log of a master that runs alone: the last whole entry counts.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::HEADER;
use crate::records::Records;

/// The file is rewritten with only its last record when it is larger than this and that record is less than half of it.
const REWRITE_BYTES: u64 = 4 << 20;

/// Why a log can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no log of ours.
    #[error("{path} is not a registry log; move it away to begin with an empty registry", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A record before the last is damaged.
    #[error("{path} is corrupt at byte {offset}: restore it from a backup, or move it away to begin with an empty registry", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
    },
    /// A whole record has a content that can't be read.
    #[error("{path} can't be read at byte {offset}: {reason}; restore it from a backup, or move it away: the replica catches up from the others then", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The entry is too long.
    #[error("an entry of {0} bytes is longer than the log takes")]
    TooLong(usize),
}

/// A log open for appending.
#[derive(Debug)]
pub struct Log {
    records: Records,
}

/// What [`Log::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// The newest entry, if there is any.
    pub last: Option<Vec<u8>>,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
}

impl Log {
    /// The file's name in its directory.
    pub const FILE: &str = "log";

    /// Opens `<directory>/log`, made if missing.
    ///
    /// # Errors
    /// When the system refuses, or the file is damaged before its end.
    pub fn open(directory: &Path) -> Result<Opened, LogError> {
        let mut last = None;
        let (records, cut_bytes) = Records::open(directory, Self::FILE, |payload| {
            last = Some(payload.to_vec());
            Ok(())
        })?;
        Ok(Opened { log: Self { records }, last, cut_bytes })
    }

    /// Appends an entry; when this returns, it is on disk.
    ///
    /// # Errors
    /// When the disk refuses. What was half written is cut again, so that a later append may succeed.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), LogError> {
        let length = (HEADER + payload.len()) as u64;
        if self.bytes() > REWRITE_BYTES && length < self.bytes() / 2 {
            return self.records.rewrite(payload);
        }
        self.records.append(payload)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.records.bytes()
    }

    /// Bytes that an entry takes beside its payload.
    pub const OVERHEAD: usize = HEADER;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::format::MAGIC;
    use proptest::prelude::*;
    use tempfile::TempDir;

    fn filled(entries: &[&[u8]]) -> (TempDir, PathBuf) {
        let directory = TempDir::new().unwrap();
        let mut log = Log::open(directory.path()).unwrap().log;
        for entry in entries {
            log.append(entry).unwrap();
        }
        let path = directory.path().join("log");
        (directory, path)
    }

    #[test]
    fn the_last_entry_is_found_again() {
        let (directory, _) = filled(&[b"one", b"two"]);
        let opened = Log::open(directory.path()).unwrap();
        assert_eq!((opened.last.as_deref(), opened.cut_bytes), (Some(&b"two"[..]), 0));
    }

    #[test]
    fn a_broken_middle_is_refused_with_its_offset() {
        let (directory, path) = filled(&[b"one", b"two", b"three"]);
        let mut content = fs::read(&path).unwrap();
        content[MAGIC.len() + HEADER] ^= 1;
        fs::write(&path, content).unwrap();
        let error = Log::open(directory.path()).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { offset: 8, .. }), "{error}");
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("log"), b"something else").unwrap();
        assert!(matches!(Log::open(directory.path()), Err(LogError::Foreign { .. })));
    }

    #[test]
    fn a_long_log_is_rewritten_with_its_last_entry() {
        let directory = TempDir::new().unwrap();
        let mut log = Log::open(directory.path()).unwrap().log;
        let entry = vec![7; 600 << 10];
        for _ in 0..20 {
            log.append(&entry).unwrap();
        }
        assert!(log.bytes() < REWRITE_BYTES + 2 * entry.len() as u64);
        log.append(b"last").unwrap();
        assert_eq!(Log::open(directory.path()).unwrap().last.as_deref(), Some(&b"last"[..]));
    }

    proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            #[test]
            fn a_tail_torn_anywhere_leaves_the_entries_before_it(cut in 1usize..20) {
                let (directory, path) = filled(&[b"first entry", b"second entry"]);
                let content = fs::read(&path).unwrap();
                fs::write(&path, &content[..content.len() - cut]).unwrap();
                let mut opened = Log::open(directory.path()).unwrap();
                prop_assert_eq!(opened.last.as_deref(), Some(&b"first entry"[..]));
                opened.log.append(b"third entry").unwrap();
    let last = Log::open(directory.path()).unwrap().last;
                prop_assert_eq!(last.as_deref(), Some(&b"third entry"[..]));
            }
        }
}
