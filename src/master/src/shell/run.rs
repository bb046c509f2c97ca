//! Putting a master together from its flags, and running it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use access::firewall::Firewall;
use access::guard::Guard;
use anyhow::{Context as _, bail, ensure};
use election::contender::Candidacy;
use election::{MasterAddress, contender, detector, members};
use mesos::flags::Values;
use mesos::libprocess::outbound::Sender;
use mesos::resources::Resources;
use mesos::v1;
use mesos::zk_url::ZkUrl;
use replicated_log::{Log, ReplicatedLog, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use web::address;

use super::actor::{Actor, Input};
use super::http::{App, router, serving};
use super::registrar::Registrar;
use super::{permissions, whitelist};
use crate::core::Settings;
use crate::core::allocator::{self, Quantities, Sorter};
use crate::core::authentication::Security;
use crate::core::throttle::RateLimits;
use crate::flags;

/// What a master is run with.
#[derive(Debug)]
pub struct Options {
    /// Its flags.
    pub flags: Values,
    /// A listener, where the caller chose the port; else `--ip` and `--port` are bound.
    pub listener: Option<TcpListener>,
    /// TLS, where it is spoken: on the port, and to others.
    pub tls: Option<tls::Tls>,
}

/// Runs a master until `shutdown` is cancelled.
///
/// # Errors
/// When a flag is wrong, the port is taken, the registry can't be read or written, or leadership is lost: the process
/// must end then, to be started again.
pub async fn run(
    options: Options,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let plan = check(&options.flags)?;
    let values = access::flags::shown(options.flags, &plan.settings.security.acls);
    let listener = match options.listener {
        Some(listener) => listener,
        None => {
            let address = SocketAddr::new(plan.ip, plan.port);
            TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}: is another master running? (--ip, --port)")
            })?
        }
    };
    let bound = listener.local_addr()?;
    let ip = plan.advertise_ip.unwrap_or_else(|| advertised(bound.ip()));
    let address = SocketAddr::new(ip, plan.advertise_port.unwrap_or(bound.port()));
    let hostname = values
        .text("hostname")
        .map_or_else(|| name_of(ip, values.boolean("hostname_lookup")), str::to_owned);
    let info = master_info(address, hostname);
    tracing::info!(id = info.id, %address, "mesos-master {} (compatible with Mesos {})", env!("CARGO_PKG_VERSION"), mesos::VERSION);

    let hosts = whitelist::watch(values.text("whitelist")).with_context(|| {
        format!("--whitelist: {}", values.text("whitelist").unwrap_or_default())
    })?;
    let sender = Sender::secured(address, options.tls.clone());
    let mut exited = sender.exited();
    let (registrar, log) = registrar(plan.registry, plan.zk.as_ref(), &values, &sender)?;
    let observers_max =
        values.number("max_operator_event_stream_subscribers").unwrap_or_default() as usize;
    let (handle, actor) = Actor::start(
        plan.settings,
        hosts,
        info.clone(),
        observers_max.max(1),
        registrar,
        sender,
        shutdown.clone(),
    );
    if let Some(log) = log.clone() {
        let ending = handle.clone();
        tokio::spawn(async move {
            log.stopped().await;
            let reason = "this master's replica of the log stopped: see the log before this";
            ending.send(Input::Failed(reason.to_owned())).await;
        });
    }
    let watcher = handle.clone();
    tokio::spawn(async move {
        loop {
            match exited.recv().await {
                Ok(address) => watcher.send(Input::Exited(address)).await,
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    });

    let leader = match plan.zk {
        None => {
            handle.send(Input::Elected).await;
            let (keep, leader) = watch::channel(Some(info.clone()));
            let ended = shutdown.clone();
            tokio::spawn(async move {
                ended.cancelled().await;
                drop(keep);
            });
            leader
        }
        Some(zk) => {
            let timeout = values.duration("zk_session_timeout").unwrap_or(Duration::from_secs(10));
            let mut candidacy = contender::contend(zk.clone(), timeout, &info);
            let contending = handle.clone();
            tokio::spawn(async move {
                loop {
                    let now = candidacy.borrow_and_update().clone();
                    match now {
                        Candidacy::Contending => {}
                        Candidacy::Leading => contending.send(Input::Elected).await,
                        Candidacy::Lost(reason) => {
                            contending.send(Input::Lost(reason)).await;
                            return;
                        }
                    }
                    if candidacy.changed().await.is_err() {
                        return;
                    }
                }
            });
            detector::detect(MasterAddress::ZooKeeper(zk), timeout)
        }
    };
    let start_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let app = App {
        handle,
        log,
        flags: Arc::new(values),
        guard: Arc::new(plan.guard),
        firewall: Arc::new(plan.firewall),
        own_id: info.id.clone(),
        leader,
        start_time,
        started: Instant::now(),
    };
    ready();
    let serving = serving(&app, options.tls);
    web::serve(listener, router(app), serving, shutdown.clone()).await?;
    match actor.await? {
        Some(reason) => bail!(reason),
        None => Ok(()),
    }
}

/// Where the registry is to be kept.
enum Place {
    Memory,
    Disk(PathBuf),
    Replicated(PathBuf, usize),
}

/// The place for a quorum; one that holds the other kind's registry is refused rather than forgotten.
fn place(directory: PathBuf, quorum: Option<usize>) -> anyhow::Result<Place> {
    let file = directory.join(if quorum.is_some() { Log::FILE } else { Store::FILE });
    ensure!(
        !file.exists(),
        "{} holds a registry written with {}: run with that again, or move the file away to go on without this registry",
        file.display(),
        if quorum.is_some() { "--quorum=1" } else { "--quorum above 1" }
    );
    Ok(match quorum {
        Some(quorum) => Place::Replicated(directory, quorum),
        None => Place::Disk(directory),
    })
}

fn registrar(
    place: Place,
    zk: Option<&ZkUrl>,
    values: &Values,
    sender: &Sender,
) -> anyhow::Result<(Registrar, Option<ReplicatedLog>)> {
    let (directory, quorum, zk) = match (place, zk) {
        (Place::Memory, _) => return Ok((Registrar::Memory, None)),
        (Place::Disk(directory), _) => {
            return Ok((Registrar::Disk { directory, log: None }, None));
        }
        (Place::Replicated(..), None) => bail!("--quorum above 1 needs --zk"),
        (Place::Replicated(directory, quorum), Some(zk)) => (directory, quorum, zk),
    };
    let duration =
        |name: &str, otherwise| values.duration(name).unwrap_or(Duration::from_secs(otherwise));
    let store_timeout = duration("registry_store_timeout", 20);
    let own = sender.upid(replicated_log::message::REPLICA);
    let mut texts = members::join(
        zk.clone(),
        duration("zk_session_timeout", 10),
        "log_replicas",
        own.to_string(),
    );
    let (report, replicas) = watch::channel(BTreeSet::new());
    tokio::spawn(async move {
        loop {
            let known =
                texts.borrow_and_update().iter().filter_map(|text| text.parse().ok()).collect();
            report.send_replace(known);
            tokio::select! {
                () = report.closed() => return,
                changed = texts.changed() => if changed.is_err() { return },
            }
        }
    });
    let settings = replicated_log::Settings {
        own,
        quorum,
        auto_initialize: values.boolean("log_auto_initialize"),
        round_limit: store_timeout,
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
    };
    let log = ReplicatedLog::start(&directory, settings, sender.clone(), replicas)?;
    let fetch_timeout = duration("registry_fetch_timeout", 60);
    let registrar = Registrar::Replicated { log: log.clone(), fetch_timeout, store_timeout };
    Ok((registrar, Some(log)))
}

struct Plan {
    settings: Settings,
    guard: Guard,
    firewall: Firewall,
    zk: Option<ZkUrl>,
    registry: Place,
    ip: IpAddr,
    port: u16,
    advertise_ip: Option<IpAddr>,
    advertise_port: Option<u16>,
}

/// Checks all flags before anything is touched.
fn check(values: &Values) -> anyhow::Result<Plan> {
    for name in flags::REFUSED {
        let on = values.is_given(name) && values.text(name) != Some("false");
        ensure!(!on, "--{name} is not supported by this master yet: remove it");
    }
    let number = |name: &str| values.number(name).unwrap_or_default();
    let duration = |name: &str| values.duration(name).unwrap_or_default();
    let ping = duration("agent_ping_timeout");
    ensure!(
        (1..=900).contains(&ping.as_secs()),
        "--agent_ping_timeout must be between 1secs and 15mins"
    );
    ensure!(number("max_agent_ping_timeouts") >= 1, "--max_agent_ping_timeouts must be at least 1");
    ensure!(
        duration("agent_reregister_timeout") >= Duration::from_secs(600),
        "--agent_reregister_timeout must be at least 10mins"
    );
    let allocator = allocator_options(values)?;
    ensure!(
        matches!(values.text("allocator"), Some("hierarchical" | "HierarchicalDRF")),
        "--allocator: only hierarchical is known"
    );
    let zk = values.text("zk").map(str::parse::<ZkUrl>).transpose().context("--zk")?;
    let in_memory = match values.text("registry") {
        Some("replicated_log") => false,
        Some("in_memory") => true,
        other => bail!(
            "--registry: '{}' is neither replicated_log nor in_memory",
            other.unwrap_or_default()
        ),
    };
    let mut replicated = None;
    if zk.is_some() && !in_memory {
        let quorum = values.number("quorum").context(
            "Need to specify --quorum for replicated log based registry when using ZooKeeper",
        )?;
        ensure!(quorum >= 1, "--quorum must be at least 1");
        replicated = usize::try_from(quorum).ok().filter(|quorum| *quorum > 1);
    }
    let registry =
        match (in_memory, values.text("work_dir").filter(|path| !path.is_empty()), replicated) {
            (true, ..) => Place::Memory,
            (false, Some(directory), quorum) => {
                place(PathBuf::from(directory).join("replicated_log"), quorum)?
            }
            (false, None, _) => bail!("--work_dir needed for replicated log based registry"),
        };
    let port = |name: &str| address::port(values, name).map_err(anyhow::Error::msg);
    let ip = address::given(values, "ip", "ip_discovery_command").map_err(anyhow::Error::msg)?;
    let advertise_ip = address::plain(values, "advertise_ip").map_err(anyhow::Error::msg)?;
    let (security, guard) = secured(values)?;
    let rate_limits = values.text("rate_limits").map(RateLimits::parse).transpose();
    let rate_limits =
        rate_limits.map_err(|error| anyhow::anyhow!("--rate_limits: {error}"))?.unwrap_or_default();
    let roles = values.text("roles").map(roles).transpose()?;
    let settings = Settings {
        agent_ping_timeout: ping,
        max_agent_ping_timeouts: number("max_agent_ping_timeouts") as u32,
        agent_reregister_timeout: duration("agent_reregister_timeout"),
        offer_timeout: values.duration("offer_timeout"),
        allocation_interval: duration("allocation_interval"),
        max_completed_frameworks: number("max_completed_frameworks") as usize,
        max_completed_tasks: number("max_completed_tasks_per_framework") as usize,
        root_submissions: values.boolean("root_submissions"),
        publish_framework_metrics: values.boolean("publish_per_framework_metrics"),
        removal_interval: values.text("agent_removal_rate_limit").map(interval).transpose()?,
        recovery_removal_limit: percentage(
            values.text("recovery_agent_removal_limit").unwrap_or("100%"),
        )?,
        rate_limits,
        weights: weights(values.text("weights").unwrap_or_default(), roles.as_ref())?,
        roles,
        allocator,
        require_agent_domain: values.boolean("require_agent_domain"),
        seed: seed(),
        security,
    };
    Ok(Plan {
        settings,
        guard,
        firewall: access::flags::firewall(values)?,
        zk,
        registry,
        ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port: port("port")?.unwrap_or(5050),
        advertise_ip,
        advertise_port: port("advertise_port")?,
    })
}

/// `--roles`, with the default one.
fn roles(text: &str) -> anyhow::Result<BTreeSet<String>> {
    tracing::warn!("--roles is deprecated: ACLs say who may use which role");
    let mut roles = BTreeSet::from([mesos::roles::DEFAULT.to_owned()]);
    for role in text.split(',').map(str::trim).filter(|role| !role.is_empty()) {
        mesos::roles::validate(role).map_err(|reason| anyhow::anyhow!("--roles: {reason}"))?;
        roles.insert(role.to_owned());
    }
    Ok(roles)
}

/// `--weights`, role=weight,…
fn weights(text: &str, roles: Option<&BTreeSet<String>>) -> anyhow::Result<Vec<(String, f64)>> {
    let mut weights = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((role, weight)) = pair.split_once('=') else {
            bail!("--weights: '{pair}' is not of the form role=weight");
        };
        mesos::roles::validate(role).map_err(|reason| anyhow::anyhow!("--weights: {reason}"))?;
        ensure!(
            roles.is_none_or(|roles| roles.contains(role)),
            "--weights: '{role}' is none of --roles"
        );
        let weight: Option<f64> = weight.parse().ok();
        let weight = weight.filter(|weight| *weight > 0.0 && weight.is_finite());
        let weight =
            weight.with_context(|| format!("--weights: '{pair}': weights are positive"))?;
        weights.insert(role.to_owned(), weight);
    }
    Ok(weights.into_iter().collect())
}

/// `--agent_removal_rate_limit`, N/duration, as the time between two removals.
fn interval(text: &str) -> anyhow::Result<Duration> {
    let parsed = text.split_once('/').and_then(|(count, time)| {
        let count: u32 = count.trim().parse().ok().filter(|count| *count > 0)?;
        Some(mesos::units::parse_duration(time.trim()).ok()? / count)
    });
    parsed.with_context(|| {
        format!(
            "--agent_removal_rate_limit: '{text}' is not of the form <number of agents>/<duration>"
        )
    })
}

/// `--recovery_agent_removal_limit`, as a part of 1.
fn percentage(text: &str) -> anyhow::Result<f64> {
    let value = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let part = value.filter(|value| (0.0..=100.0).contains(value)).map(|value| value / 100.0);
    part.with_context(|| {
        format!("--recovery_agent_removal_limit: '{text}' is not between 0% and 100%")
    })
}

/// What concerns the allocator.
fn allocator_options(values: &Values) -> anyhow::Result<allocator::Options> {
    let sorter = |name: &str| match values.text(name) {
        Some("drf") | None => Ok(Sorter::Drf),
        Some("random") => Ok(Sorter::Random),
        Some(other) => bail!("--{name}: '{other}' is neither drf nor random"),
    };
    let mut min_allocatable = Vec::new();
    let sets = values.text("min_allocatable_resources").unwrap_or_default();
    for set in sets.split('|').filter(|set| !set.trim().is_empty()) {
        let resources = Resources::parse(set, "*")
            .map_err(|error| anyhow::anyhow!("--min_allocatable_resources: {error}"))?;
        min_allocatable.push(Quantities::of(&resources));
    }
    let excluded = values.text("fair_sharing_excluded_resource_names").unwrap_or_default();
    let factor = values.text("allocator_agent_recovery_factor").unwrap_or("0.8");
    let recovery_factor: f64 = factor.parse().unwrap_or(-1.0);
    ensure!(
        (0.0..=1.0).contains(&recovery_factor),
        "--allocator_agent_recovery_factor must be between 0 and 1"
    );
    Ok(allocator::Options {
        min_allocatable,
        excluded: excluded.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        role_sorter: sorter("role_sorter")?,
        framework_sorter: sorter("framework_sorter")?,
        filter_gpus: values.boolean("filter_gpu_resources"),
        region: domain(values)?.and_then(|domain| Some(domain.fault_domain?.region.name)),
        recovery_factor,
        recovery_timeout: values.duration("allocator_recovery_timeout").unwrap_or_default(),
    })
}

/// `--domain`.
fn domain(values: &Values) -> anyhow::Result<Option<v1::DomainInfo>> {
    let parse = |text| {
        mesos::json::from_slice::<v1::DomainInfo>(str::as_bytes(text), mesos::json::Dialect::V0)
    };
    let domain = values.text("domain").map(parse).transpose().context("--domain")?;
    ensure!(
        domain.as_ref().is_none_or(|domain| domain.fault_domain.is_some()),
        "`domain` must define `fault_domain`"
    );
    Ok(domain)
}

/// Different at every start.
fn seed() -> [u8; 32] {
    let (one, two) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(one.as_bytes());
    seed[16..].copy_from_slice(two.as_bytes());
    seed
}

/// Whom the master asks for credentials, and what it lets them do.
fn secured(values: &Values) -> anyhow::Result<(Security, Guard)> {
    access::flags::only_built_in(
        values,
        &[
            ("authenticators", "crammd5"),
            ("authorizers", "local"),
            ("http_authenticators", "basic"),
            ("http_framework_authenticators", "basic"),
        ],
    )?;
    let acls = access::flags::acls(values)?;
    let credentials = access::flags::credentials(values, "credentials")?;
    let guard = access::flags::guard(
        values,
        acls.clone(),
        "credentials",
        credentials.as_ref(),
        &[
            ("authenticate_http_readonly", permissions::READ_ONLY),
            ("authenticate_http_readwrite", permissions::READ_WRITE),
            ("authenticate_http_frameworks", permissions::SCHEDULER),
        ],
    )?;
    for flag in ["authenticate_agents", "authenticate_frameworks"] {
        access::flags::needs(values, flag, "credentials", credentials.as_ref())?;
    }
    let security = Security {
        credentials,
        acls,
        authenticate_frameworks: values.boolean("authenticate_frameworks"),
        authenticate_agents: values.boolean("authenticate_agents"),
        timeout: values.duration("authentication_v0_timeout").unwrap_or(Duration::from_secs(15)),
        seed: seed(),
    };
    Ok((security, guard))
}

/// The address that others reach us at when we listen on all: that of the host's name, unless it is loopback.
fn advertised(bound: IpAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    let addresses: Vec<IpAddr> = (name.as_str(), 0)
        .to_socket_addrs()
        .into_iter()
        .flatten()
        .map(|address| address.ip())
        .filter(IpAddr::is_ipv4)
        .collect();
    let by_name = addresses.iter().find(|ip| !ip.is_loopback()).copied();
    by_name.or_else(outgoing).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The address that the host would send from; nothing is sent to learn it.
fn outgoing() -> Option<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    interfaces
        .filter_map(|interface| {
            interface.address.as_ref()?.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()))
        })
        .find(|ip| !ip.is_loopback())
}

/// The name of an address, or the address itself.
fn name_of(ip: IpAddr, lookup: bool) -> String {
    if lookup
        && !ip.is_loopback()
        && let Some(name) = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok())
    {
        return name;
    }
    ip.to_string()
}

fn master_info(address: SocketAddr, hostname: String) -> v1::MasterInfo {
    use v1::master_info::capability::Type;
    let mut info = MasterAddress::fixed_info(address);
    info.id = uuid::Uuid::new_v4().to_string();
    info.version = Some(mesos::VERSION.to_owned());
    info.hostname = Some(hostname.clone());
    if let Some(address) = &mut info.address {
        address.hostname = Some(hostname);
    }
    info.capabilities = [Type::AgentUpdate, Type::AgentDraining, Type::QuotaV2]
        .map(|own| v1::master_info::Capability { r#type: Some(own as i32) })
        .into();
    info
}
