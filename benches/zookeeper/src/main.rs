//! `bench-zookeeper`: our ZooKeeper server and Apache's side by side in one run, on one disk, under one load; beside
//! both the limit: a server without a database, and a file that is only synced.

mod limit;
mod load;
mod memory;
mod report;
mod servers;
mod speed;
mod wire;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tempfile::TempDir;

use bench_measure as process;
use load::Mix;

/// Compares our ZooKeeper server with Apache's.
#[derive(Debug, Parser)]
#[command(name = "bench-zookeeper")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Role>,
    /// A short run: fewer cells, shorter ones, 100,000 znodes instead of a million.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::all())]
    parts: Vec<Part>,
    /// Only these mixes.
    #[arg(long, value_delimiter = ',', value_parser = mix)]
    mixes: Vec<Mix>,
    /// Only these numbers of connections.
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Only these numbers of requests outstanding on each connection.
    #[arg(long, value_delimiter = ',')]
    outstanding: Vec<usize>,
    /// Seconds that each cell is measured.
    #[arg(long)]
    seconds: Option<f64>,
    /// In how many parts each cell is measured, server by server in turn: what else the machine does hits all alike.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many znodes are made for the figures of memory and recovery.
    #[arg(long)]
    znodes: Option<usize>,
    /// Where the servers' data is while they run: the disk that is measured.
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, default_value = "target/bench-zookeeper.json")]
    output: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves as the limit does.
    #[command(hide = true)]
    Limit {
        /// The port.
        port: u16,
        /// The file that is synced.
        log: PathBuf,
    },
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One server each.
    Standalone,
    /// Three servers each.
    Ensemble,
    /// Start, memory and recovery.
    Memory,
}

impl Part {
    fn all() -> [Self; 3] {
        [Self::Standalone, Self::Ensemble, Self::Memory]
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Standalone => "standalone",
            Self::Ensemble => "ensemble",
            Self::Memory => "memory",
        })
    }
}

fn mix(text: &str) -> Result<Mix, String> {
    [Mix::Get, Mix::Set, Mix::Create, Mix::Mixed]
        .into_iter()
        .find(|mix| mix.name() == text)
        .ok_or_else(|| "one of get, set, create, 70:30".to_owned())
}

fn or<T>(given: Vec<T>, usual: impl Into<Vec<T>>) -> Vec<T> {
    if given.is_empty() { usual.into() } else { given }
}

const PREFIX: &str = "bench-zookeeper-";

/// A directory for the data, which goes with what is returned. What runs that were killed have left behind goes first:
/// theirs are locked by nobody.
fn directory(parent: &Path) -> anyhow::Result<(TempDir, File)> {
    std::fs::create_dir_all(parent)?;
    // Between its making and its lock nobody else may look at ours.
    let own_turn = File::open(parent)?;
    own_turn.lock()?;
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && entry.file_type()?.is_dir() && File::open(entry.path())?.try_lock().is_ok() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
    let lock = File::open(directory.path())?;
    lock.lock()?;
    Ok((directory, lock))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Role::Limit { port, log }) = arguments.command {
        return limit::serve(port, &log);
    }
    process::raise_open_files();
    let (directory, _lock) = directory(&arguments.directory)?;
    let quick = arguments.quick;
    let all = [Mix::Get, Mix::Set, Mix::Create, Mix::Mixed];
    let seconds = arguments.seconds.unwrap_or(if quick { 2.0 } else { 5.0 });
    let plan = speed::Plan {
        mixes: or(
            arguments.mixes,
            if quick { vec![Mix::Get, Mix::Set, Mix::Mixed] } else { all.into() },
        ),
        connections: or(arguments.connections, if quick { vec![100] } else { vec![1, 100, 1000] }),
        outstanding: or(arguments.outstanding, [1, 20]),
        measured: Duration::from_secs_f64(seconds / f64::from(arguments.rounds)),
        warm: Duration::from_secs_f64(seconds / 2.0 / f64::from(arguments.rounds)),
        rounds: arguments.rounds,
        warm_up: Duration::from_secs(if quick { 4 } else { 15 }),
        has_apache: servers::has_apache(),
    };
    let mut out = std::io::stdout();
    if !plan.has_apache {
        writeln!(out, "Debian's zookeeper package is not installed: ours alone is measured.")?;
    }
    let mut report = report::Report::default();
    let standalone = arguments.parts.contains(&Part::Standalone);
    for count in [(standalone, 1), (arguments.parts.contains(&Part::Ensemble), 3)] {
        if count.0 {
            speed::run(directory.path(), &plan, count.1, &mut report, &mut out)?;
        }
    }
    if arguments.parts.contains(&Part::Memory) {
        let znodes = arguments.znodes.unwrap_or(if quick { 100_000 } else { 1_000_000 });
        memory::run(directory.path(), znodes, plan.has_apache, &mut report, &mut out)?;
    }
    std::fs::write(&arguments.output, report.json())?;
    report.summary(&mut out)?;
    writeln!(out, "The figures are in {}.", arguments.output.display())?;
    Ok(())
}
