//! What an agent that starts again makes of what the one before left: its id, its executors, and the updates that
//! nobody acknowledged.

use std::time::Duration;

use mesos::internal as m;
use mesos::v1;

use super::garbage::Waste;
use super::{Agent, Effect, Ending, Executor, ExecutorState, Framework, Now, is_terminal};
use crate::checkpoint::paths::{self, Run};

/// Executors subscribe within this time at least, however short the flag's.
const REREGISTRATION_MIN: Duration = Duration::from_secs(1);

/// A task that an executor had.
#[derive(Debug)]
pub struct RecoveredTask {
    /// What is known of it.
    pub task: v1::Task,
    /// What it was launched with, if it is not sure that its executor has got it.
    pub queued: Option<v1::TaskInfo>,
    /// The first task of the group that it was to be handed over with.
    pub group: Option<String>,
    /// Its updates and their acknowledgements.
    pub records: Vec<m::StatusUpdateRecord>,
}

/// An executor that was running.
#[derive(Debug)]
pub struct RecoveredExecutor {
    /// What it is.
    pub info: v1::ExecutorInfo,
    /// Where it ran.
    pub run: Run,
    /// Whether it was made up for a command task.
    pub is_generated: bool,
    /// The process that it is sent messages at, if it has a v0 driver.
    pub process: Option<mesos::libprocess::Upid>,
    /// The first process of its container, if it was noted.
    pub pid: Option<i32>,
    /// Its tasks.
    pub tasks: Vec<RecoveredTask>,
    /// Whether it is known to have ended.
    pub has_ended: bool,
    /// How long ago, if so.
    pub ended_ago: Duration,
}

/// Everything that was found.
#[derive(Debug)]
pub struct Recovered {
    /// The agent, with its id.
    pub info: v1::AgentInfo,
    /// Frameworks and their executors.
    pub frameworks: Vec<(v1::FrameworkInfo, Vec<RecoveredExecutor>)>,
    /// How an operator wanted it drained.
    pub drain: Option<v1::DrainConfig>,
    /// Whether the host was started anew since: no process of then lives.
    pub has_rebooted: bool,
}

impl Agent {
    /// Takes over what was recovered. Executors are expected to subscribe again in time; returned are the containers
    /// to watch, with their first processes. A container that was noted but never started is started.
    pub fn recover(&mut self, now: Now, recovered: Recovered) -> Vec<(Run, Option<i32>)> {
        let mut watched = Vec::new();
        self.info.id.clone_from(&recovered.info.id);
        self.forget_operations_of_others();
        let deadline =
            now.mono + self.settings.executor_reregistration_timeout.max(REREGISTRATION_MIN);
        for (info, executors) in recovered.frameworks {
            let Some(framework_id) = info.id.as_ref().map(|id| id.value.clone()) else { continue };
            self.frameworks.insert(framework_id.clone(), Framework::new(info));
            for found in executors {
                let pid = found.pid.filter(|_| !recovered.has_rebooted);
                let has_ended = found.has_ended;
                let ended = has_ended.then_some(found.ended_ago);
                let process = found.process.clone().filter(|_| pid.is_some() && !has_ended);
                let executor = self.recover_executor(&framework_id, found, deadline);
                let never_started = pid.is_none()
                    && !recovered.has_rebooted
                    && !executor.queued.is_empty()
                    && executor.tasks.is_empty()
                    && executor.completed.is_empty();
                if !has_ended && never_started && !self.settings.cleans_up {
                    tracing::info!(executor = executor.run.executor, "starting what was not yet");
                    self.launch(&framework_id, &executor);
                } else if !has_ended {
                    watched.push((executor.run.clone(), pid));
                }
                self.keep(&framework_id, executor, ended, never_started, now);
                if let Some(process) = process {
                    self.reconnect_executor(&process);
                }
            }
            if self.settings.cleans_up {
                self.shut_down_framework(now, &framework_id);
            } else {
                self.forget_idle_framework(&framework_id);
            }
        }
        if self.settings.cleans_up {
            self.leave(now, Ending::Done);
        }
        if let Some(config) = recovered.drain {
            self.drain(now, config);
            self.finish_draining();
        }
        watched
    }

    fn recover_executor(
        &mut self,
        framework_id: &str,
        found: RecoveredExecutor,
        deadline: Duration,
    ) -> Executor {
        let state = ExecutorState::Reregistering(deadline);
        let mut executor = Executor::new(found.info, found.run, found.is_generated, state);
        executor.pid = found.pid;
        let mut groups: indexmap::IndexMap<String, Vec<String>> = indexmap::IndexMap::new();
        for RecoveredTask { mut task, queued, group, records } in found.tasks {
            let has_updates = !records.is_empty();
            self.replay(framework_id, &mut task, records);
            let id = task.task_id.value.clone();
            match queued {
                _ if is_terminal(task.state()) => executor.completed.push_back(task),
                Some(info) if !has_updates => {
                    if let Some(first) = group {
                        groups.entry(first).or_default().push(id.clone());
                    }
                    executor.queued.insert(id, info);
                }
                _ => {
                    executor.tasks.insert(id, task);
                }
            }
        }
        executor.groups = groups.into_values().collect();
        executor
    }

    fn keep(
        &mut self,
        framework_id: &str,
        mut executor: Executor,
        ended: Option<Duration>,
        never_started: bool,
        now: Now,
    ) {
        if never_started {
            executor.state =
                ExecutorState::Registering(now.mono + self.settings.executor_registration_timeout);
        }
        if let Some(age) = ended {
            self.ended.push((Waste::Run(executor.run.clone()), age));
        }
        let waits = executor.completed.iter().any(|task| {
            self.updates.has_pending(&(framework_id.to_owned(), task.task_id.value.clone()))
        });
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        if ended.is_none() {
            framework.executors.insert(executor.run.executor.clone(), executor);
        } else if waits {
            framework.completed.push_back(executor);
        }
    }

    /// Replays a task's records.
    fn replay(
        &mut self,
        framework: &str,
        task: &mut v1::Task,
        records: Vec<m::StatusUpdateRecord>,
    ) {
        let key = (framework.to_owned(), task.task_id.value.clone());
        for record in records {
            match (record.r#type(), record.update, record.uuid) {
                (m::status_update_record::Type::Update, Some(update), _) => {
                    task.state = update.status.state;
                    let status = update.status.clone();
                    if task.statuses.last().is_some_and(|last| last.state == status.state) {
                        task.statuses.pop();
                    }
                    task.statuses.push(status);
                    self.updates.push(update);
                }
                (m::status_update_record::Type::Ack, _, Some(uuid)) => {
                    self.updates.acknowledge(&key, &uuid);
                }
                _ => {}
            }
        }
    }

    /// Ends every executor, and then the agent, for good: the next one is new to the master.
    pub(super) fn leave(&mut self, now: Now, why: Ending) {
        self.leaving = Some(why);
        for framework in self.frameworks.keys().cloned().collect::<Vec<_>>() {
            self.shut_down_framework(now, &framework);
        }
        self.leave_when_idle();
    }

    pub(super) fn leave_when_idle(&mut self) {
        if !self.frameworks.is_empty() {
            return;
        }
        if let Some(why) = self.leaving.take() {
            let latest = paths::meta(&self.settings.work_dir).join("slaves/latest");
            self.effects.push(Effect::Unlink(latest));
            self.effects.push(Effect::Abort(why));
        }
    }
}
