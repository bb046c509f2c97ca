//! `zookeeper-server log …`.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jute::txn::{Entry, Txn};
use serde_json::{Value, json};

use super::{ToolError, restore, text};
use crate::disk::log::{Log, Options};
use crate::disk::scan::{End, Next, Scan};
use crate::disk::{DiskError, at};

/// Entries that are written with one sync.
const BATCH_MAX: usize = 1000;

pub(super) fn print(out: &mut dyn Write, file: &Path, json: bool) -> Result<(), ToolError> {
    let mut scan = Scan::open(file)?;
    if !json {
        writeln!(out, "ZooKeeper Transactional Log File with dbid 0 txnlog format version 2")?;
    }
    let mut count = 0;
    while let Some(frame) = scan.frame()? {
        let Some(entry) = frame.entry else {
            return Err(unreadable(file, frame.offset));
        };
        if json {
            let mut value = entry_json(&entry);
            if !frame.is_sum_right {
                value["crc_error"] = true.into();
            }
            writeln!(out, "{value}")?;
        } else {
            if !frame.is_sum_right {
                write!(out, "CRC ERROR - {}", text::entry(&entry))?;
            }
            write!(out, "{}", text::entry(&entry))?;
        }
        count += 1;
    }
    if !json {
        writeln!(out, "EOF reached after {count} txns.")?;
    }
    Ok(())
}

fn unreadable(file: &Path, offset: u64) -> ToolError {
    let reason = "the entry can't be read".to_owned();
    DiskError::CorruptLog { path: file.to_owned(), offset, reason }.into()
}

fn bytes(data: Option<&[u8]>) -> Value {
    data.map_or(Value::Null, |data| STANDARD.encode(data).into())
}

fn entry_json(entry: &Entry) -> Value {
    let mut value = json!({
        "zxid": format!("0x{:x}", entry.zxid),
        "session": format!("0x{:x}", entry.session),
        "cxid": entry.cxid,
        "time_ms": entry.time,
    });
    merge(&mut value, txn_json(&entry.txn));
    if let Some(digest) = entry.digest {
        value["digest"] = digest.into();
    }
    value
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn txn_json(txn: &Txn) -> Value {
    let acls = |acls: &[jute::records::Acl]| -> Vec<Value> {
        let each = acls
            .iter()
            .map(|acl| json!({ "perms": acl.perms, "scheme": acl.id.scheme, "id": acl.id.id }));
        each.collect()
    };
    let mut value = match txn {
        Txn::CreateSession { timeout } => json!({ "timeout_ms": timeout }),
        Txn::CloseSession { paths } => json!({ "paths": paths }),
        Txn::Create { path, data, acl, ephemeral, parent_cversion, ttl, .. } => json!({
            "path": path,
            "data": bytes(data.as_deref()),
            "acl": acls(acl),
            "ephemeral": ephemeral,
            "parent_cversion": parent_cversion,
            "ttl_ms": ttl,
        }),
        Txn::Delete { path } => json!({ "path": path }),
        Txn::SetData { path, data, version } => {
            json!({ "path": path, "data": bytes(data.as_deref()), "version": version })
        }
        Txn::Reconfig { data } => json!({ "data": bytes(data.as_deref()) }),
        Txn::SetAcl { path, acl, version } => {
            json!({ "path": path, "acl": acls(acl), "version": version })
        }
        Txn::Check { path, version } => json!({ "path": path, "version": version }),
        Txn::Multi(txns) => json!({ "txns": txns.iter().map(txn_json).collect::<Vec<_>>() }),
        Txn::Error { code } => json!({ "code": code }),
    };
    value["type"] = text::operation(txn.kind()).into();
    value
}

/// What a log file holds.
#[derive(Debug, Default)]
struct Found {
    count: usize,
    first: Option<i64>,
    last: Option<i64>,
    torn: Option<(u64, String)>,
}

fn read(file: &Path) -> Result<Found, DiskError> {
    let mut scan = Scan::open(file)?;
    let mut found = Found::default();
    loop {
        match scan.advance()? {
            Next::Entry(entry) => {
                found.count += 1;
                found.first.get_or_insert(entry.zxid);
                found.last = Some(entry.zxid);
            }
            Next::End(End::Torn(offset, reason)) => {
                found.torn = Some((offset, reason));
                return Ok(found);
            }
            Next::End(End::Whole) => return Ok(found),
        }
    }
}

pub(super) fn verify(out: &mut dyn Write, paths: &[PathBuf], json: bool) -> Result<(), ToolError> {
    let mut failed = 0;
    for path in paths {
        let told = if path.is_dir() { directory(path) } else { file(path) };
        let path = path.display().to_string();
        match told {
            Ok((text, value)) if json => {
                let mut line = json!({ "path": path, "is_valid": true });
                merge(&mut line, value);
                writeln!(out, "{line}")?;
                drop(text);
            }
            Ok((text, _)) => writeln!(out, "{path}: {text}")?,
            Err(error) => {
                failed += 1;
                if json {
                    let reason = error.to_string();
                    let line = json!({ "path": path, "is_valid": false, "error": reason });
                    writeln!(out, "{line}")?;
                } else {
                    writeln!(out, "{error}")?;
                }
            }
        }
    }
    if failed > 0 { Err(ToolError::Found(failed)) } else { Ok(()) }
}

fn file(path: &Path) -> Result<(String, Value), ToolError> {
    let found = read(path)?;
    let mut text = match (found.first, found.last) {
        (Some(first), Some(last)) => {
            format!("{} transactions, 0x{first:x} to 0x{last:x}", found.count)
        }
        _ => "no transactions".to_owned(),
    };
    let hex = |zxid: Option<i64>| zxid.map(|zxid| format!("0x{zxid:x}"));
    let mut value = json!({
        "transactions": found.count, "first": hex(found.first), "last": hex(found.last),
    });
    if let Some((offset, reason)) = found.torn {
        let _ = write!(text, "; torn at byte {offset}: {reason}");
        value["torn_at"] = offset.into();
    }
    Ok((text, value))
}

/// A directory as a server would load it, without cutting anything.
fn directory(path: &Path) -> Result<(String, Value), ToolError> {
    let state = restore::load(path, path, i64::MAX)?;
    let mismatches = state.digests.mismatches;
    let mut text = format!(
        "a server would go on from transaction 0x{:x} with {} znodes and {} sessions",
        state.zxid,
        state.tree.node_count() - 1,
        state.sessions.len()
    );
    if mismatches > 0 {
        let _ = write!(text, "; digests are not matching after {mismatches} transactions");
    }
    let value = json!({
        "zxid": format!("0x{:x}", state.zxid),
        "znodes": state.tree.node_count() - 1,
        "sessions": state.sessions.len(),
        "digest": state.tree.digest(),
        "digest_mismatches": mismatches,
    });
    Ok((text, value))
}

pub(super) fn convert(
    out: &mut dyn Write,
    from: &Path,
    to: &Path,
    until: i64,
    recover: bool,
) -> Result<(), ToolError> {
    if to.exists() {
        return Err(ToolError::Refused(format!("{} is there already", to.display())));
    }
    let directory = to.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let work = directory.join(format!("tmp.convert.{}", std::process::id()));
    fs::create_dir(&work).map_err(at("create", &work))?;
    let done = copy(from, &work, until, recover).and_then(|(count, fixed, made)| {
        fs::rename(&made, to).map_err(at("rename", &made))?;
        Ok((count, fixed))
    });
    // What is left of a failure is in it.
    let _ = fs::remove_dir_all(&work);
    let (count, fixed) = done?;
    writeln!(out, "{}: {count} transactions, {fixed} with a new checksum", to.display())?;
    Ok(())
}

fn copy(
    from: &Path,
    work: &Path,
    until: i64,
    recover: bool,
) -> Result<(usize, usize, PathBuf), ToolError> {
    let mut scan = Scan::open(from)?;
    let options = Options { growth: 0, file_max: u64::MAX, ..Options::default() };
    let mut log = Log::new(work.to_owned(), options);
    let (mut batch, mut count, mut fixed, mut first) = (Vec::new(), 0, 0, None);
    loop {
        let (zxid, is_sum_right) = if recover {
            match scan.frame()? {
                None => break,
                Some(frame) => {
                    let entry = frame.entry.ok_or_else(|| unreadable(from, frame.offset))?;
                    (entry.zxid, frame.is_sum_right)
                }
            }
        } else {
            match scan.advance()? {
                Next::End(_) => break,
                Next::Entry(entry) => (entry.zxid, true),
            }
        };
        if zxid > until {
            break;
        }
        first.get_or_insert(zxid);
        count += 1;
        fixed += usize::from(!is_sum_right);
        batch.push((zxid, scan.payload().to_vec()));
        if batch.len() == BATCH_MAX {
            log.append_encoded(&std::mem::take(&mut batch))?;
        }
    }
    log.append_encoded(&batch)?;
    let first = first.ok_or_else(|| {
        ToolError::Refused(format!("{} has no transaction to keep", from.display()))
    })?;
    Ok((count, fixed, work.join(format!("log.{first:x}"))))
}
