//! What has to be done so that hosts become the cluster: a pure function of hosts, facts and packages.
//!
//! All hosts are judged before anything is planned: [`plan`] gives every problem there is, or steps that, done in order,
//! leave nothing to plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::facts::{Facts, UnitFact};
use crate::inventory::{Host, Roles};
use crate::packages::{self, Package};
use crate::problem::{Kind, Problem, Problems};
use crate::templates::{self, Cluster, File, HostValues, ZooKeeper};

/// The units that packages bring, in the order in which they start: `(unit, package, port)`.
pub const UNITS: [(&str, &str, u16); 4] = [
    ("zookeeper.service", "mesosphere-zookeeper", 2181),
    ("mesos-master.service", "mesos", 5050),
    ("marathon.service", "marathon", 8080),
    ("mesos-slave.service", "mesos", 5051),
];
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
        problems.extend(unfit(host, facts));
        match address(host, facts, hosts.len()) {
            Ok(address) => addressed.push((host, facts, address)),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(shared_addresses(&addressed));
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

/// Everything for which a host can't be set up.
fn unfit(host: &Host, facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    if facts.machine != "x86_64" {
        problems.push(refused(
            host,
            "the host's architecture is not supported",
            format!("it is {}; the packages are for x86_64", facts.machine),
            "use an x86_64 host",
        ));
    }
    for (tool, what, next) in [
        (
            "systemd",
            "the host does not run systemd",
            "use a host that was booted with systemd, as CentOS 7 and newer are",
        ),
        (
            "systemd-stdio-bridge",
            "systemd can't be talked to",
            "reinstall the host's systemd package, which brings systemd-stdio-bridge",
        ),
        ("rpm", "the host has no rpm", "use an RPM-based host (CentOS 7 or newer)"),
        ("sha256sum", "the host has no sha256sum", "install coreutils on it"),
        ("base64", "the host has no base64", "install coreutils on it"),
        ("ss", "listening ports can't be seen", "install iproute on it, which brings ss"),
    ] {
        if !facts.tools.contains(tool) {
            problems.push(refused(
                host,
                what,
                format!("{tool} was not found on it ({})", facts.os),
                next,
            ));
        }
    }
    for (directory, free) in &facts.free_kb {
        if *free < FREE_KB {
            problems.push(refused(
                host,
                format!("there is too little space in {directory}"),
                format!("{} MB are free, {} MB are needed", free / 1024, FREE_KB / 1024),
                "make room there",
            ));
        }
    }
    for path in &facts.odd {
        problems.push(refused(
            host,
            format!("{path} can't be written"),
            "something other than a file has that name",
            format!("look at it and move it away: ls -ld {path}"),
        ));
    }
    problems.extend(ports_in_use(host, facts));
    for (unit, _, _) in UNITS.iter().filter(|(unit, _, _)| is_wanted(unit, host.roles)) {
        if facts.units.get(*unit).is_some_and(|fact| fact.masked) {
            problems.push(refused(
                host,
                format!("{unit} is masked"),
                "an operator has forbidden it to start",
                format!("systemctl unmask {unit}"),
            ));
        }
    }
    problems
}

fn ports_in_use(host: &Host, facts: &Facts) -> Vec<Problem> {
    let wanted = UNITS.iter().filter(|(unit, _, _)| is_wanted(unit, host.roles));
    let mut ports: Vec<(u16, &str)> = wanted.map(|(unit, _, port)| (*port, *unit)).collect();
    if host.roles.master {
        ports.extend([(2888, "zookeeper.service"), (3888, "zookeeper.service")]);
    }
    ports
        .into_iter()
        .filter_map(|(port, unit)| {
            let listener = facts.ports.get(&port)?;
            if listener.unit.as_deref() == Some(unit) {
                return None;
            }
            let process = listener.process.as_deref().unwrap_or("a process that can't be seen");
            let who = match (listener.pid, &listener.unit) {
                (Some(pid), Some(unit)) => format!("{process} (pid {pid}, of {unit})"),
                (Some(pid), None) => format!("{process} (pid {pid})"),
                (None, _) => process.to_owned(),
            };
            let next = match (&listener.unit, listener.pid) {
                (Some(unit), _) => format!("stop it: systemctl disable {unit}; systemctl stop {unit}; then run meso again"),
                (None, Some(pid)) => format!("see what it is (ps -fp {pid}), end it or move it to another port, then run meso again"),
                (None, None) => format!("find it with: ss -lntp 'sport = :{port}'; end it, then run meso again"),
            };
            Some(refused(host, format!("port {port} is in use"), format!("{who} listens there; {unit} needs that port"), next))
        })
        .collect()
}

/// The address that other hosts reach a host at.
fn address(host: &Host, facts: &Facts, hosts: usize) -> Result<Ipv4Addr, Problem> {
    let next = "name it by the address that the other hosts reach it at, or give that as `address` in the inventory file";
    let address = host.address.or(facts.address).ok_or_else(|| {
        refused(
            host,
            "the host's address is not known",
            "its sshd was not reached at an IPv4 address",
            next,
        )
    })?;
    if address.is_loopback() && hosts > 1 {
        return Err(refused(
            host,
            "the other hosts can't reach the host",
            format!("it was reached at {address}, which means every host itself"),
            next,
        ));
    }
    Ok(address)
}

fn shared_addresses(hosts: &[(&Host, &Facts, Ipv4Addr)]) -> Vec<Problem> {
    let mut first: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for (host, _, address) in hosts {
        if let Some(other) = first.get(address) {
            problems.push(refused(
                host,
                "two hosts have one address",
                format!("{other} and {} are both reached at {address}", host.name),
                "name one host once; behind NAT give each its own `address` in the inventory file",
            ));
        } else {
            first.insert(*address, &host.name);
        }
    }
    problems
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
        let installed = facts.packages.get(*name).cloned();
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
    let mut units = Vec::new();
    for (unit, package, _) in UNITS {
        plan_unit(unit, package, roles, facts, &installs, &files, &mut units, &mut notes);
    }
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

#[expect(
    clippy::too_many_arguments,
    reason = "all that decides on one unit, and the two lists that it adds to"
)]
fn plan_unit(
    unit: &'static str,
    package: &str,
    roles: Roles,
    facts: &Facts,
    installs: &[Install],
    files: &[Write],
    steps: &mut Vec<UnitStep>,
    notes: &mut Vec<String>,
) {
    let install = installs.iter().find(|install| install.package.name == package);
    // Packages enable their units when they are first installed, and start none.
    let fresh =
        UnitFact { exists: true, enabled: true, masked: false, active: "inactive".to_owned() };
    let known = facts.units.get(unit).cloned().unwrap_or_default();
    let now = if install.is_some_and(|install| install.installed.is_none()) && !known.exists {
        fresh
    } else {
        known
    };
    if !now.exists && install.is_none() {
        return;
    }
    let runs = !matches!(now.active.as_str(), "" | "inactive" | "failed");
    let mut step = |action, why: String| steps.push(UnitStep { unit, action, why });
    if is_wanted(unit, roles) {
        if !now.enabled {
            step(Action::Enable, "it does not start at boot".to_owned());
        }
        let changed: BTreeSet<&str> = files
            .iter()
            .map(|write| write.file.path)
            .filter(|path| templates::is_read_by(path, unit))
            .collect();
        if !runs {
            step(
                Action::Start,
                if now.active == "failed" { "it failed" } else { "it does not run" }.to_owned(),
            );
        } else if install.is_some() {
            step(Action::Restart, format!("{package} is upgraded"));
        } else if !changed.is_empty() {
            step(
                Action::Restart,
                format!("changed: {}", changed.into_iter().collect::<Vec<_>>().join(", ")),
            );
        }
    } else if package == "mesos" {
        // The mesos package enables master and agent; a host that is only one of them has no use for the other.
        if now.enabled {
            step(Action::Disable, "the host is none".to_owned());
        }
        if runs {
            step(Action::Stop, "the host is none".to_owned());
        }
    } else if runs {
        notes.push(format!("{unit} runs here though the host is no master: it is left alone, as it holds data; stop it by hand if it is not needed"));
    }
}

#[cfg(test)]
mod tests;
