//! Executors with a v0 driver.

use super::*;
use crate::core::ExecutorState;

const EXECUTOR: &str = "127.0.0.1:7000";

fn custom(id: &str) -> v1::TaskInfo {
    let executor = v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: "e".into() },
        ..Default::default()
    };
    v1::TaskInfo { executor: Some(executor), command: None, ..task(id) }
}

fn framework_id() -> v1::FrameworkId {
    v1::FrameworkId { value: FRAMEWORK_ID.into() }
}

fn executor_id() -> v1::ExecutorId {
    v1::ExecutorId { value: "e".into() }
}

fn update(task: &str, state: TaskState, uuid: u8) -> m::StatusUpdateMessage {
    m::StatusUpdateMessage {
        update: m::StatusUpdate {
            framework_id: framework_id(),
            executor_id: Some(executor_id()),
            // Older drivers name neither the source nor, inside, the uuid.
            status: v1::TaskStatus { source: None, uuid: None, ..status(task, state, uuid) },
            timestamp: 1e9,
            uuid: Some(vec![uuid; 16]),
            ..Default::default()
        },
        pid: None,
    }
}

fn registered() -> Conversation {
    let mut own = Conversation::registered();
    own.hear(&run(custom("t")));
    own.launched().unwrap();
    own.seen.clear();
    let register =
        m::RegisterExecutorMessage { framework_id: framework_id(), executor_id: executor_id() };
    own.hear_from(EXECUTOR, &register);
    own
}

#[test]
fn an_executor_registers_runs_and_reports_by_messages() {
    let mut own = registered();
    let told = own.sent::<m::ExecutorRegisteredMessage>();
    assert_eq!(told[0].slave_id.value, AGENT_ID);
    assert_eq!(own.sent::<m::RunTaskMessage>()[0].task.task_id.value, "t");
    own.hear_from(EXECUTOR, &update("t", TaskState::TaskRunning, 1));
    assert_eq!(own.states(), [(TaskState::TaskRunning, None)]);
    assert_eq!(own.sent::<m::StatusUpdateAcknowledgementMessage>()[0].uuid, [1; 16]);
    own.hear(&m::KillTaskMessage {
        framework_id: framework_id(),
        task_id: v1::TaskId { value: "t".into() },
        kill_policy: None,
    });
    assert_eq!(own.sent::<m::KillTaskMessage>()[0].task_id.value, "t");
    let said = m::ExecutorToFrameworkMessage {
        slave_id: v1::AgentId { value: AGENT_ID.into() },
        framework_id: framework_id(),
        executor_id: executor_id(),
        data: b"x".to_vec(),
    };
    own.hear_from(EXECUTOR, &said);
    assert_eq!(own.sent::<m::ExecutorToFrameworkMessage>().len(), 1);
    own.hear(&m::ShutdownExecutorMessage {
        framework_id: Some(framework_id()),
        executor_id: Some(executor_id()),
    });
    assert_eq!(own.sent::<m::ShutdownExecutorMessage>().len(), 1);
}

#[test]
fn a_v0_driver_and_its_executors_talk_without_the_master() {
    let mut own = registered();
    own.hear_from(EXECUTOR, &update("t", TaskState::TaskRunning, 1));
    let scheduler = "127.0.0.1:7002";
    let (slave_id, data) = (v1::AgentId { value: AGENT_ID.into() }, b"x".to_vec());
    let to_executor = m::FrameworkToExecutorMessage {
        slave_id: slave_id.clone(),
        framework_id: framework_id(),
        executor_id: executor_id(),
        data: data.clone(),
    };
    let to_framework = m::ExecutorToFrameworkMessage {
        slave_id,
        framework_id: framework_id(),
        executor_id: executor_id(),
        data,
    };
    // `hear_from` calls every sender so.
    let pid = format!("master@{scheduler}");
    let receivers = |own: &mut Conversation| -> Vec<String> {
        own.hear_from(EXECUTOR, &to_framework);
        let name = m::ExecutorToFrameworkMessage::full_name();
        let sent = own.seen.iter().filter_map(|effect| match effect {
            Effect::Send(to, sent, _) if *sent == name => Some(to.address.to_string()),
            _ => None,
        });
        let sent = sent.collect();
        own.seen.clear();
        sent
    };
    assert_eq!(receivers(&mut own), [MASTER], "nobody said where it is");
    own.hear_from(scheduler, &to_executor);
    assert!(own.sent::<m::FrameworkToExecutorMessage>().is_empty(), "a stranger");
    let learn = |pid: &str| m::UpdateFrameworkMessage {
        framework_id: framework_id(),
        framework_info: Some(framework()),
        pid: Some(pid.to_owned()),
    };
    own.hear(&learn(&pid));
    own.seen.clear();
    own.hear_from(scheduler, &to_executor);
    assert_eq!(own.sent::<m::FrameworkToExecutorMessage>().len(), 1);
    assert_eq!(receivers(&mut own), [scheduler]);
    own.hear(&learn("@0.0.0.0:0"));
    assert_eq!(receivers(&mut own), [MASTER], "it speaks HTTP now");
    assert_eq!(own.agent.counters["slave/valid_framework_messages"], 4);
    assert_eq!(own.agent.counters["slave/invalid_framework_messages"], 1);
}

#[test]
fn strangers_are_sent_away_and_not_believed() {
    let mut own = registered();
    own.seen.clear();
    own.hear_from("127.0.0.1:7001", &update("t", TaskState::TaskFinished, 2));
    assert!(own.states().is_empty(), "another process");
    let register =
        m::RegisterExecutorMessage { framework_id: framework_id(), executor_id: executor_id() };
    own.hear_from("127.0.0.1:7001", &register);
    assert_eq!(own.sent::<m::ShutdownExecutorMessage>().len(), 1, "there is one already");
    assert_eq!(own.agent.counters["slave/invalid_status_updates"], 1);
}

#[test]
fn a_restarted_agent_asks_its_executors_to_register_again() {
    let mut own = registered();
    own.hear_from(EXECUTOR, &update("t", TaskState::TaskRunning, 1));
    let run = &own.agent.frameworks[FRAMEWORK_ID].executors["e"].run;
    let pids = run.meta(own.disk.path()).join("pids/forked.pid");
    crate::checkpoint::replace(&pids, b"1").unwrap();
    let (mut own, _) = own.restarted(|_| {});
    assert_eq!(own.sent::<m::ReconnectExecutorMessage>().len(), 1);
    let again = m::ReregisterExecutorMessage {
        executor_id: executor_id(),
        framework_id: framework_id(),
        tasks: vec![custom("t")],
        updates: vec![update("t", TaskState::TaskRunning, 3).update],
    };
    own.hear_from(EXECUTOR, &again);
    assert_eq!(own.sent::<m::ExecutorReregisteredMessage>().len(), 1);
    assert_eq!(own.sent::<m::StatusUpdateAcknowledgementMessage>()[0].uuid, [3; 16]);
    let state = own.agent.frameworks[FRAMEWORK_ID].executors["e"].state;
    assert_eq!(state, ExecutorState::Running);
    assert!(own.sent::<m::RunTaskMessage>().is_empty(), "it has its task");
}
