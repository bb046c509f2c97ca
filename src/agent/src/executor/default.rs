//! `mesos-default-executor`: runs task groups, each task in a container nested in the executor's own.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use mesos::v1;
use mesos::v1::agent::call::LaunchContainer;
use mesos::v1::executor::event;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::agent_api::AgentApi;
use super::client::{Client, Heard};
use super::command::at;
use super::health::{self, Commands, Found, Place};
use super::pod::{Action, Ended, Pod};

/// How long to wait for the last acknowledgement.
const FAREWELL: Duration = Duration::from_secs(60);

/// What happened to a task.
enum Step {
    Launched(String, Result<(), String>),
    Ended(String, Ended),
    Found(String, Found),
}

struct Session {
    client: Client,
    api: AgentApi,
    pod: Pod,
    steps: mpsc::Sender<Step>,
    checks: HashMap<String, Vec<JoinHandle<()>>>,
    started: Instant,
    /// Set when nothing is left to do: then the agent is waited for until then.
    farewell: Option<Instant>,
}

/// Runs until no task is left and the agent knows.
///
/// # Errors
/// When it wasn't started by an agent.
pub async fn run() -> anyhow::Result<()> {
    let (steps, mut next) = mpsc::channel(64);
    let mut session = Session {
        client: Client::from_environment()?,
        api: AgentApi::from_environment()?,
        pod: Pod::default(),
        steps,
        checks: HashMap::new(),
        started: Instant::now(),
        farewell: None,
    };
    loop {
        let farewell = session.farewell;
        if farewell.is_some_and(|until| session.client.is_settled() || Instant::now() >= until) {
            return Ok(());
        }
        let due = session.pod.due().map(|due| session.started + due);
        tokio::select! {
            heard = session.client.next() => {
                match heard {
                    Heard::Event(event) => session.event(*event),
                    Heard::Reconnect => {}
                    // The agent, which ends the containers, is gone for good, or has given this executor up.
                    Heard::Shutdown => return Ok(()),
                }
            }
            Some(step) = next.recv() => session.step(step),
            () = at(due) => session.pod.tick(session.started.elapsed()),
            () = at(farewell) => {}
        }
        session.act().await;
    }
}

impl Session {
    fn event(&mut self, event: v1::executor::Event) {
        let now = self.started.elapsed();
        self.pod.set_knows_killing(self.client.framework_knows_killing());
        match event.r#type() {
            event::Type::LaunchGroup => {
                self.farewell = None;
                let group = event.launch_group.unwrap_or_default().task_group.tasks;
                self.pod.launch_group(group, || uuid::Uuid::new_v4().to_string());
            }
            event::Type::Kill => {
                let kill = event.kill.unwrap_or_default();
                self.pod.kill_task(now, &kill.task_id.value, kill.kill_policy.as_ref());
            }
            // A single task never goes to a default executor.
            event::Type::Launch | event::Type::Shutdown => self.pod.shut_down(now),
            _ => {}
        }
    }

    fn step(&mut self, step: Step) {
        let now = self.started.elapsed();
        match step {
            Step::Launched(task, result) => self.pod.launched(now, &task, result),
            Step::Ended(task, ended) => self.pod.ended(now, &task, ended),
            Step::Found(task, Found::Health(health)) => {
                self.pod.health(now, &task, health.healthy, health.kill);
            }
            Step::Found(task, Found::Check(result)) => self.pod.checked(&task, result),
        }
    }

    async fn act(&mut self) {
        for action in self.pod.take_actions() {
            match action {
                Action::Update(mut status) => {
                    let container = status.container_status.as_mut();
                    if let Some(id) = container.and_then(|own| own.container_id.as_mut()) {
                        id.parent = self.client.container_id().map(Box::new);
                    }
                    self.client.report(*status).await;
                }
                Action::Launch(container, task) => self.launch(&container, *task),
                Action::Wait(container, task) => {
                    let (api, steps) = (self.api.clone(), self.steps.clone());
                    let id = self.nested(&container);
                    tokio::spawn(async move {
                        let ended = api.wait(id).await;
                        // Fails only when the executor is ending.
                        let _ = steps.send(Step::Ended(task.value, ended)).await;
                    });
                }
                Action::Signal(container, signal) => {
                    let (api, id) = (self.api.clone(), self.nested(&container));
                    tokio::spawn(async move {
                        if let Err(error) = api.kill(id, signal).await {
                            tracing::debug!(error, signal, "not signalled");
                        }
                    });
                }
                Action::Check(container, task) => self.check(&container, &task),
                Action::StopChecks(task) => {
                    for check in self.checks.remove(&task.value).unwrap_or_default() {
                        check.abort();
                    }
                }
                Action::Done => self.farewell = Some(Instant::now() + FAREWELL),
            }
        }
    }

    fn nested(&self, container: &str) -> v1::ContainerId {
        v1::ContainerId {
            value: container.to_owned(),
            parent: self.client.container_id().map(Box::new),
        }
    }

    fn launch(&self, container: &str, task: v1::TaskInfo) {
        let launch = launch_of(self.nested(container), &task);
        link(container, &task.task_id.value);
        let (api, steps) = (self.api.clone(), self.steps.clone());
        tokio::spawn(async move {
            let result = api.launch(launch).await;
            let _ = steps.send(Step::Launched(task.task_id.value, result)).await;
        });
    }

    fn check(&mut self, container: &str, task: &v1::TaskInfo) {
        let place = Place {
            ip: [127, 0, 0, 1].into(),
            network: None,
            commands: Commands::Beside(self.api.clone(), self.nested(container)),
        };
        let (tell, mut found) = mpsc::channel(16);
        let mut running = health::watch_all(task, &place, &tell);
        let (steps, id) = (self.steps.clone(), task.task_id.value.clone());
        running.push(tokio::spawn(async move {
            while let Some(found) = found.recv().await {
                if steps.send(Step::Found(id.clone(), found)).await.is_err() {
                    return;
                }
            }
        }));
        self.checks.insert(task.task_id.value.clone(), running);
    }
}

/// What the agent is asked for, to run a task.
fn launch_of(container_id: v1::ContainerId, task: &v1::TaskInfo) -> LaunchContainer {
    let mut command = task.command.clone().unwrap_or_default();
    let variable = |name: &str, value: String| v1::environment::Variable {
        name: name.to_owned(),
        value: Some(value),
        ..Default::default()
    };
    let variables = &mut command.environment.get_or_insert_default().variables;
    let ip = std::env::var("LIBPROCESS_IP").unwrap_or_else(|_| "127.0.0.1".to_owned());
    variables.push(variable("MESOS_CONTAINER_IP", ip));
    let (name, role) = super::allocation_role(task);
    variables.push(variable(&name, role));
    LaunchContainer {
        container_id,
        command: Some(command),
        container: with_volumes(task),
        resources: task.resources.clone(),
        limits: task.limits.clone(),
    }
}

/// The executor's container has the persistent volumes; a task reaches its own through it.
fn with_volumes(task: &v1::TaskInfo) -> Option<v1::ContainerInfo> {
    let mut container = task.container.clone();
    let disks = task.resources.iter().filter_map(|resource| resource.disk.as_ref());
    for volume in disks.filter_map(|disk| disk.volume.as_ref()) {
        let container = container.get_or_insert_with(|| v1::ContainerInfo {
            r#type: v1::container_info::Type::Mesos as i32,
            ..Default::default()
        });
        container.volumes.push(v1::Volume {
            mode: volume.mode,
            container_path: volume.container_path.clone(),
            source: Some(v1::volume::Source {
                r#type: Some(v1::volume::source::Type::SandboxPath as i32),
                sandbox_path: Some(v1::volume::source::SandboxPath {
                    r#type: Some(v1::volume::source::sandbox_path::Type::Parent as i32),
                    path: volume.container_path.clone(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
    container
}

/// Lets a task's sandbox be found by the task's name: `tasks/<task>` in the executor's.
fn link(container: &str, task: &str) {
    let sandbox = std::env::var("MESOS_SANDBOX").unwrap_or_else(|_| ".".to_owned());
    let sandbox = Path::new(&sandbox);
    let made = std::fs::create_dir_all(sandbox.join("tasks")).and_then(|()| {
        let target = sandbox.join("containers").join(container);
        std::os::unix::fs::symlink(target, sandbox.join("tasks").join(task))
    });
    if let Err(error) = made {
        tracing::warn!(%error, task, "no link to the task's sandbox");
    }
}
