//! Tasks through one master: from ACCEPT over the agent to the acknowledged end.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use mesos::resources::Resources;
use mesos::v1;
use tokio::time::Instant;

use crate::daemons::{Daemon, Kind};
use crate::fleet::Fleet;
use crate::process;
use crate::report::{Report, Target};
use crate::scheduler::{Scheduler, small};

const AGENTS: usize = 100;
/// Tasks in one ACCEPT.
const BATCH: usize = 100;
/// Tasks that are under way at once.
const WINDOW: u64 = 4_000;

/// How often is counted while it is measured.
const PARTS: u32 = 5;

/// What was acknowledged and used when measuring began, and when the last part of it did.
struct Window {
    part: (Instant, u64),
    acknowledged: u64,
    cpu: f64,
}

struct Found {
    rate: f64,
    cpu_ms: f64,
}

/// Measures ours, and the original if it is there.
pub(crate) async fn run(
    directory: &Path,
    kinds: &[Kind],
    measured: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for kind in kinds {
        found.push(measure(directory, *kind, measured).await?);
    }
    let (ours, original) = (&found[0], found.get(1));
    report.add(
        format!("no-op tasks through one master, {AGENTS} agents"),
        "1/s",
        ours.rate,
        original.map(|one| one.rate),
        Target::AtLeast(5_000.0),
    )?;
    report.add(
        "CPU of the master for one of them",
        "ms",
        ours.cpu_ms,
        original.map(|one| one.cpu_ms),
        Target::AtMost(0.1),
    )
}

/// Whether a whole batch has room in an offer.
fn is_enough(offer: &v1::Offer) -> bool {
    let mut batch = Resources::new();
    for _ in 0..BATCH {
        batch.add(&Resources::from_protos(&small()));
    }
    Resources::from_protos(&offer.resources).contains(&batch)
}

async fn measure(directory: &Path, kind: Kind, measured: Duration) -> anyhow::Result<Found> {
    // The original offers what is left of an offer in its next round only.
    let master = Daemon::master(kind, directory, &["--allocation_interval=100ms"])?;
    let fleet = Fleet::start(AGENTS, master.address).await?;
    fleet.register(Duration::from_secs(60)).await?;
    let mut scheduler = Scheduler::subscribe(master.address, None).await?;
    let mut offers: VecDeque<v1::Offer> = VecDeque::new();
    let mut number = 0_u64;
    let mut ended = 0_u64;
    let warm = Instant::now() + Duration::from_secs(2);
    let part = measured / PARTS;
    // Others use the machine, too: the best part is what it can.
    let (mut window, mut best, mut parts): (Option<Window>, f64, u32) = (None, 0.0, 0);
    let cpu = || process::cpu_seconds(&[master.pid()]);
    loop {
        let events = tokio::time::timeout(Duration::from_secs(20), scheduler.events()).await??;
        for event in events {
            for offer in event.offers.into_iter().flat_map(|offers| offers.offers) {
                if is_enough(&offer) {
                    offers.push_back(offer);
                } else {
                    scheduler.accept(&offer, Vec::new());
                }
            }
            if let Some(rescind) = event.rescind {
                offers.retain(|offer| offer.id != rescind.offer_id);
            }
            if let Some(update) = event.update {
                scheduler.acknowledge(&update.status);
                ended += 1;
                let is_good = update.status.state() == v1::TaskState::TaskFinished;
                ensure!(is_good, "a task did not finish: {:?}", update.status);
            }
        }
        while number - ended <= WINDOW
            && let Some(offer) = offers.pop_front()
        {
            let tasks = (0..BATCH).map(|_| {
                number += 1;
                v1::TaskInfo {
                    name: "nothing".to_owned(),
                    task_id: v1::TaskId { value: format!("task-{number}") },
                    agent_id: offer.agent_id.clone(),
                    resources: small(),
                    command: Some(v1::CommandInfo {
                        value: Some("true".to_owned()),
                        ..Default::default()
                    }),
                    ..Default::default()
                }
            });
            scheduler.accept(&offer, tasks.collect());
        }
        let now = Instant::now();
        match &mut window {
            None if now >= warm => {
                let acknowledged = fleet.acknowledged();
                let part = (now, acknowledged);
                window = Some(Window { part, acknowledged, cpu: cpu()? });
            }
            Some(window) if now >= window.part.0 + part => {
                let (since, before) =
                    std::mem::replace(&mut window.part, (now, fleet.acknowledged()));
                let tasks = (window.part.1 - before) as f64;
                best = best.max(tasks / now.duration_since(since).as_secs_f64());
                parts += 1;
                if parts == PARTS {
                    ensure!(scheduler.refused() == 0, "{} calls were refused", scheduler.refused());
                    let tasks = (window.part.1 - window.acknowledged) as f64;
                    return Ok(Found { rate: best, cpu_ms: (cpu()? - window.cpu) * 1e3 / tasks });
                }
            }
            _ => {}
        }
    }
}
