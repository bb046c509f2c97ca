//! What has to be done so that hosts become the cluster: a pure function of hosts, facts and packages.
//!
//! All hosts are judged before anything is planned: [`plan`] gives every problem there is, or steps that, done in order,
//! leave nothing to plan.

mod judge;
mod units;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::facts::Facts;
use crate::inventory::{Host, Roles};
use crate::packages::{self, Package};
use crate::problem::{Kind, Problem, Problems};
use crate::templates::{self, Cluster, File, HostValues, ZooKeeper};
use units::Before;

/// The units that packages bring, in the order in which they start: `(unit, package, port)`.
pub const UNITS: [(&str, &str, u16); 4] = [
    ("zookeeper.service", "mesosphere-zookeeper", 2181),
    ("mesos-master.service", "mesos", 5050),
    ("marathon.service", "marathon", 8080),
    ("mesos-slave.service", "mesos", 5051),
];
/// What lets nobody in but through ssh on CentOS 7, unless told otherwise.
pub const FIREWALL: &str = "firewalld.service";
/// Ports that the facts tell of: those of the units, and ZooKeeper's between servers.
pub const PORTS: [u16; 6] = [2181, 2888, 3888, 5050, 5051, 8080];
/// Free space that packages and first data need.
const FREE_KB: u64 = 100 * 1024;

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Hosts in order, masters first.
    pub hosts: Vec<HostPlan>,
}

/// What is to be done on one host, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPlan {
    /// The host, as the operator calls it.
    pub host: String,
    /// Address that other hosts reach it at.
    pub address: Ipv4Addr,
    /// What it becomes.
    pub roles: Roles,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Packages to install.
    pub packages: Vec<Install>,
    /// Files to write.
    pub files: Vec<Write>,
    /// What to do with units.
    pub units: Vec<UnitStep>,
}

/// A package to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Install {
    /// The package.
    #[serde(flatten)]
    pub package: Package,
    /// What is installed now.
    pub installed: Option<String>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The file as it is to be.
    #[serde(flatten)]
    pub file: File,
    /// Why.
    pub why: Why,
}

/// Why a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It isn't there.
    Missing,
    /// Its content is another.
    Differs,
    /// Its mode or owner is another.
    Access,
}

/// Something to do with a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitStep {
    /// The unit.
    pub unit: &'static str,
    /// What to do.
    pub action: Action,
    /// Why.
    pub why: String,
}

/// What can be done with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Let it start at boot.
    Enable,
    /// Don't.
    Disable,
    /// Start it now.
    Start,
    /// Stop it now.
    Stop,
    /// Stop and start it.
    Restart,
}

impl Action {
    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

impl HostPlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.files.is_empty() && self.units.is_empty()
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packages.len() + self.files.len() + self.units.len()
    }
}

impl Plan {
    /// Whether the hosts are the cluster already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.iter().all(HostPlan::is_empty)
    }
}

/// Whether a host of these roles runs a unit.
fn is_wanted(unit: &str, roles: Roles) -> bool {
    if unit == "mesos-slave.service" { roles.agent } else { roles.master }
}

/// The plan for these hosts.
///
/// # Errors
/// Every reason for which a host is not fit, by host.
pub fn plan(
    hosts: &[(Host, Facts)],
    brought: &BTreeMap<String, Package>,
) -> Result<Plan, Problems> {
    let mut problems = Vec::new();
    let mut addressed = Vec::new();
    for (host, facts) in hosts {
        problems.extend(judge::unfit(host, facts));
        match judge::address(host, facts, hosts.len()) {
            Ok(address) => addressed.push((host, facts, address)),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(judge::shared_addresses(&addressed));
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    // Masters first: in this order ids are given and units start.
    addressed.sort_by_key(|(host, _, _)| !host.roles.master);
    let masters = addressed.iter().filter(|(host, _, _)| host.roles.master);
    let zookeepers: Vec<ZooKeeper> =
        masters.zip(1..).map(|((_, _, address), id)| ZooKeeper { id, address: *address }).collect();
    let cluster = Cluster { quorum: zookeepers.len() / 2 + 1, zookeepers };
    let hosts = crate::problem::all(
        addressed
            .into_iter()
            .map(|(host, facts, address)| plan_host(host, facts, address, &cluster, brought)),
    )?;
    Ok(Plan { hosts })
}

fn refused(
    host: &Host,
    what: impl Into<String>,
    why: impl Into<String>,
    next: impl Into<String>,
) -> Problem {
    Problem::on(&host.name, Kind::Preflight, what, why, next)
}

fn plan_host(
    host: &Host,
    facts: &Facts,
    address: Ipv4Addr,
    cluster: &Cluster,
    brought: &BTreeMap<String, Package>,
) -> Result<HostPlan, Problem> {
    let roles = host.roles;
    let mut installs = Vec::new();
    for name in packages::of_roles(roles) {
        let package = brought.get(*name).ok_or_else(|| {
            refused(
                host,
                format!("the package {name} is missing"),
                "it is not among the packages",
                "build it with `make rpm`",
            )
        })?;
        let installed = facts.packages.get(*name).map(|fact| fact.version.clone());
        if installed.as_ref() != Some(&package.version) {
            installs.push(Install { package: package.clone(), installed });
        }
    }
    let docker = facts.tools.contains("docker") || facts.tools.contains("docker.sock");
    let zookeeper_id =
        cluster.zookeepers.iter().find(|server| server.address == address).map(|server| server.id);
    let values = HostValues {
        address,
        zookeeper_id,
        containerizers: if docker { "docker,mesos" } else { "mesos" },
    };
    let files: Vec<Write> = templates::render(roles, cluster, &values)
        .map_err(|why| {
            refused(host, "a file can't be rendered", why, "this is a defect of meso: report it")
        })?
        .into_iter()
        .filter_map(|file| why(&file, facts).map(|why| Write { file, why }))
        .collect();
    let mut notes = Vec::new();
    if roles.agent && !docker {
        notes.push("docker is not on this host: containerizers is `mesos` alone; after installing docker run meso bootstrap again".to_owned());
    }
    if !installs.is_empty() && facts.units.get(FIREWALL).is_some_and(|fact| fact.active == "active")
    {
        notes.push(firewall_note(roles));
    }
    let (units, told) = Before { roles, facts, installs: &installs, files: &files }.steps();
    notes.extend(told);
    Ok(HostPlan {
        host: host.name.clone(),
        address,
        roles,
        notes,
        packages: installs,
        files,
        units,
    })
}

/// How to open the ports; the packages bring the services' definitions.
fn firewall_note(roles: Roles) -> String {
    let master =
        ["meso-zookeeper", "meso-mesos-master", "meso-marathon"].iter().filter(|_| roles.master);
    let services = master.chain(["meso-mesos-agent"].iter().filter(|_| roles.agent));
    let options: Vec<String> = services.map(|service| format!("--add-service={service}")).collect();
    format!(
        "firewalld runs here and is left alone: let the other hosts in, once the packages are installed, with: firewall-cmd --reload; firewall-cmd --permanent {}; firewall-cmd --reload",
        options.join(" ")
    )
}

fn why(file: &File, facts: &Facts) -> Option<Why> {
    let Some(fact) = facts.files.get(file.path) else { return Some(Why::Missing) };
    if fact.sha256 != sha256(file.content.as_bytes()) {
        Some(Why::Differs)
    } else if fact.mode != file.mode || fact.owner != file.owner {
        Some(Why::Access)
    } else {
        None
    }
}

/// SHA-256 in hex.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
