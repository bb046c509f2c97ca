//! A yum repository: the packages and, in `repodata`, what yum 3.4 and dnf want to know of them.
//!
//! `primary` says what each package is and needs, `filelists` what it holds, `other` what changed; `repomd.xml` names the three
//! with their checksums and is written last, so that a reader finds either the old repository or the new one.

mod metadata;
mod record;
mod xml;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::catalogue;
use record::Record;

/// Makes a repository of the packages in `rpms` at `out` (which may be the same directory). Says how many there are.
///
/// Packages at `out` that are not in `rpms` are left and not listed.
///
/// # Errors
/// When there are no packages, one can't be read, or something can't be written.
pub fn write(rpms: &Path, out: &Path, source_date: u32) -> Result<usize> {
    let packages = packages_in(rpms)?;
    if packages.is_empty() {
        bail!("{}: no packages; run: make rpm", rpms.display());
    }
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let in_place = same_directory(rpms, out);
    let mut records = Vec::new();
    for path in &packages {
        let record = Record::read(path).with_context(|| path.display().to_string())?;
        if !in_place {
            place(path, &out.join(&record.file_name))?;
        }
        records.push(record);
    }
    write_metadata(&records, out, source_date)?;
    Ok(records.len())
}

/// The packages in a directory, sorted.
///
/// # Errors
/// When it can't be read.
pub fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "rpm") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn same_directory(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn place(from: &Path, to: &Path) -> Result<()> {
    let unfinished = to.with_extension("rpm.unfinished");
    let _size = std::fs::copy(from, &unfinished)
        .with_context(|| format!("{} to {}", from.display(), unfinished.display()))?;
    std::fs::rename(&unfinished, to).with_context(|| to.display().to_string())
}

fn write_metadata(records: &[Record], out: &Path, source_date: u32) -> Result<()> {
    let directory = out.join("repodata");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let documents = [
        ("primary", metadata::primary(records)),
        ("filelists", metadata::filelists(records)),
        ("other", metadata::other(records)),
    ];
    let mut parts = Vec::new();
    let mut names = vec!["repomd.xml".to_owned()];
    for (kind, text) in documents {
        let compressed = catalogue::gzipped(text.as_bytes())?;
        let checksum = sha256(&compressed);
        let name = format!("{checksum}-{kind}.xml.gz");
        let path = directory.join(&name);
        std::fs::write(&path, &compressed).with_context(|| path.display().to_string())?;
        parts.push(metadata::Part {
            kind,
            location: format!("repodata/{name}"),
            checksum,
            open_checksum: sha256(text.as_bytes()),
            size: compressed.len(),
            open_size: text.len(),
        });
        names.push(name);
    }
    let path = directory.join("repomd.xml");
    let unfinished = directory.join("repomd.xml.unfinished");
    std::fs::write(&unfinished, metadata::repomd(&parts, source_date))
        .with_context(|| unfinished.display().to_string())?;
    std::fs::rename(&unfinished, &path).with_context(|| path.display().to_string())?;
    remove_others(&directory, &names)
}

/// Metadata of an earlier state, which nothing names any more.
fn remove_others(directory: &Path, names: &[String]) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        let stale = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            !names.iter().any(|kept| kept == name) && name.ends_with(".xml.gz")
        });
        if stale {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
