//! Tasks: run, killed, updated, over.

use std::collections::VecDeque;

use indexmap::IndexMap;
use mesos::internal as m;
use mesos::resources::Resources;
use mesos::v1::executor::{Event, event};
use mesos::v1::task_status::{Reason, Source};
use mesos::v1::{self, TaskState};
use uuid::Uuid;

use super::updates::Acknowledged;
use super::{Agent, Effect, Executor, ExecutorState, Framework, Now, is_terminal};
use crate::checkpoint;
use crate::containerizer::{Launch, Program};
use crate::paths::{self, Run};

/// What a command executor takes beside its task.
const EXECUTOR_CPUS: f64 = 0.1;
const EXECUTOR_MEM: f64 = 32.0;

/// The task that a [`v1::TaskInfo`] becomes.
pub(super) fn task_of(info: &v1::TaskInfo, framework: &str, state: TaskState) -> v1::Task {
    v1::Task {
        name: info.name.clone(),
        task_id: info.task_id.clone(),
        framework_id: v1::FrameworkId { value: framework.to_owned() },
        executor_id: info.executor.as_ref().map(|executor| executor.executor_id.clone()),
        agent_id: info.agent_id.clone(),
        state: state as i32,
        resources: info.resources.clone(),
        labels: info.labels.clone(),
        discovery: info.discovery.clone(),
        container: info.container.clone(),
        health_check: info.health_check.clone(),
        kill_policy: info.kill_policy,
        user: info.command.as_ref().and_then(|command| command.user.clone()),
        limits: info.limits.clone(),
        ..Default::default()
    }
}

impl Agent {
    pub(super) fn run_task(&mut self, now: Now, message: m::RunTaskMessage) {
        let Some(framework_id) = message.framework.id.as_ref().map(|id| id.value.clone()) else {
            tracing::warn!("a task without a framework id ignored");
            return;
        };
        let task = message.task;
        let Some(agent_id) = self.id().map(str::to_owned) else { return };
        if task.agent_id.value != agent_id {
            tracing::warn!(task = task.task_id.value, "a task for another agent ignored");
            return;
        }
        for id in [&framework_id, &task.task_id.value].into_iter().chain(task.executor.iter().map(|executor| &executor.executor_id.value)) {
            if let Err(reason) = mesos::ids::validate(id) {
                tracing::warn!(id, reason, "a task with an id that is not valid ignored");
                return;
            }
        }
        tracing::info!(task = task.task_id.value, framework = framework_id, "task to run");
        let checkpointing = message.framework.checkpoint();
        if !self.frameworks.contains_key(&framework_id) {
            if checkpointing {
                let directory = paths::framework(&self.meta(), &agent_id, &framework_id);
                self.checkpoint(&directory.join("framework.info"), &message.framework);
                let pid = message.pid.clone().unwrap_or_else(|| mesos::libprocess::Upid::none().to_string());
                self.effects.push(Effect::Write(directory.join("framework.pid"), pid.into_bytes()));
            }
            self.frameworks.insert(framework_id.clone(), Framework { info: message.framework.clone(), executors: IndexMap::new(), completed: VecDeque::new() });
        }
        let executor_id = task.executor.as_ref().map_or_else(|| task.task_id.value.clone(), |executor| executor.executor_id.value.clone());
        if let Some(executor) = self.executor_mut(&framework_id, &executor_id) {
            match executor.state {
                ExecutorState::Running => self.hand_over(&framework_id, &executor_id, task),
                ExecutorState::Registering(_) => {
                    executor.queued.insert(task.task_id.value.clone(), task);
                }
                ExecutorState::Terminating(_) => {
                    let id = task.task_id.value;
                    self.update_of_agent(now, &framework_id, Some(&executor_id), &id, TaskState::TaskDropped, Reason::ExecutorTerminated, "Executor is terminating");
                }
            }
            return;
        }
        self.start_executor(now, &framework_id, &executor_id, task, checkpointing);
    }

    fn start_executor(&mut self, now: Now, framework_id: &str, executor_id: &str, task: v1::TaskInfo, checkpointing: bool) {
        let Some(agent_id) = self.id().map(str::to_owned) else { return };
        let run = Run { agent: agent_id.clone(), framework: framework_id.to_owned(), executor: executor_id.to_owned(), container: Uuid::new_v4().to_string() };
        let generated = task.executor.is_none();
        let info = task.executor.clone().unwrap_or_else(|| self.command_executor(framework_id, &task));
        let framework = &self.frameworks[framework_id].info;
        if checkpointing {
            let directory = paths::executor(&self.meta(), &agent_id, framework_id, executor_id);
            let meta = run.meta(&self.settings.work_dir);
            let content = checkpoint::frame(&info);
            self.effects.push(Effect::Write(directory.join("executor.info"), content));
            if generated {
                self.effects.push(Effect::Write(directory.join("executor_generated_for_command_task"), b"1".to_vec()));
            }
            self.effects.push(Effect::Write(meta.join("http.marker"), Vec::new()));
            self.effects.push(Effect::Link(meta, directory.join("runs/latest")));
            let task_directory = run.meta(&self.settings.work_dir).join("tasks").join(&task.task_id.value);
            let content = checkpoint::frame(&task_of(&task, framework_id, TaskState::TaskStaging));
            self.effects.push(Effect::Write(task_directory.join("task.info"), content));
        }
        let framework_user = self.frameworks[framework_id].info.user.clone();
        let command = task.command.as_ref().or(info.command.as_ref());
        let container = task.container.clone().or_else(|| info.container.clone());
        let is_docker = container.as_ref().is_some_and(|container| container.r#type() == v1::container_info::Type::Docker);
        let mut resources = Resources::from_protos(&info.resources);
        resources.add(&Resources::from_protos(&task.resources));
        let program = match (generated, is_docker) {
            (true, false) => Program::CommandExecutor,
            (true, true) => Program::DockerExecutor,
            (false, _) => Program::Custom(info.command.clone().unwrap_or_default()),
        };
        let launch = Launch {
            sandbox: run.sandbox(&self.settings.work_dir),
            pid_file: checkpointing.then(|| run.meta(&self.settings.work_dir).join("pids/forked.pid")),
            user: self.settings.switch_user.then(|| command.and_then(|command| command.user.clone()).unwrap_or(framework_user)),
            environment: self.executor_environment(&run, &info, framework, checkpointing),
            uris: command.map(|command| command.uris.clone()).unwrap_or_default(),
            run: run.clone(),
            program,
            container,
            resources,
        };
        let sandbox = launch.sandbox.clone();
        self.effects.push(Effect::Launch(Box::new(launch)));
        self.effects.push(Effect::Link(sandbox.clone(), sandbox.parent().unwrap_or(&sandbox).join("latest")));
        let deadline = now.mono + self.settings.executor_registration_timeout;
        let executor = Executor {
            info,
            run,
            generated,
            state: ExecutorState::Registering(deadline),
            stream: None,
            queued: IndexMap::from([(task.task_id.value.clone(), task)]),
            tasks: IndexMap::new(),
            completed: VecDeque::new(),
            ending: None,
        };
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.executors.insert(executor_id.to_owned(), executor);
        }
    }

    fn command_executor(&self, framework: &str, task: &v1::TaskInfo) -> v1::ExecutorInfo {
        let command = task.command.clone().unwrap_or_default();
        let shown = command.value.clone().unwrap_or_default();
        let shown: String = if command.shell() { format!("sh -c '{shown}'") } else { shown };
        let shown: String = if shown.chars().count() > 15 + 10 { shown.chars().take(12).chain("...".chars()).collect() } else { shown };
        let role = task.resources.iter().find_map(|resource| resource.allocation_info.clone());
        let resource = |name: &str, value: f64| v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            role: Some("*".to_owned()),
            allocation_info: role.clone(),
            ..Default::default()
        };
        v1::ExecutorInfo {
            executor_id: v1::ExecutorId { value: task.task_id.value.clone() },
            framework_id: Some(v1::FrameworkId { value: framework.to_owned() }),
            command: Some(v1::CommandInfo {
                value: Some(self.settings.launcher_dir.join("mesos-executor").to_string_lossy().into_owned()),
                shell: Some(false),
                arguments: vec!["mesos-executor".to_owned(), format!("--launcher_dir={}", self.settings.launcher_dir.display())],
                user: command.user,
                ..Default::default()
            }),
            container: task.container.clone(),
            name: Some(format!("Command Executor (Task: {}) (Command: {shown})", task.task_id.value)),
            source: Some(task.task_id.value.clone()),
            resources: vec![resource("cpus", EXECUTOR_CPUS), resource("mem", EXECUTOR_MEM)],
            ..Default::default()
        }
    }

    fn executor_environment(&self, run: &Run, info: &v1::ExecutorInfo, framework: &v1::FrameworkInfo, checkpointing: bool) -> Vec<(String, String)> {
        let sandbox = run.sandbox(&self.settings.work_dir).to_string_lossy().into_owned();
        let grace = info.shutdown_grace_period.as_ref().map_or(self.settings.executor_shutdown_grace_period, |period| {
            std::time::Duration::from_nanos(period.nanoseconds.max(0) as u64)
        });
        let format = mesos::units::format_duration;
        let mut environment: Vec<(String, String)> = self.settings.executor_environment.clone().into_iter().collect();
        if environment.is_empty() {
            environment.push(("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()));
        }
        let mut put = |name: &str, value: String| environment.push((name.to_owned(), value));
        put("LIBPROCESS_PORT", "0".to_owned());
        put("MESOS_AGENT_ENDPOINT", self.settings.endpoint.clone());
        put("MESOS_CHECKPOINT", if checkpointing { "1" } else { "0" }.to_owned());
        put("MESOS_DIRECTORY", sandbox.clone());
        put("MESOS_SANDBOX", sandbox);
        put("MESOS_EXECUTOR_ID", run.executor.clone());
        put("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", format(grace));
        put("MESOS_FRAMEWORK_ID", run.framework.clone());
        put("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned());
        put("MESOS_SLAVE_ID", run.agent.clone());
        put("MESOS_SLAVE_PID", format!("slave(1)@{}", self.settings.endpoint));
        if checkpointing {
            put("MESOS_RECOVERY_TIMEOUT", format(self.settings.recovery_timeout));
            put("MESOS_SUBSCRIPTION_BACKOFF_MAX", format(self.settings.executor_reregistration_timeout));
        }
        if let Some(role) = framework.roles.first().cloned().or_else(|| framework.role.clone()) {
            put("MESOS_ALLOCATION_ROLE", role);
        }
        for variable in info.command.iter().flat_map(|command| &command.environment).flat_map(|environment| &environment.variables) {
            if let Some(value) = &variable.value {
                put(&variable.name, value.clone());
            }
        }
        environment
    }

    /// Hands a task to its running executor.
    pub(super) fn hand_over(&mut self, framework_id: &str, executor_id: &str, task: v1::TaskInfo) {
        let checkpointing = self.frameworks.get(framework_id).is_some_and(|framework| framework.info.checkpoint());
        let work_dir = self.settings.work_dir.clone();
        let Some(executor) = self.executor_mut(framework_id, executor_id) else { return };
        let known = task_of(&task, framework_id, TaskState::TaskStaging);
        let path = executor.run.meta(&work_dir).join("tasks").join(&task.task_id.value).join("task.info");
        let content = checkpoint::frame(&known);
        executor.tasks.insert(task.task_id.value.clone(), known);
        let stream = executor.stream;
        if checkpointing {
            self.effects.push(Effect::Write(path, content));
        }
        if let Some(stream) = stream {
            let event = Event { r#type: Some(event::Type::Launch as i32), launch: Some(event::Launch { task }), ..Default::default() };
            self.effects.push(Effect::Event(stream, Box::new(event)));
        }
    }

    pub(super) fn refuse_group(&mut self, now: Now, message: &m::RunTaskGroupMessage) {
        let Some(framework) = message.framework.id.as_ref().map(|id| id.value.clone()) else { return };
        for task in &message.task_group.tasks {
            self.update_of_agent(now, &framework, None, &task.task_id.value, TaskState::TaskError, Reason::TaskGroupInvalid, "Task groups are not supported by this agent yet");
        }
    }

    pub(super) fn kill_task(&mut self, now: Now, message: m::KillTaskMessage) {
        let (framework_id, task_id) = (message.framework_id.value, message.task_id.value.clone());
        let found = self.frameworks.get(&framework_id).and_then(|framework| {
            framework.executors.iter().find(|(_, executor)| executor.queued.contains_key(&task_id) || executor.tasks.contains_key(&task_id)).map(|(id, _)| id.clone())
        });
        let Some(executor_id) = found else {
            if !self.updates.has_pending(&(framework_id.clone(), task_id.clone())) {
                self.update_of_agent(now, &framework_id, None, &task_id, TaskState::TaskDropped, Reason::TaskUnknown, "Cannot find executor");
            }
            return;
        };
        let Some(executor) = self.executor_mut(&framework_id, &executor_id) else { return };
        if executor.queued.shift_remove(&task_id).is_some() {
            let is_idle = executor.queued.is_empty() && executor.tasks.is_empty();
            let container = executor.run.container.clone();
            if is_idle {
                executor.ending = Some((TaskState::TaskKilled, Reason::TaskKilledDuringLaunch, "Task killed before it was launched".to_owned()));
                executor.state = ExecutorState::Terminating(now.mono);
            }
            self.update_of_agent(now, &framework_id, Some(&executor_id), &task_id, TaskState::TaskKilled, Reason::TaskKilledDuringLaunch, "Task killed before it was launched");
            if is_idle {
                self.effects.push(Effect::Destroy(container));
            }
            return;
        }
        if let Some(stream) = executor.stream {
            let kill = event::Kill { task_id: message.task_id, kill_policy: message.kill_policy };
            let event = Event { r#type: Some(event::Type::Kill as i32), kill: Some(kill), ..Default::default() };
            self.effects.push(Effect::Event(stream, Box::new(event)));
        }
    }

    /// An update that the agent itself makes.
    #[expect(clippy::too_many_arguments, reason = "the fields of an update")]
    pub(super) fn update_of_agent(&mut self, now: Now, framework: &str, executor: Option<&str>, task: &str, state: TaskState, reason: Reason, message: &str) {
        let partition_aware = self.frameworks.get(framework).is_some_and(|known| {
            known.info.capabilities.iter().any(|own| own.r#type == Some(v1::framework_info::capability::Type::PartitionAware as i32))
        });
        let state = if !partition_aware && matches!(state, TaskState::TaskDropped | TaskState::TaskGone | TaskState::TaskUnknown) { TaskState::TaskLost } else { state };
        let uuid = Uuid::new_v4().as_bytes().to_vec();
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state as i32,
            message: Some(message.to_owned()),
            source: Some(Source::Agent as i32),
            reason: Some(reason as i32),
            agent_id: self.info.id.clone(),
            executor_id: executor.map(|value| v1::ExecutorId { value: value.to_owned() }),
            timestamp: Some(now.wall),
            uuid: Some(uuid),
            ..Default::default()
        };
        self.take_update(now, framework, executor, status);
    }

    /// Takes an update in: the task's state, the checkpoint, the stream. False if it was taken before.
    pub(super) fn take_update(&mut self, now: Now, framework_id: &str, executor_id: Option<&str>, mut status: v1::TaskStatus) -> bool {
        let task_id = status.task_id.value.clone();
        let checkpointing = self.frameworks.get(framework_id).is_some_and(|framework| framework.info.checkpoint());
        let work_dir = self.settings.work_dir.clone();
        status.agent_id.clone_from(&self.info.id);
        let mut path = None;
        if let Some(executor) = executor_id.and_then(|id| self.executor_mut(framework_id, id)) {
            let container = status.container_status.get_or_insert_default();
            container.container_id.get_or_insert_with(|| v1::ContainerId { value: executor.run.container.clone(), parent: None });
            path = checkpointing.then(|| executor.run.meta(&work_dir).join("tasks").join(&task_id).join("task.updates"));
        }
        let update = m::StatusUpdate {
            framework_id: v1::FrameworkId { value: framework_id.to_owned() },
            executor_id: executor_id.map(|value| v1::ExecutorId { value: value.to_owned() }),
            slave_id: self.info.id.clone(),
            timestamp: status.timestamp.unwrap_or(now.wall),
            uuid: status.uuid.clone(),
            status: status.clone(),
            latest_state: None,
        };
        if !self.updates.push(update.clone()) {
            return false;
        }
        self.count("slave/valid_status_updates");
        if let Some(path) = path {
            let record = m::StatusUpdateRecord { r#type: m::status_update_record::Type::Update as i32, update: Some(update), uuid: None };
            self.effects.push(Effect::Append(path, checkpoint::frame(&record)));
        }
        let state = status.state();
        if let Some(executor) = executor_id.and_then(|id| self.executor_mut(framework_id, id)) {
            if let Some(task) = executor.tasks.get_mut(&task_id) {
                task.state = status.state;
                status.data = None;
                if task.statuses.last().is_some_and(|last| last.state == status.state) {
                    task.statuses.pop();
                }
                task.statuses.push(status);
                if is_terminal(state) {
                    if let Some(task) = executor.tasks.shift_remove(&task_id) {
                        executor.completed.push_back(task);
                    }
                }
            }
        }
        if is_terminal(state) {
            self.count(&format!("slave/tasks_{}", state.as_str_name().trim_start_matches("TASK_").to_ascii_lowercase()));
        }
        true
    }

    pub(super) fn acknowledged(&mut self, message: &m::StatusUpdateAcknowledgementMessage) {
        let (framework, task) = (message.framework_id.value.clone(), message.task_id.value.clone());
        let result = self.updates.acknowledge(&(framework.clone(), task.clone()), &message.uuid);
        if result == Acknowledged::Unknown {
            return;
        }
        let checkpointing = self.frameworks.get(&framework).is_some_and(|known| known.info.checkpoint());
        if checkpointing {
            let work_dir = self.settings.work_dir.clone();
            let path = self.frameworks.get(&framework).and_then(|known| {
                let has = |executor: &&Executor| executor.tasks.contains_key(&task) || executor.completed.iter().any(|done| done.task_id.value == task);
                let executor = known.executors.values().find(has).or_else(|| known.completed.iter().find(has))?;
                Some(executor.run.meta(&work_dir).join("tasks").join(&task).join("task.updates"))
            });
            if let Some(path) = path {
                let record = m::StatusUpdateRecord { r#type: m::status_update_record::Type::Ack as i32, update: None, uuid: Some(message.uuid.clone()) };
                self.effects.push(Effect::Append(path, checkpoint::frame(&record)));
            }
        }
        self.forget_idle_framework(&framework);
    }

    /// Forgets a framework that has no executors and no updates left.
    pub(super) fn forget_idle_framework(&mut self, id: &str) {
        let idle = self.frameworks.get(id).is_some_and(|framework| {
            framework.executors.is_empty()
                && framework.completed.iter().all(|executor| executor.completed.iter().all(|task| !self.updates.has_pending(&(id.to_owned(), task.task_id.value.clone()))))
        });
        if idle {
            if let Some(framework) = self.frameworks.shift_remove(id) {
                self.completed_frameworks.push_back((id.to_owned(), framework));
                while self.completed_frameworks.len() > 50 {
                    self.completed_frameworks.pop_front();
                }
            }
        }
    }
}
