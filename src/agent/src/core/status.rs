//! States of tasks: reported by executors or by the agent, kept, sent on, acknowledged.

use mesos::internal as m;
use mesos::v1;
use mesos::v1::task_status::{Reason, Source};

use super::container_id::ContainerId;
use super::updates::Acknowledged;
use super::{Agent, COMPLETED_TASKS_MAX, Effect, Executor, Now, TaskState, Verdict, is_terminal};
use crate::checkpoint;
use crate::checkpoint::paths;

/// What a framework that knows nothing of partitions hears instead (`protobuf_utils`).
fn as_known_to(info: Option<&v1::FrameworkInfo>, state: TaskState) -> TaskState {
    let is_partition_aware = info.is_some_and(|info| {
        let aware = v1::framework_info::capability::Type::PartitionAware as i32;
        info.capabilities.iter().any(|own| own.r#type == Some(aware))
    });
    match state {
        TaskState::TaskDropped | TaskState::TaskGone | TaskState::TaskUnknown
            if !is_partition_aware =>
        {
            TaskState::TaskLost
        }
        other => other,
    }
}

impl Agent {
    /// An update that the agent itself makes.
    pub(super) fn update_of_agent(
        &mut self,
        now: Now,
        framework: &str,
        executor: Option<&str>,
        task: &str,
        verdict: &Verdict,
    ) {
        let info = self.frameworks.get(framework).map(|known| known.info.clone());
        let status = self.status_of_agent(now, info.as_ref(), executor, task, verdict);
        self.take_update(now, framework, executor, status);
    }

    /// Refuses a task of a framework that need not be known here; `executor` is the one that it was for.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        info: &v1::FrameworkInfo,
        framework: &str,
        executor: Option<&str>,
        task: &str,
        verdict: &Verdict,
    ) {
        let status = self.status_of_agent(now, Some(info), executor, task, verdict);
        // No executor has it.
        self.take_update(now, framework, None, status);
    }

    fn status_of_agent(
        &mut self,
        now: Now,
        info: Option<&v1::FrameworkInfo>,
        executor: Option<&str>,
        task: &str,
        verdict: &Verdict,
    ) -> v1::TaskStatus {
        let state = as_known_to(info, verdict.state);
        v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state as i32,
            message: Some(verdict.problem.message.clone()),
            source: Some(Source::Agent as i32),
            reason: Some(verdict.problem.reason as i32),
            limitation: verdict.problem.limited_resources(),
            agent_id: self.info.id.clone(),
            executor_id: executor.map(|value| v1::ExecutorId { value: value.to_owned() }),
            timestamp: Some(now.wall),
            uuid: Some(self.entropy.uuid().as_bytes().to_vec()),
            ..Default::default()
        }
    }

    /// Takes an update in: the task's state, the checkpoint, the stream.
    pub(super) fn take_update(
        &mut self,
        now: Now,
        framework_id: &str,
        executor_id: Option<&str>,
        mut status: v1::TaskStatus,
    ) {
        let task_id = status.task_id.value.clone();
        let is_checkpointing = self.is_checkpointing(framework_id);
        let is_terminating =
            self.frameworks.get(framework_id).is_some_and(|framework| framework.is_terminating);
        let work_dir = self.settings.work_dir.clone();
        let ip6 = self.settings.ip6.map(std::net::IpAddr::V6);
        let addresses: Vec<_> = [self.settings.endpoint.ip()].into_iter().chain(ip6).collect();
        status.agent_id.clone_from(&self.info.id);
        self.mark_drained(framework_id, &mut status);
        let place = self.place_of(&status);
        let mut directory = None;
        if let Some(executor) = executor_id.and_then(|id| self.executor_mut(framework_id, id)) {
            if !executor.tasks.contains_key(&task_id) && !executor.queued.contains_key(&task_id) {
                return; // The task is over, and its end was taken in before.
            }
            // Of one that has not begun, or is gone, there is nothing to tell.
            let never_came = status.reason() == Reason::TaskKilledDuringLaunch;
            if executor.tasks.contains_key(&task_id) && !executor.has_ended && !never_came {
                describe_container(executor, &addresses, place, &mut status);
            }
            directory = is_checkpointing.then(|| executor.run.task(&work_dir, &task_id));
        }
        let update = m::StatusUpdate {
            framework_id: v1::FrameworkId { value: framework_id.to_owned() },
            executor_id: status.executor_id.clone(),
            slave_id: self.info.id.clone(),
            timestamp: status.timestamp.unwrap_or(now.wall),
            uuid: status.uuid.clone(),
            status: status.clone(),
            latest_state: None,
        };
        if !is_terminating {
            if !self.updates.push(update.clone()) {
                return;
            }
            if let Some(directory) = directory {
                let record = m::StatusUpdateRecord {
                    r#type: m::status_update_record::Type::Update as i32,
                    update: Some(update),
                    uuid: None,
                };
                let frame = checkpoint::frame(&record);
                self.effects.push(Effect::Append(directory.join("task.updates"), frame));
                // Its executor has it, for certain.
                self.effects.push(Effect::Unlink(directory.join(paths::QUEUED_TASK)));
            }
        }
        self.count("slave/valid_status_updates");
        let state = status.state();
        // The original counts no other ends.
        let counter = match state {
            TaskState::TaskFailed => Some("slave/tasks_failed"),
            TaskState::TaskFinished => Some("slave/tasks_finished"),
            TaskState::TaskGone => Some("slave/tasks_gone"),
            TaskState::TaskKilled => Some("slave/tasks_killed"),
            TaskState::TaskLost => Some("slave/tasks_lost"),
            _ => None,
        };
        if let Some(counter) = counter {
            self.count(counter);
        }
        if let Some(executor) = executor_id.and_then(|id| self.executor_mut(framework_id, id)) {
            record(executor, status);
            if is_terminal(state) {
                self.forget_old_tasks(framework_id, executor_id.unwrap_or_default());
                self.resize(framework_id, executor_id.unwrap_or_default());
            }
        }
    }

    /// Which container an executor says that a status is of.
    fn place_of(&self, status: &v1::TaskStatus) -> Place {
        let named = status.container_status.as_ref().and_then(|own| own.container_id.as_ref());
        let Some(named) = named.filter(|id| id.parent.is_some()) else { return Place::Executor };
        let id = ContainerId::parse(named).ok();
        let known = id.and_then(|id| self.containers.get(&id)).filter(|own| own.is_alive());
        known.map_or(Place::None, |own| Place::Nested(own.pid))
    }

    /// Bounds what is remembered of an executor; what waits for an acknowledgement stays.
    fn forget_old_tasks(&mut self, framework: &str, executor: &str) {
        let Some(known) =
            self.frameworks.get_mut(framework).and_then(|known| known.executors.get_mut(executor))
        else {
            return;
        };
        while known.completed.len() > COMPLETED_TASKS_MAX
            && known.completed.front().is_some_and(|task| {
                !self.updates.has_pending(&(framework.to_owned(), task.task_id.value.clone()))
            })
        {
            known.completed.pop_front();
        }
    }

    pub(super) fn acknowledged(&mut self, message: &m::StatusUpdateAcknowledgementMessage) {
        let key = (message.framework_id.value.clone(), message.task_id.value.clone());
        if self.updates.acknowledge(&key, &message.uuid) == Acknowledged::Unknown {
            tracing::debug!(task = key.1, "acknowledgement ignored: nothing waits for it");
            return;
        }
        let (framework, task) = key;
        if let Some(path) = self.updates_file(&framework, &task) {
            let record = m::StatusUpdateRecord {
                r#type: m::status_update_record::Type::Ack as i32,
                update: None,
                uuid: Some(message.uuid.clone()),
            };
            self.effects.push(Effect::Append(path, checkpoint::frame(&record)));
        }
        self.forget_idle_framework(&framework);
    }

    fn updates_file(&self, framework: &str, task: &str) -> Option<std::path::PathBuf> {
        let framework = self.frameworks.get(framework).filter(|known| known.info.checkpoint())?;
        let executor = framework
            .executors
            .values()
            .chain(&framework.completed)
            .find(|executor| executor.knows(task))?;
        Some(executor.run.task(&self.settings.work_dir, task).join("task.updates"))
    }
}

/// Which container a status is of.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The executor's.
    Executor,
    /// One that is nested in it, with its first process.
    Nested(Option<i32>),
    /// One that has not begun, or is gone.
    None,
}

/// Fills in what the agent knows of the container.
fn describe_container(
    executor: &Executor,
    addresses: &[std::net::IpAddr],
    place: Place,
    status: &mut v1::TaskStatus,
) {
    let pid = match place {
        Place::Executor => executor.pid,
        Place::Nested(pid) => pid,
        Place::None => return,
    };
    let container = status.container_status.get_or_insert_default();
    container.container_id.get_or_insert_with(|| v1::ContainerId {
        value: executor.run.container.clone(),
        parent: None,
    });
    if container.executor_pid.is_none() {
        container.executor_pid = pid.and_then(|pid| u32::try_from(pid).ok());
    }
    if container.network_infos.is_empty() {
        container.network_infos.clone_from(&executor.networks);
    }
    if container.network_infos.is_empty() {
        use v1::network_info::{IpAddress, Protocol};
        let own = |address: &std::net::IpAddr| IpAddress {
            protocol: Some(if address.is_ipv4() { Protocol::IPv4 } else { Protocol::IPv6 } as i32),
            ip_address: Some(address.to_string()),
        };
        container.network_infos.push(v1::NetworkInfo {
            ip_addresses: addresses.iter().map(own).collect(),
            ..Default::default()
        });
    }
}

/// Records a task's new state; of one state in a row only the newest status is kept.
pub(super) fn record(executor: &mut Executor, status: v1::TaskStatus) {
    let id = status.task_id.value.clone();
    let Some(task) = executor.tasks.get_mut(&id) else { return };
    let state = status.state();
    task.state = status.state;
    if task.statuses.last().is_some_and(|last| last.state == status.state) {
        task.statuses.pop();
    }
    task.statuses.push(status);
    if is_terminal(state) {
        executor.kills.remove(&id);
        if let Some(task) = executor.tasks.shift_remove(&id) {
            executor.completed.push_back(task);
        }
    }
}
