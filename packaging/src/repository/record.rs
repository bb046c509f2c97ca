//! What repository metadata says of one package, read from its file.

use std::path::Path;

use anyhow::{Context as _, Result};
use rpm::{Dependency, DependencyFlags, FileFlags, FileType, PackageMetadata};

/// One package.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) file_name: String,
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) evr: Evr,
    /// SHA-256 of the file, in hexadecimal.
    pub(super) checksum: String,
    pub(super) summary: String,
    pub(super) description: String,
    pub(super) packager: String,
    pub(super) vendor: String,
    pub(super) group: String,
    pub(super) license: String,
    pub(super) build_host: String,
    /// Seconds since 1970.
    pub(super) build_time: u64,
    /// Bytes of the file.
    pub(super) package_size: u64,
    /// Bytes of what it installs.
    pub(super) installed_size: u64,
    /// Where the header is in the file: a client may fetch just that.
    pub(super) header_range: (u64, u64),
    pub(super) provides: Vec<Relation>,
    pub(super) requires: Vec<Relation>,
    pub(super) conflicts: Vec<Relation>,
    pub(super) obsoletes: Vec<Relation>,
    pub(super) files: Vec<(String, FileKind)>,
}

/// Epoch, version, release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Evr {
    pub(super) epoch: String,
    pub(super) version: String,
    pub(super) release: String,
}

/// A provided, required, … name with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) name: String,
    /// `EQ`, `LT`, … and what to compare with; none for any version.
    pub(super) version: Option<(&'static str, Evr)>,
    /// Whether it must be there before the package itself.
    pub(super) before_install: bool,
}

/// How metadata marks a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Plain,
    Directory,
    Ghost,
}

impl Record {
    /// Reads a package.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let metadata =
            PackageMetadata::parse(&mut bytes.as_slice()).context("not an RPM package")?;
        let file_name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("a file name that is not UTF-8")?
            .to_owned();
        let offsets = metadata.get_package_segment_offsets();
        let mut files = Vec::new();
        for entry in metadata.get_file_entries()? {
            let path = entry.path().to_str().context("a path that is not UTF-8")?.to_owned();
            let kind = if entry.flags().contains(FileFlags::GHOST) {
                FileKind::Ghost
            } else if entry.file_type() == FileType::Dir {
                FileKind::Directory
            } else {
                FileKind::Plain
            };
            files.push((path, kind));
        }
        let optional = |value: Result<&str, rpm::Error>| value.unwrap_or_default().to_owned();
        Ok(Self {
            name: metadata.get_name()?.to_owned(),
            architecture: metadata.get_arch()?.to_owned(),
            evr: Evr {
                epoch: metadata.get_epoch().unwrap_or_default().to_string(),
                version: metadata.get_version()?.to_owned(),
                release: metadata.get_release()?.to_owned(),
            },
            checksum: super::sha256(&bytes),
            summary: optional(metadata.get_summary()),
            description: optional(metadata.get_description()),
            packager: optional(metadata.get_packager()),
            vendor: optional(metadata.get_vendor()),
            group: optional(metadata.get_group()),
            license: optional(metadata.get_license()),
            build_host: optional(metadata.get_build_host()),
            build_time: metadata.get_build_time().unwrap_or_default(),
            package_size: bytes.len() as u64,
            installed_size: metadata.get_installed_size().unwrap_or_default(),
            header_range: (offsets.header, offsets.payload),
            provides: relations(metadata.get_provides()?),
            // RPM itself answers for its features, not a package.
            requires: relations(metadata.get_requires()?)
                .into_iter()
                .filter(|relation| !relation.name.starts_with("rpmlib("))
                .collect(),
            conflicts: relations(metadata.get_conflicts()?),
            obsoletes: relations(metadata.get_obsoletes()?),
            files,
            file_name,
        })
    }
}

fn relations(dependencies: Vec<Dependency>) -> Vec<Relation> {
    let mut relations: Vec<Relation> = Vec::new();
    for dependency in dependencies {
        let relation = Relation::of(dependency);
        if !relations.contains(&relation) {
            relations.push(relation);
        }
    }
    relations
}

impl Relation {
    fn of(dependency: Dependency) -> Self {
        let Dependency { name, flags, version } = dependency;
        let comparison = match flags
            & (DependencyFlags::LESS | DependencyFlags::GREATER | DependencyFlags::EQUAL)
        {
            DependencyFlags::LESS => Some("LT"),
            DependencyFlags::GREATER => Some("GT"),
            DependencyFlags::EQUAL => Some("EQ"),
            DependencyFlags::LE => Some("LE"),
            DependencyFlags::GE => Some("GE"),
            _ => None,
        };
        let before =
            DependencyFlags::PREREQ | DependencyFlags::SCRIPT_PRE | DependencyFlags::SCRIPT_POST;
        Self {
            name,
            version: comparison.map(|comparison| (comparison, Evr::parse(&version))),
            before_install: flags.intersects(before),
        }
    }
}

impl Evr {
    /// `[epoch:]version[-release]`.
    fn parse(text: &str) -> Self {
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let (version, release) = rest.split_once('-').unwrap_or((rest, ""));
        Self { epoch: epoch.to_owned(), version: version.to_owned(), release: release.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evr(epoch: &str, version: &str, release: &str) -> Evr {
        Evr { epoch: epoch.to_owned(), version: version.to_owned(), release: release.to_owned() }
    }

    #[test]
    fn versions_are_taken_apart() {
        assert_eq!(Evr::parse("1:2.0-3.el7"), evr("1", "2.0", "3.el7"));
        assert_eq!(Evr::parse("2.0-3"), evr("0", "2.0", "3"));
        assert_eq!(Evr::parse("2.0"), evr("0", "2.0", ""));
    }

    #[test]
    fn comparisons_have_the_names_that_yum_reads() {
        let relation = Relation::of(Dependency::greater_eq("bash", "4.2"));
        assert_eq!(relation.version, Some(("GE", evr("0", "4.2", ""))));
        assert!(!relation.before_install);
        let relation = Relation::of(Dependency::script_pre("/usr/sbin/useradd"));
        assert_eq!(relation.version, None);
        assert!(relation.before_install);
    }
}
