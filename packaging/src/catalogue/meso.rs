//! `meso`: the command, its man page and completions, and the packages that it installs on hosts.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, GzBuilder};

use crate::binaries::Binaries;
use crate::definition::{Architecture, Entry, Package};

/// What the command says of itself.
#[derive(Debug, Clone)]
pub struct Documents {
    man_page: Vec<u8>,
    bash: Vec<u8>,
    zsh: Vec<u8>,
    fish: Vec<u8>,
}

impl Documents {
    /// Asks the built program.
    ///
    /// # Errors
    /// When it doesn't run here, fails, or prints nothing.
    pub fn of(binaries: &Binaries) -> Result<Self> {
        let program = binaries.path("meso")?;
        let printed = |arguments: &[&str]| printed_by(&program, arguments);
        Ok(Self {
            man_page: printed(&["man"])?,
            bash: printed(&["completions", "bash"])?,
            zsh: printed(&["completions", "zsh"])?,
            fish: printed(&["completions", "fish"])?,
        })
    }
}

fn printed_by(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let command = format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(|| command.clone())?;
    if !output.status.success() {
        bail!("{command}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    if output.stdout.is_empty() {
        bail!("{command}: printed nothing");
    }
    Ok(output.stdout)
}

/// gzip without name and time, so that the same text gives the same bytes.
pub(crate) fn gzipped(content: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer.write_all(content).context("compressing")?;
    writer.finish().context("compressing")
}

pub(super) fn package(documents: &Documents, rpms: &[impl AsRef<Path>]) -> Result<Package> {
    let name = "meso";
    let mut entries = vec![
        Entry::program("/usr/bin/meso", "meso"),
        Entry::file("/usr/share/man/man1/meso.1.gz", gzipped(&documents.man_page)?),
        Entry::file("/usr/share/bash-completion/completions/meso", documents.bash.clone()),
        Entry::file("/usr/share/zsh/site-functions/_meso", documents.zsh.clone()),
        Entry::file("/usr/share/fish/vendor_completions.d/meso.fish", documents.fish.clone()),
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
