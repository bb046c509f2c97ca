//! Removing snapshots and logs that are not needed any more (`PurgeTxnLog`).

use std::path::Path;

use super::{DiskError, at, numbered, snapshot};

/// Keeps the newest snapshots and what is needed to go on from the oldest of them. How many files went.
///
/// # Errors
/// When a directory can't be read, or a file not be removed; the others are kept then.
pub fn purge(snapshots: &Path, logs: &Path, retain: usize) -> Result<usize, DiskError> {
    let found = snapshot::list(snapshots)?;
    let mut kept: Vec<i64> = found.iter().map(|one| one.zxid).collect();
    kept.dedup();
    let Some(oldest) = kept.len().checked_sub(retain).and_then(|index| kept.get(index)) else {
        return Ok(0);
    };
    let files = numbered(logs, "log")?;
    let needed = files.iter().rposition(|(first, _)| *first <= oldest + 1).unwrap_or(0);
    let old = found.iter().filter(|one| one.zxid < *oldest).map(|one| &one.path);
    let mut gone = 0;
    for path in old.chain(files[..needed].iter().map(|(_, path)| path)) {
        std::fs::remove_file(path).map_err(at("remove", path))?;
        gone += 1;
    }
    Ok(gone)
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
            std::fs::write(path.join(name), "").unwrap();
        }
        assert_eq!(purge(path, path, 4).unwrap(), 0);
        assert_eq!(purge(path, path, 3).unwrap(), 2);
        assert_eq!(purge(path, path, 2).unwrap(), 2);
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
                "snapshot.9",
                "snapshot.9.gz",
                "snapshot.x"
            ]
        );
    }
}
