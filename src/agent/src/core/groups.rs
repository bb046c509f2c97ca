//! Task groups: tasks that live and die together, in nested containers of one default executor (`Slave::runTaskGroup`).

use mesos::internal as m;
use mesos::v1;
use mesos::v1::executor::{Event, event};

use super::{Agent, ExecutorState, Now};

impl Agent {
    pub(super) fn run_task_group(&mut self, now: Now, message: m::RunTaskGroupMessage) {
        let Some(framework_id) = message.framework.id.as_ref().map(|id| id.value.clone()) else {
            tracing::warn!("a task group without a framework id ignored");
            return;
        };
        let executor_id = message.executor.executor_id.value.clone();
        let mut tasks = message.task_group.tasks;
        let ids: Vec<String> = tasks.iter().map(|task| task.task_id.value.clone()).collect();
        let all = ids.iter().map(String::as_str).chain([framework_id.as_str(), &executor_id]);
        for id in all {
            if let Err(reason) = mesos::ids::validate(id) {
                tracing::warn!(id, reason, "a task group with an id that is not valid ignored");
                return;
            }
        }
        if tasks.is_empty()
            || tasks.iter().any(|task| self.id() != Some(task.agent_id.value.as_str()))
        {
            tracing::warn!(tasks = ?ids, "a task group for another agent ignored");
            return;
        }
        if self.leaving.is_some()
            || self.frameworks.get(&framework_id).is_some_and(|known| known.is_terminating)
        {
            tracing::warn!(tasks = ?ids, "task group ignored: the agent or its framework is shutting down");
            return;
        }
        tracing::info!(tasks = ?ids, framework = framework_id, "task group to run");
        let executor = self.executor_mut(&framework_id, &executor_id);
        if executor.is_some_and(|executor| ids.iter().any(|id| executor.knows(id))) {
            tracing::warn!(tasks = ?ids, "task group ignored: some of it is here already");
            return;
        }
        // As of single tasks: the master asked before they came.
        let counts_as_dropped =
            |id: &String| self.updates.has_pending(&(framework_id.clone(), id.clone()));
        if ids.iter().any(counts_as_dropped) {
            tracing::warn!(tasks = ?ids, "task group ignored: some of it counts as dropped");
            return;
        }
        let state = self.executor_mut(&framework_id, &executor_id).map(|executor| executor.state);
        let versions = &message.resource_version_uuids;
        let refusal =
            self.reason_to_drop(&tasks, versions, state, message.launch_executor).or_else(|| {
                let (framework, command) = (&message.framework, message.executor.command.as_ref());
                self.reason_for_no_sandbox(framework, &executor_id, command)
            });
        if let Some(refusal) = refusal {
            for id in &ids {
                let is_ending = matches!(state, Some(ExecutorState::Terminating(_)));
                let named = Some(executor_id.as_str()).filter(|_| !is_ending);
                self.refuse(now, &message.framework, &framework_id, named, id, &refusal);
            }
            if message.launch_executor == Some(true) {
                // The master counts the executor since it sent the group.
                self.tell_exited(&framework_id, &executor_id, -1);
            }
            return;
        }
        self.learn_framework(&framework_id, message.framework, None);
        for task in &mut tasks {
            task.executor.get_or_insert_with(|| message.executor.clone());
        }
        match state {
            None => self.start_executor(now, &framework_id, &executor_id, tasks, Some(ids)),
            Some(ExecutorState::Running) => {
                self.hand_over_group(&framework_id, &executor_id, tasks);
            }
            Some(_) => {
                let is_checkpointing = self.is_checkpointing(&framework_id);
                let Some(executor) = self.executor_mut(&framework_id, &executor_id) else { return };
                let run = executor.run.clone();
                let group = ids.first().cloned();
                executor.groups.push(ids);
                for task in &tasks {
                    executor.queued.insert(task.task_id.value.clone(), task.clone());
                }
                for task in tasks.iter().filter(|_| is_checkpointing) {
                    self.note_queued(&run, task, group.as_deref());
                }
                self.resize(&framework_id, &executor_id);
            }
        }
    }

    /// Hands a group to its running executor.
    pub(super) fn hand_over_group(
        &mut self,
        framework_id: &str,
        executor_id: &str,
        tasks: Vec<v1::TaskInfo>,
    ) {
        for task in &tasks {
            self.note_handed_over(framework_id, executor_id, task);
        }
        self.resize(framework_id, executor_id);
        let event = Event {
            r#type: Some(event::Type::LaunchGroup as i32),
            launch_group: Some(event::LaunchGroup { task_group: v1::TaskGroupInfo { tasks } }),
            ..Default::default()
        };
        self.tell(framework_id, executor_id, event);
    }

    /// Takes what waits for an executor, as it came: each group, then each task that is in none.
    pub(super) fn take_queued(
        &mut self,
        framework_id: &str,
        executor_id: &str,
    ) -> (Vec<Vec<v1::TaskInfo>>, Vec<v1::TaskInfo>) {
        let Some(executor) = self.executor_mut(framework_id, executor_id) else {
            return (Vec::new(), Vec::new());
        };
        let groups = std::mem::take(&mut executor.groups);
        let groups: Vec<Vec<v1::TaskInfo>> = groups
            .into_iter()
            .map(|ids| ids.iter().filter_map(|id| executor.queued.shift_remove(id)).collect())
            .filter(|group: &Vec<_>| !group.is_empty())
            .collect();
        (groups, executor.queued.drain(..).map(|(_, task)| task).collect())
    }

    /// Takes the group in which a task waits for an executor, if it waits in one: a group is killed as a whole.
    pub(super) fn take_group_of(
        &mut self,
        framework_id: &str,
        executor_id: &str,
        task: &str,
    ) -> Option<Vec<String>> {
        let executor = self.executor_mut(framework_id, executor_id)?;
        let index = executor.groups.iter().position(|group| group.iter().any(|id| id == task))?;
        Some(executor.groups.remove(index))
    }
}
