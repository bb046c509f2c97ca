//! Very many agents register, and register again after their master was killed and started anew.

use std::path::Path;
use std::time::Duration;

use crate::daemons::{Daemon, Kind};
use crate::fleet::Fleet;
use crate::process;
use crate::report::{Report, Target};

/// How long it may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(300);

/// Measures our master with `count` agents.
pub(crate) async fn run(directory: &Path, count: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut master = Daemon::master(Kind::Ours, directory, &[])?;
    let fleet = Fleet::start(count, master.address).await?;
    let shared = match fleet.per_host() {
        1 => String::new(),
        several => format!(" ({several} on a host)"),
    };
    let took = fleet.register(LIMIT).await?;
    let title = format!("{count} agents{shared} register");
    report.add(title, "s", took.as_secs_f64(), None, Target::AtMost(60.0))?;
    master.kill();
    fleet.disconnect();
    let began = tokio::time::Instant::now();
    master.start()?;
    fleet.reregister(LIMIT, |_, _| Default::default()).await?;
    let took = began.elapsed().as_secs_f64();
    report.add(
        "… again, from the start of another master",
        "s",
        took,
        None,
        Target::AtMost(60.0),
    )?;
    let peak = process::peak_bytes(master.pid())? as f64 / f64::from(1 << 20);
    let most = Target::AtMost(2048.0);
    report.add("… the master's RAM at most", "MiB", peak, None, most)?;
    let mut cpu = process::cpu_seconds(&[master.pid()])?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    cpu = (process::cpu_seconds(&[master.pid()])? - cpu) / 5.0 * 100.0;
    report.add("… CPU of a master that they only ping", "%", cpu, None, Target::None)
}
