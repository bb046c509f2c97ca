//! The documents of `repodata`.

use super::record::{FileKind, Record, Relation};
use super::xml::Xml;

const COMMON: (&str, &str) = ("xmlns", "http://linux.duke.edu/metadata/common");
const RPM: (&str, &str) = ("xmlns:rpm", "http://linux.duke.edu/metadata/rpm");
const FILELISTS: (&str, &str) = ("xmlns", "http://linux.duke.edu/metadata/filelists");
const OTHER: (&str, &str) = ("xmlns", "http://linux.duke.edu/metadata/other");
const REPO: (&str, &str) = ("xmlns", "http://linux.duke.edu/metadata/repo");

/// `primary.xml`: what each package is, provides and requires, and the paths that others may require.
pub(super) fn primary(records: &[Record]) -> String {
    let mut xml = Xml::new();
    xml.open("metadata", &[COMMON, RPM, ("packages", &records.len().to_string())]);
    for record in records {
        xml.open("package", &[("type", "rpm")]);
        xml.element("name", &[], &record.name);
        xml.element("arch", &[], &record.architecture);
        version(&mut xml, record);
        xml.element("checksum", &[("type", "sha256"), ("pkgid", "YES")], &record.checksum);
        xml.element("summary", &[], &record.summary);
        xml.element("description", &[], &record.description);
        xml.element("packager", &[], &record.packager);
        xml.empty("url", &[]);
        let time = record.build_time.to_string();
        xml.empty("time", &[("file", &time), ("build", &time)]);
        xml.empty(
            "size",
            &[
                ("package", &record.package_size.to_string()),
                ("installed", &record.installed_size.to_string()),
                ("archive", &record.installed_size.to_string()),
            ],
        );
        xml.empty("location", &[("href", &record.file_name)]);
        format(&mut xml, record);
        xml.close();
    }
    xml.finish()
}

fn version(xml: &mut Xml, record: &Record) {
    let evr = &record.evr;
    xml.empty("version", &[("epoch", &evr.epoch), ("ver", &evr.version), ("rel", &evr.release)]);
}

fn format(xml: &mut Xml, record: &Record) {
    xml.open("format", &[]);
    xml.element("rpm:license", &[], &record.license);
    xml.element("rpm:vendor", &[], &record.vendor);
    xml.element("rpm:group", &[], &record.group);
    xml.element("rpm:buildhost", &[], &record.build_host);
    xml.empty("rpm:sourcerpm", &[]);
    let (start, end) = record.header_range;
    xml.empty("rpm:header-range", &[("start", &start.to_string()), ("end", &end.to_string())]);
    relations(xml, "rpm:provides", &record.provides);
    relations(xml, "rpm:requires", &record.requires);
    relations(xml, "rpm:conflicts", &record.conflicts);
    relations(xml, "rpm:obsoletes", &record.obsoletes);
    for (path, kind) in record.files.iter().filter(|(path, _)| is_primary(path)) {
        file(xml, path, *kind);
    }
    xml.close();
}

fn relations(xml: &mut Xml, name: &'static str, relations: &[Relation]) {
    if relations.is_empty() {
        return;
    }
    xml.open(name, &[]);
    for relation in relations {
        let mut attributes = vec![("name", relation.name.as_str())];
        if let Some((comparison, evr)) = &relation.version {
            attributes.extend([
                ("flags", *comparison),
                ("epoch", &evr.epoch),
                ("ver", &evr.version),
            ]);
            if !evr.release.is_empty() {
                attributes.push(("rel", &evr.release));
            }
        }
        if relation.before_install && name == "rpm:requires" {
            attributes.push(("pre", "1"));
        }
        xml.empty("rpm:entry", &attributes);
    }
    xml.close();
}

/// Paths that clients expect to find in `primary`, without fetching `filelists`.
fn is_primary(path: &str) -> bool {
    path.starts_with("/etc/") || path.contains("bin/") || path == "/usr/lib/sendmail"
}

fn file(xml: &mut Xml, path: &str, kind: FileKind) {
    match kind {
        FileKind::Plain => xml.element("file", &[], path),
        FileKind::Directory => xml.element("file", &[("type", "dir")], path),
        FileKind::Ghost => xml.element("file", &[("type", "ghost")], path),
    }
}

/// `filelists.xml`: every path.
pub(super) fn filelists(records: &[Record]) -> String {
    let mut xml = Xml::new();
    xml.open("filelists", &[FILELISTS, ("packages", &records.len().to_string())]);
    for record in records {
        open_package(&mut xml, record);
        for (path, kind) in &record.files {
            file(&mut xml, path, *kind);
        }
        xml.close();
    }
    xml.finish()
}

/// `other.xml`: change logs. Ours are in CHANGELOG.md.
pub(super) fn other(records: &[Record]) -> String {
    let mut xml = Xml::new();
    xml.open("otherdata", &[OTHER, ("packages", &records.len().to_string())]);
    for record in records {
        open_package(&mut xml, record);
        xml.close();
    }
    xml.finish()
}

fn open_package(xml: &mut Xml, record: &Record) {
    xml.open(
        "package",
        &[("pkgid", &record.checksum), ("name", &record.name), ("arch", &record.architecture)],
    );
    version(xml, record);
}

/// One of the documents, as `repomd.xml` names it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) kind: &'static str,
    pub(super) location: String,
    /// SHA-256 of the compressed document, in hexadecimal.
    pub(super) checksum: String,
    /// SHA-256 of the document.
    pub(super) open_checksum: String,
    /// Bytes of the compressed document.
    pub(super) size: usize,
    /// Bytes of the document.
    pub(super) open_size: usize,
}

/// `repomd.xml`: the documents with their checksums.
pub(super) fn repomd(parts: &[Part], source_date: u32) -> String {
    let time = source_date.to_string();
    let mut xml = Xml::new();
    xml.open("repomd", &[REPO, RPM]);
    xml.element("revision", &[], &time);
    for part in parts {
        xml.open("data", &[("type", part.kind)]);
        xml.element("checksum", &[("type", "sha256")], &part.checksum);
        xml.element("open-checksum", &[("type", "sha256")], &part.open_checksum);
        xml.empty("location", &[("href", &part.location)]);
        xml.element("timestamp", &[], &time);
        xml.element("size", &[], &part.size.to_string());
        xml.element("open-size", &[], &part.open_size.to_string());
        xml.close();
    }
    xml.finish()
}
