//! Task groups.

use super::*;

fn group(tasks: &[&str]) -> m::RunTaskGroupMessage {
    let executor = v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: "pod".into() },
        r#type: Some(v1::executor_info::Type::Default as i32),
        ..Default::default()
    };
    let tasks =
        tasks.iter().map(|id| v1::TaskInfo { executor: Some(executor.clone()), ..task(id) });
    m::RunTaskGroupMessage {
        framework: framework(),
        executor: executor.clone(),
        task_group: v1::TaskGroupInfo { tasks: tasks.collect() },
        ..Default::default()
    }
}

/// The tasks of each group that an executor got.
fn groups(events: &[Event]) -> Vec<Vec<&str>> {
    let launches = events.iter().filter_map(|event| event.launch_group.as_ref());
    launches
        .map(|launch| {
            launch.task_group.tasks.iter().map(|task| task.task_id.value.as_str()).collect()
        })
        .collect()
}

#[test]
fn groups_wait_for_their_executor_and_arrive_whole() {
    let mut own = Conversation::registered();
    own.hear(&group(&["a", "b"]));
    assert!(own.launched().is_some());
    own.hear(&group(&["c"]));
    assert_eq!(own.launched(), None, "the executor is on its way");
    own.subscribe("pod", call::Subscribe::default());
    assert_eq!(groups(&own.events()), [vec!["a", "b"], vec!["c"]]);
    own.hear(&group(&["d", "e"]));
    assert_eq!(groups(&own.events()), [vec!["d", "e"]]);
    own.hear(&group(&["d", "f"]));
    assert!(own.events().is_empty(), "a group is not run in parts");
}

#[test]
fn a_group_that_waits_is_killed_whole() {
    let mut own = Conversation::registered();
    own.hear(&group(&["a", "b"]));
    own.hear(&group(&["c"]));
    own.hear(&m::KillTaskMessage {
        framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
        task_id: v1::TaskId { value: "b".into() },
        kill_policy: None,
    });
    let killed = (TaskState::TaskKilled, Some(Reason::TaskKilledDuringLaunch));
    assert_eq!(own.states(), [killed, killed]);
    own.subscribe("pod", call::Subscribe::default());
    assert_eq!(groups(&own.events()), [vec!["c"]]);
}

#[test]
fn an_executor_that_never_got_a_group_is_of_no_use_once_none_waits() {
    let kill = |task: &str| m::KillTaskMessage {
        framework_id: v1::FrameworkId { value: FRAMEWORK_ID.into() },
        task_id: v1::TaskId { value: task.into() },
        kill_policy: None,
    };
    // Killed while it waited.
    let mut own = Conversation::registered();
    own.hear(&group(&["a", "b"]));
    let container = own.launched().unwrap();
    own.hear(&kill("a"));
    assert!(own.destroyed(&container));
    // Lost with the stream.
    let mut own = Conversation::registered();
    own.hear(&group(&["a", "b"]));
    own.subscribe("pod", call::Subscribe::default());
    own.agent.stream_closed(StreamId(Uuid::from_u128(1)));
    own.events();
    own.subscribe("pod", call::Subscribe::default());
    assert_eq!(own.states().len(), 2, "both are dropped");
    assert_eq!(own.event_types(), [event::Type::Subscribed, event::Type::Shutdown]);
    // One that got some waits for more, as long as it likes.
    let mut own = Conversation::registered();
    own.hear(&group(&["a"]));
    own.subscribe("pod", call::Subscribe::default());
    let mut update = call("pod", call::Type::Update);
    update.update = Some(call::Update { status: status("a", TaskState::TaskFinished, 1) });
    own.agent.call(own.now, update).unwrap();
    own.settle();
    own.agent.stream_closed(StreamId(Uuid::from_u128(1)));
    own.events();
    own.subscribe("pod", call::Subscribe::default());
    assert_eq!(own.event_types(), [event::Type::Subscribed]);
}

#[test]
fn a_group_that_waited_is_handed_over_whole_after_a_restart() {
    let mut own = Conversation::registered();
    own.hear(&group(&["a", "b"]));
    own.hear(&group(&["c"]));
    let agent = &own.agent.frameworks[FRAMEWORK_ID].executors["pod"];
    let pids = agent.run.meta(own.disk.path()).join("pids/forked.pid");
    crate::checkpoint::replace(&pids, b"1").unwrap();
    let (mut own, watched) = own.restarted(|_| {});
    assert_eq!(watched.len(), 1);
    own.subscribe("pod", call::Subscribe::default());
    assert_eq!(groups(&own.events()), [vec!["a", "b"], vec!["c"]]);
}

#[test]
fn a_group_for_an_executor_that_is_gone_is_dropped() {
    let mut own = Conversation::registered();
    own.hear(&m::RunTaskGroupMessage { launch_executor: Some(false), ..group(&["a", "b"]) });
    // The framework knows nothing of partitions.
    let lost = (TaskState::TaskLost, Some(Reason::ExecutorTerminated));
    assert_eq!(own.states(), [lost, lost]);
    assert_eq!(own.launched(), None);
}

#[test]
fn what_would_run_as_a_user_that_the_host_has_not_is_dropped() {
    let mut own = Conversation::with(info(), |settings| {
        settings.switch_user = true;
        settings.check_user =
            |name| if name == "nobody" { Ok(()) } else { Err(format!("No such user '{name}'")) };
    });
    own.leader();
    own.hear(&m::SlaveRegisteredMessage {
        slave_id: v1::AgentId { value: AGENT_ID.into() },
        connection: None,
    });
    own.seen.clear();
    let stranger = || v1::FrameworkInfo { user: "stranger".into(), ..framework() };
    let with_user = |id: &str, user: &str| {
        let mut task = task(id);
        task.command.as_mut().unwrap().user = Some(user.into());
        task
    };
    let launch_executor = Some(true);
    own.hear(&m::RunTaskGroupMessage { framework: stranger(), ..group(&["a", "b"]) });
    own.hear(&m::RunTaskMessage { launch_executor, ..run(with_user("c", "stranger")) });
    let sent = own.sent::<m::StatusUpdateMessage>();
    assert_eq!(sent.len(), 3);
    let ended = "Failed to chown directory to 'stranger': No such user 'stranger'";
    for update in sent.into_iter().map(|message| message.update) {
        // The framework knows nothing of partitions.
        assert_eq!(update.status.state(), TaskState::TaskLost);
        assert_eq!(update.status.reason(), Reason::ExecutorTerminated);
        let message = update.status.message();
        assert!(message.starts_with("Failed to create executor directory '"), "{message}");
        assert!(message.ends_with(ended), "{message}");
    }
    assert_eq!(own.sent::<m::ExitedExecutorMessage>().len(), 1, "the master counts it");
    assert_eq!(own.launched(), None);
    // A task's own user comes before its framework's.
    own.hear(&m::RunTaskMessage { framework: stranger(), ..run(with_user("d", "nobody")) });
    assert!(own.launched().is_some());
}
