//! Images in files: what `docker save` writes, of every age, and OCI's layout in a file of tar
//! (`provisioner/docker/local_puller.cpp`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::layer;
use super::reference::Reference;
use super::spec::{Config, Descriptor, Digest, Kind, Manifest, Runtime};

/// Bytes of a manifest or a configuration.
pub(super) const DOCUMENT_MAX: u64 = 8 << 20;

/// A layer that was brought.
#[derive(Debug)]
pub(super) struct Brought {
    /// The file of it; none if it was there already.
    pub(super) file: Option<PathBuf>,
    /// What it must hash to, unpacked; what nobody says is taken as it is.
    pub(super) digest: Option<Digest>,
}

/// An image that was brought: its layers, lowest first, and what runs in it.
pub(super) type Pulled = (Vec<Brought>, Runtime);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct OldLayer {
    parent: Option<String>,
    config: Option<Runtime>,
}

/// The content of an archive, in a directory of its own.
struct Content<'a>(&'a Path);

impl Content<'_> {
    /// A file in it. An archive may hold links: not ones that lead out.
    fn file(&self, name: &str) -> Result<PathBuf, String> {
        let named = |error: std::io::Error| format!("'{name}' of the archive: {error}");
        let path = self.0.join(name).canonicalize().map_err(named)?;
        if path.starts_with(self.0.canonicalize().map_err(named)?) && path.is_file() {
            Ok(path)
        } else {
            Err(format!("'{name}' is no file of the archive"))
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.file(name)?;
        let size = path.metadata().map_or(0, |found| found.len());
        if size > DOCUMENT_MAX {
            return Err(format!("'{name}' of the archive is too large: {size} bytes"));
        }
        fs::read(&path).map_err(|error| format!("'{name}' of the archive: {error}"))
    }

    fn has(&self, name: &str) -> bool {
        self.file(name).is_ok()
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let content = self.read(&format!("blobs/sha256/{}", digest.hex()))?;
        if Digest::of(&Sha256::digest(&content)) == *digest {
            Ok(content)
        } else {
            Err(format!("What the archive has as {digest} is something else"))
        }
    }

    /// As Docker has written since 1.10.
    fn saved(&self, reference: &Reference) -> Result<Pulled, String> {
        let all: Vec<Saved> = serde_json::from_slice(&self.read("manifest.json")?)
            .map_err(|error| format!("Failed to parse 'manifest.json': {error}"))?;
        let bare = Reference { registry: None, digest: None, ..reference.clone() };
        let names = [reference.to_string(), bare.to_string()]
            .map(|name| if reference.tag.is_some() { name } else { format!("{name}:latest") });
        let is_named =
            |own: &&Saved| own.repo_tags.iter().flatten().any(|name| names.contains(name));
        // One without a name was saved by its id.
        let only = || all.first().filter(|own| all.len() == 1 && own.repo_tags.is_none());
        let found = all.iter().find(is_named).or_else(only).ok_or_else(|| {
            format!("Repository '{}' does not exist in 'manifest.json'", reference.repository)
        })?;
        let config = Config::parse(&self.read(&found.config)?)?;
        let digests = config.layers();
        if digests.len() != found.layers.len() {
            return Err("The image's configuration is not the one of its layers".to_owned());
        }
        let layers = found.layers.iter().zip(digests).map(|(name, digest)| {
            Ok(Brought { file: Some(self.file(name)?), digest: Some(digest.clone()) })
        });
        Ok((layers.collect::<Result<_, String>>()?, config.into_runtime()))
    }

    /// As OCI lays it out.
    fn layout(&self) -> Result<Pulled, String> {
        let mut kind = Manifest::parse(&self.read("index.json")?)?;
        for _ in 0..2 {
            if let Kind::Index(Descriptor { digest, .. }) = &kind {
                kind = Manifest::parse(&self.blob(digest)?)?;
            }
        }
        let Kind::Image(config, layers) = kind else {
            return Err("'index.json' names no image".to_owned());
        };
        let config = Config::parse(&self.blob(&config.digest)?)?;
        let files = layers.iter().map(|own| {
            let file = self.file(&format!("blobs/sha256/{}", own.digest.hex()))?;
            Ok::<_, String>(Some(file))
        });
        let files = files.collect::<Result<Vec<_>, _>>()?;
        Ok((with_digests(files, &config)?, config.into_runtime()))
    }

    /// As Docker wrote before 1.10, and as the original reads it: layers name their parents.
    fn old(&self, reference: &Reference) -> Result<Pulled, String> {
        let all: BTreeMap<String, BTreeMap<String, String>> =
            serde_json::from_slice(&self.read("repositories")?)
                .map_err(|error| format!("Failed to parse 'repositories': {error}"))?;
        let qualified = reference
            .registry
            .as_ref()
            .map(|registry| format!("{registry}/{}", reference.repository))
            .unwrap_or_default();
        let repository = &reference.repository;
        let tags = all
            .get(repository)
            .or_else(|| all.get(&qualified))
            .ok_or_else(|| format!("Repository '{repository}' does not exist in 'repositories'"))?;
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let mut next = tags.get(tag).cloned();
        if next.is_none() {
            return Err(format!("Layer id '{tag}' is not found"));
        }
        let (mut layers, mut runtime) = (Vec::new(), None);
        while let Some(id) = next.filter(|id| !id.is_empty() && layers.len() <= 127) {
            let own: OldLayer = serde_json::from_slice(&self.read(&format!("{id}/json"))?)
                .map_err(|error| format!("Failed to parse manifest of layer '{id}': {error}"))?;
            let file = Some(self.file(&format!("{id}/layer.tar"))?);
            layers.push(Brought { file, digest: None });
            runtime.get_or_insert(own.config.unwrap_or_default());
            next = own.parent;
        }
        layers.reverse();
        Ok((layers, runtime.unwrap_or_default()))
    }
}

/// Layers with what they must hash to.
pub(super) fn with_digests(
    files: Vec<Option<PathBuf>>,
    config: &Config,
) -> Result<Vec<Brought>, String> {
    if files.len() != config.layers().len() {
        return Err("The image's configuration is not the one of its layers".to_owned());
    }
    let each = files.into_iter().zip(config.layers());
    Ok(each.map(|(file, digest)| Brought { file, digest: Some(digest.clone()) }).collect())
}

/// Finds the image `reference` in the archive `<directory>/<reference>.tar`, which is unpacked to `staging`.
///
/// # Errors
/// What is missing or wrong.
pub(super) fn pull(
    directory: &Path,
    reference: &Reference,
    staging: &Path,
) -> Result<Pulled, String> {
    let path = directory.join(format!("{reference}.tar"));
    if !path.is_file() {
        return Err(format!(
            "Failed to find archive for image '{reference}' at '{}'",
            path.display()
        ));
    }
    let content = staging.join("archive");
    let unpacked = fs::create_dir(&content).and_then(|()| layer::unpack(&path, &content));
    unpacked.map_err(|error| format!("Failed to untar '{}': {error}", path.display()))?;
    let content = Content(&content);
    if content.has("manifest.json") {
        content.saved(reference)
    } else if content.has("index.json") {
        content.layout()
    } else {
        content.old(reference)
    }
}
