//! Writing transaction logs (`FileTxnLog`): header, then entries of checksum, length, payload and the letter B, then
//! zeros where room for more is reserved.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jute::Writer;
use jute::txn::Entry;

use super::{DiskError, adler32, at, room, sync_directory};
use crate::metrics::{Metrics, Summary};

pub(super) const MAGIC: i32 = 0x5a4b_4c47;
const VERSION: i32 = 2;
pub(super) const HEADER: usize = 16;
pub(super) const END: u8 = 0x42;
/// Room is reserved when less than this is left, in bytes.
const ROOM_MIN: u64 = 4096;

/// Zeros are written over room that is reserved, so many bytes at a time ahead of the entries: to sync what lies in a
/// block that was written before, no file system has to write its own journal too.
const ZEROED: u64 = if cfg!(test) { 1024 } else { 1 << 20 };
/// What is kept of the place where batches are put together, in bytes.
const BATCH_KEPT: usize = 64 * 1024;
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
    /// Where batches are put together.
    batch: Vec<u8>,
    /// Syncs that took longer than they should (`fsync_threshold_exceed_count`).
    pub slow_syncs: Arc<AtomicU64>,
    /// Where syncs are counted.
    pub metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    written: u64,
    allocated: u64,
    /// Up to here all blocks have been written, if only with zeros.
    zeroed: u64,
}

impl Log {
    /// A log in `directory`. The first entry begins a new file: what is there already is never appended to.
    pub fn new(directory: PathBuf, options: Options) -> Self {
        Self {
            directory,
            options,
            current: None,
            batch: Vec::new(),
            slow_syncs: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// The next entry begins a new file.
    pub fn roll(&mut self) {
        self.current = None;
    }

    /// Appends entries and returns when they are on disk.
    ///
    /// # Errors
    /// As [`Log::append_encoded`].
    pub fn append(&mut self, entries: &[&Entry]) -> Result<u64, DiskError> {
        let payloads: Vec<_> = entries.iter().map(|entry| (entry.zxid, entry.encode())).collect();
        self.append_encoded(&payloads)
    }

    /// [`Log::append`] of entries as they are in the log, with their zxids; how many bytes that made.
    ///
    /// # Errors
    /// When the disk refuses. Nothing of the entries is left in the log then, or what is left is torn.
    pub fn append_encoded(
        &mut self,
        entries: &[(i64, impl AsRef<[u8]>)],
    ) -> Result<u64, DiskError> {
        let Some((first, _)) = entries.first() else { return Ok(0) };
        if self.current.as_ref().is_some_and(|current| current.written > self.options.file_max) {
            self.current = None;
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => self.current.insert(begin(&self.directory, *first)?),
        };
        self.batch.clear();
        for (_, payload) in entries {
            let payload = payload.as_ref();
            self.batch.extend_from_slice(&adler32(payload).to_be_bytes());
            self.batch.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            self.batch.extend_from_slice(payload);
            self.batch.push(END);
        }
        let length = self.batch.len() as u64;
        let written = current.write(&mut self.batch, &self.options);
        self.batch.clear();
        self.batch.shrink_to(BATCH_KEPT);
        match written {
            Ok(synced_in) => {
                self.metrics.note(Summary::FsyncTime, synced_in.as_millis() as u64);
                self.metrics.note(Summary::SyncProcessorBatchSize, entries.len() as u64);
                if synced_in > self.options.slow_sync {
                    self.slow_syncs.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        "syncing {} took {} ms: writes wait for it; is the disk overloaded?",
                        current.path.display(),
                        synced_in.as_millis()
                    );
                }
            }
            Err(source) => {
                let path = current.path.clone();
                current.cut();
                self.current = None;
                return Err(DiskError::Io { action: "append to", path, source });
            }
        }
        Ok(length)
    }
}

fn begin(directory: &Path, zxid: i64) -> Result<Current, DiskError> {
    let path = directory.join(format!("log.{zxid:x}"));
    // A file of that name can only be one whose first entry was torn: nothing in it was acknowledged.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(at("create", &path))?;
    let mut header = Writer::new();
    header.int(MAGIC).int(VERSION).long(0);
    let begun = (&file)
        .write_all(header.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(at("write", &path))
        .and_then(|()| sync_directory(directory));
    if let Err(error) = begun {
        // If this fails too, a file without entries is left, which does no harm.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    let written = HEADER as u64;
    Ok(Current { path, file, written, allocated: written, zeroed: written })
}

impl Current {
    /// Writes a batch; how long its sync took.
    fn write(&mut self, batch: &mut Vec<u8>, options: &Options) -> io::Result<Duration> {
        let end = self.written + batch.len() as u64;
        if end + ROOM_MIN > self.allocated && options.growth > 0 {
            let size = end + options.growth;
            // Where the disk has no room for more, the entries themselves may still fit.
            if room::reserve(&self.file, self.allocated, size).is_ok() {
                self.allocated = size;
            }
        }
        if end > self.zeroed && options.sync {
            self.zeroed = (end + ZEROED).min(self.allocated).max(end);
            batch.resize((self.zeroed - self.written) as usize, 0);
        }
        self.file.write_all_at(batch, self.written)?;
        let began = Instant::now();
        if options.sync {
            self.file.sync_data()?;
        }
        self.written = end;
        Ok(began.elapsed())
    }

    /// Takes back what was half written. If this fails too, the next start does it.
    fn cut(&mut self) {
        let _ = self.file.set_len(self.written).and_then(|()| self.file.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jute::txn::Txn;

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
}
