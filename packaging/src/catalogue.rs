//! The packages: what each holds and does.
//!
//! Names and paths are those of the originals' packages, so that the classic guide works as it stands.

mod marathon;
mod meso;
mod mesos;
mod release_package;
mod zookeeper;

use std::path::Path;

use anyhow::Result;

use crate::definition::{Architecture, Package};

pub(crate) use meso::gzipped;

/// The version of ZooKeeper that ours is compatible with.
pub const ZOOKEEPER_VERSION: &str = "3.8.4";
/// The version of Mesos that ours is compatible with.
pub const MESOS_VERSION: &str = "1.11.0";
/// The version of Marathon that ours is compatible with.
pub const MARATHON_VERSION: &str = "1.8.667";
/// Where the repository is unless said otherwise: a directory that `make repo`'s result can be copied to.
pub const DEFAULT_BASE_URL: &str = "file:///srv/meso/repo";

/// The release of every package that carries an original's version: `100.` and this project's own version.
///
/// A host that has both our repository and the originals' must not swing between them, so ours sorts after every release
/// of the same version there ever was (`1.11.0-2.0.1.el7`), and before any later version.
#[must_use]
pub fn release() -> String {
    format!("100.{}", env!("CARGO_PKG_VERSION"))
}

/// The packages that go onto hosts of a cluster, without the release package and `meso` itself.
#[must_use]
pub fn daemons() -> Vec<Package> {
    vec![zookeeper::package(), mesos::package(), marathon::package()]
}

/// The release package `mesosphere-el-repo`, which brings the repository's address.
///
/// # Errors
/// When the address is none that yum reads.
pub fn release_package(base_url: &str) -> Result<Package> {
    release_package::package(base_url)
}

/// The package `meso`: the command, its documents, and the packages in `rpms` for `meso bootstrap` to upload.
///
/// # Errors
/// When a package can't be read.
pub fn meso(rpms: &[impl AsRef<Path>]) -> Result<Package> {
    meso::package(rpms)
}

fn daemon(name: &'static str, version: &str) -> Package {
    Package {
        name,
        version: version.to_owned(),
        release: release(),
        architecture: Architecture::X86_64,
        summary: "",
        description: "",
        requires: Vec::new(),
        entries: Vec::new(),
        scriptlets: crate::definition::Scriptlets::default(),
    }
}
