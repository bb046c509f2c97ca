//! Whether hosts are fit for what they are to become: everything that is wrong, told at once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{FREE_KB, UNITS, is_wanted, refused};
use crate::facts::Facts;
use crate::inventory::Host;
use crate::problem::Problem;

/// Everything for which a host can't be set up.
pub(super) fn unfit(host: &Host, facts: &Facts) -> Vec<Problem> {
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
pub(super) fn address(host: &Host, facts: &Facts, hosts: usize) -> Result<Ipv4Addr, Problem> {
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

pub(super) fn shared_addresses(hosts: &[(&Host, &Facts, Ipv4Addr)]) -> Vec<Problem> {
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
