//! What frameworks may not: each refused in the words that the original used when it was asked the same.

use mesos::json::{self, Dialect};
use mesos::v1::offer::Operation;

use super::*;

fn parsed<M: json::Json>(text: &str) -> M {
    json::from_slice(text.as_bytes(), Dialect::V1).unwrap()
}

fn error(test: &Test) -> Option<String> {
    test.events(event::Type::Error).into_iter().next().map(|event| event.error.unwrap().message)
}

#[test]
fn a_framework_that_comes_back_is_who_it_was() {
    let mut test = Test::new();
    let principal = |name: &str| Some(name.to_owned());
    test.subscribe(v1::FrameworkInfo { principal: principal("p"), ..framework_info() });
    let id = Some(v1::FrameworkId { value: "M-0000".to_owned() });
    let back = v1::FrameworkInfo { id, principal: principal("p"), ..framework_info() };
    let thief = v1::FrameworkInfo { principal: principal("q"), ..back.clone() };
    let before = test.master.frameworks["M-0000"].connection.clone();
    for other in [thief, v1::FrameworkInfo { principal: None, ..back.clone() }] {
        test.subscribe(other);
        assert_eq!(error(&test).unwrap(), "Changing framework's principal is not allowed.");
        assert_eq!(test.master.frameworks["M-0000"].connection, before);
    }
    test.subscribe(v1::FrameworkInfo {
        user: "root".to_owned(),
        checkpoint: Some(false),
        name: "other".to_owned(),
        ..back
    });
    let info = &test.master.frameworks["M-0000"].info;
    assert_eq!(
        (info.user.as_str(), info.checkpoint(), info.name.as_str()),
        ("nobody", true, "other"),
        "user and checkpointing stay"
    );
}

#[test]
fn a_framework_says_what_can_be() {
    for (info, expected) in [
        (
            r#""offer_filters":{"*":{"min_allocatable_resources":{"quantities":[{"quantities":{"cpus":{"value":-1}}}]}}}"#,
            "Invalid resource quantity for 'cpus': Negative values not supported",
        ),
        (
            r#""offer_filters":{"*":{"min_allocatable_resources":{"quantities":[{}]}}}"#,
            "Resource quantities must contain at least one quantity",
        ),
    ] {
        let mut test = Test::new();
        test.subscribe(parsed(&format!(r#"{{"user":"u","name":"n",{info}}}"#)));
        assert_eq!(error(&test).as_deref(), Some(expected));
    }
    for (constraints, expected) in [
        (
            r#"{"role_constraints":{"*":{}}}"#,
            Some(
                "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role *",
            ),
        ),
        (
            r#"{"role_constraints":{"another":{"groups":[{"attribute_constraints":[{"selector":{"attribute_name":"rack"},"predicate":{"exists":{}}}]}]}}}"#,
            None,
        ),
    ] {
        let mut test = Test::new();
        let subscribe = call::Subscribe {
            framework_info: framework_info(),
            offer_constraints: Some(parsed(constraints)),
            ..Default::default()
        };
        test.master.subscribe(test.now, StreamId(uuid::Uuid::new_v4()), subscribe);
        test.settle();
        assert_eq!(error(&test).as_deref(), expected, "{constraints}");
    }
}

#[test]
fn a_framework_changes_what_it_may_of_itself() {
    let mut test = Test::new();
    let stream = test.subscribe(framework_info());
    let id = || Some(v1::FrameworkId { value: "M-0000".to_owned() });
    let mut update = |framework_info: v1::FrameworkInfo, constraints: &str| {
        let update = call::UpdateFramework {
            framework_info,
            offer_constraints: Some(parsed(constraints)),
            ..Default::default()
        };
        let kind = Some(call::Type::UpdateFramework as i32);
        test.call(
            stream,
            Call { r#type: kind, update_framework: Some(update), ..Default::default() },
        )
    };
    let own = v1::FrameworkInfo { id: id(), ..framework_info() };
    let other = |text: &str| Err(CallError::BadRequest(text.to_owned()));
    assert_eq!(
        update(framework_info(), "{}"),
        other(
            "Failed to validate scheduler::Call: 'framework_id' differs from 'update_framework.framework_info.id'"
        )
    );
    let principal = Some("p".to_owned());
    assert_eq!(
        update(v1::FrameworkInfo { principal, ..own.clone() }, "{}"),
        other("FrameworkInfo update is not valid: Changing framework's principal is not allowed.")
    );
    assert_eq!(
        update(own.clone(), r#"{"role_constraints":{"q":{}}}"#),
        other(
            "'UpdateFramework.offer_constraints' are not valid: 'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role q"
        )
    );
    assert_eq!(update(own, "{}"), Ok(()));
}

fn accept(test: &mut Test, stream: StreamId, offers: Vec<v1::OfferId>, operation: &str) {
    let accept = call::Accept {
        offer_ids: offers,
        operations: vec![parsed::<Operation>(operation)],
        filters: None,
    };
    let kind = Some(call::Type::Accept as i32);
    test.call(stream, Call { r#type: kind, accept: Some(accept), ..Default::default() }).unwrap();
}

#[test]
fn operations_lack_nothing() {
    for (operation, expected) in [
        (
            r#"{"type":"UNRESERVE","id":{"value":"o"}}"#,
            "Operation attempted with invalid resources: An UNRESERVE offer operation must have the Offer.Operation.unreserve field set.",
        ),
        (
            r#"{"type":"GROW_VOLUME","id":{"value":"o"}}"#,
            "Operation attempted with invalid resources: A GROW_VOLUME operation must have the Offer.Operation.grow_volume field set",
        ),
        (
            r#"{"type":"CREATE_DISK","id":{"value":"o"},"create_disk":{"source":{"name":"disk","type":"SCALAR","scalar":{"value":1}},"target_type":"MOUNT"}}"#,
            "'source' is not managed by a resource provider; on agent",
        ),
        (
            r#"{"type":"CREATE_DISK","id":{"value":"o"},"create_disk":{"source":{"name":"disk","type":"SCALAR","scalar":{"value":1},"provider_id":{"value":"z"},"disk":{"source":{"type":"RAW"}}},"target_type":"PATH"}}"#,
            "'target_type' is neither MOUNT or BLOCK; on agent",
        ),
        (
            r#"{"type":"DESTROY_DISK","id":{"value":"o"},"destroy_disk":{"source":{"name":"disk","type":"SCALAR","scalar":{"value":1}}}}"#,
            "'source' is not managed by a resource provider; on agent",
        ),
        (
            r#"{"type":"DESTROY","id":{"value":"o"},"destroy":{"volumes":[{"name":"disk","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"*"}}]}}"#,
            "Not a persistent volume: Resource disk:1 does not have DiskInfo; on agent",
        ),
    ] {
        let mut test = Test::new();
        test.register_capable();
        let stream = test.subscribe(framework_info());
        let offer = test.offer().id;
        accept(&mut test, stream, vec![offer], operation);
        let statuses = test.events(event::Type::UpdateOperationStatus);
        let status = &statuses[0].update_operation_status.as_ref().unwrap().status;
        assert!(status.message().starts_with(expected), "{}", status.message());
        accept(&mut test, stream, vec![v1::OfferId { value: "x".to_owned() }], operation);
        let statuses = test.events(event::Type::UpdateOperationStatus);
        assert_eq!(
            statuses[0].update_operation_status.as_ref().unwrap().status.message(),
            "Operation attempted with invalid offers: Offer x is no longer valid"
        );
    }
}

#[test]
fn launches_have_no_feedback_and_are_refused_whole() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    for (id, cpus, expected) in [
        (r#""id":{"value":"o"},"#, "1", "The `id` field cannot be set on LAUNCH operations"),
        ("", "-1", "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0"),
    ] {
        test.after(6.0);
        let offer = test.offer().id;
        let task = |name: &str, cpus: &str| {
            format!(
                r#"{{"name":"{name}","task_id":{{"value":"{name}"}},"agent_id":{{"value":"M-S0"}},"command":{{"value":"true"}},"resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":{cpus}}}}}]}}"#
            )
        };
        let operation = format!(
            r#"{{"type":"LAUNCH",{id}"launch":{{"task_infos":[{},{}]}}}}"#,
            task("right", "1"),
            task("wrong", cpus)
        );
        accept(&mut test, stream, vec![offer], &operation);
        let statuses = test.task_statuses();
        assert_eq!(statuses.len(), 2);
        for status in statuses {
            assert_eq!((status.state(), status.message()), (TaskState::TaskError, expected));
        }
        assert!(test.sent::<internal::RunTaskMessage>(&agent_pid()).is_empty());
    }
}
