//! The built programs, where cargo left them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A directory of built programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// The programs in a directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// A program's path.
    ///
    /// # Errors
    /// When it was not built.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        if !path.is_file() {
            bail!("{}: not built; run: make rpm", path.display());
        }
        Ok(path)
    }

    /// A program's bytes.
    ///
    /// # Errors
    /// When it was not built or can't be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        std::fs::read(&path).with_context(|| path.display().to_string())
    }

    /// What a program prints for some arguments.
    ///
    /// # Errors
    /// When it doesn't run here, fails, or prints nothing.
    pub fn printed(&self, name: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let program = self.path(name)?;
        let command = format!("{} {}", program.display(), arguments.join(" "));
        let output =
            Command::new(program).args(arguments).output().with_context(|| command.clone())?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{command}: {}: {}", output.status, error.trim());
        }
        if output.stdout.is_empty() {
            bail!("{command}: printed nothing");
        }
        Ok(output.stdout)
    }
}
