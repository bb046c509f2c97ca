//! `meso`: the command, its man page and completions, and the packages that it installs on hosts.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};

use crate::definition::{Architecture, Entry, Package};

/// gzip without name and time, so that the same text gives the same bytes.
pub(crate) fn gzipped(content: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer.write_all(content).context("compressing")?;
    writer.finish().context("compressing")
}

pub(super) fn package(rpms: &[impl AsRef<Path>]) -> Result<Package> {
    let name = "meso";
    let mut entries = vec![
        Entry::program("/usr/bin/meso", "meso"),
        Entry::man_page("/usr/share/man/man1/meso.1.gz", "meso", &["man"]),
        Entry::printed(
            "/usr/share/bash-completion/completions/meso",
            "meso",
            &["completions", "bash"],
        ),
        Entry::printed("/usr/share/zsh/site-functions/_meso", "meso", &["completions", "zsh"]),
        Entry::printed(
            "/usr/share/fish/vendor_completions.d/meso.fish",
            "meso",
            &["completions", "fish"],
        ),
        Entry::directory("/usr/share/meso"),
        Entry::directory("/usr/share/meso/rpms"),
        Entry::license(name),
    ];
    for rpm in rpms {
        let rpm = rpm.as_ref();
        let file_name = rpm
            .file_name()
            .and_then(|file_name| file_name.to_str())
            .with_context(|| format!("{}: no file name", rpm.display()))?;
        let content = std::fs::read(rpm).with_context(|| rpm.display().to_string())?;
        entries.push(Entry::file(format!("/usr/share/meso/rpms/{file_name}"), content));
    }
    Ok(Package {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        release: "1".to_owned(),
        architecture: Architecture::X86_64,
        summary: "Turns a list of hosts into a Mesos cluster",
        description: "The meso command provisions hosts over SSH with ZooKeeper, Mesos and Marathon, from packages that it brings along.",
        entries,
        ..super::daemon(name, "")
    })
}
