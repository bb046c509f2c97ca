//! Ports that containers listen on, looked at now and then (the original's `network/ports` isolator): sockets of the host's
//! network, told by the kernel, and whose they are, by the files that the processes of a container's cgroup have open.
//! The original looks at IPv4 only; a socket for IPv6 takes the port as well, so it counts here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesos::flags::Values;
use mesos::resources::{Ranges, Resources};
use mesos::v1;
use mesos::v1::task_status::Reason;
use tokio_util::sync::CancellationToken;

use super::actor::Handle;
use crate::containerizer::Problem;
use crate::containerizer::cgroups::Cgroups;

/// What an operator chose.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    /// Time between looks.
    pub(super) interval: Duration,
    /// Whether containers end for it.
    pub(super) enforces: bool,
    /// Which ports are looked at; `None` for all.
    pub(super) isolated: Option<Ranges>,
    /// Whether containers that joined a network have ports of their own.
    pub(super) spares_networks: bool,
}

/// What `--isolation=network/ports` is to do, on an agent that offers the ports `offered`.
pub(super) fn check(
    values: &Values,
    offered: &Ranges,
    has_networks: bool,
) -> anyhow::Result<Watch> {
    let only_offered = values.boolean("check_agent_port_range_only");
    let range = values.text("container_ports_isolated_range");
    ensure!(
        !only_offered || range.is_none(),
        "Only one of `--check_agent_port_range_only` or `--container_ports_isolated_range` should be specified"
    );
    let isolated = match range {
        Some(text) => {
            let text = text.trim();
            let list = text.strip_prefix("ports:").unwrap_or(text);
            let parsed = Resources::parse(&format!("ports:{list}"), "*").ok();
            let ports = parsed.filter(|_| list.starts_with('['));
            let ports = ports.with_context(|| {
                format!("--container_ports_isolated_range: '{text}' is no range of ports")
            })?;
            Some(ports.ports())
        }
        None => only_offered.then(|| offered.clone()),
    };
    Ok(Watch {
        interval: values
            .duration("container_ports_watch_interval")
            .unwrap_or(Duration::from_secs(30)),
        enforces: values.boolean("enforce_container_ports"),
        isolated,
        spares_networks: has_networks,
    })
}

/// The listening sockets in a file of `/proc/net/tcp`'s form: inodes and ports.
fn listening(text: &str) -> impl Iterator<Item = (u64, u16)> {
    const LISTEN: &str = "0A";
    text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)?;
        (state == LISTEN).then_some((inode, u16::from_str_radix(port, 16).ok()?))
    })
}

/// The listening sockets of the host's network: inodes and ports.
fn all_listening() -> BTreeMap<u64, u16> {
    let texts = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    texts.iter().flat_map(|text| listening(text)).collect()
}

/// The inodes of the sockets that a process has open; none when it is gone.
fn sockets(pid: i32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(inode).collect()
}

/// The ports that any of these processes listens on.
fn ports_of(processes: &[i32], listening: &BTreeMap<u64, u16>) -> Ranges {
    let ports: BTreeSet<u64> = processes
        .iter()
        .flat_map(|pid| sockets(*pid))
        .filter_map(|inode| listening.get(&inode).map(|port| u64::from(*port)))
        .collect();
    Ranges::new(ports.into_iter().map(|port| (port, port)))
}

/// What somebody listens on who is not to, if so: `listened` without `allocated`, of those that are looked at.
fn unallocated(listened: &Ranges, allocated: &Ranges, isolated: Option<&Ranges>) -> Option<Ranges> {
    let mut looked_at = listened.clone();
    if let Some(isolated) = isolated {
        let mut outside = listened.clone();
        outside.subtract(isolated);
        looked_at.subtract(&outside);
    }
    looked_at.subtract(allocated);
    (!looked_at.is_empty()).then_some(looked_at)
}

/// Ports as resources.
fn resources(ports: &Ranges) -> Resources {
    Resources::from_protos(&[v1::Resource {
        name: "ports".to_owned(),
        r#type: v1::value::Type::Ranges as i32,
        ranges: Some(ports.to_proto()),
        ..Default::default()
    }])
}

/// Looks at ports for as long as the agent runs.
pub(super) fn start(handle: Handle, watch: Watch, cgroups: Cgroups, shutdown: CancellationToken) {
    let interval = watch.interval.max(Duration::from_millis(100));
    tokio::spawn(async move {
        // What was told is not told again.
        let mut told: BTreeMap<String, Ranges> = BTreeMap::new();
        while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let spares = watch.spares_networks;
            let all = handle.look(move |agent| agent.ports_of_containers(spares)).await;
            let Some(all) = all else { return };
            let cgroups = cgroups.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let sockets = all_listening();
                let look = |(container, allocated): (String, Ranges)| {
                    let ports = ports_of(&cgroups.processes(&container), &sockets);
                    (container, ports, allocated)
                };
                all.into_iter().map(look).collect::<Vec<_>>()
            });
            let found = looked.await.unwrap_or_default();
            told.retain(|container, _| found.iter().any(|(own, ..)| own == container));
            for (container, ports, allocated) in found {
                let wrong = unallocated(&ports, &allocated, watch.isolated.as_ref());
                let Some(wrong) = wrong else { continue };
                if told.insert(container.clone(), wrong.clone()).as_ref() == Some(&wrong) {
                    continue;
                }
                let message =
                    format!("Container {container} is listening on unallocated port(s): {wrong}");
                tracing::info!("{message}");
                if watch.enforces {
                    let root = container.split('.').next().unwrap_or_default().to_owned();
                    let reason = Reason::ContainerLimitation;
                    let problem = Problem::limitation(reason, message, resources(&wrong));
                    handle.look(move |agent| agent.exceed(&root, problem)).await;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Ranges {
        Resources::parse(&format!("ports:{text}"), "*").unwrap().ports()
    }

    #[test]
    fn listening_sockets_are_found_by_their_inodes() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:7918 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000\n   1: 0100007F:7919 0100007F:7918 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000\n";
        assert_eq!(listening(text).collect::<Vec<_>>(), [(4711, 31000)]);
        let listener = std::net::TcpListener::bind("[::]:0")
            .or_else(|_| std::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let port = u64::from(listener.local_addr().unwrap().port());
        let all = all_listening();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(ports_of(&[own], &all).has(port));
        assert!(ports_of(&[i32::MAX], &all).is_empty());
    }

    #[test]
    fn only_ports_that_are_looked_at_and_not_allocated_are_wrong() {
        let listened = ranges("[80-80,31000-31002]");
        for (allocated, isolated, expected) in [
            ("[31000-31000]", None, Some("[80-80, 31001-31002]")),
            ("[31000-31000]", Some("[31000-32000]"), Some("[31001-31002]")),
            ("[31000-32000]", Some("[31000-32000]"), None),
            ("[]", Some("[]"), None),
        ] {
            let isolated = isolated.map(ranges);
            let wrong = unallocated(&listened, &ranges(allocated), isolated.as_ref());
            assert_eq!(wrong.map(|own| own.to_string()).as_deref(), expected, "{allocated}");
        }
    }

    #[test]
    fn flags_say_which_ports_are_looked_at() {
        let of = |flags: &[&str]| {
            let given = ["--master=127.0.0.1:5050", "--work_dir=/w"];
            let all = given.iter().chain(flags).map(|flag| (*flag).to_owned());
            let values = crate::flags::table().load(all, std::iter::empty()).unwrap();
            let checked = check(&values, &ranges("[1-9]"), false);
            checked.map(|watch| watch.isolated).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["--check_agent_port_range_only"]), Ok(Some(ranges("[1-9]"))));
        for text in ["[5-7]", "ports:[5-7]"] {
            let flag = format!("--container_ports_isolated_range={text}");
            assert_eq!(of(&[&flag]), Ok(Some(ranges("[5-7]"))));
        }
        let both = ["--check_agent_port_range_only", "--container_ports_isolated_range=[5-7]"];
        assert!(of(&both).unwrap_err().starts_with("Only one of"));
        let wrong = of(&["--container_ports_isolated_range=x"]).unwrap_err();
        assert!(wrong.contains("'x' is no range of ports"), "{wrong}");
    }
}
