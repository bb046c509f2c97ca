//! File systems so small that a test can fill them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use nix::sys::statvfs::statvfs;

/// A tmpfs of its own; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of so many MiB; `None` where that is not allowed.
    ///
    /// # Panics
    /// When there can't be a directory at `path`.
    #[must_use]
    pub fn mount(path: &Path, megabytes: usize) -> Option<Self> {
        fs::create_dir_all(path).expect("a directory");
        let options = format!("size={megabytes}m");
        let flags = MsFlags::empty();
        let mounted = mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()));
        mounted.ok().map(|()| Self(path.to_owned()))
    }

    /// Writes a file that leaves no room.
    ///
    /// # Panics
    /// When the disk refuses for another reason than that it is full.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filling()).expect("a file");
        // A page at a time: what is left is less than one.
        let error = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{}: {error}", self.0.display());
    }

    /// Whether less than half of it is left.
    ///
    /// # Panics
    /// When it can't be asked.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        let disk = statvfs(&self.0).expect("a mounted disk");
        disk.blocks_free() < disk.blocks() / 2
    }

    /// Removes what [`SmallDisk::fill`] wrote.
    pub fn clear(&self) {
        // It is not there where it was not filled.
        let _ = fs::remove_file(self.filling());
    }

    fn filling(&self) -> PathBuf {
        self.0.join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still uses it is a server that is killed when the test ends; the mount goes with the last user.
        let _ = umount(&self.0).or_else(|_| umount2(&self.0, MntFlags::MNT_DETACH));
    }
}
