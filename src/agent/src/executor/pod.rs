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
    /// When to kill it for good.
    kill_at: Option<Duration>,
    /// When it must have completed.
    complete_by: Option<Duration>,
}

/// The tasks of an executor.
#[derive(Debug, Default)]
pub struct Pod {
    tasks: IndexMap<String, Task>,
    knows_killing: bool,
    is_shutting_down: bool,
    was_used: bool,
    actions: Vec<Action>,
}

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Pod {
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
            // Each status repeats what was found last.
            healthy: known.and_then(|task| task.healthy),
            container_status: known.map(|task| v1::ContainerStatus {
                // The parent is filled in by who knows it.
                container_id: Some(v1::ContainerId { value: task.container.clone(), parent: None }),
                ..Default::default()
            }),
            check_status: known.and_then(|task| task.check),
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
                let is_group_killing = task.is_group_killing;
                self.update(id, TaskState::TaskRunning, |_| {});
                if is_group_killing || is_shutting_down {
                    // What decided that came while it was being started.
                    self.kill(now, id, None);
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
        self.update(id, state, |status| {
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
                    self.kill(now, other, None);
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
        let can = self.tasks.get(id).is_some_and(|task| !task.is_killing);
        if can && !self.is_shutting_down {
            self.kill(now, id, policy);
        }
    }

    fn kill(&mut self, now: Duration, id: &str, policy: Option<&v1::KillPolicy>) {
        let knows_killing = self.knows_killing;
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.is_killing = true;
        task.complete_by = None;
        task.kill_at = Some(now + grace(policy, &task.info, KILL_GRACE));
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
        self.update(id, TaskState::TaskRunning, |status| {
            status.reason = Some(Reason::TaskHealthCheckStatusUpdated as i32);
        });
        if kill {
            self.kill(now, id, None);
        }
    }

    /// A task's check gave another result.
    pub fn checked(&mut self, id: &str, result: v1::CheckStatusInfo) {
        let Some(task) = self.tasks.get_mut(id).filter(|task| !task.is_killing) else { return };
        task.check = Some(result);
        self.update(id, TaskState::TaskRunning, |status| {
            status.reason = Some(Reason::TaskCheckStatusUpdated as i32);
        });
    }

    /// The agent wants the executor to end.
    pub fn shut_down(&mut self, now: Duration) {
        if self.is_shutting_down {
            return;
        }
        self.is_shutting_down = true;
        let launched: Vec<String> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.is_launched && !task.is_killing)
            .map(|(id, _)| id.clone())
            .collect();
        for id in launched {
            self.kill(now, &id, None);
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
        let at_once = v1::KillPolicy { grace_period: None };
        for id in late {
            self.kill(now, &id, Some(&at_once));
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
mod tests {
    use super::*;

    fn task(id: &str) -> v1::TaskInfo {
        v1::TaskInfo {
            name: id.to_owned(),
            task_id: v1::TaskId { value: id.to_owned() },
            ..Default::default()
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn exited(status: i32) -> Ended {
        Ended::Known(Box::new(v1::agent::response::WaitContainer {
            exit_status: Some(status),
            ..Default::default()
        }))
    }

    /// A pod whose tasks run, in containers of their names.
    fn running(ids: &[&str]) -> Pod {
        let mut pod = Pod::default();
        let mut names = ids.iter().map(|id| (*id).to_owned());
        let group = ids.iter().map(|id| task(id)).collect();
        pod.launch_group(group, || names.next().unwrap_or_default());
        for id in ids {
            pod.launched(seconds(0), id, Ok(()));
        }
        pod.take_actions();
        pod
    }

    /// What is to be done, in short.
    fn shown(pod: &mut Pod) -> Vec<String> {
        pod.take_actions()
            .into_iter()
            .filter_map(|action| match action {
                Action::Update(status) => {
                    let state = status.state().as_str_name().trim_start_matches("TASK_");
                    let message = status.message.unwrap_or_default();
                    Some(format!("{} {state} {message}", status.task_id.value).trim().to_owned())
                }
                Action::Launch(container, _) => Some(format!("launch {container}")),
                Action::Wait(container, _) => Some(format!("wait {container}")),
                Action::Signal(container, signal) => Some(format!("signal {container} {signal}")),
                Action::Check(container, _) => Some(format!("check {container}")),
                Action::StopChecks(_) => None,
                Action::Done => Some("done".to_owned()),
            })
            .collect()
    }

    #[test]
    fn tasks_that_finish_leave_the_others_alone() {
        let mut pod = running(&["a", "b"]);
        pod.ended(seconds(1), "a", exited(0));
        assert_eq!(shown(&mut pod), ["a FINISHED Command exited with status 0"]);
        pod.ended(seconds(2), "b", exited(0));
        assert_eq!(shown(&mut pod), ["b FINISHED Command exited with status 0", "done"]);
    }

    #[test]
    fn a_task_that_fails_takes_its_group_with_it_and_no_other() {
        let mut pod = running(&["a", "b"]);
        pod.launch_group(vec![task("c")], || "c".to_owned());
        pod.launched(seconds(0), "c", Ok(()));
        pod.take_actions();
        pod.set_knows_killing(true);
        pod.ended(seconds(1), "a", exited(7 << 8));
        let expected = ["a FAILED Command exited with status 7", "b KILLING", "signal b 15"];
        assert_eq!(shown(&mut pod), expected);
        assert_eq!(pod.due(), Some(seconds(4)), "three seconds of grace");
        pod.tick(seconds(4));
        assert_eq!(shown(&mut pod), ["signal b 9"]);
        pod.ended(seconds(5), "b", exited(9));
        assert_eq!(shown(&mut pod), ["b KILLED Command terminated with signal Killed"]);
        pod.ended(seconds(6), "c", exited(0));
        assert_eq!(shown(&mut pod), ["c FINISHED Command exited with status 0", "done"]);
    }

    #[test]
    fn a_group_whose_task_fails_while_another_starts_is_ended_as_well() {
        let mut pod = Pod::default();
        let mut names = ["a", "b"].iter();
        pod.launch_group(vec![task("a"), task("b")], || (*names.next().unwrap()).to_owned());
        assert_eq!(shown(&mut pod), ["a STARTING", "launch a", "b STARTING", "launch b"]);
        pod.launched(seconds(0), "a", Err("no such user".to_owned()));
        assert_eq!(shown(&mut pod), ["wait a"]);
        pod.ended(seconds(0), "a", Ended::Unknown);
        assert_eq!(shown(&mut pod), ["a FAILED no such user"]);
        pod.launched(seconds(1), "b", Ok(()));
        assert_eq!(shown(&mut pod), ["b RUNNING", "signal b 15", "wait b"]);
        pod.ended(seconds(1), "b", exited(15));
        assert_eq!(shown(&mut pod), ["b KILLED Command terminated with signal Terminated", "done"]);
    }

    #[test]
    fn kill_policies_and_completion_times_are_kept() {
        let mut slow = task("a");
        slow.kill_policy = Some(v1::KillPolicy {
            grace_period: Some(v1::DurationInfo { nanoseconds: 10_000_000_000 }),
        });
        slow.max_completion_time = Some(v1::DurationInfo { nanoseconds: 5_000_000_000 });
        let mut pod = Pod::default();
        pod.launch_group(vec![slow], || "a".to_owned());
        pod.launched(seconds(1), "a", Ok(()));
        pod.take_actions();
        pod.tick(seconds(6));
        assert_eq!(shown(&mut pod), ["signal a 15"]);
        assert_eq!(pod.due(), Some(seconds(16)));
        pod.ended(seconds(7), "a", exited(15));
        let actions = pod.take_actions();
        let status = actions.iter().find_map(|action| match action {
            Action::Update(status) => Some(status),
            _ => None,
        });
        let status = status.unwrap();
        assert_eq!(status.reason(), Reason::MaxCompletionTimeReached);
        assert_eq!(status.state(), TaskState::TaskFailed);
    }

    #[test]
    fn an_unhealthy_task_is_killed_and_says_so() {
        let mut pod = running(&["a"]);
        pod.health(seconds(1), "a", true, false);
        assert_eq!(shown(&mut pod), ["a RUNNING"]);
        pod.health(seconds(2), "a", false, true);
        assert_eq!(shown(&mut pod), ["a RUNNING", "signal a 15"]);
        pod.ended(seconds(3), "a", exited(15));
        let is_unhealthy = |action: &Action| matches!(action, Action::Update(status) if status.healthy == Some(false));
        assert!(pod.take_actions().iter().any(is_unhealthy));
    }

    #[test]
    fn a_shutdown_kills_all_and_starts_nothing() {
        let mut pod = running(&["a", "b"]);
        pod.shut_down(seconds(1));
        assert_eq!(shown(&mut pod), ["signal a 15", "signal b 15"]);
        pod.launch_group(vec![task("c")], || "c".to_owned());
        assert_eq!(shown(&mut pod), [""; 0]);
        pod.ended(seconds(2), "a", exited(15));
        pod.ended(seconds(2), "b", Ended::Unknown);
        let expected = ["a KILLED Command terminated with signal Terminated", "b KILLED", "done"];
        assert_eq!(shown(&mut pod), expected);
    }
}
