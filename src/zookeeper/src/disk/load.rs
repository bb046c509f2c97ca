//! Loading: the newest whole snapshot, then what the logs have behind it.

use std::fs;
use std::path::Path;

use jute::txn::{Entry, Txn};

use super::{DiskError, at, log, numbered, snapshot};
use crate::core::State;
use crate::tree::Tree;

/// Reads the data directories (their `version-2`), made if missing.
///
/// # Errors
/// When something can't be read, or is damaged where it must not be.
pub fn load(snapshots: &Path, logs: &Path, trust_empty: bool) -> Result<State, DiskError> {
    for directory in [snapshots, logs] {
        fs::create_dir_all(directory).map_err(at("create", directory))?;
    }
    let mut state = None;
    for (zxid, path) in numbered(snapshots, "snapshot")?.into_iter().rev() {
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
        None if files.is_empty() || trust_empty => State { tree: Tree::new(), ..State::default() },
        None if files.first().is_some_and(|(first, _)| *first == 1) => {
            State { tree: Tree::new(), ..State::default() }
        }
        None => return Err(DiskError::NoSnapshot { path: snapshots.to_owned() }),
    };
    // The last file that begins at or before the snapshot may hold entries behind it.
    let begin = files.iter().rposition(|(zxid, _)| *zxid <= state.zxid + 1).unwrap_or(0);
    let count = files.len();
    for (index, (_, path)) in files.into_iter().enumerate().skip(begin) {
        let content = log::read(&path, index + 1 == count)?;
        for entry in content.entries {
            if entry.zxid > state.zxid {
                replay(&mut state, entry);
            }
        }
        if let Some(offset) = content.torn {
            tracing::warn!(
                "{}: an entry that was being written is cut at byte {offset}",
                path.display()
            );
            let file = fs::OpenOptions::new().write(true).open(&path).map_err(at("open", &path))?;
            file.set_len(offset as u64)
                .and_then(|()| file.sync_all())
                .map_err(at("truncate", &path))?;
        }
    }
    Ok(state)
}

fn replay(state: &mut State, entry: Entry) {
    state.zxid = entry.zxid;
    match &entry.txn {
        Txn::CreateSession { timeout } => {
            state.sessions.insert(entry.session, *timeout);
        }
        Txn::CloseSession { paths } => {
            state.sessions.remove(&entry.session);
            let own: Vec<String> = state.tree.ephemerals(entry.session).cloned().collect();
            for path in paths.iter().chain(&own) {
                state.tree.delete(path, entry.zxid);
            }
        }
        txn => apply(state, &entry, txn),
    }
    if entry.digest.is_some_and(|digest| digest != state.tree.digest()) {
        tracing::warn!("the tree's digest differs from the log's at zxid 0x{:x}", entry.zxid);
    }
}

fn apply(state: &mut State, entry: &Entry, txn: &Txn) {
    let (zxid, time) = (entry.zxid, entry.time);
    match txn {
        Txn::Create { opcode, path, data, acl, ephemeral, parent_cversion, ttl } => {
            let owner = crate::core::owner(*opcode, *ephemeral, *ttl, entry.session);
            state.tree.create(path, data.clone(), acl.clone(), owner, *parent_cversion, zxid, time);
        }
        Txn::Delete { path } => {
            state.tree.delete(path, zxid);
        }
        Txn::SetData { path, data, version } => {
            state.tree.set_data(path, data.clone(), *version, zxid, time);
        }
        Txn::SetAcl { path, acl, version } => {
            state.tree.set_acl(path, acl.clone(), *version);
        }
        Txn::Multi(txns) if txns.iter().all(|txn| !matches!(txn, Txn::Error { .. })) => {
            for txn in txns {
                apply(state, entry, txn);
            }
        }
        _ => {}
    }
}
