//! Putting an agent together from its flags, and running it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use election::{address, detector};
use mesos::flags::Values;
use mesos::libprocess::Upid;
use mesos::libprocess::outbound::Sender;
use mesos::v1;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::actor::{self, Actor, Input};
use super::http::{App, messages_first, router};
use super::plan::{check, claim_work_dir, settings};
use super::{images, perf, ports, qos, quota};
use crate::checkpoint::{self, found, paths};
use crate::containerizer::fetch::{Cache, Fetching};
use crate::containerizer::launcher::{Config, Launcher, check_programs};
use crate::core::container_id::ContainerId;
use crate::core::garbage::Waste;
use crate::core::reconfiguration::{Reconfiguration, incompatibility};
use crate::core::recovery::Recovered;
use crate::core::{Agent, Ending, Settings};

/// What an agent is run with.
#[derive(Debug)]
pub struct Options {
    /// Its flags.
    pub flags: Values,
    /// A listener, where the caller chose the port; else `--ip` and `--port` are bound.
    pub listener: Option<TcpListener>,
    /// TLS, where it is spoken: on the port, and to others.
    pub tls: Option<tls::Tls>,
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
    let plan = check(&options.flags)?;
    let values = images::shown(access::flags::shown(options.flags, plan.guard.acls()));
    let listener = match options.listener {
        Some(listener) => listener,
        None => {
            let address = SocketAddr::new(plan.listening.ip, plan.listening.port);
            TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}: is another agent running? (--ip, --port)")
            })?
        }
    };
    let bound = listener.local_addr()?;
    let endpoint = SocketAddr::new(
        plan.listening.advertise_ip.unwrap_or_else(|| reachable(bound.ip())),
        plan.listening.advertise_port.unwrap_or(bound.port()),
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
        domain: plan.domain,
        checkpoint: Some(true),
        ..Default::default()
    };
    let settings = Settings {
        credential: plan.credential,
        ip6: plan.listening.ip6,
        oversubscribed: plan.oversubscribed,
        tls_environment: options
            .tls
            .as_ref()
            .map(|tls| tls.settings().for_executors())
            .unwrap_or_default(),
        ..settings(&values, &plan.work_dir, endpoint)?
    };
    tracing::info!(%endpoint, resources = %plan.resources, "mesos-agent {} (compatible with Mesos {})", env!("CARGO_PKG_VERSION"), mesos::VERSION);

    // Held until the end.
    let _claim = claim_work_dir(&plan.work_dir)?;
    let (tell_end, ends) = mpsc::channel(1024);
    let fetching = Arc::new(fetching(&values)?);
    let (provisioner, kept_images) = plan
        .images
        .map(|own| images::open(own, &plan.work_dir, shutdown.clone()))
        .transpose()?
        .unzip();
    let config = Config {
        fetching: fetching.clone(),
        launcher_dir: settings.launcher_dir.clone(),
        work_dir: plan.work_dir.clone(),
        containerizers: plan.containerizers,
        docker_socket: plan.docker_socket,
        cpu_quota: values.boolean("cgroups_enable_cfs"),
        docker_remove_delay: values.duration("docker_remove_delay").unwrap_or_default(),
        logins: plan.logins,
        dns: plan.dns,
        docker_kill_orphans: values.boolean("docker_kill_orphans"),
        cgroups: plan.cgroups.clone(),
        policy: plan.policy,
        provisioner: provisioner.clone(),
        ignores_image_runtime: values.boolean("docker_ignore_runtime"),
        networks: plan.networks,
        runtime_dir: settings.runtime_dir.clone(),
        sandbox_directory: values.text("sandbox_directory").unwrap_or("/mnt/mesos/sandbox").into(),
    };
    if let Err(problem) = check_programs(&config) {
        tracing::warn!("{problem}: tasks that need it will fail");
    }
    let launcher = Launcher::new(config, tell_end);
    let started = Instant::now();
    let mut agent = Agent::new(settings, info);
    recover(&mut agent, &launcher, &values, &plan.work_dir, started)?;
    agent.recovery_seconds = started.elapsed().as_secs_f64();
    launcher.end_orphans();
    for (id, age) in found::former_agents(&plan.work_dir) {
        agent.discard(Waste::Agent(id), age);
    }

    let sender = Sender::secured(endpoint, options.tls.clone());
    let mut exited = sender.exited();
    let heartbeat = values.duration("http_heartbeat_interval").unwrap_or(Duration::from_secs(30));
    let (handle, actor) =
        Actor::start(agent, sender, launcher.clone(), ends, heartbeat, started, shutdown.clone());
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
    if plan.watches_sandboxes {
        let interval = values.duration("container_disk_watch_interval");
        let enforces = values.boolean("enforce_container_disk_quota");
        let interval = interval.unwrap_or(Duration::from_secs(15));
        quota::watch(handle.clone(), interval, enforces, shutdown.clone());
    }
    if let Some(cgroups) = plan.cgroups.clone() {
        perf::start(cgroups, shutdown.clone());
    }
    if let (Some(watch), Some(cgroups)) = (plan.ports, plan.cgroups.clone()) {
        ports::start(handle.clone(), watch, cgroups, shutdown.clone());
    }
    if let Some(thresholds) = plan.thresholds {
        let interval = values.duration("qos_correction_interval_min").unwrap_or_default();
        qos::watch(handle.clone(), thresholds, interval, started, shutdown.clone());
    }
    watch_disk(handle.clone(), plan.work_dir, started, &values, shutdown.clone());
    let mut leave = signal(SignalKind::user_defined1())?;
    let leaving = handle.clone();
    tokio::spawn(async move {
        if leave.recv().await.is_some() {
            // The agent ends itself when nothing runs any more.
            leaving.send(Input::Unregister).await;
        }
    });

    let start_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let app = App {
        fetching,
        provisioner,
        kept_images: kept_images.unwrap_or_default().into(),
        cgroups: plan.cgroups,
        handle,
        flags: Arc::new(values),
        guard: Arc::new(plan.guard),
        firewall: Arc::new(plan.firewall),
        heartbeat,
        start_time,
        started,
    };
    ready();
    let options_end = options.end_containers;
    let first = messages_first(&app);
    web::serve(
        listener,
        router(app),
        web::Options {
            grace: Duration::from_millis(200),
            tls: options.tls,
            first: Some(first),
            ..web::Options::default()
        },
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

/// How files are fetched.
fn fetching(values: &Values) -> anyhow::Result<Fetching> {
    let directory = std::path::PathBuf::from(values.text("fetcher_cache_dir").unwrap_or_default());
    ensure!(
        directory.is_absolute(),
        "--fetcher_cache_dir: '{}' is no absolute path",
        directory.display()
    );
    Ok(Fetching {
        cache: Cache::new(&directory, values.bytes("fetcher_cache_size").map_or(0, |size| size.0)),
        stall_timeout: values.duration("fetcher_stall_timeout").unwrap_or(Duration::from_secs(60)),
        frameworks_home: values
            .text("frameworks_home")
            .filter(|home| !home.is_empty())
            .map(Into::into),
        hadoop_home: values.text("hadoop_home").filter(|home| !home.is_empty()).map(Into::into),
        succeeded: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    })
}

/// Tells the agent how full its disk is, every `--disk_watch_interval`.
fn watch_disk(
    handle: actor::Handle,
    work_dir: std::path::PathBuf,
    started: Instant,
    values: &Values,
    shutdown: CancellationToken,
) {
    let interval = values.duration("disk_watch_interval").unwrap_or(Duration::from_secs(60));
    let interval = interval.max(Duration::from_millis(100));
    tokio::spawn(async move {
        while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let Ok(stat) = nix::sys::statvfs::statvfs(&work_dir) else { continue };
            let (free, all) = (stat.blocks_available() as f64, stat.blocks() as f64);
            let used = if all > 0.0 { 1.0 - free / all } else { 0.0 };
            let now = started.elapsed();
            handle.look(move |agent| agent.garbage.disk_used(now, used)).await;
        }
    });
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
        .with_context(|| {
            let latest = paths::meta(work_dir).join("slaves/latest");
            format!(
                "the checkpoint of the agent before can't be read; restore it, or start as a new agent, which ends the tasks of the old one, after: rm -f {}",
                latest.display()
            )
        })?;
    checkpoint::replace(&boot_path, boot_id.as_bytes())
        .with_context(|| format!("cannot write {}", boot_path.display()))?;
    let (reserved, operations) = checkpoint::resources::recover(work_dir)
        .context("what was reserved of the agent before can't be read")?;
    if let Err(difference) = agent.recover_resources(&reserved, operations) {
        bail!(
            "this agent has less than what is reserved of it ({difference}): give it at least that in --resources, or forget its reservations and volumes by removing {}",
            paths::meta(work_dir).join("resources").display()
        );
    }
    let Some(recovered) = recovered else { return Ok(()) };
    let policy = match values.text("reconfiguration_policy") {
        Some("additive") => Reconfiguration::Additive,
        _ => Reconfiguration::Equal,
    };
    let latest = paths::meta(work_dir).join("slaves/latest");
    if !goes_on(policy, &recovered, &agent.info, &latest)? {
        return Ok(());
    }
    let id = recovered.info.id.as_ref().map_or("", |id| id.value.as_str()).to_owned();
    let watched = agent.recover(actor::now(started), recovered);
    let mut containers = found::containers(&agent.settings.runtime_dir);
    for container in &mut containers {
        container.has_cgroups = launcher.has_cgroups(&container.id.to_string());
    }
    let (nested, strays) = agent.recover_containers(containers);
    tracing::info!(agent = id, executors = watched.len(), rebooted, "recovered");
    for (run, pid) in watched {
        let runtime = ContainerId::root_of(&run.container).runtime(&agent.settings.runtime_dir);
        launcher.adopt(run.container, pid, Some(runtime));
    }
    for (id, pid) in nested {
        launcher.adopt(id.to_string(), pid, Some(id.runtime(&agent.settings.runtime_dir)));
    }
    for (id, pid) in strays {
        launcher.end_stray(id.to_string(), pid);
    }
    Ok(())
}

/// Whether this agent goes on as the one before. One that differs too much is refused, but for after a reboot: nothing of
/// then runs any more, and a host that was changed while it was down is not to be kept out. It begins as a new agent.
fn goes_on(
    policy: Reconfiguration,
    recovered: &Recovered,
    info: &v1::AgentInfo,
    latest: &Path,
) -> anyhow::Result<bool> {
    let Some(difference) = incompatibility(policy, &recovered.info, info) else { return Ok(true) };
    if !recovered.has_rebooted {
        bail!(
            "Failed to perform recovery: {difference}\n\
             If recovery failed due to a change in configuration and you want to keep the current agent id, you might want to change the `--reconfiguration_policy` flag to a more permissive value.\n\n\
             To restart this agent with a new agent id instead, do as follows:\nrm -f {}\n\
             This ensures that the agent does not recover old live executors.",
            latest.display()
        );
    }
    tracing::warn!("Falling back to recover as a new agent due to error: {difference}");
    match std::fs::remove_file(latest) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", latest.display()))
        }
        _ => Ok(false),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_changed_while_it_was_down_begins_anew() {
        let directory = tempfile::TempDir::new().unwrap();
        let latest = directory.path().join("latest");
        std::os::unix::fs::symlink("x", &latest).unwrap();
        let agent = |cpus: &str| v1::AgentInfo {
            resources: mesos::resources::Resources::parse(cpus, "*").unwrap().to_protos(),
            ..Default::default()
        };
        let before = |has_rebooted| Recovered {
            info: agent("cpus:4"),
            frameworks: Vec::new(),
            drain: None,
            has_rebooted,
        };
        let goes_on = |before: &Recovered, cpus: &str| {
            goes_on(Reconfiguration::Equal, before, &agent(cpus), &latest)
        };
        assert!(goes_on(&before(true), "cpus:4").unwrap());
        let refused = goes_on(&before(false), "cpus:3").unwrap_err().to_string();
        assert!(refused.contains("rm -f ") && latest.is_symlink(), "{refused}");
        assert!(!goes_on(&before(true), "cpus:3").unwrap());
        assert!(!latest.is_symlink(), "the next start is not to find it either");
    }
}
