//! A snapshot's file: written beside its place, synced, and renamed when nothing in it can be taken back any more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use adler2::Adler32;
use jute::Writer;

use super::{DIGEST_VERSION, Trailer};
use crate::disk::compression::{Compression, Packer};
use crate::disk::{DiskError, at, remove_if_there, sync_directory};

/// What a file's name begins with until it is whole. The original does not take it for a snapshot.
const TEMPORARY: &str = "tmp.snapshot.";
/// How many were begun.
static FILES: AtomicU64 = AtomicU64::new(0);

/// A file being written. Removed when dropped.
#[derive(Debug)]
pub struct SnapshotFile {
    unpublished: Unpublished,
    packer: Packer,
    sum: Adler32,
}

/// A whole file that is on disk under a temporary name. Removed when dropped.
#[derive(Debug)]
pub struct Unpublished {
    temporary: PathBuf,
    path: PathBuf,
}

impl SnapshotFile {
    /// Begins a file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(
        directory: &Path,
        zxid: i64,
        compression: Compression,
    ) -> Result<Self, DiskError> {
        let suffix = compression.suffix();
        // One that was given up may not have ended when the next one of the same zxid begins.
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let unpublished = Unpublished {
            temporary: directory.join(format!("{TEMPORARY}{zxid:x}{suffix}.{number}")),
            path: directory.join(format!("snapshot.{zxid:x}{suffix}")),
        };
        let temporary = &unpublished.temporary;
        let file = File::create(temporary).map_err(at("create", temporary))?;
        Ok(Self { packer: compression.packer(file), unpublished, sum: Adler32::new() })
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.sum.write_slice(bytes);
        self.packer.write_all(bytes).map_err(at("write", &self.unpublished.temporary))
    }

    fn seal(&mut self) -> Result<(), DiskError> {
        let mut out = Writer::new();
        out.long(i64::from(self.sum.checksum())).string("/");
        self.write(out.as_bytes())
    }

    /// Writes what comes behind the tree. On disk when this returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self, trailer: Trailer) -> Result<Unpublished, DiskError> {
        self.seal()?;
        if let Some((zxid, digest)) = trailer.digest {
            let mut out = Writer::new();
            out.long(zxid).int(DIGEST_VERSION).long(digest);
            self.write(out.as_bytes())?;
            self.seal()?;
        }
        if let Some(zxid) = trailer.last_zxid {
            self.write(&zxid.to_be_bytes())?;
            self.seal()?;
        }
        let Self { unpublished, packer, .. } = self;
        packer
            .finish()
            .and_then(|file| file.sync_all())
            .map_err(at("write", &unpublished.temporary))?;
        Ok(unpublished)
    }
}

impl Unpublished {
    /// Gives the file its name. On disk when this returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn publish(self) -> Result<PathBuf, DiskError> {
        fs::rename(&self.temporary, &self.path).map_err(at("rename", &self.temporary))?;
        let path = self.path.clone();
        if let Some(directory) = path.parent() {
            sync_directory(directory)?;
        }
        Ok(path)
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; else the next start does it.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Removes what a server that was killed left half written, or is given up.
///
/// # Errors
/// When the directory can't be read, or a file not be removed.
pub fn remove_unpublished(directory: &Path) -> Result<(), DiskError> {
    for entry in fs::read_dir(directory).map_err(at("read", directory))? {
        let path = entry.map_err(at("read", directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(TEMPORARY) {
            // The thread of a snapshot that was given up does the same.
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_given_up_does_not_touch_the_next_of_the_same_zxid() {
        let directory = tempfile::TempDir::new().unwrap();
        let create = || SnapshotFile::create(directory.path(), 7, Compression::None).unwrap();
        let (mut given_up, mut next) = (create(), create());
        given_up.write(&[0; 100]).unwrap();
        next.write(b"next").unwrap();
        given_up.write(&[0; 100]).unwrap();
        drop(given_up);
        let path = next.finish(Trailer::default()).unwrap().publish().unwrap();
        assert!(fs::read(&path).unwrap().starts_with(b"next"));
        // What another removes first is no error.
        let (one, two) = (create(), create());
        drop(one.finish(Trailer::default()).unwrap());
        assert!(!remove_if_there(&directory.path().join("tmp.snapshot.7.0")).unwrap());
        remove_unpublished(directory.path()).unwrap();
        drop(two);
        let names = fs::read_dir(directory.path()).unwrap();
        assert_eq!(names.count(), 1, "the one that was published");
    }
}
