//! Messages from agents: registration, re-registration, leaving, pongs.

use mesos::internal::{self, registry};
use mesos::libprocess::{Upid, inbound::Header};
use mesos::v1::{self, scheduler::event};
use prost::{DecodeError, Message, Name};

use super::Master;
use super::model::{Away, Connection, Framework, Now};
use super::updates::Cause;

impl Master {
    /// A libprocess message to `master`, or a pong to one of its observers.
    ///
    /// # Errors
    /// When the body is no such message; unknown names are ignored, as the original does.
    pub fn message(&mut self, now: Now, header: &Header, body: &[u8]) -> Result<(), DecodeError> {
        if self.admits(now, header, body) { self.take(now, header, body) } else { Ok(()) }
    }

    /// As [`Master::message`], when it is the message's turn.
    pub(super) fn take(
        &mut self,
        now: Now,
        header: &Header,
        body: &[u8],
    ) -> Result<(), DecodeError> {
        use internal as m;
        let from = &header.from;
        let is = |name: &str| header.name == name;
        if is(&m::PongSlaveMessage::full_name()) {
            self.pong(from);
        } else if is(&m::RegisterSlaveMessage::full_name()) {
            self.count("master/messages_register_slave");
            self.register(now, from, m::RegisterSlaveMessage::decode(body)?);
        } else if is(&m::ReregisterSlaveMessage::full_name()) {
            self.count("master/messages_reregister_slave");
            self.reregister(now, from, m::ReregisterSlaveMessage::decode(body)?);
        } else if is(&m::UnregisterSlaveMessage::full_name()) {
            self.count("master/messages_unregister_slave");
            self.unregister(now, from, &m::UnregisterSlaveMessage::decode(body)?);
        } else if is(&m::UpdateSlaveMessage::full_name()) {
            self.count("master/messages_update_slave");
            self.update_agent(m::UpdateSlaveMessage::decode(body)?);
        } else if is(&m::UpdateOperationStatusMessage::full_name()) {
            self.count("master/messages_operation_status_update");
            self.operation_status(now, m::UpdateOperationStatusMessage::decode(body)?);
        } else if is(&m::StatusUpdateMessage::full_name()) {
            self.count("master/messages_status_update");
            self.status_update(m::StatusUpdateMessage::decode(body)?);
        } else if is(&m::ExitedExecutorMessage::full_name()) {
            self.count("master/messages_exited_executor");
            self.exited_executor(&m::ExitedExecutorMessage::decode(body)?);
        } else if is(&m::ExecutorToFrameworkMessage::full_name()) {
            self.count("master/messages_executor_to_framework");
            let message = m::ExecutorToFrameworkMessage::decode(body)?;
            self.event(
                &message.framework_id.value,
                v1::scheduler::Event {
                    r#type: Some(event::Type::Message as i32),
                    message: Some(event::Message {
                        agent_id: message.slave_id,
                        executor_id: message.executor_id,
                        data: message.data,
                    }),
                    ..Default::default()
                },
            );
        } else if !self.authentication_message(now, header, body)?
            && !self.driver_message(now, header, body)?
        {
            tracing::debug!(%from, name = header.name, "message ignored");
            self.count("master/dropped_messages");
        }
        Ok(())
    }

    fn unregister(&mut self, now: Now, from: &Upid, message: &internal::UnregisterSlaveMessage) {
        let id = message.slave_id.value.clone();
        if self.agents.get(&id).is_some_and(|agent| agent.pid == *from) {
            self.remove_agent(now, &id, "the agent unregistered");
            self.count("master/slave_removals/reason_unregistered");
        }
    }

    /// An agent is removed for good: its tasks are lost.
    pub(super) fn remove_agent(&mut self, now: Now, id: &str, reason: &str) {
        tracing::info!(agent = id, reason, "agent removed");
        self.count("master/slave_removals");
        self.strike_off(id);
        self.store();
        self.rescind_offers_of_agent(id);
        self.tell_of_operations_on(
            id,
            v1::OperationState::OperationGoneByOperator,
            &format!("Agent removed: {reason}"),
        );
        let hostname = self.agents.get(id).map_or("", |agent| agent.info.hostname.as_str());
        let message = format!("Agent {hostname} removed: {reason}");
        let cause = Cause {
            // To all frameworks, whatever states they know (`Master::_removeSlave`).
            state: v1::TaskState::TaskLost,
            reason: v1::task_status::Reason::AgentRemoved,
            message: &message,
        };
        for (framework, task) in self.tasks_on(id) {
            self.end_task(now, &framework, &task, cause);
        }
        // Of agents that are unreachable or gone, subscribers hear by what becomes of their tasks.
        self.notify_agent_removed(id);
        self.forget_agent(id);
    }

    /// An agent can't be reached: its tasks may still run.
    pub(super) fn mark_unreachable(&mut self, now: Now, id: &str, message: &str) {
        tracing::warn!(agent = id, message, "agent is unreachable");
        self.count("master/slave_unreachable_completed");
        self.count("master/slave_removals");
        self.count("master/slave_removals/reason_unhealthy");
        let time = v1::TimeInfo { nanoseconds: (now.wall * 1e9) as i64 };
        let before = self.strike_off(id).unwrap_or_default();
        self.enroll_unreachable(registry::UnreachableSlave {
            id: v1::AgentId { value: id.to_owned() },
            timestamp: time,
            drain_info: before.drain_info,
            deactivated: before.deactivated,
        });
        self.store();
        self.recovered_agents.remove(id);
        self.rescind_offers_of_agent(id);
        self.tell_of_operations_on(id, v1::OperationState::OperationUnreachable, message);
        for (framework, task) in self.tasks_on(id) {
            self.unreachable_task(now, &framework, &task, time, message);
        }
        self.forget_agent(id);
    }

    /// A task is on an agent from now on.
    pub(super) fn index_task(&mut self, agent: &str, framework: &str, task: &str) {
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.tasks.insert((framework.to_owned(), task.to_owned()));
        }
    }

    /// A task is on its agent no more.
    pub(super) fn unindex_task(&mut self, framework: &str, task: &v1::Task) {
        if let Some(agent) = self.agents.get_mut(&task.agent_id.value) {
            agent.tasks.remove(&(framework.to_owned(), task.task_id.value.clone()));
        }
    }

    /// Tasks on an agent, by framework and id.
    pub(super) fn tasks_on(&self, agent: &str) -> Vec<(String, String)> {
        self.agents
            .get(agent)
            .map(|agent| agent.tasks.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn forget_agent(&mut self, id: &str) {
        self.rescind_inverse_offers_of_agent(id);
        for framework in self.frameworks.values_mut() {
            framework.forget_executors_on(id);
        }
        self.allocator.remove_agent(id);
        if let Some(agent) = self.agents.remove(id) {
            self.forget_address(&agent.pid, id);
        }
        let frameworks: Vec<String> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            self.event(
                &framework,
                v1::scheduler::Event {
                    r#type: Some(event::Type::Failure as i32),
                    failure: Some(event::Failure {
                        agent_id: Some(v1::AgentId { value: id.to_owned() }),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            );
        }
    }

    /// An agent listens there no more. Another may by now.
    pub(super) fn forget_address(&mut self, pid: &Upid, id: &str) {
        if self.agents_by_pid.get(pid).is_some_and(|own| own == id) {
            self.agents_by_pid.remove(pid);
        }
        if let Some(there) = self.agents_at.get_mut(&pid.address) {
            there.remove(id);
            if there.is_empty() {
                self.agents_at.remove(&pid.address);
            }
        }
    }

    fn pong(&mut self, from: &Upid) {
        if let Some(agent) = self.agents_by_pid.get(from).and_then(|id| self.agents.get_mut(id)) {
            agent.missed = 0;
            if agent.removal_due.take().is_some() {
                self.count("master/slave_unreachable_canceled");
            }
        }
    }

    fn exited_executor(&mut self, message: &internal::ExitedExecutorMessage) {
        let (agent, framework) =
            (message.slave_id.value.clone(), message.framework_id.value.clone());
        if !self.frameworks.contains_key(&framework) {
            return;
        }
        self.remove_executor(&framework, &agent, &message.executor_id.value);
        self.event(
            &framework,
            v1::scheduler::Event {
                r#type: Some(event::Type::Failure as i32),
                failure: Some(event::Failure {
                    agent_id: Some(message.slave_id.clone()),
                    executor_id: Some(message.executor_id.clone()),
                    status: Some(message.status),
                }),
                ..Default::default()
            },
        );
    }

    /// A custom executor is gone: what it held is free.
    fn remove_executor(&mut self, framework: &str, agent: &str, executor: &str) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        let key = (agent.to_owned(), executor.to_owned());
        let Some(executor) = known.executors.remove(&key) else { return };
        self.allocator.recover_used(framework, agent, &executor.resources);
    }

    /// A connection of ours to a peer broke: agents and drivers there are disconnected until they register again.
    pub fn peer_exited(&mut self, now: Now, address: std::net::SocketAddr) {
        if !self.holds_exit(address) {
            self.disconnect_all(now, address);
        }
    }

    /// As [`Master::peer_exited`], when all that came from there is dealt with.
    pub(super) fn disconnect_all(&mut self, now: Now, address: std::net::SocketAddr) {
        self.authentication.exited(address);
        let drivers: Vec<String> = self
            .frameworks
            .values()
            .filter(
                |known| matches!(&known.connection, Connection::Pid(pid) if pid.address == address),
            )
            .map(|known| known.id.clone())
            .collect();
        for id in drivers {
            self.disconnect_framework(now, &id);
        }
        let there = self.agents_at.get(&address).into_iter().flatten();
        let is_connected = |id: &&String| self.agents.get(id).is_some_and(|own| own.connected);
        let broken: Vec<String> = there.filter(is_connected).cloned().collect();
        for id in broken {
            tracing::info!(agent = id, "agent disconnected");
            let until = now.mono + self.settings.agent_reregister_timeout;
            let mut host = String::new();
            if let Some(agent) = self.agents.get_mut(&id) {
                agent.connected = false;
                agent.away = Some(Away::Until(until));
                host.clone_from(&agent.info.hostname);
            }
            self.watched.insert(id.clone());
            self.allocator.activate_agent(&id, false);
            self.rescind_offers_of_agent(&id);
            self.rescind_inverse_offers_of_agent(&id);
            self.lose_what_has_no_checkpoint(now, &id, &host);
        }
    }

    /// What an agent that is cut off runs without a checkpoint does not outlive it.
    fn lose_what_has_no_checkpoint(&mut self, now: Now, id: &str, host: &str) {
        let tasks = self.tasks_on(id);
        let has_no_checkpoint = |known: &&Framework| !known.info.checkpoint();
        let doomed: Vec<String> =
            self.frameworks.values().filter(has_no_checkpoint).map(|own| own.id.clone()).collect();
        for framework in doomed {
            for (_, task) in tasks.iter().filter(|(own, _)| *own == framework) {
                let cause = Cause {
                    state: v1::TaskState::TaskLost,
                    reason: v1::task_status::Reason::AgentDisconnected,
                    message: &format!("Agent {host} disconnected"),
                };
                self.end_task(now, &framework, task, cause);
            }
            let known = self.frameworks.get(&framework);
            for executor in known.map(|known| known.executors_on(id)).unwrap_or_default() {
                self.remove_executor(&framework, id, &executor.value);
            }
        }
    }
}

/// The id of an agent's observer process.
pub(super) fn observer_id(number: u64) -> String {
    format!("slave-observer({number})")
}
