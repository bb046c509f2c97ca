//! `mesos-executor`: runs one command (Mesos' `launcher/executor.cpp`).

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mesos::v1::executor::event;
use mesos::v1::{self, TaskState};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::client::{Client, Heard};
use super::health::{self, Health, Place};
use crate::containerizer::processes::kill_tree;
use crate::containerizer::{MEMORY_EVENTS, MEMORY_LIMIT, TASK_USER, cgroups, helper};

/// How long a task may take to end after SIGTERM when nobody says otherwise.
const KILL_GRACE: Duration = Duration::from_secs(3);
/// How long to wait for the last acknowledgement.
const FAREWELL: Duration = Duration::from_secs(60);

/// "Command exited with status 0", "Command terminated with signal Killed".
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("Command exited with status {code}"),
        (None, Some(signal)) => {
            let name = match Signal::try_from(signal) {
                Ok(Signal::SIGKILL) => "Killed".to_owned(),
                Ok(Signal::SIGTERM) => "Terminated".to_owned(),
                Ok(Signal::SIGSEGV) => "Segmentation fault".to_owned(),
                Ok(Signal::SIGABRT) => "Aborted".to_owned(),
                Ok(other) => other.as_str().to_owned(),
                Err(_) => signal.to_string(),
            };
            format!("Command terminated with signal {name}")
        }
        (None, None) => "Command ended".to_owned(),
    }
}

/// The grace period of a kill: the call's policy, else the task's, else the default.
pub fn grace(call: Option<&v1::KillPolicy>, task: &v1::TaskInfo, default: Duration) -> Duration {
    let of = |policy: &v1::KillPolicy| {
        policy.grace_period.map(|period| Duration::from_nanos(period.nanoseconds.max(0) as u64))
    };
    call.and_then(of).or_else(|| task.kill_policy.as_ref().and_then(of)).unwrap_or(default)
}

struct Task {
    info: v1::TaskInfo,
    pid: i32,
    killed: bool,
    unhealthy: bool,
    kill_at: Option<tokio::time::Instant>,
}

fn spawn(info: &v1::TaskInfo) -> Result<Child, String> {
    let command = info.command.clone().unwrap_or_default();
    let (program, argv) = if command.shell() {
        let argv = ["sh", "-c", command.value()].map(str::to_owned).to_vec();
        ("/bin/sh".to_owned(), argv)
    } else {
        (command.value().to_owned(), command.arguments.clone())
    };
    let mut words: Command = match std::env::var(TASK_USER) {
        Ok(user) => {
            let options = helper::Options { waits: false, user: Some(&user) };
            helper::command(&options, &program, &argv).into()
        }
        Err(_) => {
            let mut words = Command::new(&program);
            if let [name, rest @ ..] = &argv[..] {
                words.arg0(name).args(rest);
            }
            words
        }
    };
    for (name, value) in environment(&command) {
        words.env(name, value);
    }
    for own in [TASK_USER, MEMORY_EVENTS, MEMORY_LIMIT] {
        words.env_remove(own);
    }
    words.stdin(Stdio::null()).process_group(0);
    words.spawn().map_err(|error| format!("Failed to start '{program}': {error}"))
}

/// What is to be said if the container has run out of memory.
fn out_of_memory() -> Option<String> {
    let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
    cgroups::out_of_memory(&file(MEMORY_EVENTS)?, &file(MEMORY_LIMIT)?)
}

/// A command's own variables.
pub(super) fn environment(command: &v1::CommandInfo) -> Vec<(String, String)> {
    command
        .environment
        .iter()
        .flat_map(|environment| &environment.variables)
        .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
        .collect()
}

/// Runs until the task is over and the agent knows.
///
/// # Errors
/// When it wasn't started by an agent.
pub async fn run() -> anyhow::Result<()> {
    let mut client = Client::from_environment()?;
    let (tell_health, mut health) = mpsc::channel::<Health>(16);
    let mut task: Option<Task> = None;
    let mut child: Option<Child> = None;
    let mut over = false;
    let mut farewell = tokio::time::Instant::now();
    loop {
        if over && (client.is_settled() || tokio::time::Instant::now() >= farewell) {
            return Ok(());
        }
        let kill_at = task.as_ref().and_then(|task| task.kill_at);
        tokio::select! {
            heard = client.next() => match heard {
                Heard::Reconnect => {}
                Heard::Shutdown => {
                    if let Some(task) = &task {
                        kill_tree(task.pid);
                    }
                    return Ok(());
                }
                Heard::Event(event) => match event.r#type() {
                    event::Type::Launch if task.is_none() => {
                        let info = event.launch.unwrap_or_default().task;
                        client.update(&info.task_id, TaskState::TaskStarting, |_| {}).await;
                        match spawn(&info) {
                            Err(message) => {
                                client.update(&info.task_id, TaskState::TaskFailed, |status| {
                                    status.message = Some(message);
                                    status.reason = Some(v1::task_status::Reason::CommandExecutorFailed as i32);
                                }).await;
                                over = true;
                                farewell = tokio::time::Instant::now() + FAREWELL;
                            }
                            Ok(started) => {
                                let pid = started.id().unwrap_or_default() as i32;
                                client.update(&info.task_id, TaskState::TaskRunning, |_| {}).await;
                                if let Some(check) = info.health_check.clone() {
                                    let place = Place { ip: [127, 0, 0, 1].into(), prefix: Vec::new(), environment: environment(&info.command.clone().unwrap_or_default()) };
                                    tokio::spawn(health::watch(check, place, tell_health.clone()));
                                }
                                task = Some(Task { info, pid, killed: false, unhealthy: false, kill_at: None });
                                child = Some(started);
                            }
                        }
                    }
                    event::Type::Kill => {
                        if let Some(task) = task.as_mut().filter(|task| !task.killed && !over) {
                            if client.framework_knows_killing() {
                                client.update(&task.info.task_id, TaskState::TaskKilling, |_| {}).await;
                            }
                            let policy = event.kill.and_then(|kill| kill.kill_policy);
                            terminate(task, policy.as_ref());
                        }
                    }
                    event::Type::Shutdown => match task.as_mut() {
                        Some(task) if !task.killed => terminate(task, None),
                        Some(_) => {}
                        None => return Ok(()),
                    },
                    _ => {}
                },
            },
            status = wait(&mut child) => {
                child = None;
                if let Some(ended) = task.as_ref() {
                    // What it started must not outlive it.
                    let _ = killpg(Pid::from_raw(ended.pid), Signal::SIGKILL);
                    let state = match &status {
                        _ if ended.killed => TaskState::TaskKilled,
                        Ok(status) if status.success() => TaskState::TaskFinished,
                        _ => TaskState::TaskFailed,
                    };
                    let mut message = status.map_or_else(|error| error.to_string(), describe);
                    let exceeded = out_of_memory().filter(|_| state == TaskState::TaskFailed);
                    let is_out_of_memory = exceeded.is_some();
                    if let Some(exceeded) = exceeded {
                        message = exceeded;
                    }
                    let unhealthy = ended.unhealthy;
                    let id = ended.info.task_id.clone();
                    client.update(&id, state, |status| {
                        status.message = Some(message);
                        if is_out_of_memory {
                            status.reason = Some(v1::task_status::Reason::ContainerLimitationMemory as i32);
                        }
                        if unhealthy {
                            status.healthy = Some(false);
                        }
                    }).await;
                }
                over = true;
                farewell = tokio::time::Instant::now() + FAREWELL;
            }
            () = at(kill_at) => {
                if let Some(task) = task.as_mut() {
                    task.kill_at = None;
                    kill_tree(task.pid);
                }
            }
            Some(found) = health.recv(), if !over => {
                if let Some(task) = task.as_mut() {
                    let id = task.info.task_id.clone();
                    client.update(&id, TaskState::TaskRunning, |status| {
                        status.healthy = Some(found.healthy);
                        status.reason = Some(v1::task_status::Reason::TaskHealthCheckStatusUpdated as i32);
                    }).await;
                    if found.kill && !task.killed {
                        task.unhealthy = true;
                        terminate(task, None);
                    }
                }
            }
            () = tokio::time::sleep_until(farewell), if over => {}
        }
    }
}

fn terminate(task: &mut Task, policy: Option<&v1::KillPolicy>) {
    task.killed = true;
    task.kill_at = Some(tokio::time::Instant::now() + grace(policy, &task.info, KILL_GRACE));
    let _ = killpg(Pid::from_raw(task.pid), Signal::SIGTERM);
}

async fn wait(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever without a time.
pub(super) async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
