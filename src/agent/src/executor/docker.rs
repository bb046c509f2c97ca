//! `mesos-docker-executor`: runs one task in a Docker container (Mesos' `docker/executor.cpp`), through the Engine's
//! API. Whatever Docker does takes its time in tasks of its own: the agent is heard meanwhile.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::StopContainerOptionsBuilder;
use mesos::resources::Resources;
use mesos::v1::executor::{Event, event};
use mesos::v1::{self, TaskState};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{Client, Heard};
use super::command::{at, grace};
use super::health::{self, Commands, Found, Health, Place};
use crate::containerizer::ResourceLimits;
use crate::containerizer::docker::create::{Asked, container};
use crate::containerizer::docker::run::{self as running, Running};
use crate::containerizer::docker::{connect, end};

const FAREWELL: Duration = Duration::from_secs(60);
const KILL_GRACE: Duration = Duration::from_secs(5);
/// Pause between two attempts to stop a container that the daemon failed to stop.
const RETRY: Duration = Duration::from_secs(1);

/// What Docker did.
enum Step {
    Started(Result<Running, String>),
    Ended(Result<i64, String>),
    Health(Health),
}

struct Session {
    client: Client,
    socket: PathBuf,
    name: String,
    sandbox: String,
    /// Where the sandbox is in the container.
    mapped: String,
    /// Whether the container has no more CPU time than it asks for.
    has_quota: bool,
    steps: mpsc::Sender<Step>,
    task: Option<v1::TaskInfo>,
    /// How long the task may take to end, once it is to.
    grace: Option<Duration>,
    is_running: bool,
    is_unhealthy: bool,
    /// Set when the task is over: then the agent is waited for until then.
    farewell: Option<Instant>,
}

/// Runs until the task is over and the agent knows.
///
/// # Errors
/// When it wasn't started by an agent.
pub async fn run(arguments: &[String]) -> anyhow::Result<()> {
    let flag = |name: &str| {
        let prefix = format!("--{name}=");
        arguments.iter().find_map(|argument| argument.strip_prefix(&prefix).map(str::to_owned))
    };
    let started_by_hand = "this program is started by a Mesos agent";
    let name =
        flag("container").with_context(|| format!("--container is missing: {started_by_hand}"))?;
    let socket = flag("docker_socket").unwrap_or_else(|| "/var/run/docker.sock".to_owned());
    let sandbox = std::env::var("MESOS_SANDBOX")
        .with_context(|| format!("MESOS_SANDBOX is not set: {started_by_hand}"))?;
    let (tell, mut steps) = mpsc::channel(16);
    let mut session = Session {
        client: Client::from_environment()?,
        socket: PathBuf::from(socket),
        name,
        sandbox,
        mapped: flag("mapped_directory").unwrap_or_else(|| "/mnt/mesos/sandbox".to_owned()),
        has_quota: flag("cgroups_enable_cfs").is_some_and(|value| value == "true"),
        steps: tell,
        task: None,
        grace: None,
        is_running: false,
        is_unhealthy: false,
        farewell: None,
    };
    loop {
        let farewell = session.farewell;
        if farewell.is_some_and(|until| session.client.is_settled() || Instant::now() >= until) {
            return Ok(());
        }
        tokio::select! {
            heard = session.client.next() => {
                if session.heard(heard).await.is_break() {
                    return Ok(());
                }
            }
            Some(step) = steps.recv() => session.step(step).await,
            () = at(farewell) => {}
        }
    }
}

impl Session {
    async fn heard(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Reconnect => {}
            Heard::Shutdown => {
                end(&self.socket, &self.name).await;
                return ControlFlow::Break(());
            }
            Heard::Event(event) => return self.event(*event).await,
        }
        ControlFlow::Continue(())
    }

    async fn event(&mut self, event: Event) -> ControlFlow<()> {
        match event.r#type() {
            event::Type::Launch if self.task.is_none() => {
                let task = event.launch.unwrap_or_default().task;
                self.client.update(&task.task_id, TaskState::TaskStarting, |_| {}).await;
                self.start(task.clone());
                self.task = Some(task);
            }
            event::Type::Kill => {
                let policy = event.kill.and_then(|kill| kill.kill_policy);
                self.stop(policy.as_ref()).await;
            }
            event::Type::Shutdown if self.task.is_none() => return ControlFlow::Break(()),
            event::Type::Shutdown => self.stop(None).await,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn start(&self, task: v1::TaskInfo) {
        let (socket, name) = (self.socket.clone(), self.name.clone());
        let (sandbox, mapped) = (self.sandbox.clone(), self.mapped.clone());
        let has_quota = self.has_quota;
        let steps = self.steps.clone();
        tokio::spawn(async move {
            let started = match connect(&socket).await {
                Ok(docker) => {
                    let body = asked(&task, &name, &sandbox, &mapped, has_quota);
                    let started = match body {
                        Ok(body) => running::start(&docker, &name, body).await,
                        Err(error) => Err(error),
                    };
                    started.map(|running| (docker, running))
                }
                Err(error) => Err(error),
            };
            match started {
                Ok((docker, running)) => {
                    tokio::spawn(running::copy_output(docker.clone(), name.clone()));
                    let _ = steps.send(Step::Started(Ok(running))).await;
                    let _ = steps.send(Step::Ended(running::wait(docker, name).await)).await;
                }
                Err(error) => {
                    let _ = steps.send(Step::Started(Err(error))).await;
                }
            }
        });
    }

    /// Ends the task. Before its container runs, that waits until it does.
    async fn stop(&mut self, policy: Option<&v1::KillPolicy>) {
        let Some(task) = &self.task else { return };
        if self.farewell.is_some() {
            return;
        }
        let grace = grace(policy, task, KILL_GRACE);
        // A second kill may only shorten the first.
        if self.grace.is_some_and(|own| own <= grace) {
            return;
        }
        if self.grace.is_none() && self.client.framework_knows_killing() {
            let id = task.task_id.clone();
            self.client.update(&id, TaskState::TaskKilling, |_| {}).await;
        }
        self.grace = Some(grace);
        if self.is_running {
            self.stop_container(grace);
        }
    }

    fn stop_container(&self, grace: Duration) {
        let (socket, name) = (self.socket.clone(), self.name.clone());
        tokio::spawn(async move {
            let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::default().t(seconds).build();
            if let Ok(docker) = connect(&socket).await
                && docker.stop_container(&name, Some(options)).await.is_ok()
            {
                return;
            }
            // The executor's end ends this as well.
            loop {
                tracing::warn!(name, "container not stopped: killing it");
                end(&socket, &name).await;
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    async fn step(&mut self, step: Step) {
        let Some(task) = self.task.clone() else { return };
        match step {
            Step::Started(Ok(running)) => self.started(&task, running).await,
            Step::Started(Err(message)) => {
                let state = if self.grace.is_some() {
                    TaskState::TaskKilled
                } else {
                    TaskState::TaskFailed
                };
                self.client
                    .update(&task.task_id, state, |status| {
                        status.message = Some(format!("Failed to launch container: {message}"));
                        status.reason = Some(v1::task_status::Reason::ContainerLaunchFailed as i32);
                    })
                    .await;
                self.farewell = Some(Instant::now() + FAREWELL);
            }
            Step::Ended(ended) => self.ended(&task, ended).await,
            Step::Health(found) if self.farewell.is_none() => {
                self.client
                    .update(&task.task_id, TaskState::TaskRunning, |status| {
                        status.healthy = Some(found.healthy);
                        status.reason =
                            Some(v1::task_status::Reason::TaskHealthCheckStatusUpdated as i32);
                    })
                    .await;
                if found.kill {
                    self.is_unhealthy = true;
                    self.stop(None).await;
                }
            }
            Step::Health(_) => {}
        }
    }

    async fn started(&mut self, task: &v1::TaskInfo, running: Running) {
        self.is_running = true;
        let ip = running.ip.clone();
        self.client
            .update(&task.task_id, TaskState::TaskRunning, |status| {
                status.data = Some(running.data);
                let Some(ip) = running.ip else { return };
                let address = v1::network_info::IpAddress {
                    protocol: Some(v1::network_info::Protocol::IPv4 as i32),
                    ip_address: Some(ip),
                };
                let network = v1::NetworkInfo { ip_addresses: vec![address], ..Default::default() };
                status.container_status = Some(v1::ContainerStatus {
                    network_infos: vec![network],
                    ..Default::default()
                });
            })
            .await;
        if let Some(grace) = self.grace {
            self.stop_container(grace);
            return;
        }
        let ip = ip.and_then(|ip| ip.parse().ok()).unwrap_or_else(|| [127, 0, 0, 1].into());
        let host = format!("unix://{}", self.socket.display());
        let prefix = ["docker", "-H", &host, "exec", &self.name].map(str::to_owned).to_vec();
        let place = Place { ip, commands: Commands::Here { prefix, environment: Vec::new() } };
        let steps = self.steps.clone();
        let (tell, mut found) = mpsc::channel(16);
        // As in the original, containers of Docker have health checks only. They end with this process.
        let checked = v1::TaskInfo { check: None, ..task.clone() };
        let _running = health::watch_all(&checked, &place, &tell);
        tokio::spawn(async move {
            while let Some(found) = found.recv().await {
                let Found::Health(health) = found else { continue };
                if steps.send(Step::Health(health)).await.is_err() {
                    return;
                }
            }
        });
    }

    async fn ended(&mut self, task: &v1::TaskInfo, ended: Result<i64, String>) {
        let state = match ended {
            _ if self.grace.is_some() => TaskState::TaskKilled,
            Ok(0) => TaskState::TaskFinished,
            _ => TaskState::TaskFailed,
        };
        let message = match ended {
            Ok(code) => format!("Container exited with status {code}"),
            Err(error) => format!("Failed to get exit status of container: {error}"),
        };
        let is_unhealthy = self.is_unhealthy;
        self.client
            .update(&task.task_id, state, |status| {
                status.message = Some(message);
                if is_unhealthy {
                    status.healthy = Some(false);
                }
            })
            .await;
        self.farewell = Some(Instant::now() + FAREWELL);
    }
}

/// What the task asks of Docker.
fn asked(
    task: &v1::TaskInfo,
    name: &str,
    sandbox: &str,
    mapped: &str,
    has_quota: bool,
) -> Result<ContainerCreateBody, String> {
    let mut variables = vec![super::allocation_role(task)];
    variables.extend(super::command::secrets()?);
    container(Asked {
        name,
        container: &task.container.clone().unwrap_or_default(),
        command: &task.command.clone().unwrap_or_default(),
        resources: &Resources::from_protos(&task.resources),
        limits: &ResourceLimits::of(&task.limits),
        sandbox,
        mapped,
        has_quota,
        variables,
    })
}
