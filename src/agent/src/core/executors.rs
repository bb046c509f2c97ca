//! Executors: their calls (`/api/v1/executor`), their ends, and ending them.

use std::collections::BTreeSet;

use access::jwt::Claims;
use mesos::internal as m;
use mesos::libprocess::Upid;
use mesos::v1::executor::{Call, Event, call, event};
use mesos::v1::task_status::{Reason, Source};
use mesos::v1::{self, TaskState};

use super::container_id::ContainerId;
use super::containers::Termination;
use super::garbage::Waste;
use super::{Agent, Effect, Executor, ExecutorState, Now, Peer, StreamId, Verdict};
use crate::containerizer::Problem;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// 400.
    BadRequest(String),
    /// 403.
    Forbidden(String),
}

fn bad(text: impl Into<String>) -> CallError {
    CallError::BadRequest(text.into())
}

fn invalid(text: &str) -> CallError {
    bad(format!("Failed to validate Executor::Call: {text}"))
}

fn shutdown_event() -> Event {
    Event { r#type: Some(event::Type::Shutdown as i32), ..Default::default() }
}

/// Checks an update as the original does (`slave/validation.cpp`).
fn validate_update(executor: &str, framework: &str, status: &v1::TaskStatus) -> Result<(), String> {
    if status.uuid.is_none() {
        return Err("Expecting 'uuid' to be present".to_owned());
    }
    if status.uuid.as_ref().is_some_and(|uuid| uuid.len() != 16) {
        return Err("Not a valid UUID".to_owned());
    }
    if let Some(other) = status.executor_id.as_ref().filter(|id| id.value != executor) {
        return Err(format!(
            "ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {}",
            other.value
        ));
    }
    if status.source() != Source::Executor || status.source.is_none() {
        return Err(format!(
            "Received Call from executor {executor} of framework {framework} with invalid source, expecting 'SOURCE_EXECUTOR'"
        ));
    }
    if status.state() == TaskState::TaskStaging {
        return Err(format!(
            "Received TASK_STAGING from executor {executor} of framework {framework} which is not allowed"
        ));
    }
    Ok(())
}

impl Agent {
    fn check_executor(&self, call: &Call) -> Result<(), CallError> {
        let framework = self
            .frameworks
            .get(&call.framework_id.value)
            .ok_or_else(|| bad("Framework cannot be found"))?;
        if !framework.executors.contains_key(&call.executor_id.value) {
            return Err(bad("Executor cannot be found"));
        }
        Ok(())
    }

    /// Checks whether a token is the one of the executor that a call is of (`verifyExecutorClaims`). Of one that isn't
    /// known nothing is said: the call itself is refused for that.
    ///
    /// # Errors
    /// What doesn't fit.
    pub fn check_claims(
        &self,
        claims: &Claims,
        framework: &str,
        executor: &str,
    ) -> Result<(), String> {
        let known = self.frameworks.get(framework).and_then(|known| known.executors.get(executor));
        let Some(known) = known else { return Ok(()) };
        let lacks = format!("Authenticated principal '{claims}' does not contain");
        if claims.get("fid") != Some(framework) {
            return Err(format!(
                "{lacks} an 'fid' claim with the framework ID {framework}, which is set in the call"
            ));
        }
        if claims.get("eid") != Some(executor) {
            return Err(format!(
                "{lacks} an 'eid' claim with the executor ID {executor}, which is set in the call"
            ));
        }
        if claims.get("cid") != Some(known.run.container.as_str()) {
            return Err(format!("{lacks} a 'cid' claim with the correct active ContainerID"));
        }
        Ok(())
    }

    /// Checks a SUBSCRIBE before a stream is opened for it.
    ///
    /// # Errors
    /// What the original answers.
    pub fn check_subscribe(&self, call: &Call) -> Result<(), CallError> {
        if call.subscribe.is_none() {
            return Err(invalid("Expecting 'subscribe' to be present"));
        }
        self.check_executor(call)
    }

    /// Opens an executor's stream: it is told of itself, what it says again is taken, and what waits for it is handed
    /// over.
    pub fn subscribe(&mut self, now: Now, stream: StreamId, call: Call) {
        let subscribe = call.subscribe.unwrap_or_default();
        let (framework, executor) = (call.framework_id.value, call.executor_id.value);
        self.connect(now, Peer::Stream(stream), &framework, &executor, subscribe);
    }

    /// An executor is there: it is told of itself, what it says again is taken, and what waits for it is handed over.
    pub(super) fn connect(
        &mut self,
        now: Now,
        peer: Peer,
        framework_id: &str,
        executor_id: &str,
        subscribe: call::Subscribe,
    ) {
        let agent_info = self.info.clone();
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let mut framework_info = framework.info.clone();
        framework_info.id = Some(v1::FrameworkId { value: framework_id.to_owned() });
        let Some(executor) = framework.executors.get_mut(executor_id) else { return };
        if let Some(Peer::Stream(old)) = executor.peer.replace(peer.clone()) {
            self.effects.push(Effect::Close(old));
        }
        let is_recovered = matches!(executor.state, ExecutorState::Reregistering(_));
        let is_ending = executor.is_ending();
        if !is_ending {
            executor.state = ExecutorState::Running;
        }
        let subscribed = event::Subscribed {
            executor_info: executor.info.clone(),
            framework_info,
            agent_info,
            container_id: Some(v1::ContainerId {
                value: executor.run.container.clone(),
                parent: None,
            }),
        };
        tracing::info!(executor = executor_id, framework = framework_id, "executor subscribed");
        let known: BTreeSet<String> =
            subscribe.unacknowledged_tasks.iter().map(|task| task.task_id.value.clone()).collect();
        // What it got from the agent before need not be handed over again.
        for task in &subscribe.unacknowledged_tasks {
            let id = &task.task_id.value;
            executor.queued.shift_remove(id);
            if !executor.knows(id) {
                executor.tasks.insert(
                    id.clone(),
                    super::tasks::task_of(task, framework_id, TaskState::TaskStaging),
                );
            }
        }
        let event = Event {
            r#type: Some(event::Type::Subscribed as i32),
            subscribed: Some(subscribed),
            ..Default::default()
        };
        match &peer {
            Peer::Stream(_) => self.tell(framework_id, executor_id, event),
            Peer::Process(to) => {
                self.tell_process(to, framework_id, executor_id, is_recovered, event);
            }
        }
        for update in subscribe.unacknowledged_updates {
            self.update_of_executor(now, framework_id, executor_id, update.status);
        }
        if is_ending {
            self.tell(framework_id, executor_id, shutdown_event());
            return;
        }
        // What was on a stream that broke is lost, whether or not the agent was started anew.
        if is_recovered || matches!(peer, Peer::Stream(_)) {
            self.drop_tasks_lost_on_the_way(now, framework_id, executor_id, &known);
        }
        self.kill_undelivered(now, framework_id, executor_id);
        let Some(executor) = self.executor_mut(framework_id, executor_id) else { return };
        let kills: Vec<_> =
            executor.kills.iter().map(|(task, policy)| (task.clone(), *policy)).collect();
        let (groups, queued) = self.take_queued(framework_id, executor_id);
        for group in groups {
            self.hand_over_group(framework_id, executor_id, group);
        }
        for task in queued {
            self.hand_over(framework_id, executor_id, task);
        }
        for (task, policy) in kills {
            self.tell_kill(framework_id, executor_id, &task, policy);
        }
        self.shut_down_if_useless(now, framework_id, executor_id);
    }

    /// Tasks that were to be killed while nobody knew whether their executor has them, and that it doesn't have.
    fn kill_undelivered(&mut self, now: Now, framework: &str, executor: &str) {
        let Some(known) = self.executor_mut(framework, executor) else { return };
        let waits = |task: &String| known.queued.contains_key(task);
        let undelivered: Vec<String> =
            known.kills.keys().filter(|task| waits(task)).cloned().collect();
        for task in undelivered {
            if let Some(known) = self.executor_mut(framework, executor) {
                let kill_policy = known.kills.remove(&task).flatten();
                let framework_id = v1::FrameworkId { value: framework.to_owned() };
                let task_id = v1::TaskId { value: task };
                self.kill_task(now, m::KillTaskMessage { framework_id, task_id, kill_policy });
            }
        }
    }

    /// Tasks that were handed to an executor, which has never heard of them.
    fn drop_tasks_lost_on_the_way(
        &mut self,
        now: Now,
        framework: &str,
        executor: &str,
        known: &BTreeSet<String>,
    ) {
        let lost: Vec<String> = self
            .executor_mut(framework, executor)
            .map(|executor| {
                let staging = executor
                    .tasks
                    .iter()
                    .filter(|(id, task)| {
                        task.state() == TaskState::TaskStaging && !known.contains(*id)
                    })
                    .map(|(id, _)| id.clone());
                staging.collect()
            })
            .unwrap_or_default();
        for task in lost {
            let verdict = Verdict::new(
                TaskState::TaskDropped,
                Reason::AgentRestarted,
                "Task launched during agent restart",
            );
            self.update_of_agent(now, framework, Some(executor), &task, &verdict);
        }
    }

    /// An executor that never got a task, and of which all that waited for it were killed or lost on the way, may wait
    /// forever: command executors and default executors end with their tasks only (MESOS-8411).
    pub(super) fn shut_down_if_useless(&mut self, now: Now, framework: &str, id: &str) {
        let is_useless = self
            .executor_mut(framework, id)
            .is_some_and(|executor| executor.queued.is_empty() && !executor.ever_got_a_task());
        if is_useless {
            self.shut_down_executor(now, framework, id);
        }
    }

    /// Any call but SUBSCRIBE.
    ///
    /// # Errors
    /// What the original answers with 400 or 403.
    pub fn call(&mut self, now: Now, call: Call) -> Result<(), CallError> {
        use call::Type as T;
        let kind = call.r#type.map_or(T::Unknown, |_| call.r#type());
        if kind == T::Unknown {
            return Err(invalid("Expecting 'type' to be present"));
        }
        let (framework, executor) =
            (call.framework_id.value.clone(), call.executor_id.value.clone());
        match (kind, &call.update, &call.message) {
            (T::Update, None, _) => return Err(invalid("Expecting 'update' to be present")),
            (T::Update, Some(update), _) => {
                validate_update(&executor, &framework, &update.status)
                    .map_err(|text| invalid(&text))?;
            }
            (T::Message, _, None) => return Err(invalid("Expecting 'message' to be present")),
            _ => {}
        }
        self.check_executor(&call)?;
        let is_subscribed = self
            .executor_mut(&framework, &executor)
            .is_some_and(|executor| matches!(executor.peer, Some(Peer::Stream(_))));
        if !is_subscribed {
            return Err(CallError::Forbidden("Executor is not subscribed".to_owned()));
        }
        if let (T::Update, Some(update)) = (kind, call.update) {
            self.update_of_executor(now, &framework, &executor, update.status);
        } else if let (T::Message, Some(message), Some(id)) =
            (kind, call.message, self.info.id.clone())
        {
            let message = m::ExecutorToFrameworkMessage {
                slave_id: id,
                framework_id: call.framework_id,
                executor_id: call.executor_id,
                data: message.data,
            };
            self.message_to_framework(&message);
        }
        Ok(())
    }

    pub(super) fn update_of_executor(
        &mut self,
        now: Now,
        framework: &str,
        executor: &str,
        mut status: v1::TaskStatus,
    ) {
        status.executor_id = Some(v1::ExecutorId { value: executor.to_owned() });
        status.timestamp.get_or_insert(now.wall);
        let (task_id, uuid) = (status.task_id.clone(), status.uuid.clone().unwrap_or_default());
        let is_expected =
            self.executor_mut(framework, executor).is_some_and(|known| known.knows(&task_id.value));
        if is_expected {
            self.take_update(now, framework, Some(executor), status);
        } else {
            tracing::warn!(
                task = task_id.value,
                executor,
                "update of a task that the executor does not have ignored"
            );
            self.count("slave/invalid_status_updates");
        }
        if self.frameworks.get(framework).is_some_and(|own| own.is_terminating) {
            // It is on no disk. An agent that restarts before the executor has ended must learn of it, or it hands the task out again.
            return;
        }
        // Also where it was taken before, or never will be: the executor must not send it for ever.
        let acknowledged = event::Acknowledged { task_id, uuid };
        self.tell(
            framework,
            executor,
            Event {
                r#type: Some(event::Type::Acknowledged as i32),
                acknowledged: Some(acknowledged),
                ..Default::default()
            },
        );
    }

    /// A stream of events has ended on the executor's side.
    pub fn stream_closed(&mut self, stream: StreamId) {
        for framework in self.frameworks.values_mut() {
            for executor in framework.executors.values_mut() {
                if executor.peer == Some(Peer::Stream(stream)) {
                    executor.peer = None;
                }
            }
        }
    }

    /// The first process of a container.
    pub fn container_started(&mut self, container: &str, pid: i32) {
        if self.plain_container_started(container, pid) {
            return;
        }
        for framework in self.frameworks.values_mut() {
            for executor in framework.executors.values_mut() {
                if executor.run.container == container {
                    executor.pid = Some(pid);
                }
            }
        }
    }

    /// An executor's container has addresses of its own.
    pub fn container_networked(&mut self, container: &str, infos: Vec<v1::NetworkInfo>) {
        let mut executors = self.frameworks.values_mut().flat_map(|own| own.executors.values_mut());
        if let Some(executor) = executors.find(|executor| executor.run.container == container) {
            executor.networks = infos;
        }
    }

    /// What a framework says to an executor, told by the master or, as v0 drivers do with agents whose offers they have, by
    /// itself. The original takes it from anybody (`Slave::schedulerMessage`).
    pub(super) fn message_to_executor(
        &mut self,
        from: &Upid,
        message: m::FrameworkToExecutorMessage,
    ) {
        let framework = self.frameworks.get(&message.framework_id.value);
        let executor = framework.and_then(|own| own.executors.get(&message.executor_id.value));
        let is_running = executor.is_some_and(|own| own.state == ExecutorState::Running);
        let is_wanted = framework.is_some_and(|own| {
            let is_its = own.process.as_ref() == Some(from);
            !own.is_terminating && (is_its || self.is_master(from))
        });
        if !is_running || !is_wanted {
            let (framework, executor) = (message.framework_id.value, message.executor_id.value);
            tracing::warn!(%from, framework, executor, "message dropped: no such executor runs");
            self.count("slave/invalid_framework_messages");
            return;
        }
        self.count("slave/valid_framework_messages");
        let event = Event {
            r#type: Some(event::Type::Message as i32),
            message: Some(event::Message { data: message.data }),
            ..Default::default()
        };
        self.tell(&message.framework_id.value, &message.executor_id.value, event);
    }

    /// What an executor says to its framework: to a v0 driver at once, else through the master.
    pub(super) fn message_to_framework(&mut self, message: &m::ExecutorToFrameworkMessage) {
        let framework = self.frameworks.get(&message.framework_id.value);
        let Some(framework) = framework.filter(|own| !own.is_terminating) else {
            self.count("slave/invalid_framework_messages");
            return;
        };
        match framework.process.clone() {
            Some(process) => self.send_to(&process, message),
            None => self.send(message),
        }
        self.count("slave/valid_framework_messages");
    }

    pub(super) fn shut_down_framework(&mut self, now: Now, id: &str) {
        tracing::info!(framework = id, "framework shut down");
        let Some(framework) = self.frameworks.get_mut(id) else {
            self.updates.remove_framework(id);
            return;
        };
        framework.is_terminating = true;
        let executors: Vec<String> = framework.executors.keys().cloned().collect();
        for executor in framework.executors.values_mut().chain(&mut framework.completed) {
            let tasks = executor.tasks.values().chain(&executor.completed);
            let tasks = tasks.map(|task| task.task_id.value.clone());
            let waits = |task: &String| self.updates.has_pending(&(id.to_owned(), task.clone()));
            executor.unheard.extend(tasks.filter(waits));
        }
        for executor in framework.completed.iter().filter(|_| framework.info.checkpoint()) {
            self.effects.extend(silence(executor, &self.settings.work_dir));
        }
        self.updates.remove_framework(id);
        for executor in executors {
            self.shut_down_executor(now, id, &executor);
        }
        self.forget_idle_framework(id);
    }

    /// Tells an executor to end; it is destroyed when it doesn't within its grace period, or doesn't listen.
    pub(super) fn shut_down_executor(&mut self, now: Now, framework: &str, id: &str) {
        let grace = self.settings.executor_shutdown_grace_period;
        let Some(executor) = self.executor_mut(framework, id) else { return };
        if executor.is_ending() {
            return;
        }
        let grace = executor.info.shutdown_grace_period.map_or(grace, |own| own.duration());
        let container = executor.run.container.clone();
        if executor.peer.is_some() {
            executor.state = ExecutorState::Terminating(Some(now.mono + grace));
            self.tell(framework, id, shutdown_event());
        } else {
            executor.state = ExecutorState::Terminating(None);
            self.destroy_container(&ContainerId::root_of(&container));
        }
    }

    /// Destroys executors that did not subscribe in time, or did not end in time.
    pub(super) fn end_late_executors(&mut self, now: Now) {
        let format = mesos::units::format_duration;
        let registration = format(self.settings.executor_registration_timeout);
        let reregistration = format(self.settings.executor_reregistration_timeout);
        let late = |reason, message: String| Verdict::new(TaskState::TaskFailed, reason, message);
        let mut destroyed = Vec::new();
        for framework in self.frameworks.values_mut() {
            for executor in framework.executors.values_mut() {
                let verdict = match executor.state {
                    ExecutorState::Registering(until) if now.mono >= until => Some(late(
                        Reason::ExecutorRegistrationTimeout,
                        format!("Executor did not register within {registration}"),
                    )),
                    ExecutorState::Reregistering(until) if now.mono >= until => Some(late(
                        Reason::ExecutorReregistrationTimeout,
                        format!("Executor did not reregister within {reregistration}"),
                    )),
                    ExecutorState::Terminating(Some(until)) if now.mono >= until => None,
                    _ => continue,
                };
                if executor.verdict.is_none() {
                    executor.verdict = verdict;
                }
                executor.state = ExecutorState::Terminating(None);
                destroyed.push(executor.run.container.clone());
            }
        }
        for container in destroyed {
            self.destroy_container(&ContainerId::root_of(&container));
        }
    }

    /// A container has ended, or never began. `status` is the wait status if it is known; `problem` says why it
    /// failed.
    pub fn container_ended(
        &mut self,
        now: Now,
        container: &str,
        status: Option<i32>,
        problem: Option<Problem>,
    ) {
        if self.plain_container_ended(container, status, problem.as_ref()) {
            return;
        }
        let found = self.frameworks.iter().find_map(|(framework, known)| {
            let (executor, _) =
                known.executors.iter().find(|(_, known)| known.run.container == container)?;
            Some((framework.clone(), executor.clone()))
        });
        let Some((framework_id, executor_id)) = found else { return };
        tracing::info!(executor = executor_id, framework = framework_id, ?status, "executor ended");
        if problem.as_ref().is_some_and(|own| own.reason == Reason::ContainerLaunchFailed) {
            self.count("slave/container_launch_errors");
        }
        self.count("slave/executors_terminated");
        let termination = Termination { status, problem: problem.clone() };
        let root = ContainerId::root_of(container);
        self.effects.push(Effect::Ended(root.clone(), termination));
        let Some(executor) = self.executor_mut(&framework_id, &executor_id) else { return };
        let failed = |problem| Verdict { state: TaskState::TaskFailed, problem };
        // The docker containerizer says how it ended.
        let how = match executor.state {
            _ if !executor.is_in_docker() => None,
            ExecutorState::Terminating(None) => Some("Container killed"),
            _ => Some("Container terminated"),
        };
        let verdict = match (executor.verdict.take(), problem, how) {
            (Some(verdict), _, None) => verdict,
            (Some(verdict), _, Some(how)) => {
                let message = format!("{}; {how}", verdict.problem.message);
                Verdict { problem: Problem { message, ..verdict.problem }, ..verdict }
            }
            (None, Some(problem), _) => failed(problem),
            (None, None, how) => {
                let how = how.unwrap_or("Executor terminated");
                failed(Problem::new(Reason::ExecutorTerminated, how))
            }
        };
        executor.has_ended = true;
        // Tasks that it never got become known, so that their end is recorded like others'.
        for (id, task) in executor.queued.drain(..).collect::<Vec<_>>() {
            executor
                .tasks
                .insert(id, super::tasks::task_of(&task, &framework_id, TaskState::TaskStaging));
        }
        let open: Vec<(String, bool)> = executor
            .tasks
            .keys()
            .map(|task| (task.clone(), executor.kills.contains_key(task)))
            .collect();
        for (task, was_to_be_killed) in open {
            let mut verdict = verdict.clone();
            if was_to_be_killed && verdict.problem.reason == Reason::ExecutorTerminated {
                verdict.state = TaskState::TaskKilled;
            }
            self.update_of_agent(now, &framework_id, Some(&executor_id), &task, &verdict);
        }
        self.remove_executor(&framework_id, &executor_id, status);
        self.forget_containers_in(&root);
        self.forget_idle_framework(&framework_id);
    }

    fn remove_executor(&mut self, framework_id: &str, executor_id: &str, status: Option<i32>) {
        let completed_max = self.settings.completed_executors_max;
        let work_dir = self.settings.work_dir.clone();
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let is_checkpointing = framework.info.checkpoint();
        let Some(mut executor) = framework.executors.shift_remove(executor_id) else { return };
        if let Some(Peer::Stream(stream)) = executor.peer.take() {
            self.effects.push(Effect::Close(stream));
        }
        if is_checkpointing {
            let sentinel = executor.run.meta(&work_dir).join("executor.sentinel");
            self.effects.push(Effect::Write(sentinel, Vec::new()));
            self.effects.extend(silence(&executor, &work_dir));
        }
        self.ended.push((Waste::Run(executor.run.clone()), std::time::Duration::ZERO));
        let is_generated = executor.is_generated;
        framework.completed.push_back(executor);
        while framework.completed.len() > completed_max {
            framework.completed.pop_front();
        }
        if !is_generated {
            self.tell_exited(framework_id, executor_id, status.unwrap_or(-1));
        }
    }

    /// Tells the master that an executor it counts is not there.
    pub(super) fn tell_exited(&mut self, framework: &str, executor: &str, status: i32) {
        if let Some(slave_id) = self.info.id.clone() {
            self.send(&m::ExitedExecutorMessage {
                slave_id,
                framework_id: v1::FrameworkId { value: framework.to_owned() },
                executor_id: v1::ExecutorId { value: executor.to_owned() },
                status,
            });
        }
    }
}

/// Empties what is on disk of updates that nobody is to hear, or an agent that starts anew would tell of them. The
/// original takes no updates of executors back that have a sentinel: it writes that when no update waits any more, ours
/// does when the executor has ended.
fn silence(executor: &Executor, work_dir: &std::path::Path) -> Vec<Effect> {
    let files =
        executor.unheard.iter().map(|task| executor.run.task(work_dir, task).join("task.updates"));
    files.map(|file| Effect::Write(file, Vec::new())).collect()
}
