//! How a container gets the files of an image (`provisioner/backends`): its own copy, or layers under a directory of its
//! own, by overlayfs.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::view::Tree;
use super::layer;

/// `--image_provisioner_backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A copy of all files.
    Copy,
    /// Layers by overlayfs.
    Overlay,
}

impl Backend {
    /// Reads the flag; without it, overlayfs where the kernel has it.
    ///
    /// # Errors
    /// When there is no such backend here.
    pub fn choose(name: Option<&str>) -> Result<Self, String> {
        let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let has_overlay = systems.lines().any(|line| line.trim_end().ends_with("\toverlay"));
        match name {
            Some("copy") => Ok(Self::Copy),
            Some("overlay") if has_overlay => Ok(Self::Overlay),
            Some("overlay") => Err("this kernel has no overlayfs".to_owned()),
            Some(name @ ("aufs" | "bind")) => Err(format!(
                "the backend '{name}' is not supported by this agent: there are copy and overlay"
            )),
            Some(name) => Err(format!("unknown backend '{name}': there are copy and overlay")),
            None if has_overlay => Ok(Self::Overlay),
            None => Ok(Self::Copy),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Overlay => "overlay",
        }
    }

    /// The directory of a layer's files in the store.
    pub(super) fn layer_name(self) -> &'static str {
        match self {
            Self::Copy => "rootfs",
            Self::Overlay => "rootfs.overlay",
        }
    }

    /// Makes a root of layers, lowest first, below `directory`, under the name `id`.
    pub(super) fn provision(
        self,
        layers: Vec<PathBuf>,
        directory: &Path,
        id: &str,
    ) -> Result<Tree, String> {
        let own = directory.join("backends").join(self.name());
        let root = own.join("rootfses").join(id);
        let failed = |error: std::io::Error| format!("{}: {error}", root.display());
        fs::create_dir_all(&root).map_err(failed)?;
        match self {
            Self::Copy => {
                for from in &layers {
                    layer::lay(from, &root).map_err(failed)?;
                }
                Ok(Tree::Directory(root))
            }
            Self::Overlay => {
                let scratch = own.join("scratch").join(id);
                for name in ["upperdir", "workdir", "links"] {
                    fs::create_dir_all(scratch.join(name)).map_err(failed)?;
                }
                Ok(Tree::Layers { lower: layers, scratch, root })
            }
        }
    }
}
