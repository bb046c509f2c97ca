//! `mesosphere-el-repo`: the repository's address.

use anyhow::{Result, bail};

use crate::definition::{Architecture, Entry, Package};

const TEMPLATE: &str = include_str!("../../files/etc/mesosphere.repo");

pub(super) fn package(base_url: &str) -> Result<Package> {
    let known = ["http://", "https://", "file:///", "ftp://"];
    if !known.iter().any(|scheme| base_url.starts_with(scheme)) {
        bail!("--baseurl {base_url}: begins with none of {}", known.join(", "));
    }
    if base_url.chars().any(|character| character.is_whitespace() || character.is_control()) {
        bail!("--baseurl {base_url:?}: blanks don't belong into a URL");
    }
    let name = "mesosphere-el-repo";
    Ok(Package {
        // The classic guide's repository is for Enterprise Linux 7.
        architecture: Architecture::Any,
        summary: "The repository of Mesosphere-compatible packages",
        description: "Tells yum where the packages mesosphere-zookeeper, mesos, marathon and meso are.",
        entries: vec![
            Entry::config(
                "/etc/yum.repos.d/mesosphere.repo",
                TEMPLATE.replace("@BASEURL@", base_url),
            ),
            Entry::license(name),
        ],
        ..super::daemon(name, "7")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_yum_can_not_read_is_refused() {
        for bad in ["", "/srv/repo", "repo.example.org/el7", "http://a b/", "http://a\nenabled=0"] {
            assert!(package(bad).is_err(), "{bad:?}");
        }
        assert!(package("file:///srv/meso/repo").is_ok());
    }
}
