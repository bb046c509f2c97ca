//! Starting an executor: what it is, what its container gets, what is noted of it.

use std::path::PathBuf;

use access::jwt::Claims;
use mesos::resources::Resources;
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState};

use super::container_id::ContainerId;
use super::containers::window;
use super::{Agent, Effect, Executor, ExecutorState, Now, Verdict};
use crate::checkpoint;
use crate::checkpoint::paths::{self, Run};
use crate::containerizer::{Launch, PersistentVolume, Program, Supervision, secrets};

/// What a command executor takes beside its task.
const EXECUTOR_CPUS: f64 = 0.1;
const EXECUTOR_MEM_MB: f64 = 32.0;
/// Most characters of a command that are shown in its executor's name.
const SHOWN_MAX: usize = 15;

fn scalar(name: &str, value: f64, role: Option<&v1::resource::AllocationInfo>) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: role.cloned(),
        ..Default::default()
    }
}

/// How a command is shown: `sh -c 'sleep 600'`, long ones cut.
fn shown(command: &v1::CommandInfo) -> String {
    let words = if command.shell() {
        command.value().to_owned()
    } else {
        std::iter::once(command.value())
            .chain(command.arguments.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let cut = if words.chars().count() > SHOWN_MAX {
        words.chars().take(SHOWN_MAX - 3).chain("...".chars()).collect()
    } else {
        words
    };
    if command.shell() { format!("sh -c '{cut}'") } else { format!("[{cut}]") }
}

/// Where the volumes among a container's resources are, and where its tasks look for them.
fn persistent_volumes(work_dir: &std::path::Path, resources: &Resources) -> Vec<PersistentVolume> {
    let each = resources.persistent_volumes().to_protos();
    each.iter()
        .filter_map(|volume| {
            let source = checkpoint::resources::volume_path(work_dir, volume)?;
            let container_path = volume.disk.as_ref()?.volume.as_ref()?.container_path.clone();
            Some(PersistentVolume { source, container_path })
        })
        .collect()
}

impl Executor {
    /// Rows and columns of its container's terminal, if it has one; Docker's have their own.
    pub fn terminal(&self) -> Option<(u16, u16)> {
        window(self.info.container.as_ref()).filter(|_| !self.is_in_docker())
    }
}

impl Agent {
    /// Why a new executor can have no sandbox, if so: the host has not the user that it would belong to
    /// (`Framework::addExecutor`).
    pub(super) fn reason_for_no_sandbox(
        &mut self,
        framework: &v1::FrameworkInfo,
        executor_id: &str,
        command: Option<&v1::CommandInfo>,
    ) -> Option<Verdict> {
        let framework_id = framework.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        let known = self.frameworks.get(framework_id);
        let is_new = known.is_none_or(|known| !known.executors.contains_key(executor_id));
        if !self.settings.switch_user || !is_new {
            return None;
        }
        let own = command.and_then(|command| command.user.as_deref());
        let user = own.unwrap_or(&framework.user);
        let reason = (self.settings.check_user)(user).err()?;
        let run = Run {
            agent: self.id()?.to_owned(),
            framework: framework_id.to_owned(),
            executor: executor_id.to_owned(),
            container: self.entropy.uuid().to_string(),
        };
        let directory = run.sandbox(&self.settings.work_dir);
        Some(Verdict::new(
            TaskState::TaskDropped,
            Reason::ExecutorTerminated,
            format!(
                "Failed to create executor directory '{}': Failed to chown directory to '{user}': {reason}",
                directory.display()
            ),
        ))
    }

    /// Starts an executor for its first task, or its first group.
    pub(super) fn start_executor(
        &mut self,
        now: Now,
        framework_id: &str,
        executor_id: &str,
        tasks: Vec<v1::TaskInfo>,
        group: Option<Vec<String>>,
    ) {
        let Some(task) = tasks.first() else { return };
        let (Some(agent), Some(framework)) =
            (self.id().map(str::to_owned), self.frameworks.get(framework_id))
        else {
            return;
        };
        let is_checkpointing = framework.info.checkpoint();
        let run = Run {
            agent,
            framework: framework_id.to_owned(),
            executor: executor_id.to_owned(),
            container: self.entropy.uuid().to_string(),
        };
        let is_generated = task.executor.is_none();
        let mut info =
            task.executor.clone().unwrap_or_else(|| self.command_executor(framework_id, task));
        if info.container.is_none() {
            info.container.clone_from(&self.settings.default_container);
        }
        if is_checkpointing {
            self.note_executor(&run, &info, is_generated);
            let first = group.as_ref().and_then(|group| group.first());
            for task in &tasks {
                self.note_queued(&run, task, first.map(String::as_str));
            }
        }
        let deadline = now.mono + self.settings.executor_registration_timeout;
        let mut executor =
            Executor::new(info, run, is_generated, ExecutorState::Registering(deadline));
        executor.groups.extend(group);
        for task in tasks {
            executor.queued.insert(task.task_id.value.clone(), task);
        }
        self.launch(framework_id, &executor);
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.executors.insert(executor_id.to_owned(), executor);
        }
    }

    /// Has the container of an executor started, with what its first queued task says.
    pub(super) fn launch(&mut self, framework_id: &str, executor: &Executor) {
        let (Some(task), Some(framework)) =
            (executor.queued.values().next(), self.frameworks.get(framework_id))
        else {
            return;
        };
        let (run, info) = (&executor.run, &executor.info);
        let work_dir = &self.settings.work_dir;
        let is_checkpointing = framework.info.checkpoint();
        let sandbox = run.sandbox(work_dir);
        let command = if executor.is_generated { &task.command } else { &info.command }.as_ref();
        let container = info.container.clone();
        let is_docker = executor.is_in_docker();
        let program = match (executor.is_generated, is_docker) {
            (true, false) => Program::CommandExecutor,
            (true, true) => Program::DockerExecutor,
            (false, _) if info.r#type() == v1::executor_info::Type::Default => {
                Program::Custom(self.default_executor())
            }
            (false, true) => Program::CustomInDocker(info.command.clone().unwrap_or_default()),
            (false, false) => Program::Custom(info.command.clone().unwrap_or_default()),
        };
        let framework_user = framework.info.user.clone();
        let user =
            command.and_then(|command| command.user.clone()).unwrap_or(framework_user.clone());
        let launch = Launch {
            run: run.clone(),
            program,
            pid_file: is_checkpointing.then(|| run.meta(work_dir).join("pids/forked.pid")),
            user: self.settings.switch_user.then_some(user),
            environment: self.executor_environment(executor, &sandbox, is_checkpointing),
            secrets: secrets::variables(command),
            uris: command.map(|command| command.uris.clone()).unwrap_or_default(),
            container,
            supervision: executor.terminal().map(|window| Supervision {
                is_executors: true,
                runtime: ContainerId::root_of(&run.container).runtime(&self.settings.runtime_dir),
                shares: None,
                is_session: false,
                has_io: true,
                window: Some(window),
                beside: None,
                nested_in: None,
                shared_paths: Vec::new(),
            }),
            resources: executor.resources(),
            limits: executor.limits(self.settings.has_cpu_quota),
            volumes: persistent_volumes(work_dir, &executor.resources()),
            sandbox: sandbox.clone(),
        };
        let latest: Option<PathBuf> = sandbox.parent().map(|runs| runs.join("latest"));
        self.effects.push(Effect::Launch(Box::new(launch)));
        if let Some(latest) = latest {
            self.effects.push(Effect::Symlink(sandbox, latest));
        }
    }

    fn note_executor(&mut self, run: &Run, info: &v1::ExecutorInfo, is_generated: bool) {
        let directory = paths::executor(&self.meta(), &run.agent, &run.framework, &run.executor);
        let meta = run.meta(&self.settings.work_dir);
        self.write(&directory.join("executor.info"), info);
        // Said of every executor: of one without it the original guesses.
        let is_generated = if is_generated { b"1" } else { b"0" };
        let marker = directory.join(paths::GENERATED);
        self.effects.push(Effect::Write(marker, is_generated.to_vec()));
        self.effects.push(Effect::Write(meta.join("http.marker"), Vec::new()));
        self.effects.push(Effect::Symlink(meta, directory.join("runs/latest")));
    }

    /// Notes a task that waits for its executor: the original's `task.info`, and beside it all that is needed to hand
    /// it over after a restart. `group` is the first task of those that it is handed over with.
    pub(super) fn note_queued(&mut self, run: &Run, task: &v1::TaskInfo, group: Option<&str>) {
        let directory = run.task(&self.settings.work_dir, &task.task_id.value);
        let known = super::tasks::task_of(task, &run.framework, TaskState::TaskStaging);
        self.write(&directory.join("task.info"), &known);
        self.effects
            .push(Effect::Write(directory.join(paths::QUEUED_TASK), checkpoint::frame(task)));
        if let Some(first) = group {
            let path = directory.join(paths::TASK_GROUP);
            self.effects.push(Effect::Write(path, first.as_bytes().to_vec()));
        }
    }

    /// What runs as the executor of task groups.
    fn default_executor(&self) -> v1::CommandInfo {
        const NAME: &str = "mesos-default-executor";
        let launcher_dir = &self.settings.launcher_dir;
        v1::CommandInfo {
            value: Some(launcher_dir.join(NAME).to_string_lossy().into_owned()),
            shell: Some(false),
            arguments: vec![NAME.to_owned(), format!("--launcher_dir={}", launcher_dir.display())],
            ..Default::default()
        }
    }

    /// The executor that is made up for a command task.
    fn command_executor(&self, framework: &str, task: &v1::TaskInfo) -> v1::ExecutorInfo {
        let command = task.command.clone().unwrap_or_default();
        let role = task.resources.iter().find_map(|resource| resource.allocation_info.clone());
        let launcher_dir = &self.settings.launcher_dir;
        v1::ExecutorInfo {
            executor_id: v1::ExecutorId { value: task.task_id.value.clone() },
            framework_id: Some(v1::FrameworkId { value: framework.to_owned() }),
            command: Some(v1::CommandInfo {
                value: Some(launcher_dir.join("mesos-executor").to_string_lossy().into_owned()),
                shell: Some(false),
                arguments: vec![
                    "mesos-executor".to_owned(),
                    format!("--launcher_dir={}", launcher_dir.display()),
                ],
                user: command.user.clone(),
                ..Default::default()
            }),
            container: task.container.clone(),
            name: Some(format!(
                "Command Executor (Task: {}) (Command: {})",
                task.task_id.value,
                shown(&command)
            )),
            source: Some(task.task_id.value.clone()),
            resources: vec![
                scalar("cpus", EXECUTOR_CPUS, role.as_ref()),
                scalar("mem", EXECUTOR_MEM_MB, role.as_ref()),
            ],
            ..Default::default()
        }
    }

    fn executor_environment(
        &self,
        executor: &Executor,
        sandbox: &std::path::Path,
        is_checkpointing: bool,
    ) -> Vec<(String, String)> {
        let settings = &self.settings;
        let (run, info) = (&executor.run, &executor.info);
        let sandbox = sandbox.to_string_lossy().into_owned();
        let grace = info
            .shutdown_grace_period
            .map_or(settings.executor_shutdown_grace_period, |period| period.duration());
        let format = mesos::units::format_duration;
        let mut environment: Vec<(String, String)> = match &settings.executor_environment {
            Some(given) => given.clone().into_iter().collect(),
            None => vec![(
                "PATH".to_owned(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            )],
        };
        let mut put = |name: &str, value: String| {
            environment.retain(|(own, _)| own != name);
            environment.push((name.to_owned(), value));
        };
        if let Some(ip) = &settings.ip {
            put("LIBPROCESS_IP", ip.clone());
        }
        put("LIBPROCESS_PORT", "0".to_owned());
        // Those that come with frameworks go by what the operator gives them, as the original's do.
        if executor.is_generated || info.r#type() == v1::executor_info::Type::Default {
            for (name, value) in &settings.tls_environment {
                put(name, value.clone());
            }
        }
        if let Some(key) = &settings.executor_key {
            let claims = Claims::of_executor(&run.framework, &run.executor, &run.container);
            put("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", key.sign(&claims));
        }
        put("MESOS_AGENT_ENDPOINT", settings.endpoint.to_string());
        put("MESOS_CHECKPOINT", if is_checkpointing { "1" } else { "0" }.to_owned());
        put("MESOS_DIRECTORY", sandbox.clone());
        put("MESOS_EXECUTOR_ID", run.executor.clone());
        put("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", format(grace));
        put("MESOS_FRAMEWORK_ID", run.framework.clone());
        put("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned());
        put("MESOS_SANDBOX", sandbox);
        put("MESOS_SLAVE_ID", run.agent.clone());
        put("MESOS_SLAVE_PID", format!("slave(1)@{}", settings.endpoint));
        if is_checkpointing {
            put("MESOS_RECOVERY_TIMEOUT", format(settings.recovery_timeout));
            put("MESOS_SUBSCRIPTION_BACKOFF_MAX", format(settings.executor_reregistration_timeout));
        }
        let given = info.command.iter().flat_map(|command| &command.environment);
        for variable in given.flat_map(|environment| &environment.variables) {
            if let Some(value) = &variable.value {
                put(&variable.name, value.clone());
            }
        }
        environment
    }

    /// Gives a custom executor's container the resources of the tasks that it has now.
    pub(super) fn resize(&mut self, framework: &str, executor: &str) {
        let has_cpu_quota = self.settings.has_cpu_quota;
        let resized = self
            .executor_mut(framework, executor)
            .filter(|executor| !executor.is_generated)
            .map(|executor| {
                let (container, resources) = (executor.run.container.clone(), executor.resources());
                let limits = executor.limits(has_cpu_quota);
                Effect::Resize { container, resources, limits, in_docker: executor.is_in_docker() }
            });
        self.effects.extend(resized);
    }
}
