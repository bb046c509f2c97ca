//! The agent and the master: finding it, registering, being pinged.

use std::time::Duration;

use access::cram_md5::Authenticatee;
use mesos::internal as m;
use mesos::libprocess::{Upid, inbound::Header};
use mesos::resources::Resources;
use mesos::v1;
use prost::{DecodeError, Message as _, Name as _};

use super::authentication::Authentication;
use super::{Agent, Effect, Ending, Now, Registration, Verdict, capabilities};
use crate::checkpoint::paths;

/// Longest pause between two attempts to register.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Shortest one: an answer needs some time.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Brings resources to the form before Mesos 1.4, which any master reads, unless some of them have no such form.
fn in_the_old_form(mut all: Vec<&mut Vec<v1::Resource>>) {
    let old = all.iter().map(|own| {
        let old = Resources::from_protos(own).to_protos_unrefined();
        (old.len() == own.len()).then_some(old)
    });
    if let Some(old) = old.collect::<Option<Vec<_>>>() {
        for (own, old) in all.iter_mut().zip(old) {
            **own = old;
        }
    }
}

impl Agent {
    /// There is another leading master, or none.
    pub fn master_changed(&mut self, now: Now, master: Option<(Upid, String)>) {
        self.registration = Registration::Disconnected;
        self.ping_deadline = None;
        self.register_attempts = 0;
        self.register_due = now.mono;
        self.authentication = Authentication::Needed(0);
        match master {
            Some((pid, hostname)) => {
                tracing::info!(master = %pid, "new leading master");
                self.effects.push(Effect::Link(pid.clone()));
                self.master = Some(pid);
                self.master_hostname = Some(hostname);
            }
            None => {
                tracing::info!("no leading master");
                self.master = None;
                self.master_hostname = None;
            }
        }
    }

    /// The connection to a peer broke: if it is the master's, register again.
    pub fn peer_exited(&mut self, now: Now, address: std::net::SocketAddr) {
        if self.master.as_ref().is_some_and(|master| master.address == address)
            && self.registration == Registration::Running
        {
            tracing::warn!("connection to the master broke; registering again");
            self.registration = Registration::Disconnected;
            self.authentication = Authentication::Needed(0);
            self.register_attempts = 0;
            let pause = self.settings.registration_backoff_factor.mul_f64(self.entropy.fraction());
            self.register_due = now.mono + pause.max(BACKOFF_MIN);
        }
    }

    pub(super) fn register_when_due(&mut self, now: Now) {
        if self.ping_deadline.is_some_and(|deadline| now.mono >= deadline)
            && self.registration == Registration::Running
        {
            tracing::warn!(
                "no ping from the master for {:?}; registering again",
                self.ping_timeout
            );
            self.ping_deadline = None;
            self.registration = Registration::Disconnected;
            self.register_due = now.mono;
        }
        if self.registration == Registration::Running
            || self.master.is_none()
            || now.mono < self.register_due
        {
            return;
        }
        if !self.is_authenticated(now) {
            return;
        }
        let backoff = self.settings.registration_backoff_factor
            * 2u32.saturating_pow(self.register_attempts.min(16));
        self.register_attempts += 1;
        // Some time up to that: agents that lost the same master must not all come at once.
        let pause = backoff.min(BACKOFF_MAX).mul_f64(self.entropy.fraction());
        self.register_due = now.mono + pause.max(BACKOFF_MIN);
        if self.info.id.is_some() {
            // What the master asks for from before it hears this must not change what is told here.
            self.resource_version = self.entropy.uuid();
        }
        let uuid = v1::Uuid { value: self.resource_version.as_bytes().to_vec() };
        if self.info.id.is_none() {
            let message = m::RegisterSlaveMessage {
                slave: self.info.clone(),
                checkpointed_resources: self.total.checkpointed().to_protos(),
                version: Some(mesos::VERSION.to_owned()),
                agent_capabilities: capabilities(),
                resource_version_uuid: Some(uuid),
            };
            self.send(&message);
        } else {
            let message = self.reregistration(uuid);
            self.send(&message);
        }
    }

    fn reregistration(&self, uuid: v1::Uuid) -> m::ReregisterSlaveMessage {
        let (mut tasks, mut executors, mut frameworks) = (Vec::new(), Vec::new(), Vec::new());
        for (id, framework) in &self.frameworks {
            let mut info = framework.info.clone();
            info.id = Some(v1::FrameworkId { value: id.clone() });
            frameworks.push(info);
            for executor in framework.executors.values() {
                // Of a command's own executor the master knows nothing.
                if !executor.is_generated {
                    executors.push(executor.info.clone());
                }
                for task in executor.queued.values() {
                    tasks.push(super::tasks::task_of(task, id, v1::TaskState::TaskStaging));
                }
                for task in executor.tasks.values() {
                    tasks.push(self.reported(id, task));
                }
                tasks.extend(
                    executor
                        .completed
                        .iter()
                        .filter(|task| {
                            self.updates.has_pending(&(id.clone(), task.task_id.value.clone()))
                        })
                        .map(|task| self.reported(id, task)),
                );
            }
            for executor in &framework.completed {
                tasks.extend(
                    executor
                        .completed
                        .iter()
                        .filter(|task| {
                            self.updates.has_pending(&(id.clone(), task.task_id.value.clone()))
                        })
                        .map(|task| self.reported(id, task)),
                );
            }
        }
        let mut reported: Vec<&mut Vec<v1::Resource>> =
            tasks.iter_mut().map(|task: &mut v1::Task| &mut task.resources).collect();
        reported
            .extend(executors.iter_mut().map(|info: &mut v1::ExecutorInfo| &mut info.resources));
        in_the_old_form(reported);
        m::ReregisterSlaveMessage {
            slave: self.info.clone(),
            checkpointed_resources: self.total.checkpointed().to_protos(),
            tasks,
            executor_infos: executors,
            frameworks,
            version: Some(mesos::VERSION.to_owned()),
            agent_capabilities: capabilities(),
            resource_version_uuid: Some(uuid),
            ..Default::default()
        }
    }

    /// A task as the master gets it: what executors say to frameworks is none of its business.
    fn reported(&self, framework: &str, task: &v1::Task) -> v1::Task {
        let mut task = self.task_with_head(framework, task);
        task.statuses.iter_mut().for_each(|status| status.data = None);
        task
    }

    /// A task with the update that was sent on last: the one that waits for its acknowledgement, else the newest.
    pub fn task_with_head(&self, framework: &str, task: &v1::Task) -> v1::Task {
        let mut task = task.clone();
        if let Some((state, uuid)) =
            self.updates.head(&(framework.to_owned(), task.task_id.value.clone()))
        {
            task.status_update_state = Some(state as i32);
            task.status_update_uuid = Some(uuid);
        } else if let Some(last) = task.statuses.last() {
            task.status_update_state = Some(last.state);
            task.status_update_uuid.clone_from(&last.uuid);
        }
        task
    }

    /// Whether this is a process of the leading master.
    pub(super) fn is_master(&self, from: &Upid) -> bool {
        self.master.as_ref().is_some_and(|master| master.address == from.address)
    }

    /// A libprocess message to `slave(1)`.
    ///
    /// # Errors
    /// When the body is no such message; unknown names are ignored, as the original does.
    pub fn message(&mut self, now: Now, header: &Header, body: &[u8]) -> Result<(), DecodeError> {
        let is = |name: &str| header.name == name;
        if is(&m::PingSlaveMessage::full_name()) {
            self.ping(now, &header.from, m::PingSlaveMessage::decode(body)?);
            return Ok(());
        }
        if self.executor_message(now, header, body)? {
            return Ok(());
        }
        if is(&m::FrameworkToExecutorMessage::full_name()) {
            self.message_to_executor(&header.from, m::FrameworkToExecutorMessage::decode(body)?);
            return Ok(());
        }
        // Only the leading master gives orders.
        if !self.is_master(&header.from) {
            tracing::warn!(from = %header.from, name = header.name, "message ignored: not from the leading master");
            return Ok(());
        }
        if header.to == Authenticatee::PROCESS {
            return self.authentication_message(now, header, body);
        }
        if is(&m::SlaveRegisteredMessage::full_name()) {
            let message = m::SlaveRegisteredMessage::decode(body)?;
            self.registered(now, message.slave_id, message.connection);
        } else if is(&m::SlaveReregisteredMessage::full_name()) {
            let message = m::SlaveReregisteredMessage::decode(body)?;
            if self.info.id.as_ref() != Some(&message.slave_id) {
                self.abort(format!(
                    "the master registered this agent again as {}",
                    message.slave_id.value
                ));
                return Ok(());
            }
            self.reregistered(now, message);
        } else if is(&m::RunTaskMessage::full_name()) {
            self.run_task(now, m::RunTaskMessage::decode(body)?);
        } else if is(&m::RunTaskGroupMessage::full_name()) {
            self.run_task_group(now, m::RunTaskGroupMessage::decode(body)?);
        } else if is(&m::KillTaskMessage::full_name()) {
            self.kill_task(now, m::KillTaskMessage::decode(body)?);
        } else if is(&m::StatusUpdateAcknowledgementMessage::full_name()) {
            self.acknowledged(&m::StatusUpdateAcknowledgementMessage::decode(body)?);
        } else if is(&m::ApplyOperationMessage::full_name()) {
            self.apply_operation(now, m::ApplyOperationMessage::decode(body)?);
        } else if is(&m::AcknowledgeOperationStatusMessage::full_name()) {
            self.operation_acknowledged(&m::AcknowledgeOperationStatusMessage::decode(body)?);
        } else if is(&m::ReconcileOperationsMessage::full_name()) {
            self.reconcile_operations(&m::ReconcileOperationsMessage::decode(body)?);
        } else if is(&m::CheckpointResourcesMessage::full_name()) {
            self.checkpoint_resources(&m::CheckpointResourcesMessage::decode(body)?);
        } else if is(&m::ShutdownFrameworkMessage::full_name()) {
            self.shut_down_framework(
                now,
                &m::ShutdownFrameworkMessage::decode(body)?.framework_id.value,
            );
        } else if is(&m::ShutdownExecutorMessage::full_name()) {
            let message = m::ShutdownExecutorMessage::decode(body)?;
            if let (Some(framework), Some(executor)) = (message.framework_id, message.executor_id) {
                self.shut_down_executor(now, &framework.value, &executor.value);
            }
        } else if is(&m::UpdateFrameworkMessage::full_name()) {
            let message = m::UpdateFrameworkMessage::decode(body)?;
            let id = message.framework_id.value;
            if let (true, Some(info)) = (self.frameworks.contains_key(&id), message.framework_info)
            {
                self.learn_framework(&id, info, message.pid);
            }
        } else if is(&m::DrainSlaveMessage::full_name()) {
            self.drain(now, m::DrainSlaveMessage::decode(body)?.config);
        } else if is(&m::ShutdownMessage::full_name()) {
            let reason = m::ShutdownMessage::decode(body)?.message.unwrap_or_default();
            tracing::warn!(reason, "the master told this agent to shut down: ending all tasks");
            let why = format!("the master told this agent to shut down: {reason}");
            self.leave(now, Ending::Failure(why));
        } else {
            tracing::debug!(from = %header.from, name = header.name, "message ignored");
        }
        Ok(())
    }

    fn ping(&mut self, now: Now, from: &Upid, message: m::PingSlaveMessage) {
        self.effects.push(Effect::Send(from.clone(), m::PongSlaveMessage::full_name(), Vec::new()));
        self.ping_deadline = Some(now.mono + self.ping_timeout);
        if !message.connected && self.registration == Registration::Running {
            tracing::info!("the master says that this agent is disconnected; registering again");
            self.registration = Registration::Disconnected;
            self.register_attempts = 0;
            self.register_due = now.mono;
        }
    }

    fn connected(&mut self, now: Now, connection: Option<m::MasterSlaveConnection>) {
        if let Some(seconds) = connection
            .and_then(|connection| connection.total_ping_timeout_seconds)
            .filter(|seconds| (1.0..1e6).contains(seconds))
        {
            self.ping_timeout = Duration::from_secs_f64(seconds);
        }
        self.ping_deadline = Some(now.mono + self.ping_timeout);
        self.registration = Registration::Running;
        self.register_attempts = 0;
        self.updates.resume();
        self.resume_operations();
        if let Some(id) = self.info.id.clone() {
            // A fixed amount is told once: what of it is in use is a part of it.
            let is_more = !self.settings.oversubscribed.is_empty();
            let message = m::UpdateSlaveMessage {
                slave_id: id,
                update_oversubscribed_resources: Some(is_more),
                oversubscribed_resources: self.settings.oversubscribed.clone(),
                operations: Some(m::update_slave_message::Operations {
                    operations: self.operations().cloned().collect(),
                }),
                resource_version_uuid: Some(v1::Uuid {
                    value: self.resource_version.as_bytes().to_vec(),
                }),
                resource_providers: Some(m::update_slave_message::ResourceProviders::default()),
            };
            self.send(&message);
        }
    }

    fn registered(
        &mut self,
        now: Now,
        id: v1::AgentId,
        connection: Option<m::MasterSlaveConnection>,
    ) {
        match self.id() {
            Some(own) if own != id.value => {
                let own = own.to_owned();
                self.abort(format!(
                    "registered, but got the wrong id: {} (expected {own})",
                    id.value
                ));
                return;
            }
            Some(_) => {}
            None => {
                tracing::info!(agent = id.value, "registered");
                let directory = paths::agent(&self.meta(), &id.value);
                self.info.id = Some(id);
                let info = self.info.clone();
                // Whoever waited for what an agent before did on this disk heard that it is gone.
                self.forget_operations_of_others();
                self.write(&directory.join("slave.info"), &info);
                self.effects.push(Effect::Symlink(directory, self.meta().join("slaves/latest")));
            }
        }
        self.connected(now, connection);
    }

    fn reregistered(&mut self, now: Now, message: m::SlaveReregisteredMessage) {
        tracing::info!("registered again");
        self.connected(now, message.connection);
        for reconciliation in message.reconciliations {
            let framework = reconciliation.framework_id.value;
            // One that is not known here may be known to the master.
            let info = self.frameworks.get(&framework).map(|known| known.info.clone());
            let info = info.or(reconciliation.framework).unwrap_or_default();
            for status in reconciliation.statuses {
                let known = self
                    .frameworks
                    .get(&framework)
                    .into_iter()
                    .flat_map(|known| known.executors.values())
                    .any(|executor| {
                        executor.tasks.contains_key(&status.task_id.value)
                            || executor.queued.contains_key(&status.task_id.value)
                    });
                if !known
                    && !self.updates.has_pending(&(framework.clone(), status.task_id.value.clone()))
                {
                    let verdict = Verdict::new(
                        v1::TaskState::TaskDropped,
                        v1::task_status::Reason::Reconciliation,
                        "Reconciliation: task unknown to the agent",
                    );
                    self.refuse(now, &info, &framework, None, &status.task_id.value, &verdict);
                }
            }
        }
    }

    /// Leaves the master for good (SIGUSR1), with all that runs.
    pub fn unregister(&mut self, now: Now) {
        if let Some(id) = self.info.id.clone() {
            self.send(&m::UnregisterSlaveMessage { slave_id: id });
        }
        self.leave(now, Ending::Done);
    }

    fn abort(&mut self, reason: String) {
        self.effects.push(Effect::Abort(Ending::Failure(reason)));
    }
}
