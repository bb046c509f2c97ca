//! What the default executor decides, without I/O (`launcher/default_executor.cpp`).
//!
//! Each task of a group runs in a container of its own, nested in the executor's. A task that fails or is killed takes the
//! rest of its group with it. When no task is left the executor ends.

use std::time::Duration;

use indexmap::IndexMap;
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState};

use super::command::{describe, grace};
use crate::containerizer::Problem;

/// How long a task may take to end after SIGTERM when nobody says otherwise.
const KILL_GRACE: Duration = Duration::from_secs(3);
/// How long before the agent ends an executor the last process of its task is to have ended (`Executor::shutdown`).
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(2);
/// Pause between two attempts to kill.
const RETRY: Duration = Duration::from_secs(1);

/// What a container's end looked like to who waited for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// The agent knows of it.
    Known(Box<v1::agent::response::WaitContainer>),
    /// The agent knows of no such container.
    Unknown,
    /// It could not begin, or had to end.
    Failed(Problem),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Report a task's state.
    Update(Box<v1::TaskStatus>),
    /// Start a task's container, of this name.
    Launch(String, Box<v1::TaskInfo>),
    /// Say when a task's container has ended.
    Wait(String, v1::TaskId),
    /// Send a signal to a task's container.
    Signal(String, i32),
    /// Begin a task's checks.
    Check(String, Box<v1::TaskInfo>),
    /// End a task's checks.
    StopChecks(v1::TaskId),
    /// Nothing is left to do once everything is acknowledged.
    Done,
}

#[derive(Debug)]
struct Task {
    info: v1::TaskInfo,
    container: String,
    group: Vec<String>,
    is_launched: bool,
    launch_error: Option<String>,
    is_killing: bool,
    is_group_killing: bool,
    is_late: bool,
    /// What its last health check found.
    healthy: Option<bool>,
    /// What its last check found; set from the beginning if it has one.
    check: Option<v1::CheckStatusInfo>,
    /// How long it may take to end, where that was asked for before it ran.
    kill_wanted: Option<Duration>,
    /// Since when it is being killed.
    killed_since: Duration,
    /// When to kill it for good.
    kill_at: Option<Duration>,
    /// When it must have completed.
    complete_by: Option<Duration>,
}

impl Task {
    /// Lets a task that is being killed take this long in all, if that is less than it may take.
    fn hurry(&mut self, grace: Duration) {
        let until = self.killed_since + grace;
        self.kill_at = self.kill_at.filter(|_| self.is_killing).map(|at| at.min(until));
    }
}

/// The tasks of an executor.
#[derive(Debug, Default)]
pub struct Pod {
    tasks: IndexMap<String, Task>,
    knows_killing: bool,
    is_shutting_down: bool,
    was_used: bool,
    /// Set for the executor of a single command: how long a shutdown may take.
    command_grace: Option<Duration>,
    /// Whether a task was killed for its health: then the last words of each say so.
    is_unhealthy: bool,
    actions: Vec<Action>,
}

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Pod {
    /// The one task of `mesos-executor`, which the agent ends after `grace`. It differs from a group's: a second kill may
    /// shorten the first one's grace, and a shutdown leaves as much time as the agent does.
    pub fn of_command(grace: Duration) -> Self {
        let grace = grace.saturating_sub(SHUTDOWN_MARGIN);
        Self { command_grace: Some(grace), ..Self::default() }
    }

    /// What is to be done since the last call.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether the framework wants to hear that a task is being killed.
    pub fn set_knows_killing(&mut self, knows: bool) {
        self.knows_killing = knows;
    }

    fn update(&mut self, task: &str, state: TaskState, fill: impl FnOnce(&mut v1::TaskStatus)) {
        let known = self.tasks.get(task);
        let mut status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state as i32,
            container_status: known.map(|task| v1::ContainerStatus {
                // The parent is filled in by who knows it.
                container_id: Some(v1::ContainerId { value: task.container.clone(), parent: None }),
                ..Default::default()
            }),
            // That there is a check is said by each status; what it found, by those about that.
            check_status: known.and_then(|task| super::health::unchecked(&task.info)),
            ..Default::default()
        };
        fill(&mut status);
        self.actions.push(Action::Update(Box::new(status)));
    }

    /// Starts a group; `name` makes names of containers that nobody has.
    pub fn launch_group(&mut self, group: Vec<v1::TaskInfo>, mut name: impl FnMut() -> String) {
        if self.is_shutting_down {
            return;
        }
        self.was_used = true;
        let ids: Vec<String> = group.iter().map(|task| task.task_id.value.clone()).collect();
        for info in group {
            let id = info.task_id.value.clone();
            if self.tasks.contains_key(&id) {
                continue; // Handed over twice, by an agent before and by this one.
            }
            let container = name();
            let task = Task {
                info: info.clone(),
                container: container.clone(),
                group: ids.clone(),
                is_launched: false,
                launch_error: None,
                is_killing: false,
                is_group_killing: false,
                is_late: false,
                healthy: None,
                check: super::health::unchecked(&info),
                kill_wanted: None,
                killed_since: Duration::ZERO,
                kill_at: None,
                complete_by: None,
            };
            self.tasks.insert(id.clone(), task);
            self.update(&id, TaskState::TaskStarting, |_| {});
            self.actions.push(Action::Launch(container, Box::new(info)));
        }
    }

    /// A container runs, or does not.
    pub fn launched(&mut self, now: Duration, id: &str, result: Result<(), String>) {
        let is_shutting_down = self.is_shutting_down;
        let Some(task) = self.tasks.get_mut(id) else { return };
        let (container, info) = (task.container.clone(), task.info.clone());
        match result {
            Ok(()) => {
                task.is_launched = true;
                let limit = info.max_completion_time.filter(|limit| limit.nanoseconds > 0);
                task.complete_by = limit.map(|limit| now + limit.duration());
                let wanted = task.kill_wanted.take();
                let own = task.is_group_killing.then_some(KILL_GRACE);
                let shutdown = is_shutting_down.then_some(self.command_grace.unwrap_or(KILL_GRACE));
                self.update(id, TaskState::TaskRunning, |_| {});
                if let Some(grace) = shutdown.or(own).or(wanted) {
                    // What decided that came while it was being started.
                    self.kill(now, id, grace);
                } else if info.check.is_some() || info.health_check.is_some() {
                    self.actions.push(Action::Check(container.clone(), Box::new(info.clone())));
                }
            }
            Err(message) => task.launch_error = Some(message),
        }
        self.actions.push(Action::Wait(container, info.task_id));
    }

    /// A container has ended.
    pub fn ended(&mut self, now: Duration, id: &str, ended: Ended) {
        let Some(task) = self.tasks.get(id) else { return };
        self.actions.push(Action::StopChecks(task.info.task_id.clone()));
        let outcome = outcome(task, ended);
        let state = outcome.state;
        let healthy = self.is_unhealthy.then_some(false);
        self.update(id, state, |status| {
            status.healthy = healthy;
            status.message = outcome.message;
            status.reason = outcome.reason.map(|reason| reason as i32);
            status.limitation = outcome.limitation;
        });
        let Some(task) = self.tasks.shift_remove(id) else { return };
        let takes_others = matches!(state, TaskState::TaskFailed | TaskState::TaskKilled);
        if takes_others && !self.is_shutting_down && !task.is_group_killing {
            for other in &task.group {
                let Some(other_task) = self.tasks.get_mut(other) else { continue };
                other_task.is_group_killing = true;
                if !other_task.is_killing && other_task.is_launched {
                    // As long as any, whatever its own policy is.
                    self.kill(now, other, KILL_GRACE);
                }
            }
        }
        self.end_when_idle();
    }

    fn end_when_idle(&mut self) {
        if self.tasks.is_empty() && (self.was_used || self.is_shutting_down) {
            self.actions.push(Action::Done);
        }
    }

    /// The framework wants a task killed.
    pub fn kill_task(&mut self, now: Duration, id: &str, policy: Option<&v1::KillPolicy>) {
        let Some(task) = self.tasks.get_mut(id).filter(|_| !self.is_shutting_down) else { return };
        let grace = grace(policy, &task.info, KILL_GRACE);
        if task.is_killing {
            if self.command_grace.is_some() {
                task.hurry(grace);
            }
        } else if task.is_launched {
            self.kill(now, id, grace);
        } else {
            task.kill_wanted = Some(grace);
        }
    }

    fn kill(&mut self, now: Duration, id: &str, grace: Duration) {
        let knows_killing = self.knows_killing;
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.is_killing = true;
        task.complete_by = None;
        task.killed_since = now;
        task.kill_at = Some(now + grace);
        let (container, task_id) = (task.container.clone(), task.info.task_id.clone());
        let is_told = knows_killing && !task.is_late;
        self.actions.push(Action::StopChecks(task_id));
        if is_told {
            self.update(id, TaskState::TaskKilling, |_| {});
        }
        self.actions.push(Action::Signal(container, SIGTERM));
    }

    /// A task's health was looked at.
    pub fn health(&mut self, now: Duration, id: &str, healthy: bool, kill: bool) {
        let Some(task) = self.tasks.get_mut(id).filter(|task| !task.is_killing) else { return };
        task.healthy = Some(healthy);
        self.found(id, Reason::TaskHealthCheckStatusUpdated);
        if kill {
            self.is_unhealthy = true;
            self.kill_task(now, id, None);
        }
    }

    /// A task's check gave another result.
    pub fn checked(&mut self, id: &str, result: v1::CheckStatusInfo) {
        let Some(task) = self.tasks.get_mut(id).filter(|task| !task.is_killing) else { return };
        task.check = Some(result);
        self.found(id, Reason::TaskCheckStatusUpdated);
    }

    /// What was found last, by either kind of check.
    fn found(&mut self, id: &str, reason: Reason) {
        let Some(task) = self.tasks.get(id) else { return };
        let (healthy, check) = (task.healthy, task.check);
        self.update(id, TaskState::TaskRunning, |status| {
            status.healthy = healthy;
            status.check_status = check;
            status.reason = Some(reason as i32);
        });
    }

    /// The agent wants the executor to end.
    pub fn shut_down(&mut self, now: Duration) {
        if self.is_shutting_down {
            return;
        }
        self.is_shutting_down = true;
        let grace = self.command_grace.unwrap_or(KILL_GRACE);
        if self.command_grace.is_some() {
            for task in self.tasks.values_mut() {
                task.hurry(grace);
            }
        }
        let launched: Vec<String> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.is_launched && !task.is_killing)
            .map(|(id, _)| id.clone())
            .collect();
        for id in launched {
            self.kill(now, &id, grace);
        }
        self.end_when_idle();
    }

    /// When something is due next.
    pub fn due(&self) -> Option<Duration> {
        self.tasks.values().flat_map(|task| [task.kill_at, task.complete_by]).flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        let mut late = Vec::new();
        for (id, task) in &mut self.tasks {
            if task.kill_at.is_some_and(|at| now >= at) {
                task.kill_at = Some(now + RETRY);
                self.actions.push(Action::Signal(task.container.clone(), SIGKILL));
            }
            if task.complete_by.is_some_and(|by| now >= by) {
                task.complete_by = None;
                task.is_late = true;
                late.push(id.clone());
            }
        }
        for id in late {
            self.kill(now, &id, Duration::ZERO);
        }
    }
}

struct Outcome {
    state: TaskState,
    message: Option<String>,
    reason: Option<Reason>,
    limitation: Option<v1::TaskResourceLimitation>,
}

fn outcome(task: &Task, ended: Ended) -> Outcome {
    let mut outcome =
        Outcome { state: TaskState::TaskFailed, message: None, reason: None, limitation: None };
    let known = match ended {
        Ended::Known(known) => *known,
        Ended::Failed(problem) => {
            if task.is_killing {
                outcome.state = TaskState::TaskKilled;
            } else {
                outcome.reason = Some(problem.reason);
                outcome.limitation = problem.limited_resources();
            }
            outcome.message = Some(problem.message);
            return outcome;
        }
        Ended::Unknown => {
            outcome.message = if task.is_killing {
                outcome.state = TaskState::TaskKilled;
                None
            } else {
                let unknown = "Unable to retrieve command's termination information";
                Some(task.launch_error.clone().unwrap_or_else(|| unknown.to_owned()))
            };
            return outcome;
        }
    };
    match known.exit_status {
        None => {
            let unknown = "Command terminated with unknown status";
            outcome.message = Some(task.launch_error.clone().unwrap_or_else(|| unknown.to_owned()));
        }
        Some(status) => {
            use std::os::unix::process::ExitStatusExt as _;
            let status = std::process::ExitStatus::from_raw(status);
            if task.is_late {
                outcome.reason = Some(Reason::MaxCompletionTimeReached);
            } else if task.is_killing {
                outcome.state = TaskState::TaskKilled;
            } else if status.success() {
                outcome.state = TaskState::TaskFinished;
            }
            outcome.message = Some(describe(status));
        }
    }
    // The agent has more specific reasons, such as a limit that was exceeded.
    if known.state.is_some() {
        outcome.state = known.state();
    }
    if known.reason.is_some() {
        outcome.reason = Some(known.reason());
    }
    if let Some(text) = &known.message {
        outcome.message = Some(match outcome.message {
            Some(own) => format!("{own}: {text}"),
            None => text.clone(),
        });
    }
    outcome.limitation = known.limitation;
    outcome
}

#[cfg(test)]
mod tests;
