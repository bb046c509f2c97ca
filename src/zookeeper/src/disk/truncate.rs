//! Cutting the logs behind a zxid, and the last entries for learners that missed a few.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use super::log::{Found, HEADER, look};
use super::{DiskError, at, log, numbered};

/// Cuts what the logs have behind `zxid`. On disk when this returns.
///
/// # Errors
/// When the disk refuses.
pub fn cut_logs(logs: &Path, zxid: i64) -> Result<(), DiskError> {
    for (first, path) in numbered(logs, "log")?.into_iter().rev() {
        if first > zxid {
            fs::remove_file(&path).map_err(at("remove", &path))?;
            continue;
        }
        let bytes = fs::read(&path).map_err(at("read", &path))?;
        let mut end = HEADER.min(bytes.len());
        while let Found::Entry(entry, next) = look(&bytes, end) {
            if entry.zxid > zxid {
                break;
            }
            end = next;
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(at("open", &path))?;
        file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(at("truncate", &path))?;
        break;
    }
    sync(logs)
}

fn sync(directory: &Path) -> Result<(), DiskError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at("sync", directory))
}

/// Removes snapshots that hold more than `zxid`. On disk when this returns.
///
/// # Errors
/// When the disk refuses.
pub fn remove_newer_snapshots(snapshots: &Path, zxid: i64) -> Result<(), DiskError> {
    for (taken, path) in numbered(snapshots, "snapshot")? {
        if taken > zxid {
            fs::remove_file(&path).map_err(at("remove", &path))?;
        }
    }
    sync(snapshots)
}

/// Whether what is left after a cut behind `zxid` ends with exactly that: it does not where a leader's tree was taken
/// over that holds more.
///
/// # Errors
/// When the directories can't be read.
pub fn can_truncate(snapshots: &Path, logs: &Path, zxid: i64) -> Result<bool, DiskError> {
    let files = numbered(logs, "log")?;
    let taken = numbered(snapshots, "snapshot")?.into_iter().map(|(taken, _)| taken);
    match taken.filter(|taken| *taken <= zxid).max() {
        Some(taken) if taken == zxid => return Ok(true),
        None if files.first().is_none_or(|(first, _)| *first != 1) => return Ok(false),
        _ => {}
    }
    let Some((_, path)) = files.iter().rev().find(|(first, _)| *first <= zxid) else {
        return Ok(false);
    };
    Ok(log::read(path)?.entries.iter().any(|entry| entry.zxid == zxid))
}

/// Entries as they are in the log, with their zxids.
pub type Encoded = Vec<(i64, Vec<u8>)>;

/// What the logs hold behind the newest snapshot, whose zxid comes first, if it ends with `zxid`. Before a snapshot
/// there may be a gap: a leader may have sent it.
///
/// # Errors
/// When the logs can't be read.
pub fn last_entries(snapshots: &Path, logs: &Path, zxid: i64) -> Result<(i64, Encoded), DiskError> {
    let base = numbered(snapshots, "snapshot")?.last().map_or(0, |(taken, _)| *taken);
    let files = numbered(logs, "log")?;
    let begin = files.iter().rposition(|(first, _)| *first <= base + 1).unwrap_or(0);
    let mut entries = Vec::new();
    for (_, path) in files.iter().skip(begin) {
        let behind = log::read(path)?.entries.into_iter().filter(|entry| entry.zxid > base);
        entries.extend(behind.map(|entry| (entry.zxid, entry.encode())));
    }
    if entries.last().map_or(base, |(last, _)| *last) == zxid {
        Ok((base, entries))
    } else {
        Ok((zxid, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jute::txn::{Entry, Txn};

    #[test]
    fn logs_are_cut_and_newer_snapshots_go() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path();
        let mut log = log::Log::new(path.to_owned(), log::Options::default());
        for zxid in 1..=6 {
            if zxid == 4 {
                log.roll();
            }
            let txn = Txn::Delete { path: format!("/{zxid}") };
            let entry = Entry { session: 1, cxid: 2, zxid, time: 3, txn, digest: Some(4) };
            log.append(&[&entry]).unwrap();
        }
        for taken in [0, 2, 5] {
            fs::write(path.join(format!("snapshot.{taken}")), "").unwrap();
        }
        let zxids = |zxid| {
            let (base, entries) = last_entries(path, path, zxid).unwrap();
            (base, entries.iter().map(|(zxid, _)| *zxid).collect::<Vec<_>>())
        };
        assert_eq!(zxids(6), (5, vec![6]));
        assert_eq!(zxids(7), (7, vec![]));
        cut_logs(path, 4).unwrap();
        remove_newer_snapshots(path, 4).unwrap();
        assert_eq!(zxids(4), (2, vec![3, 4]));
        cut_logs(path, 3).unwrap();
        assert_eq!(zxids(3), (2, vec![3]));
        for (zxid, can) in [(1, true), (2, true), (3, true), (4, false), (0, true)] {
            assert_eq!(can_truncate(path, path, zxid).unwrap(), can, "{zxid}");
        }
    }
}
