//! Loading: the newest whole snapshot, then what the logs have behind it.

use std::fs;
use std::path::Path;

use jute::txn::{CONFIG_NODE, Entry, Txn};

use super::{DiskError, at, log, numbered, snapshot};
use crate::core::State;

/// Reads the data directories (their `version-2`), made if missing.
///
/// # Errors
/// When something can't be read, or is damaged where it must not be.
pub fn load(snapshots: &Path, logs: &Path, trust_empty: bool) -> Result<State, DiskError> {
    for directory in [snapshots, logs] {
        fs::create_dir_all(directory).map_err(at("create", directory))?;
    }
    let mut state = None;
    let plain = numbered(snapshots, "snapshot")?;
    refuse_compressed(snapshots, plain.last().map_or(-1, |(zxid, _)| *zxid))?;
    for (zxid, path) in plain.into_iter().rev() {
        let bytes = fs::read(&path).map_err(at("read", &path))?;
        state = snapshot::decode(&bytes, zxid);
        match &state {
            Some(_) => break,
            None => {
                tracing::warn!("{} is not a whole snapshot; trying the one before", path.display())
            }
        }
    }
    let files = numbered(logs, "log")?;
    let mut state = match state {
        Some(state) => state,
        None if files.is_empty() || trust_empty => State::default(),
        None if files.first().is_some_and(|(first, _)| *first == 1) => State::default(),
        None => return Err(DiskError::NoSnapshot { path: snapshots.to_owned() }),
    };
    // The last file that begins at or before the snapshot may hold entries behind it.
    let begin = files.iter().rposition(|(zxid, _)| *zxid <= state.zxid + 1).unwrap_or(0);
    let mut differing = 0;
    for (index, (first, path)) in files.iter().enumerate().skip(begin) {
        if is_gap(state.zxid, *first) && !trust_empty {
            return Err(DiskError::Gap { path: path.clone(), first: *first, last: state.zxid });
        }
        let is_last = index + 1 == files.len();
        let (entries, torn) = match log::read(path)? {
            log::Content { entries, end: log::End::Whole } => (entries, None),
            log::Content { entries, end: log::End::Torn(offset, reason) } => {
                // The original leaves a torn tail behind and begins a new file: that goes on where this one ends.
                let last = entries.last().map_or(first - 1, |entry| entry.zxid);
                let goes_on = files.get(index + 1).is_some_and(|(next, _)| *next <= last + 1);
                if !is_last && !goes_on {
                    return Err(DiskError::CorruptLog { path: path.clone(), offset, reason });
                }
                (entries, Some(offset))
            }
        };
        for entry in entries {
            if entry.zxid > state.zxid && !replay(&mut state, entry) {
                differing += 1;
            }
        }
        if let Some(offset) = torn {
            tracing::warn!("{}: a torn entry is cut at byte {offset}", path.display());
            let file = fs::OpenOptions::new().write(true).open(path).map_err(at("open", path))?;
            file.set_len(offset as u64)
                .and_then(|()| file.sync_all())
                .map_err(at("truncate", path))?;
        }
    }
    if differing > 0 {
        // The original counts some in logs of its own (`digest_mismatches_count`), so this is no proof of damage.
        tracing::warn!("the tree's digest differs from the logs' after {differing} transactions");
    }
    Ok(state)
}

/// Compressed snapshots can't be read; one that is newer than all others must not be passed over.
fn refuse_compressed(snapshots: &Path, newest: i64) -> Result<(), DiskError> {
    for entry in fs::read_dir(snapshots).map_err(at("read", snapshots))? {
        let path = entry.map_err(at("read", snapshots))?.path();
        let is_compressed =
            path.extension().is_some_and(|extension| extension == "gz" || extension == "snappy");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let zxid = name.strip_prefix("snapshot.").map(|hex| i64::from_str_radix(hex, 16));
        if let (true, Some(Ok(zxid))) = (is_compressed, zxid)
            && zxid > newest
        {
            return Err(DiskError::Compressed { path });
        }
    }
    Ok(())
}

/// Whether transactions between one and the next are missing. A new epoch (the upper half) begins where it likes.
fn is_gap(last: i64, next: i64) -> bool {
    next > last + 1 && last >> 32 == next >> 32
}

/// False if the tree's digest differs from the log's afterwards.
fn replay(state: &mut State, entry: Entry) -> bool {
    state.zxid = entry.zxid;
    match &entry.txn {
        Txn::CreateSession { timeout } => {
            state.sessions.insert(entry.session, *timeout);
        }
        Txn::CloseSession { paths } => {
            state.sessions.remove(&entry.session);
            let own = state.tree.ephemerals(entry.session);
            for path in paths.iter().chain(&own) {
                state.tree.delete(path, entry.zxid);
            }
        }
        txn => apply(state, &entry, txn),
    }
    // A snapshot that was taken while transactions went on has some of what follows it already.
    let is_comparable = entry.zxid >= state.comparable_from;
    if is_comparable && entry.digest.is_some_and(|digest| digest != state.tree.digest()) {
        tracing::debug!("the tree's digest differs from the log's at zxid 0x{:x}", entry.zxid);
        return false;
    }
    true
}

fn apply(state: &mut State, entry: &Entry, txn: &Txn) {
    let (zxid, time) = (entry.zxid, entry.time);
    match txn {
        Txn::Create { opcode, path, data, acl, ephemeral, parent_cversion, ttl } => {
            let owner = crate::core::owner(*opcode, *ephemeral, *ttl, entry.session);
            let (data, parent_cversion) = (data.as_deref(), *parent_cversion);
            state.tree.create(path, data, acl, owner, parent_cversion, zxid, time);
        }
        Txn::Delete { path } => {
            state.tree.delete(path, zxid);
        }
        Txn::SetData { path, data, version } => {
            state.tree.set_data(path, data.as_deref(), *version, zxid, time);
        }
        Txn::Reconfig { data } => {
            state.tree.set_data(CONFIG_NODE, data.as_deref(), -1, zxid, time);
        }
        Txn::SetAcl { path, acl, version } => {
            state.tree.set_acl(path, acl, *version);
        }
        Txn::Multi(txns) if txns.iter().all(|txn| !matches!(txn, Txn::Error { .. })) => {
            for txn in txns {
                apply(state, entry, txn);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn zxid(directory: &tempfile::TempDir) -> Result<i64, String> {
        load(directory.path(), directory.path(), false)
            .map(|state| state.zxid)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn files_that_follow_each_other_are_read() {
        assert_eq!(zxid(&directory(&[&[1, 2], &[3], &[4, 5]])), Ok(5));
        assert_eq!(zxid(&directory(&[&[1, 2], &[(1 << 32) + 1]])), Ok((1 << 32) + 1));
    }

    #[test]
    fn a_missing_file_is_noticed() {
        let error = zxid(&directory(&[&[1, 2], &[5]])).unwrap_err();
        assert!(error.contains("log.5 begins with transaction 0x5"), "{error}");
    }

    #[test]
    fn a_compressed_snapshot_is_not_passed_over() {
        let directory = directory(&[&[1, 2]]);
        fs::write(directory.path().join("snapshot.2.gz"), "").unwrap();
        let error = zxid(&directory).unwrap_err();
        assert!(error.contains("snapshot.2.gz is compressed"), "{error}");
        crate::disk::snapshot::write(
            directory.path(),
            2,
            &crate::disk::snapshot::encode(&crate::tree::Tree::new(), 2, &[]),
        )
        .unwrap();
        assert_eq!(zxid(&directory), Ok(2));
    }

    #[test]
    fn a_torn_tail_is_cut_once_and_for_all() {
        let directory = directory(&[&[1, 2]]);
        cut(&directory, "log.1", 3);
        assert_eq!(zxid(&directory), Ok(1));
        log::Log::new(directory.path().to_owned(), log::Options::default())
            .append(&[&entry(2)])
            .unwrap();
        assert_eq!(zxid(&directory), Ok(2));
    }

    #[test]
    fn a_torn_tail_before_another_file_must_not_have_lost_anything() {
        let harmless = directory(&[&[1, 2], &[2, 3]]);
        cut(&harmless, "log.1", 3);
        assert_eq!(zxid(&harmless), Ok(3));
        let harmful = directory(&[&[1, 2], &[3]]);
        cut(&harmful, "log.1", 3);
        let error = zxid(&harmful).unwrap_err();
        assert!(error.contains("log.1 is corrupt at byte"), "{error}");
    }
}
