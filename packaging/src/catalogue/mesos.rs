//! `mesos`: master and agent.

use crate::definition::{Entry, Package, Requirement};
use crate::scriptlets::for_units;

/// Names under which the agent's program is started by the agent: it is also the executors'.
const EXECUTORS: &[&str] =
    &["mesos-executor", "mesos-docker-executor", "mesos-default-executor", "mesos-cni-port-mapper"];

pub(super) fn package() -> Package {
    let base = super::daemon("mesos", super::MESOS_VERSION);
    let mut entries = vec![
        Entry::program("/usr/sbin/mesos-master", "mesos-master"),
        Entry::program("/usr/sbin/mesos-agent", "mesos-agent"),
        Entry::link("/usr/sbin/mesos-slave", "mesos-agent"),
        Entry::program("/usr/bin/mesos", "mesos"),
        Entry::man_page("/usr/share/man/man1/mesos.1.gz", "mesos", &["man"]),
        Entry::printed(
            "/usr/share/bash-completion/completions/mesos",
            "mesos",
            &["completions", "bash"],
        ),
        Entry::printed("/usr/share/zsh/site-functions/_mesos", "mesos", &["completions", "zsh"]),
        Entry::printed(
            "/usr/share/fish/vendor_completions.d/mesos.fish",
            "mesos",
            &["completions", "fish"],
        ),
        Entry::script(
            "/usr/bin/mesos-init-wrapper",
            include_str!("../../files/scripts/mesos-init-wrapper"),
        ),
        Entry::directory("/usr/libexec/mesos"),
        Entry::directory("/etc/mesos"),
        Entry::config("/etc/mesos/zk", include_str!("../../files/etc/mesos-zk")),
        Entry::directory("/etc/mesos-master"),
        Entry::config("/etc/mesos-master/quorum", "1\n"),
        Entry::config("/etc/mesos-master/work_dir", "/var/lib/mesos\n"),
        Entry::directory("/etc/mesos-slave"),
        Entry::config("/etc/mesos-slave/work_dir", "/var/lib/mesos\n"),
        Entry::config("/etc/default/mesos", include_str!("../../files/etc/default-mesos")),
        Entry::config(
            "/etc/default/mesos-master",
            include_str!("../../files/etc/default-mesos-master"),
        ),
        Entry::config(
            "/etc/default/mesos-slave",
            include_str!("../../files/etc/default-mesos-slave"),
        ),
        Entry::directory("/var/lib/mesos"),
        Entry::directory("/var/log/mesos"),
        Entry::file(
            "/usr/lib/systemd/system/mesos-master.service",
            include_bytes!("../../../systemd/mesos-master.service").as_slice(),
        ),
        Entry::file(
            "/usr/lib/systemd/system/mesos-slave.service",
            include_bytes!("../../../systemd/mesos-slave.service").as_slice(),
        ),
        Entry::file(
            "/usr/lib/firewalld/services/meso-mesos-master.xml",
            include_bytes!("../../files/firewalld/meso-mesos-master.xml").as_slice(),
        ),
        Entry::file(
            "/usr/lib/firewalld/services/meso-mesos-agent.xml",
            include_bytes!("../../files/firewalld/meso-mesos-agent.xml").as_slice(),
        ),
        Entry::license(base.name),
    ];
    entries.extend(
        EXECUTORS.iter().map(|name| {
            Entry::link(format!("/usr/libexec/mesos/{name}"), "../../sbin/mesos-agent")
        }),
    );
    Package {
        summary: "Cluster manager: a Mesos-compatible master and agent",
        description: "Mesos master and agent from the Meso project, compatible with Apache Mesos 1.11 on the wire, in flags, files and APIs, and a command to look at a cluster and operate it.",
        requires: vec![
            Requirement::AroundInstall("/usr/bin/systemctl"),
            Requirement::Name("/bin/bash".to_owned()),
        ],
        entries,
        // As the original: both enabled, none started. A host that is only one of them disables the other.
        scriptlets: for_units(&["mesos-master.service", "mesos-slave.service"], None),
        ..base
    }
}
