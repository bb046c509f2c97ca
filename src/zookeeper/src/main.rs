//! `zookeeper-server`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use zookeeper::{Config, Server};

/// A ZooKeeper server, compatible with Apache's 3.8.
#[derive(Debug, Parser)]
#[command(name = "zookeeper-server", version = zookeeper::words::VERSION)]
struct Arguments {
    /// The configuration file. The word `start-foreground` in front of it is taken for compatibility.
    #[arg(value_name = "ZOO.CFG", num_args = 0..=2)]
    config: Vec<String>,
}

const DEFAULT_CONFIG: &str = "/etc/zookeeper/conf/zoo.cfg";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let path = arguments
        .config
        .iter()
        .find(|word| *word != "start-foreground")
        .map_or_else(|| PathBuf::from(DEFAULT_CONFIG), PathBuf::from);
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(path)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "zookeeper-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(path: PathBuf) -> anyhow::Result<()> {
    let config = Config::read(&path)?;
    for key in &config.ignored {
        tracing::warn!("{}: {key} is not supported by this server yet: ignored", path.display());
    }
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
