//! Images for the mesos containerizer, without Docker (`slave/containerizer/mesos/provisioner`): brought from a registry
//! or from files, kept, and made the root of a container.
//!
//! `<work_dir>/provisioner/containers/<container>[/containers/<nested>…]` is what a container has of images: their
//! roots, and in `layers` which layers these need. All of it goes with the container.

mod archive;
pub mod backend;
mod layer;
pub mod reference;
pub mod registry;
pub mod spec;
pub mod store;
mod zstd;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesos::v1;
use mesos::v1::image;

use super::view::Tree;
use crate::checkpoint;
use backend::Backend;
use reference::Reference;
use registry::Credentials;
use spec::Runtime;
use store::{Origin, Store};

/// Makes roots of containers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provisioner {
    store: Arc<Store>,
    /// `<work_dir>/provisioner`.
    directory: PathBuf,
    backend: Backend,
    /// Read while a container comes to need layers, written while others are removed.
    removing: Arc<tokio::sync::RwLock<()>>,
}

/// An image made ready for one container.
#[derive(Debug, Clone)]
pub struct Provisioned {
    /// Its files.
    pub tree: Tree,
    /// What runs in it.
    pub runtime: Runtime,
}

impl Provisioner {
    /// One whose store is in `store`, for an agent with this work directory.
    ///
    /// # Errors
    /// What the system says of the store.
    pub fn new(
        store: &Path,
        origin: Origin,
        backend: Backend,
        work_dir: &Path,
    ) -> Result<Self, String> {
        Ok(Self {
            store: Arc::new(Store::open(store, origin, backend)?),
            directory: work_dir.join("provisioner"),
            backend,
            removing: Arc::default(),
        })
    }

    /// Where images are kept.
    pub fn store(&self) -> &Path {
        self.store.directory()
    }

    /// What a container has of images; its id names its parents, with points between.
    fn container(&self, id: &str) -> PathBuf {
        id.split('.').fold(self.directory.clone(), |path, id| path.join("containers").join(id))
    }

    /// Makes an image ready for a container.
    ///
    /// # Errors
    /// What is wrong with it, or with where it comes from.
    pub async fn provision(
        &self,
        container: &str,
        image: &v1::Image,
    ) -> Result<Provisioned, String> {
        let docker = image.docker.as_ref().filter(|_| image.r#type() == image::Type::Docker);
        let docker = docker.ok_or("Unsupported container image type: only DOCKER is supported")?;
        let reference = Reference::parse(&docker.name)?;
        let secret = docker.config.as_ref().map(super::secrets::resolve).transpose()?;
        let credentials = secret
            .map(|content| Credentials::parse(&content))
            .transpose()
            .map_err(|reason| format!("The image's 'config': {reason}"))?;
        let removing = self.removing.read().await;
        let image = self.store.get(&reference, image.cached(), credentials.as_ref()).await?;
        let directory = self.container(container);
        let noted = directory.join("layers");
        let mut names: BTreeSet<String> = lines(&noted).collect();
        names.extend(image.layers.iter().map(|own| own.hex().to_owned()));
        let text = names.into_iter().collect::<Vec<_>>().join("\n");
        fs::create_dir_all(&directory)
            .and_then(|()| checkpoint::replace(&noted, text.as_bytes()))
            .map_err(|error| format!("{}: {error}", noted.display()))?;
        drop(removing);
        let layers = image.layers.iter().map(|own| self.store.layer(own)).collect();
        let (backend, id) = (self.backend, uuid::Uuid::new_v4().to_string());
        let made = tokio::task::spawn_blocking(move || backend.provision(layers, &directory, &id));
        let tree = made.await.map_err(|error| error.to_string())??;
        Ok(Provisioned { tree, runtime: image.runtime })
    }

    /// Removes what a container that has ended had of images.
    pub fn destroy(&self, container: &str) {
        remove(self.container(container));
    }

    /// Where is what containers had that nobody knows any more.
    pub fn strays(&self, known: &BTreeSet<String>) -> Vec<PathBuf> {
        let is_stray = |path: &PathBuf| {
            let id = id_of(&self.directory, path);
            let is_needed = |own: &String| *own == id || own.starts_with(&format!("{id}."));
            !known.iter().any(is_needed)
        };
        containers_in(&self.directory).into_iter().filter(is_stray).collect()
    }

    /// Removes all images but those that containers need and those that are to stay.
    ///
    /// # Errors
    /// What the system says.
    pub async fn prune(&self, kept: &[v1::Image]) -> Result<(), String> {
        let names = kept.iter().filter_map(|own| own.docker.as_ref());
        let names = names.map(|own| Ok(Reference::parse(&own.name)?.to_string()));
        let names = names.collect::<Result<Vec<_>, String>>()?;
        let _removing = self.removing.write().await;
        let (store, directory) = (self.store.clone(), self.directory.clone());
        let pruned = tokio::task::spawn_blocking(move || {
            let containers = containers_in(&directory);
            let needed = containers.iter().flat_map(|path| lines(&path.join("layers"))).collect();
            store.prune(&names, &needed)
        });
        pruned.await.map_err(|error| error.to_string())?
    }
}

fn lines(path: &Path) -> impl Iterator<Item = String> + use<> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The directories of all containers, nested ones after those that they are in.
fn containers_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("containers")).into_iter().flatten().flatten();
    let own: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    own.into_iter()
        .flat_map(|path| {
            let below = containers_in(&path);
            std::iter::once(path).chain(below)
        })
        .collect()
}

fn id_of(directory: &Path, container: &Path) -> String {
    let relative = container.strip_prefix(directory).unwrap_or(container);
    let names =
        relative.iter().map(|name| name.to_string_lossy()).filter(|name| name != "containers");
    names.collect::<Vec<_>>().join(".")
}

/// Removes a directory, if it is there.
pub(super) fn remove(path: impl AsRef<Path>) {
    let path = path.as_ref();
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "not removed");
        }
        _ => {}
    }
}
