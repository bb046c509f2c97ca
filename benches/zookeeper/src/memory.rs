//! Start, memory and recovery, of one server after the other.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::load::{Load, connect_all};
use crate::process::resident_bytes;
use crate::report::Report;
use crate::servers::{Kind, Server};

/// Starts that the figure is the median of.
const STARTS: usize = 5;
const IDLE: usize = 10_000;
/// A collector and an allocator give back what they don't need after a while.
const SETTLE: Duration = Duration::from_secs(3);
const PARENTS: usize = 1000;

/// What one server took.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// From its start until it gives a session, in ms.
    pub(crate) start_ms: f64,
    /// Bytes in RAM without clients.
    pub(crate) idle_bytes: f64,
    /// With idle connections.
    pub(crate) connections_bytes: f64,
    /// With the znodes.
    pub(crate) znodes_bytes: f64,
    /// Bytes more with the znodes than without, for each.
    pub(crate) bytes_per_znode: f64,
    /// Znodes a second while they were made.
    pub(crate) load_rate: f64,
    /// From the start after a kill until it gives a session, in ms.
    pub(crate) recovery_ms: f64,
}

fn measure(directory: &Path, kind: Kind, znodes: usize) -> anyhow::Result<Taken> {
    let mut server = Server::prepare(directory, kind, 1)?.pop().context("no server")?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        server.wipe()?;
        starts.push(server.start()?.as_secs_f64() * 1000.0);
    }
    starts.sort_by(f64::total_cmp);
    std::thread::sleep(SETTLE);
    let idle_bytes = resident_bytes(server.pid())? as f64;
    let held = connect_all(&[server.address], IDLE)?;
    std::thread::sleep(SETTLE);
    let connections_bytes = resident_bytes(server.pid())? as f64;
    drop(held);
    server.wipe()?;
    server.start()?;
    let address = [server.address];
    Load::open(&address, 1, 1, 0)?.make(1, |_| "/bench".to_owned())?;
    let mut load = Load::open(&address, 20, 100, 0)?;
    let parent = |number: usize| format!("/bench/p{number:03}");
    load.make(PARENTS, parent)?;
    let begin = Instant::now();
    load.make(znodes, |number| format!("{}/n{number:07}", parent(number % PARENTS)))?;
    let load_rate = znodes as f64 / begin.elapsed().as_secs_f64();
    drop(load);
    std::thread::sleep(SETTLE);
    let znodes_bytes = resident_bytes(server.pid())? as f64;
    server.kill();
    let recovery_ms = server.start()?.as_secs_f64() * 1000.0;
    server.wipe()?;
    Ok(Taken {
        start_ms: starts[STARTS / 2],
        idle_bytes,
        connections_bytes,
        znodes_bytes,
        bytes_per_znode: (znodes_bytes - idle_bytes) / znodes as f64,
        load_rate,
        recovery_ms,
    })
}

/// Measures and reports.
pub(crate) fn run(
    directory: &Path,
    znodes: usize,
    has_apache: bool,
    report: &mut Report,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let ours = measure(directory, Kind::Ours, znodes).context("ours")?;
    let apache = if has_apache {
        Some(measure(directory, Kind::Apache, znodes).context("apache")?)
    } else {
        None
    };
    report.memory(znodes, &ours, apache.as_ref(), out)
}
