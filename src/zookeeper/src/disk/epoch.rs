//! `acceptedEpoch` and `currentEpoch`: a number in a file each, replaced as a whole.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{DiskError, at, replace};

/// The file of the highest epoch promised to a leader.
pub const ACCEPTED: &str = "acceptedEpoch";
/// The file of the epoch in force.
pub const CURRENT: &str = "currentEpoch";

/// Reads one; `default` if there is none yet.
///
/// # Errors
/// When it can't be read, or holds no number.
pub fn read(directory: &Path, name: &str, default: i64) -> Result<i64, DiskError> {
    let path = directory.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| DiskError::Io {
            action: "read a number from",
            path,
            source: std::io::Error::new(ErrorKind::InvalidData, format!("'{}'", text.trim())),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(default),
        Err(error) => Err(at("read", &path)(error)),
    }
}

/// Writes one, on disk when this returns.
///
/// # Errors
/// When the disk refuses.
pub fn write(directory: &Path, name: &str, epoch: i64) -> Result<(), DiskError> {
    replace(&directory.join(name), epoch.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_read_back_and_garbage_is_named() {
        let directory = tempfile::TempDir::new().unwrap();
        assert_eq!(read(directory.path(), CURRENT, 3).unwrap(), 3);
        write(directory.path(), CURRENT, 7).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join(CURRENT)).unwrap(), "7");
        assert_eq!(read(directory.path(), CURRENT, 3).unwrap(), 7);
        fs::write(directory.path().join(CURRENT), "x").unwrap();
        assert!(read(directory.path(), CURRENT, 3).unwrap_err().to_string().contains("'x'"));
    }
}
