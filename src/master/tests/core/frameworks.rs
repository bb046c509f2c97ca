//! Frameworks: offers, tasks, refusals, failover.

use super::*;

#[test]
fn a_task_goes_all_the_way_and_its_resources_come_back_in_the_next_round() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    test.launch(stream, vec![task("t1")]);
    assert_eq!(test.sent::<internal::RunTaskMessage>(&agent_pid())[0].task.task_id.value, "t1");
    test.after(6.0);
    assert_eq!(test.master.offers.len(), 1, "what was left is offered after the filter's 5 s");
    test.update("t1", TaskState::TaskRunning, 1);
    assert_eq!(test.states(), [("t1".to_owned(), TaskState::TaskRunning)]);
    test.acknowledge(stream, "t1", 1);
    assert_eq!(test.sent::<internal::StatusUpdateAcknowledgementMessage>(&agent_pid()).len(), 1);
    test.update("t1", TaskState::TaskFinished, 2);
    assert_eq!(test.master.offers.len(), 1, "not before the next round");
    test.after(1.0);
    assert_eq!(test.master.offers.len(), 2);
    test.acknowledge(stream, "t1", 2);
    let framework = &test.master.frameworks["M-0000"];
    assert!(framework.tasks.is_empty());
    assert_eq!(framework.completed.len(), 1);
}

#[test]
fn what_is_declined_for_no_time_is_not_offered_again_at_once() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    let decline = call::Decline {
        offer_ids: vec![test.offer().id],
        filters: Some(v1::Filters { refuse_seconds: Some(0.0) }),
    };
    test.call(
        stream,
        Call {
            r#type: Some(call::Type::Decline as i32),
            decline: Some(decline),
            ..Default::default()
        },
    )
    .unwrap();
    assert!(
        test.master.offers.is_empty(),
        "a framework that declines everything must not keep the master busy"
    );
    test.after(1.0);
    assert_eq!(test.master.offers.len(), 1);
}

#[test]
fn tasks_that_may_not_run_are_refused_in_the_originals_words() {
    type Change = fn(&mut v1::TaskInfo);
    let cases: &[(&str, Change, &str)] = &[
        ("a/b", |_| {}, "'a/b' contains invalid characters"),
        ("none", |task| task.resources.clear(), "Task uses no resources"),
        (
            "both",
            |task| task.command = None,
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        (
            "check",
            |task| {
                task.health_check = Some(v1::HealthCheck { r#type: Some(2), ..Default::default() })
            },
            "Task uses invalid health check: Expecting 'http' to be set for HTTP health check",
        ),
        (
            "kill",
            |task| {
                task.kill_policy = Some(v1::KillPolicy {
                    grace_period: Some(v1::DurationInfo { nanoseconds: -1 }),
                });
            },
            "Task's 'kill_policy.grace_period' must be non-negative",
        ),
        (
            "much",
            |task| task.resources = resources("cpus:100"),
            "Total resources cpus(allocated: *):100 required by task and its executor is more than available cpus(allocated: *):4; mem(allocated: *):1024",
        ),
    ];
    for (name, change, expected) in cases {
        let mut test = Test::new();
        test.register();
        let stream = test.subscribe(framework_info());
        let mut wrong = task(name);
        change(&mut wrong);
        test.launch(stream, vec![wrong]);
        let status = test.events(event::Type::Update)[0].clone().update.unwrap().status;
        assert_eq!((status.state(), status.message()), (TaskState::TaskError, *expected), "{name}");
        assert!(test.master.frameworks["M-0000"].tasks.is_empty());
    }
}

#[test]
fn of_a_group_with_one_wrong_task_none_runs() {
    let mut test = Test::new();
    let slave = v1::AgentInfo { resources: resources("cpus:4;mem:1024;disk:100"), ..agent_info() };
    test.message(&agent_pid(), &internal::RegisterSlaveMessage { slave, ..Default::default() });
    let stream = test.subscribe(framework_info());
    let executor = |own: &str| v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Default as i32),
        executor_id: v1::ExecutorId { value: "pod".to_owned() },
        framework_id: Some(v1::FrameworkId { value: "M-0000".to_owned() }),
        resources: resources(own),
        ..Default::default()
    };
    let enough = "cpus:0.1;mem:32;disk:1";
    for (own, tasks, expected) in [
        (enough, vec![task("a"), task("..")], TaskState::TaskError),
        ("cpus:0.1;mem:32", vec![task("a"), task("b")], TaskState::TaskError),
        ("cpus:0.1;mem:16;disk:1", vec![task("a"), task("b")], TaskState::TaskError),
        ("mem:32;disk:1", vec![task("a"), task("b")], TaskState::TaskError),
        (enough, vec![task("a"), task("b")], TaskState::TaskStaging),
    ] {
        launch_group(&mut test, stream, executor(own), tasks);
        if expected == TaskState::TaskError {
            assert_eq!(test.states().len(), 2);
            assert!(test.sent::<internal::RunTaskGroupMessage>(&agent_pid()).is_empty());
        } else {
            assert_eq!(
                test.sent::<internal::RunTaskGroupMessage>(&agent_pid())[0].task_group.tasks.len(),
                2
            );
        }
    }
}

#[test]
fn the_executor_of_a_group_is_of_a_type_that_is_known_and_in_no_docker_container() {
    use v1::container_info::Type as Container;
    use v1::executor_info::Type;
    let mut test = Test::new();
    let slave = v1::AgentInfo { resources: resources("cpus:4;mem:1024;disk:100"), ..agent_info() };
    test.message(&agent_pid(), &internal::RegisterSlaveMessage { slave, ..Default::default() });
    let stream = test.subscribe(framework_info());
    let in_docker = || v1::ContainerInfo {
        r#type: Container::Docker as i32,
        docker: Some(v1::container_info::DockerInfo::default()),
        ..Default::default()
    };
    let default = Some(Type::Default);
    for (of, has_command, is_its_container, expected) in [
        (None, false, true, "'ExecutorInfo.type' must be set"),
        (Some(Type::Unknown), false, true, "Unknown executor type"),
        (
            Some(Type::Custom),
            false,
            true,
            "'ExecutorInfo.command' must be set for 'CUSTOM' executor",
        ),
        (default, true, true, "'ExecutorInfo.command' must not be set for 'DEFAULT' executor"),
        (Some(Type::Custom), true, true, "Docker ContainerInfo is not supported on the executor"),
        (
            default,
            false,
            true,
            "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor",
        ),
        (
            default,
            false,
            false,
            "Task 'a' is invalid: Docker ContainerInfo is not supported on the task",
        ),
    ] {
        let executor = v1::ExecutorInfo {
            r#type: of.map(|of| of as i32),
            executor_id: v1::ExecutorId { value: "pod".to_owned() },
            framework_id: Some(v1::FrameworkId { value: "M-0000".to_owned() }),
            resources: resources("cpus:0.1;mem:32;disk:1"),
            command: has_command.then(v1::CommandInfo::default),
            container: is_its_container.then(in_docker),
            ..Default::default()
        };
        let container = (!is_its_container).then(in_docker);
        let task = v1::TaskInfo { container, ..task("a") };
        launch_group(&mut test, stream, executor, vec![task]);
        let status = test.events(event::Type::Update)[0].update.clone().unwrap().status;
        assert_eq!(status.message(), expected);
        assert_eq!(status.state(), TaskState::TaskError);
        assert_eq!(status.reason(), v1::task_status::Reason::TaskGroupInvalid);
        assert!(test.sent::<internal::RunTaskGroupMessage>(&agent_pid()).is_empty());
    }
}

#[test]
fn a_framework_that_stays_away_is_removed_after_its_failover_timeout() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    test.launch(stream, vec![task("t1")]);
    test.master.stream_closed(test.now, stream);
    test.after(59.0);
    assert_eq!(test.master.frameworks["M-0000"].tasks.len(), 1);
    assert!(test.master.offers.is_empty(), "who is away is offered nothing");
    test.after(2.0);
    assert!(test.master.frameworks.is_empty());
    assert_eq!(test.sent::<internal::ShutdownFrameworkMessage>(&agent_pid()).len(), 1);
}

#[test]
fn with_a_framework_its_tasks_on_agents_that_cannot_be_reached_are_over() {
    let mut test = Test::new();
    test.register();
    let capability = v1::framework_info::capability::Type::PartitionAware as i32;
    let capabilities = vec![v1::framework_info::Capability { r#type: Some(capability) }];
    let stream = test.subscribe(v1::FrameworkInfo { capabilities, ..framework_info() });
    test.launch(stream, vec![task("t1")]);
    for _ in 0..5 {
        test.after(15.0);
    }
    assert_eq!(test.master.frameworks["M-0000"].unreachable.len(), 1);
    for (asked, told) in [(vec![], 0), (vec!["t1"], 1)] {
        let named = |task: &str| call::reconcile::Task {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: None,
        };
        let reconcile = call::Reconcile { tasks: asked.into_iter().map(named).collect() };
        let kind = Some(call::Type::Reconcile as i32);
        let call = Call { r#type: kind, reconcile: Some(reconcile), ..Default::default() };
        test.call(stream, call).unwrap();
        assert_eq!(test.task_statuses().len(), told);
    }
    test.master.remove_framework(test.now, "M-0000");
    let completed = &test.master.completed_frameworks["M-0000"];
    assert!(completed.unreachable.is_empty());
    assert_eq!(completed.completed[0].task.state(), TaskState::TaskKilled);
}

#[test]
fn an_agent_that_runs_nothing_of_a_framework_hears_of_its_end_too() {
    let mut test = Test::new();
    test.register();
    test.subscribe(framework_info());
    test.master.remove_framework(test.now, "M-0000");
    test.settle();
    assert_eq!(test.sent::<internal::ShutdownFrameworkMessage>(&agent_pid()).len(), 1);
}

#[test]
fn a_scheduler_that_takes_over_ends_the_stream_of_the_one_before() {
    let mut test = Test::new();
    let old = test.subscribe(framework_info());
    let info = v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: "M-0000".to_owned() }),
        ..framework_info()
    };
    let new = test.subscribe(info);
    assert!(test.effects.contains(&Effect::Close(old)));
    assert_eq!(
        test.events(event::Type::Error)[0].error.as_ref().unwrap().message,
        "Framework failed over"
    );
    let revive = || Call { r#type: Some(call::Type::Revive as i32), ..Default::default() };
    assert!(matches!(test.call(old, revive()), Err(CallError::BadRequest(_))));
    assert_eq!(test.call(new, revive()), Ok(()));
}
