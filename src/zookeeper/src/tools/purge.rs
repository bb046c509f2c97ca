//! Removing what a data directory does not need any more (`PurgeTxnLog`, `zkCleanup.sh`).

use std::io::Write;
use std::path::{Path, PathBuf};

use super::ToolError;
use crate::disk::purge::{RETAIN_MIN, purge};

/// How many snapshots may be kept.
pub(super) fn retained(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count >= RETAIN_MIN);
    count.ok_or_else(|| format!("at least {RETAIN_MIN} are kept"))
}

/// A data directory's files are in `version-2`, which zoo.cfg does not name.
fn files(directory: &Path) -> PathBuf {
    let below = directory.join("version-2");
    if below.is_dir() { below } else { directory.to_owned() }
}

/// Removes, and says what.
pub(super) fn run(
    out: &mut dyn Write,
    logs: &Path,
    snapshots: &Path,
    count: usize,
    json: bool,
) -> Result<(), ToolError> {
    let mut printed = Ok(());
    purge(&files(snapshots), &files(logs), count, |path| {
        if printed.is_ok() {
            printed = if json {
                writeln!(out, "{}", serde_json::json!({ "removed": path }))
            } else {
                writeln!(out, "Removing file: {}", path.display())
            };
        }
    })?;
    Ok(printed?)
}
