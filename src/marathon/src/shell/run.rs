//! Putting a Marathon together from its options, and running it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use election::latch::LatchState;
use election::{MasterAddress, detector, latch};
use mesos::flags::Values;
use mesos::v1;
use mesos::zk_url::ZkUrl;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::actor::{Actor, Handle};
use super::events::Bus;
use super::http::{App, now_ms, router};
use super::proxy::Proxy;
use super::scheduler::{self, Subscription};
use super::store::{self, Store};
use crate::core::{Marathon, Settings};
use crate::flags;

/// What a Marathon is run with.
#[derive(Debug)]
pub struct Options {
    /// Its options.
    pub flags: Values,
    /// A listener, where the caller chose the port; else `--http_address` and `--http_port` are bound.
    pub listener: Option<TcpListener>,
    /// TLS, where it is spoken to Mesos.
    pub tls: Option<tls::Tls>,
}

/// Why Marathon ended itself, and what it exits with, as the original does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Ended {
    /// Exit code.
    pub code: u8,
    /// Why.
    pub reason: String,
}

impl Ended {
    pub(super) fn new(code: u8, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Exit codes of the original.
const NOT_BOUND: u8 = 111;
const ZOOKEEPER_UNREACHABLE: u8 = 100;
const LEADERSHIP_LOST: u8 = 103;
const STATE_UNREADABLE: u8 = 107;

struct Plan {
    settings: Settings,
    zk: ZkUrl,
    master: MasterAddress,
    session_timeout: Duration,
    silence_max: Duration,
    address: SocketAddr,
    hostname: String,
    credentials: Option<(String, String)>,
}

/// Principal and secret for Mesos, where it is to be shown any.
fn credentials(values: &Values) -> anyhow::Result<Option<(String, String)>> {
    if !values.boolean("mesos_authentication") {
        return Ok(None);
    }
    let principal = values
        .text("mesos_authentication_principal")
        .context("--mesos_authentication needs --mesos_authentication_principal")?;
    let secret = match values.text("mesos_authentication_secret_file") {
        Some(file) => {
            let path = file.trim_start_matches("file://");
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("--mesos_authentication_secret_file: {path}"))?;
            text.trim_end().to_owned()
        }
        None => values
            .text("mesos_authentication_secret")
            .context("--mesos_authentication needs --mesos_authentication_secret_file")?
            .to_owned(),
    };
    Ok(Some((principal.to_owned(), secret)))
}

/// Checks all options before anything is touched.
fn check(values: &Values) -> anyhow::Result<Plan> {
    for name in flags::REFUSED {
        let on = values.is_given(name) && values.text(name) != Some("false");
        ensure!(!on, "--{name} is not supported by this Marathon yet: remove it");
    }
    let number = |name: &str| values.number(name).unwrap_or_default();
    let milliseconds = |name: &str| Duration::from_millis(number(name));
    let master = values
        .text("master")
        .context("--master is required: zk://host:port,…/mesos, or host:port of a Mesos master")?;
    let master = MasterAddress::parse(master).context("--master")?;
    let zk: ZkUrl = values.text("zk").unwrap_or_default().parse().context("--zk")?;
    ensure!(
        values.text("executor") == Some("//cmd"),
        "--executor: only //cmd is supported by this Marathon yet"
    );
    ensure!(
        values.text("leader_election_backend") == Some("curator"),
        "--leader_election_backend: only curator is known"
    );
    let ip: IpAddr = values
        .text("http_address")
        .unwrap_or_default()
        .parse()
        .context("--http_address: no address")?;
    let port = values.port("http_port").context("--http_port: no port")?;
    let ports = (
        values.port("local_port_min").unwrap_or_default(),
        values.port("local_port_max").unwrap_or_default(),
    );
    ensure!(
        ports.0 > 0 && ports.0 <= ports.1,
        "--local_port_min must be above 0 and not above --local_port_max"
    );
    ensure!(number("max_instances_per_offer") >= 1, "--max_instances_per_offer must be at least 1");
    if let Some(credentials) = values.text("http_credentials") {
        ensure!(credentials.contains(':'), "--http_credentials: expecting user:password");
    }
    let session_timeout = milliseconds("zk_session_timeout");
    ensure!(
        session_timeout >= Duration::from_millis(500),
        "--zk_session_timeout must be at least 500 (ms)"
    );
    let hostname = match values.text("hostname") {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname()
            .context("the machine's name (--hostname)")?
            .into_string()
            .unwrap_or_default(),
    };
    let user = match values.text("mesos_user") {
        Some(user) => user.to_owned(),
        None => own_user(),
    };
    let role = values.text("mesos_role").unwrap_or("*").to_owned();
    let capability = |kind: v1::framework_info::capability::Type| v1::framework_info::Capability {
        r#type: Some(kind as i32),
    };
    let framework = v1::FrameworkInfo {
        user: user.clone(),
        name: values.text("framework_name").unwrap_or("marathon").to_owned(),
        failover_timeout: Some(number("failover_timeout") as f64),
        checkpoint: Some(values.boolean("checkpoint")),
        role: Some(role.clone()),
        hostname: Some(hostname.clone()),
        principal: values.text("mesos_authentication_principal").map(str::to_owned),
        webui_url: Some(
            values
                .text("webui_url")
                .map_or_else(|| format!("http://{hostname}:{port}"), str::to_owned),
        ),
        capabilities: vec![
            capability(v1::framework_info::capability::Type::PartitionAware),
            capability(v1::framework_info::capability::Type::RegionAware),
        ],
        ..Default::default()
    };
    let settings = Settings {
        role,
        user,
        max_instances_per_offer: number("max_instances_per_offer") as usize,
        decline_offer: milliseconds("decline_offer_duration"),
        task_launch_timeout: milliseconds("task_launch_timeout"),
        kill_retry_timeout: milliseconds("kill_retry_timeout"),
        reconciliation_initial_delay: milliseconds("reconciliation_initial_delay"),
        reconciliation_interval: milliseconds("reconciliation_interval"),
        local_ports: ports,
        framework,
    };
    Ok(Plan {
        settings,
        zk,
        master,
        session_timeout,
        silence_max: milliseconds("mesos_heartbeat_interval")
            * u32::try_from(number("mesos_heartbeat_failure_threshold").max(1)).unwrap_or(5),
        address: SocketAddr::new(ip, port),
        hostname,
        credentials: credentials(values)?,
    })
}

fn own_user() -> String {
    let id = nix::unistd::geteuid();
    nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

/// Runs a Marathon until `shutdown` is cancelled.
///
/// # Errors
/// When an option is wrong, the port is taken, or Marathon must end itself ([`Ended`]): leadership or ZooKeeper are
/// lost, Mesos refuses the framework. The process must end then, to be started again.
pub async fn run(
    options: Options,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let values = options.flags;
    let plan = check(&values)?;
    for warning in values.warnings() {
        tracing::warn!("{warning}");
    }
    let listener = match options.listener {
        Some(listener) => listener,
        None => TcpListener::bind(plan.address).await.map_err(|error| {
            let address = plan.address;
            Ended::new(NOT_BOUND, format!("cannot listen on {address}: {error}: is another program there? (--http_address, --http_port)"))
        })?,
    };
    let port = listener.local_addr()?.port();
    let own = format!("{}:{port}", plan.hostname);
    tracing::info!(own, zk = %plan.zk, "marathon {} (compatible with Marathon {})", env!("CARGO_PKG_VERSION"), crate::VERSION);

    // Everything below ends with this, be it by a signal or by itself.
    let ending = shutdown.child_token();
    let (lead_alone, alone) =
        watch::channel(LatchState { leader: Some(own.clone()), leading: true, lost: false });
    let latch = if values.boolean("ha") {
        latch::participate(plan.zk.clone(), plan.session_timeout, own.clone())
    } else {
        alone
    };
    let (publish, core) = watch::channel(None);
    let (abdicate, abdicated) = mpsc::channel(1);
    let bus = Bus::new();
    let milliseconds = |name: &str| Duration::from_millis(values.number(name).unwrap_or(5000));
    let app = App {
        latch: latch.clone(),
        core,
        bus: bus.clone(),
        proxy: Proxy::new(
            own.clone(),
            milliseconds("leader_proxy_connection_timeout"),
            milliseconds("leader_proxy_read_timeout"),
        )?,
        own,
        credentials: values.text("http_credentials").map(str::to_owned),
        started_ms: now_ms(),
        abdicate,
        flags: values,
    };
    let ended = lead(plan, options.tls, latch, bus, publish, abdicated, ending.clone());
    let term = tokio::spawn(ended);
    ready();
    let served = web::serve(listener, router(app), web::Options::default(), ending.clone()).await;
    let ended = term.await?;
    drop(lead_alone);
    served?;
    ended
}

/// Waits to be elected, leads, and ends everything when that ends.
async fn lead(
    plan: Plan,
    tls: Option<tls::Tls>,
    mut latch: watch::Receiver<LatchState>,
    bus: Bus,
    publish: watch::Sender<Option<Handle>>,
    mut abdicated: mpsc::Receiver<()>,
    ending: CancellationToken,
) -> anyhow::Result<()> {
    let _end_all = ending.clone().drop_guard();
    tokio::select! {
        () = ending.cancelled() => return Ok(()),
        elected = latch.wait_for(|state| state.leading) => drop(elected.context("the election ended")?),
    }
    tracing::info!("elected: loading the state");
    let leading = async {
        let unreachable =
            |error: anyhow::Error| Ended::new(ZOOKEEPER_UNREACHABLE, format!("{error:#}"));
        let store =
            Store::open(plan.zk.clone(), plan.session_timeout).await.map_err(unreachable)?;
        let stored = store.load().await.map_err(unreachable)?;
        tracing::info!(values = stored.len(), "state loaded");
        let place = format!("{}/{}", plan.zk, store::DIRECTORY);
        let core = Marathon::load(plan.settings, stored)
            .map_err(|error| Ended::new(STATE_UNREADABLE, format!("{place}/{error}")))?;
        let (actor, handle, calls, framework) = Actor::new(core, store, bus);
        let subscription = Subscription {
            leader: detector::detect(plan.master, plan.session_timeout),
            framework,
            credentials: plan.credentials,
            silence_max: plan.silence_max,
            tls,
        };
        scheduler::start(subscription, handle.clone(), calls)?;
        publish.send_replace(Some(handle));
        actor.run(ending.clone()).await?;
        Ok(())
    };
    let lost = async {
        // The sender is gone only when the election has ended.
        while latch.wait_for(|state| !state.leading).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = leading => ended,
        () = lost => Err(Ended::new(LEADERSHIP_LOST, "leadership is lost: ending, to be started again").into()),
        Some(()) = abdicated.recv() => {
            // The answer that says so must get out.
            tokio::time::sleep(Duration::from_millis(500)).await;
            Err(Ended::new(LEADERSHIP_LOST, "leadership abdicated, as asked: ending, to be started again").into())
        }
    }
}
