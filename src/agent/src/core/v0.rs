//! Executors that speak libprocess messages rather than the v1 API: those built with a v0 driver
//! (`exec/exec.cpp`, `Slave::registerExecutor`).

use mesos::internal as m;
use mesos::libprocess::{Upid, inbound::Header};
use mesos::v1;
use mesos::v1::executor::{Event, call, event};
use prost::{DecodeError, Message, Name};

use super::{Agent, Effect, ExecutorState, Now};

/// How the agent reaches an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// By the stream of its events.
    Stream(super::StreamId),
    /// By messages to its process.
    Process(Upid),
}

impl Agent {
    /// A message of an executor; `false` if it is none.
    pub(super) fn executor_message(
        &mut self,
        now: Now,
        header: &Header,
        body: &[u8],
    ) -> Result<bool, DecodeError> {
        let is = |name: &str| header.name == name;
        if is(&m::RegisterExecutorMessage::full_name()) {
            let message = m::RegisterExecutorMessage::decode(body)?;
            let (framework, executor) = (message.framework_id.value, message.executor_id.value);
            self.register_executor(now, &header.from, &framework, &executor, None);
        } else if is(&m::ReregisterExecutorMessage::full_name()) {
            let message = m::ReregisterExecutorMessage::decode(body)?;
            let (framework, executor) = (message.framework_id.value, message.executor_id.value);
            let update = |update: m::StatusUpdate| call::Update { status: status_of(update) };
            let subscribe = call::Subscribe {
                unacknowledged_tasks: message.tasks,
                unacknowledged_updates: message.updates.into_iter().map(update).collect(),
            };
            self.register_executor(now, &header.from, &framework, &executor, Some(subscribe));
        } else if is(&m::StatusUpdateMessage::full_name()) {
            let update = m::StatusUpdateMessage::decode(body)?.update;
            let framework = update.framework_id.value.clone();
            let executor = update.executor_id.as_ref().map(|id| id.value.clone());
            let executor = executor.unwrap_or_else(|| update.status.task_id.value.clone());
            if self.is_process_of(&header.from, &framework, &executor) {
                self.update_of_executor(now, &framework, &executor, status_of(update));
            } else {
                tracing::warn!(from = %header.from, executor, "update ignored: not from its executor");
                self.count("slave/invalid_status_updates");
            }
        } else if is(&m::ExecutorToFrameworkMessage::full_name()) {
            let message = m::ExecutorToFrameworkMessage::decode(body)?;
            let (framework, executor) = (&message.framework_id.value, &message.executor_id.value);
            if self.is_process_of(&header.from, framework, executor) {
                self.message_to_framework(&message);
            } else {
                self.count("slave/invalid_framework_messages");
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn is_process_of(&mut self, from: &Upid, framework: &str, executor: &str) -> bool {
        let peer = self.executor_mut(framework, executor).and_then(|known| known.peer.clone());
        peer == Some(Peer::Process(from.clone()))
    }

    /// Takes an executor in that registers, or registers again with what it still has.
    fn register_executor(
        &mut self,
        now: Now,
        from: &Upid,
        framework: &str,
        executor: &str,
        again: Option<call::Subscribe>,
    ) {
        let is_terminating = self.frameworks.get(framework).is_some_and(|own| own.is_terminating);
        let state = self.executor_mut(framework, executor).map(|known| known.state);
        let is_expected = match state {
            Some(ExecutorState::Registering(_)) => again.is_none(),
            Some(ExecutorState::Reregistering(_)) => again.is_some(),
            _ => false,
        };
        if !is_expected || is_terminating {
            tracing::warn!(%from, executor, framework, "executor sent away: it is not expected");
            self.send_to(from, &m::ShutdownExecutorMessage::default());
            return;
        }
        self.effects.push(Effect::Link(from.clone()));
        self.note_process(framework, executor, from);
        let peer = Peer::Process(from.clone());
        self.connect(now, peer, framework, executor, again.unwrap_or_default());
    }

    /// Notes where an executor is, for the agent after this one.
    fn note_process(&mut self, framework: &str, executor: &str, process: &Upid) {
        if !self.is_checkpointing(framework) {
            return;
        }
        let work_dir = self.settings.work_dir.clone();
        let Some(known) = self.executor_mut(framework, executor) else { return };
        let meta = known.run.meta(&work_dir);
        let path = meta.join("pids/libprocess.pid");
        self.effects.push(Effect::Write(path, process.to_string().into_bytes()));
        self.effects.push(Effect::Unlink(meta.join("http.marker")));
    }

    /// Tells executors that the agent before had, and that wait for messages, that there is an agent again.
    pub(super) fn reconnect_executor(&mut self, process: &Upid) {
        let Some(slave_id) = self.info.id.clone() else { return };
        self.effects.push(Effect::Link(process.clone()));
        self.send_to(process, &m::ReconnectExecutorMessage { slave_id });
    }

    pub(super) fn send_to<M: Message + Name>(&mut self, to: &Upid, message: &M) {
        let body = message.encode_to_vec();
        self.effects.push(Effect::Send(to.clone(), M::full_name(), body));
    }

    /// Sends an event in the form of a message.
    pub(super) fn tell_process(
        &mut self,
        to: &Upid,
        framework: &str,
        executor: &str,
        is_again: bool,
        event: Event,
    ) {
        let framework_id = v1::FrameworkId { value: framework.to_owned() };
        let executor_id = v1::ExecutorId { value: executor.to_owned() };
        let Some(slave_id) = self.info.id.clone() else { return };
        match event.r#type() {
            event::Type::Subscribed if is_again => {
                let slave_info = self.info.clone();
                self.send_to(to, &m::ExecutorReregisteredMessage { slave_id, slave_info });
            }
            event::Type::Subscribed => {
                let subscribed = event.subscribed.unwrap_or_default();
                let message = m::ExecutorRegisteredMessage {
                    executor_info: subscribed.executor_info,
                    framework_id,
                    framework_info: subscribed.framework_info,
                    slave_id,
                    slave_info: subscribed.agent_info,
                };
                self.send_to(to, &message);
            }
            event::Type::Launch => {
                let Some(known) = self.frameworks.get(framework) else { return };
                let message = m::RunTaskMessage {
                    framework_id: Some(framework_id),
                    framework: known.info.clone(),
                    task: event.launch.unwrap_or_default().task,
                    pid: Some(String::new()),
                    ..Default::default()
                };
                self.send_to(to, &message);
            }
            event::Type::Kill => {
                let kill = event.kill.unwrap_or_default();
                let message = m::KillTaskMessage {
                    framework_id,
                    task_id: kill.task_id,
                    kill_policy: kill.kill_policy,
                };
                self.send_to(to, &message);
            }
            event::Type::Acknowledged => {
                let acknowledged = event.acknowledged.unwrap_or_default();
                let message = m::StatusUpdateAcknowledgementMessage {
                    slave_id,
                    framework_id,
                    task_id: acknowledged.task_id,
                    uuid: acknowledged.uuid,
                };
                self.send_to(to, &message);
            }
            event::Type::Message => {
                let data = event.message.unwrap_or_default().data;
                let message =
                    m::FrameworkToExecutorMessage { slave_id, framework_id, executor_id, data };
                self.send_to(to, &message);
            }
            event::Type::Shutdown => self.send_to(to, &m::ShutdownExecutorMessage::default()),
            // The driver knows no groups, and no heartbeats.
            event::Type::LaunchGroup
            | event::Type::Error
            | event::Type::Heartbeat
            | event::Type::Unknown => {}
        }
    }
}

/// The status in an update, with what older drivers say only in the update.
fn status_of(update: m::StatusUpdate) -> v1::TaskStatus {
    let mut status = update.status;
    if status.uuid.is_none() {
        status.uuid = update.uuid;
    }
    status.timestamp.get_or_insert(update.timestamp);
    status.source.get_or_insert(v1::task_status::Source::Executor as i32);
    status
}
