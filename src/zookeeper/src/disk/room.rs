//! Room on the disk: reserved for a file ahead of time, and looked for when there was none.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::{DiskError, at};

/// Writes are taken up again when this much is free, in bytes.
const NEEDED: u64 = 2 << 20;
const PROBE: &str = "tmp.room";

/// Makes a file `size` bytes long, with room for all of them on disk where the file system can promise that.
///
/// # Errors
/// When there is no room, or the file can't be made longer.
pub(super) fn reserve(file: &File, from: u64, size: u64) -> io::Result<()> {
    loop {
        let length = size.saturating_sub(from) as i64;
        match fallocate(file, FallocateFlags::empty(), from as i64, length) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return file.set_len(size),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a directory that was full has room again.
///
/// # Errors
/// When it can't be found out.
pub fn is_there_again(directory: &Path) -> Result<bool, DiskError> {
    let path = directory.join(PROBE);
    let probe = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        reserve(&file, 0, NEEDED)?;
        // Room that is only promised, as by a sparse file, is found out by writing.
        file.write_all(&vec![0; NEEDED as usize])?;
        file.sync_all()
    };
    let found = probe().map_err(at("write", &path));
    // Left behind, it is overwritten the next time.
    let _ = std::fs::remove_file(&path);
    match found {
        Ok(()) => Ok(true),
        Err(error) if error.is_full() => Ok(false),
        Err(error) => Err(error),
    }
}
