//! `zookeeper-server snapshot …`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jute::records::StatPersisted;
use serde_json::json;

use super::{ToolError, text};
use crate::disk::snapshot::decode;
use crate::tree::Tree;

/// The root's path as people write it.
fn shown(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

pub(super) fn print(
    out: &mut dyn Write,
    file: &Path,
    with_data: bool,
    json: bool,
) -> Result<(), ToolError> {
    let state = decode::file(file)?.state;
    if json {
        return ncdu(out, &state.tree);
    }
    writeln!(out, "ZNode Details (count={}):", state.tree.node_count())?;
    let mut last = state.zxid;
    let mut nodes = state.tree.walk();
    while let Some((path, node)) = nodes.next() {
        writeln!(out, "----\n{}", shown(path))?;
        stat(out, node.persisted())?;
        if with_data {
            writeln!(out, "  data = {}", STANDARD.encode(node.data().unwrap_or_default()))?;
        } else {
            writeln!(out, "  dataLength = {}", node.data_length())?;
        }
        last = last.max(node.persisted().mzxid).max(node.persisted().pzxid);
    }
    writeln!(out, "----\nSession Details (sid, timeout, ephemeralCount):")?;
    let sessions: BTreeMap<i64, i32> = state.sessions.into_iter().collect();
    for (id, timeout) in sessions {
        let count = state.tree.ephemerals(id).len();
        writeln!(out, "{id:#016x}, {timeout}, {count}")?;
    }
    writeln!(out, "----\nLast zxid: 0x{last:x}")?;
    Ok(())
}

fn stat(out: &mut dyn Write, stat: &StatPersisted) -> Result<(), ToolError> {
    writeln!(out, "  cZxid = {:#016x}", stat.czxid)?;
    writeln!(out, "  ctime = {}", text::date(stat.ctime))?;
    writeln!(out, "  mZxid = {:#016x}", stat.mzxid)?;
    writeln!(out, "  mtime = {}", text::date(stat.mtime))?;
    writeln!(out, "  pZxid = {:#016x}", stat.pzxid)?;
    writeln!(out, "  cversion = {}", stat.cversion)?;
    writeln!(out, "  dataVersion = {}", stat.version)?;
    writeln!(out, "  aclVersion = {}", stat.aversion)?;
    writeln!(out, "  ephemeralOwner = {:#016x}", stat.ephemeral_owner)?;
    Ok(())
}

/// The export format of ncdu 1: a list for a znode with children, an object for one without.
fn ncdu(out: &mut dyn Write, tree: &Tree) -> Result<(), ToolError> {
    let version = env!("CARGO_PKG_VERSION");
    let head = json!({ "progname": "zookeeper-server", "progver": version, "timestamp": 0 });
    write!(out, "[1,0,{head}")?;
    let mut depth = 0;
    let (mut nodes, mut number) = (tree.walk(), 1000);
    while let Some((path, node)) = nodes.next() {
        let own = path.matches('/').count();
        write!(out, "{}", "]".repeat(depth - own.min(depth)))?;
        number += 1;
        let length = node.data_length();
        let name = shown(path.rsplit('/').next().unwrap_or_default());
        let value =
            json!({ "name": name, "asize": length, "dsize": length, "dev": 0, "ino": number });
        let has_children = node.child_count() > 0;
        write!(out, ",{}{value}", if has_children { "[" } else { "" })?;
        depth = own + usize::from(has_children);
    }
    writeln!(out, "{}]", "]".repeat(depth))?;
    Ok(())
}

/// A znode with all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    /// Of data, its own too, in bytes.
    bytes: u64,
    /// Znodes below it.
    below: u64,
}

/// Every znode with what is below it.
fn sums(tree: &Tree) -> BTreeMap<Vec<String>, Sum> {
    let mut sums: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
    let mut nodes = tree.walk();
    while let Some((path, node)) = nodes.next() {
        let names: Vec<String> = path.split('/').map(str::to_owned).collect();
        let bytes = node.data_length() as u64;
        for length in 1..names.len() {
            if let Some(above) = sums.get_mut(&names[..length]) {
                above.bytes += bytes;
                above.below += 1;
            }
        }
        sums.insert(names, Sum { bytes, below: 0 });
    }
    sums
}

pub(super) fn summary(
    out: &mut dyn Write,
    file: &Path,
    znode: &str,
    depth_max: usize,
) -> Result<(), ToolError> {
    let state = decode::file(file)?.state;
    if state.tree.get(znode).is_none() {
        return Err(ToolError::Refused(format!("{} has no znode {znode}", file.display())));
    }
    let top: Vec<String> = znode.trim_end_matches('/').split('/').map(str::to_owned).collect();
    for (names, sum) in sums(&state.tree) {
        let depth = names.len().saturating_sub(top.len());
        let is_shown = names.starts_with(&top) && sum.below > 0;
        if is_shown && (depth_max == 0 || depth <= depth_max) {
            let (tab, path) = ("--".repeat(depth), names.join("/"));
            writeln!(out, "{tab} {}\n{tab}   children: {}", shown(&path), sum.below)?;
            writeln!(out, "{tab}   data: {}", sum.bytes)?;
        }
    }
    Ok(())
}

/// What is too small a difference to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threshold {
    pub(super) bytes: u64,
    pub(super) nodes: u64,
}

/// A snapshot's znodes by depth.
fn levels(file: &Path) -> Result<Vec<BTreeMap<String, Sum>>, ToolError> {
    let mut levels: Vec<BTreeMap<String, Sum>> = Vec::new();
    for (names, sum) in sums(&decode::file(file)?.state.tree) {
        if levels.len() < names.len() {
            levels.resize_with(names.len(), BTreeMap::new);
        }
        levels[names.len() - 1].insert(names.join("/"), sum);
    }
    Ok(levels)
}

fn describe(out: &mut dyn Write, levels: &[BTreeMap<String, Sum>]) -> Result<(), ToolError> {
    let root = levels.first().and_then(|level| level.get("")).copied().unwrap_or_default();
    writeln!(out, "Node count: {}", root.below + 1)?;
    writeln!(out, "Total size: {}", root.bytes)?;
    writeln!(out, "Max depth: {}", levels.len())?;
    for (depth, level) in levels.iter().enumerate() {
        writeln!(out, "Count of nodes at depth {depth}: {}", level.len())?;
    }
    writeln!(out)?;
    Ok(())
}

pub(super) fn compare(
    out: &mut dyn Write,
    left: &Path,
    right: &Path,
    threshold: Threshold,
    json: bool,
) -> Result<(), ToolError> {
    let (left, right) = (levels(left)?, levels(right)?);
    let Threshold { bytes, nodes } = threshold;
    if !json {
        describe(out, &left)?;
        describe(out, &right)?;
        writeln!(
            out,
            "Printing analysis for nodes difference larger than {bytes} bytes or node count difference larger than {nodes}."
        )?;
    }
    let none = BTreeMap::new();
    for depth in 0..left.len().max(right.len()) {
        if !json {
            writeln!(out, "Analysis for depth {depth}")?;
        }
        let (left, right) = (left.get(depth).unwrap_or(&none), right.get(depth).unwrap_or(&none));
        let mut paths: Vec<&String> = left.keys().chain(right.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let (one, other) = (left.get(path), right.get(path));
            let (before, after) =
                (one.copied().unwrap_or_default(), other.copied().unwrap_or_default());
            let is_small = after.bytes.abs_diff(before.bytes) <= bytes
                && after.below.abs_diff(before.below) <= nodes;
            if is_small {
                continue;
            }
            if json {
                let sum = |sum: Option<&Sum>| {
                    sum.map(|sum| json!({ "bytes": sum.bytes, "descendants": sum.below }))
                };
                let line = json!({ "path": shown(path), "left": sum(one), "right": sum(other) });
                writeln!(out, "{line}")?;
                continue;
            }
            let only = |side: &str, sum: Sum| {
                let Sum { bytes, below } = sum;
                format!("only in {side} tree. Descendant size: {bytes}. Descendant count: {below}")
            };
            let text = match (one, other) {
                (Some(sum), None) => only("left", *sum),
                (None, Some(sum)) => only("right", *sum),
                _ => {
                    let bytes = after.bytes.cast_signed() - before.bytes.cast_signed();
                    let below = after.below.cast_signed() - before.below.cast_signed();
                    format!("in both trees. Delta: {bytes} bytes, {below} descendants")
                }
            };
            writeln!(out, "Node {path} found {text}")?;
        }
    }
    if !json {
        writeln!(out, "All layers compared.")?;
    }
    Ok(())
}

pub(super) fn verify(out: &mut dyn Write, files: &[PathBuf], json: bool) -> Result<(), ToolError> {
    let mut failed = 0;
    for file in files {
        let path = file.display().to_string();
        match decode::file(file) {
            Ok(read) => {
                let (count, sessions) =
                    (read.state.tree.node_count() - 1, read.state.sessions.len());
                let digest = read.state.tree.digest();
                // One that says the digest of a later transaction was taken while transactions went on.
                let known = read.trailer.digest.filter(|(zxid, _)| *zxid == read.state.zxid);
                let is_right = known.is_none_or(|(_, known)| known == digest);
                failed += usize::from(!is_right);
                if json {
                    let line = json!({ "path": path, "is_valid": is_right, "znodes": count, "sessions": sessions, "digest": digest });
                    writeln!(out, "{line}")?;
                } else {
                    let wrong = if is_right { "" } else { "; its digest is another" };
                    writeln!(out, "{path}: {count} znodes, {sessions} sessions{wrong}")?;
                }
            }
            Err(error) => {
                failed += 1;
                if json {
                    let reason = error.to_string();
                    writeln!(
                        out,
                        "{}",
                        json!({ "path": path, "is_valid": false, "error": reason })
                    )?;
                } else {
                    writeln!(out, "{error}")?;
                }
            }
        }
    }
    if failed > 0 { Err(ToolError::Found(failed)) } else { Ok(()) }
}
