//! Loading: the newest whole snapshot, then what the logs have behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::replay::{Digests, replay};
use super::scan::{End, Next, Scan};
use super::{DiskError, at, numbered, snapshot};
use crate::core::State;

/// Reads the data directories (their `version-2`), made if missing. What is torn at the end of the logs is cut.
///
/// # Errors
/// When something can't be read, or is damaged where it must not be.
pub fn load(snapshots: &Path, logs: &Path, trust_empty: bool) -> Result<State, DiskError> {
    for directory in [snapshots, logs] {
        fs::create_dir_all(directory).map_err(at("create", directory))?;
    }
    snapshot::file::remove_unpublished(snapshots)?;
    let began = Instant::now();
    let state = newest_snapshot(snapshots)?;
    let snapshot = began.elapsed();
    let files = numbered(logs, "log")?;
    let mut state = match state {
        Some(state) => state,
        None if files.is_empty() || trust_empty => State::default(),
        None if files.first().is_some_and(|(first, _)| *first == 1) => State::default(),
        None => return Err(DiskError::NoSnapshot { path: snapshots.to_owned() }),
    };
    for (path, offset) in replay_logs(&mut state, &files, i64::MAX, trust_empty)? {
        tracing::warn!("{}: a torn entry is cut at byte {offset}", path.display());
        let file = fs::OpenOptions::new().write(true).open(&path).map_err(at("open", &path))?;
        file.set_len(offset).and_then(|()| file.sync_all()).map_err(at("truncate", &path))?;
    }
    state.loaded.snapshot = snapshot;
    state.loaded.logs = began.elapsed().saturating_sub(snapshot);
    let mismatches = state.digests.mismatches;
    if mismatches > 0 {
        // The original counts some in logs of its own (`digest_mismatches_count`), so this is no proof of damage.
        tracing::warn!("the tree's digest differs from the logs' after {mismatches} transactions");
    }
    Ok(state)
}

/// The newest snapshot that is whole.
fn newest_snapshot(directory: &Path) -> Result<Option<State>, DiskError> {
    for found in snapshot::list(directory)?.into_iter().rev() {
        match snapshot::decode::file(&found.path) {
            Ok(snapshot::decode::Snapshot { mut state, trailer }) => {
                state.digests = Digests::after(state.zxid, trailer);
                let digest = state.tree.digest();
                state.digests.compare(state.zxid, digest, None);
                return Ok(Some(state));
            }
            Err(error @ DiskError::BadSnapshot { .. }) => {
                tracing::warn!("{error}; trying the one before");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Replays what logs have behind a tree, up to a zxid. What is torn, and where, comes back.
///
/// # Errors
/// When a log can't be read, is damaged before its end, or does not go on where the one before ends.
pub fn replay_logs(
    state: &mut State,
    files: &[(i64, PathBuf)],
    until: i64,
    trust_gaps: bool,
) -> Result<Vec<(PathBuf, u64)>, DiskError> {
    let mut torn_files = Vec::new();
    // The last file that begins at or before the snapshot may hold entries behind it.
    let begin = files.iter().rposition(|(zxid, _)| *zxid <= state.zxid + 1).unwrap_or(0);
    for (index, (first, path)) in files.iter().enumerate().skip(begin) {
        if *first > until {
            break;
        }
        if is_gap(state.zxid, *first) && !trust_gaps {
            return Err(DiskError::Gap { path: path.clone(), first: *first, last: state.zxid });
        }
        let mut scan = Scan::open(path)?;
        let mut last = first - 1;
        let end = loop {
            match scan.advance()? {
                Next::Entry(entry) => {
                    last = entry.zxid;
                    if entry.zxid > state.zxid && entry.zxid <= until {
                        replay(state, *entry);
                        state.loaded.transactions += 1;
                    }
                }
                Next::End(end) => break end,
            }
        };
        if let End::Torn(offset, reason) = end {
            // The original leaves a torn tail behind and begins a new file: that goes on where this one ends.
            let goes_on = files.get(index + 1).is_some_and(|(next, _)| *next <= last + 1);
            if index + 1 < files.len() && !goes_on {
                return Err(DiskError::CorruptLog { path: path.clone(), offset, reason });
            }
            torn_files.push((path.clone(), offset));
        }
    }
    Ok(torn_files)
}

/// Whether transactions between one and the next are missing. A new epoch (the upper half) begins where it likes.
fn is_gap(last: i64, next: i64) -> bool {
    next > last + 1 && last >> 32 == next >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::log;
    use jute::txn::{Entry, Txn};
    use proptest::prelude::*;

    fn entry(zxid: i64) -> Entry {
        let txn = Txn::CreateSession { timeout: 4000 };
        Entry { session: zxid, cxid: 0, zxid, time: 1, txn, digest: None }
    }

    /// A directory with a log file for each list of zxids, as after a restart each.
    fn directory(files: &[&[i64]]) -> tempfile::TempDir {
        let directory = tempfile::TempDir::new().unwrap();
        for zxids in files {
            let entries: Vec<Entry> = zxids.iter().map(|zxid| entry(*zxid)).collect();
            let entries: Vec<&Entry> = entries.iter().collect();
            log::Log::new(directory.path().to_owned(), log::Options::default())
                .append(&entries)
                .unwrap();
        }
        directory
    }

    fn cut(directory: &tempfile::TempDir, name: &str, bytes: usize) {
        let path = directory.path().join(name);
        let content = fs::read(&path).unwrap();
        let end = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        fs::write(&path, &content[..end - bytes]).unwrap();
    }

    fn zxid_of(directory: &tempfile::TempDir) -> Result<i64, String> {
        load(directory.path(), directory.path(), false)
            .map(|state| state.zxid)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn files_that_follow_each_other_are_read() {
        assert_eq!(zxid_of(&directory(&[&[1, 2], &[3], &[4, 5]])), Ok(5));
        assert_eq!(zxid_of(&directory(&[&[1, 2], &[(1 << 32) + 1]])), Ok((1 << 32) + 1));
    }

    #[test]
    fn a_missing_file_is_noticed() {
        let error = zxid_of(&directory(&[&[1, 2], &[5]])).unwrap_err();
        assert!(error.contains("log.5 begins with transaction 0x5"), "{error}");
    }

    #[test]
    fn a_newer_snapshot_that_is_not_whole_is_passed_over_if_the_logs_reach_back() {
        let directory = directory(&[&[1, 2], &[3]]);
        for name in ["snapshot.2.gz", "snapshot.3", "snapshot.3.snappy"] {
            fs::write(directory.path().join(name), "no snapshot").unwrap();
        }
        assert_eq!(zxid_of(&directory), Ok(3));
        fs::write(directory.path().join("tmp.snapshot.9"), "half").unwrap();
        assert_eq!(zxid_of(&directory), Ok(3));
        assert!(!directory.path().join("tmp.snapshot.9").exists());
        fs::remove_file(directory.path().join("log.1")).unwrap();
        let error = zxid_of(&directory).unwrap_err();
        assert!(error.contains("no valid snapshot found"), "{error}");
        let trusted = load(directory.path(), directory.path(), true).unwrap();
        assert_eq!(trusted.zxid, 3);
    }

    #[test]
    fn a_snapshot_of_any_packing_is_gone_on_from() {
        use crate::disk::compression::Compression;
        use crate::disk::snapshot::{Trailer, save};
        for compression in Compression::ALL {
            let directory = directory(&[&[3, 4]]);
            let mut state = State { zxid: 2, ..State::default() };
            state.sessions.insert(77, 1000);
            save(directory.path(), &state, compression, Trailer::default()).unwrap();
            let loaded = load(directory.path(), directory.path(), false).unwrap();
            assert_eq!((loaded.zxid, loaded.sessions.len()), (4, 3), "{compression:?}");
            assert_eq!(loaded.loaded.transactions, 2);
        }
    }

    #[test]
    fn a_torn_tail_is_cut_once_and_for_all() {
        let directory = directory(&[&[1, 2]]);
        cut(&directory, "log.1", 3);
        assert_eq!(zxid_of(&directory), Ok(1));
        log::Log::new(directory.path().to_owned(), log::Options::default())
            .append(&[&entry(2)])
            .unwrap();
        assert_eq!(zxid_of(&directory), Ok(2));
    }

    #[test]
    fn a_torn_tail_before_another_file_must_not_have_lost_anything() {
        let harmless = directory(&[&[1, 2], &[2, 3]]);
        cut(&harmless, "log.1", 3);
        assert_eq!(zxid_of(&harmless), Ok(3));
        let harmful = directory(&[&[1, 2], &[3]]);
        cut(&harmful, "log.1", 3);
        let error = zxid_of(&harmful).unwrap_err();
        assert!(error.contains("log.1 is corrupt at byte"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// A server is killed while it writes, and starts again on what is left.
        #[test]
        fn what_was_synced_outlives_any_end(
            batches in prop::collection::vec(prop::collection::vec(0usize..60, 1..5), 1..10),
            synced: prop::sample::Index, torn: prop::sample::Index, wrong in prop::option::of(1usize..40), padding in 0usize..9000,
        ) {
            let directory = tempfile::TempDir::new().unwrap();
            let place = || directory.path().to_owned();
            let options = log::Options { growth: 0, ..log::Options::default() };
            let mut log = log::Log::new(place(), options.clone());
            let (mut zxid, mut ends) = (0, vec![(0, 16)]);
            for batch in &batches {
                let mut entries = Vec::new();
                for length in batch {
                    zxid += 1;
                    let txn = Txn::SetData { path: "/a".into(), data: Some(vec![7; *length]), version: 1 };
                    entries.push(Entry { session: 1, cxid: 1, zxid, time: 1, txn, digest: None });
                }
                log.append(&entries.iter().collect::<Vec<_>>()).unwrap();
                let path = directory.path().join("log.1");
                ends.push((zxid, fs::metadata(path).unwrap().len() as usize));
            }
            let path = directory.path().join("log.1");
            let whole = fs::read(&path).unwrap();
            let (acknowledged, end) = ends[synced.index(ends.len())];
            let mut left = whole[..end + torn.index(whole.len() - end + 1)].to_vec();
            // The last that was written may not be what is on disk.
            let begin = left.len() - wrong.unwrap_or(0).min(left.len() - end);
            for byte in &mut left[begin..] {
                *byte ^= 0x55;
            }
            left.resize(left.len() + padding, 0);
            fs::write(&path, left).unwrap();
            let recovered = zxid_of(&directory).unwrap();
            prop_assert!((acknowledged..=zxid).contains(&recovered), "{acknowledged} {recovered} {zxid}");
            prop_assert_eq!(zxid_of(&directory), Ok(recovered));
            let txn = Txn::Error { code: -1 };
            let next = Entry { session: 1, cxid: 1, zxid: recovered + 1, time: 1, txn, digest: None };
            log::Log::new(place(), options).append(&[&next]).unwrap();
            prop_assert_eq!(zxid_of(&directory), Ok(recovered + 1));
        }
    }
}
