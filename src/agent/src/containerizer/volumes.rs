//! Volumes: persistent ones, as symbolic links in the sandbox to where they are (Mesos' `filesystem/posix` isolator) or
//! mounted in a container's own root; and those that a container asks for (`volume/host_path`, `volume/sandbox_path`,
//! `volume/image`, `volume/secret`), which are
//! mounted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use mesos::v1;
use mesos::v1::volume::{Mode, source};
use nix::unistd::{User, chown};

use super::launcher::Config;
use super::view::{Mount, Tree};
use super::{Launch, secrets, shared};

/// A persistent volume of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistentVolume {
    /// Where it is on this host.
    pub source: PathBuf,
    /// Where its tasks look for it, below their sandbox.
    pub container_path: String,
}

/// Where a volume is seen: never where a path goes up.
///
/// # Errors
/// What is wrong with the path.
pub(super) fn target(container_path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(container_path);
    let goes_up = path.components().any(|part| matches!(part, Component::ParentDir));
    if goes_up || path.file_name().is_none() {
        return Err(format!("The path '{container_path}' of a volume is not valid"));
    }
    Ok(path)
}

/// Persistent volumes as mounts, for a container with a root of its own; they are given to its user.
///
/// # Errors
/// When a volume is not there, or is to be where it can't.
pub(super) fn mounts(
    volumes: &[PersistentVolume],
    user: Option<&User>,
) -> Result<Vec<Mount>, String> {
    let each = volumes.iter().map(|volume| {
        check_and_give(volume, user)?;
        Ok(Mount {
            source: Tree::Directory(volume.source.clone()),
            target: target(&volume.container_path)?,
            is_read_only: false,
        })
    });
    each.collect()
}

fn check_and_give(volume: &PersistentVolume, user: Option<&User>) -> Result<(), String> {
    let source = &volume.source;
    if !source.is_dir() {
        return Err(format!("The persistent volume at '{}' is gone", source.display()));
    }
    let Some(user) = user else { return Ok(()) };
    chown(source, Some(user.uid), Some(user.gid))
        .map_err(|error| format!("{}: {error}", source.display()))
}

/// What of a volume is asked for.
enum Source<'a> {
    Image(&'a v1::Image),
    Host(&'a str),
    Sandbox(&'a str),
    Secret(&'a v1::Secret),
}

fn source_of(volume: &v1::Volume) -> Result<Source<'_>, String> {
    let wrong = |what: &str| Err(format!("Invalid volume: '{}': {what}", volume.container_path));
    if let Some(image) = &volume.image {
        return Ok(Source::Image(image));
    }
    let Some(source) = &volume.source else {
        return match volume.host_path.as_deref() {
            Some(path) if Path::new(path).is_absolute() => Ok(Source::Host(path)),
            Some(path) => Ok(Source::Sandbox(path)),
            None => wrong("'host_path' or 'source' or 'image' must be set"),
        };
    };
    match (source.r#type(), &source.host_path, &source.sandbox_path) {
        (source::Type::HostPath, Some(own), _) if !Path::new(&own.path).is_absolute() => {
            Err(format!("Path '{}' in HOST_PATH volume is not absolute", own.path))
        }
        (source::Type::HostPath, Some(own), _) => {
            let propagation = own.mount_propagation.unwrap_or_default().mode();
            if propagation == v1::mount_propagation::Mode::Bidirectional {
                return wrong("bidirectional mount propagation is not supported by this agent");
            }
            Ok(Source::Host(&own.path))
        }
        (source::Type::SandboxPath, _, Some(own)) => match own.r#type() {
            source::sandbox_path::Type::Parent => {
                wrong("PARENT type SANDBOX_PATH volume only works for nested containers")
            }
            _ => Ok(Source::Sandbox(&own.path)),
        },
        (source::Type::Secret, _, _) => match &source.secret {
            Some(own) => Ok(Source::Secret(own)),
            None => wrong("what its 'source' is of is not set"),
        },
        (source::Type::HostPath | source::Type::SandboxPath, _, _) => {
            wrong("what its 'source' is of is not set")
        }
        (kind, _, _) => Err(format!(
            "{} volumes without Docker are not supported by this agent",
            kind.as_str_name()
        )),
    }
}

/// Makes a directory of the host that isn't there, if it is below one of those in which any may be made.
fn find_or_make(path: &str, below: &[PathBuf]) -> Result<(), String> {
    let wanted = Path::new(path);
    if wanted.exists() {
        return Ok(());
    }
    let missing = format!("Path '{path}' in HOST_PATH volume does not exist");
    if below.is_empty() {
        return Err(missing);
    }
    let leads_out = wanted.components().any(|part| part == Component::ParentDir);
    if leads_out || !below.iter().any(|own| wanted.starts_with(own)) {
        return Err(format!("{missing} and is not whitelisted for creation"));
    }
    std::fs::create_dir_all(wanted)
        .map_err(|error| format!("Failed to create the host path at '{path}': {error}"))
}

/// The volumes that a container asks for. Who shares the host's files can't have any where the host has nothing.
///
/// # Errors
/// What is wrong with one, or which isolator is missing for it.
pub(super) async fn asked_for(
    config: &Config,
    launch: &Launch,
    has_root: bool,
    user: Option<&User>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for volume in launch.container.iter().flat_map(|container| &container.volumes) {
        let source = source_of(volume)?;
        let isolator = match source {
            Source::Image(_) => "volume/image",
            Source::Host(_) => "volume/host_path",
            Source::Sandbox(_) => "volume/sandbox_path",
            Source::Secret(_) => "volume/secret",
        };
        if !config.policy.isolation.has(isolator) {
            return Err(format!(
                "The volume '{}' needs an agent with --isolation={isolator}",
                volume.container_path
            ));
        }
        let source = match source {
            Source::Image(image) => {
                let provisioner = config.provisioner.as_ref().ok_or(
                    "Unsupported container image: this agent was started without --image_providers=docker",
                )?;
                let provisioned = provisioner.provision(&launch.run.container, image).await;
                provisioned
                    .map_err(|reason| format!("Failed to provision an image volume: {reason}"))?
                    .tree
            }
            Source::Host(path) => {
                find_or_make(path, &config.policy.host_paths)?;
                Tree::Directory(path.into())
            }
            Source::Secret(own) => {
                let directory = secrets::directory(&config.runtime_dir, &launch.run.container);
                Tree::Secret(secrets::put(&directory, own, user)?)
            }
            Source::Sandbox(path) => Tree::Directory(shared::source(&launch.sandbox, path, user)?),
        };
        let target = target(&volume.container_path)?;
        // The same place, seen as what it is.
        let is_there = !has_root && source == Tree::Directory(target.clone());
        let is_read_only = volume.mode() == Mode::Ro;
        if !is_there || is_read_only {
            mounts.push(Mount { source, target, is_read_only });
        }
    }
    Ok(mounts)
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
        check_and_give(volume, user)?;
        let at = |error: std::io::Error| format!("{}: {error}", path.display());
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
    fn directories_of_the_host_are_made_only_where_they_may_be() {
        let host = tempfile::TempDir::new().unwrap();
        let path = |name: &str| host.path().join(name).display().to_string();
        assert_eq!(find_or_make(&path(""), &[]), Ok(()));
        let below = [host.path().join("own")];
        for (name, below, expected) in [
            ("own/a", &[][..], "HOST_PATH volume does not exist"),
            ("other", &below[..], "is not whitelisted for creation"),
            ("own/../other", &below[..], "is not whitelisted for creation"),
        ] {
            let refused = find_or_make(&path(name), below).unwrap_err();
            assert!(refused.ends_with(expected), "{refused}");
        }
        assert_eq!(find_or_make(&path("own/a/b"), &below), Ok(()));
        assert!(host.path().join("own/a/b").is_dir());
    }

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
