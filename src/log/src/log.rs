//! The log itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::format::{self, Found, HEADER, MAGIC, PAYLOAD_MAX};

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
    /// The entry is too long.
    #[error("an entry of {0} bytes is longer than the log takes")]
    TooLong(usize),
}

/// A log open for appending.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
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
    /// Opens `<directory>/log`, made if missing.
    ///
    /// # Errors
    /// When the system refuses, or the file is damaged before its end.
    pub fn open(directory: &Path) -> Result<Opened, LogError> {
        let path = directory.join("log");
        let at = |action, path: &Path| {
            let path = path.to_owned();
            move |source| LogError::Io { action, path, source }
        };
        fs::create_dir_all(directory).map_err(at("create", directory))?;
        // A rewrite that didn't come to its end never counted.
        let _ = fs::remove_file(path.with_extension("new"));
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(at("open", &path))?;
        let content = fs::read(&path).map_err(at("read", &path))?;
        if content.len() < MAGIC.len() && MAGIC.starts_with(&content) {
            file.set_len(0).map_err(at("truncate", &path))?;
            file.write_all(MAGIC).and_then(|()| file.sync_all()).map_err(at("write", &path))?;
            sync_directory(directory).map_err(at("sync", directory))?;
            return Ok(Opened {
                log: Self { path, file, length: MAGIC.len() as u64 },
                last: None,
                cut_bytes: 0,
            });
        }
        if !content.starts_with(MAGIC) {
            return Err(LogError::Foreign { path });
        }
        let (mut offset, mut last) = (MAGIC.len(), None);
        loop {
            match format::look(&content, offset) {
                Found::Record(payload, next) => {
                    last = Some(payload);
                    offset = next;
                }
                Found::End => break,
                Found::Torn => {
                    file.set_len(offset as u64)
                        .and_then(|()| file.sync_all())
                        .map_err(at("truncate", &path))?;
                    break;
                }
                Found::Corrupt => return Err(LogError::Corrupt { path, offset: offset as u64 }),
            }
        }
        let cut_bytes = (content.len() - offset) as u64;
        Ok(Opened {
            log: Self { path, file, length: offset as u64 },
            last: last.map(<[u8]>::to_vec),
            cut_bytes,
        })
    }

    /// Appends an entry; when this returns, it is on disk.
    ///
    /// # Errors
    /// When the disk refuses. What was half written is cut again, so that a later append may succeed.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), LogError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(LogError::TooLong(payload.len()));
        }
        let record = format::encode(payload);
        if self.length > REWRITE_BYTES && (record.len() as u64) < self.length / 2 {
            return self.rewrite(&record);
        }
        if let Err(source) = self.file.write_all(&record).and_then(|()| self.file.sync_data()) {
            // If this fails too, the next open cuts the tail.
            let _ = self.file.set_len(self.length);
            return Err(LogError::Io { action: "append to", path: self.path.clone(), source });
        }
        self.length += record.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, record: &[u8]) -> Result<(), LogError> {
        let new = self.path.with_extension("new");
        let replace = || -> io::Result<File> {
            let mut file = OpenOptions::new().append(true).create_new(true).open(&new)?;
            file.write_all(MAGIC)?;
            file.write_all(record)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            sync_directory(self.path.parent().unwrap_or(Path::new(".")))?;
            Ok(file)
        };
        match replace() {
            Ok(file) => {
                self.file = file;
                self.length = (MAGIC.len() + record.len()) as u64;
                Ok(())
            }
            Err(source) => {
                let _ = fs::remove_file(&new);
                Err(LogError::Io { action: "rewrite", path: self.path.clone(), source })
            }
        }
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// Bytes that an entry takes beside its payload.
    pub const OVERHEAD: usize = HEADER;
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
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
