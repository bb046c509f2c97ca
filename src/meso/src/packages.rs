//! The packages that are brought along: which file is which, by its name `NAME-VERSION-RELEASE.ARCH.rpm`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::inventory::Roles;
use crate::problem::{Kind, Problem, Problems};

/// A package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Package's name.
    pub name: String,
    /// `VERSION-RELEASE`.
    pub version: String,
    /// Where the file is.
    pub path: PathBuf,
}

/// What a master gets.
pub const MASTER: &[&str] = &["mesosphere-zookeeper", "mesos", "marathon"];
/// What an agent gets.
pub const AGENT: &[&str] = &["mesos"];

/// Names of the packages that a host gets.
#[must_use]
pub fn of_roles(roles: Roles) -> &'static [&'static str] {
    if roles.master { MASTER } else { AGENT }
}

/// Where packages are unless said otherwise: beside the sources, else where the `meso` package keeps them.
#[must_use]
pub fn default_directory() -> PathBuf {
    let built = PathBuf::from("target/rpms");
    if built.is_dir() { built } else { PathBuf::from("/usr/share/meso/rpms") }
}

fn parse(path: &Path) -> Option<Package> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".rpm")?;
    let (rest, architecture) = stem.rsplit_once('.')?;
    if !matches!(architecture, "x86_64" | "noarch") {
        return None;
    }
    let mut parts = rest.rsplitn(3, '-');
    let (release, version, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Package {
        name: name.to_owned(),
        version: format!("{version}-{release}"),
        path: path.to_owned(),
    })
}

/// Whether a file begins as packages do.
fn is_rpm(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == [0xed, 0xab, 0xee, 0xdb]
}

/// The packages of a directory that these hosts need, by name.
///
/// # Errors
/// When the directory can't be read, or a package is missing, there twice, or no package; a missing package names the hosts
/// that need it.
pub fn find(
    directory: &Path,
    hosts: &[(&str, Roles)],
) -> Result<BTreeMap<String, Package>, Problems> {
    let next = "build them with `make rpm`, or give the directory that holds them to --packages";
    let entries = std::fs::read_dir(directory).map_err(|error| Problem {
        kind: Kind::Preflight,
        host: None,
        what: "the packages can't be read".to_owned(),
        why: format!("{}: {error}", directory.display()),
        next: next.to_owned(),
    })?;
    let mut found: BTreeMap<String, Vec<Package>> = BTreeMap::new();
    for package in entries.flatten().filter_map(|entry| parse(&entry.path())) {
        found.entry(package.name.clone()).or_default().push(package);
    }
    let mut problems = Vec::new();
    let mut packages = BTreeMap::new();
    for name in MASTER {
        let needing: Vec<&str> = hosts
            .iter()
            .filter(|(_, roles)| of_roles(*roles).contains(name))
            .map(|(host, _)| *host)
            .collect();
        if needing.is_empty() {
            continue;
        }
        let problem = |what: String, why: String, next: &str| {
            let host = Some(needing.join(", "));
            Problem { kind: Kind::Preflight, host, what, why, next: next.to_owned() }
        };
        match found.remove(*name).unwrap_or_default().as_slice() {
            [package] if is_rpm(&package.path) => {
                packages.insert((*name).to_owned(), package.clone());
            }
            [package] => problems.push(problem(
                format!("the package {name} can't be used"),
                format!("{} is not an RPM", package.path.display()),
                next,
            )),
            [] => problems.push(problem(
                format!("the package {name} is missing"),
                format!("there is no {name}-*.rpm in {}", directory.display()),
                next,
            )),
            several => problems.push(problem(
                format!("which package {name} to install is not clear"),
                several
                    .iter()
                    .map(|package| package.path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(" and "),
                "leave one of them in the directory",
            )),
        }
    }
    if problems.is_empty() { Ok(packages) } else { Err(Problems(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RPM: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

    #[test]
    fn files_are_told_apart_by_name() {
        let package =
            parse(Path::new("d/mesosphere-zookeeper-3.8.4-100.0.1.0.x86_64.rpm")).unwrap();
        assert_eq!(
            (package.name.as_str(), package.version.as_str()),
            ("mesosphere-zookeeper", "3.8.4-100.0.1.0")
        );
        for other in
            ["mesos.rpm", "mesos-1.rpm", "mesos-1.11.0-1.src.rpm", "mesos-1.11.0-1.x86_64.txt"]
        {
            assert_eq!(parse(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_hosts_that_need_it() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &[u8]| {
            std::fs::write(directory.path().join(name), content).unwrap()
        };
        let hosts = [
            ("h1", Roles { master: true, agent: false }),
            ("h2", Roles { master: false, agent: true }),
        ];
        let problems = |hosts: &[(&str, Roles)]| {
            find(directory.path(), hosts).err().map(|problems| {
                problems
                    .0
                    .iter()
                    .map(|p| format!("{}: {}", p.host.as_deref().unwrap_or_default(), p.what))
                    .collect::<Vec<_>>()
            })
        };
        put("mesos-1.11.0-100.x86_64.rpm", &RPM);
        put("marathon-1.8.667-100.x86_64.rpm", b"html");
        assert_eq!(
            problems(&hosts).unwrap(),
            [
                "h1: the package mesosphere-zookeeper is missing",
                "h1: the package marathon can't be used"
            ]
        );
        assert_eq!(problems(&hosts[1..]), None);
        put("mesos-1.11.0-101.x86_64.rpm", &RPM);
        assert_eq!(
            problems(&hosts[1..]).unwrap(),
            ["h2: which package mesos to install is not clear"]
        );
        assert!(find(Path::new("/no/such/directory"), &hosts).is_err());
    }
}
