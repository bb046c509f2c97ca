//! The agent's own resources on disk: what is reserved of them, which volumes were made, which operations somebody
//! still waits for (Mesos' `Slave::checkpointResourceState`).
//!
//! First the new state is written beside the old one, then directories of volumes are made and removed, then the new
//! state takes the old one's place. An agent that died in between finds both and does the rest.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mesos::internal::ResourceState;
use mesos::resources::{Resources, reserved_role};
use mesos::v1;

use super::{Batch, frame, named, paths, read, read_all};

const STATE: &str = "resources_and_operations.state";
const STATE_TARGET: &str = "resources_and_operations.target";
const INFO: &str = "resources.info";
const INFO_TARGET: &str = "resources.target";

/// A change of what is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is reserved, and which volumes there are, afterwards.
    pub resources: Resources,
    /// Operations to remember.
    pub operations: Vec<v1::Operation>,
    /// What was reserved before.
    pub before: Resources,
}

/// Where a persistent volume is: `<work_dir>/volumes/roles/<role>/<id>`, or on its own disk below that disk's root.
/// Slashes in roles are written as spaces, which no role has.
pub fn volume_path(work_dir: &Path, volume: &v1::Resource) -> Option<PathBuf> {
    use v1::resource::disk_info::source::Type;
    let disk = volume.disk.as_ref()?;
    let id = &disk.persistence.as_ref()?.id;
    let role = reserved_role(volume).replace('/', " ");
    let below = |root: &Path| root.join("volumes/roles").join(&role).join(id);
    Some(match disk.source.as_ref() {
        None => below(work_dir),
        Some(source) => match source.r#type() {
            Type::Mount => PathBuf::from(source.mount.as_ref()?.root.as_ref()?),
            Type::Path => {
                let root = Path::new(source.path.as_ref()?.root.as_ref()?);
                if root.is_absolute() { below(root) } else { below(&work_dir.join(root)) }
            }
            Type::Block | Type::Raw | Type::Unknown => return None,
        },
    })
}

fn is_mount(volume: &v1::Resource) -> bool {
    let source = volume.disk.as_ref().and_then(|disk| disk.source.as_ref());
    source.is_some_and(|source| source.mount.is_some())
}

fn volumes(work_dir: &Path, resources: &Resources) -> Vec<(PathBuf, bool)> {
    let each = resources.persistent_volumes().to_protos();
    each.iter()
        .filter_map(|volume| Some((volume_path(work_dir, volume)?, is_mount(volume))))
        .collect()
}

/// Brings the disk to a new state; when it returns, that is there to stay.
///
/// # Errors
/// What the system says, with the path.
pub fn commit(work_dir: &Path, change: &Change) -> io::Result<()> {
    let directory = paths::meta(work_dir).join("resources");
    let resources = change.resources.to_protos();
    let state =
        ResourceState { operations: change.operations.clone(), resources: resources.clone() };
    let mut batch = Batch::default();
    batch.replace(directory.join(STATE_TARGET), frame(&state));
    batch.replace(directory.join(INFO_TARGET), resources.iter().flat_map(frame).collect());
    batch.commit()?;
    settle(work_dir, &change.before, &change.resources)
}

/// From the point where the new state is beside the old one.
fn settle(work_dir: &Path, before: &Resources, after: &Resources) -> io::Result<()> {
    let directory = paths::meta(work_dir).join("resources");
    let (old, new) = (volumes(work_dir, before), volumes(work_dir, after));
    let kept: BTreeSet<&PathBuf> = new.iter().map(|(path, _)| path).collect();
    for (path, _) in &new {
        fs::create_dir_all(path).map_err(|error| named(path, &error))?;
    }
    for (path, is_mount) in old.iter().filter(|(path, _)| !kept.contains(path)) {
        let removed = if *is_mount { empty(path) } else { fs::remove_dir_all(path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(named(path, &error));
            }
            _ => tracing::info!(path = %path.display(), "persistent volume removed"),
        }
    }
    for (target, name) in [(INFO_TARGET, INFO), (STATE_TARGET, STATE)] {
        let (from, to) = (directory.join(target), directory.join(name));
        fs::rename(&from, &to).map_err(|error| named(&from, &error))?;
    }
    fs::File::open(&directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| named(&directory, &error))
}

/// Removes what is in a directory, but not the directory: a disk is mounted there.
fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What an agent with this work directory had reserved, and which operations were waited for. A change that it had
/// begun is finished.
///
/// # Errors
/// When it can't be read, is damaged, or the change can't be finished.
pub fn recover(work_dir: &Path) -> io::Result<(Resources, Vec<v1::Operation>)> {
    let directory = paths::meta(work_dir).join("resources");
    let state = match read::<ResourceState>(&directory.join(STATE))? {
        Some(state) => state,
        // An agent before 1.7 has only the older file.
        None => ResourceState { resources: older(&directory.join(INFO))?, operations: Vec::new() },
    };
    // One that was cut while it was written was never acted upon.
    let target = read::<ResourceState>(&directory.join(STATE_TARGET)).ok().flatten();
    let before = Resources::from_protos(&state.resources);
    let Some(target) = target else { return Ok((before, state.operations)) };
    let after = Resources::from_protos(&target.resources);
    tracing::info!(%after, "finishing a change of what is reserved");
    commit(
        work_dir,
        &Change { resources: after.clone(), operations: target.operations.clone(), before },
    )?;
    Ok((after, target.operations))
}

fn older(path: &Path) -> io::Result<Vec<v1::Resource>> {
    match fs::read(path) {
        Ok(content) => Ok(read_all(&content).0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(named(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::json::{self, Dialect};

    fn volume(role: &str) -> Resources {
        let text = format!(
            r#"{{"name":"disk","type":"SCALAR","scalar":{{"value":64}},"reservations":[{{"type":"DYNAMIC","role":"{role}"}}],"disk":{{"persistence":{{"id":"v"}},"volume":{{"container_path":"p","mode":"RW"}}}}}}"#
        );
        let resource: v1::Resource = json::from_slice(text.as_bytes(), Dialect::V1).unwrap();
        Resources::from_protos(&[resource])
    }

    fn change(before: &Resources, after: &Resources) -> Change {
        Change { resources: after.clone(), operations: Vec::new(), before: before.clone() }
    }

    #[test]
    fn volumes_are_made_kept_over_restarts_and_removed_with_their_content() {
        let directory = tempfile::TempDir::new().unwrap();
        let work = directory.path();
        let (none, made) = (Resources::new(), volume("a/b"));
        assert_eq!(recover(work).unwrap(), (none.clone(), Vec::new()));
        commit(work, &change(&none, &made)).unwrap();
        let path = work.join("volumes/roles/a b/v");
        fs::write(path.join("data"), "x").unwrap();
        assert_eq!(recover(work).unwrap().0, made);
        commit(work, &change(&made, &made)).unwrap();
        assert!(path.join("data").exists());
        commit(work, &change(&made, &none)).unwrap();
        assert!(!path.exists());
        assert_eq!(recover(work).unwrap().0, none);
    }

    #[test]
    fn a_change_that_was_begun_is_finished() {
        let directory = tempfile::TempDir::new().unwrap();
        let work = directory.path();
        let (none, made) = (Resources::new(), volume("a"));
        commit(work, &change(&none, &made)).unwrap();
        let path = work.join("volumes/roles/a/v");
        fs::write(path.join("data"), "x").unwrap();
        // The agent died right after it had written what is to be.
        let target = paths::meta(work).join("resources").join(STATE_TARGET);
        super::super::replace(&target, &frame(&ResourceState::default())).unwrap();
        assert_eq!(recover(work).unwrap().0, none);
        assert!(!path.exists() && !target.exists());
        // One that was cut short never counted.
        commit(work, &change(&none, &made)).unwrap();
        fs::write(&target, [9, 0, 0, 0, 1]).unwrap();
        assert_eq!(recover(work).unwrap().0, made);
        assert!(path.exists());
    }

    #[test]
    fn an_older_agents_file_is_read() {
        let directory = tempfile::TempDir::new().unwrap();
        let made = volume("a");
        let content: Vec<u8> = made.to_protos().iter().flat_map(frame).collect();
        let path = paths::meta(directory.path()).join("resources").join(INFO);
        super::super::replace(&path, &content).unwrap();
        assert_eq!(recover(directory.path()).unwrap().0, made);
    }
}
