//! The states of tasks: updates from agents, updates of the master's own, acknowledgements, kills, reconciliation.

use std::sync::Arc;

use mesos::internal;
use mesos::v1::scheduler::{Event, call, event};
use mesos::v1::task_status::{Reason, Source};
use mesos::v1::{self, TaskState, framework_info::capability::Type as Capability};

use super::Master;
use super::model::{End, Ended, Now, is_terminal};

/// Why the master itself changes a task's state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    /// The new state, for frameworks that can tell partitions apart.
    pub(super) state: TaskState,
    /// Why, for programs.
    pub(super) reason: Reason,
    /// Why, for people.
    pub(super) message: &'a str,
}

fn reconciled(state: TaskState, message: &str) -> Cause<'_> {
    Cause { state, reason: Reason::Reconciliation, message }
}

/// For a framework that can't tell partitions apart, what it knows instead.
fn state_for(partition_aware: bool, state: TaskState) -> TaskState {
    match state {
        TaskState::TaskDropped
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown
            if !partition_aware =>
        {
            TaskState::TaskLost
        }
        other => other,
    }
}

/// The reason that such a framework is given.
fn reason_for(partition_aware: bool, reason: Reason) -> Reason {
    match reason {
        Reason::AgentRemovedByOperator if !partition_aware => Reason::AgentRemoved,
        other => other,
    }
}

impl Master {
    fn send_update(&mut self, framework: &str, status: v1::TaskStatus) {
        self.event(
            framework,
            Event {
                r#type: Some(event::Type::Update as i32),
                update: Some(event::Update { status }),
                ..Default::default()
            },
        );
    }

    pub(super) fn own_status(
        &self,
        now: Now,
        framework: &str,
        task: &str,
        agent: Option<&str>,
        cause: Cause<'_>,
    ) -> v1::TaskStatus {
        let partition_aware = self
            .frameworks
            .get(framework)
            .is_some_and(|framework| framework.can(Capability::PartitionAware));
        v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state_for(partition_aware, cause.state) as i32,
            message: Some(cause.message.to_owned()),
            source: Some(Source::Master as i32),
            reason: Some(reason_for(partition_aware, cause.reason) as i32),
            agent_id: agent.map(|value| v1::AgentId { value: value.to_owned() }),
            timestamp: Some(now.wall),
            ..Default::default()
        }
    }

    /// A task that is never launched: the framework is told at once, nothing is kept.
    pub(super) fn refuse_task(
        &mut self,
        now: Now,
        framework: &str,
        task: &v1::TaskInfo,
        cause: Cause<'_>,
    ) {
        let status =
            self.own_status(now, framework, &task.task_id.value, Some(&task.agent_id.value), cause);
        let metric = metric_of(status.state());
        // Not to those of the framework: it never was one of its tasks.
        self.count(&format!("master/tasks_{metric}"));
        self.count_reason(&status);
        self.send_update(framework, status);
    }

    /// The master itself ends a task.
    pub(super) fn end_task(&mut self, now: Now, framework: &str, task: &str, cause: Cause<'_>) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        let Some(mut ended) = known.tasks.remove(task).or_else(|| known.unreachable.remove(task))
        else {
            return;
        };
        self.unindex_task(framework, &ended);
        let agent = ended.agent_id.value.clone();
        if !is_terminal(ended.state()) {
            self.allocator.recover_used(framework, &agent, &ended.resources);
            let status = self.own_status(now, framework, task, Some(&agent), cause);
            ended.state = status.state;
            self.count_reason(&status);
            push_status(&mut ended, status.clone());
            self.notify_task_updated(framework, &status, ended.state());
            self.send_update(framework, status);
        }
        if cause.state == TaskState::TaskGoneByOperator && ended.state() == TaskState::TaskLost {
            // A framework that can't tell partitions apart knows no task that is gone, only one that is lost.
            self.keep_unreachable(framework, ended);
            self.count("master/tasks_lost");
        } else {
            self.complete(framework, ended, End::Open);
        }
    }

    /// Tells a framework how a task is that comes back with its agent, which was unreachable or forgotten
    /// (`Master::__reregisterSlave`). It is not to be acknowledged: the agent tells of each state in turn.
    pub(super) fn tell_of_return(&mut self, now: Now, task: &v1::Task, was_unreachable: bool) {
        let message = if was_unreachable {
            "Unreachable agent re-reregistered"
        } else {
            "Unknown agent reregistered"
        };
        let framework = &task.framework_id.value;
        let agent = Some(task.agent_id.value.as_str());
        let cause = Cause { state: task.state(), reason: Reason::AgentReregistered, message };
        let mut status = self.own_status(now, framework, &task.task_id.value, agent, cause);
        complete_status(&mut status, task);
        self.send_update(framework, status);
    }

    /// A task that is over is done with.
    pub(super) fn put_away(&mut self, framework: &str, task: &str, end: End) {
        let known = self.frameworks.get_mut(framework);
        let Some(task) = known.and_then(|known| known.tasks.remove(task)) else { return };
        self.unindex_task(framework, &task);
        self.complete(framework, task, end);
    }

    pub(super) fn unreachable_task(
        &mut self,
        now: Now,
        framework: &str,
        task: &str,
        time: v1::TimeInfo,
        message: &str,
    ) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        if known.tasks.get(task).is_some_and(|task| is_terminal(task.state())) {
            // Over already. The agent tells of its end again if it comes back, until it hears that that was acknowledged.
            self.put_away(framework, task, End::Open);
            return;
        }
        let partition_aware = known.can(Capability::PartitionAware);
        let Some(mut lost) = known.tasks.remove(task) else { return };
        self.unindex_task(framework, &lost);
        let agent = lost.agent_id.value.clone();
        self.allocator.recover_used(framework, &agent, &lost.resources);
        let mut status = self.own_status(
            now,
            framework,
            task,
            Some(&agent),
            Cause { state: TaskState::TaskUnreachable, reason: Reason::AgentRemoved, message },
        );
        status.unreachable_time = Some(time);
        self.count_reason(&status);
        lost.state = status.state;
        push_status(&mut lost, status.clone());
        self.notify_task_updated(framework, &status, lost.state());
        self.send_update(framework, status);
        self.keep_unreachable(framework, lost);
        if !partition_aware {
            self.count("master/tasks_lost");
        }
    }

    fn keep_unreachable(&mut self, framework: &str, task: v1::Task) {
        if let Some(known) = self.frameworks.get_mut(framework) {
            known.unreachable.insert(task.task_id.value.clone(), task);
            if known.unreachable.len() > self.settings.max_completed_tasks {
                known.unreachable.remove_first();
            }
        }
    }

    fn complete(&mut self, framework: &str, task: v1::Task, end: End) {
        let metric = metric_of(task.state());
        self.count(&format!("master/tasks_{metric}"));
        self.count_of(framework, "terminal", &format!("task_{metric}"), 1);
        let max = self.settings.max_completed_tasks;
        if let Some(known) = self.frameworks.get_mut(framework) {
            known.completed.push_back(Arc::new(Ended { task, end }));
            while known.completed.len() > max {
                known.completed.pop_front();
            }
        }
    }

    /// Counts the end of a task, or of what is known of it, by who says so and why.
    fn count_reason(&mut self, status: &v1::TaskStatus) {
        let counts = is_terminal(status.state()) || status.state() == TaskState::TaskUnreachable;
        if !counts || status.reason.is_none() {
            return;
        }
        // The names are older than agents.
        let old = |name: &str| name.to_ascii_lowercase().replace("agent", "slave");
        let (state, source, reason) = (status.state(), status.source(), status.reason());
        self.count(&format!(
            "master/{}/{}/{}",
            state.as_str_name().to_ascii_lowercase(),
            old(source.as_str_name()),
            old(reason.as_str_name())
        ));
    }

    /// An agent reports a task's state.
    pub(super) fn status_update(&mut self, message: internal::StatusUpdateMessage) {
        let update = message.update;
        let agent = update
            .slave_id
            .clone()
            .or_else(|| update.status.agent_id.clone())
            .map(|id| id.value)
            .unwrap_or_default();
        if !self.agents.contains_key(&agent) {
            tracing::warn!(
                agent,
                task = update.status.task_id.value,
                "update of an agent that is not registered ignored"
            );
            self.count("master/invalid_status_updates");
            return;
        }
        self.count("master/valid_status_updates");
        let framework = update.framework_id.value.clone();
        let task_id = update.status.task_id.value.clone();
        let Some(known) = self.frameworks.get_mut(&framework) else {
            // Nobody will ever acknowledge it; the agent stops asking when it learns that the framework is gone.
            return;
        };
        let mut status = update.status.clone();
        status.uuid.clone_from(&update.uuid);
        status.agent_id.get_or_insert_with(|| v1::AgentId { value: agent.clone() });
        status.executor_id = status.executor_id.or(update.executor_id);
        status.timestamp.get_or_insert(update.timestamp);
        let latest = update
            .latest_state
            .and_then(|state| TaskState::try_from(state).ok())
            .unwrap_or_else(|| status.state());
        let shown = known.tasks.contains_key(&task_id).then_some(latest);
        let mut ended = false;
        if let Some(task) = known.tasks.get_mut(&task_id) {
            let was_over = is_terminal(task.state());
            if !was_over {
                task.state = latest as i32;
            }
            task.status_update_state = Some(status.state);
            task.status_update_uuid.clone_from(&update.uuid);
            let mut kept = status.clone();
            kept.data = None;
            push_status(task, kept);
            if !was_over && is_terminal(latest) {
                ended = true;
                self.allocator.recover_used(&framework, &agent, &task.resources);
            }
        }
        if ended {
            self.count_reason(&status);
        }
        if let Some(state) = shown {
            self.notify_task_updated(&framework, &status, state);
        }
        self.send_update(&framework, status);
    }

    pub(super) fn acknowledge(&mut self, framework: &str, acknowledge: call::Acknowledge) {
        let task_id = acknowledge.task_id.value.clone();
        let agent = self.agents.get(&acknowledge.agent_id.value).filter(|agent| agent.connected);
        let is_of_this_master = self
            .frameworks
            .get(framework)
            .and_then(|known| known.tasks.get(&task_id))
            .is_none_or(|task| task.status_update_state.is_some());
        // The agent sends the update again: it is acknowledged then.
        let Some(pid) = agent.filter(|_| is_of_this_master).map(|agent| agent.pid.clone()) else {
            self.count("master/invalid_status_update_acknowledgements");
            return;
        };
        self.count("master/valid_status_update_acknowledgements");
        if let Some(known) = self.frameworks.get(framework) {
            let is_end = known.tasks.get(&task_id).is_some_and(|task| {
                task.status_update_state
                    .and_then(|state| TaskState::try_from(state).ok())
                    .is_some_and(is_terminal)
                    && task.status_update_uuid.as_deref() == Some(&acknowledge.uuid)
            });
            if is_end {
                self.put_away(framework, &task_id, End::Settled);
            }
        }
        let message = internal::StatusUpdateAcknowledgementMessage {
            slave_id: acknowledge.agent_id,
            framework_id: v1::FrameworkId { value: framework.to_owned() },
            task_id: acknowledge.task_id,
            uuid: acknowledge.uuid,
        };
        self.send(&pid, &message);
    }

    pub(super) fn kill(&mut self, now: Now, framework: &str, kill: call::Kill) {
        let task_id = kill.task_id.value.clone();
        let agent = self
            .frameworks
            .get(framework)
            .and_then(|known| known.tasks.get(&task_id))
            .map(|task| task.agent_id.value.clone());
        let Some(agent) = agent else {
            self.reconcile_one(
                now,
                framework,
                &task_id,
                kill.agent_id.as_ref().map(|id| id.value.as_str()),
            );
            return;
        };
        if let Some(pid) = self.agents.get(&agent).map(|agent| agent.pid.clone()) {
            let message = internal::KillTaskMessage {
                framework_id: v1::FrameworkId { value: framework.to_owned() },
                task_id: kill.task_id,
                kill_policy: kill.kill_policy,
            };
            self.send(&pid, &message);
        }
    }

    pub(super) fn reconcile(&mut self, now: Now, framework: &str, reconcile: call::Reconcile) {
        if reconcile.tasks.is_empty() {
            let Some(known) = self.frameworks.get(framework) else { return };
            // Not what can't be reached: that is told to who asks for it by name.
            let all: Vec<String> = known.tasks.keys().map(str::to_owned).collect();
            for task in all {
                self.reconcile_one(now, framework, &task, None);
            }
            return;
        }
        for task in reconcile.tasks {
            self.reconcile_one(
                now,
                framework,
                &task.task_id.value,
                task.agent_id.as_ref().map(|id| id.value.as_str()),
            );
        }
    }

    /// Answers what is known of a task; nothing while its agent may still come back and tell.
    fn reconcile_one(&mut self, now: Now, framework: &str, task: &str, agent: Option<&str>) {
        let Some(known) = self.frameworks.get(framework) else { return };
        let status = if let Some(task) = known.tasks.get(task) {
            let state = task
                .status_update_state
                .and_then(|state| TaskState::try_from(state).ok())
                .unwrap_or_else(|| task.state());
            let mut status = self.own_status(
                now,
                framework,
                &task.task_id.value,
                Some(&task.agent_id.value),
                reconciled(state, "Reconciliation: Latest task state"),
            );
            complete_status(&mut status, task);
            status
        } else if let Some(task) = known.unreachable.get(task) {
            let time = task.statuses.last().and_then(|status| status.unreachable_time);
            let mut status = self.own_status(
                now,
                framework,
                &task.task_id.value,
                Some(&task.agent_id.value),
                reconciled(TaskState::TaskUnreachable, "Reconciliation: Task is unreachable"),
            );
            status.unreachable_time = time;
            status
        } else {
            let agent_may_return = match agent {
                Some(agent) => self.recovered_agents.contains_key(agent),
                None => !self.recovered_agents.is_empty(),
            };
            if agent_may_return {
                return;
            }
            match agent {
                Some(agent) if self.agents.contains_key(agent) => self.own_status(
                    now,
                    framework,
                    task,
                    Some(agent),
                    reconciled(TaskState::TaskGone, "Reconciliation: Task is unknown to the agent"),
                ),
                Some(agent) if self.is_unreachable(agent) => self.own_status(
                    now,
                    framework,
                    task,
                    Some(agent),
                    reconciled(TaskState::TaskUnreachable, "Reconciliation: Agent is unreachable"),
                ),
                Some(agent) if self.is_gone(agent) => self.own_status(
                    now,
                    framework,
                    task,
                    Some(agent),
                    reconciled(TaskState::TaskGoneByOperator, "Reconciliation: Task is gone"),
                ),
                agent => self.own_status(
                    now,
                    framework,
                    task,
                    agent,
                    reconciled(TaskState::TaskUnknown, "Reconciliation: Task is unknown"),
                ),
            }
        };
        self.send_update(framework, status);
    }
}

/// What a status of the master's own says besides, as far as is known.
fn complete_status(status: &mut v1::TaskStatus, task: &v1::Task) {
    if let Some(last) = task.statuses.last() {
        status.healthy = last.healthy;
        status.container_status.clone_from(&last.container_status);
        status.check_status.clone_from(&last.check_status);
    }
    status.executor_id.clone_from(&task.executor_id);
}

/// How a state is called in names of metrics.
fn metric_of(state: TaskState) -> String {
    state.as_str_name().trim_start_matches("TASK_").to_ascii_lowercase()
}

/// Keeps the newest of updates that follow each other in the same state.
fn push_status(task: &mut v1::Task, status: v1::TaskStatus) {
    if task.statuses.last().is_some_and(|last| last.state == status.state) {
        task.statuses.pop();
    }
    task.statuses.push(status);
}
