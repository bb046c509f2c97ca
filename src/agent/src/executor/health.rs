//! Checks and health checks of a task, as its executor runs them (Mesos' `checks/checker.cpp`, `checks/health_checker.cpp`).
//!
//! A health check decides whether a task lives on; a check only reports what it finds, each time that it is something else.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mesos::v1::check_status_info;
use mesos::v1::network_info::Protocol;
use mesos::v1::{self, CheckInfo, CheckStatusInfo, HealthCheck, check_info, health_check};
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::agent_api::AgentApi;
use crate::containerizer::{docker, helper};

/// Shortest pause between two checks, whatever is asked for.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// How long a look may take that has no limit.
const PROBE_MAX: Duration = Duration::from_secs(600);

/// What was found that the framework must hear of.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// By a health check.
    Health(Health),
    /// By a check.
    Check(CheckStatusInfo),
}

/// What a health check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether the task is healthy.
    pub healthy: bool,
    /// Whether it has failed so often that it must be killed.
    pub kill: bool,
}

/// Decides what to report: the first success, each change, every failure after the grace period.
#[derive(Debug, Default)]
pub struct Verdicts {
    last: Option<bool>,
    failures: u32,
}

impl Verdicts {
    /// Takes a result in, `age` after the task began.
    pub fn result(&mut self, check: &HealthCheck, age: Duration, success: bool) -> Option<Health> {
        if success {
            self.failures = 0;
            return (self.last.replace(true) != Some(true))
                .then_some(Health { healthy: true, kill: false });
        }
        if self.last.is_none() && age.as_secs_f64() <= check.grace_period_seconds() {
            return None;
        }
        self.failures += 1;
        self.last = Some(false);
        Some(Health { healthy: false, kill: self.failures >= check.consecutive_failures() })
    }
}

/// How commands are run.
#[derive(Debug, Clone)]
pub enum Commands {
    /// In a container of Docker's, as the daemon at a socket runs them.
    InDocker {
        /// The daemon's socket.
        socket: PathBuf,
        /// The container's name.
        name: String,
    },
    /// As the task's process runs: as its user, and seeing what it sees.
    InTask {
        /// That process.
        pid: i32,
        /// Its user, if it is not this process's.
        user: Option<String>,
        /// What it finds in its environment.
        environment: Vec<(String, String)>,
    },
    /// In a container beside the task's, which the agent starts.
    Beside(AgentApi, v1::ContainerId),
}

/// Where a task is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Address of the task; this host's own where it has the host's.
    pub ip: IpAddr,
    /// Its network namespace (`/proc/N/ns/net`), if it is another than this process's. What is there is looked at from
    /// within, where that may be entered: it may listen to itself only.
    pub network: Option<PathBuf>,
    /// How commands are run.
    pub commands: Commands,
}

impl Place {
    /// The same by the other version of IP: tasks that have that have no address but the host's own, as in the original.
    fn of_version_6(self) -> Self {
        Self { ip: std::net::Ipv6Addr::LOCALHOST.into(), ..self }
    }
}

/// What is looked at.
#[derive(Clone)]
enum Target {
    Command(v1::CommandInfo),
    Http {
        scheme: String,
        port: u32,
        path: String,
        is_ip6: bool,
    },
    Tcp {
        port: u32,
        is_ip6: bool,
    },
    /// A kind that this executor doesn't know.
    Nothing,
}

/// What a look gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probed {
    /// How the command exited; nothing if a signal ended it.
    Exit(Option<i32>),
    /// The status of an HTTP reply.
    Status(u16),
    /// Whether there was a connection.
    Connected(bool),
    /// Nothing in time.
    TimedOut,
    /// It could not be looked at.
    Failed,
}

impl Probed {
    /// Of replies of HTTP, `statuses` of the check is for executors of frameworks, as in the original.
    fn is_healthy(self) -> bool {
        match self {
            Self::Exit(code) => code == Some(0),
            Self::Status(status) => (200..400).contains(&status),
            Self::Connected(is_connected) => is_connected,
            Self::TimedOut | Self::Failed => false,
        }
    }

    /// As a check reports it; `None` where there is nothing to report.
    fn as_status(self, kind: check_info::Type) -> Option<CheckStatusInfo> {
        let mut status = unknown(kind);
        match self {
            Self::Failed => return None,
            Self::TimedOut => {}
            Self::Exit(code) => {
                status.command = Some(check_status_info::Command { exit_code: code });
            }
            Self::Status(code) => {
                let status_code = Some(u32::from(code));
                status.http = Some(check_status_info::Http { status_code });
            }
            Self::Connected(is_connected) => {
                status.tcp = Some(check_status_info::Tcp { succeeded: Some(is_connected) });
            }
        }
        Some(status)
    }
}

fn unknown(kind: check_info::Type) -> CheckStatusInfo {
    let mut status = CheckStatusInfo { r#type: Some(kind as i32), ..Default::default() };
    match kind {
        check_info::Type::Command => status.command = Some(check_status_info::Command::default()),
        check_info::Type::Http => status.http = Some(check_status_info::Http::default()),
        check_info::Type::Tcp => status.tcp = Some(check_status_info::Tcp::default()),
        check_info::Type::Unknown => {}
    }
    status
}

/// What every status of a task with a check says before anything was found.
pub fn unchecked(task: &v1::TaskInfo) -> Option<CheckStatusInfo> {
    task.check.as_ref().map(|check| unknown(check.r#type()))
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value.clamp(0.0, 1e9))
}

/// Begins all checks of a task; they end with `tell`'s receiver, or when they are aborted.
pub fn watch_all(
    task: &v1::TaskInfo,
    place: &Place,
    tell: &mpsc::Sender<Found>,
) -> Vec<JoinHandle<()>> {
    let mut running = Vec::new();
    if let Some(check) = task.health_check.clone() {
        running.push(tokio::spawn(watch_health(check, place.clone(), tell.clone())));
    }
    if let Some(check) = task.check.clone() {
        running.push(tokio::spawn(watch_check(check, place.clone(), tell.clone())));
    }
    running
}

async fn watch_health(check: HealthCheck, place: Place, tell: mpsc::Sender<Found>) {
    let target = health_target(&check);
    let place = if wants_version_6(&check) { place.of_version_6() } else { place };
    let began = Instant::now();
    tokio::time::sleep(seconds(check.delay_seconds())).await;
    let mut verdicts = Verdicts::default();
    loop {
        let success = match &target {
            Target::Nothing => true,
            target => {
                let probed = probe(target, &place, seconds(check.timeout_seconds())).await;
                probed.is_healthy()
            }
        };
        if let Some(health) = verdicts.result(&check, began.elapsed(), success)
            && tell.send(Found::Health(health)).await.is_err()
        {
            return;
        }
        tokio::time::sleep(seconds(check.interval_seconds()).max(PAUSE_MIN)).await;
    }
}

async fn watch_check(check: CheckInfo, place: Place, tell: mpsc::Sender<Found>) {
    let (kind, target) = (check.r#type(), check_target(&check));
    let mut last = unknown(kind);
    tokio::time::sleep(seconds(check.delay_seconds())).await;
    loop {
        let probed = probe(&target, &place, seconds(check.timeout_seconds())).await;
        if let Some(status) = probed.as_status(kind)
            && status != last
        {
            last = status;
            if tell.send(Found::Check(status)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(seconds(check.interval_seconds()).max(PAUSE_MIN)).await;
    }
}

/// Whether an address of version 6 is to be looked at.
fn wants_version_6(check: &HealthCheck) -> bool {
    let of_http = check.http.as_ref().and_then(|http| http.protocol);
    let of_tcp = check.tcp.as_ref().and_then(|tcp| tcp.protocol);
    let protocol = match check.r#type() {
        health_check::Type::Http => of_http,
        health_check::Type::Tcp => of_tcp,
        _ => None,
    };
    protocol == Some(v1::network_info::Protocol::IPv6 as i32)
}

fn health_target(check: &HealthCheck) -> Target {
    match (check.r#type(), &check.command, &check.http, &check.tcp) {
        (health_check::Type::Command, command, ..) => {
            Target::Command(command.clone().unwrap_or_default())
        }
        (health_check::Type::Http, _, Some(http), _) => Target::Http {
            scheme: http.scheme.clone().unwrap_or_else(|| "http".to_owned()),
            port: http.port,
            path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
            is_ip6: http.protocol() == Protocol::IPv6,
        },
        (health_check::Type::Tcp, _, _, Some(tcp)) => {
            Target::Tcp { port: tcp.port, is_ip6: tcp.protocol() == Protocol::IPv6 }
        }
        (health_check::Type::Unknown, ..) => Target::Nothing,
        // A check without what it is to look at never succeeds.
        _ => Target::Tcp { port: 0, is_ip6: false },
    }
}

fn check_target(check: &CheckInfo) -> Target {
    match (check.r#type(), &check.command, &check.http, &check.tcp) {
        (check_info::Type::Command, Some(command), ..) => Target::Command(command.command.clone()),
        (check_info::Type::Http, _, Some(http), _) => Target::Http {
            scheme: "http".to_owned(),
            port: http.port,
            path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
            is_ip6: false,
        },
        (check_info::Type::Tcp, _, _, Some(tcp)) => Target::Tcp { port: tcp.port, is_ip6: false },
        _ => Target::Nothing,
    }
}

async fn probe(target: &Target, place: &Place, timeout: Duration) -> Probed {
    let look = async {
        match target {
            Target::Command(command) => run(command, &place.commands).await,
            Target::Nothing => Probed::Failed,
            Target::Http { .. } | Target::Tcp { .. } => match &place.network {
                Some(network) => within(network.clone(), target.clone(), place.ip, timeout).await,
                None => connect(target, place.ip).await,
            },
        }
    };
    if timeout.is_zero() {
        return look.await;
    }
    tokio::time::timeout(timeout, look).await.unwrap_or(Probed::TimedOut)
}

/// Looks at what listens at an address, or at its counterpart of version 6 on this host.
async fn connect(target: &Target, ip: IpAddr) -> Probed {
    let address = |port: u32, is_ip6: bool| {
        let ip = if is_ip6 && ip.is_loopback() { Ipv6Addr::LOCALHOST.into() } else { ip };
        SocketAddr::new(ip, u16::try_from(port).unwrap_or_default())
    };
    match target {
        Target::Http { scheme, port, path, is_ip6 } => {
            let url = format!("{scheme}://{}{path}", address(*port, *is_ip6));
            let Ok(client) = tls::client::unchecked().build() else { return Probed::Failed };
            match client.get(url).send().await {
                Ok(response) => Probed::Status(response.status().as_u16()),
                Err(_) => Probed::Failed,
            }
        }
        Target::Tcp { port, is_ip6 } => {
            Probed::Connected(TcpStream::connect(address(*port, *is_ip6)).await.is_ok())
        }
        Target::Command(_) | Target::Nothing => Probed::Failed,
    }
}

/// Looks from within a network, by a thread of its own, which alone is in it. Who may not enter it looks at `ip` from here.
async fn within(network: PathBuf, target: Target, ip: IpAddr, timeout: Duration) -> Probed {
    let (tell, told) = oneshot::channel();
    let inside = target.clone();
    let look = move || {
        let namespace = File::open(&network).ok()?;
        setns(namespace, CloneFlags::CLONE_NEWNET).ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        Some(runtime.block_on(async {
            let found = connect(&inside, Ipv4Addr::LOCALHOST.into());
            // The thread ends, though nobody waits for it any more.
            let limit = if timeout.is_zero() { PROBE_MAX } else { timeout };
            tokio::time::timeout(limit, found).await.unwrap_or(Probed::TimedOut)
        }))
    };
    let started = std::thread::Builder::new().name("health".to_owned()).spawn(move || {
        // Whoever asked may be gone.
        let _ = tell.send(look());
    });
    if started.is_ok()
        && let Ok(Some(probed)) = told.await
    {
        return probed;
    }
    connect(&target, ip).await
}

async fn run(command: &v1::CommandInfo, commands: &Commands) -> Probed {
    use std::os::unix::process::ExitStatusExt as _;
    if command.value.is_none() {
        return Probed::Failed;
    }
    let (mut started, environment) = match commands {
        Commands::Beside(api, beside) => {
            return match api.run_beside(beside.clone(), command.clone()).await {
                Ok(Some(status)) => Probed::Exit(std::process::ExitStatus::from_raw(status).code()),
                Ok(None) | Err(_) => Probed::Failed,
            };
        }
        Commands::InTask { pid, user, environment } => {
            let (program, words) = words(command);
            let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
            let options = helper::Options {
                user: user.as_deref(),
                beside: Some(*pid),
                directory: directory.as_deref(),
                ..helper::Options::default()
            };
            (Command::from(helper::command(&options, &program, &words)), environment)
        }
        Commands::InDocker { socket, name } => {
            let (_, words) = words(command);
            let variables = super::command::environment(command);
            return match docker::run::execute(socket, name, words, variables).await {
                Ok(code) => Probed::Exit(code),
                Err(reason) => {
                    tracing::warn!(name, reason, "a health check's command was not run");
                    Probed::Failed
                }
            };
        }
    };
    for own in super::command::OWN {
        started.env_remove(own);
    }
    let status = started
        .envs(environment.iter().cloned())
        .envs(super::command::environment(command))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    status.map_or(Probed::Failed, |status| Probed::Exit(status.code()))
}

/// The program of a check's command, and all its words, that one's first.
fn words(command: &v1::CommandInfo) -> (String, Vec<String>) {
    let words: Vec<String> = if command.shell() {
        vec!["/bin/sh".to_owned(), "-c".to_owned(), command.value().to_owned()]
    } else {
        let arguments = command.arguments.iter().skip(1).cloned();
        std::iter::once(command.value().to_owned()).chain(arguments).collect()
    };
    (words[0].clone(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_only_after_the_grace_period_or_a_success() {
        let check = HealthCheck {
            grace_period_seconds: Some(10.0),
            consecutive_failures: Some(2),
            ..Default::default()
        };
        let mut verdicts = Verdicts::default();
        let at = Duration::from_secs;
        assert_eq!(verdicts.result(&check, at(5), false), None, "still starting");
        assert_eq!(
            verdicts.result(&check, at(6), true),
            Some(Health { healthy: true, kill: false })
        );
        assert_eq!(verdicts.result(&check, at(7), true), None, "no news");
        assert_eq!(
            verdicts.result(&check, at(8), false),
            Some(Health { healthy: false, kill: false })
        );
        assert_eq!(
            verdicts.result(&check, at(9), false),
            Some(Health { healthy: false, kill: true })
        );
    }

    #[test]
    fn a_probe_is_healthy_or_a_status_or_neither() {
        assert!(Probed::Status(200).is_healthy() && Probed::Status(399).is_healthy());
        assert!(!Probed::Status(199).is_healthy() && !Probed::Status(400).is_healthy());
        assert!(Probed::Exit(Some(0)).is_healthy() && !Probed::Exit(None).is_healthy());
        let shown = |probed: Probed, kind| {
            let status = probed.as_status(kind)?;
            Some(mesos::json::to_string(&status, mesos::json::Dialect::V1))
        };
        let command = check_info::Type::Command;
        assert_eq!(
            shown(Probed::Exit(Some(3)), command).unwrap(),
            r#"{"type":"COMMAND","command":{"exit_code":3}}"#
        );
        assert_eq!(shown(Probed::TimedOut, command).unwrap(), r#"{"type":"COMMAND","command":{}}"#);
        assert_eq!(
            shown(Probed::Connected(false), check_info::Type::Tcp).unwrap(),
            r#"{"type":"TCP","tcp":{"succeeded":false}}"#
        );
        assert_eq!(shown(Probed::Failed, command), None);
    }

    #[tokio::test]
    async fn a_check_reports_each_change() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = v1::TaskInfo {
            check: Some(CheckInfo {
                r#type: Some(check_info::Type::Tcp as i32),
                tcp: Some(check_info::Tcp { port: u32::from(port) }),
                delay_seconds: Some(0.0),
                interval_seconds: Some(0.0),
                ..Default::default()
            }),
            ..Default::default()
        };
        let pid = i32::try_from(std::process::id()).unwrap();
        let commands = Commands::InTask { pid, user: None, environment: Vec::new() };
        // Its own network; who may not enter it looks from where it is, which is the same here.
        let network = Some("/proc/self/ns/net".into());
        let place = Place { ip: [127, 0, 0, 1].into(), network, commands };
        let (tell, mut told) = mpsc::channel(4);
        let running = watch_all(&task, &place, &tell);
        let succeeded = |found: Option<Found>| match found {
            Some(Found::Check(status)) => status.tcp.unwrap().succeeded,
            other => panic!("{other:?}"),
        };
        assert_eq!(succeeded(told.recv().await), Some(true));
        drop(listener);
        assert_eq!(succeeded(told.recv().await), Some(false));
        running.iter().for_each(JoinHandle::abort);
        assert_eq!(unchecked(&task).unwrap().tcp, Some(check_status_info::Tcp::default()));
    }
}
