//! Draining.

use super::*;

fn config(mark_gone: bool) -> v1::DrainConfig {
    v1::DrainConfig {
        max_grace_period: Some(v1::DurationInfo { nanoseconds: 5_000_000_000 }),
        mark_gone: Some(mark_gone),
    }
}

fn aware(message: m::RunTaskMessage) -> m::RunTaskMessage {
    let capability = v1::framework_info::Capability {
        r#type: Some(v1::framework_info::capability::Type::PartitionAware as i32),
    };
    let framework =
        v1::FrameworkInfo { capabilities: vec![capability], ..message.framework.clone() };
    m::RunTaskMessage { framework, launch_executor: Some(true), ..message }
}

#[test]
fn tasks_are_killed_within_the_operators_time_and_new_ones_dropped() {
    let (mut own, container) = Conversation::running("t");
    own.hear(&m::DrainSlaveMessage { config: config(false) });
    let events = own.events();
    let policy = events[0].kill.as_ref().unwrap().kill_policy.unwrap();
    assert_eq!(policy.grace_period.unwrap().nanoseconds, 5_000_000_000);
    own.hear(&aware(run(task("late"))));
    let dropped = (TaskState::TaskDropped, Some(Reason::AgentDraining));
    assert_eq!(own.states(), [dropped]);
    assert_eq!(own.sent::<m::ExitedExecutorMessage>().len(), 1);
    own.update("t", TaskState::TaskKilled, 2).unwrap();
    own.acknowledge("t", &[1; 16]);
    assert_eq!(own.states(), [(TaskState::TaskKilled, Some(Reason::AgentDraining))]);
    assert!(own.agent.draining.is_some());
    own.agent.container_ended(own.now, &container, Some(0), None);
    own.acknowledge("t", &[2; 16]);
    assert!(own.agent.draining.is_none(), "nothing is left");
    own.hear(&aware(run(task("later"))));
    assert!(own.launched().is_some());
}

#[test]
fn a_restarted_agent_goes_on_draining_and_tasks_of_a_gone_agent_are_gone() {
    let mut own = Conversation::registered();
    own.hear(&aware(run(task("t"))));
    own.launched().unwrap();
    own.subscribe("t", call::Subscribe::default());
    own.update("t", TaskState::TaskRunning, 1).unwrap();
    own.hear(&m::DrainSlaveMessage { config: config(true) });
    let (mut own, _) = own.restarted(|_| {});
    assert!(own.agent.draining.is_some());
    own.reregistered();
    own.subscribe("t", call::Subscribe::default());
    assert_eq!(own.event_types(), [event::Type::Subscribed, event::Type::Kill]);
    own.acknowledge("t", &[1; 16]);
    own.seen.clear();
    own.update("t", TaskState::TaskKilled, 2).unwrap();
    let gone = (TaskState::TaskGoneByOperator, Some(Reason::AgentDraining));
    assert_eq!(own.states(), [gone]);
}

#[test]
fn an_agent_without_tasks_has_nothing_to_drain() {
    let mut own = Conversation::registered();
    own.hear(&m::DrainSlaveMessage { config: config(false) });
    assert!(own.agent.draining.is_none());
}
