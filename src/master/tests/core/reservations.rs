//! Reservations and persistent volumes: by frameworks, by operators, over restarts.

use master::view::metrics::{Around, Moment, snapshot};
use mesos::json::{self, Dialect};
use mesos::resources::Resources;
use mesos::v1::offer::Operation;

use super::*;

fn operation(text: &str) -> Operation {
    json::from_slice(text.as_bytes(), Dialect::V1).unwrap()
}

const RESERVED: &str = r#"{"name":"mem","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"r"}]}"#;

fn reserve(id: &str) -> Operation {
    operation(&format!(
        r#"{{"type":"RESERVE","id":{{"value":"{id}"}},"reserve":{{"resources":[{RESERVED}]}}}}"#
    ))
}

/// An agent that can all that the original's can.
fn capabilities() -> Vec<v1::agent_info::Capability> {
    (1..=8).map(|kind| v1::agent_info::Capability { r#type: Some(kind) }).collect()
}

impl Test {
    pub(super) fn register_capable(&mut self) {
        let message = internal::RegisterSlaveMessage {
            slave: agent_info(),
            agent_capabilities: capabilities(),
            resource_version_uuid: Some(v1::Uuid { value: vec![7; 16] }),
            ..Default::default()
        };
        self.message(&agent_pid(), &message);
    }

    fn subscribe_in_role(&mut self) -> StreamId {
        use v1::framework_info::capability::Type as C;
        let capability = |kind: C| v1::framework_info::Capability { r#type: Some(kind as i32) };
        self.subscribe(v1::FrameworkInfo {
            roles: vec!["r".to_owned()],
            capabilities: vec![
                capability(C::MultiRole),
                capability(C::ReservationRefinement),
                capability(C::SharedResources),
            ],
            ..framework_info()
        })
    }

    fn accept_all(&mut self, stream: StreamId, operations: Vec<Operation>) {
        let offer_ids = vec![self.offer().id];
        let filters = Some(v1::Filters { refuse_seconds: Some(0.0) });
        self.call(
            stream,
            Call {
                r#type: Some(call::Type::Accept as i32),
                accept: Some(call::Accept { offer_ids, operations, filters }),
                ..Default::default()
            },
        )
        .unwrap();
    }

    fn total(&self) -> String {
        self.master.agents["M-S0"].total.to_string()
    }

    fn statuses(&self) -> Vec<v1::OperationStatus> {
        self.events(event::Type::UpdateOperationStatus)
            .into_iter()
            .map(|event| event.update_operation_status.unwrap().status)
            .collect()
    }

    fn finish(&mut self, apply: &internal::ApplyOperationMessage) {
        let status = v1::OperationStatus {
            state: v1::OperationState::OperationFinished as i32,
            uuid: Some(v1::Uuid { value: uuid_of(9) }),
            agent_id: Some(id("M-S0")),
            ..Default::default()
        };
        let message = internal::UpdateOperationStatusMessage {
            framework_id: apply.framework_id.clone(),
            slave_id: Some(id("M-S0")),
            status,
            operation_uuid: Some(apply.operation_uuid.clone()),
            ..Default::default()
        };
        self.message(&agent_pid(), &message);
    }
}

#[test]
fn a_framework_reserves_what_it_was_offered_and_hears_of_it_until_it_acknowledges() {
    let mut test = Test::new();
    test.register_capable();
    let stream = test.subscribe_in_role();
    test.accept_all(stream, vec![reserve("mine")]);
    assert_eq!(test.total(), "cpus:4; mem:924; mem(reservations: [(DYNAMIC,r)]):100");
    let apply = test.sent::<internal::ApplyOperationMessage>(&agent_pid()).remove(0);
    assert_eq!(apply.resource_version_uuid.uuid.value, vec![7; 16]);
    let offered = Resources::from_protos(&test.offer().resources).unallocate().to_string();
    assert_eq!(offered, "cpus:4; mem:924; mem(reservations: [(DYNAMIC,r)]):100");

    test.finish(&apply);
    let status = test.statuses().remove(0);
    assert_eq!(status.operation_id.as_ref().unwrap().value, "mine");
    assert_eq!(status.state(), v1::OperationState::OperationFinished);
    assert_eq!(test.master.agents["M-S0"].operations.len(), 1);

    let reconcile = Call {
        r#type: Some(call::Type::ReconcileOperations as i32),
        reconcile_operations: Some(call::ReconcileOperations::default()),
        ..Default::default()
    };
    test.call(stream, reconcile).unwrap();
    assert_eq!(test.statuses().remove(0).uuid, None, "answers need no acknowledgement");

    let acknowledge = call::AcknowledgeOperationStatus {
        agent_id: Some(id("M-S0")),
        uuid: uuid_of(9),
        operation_id: v1::OperationId { value: "mine".to_owned() },
        ..Default::default()
    };
    let acknowledge = Call {
        r#type: Some(call::Type::AcknowledgeOperationStatus as i32),
        acknowledge_operation_status: Some(acknowledge),
        ..Default::default()
    };
    test.call(stream, acknowledge).unwrap();
    let sent = test.sent::<internal::AcknowledgeOperationStatusMessage>(&agent_pid());
    assert_eq!(sent[0].operation_uuid, apply.operation_uuid);
    assert!(test.master.agents["M-S0"].operations.is_empty());

    // What the agent told before the acknowledgement reached it, or because it never did.
    let status =
        v1::OperationStatus { uuid: Some(v1::Uuid { value: uuid_of(9) }), ..Default::default() };
    let operation = v1::Operation {
        framework_id: apply.framework_id.clone(),
        info: apply.operation_info.clone(),
        latest_status: status,
        uuid: apply.operation_uuid.clone(),
        ..Default::default()
    };
    let told = internal::UpdateSlaveMessage {
        slave_id: id("M-S0"),
        update_oversubscribed_resources: Some(false),
        operations: Some(internal::update_slave_message::Operations {
            operations: vec![operation],
        }),
        ..Default::default()
    };
    test.message(&agent_pid(), &told);
    assert!(test.master.agents["M-S0"].operations.is_empty());
    assert_eq!(test.sent::<internal::AcknowledgeOperationStatusMessage>(&agent_pid()), sent);
}

#[test]
fn what_is_not_offered_is_not_reserved() {
    let mut test = Test::new();
    test.register_capable();
    let stream = test.subscribe_in_role();
    let too_much = operation(&format!(
        r#"{{"type":"RESERVE","id":{{"value":"o"}},"reserve":{{"resources":[{}]}}}}"#,
        RESERVED.replace("100", "100000")
    ));
    test.accept_all(stream, vec![too_much]);
    let status = test.statuses().remove(0);
    assert_eq!(status.state(), v1::OperationState::OperationError);
    assert_eq!(
        status.message(),
        "cpus(allocated: r):4; mem(allocated: r):1024 does not contain mem(allocated: r):100000"
    );
    assert_eq!(test.total(), "cpus:4; mem:1024");
    let metrics = snapshot(Some(&Moment::of(&test.master)), Around::default());
    for name in ["error", "total", "reserve/error", "reserve/total"] {
        assert_eq!(metrics[&format!("master/operations/{name}")], 1.0, "{name}");
    }
    assert_eq!(metrics["master/operations/create/total"], 0.0);
}

#[test]
fn an_old_agent_is_told_all_that_it_must_remember() {
    let mut test = Test::new();
    test.register();
    let operation =
        operation(&format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{RESERVED}]}}}}"#));
    test.master.operate_as_operator("M-S0", None, operation).unwrap();
    test.settle();
    let sent = test.sent::<internal::CheckpointResourcesMessage>(&agent_pid()).remove(0);
    assert_eq!(sent.resources[0].role(), "r", "in the form that it knows");
    assert!(sent.resources[0].reservation.is_some());
}

#[test]
fn operators_take_offers_back_for_what_they_reserve_and_no_more_than_is_free() {
    let mut test = Test::new();
    test.register_capable();
    test.subscribe(framework_info());
    let offer = test.offer();
    let wanted =
        operation(&format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{RESERVED}]}}}}"#));
    test.master.operate_as_operator("M-S0", None, wanted.clone()).unwrap();
    test.settle();
    let rescinded = test.events(event::Type::Rescind);
    assert_eq!(rescinded[0].rescind.as_ref().unwrap().offer_id, offer.id);
    let offered = Resources::from_protos(&test.offer().resources).unallocate();
    assert_eq!(offered.to_string(), "cpus:4; mem:924", "reserved for another role");

    let mut too_much = wanted;
    too_much.reserve.as_mut().unwrap().resources[0].scalar =
        Some(v1::value::Scalar { value: 5000.0 });
    assert_eq!(
        test.master.operate_as_operator("M-S0", None, too_much),
        Err(Refusal::Conflict(
            "cpus:4; mem:924; mem(reservations: [(DYNAMIC,r)]):100 does not contain mem:5000"
                .to_owned()
        ))
    );
    assert_eq!(
        test.master.operate_as_operator("nosuch", None, Operation::default()),
        Err(Refusal::BadRequest("No agent found with specified ID".to_owned()))
    );
}

#[test]
fn an_agent_brings_its_reservations_back_to_another_master() {
    let mut test = Test::new();
    let checkpointed: v1::Resource = json::from_slice(RESERVED.as_bytes(), Dialect::V1).unwrap();
    let message = internal::ReregisterSlaveMessage {
        slave: v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() },
        checkpointed_resources: vec![checkpointed],
        agent_capabilities: capabilities(),
        ..Default::default()
    };
    test.message(&agent_pid(), &message);
    assert_eq!(test.total(), "cpus:4; mem:924; mem(reservations: [(DYNAMIC,r)]):100");
    test.subscribe_in_role();
    let offered = Resources::from_protos(&test.offer().resources).unallocate();
    assert_eq!(offered.mem(), 1024.0);
}

#[test]
fn two_tasks_use_a_shared_volume_that_is_destroyed_only_after_them() {
    let mut test = Test::new();
    let info = v1::AgentInfo { resources: resources("cpus:4;mem:1024;disk:100"), ..agent_info() };
    let message = internal::RegisterSlaveMessage {
        slave: info,
        agent_capabilities: capabilities(),
        resource_version_uuid: Some(v1::Uuid { value: vec![7; 16] }),
        ..Default::default()
    };
    test.message(&agent_pid(), &message);
    let stream = test.subscribe_in_role();
    let disk = RESERVED.replace(r#""mem""#, r#""disk""#);
    let volume = disk.replace(
        r#""reservations""#,
        r#""shared":{},"disk":{"persistence":{"id":"v"},"volume":{"container_path":"p","mode":"RW"}},"reservations""#,
    );
    let volumes = format!(r#"{{"volumes":[{volume}]}}"#);
    let reserve = operation(&format!(r#"{{"type":"RESERVE","reserve":{{"resources":[{disk}]}}}}"#));
    let create = operation(&format!(r#"{{"type":"CREATE","create":{volumes}}}"#));
    let task = |name: &str| {
        format!(
            r#"{{"name":"t","task_id":{{"value":"{name}"}},"agent_id":{{"value":"M-S0"}},"command":{{"value":"true"}},"resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":1}}}},{volume}]}}"#
        )
    };
    let launch = operation(&format!(
        r#"{{"type":"LAUNCH","launch":{{"task_infos":[{},{}]}}}}"#,
        task("a"),
        task("b")
    ));
    test.accept_all(stream, vec![reserve, create, launch]);
    assert_eq!(test.sent::<internal::RunTaskMessage>(&agent_pid()).len(), 2);
    let offered = Resources::from_protos(&test.offer().resources);
    assert_eq!(offered.shared().disk(), 100.0, "it is offered while it is used");
    let destroy =
        operation(&format!(r#"{{"type":"DESTROY","id":{{"value":"d"}},"destroy":{volumes}}}"#));
    test.accept_all(stream, vec![destroy]);
    assert!(test.statuses()[0].message().starts_with("Persistent volumes in use; on agent M-S0"));
}
