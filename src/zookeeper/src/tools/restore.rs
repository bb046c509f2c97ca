//! Making snapshots and data directories of others.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::ToolError;
use crate::core::State;
use crate::disk::compression::Compression;
use crate::disk::load::replay_logs;
use crate::disk::replay::Digests;
use crate::disk::snapshot::{self, Trailer, decode, parse_name};
use crate::disk::{DiskError, at, numbered};

/// The zxid that a snapshot's name says.
fn named(file: &Path) -> Result<i64, ToolError> {
    parse_name(file).map(|(zxid, _)| zxid).ok_or_else(|| {
        ToolError::Refused(format!(
            "{} is not named as a snapshot is, which says what it holds: snapshot.ZXID, with .gz or .snappy if it is packed",
            file.display()
        ))
    })
}

/// Reads a snapshot to go on from.
fn snapshot(file: &Path) -> Result<State, ToolError> {
    named(file)?;
    let decode::Snapshot { mut state, trailer } = decode::file(file)?;
    state.digests = Digests::after(state.zxid, trailer);
    let digest = state.tree.digest();
    state.digests.compare(state.zxid, digest, None);
    Ok(state)
}

/// What directories held at a transaction, without changing anything in them.
pub(super) fn load(snapshots: &Path, logs: &Path, until: i64) -> Result<State, ToolError> {
    let found = snapshot::list(snapshots)?;
    let mut newest = None;
    for one in found.iter().rev().filter(|one| one.zxid <= until) {
        match snapshot(&one.path) {
            Err(ToolError::Disk(DiskError::BadSnapshot { .. })) => {}
            other => {
                newest = Some(other?);
                break;
            }
        }
    }
    let files = numbered(logs, "log")?;
    let mut state = match newest {
        Some(state) => state,
        None if files.first().is_none_or(|(first, _)| *first == 1) => State::default(),
        None => return Err(DiskError::NoSnapshot { path: snapshots.to_owned() }.into()),
    };
    replay_logs(&mut state, &files, until, false)?;
    Ok(state)
}

pub(super) fn from_directory(
    out: &mut dyn Write,
    snapshots: &Path,
    logs: &Path,
    until: i64,
    to: &Path,
) -> Result<(), ToolError> {
    let state = load(snapshots, logs, until)?;
    make(out, &state, until, to)
}

pub(super) fn from_snapshot(
    out: &mut dyn Write,
    file: &Path,
    logs: Option<&Path>,
    until: i64,
    to: &Path,
) -> Result<(), ToolError> {
    let mut state = snapshot(file)?;
    if let Some(logs) = logs {
        if until < state.zxid {
            return Err(ToolError::Refused(format!(
                "{} is of transaction 0x{:x}, after 0x{until:x}",
                file.display(),
                state.zxid
            )));
        }
        replay_logs(&mut state, &numbered(logs, "log")?, until, false)?;
    }
    make(out, &state, until, to)
}

fn make(out: &mut dyn Write, state: &State, until: i64, to: &Path) -> Result<(), ToolError> {
    if until != i64::MAX && state.zxid < until {
        return Err(ToolError::Refused(format!(
            "the last transaction is 0x{:x}, before 0x{until:x}",
            state.zxid
        )));
    }
    let directory = to.join("version-2");
    fs::create_dir_all(&directory).map_err(at("create", &directory))?;
    if fs::read_dir(&directory).map_err(at("read", &directory))?.next().is_some() {
        return Err(ToolError::Refused(format!("{} is not empty", directory.display())));
    }
    let trailer = Trailer { digest: Some((state.zxid, state.tree.digest())), last_zxid: None };
    let path = snapshot::save(&directory, state, Compression::None, trailer)?;
    writeln!(
        out,
        "{}: {} znodes, {} sessions",
        path.display(),
        state.tree.node_count() - 1,
        state.sessions.len()
    )?;
    Ok(())
}

pub(super) fn convert(
    out: &mut dyn Write,
    from: &Path,
    to: &Path,
    compression: Compression,
) -> Result<(), ToolError> {
    let zxid = named(from)?;
    let decode::Snapshot { state, trailer } = decode::file(from)?;
    let made = to.join(format!("snapshot.{zxid:x}{}", compression.suffix()));
    if made.exists() {
        return Err(ToolError::Refused(format!("{} is there already", made.display())));
    }
    let path = snapshot::save(to, &state, compression, trailer)?;
    writeln!(out, "{}", path.display())?;
    Ok(())
}
