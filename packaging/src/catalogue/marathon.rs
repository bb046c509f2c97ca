//! `marathon`: configured as its packages up to 1.4 were, laid out as those from 1.5 on.

use crate::definition::{Entry, Package, Requirement};
use crate::scriptlets::{User, for_units};

const USER: User = User { name: "marathon", home: "/usr/share/marathon", comment: "Marathon" };

pub(super) fn package() -> Package {
    let base = super::daemon("marathon", super::MARATHON_VERSION);
    Package {
        summary: "Cluster-wide init and control system for services running on Mesos",
        description: "Marathon from the Meso project, compatible with Mesosphere's Marathon 1.8 in options, files, API and events. It needs no Java.",
        requires: vec![
            Requirement::BeforeInstall("/usr/bin/getent"),
            Requirement::BeforeInstall("/usr/sbin/groupadd"),
            Requirement::BeforeInstall("/usr/sbin/useradd"),
            Requirement::AroundInstall("/usr/bin/systemctl"),
            Requirement::Name("/bin/bash".to_owned()),
        ],
        entries: vec![
            Entry::script("/usr/bin/marathon", include_str!("../../files/scripts/marathon")),
            Entry::directory("/usr/share/marathon"),
            Entry::directory("/usr/share/marathon/bin"),
            Entry::program("/usr/share/marathon/bin/marathon", "marathon"),
            Entry::directory("/etc/marathon"),
            Entry::directory("/etc/marathon/conf"),
            Entry::config(
                "/etc/default/marathon",
                include_str!("../../files/etc/default-marathon"),
            ),
            Entry::file(
                "/usr/lib/systemd/system/marathon.service",
                include_bytes!("../../../systemd/marathon.service").as_slice(),
            ),
            Entry::file(
                "/usr/lib/firewalld/services/meso-marathon.xml",
                include_bytes!("../../files/firewalld/meso-marathon.xml").as_slice(),
            ),
            Entry::license(base.name),
        ],
        scriptlets: for_units(&["marathon.service"], Some(USER)),
        ..base
    }
}
