//! `meso up`: a whole cluster in this process, for trying it out: a ZooKeeper server, a master, an agent and a Marathon,
//! with a sample app. Needs no root; with a Docker daemon in reach it runs Docker apps too.
//!
//! The daemons are the packages' own, as libraries, each on its own port. What may fail for want of a port or a directory
//! is tried before the first of them starts. They end in the order in which they depend on each other, tasks included.

mod daemons;
mod leftovers;
mod ports;
mod ready;
mod sample;

use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tracing_subscriber::EnvFilter;

use crate::problem::Problem;
use daemons::Cluster;
use ports::Ports;

/// Where the cluster lives.
#[derive(Debug, Args)]
pub struct Options {
    /// Directory of everything it keeps [default: meso/up in $XDG_DATA_HOME or ~/.local/share].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Port of the ZooKeeper server.
    #[arg(long, value_name = "PORT", default_value_t = 2181, value_parser = clap::value_parser!(u16).range(1..))]
    zookeeper_port: u16,
    /// Port of the master.
    #[arg(long, value_name = "PORT", default_value_t = 5050, value_parser = clap::value_parser!(u16).range(1..))]
    master_port: u16,
    /// Port of the agent.
    #[arg(long, value_name = "PORT", default_value_t = 5051, value_parser = clap::value_parser!(u16).range(1..))]
    agent_port: u16,
    /// Port of Marathon.
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    marathon_port: u16,
    /// Ports that tasks get.
    #[arg(long, value_name = "FIRST-LAST", default_value = "31000-32000", value_parser = task_ports)]
    task_ports: String,
    /// Start no sample app.
    #[arg(long)]
    no_app: bool,
}

/// A range of ports, as `FIRST-LAST`.
fn task_ports(text: &str) -> Result<String, String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-').map(|(first, last)| (port(first), port(last))) {
        Some((Some(first), Some(last))) if first <= last => Ok(format!("{first}-{last}")),
        _ => Err("expecting two ports, the first not above the last, as 31000-32000".to_owned()),
    }
}

impl Options {
    /// The address in URLs.
    fn shown_host(&self) -> String {
        match self.bind {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }
    }
}

/// Runs the cluster until SIGINT or SIGTERM; a second one ends at once.
///
/// # Errors
/// When a port is taken, the directory can't be used, or a daemon fails.
pub async fn run(options: Options) -> anyhow::Result<()> {
    if options.bind.is_unspecified() {
        return Err(Problem::usage(
            "--bind needs one address",
            format!(
                "{} stands for all of them, and the daemons tell each other where they are",
                options.bind
            ),
            "give the address that you will use from a browser, or leave it out",
        )
        .into());
    }
    let directory = directory(options.dir.as_deref())?;
    let _lock = lock(&directory)?;
    let log = directory.join("meso.log");
    log_to(&log)?;
    let progress = progress();
    let stopped = web::daemon::cancelled_by_signals()?;
    progress.set_message("starting the daemons");
    let ports = Ports::hold(&options).await?;
    // What a run that was killed left behind would keep its tasks' ports and its sandboxes.
    leftovers::end(&directory, true).await;
    let mut cluster = Cluster::start(&directory, &options, ports).await?;
    let ready = async {
        progress.set_message("waiting for the agent to register and Marathon to lead");
        ready::wait(&options).await?;
        progress.set_message("starting the sample app");
        if options.no_app { Ok(None) } else { sample::create(&options, &directory).await }
    };
    let started = tokio::select! {
        started = ready => started.with_context(|| format!("the daemons' log is {}", log.display())),
        failed = cluster.failed() => Err(failed),
        () = stopped.cancelled() => Ok(None),
    };
    progress.finish_and_clear();
    let ended = match started {
        Ok(app) if !stopped.is_cancelled() => {
            greet(&options, &directory, cluster.has_docker(), app)?;
            tokio::select! {
                () = stopped.cancelled() => Ok(()),
                failed = cluster.failed() => Err(failed),
            }
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    say("stopping: Marathon, agent with its tasks, master, ZooKeeper")?;
    let again = web::daemon::cancelled_by_signals()?;
    tokio::select! {
        () = cluster.stop() => leftovers::end(&directory, false).await,
        () = again.cancelled() => {
            leftovers::end(&directory, true).await;
            bail!("ended at once, as asked twice");
        }
    }
    ended
}

fn directory(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let base = |variable: &str| {
        std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    let directory = given
        .map(Path::to_path_buf)
        .or_else(|| Some(base("XDG_DATA_HOME")?.join("meso/up")))
        .or_else(|| Some(base("HOME")?.join(".local/share/meso/up")))
        .context("no directory to keep things in: give one by --dir")?;
    let unusable = |error: std::io::Error| {
        Problem::usage(
            "the directory can't be used",
            format!("{}: {error}", directory.display()),
            "give one that you may write to by --dir",
        )
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(unusable)?;
    Ok(std::fs::canonicalize(&directory).map_err(unusable)?)
}

/// Keeps a second `meso up` away from the directory, and from the tasks of the first.
fn lock(directory: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    let path = directory.join("lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => Problem::usage(
            "a cluster runs in this directory already",
            format!("{} is locked by another meso up", path.display()),
            "stop that one, or give another directory by --dir, and other ports",
        )
        .into(),
        error => anyhow::Error::from(error).context(format!("cannot lock {}", path.display())),
    })
}

/// Sends the daemons' logs to a file: the terminal is for the person.
fn log_to(path: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Fails only where logging is set up already, which is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::sync::Arc::new(file))
        .with_ansi(false)
        .try_init();
    Ok(())
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn say(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{text}")
}

fn greet(
    options: &Options,
    directory: &Path,
    docker: bool,
    app: Option<&str>,
) -> std::io::Result<()> {
    let host = options.shown_host();
    say(&format!("Mesos     http://{host}:{}", options.master_port))?;
    say(&format!("Marathon  http://{host}:{}", options.marathon_port))?;
    say(&format!(
        "Docker    {}",
        if docker { "yes" } else { "no daemon is in reach: apps run as plain processes" }
    ))?;
    say(&format!("Data      {} (log: meso.log)", directory.display()))?;
    if let Some(app) = app {
        say(&format!(
            "\nScale the sample app:\n  curl -X PUT -H 'Content-Type: application/json' -d '{{\"instances\":2}}' http://{host}:{}/v2/apps{app}",
            options.marathon_port
        ))?;
    }
    say("\nCtrl-C ends it all.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_directory_is_private_and_taken_once() {
        let scratch = tempfile::tempdir().unwrap();
        let path = directory(Some(&scratch.path().join("a/b"))).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let held = lock(&path).unwrap();
        assert!(lock(&path).unwrap_err().to_string().contains("already"));
        drop(held);
        lock(&path).unwrap();
    }

    #[test]
    fn ranges_of_ports_are_read_or_refused() {
        assert_eq!(task_ports("31000-32000"), Ok("31000-32000".to_owned()));
        assert_eq!(task_ports("5-5"), Ok("5-5".to_owned()));
        for wrong in ["", "1", "0-5", "9-5", "1-70000", "1-2-3", "a-b"] {
            assert!(task_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(directory(Some(file.path())).is_err());
    }
}
