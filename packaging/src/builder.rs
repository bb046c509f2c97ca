//! From a definition to an RPM that RPM 4.11 reads, the same bytes every time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rpm::{
    BuildConfig, CompressionWithLevel, Dependency, DependencyFlags, FileOptions, PackageBuilder,
    Scriptlet,
};

use crate::binaries::Binaries;
use crate::catalogue;
use crate::definition::{Entry, Kind, Package, Requirement};
use crate::elf::Needs;

/// What is the same for all packages of one build.
#[derive(Debug, Clone)]
pub struct Build {
    /// The programs.
    pub binaries: Binaries,
    /// Seconds since 1970 that every time in a package is set to (`SOURCE_DATE_EPOCH`).
    pub source_date: u32,
}

/// The time in packages when nobody says another: the beginning of 2026.
pub const DEFAULT_SOURCE_DATE: u32 = 1_767_225_600;

/// Name of the build host that packages carry: the real one must not show, or builds would differ.
const BUILD_HOST: &str = "meso";
const PROJECT: &str = "Meso";
const LICENSE: &str = "ASL 2.0";
/// The interpreter of scriptlets. Named, because RPM 4.11 looks for the tag.
const SHELL: &str = "/bin/sh";

impl Build {
    /// Builds a package into a directory; its path there.
    ///
    /// # Errors
    /// When a program is missing, needs what CentOS 7 doesn't have, or the file can't be written.
    pub fn write(&self, package: &Package, directory: &Path) -> Result<PathBuf> {
        let built = self.build(package).with_context(|| format!("package {}", package.name))?;
        let file_name = format!(
            "{}-{}-{}.{}.rpm",
            package.name,
            package.version,
            package.release,
            package.architecture.name()
        );
        let path = directory.join(file_name);
        // Whole or not at all: others may read the directory.
        let unfinished = path.with_extension("rpm.unfinished");
        built.write_file(&unfinished).with_context(|| unfinished.display().to_string())?;
        std::fs::rename(&unfinished, &path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    fn build(&self, package: &Package) -> Result<rpm::Package> {
        let config = BuildConfig::v4()
            .compression(CompressionWithLevel::Gzip(9))
            .source_date(self.source_date);
        let mut builder = PackageBuilder::new(
            package.name,
            &package.version,
            LICENSE,
            package.architecture.name(),
            package.summary,
        );
        builder
            .using_config(config)
            .release(&package.release)
            .description(package.description)
            .vendor(PROJECT)
            .packager(PROJECT)
            .group("System Environment/Daemons")
            .build_host(BUILD_HOST);
        let mut needs = BTreeSet::new();
        for entry in &package.entries {
            self.add(&mut builder, entry, &mut needs).with_context(|| entry.path.clone())?;
        }
        for name in needs {
            builder.requires(Dependency {
                name,
                flags: DependencyFlags::FIND_REQUIRES,
                version: String::new(),
            });
        }
        for requirement in &package.requires {
            match requirement {
                Requirement::Name(name) => {
                    builder.requires(Dependency::any(name));
                }
                Requirement::BeforeInstall(name) => {
                    builder.requires(Dependency::script_pre(*name));
                }
                Requirement::AroundInstall(name) => {
                    builder.requires(Dependency::script_post(*name));
                    builder.requires(Dependency::script_preun(*name));
                }
            }
        }
        let scriptlet = |text: &String| Scriptlet::new(text).prog(vec![SHELL]);
        let scriptlets = &package.scriptlets;
        if let Some(text) = &scriptlets.before_install {
            builder.pre_install_script(scriptlet(text));
        }
        if let Some(text) = &scriptlets.after_install {
            builder.post_install_script(scriptlet(text));
        }
        if let Some(text) = &scriptlets.before_remove {
            builder.pre_uninstall_script(scriptlet(text));
        }
        if let Some(text) = &scriptlets.after_remove {
            builder.post_uninstall_script(scriptlet(text));
        }
        builder.build().context("writing the package")
    }

    fn add(
        &self,
        builder: &mut PackageBuilder,
        entry: &Entry,
        needs: &mut BTreeSet<String>,
    ) -> Result<()> {
        let file = || {
            FileOptions::new(&entry.path)
                .permissions(entry.mode)
                .user(entry.owner)
                .group(entry.owner)
        };
        match &entry.kind {
            Kind::Program(name) => {
                let content = self.binaries.read(name)?;
                let of_program = Needs::of(&content)?;
                let faults = of_program.faults();
                if !faults.is_empty() {
                    bail!("{name} {}; build it with: make rpm", faults.join("; "));
                }
                needs.extend(of_program.requirements());
                builder.with_file_contents(content, file())?;
            }
            Kind::File(content) => {
                builder.with_file_contents(content.clone(), file())?;
            }
            Kind::Printed { program, arguments, gzipped } => {
                let content = self.binaries.printed(program, arguments)?;
                let content = if *gzipped { catalogue::gzipped(&content)? } else { content };
                builder.with_file_contents(content, file())?;
            }
            Kind::Config(content) => {
                builder.with_file_contents(content.clone(), file().config().noreplace())?;
            }
            Kind::License(content) => {
                builder.with_file_contents(content.clone(), file().license())?;
            }
            Kind::Directory => {
                let directory = FileOptions::dir(&entry.path)
                    .permissions(entry.mode)
                    .user(entry.owner)
                    .group(entry.owner);
                builder.with_dir_entry(directory)?;
            }
            Kind::Link(target) => {
                builder.with_symlink(FileOptions::symlink(&entry.path, target))?;
            }
        }
        Ok(())
    }
}
