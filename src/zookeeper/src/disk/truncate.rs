//! Cutting the logs behind a zxid, and the last entries for learners that missed a few.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::path::Path;

use super::scan::{Next, Scan};
use super::{DiskError, at, numbered, snapshot, sync_directory};

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
        let mut scan = Scan::open(&path)?;
        let mut end = scan.offset();
        while let Next::Entry(entry) = scan.advance()? {
            if entry.zxid > zxid {
                break;
            }
            end = scan.offset();
        }
        let end = end.min(fs::metadata(&path).map_err(at("read", &path))?.len());
        let file = OpenOptions::new().write(true).open(&path).map_err(at("open", &path))?;
        file.set_len(end).and_then(|()| file.sync_all()).map_err(at("truncate", &path))?;
        break;
    }
    sync_directory(logs)
}

/// Removes snapshots that hold more than `zxid`. On disk when this returns.
///
/// # Errors
/// When the disk refuses.
pub fn remove_newer_snapshots(snapshots: &Path, zxid: i64) -> Result<(), DiskError> {
    for found in snapshot::list(snapshots)? {
        if found.zxid > zxid {
            fs::remove_file(&found.path).map_err(at("remove", &found.path))?;
        }
    }
    sync_directory(snapshots)
}

/// Whether what is left after a cut behind `zxid` ends with exactly that: it does not where a leader's tree was taken
/// over that holds more.
///
/// # Errors
/// When the directories can't be read.
pub fn can_truncate(snapshots: &Path, logs: &Path, zxid: i64) -> Result<bool, DiskError> {
    let files = numbered(logs, "log")?;
    let taken = snapshot::list(snapshots)?.into_iter().map(|found| found.zxid);
    match taken.filter(|taken| *taken <= zxid).max() {
        Some(taken) if taken == zxid => return Ok(true),
        None if files.first().is_none_or(|(first, _)| *first != 1) => return Ok(false),
        _ => {}
    }
    let Some((_, path)) = files.iter().rev().find(|(first, _)| *first <= zxid) else {
        return Ok(false);
    };
    let mut scan = Scan::open(path)?;
    while let Next::Entry(entry) = scan.advance()? {
        if entry.zxid >= zxid {
            return Ok(entry.zxid == zxid);
        }
    }
    Ok(false)
}

/// Entries as they are in the log, with their zxids.
pub type Encoded = Vec<(i64, Vec<u8>)>;

/// The last entries behind the newest snapshot, if they end with `zxid`. The zxid before the first comes first. Before
/// a snapshot there may be a gap: a leader may have sent it. There are `max` of them at most.
///
/// # Errors
/// When the logs can't be read.
pub fn last_entries(
    snapshots: &Path,
    logs: &Path,
    zxid: i64,
    max: usize,
) -> Result<(i64, Encoded), DiskError> {
    let mut base = snapshot::list(snapshots)?.last().map_or(0, |found| found.zxid);
    let files = numbered(logs, "log")?;
    let begin = files.iter().rposition(|(first, _)| *first <= base + 1).unwrap_or(0);
    let mut entries = VecDeque::new();
    for (_, path) in files.iter().skip(begin) {
        let mut scan = Scan::open(path)?;
        while let Next::Entry(entry) = scan.advance()? {
            if entry.zxid <= base {
                continue;
            }
            entries.push_back((entry.zxid, scan.payload().to_vec()));
            if entries.len() > max
                && let Some((dropped, _)) = entries.pop_front()
            {
                base = dropped;
            }
        }
    }
    if entries.back().map_or(base, |(last, _)| *last) == zxid {
        Ok((base, entries.into()))
    } else {
        Ok((zxid, Vec::new()))
    }
}

/// What the logs have behind `after` up to `until`, if they have both and everything between them, and that is not more
/// than `bytes_max`: what a learner needs that missed more than is in memory.
///
/// # Errors
/// When the logs can't be read.
pub fn entries_between(
    snapshots: &Path,
    logs: &Path,
    (after, until): (i64, i64),
    bytes_max: u64,
) -> Result<Option<Encoded>, DiskError> {
    let files = numbered(logs, "log")?;
    let Some(begin) = files.iter().rposition(|(first, _)| *first <= after.max(1)) else {
        return Ok(None);
    };
    let taken: Vec<i64> = snapshot::list(snapshots)?.into_iter().map(|found| found.zxid).collect();
    // A leader's tree may have been taken over between two epochs, in place of the rest of the first.
    let follows = |last: i64, next: i64| {
        next == last + 1
            || next >> 32 > last >> 32
                && next & 0xffff_ffff == 1
                && !taken.iter().any(|zxid| (last + 1..next).contains(zxid))
    };
    let (mut entries, mut size) = (Vec::new(), 0);
    let mut last = if after == 0 { Some(0) } else { None };
    for (index, (_, path)) in files.iter().enumerate().skip(begin) {
        let next = files.get(index + 1).map(|(next, _)| *next);
        let mut scan = Scan::open(path)?;
        // Behind the last entry there is much room for more, which need not be read.
        while last.is_none_or(|last| Some(last + 1) != next)
            && let Next::Entry(entry) = scan.advance()?
        {
            let zxid = entry.zxid;
            if zxid == after {
                last = Some(zxid);
            }
            if zxid <= after || last.is_some_and(|last| zxid <= last) {
                continue;
            }
            size += scan.payload().len() as u64;
            if !last.is_some_and(|last| follows(last, zxid)) || zxid > until || size > bytes_max {
                return Ok(None);
            }
            entries.push((zxid, scan.payload().to_vec()));
            last = Some(zxid);
            if zxid == until {
                return Ok(Some(entries));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::log;
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
            let (base, entries) = last_entries(path, path, zxid, 500).unwrap();
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

    #[test]
    fn only_an_unbroken_row_is_lent() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path();
        let mut log = log::Log::new(path.to_owned(), log::Options::default());
        let second = 1 << 32;
        for zxid in [1, 2, 3, 4, 7, 8, second + 1, second + 2] {
            if [3, 7].contains(&zxid) {
                log.roll();
            }
            let txn = Txn::Delete { path: format!("/{zxid}") };
            log.append(&[&Entry { session: 1, cxid: 2, zxid, time: 3, txn, digest: None }])
                .unwrap();
        }
        let lent = |after, until, bytes_max| {
            let entries = entries_between(path, path, (after, until), bytes_max).unwrap();
            entries.map(|entries| entries.iter().map(|(zxid, _)| *zxid).collect::<Vec<_>>())
        };
        assert_eq!(lent(1, 4, 1000), Some(vec![2, 3, 4]));
        assert_eq!(lent(0, 2, 1000), Some(vec![1, 2]));
        assert_eq!(lent(7, second + 2, 1000), Some(vec![8, second + 1, second + 2]));
        for (after, until, bytes_max) in
            [(3, 8, 1000), (5, 8, 1000), (1, 4, 60), (1, second + 9, 1000), (9, second + 1, 1000)]
        {
            assert_eq!(lent(after, until, bytes_max), None, "{after} {until}");
        }
        fs::write(path.join(format!("snapshot.{:x}", 9)), "").unwrap();
        assert_eq!(lent(7, second + 2, 1000), None);
        assert_eq!(lent(second + 1, second + 2, 1000), Some(vec![second + 2]));
    }
}
