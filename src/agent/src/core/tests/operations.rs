use mesos::json::{self, Dialect};
use mesos::v1::OperationState;

use super::*;

const RESERVED: &str = r#"{"name":"mem","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"r"}],"allocation_info":{"role":"r"}}"#;

fn reserve(uuid: u8, value: u32) -> m::ApplyOperationMessage {
    let resource = RESERVED.replace("100", &value.to_string());
    let text = format!(
        r#"{{"type":"RESERVE","id":{{"value":"mine"}},"reserve":{{"resources":[{resource}]}}}}"#
    );
    m::ApplyOperationMessage {
        framework_id: Some(v1::FrameworkId { value: FRAMEWORK_ID.into() }),
        operation_info: json::from_slice(text.as_bytes(), Dialect::V1).unwrap(),
        operation_uuid: v1::Uuid { value: vec![uuid; 16] },
        resource_version_uuid: m::ResourceVersionUuid::default(),
    }
}

impl Conversation {
    /// The master asks for a reservation, knowing what the agent told last.
    fn reserves(&mut self, uuid: u8, value: u32) {
        let version = v1::Uuid { value: self.agent.resource_version.as_bytes().to_vec() };
        let mut message = reserve(uuid, value);
        message.resource_version_uuid.uuid = version;
        self.hear(&message);
    }

    fn outcomes(&mut self) -> Vec<(OperationState, m::UpdateOperationStatusMessage)> {
        let sent = self.sent::<m::UpdateOperationStatusMessage>();
        sent.into_iter().map(|message| (message.status.state(), message)).collect()
    }
}

#[test]
fn what_is_reserved_is_kept_over_a_restart_and_told_until_it_is_acknowledged() {
    let mut own = Conversation::registered();
    own.reserves(1, 100);
    let (state, update) = own.outcomes().remove(0);
    assert_eq!(state, OperationState::OperationFinished);
    own.reserves(1, 100);
    assert_eq!(own.outcomes().len(), 1, "asked again, it is told again, and not done again");
    assert_eq!(
        own.agent.total.to_string(),
        "cpus:4; mem:924; mem(reservations: [(DYNAMIC,r)]):100"
    );
    let (mut own, _) = own.restarted(|_| {});
    own.leader();
    let message = own.sent::<m::ReregisterSlaveMessage>().remove(0);
    assert_eq!(message.checkpointed_resources.len(), 1);
    own.reregistered();
    let (_, again) = own.outcomes().remove(0);
    assert_eq!(again.status.uuid, update.status.uuid);
    let reported = own.sent::<m::UpdateSlaveMessage>().remove(0).operations.unwrap();
    assert_eq!(reported.operations.len(), 1);
    own.hear(&m::AcknowledgeOperationStatusMessage {
        status_uuid: update.status.uuid.unwrap(),
        operation_uuid: v1::Uuid { value: vec![1; 16] },
        resource_provider_id: None,
    });
    own.later(3600.0);
    assert!(own.outcomes().is_empty());
    let (own, _) = own.restarted(|_| {});
    assert_eq!(own.agent.operations().count(), 0);
    assert_eq!(own.agent.total.mem(), 1024.0);
}

#[test]
fn an_operation_that_cannot_be_is_dropped_and_the_master_told_what_there_is() {
    let mut own = Conversation::registered();
    own.reserves(1, 5000);
    assert_eq!(own.outcomes().len(), 0, "not before it is registered again");
    assert_eq!(own.sent::<m::ReregisterSlaveMessage>().len(), 1);
    own.reregistered();
    assert_eq!(own.outcomes().remove(0).0, OperationState::OperationDropped);
}

#[test]
fn the_master_hears_which_operations_never_arrived() {
    let mut own = Conversation::registered();
    let asked = m::reconcile_operations_message::Operation {
        operation_uuid: Some(v1::Uuid { value: vec![5; 16] }),
        ..Default::default()
    };
    own.hear(&m::ReconcileOperationsMessage { operations: vec![asked], framework_id: None });
    let (state, message) = own.outcomes().remove(0);
    assert_eq!(state, OperationState::OperationDropped);
    assert_eq!(message.operation_uuid.unwrap().value, vec![5; 16]);
    assert_eq!(message.status.uuid, None);
}

#[test]
fn an_older_master_says_all_that_is_reserved() {
    let mut own = Conversation::registered();
    let resource: v1::Resource = json::from_slice(RESERVED.as_bytes(), Dialect::V1).unwrap();
    let resource = v1::Resource { allocation_info: None, ..resource };
    own.hear(&m::CheckpointResourcesMessage { resources: vec![resource] });
    let (own, _) = own.restarted(|_| {});
    assert_eq!(own.agent.total.checkpointed().mem(), 100.0);
}

#[test]
fn an_operation_from_before_the_resources_were_told_anew_is_dropped_and_they_are_told_again() {
    let mut own = Conversation::registered();
    let old = own.agent.resource_version;
    own.leader();
    assert_eq!(own.sent::<m::ReregisterSlaveMessage>().len(), 1, "without the reservation");
    let mut late = reserve(1, 100);
    late.resource_version_uuid.uuid.value = old.as_bytes().to_vec();
    own.hear(&late);
    assert!(own.agent.total.checkpointed().is_empty());
    assert_eq!(own.sent::<m::ReregisterSlaveMessage>().len(), 1, "the master may count it");
    own.reregistered();
    assert_eq!(own.outcomes()[0].0, OperationState::OperationDropped);
}

#[test]
fn an_agent_that_took_anothers_place_and_died_before_it_forgot_its_operations_forgets_them() {
    let mut own = Conversation::registered();
    own.reserves(1, 100);
    let reader = found::Reader { work_dir: own.disk.path(), is_strict: true };
    let (recovered, (reserved, mut operations)) = (
        reader.read(false).unwrap().unwrap(),
        checkpoint::resources::recover(own.disk.path()).unwrap(),
    );
    operations[0].agent_id = Some(v1::AgentId { value: "m-S9".into() });
    let mut agent = Agent::new(settings(own.disk.path()), info());
    agent.recover_resources(&reserved, operations).unwrap();
    agent.recover(own.now, recovered);
    assert_eq!(agent.operations().count(), 0);
    assert_eq!(agent.total, own.agent.total, "what is reserved stays");
}
