//! Operations on resources: reservations and persistent volumes (`Master::_apply`, `Master::updateOperationStatus`).
//!
//! What an operation does is certain once it was checked: the master shows its result at once, the agent follows. A
//! framework that named an operation hears how it ended, again and again until it acknowledges.

use mesos::internal as m;
use mesos::libprocess::Upid;
use mesos::resources::operations::{conversions, set_allocation, upgrade_operation};
use mesos::resources::{Conversion, Resources};
use mesos::v1::agent_info::capability::Type as AgentCapability;
use mesos::v1::offer::Operation;
use mesos::v1::offer::operation::Type;
use mesos::v1::scheduler::{Event, call, event};
use mesos::v1::{self, OperationState};

use super::Master;
use super::accept::Place;
use super::frameworks::error_event;
use super::model::{Connection, Now};
use super::validation::operations::{Author, check};

/// An agent that was registered again for this long, in seconds, has the frameworks of its operations back, if they
/// come back.
const ORPHAN_WAIT_SECONDS: f64 = 20.0;
/// Acknowledged operations that are remembered of an agent: more than may be on their way at once.
const ACKNOWLEDGED_MAX: usize = 256;

/// Whether an operation in this state is over.
pub(super) fn is_over(state: OperationState) -> bool {
    use OperationState as S;
    matches!(
        state,
        S::OperationFinished
            | S::OperationFailed
            | S::OperationError
            | S::OperationDropped
            | S::OperationGoneByOperator
    )
}

fn status(id: Option<&v1::OperationId>, state: OperationState) -> v1::OperationStatus {
    v1::OperationStatus { operation_id: id.cloned(), state: state as i32, ..Default::default() }
}

/// What frameworks get with RECONCILE_OPERATIONS of an operation that is known.
fn latest(operation: &v1::Operation) -> v1::OperationStatus {
    let latest = operation.statuses.last().unwrap_or(&operation.latest_status);
    v1::OperationStatus { uuid: None, ..latest.clone() }
}

impl Master {
    fn operation_event(&mut self, framework: &str, status: v1::OperationStatus) {
        // Drivers have no such event.
        let over_http = self
            .frameworks
            .get(framework)
            .is_some_and(|known| matches!(known.connection, Connection::Http(_)));
        if over_http {
            self.event(
                framework,
                Event {
                    r#type: Some(event::Type::UpdateOperationStatus as i32),
                    update_operation_status: Some(event::UpdateOperationStatus { status }),
                    ..Default::default()
                },
            );
        }
    }

    /// Refuses an operation of a framework.
    pub(super) fn drop_operation(&mut self, framework: &str, operation: &Operation, message: &str) {
        let kind = operation.r#type().as_str_name();
        tracing::warn!(framework, operation = kind, message, "operation refused");
        self.count_operation(operation.r#type(), "error");
        if let Some(id) = &operation.id {
            let status = v1::OperationStatus {
                message: Some(message.to_owned()),
                ..status(Some(id), OperationState::OperationError)
            };
            self.operation_event(framework, status);
        }
    }

    pub(super) fn count_operation(&mut self, kind: Type, state: &str) {
        let kind = kind.as_str_name().to_ascii_lowercase();
        self.count(&format!("master/operations/{state}"));
        self.count(&format!("master/operations/{kind}/{state}"));
        if is_counted_over(state) {
            for name in [String::new(), format!("{kind}/")] {
                let pending = self.counters.entry(format!("master/operations/{name}pending"));
                let pending = pending.or_default();
                *pending = pending.saturating_sub(u64::from(state != "error"));
            }
        }
    }

    /// Carries out an operation of an ACCEPT on what is left of the offers.
    pub(super) fn operate(
        &mut self,
        place: &mut Place,
        mut operation: Operation,
        remaining: &mut Resources,
    ) {
        let framework = place.framework.clone();
        if let Err(reason) = self.prepare(place, &mut operation) {
            self.drop_operation(&framework, &operation, &reason);
            return;
        }
        let (Some(known), Some(agent)) =
            (self.frameworks.get(&framework), self.agents.get(&place.agent))
        else {
            return;
        };
        let used = self.used_on(&place.agent).iter().map(|(_, _, used)| used).sum();
        if let Err(reason) = check(Author::Framework(known), agent, &used, &operation) {
            let reason = format!("{reason}; on agent {}", agent.title());
            self.drop_operation(&framework, &operation, &reason);
            return;
        }
        if let Err(reason) = self.authorize_operation(&known.info, &operation) {
            self.drop_operation(&framework, &operation, &reason);
            return;
        }
        if operation.r#type() == Type::Destroy {
            self.rescind_offers_of_volumes(&place.agent, &operation);
        }
        let kind = operation.r#type();
        let is_resizing = matches!(kind, Type::GrowVolume | Type::ShrinkVolume);
        let applied = conversions(&operation)
            .and_then(|conversions| Ok((remaining.apply_all(&conversions)?, conversions)));
        let (after, conversions) = match applied {
            Ok(applied) => applied,
            Err(reason) => {
                let reason = if is_resizing {
                    format!("Invalid {} operation: {reason}", kind.as_str_name())
                } else {
                    reason
                };
                self.drop_operation(&framework, &operation, &reason);
                return;
            }
        };
        *remaining = after;
        if is_resizing {
            // Not for tasks of the same ACCEPT.
            for conversion in &conversions {
                remaining.subtract(&conversion.converted);
                place.resized.add(&conversion.converted);
            }
        } else {
            place.shared = remaining.shared();
        }
        self.allocator.convert_allocated(&framework, &place.role, &place.agent, &conversions);
        self.count_of(&framework, "operations", &kind.as_str_name().to_ascii_lowercase(), 1);
        self.apply(&place.agent, Some(&framework), operation, &conversions);
    }

    /// Checks what can be checked of an operation by itself, and completes it.
    fn prepare(&mut self, place: &Place, operation: &mut Operation) -> Result<(), String> {
        upgrade_operation(operation)
            .map_err(|reason| format!("Operation attempted with invalid resources: {reason}"))?;
        if operation.reserve.as_ref().is_some_and(|reserve| !reserve.source.is_empty()) {
            return Err("Operation attempted with invalid resources: Reservation updates are not yet implemented for the scheduler API.".to_owned());
        }
        set_allocation(operation, Some(&place.role));
        let Some(agent) = self.agents.get(&place.agent) else { return Ok(()) };
        if operation.id.is_none() {
            return Ok(());
        }
        if matches!(
            self.frameworks.get(&place.framework).map(|known| &known.connection),
            Some(Connection::Pid(_))
        ) {
            const NO_FEEDBACK: &str = "The 'id' field was set in an offer operation, but operation feedback is not supported for the SchedulerDriver API";
            self.event(
                &place.framework,
                error_event(format!(
                    "{NO_FEEDBACK}; please use the HTTP scheduler API for this feature"
                )),
            );
            return Err(NO_FEEDBACK.to_owned());
        }
        if !agent.can(AgentCapability::ResourceProvider) {
            return Err(format!(
                "Operation requested feedback, but agent {} does not have the required RESOURCE_PROVIDER capability",
                agent.id
            ));
        }
        if !agent.can(AgentCapability::AgentOperationFeedback) {
            return Err(format!(
                "Operation on agent default resources requested feedback, but agent {} does not have the required AGENT_OPERATION_FEEDBACK and RESOURCE_PROVIDER capabilities",
                agent.id
            ));
        }
        Ok(())
    }

    /// Others may have been offered a shared volume that is destroyed.
    pub(super) fn rescind_offers_of_volumes(&mut self, agent: &str, operation: &Operation) {
        let volumes: Vec<Resources> = operation
            .destroy
            .iter()
            .flat_map(|destroy| &destroy.volumes)
            .map(|volume| Resources::from_protos(std::slice::from_ref(volume)).unallocate())
            .collect();
        let offers: Vec<String> = self
            .agents
            .get(agent)
            .into_iter()
            .flat_map(|agent| &agent.offers)
            .filter(|id| {
                self.offers.get(id).is_some_and(|offer| {
                    let offered = offer.resources.unallocate();
                    volumes.iter().any(|volume| offered.contains(volume))
                })
            })
            .cloned()
            .collect();
        for offer in offers {
            self.rescind(&offer, true);
        }
    }

    /// Changes an agent's resources and has the agent do the same; what was given out is converted already.
    pub(super) fn apply(
        &mut self,
        agent: &str,
        framework: Option<&str>,
        operation: Operation,
        conversions: &[Conversion],
    ) {
        let uuid = self.entropy.uuid().as_bytes().to_vec();
        let Some(on) = self.agents.get_mut(agent) else { return };
        for conversion in conversions.iter().map(Conversion::unallocate) {
            on.total.subtract(&conversion.consumed);
            on.total.add(&conversion.converted);
        }
        let (total, pid) = (on.total.clone(), on.pid.clone());
        self.allocator.set_total(agent, total.clone());
        let kind = operation.r#type();
        let (true, Some(version)) =
            (on.can(AgentCapability::ResourceProvider), on.resource_version.clone())
        else {
            let checkpointed = total.checkpointed();
            let refines = on.can(AgentCapability::ReservationRefinement);
            let resources =
                if refines { checkpointed.to_protos() } else { checkpointed.to_protos_unrefined() };
            self.send(&pid, &m::CheckpointResourcesMessage { resources });
            self.count_operation(kind, "finished");
            return;
        };
        let agent_id = v1::AgentId { value: agent.to_owned() };
        let framework_id = framework.map(|id| v1::FrameworkId { value: id.to_owned() });
        let pending = v1::OperationStatus {
            agent_id: Some(agent_id.clone()),
            ..status(operation.id.as_ref(), OperationState::OperationPending)
        };
        let message = m::ApplyOperationMessage {
            framework_id: framework_id.clone(),
            operation_info: operation.clone(),
            operation_uuid: v1::Uuid { value: uuid.clone() },
            resource_version_uuid: m::ResourceVersionUuid {
                resource_provider_id: None,
                uuid: version,
            },
        };
        let record = v1::Operation {
            framework_id,
            agent_id: Some(agent_id),
            info: operation,
            latest_status: pending,
            statuses: Vec::new(),
            uuid: v1::Uuid { value: uuid },
        };
        self.add_operation(agent, record);
        self.count_operation(kind, "pending");
        self.send(&pid, &message);
    }

    fn add_operation(&mut self, agent: &str, operation: v1::Operation) {
        let uuid = operation.uuid.value.clone();
        let framework = operation.framework_id.as_ref().map(|id| id.value.as_str());
        if let (Some(id), Some(known)) =
            (&operation.info.id, framework.and_then(|id| self.frameworks.get_mut(id)))
        {
            known.operations.insert(id.value.clone(), (agent.to_owned(), uuid.clone()));
        }
        if let Some(on) = self.agents.get_mut(agent) {
            on.operations.insert(uuid, operation);
        }
    }

    fn remove_operation(&mut self, agent: &str, uuid: &[u8]) {
        let Some(removed) =
            self.agents.get_mut(agent).and_then(|on| on.operations.shift_remove(uuid))
        else {
            return;
        };
        if let (Some(framework), Some(id)) = (removed.framework_id, removed.info.id)
            && let Some(known) = self.frameworks.get_mut(&framework.value)
            && known.operations.get(&id.value).is_some_and(|(_, own)| own == uuid)
        {
            known.operations.remove(&id.value);
        }
    }

    /// A framework that came back takes over what agents reported of its operations before.
    pub(super) fn adopt_operations(&mut self, framework: &str) {
        let mut own = Vec::new();
        for agent in self.agents.values() {
            for (uuid, operation) in &agent.operations {
                let is_own =
                    operation.framework_id.as_ref().is_some_and(|id| id.value == framework);
                if let (true, Some(id)) = (is_own, &operation.info.id) {
                    own.push((id.value.clone(), (agent.id.clone(), uuid.clone())));
                }
            }
        }
        if let Some(known) = self.frameworks.get_mut(framework) {
            known.operations.extend(own);
        }
    }

    /// What an agent says of its revocable resources and of operations (UpdateSlaveMessage).
    pub(super) fn update_agent(&mut self, message: m::UpdateSlaveMessage) {
        let id = message.slave_id.value.clone();
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if message.resource_version_uuid.is_some() {
            agent.resource_version = message.resource_version_uuid;
        }
        let (pid, mut reconciled) = (agent.pid.clone(), Vec::new());
        let reported = message.operations.unwrap_or_default().operations;
        for uuid in agent.operations.keys() {
            if !reported.iter().any(|operation| operation.uuid.value == *uuid) {
                reconciled.push(m::reconcile_operations_message::Operation {
                    operation_uuid: Some(v1::Uuid { value: uuid.clone() }),
                    ..Default::default()
                });
            }
        }
        let (acknowledged, new): (Vec<v1::Operation>, Vec<v1::Operation>) = reported
            .into_iter()
            .filter(|operation| !agent.operations.contains_key(&operation.uuid.value))
            .partition(|operation| agent.acknowledged.contains(&operation.uuid.value));
        // A missing flag means yes, as agents said it before there was one.
        if message.update_oversubscribed_resources.unwrap_or(true) {
            let revocable = Resources::from_protos(&message.oversubscribed_resources).revocable();
            if agent.total.revocable() != revocable {
                let mut total = agent.total.non_revocable();
                total.add(&revocable);
                agent.total = total.clone();
                self.allocator.set_total(&id, total);
                self.rescind_revocable_offers(&id);
                self.candidates.insert(id.clone());
            }
        }
        for operation in new {
            self.add_operation(&id, operation);
        }
        for operation in acknowledged {
            // In case that the acknowledgement did not reach it.
            if let Some(status_uuid) = operation.latest_status.uuid {
                self.acknowledge_to_agent(&pid, status_uuid, &operation.uuid.value);
            }
        }
        if !reconciled.is_empty() {
            let message =
                m::ReconcileOperationsMessage { operations: reconciled, ..Default::default() };
            self.send(&pid, &message);
        }
    }

    fn rescind_revocable_offers(&mut self, agent: &str) {
        let offers: Vec<String> = self
            .agents
            .get(agent)
            .into_iter()
            .flat_map(|agent| &agent.offers)
            .filter(|id| {
                self.offers.get(id).is_some_and(|offer| !offer.resources.revocable().is_empty())
            })
            .cloned()
            .collect();
        for offer in offers {
            self.rescind(&offer, true);
        }
    }

    /// An agent says how an operation stands.
    pub(super) fn operation_status(&mut self, now: Now, message: m::UpdateOperationStatusMessage) {
        let agent_id = message.slave_id.map(|id| id.value).unwrap_or_default();
        let framework = message.framework_id.map(|id| id.value);
        let Some(uuid) = message.operation_uuid.map(|uuid| uuid.value) else {
            // An answer to a framework's question that the master passed on.
            if let Some(framework) = framework {
                self.operation_event(&framework, message.status);
            }
            return;
        };
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            tracing::warn!(agent = agent_id, "operation status of an unknown agent ignored");
            self.count("master/invalid_operation_status_updates");
            return;
        };
        let (pid, reregistered) = (agent.pid.clone(), agent.reregistered);
        let Some(operation) = agent.operations.get_mut(&uuid) else {
            if let Some(framework) = framework {
                self.count("master/invalid_operation_status_updates");
                self.operation_event(&framework, message.status);
            }
            return;
        };
        let mut status = message.status;
        status.operation_id.clone_from(&operation.info.id);
        let newest = message.latest_status.unwrap_or_else(|| status.clone());
        let was_over = is_over(operation.latest_status.state());
        if !was_over {
            operation.latest_status = newest.clone();
            operation.latest_status.operation_id.clone_from(&operation.info.id);
        }
        if operation.statuses.last() != Some(&status) {
            operation.statuses.push(status.clone());
        }
        let (kind, has_id) = (operation.info.r#type(), operation.info.id.is_some());
        let framework = operation.framework_id.as_ref().map(|id| id.value.clone()).or(framework);
        self.count("master/valid_operation_status_updates");
        if !was_over && is_over(newest.state()) {
            let state = newest.state().as_str_name().trim_start_matches("OPERATION_");
            self.count_operation(kind, &state.to_ascii_lowercase());
        }
        let known = framework.as_ref().is_some_and(|id| self.frameworks.contains_key(id));
        let is_over = is_over(status.state());
        if let (true, true, Some(framework)) = (has_id, known, &framework) {
            let is_reliable = status.uuid.is_some();
            self.operation_event(&framework.clone(), status);
            if is_over && !is_reliable {
                self.remove_operation(&agent_id, &uuid);
            }
            return;
        }
        let is_completed =
            framework.as_ref().is_some_and(|id| self.completed_frameworks.contains_key(id));
        if has_id && !is_completed && now.wall - reregistered < ORPHAN_WAIT_SECONDS {
            return; // Its framework may come back and acknowledge.
        }
        if is_over {
            self.remove_operation(&agent_id, &uuid);
        }
        if let Some(status_uuid) = status.uuid {
            self.acknowledge_to_agent(&pid, status_uuid, &uuid);
            if is_over {
                self.note_acknowledged(&agent_id, uuid);
            }
        }
    }

    fn note_acknowledged(&mut self, agent: &str, uuid: Vec<u8>) {
        let Some(agent) = self.agents.get_mut(agent) else { return };
        agent.acknowledged.push_back(uuid);
        if agent.acknowledged.len() > ACKNOWLEDGED_MAX {
            agent.acknowledged.pop_front();
        }
    }

    fn acknowledge_to_agent(&mut self, agent: &Upid, status_uuid: v1::Uuid, operation: &[u8]) {
        let message = m::AcknowledgeOperationStatusMessage {
            status_uuid,
            operation_uuid: v1::Uuid { value: operation.to_vec() },
            resource_provider_id: None,
        };
        self.send(agent, &message);
    }

    /// A framework has heard how an operation ended.
    pub(super) fn acknowledge_operation(
        &mut self,
        framework: &str,
        acknowledge: &call::AcknowledgeOperationStatus,
    ) {
        let id = acknowledge.agent_id.as_ref().map_or("", |id| id.value.as_str()).to_owned();
        let uuid = self
            .frameworks
            .get(framework)
            .and_then(|known| known.operations.get(&acknowledge.operation_id.value))
            .map(|(_, uuid)| uuid.clone());
        let acknowledged = uuid.as_ref().and_then(|uuid| {
            let agent = self.agents.get(&id).filter(|agent| agent.connected)?;
            let statuses = &agent.operations.get(uuid)?.statuses;
            let is_it = |status: &&v1::OperationStatus| {
                status.uuid.as_ref().is_some_and(|own| own.value == acknowledge.uuid)
            };
            Some((agent.pid.clone(), statuses.iter().find(is_it)?.state()))
        });
        let (Some(uuid), Some((pid, state))) = (uuid, acknowledged) else {
            tracing::warn!(
                framework,
                operation = acknowledge.operation_id.value,
                "acknowledgement of an operation that is not known ignored"
            );
            self.count("master/invalid_operation_status_update_acknowledgements");
            return;
        };
        self.count("master/valid_operation_status_update_acknowledgements");
        let status_uuid = v1::Uuid { value: acknowledge.uuid.clone() };
        self.acknowledge_to_agent(&pid, status_uuid, &uuid);
        if is_over(state) {
            self.remove_operation(&id, &uuid);
            self.note_acknowledged(&id, uuid);
        }
    }

    /// Tells a framework how its operations stand: those that it names, or all.
    pub(super) fn reconcile_operations(
        &mut self,
        framework: &str,
        reconcile: &call::ReconcileOperations,
    ) {
        let Some(known) = self.frameworks.get(framework) else { return };
        let find = |(agent, uuid): &(String, Vec<u8>)| self.agents.get(agent)?.operations.get(uuid);
        let statuses: Vec<v1::OperationStatus> = if reconcile.operations.is_empty() {
            known.operations.values().filter_map(find).map(latest).collect()
        } else {
            let each = reconcile.operations.iter();
            each.map(|asked| {
                known
                    .operations
                    .get(&asked.operation_id.value)
                    .and_then(find)
                    .map_or_else(|| self.unknown_operation(asked), latest)
            })
            .collect()
        };
        for status in statuses {
            self.operation_event(framework, status);
        }
    }

    fn unknown_operation(
        &self,
        asked: &call::reconcile_operations::Operation,
    ) -> v1::OperationStatus {
        use OperationState as S;
        let agent = asked.agent_id.as_ref().map(|id| id.value.as_str());
        let (state, message) = match agent {
            None => (S::OperationUnknown, "Operation is unknown and no 'agent_id' was provided"),
            Some(id) if self.recovered_agents.contains_key(id) => {
                (S::OperationRecovering, "Agent is recovered but has not re-registered")
            }
            Some(id) if self.agents.contains_key(id) => {
                (S::OperationUnknown, "Operation is unknown")
            }
            Some(id) if self.is_unreachable(id) => {
                (S::OperationUnreachable, "Agent is unreachable")
            }
            Some(id) if self.is_gone(id) => {
                (S::OperationGoneByOperator, "Agent marked gone by operator")
            }
            Some(_) => (S::OperationUnknown, "Both operation and agent are unknown"),
        };
        v1::OperationStatus {
            message: Some(format!("Reconciliation: {message}")),
            agent_id: asked.agent_id.clone(),
            resource_provider_id: asked.resource_provider_id.clone(),
            ..status(Some(&asked.operation_id), state)
        }
    }

    /// An agent is gone or can't be reached: whoever waits for its operations hears of it.
    pub(super) fn tell_of_operations_on(
        &mut self,
        agent: &str,
        state: OperationState,
        message: &str,
    ) {
        let Some(on) = self.agents.get_mut(agent) else { return };
        let operations = std::mem::take(&mut on.operations);
        for operation in operations.into_values() {
            let (Some(framework), Some(id)) = (operation.framework_id, operation.info.id) else {
                continue;
            };
            let status = v1::OperationStatus {
                message: Some(message.to_owned()),
                agent_id: Some(v1::AgentId { value: agent.to_owned() }),
                ..status(Some(&id), state)
            };
            self.operation_event(&framework.value, status);
            if let Some(known) = self.frameworks.get_mut(&framework.value) {
                known.operations.remove(&id.value);
            }
        }
    }
}

fn is_counted_over(state: &str) -> bool {
    matches!(state, "finished" | "failed" | "error" | "dropped" | "gone_by_operator")
}
