//! Going through seeds: `SEED=n` runs one alone (with `TRACE=1` it tells everything that happens), `SEEDS=n` the first so
//! many, `SEEDS=m..n` those. Without either, the first some thousands, or as many as a minute or so gives. A failure names
//! its seed.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::clients::TIMEOUT_MS;
use super::{LIMITS, Simulation, TICK_MS};

/// How many clients a simulation has that has any.
const CLIENTS: usize = 4;

/// So much time passes.
fn pass(simulation: &mut Simulation, ms: i64) {
    let end_ms = simulation.now_ms + ms;
    while simulation.now_ms < end_ms {
        simulation.step();
    }
}

fn settle(simulation: &mut Simulation) {
    let limit_ms = simulation.now_ms + 60_000;
    // Often enough to see the moments in which nothing that was proposed is under way.
    while !simulation.is_settled() {
        pass(simulation, TICK_MS / 5);
        assert!(
            simulation.now_ms < limit_ms,
            "the ensemble does not come together again: {}",
            simulation.standing()
        );
    }
}

fn run(seed: u64, clients: usize) -> Simulation {
    let mut simulation = Simulation::new(seed, clients);
    simulation.is_traced = std::env::var_os("TRACE").is_some();
    let trouble_ms = 1000 + simulation.random.below(6000) as i64;
    pass(&mut simulation, trouble_ms);
    simulation.calm = true;
    simulation.unblock();
    settle(&mut simulation);
    if clients > 0 {
        // The leader may still have to hear of clients whose server did nothing for long.
        pass(&mut simulation, 4 * LIMITS.tick_ms);
        settle(&mut simulation);
        simulation.silence_some();
        pass(&mut simulation, 3 * TIMEOUT_MS);
        settle(&mut simulation);
        simulation.check_clients();
    }
    for (id, node) in &simulation.nodes {
        let agreed = &simulation.checks.agreed;
        assert_eq!(&node.tree, agreed, "server {id} has lost or reordered writes");
    }
    simulation.checks.finish();
    simulation
}

/// What has happened in many simulations.
#[derive(Debug, Default)]
struct Totals {
    agreed: AtomicU64,
    crashes: AtomicU64,
    full_disks: AtomicU64,
    blackouts: AtomicU64,
    lost: AtomicU64,
    survived: AtomicU64,
    torn: AtomicU64,
    pauses: AtomicU64,
    jumps: AtomicU64,
    partitions: AtomicU64,
    dropped: AtomicU64,
    doubled: AtomicU64,
    overtaken: AtomicU64,
    stalled: AtomicU64,
    late: AtomicU64,
    epochs: AtomicU64,
    snapshots: AtomicU64,
    truncations: AtomicU64,
    changes: AtomicU64,
    storms: AtomicU64,
    lent: AtomicU64,
    observed: AtomicU64,
    writes: AtomicU64,
    reads: AtomicU64,
    events: AtomicU64,
    moves: AtomicU64,
    expired: AtomicU64,
    deferred: AtomicU64,
}

impl Totals {
    fn add(&self, simulation: &Simulation) {
        let (checks, faults) = (&simulation.checks, simulation.faults);
        let told = simulation.told_clients();
        for (total, more) in [
            (&self.agreed, checks.agreed.len() as u64),
            (&self.crashes, faults.crashes),
            (&self.full_disks, faults.full_disks),
            (&self.blackouts, faults.blackouts),
            (&self.lost, faults.lost),
            (&self.survived, faults.survived),
            (&self.torn, faults.torn),
            (&self.pauses, faults.pauses),
            (&self.jumps, faults.jumps),
            (&self.partitions, faults.partitions),
            (&self.dropped, faults.dropped),
            (&self.doubled, faults.doubled),
            (&self.overtaken, faults.overtaken),
            (&self.stalled, faults.stalled),
            (&self.late, faults.late),
            (&self.epochs, checks.epochs() as u64),
            (&self.snapshots, simulation.snapshots),
            (&self.truncations, simulation.truncations),
            (&self.changes, checks.changes as u64),
            (&self.storms, simulation.storms),
            (&self.lent, simulation.lent),
            (&self.observed, simulation.observed),
            (&self.writes, told.writes),
            (&self.reads, told.reads),
            (&self.events, told.events),
            (&self.moves, told.moves),
            (&self.expired, told.expired),
            (&self.deferred, told.deferred),
        ] {
            total.fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// A total, and in how many seeds there must be one.
type Least = (fn(&Totals) -> &AtomicU64, u64);

/// The seeds that were asked for.
fn seeds() -> Option<Range<u64>> {
    let variable = |name: &str| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(seed) = variable("SEED").as_deref().and_then(number) {
        return Some(seed..seed + 1);
    }
    variable("SEEDS").and_then(|text| match text.split_once("..") {
        Some((first, end)) => Some(number(first)?..number(end)?),
        None => Some(0..number(&text)?),
    })
}

/// What a panic says.
pub(super) fn said(cause: &(dyn Any + Send)) -> String {
    let fixed = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    cause.downcast_ref::<String>().cloned().or(fixed).unwrap_or_default()
}

/// Runs the first seeds on all processors, but for so long only, unless some were asked for. Of each total there must be one in so many
/// seeds: a simulation in which nothing happens would prove nothing.
fn explore(count: u64, limit: Duration, clients: usize, least: &[Least]) {
    let (asked, began) = (seeds(), Instant::now());
    let deadline = asked.is_none().then(|| Instant::now() + limit);
    let seeds = asked.unwrap_or(0..count);
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let totals = Totals::default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    break;
                }
                match std::panic::catch_unwind(|| run(seed, clients)) {
                    Ok(simulation) => totals.add(&simulation),
                    Err(cause) => {
                        next.store(seeds.end, Ordering::Relaxed);
                        panic!("SEED={seed} fails: {}", said(&*cause));
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let count = done.into_inner();
    println!("{count} seeds in {:?}: {totals:?}", began.elapsed());
    // Of a few seeds nothing can be expected.
    for (total, part) in least.iter().filter(|(_, part)| count >= 10 * part) {
        assert!(total(&totals).load(Ordering::Relaxed) * part >= count, "{totals:?}");
    }
}

#[test]
fn ensembles_agree_whatever_happens() {
    explore(
        10_000,
        Duration::from_secs(90),
        0,
        &[
            (|totals| &totals.agreed, 1),
            (|totals| &totals.crashes, 1),
            (|totals| &totals.full_disks, 20),
            (|totals| &totals.blackouts, 10),
            (|totals| &totals.lost, 2),
            (|totals| &totals.survived, 10),
            (|totals| &totals.torn, 10),
            (|totals| &totals.pauses, 4),
            (|totals| &totals.jumps, 1),
            (|totals| &totals.partitions, 1),
            (|totals| &totals.dropped, 1),
            (|totals| &totals.doubled, 1),
            (|totals| &totals.overtaken, 1),
            (|totals| &totals.stalled, 1),
            (|totals| &totals.late, 10),
            (|totals| &totals.epochs, 1),
            (|totals| &totals.snapshots, 20),
            (|totals| &totals.truncations, 100),
            (|totals| &totals.changes, 4),
            (|totals| &totals.storms, 5),
            (|totals| &totals.lent, 50),
            (|totals| &totals.observed, 20),
        ],
    );
}

#[test]
fn clients_are_told_one_history_whatever_happens() {
    explore(
        12_000,
        Duration::from_secs(90),
        CLIENTS,
        &[
            (|totals| &totals.writes, 1),
            (|totals| &totals.reads, 1),
            (|totals| &totals.events, 1),
            (|totals| &totals.moves, 1),
            (|totals| &totals.expired, 10),
            (|totals| &totals.deferred, 10),
            (|totals| &totals.observed, 20),
        ],
    );
}
