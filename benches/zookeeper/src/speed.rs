//! Throughput, latency and CPU time, cell by cell: each server in turn, so that what else goes on hits all alike.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::limit::synced_rate;
use crate::load::{Found, KEYS, Load, Mix, key};
use crate::report::{Cell, Report};
use crate::servers::{Kind, Server};

/// What is measured, and for how long.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Kinds of requests.
    pub(crate) mixes: Vec<Mix>,
    /// Numbers of connections.
    pub(crate) connections: Vec<usize>,
    /// Requests outstanding on each.
    pub(crate) outstanding: Vec<usize>,
    /// How long each round of a cell is measured.
    pub(crate) measured: Duration,
    /// How long each round runs before.
    pub(crate) warm: Duration,
    /// Rounds of a cell.
    pub(crate) rounds: u32,
    /// How long a server is under load before the first cell: a JVM compiles meanwhile.
    pub(crate) warm_up: Duration,
    /// Whether Apache's server is there to compare with.
    pub(crate) has_apache: bool,
}

struct Group {
    kind: Kind,
    servers: Vec<Server>,
}

impl Group {
    fn start(directory: &Path, kind: Kind, count: usize, plan: &Plan) -> anyhow::Result<Self> {
        let mut servers = Server::prepare(directory, kind, count)?;
        servers.iter_mut().try_for_each(Server::spawn)?;
        servers.iter_mut().try_for_each(Server::wait)?;
        let group = Self { kind, servers };
        let addresses = group.addresses();
        let mut first = Load::open(&addresses[..1], 1, 1, 0)?;
        first.make(1, |_| "/bench".to_owned())?;
        let mut load = Load::open(&addresses, 10, 20, 0)?;
        load.make(KEYS, key)?;
        load.run(Mix::Mixed, Duration::ZERO, plan.warm_up, &group.pids())?;
        Ok(group)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(Server::pid).collect()
    }

    fn measure(
        &self,
        plan: &Plan,
        mix: Mix,
        connections: usize,
        outstanding: usize,
        run: usize,
    ) -> anyhow::Result<Found> {
        let mut load = Load::open(&self.addresses(), connections, outstanding, run)?;
        let found = load.run(mix, plan.warm, plan.measured, &self.pids())?;
        if mix == Mix::Create && self.kind != Kind::Limit {
            load.clean()?;
        }
        Ok(found)
    }
}

/// All cells with so many servers of each kind.
pub(crate) fn run(
    directory: &Path,
    plan: &Plan,
    count: usize,
    report: &mut Report,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let kinds = [Kind::Ours, Kind::Apache, Kind::Limit].into_iter().filter(|kind| match kind {
        Kind::Apache => plan.has_apache,
        Kind::Limit => count == 1,
        Kind::Ours => true,
    });
    if count == 1 {
        for entries in [1, 100, 2000] {
            let rate = synced_rate(directory, entries, plan.measured)?;
            report.synced(entries, rate, out)?;
        }
    }
    let groups: Vec<Group> = kinds
        .map(|kind| {
            Group::start(directory, kind, count, plan)
                .with_context(|| format!("{count} {}", kind.name()))
        })
        .collect::<Result<_, _>>()?;
    report.begin_cells(count, out)?;
    let mut run = 0;
    for mix in &plan.mixes {
        for connections in &plan.connections {
            for outstanding in &plan.outstanding {
                run += 1;
                let mut cell = Cell {
                    servers: count,
                    mix: *mix,
                    connections: *connections,
                    outstanding: *outstanding,
                    ours: None,
                    apache: None,
                    limit: None,
                };
                let mut has_failed = false;
                for group in (0..plan.rounds).flat_map(|_| &groups) {
                    let is_apache = group.kind == Kind::Apache;
                    if is_apache && has_failed {
                        continue;
                    }
                    let measured = group
                        .measure(plan, *mix, *connections, *outstanding, run)
                        .with_context(|| format!("{count} {}: {}", group.kind.name(), mix.name()));
                    let found = match measured {
                        Ok(found) => found,
                        // What it can't do must not cost the figures of the others.
                        Err(error) if is_apache => {
                            writeln!(out, "{error:#}")?;
                            (has_failed, cell.apache) = (true, None);
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    let place = match group.kind {
                        Kind::Ours => &mut cell.ours,
                        Kind::Apache => &mut cell.apache,
                        Kind::Limit => &mut cell.limit,
                    };
                    match place {
                        Some(before) => before.add(&found)?,
                        None => *place = Some(found),
                    }
                }
                report.cell(&cell, out)?;
            }
        }
    }
    Ok(())
}
