//! ACCEPT: turning offers into tasks (`Master::_accept`).

use mesos::internal;
use mesos::resources::Resources;
use mesos::resources::operations::upgrade_operation;
use mesos::v1::scheduler::call;
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState, offer::operation::Type as OperationType};

use super::model::{Agent, Now};
use super::offers::refused_until;
use super::updates::Cause;
use super::{Master, validation};

impl Master {
    pub(super) fn accept(&mut self, now: Now, framework: &str, accept: call::Accept) {
        for launch in accept.operations.iter().filter(|own| own.r#type() == OperationType::Launch) {
            let has_tasks = launch.launch.as_ref().is_some_and(|own| !own.task_infos.is_empty());
            self.count(if has_tasks {
                "master/messages_launch_tasks"
            } else {
                "master/messages_decline_offers"
            });
        }
        let launches: Vec<v1::TaskInfo> = accept
            .operations
            .iter()
            .flat_map(|operation| {
                let launch = operation.launch.iter().flat_map(|launch| launch.task_infos.clone());
                launch.chain(
                    operation.launch_group.iter().flat_map(|group| group.task_group.tasks.clone()),
                )
            })
            .collect();
        let (agent, role, mut remaining) = match self.take_offers(framework, &accept.offer_ids) {
            Ok(taken) => taken,
            Err(message) => {
                self.drop_operations(
                    framework,
                    &accept.operations,
                    &format!("Operation attempted with invalid offers: {message}"),
                );
                for task in launches {
                    self.refuse_task(
                        now,
                        framework,
                        &task,
                        Cause {
                            state: TaskState::TaskDropped,
                            reason: Reason::InvalidOffers,
                            message: &format!("Task launched with invalid offers: {message}"),
                        },
                    );
                }
                return;
            }
        };
        let is_connected = self.agents.get(&agent).is_some_and(|agent| agent.connected);
        if !is_connected {
            self.drop_operations(framework, &accept.operations, "Agent disconnected");
            for task in launches {
                self.refuse_task(
                    now,
                    framework,
                    &task,
                    Cause {
                        state: TaskState::TaskDropped,
                        reason: Reason::AgentDisconnected,
                        message: "Agent disconnected",
                    },
                );
            }
            self.allocator.recover(framework, &role, &agent, &remaining, None);
            return;
        }
        let mut place = Place {
            framework: framework.to_owned(),
            agent: agent.clone(),
            role: role.clone(),
            shared: remaining.shared(),
            resized: Resources::new(),
        };
        self.count_of(framework, "offers", "accepted", accept.offer_ids.len() as u64);
        for mut operation in accept.operations {
            match operation.r#type() {
                OperationType::Launch | OperationType::LaunchGroup
                    if let Err(message) = check_launch(&mut operation) =>
                {
                    self.refuse_launch(now, framework, &operation, &message);
                }
                OperationType::Launch => {
                    for task in operation.launch.unwrap_or_default().task_infos {
                        self.launch(now, &place, task, &mut remaining);
                    }
                }
                OperationType::LaunchGroup => {
                    if let Some(group) = operation.launch_group {
                        self.launch_group(now, &place, group, &mut remaining);
                    }
                }
                OperationType::Unknown => {
                    tracing::warn!(framework, "unknown operation ignored");
                }
                _ => self.operate(&mut place, operation, &mut remaining),
            }
        }
        remaining.add(&place.resized);
        self.allocator.recover(
            framework,
            &role,
            &agent,
            &remaining,
            refused_until(now, accept.filters.as_ref(), self.settings.allocation_interval),
        );
        // What is left goes on at once, or a framework that launches piece by piece would wait for each.
        self.candidates.insert(agent);
    }

    /// All tasks of a launch that is not valid as a whole.
    fn refuse_launch(
        &mut self,
        now: Now,
        framework: &str,
        operation: &v1::offer::Operation,
        message: &str,
    ) {
        let cause = |reason| Cause { state: TaskState::TaskError, reason, message };
        for task in operation.launch.iter().flat_map(|launch| &launch.task_infos) {
            self.refuse_task(now, framework, task, cause(Reason::TaskInvalid));
        }
        for task in operation.launch_group.iter().flat_map(|group| &group.task_group.tasks) {
            self.refuse_task(now, framework, task, cause(Reason::TaskGroupInvalid));
        }
    }

    fn drop_operations(
        &mut self,
        framework: &str,
        operations: &[v1::offer::Operation],
        message: &str,
    ) {
        for operation in operations {
            let kind = operation.r#type();
            if !matches!(
                kind,
                OperationType::Launch | OperationType::LaunchGroup | OperationType::Unknown
            ) {
                self.drop_operation(framework, operation, message);
            }
        }
    }

    /// Further copies of shared volumes, for tasks that use them at the same time.
    fn share(&mut self, place: &Place, needed: &[v1::Resource], remaining: &mut Resources) {
        let mut missing = Resources::from_protos(needed).shared();
        missing.subtract(&remaining.shared());
        if !missing.is_empty() && place.has_shared(&missing) {
            remaining.add(&missing);
            self.allocator.hold(&place.framework, &place.role, &place.agent, &missing);
        }
    }

    /// Takes offers off the books: the agent and role that they are all of, and the sum of their resources.
    fn take_offers(
        &mut self,
        framework: &str,
        ids: &[v1::OfferId],
    ) -> Result<(String, String, Resources), String> {
        let mut found: Option<(String, String)> = None;
        let mut problem = ids.is_empty().then(|| "No offers specified".to_owned());
        for (index, id) in ids.iter().enumerate() {
            let known = self
                .offers
                .get(&id.value)
                .filter(|offer| offer.message.framework_id.value == framework);
            let Some(offer) = known else {
                problem = Some(format!("Offer {} is no longer valid", id.value));
                break;
            };
            let place = (offer.message.agent_id.value.clone(), offer.role.clone());
            if ids[..index].contains(id) {
                problem = Some(format!("Duplicate offer {} in offer list", id.value));
            } else if found.as_ref().is_some_and(|found| found.0 != place.0) {
                problem = Some("Aggregated offers must belong to one single agent".to_owned());
            } else if found.as_ref().is_some_and(|found| found.1 != place.1) {
                problem = Some("Aggregated offers must be allocated to the same role".to_owned());
            }
            found = Some(place);
        }
        let mut resources = Resources::new();
        for id in ids {
            if self
                .offers
                .get(&id.value)
                .is_none_or(|offer| offer.message.framework_id.value != framework)
            {
                continue;
            }
            if let Some(offer) = self.remove_offer(&id.value) {
                if problem.is_some() {
                    self.allocator.recover(
                        framework,
                        &offer.role,
                        &offer.message.agent_id.value,
                        &offer.resources,
                        None,
                    );
                }
                resources.add(&offer.resources);
            }
        }
        match (problem, found) {
            (None, Some((agent, role))) => Ok((agent, role, resources)),
            (problem, _) => Err(problem.unwrap_or_else(|| "No offers specified".to_owned())),
        }
    }

    fn launch(
        &mut self,
        now: Now,
        place: &Place,
        mut task: v1::TaskInfo,
        remaining: &mut Resources,
    ) {
        let (framework, agent) = (place.framework.as_str(), place.agent.as_str());
        task.resources = place.allocated(&task.resources);
        complete_health_check(&mut task);
        if let Some(executor) = &mut task.executor {
            place.complete_executor(executor);
            // Left out, as it was before there were others.
            if executor.framework_id.is_none() {
                executor.framework_id = Some(v1::FrameworkId { value: framework.to_owned() });
            }
        }
        self.share(place, &task.resources, remaining);
        let Some(known) = self.frameworks.get(framework) else { return };
        if let Err(message) = self.authorize_task(&known.info, &task) {
            let cause = Cause {
                state: TaskState::TaskError,
                reason: Reason::TaskUnauthorized,
                message: &message,
            };
            self.refuse_task(now, framework, &task, cause);
            return;
        }
        let Some(on) = self.agents.get(agent) else { return };
        let checked = validation::Place { framework: known, agent: on, remaining };
        match validation::task(checked, &task) {
            Ok(needed) => remaining.subtract(&needed),
            Err(message) => {
                let cause = Cause {
                    state: TaskState::TaskError,
                    reason: Reason::TaskInvalid,
                    message: &message,
                };
                self.refuse_task(now, framework, &task, cause);
                return;
            }
        }
        let (Some(known), Some(on)) = (self.frameworks.get_mut(framework), self.agents.get(agent))
        else {
            return;
        };
        let launch_executor = match &task.executor {
            None => true,
            Some(executor) => {
                let key = (agent.to_owned(), executor.executor_id.value.clone());
                known.executors.insert(key, executor.clone()).is_none()
            }
        };
        let executor = task.executor.as_ref().map(|executor| executor.executor_id.clone());
        let id = task.task_id.value.clone();
        known.tasks.insert(id.as_str(), staging(framework, &task, executor));
        let message = internal::RunTaskMessage {
            framework_id: None,
            framework: known.info.clone(),
            task,
            resource_version_uuids: resource_versions(on),
            pid: Some(known.pid_text()),
            launch_executor: Some(launch_executor),
        };
        let to = on.pid.clone();
        // Each task counts, those of a group as one.
        self.count_of(framework, "operations", "launch", 1);
        self.index_task(agent, framework, &id);
        self.send(&to, &message);
        self.notify_task_added(framework, &id);
    }

    fn launch_group(
        &mut self,
        now: Now,
        place: &Place,
        group: v1::offer::operation::LaunchGroup,
        remaining: &mut Resources,
    ) {
        let (framework, agent) = (place.framework.as_str(), place.agent.as_str());
        let mut executor = group.executor;
        place.complete_executor(&mut executor);
        let mut tasks = group.task_group.tasks;
        for task in &mut tasks {
            task.resources = place.allocated(&task.resources);
        }
        let needed: Vec<v1::Resource> =
            tasks.iter().flat_map(|task| task.resources.iter().cloned()).collect();
        self.share(place, &needed, remaining);
        let Some(known) = self.frameworks.get(framework) else { return };
        let refused = tasks.iter().find_map(|task| self.authorize_task(&known.info, task).err());
        if let Some(message) = refused {
            let cause = Cause {
                state: TaskState::TaskError,
                reason: Reason::TaskGroupUnauthorized,
                message: &message,
            };
            for task in tasks {
                self.refuse_task(now, framework, &task, cause);
            }
            return;
        }
        let Some(on) = self.agents.get(agent) else { return };
        let checked = validation::Place { framework: known, agent: on, remaining };
        match validation::group(checked, &executor, &tasks) {
            Ok(needed) => remaining.subtract(&needed),
            Err(message) => {
                let cause = Cause {
                    state: TaskState::TaskError,
                    reason: Reason::TaskGroupInvalid,
                    message: &message,
                };
                for task in tasks {
                    self.refuse_task(now, framework, &task, cause);
                }
                return;
            }
        }
        let (Some(known), Some(on)) = (self.frameworks.get_mut(framework), self.agents.get(agent))
        else {
            return;
        };
        let key = (agent.to_owned(), executor.executor_id.value.clone());
        let launch_executor = known.executors.insert(key, executor.clone()).is_none();
        for task in &mut tasks {
            task.executor = Some(executor.clone());
            known.tasks.insert(
                task.task_id.value.as_str(),
                staging(framework, task, Some(executor.executor_id.clone())),
            );
        }
        let ids: Vec<String> = tasks.iter().map(|task| task.task_id.value.clone()).collect();
        let message = internal::RunTaskGroupMessage {
            framework: known.info.clone(),
            executor,
            task_group: v1::TaskGroupInfo { tasks },
            resource_version_uuids: resource_versions(on),
            launch_executor: Some(launch_executor),
        };
        let to = on.pid.clone();
        self.count_of(framework, "operations", "launch_group", 1);
        self.send(&to, &message);
        for id in ids {
            self.index_task(agent, framework, &id);
            self.notify_task_added(framework, &id);
        }
    }
}

/// Checks what a launch's resources are by themselves, and brings them to the newest form.
fn check_launch(operation: &mut v1::offer::Operation) -> Result<(), String> {
    upgrade_operation(operation)?;
    if operation.id.is_some() {
        return Err(format!(
            "The `id` field cannot be set on {} operations",
            operation.r#type().as_str_name()
        ));
    }
    Ok(())
}

/// Where the tasks and operations of an ACCEPT go.
pub(super) struct Place {
    pub(super) framework: String,
    pub(super) agent: String,
    pub(super) role: String,
    /// What several tasks may use.
    pub(super) shared: Resources,
    /// Volumes that were resized: free after the ACCEPT.
    pub(super) resized: Resources,
}

impl Place {
    /// Whether one copy at least of each of these is for its tasks.
    fn has_shared(&self, wanted: &Resources) -> bool {
        wanted
            .to_protos()
            .iter()
            .all(|one| self.shared.contains(&Resources::from_protos(std::slice::from_ref(one))))
    }

    /// Resources as they are kept: in the newest form, marked as allocated.
    fn allocated(&self, resources: &[v1::Resource]) -> Vec<v1::Resource> {
        let mut resources = resources.to_vec();
        for resource in &mut resources {
            resource.allocation_info.get_or_insert_with(|| v1::resource::AllocationInfo {
                role: Some(self.role.clone()),
            });
        }
        resources
    }

    fn complete_executor(&self, executor: &mut v1::ExecutorInfo) {
        executor.resources = self.allocated(&executor.resources);
    }
}

/// Says of a health check what kind it is where that can be told, as before it had to be said.
fn complete_health_check(task: &mut v1::TaskInfo) {
    use v1::health_check::Type;
    let Some(check) = task.health_check.as_mut().filter(|check| check.r#type.is_none()) else {
        return;
    };
    check.r#type = match (&check.command, &check.http) {
        (Some(_), None) => Some(Type::Command as i32),
        (None, Some(_)) => Some(Type::Http as i32),
        _ => None,
    };
}

/// A task that was just handed to its agent.
fn staging(framework: &str, task: &v1::TaskInfo, executor_id: Option<v1::ExecutorId>) -> v1::Task {
    v1::Task {
        name: task.name.clone(),
        task_id: task.task_id.clone(),
        framework_id: v1::FrameworkId { value: framework.to_owned() },
        executor_id,
        agent_id: task.agent_id.clone(),
        state: TaskState::TaskStaging as i32,
        resources: task.resources.clone(),
        labels: task.labels.clone(),
        discovery: task.discovery.clone(),
        container: task.container.clone().map(Box::new),
        health_check: task.health_check.clone().map(Box::new),
        kill_policy: task.kill_policy,
        user: task.command.as_ref().and_then(|command| command.user.clone()),
        limits: task.limits.clone(),
        ..Default::default()
    }
}

fn resource_versions(on: &Agent) -> Vec<internal::ResourceVersionUuid> {
    let version = |uuid: &v1::Uuid| internal::ResourceVersionUuid {
        resource_provider_id: None,
        uuid: uuid.clone(),
    };
    on.resource_version.iter().map(version).collect()
}
