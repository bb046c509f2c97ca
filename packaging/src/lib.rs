//! How Meso gets onto hosts: RPMs made by any user without rpmbuild, and a yum repository of them.
//!
//! In the order in which data meets it: [`catalogue`] says what each package holds, as [`definition`]s; [`binaries`] finds the
//! built programs and [`elf`] reads what they need of a host; [`builder`] writes RPMs; [`repository`] describes them
//! for yum; [`check`] reads the finished files again and says what an old host would not take; [`units`] does so for systemd units.
//!
//! Invariants:
//! - What is built runs on CentOS 7: glibc 2.17, RPM 4.11, yum 3.4, systemd 219. [`check`] refuses anything else.
//! - The same binaries and the same `SOURCE_DATE_EPOCH` give the same bytes, whoever builds and wherever.
//! - What an operator edits is `%config(noreplace)`; what a daemon writes is never removed with its package.
//! - Scriptlets enable units on first install only, and start nothing.

pub mod binaries;
pub mod builder;
pub mod catalogue;
pub mod check;
pub mod definition;
pub mod elf;
pub mod repository;
pub mod scriptlets;
pub mod units;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Builds all packages, or those named in `only`, into `out`; their paths.
///
/// Earlier versions of a package are removed from `out` once the new one is there. The package `meso` brings the other packages along,
/// as they are in `out` by then.
///
/// # Errors
/// When a name is unknown, or a package can't be built.
pub fn build_all(
    build: &builder::Build,
    base_url: &str,
    only: &[String],
    out: &Path,
) -> Result<Vec<PathBuf>> {
    let mut packages = catalogue::daemons();
    packages.push(catalogue::release_package(base_url)?);
    let names: Vec<&str> = packages.iter().map(|package| package.name).chain(["meso"]).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("no package is named {unknown}; there are {}", names.join(", "));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut paths = Vec::new();
    for package in packages.iter().filter(|package| wanted(package.name)) {
        let path = build.write(package, out)?;
        remove_other_versions(package.name, &path, out)?;
        paths.push(path);
    }
    if wanted("meso") {
        let bundled: Vec<PathBuf> = repository::packages_in(out)?
            .into_iter()
            .filter(|path| {
                catalogue::daemons().iter().any(|package| is_package(path, package.name))
            })
            .collect();
        let package = catalogue::meso(&bundled)?;
        let path = build.write(&package, out)?;
        remove_other_versions(package.name, &path, out)?;
        paths.push(path);
    }
    Ok(paths)
}

/// Whether a path is `NAME-VERSION-RELEASE.ARCH.rpm`.
fn is_package(path: &Path, name: &str) -> bool {
    path.file_name()
        .and_then(|file_name| file_name.to_str())
        .and_then(|file_name| file_name.strip_suffix(".rpm")?.rsplitn(3, '-').nth(2))
        .is_some_and(|found| found == name)
}

fn remove_other_versions(name: &str, built: &Path, directory: &Path) -> Result<()> {
    for path in repository::packages_in(directory)? {
        if path != built && is_package(&path, name) {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_apart_by_their_whole_name() {
        let path = Path::new("target/rpms/mesosphere-zookeeper-3.8.4-100.0.1.0.x86_64.rpm");
        assert!(is_package(path, "mesosphere-zookeeper"));
        assert!(!is_package(path, "mesosphere"));
        assert!(!is_package(Path::new("meso.rpm"), "meso"));
    }
}
