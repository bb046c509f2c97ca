//! Calls of frameworks (`/api/v1/scheduler`): subscribing, leaving, and handing the rest on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use indexmap::IndexMap;
use mesos::internal;
use mesos::v1::scheduler::{Call, Event, call, event};
use mesos::v1::{self, framework_info::capability::Type as Capability};

use super::model::{Connection, Framework, Now, StreamId, roles_of};
use super::{Effect, HEARTBEAT_SECONDS, Master};

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

fn invalid(text: &str) -> CallError {
    CallError::BadRequest(format!("Failed to validate scheduler::Call: {text}"))
}

impl Master {
    /// Checks a SUBSCRIBE before a stream is opened for it.
    ///
    /// # Errors
    /// What the original answers with 400.
    pub fn check_subscribe(call: &Call) -> Result<(), CallError> {
        let Some(subscribe) = &call.subscribe else { return Err(invalid("Expecting 'subscribe' to be present")) };
        let own = subscribe.framework_info.id.as_ref().filter(|id| !id.value.is_empty());
        if call.framework_id.as_ref() != own {
            return Err(invalid("'framework_id' differs from 'subscribe.framework_info.id'"));
        }
        Ok(())
    }

    /// Opens a framework's stream. Refusals of the framework itself are an ERROR event, after which the stream ends.
    pub fn subscribe(&mut self, now: Now, stream: StreamId, subscribe: call::Subscribe) {
        self.count("master/messages_register_framework");
        let mut info = subscribe.framework_info;
        if let Err(message) = self.check_framework(&info) {
            self.refuse(stream, message);
            return;
        }
        let given = info.id.as_ref().map(|id| id.value.clone()).filter(|id| !id.is_empty());
        let id = given.unwrap_or_else(|| {
            let id = mesos::ids::framework(&self.info.id, self.next_framework);
            self.next_framework += 1;
            id
        });
        info.id = Some(v1::FrameworkId { value: id.clone() });
        let suppressed: BTreeSet<String> = subscribe.suppressed_roles.into_iter().collect();
        let roles = roles_of(&info);
        if let Some(known) = self.frameworks.get_mut(&id) {
            let before = std::mem::replace(&mut known.connection, Connection::Http(stream));
            known.info = info;
            known.reregistered = now.wall;
            known.heartbeat_due = now.mono;
            if let Connection::Http(old) = before {
                self.effects.push(Effect::Event(old, Box::new(error_event("Framework failed over".to_owned()))));
                self.effects.push(Effect::Close(old));
            }
            self.rescind_offers_of_framework(&id, false);
            tracing::info!(framework = id, "framework subscribed again");
        } else {
            tracing::info!(framework = id, name = info.name, "framework subscribed");
            self.frameworks.insert(id.clone(), Framework {
                id: id.clone(),
                info,
                connection: Connection::Http(stream),
                registered: now.wall,
                reregistered: now.wall,
                unregistered: 0.0,
                tasks: IndexMap::new(),
                completed: VecDeque::new(),
                unreachable: IndexMap::new(),
                executors: BTreeMap::new(),
                offers: BTreeSet::new(),
                heartbeat_due: now.mono,
            });
        }
        self.allocator.set_framework(&id, roles, suppressed);
        self.allocation_wanted = true;
        let subscribed = event::Subscribed {
            framework_id: v1::FrameworkId { value: id.clone() },
            heartbeat_interval_seconds: Some(HEARTBEAT_SECONDS),
            master_info: Some(self.info.clone()),
        };
        self.event(&id, Event { r#type: Some(event::Type::Subscribed as i32), subscribed: Some(subscribed), ..Default::default() });
        self.heartbeat(now, &id);
        // Agents that run its tasks learn what changed of it.
        let agents: BTreeSet<String> = self.frameworks[&id].tasks.values().map(|task| task.agent_id.value.clone()).collect();
        for agent in agents {
            if let Some(pid) = self.agents.get(&agent).map(|agent| agent.pid.clone()) {
                self.tell_agent_of_framework(&pid, &id);
            }
        }
    }

    pub(super) fn heartbeat(&mut self, now: Now, id: &str) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.heartbeat_due = now.mono + Duration::from_secs_f64(HEARTBEAT_SECONDS);
        }
        self.event(id, Event { r#type: Some(event::Type::Heartbeat as i32), ..Default::default() });
    }

    fn check_framework(&self, info: &v1::FrameworkInfo) -> Result<(), String> {
        let multi_role = info.capabilities.iter().any(|own| own.r#type == Some(Capability::MultiRole as i32));
        if multi_role && info.role.is_some() {
            return Err("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".to_owned());
        }
        if !multi_role && !info.roles.is_empty() {
            return Err("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".to_owned());
        }
        for role in roles_of(info) {
            check_role(&role)?;
        }
        if let Some(id) = info.id.as_ref().filter(|id| !id.value.is_empty()) {
            mesos::ids::validate(&id.value).map_err(|reason| format!("FrameworkInfo.id is invalid: {reason}"))?;
            if self.completed_frameworks.contains_key(&id.value) {
                return Err("Framework has been removed".to_owned());
            }
        }
        if info.user == "root" && !self.settings.root_submissions {
            return Err("User 'root' is not allowed to run frameworks without root submissions support".to_owned());
        }
        Ok(())
    }

    fn refuse(&mut self, stream: StreamId, message: String) {
        tracing::info!(message, "framework refused");
        self.effects.push(Effect::Event(stream, Box::new(error_event(message))));
        self.effects.push(Effect::Close(stream));
    }

    /// Any call but SUBSCRIBE.
    ///
    /// # Errors
    /// What the original answers with 400, 403 or 501.
    pub fn call(&mut self, now: Now, stream: Option<&str>, call: Call) -> Result<(), CallError> {
        use call::Type as T;
        let Some(kind) = call.r#type.map(|_| call.r#type()).filter(|kind| *kind != T::Unknown) else {
            return Err(invalid("Expecting 'type' to be present"));
        };
        let Some(id) = call.framework_id.as_ref().map(|id| id.value.clone()) else {
            return Err(invalid("Expecting 'framework_id' to be present"));
        };
        let payload = |present: bool, name: &str| if present { Ok(()) } else { Err(invalid(&format!("Expecting '{name}' to be present"))) };
        match kind {
            T::Accept => payload(call.accept.is_some(), "accept")?,
            T::Decline => payload(call.decline.is_some(), "decline")?,
            T::Kill => payload(call.kill.is_some(), "kill")?,
            T::Shutdown => payload(call.shutdown.is_some(), "shutdown")?,
            T::Acknowledge => {
                payload(call.acknowledge.is_some(), "acknowledge")?;
                let uuid = call.acknowledge.as_ref().map(|acknowledge| acknowledge.uuid.len());
                if uuid != Some(16) {
                    return Err(invalid("Not a valid UUID"));
                }
            }
            T::Reconcile => payload(call.reconcile.is_some(), "reconcile")?,
            T::Message => payload(call.message.is_some(), "message")?,
            T::Request => payload(call.request.is_some(), "request")?,
            T::UpdateFramework => payload(call.update_framework.is_some(), "update_framework")?,
            T::AcceptInverseOffers => payload(call.accept_inverse_offers.is_some(), "accept_inverse_offers")?,
            T::DeclineInverseOffers => payload(call.decline_inverse_offers.is_some(), "decline_inverse_offers")?,
            T::AcknowledgeOperationStatus => payload(call.acknowledge_operation_status.is_some(), "acknowledge_operation_status")?,
            T::ReconcileOperations => payload(call.reconcile_operations.is_some(), "reconcile_operations")?,
            _ => {}
        }
        let Some(framework) = self.frameworks.get(&id) else {
            return Err(CallError::BadRequest("Framework cannot be found".to_owned()));
        };
        let Some(current) = framework.stream() else {
            return Err(CallError::Forbidden("Framework is not subscribed".to_owned()));
        };
        match stream {
            None => {
                return Err(CallError::BadRequest("All non-subscribe calls should include the 'Mesos-Stream-Id' header".to_owned()));
            }
            Some(given) if given != current.0.to_string() => {
                return Err(CallError::BadRequest(format!(
                    "The stream ID '{given}' included in this request didn't match the stream ID currently associated with framework ID {id}"
                )));
            }
            Some(_) => {}
        }
        match kind {
            T::Teardown => self.remove_framework(now, &id),
            T::Accept => {
                self.count("master/messages_launch_tasks");
                self.accept(now, &id, call.accept.unwrap_or_default());
            }
            T::Decline => {
                self.count("master/messages_decline_offers");
                let decline = call.decline.unwrap_or_default();
                self.decline(now, &id, &decline.offer_ids, decline.filters.as_ref());
            }
            T::Revive => {
                self.count("master/messages_revive_offers");
                self.allocator.revive(&id, &call.revive.unwrap_or_default().roles);
                self.allocation_wanted = true;
            }
            T::Suppress => {
                self.count("master/messages_suppress_offers");
                self.allocator.suppress(&id, &call.suppress.unwrap_or_default().roles);
            }
            T::Kill => {
                self.count("master/messages_kill_task");
                self.kill(now, &id, call.kill.unwrap_or_default());
            }
            T::Shutdown => {
                let shutdown = call.shutdown.unwrap_or_default();
                if let Some(pid) = self.agents.get(&shutdown.agent_id.value).map(|agent| agent.pid.clone()) {
                    let message = internal::ShutdownExecutorMessage {
                        executor_id: Some(shutdown.executor_id),
                        framework_id: Some(v1::FrameworkId { value: id }),
                    };
                    self.send(&pid, &message);
                }
            }
            T::Acknowledge => {
                self.count("master/messages_status_update_acknowledgement");
                self.acknowledge(&id, call.acknowledge.unwrap_or_default());
            }
            T::Reconcile => {
                self.count("master/messages_reconcile_tasks");
                self.reconcile(now, &id, call.reconcile.unwrap_or_default());
            }
            T::Message => {
                self.count("master/messages_framework_to_executor");
                let message = call.message.unwrap_or_default();
                if let Some(pid) = self.agents.get(&message.agent_id.value).map(|agent| agent.pid.clone()) {
                    let message = internal::FrameworkToExecutorMessage {
                        slave_id: message.agent_id,
                        framework_id: v1::FrameworkId { value: id },
                        executor_id: message.executor_id,
                        data: message.data,
                    };
                    self.send(&pid, &message);
                }
            }
            // The original's default allocator takes requests and does nothing with them.
            T::Request => self.count("master/messages_resource_request"),
            T::Subscribe | T::Unknown => return Err(invalid("Unexpected 'SUBSCRIBE' call")),
            T::UpdateFramework => self.update_framework(&id, call.update_framework.unwrap_or_default())?,
            T::AcceptInverseOffers | T::DeclineInverseOffers | T::AcknowledgeOperationStatus | T::ReconcileOperations => {
                return Err(CallError::NotImplemented(format!("{} is not supported by this master yet", kind.as_str_name())));
            }
        }
        Ok(())
    }

    fn update_framework(&mut self, id: &str, update: call::UpdateFramework) -> Result<(), CallError> {
        self.check_framework(&update.framework_info).map_err(CallError::BadRequest)?;
        let Some(framework) = self.frameworks.get_mut(id) else { return Ok(()) };
        let old = &framework.info;
        let mut info = update.framework_info;
        if info.user != old.user || info.checkpoint() != old.checkpoint() || info.principal != old.principal {
            return Err(CallError::BadRequest("Updating 'FrameworkInfo.user', 'checkpoint' or 'principal' is unsupported".to_owned()));
        }
        info.id = Some(v1::FrameworkId { value: id.to_owned() });
        let roles = roles_of(&info);
        framework.info = info;
        self.allocator.set_framework(id, roles, update.suppressed_roles.into_iter().collect());
        self.allocation_wanted = true;
        Ok(())
    }

    /// A stream of events has ended on the framework's side.
    pub fn stream_closed(&mut self, now: Now, stream: StreamId) {
        let Some(id) = self.frameworks.values().find(|framework| framework.stream() == Some(stream)).map(|framework| framework.id.clone()) else { return };
        tracing::info!(framework = id, "framework disconnected");
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.connection = Connection::Lost(now.mono);
        }
        self.allocator.deactivate_framework(&id);
        self.rescind_offers_of_framework(&id, false);
    }

    /// A framework is removed for good: its tasks are killed, its id can't be used again.
    pub fn remove_framework(&mut self, now: Now, id: &str) {
        tracing::info!(framework = id, "framework removed");
        self.rescind_offers_of_framework(id, false);
        let Some(mut framework) = self.frameworks.shift_remove(id) else { return };
        let agents: BTreeSet<String> =
            framework.tasks.values().map(|task| task.agent_id.value.clone()).chain(framework.executors.keys().map(|(agent, _)| agent.clone())).collect();
        for agent in agents {
            if let Some(pid) = self.agents.get(&agent).map(|agent| agent.pid.clone()) {
                self.send(&pid, &internal::ShutdownFrameworkMessage { framework_id: v1::FrameworkId { value: id.to_owned() } });
            }
        }
        for (_, mut task) in std::mem::take(&mut framework.tasks) {
            let role = super::agents::role_of(&task.resources).unwrap_or_else(|| "*".to_owned());
            if !super::model::is_terminal(task.state()) {
                self.allocator.recover(id, &role, &task.agent_id.value, &mesos::resources::Resources::from_protos(&task.resources), None);
                task.set_state(v1::TaskState::TaskKilled);
            }
            framework.completed.push_back(task);
        }
        for ((agent, _), executor) in std::mem::take(&mut framework.executors) {
            let role = super::agents::role_of(&executor.resources).unwrap_or_else(|| "*".to_owned());
            self.allocator.recover(id, &role, &agent, &mesos::resources::Resources::from_protos(&executor.resources), None);
        }
        if let Some(stream) = framework.stream() {
            self.effects.push(Effect::Close(stream));
        }
        framework.connection = Connection::Lost(now.mono);
        framework.unregistered = now.wall;
        self.allocator.remove_framework(id);
        self.completed_frameworks.insert(id.to_owned(), framework);
        while self.completed_frameworks.len() > self.settings.max_completed_frameworks {
            self.completed_frameworks.shift_remove_index(0);
        }
        self.allocation_wanted = true;
    }
}

fn error_event(message: String) -> Event {
    Event { r#type: Some(event::Type::Error as i32), error: Some(event::Error { message }), ..Default::default() }
}

/// Mesos' rules for role names (`common/roles.cpp`).
fn check_role(role: &str) -> Result<(), String> {
    if role == "*" {
        return Ok(());
    }
    if role.is_empty() {
        return Err("Empty role name is invalid".to_owned());
    }
    if role.starts_with('/') {
        return Err(format!("Role '{role}' cannot start with a slash"));
    }
    if role.ends_with('/') {
        return Err(format!("Role '{role}' cannot end with a slash"));
    }
    for part in role.split('/') {
        if part.is_empty() {
            return Err(format!("Role '{role}' cannot contain two adjacent slashes"));
        }
        if matches!(part, "." | ".." | "*") {
            return Err(format!("Role '{role}' cannot include '{part}' as a component"));
        }
        if part.starts_with('-') {
            return Err(format!("Role component '{part}' is invalid because it begins with a dash"));
        }
        if part.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(format!("Role '{role}' contains invalid characters"));
        }
    }
    Ok(())
}
