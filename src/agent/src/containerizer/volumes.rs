//! Persistent volumes in a sandbox: symbolic links to where they are (Mesos' `filesystem/posix` isolator).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{User, chown};

/// A persistent volume of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistentVolume {
    /// Where it is on this host.
    pub source: PathBuf,
    /// Where its tasks look for it, below their sandbox.
    pub container_path: String,
}

/// Links volumes into a sandbox, and gives them to the container's user.
///
/// # Errors
/// When a volume is not there, or is to be where it can't.
pub(super) fn link(
    sandbox: &Path,
    volumes: &[PersistentVolume],
    user: Option<&User>,
) -> Result<(), String> {
    for volume in volumes {
        let path = Path::new(&volume.container_path);
        let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || volume.container_path.is_empty() {
            return Err(format!(
                "The path '{}' of a persistent volume is not below the sandbox: only relative paths are supported",
                volume.container_path
            ));
        }
        if !volume.source.is_dir() {
            return Err(format!("The persistent volume at '{}' is gone", volume.source.display()));
        }
        let at = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(user) = user {
            chown(&volume.source, Some(user.uid), Some(user.gid))
                .map_err(|error| format!("{}: {error}", volume.source.display()))?;
        }
        let link = sandbox.join(path);
        if let Some(parent) = link.parent() {
            fs::create_dir_all(parent).map_err(at)?;
        }
        match fs::read_link(&link) {
            Ok(target) if target == volume.source => {}
            _ => symlink(&volume.source, &link).map_err(at)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_seen_in_the_sandbox_and_nowhere_else() {
        let directory = tempfile::TempDir::new().unwrap();
        let (source, sandbox) = (directory.path().join("v"), directory.path().join("s"));
        fs::create_dir_all(&source).unwrap();
        fs::create_dir_all(&sandbox).unwrap();
        let volume =
            |path: &str| PersistentVolume { source: source.clone(), container_path: path.into() };
        for path in ["data", "a/b"] {
            link(&sandbox, &[volume(path)], None).unwrap();
            link(&sandbox, &[volume(path)], None).unwrap();
            fs::write(sandbox.join(path).join("x"), "1").unwrap();
        }
        assert!(source.join("x").exists());
        for path in ["/etc", "../x", "a/../../x", "", "."] {
            assert!(link(&sandbox, &[volume(path)], None).is_err(), "{path}");
        }
        fs::remove_dir_all(&source).unwrap();
        assert!(link(&sandbox, &[volume("data")], None).unwrap_err().ends_with("is gone"));
    }
}
