//! Agents: registration, pings, a new leader, lost connections.

use super::*;

fn executor() -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: "e".to_owned() },
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        resources: resources("cpus:1;mem:128"),
        ..Default::default()
    }
}

#[test]
fn an_agent_is_on_disk_before_it_is_answered() {
    let mut test = Test::new();
    test.register();
    let store = test.effects.iter().position(|effect| *effect == Effect::Store).unwrap();
    let answer =
        test.effects.iter().position(|effect| matches!(effect, Effect::Send { .. })).unwrap();
    assert!(store < answer);
    assert_eq!(test.sent::<internal::SlaveRegisteredMessage>(&agent_pid())[0].slave_id, id("M-S0"));
    test.register();
    assert_eq!(test.master.agents.len(), 1, "an agent that did not hear the answer asks again");
}

#[test]
fn an_agent_that_answers_no_ping_is_unreachable_after_the_time_it_was_told() {
    let mut test = Test::new();
    test.register();
    for _ in 0..4 {
        test.after(15.0);
        assert_eq!(test.sent::<internal::PingSlaveMessage>(&agent_pid()).len(), 1);
    }
    assert_eq!(test.master.agents.len(), 1);
    test.after(15.0);
    assert!(test.master.agents.is_empty(), "75 s");
    assert_eq!(test.master.registry.unreachable.as_ref().unwrap().slaves.len(), 1);
}

#[test]
fn a_pong_keeps_an_agent() {
    let mut test = Test::new();
    test.register();
    for _ in 0..20 {
        test.after(15.0);
        let name = internal::PongSlaveMessage::full_name();
        test.named(&agent_pid(), "slave-observer(1)", name, &internal::PongSlaveMessage {});
    }
    assert_eq!(test.master.agents.len(), 1);
}

#[test]
fn tasks_without_a_checkpoint_are_lost_with_the_agents_connection() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(v1::FrameworkInfo { checkpoint: Some(false), ..framework_info() });
    test.launch(
        stream,
        vec![v1::TaskInfo { command: None, executor: Some(executor()), ..task("t1") }],
    );
    test.master.peer_exited(test.now, agent_pid().address);
    test.settle();
    assert_eq!(test.states(), [("t1".to_owned(), TaskState::TaskLost)]);
    let status = test.events(event::Type::Update).remove(0).update.unwrap().status;
    assert_eq!(status.message(), "Agent agent1 disconnected");
    assert!(test.master.offers.is_empty());
    assert!(test.master.frameworks["M-0000"].executors.is_empty());
    assert_eq!(test.master.allocator.free("M-S0").get("cpus"), 4.0, "its executor's, too");
}

#[test]
fn a_new_leader_admits_the_agents_of_the_last_and_their_tasks() {
    let mut test = Test::new();
    test.register();
    let mut test = Test::with_registry(test.master.registry.clone());
    assert_eq!(test.master.recovered_agents.len(), 1);
    let running = v1::Task {
        task_id: v1::TaskId { value: "t1".to_owned() },
        framework_id: v1::FrameworkId { value: "F".to_owned() },
        agent_id: id("M-S0"),
        state: TaskState::TaskRunning as i32,
        resources: resources("cpus:1;mem:128"),
        ..Default::default()
    };
    let framework = v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: "F".to_owned() }),
        ..framework_info()
    };
    let message = internal::ReregisterSlaveMessage {
        slave: v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() },
        tasks: vec![running],
        frameworks: vec![framework],
        ..Default::default()
    };
    test.message(&agent_pid(), &message);
    assert_eq!(test.sent::<internal::SlaveReregisteredMessage>(&agent_pid()).len(), 1);
    assert!(test.master.recovered_agents.is_empty());
    assert_eq!(test.master.frameworks["F"].tasks.len(), 1);
    assert_eq!(test.master.allocator.free("M-S0").get("cpus"), 3.0);
}

#[test]
fn agents_that_do_not_come_back_to_a_new_leader_are_unreachable() {
    let mut test = Test::new();
    test.register();
    let mut test = Test::with_registry(test.master.registry.clone());
    test.after(599.0);
    assert_eq!(test.master.recovered_agents.len(), 1);
    test.after(2.0);
    assert!(test.master.recovered_agents.is_empty());
    assert_eq!(test.master.registry.unreachable.as_ref().unwrap().slaves.len(), 1);
}

#[test]
fn an_executor_that_a_returning_agent_does_not_report_holds_nothing_any_more() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    let custom = v1::TaskInfo { command: None, executor: Some(executor()), ..task("t1") };
    test.launch(stream, vec![custom]);
    assert_eq!(test.master.frameworks["M-0000"].executors.len(), 1);
    let slave = v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() };
    test.message(&agent_pid(), &internal::ReregisterSlaveMessage { slave, ..Default::default() });
    let framework = &test.master.frameworks["M-0000"];
    assert!(framework.executors.is_empty());
    assert_eq!(test.offer().resources[0].scalar.unwrap().value, 3.0, "the task may be under way");
    test.update("t1", TaskState::TaskDropped, 1);
    assert_eq!(test.master.allocator.free("M-S0").get("cpus"), 1.0, "all but the offer is free");
}

#[test]
fn an_agent_is_asked_of_tasks_that_it_does_not_report() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    test.launch(stream, vec![task("t1")]);
    // It had sent this before the task reached it.
    let again = internal::ReregisterSlaveMessage {
        slave: v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() },
        ..Default::default()
    };
    test.message(&agent_pid(), &again);
    assert!(test.states().is_empty(), "the task may still arrive");
    let reply = test.sent::<internal::SlaveReregisteredMessage>(&agent_pid()).remove(0);
    assert_eq!(reply.reconciliations[0].framework_id.value, "M-0000");
    assert_eq!(reply.reconciliations[0].statuses[0].task_id.value, "t1");
    test.update("t1", TaskState::TaskRunning, 1);
    assert_eq!(test.states(), [("t1".to_owned(), TaskState::TaskRunning)]);

    // An end that was told is told once.
    test.update("t1", TaskState::TaskFinished, 2);
    test.message(&agent_pid(), &again);
    let reply = test.sent::<internal::SlaveReregisteredMessage>(&agent_pid()).remove(0);
    assert!(reply.reconciliations.is_empty() && test.states().is_empty());
    assert!(test.master.frameworks["M-0000"].tasks.is_empty());
}

/// An agent registers again with one task.
fn reported(task: &str, state: TaskState) -> internal::ReregisterSlaveMessage {
    internal::ReregisterSlaveMessage {
        slave: v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() },
        tasks: vec![v1::Task {
            task_id: v1::TaskId { value: task.to_owned() },
            framework_id: v1::FrameworkId { value: "M-0000".to_owned() },
            agent_id: id("M-S0"),
            state: state as i32,
            resources: resources("cpus:1;mem:128"),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn what_ended_and_was_acknowledged_since_an_agent_told_of_it_does_not_come_back() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    test.launch(stream, vec![task("t1")]);
    test.update("t1", TaskState::TaskFinished, 1);
    test.acknowledge(stream, "t1", 1);
    for is_cut_off in [false, true] {
        for state in [TaskState::TaskFinished, TaskState::TaskRunning] {
            if is_cut_off {
                (0..6).for_each(|_| test.after(15.0));
                assert!(test.master.agents.is_empty());
            }
            test.message(&agent_pid(), &reported("t1", state));
            assert!(test.master.frameworks["M-0000"].tasks.is_empty(), "{state:?}");
            assert!(test.master.agents["M-S0"].tasks.is_empty(), "{state:?}");
        }
    }
}

#[test]
fn an_end_that_was_not_acknowledged_comes_again_with_an_agent_that_was_cut_off() {
    for told in [TaskState::TaskRunning, TaskState::TaskFinished] {
        let mut test = Test::new();
        test.register();
        let stream = test.subscribe(framework_info());
        test.launch(stream, vec![task("t1")]);
        let mut update = update("t1", told, 1);
        update.update.latest_state = Some(TaskState::TaskFinished as i32);
        test.message(&agent_pid(), &update);
        (0..6).for_each(|_| test.after(15.0));
        assert!(test.master.agents.is_empty());
        assert_eq!(test.master.frameworks["M-0000"].completed.len(), 1);
        test.message(&agent_pid(), &reported("t1", TaskState::TaskFinished));
        let framework = &test.master.frameworks["M-0000"];
        assert_eq!(framework.tasks["t1"].state(), TaskState::TaskFinished);
        assert!(framework.completed.is_empty(), "none is over and awaited at once");
        assert_eq!(test.states(), [("t1".to_owned(), TaskState::TaskFinished)]);

        test.update("t1", TaskState::TaskFinished, 2);
        test.acknowledge(stream, "t1", 2);
        assert_eq!(test.master.frameworks["M-0000"].completed.len(), 1);
    }
}

#[test]
fn a_framework_hears_how_its_tasks_are_when_an_agent_is_back() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    test.launch(stream, vec![task("t1")]);
    test.update("t1", TaskState::TaskRunning, 1);
    (0..6).for_each(|_| test.after(15.0));
    let again = reported("t1", TaskState::TaskRunning);
    test.message(&agent_pid(), &again);
    let [status] = test.task_statuses().try_into().unwrap();
    assert_eq!(status.state(), TaskState::TaskRunning);
    assert_eq!(status.reason(), v1::task_status::Reason::AgentReregistered);
    assert_eq!(status.source(), v1::task_status::Source::Master);
    assert_eq!(status.message(), "Unreachable agent re-reregistered");
    assert_eq!(status.uuid, None, "there is nothing to acknowledge");

    // One that was there all along brings no news; nor does one that a new master waits for.
    test.message(&agent_pid(), &again);
    assert!(test.states().is_empty());
    let mut test = Test::with_registry(test.master.registry.clone());
    test.subscribe(v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: "M-0000".to_owned() }),
        ..framework_info()
    });
    test.message(&agent_pid(), &again);
    assert!(test.states().is_empty());
}

#[test]
fn an_agent_that_answers_pings_and_never_registers_again_is_given_up() {
    let mut test = Test::new();
    test.register();
    test.master.peer_exited(test.now, agent_pid().address);
    let pong = |test: &mut Test| {
        let name = internal::PongSlaveMessage::full_name();
        test.named(&agent_pid(), "slave-observer(1)", name, &internal::PongSlaveMessage {});
    };
    for _ in 0..59 {
        test.after(10.0);
        pong(&mut test);
    }
    assert_eq!(test.master.agents.len(), 1);
    test.after(10.0);
    assert!(test.master.agents.is_empty(), "600 s");
    assert_eq!(test.master.counters["master/slave_unreachable_completed"], 1);

    // One that registers again stays.
    let mut test = Test::new();
    test.register();
    test.master.peer_exited(test.now, agent_pid().address);
    let slave = v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() };
    test.message(&agent_pid(), &internal::ReregisterSlaveMessage { slave, ..Default::default() });
    for _ in 0..70 {
        test.after(10.0);
        pong(&mut test);
    }
    assert_eq!(test.master.agents.len(), 1);
}
