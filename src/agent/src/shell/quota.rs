//! Disk quotas: how much containers keep in their sandboxes and volumes, looked at now and then (the original's `disk/du` isolator).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesos::units::Bytes;
use mesos::v1::task_status::Reason;
use tokio_util::sync::CancellationToken;

use super::actor::Handle;
use crate::containerizer::Problem;
use crate::core::DiskQuota;

/// What a directory and all below it take on the disk, in bytes. Links are not followed; a file with two names counts
/// once.
fn usage(directory: &Path) -> u64 {
    let (mut total, mut seen) = (0, BTreeSet::new());
    let mut waiting: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        // What goes away meanwhile takes nothing.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.nlink() > 1
            && !metadata.is_dir()
            && !seen.insert((metadata.dev(), metadata.ino()))
        {
            continue;
        }
        total += metadata.blocks() * 512;
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        }
    }
    total
}

/// Looks at sandboxes and volumes every `interval`; ends containers that take more than they may if `enforces`.
pub(super) fn watch(
    handle: Handle,
    interval: Duration,
    enforces: bool,
    shutdown: CancellationToken,
) {
    let interval = interval.max(Duration::from_millis(100));
    tokio::spawn(async move {
        while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let Some(quotas) = handle.look(|agent| agent.disk_quotas()).await else { return };
            let looked = tokio::task::spawn_blocking(move || {
                let look = |quota: DiskQuota| (usage(&quota.directory), quota);
                quotas.into_iter().map(look).collect::<Vec<_>>()
            });
            let found = looked.await.unwrap_or_default();
            handle
                .look(move |agent| {
                    agent.disk_use.clear();
                    for (used, quota) in &found {
                        let own = agent.disk_use.entry(quota.container.clone()).or_default();
                        own.add(quota, *used);
                    }
                    let found = found.into_iter().filter(|_| enforces);
                    for (used, quota) in found.filter(|(used, quota)| *used > quota.limit) {
                        let (used, limit) = (Bytes(used), Bytes(quota.limit));
                        let message = format!("Disk usage ({used}) exceeds quota ({limit})");
                        let reason = Reason::ContainerLimitationDisk;
                        let problem = Problem::limitation(reason, message, quota.resources);
                        agent.exceed(&quota.container, problem);
                    }
                })
                .await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_take_nothing_and_two_names_count_once() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let empty = usage(directory.path());
        fs::create_dir(path("d")).unwrap();
        fs::write(path("d/file"), vec![1; 256 << 10]).unwrap();
        let one = usage(directory.path());
        assert!(one >= empty + (256 << 10), "{one}");
        fs::hard_link(path("d/file"), path("again")).unwrap();
        std::os::unix::fs::symlink("/usr", path("link")).unwrap();
        assert!(usage(directory.path()) < one + (64 << 10));
        assert_eq!(usage(&path("none")), 0);
    }
}
