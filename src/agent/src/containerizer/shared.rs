//! Directories of the sandbox of the container that another is nested in (Mesos' `volume/sandbox_path` isolator): how
//! the tasks of a pod share files.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::User;

use super::view::{Mount, Tree};
use super::{PersistentVolume, volumes};

/// A directory that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPath {
    /// The sandbox that it is in.
    pub sandbox: PathBuf,
    /// Where in it.
    pub path: String,
    /// Where the nested container looks for it, below its own sandbox.
    pub container_path: String,
}

/// Links shared directories into a sandbox. One directly below the other sandbox is made if it is not there.
///
/// # Errors
/// When a path leads out of a sandbox, or the system refuses.
pub(super) fn link(
    sandbox: &Path,
    shared: &[SharedPath],
    user: Option<&User>,
) -> Result<(), String> {
    for own in shared {
        let source = source(&own.sandbox, &own.path, user)?;
        let volume = PersistentVolume { source, container_path: own.container_path.clone() };
        // What a task has put there is not given to another's user.
        volumes::link(sandbox, &[volume], None)?;
    }
    Ok(())
}

/// Shared directories as mounts, for a container with a root of its own.
///
/// # Errors
/// As of [`link`].
pub(super) fn mounts(shared: &[SharedPath], user: Option<&User>) -> Result<Vec<Mount>, String> {
    let each = shared.iter().map(|own| {
        Ok(Mount {
            source: Tree::Directory(source(&own.sandbox, &own.path, user)?),
            target: volumes::target(&own.container_path)?,
            is_read_only: false,
        })
    });
    each.collect()
}

/// A directory in a sandbox. One directly below it is made if it is not there.
///
/// # Errors
/// When the path leads out of the sandbox, or the system refuses.
pub(super) fn source(sandbox: &Path, path: &str, user: Option<&User>) -> Result<PathBuf, String> {
    let below = Path::new(path);
    if !below.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("The path '{path}' is not below the sandbox"));
    }
    let source = sandbox.join(below);
    if below.components().count() == 1 {
        make(&source, user).map_err(|error| format!("{}: {error}", source.display()))?;
    }
    Ok(source)
}

/// Makes a directory for a user; one that is there is left as it is.
fn make(path: &Path, user: Option<&User>) -> std::io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let Some(user) = user else { return Ok(()) };
    // A task may have put a link in its place by now.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
    let directory = fs::File::options().read(true).custom_flags(flags.bits()).open(path)?;
    fchown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_a_pod_share_a_directory_and_nothing_else() {
        let directory = tempfile::TempDir::new().unwrap();
        let (pod, one, two) = (
            directory.path().join("pod"),
            directory.path().join("pod/containers/1"),
            directory.path().join("pod/containers/2"),
        );
        fs::create_dir_all(&one).unwrap();
        fs::create_dir_all(&two).unwrap();
        let shared = |path: &str| {
            let (path, container_path) = (path.to_owned(), "data".to_owned());
            [SharedPath { sandbox: pod.clone(), path, container_path }]
        };
        for sandbox in [&one, &two] {
            link(sandbox, &shared("scratch"), None).unwrap();
        }
        fs::write(one.join("data/x"), "1").unwrap();
        assert_eq!(fs::read_to_string(two.join("data/x")).unwrap(), "1");
        for path in ["../x", "/etc", "a/../../x"] {
            assert!(link(&one, &shared(path), None).is_err(), "{path}");
        }
        assert!(link(&one, &shared("a/b"), None).unwrap_err().contains("gone"));
    }
}
