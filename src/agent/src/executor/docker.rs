//! `mesos-docker-executor`: runs one task in a Docker container (Mesos' `docker/executor.cpp`), through the Engine's
//! API. Whatever Docker does takes its time in tasks of its own: the agent is heard meanwhile.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::StopContainerOptionsBuilder;
use mesos::resources::Resources;
use mesos::v1::executor::{Event, event};
use mesos::v1::network_info::{IpAddress, Protocol};
use mesos::v1::{self, TaskState};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{Client, Heard, duration};
use super::command::{at, grace};
use super::health::{self, Commands, Found, Health, Place};
use crate::containerizer::ResourceLimits;
use crate::containerizer::dns::ContainerDns;
use crate::containerizer::docker::create::{Asked, container};
use crate::containerizer::docker::run::{self as running, Running};
use crate::containerizer::docker::{connect, end};

const FAREWELL: Duration = Duration::from_secs(60);
/// How long a task may take to end, where neither it nor the agent says.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// How much sooner than the agent this ends a container, for its end to be told.
const MARGIN: Duration = Duration::from_secs(2);
/// Pause between two attempts to stop a container that the daemon failed to stop.
const RETRY: Duration = Duration::from_secs(1);

/// What Docker did.
enum Step {
    Started(Result<Running, String>),
    Ended(Result<i64, String>),
    Health(Health),
}

/// What the agent says of the task's container.
#[derive(Clone)]
struct Told {
    socket: PathBuf,
    name: String,
    sandbox: String,
    /// Where the sandbox is in the container.
    mapped: String,
    /// Whether the container has no more CPU time than it asks for.
    has_quota: bool,
    /// Name servers of containers.
    dns: ContainerDns,
}

struct Session {
    client: Client,
    told: Told,
    steps: mpsc::Sender<Step>,
    task: Option<v1::TaskInfo>,
    /// Its networks, once it runs, as every update tells them.
    networks: Vec<v1::NetworkInfo>,
    /// When it must be over (`max_completion_time`).
    complete_by: Option<Instant>,
    /// Whether it was not over then.
    took_too_long: bool,
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
    let told = Told {
        socket: PathBuf::from(socket),
        name,
        sandbox,
        mapped: flag("mapped_directory").unwrap_or_else(|| "/mnt/mesos/sandbox".to_owned()),
        has_quota: flag("cgroups_enable_cfs").is_some_and(|value| value == "true"),
        dns: flag("default_container_dns")
            .map(|text| ContainerDns::parse(&text))
            .transpose()
            .map_err(|reason| anyhow::anyhow!("--default_container_dns: {reason}"))?
            .unwrap_or_default(),
    };
    let mut session = Session {
        client: Client::from_environment()?,
        told,
        steps: tell,
        task: None,
        networks: Vec::new(),
        complete_by: None,
        took_too_long: false,
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
            () = at(session.complete_by) => {
                session.complete_by = None;
                session.took_too_long = true;
                // Whatever its kill policy says.
                session.stop(Duration::ZERO).await;
            }
            () = at(farewell) => {}
        }
    }
}

impl Session {
    async fn heard(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Reconnect => {}
            Heard::Shutdown => {
                end(&self.told.socket, &self.told.name).await;
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
                let limit = task.max_completion_time.map(|limit| limit.duration());
                let limit = limit.filter(|limit| !limit.is_zero());
                self.complete_by = limit.and_then(|limit| Instant::now().checked_add(limit));
                match asked(&task, &self.told) {
                    Ok(body) => self.start(body),
                    Err(reason) => {
                        let message = format!("Failed to create docker run options: {reason}");
                        self.over(&task, TaskState::TaskFailed, message).await;
                    }
                }
                self.task = Some(task);
            }
            event::Type::Kill => {
                let policy = event.kill.and_then(|kill| kill.kill_policy);
                self.kill(policy.as_ref()).await;
            }
            event::Type::Shutdown if self.task.is_none() => return ControlFlow::Break(()),
            // The agent ends what has not ended by itself in that time.
            event::Type::Shutdown => self.stop(shutdown_grace().saturating_sub(MARGIN)).await,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn start(&self, body: ContainerCreateBody) {
        let Told { socket, name, .. } = self.told.clone();
        let steps = self.steps.clone();
        tokio::spawn(async move {
            let started = match connect(&socket).await {
                Ok(docker) => {
                    let started = running::start(&docker, &name, body).await;
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

    /// Ends the task as its policy or that of the call says.
    async fn kill(&mut self, policy: Option<&v1::KillPolicy>) {
        let Some(task) = &self.task else { return };
        let grace = grace(policy, task, shutdown_grace());
        self.stop(grace).await;
    }

    /// Ends the task. Before its container runs, that waits until it does.
    async fn stop(&mut self, grace: Duration) {
        let Some(task) = &self.task else { return };
        // A second kill may only shorten the first.
        if self.farewell.is_some() || self.grace.is_some_and(|own| own <= grace) {
            return;
        }
        if self.grace.is_none() && !self.took_too_long && self.client.framework_knows_killing() {
            let id = task.task_id.clone();
            self.client.update(&id, TaskState::TaskKilling, |_| {}).await;
        }
        self.complete_by = None;
        self.grace = Some(grace);
        if self.is_running {
            self.stop_container(grace);
        }
    }

    fn stop_container(&self, grace: Duration) {
        let Told { socket, name, .. } = self.told.clone();
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

    /// The task is over, and the agent is to know before this ends.
    async fn over(&mut self, task: &v1::TaskInfo, state: TaskState, message: String) {
        let reason =
            self.took_too_long.then_some(v1::task_status::Reason::MaxCompletionTimeReached as i32);
        let healthy = self.is_unhealthy.then_some(false);
        self.client
            .update(&task.task_id, state, |status| {
                status.message = Some(message);
                status.reason = reason;
                status.healthy = healthy;
            })
            .await;
        self.complete_by = None;
        self.farewell = Some(Instant::now() + FAREWELL);
    }

    async fn step(&mut self, step: Step) {
        let Some(task) = self.task.clone() else { return };
        match step {
            Step::Started(Ok(running)) => self.started(&task, running).await,
            Step::Started(Err(reason)) => {
                let state = match self.grace {
                    Some(_) if !self.took_too_long => TaskState::TaskKilled,
                    _ => TaskState::TaskFailed,
                };
                let message = format!("Failed to run docker container: {reason}");
                self.over(&task, state, message).await;
            }
            Step::Ended(ended) => self.ended(&task, ended).await,
            // One that is ending runs no more.
            Step::Health(found) if self.farewell.is_none() && self.grace.is_none() => {
                let container = self.container_status();
                self.client
                    .update(&task.task_id, TaskState::TaskRunning, |status| {
                        status.container_status = container;
                        status.healthy = Some(found.healthy);
                        status.reason =
                            Some(v1::task_status::Reason::TaskHealthCheckStatusUpdated as i32);
                    })
                    .await;
                if found.kill {
                    self.is_unhealthy = true;
                    self.kill(None).await;
                }
            }
            Step::Health(_) => {}
        }
    }

    /// What updates tell of the container.
    fn container_status(&self) -> Option<v1::ContainerStatus> {
        let network_infos = self.networks.clone();
        (!network_infos.is_empty())
            .then(|| v1::ContainerStatus { network_infos, ..Default::default() })
    }

    async fn started(&mut self, task: &v1::TaskInfo, running: Running) {
        self.is_running = true;
        self.networks = networks(task, &running.ips);
        let container = self.container_status();
        self.client
            .update(&task.task_id, TaskState::TaskRunning, |status| {
                status.data = Some(running.data);
                status.container_status = container;
            })
            .await;
        if let Some(grace) = self.grace {
            self.stop_container(grace);
            return;
        }
        let Told { socket, name, .. } = self.told.clone();
        let place = Place {
            ip: running.ips.first().copied().unwrap_or([127, 0, 0, 1].into()),
            network: running.pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))),
            commands: Commands::InDocker { socket, name },
        };
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
            _ if self.took_too_long => TaskState::TaskFailed,
            _ if self.grace.is_some() => TaskState::TaskKilled,
            Ok(0) => TaskState::TaskFinished,
            _ => TaskState::TaskFailed,
        };
        let message = match ended {
            Ok(code) => format!("Container exited with status {code}"),
            Err(error) => format!("Failed to get exit status of container: {error}"),
        };
        self.over(task, state, message).await;
    }
}

/// How long the agent gives an executor to end, which is also what its task has where nothing else is said.
fn shutdown_grace() -> Duration {
    duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", KILL_GRACE)
}

/// The network that a container asked for, with the addresses that it has there.
fn networks(task: &v1::TaskInfo, ips: &[IpAddr]) -> Vec<v1::NetworkInfo> {
    if ips.is_empty() {
        return Vec::new();
    }
    let asked = task.container.as_ref().and_then(|container| container.network_infos.first());
    let address = |ip: &IpAddr| {
        let protocol = if ip.is_ipv4() { Protocol::IPv4 } else { Protocol::IPv6 };
        IpAddress { protocol: Some(protocol as i32), ip_address: Some(ip.to_string()) }
    };
    vec![v1::NetworkInfo {
        ip_addresses: ips.iter().map(address).collect(),
        ..asked.cloned().unwrap_or_default()
    }]
}

/// What the task asks of Docker.
fn asked(task: &v1::TaskInfo, told: &Told) -> Result<ContainerCreateBody, String> {
    let mut variables = vec![super::allocation_role(task)];
    variables.extend(super::command::secrets()?);
    container(Asked {
        name: &told.name,
        container: &task.container.clone().unwrap_or_default(),
        command: &task.command.clone().unwrap_or_default(),
        resources: &Resources::from_protos(&task.resources),
        limits: &ResourceLimits::of(&task.limits),
        sandbox: &told.sandbox,
        mapped: &told.mapped,
        has_quota: told.has_quota,
        variables,
        dns: &told.dns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_tell_the_network_that_was_asked_for_with_all_addresses() {
        let task = v1::TaskInfo {
            container: Some(v1::ContainerInfo {
                network_infos: vec![v1::NetworkInfo {
                    name: Some("n".to_owned()),
                    ip_addresses: vec![IpAddress::default()],
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        };
        let ips = ["10.0.0.2", "fd00::2"].map(|ip| ip.parse().unwrap());
        let [told] = &networks(&task, &ips)[..] else { panic!("one network") };
        assert_eq!(told.name(), "n");
        let told: Vec<&str> = told.ip_addresses.iter().map(IpAddress::ip_address).collect();
        assert_eq!(told, ["10.0.0.2", "fd00::2"]);
        assert!(networks(&task, &[]).is_empty(), "it has the host's");
    }
}
