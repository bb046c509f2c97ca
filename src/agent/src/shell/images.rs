//! Images of the mesos containerizer: what an operator chose of them, and removing those that nobody needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mesos::flags::Values;
use mesos::json::{self, Dialect};
use mesos::v1;
use tokio_util::sync::CancellationToken;

use crate::containerizer::images::Provisioner;
use crate::containerizer::images::backend::Backend;
use crate::containerizer::images::registry::{Credentials, Registry};
use crate::containerizer::images::store::Origin;
use crate::containerizer::isolation::Isolation;

/// What an operator chose.
#[derive(Debug)]
pub(super) struct Images {
    store: PathBuf,
    origin: Origin,
    backend: Backend,
    /// `--image_gc_config`.
    collecting: Option<Collecting>,
}

/// When images are removed.
#[derive(Debug, Clone)]
pub(super) struct Collecting {
    /// The part of the disk that is to stay free.
    headroom: f64,
    interval: Duration,
    kept: Vec<v1::Image>,
}

/// Checks what an operator chose; nothing without `--image_providers`.
pub(super) fn check(values: &Values, isolation: &Isolation) -> anyhow::Result<Option<Images>> {
    let collecting = values.json("image_gc_config").map(|own| collecting(&own)).transpose();
    let collecting = collecting.context("--image_gc_config")?;
    let Some(providers) = values.text("image_providers").filter(|own| !own.is_empty()) else {
        ensure!(collecting.is_none(), "--image_gc_config needs --image_providers");
        return Ok(None);
    };
    for name in providers.split(',').map(str::trim) {
        ensure!(
            name.eq_ignore_ascii_case("docker"),
            "--image_providers: '{name}' is not supported by this agent: there is docker"
        );
    }
    for name in ["filesystem/linux", "docker/runtime"] {
        ensure!(isolation.has(name), "--image_providers needs --isolation={name}");
    }
    let registry = values.text("docker_registry").unwrap_or_default();
    let origin = if registry.starts_with('/') {
        ensure!(Path::new(registry).is_dir(), "--docker_registry: '{registry}' is no directory");
        Origin::Directory(registry.into())
    } else {
        let stall = values.duration("fetcher_stall_timeout").unwrap_or(Duration::from_secs(60));
        let registry = Registry::new(registry, credentials(values)?, stall);
        Origin::Registry(registry.map_err(|reason| anyhow::anyhow!("--docker_registry: {reason}"))?)
    };
    let store = PathBuf::from(values.text("docker_store_dir").unwrap_or_default());
    ensure!(store.is_absolute(), "--docker_store_dir: '{}' is no absolute path", store.display());
    let backend = Backend::choose(values.text("image_provisioner_backend"))
        .map_err(|reason| anyhow::anyhow!("--image_provisioner_backend: {reason}"))?;
    Ok(Some(Images { store, origin, backend, collecting }))
}

/// What registries are shown (`--docker_config`).
pub(super) fn credentials(values: &Values) -> anyhow::Result<Credentials> {
    let Some(own) = values.text("docker_config") else { return Ok(Credentials::default()) };
    let content = match own.strip_prefix("file://").unwrap_or(own) {
        path if path.starts_with('/') => {
            std::fs::read(path).with_context(|| format!("--docker_config: {path}"))?
        }
        json => json.as_bytes().to_vec(),
    };
    Credentials::parse(&content).map_err(|reason| anyhow::anyhow!("--docker_config: {reason}"))
}

/// The flags as `/flags` shows them: what holds passwords is left out.
pub(super) fn shown(values: Values) -> Values {
    match values.text("docker_config") {
        Some(own) if !own.starts_with('/') => values.showing("docker_config", "***"),
        _ => values,
    }
}

fn collecting(own: &serde_json::Value) -> anyhow::Result<Collecting> {
    let headroom = own["image_disk_headroom"].as_f64().unwrap_or(0.1);
    ensure!((0.0..=1.0).contains(&headroom), "'image_disk_headroom' must be between 0.0 and 1.0");
    let nanoseconds = own["image_disk_watch_interval"]["nanoseconds"].as_u64();
    let Some(nanoseconds) = nanoseconds.filter(|nanoseconds| *nanoseconds > 0) else {
        bail!("'image_disk_watch_interval' is missing: {{\"nanoseconds\": …}}")
    };
    let images = own["excluded_images"].as_array().into_iter().flatten();
    let kept = images.map(|image| json::from_slice(image.to_string().as_bytes(), Dialect::V1));
    Ok(Collecting {
        headroom,
        interval: Duration::from_nanos(nanoseconds),
        kept: kept.collect::<Result<_, _>>().context("'excluded_images'")?,
    })
}

/// Opens the store; images are removed from it when its disk is too full.
pub(super) fn open(
    images: Images,
    work_dir: &Path,
    shutdown: CancellationToken,
) -> anyhow::Result<(Provisioner, Vec<v1::Image>)> {
    let Images { store, origin, backend, collecting } = images;
    let provisioner = Provisioner::new(&store, origin, backend, work_dir)
        .map_err(|reason| anyhow::anyhow!("--docker_store_dir: {reason}"))?;
    tracing::info!(backend = backend.name(), store = %store.display(), "images without Docker");
    let kept = collecting.as_ref().map(|own| own.kept.clone()).unwrap_or_default();
    if let Some(own) = collecting {
        let provisioner = provisioner.clone();
        tokio::spawn(async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(own.interval)).await.is_some() {
                if !is_too_full(provisioner.store(), own.headroom) {
                    continue;
                }
                if let Err(reason) = provisioner.prune(&own.kept).await {
                    tracing::warn!(reason, "images not removed");
                }
            }
        });
    }
    Ok((provisioner, kept))
}

fn is_too_full(store: &Path, headroom: f64) -> bool {
    nix::sys::statvfs::statvfs(store).is_ok_and(|stat| {
        let (free, all) = (stat.blocks_available() as f64, stat.blocks() as f64);
        free < all * headroom
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn when_images_are_removed_is_read() {
        let own = collecting(&json!({
            "image_disk_headroom": 0.2, "image_disk_watch_interval": {"nanoseconds": 3_600_000_000_000_u64},
            "excluded_images": [{"type": "DOCKER", "docker": {"name": "busybox"}}],
        }))
        .unwrap();
        assert_eq!((own.headroom, own.interval), (0.2, Duration::from_secs(3600)));
        assert_eq!(own.kept[0].docker.as_ref().unwrap().name, "busybox");
        for wrong in [
            json!({}),
            json!({"image_disk_watch_interval": {"nanoseconds": 0}}),
            json!({"image_disk_headroom": 2, "image_disk_watch_interval": {"nanoseconds": 1}}),
        ] {
            assert!(collecting(&wrong).is_err(), "{wrong}");
        }
    }
}
