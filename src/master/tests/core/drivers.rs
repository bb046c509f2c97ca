//! v0 drivers: messages instead of events.

use super::*;

fn driver_call(kind: call::Type, framework: Option<&str>) -> mesos::scheduler_v0::Call {
    mesos::scheduler_v0::Call {
        r#type: Some(kind as i32),
        framework_id: framework.map(|id| v1::FrameworkId { value: id.to_owned() }),
        ..Default::default()
    }
}

pub(super) fn driver_subscribe(test: &mut Test, from: &Upid, framework: Option<&str>, force: bool) {
    let mut call = driver_call(call::Type::Subscribe, framework);
    let id = framework.map(|id| v1::FrameworkId { value: id.to_owned() });
    call.subscribe = Some(mesos::scheduler_v0::call::Subscribe {
        framework_info: v1::FrameworkInfo { id, ..framework_info() },
        force: Some(force),
        ..Default::default()
    });
    test.named(from, "master", "mesos.scheduler.Call".to_owned(), &call);
}

#[test]
fn a_driver_hears_in_messages_what_others_hear_as_events() {
    let mut test = Test::new();
    test.register();
    let driver = upid("scheduler-1@10.0.0.9:4000");
    driver_subscribe(&mut test, &driver, None, false);
    let registered = test.sent::<internal::FrameworkRegisteredMessage>(&driver);
    assert_eq!(registered[0].framework_id.value, "M-0000");
    let offers = test.sent::<internal::ResourceOffersMessage>(&driver);
    assert_eq!(offers[0].pids, [agent_pid().to_string()]);
    assert_eq!(
        offers[0].offers[0].resources[0].role(),
        "*",
        "drivers know no other form of resources"
    );

    let launch = v1::offer::operation::Launch { task_infos: vec![task("t1")] };
    let mut accept = driver_call(call::Type::Accept, Some("M-0000"));
    accept.accept = Some(call::Accept {
        offer_ids: vec![test.offer().id],
        operations: vec![v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(launch),
            ..Default::default()
        }],
        filters: None,
    });
    test.named(&driver, "master", "mesos.scheduler.Call".to_owned(), &accept);
    assert_eq!(test.sent::<internal::RunTaskMessage>(&agent_pid())[0].pid(), driver.to_string());
    test.update("t1", TaskState::TaskRunning, 1);
    let update = &test.sent::<internal::StatusUpdateMessage>(&driver)[0];
    assert_eq!(
        (update.pid(), update.update.uuid()),
        (agent_pid().to_string().as_str(), uuid_of(1).as_slice())
    );

    // Calls of somebody else in its name are ignored.
    let stranger = upid("scheduler-2@10.0.0.9:4001");
    test.named(
        &stranger,
        "master",
        "mesos.scheduler.Call".to_owned(),
        &driver_call(call::Type::Teardown, Some("M-0000")),
    );
    assert_eq!(test.master.frameworks.len(), 1);

    // Without force another scheduler does not take over, with it does.
    driver_subscribe(&mut test, &stranger, Some("M-0000"), false);
    assert_eq!(
        test.sent::<internal::FrameworkErrorMessage>(&stranger)[0].message,
        "Framework failed over"
    );
    driver_subscribe(&mut test, &stranger, Some("M-0000"), true);
    assert_eq!(
        test.sent::<internal::FrameworkErrorMessage>(&driver)[0].message,
        "Framework failed over"
    );
    assert_eq!(test.sent::<internal::FrameworkRegisteredMessage>(&stranger).len(), 1);
    assert_eq!(
        test.sent::<internal::UpdateFrameworkMessage>(&agent_pid())[0].pid(),
        stranger.to_string()
    );

    // Its connection breaks, and it comes back.
    test.master.peer_exited(test.now, stranger.address);
    test.settle();
    assert!(!test.master.frameworks["M-0000"].is_connected());
    driver_subscribe(&mut test, &stranger, Some("M-0000"), false);
    assert_eq!(test.sent::<internal::FrameworkReregisteredMessage>(&stranger).len(), 1);
}

#[test]
fn a_driver_with_a_limit_waits_for_its_turn() {
    let limits = r#"{"limits": [{"principal": "p", "qps": 1, "capacity": 1}]}"#;
    let rate_limits = master::core::throttle::RateLimits::parse(limits).unwrap();
    let mut test = Test::with(Settings { rate_limits, ..Settings::default() }, Registry::default());
    let driver = upid("scheduler-1@10.0.0.9:4000");
    let mut subscribe = driver_call(call::Type::Subscribe, None);
    subscribe.subscribe = Some(mesos::scheduler_v0::call::Subscribe {
        framework_info: v1::FrameworkInfo { principal: Some("p".into()), ..framework_info() },
        ..Default::default()
    });
    test.named(&driver, "master", "mesos.scheduler.Call".to_owned(), &subscribe);
    let calls = |test: &Test, kind: &str| {
        test.master.frameworks["M-0000"].counters.get(&format!("calls/{kind}")).copied()
    };
    let revive = driver_call(call::Type::Revive, Some("M-0000"));
    // The first goes at once, the second waits, and there is no room for the third.
    for _ in 0..3 {
        test.named(&driver, "master", "mesos.scheduler.Call".to_owned(), &revive);
    }
    assert_eq!(calls(&test, "revive"), Some(1));
    assert_eq!(test.master.unprocessed_messages("p"), 2, "one waits, one was dropped");
    let errors = test.sent::<internal::FrameworkErrorMessage>(&driver);
    let text = "Message mesos.scheduler.Call dropped: capacity(1) exceeded";
    assert_eq!(errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>(), [text]);
    // The end of its connection comes after what it said before.
    test.master.peer_exited(test.now, driver.address);
    assert!(matches!(test.master.frameworks["M-0000"].connection, Connection::Pid(_)));
    test.after(1.0);
    assert_eq!(calls(&test, "revive"), Some(2));
    test.after(1.0);
    assert!(!matches!(test.master.frameworks["M-0000"].connection, Connection::Pid(_)));
}
