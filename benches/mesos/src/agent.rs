//! One agent: what it and its master take while they idle, how fast `/state` is, how fast containers start.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use mesos::v1;
use tokio::time::Instant;

use crate::daemons::{Daemon, Kind};
use crate::process;
use crate::report::{Report, Target};
use crate::scheduler::{Scheduler, small};
use crate::state;

/// Containers that run at once.
const WINDOW: u64 = 32;

struct Found {
    master_mib: f64,
    agent_mib: f64,
    state_ms: (f64, f64),
    agent_state_ms: (f64, f64),
}

/// Measures ours, and the original if it is there.
pub(crate) async fn run(
    directory: &Path,
    kinds: &[Kind],
    measured: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut all = Vec::new();
    let mut rate = 0.0;
    for kind in kinds {
        let directory = directory.join("one");
        let master = Daemon::master(*kind, &directory, &[])?;
        let agent = Daemon::agent(*kind, &directory, master.address)?;
        let mut scheduler = Scheduler::subscribe(master.address, None).await?;
        let offer = offer(&mut scheduler).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mib = |pid| anyhow::Ok(process::resident_bytes(pid)? as f64 / f64::from(1 << 20));
        all.push(Found {
            master_mib: mib(master.pid())?,
            agent_mib: mib(agent.pid())?,
            state_ms: state::latency(master.address, "/state", 300)?,
            agent_state_ms: state::latency(agent.address, "/state", 300)?,
        });
        // The original's executor is a stand-in here: its figure would say nothing.
        if *kind == Kind::Ours {
            rate = containers(&mut scheduler, offer, measured).await?;
        }
    }
    let (ours, original) = (&all[0], all.get(1));
    let mut add = |what: &str, unit, of: fn(&Found) -> f64, target| {
        report.add(what, unit, of(ours), original.map(of), target)
    };
    let rss = Target::AtMost(20.0);
    add("RAM of a master with one agent, idle", "MiB", |found| found.master_mib, rss)?;
    add("RAM of an agent, idle", "MiB", |found| found.agent_mib, rss)?;
    let fast = Target::AtMost(0.2);
    add("/state of a master with one agent, median", "ms", |found| found.state_ms.0, fast)?;
    add("… p99", "ms", |found| found.state_ms.1, Target::None)?;
    add("/state of an agent, median", "ms", |found| found.agent_state_ms.0, fast)?;
    add("… p99", "ms", |found| found.agent_state_ms.1, Target::None)?;
    report.add("containers of the Mesos containerizer", "1/s", rate, None, Target::None)
}

async fn offer(scheduler: &mut Scheduler) -> anyhow::Result<v1::Offer> {
    loop {
        let events = tokio::time::timeout(Duration::from_secs(60), scheduler.events()).await??;
        let offers = events.into_iter().filter_map(|event| event.offers);
        if let Some(offer) = offers.flat_map(|offers| offers.offers).next() {
            return Ok(offer);
        }
    }
}

/// Containers started, run and ended a second: `true`, one after the other in each of a few places.
async fn containers(
    scheduler: &mut Scheduler,
    first: v1::Offer,
    measured: Duration,
) -> anyhow::Result<f64> {
    let mut held = Some(first);
    let (mut number, mut ended) = (0_u64, 0_u64);
    let began = Instant::now();
    while began.elapsed() < measured || ended < number {
        while let Some(offer) =
            held.take_if(|_| number - ended < WINDOW && began.elapsed() < measured)
        {
            let tasks = (number..ended + WINDOW).map(|number| v1::TaskInfo {
                name: "true".to_owned(),
                task_id: v1::TaskId { value: format!("container-{number}") },
                agent_id: offer.agent_id.clone(),
                resources: small(),
                command: Some(v1::CommandInfo {
                    value: Some("true".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            });
            let tasks: Vec<v1::TaskInfo> = tasks.collect();
            number += tasks.len() as u64;
            scheduler.accept(&offer, tasks);
        }
        let events = tokio::time::timeout(Duration::from_secs(60), scheduler.events()).await??;
        for event in events {
            if let Some(offer) = event.offers.into_iter().flat_map(|offers| offers.offers).next() {
                held = Some(offer);
            }
            if let Some(update) = event.update {
                scheduler.acknowledge(&update.status);
                let state = update.status.state();
                let is_end = state == v1::TaskState::TaskFinished;
                let is_good = is_end
                    || matches!(state, v1::TaskState::TaskStarting | v1::TaskState::TaskRunning);
                ensure!(is_good, "a container failed: {:?}", update.status);
                ended += u64::from(is_end);
            }
        }
    }
    Ok(ended as f64 / began.elapsed().as_secs_f64())
}
