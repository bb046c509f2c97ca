//! Executors: their calls (`/api/v1/executor`), their ends, and ending them.

use mesos::internal as m;
use mesos::v1::executor::{Call, Event, call, event};
use mesos::v1::task_status::{Reason, Source};
use mesos::v1::{self, TaskState};

use super::{Agent, Effect, ExecutorState, Now, StreamId, is_terminal};

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// 400.
    BadRequest(String),
    /// 403.
    Forbidden(String),
    /// 501.
    NotImplemented(String),
}

fn bad(text: impl Into<String>) -> CallError {
    CallError::BadRequest(text.into())
}

impl Agent {
    fn check_executor(&self, call: &Call) -> Result<(), CallError> {
        let framework = self.frameworks.get(&call.framework_id.value).ok_or_else(|| bad("Framework cannot be found"))?;
        if !framework.executors.contains_key(&call.executor_id.value) {
            return Err(bad("Executor cannot be found"));
        }
        Ok(())
    }

    /// Checks a SUBSCRIBE before a stream is opened for it.
    ///
    /// # Errors
    /// What the original answers.
    pub fn check_subscribe(&self, call: &Call) -> Result<(), CallError> {
        if call.subscribe.is_none() {
            return Err(bad("Failed to validate Executor::Call: Expecting 'subscribe' to be present"));
        }
        self.check_executor(call)
    }

    /// Opens an executor's stream: it is told of itself, what it says again is taken, and what waits for it is handed over.
    pub fn subscribe(&mut self, now: Now, stream: StreamId, call: Call) {
        let (framework_id, executor_id) = (call.framework_id.value.clone(), call.executor_id.value.clone());
        let subscribe = call.subscribe.unwrap_or_default();
        let agent_info = self.info.clone();
        let Some(framework) = self.frameworks.get_mut(&framework_id) else { return };
        let mut framework_info = framework.info.clone();
        framework_info.id = Some(call.framework_id);
        let Some(executor) = framework.executors.get_mut(&executor_id) else { return };
        if let Some(old) = executor.stream.replace(stream) {
            self.effects.push(Effect::Close(old));
        }
        let is_ending = matches!(executor.state, ExecutorState::Terminating(_));
        if !is_ending {
            executor.state = ExecutorState::Running;
        }
        let subscribed = event::Subscribed {
            executor_info: executor.info.clone(),
            framework_info,
            agent_info,
            container_id: Some(v1::ContainerId { value: executor.run.container.clone(), parent: None }),
        };
        tracing::info!(executor = executor_id, framework = framework_id, "executor subscribed");
        // Tasks that it never saw acknowledged may have been lost to us with the agent before.
        for task in subscribe.unacknowledged_tasks {
            let id = task.task_id.value.clone();
            if !executor.queued.contains_key(&id) && !executor.completed.iter().any(|done| done.task_id.value == id) {
                executor.tasks.entry(id).or_insert_with(|| super::tasks::task_of(&task, &framework_id, TaskState::TaskStaging));
            }
        }
        let queued: Vec<v1::TaskInfo> = if is_ending { Vec::new() } else { executor.queued.drain(..).map(|(_, task)| task).collect() };
        let event = Event { r#type: Some(event::Type::Subscribed as i32), subscribed: Some(subscribed), ..Default::default() };
        self.effects.push(Effect::Event(stream, Box::new(event)));
        if is_ending {
            self.effects.push(Effect::Event(stream, Box::new(Event { r#type: Some(event::Type::Shutdown as i32), ..Default::default() })));
        }
        for update in subscribe.unacknowledged_updates {
            self.update_of_executor(now, &framework_id, &executor_id, update.status);
        }
        for task in queued {
            self.hand_over(&framework_id, &executor_id, task);
        }
    }

    /// Any call but SUBSCRIBE.
    ///
    /// # Errors
    /// What the original answers with 400 or 403.
    pub fn call(&mut self, now: Now, call: Call) -> Result<(), CallError> {
        use call::Type as T;
        let invalid = |text: &str| bad(format!("Failed to validate Executor::Call: {text}"));
        let kind = call.r#type.map_or(T::Unknown, |_| call.r#type());
        if kind == T::Unknown {
            return Err(invalid("Expecting 'type' to be present"));
        }
        let (framework, executor) = (call.framework_id.value.clone(), call.executor_id.value.clone());
        if let (T::Update, Some(update)) = (kind, &call.update) {
            let status = &update.status;
            if status.uuid.as_ref().is_none_or(|uuid| uuid.len() != 16) {
                return Err(invalid("Expecting 'uuid' to be present"));
            }
            if status.executor_id.as_ref().is_some_and(|id| id.value != executor) {
                let other = status.executor_id.as_ref().map_or("", |id| id.value.as_str());
                return Err(invalid(&format!("ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {other}")));
            }
            if status.source() != Source::Executor {
                return Err(invalid(&format!("Received Call from executor {executor} of framework {framework} with invalid source, expecting 'SOURCE_EXECUTOR'")));
            }
            if status.state() == TaskState::TaskStaging {
                return Err(invalid(&format!("Received TASK_STAGING from executor {executor} of framework {framework} which is not allowed")));
            }
        }
        self.check_executor(&call)?;
        let subscribed = self.frameworks.get(&framework).and_then(|known| known.executors.get(&executor)).is_some_and(|known| known.stream.is_some());
        if !subscribed {
            return Err(CallError::Forbidden("Executor is not subscribed".to_owned()));
        }
        match kind {
            T::Update => {
                let update = call.update.ok_or_else(|| invalid("Expecting 'update' to be present"))?;
                self.update_of_executor(now, &framework, &executor, update.status);
            }
            T::Message => {
                let message = call.message.ok_or_else(|| invalid("Expecting 'message' to be present"))?;
                if let Some(id) = self.info.id.clone() {
                    let message = m::ExecutorToFrameworkMessage { slave_id: id, framework_id: call.framework_id, executor_id: call.executor_id, data: message.data };
                    self.send(&message);
                }
            }
            T::Heartbeat => {}
            T::Subscribe | T::Unknown => return Err(CallError::NotImplemented("unexpected call".to_owned())),
        }
        Ok(())
    }

    fn update_of_executor(&mut self, now: Now, framework: &str, executor: &str, mut status: v1::TaskStatus) {
        status.executor_id = Some(v1::ExecutorId { value: executor.to_owned() });
        status.timestamp.get_or_insert(now.wall);
        let (task_id, uuid) = (status.task_id.clone(), status.uuid.clone().unwrap_or_default());
        self.take_update(now, framework, Some(executor), status);
        // Also where it was taken before: the executor did not hear of it then.
        if let Some(stream) = self.executor_mut(framework, executor).and_then(|executor| executor.stream) {
            let acknowledged = event::Acknowledged { task_id, uuid };
            let event = Event { r#type: Some(event::Type::Acknowledged as i32), acknowledged: Some(acknowledged), ..Default::default() };
            self.effects.push(Effect::Event(stream, Box::new(event)));
        }
    }

    /// A stream of events has ended on the executor's side.
    pub fn stream_closed(&mut self, stream: StreamId) {
        for framework in self.frameworks.values_mut() {
            for executor in framework.executors.values_mut().filter(|executor| executor.stream == Some(stream)) {
                executor.stream = None;
            }
        }
    }

    pub(super) fn message_to_executor(&mut self, framework: &str, executor: &str, data: Vec<u8>) {
        if let Some(stream) = self.executor_mut(framework, executor).and_then(|executor| executor.stream) {
            let event = Event { r#type: Some(event::Type::Message as i32), message: Some(event::Message { data }), ..Default::default() };
            self.effects.push(Effect::Event(stream, Box::new(event)));
        }
    }

    pub(super) fn shutdown_framework(&mut self, now: Now, framework: &str) {
        self.updates.remove_framework(framework);
        let executors: Vec<String> = self.frameworks.get(framework).map(|known| known.executors.keys().cloned().collect()).unwrap_or_default();
        for executor in executors {
            if let Some(executor) = self.executor_mut(framework, &executor) {
                executor.ending = Some((TaskState::TaskKilled, Reason::FrameworkRemoved, "Framework removed".to_owned()));
            }
            self.shutdown_executor(now, framework, &executor);
        }
        self.forget_idle_framework(framework);
    }

    pub(super) fn shutdown_executor(&mut self, now: Now, framework: &str, id: &str) {
        let grace = self.settings.executor_shutdown_grace_period;
        let Some(executor) = self.executor_mut(framework, id) else { return };
        if matches!(executor.state, ExecutorState::Terminating(_)) {
            return;
        }
        match executor.stream {
            Some(stream) => {
                executor.state = ExecutorState::Terminating(now.mono + grace);
                self.effects.push(Effect::Event(stream, Box::new(Event { r#type: Some(event::Type::Shutdown as i32), ..Default::default() })));
            }
            None => {
                executor.state = ExecutorState::Terminating(now.mono + grace);
                let container = executor.run.container.clone();
                self.effects.push(Effect::Destroy(container));
            }
        }
    }

    /// Executors that did not subscribe in time, or did not end in time, are destroyed.
    pub(super) fn executors_that_are_late(&mut self, now: Now) {
        let timeout = mesos::units::format_duration(self.settings.executor_registration_timeout);
        let recovered = self.settings.executor_reregistration_timeout;
        let mut destroy = Vec::new();
        for executor in self.frameworks.values_mut().flat_map(|framework| framework.executors.values_mut()) {
            match executor.state {
                ExecutorState::Registering(deadline) if now.mono >= deadline => {
                    executor.ending.get_or_insert_with(|| {
                        if executor.queued.is_empty() {
                            (TaskState::TaskFailed, Reason::ExecutorReregistrationTimeout, format!("Executor did not reregister within {}", mesos::units::format_duration(recovered)))
                        } else {
                            (TaskState::TaskFailed, Reason::ExecutorRegistrationTimeout, format!("Executor did not register within {timeout}"))
                        }
                    });
                    executor.state = ExecutorState::Terminating(now.mono + std::time::Duration::from_secs(3600));
                    destroy.push(executor.run.container.clone());
                }
                ExecutorState::Terminating(deadline) if now.mono >= deadline => {
                    executor.state = ExecutorState::Terminating(now.mono + std::time::Duration::from_secs(3600));
                    destroy.push(executor.run.container.clone());
                }
                _ => {}
            }
        }
        for container in destroy {
            self.effects.push(Effect::Destroy(container));
        }
    }

    /// A container has ended, or never began. `status` is the wait status if it is known; `problem` says why it failed.
    pub fn container_ended(&mut self, now: Now, container: &str, status: Option<i32>, problem: Option<(Reason, String)>) {
        let found = self.frameworks.iter().find_map(|(framework, known)| {
            known.executors.iter().find(|(_, executor)| executor.run.container == container).map(|(id, _)| (framework.clone(), id.clone()))
        });
        let Some((framework_id, executor_id)) = found else { return };
        tracing::info!(executor = executor_id, framework = framework_id, ?status, "executor ended");
        let Some(executor) = self.executor_mut(&framework_id, &executor_id) else { return };
        let (state, reason, message) = match (executor.ending.take(), problem) {
            (Some(ending), _) => ending,
            (None, Some((reason, message))) => (TaskState::TaskFailed, reason, message),
            (None, None) => (TaskState::TaskFailed, Reason::ExecutorTerminated, "Executor terminated".to_owned()),
        };
        let mut open: Vec<String> = executor.tasks.values().filter(|task| !is_terminal(task.state())).map(|task| task.task_id.value.clone()).collect();
        // Tasks that it never got become known, so that their end is checkpointed like others'.
        for (id, task) in executor.queued.drain(..).collect::<Vec<_>>() {
            executor.tasks.insert(id.clone(), super::tasks::task_of(&task, &framework_id, TaskState::TaskStaging));
            open.push(id);
        }
        for task in open {
            self.update_of_agent(now, &framework_id, Some(&executor_id), &task, state, reason, &message);
        }
        let max = self.settings.max_completed_executors;
        let work_dir = self.settings.work_dir.clone();
        let Some(framework) = self.frameworks.get_mut(&framework_id) else { return };
        let checkpointing = framework.info.checkpoint();
        let Some(mut executor) = framework.executors.shift_remove(&executor_id) else { return };
        if let Some(stream) = executor.stream.take() {
            self.effects.push(Effect::Close(stream));
        }
        if checkpointing {
            self.effects.push(Effect::Write(executor.run.meta(&work_dir).join("executor.sentinel"), Vec::new()));
        }
        self.effects.push(Effect::Forget(executor.run.clone()));
        let generated = executor.generated;
        framework.completed.push_back(executor);
        while framework.completed.len() > max {
            framework.completed.pop_front();
        }
        if let (false, Some(id)) = (generated, self.info.id.clone()) {
            let message = m::ExitedExecutorMessage {
                slave_id: id,
                framework_id: v1::FrameworkId { value: framework_id.clone() },
                executor_id: v1::ExecutorId { value: executor_id },
                status: status.unwrap_or(-1),
            };
            self.send(&message);
        }
        self.forget_idle_framework(&framework_id);
    }
}
