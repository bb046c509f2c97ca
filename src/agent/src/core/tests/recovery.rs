//! What an agent that starts again makes of what was left, and how one leaves for good.

use super::*;
use crate::core::ExecutorState;

#[test]
fn a_restarted_agent_takes_its_executors_back_and_repeats_what_nobody_acknowledged() {
    let (own, container) = Conversation::running("t");
    let (mut own, watched) = own.restarted(|_| {});
    assert_eq!(watched, [container.as_str()]);
    own.reregistered();
    let again = own.sent::<m::ReregisterSlaveMessage>();
    assert_eq!(again[0].slave.id.as_ref().unwrap().value, AGENT_ID);
    assert_eq!(again[0].tasks[0].state(), TaskState::TaskRunning);
    assert_eq!(again[0].tasks[0].status_update_uuid.as_deref(), Some(&[1u8; 16][..]));
    assert_eq!(own.states(), [(TaskState::TaskRunning, None)], "it was never acknowledged");
    own.subscribe("t", call::Subscribe::default());
    assert_eq!(own.event_types(), [event::Type::Subscribed]);
    own.later(5.0);
    assert!(!own.destroyed(&container), "it came back in time");
}

#[test]
fn nobody_hears_after_a_restart_of_tasks_whose_framework_was_shut_down() {
    let shutdown = m::ShutdownFrameworkMessage { framework_id: framework().id.unwrap() };
    for ends_first in [false, true] {
        let (mut own, container) = Conversation::running("t");
        if !ends_first {
            own.hear(&shutdown);
        }
        own.agent.container_ended(own.now, &container, Some(9), None);
        own.settle();
        if ends_first {
            own.hear(&shutdown);
        }
        let (mut own, watched) = own.restarted(|_| {});
        assert!(watched.is_empty());
        own.reregistered();
        assert!(own.sent::<m::ReregisterSlaveMessage>()[0].tasks.is_empty());
        assert_eq!(own.states(), []);
    }
}

#[test]
fn an_executor_that_does_not_come_back_is_destroyed() {
    let (own, container) = Conversation::running("t");
    let (mut own, _) = own.restarted(|_| {});
    own.reregistered();
    own.acknowledge("t", &[1; 16]);
    own.seen.clear();
    own.later(2.5);
    assert!(own.destroyed(&container));
    own.agent.container_ended(own.now, &container, None, None);
    own.settle();
    assert_eq!(
        own.states(),
        [(TaskState::TaskFailed, Some(Reason::ExecutorReregistrationTimeout))]
    );
}

#[test]
fn a_task_that_waited_for_its_executor_is_handed_over_after_a_restart() {
    let mut own = Conversation::registered();
    own.hear(&run(task("t")));
    let container = own.launched().unwrap();
    // The launcher notes the process.
    let agent = &own.agent.frameworks[FRAMEWORK_ID].executors["t"];
    let pids = agent.run.meta(own.disk.path()).join("pids/forked.pid");
    crate::checkpoint::replace(&pids, b"1").unwrap();
    let (mut own, watched) = own.restarted(|_| {});
    assert_eq!(watched, [container.as_str()]);
    own.subscribe("t", call::Subscribe::default());
    assert_eq!(own.event_types(), [event::Type::Subscribed, event::Type::Launch]);
}

#[test]
fn a_kill_waits_until_it_shows_whether_the_executor_has_the_task() {
    for has_it in [false, true] {
        let mut own = Conversation::registered();
        own.hear(&run(task("t")));
        own.launched().unwrap();
        let agent = &own.agent.frameworks[FRAMEWORK_ID].executors["t"];
        let pids = agent.run.meta(own.disk.path()).join("pids/forked.pid");
        crate::checkpoint::replace(&pids, b"1").unwrap();
        let (mut own, _) = own.restarted(|_| {});
        own.reregistered();
        own.seen.clear();
        own.hear(&m::KillTaskMessage {
            framework_id: framework().id.unwrap(),
            task_id: v1::TaskId { value: "t".into() },
            kill_policy: None,
        });
        assert_eq!(own.states(), [], "nobody knows yet");
        let tasks = if has_it { vec![task("t")] } else { Vec::new() };
        own.subscribe("t", call::Subscribe { unacknowledged_tasks: tasks, ..Default::default() });
        let killed = (TaskState::TaskKilled, Some(Reason::TaskKilledDuringLaunch));
        if has_it {
            assert_eq!(own.event_types(), [event::Type::Subscribed, event::Type::Kill]);
            assert_eq!(own.states(), []);
        } else {
            assert_eq!(own.event_types(), [event::Type::Subscribed, event::Type::Shutdown]);
            assert_eq!(own.states(), [killed]);
        }
    }
}

#[test]
fn updates_of_a_framework_that_is_shut_down_are_not_acknowledged() {
    let (mut own, _) = Conversation::running("t");
    own.hear(&m::ShutdownFrameworkMessage { framework_id: framework().id.unwrap() });
    own.seen.clear();
    own.update("t", TaskState::TaskKilled, 2).unwrap();
    // Or the executor says nothing of the task to the next agent, which would hand it out again.
    assert_eq!(own.event_types(), []);
}

#[test]
fn an_executor_that_was_noted_but_never_started_is_started() {
    let mut own = Conversation::registered();
    own.hear(&run(task("t")));
    let container = own.launched().unwrap();
    let (mut own, watched) = own.restarted(|_| {});
    assert!(watched.is_empty());
    assert_eq!(own.launched(), Some(container));
    let executor = &own.agent.frameworks[FRAMEWORK_ID].executors["t"];
    assert!(matches!(executor.state, ExecutorState::Registering(_)));
}

#[test]
fn cleaning_up_ends_what_ran_and_then_the_agent() {
    let (own, container) = Conversation::running("t");
    let (mut own, _) = own.restarted(|settings| settings.cleans_up = true);
    assert!(own.destroyed(&container));
    own.agent.container_ended(own.now, &container, None, None);
    own.settle();
    assert!(own.seen.iter().any(|effect| matches!(effect, Effect::Abort(Ending::Done))));
    let reader = found::Reader { work_dir: own.disk.path(), is_strict: true };
    assert!(reader.read(false).unwrap().is_none(), "the next agent is a new one");
}

#[test]
fn an_agent_that_the_master_shuts_down_ends_its_tasks_first_and_starts_as_a_new_one() {
    let (mut own, container) = Conversation::running("t");
    own.hear(&m::ShutdownMessage { message: Some("removed".into()) });
    assert_eq!(own.event_types(), [event::Type::Shutdown]);
    own.hear(&run(task("late")));
    assert!(own.launched().is_none());
    own.later(6.0);
    assert!(own.destroyed(&container), "it did not end by itself");
    own.agent.container_ended(own.now, &container, Some(9), None);
    own.settle();
    let expected = "the master told this agent to shut down: removed";
    assert!(own.seen.iter().any(
        |effect| matches!(effect, Effect::Abort(Ending::Failure(reason)) if reason == expected)
    ));
    let reader = found::Reader { work_dir: own.disk.path(), is_strict: true };
    assert!(reader.read(false).unwrap().is_none());
}

#[test]
fn torn_updates_are_cut_and_damaged_messages_refused_by_name() {
    let (own, _) = Conversation::running("t");
    let directory =
        own.agent.frameworks[FRAMEWORK_ID].executors["t"].run.task(own.disk.path(), "t");
    let path = directory.join("task.updates");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &[200, 0, 0, 0, 1, 2]].concat()).unwrap();
    let strict = found::Reader { work_dir: own.disk.path(), is_strict: true };
    let recovered = strict.read(false).unwrap().unwrap();
    assert_eq!(recovered.frameworks[0].1[0].tasks[0].records.len(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), whole, "the tail is gone from the file too");

    let path = directory.join("task.info");
    std::fs::write(&path, b"\x05\0\0\0x").unwrap();
    let error = strict.read(false).unwrap_err().to_string();
    assert!(error.contains("task.info") && error.contains("damaged"), "{error}");
    let lenient = found::Reader { is_strict: false, ..strict };
    assert!(lenient.read(false).unwrap().unwrap().frameworks[0].1[0].tasks.is_empty());
}
