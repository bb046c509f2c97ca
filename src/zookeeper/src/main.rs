//! `zookeeper-server`.

mod manual;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use zookeeper::config::environment::Environment;
use zookeeper::tools::{self, ToolError};
use zookeeper::{Config, Server};

/// A ZooKeeper server, compatible with Apache's 3.8.
///
/// Reads the original's zoo.cfg, and -Dzookeeper.KEY=VALUE flags of SERVER_JVMFLAGS and JVMFLAGS, from its environment
/// and from /etc/default/zookeeper, /etc/sysconfig/zookeeper and java.env or zookeeper-env.sh beside zoo.cfg.
/// The log goes to standard error; RUST_LOG says how much of it: error, warn, info, debug.
/// Tools for the files of a data directory: zookeeper-server log --help, zookeeper-server snapshot --help, zookeeper-server purge
/// --help.
#[derive(Debug, Parser)]
#[command(name = "zookeeper-server", version = zookeeper::words::VERSION)]
struct Arguments {
    /// The configuration file; $ZOOCFGDIR/$ZOOCFG if not given, which is /etc/zookeeper/conf/zoo.cfg by default.
    /// The word start-foreground in front of it is taken for compatibility.
    #[arg(value_name = "ZOO.CFG", num_args = 0..=2)]
    config: Vec<OsString>,
    /// Checks the configuration, says what is wrong or without effect in it, and ends.
    #[arg(long)]
    check: bool,
    /// Prints the keys of zoo.cfg, their defaults and what they do here.
    #[arg(long)]
    keys: bool,
    /// Prints the man page.
    #[arg(long)]
    man: bool,
}

/// Tasks between two looks at the sockets: the core then takes what came from so many connections at once.
const EVENT_INTERVAL: u32 = 256;

fn main() -> ExitCode {
    let is_tool = std::env::args_os().nth(1).is_some_and(|first| tools::is_tool(&first));
    let ended = if is_tool { use_tool() } else { act(&Arguments::parse()) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "zookeeper-server: {}", said(&error));
            ExitCode::FAILURE
        }
    }
}

/// `zookeeper-server log …` and `zookeeper-server snapshot …`.
fn use_tool() -> anyhow::Result<()> {
    let cli = tools::Cli::parse();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let done = cli.run(&mut out).and_then(|()| Ok(out.flush()?));
    match done {
        // Whoever reads has read enough.
        Err(ToolError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            // What it has said so far comes before the error.
            let _ = out.flush();
            Err(error.into())
        }
        Ok(()) => Ok(()),
    }
}

fn act(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.man {
        manual::page().and_then(|page| print(&page))
    } else if arguments.keys {
        print(manual::keys().as_bytes())
    } else {
        serve(arguments)
    }
}

/// An error with its causes, each of them once: some tell theirs themselves.
fn said(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut said, cause| {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            if !said.is_empty() {
                said.push_str(": ");
            }
            said.push_str(&cause);
        }
        said
    })
}

fn print(text: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut environment = Environment::of_system();
    let given = arguments.config.iter().find(|word| *word != "start-foreground");
    let path = given.map_or_else(|| environment.config(), PathBuf::from);
    environment.source_neighbours(&path);
    // Without fields and patterns, which nobody gives a server: they would cost a tenth of its memory.
    let given = std::env::var("RUST_LOG").ok().filter(|given| !given.is_empty());
    let level = environment.log_level().and_then(|level| level.parse().ok());
    let usual = || Targets::new().with_default(level.unwrap_or(LevelFilter::INFO));
    let given = given.and_then(|given| given.parse::<Targets>().ok());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(given.unwrap_or_else(usual)).with(lines).init();
    let config = Config::read(&path, &environment).context("not started")?;
    if arguments.check {
        let mut text = String::new();
        for notice in &config.notices {
            text.push_str(notice);
            text.push('\n');
        }
        print(text.as_bytes())?;
        return print(format!("{} can be used\n", path.display()).as_bytes());
    }
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    // One thread: handing requests and replies from one to another would cost more than answering them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ending = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        ending.cancel();
    });
    let server = Server::start(config, shutdown).await.context("not started")?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    server.ended().await?;
    Ok(())
}
