//! `bench-mesos`: our master and agent at scale, beside the original's in the same run where it is there
//! (`MESOS_ORACLE_CACHE`, `/var/tmp/mesos-oracle`): tasks a second, allocation, registration, `/state`, containers.

mod agent;
mod allocation;
mod daemons;
mod fleet;
mod registration;
mod report;
mod scheduler;
mod state;
mod throughput;
mod wire;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bench_measure as process;
use clap::{Parser, ValueEnum};

use daemons::Kind;

/// Measures our Mesos master and agent beside the original's.
#[derive(Debug, Parser)]
#[command(name = "bench-mesos")]
struct Arguments {
    /// A short run: shorter measurements, fewer agents.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Ours alone, even if the original is there.
    #[arg(long)]
    ours: bool,
    /// Seconds that throughput is measured.
    #[arg(long)]
    seconds: Option<f64>,
    /// Where the daemons' data is while they run.
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, default_value = "target/bench-mesos.json")]
    output: PathBuf,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Tasks through one master.
    Throughput,
    /// Rounds of the allocator.
    Allocation,
    /// Very many agents that register.
    Registration,
    /// `/state` of a large cluster.
    State,
    /// One agent.
    Agent,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    process::raise_open_files();
    std::fs::create_dir_all(&arguments.directory)?;
    let directory =
        tempfile::Builder::new().prefix("bench-mesos-").tempdir_in(&arguments.directory)?;
    let directory = directory.path().canonicalize()?;
    let quick = arguments.quick;
    let mut kinds = vec![Kind::Ours];
    if !arguments.ours && daemons::has_original() {
        kinds.push(Kind::Original);
    }
    let seconds = arguments.seconds.unwrap_or(if quick { 3.0 } else { 15.0 });
    let mut report = report::Report::default();
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if wanted(Part::Throughput) {
        let measured = Duration::from_secs_f64(seconds);
        throughput::run(&directory, &kinds, measured, &mut report).await?;
    }
    if wanted(Part::Allocation) {
        allocation::run(&mut report)?;
    }
    if wanted(Part::Registration) {
        let agents = if quick { 5_000 } else { 50_000 };
        registration::run(&directory.join("registration"), agents, &mut report).await?;
    }
    if wanted(Part::State) {
        let agents = if quick { 1_000 } else { 10_000 };
        let measured = Duration::from_secs_f64(seconds.max(5.0));
        state::run(&directory.join("state"), agents, measured, &mut report).await?;
    }
    if wanted(Part::Agent) {
        let measured = Duration::from_secs_f64(seconds);
        agent::run(&directory, &kinds, measured, &mut report).await?;
    }
    let mut out = std::io::stdout();
    report.write(&mut out)?;
    std::fs::write(&arguments.output, report.json())?;
    writeln!(out, "The figures are in {}.", arguments.output.display())?;
    Ok(())
}
