//! Putting an agent together from its flags, and running it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use election::{MasterAddress, address, detector};
use mesos::flags::Values;
use mesos::libprocess::Upid;
use mesos::libprocess::outbound::Sender;
use mesos::resources::{Resources, parse_attributes};
use mesos::v1;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::actor::{self, Actor, Input};
use super::http::{App, router};
use crate::checkpoint::{self, found, paths};
use crate::containerizer::cgroups::{Cgroups, Limits};
use crate::containerizer::launcher::{Config, Launcher, check_programs};
use crate::core::recovery::{Reconfiguration, incompatibility};
use crate::core::{Agent, Ending, Settings};
use crate::flags;

/// What an agent is run with.
#[derive(Debug)]
pub struct Options {
    /// Its flags.
    pub flags: Values,
    /// A listener, where the caller chose the port; else `--ip` and `--port` are bound.
    pub listener: Option<TcpListener>,
    /// Whether containers end with the agent, as they must when nothing will start it again.
    pub end_containers: bool,
}

/// Runs an agent until `shutdown` is cancelled. Executors go on unless `end_containers` says otherwise.
///
/// # Errors
/// When a flag is wrong, the port is taken, a checkpoint can't be read or written, or the master refuses the agent.
pub async fn run(
    options: Options,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let values = options.flags;
    let plan = check(&values)?;
    let listener = match options.listener {
        Some(listener) => listener,
        None => {
            let address = SocketAddr::new(plan.ip, plan.port);
            TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}: is another agent running? (--ip, --port)")
            })?
        }
    };
    let bound = listener.local_addr()?;
    let endpoint = SocketAddr::new(
        plan.advertise_ip.unwrap_or_else(|| reachable(bound.ip())),
        plan.advertise_port.unwrap_or(bound.port()),
    );
    let hostname = values.text("hostname").map_or_else(
        || endpoint_name(endpoint.ip(), values.boolean("hostname_lookup")),
        str::to_owned,
    );
    let info = v1::AgentInfo {
        hostname,
        port: Some(i32::from(endpoint.port())),
        resources: plan.resources.to_protos(),
        attributes: plan.attributes,
        checkpoint: Some(true),
        ..Default::default()
    };
    let settings = settings(&values, &plan.work_dir, endpoint)?;
    tracing::info!(%endpoint, resources = %plan.resources, "mesos-agent {} (compatible with Mesos {})", env!("CARGO_PKG_VERSION"), mesos::VERSION);

    let (tell_end, ends) = mpsc::channel(1024);
    let config = Config {
        launcher_dir: settings.launcher_dir.clone(),
        work_dir: plan.work_dir.clone(),
        containerizers: plan.containerizers,
        docker_socket: plan.docker_socket,
        docker_remove_delay: values.duration("docker_remove_delay").unwrap_or_default(),
        docker_kill_orphans: values.boolean("docker_kill_orphans"),
        cgroups: plan.cgroups,
    };
    if let Err(problem) = check_programs(&config) {
        tracing::warn!("{problem}: tasks that need it will fail");
    }
    let launcher = Launcher::new(config, tell_end);
    let started = Instant::now();
    let mut agent = Agent::new(settings, info);
    recover(&mut agent, &launcher, &values, &plan.work_dir, started)?;
    launcher.end_orphans();

    let sender = Sender::new(endpoint);
    let mut exited = sender.exited();
    let gc_delay = values.duration("gc_delay").unwrap_or(Duration::from_secs(604_800));
    let (handle, actor) =
        Actor::start(agent, sender, launcher.clone(), ends, gc_delay, started, shutdown.clone());
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
    let mut leader = detector::detect(
        plan.master,
        values.duration("zk_session_timeout").unwrap_or(Duration::from_secs(10)),
    );
    let detecting = handle.clone();
    tokio::spawn(async move {
        loop {
            let master = leader.borrow_and_update().as_ref().and_then(|info| {
                let address = address::socket_address(info)?;
                Some((Upid::new("master", address), info.hostname().to_owned()))
            });
            detecting.send(Input::Master(master)).await;
            if leader.changed().await.is_err() {
                return;
            }
        }
    });
    let mut leave = signal(SignalKind::user_defined1())?;
    let (leaving, ended) = (handle.clone(), shutdown.clone());
    tokio::spawn(async move {
        if leave.recv().await.is_some() {
            leaving.send(Input::Unregister).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            ended.cancel();
        }
    });

    let start_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let app = App { handle, flags: Arc::new(values), start_time, started };
    ready();
    let options_end = options.end_containers;
    web::serve(
        listener,
        router(app),
        web::Options { grace: Duration::from_millis(200), ..web::Options::default() },
        shutdown.clone(),
    )
    .await?;
    let ending = actor.await?;
    if options_end {
        launcher.destroy_all().await;
    }
    match ending {
        Some(Ending::Failure(reason)) => bail!(reason),
        Some(Ending::Done) | None => Ok(()),
    }
}

struct Plan {
    master: MasterAddress,
    work_dir: PathBuf,
    ip: IpAddr,
    port: u16,
    advertise_ip: Option<IpAddr>,
    advertise_port: Option<u16>,
    resources: Resources,
    attributes: Vec<v1::Attribute>,
    containerizers: Vec<String>,
    docker_socket: PathBuf,
    cgroups: Option<Cgroups>,
}

/// Checks all flags before anything is touched.
fn check(values: &Values) -> anyhow::Result<Plan> {
    for name in flags::REFUSED {
        let on = values.is_given(name) && !matches!(values.text(name), Some("false" | ""));
        ensure!(!on, "--{name} is not supported by this agent yet: remove it");
    }
    let master = values.text("master").context("Missing required option --master")?;
    let master = MasterAddress::parse(master).context("--master")?;
    let work_dir = PathBuf::from(values.required("work_dir")?);
    ensure!(work_dir.is_absolute(), "--work_dir: '{}' is no absolute path", work_dir.display());
    let reregistration = values.duration("executor_reregistration_timeout").unwrap_or_default();
    ensure!(
        reregistration <= Duration::from_secs(15),
        "--executor_reregistration_timeout must be at most 15secs"
    );
    ensure!(
        matches!(values.text("recover"), Some("reconnect" | "cleanup")),
        "--recover must be reconnect or cleanup"
    );
    ensure!(
        matches!(values.text("reconfiguration_policy"), Some("equal" | "additive")),
        "--reconfiguration_policy must be equal or additive"
    );
    let containerizers: Vec<String> = values
        .text("containerizers")
        .unwrap_or("mesos")
        .split(',')
        .map(|name| name.trim().to_owned())
        .collect();
    for name in &containerizers {
        ensure!(
            matches!(name.as_str(), "docker" | "mesos"),
            "--containerizers: Unknown or unsupported containerizer: {name} (docker and mesos are known)"
        );
    }
    let mut seen: Vec<&String> = Vec::new();
    for name in &containerizers {
        ensure!(!seen.contains(&name), "--containerizers: '{name}' is there twice");
        seen.push(name);
    }
    ensure!(
        !(values.is_given("ip") && values.is_given("ip_discovery_command")),
        "Only one of `--ip` or `--ip_discovery_command` should be specified"
    );
    let ip = match (values.text("ip"), values.text("ip_discovery_command")) {
        (Some(ip), _) => ip.parse().with_context(|| format!("--ip: '{ip}' is no address"))?,
        (None, Some(command)) => {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(command)
                .output()
                .context("--ip_discovery_command")?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            text.parse().with_context(|| {
                format!("--ip_discovery_command printed '{text}', which is no address")
            })?
        }
        (None, None) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let port = |name: &str| {
        values
            .number(name)
            .map(|port| u16::try_from(port).with_context(|| format!("--{name}: {port} is no port")))
            .transpose()
    };
    let advertise_ip = values
        .text("advertise_ip")
        .map(|ip| ip.parse().with_context(|| format!("--advertise_ip: '{ip}' is no address")))
        .transpose()?;
    let attributes = parse_attributes(values.text("attributes").unwrap_or_default())
        .map_err(|error| anyhow::anyhow!("--attributes: {error}"))?;
    let given = Resources::parse(
        values.text("resources").unwrap_or_default(),
        values.text("default_role").unwrap_or("*"),
    )
    .map_err(|error| anyhow::anyhow!("--resources: {error}"))?;
    let docker_socket =
        PathBuf::from(values.text("docker_socket").unwrap_or("/var/run/docker.sock"));
    Ok(Plan {
        master,
        resources: with_detected(given, &work_dir),
        ip,
        port: port("port")?.unwrap_or(5051),
        advertise_ip,
        advertise_port: port("advertise_port")?,
        attributes,
        containerizers,
        docker_socket,
        cgroups: cgroups(values)?,
        work_dir,
    })
}

/// Isolators that are known, beside those of which only the linux launcher is the work.
const ISOLATORS: &[&str] = &["posix/cpu", "posix/mem", "cgroups/cpu", "cgroups/mem", "cgroups/all"];

/// Cgroups, where the launcher is to use them.
fn cgroups(values: &Values) -> anyhow::Result<Option<Cgroups>> {
    let hierarchy = Path::new(values.text("cgroups_hierarchy").unwrap_or("/sys/fs/cgroup"));
    let root = values.text("cgroups_root").unwrap_or("mesos");
    let text = values.text("isolation").unwrap_or_default();
    let isolators: Vec<&str> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    for name in &isolators {
        ensure!(
            ISOLATORS.contains(name),
            "--isolation: '{name}' is unknown or not supported by this agent yet; these are: {}",
            ISOLATORS.join(", ")
        );
    }
    let has = |name: &str| isolators.contains(&name) || isolators.contains(&"cgroups/all");
    let wanted = isolators.iter().any(|name| name.starts_with("cgroups/"));
    // Who asks for nothing gets limits where there can be any.
    let is_open = !values.is_given("isolation");
    let limits =
        Limits { cpu: is_open || has("cgroups/cpu"), memory: is_open || has("cgroups/mem") };
    let prepared = || Cgroups::prepare(hierarchy, root, limits);
    match values.text("launcher") {
        Some("posix") if wanted => bail!("--isolation={text} needs --launcher=linux"),
        Some("posix") => Ok(None),
        Some("linux") => prepared().map(Some).with_context(|| format!("--launcher=linux: cgroups below {} can't be used (root is needed; --launcher=posix does without)", hierarchy.display())),
        Some(other) => bail!("--launcher: '{other}' is neither linux nor posix"),
        None if !nix::unistd::geteuid().is_root() => {
            ensure!(!wanted, "--isolation={text} needs root");
            Ok(None)
        }
        None => match prepared() {
            Ok(cgroups) => Ok(Some(cgroups)),
            Err(error) if wanted => Err(error).with_context(|| format!("--isolation={text}: cgroups below {} can't be used", hierarchy.display())),
            Err(error) => {
                tracing::warn!(%error, "cgroups can't be used: containers are plain process groups without limits");
                Ok(None)
            }
        },
    }
}

/// What the host has of what isn't given (`slave/containerizer/containerizer.cpp`).
fn with_detected(given: Resources, work_dir: &Path) -> Resources {
    let mut missing = Vec::new();
    let has = |name: &str| given.scalars().contains_key(name);
    if !has("cpus") {
        missing.push(format!(
            "cpus:{}",
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        ));
    }
    if !has("mem") {
        let total = nix::sys::sysinfo::sysinfo().map_or(512 << 20, |info| info.ram_total()) >> 20;
        missing.push(format!("mem:{}", if total >= 2048 { total - 1024 } else { total / 2 }));
    }
    if !has("disk") {
        let below = work_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let total = nix::sys::statvfs::statvfs(below)
            .map_or(0, |stat| stat.blocks() * stat.fragment_size())
            >> 20;
        missing.push(format!(
            "disk:{}",
            if total >= 10 * 1024 { total - 5 * 1024 } else { total / 2 }
        ));
    }
    if given.ports().is_empty() {
        missing.push("ports:[31000-32000]".to_owned());
    }
    let mut all = given;
    if let Ok(detected) = Resources::parse(&missing.join(";"), "*") {
        all.add(&detected);
    }
    all
}

fn settings(values: &Values, work_dir: &Path, endpoint: SocketAddr) -> anyhow::Result<Settings> {
    let duration = |name: &str| values.duration(name).unwrap_or_default();
    let executor_environment = match values.text("executor_environment_variables") {
        None => None,
        Some(text) => Some(
            serde_json::from_str::<BTreeMap<String, String>>(text)
                .context("--executor_environment_variables: expecting a JSON object of strings")?,
        ),
    };
    Ok(Settings {
        work_dir: work_dir.to_owned(),
        launcher_dir: PathBuf::from(values.text("launcher_dir").unwrap_or("/usr/libexec/mesos")),
        executor_registration_timeout: duration("executor_registration_timeout"),
        executor_reregistration_timeout: duration("executor_reregistration_timeout"),
        executor_shutdown_grace_period: duration("executor_shutdown_grace_period"),
        recovery_timeout: duration("recovery_timeout"),
        registration_backoff_factor: duration("registration_backoff_factor"),
        completed_executors_max: values
            .number("max_completed_executors_per_framework")
            .unwrap_or(150) as usize,
        executor_environment,
        switch_user: values.boolean("switch_user"),
        cleans_up: values.text("recover") == Some("cleanup"),
        ip: values.text("ip").map(str::to_owned),
        endpoint,
        seed: rand::random(),
    })
}

/// Takes over from the agent before.
fn recover(
    agent: &mut Agent,
    launcher: &Launcher,
    values: &Values,
    work_dir: &Path,
    started: Instant,
) -> anyhow::Result<()> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let boot_path = paths::meta(work_dir).join("boot_id");
    let rebooted = std::fs::read_to_string(&boot_path).is_ok_and(|before| before.trim() != boot_id);
    let recovered = found::Reader { work_dir, is_strict: values.boolean("strict") }
        .read(rebooted)
        .context("the checkpoint of the agent before can't be read")?;
    checkpoint::replace(&boot_path, boot_id.as_bytes())
        .with_context(|| format!("cannot write {}", boot_path.display()))?;
    let Some(recovered) = recovered else { return Ok(()) };
    let policy = match values.text("reconfiguration_policy") {
        Some("additive") => Reconfiguration::Additive,
        _ => Reconfiguration::Equal,
    };
    if let Some(difference) = incompatibility(policy, &recovered.info, &agent.info) {
        bail!(
            "Incompatible agent info detected ({difference}).\n\
             To restart this agent with a new agent id instead, do as follows:\nrm -f {}\n\
             This ensures that the agent does not recover old live executors.",
            paths::meta(work_dir).join("slaves/latest").display()
        );
    }
    let id = recovered.info.id.as_ref().map_or("", |id| id.value.as_str()).to_owned();
    let watched = agent.recover(actor::now(started), recovered);
    tracing::info!(agent = id, executors = watched.len(), rebooted, "recovered");
    for (run, pid) in watched {
        launcher.adopt(run.container, pid);
    }
    Ok(())
}

/// The address that others reach us at when we listen on all: the host's first that is not loopback.
fn reachable(bound: IpAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            interface.address.as_ref()?.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()))
        })
        .find(|ip| !ip.is_loopback())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn endpoint_name(ip: IpAddr, lookup: bool) -> String {
    let name = if lookup && !ip.is_loopback() {
        nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok())
    } else {
        None
    };
    name.unwrap_or_else(|| ip.to_string())
}
