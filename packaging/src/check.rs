//! Reads finished packages again and says what an old host would not take.

use std::path::Path;

use anyhow::{Context as _, Result};
use rpm::{CompressionType, Dependency, Package};

use crate::elf::Needs;
use crate::units;

/// Features of RPM that a package may ask for. All are in RPM 4.11.
pub const RPM_FEATURES: &[&str] =
    &["rpmlib(CompressedFileNames)", "rpmlib(FileDigests)", "rpmlib(PayloadFilesHavePrefix)"];

/// What CentOS 7 would not take of a package, in words; none if it's fine.
///
/// # Errors
/// When the file is no RPM.
pub fn faults(path: &Path) -> Result<Vec<String>> {
    let mut package = Package::open(path).with_context(|| path.display().to_string())?;
    package.decompress_payload().with_context(|| path.display().to_string())?;
    let mut faults = header_faults(&package).with_context(|| path.display().to_string())?;
    for file in package.files().with_context(|| path.display().to_string())? {
        let file = file.with_context(|| path.display().to_string())?;
        let name = file.metadata.path();
        let Some(content) = file.content() else { continue };
        let needs = Needs::of(content).with_context(|| name.display().to_string())?;
        faults
            .extend(needs.faults().into_iter().map(|fault| format!("{} {fault}", name.display())));
        if name.extension().is_some_and(|extension| extension == "service") {
            let text = String::from_utf8_lossy(content);
            faults.extend(
                units::faults(&text).into_iter().map(|fault| format!("{} {fault}", name.display())),
            );
        }
    }
    Ok(faults)
}

fn header_faults(package: &Package) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    if let Err(error) = package.verify_digests() {
        faults.push(format!("digests don't match: {error}"));
    }
    let metadata = &package.metadata;
    let compression = metadata.get_payload_compressor()?;
    if !matches!(compression, CompressionType::Gzip | CompressionType::Xz | CompressionType::None) {
        faults.push(format!("payload compressed with {compression}, which RPM 4.11 can't read"));
    }
    for Dependency { name, .. } in metadata.get_requires()? {
        if name.starts_with("rpmlib(") && !RPM_FEATURES.contains(&name.as_str()) {
            faults.push(format!("asks for {name}, which RPM 4.11 doesn't have"));
        }
        if name.starts_with('(') {
            faults.push(format!("has a boolean requirement, which RPM 4.11 can't read: {name}"));
        }
    }
    Ok(faults)
}
