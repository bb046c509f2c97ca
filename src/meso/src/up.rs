//! `meso up`: a whole cluster in this process, for trying it out: a ZooKeeper server, a master, an agent and a Marathon,
//! with a sample app. Needs no root; with a Docker daemon in reach it runs Docker apps too.
//!
//! The daemons are the packages' own, as libraries, each on its own port. What may fail for want of a port or a directory
//! is tried before the first of them starts. They end in the order in which they depend on each other, tasks included.

mod daemons;

use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing_subscriber::EnvFilter;

use crate::problem::Problem;
use daemons::{Cluster, Ports};

/// How long the daemons may take until they work together.
const START: Duration = Duration::from_secs(60);
const SAMPLE: &str = "/hello";

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
    /// Start no sample app.
    #[arg(long)]
    no_app: bool,
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
    let log = directory.join("meso.log");
    log_to(&log)?;
    let ports = Ports {
        zookeeper: options.zookeeper_port,
        master: options.master_port,
        agent: options.agent_port,
        marathon: options.marathon_port,
    };
    let progress = progress();
    let stopped = web::daemon::cancelled_by_signals()?;
    progress.set_message("starting the daemons");
    let mut cluster = Cluster::start(&directory, options.bind, ports).await?;

    let (master, marathon) = (
        format!("http://{}:{}", options.bind, ports.master),
        format!("http://{}:{}", options.bind, ports.marathon),
    );
    let ready = async {
        progress.set_message("waiting for the agent to register");
        eventually("an agent registered", &format!("{master}/state"), |state| {
            state["activated_slaves"].as_f64() == Some(1.0)
        })
        .await?;
        progress.set_message("waiting for Marathon to lead");
        eventually("Marathon leading", &format!("{marathon}/v2/info"), |info| {
            info["frameworkId"].is_string()
        })
        .await?;
        if !options.no_app {
            progress.set_message("starting the sample app");
            sample(&marathon).await?;
        }
        anyhow::Ok(())
    };
    let started = tokio::select! {
        started = ready => started.with_context(|| format!("the daemons' log is {}", log.display())),
        failed = cluster.failed() => Err(failed),
        () = stopped.cancelled() => Ok(()),
    };
    progress.finish_and_clear();
    if started.is_ok() && !stopped.is_cancelled() {
        greet(&master, &marathon, &directory, cluster.has_docker(), !options.no_app)?;
        tokio::select! {
            () = stopped.cancelled() => {}
            failed = cluster.failed() => {
                cluster.stop().await;
                return Err(failed);
            }
        }
    }
    say("stopping: tasks, Marathon, agent, master, ZooKeeper")?;
    let again = web::daemon::cancelled_by_signals()?;
    tokio::select! {
        () = cluster.stop() => {}
        () = again.cancelled() => bail!("ended at once, as asked twice: tasks may be left running"),
    }
    started
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

/// Reads JSON until it is as wanted.
async fn eventually(
    what: &str,
    url: &str,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let deadline = Instant::now() + START;
    loop {
        let seen = match client.get(url).send().await {
            Ok(answer) => answer.json::<Value>().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match seen {
            Ok(value) if wanted(&value) => return Ok(value),
            _ if Instant::now() < deadline => sleep(Duration::from_millis(100)).await,
            Ok(_) => bail!("not seen within {START:?}: {what} ({url} says otherwise)"),
            Err(error) => bail!("not seen within {START:?}: {what} ({error})"),
        }
    }
}

/// Makes the sample app, unless an earlier run did, and waits until it runs.
async fn sample(marathon: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let has_python = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join("python3").is_file())
    });
    let cmd = if has_python {
        "echo \"<h1>Hello from $MESOS_TASK_ID</h1>\" > index.html && exec python3 -m http.server $PORT0"
    } else {
        "while sleep 5; do echo \"Hello from $MESOS_TASK_ID\"; done"
    };
    let app = json!({"id": SAMPLE, "cmd": cmd, "cpus": 0.1, "mem": 32, "instances": 1, "portDefinitions": [{"port": 0, "name": "http"}]});
    let answer = client.post(format!("{marathon}/v2/apps")).json(&app).send().await?;
    // 409: it is there from an earlier run.
    if !answer.status().is_success() && answer.status() != reqwest::StatusCode::CONFLICT {
        bail!("Marathon refuses the sample app: {}", answer.text().await.unwrap_or_default());
    }
    eventually("the sample app running", &format!("{marathon}/v2/apps{SAMPLE}"), |answer| {
        let app = &answer["app"];
        app["instances"] == 0 || app["tasksRunning"].as_u64().is_some_and(|running| running > 0)
    })
    .await?;
    Ok(())
}

fn greet(
    master: &str,
    marathon: &str,
    directory: &Path,
    docker: bool,
    app: bool,
) -> std::io::Result<()> {
    say(&format!("Mesos     {master}"))?;
    say(&format!("Marathon  {marathon}"))?;
    say(&format!(
        "Docker    {}",
        if docker { "yes" } else { "no daemon is in reach: apps run as plain processes" }
    ))?;
    say(&format!("Data      {} (log: meso.log)", directory.display()))?;
    if app {
        say(&format!(
            "\nScale the sample app:\n  curl -X PUT -H 'Content-Type: application/json' -d '{{\"instances\":2}}' {marathon}/v2/apps{SAMPLE}"
        ))?;
    }
    say("\nCtrl-C ends it all.")
}
