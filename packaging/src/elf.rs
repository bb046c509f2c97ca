//! What a program needs of the host that it runs on: libraries, their symbol versions, an interpreter.
//!
//! [`Needs::requirements`] words them as rpmbuild does (`libc.so.6(GLIBC_2.17)(64bit)`), so that a host that is too old refuses the
//! package instead of the program. [`Needs::faults`] says what CentOS 7 would not have.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use object::LittleEndian;
use object::elf::{DT_GNU_HASH, DT_HASH, DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _};

/// Libraries that every glibc host has.
pub const KNOWN_LIBRARIES: &[&str] = &[
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
];

/// The newest glibc that a program may need: CentOS 7's.
pub const GLIBC_MAX: (u32, u32) = (2, 17);

/// What one ELF file needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Names of libraries.
    pub libraries: BTreeSet<String>,
    /// Symbol versions, as (library, version).
    pub versions: BTreeSet<(String, String)>,
    /// Whether it has only the GNU form of the symbol hash table.
    pub gnu_hash_only: bool,
    /// Search paths that are built in; there should be none.
    pub search_paths: Vec<String>,
}

impl Needs {
    /// Reads a 64-bit little-endian ELF file; anything else needs nothing.
    ///
    /// # Errors
    /// When the file says that it is ELF and then isn't well formed.
    pub fn of(content: &[u8]) -> Result<Self> {
        if !content.starts_with(b"\x7fELF") {
            return Ok(Self::default());
        }
        let file = ElfFile64::<LittleEndian>::parse(content).context("not a 64-bit ELF file")?;
        let endian = file.elf_header().endian().context("ELF header")?;
        let sections = file.elf_section_table();
        let mut needs = Self::default();
        let mut hashes = (false, false);
        if let Some((entries, link)) =
            sections.dynamic(endian, content).context("dynamic section")?
        {
            let strings = sections.strings(endian, content, link).context("dynamic strings")?;
            for entry in entries {
                let text = || -> Result<String> {
                    let bytes = entry.string(endian, strings).context("dynamic string")?;
                    Ok(String::from_utf8_lossy(bytes).into_owned())
                };
                match entry.tag(endian) {
                    DT_NEEDED => {
                        let _new = needs.libraries.insert(text()?);
                    }
                    DT_RPATH | DT_RUNPATH => needs.search_paths.push(text()?),
                    DT_GNU_HASH => hashes.0 = true,
                    DT_HASH => hashes.1 = true,
                    _ => {}
                }
            }
        }
        needs.gnu_hash_only = hashes == (true, false);
        if let Some((mut files, link)) =
            sections.gnu_verneed(endian, content).context("version needs")?
        {
            let strings = sections.strings(endian, content, link).context("version strings")?;
            while let Some((library, mut versions)) = files.next().context("version needs")? {
                let library = library.file(endian, strings).context("version needs")?;
                let library = String::from_utf8_lossy(library).into_owned();
                while let Some(version) = versions.next().context("version needs")? {
                    let version = version.name(endian, strings).context("version needs")?;
                    let version = String::from_utf8_lossy(version).into_owned();
                    let _new = needs.versions.insert((library.clone(), version));
                }
            }
        }
        Ok(needs)
    }

    /// The requirements that rpmbuild would generate.
    #[must_use]
    pub fn requirements(&self) -> BTreeSet<String> {
        let libraries = self.libraries.iter().map(|library| format!("{library}()(64bit)"));
        let versions =
            self.versions.iter().map(|(library, version)| format!("{library}({version})(64bit)"));
        let hash = self.gnu_hash_only.then(|| "rtld(GNU_HASH)".to_owned());
        libraries.chain(versions).chain(hash).collect()
    }

    /// The newest glibc that symbols are needed of.
    #[must_use]
    pub fn glibc(&self) -> Option<(u32, u32)> {
        self.versions.iter().filter_map(|(_, version)| glibc_version(version)).max()
    }

    /// What CentOS 7 does not have, in words.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for library in &self.libraries {
            if !KNOWN_LIBRARIES.contains(&library.as_str()) {
                faults
                    .push(format!("needs the library {library}, which a base system may not have"));
            }
        }
        for (library, version) in &self.versions {
            match glibc_version(version) {
                Some(found) if found <= GLIBC_MAX => {}
                Some(_) => faults.push(format!(
                    "needs {version} of {library}, newer than GLIBC_{}.{}",
                    GLIBC_MAX.0, GLIBC_MAX.1
                )),
                None => faults.push(format!("needs {version} of {library}, which is not glibc's")),
            }
        }
        faults.extend(
            self.search_paths.iter().map(|path| format!("has a search path built in: {path}")),
        );
        faults
    }
}

/// `GLIBC_2.3.4` is (2, 3): the last number never decides between hosts that we support.
fn glibc_version(name: &str) -> Option<(u32, u32)> {
    let mut numbers = name.strip_prefix("GLIBC_")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needing(version: &str, library: &str) -> Needs {
        Needs {
            libraries: BTreeSet::from([library.to_owned()]),
            versions: BTreeSet::from([(library.to_owned(), version.to_owned())]),
            ..Needs::default()
        }
    }

    #[test]
    fn what_centos_7_lacks_is_a_fault() {
        assert_eq!(needing("GLIBC_2.17", "libc.so.6").faults(), Vec::<String>::new());
        assert_eq!(needing("GLIBC_2.2.5", "libpthread.so.0").faults(), Vec::<String>::new());
        for (version, library) in [
            ("GLIBC_2.18", "libc.so.6"),
            ("GLIBC_2.100", "libc.so.6"),
            ("GLIBC_PRIVATE", "libc.so.6"),
            ("GLIBCXX_3.4", "libstdc++.so.6"),
        ] {
            assert!(!needing(version, library).faults().is_empty(), "{version}");
        }
    }

    #[test]
    fn this_very_test_program_needs_libc() {
        let path = std::env::current_exe().expect("a path");
        let needs = Needs::of(&std::fs::read(path).expect("its bytes")).expect("ELF");
        assert!(needs.libraries.contains("libc.so.6"), "{needs:?}");
        assert!(needs.glibc().is_some_and(|version| (2, 2) <= version), "{needs:?}");
        assert!(
            needs.requirements().iter().any(|name| name.starts_with("libc.so.6(GLIBC_2.")),
            "{needs:?}"
        );
    }

    #[test]
    fn scripts_need_nothing_and_broken_files_are_errors() {
        assert_eq!(Needs::of(b"#!/bin/sh\n").expect("no ELF"), Needs::default());
        assert!(Needs::of(b"\x7fELF\x02\x01\x01garbage").is_err());
    }
}
