//! Tasks: run, handed over, killed.

use mesos::internal as m;
use mesos::libprocess::Upid;
use mesos::resources::Resources;
use mesos::v1::executor::{Event, event};
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState};

use super::garbage::Waste;
use super::{Agent, Effect, ExecutorState, Framework, Now, Verdict};
use crate::checkpoint::paths;

/// The task that a [`v1::TaskInfo`] becomes.
pub fn task_of(info: &v1::TaskInfo, framework: &str, state: TaskState) -> v1::Task {
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
        container: info.container.clone().map(Box::new),
        health_check: info.health_check.clone().map(Box::new),
        kill_policy: info.kill_policy,
        user: info.command.as_ref().and_then(|command| command.user.clone()),
        limits: info.limits.clone(),
        ..Default::default()
    }
}

fn verdict(state: TaskState, reason: Reason, message: &str) -> Verdict {
    Verdict::new(state, reason, message)
}

impl Agent {
    pub(super) fn run_task(&mut self, now: Now, message: m::RunTaskMessage) {
        let Some(framework_id) = message.framework.id.as_ref().map(|id| id.value.clone()) else {
            tracing::warn!("a task without a framework id ignored");
            return;
        };
        let task = message.task;
        let task_id = task.task_id.value.clone();
        if self.id() != Some(task.agent_id.value.as_str()) {
            tracing::warn!(task = task_id, "a task for another agent ignored");
            return;
        }
        let own = task.executor.as_ref().map(|executor| executor.executor_id.value.as_str());
        for id in [framework_id.as_str(), &task_id].into_iter().chain(own) {
            // They become names of directories; a master lets none of these pass.
            if let Err(reason) = mesos::ids::validate(id) {
                tracing::warn!(id, reason, "a task with an id that is not valid ignored");
                return;
            }
        }
        let executor_id = own.unwrap_or(&task_id).to_owned();
        if self.leaving.is_some() {
            tracing::warn!(task = task_id, "task ignored: this agent is shutting down");
            return;
        }
        tracing::info!(task = task_id, framework = framework_id, "task to run");
        if self.frameworks.get(&framework_id).is_some_and(|framework| framework.is_terminating) {
            tracing::warn!(task = task_id, "task ignored: its framework is shutting down");
            return;
        }
        let executor = self.executor_mut(&framework_id, &executor_id);
        if executor.is_some_and(|executor| executor.knows(&task_id)) {
            tracing::warn!(task = task_id, "task ignored: it is here already");
            return;
        }
        // The master asked of it before it came: it came on an older connection.
        if self.updates.has_pending(&(framework_id.clone(), task_id.clone())) {
            tracing::warn!(task = task_id, "task ignored: it counts as dropped");
            return;
        }
        let state = self.executor_mut(&framework_id, &executor_id).map(|executor| executor.state);
        let versions = &message.resource_version_uuids;
        let refusal = self
            .reason_to_drop(std::slice::from_ref(&task), versions, state, message.launch_executor)
            .or_else(|| {
                (state.is_some() && own.is_none()).then(|| {
                    verdict(
                        TaskState::TaskError,
                        Reason::TaskInvalid,
                        "An executor with this task's id runs already",
                    )
                })
            })
            .or_else(|| {
                let executor = task.executor.as_ref();
                let command = executor.map_or(&task.command, |executor| &executor.command).as_ref();
                self.reason_for_no_sandbox(&message.framework, &executor_id, command)
            });
        if let Some(refusal) = refusal {
            // As the original: of one that is ending, the executor is not named.
            let is_ending = matches!(state, Some(ExecutorState::Terminating(_)));
            let named = Some(executor_id.as_str()).filter(|_| !is_ending);
            self.refuse(now, &message.framework, &framework_id, named, &task_id, &refusal);
            if message.launch_executor == Some(true) {
                // The master counts the executor since it sent the task.
                self.tell_exited(&framework_id, &executor_id, -1);
            }
            return;
        }
        self.learn_framework(&framework_id, message.framework, message.pid);
        match state {
            None => self.start_executor(now, &framework_id, &executor_id, vec![task], None),
            Some(ExecutorState::Running) => self.hand_over(&framework_id, &executor_id, task),
            Some(_) => {
                let is_checkpointing = self.is_checkpointing(&framework_id);
                let Some(executor) = self.executor_mut(&framework_id, &executor_id) else { return };
                let run = executor.run.clone();
                executor.queued.insert(task_id, task.clone());
                if is_checkpointing {
                    self.note_queued(&run, &task, None);
                }
                self.resize(&framework_id, &executor_id);
            }
        }
    }

    /// Why tasks that come together are not run, if so (`Slave::__run`).
    pub(super) fn reason_to_drop(
        &self,
        tasks: &[v1::TaskInfo],
        versions: &[m::ResourceVersionUuid],
        executor: Option<ExecutorState>,
        launch_executor: Option<bool>,
    ) -> Option<Verdict> {
        // Sent before the master heard what this agent told last, on a connection that is older: by then it may have
        // been answered that the task is not here. A master that sends no versions can't be told from an up-to-date one.
        let own = self.resource_version.as_bytes();
        let is_late = versions
            .iter()
            .any(|version| version.resource_provider_id.is_none() && version.uuid.value != own);
        let (reason, message) = match executor {
            _ if self.draining.is_some() => {
                (Reason::AgentDraining, "Task was received while agent was already draining")
            }
            _ if is_late => (Reason::InvalidOffers, "Task assumes outdated resource state"),
            _ if !tasks.iter().all(|task| self.has_what_is_kept(&task.resources)) => (
                Reason::ResourcesUnknown,
                "The checkpointed resources being used by the task or task group are unknown to the agent",
            ),
            None if launch_executor == Some(false) => (
                Reason::ExecutorTerminated,
                "No executor is expected to launch and there is none running",
            ),
            Some(ExecutorState::Terminating(_)) => {
                (Reason::ExecutorTerminated, "Executor terminating")
            }
            _ => return None,
        };
        Some(verdict(TaskState::TaskDropped, reason, message))
    }

    /// Whether the reservations and volumes among these resources are there.
    fn has_what_is_kept(&self, resources: &[v1::Resource]) -> bool {
        let needed = Resources::from_protos(resources).unallocate().checkpointed();
        let kept = self.total.checkpointed();
        // As many copies of a shared volume as there are tasks.
        needed
            .to_protos()
            .iter()
            .all(|one| kept.contains(&Resources::from_protos(std::slice::from_ref(one))))
    }

    /// Takes a framework in, or what is new of it.
    pub(super) fn learn_framework(
        &mut self,
        id: &str,
        info: v1::FrameworkInfo,
        pid: Option<String>,
    ) {
        // Those that speak HTTP have none, which the original says in these words.
        let process = pid.as_deref().and_then(|pid| pid.parse().ok());
        let process = process.filter(Upid::is_some);
        let is_new = match self.frameworks.get_mut(id) {
            Some(known) if known.info == info && known.process == process => return,
            Some(known) => {
                known.info = info.clone();
                known.process = process;
                false
            }
            None => {
                let framework = Framework { process, ..Framework::new(info.clone()) };
                self.frameworks.insert(id.to_owned(), framework);
                if let Some(agent) = self.id().map(str::to_owned) {
                    let needed = Waste::Framework(agent, id.to_owned());
                    self.ended.retain(|(what, _)| *what != needed);
                    self.garbage.keep(&needed);
                }
                true
            }
        };
        let (true, Some(agent)) = (info.checkpoint(), self.id()) else { return };
        let directory = paths::framework(&self.meta(), agent, id);
        self.write(&directory.join("framework.info"), &info);
        if is_new || pid.is_some() {
            let pid = pid.unwrap_or_else(|| mesos::libprocess::Upid::none().to_string());
            self.effects.push(Effect::Write(directory.join("framework.pid"), pid.into_bytes()));
        }
    }

    /// Notes that a running executor gets a task.
    pub(super) fn note_handed_over(
        &mut self,
        framework: &str,
        executor: &str,
        task: &v1::TaskInfo,
    ) {
        let is_checkpointing = self.is_checkpointing(framework);
        let Some(known) = self.executor_mut(framework, executor) else { return };
        let run = known.run.clone();
        let staged = task_of(task, framework, TaskState::TaskStaging);
        let is_kept = known.tasks.insert(task.task_id.value.clone(), staged).is_some();
        if is_checkpointing && !is_kept {
            self.note_queued(&run, task, None);
        }
    }

    /// Hands a task to its running executor.
    pub(super) fn hand_over(&mut self, framework_id: &str, executor_id: &str, task: v1::TaskInfo) {
        self.note_handed_over(framework_id, executor_id, &task);
        self.resize(framework_id, executor_id);
        let event = Event {
            r#type: Some(event::Type::Launch as i32),
            launch: Some(event::Launch { task }),
            ..Default::default()
        };
        self.tell(framework_id, executor_id, event);
    }

    pub(super) fn kill_task(&mut self, now: Now, message: m::KillTaskMessage) {
        let (framework_id, task_id) = (message.framework_id.value, message.task_id.value);
        let found = self.frameworks.get(&framework_id).and_then(|framework| {
            let (id, _) = framework.executors.iter().find(|(_, executor)| {
                executor.queued.contains_key(&task_id) || executor.tasks.contains_key(&task_id)
            })?;
            Some(id.clone())
        });
        let Some(executor_id) = found else {
            // An end that the framework hasn't acknowledged yet answers the kill as well; one that it has, it knows.
            let key = (framework_id.clone(), task_id.clone());
            let framework = self.frameworks.get(&framework_id);
            let is_unknown = framework.is_some_and(|framework| {
                !framework
                    .executors
                    .values()
                    .chain(&framework.completed)
                    .any(|own| own.knows(&task_id))
            });
            if is_unknown && !self.updates.has_pending(&key) {
                let (state, reason) = (TaskState::TaskDropped, Reason::ExecutorTerminated);
                let refusal = verdict(state, reason, "Cannot find executor");
                self.update_of_agent(now, &framework_id, None, &task_id, &refusal);
            }
            return;
        };
        tracing::info!(task = task_id, framework = framework_id, "task to kill");
        let Some(executor) = self.executor_mut(&framework_id, &executor_id) else { return };
        // Whether it has what waited when the agent ended shows when it registers again: until then nobody may say that it was killed
        // before.
        let is_uncertain = matches!(executor.state, ExecutorState::Reregistering(_));
        if is_uncertain || !executor.queued.contains_key(&task_id) {
            executor.kills.insert(task_id.clone(), message.kill_policy);
            self.tell_kill(&framework_id, &executor_id, &task_id, message.kill_policy);
            return;
        }
        let (ids, why) = match self.take_group_of(&framework_id, &executor_id, &task_id) {
            Some(group) => {
                (group, "A task within the task group was killed before delivery to the executor")
            }
            None => (vec![task_id], "Killed before delivery to the executor"),
        };
        for id in ids {
            self.kill_queued(now, &framework_id, &executor_id, &id, why);
        }
        self.shut_down_if_useless(now, &framework_id, &executor_id);
    }

    /// Ends a task that its executor never got.
    fn kill_queued(&mut self, now: Now, framework: &str, executor: &str, id: &str, why: &str) {
        let Some(known) = self.executor_mut(framework, executor) else { return };
        let Some(task) = known.queued.shift_remove(id) else { return };
        // It becomes known, so that its end is recorded like others'.
        let staged = task_of(&task, framework, TaskState::TaskStaging);
        known.tasks.insert(id.to_owned(), staged);
        let killed = verdict(TaskState::TaskKilled, Reason::TaskKilledDuringLaunch, why);
        self.update_of_agent(now, framework, Some(executor), id, &killed);
    }

    pub(super) fn tell_kill(
        &mut self,
        framework: &str,
        executor: &str,
        task: &str,
        kill_policy: Option<v1::KillPolicy>,
    ) {
        let task_id = v1::TaskId { value: task.to_owned() };
        let event = Event {
            r#type: Some(event::Type::Kill as i32),
            kill: Some(event::Kill { task_id, kill_policy }),
            ..Default::default()
        };
        self.tell(framework, executor, event);
    }
}
