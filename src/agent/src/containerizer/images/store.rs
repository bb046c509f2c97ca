//! Images that are kept: their unpacked layers, each once, and which images they make up
//! (`provisioner/docker/store.cpp`, `metadata_manager.cpp`).
//!
//! `layers/<digest>/rootfs` is a layer as it came, `rootfs.overlay` one for overlayfs; `staging` is what is being
//! brought; `images.json` names the images. A layer is named by what it hashes to unpacked, and verified.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::super::at;
use super::archive::{self, Brought, Pulled};
use super::backend::Backend;
use super::layer;
use super::reference::Reference;
use super::registry::{Credentials, Registry};
use super::spec::{Digest, Runtime};
use crate::checkpoint;

/// Where images come from (`--docker_registry`).
#[derive(Debug, Clone)]
pub enum Origin {
    /// A directory of archives.
    Directory(PathBuf),
    /// A registry.
    Registry(Registry),
}

/// An image that is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Image {
    /// Its layers, lowest first.
    pub(super) layers: Vec<Digest>,
    /// What runs in it.
    pub(super) runtime: Runtime,
}

/// All images that are there.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    origin: Origin,
    backend: Backend,
    images: Mutex<BTreeMap<String, Image>>,
    /// Images that are being brought: who wants the same waits.
    pulling: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A directory that is removed with this value.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "not removed");
        }
    }
}

impl Store {
    /// Opens the store in `directory`, of which nothing needs to be there.
    pub(super) fn open(directory: &Path, origin: Origin, backend: Backend) -> Result<Self, String> {
        let staging = directory.join("staging");
        // What an agent before did not finish.
        let _ = fs::remove_dir_all(&staging);
        for path in [&staging, &directory.join("layers")] {
            fs::create_dir_all(path).map_err(at(path))?;
        }
        let path = directory.join("images.json");
        let images = match fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "unreadable: images are brought anew");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(at(&path)(error)),
        };
        Ok(Self {
            directory: directory.to_owned(),
            origin,
            backend,
            images: Mutex::new(images),
            pulling: Mutex::default(),
        })
    }

    /// Where a layer is.
    pub(super) fn layer(&self, digest: &Digest) -> PathBuf {
        self.directory.join("layers").join(digest.hex()).join(self.backend.layer_name())
    }

    /// The directory of it all, for who looks at how full the disk is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn known(&self, name: &str) -> Option<Image> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let found = images.get(name)?;
        found.layers.iter().all(|own| self.layer(own).is_dir()).then(|| found.clone())
    }

    /// An image, brought if it is not there, or not to be taken from here.
    pub(super) async fn get(
        self: &Arc<Self>,
        reference: &Reference,
        is_cached: bool,
        credentials: Option<&Credentials>,
    ) -> Result<Image, String> {
        let name = reference.to_string();
        let turn = {
            let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
            pulling.retain(|_, turn| Arc::strong_count(turn) > 1);
            pulling.entry(name.clone()).or_default().clone()
        };
        let _turn = turn.lock().await;
        if let Some(image) = self.known(&name).filter(|_| is_cached) {
            return Ok(image);
        }
        tracing::info!(image = name, "image to be brought");
        let path = self.directory.join("staging").join(uuid::Uuid::new_v4().to_string());
        fs::create_dir(&path).map_err(at(&path))?;
        let staging = Staging(path);
        let pulled = match &self.origin {
            Origin::Registry(registry) => {
                let is_there = |digest: &Digest| self.layer(digest).is_dir();
                registry.pull(reference, credentials, &staging.0, is_there).await?
            }
            Origin::Directory(directory) => {
                let (directory, reference) = (directory.clone(), reference.clone());
                let to = staging.0.clone();
                blocking(move || archive::pull(&directory, &reference, &to)).await?
            }
        };
        let store = self.clone();
        // It goes on when nobody waits any more: what it writes to must be there until then.
        let image = blocking(move || store.take(pulled, &staging)).await?;
        self.change(|images| {
            images.insert(name, image.clone());
        })?;
        Ok(image)
    }

    fn take(&self, pulled: Pulled, staging: &Staging) -> Result<Image, String> {
        let (brought, runtime) = pulled;
        if brought.is_empty() {
            return Err("The image has no layers".to_owned());
        }
        let each = brought.into_iter().enumerate();
        let layers = each.map(|(index, own)| self.unpack(index, own, staging));
        Ok(Image { layers: layers.collect::<Result<_, _>>()?, runtime })
    }

    fn unpack(&self, index: usize, own: Brought, staging: &Staging) -> Result<Digest, String> {
        let there = own.digest.as_ref().filter(|digest| self.layer(digest).is_dir());
        let file = match (there, own.file) {
            (Some(digest), _) => return Ok(digest.clone()),
            (None, Some(file)) => file,
            (None, None) => return Err(format!("Layer {index} has gone while it was needed")),
        };
        let directory = staging.0.join(format!("{index}.layer"));
        let failed = |error: io::Error| format!("Failed to unpack layer {index}: {error}");
        fs::create_dir(&directory).map_err(failed)?;
        let digest = layer::unpack(&file, &directory).map_err(failed)?;
        if let Some(expected) = own.digest.filter(|expected| *expected != digest) {
            return Err(format!("Layer {index} is {digest} instead of {expected}"));
        }
        if self.backend == Backend::Overlay {
            layer::convert(&directory).map_err(failed)?;
        }
        let target = self.layer(&digest);
        if !target.is_dir() {
            let parent = target.parent().map(fs::create_dir_all);
            parent
                .unwrap_or(Ok(()))
                .and_then(|()| fs::rename(&directory, &target))
                .map_err(failed)?;
        }
        // It is not needed until the last of the others is unpacked.
        let _ = fs::remove_file(&file);
        Ok(digest)
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Image>)) -> Result<(), String> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = images.clone();
        change(&mut changed);
        let content = serde_json::to_vec(&changed).map_err(|error| error.to_string())?;
        let path = self.directory.join("images.json");
        checkpoint::replace(&path, &content).map_err(at(&path))?;
        *images = changed;
        Ok(())
    }

    /// Forgets all images but those named, and removes layers that neither these nor a container need.
    pub(super) fn prune(&self, kept: &[String], needed: &BTreeSet<String>) -> Result<(), String> {
        self.change(|images| images.retain(|name, _| kept.contains(name)))?;
        let mut needed = needed.clone();
        {
            let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            needed.extend(
                images.values().flat_map(|own| &own.layers).map(|own| own.hex().to_owned()),
            );
        }
        let layers = self.directory.join("layers");
        for entry in fs::read_dir(&layers).map_err(at(&layers))?.flatten() {
            if needed.contains(&*entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            tracing::info!(path = %path.display(), "layer removed");
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(format!("it was not done: {error}")))
}
