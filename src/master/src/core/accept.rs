//! ACCEPT: turning offers into tasks (`Master::_accept`).

use mesos::internal;
use mesos::libprocess::Upid;
use mesos::resources::Resources;
use mesos::v1::scheduler::call;
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState, offer::operation::Type as OperationType};

use super::Master;
use super::model::Now;
use super::offers::refused_until;

impl Master {
    pub(super) fn accept(&mut self, now: Now, framework: &str, accept: call::Accept) {
        let launches: Vec<v1::TaskInfo> = accept
            .operations
            .iter()
            .flat_map(|operation| {
                let launch = operation.launch.iter().flat_map(|launch| launch.task_infos.clone());
                launch.chain(operation.launch_group.iter().flat_map(|group| group.task_group.tasks.clone()))
            })
            .collect();
        let (agent, role, mut remaining) = match self.take_offers(framework, &accept.offer_ids) {
            Ok(taken) => taken,
            Err(message) => {
                for task in launches {
                    self.refuse_task(now, framework, &task, TaskState::TaskDropped, Reason::InvalidOffers, &format!("Task launched with invalid offers: {message}"));
                }
                return;
            }
        };
        let is_connected = self.agents.get(&agent).is_some_and(|agent| agent.connected);
        if !is_connected {
            for task in launches {
                self.refuse_task(now, framework, &task, TaskState::TaskDropped, Reason::AgentDisconnected, "Agent disconnected");
            }
            self.allocator.recover(framework, &role, &agent, &remaining, None);
            return;
        }
        for operation in accept.operations {
            match operation.r#type() {
                OperationType::Launch => {
                    for task in operation.launch.unwrap_or_default().task_infos {
                        self.launch(now, framework, &agent, &role, task, &mut remaining);
                    }
                }
                OperationType::LaunchGroup => {
                    for task in operation.launch_group.unwrap_or_default().task_group.tasks {
                        self.refuse_task(now, framework, &task, TaskState::TaskError, Reason::TaskGroupInvalid, "Task groups are not supported by this master yet");
                    }
                }
                other => tracing::warn!(framework, operation = other.as_str_name(), "operation dropped: not supported by this master yet"),
            }
        }
        self.allocator.recover(framework, &role, &agent, &remaining, refused_until(now, accept.filters.as_ref()));
        self.allocation_wanted = true;
    }

    /// Takes offers off the books: the agent and role that they are all of, and the sum of their resources.
    fn take_offers(&mut self, framework: &str, ids: &[v1::OfferId]) -> Result<(String, String, Resources), String> {
        let mut found: Option<(String, String)> = None;
        let mut problem = ids.is_empty().then(|| "No offers specified".to_owned());
        for (index, id) in ids.iter().enumerate() {
            let known = self.offers.get(&id.value).filter(|offer| offer.message.framework_id.value == framework);
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
            if self.offers.get(&id.value).is_none_or(|offer| offer.message.framework_id.value != framework) {
                continue;
            }
            if let Some(offer) = self.remove_offer(&id.value) {
                if problem.is_some() {
                    self.allocator.recover(framework, &offer.role, &offer.message.agent_id.value, &offer.resources, None);
                }
                resources.add(&offer.resources);
            }
        }
        match (problem, found) {
            (None, Some((agent, role))) => Ok((agent, role, resources)),
            (problem, _) => Err(problem.unwrap_or_else(|| "No offers specified".to_owned())),
        }
    }

    fn launch(&mut self, now: Now, framework: &str, agent: &str, role: &str, mut task: v1::TaskInfo, remaining: &mut Resources) {
        for resource in task.resources.iter_mut().chain(task.executor.iter_mut().flat_map(|executor| &mut executor.resources)) {
            resource.allocation_info.get_or_insert_with(|| v1::resource::AllocationInfo { role: Some(role.to_owned()) });
        }
        if let Some(executor) = &mut task.executor {
            executor.framework_id.get_or_insert_with(|| v1::FrameworkId { value: framework.to_owned() });
        }
        let needed = match self.check_task(framework, agent, &task, remaining) {
            Ok(needed) => needed,
            Err(message) => {
                self.refuse_task(now, framework, &task, TaskState::TaskError, Reason::TaskInvalid, &message);
                return;
            }
        };
        remaining.subtract(&needed);
        let (Some(known), Some(on)) = (self.frameworks.get_mut(framework), self.agents.get(agent)) else { return };
        let executor_id = task.executor.as_ref().map(|executor| executor.executor_id.clone());
        let launch_executor = match &task.executor {
            None => true,
            Some(executor) => {
                let key = (agent.to_owned(), executor.executor_id.value.clone());
                known.executors.insert(key, executor.clone()).is_none()
            }
        };
        known.tasks.insert(task.task_id.value.clone(), v1::Task {
            name: task.name.clone(),
            task_id: task.task_id.clone(),
            framework_id: v1::FrameworkId { value: framework.to_owned() },
            executor_id,
            agent_id: task.agent_id.clone(),
            state: TaskState::TaskStaging as i32,
            resources: task.resources.clone(),
            labels: task.labels.clone(),
            discovery: task.discovery.clone(),
            container: task.container.clone(),
            health_check: task.health_check.clone(),
            kill_policy: task.kill_policy,
            user: task.command.as_ref().and_then(|command| command.user.clone()),
            limits: task.limits.clone(),
            ..Default::default()
        });
        let message = internal::RunTaskMessage {
            framework_id: None,
            framework: known.info.clone(),
            task,
            resource_version_uuids: on
                .resource_version
                .iter()
                .map(|uuid| internal::ResourceVersionUuid { resource_provider_id: None, uuid: uuid.clone() })
                .collect(),
            pid: Some(Upid::none().to_string()),
            launch_executor: Some(launch_executor),
        };
        let to = on.pid.clone();
        self.send(&to, &message);
    }

    /// Checks a task (`master/validation.cpp`); what it and a new executor need.
    fn check_task(&self, framework: &str, agent: &str, task: &v1::TaskInfo, remaining: &Resources) -> Result<Resources, String> {
        let id = &task.task_id.value;
        mesos::ids::validate(id).map_err(|reason| format!("TaskID '{id}' is invalid: {reason}"))?;
        let known = self.frameworks.get(framework).ok_or("Framework is unknown")?;
        if known.tasks.contains_key(id) || known.unreachable.contains_key(id) {
            return Err(format!("Task has duplicate ID: {id}"));
        }
        if task.agent_id.value != agent {
            return Err(format!("Task uses invalid agent {} while agent {agent} is expected", task.agent_id.value));
        }
        if task.executor.is_some() == task.command.is_some() {
            return Err("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present".to_owned());
        }
        if task.resources.is_empty() {
            return Err("Task uses no resources".to_owned());
        }
        Resources::validate(&task.resources).map_err(|reason| format!("Task uses invalid resources: {reason}"))?;
        if let Some(command) = &task.command {
            for variable in command.environment.iter().flat_map(|environment| &environment.variables) {
                if variable.value.is_none() && variable.secret.is_none() {
                    return Err(format!("Environment variable '{}' of type 'VALUE' must have a value set", variable.name));
                }
            }
        }
        let mut needed = Resources::from_protos(&task.resources);
        if needed.is_empty() {
            return Err("Task uses no resources".to_owned());
        }
        if let Some(executor) = &task.executor {
            let id = &executor.executor_id.value;
            mesos::ids::validate(id).map_err(|reason| format!("ExecutorID '{id}' is invalid: {reason}"))?;
            if executor.framework_id.as_ref().is_some_and(|own| own.value != framework) {
                return Err("ExecutorInfo has an invalid FrameworkID".to_owned());
            }
            if executor.command.is_none() {
                return Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned());
            }
            Resources::validate(&executor.resources).map_err(|reason| format!("Executor uses invalid resources: {reason}"))?;
            match known.executors.get(&(agent.to_owned(), id.clone())) {
                None => needed.add(&Resources::from_protos(&executor.resources)),
                Some(running) if running == executor => {}
                Some(_) => return Err(format!("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID '{id}'")),
            }
        }
        if !remaining.contains(&needed) {
            return Err(format!("Total resources {needed} required by task and its executor is more than available {remaining}"));
        }
        Ok(needed)
    }
}
