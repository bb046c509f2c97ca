//! The data directory: the original's transaction logs and snapshots, in its `version-2`.

pub mod compression;
pub mod epoch;
mod input;
pub mod load;
pub mod log;
pub mod purge;
pub mod replay;
pub mod room;
pub mod scan;
pub mod snapshot;
pub mod truncate;
mod xerial;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A log is damaged before its end.
    #[error("{} is corrupt at byte {offset}: {reason}; restore it from a backup, or move it and all later logs away to go on from what is before", path.display())]
    CorruptLog {
        /// The file.
        path: PathBuf,
        /// Where the damaged entry begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A snapshot that is not whole, or damaged.
    #[error("{} is no whole snapshot: {reason}", path.display())]
    BadSnapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Transactions are missing between what was read and the next log.
    #[error("{} begins with transaction 0x{first:x}, but the last one before it is 0x{last:x}: a log or snapshot between them is missing; restore it, or move this log and all later ones away to go on from what is before", path.display())]
    Gap {
        /// The file behind the gap.
        path: PathBuf,
        /// Its first transaction.
        first: i64,
        /// The last one before.
        last: i64,
    },
    /// A leader's transaction is of a kind that this server does not know.
    #[error(
        "transaction 0x{zxid:x} can't be read: {reason}; update this server, or leave it out of the ensemble"
    )]
    Transaction {
        /// Its number.
        zxid: i64,
        /// What is wrong.
        reason: String,
    },
    /// There are logs but nothing to replay them on.
    #[error("no valid snapshot found in {}, but there are transaction logs: data would be lost; restore a snapshot, or set snapshot.trust.empty=true to begin with the logs alone", path.display())]
    NoSnapshot {
        /// The directory.
        path: PathBuf,
    },
}

impl DiskError {
    /// Whether there was no room: then nothing is lost, and it may be there again later.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }
}

/// Has the names in a directory on disk.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), DiskError> {
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at("sync", directory))
}

pub(crate) fn at<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}

/// Removes a file that others may remove as well; whether it was there.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool, DiskError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("remove", path)(error)),
    }
}

/// Replaces a file as a whole, on disk when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(at("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(at("rename", &temporary))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at("sync", directory))
}

/// Files in a directory named `<prefix>.<hex zxid>`, by zxid.
pub(crate) fn numbered(directory: &Path, prefix: &str) -> Result<Vec<(i64, PathBuf)>, DiskError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(at("read", directory))? {
        let path = entry.map_err(at("read", directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        if let Some(Ok(zxid)) = number.map(|hex| u64::from_str_radix(hex, 16)) {
            files.push((zxid as i64, path));
        }
    }
    files.sort();
    Ok(files)
}

/// Adler-32, as both kinds of files are summed.
pub(crate) fn adler32(bytes: &[u8]) -> i64 {
    let mut sum = adler2::Adler32::new();
    sum.write_slice(bytes);
    i64::from(sum.checksum())
}
