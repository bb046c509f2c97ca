//! Groups in groups. A nested container with cgroups of its own has them below those of what it is nested in, as the
//! original's: `<container>/mesos/<child>`, so that it gets nothing that the outer one may not have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{ENDING, PAUSE, is_busy, named, write};

/// What stands between a container and those that are nested in it (`CGROUP_SEPARATOR`).
const SEPARATOR: &str = "mesos";
/// Where version 2 keeps the processes of a container that others are nested in: there a group has either processes or
/// groups below it that are limited.
pub(super) const LEAF: &str = "leaf";

/// A container's directory below that of the first one's; ids have points between their parts.
pub(super) fn place(root: &Path, container: &str) -> PathBuf {
    let mut parts = container.split('.');
    let outermost = root.join(parts.next().unwrap_or_default());
    parts.fold(outermost, |path, part| path.join(SEPARATOR).join(part))
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    entries.map(|entry| entry.path()).collect()
}

/// The names of the groups of containers in a directory.
pub(super) fn names(path: &Path) -> Vec<String> {
    let name = |path: PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    directories(path).into_iter().filter_map(name).collect()
}

/// The names of the nested containers that have groups below a container's.
pub(super) fn nested(directory: &Path) -> Vec<String> {
    names(&directory.join(SEPARATOR))
}

fn processes_of(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The processes of a group and of all below it.
pub(super) fn processes(directory: &Path) -> Vec<i32> {
    let below = directories(directory).into_iter().flat_map(|path| processes(&path));
    processes_of(directory).into_iter().chain(below).collect()
}

/// Puts a process into a group.
pub(super) fn enter(directory: &Path, pid: i32) -> io::Result<()> {
    let leaf = directory.join(LEAF);
    let write = |path: &Path| fs::write(path.join("cgroup.procs"), pid.to_string());
    if leaf.is_dir() {
        return write(&leaf);
    }
    match write(directory) {
        // It was split just now.
        Err(error) if is_busy(&error) && leaf.is_dir() => write(&leaf),
        other => other,
    }
}

/// Prepares a group of version 2 for limited ones below it: its processes move into a leaf.
pub(super) fn split(directory: &Path, controllers: &str) -> io::Result<()> {
    let (leaf, below) = (directory.join(LEAF), directory.join(SEPARATOR));
    fs::create_dir_all(&leaf).map_err(named(&leaf))?;
    let control = directory.join("cgroup.subtree_control");
    let deadline = Instant::now() + ENDING;
    loop {
        for pid in processes_of(directory) {
            // It may have ended.
            let _ = enter(directory, pid);
        }
        match fs::write(&control, controllers) {
            Ok(()) => break,
            // Processes came to be meanwhile.
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(named(&control)(error)),
        }
    }
    fs::create_dir_all(&below).map_err(named(&below))?;
    let control = below.join("cgroup.subtree_control");
    write(&control, controllers)
}

/// Removes a group without processes and all below it.
pub(super) fn remove(directory: &Path, deadline: Instant) {
    for path in directories(directory) {
        remove(&path, deadline);
    }
    while fs::remove_dir(directory).is_err_and(|error| is_busy(&error)) {
        if Instant::now() >= deadline {
            tracing::warn!(path = %directory.display(), "still in use: not removed");
            break;
        }
        std::thread::sleep(PAUSE);
    }
}
