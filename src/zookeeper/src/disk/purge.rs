//! Removing snapshots and logs that are not needed any more (`PurgeTxnLog`).

use std::path::{Path, PathBuf};

use super::{DiskError, numbered, remove_if_there, snapshot};

/// Fewer snapshots are never kept: what was written last may turn out to be damaged.
pub const RETAIN_MIN: usize = 3;

/// Keeps the newest whole snapshots and what is needed to go on from the oldest of them. The files that went, as they go, are
/// told to `gone`.
///
/// A snapshot that its writer did not finish (the original writes them under their own names) does not count as one to keep.
///
/// # Errors
/// When a directory can't be read, or a file not be removed; the others are kept then.
pub fn purge(
    snapshots: &Path,
    logs: &Path,
    retain: usize,
    mut gone: impl FnMut(&Path),
) -> Result<(), DiskError> {
    for path in old(snapshots, logs, retain)? {
        // Someone else may purge too.
        if remove_if_there(&path)? {
            gone(&path);
        }
    }
    Ok(())
}

/// The files that are not needed any more.
fn old(snapshots: &Path, logs: &Path, retain: usize) -> Result<Vec<PathBuf>, DiskError> {
    let found = snapshot::list(snapshots)?;
    let mut whole = Vec::new();
    for one in found.iter().rev() {
        if whole.last() != Some(&one.zxid) && one.looks_whole()? {
            whole.push(one.zxid);
        }
        if whole.len() == retain {
            break;
        }
    }
    let Some(oldest) = whole.last().filter(|_| whole.len() == retain) else {
        return Ok(Vec::new());
    };
    let files = numbered(logs, "log")?;
    let needed = files.iter().rposition(|(first, _)| *first <= oldest + 1).unwrap_or(0);
    let snapshots = found.iter().filter(|one| one.zxid < *oldest).map(|one| one.path.clone());
    let logs = files[..needed].iter().map(|(_, path)| path.clone());
    Ok(snapshots.chain(logs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_oldest_kept_snapshot_needs_stays() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path();
        for name in [
            "snapshot.0",
            "snapshot.5",
            "snapshot.9.gz",
            "snapshot.9",
            "snapshot.20.snappy",
            "snapshot.x",
            "log.1",
            "log.4",
            "log.8",
            "log.b",
            "log.30",
            "myid",
        ] {
            std::fs::write(path.join(name), b"\0\0\0\x01/").unwrap();
        }
        let purge = |retain| {
            let mut count = 0;
            purge(path, path, retain, |_| count += 1).unwrap();
            count
        };
        assert_eq!(purge(5), 0);
        assert_eq!(purge(4), 0);
        assert_eq!(purge(3), 2);
        // The original was killed while it wrote it.
        std::fs::write(path.join("snapshot.21"), b"\0\0\0").unwrap();
        assert_eq!(purge(3), 0);
        assert_eq!(purge(2), 2);
        let mut left: Vec<String> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "log.30",
                "log.8",
                "log.b",
                "myid",
                "snapshot.20.snappy",
                "snapshot.21",
                "snapshot.9",
                "snapshot.9.gz",
                "snapshot.x"
            ]
        );
    }
}
