//! Operations on the agent's resources: reservations and persistent volumes (Mesos' `Slave::applyOperation`).
//!
//! The master has decided already. The agent makes it last: on disk first, then the master hears of it until it
//! acknowledges.

use std::time::Duration;

use mesos::internal as m;
use mesos::resources::Resources;
use mesos::resources::operations::{conversions, set_allocation, upgrade_operation};
use mesos::v1::{self, OperationState};

use super::{Agent, Effect, Now, Registration};
use crate::checkpoint::resources::Change;
use crate::checkpoint::{frame, paths};

const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(600);
/// Operations that may wait for an acknowledgement; of those beyond, the oldest are forgotten: the master asks for what
/// it misses.
const WAITING_MAX: usize = 10_000;

/// An operation that was carried out, and whose end the master has not acknowledged.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What it is and how it ended.
    pub operation: v1::Operation,
    retry: Duration,
    due: Duration,
}

impl Waiting {
    /// One that the master hears of next.
    pub(super) fn new(operation: v1::Operation) -> Self {
        Self { operation, retry: Duration::ZERO, due: Duration::ZERO }
    }
}

impl Agent {
    /// Operations that the master may still ask about.
    pub fn operations(&self) -> impl Iterator<Item = &v1::Operation> {
        self.operations.values().map(|waiting| &waiting.operation)
    }

    /// Takes over what the agent before had reserved.
    ///
    /// # Errors
    /// When this agent has less than that.
    pub fn recover_resources(
        &mut self,
        reserved: &Resources,
        operations: Vec<v1::Operation>,
    ) -> Result<(), String> {
        self.total = Resources::from_protos(&self.info.resources).with_checkpointed(reserved)?;
        for operation in operations {
            self.operations.insert(operation.uuid.value.clone(), Waiting::new(operation));
        }
        Ok(())
    }

    /// Forgets the operations of agents that were on this disk before.
    pub(super) fn forget_operations_of_others(&mut self) {
        let (before, own) = (self.operations.len(), self.info.id.clone());
        self.operations.retain(|_, waiting| waiting.operation.agent_id == own);
        if self.operations.len() < before {
            self.change_resources(self.total.checkpointed());
        }
    }

    fn change_resources(&mut self, before: Resources) {
        let change = Change {
            resources: self.total.checkpointed(),
            operations: self.operations().cloned().collect(),
            before,
        };
        self.effects.push(Effect::Reserve(Box::new(change)));
    }

    pub(super) fn checkpoint_resources(&mut self, message: &m::CheckpointResourcesMessage) {
        let wanted = Resources::from_protos(&message.resources);
        let before = self.total.checkpointed();
        match Resources::from_protos(&self.info.resources).with_checkpointed(&wanted) {
            Ok(total) => {
                self.total = total;
                if before != wanted {
                    self.change_resources(before);
                }
            }
            Err(error) => tracing::error!(error, "the master reserved what this agent has not"),
        }
    }

    pub(super) fn apply_operation(&mut self, now: Now, message: m::ApplyOperationMessage) {
        let uuid = message.operation_uuid.value.clone();
        if let Some(known) = self.operations.get_mut(&uuid) {
            known.due = now.mono;
            return;
        }
        let mut plain = message.operation_info.clone();
        set_allocation(&mut plain, None);
        // The master asked for it before it knew what this agent told of its resources last, and forgets it by that.
        let is_late = message.resource_version_uuid.uuid.value != self.resource_version.as_bytes();
        let after = if is_late {
            Err("the resources were told anew since it was asked for".to_owned())
        } else {
            upgrade_operation(&mut plain)
                .and_then(|()| conversions(&plain))
                .and_then(|conversions| self.total.apply_all(&conversions))
        };
        let agent_id = self.info.id.clone();
        let mut status = v1::OperationStatus {
            operation_id: message.operation_info.id.clone(),
            state: OperationState::OperationFinished as i32,
            uuid: Some(v1::Uuid { value: self.entropy.uuid().as_bytes().to_vec() }),
            agent_id: agent_id.clone(),
            ..Default::default()
        };
        let before = self.total.checkpointed();
        match after {
            Ok(after) => self.total = after,
            Err(error) => {
                // The master sees other resources than there are: it learns which when the agent registers again.
                tracing::error!(error, "an operation can't be carried out; registering again");
                status.set_state(OperationState::OperationDropped);
                status.message = Some(error);
                self.registration = Registration::Disconnected;
                self.register_attempts = 0;
                self.register_due = now.mono;
            }
        }
        let operation = v1::Operation {
            framework_id: message.framework_id,
            agent_id,
            info: message.operation_info,
            latest_status: status.clone(),
            statuses: vec![status],
            uuid: message.operation_uuid,
        };
        if let Some(path) = self.operation_path(&uuid) {
            let record = m::UpdateOperationStatusRecord {
                r#type: m::update_operation_status_record::Type::Update as i32,
                update: Some(status_message(&operation)),
                uuid: None,
            };
            self.effects.push(Effect::Append(path.join("operation.updates"), frame(&record)));
        }
        self.operations.insert(uuid, Waiting::new(operation));
        while self.operations.len() > WAITING_MAX {
            self.operations.shift_remove_index(0);
        }
        self.change_resources(before);
    }

    fn operation_path(&self, uuid: &[u8]) -> Option<std::path::PathBuf> {
        let uuid = uuid::Uuid::from_slice(uuid).ok()?;
        let agent = paths::agent(&self.meta(), self.id()?);
        Some(agent.join("operations").join(uuid.to_string()))
    }

    pub(super) fn operation_acknowledged(
        &mut self,
        message: &m::AcknowledgeOperationStatusMessage,
    ) {
        let uuid = &message.operation_uuid.value;
        let is_last = self.operations.get(uuid).is_some_and(|known| {
            known.operation.latest_status.uuid.as_ref() == Some(&message.status_uuid)
        });
        if !is_last {
            tracing::debug!("acknowledgement of an operation that does not wait for one ignored");
            return;
        }
        self.operations.shift_remove(uuid);
        self.change_resources(self.total.checkpointed());
        if let Some(path) = self.operation_path(uuid) {
            self.effects.push(Effect::RemoveDirectory(path));
        }
    }

    pub(super) fn reconcile_operations(&mut self, message: &m::ReconcileOperationsMessage) {
        for asked in &message.operations {
            let known = asked
                .operation_uuid
                .as_ref()
                .and_then(|uuid| self.operations.get(&uuid.value))
                .map(|waiting| waiting.operation.clone());
            let is_frameworks = message.framework_id.is_some();
            let answer = match known {
                Some(operation) => {
                    let mut answer = status_message(&operation);
                    answer.status.uuid = answer.status.uuid.filter(|_| !is_frameworks);
                    answer
                }
                None => m::UpdateOperationStatusMessage {
                    framework_id: message.framework_id.clone(),
                    slave_id: self.info.id.clone(),
                    status: v1::OperationStatus {
                        operation_id: asked.operation_id.clone(),
                        state: if is_frameworks {
                            OperationState::OperationUnknown
                        } else {
                            OperationState::OperationDropped
                        } as i32,
                        agent_id: self.info.id.clone(),
                        ..Default::default()
                    },
                    operation_uuid: asked.operation_uuid.clone(),
                    ..Default::default()
                },
            };
            self.send(&answer);
        }
    }

    /// Tells the master again of what it has not acknowledged.
    pub(super) fn send_due_operations(&mut self, now: Now) {
        let mut due = Vec::new();
        for waiting in self.operations.values_mut().filter(|waiting| waiting.due <= now.mono) {
            waiting.retry = if waiting.retry.is_zero() {
                RETRY_MIN
            } else {
                (waiting.retry * 2).min(RETRY_MAX)
            };
            waiting.due = now.mono + waiting.retry;
            due.push(status_message(&waiting.operation));
        }
        for message in due {
            self.send(&message);
        }
    }

    /// There is a new master: it hears of everything at once.
    pub(super) fn resume_operations(&mut self) {
        for waiting in self.operations.values_mut() {
            waiting.retry = Duration::ZERO;
            waiting.due = Duration::ZERO;
        }
    }
}

fn status_message(operation: &v1::Operation) -> m::UpdateOperationStatusMessage {
    m::UpdateOperationStatusMessage {
        framework_id: operation.framework_id.clone(),
        slave_id: operation.agent_id.clone(),
        status: operation.latest_status.clone(),
        latest_status: Some(operation.latest_status.clone()),
        operation_uuid: Some(operation.uuid.clone()),
    }
}
