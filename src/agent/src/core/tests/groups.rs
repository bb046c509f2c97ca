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
