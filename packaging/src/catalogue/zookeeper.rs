//! `mesosphere-zookeeper`: the server and a client for the command line.

use crate::definition::{Entry, Package, Requirement};
use crate::scriptlets::{User, for_units};

const USER: User = User { name: "zookeeper", home: "/var/lib/zookeeper", comment: "ZooKeeper" };

pub(super) fn package() -> Package {
    let base = super::daemon("mesosphere-zookeeper", super::ZOOKEEPER_VERSION);
    Package {
        summary: "A ZooKeeper-compatible server",
        description: "A server of ZooKeeper's protocol, log and snapshot formats, from the Meso project. It needs no Java. zkcli is a client with the commands of zkCli.sh.",
        requires: vec![
            Requirement::BeforeInstall("/usr/bin/getent"),
            Requirement::BeforeInstall("/usr/sbin/groupadd"),
            Requirement::BeforeInstall("/usr/sbin/useradd"),
            Requirement::AroundInstall("/usr/bin/systemctl"),
            Requirement::Name("/bin/sh".to_owned()),
        ],
        entries: vec![
            Entry::program("/usr/bin/zookeeper-server", "zookeeper-server"),
            Entry::program("/usr/bin/zkcli", "zkcli"),
            Entry::man_page("/usr/share/man/man1/zkcli.1.gz", "zkcli", &["--man"]),
            Entry::man_page(
                "/usr/share/man/man1/zookeeper-server.1.gz",
                "zookeeper-server",
                &["--man"],
            ),
            Entry::printed(
                "/usr/share/bash-completion/completions/zkcli",
                "zkcli",
                &["--completions", "bash"],
            ),
            Entry::printed(
                "/usr/share/zsh/site-functions/_zkcli",
                "zkcli",
                &["--completions", "zsh"],
            ),
            Entry::printed(
                "/usr/share/fish/vendor_completions.d/zkcli.fish",
                "zkcli",
                &["--completions", "fish"],
            ),
            Entry::directory("/usr/libexec/zookeeper"),
            Entry::script(
                "/usr/libexec/zookeeper/prepare-directories",
                include_str!("../../files/scripts/prepare-directories"),
            ),
            Entry::directory("/etc/zookeeper"),
            Entry::directory("/etc/zookeeper/conf"),
            Entry::config("/etc/zookeeper/conf/zoo.cfg", include_str!("../../files/etc/zoo.cfg")),
            // The guide writes myid here as root; the server reads it as its own user.
            Entry::directory("/var/lib/zookeeper").owned_by(USER.name),
            Entry::file(
                "/usr/lib/systemd/system/zookeeper.service",
                include_bytes!("../../../systemd/zookeeper.service").as_slice(),
            ),
            Entry::file(
                "/usr/lib/firewalld/services/meso-zookeeper.xml",
                include_bytes!("../../files/firewalld/meso-zookeeper.xml").as_slice(),
            ),
            Entry::license(base.name),
        ],
        scriptlets: for_units(&["zookeeper.service"], Some(USER)),
        ..base
    }
}
