//! `/state` of a large cluster, and what it does to offers.

use std::collections::{HashMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use mesos::v1;

use crate::daemons::{Daemon, Kind};
use crate::fleet::Fleet;
use crate::report::{Report, Target};
use crate::scheduler::{self, Scheduler, small};

/// Tasks on each agent.
const TASKS: usize = 10;
/// Between two offers that are given back.
const PACE: Duration = Duration::from_millis(2);

/// How long offers go around before they are measured.
const SETTLING: Duration = Duration::from_secs(5);

/// One answer to `GET /state`.
#[derive(Debug)]
struct Got {
    first_byte: Duration,
    whole: Duration,
    bytes: usize,
}

/// Gets a path on a connection of its own.
fn get(master: SocketAddr, path: &str) -> anyhow::Result<Got> {
    let mut stream = TcpStream::connect(master)?;
    let began = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {master}\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut bytes, mut first_byte) = (0, None);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if first_byte.is_none() {
            ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{path} is refused");
        }
        first_byte.get_or_insert_with(|| began.elapsed());
        bytes += read;
    }
    Ok(Got { first_byte: first_byte.context("no answer")?, whole: began.elapsed(), bytes })
}

/// Median and 99th percentile of how long it takes, on one connection that is kept, in ms.
pub(crate) fn latency(daemon: SocketAddr, path: &str, times: usize) -> anyhow::Result<(f64, f64)> {
    let mut stream = TcpStream::connect(daemon)?;
    stream.set_nodelay(true)?;
    let mut buffer = bytes::BytesMut::new();
    let mut read = vec![0; 64 * 1024];
    let mut took = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {daemon}\r\n\r\n")?;
        while crate::wire::whole(&mut buffer)?.is_none() {
            let count = stream.read(&mut read)?;
            ensure!(count > 0, "the daemon hung up");
            buffer.extend_from_slice(&read[..count]);
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok((took[times / 2], took[times * 99 / 100]))
}

/// Measures our master with `agents` agents of ten tasks each.
pub(crate) async fn run(
    directory: &Path,
    agents: usize,
    measured: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let master = Daemon::master(Kind::Ours, directory, &[])?;
    let mut scheduler = Scheduler::subscribe(master.address, None).await?;
    let fleet = Fleet::start(agents, master.address).await?;
    let info = scheduler::info(Some(scheduler.id.clone()));
    let registering = fleet.reregister(Duration::from_secs(300), |agent, id| {
        let tasks = (0..TASKS).map(|number| running(agent, number, id, &scheduler.id));
        (tasks.collect(), vec![info.clone()])
    });
    registering.await?;
    let mut held: VecDeque<v1::Offer> = VecDeque::new();
    while held.len() < agents {
        let events = tokio::time::timeout(Duration::from_secs(60), scheduler.events()).await??;
        for event in events {
            held.extend(event.offers.into_iter().flat_map(|offers| offers.offers));
            if let Some(rescind) = event.rescind {
                held.retain(|offer| offer.id != rescind.offer_id);
            }
        }
    }
    let title = format!("{agents} agents, {} tasks", agents * TASKS);
    // What so many registrations leave to be done is over first.
    offers(&mut scheduler, &mut held, SETTLING).await?;
    let alone = offers(&mut scheduler, &mut held, measured).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (asked, stopped) = (master.address, stop.clone());
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            all.push(get(asked, "/state")?);
        }
        anyhow::Ok(all)
    });
    let beside = offers(&mut scheduler, &mut held, measured).await;
    stop.store(true, Ordering::Relaxed);
    let all = reader.join().ok().context("the reader failed")??;
    let beside = beside?;
    let count = all.len() as f64;
    let mean = |of: fn(&Got) -> f64| all.iter().map(of).sum::<f64>() / count;
    let (first, whole) =
        (mean(|got| got.first_byte.as_secs_f64()), mean(|got| got.whole.as_secs_f64()));
    let bytes = mean(|got| got.bytes as f64);
    report.add(
        format!("/state with {title}: first byte"),
        "ms",
        first * 1e3,
        None,
        Target::None,
    )?;
    report.add("… all of it", "ms", whole * 1e3, None, Target::None)?;
    report.add("… size", "MB", bytes / 1e6, None, Target::None)?;
    report.add("… throughput", "MB/s", bytes / 1e6 / whole, None, Target::None)?;
    let p99 = |found: &Histogram<u64>| found.value_at_quantile(0.99) as f64 / 1e3;
    report.add(
        "p99 of an offer's way back, nobody looking",
        "ms",
        p99(&alone),
        None,
        Target::None,
    )?;
    report.add("… while /state is read all the time", "ms", p99(&beside), None, Target::None)?;
    let ratio = p99(&beside) / p99(&alone);
    report.add("… against nobody looking", "×", ratio, None, Target::AtMost(2.0))
}

/// How long it takes until what was given back is offered again, in µs, counted from when it was to be given back.
async fn offers(
    scheduler: &mut Scheduler,
    held: &mut VecDeque<v1::Offer>,
    measured: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let mut found = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut since: HashMap<String, tokio::time::Instant> = HashMap::new();
    let end = tokio::time::Instant::now() + measured;
    let mut next = tokio::time::Instant::now();
    while tokio::time::Instant::now() < end || !since.is_empty() {
        ensure!(tokio::time::Instant::now() < end + Duration::from_secs(60), "no offers any more");
        let give_back = next < end;
        tokio::select! {
            () = tokio::time::sleep_until(next), if give_back => {
                if let Some(offer) = held.pop_back() {
                    since.insert(offer.agent_id.value.clone(), next);
                    scheduler.accept(&offer, Vec::new());
                }
                next += PACE;
            }
            events = scheduler.events() => {
                for event in events? {
                    for offer in event.offers.into_iter().flat_map(|offers| offers.offers) {
                        if let Some(since) = since.remove(&offer.agent_id.value) {
                            found.saturating_record(since.elapsed().as_micros() as u64);
                        }
                        held.push_front(offer);
                    }
                }
            }
            () = tokio::time::sleep(Duration::from_millis(100)), if !give_back => {}
        }
    }
    Ok(found)
}

fn running(agent: usize, number: usize, id: &str, framework: &v1::FrameworkId) -> v1::Task {
    let task_id = v1::TaskId { value: format!("running-{agent}-{number}") };
    let agent_id = v1::AgentId { value: id.to_owned() };
    let status = v1::TaskStatus {
        task_id: task_id.clone(),
        state: v1::TaskState::TaskRunning as i32,
        source: Some(v1::task_status::Source::Executor as i32),
        agent_id: Some(agent_id.clone()),
        timestamp: Some(1.7e9),
        ..Default::default()
    };
    v1::Task {
        name: "service".to_owned(),
        task_id,
        framework_id: framework.clone(),
        agent_id,
        state: v1::TaskState::TaskRunning as i32,
        resources: small(),
        statuses: vec![status],
        ..Default::default()
    }
}
