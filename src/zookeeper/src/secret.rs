//! Passwords: compared and used, never shown.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first line of a file, as `SecretUtils.readSecret` has it: what is there, without one line end.
    ///
    /// # Errors
    /// When the file can't be read as text.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = fs::read_to_string(path)?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// What to warn of when others than its owner may read a file that holds secrets.
pub(crate) fn exposure(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o044 != 0).then(|| {
        format!(
            "{} holds secrets and may be read by others (mode {mode:03o}): chmod o-r,g-r {}",
            path.display(),
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_without_their_line_end_and_never_shown() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, "pass word \n\n").unwrap();
        let secret = Secret::read(&path).unwrap();
        assert_eq!(secret.expose(), "pass word \n");
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn files_that_others_may_read_are_told_of() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, "x").unwrap();
        for (mode, is_told) in [(0o600, false), (0o644, true), (0o640, true), (0o400, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposure(&path).is_some(), is_told, "{mode:o}");
        }
    }
}
