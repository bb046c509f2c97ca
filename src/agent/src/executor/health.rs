//! Checks and health checks of a task, as its executor runs them (Mesos' `checks/checker.cpp`, `checks/health_checker.cpp`).
//!
//! A health check decides whether a task lives on; a check only reports what it finds, each time that it is something else.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::containerizer::helper;
use mesos::v1::check_status_info;
use mesos::v1::{self, CheckInfo, CheckStatusInfo, HealthCheck, check_info, health_check};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::agent_api::AgentApi;

/// Shortest pause between two checks, whatever is asked for.
const PAUSE_MIN: Duration = Duration::from_millis(100);

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
    /// On this host, with `prefix` before them (`docker exec` for a container) and the task's environment.
    Here {
        /// What runs the command; nothing for a process.
        prefix: Vec<String>,
        /// The task's variables.
        environment: Vec<(String, String)>,
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
    /// Address of the task.
    pub ip: std::net::IpAddr,
    /// How commands are run.
    pub commands: Commands,
}

/// What is looked at.
enum Target {
    Command(v1::CommandInfo),
    Http {
        scheme: String,
        port: u32,
        path: String,
    },
    Tcp {
        port: u32,
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
    fn is_healthy(self, statuses: &[u32]) -> bool {
        match self {
            Self::Exit(code) => code == Some(0),
            Self::Status(status) if statuses.is_empty() => (200..400).contains(&status),
            Self::Status(status) => statuses.contains(&u32::from(status)),
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
    let statuses = check.http.as_ref().map(|http| http.statuses.clone()).unwrap_or_default();
    let began = Instant::now();
    tokio::time::sleep(seconds(check.delay_seconds())).await;
    let mut verdicts = Verdicts::default();
    loop {
        let success = match &target {
            Target::Nothing => true,
            target => {
                let probed = probe(target, &place, seconds(check.timeout_seconds())).await;
                probed.is_healthy(&statuses)
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

fn health_target(check: &HealthCheck) -> Target {
    match (check.r#type(), &check.command, &check.http, &check.tcp) {
        (health_check::Type::Command, command, ..) => {
            Target::Command(command.clone().unwrap_or_default())
        }
        (health_check::Type::Http, _, Some(http), _) => Target::Http {
            scheme: http.scheme.clone().unwrap_or_else(|| "http".to_owned()),
            port: http.port,
            path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
        },
        (health_check::Type::Tcp, _, _, Some(tcp)) => Target::Tcp { port: tcp.port },
        (health_check::Type::Unknown, ..) => Target::Nothing,
        // A check without what it is to look at never succeeds.
        _ => Target::Tcp { port: 0 },
    }
}

fn check_target(check: &CheckInfo) -> Target {
    match (check.r#type(), &check.command, &check.http, &check.tcp) {
        (check_info::Type::Command, Some(command), ..) => Target::Command(command.command.clone()),
        (check_info::Type::Http, _, Some(http), _) => Target::Http {
            scheme: "http".to_owned(),
            port: http.port,
            path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
        },
        (check_info::Type::Tcp, _, _, Some(tcp)) => Target::Tcp { port: tcp.port },
        _ => Target::Nothing,
    }
}

async fn probe(target: &Target, place: &Place, timeout: Duration) -> Probed {
    let address = |port: u32| SocketAddr::new(place.ip, u16::try_from(port).unwrap_or_default());
    let look = async {
        match target {
            Target::Command(command) => run(command, &place.commands).await,
            Target::Http { scheme, port, path } => {
                let url = format!("{scheme}://{}{path}", address(*port));
                let Ok(client) = tls::client::unchecked().build() else { return Probed::Failed };
                match client.get(url).send().await {
                    Ok(response) => Probed::Status(response.status().as_u16()),
                    Err(_) => Probed::Failed,
                }
            }
            Target::Tcp { port } => {
                Probed::Connected(TcpStream::connect(address(*port)).await.is_ok())
            }
            Target::Nothing => Probed::Failed,
        }
    };
    if timeout.is_zero() {
        return look.await;
    }
    tokio::time::timeout(timeout, look).await.unwrap_or(Probed::TimedOut)
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
        Commands::Here { prefix, environment } => {
            let (program, words) = words(command);
            let started = match prefix.split_first() {
                Some((first, more)) => {
                    let mut started = Command::new(first);
                    started.args(more).args(words);
                    started
                }
                None => {
                    let mut started = Command::new(program);
                    started.args(&words[1..]);
                    started
                }
            };
            (started, environment)
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
        assert!(Probed::Status(302).is_healthy(&[]) && !Probed::Status(302).is_healthy(&[200]));
        assert!(Probed::Status(500).is_healthy(&[500]) && !Probed::Status(500).is_healthy(&[]));
        assert!(Probed::Exit(Some(0)).is_healthy(&[]) && !Probed::Exit(None).is_healthy(&[]));
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
    async fn a_check_reports_each_change_and_a_health_check_its_failures() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("code");
        let command = |text: String| v1::CommandInfo {
            value: Some(text),
            shell: Some(true),
            ..Default::default()
        };
        let task = v1::TaskInfo {
            check: Some(CheckInfo {
                r#type: Some(check_info::Type::Command as i32),
                command: Some(check_info::Command {
                    command: command(format!("exit $(cat {} || echo 4)", file.display())),
                }),
                delay_seconds: Some(0.0),
                interval_seconds: Some(0.0),
                ..Default::default()
            }),
            ..Default::default()
        };
        let commands = Commands::Here { prefix: Vec::new(), environment: Vec::new() };
        let place = Place { ip: [127, 0, 0, 1].into(), commands };
        let (tell, mut told) = mpsc::channel(4);
        let running = watch_all(&task, &place, &tell);
        let code = |found: Option<Found>| match found {
            Some(Found::Check(status)) => status.command.unwrap().exit_code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(told.recv().await), Some(4));
        std::fs::write(&file, "5").unwrap();
        // The shell may have read an empty file.
        let mut last = code(told.recv().await);
        while last != Some(5) {
            last = code(told.recv().await);
        }
        running.iter().for_each(JoinHandle::abort);
        assert_eq!(unchecked(&task).unwrap().command, Some(check_status_info::Command::default()));
    }
}
