//! The files that land on hosts, rendered from `templates/`, which mirrors the hosts' paths.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::inventory::Roles;

/// A file as it is to be on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Absolute path.
    pub path: &'static str,
    /// Content.
    pub content: String,
    /// Permission bits.
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    /// Owner and group.
    pub owner: &'static str,
}

/// Permission bits as people know them.
pub(crate) fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// Who a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Master,
    Agent,
    All,
}

struct Template {
    path: &'static str,
    text: &'static str,
    owner: &'static str,
    who: For,
    /// Units that read it when they start.
    units: &'static [&'static str],
}

macro_rules! template {
    ($path:literal, $owner:literal, $who:expr, $units:expr) => {
        Template {
            path: $path,
            text: include_str!(concat!("../../../templates", $path, ".tera")),
            owner: $owner,
            who: $who,
            units: $units,
        }
    };
}

const ZOOKEEPER: &str = "zookeeper.service";
const MASTER: &str = "mesos-master.service";
const AGENT: &str = "mesos-slave.service";
const MARATHON: &str = "marathon.service";

const TEMPLATES: &[Template] = &[
    // Its unit gives this file to the server's user at each start.
    template!("/var/lib/zookeeper/myid", "zookeeper", For::Master, &[ZOOKEEPER]),
    template!("/etc/zookeeper/conf/zoo.cfg", "root", For::Master, &[ZOOKEEPER]),
    template!("/etc/mesos/zk", "root", For::All, &[MASTER, MARATHON, AGENT]),
    template!("/etc/mesos-master/quorum", "root", For::Master, &[MASTER]),
    template!("/etc/mesos-master/hostname", "root", For::Master, &[MASTER]),
    template!("/etc/mesos-master/advertise_ip", "root", For::Master, &[MASTER]),
    template!("/etc/marathon/conf/hostname", "root", For::Master, &[MARATHON]),
    template!("/etc/mesos-slave/containerizers", "root", For::Agent, &[AGENT]),
    template!("/etc/mesos-slave/executor_registration_timeout", "root", For::Agent, &[AGENT]),
    template!("/etc/mesos-slave/hostname", "root", For::Agent, &[AGENT]),
    template!("/etc/mesos-slave/advertise_ip", "root", For::Agent, &[AGENT]),
];

/// A ZooKeeper server.
#[derive(Debug, Clone, Serialize)]
pub struct ZooKeeper {
    /// Its number in the ensemble: what its `myid` says.
    pub id: u32,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What templates know of the cluster.
#[derive(Debug, Clone, Serialize)]
pub struct Cluster {
    /// The ZooKeeper servers.
    pub zookeepers: Vec<ZooKeeper>,
    /// More than half of the masters.
    pub quorum: usize,
}

/// What templates know of the host.
#[derive(Debug, Clone, Serialize)]
pub struct HostValues {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its number among the ZooKeeper servers.
    pub zookeeper_id: Option<u32>,
    /// `docker,mesos`, or `mesos` where docker isn't.
    pub containerizers: &'static str,
}

/// Paths of all files that we ever write.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    TEMPLATES.iter().map(|template| template.path).collect()
}

/// Whether a unit reads a file when it starts.
#[must_use]
pub fn is_read_by(path: &str, unit: &str) -> bool {
    TEMPLATES.iter().any(|template| template.path == path && template.units.contains(&unit))
}

/// The files of a host.
///
/// # Errors
/// When a template can't be rendered.
pub fn render(roles: Roles, cluster: &Cluster, host: &HostValues) -> Result<Vec<File>, String> {
    let mut context = tera::Context::new();
    context.insert("cluster", cluster);
    context.insert("host", host);
    TEMPLATES
        .iter()
        .filter(|template| match template.who {
            For::Master => roles.master,
            For::Agent => roles.agent,
            For::All => true,
        })
        .map(|template| {
            let content = tera::Tera::one_off(template.text, &context, false)
                .map_err(|error| format!("the template of {}: {error}", template.path))?;
            Ok(File { path: template.path, content, mode: 0o644, owner: template.owner })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_host_that_is_everything() {
        let cluster = Cluster {
            zookeepers: vec![
                ZooKeeper { id: 1, address: Ipv4Addr::new(10, 0, 0, 1) },
                ZooKeeper { id: 2, address: Ipv4Addr::new(10, 0, 0, 2) },
            ],
            quorum: 2,
        };
        let host = HostValues {
            address: Ipv4Addr::new(10, 0, 0, 1),
            zookeeper_id: Some(1),
            containerizers: "docker,mesos",
        };
        let files = render(Roles { master: true, agent: true }, &cluster, &host).unwrap();
        assert_eq!(files.len(), TEMPLATES.len());
        let texts = files.iter().map(|file| {
            format!("--- {} {:o} {}\n{}", file.path, file.mode, file.owner, file.content)
        });
        let text = texts.collect::<Vec<_>>().concat();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_host_gets_the_files_of_its_roles() {
        let cluster = Cluster { zookeepers: Vec::new(), quorum: 1 };
        let host = HostValues {
            address: Ipv4Addr::LOCALHOST,
            zookeeper_id: None,
            containerizers: "mesos",
        };
        let files = render(Roles { master: false, agent: true }, &cluster, &host).unwrap();
        assert!(
            files
                .iter()
                .all(|file| file.path.starts_with("/etc/mesos-slave/")
                    || file.path == "/etc/mesos/zk")
        );
        assert!(is_read_by("/etc/mesos/zk", MARATHON) && !is_read_by("/etc/mesos/zk", ZOOKEEPER));
    }
}
