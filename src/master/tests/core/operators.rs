//! Operators: draining, deactivation, weights.

use super::*;

#[test]
fn an_agent_drains_and_is_gone_when_its_tasks_have_ended() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    test.launch(stream, vec![task("t1")]);
    test.after(6.0);
    assert_eq!(
        test.master.drain_agent(&DrainAgent { agent_id: id("other"), ..Default::default() }),
        Err(Refusal::BadRequest("Unknown agent".to_owned()))
    );
    let drain = DrainAgent { agent_id: id("M-S0"), mark_gone: Some(true), ..Default::default() };
    test.master.drain_agent(&drain).unwrap();
    test.settle();
    assert_eq!(test.sent::<internal::DrainSlaveMessage>(&agent_pid()).len(), 1);
    assert_eq!(test.events(event::Type::Rescind).len(), 1, "nothing of it is offered any more");
    assert_eq!(
        test.master.reactivate_agent("M-S0"),
        Err(Refusal::BadRequest("Agent is still in the DRAINING state".to_owned()))
    );
    test.update("t1", TaskState::TaskKilled, 1);
    test.after(1.0);
    assert_eq!(test.master.agents.len(), 1, "the end of the task is not acknowledged");
    test.acknowledge(stream, "t1", 1);
    test.after(1.0);
    assert!(test.master.agents.is_empty());
    assert_eq!(test.sent::<internal::ShutdownMessage>(&agent_pid()).len(), 1);
    assert_eq!(test.master.registry.gone.as_ref().unwrap().slaves.len(), 1);
    let again = internal::ReregisterSlaveMessage {
        slave: v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() },
        ..Default::default()
    };
    test.message(&agent_pid(), &again);
    assert_eq!(test.sent::<internal::ShutdownMessage>(&agent_pid()).len(), 1);
    assert!(test.master.agents.is_empty());
}

#[test]
fn a_deactivated_agent_stays_so_for_the_next_leader() {
    let mut test = Test::new();
    test.register();
    test.master.deactivate_agent("M-S0").unwrap();
    let mut test = Test::with_registry(test.master.registry.clone());
    test.subscribe(framework_info());
    let back = internal::ReregisterSlaveMessage {
        slave: v1::AgentInfo { id: Some(id("M-S0")), ..agent_info() },
        ..Default::default()
    };
    test.message(&agent_pid(), &back);
    test.after(1.0);
    assert!(test.master.agents["M-S0"].deactivated);
    assert!(test.master.offers.is_empty());
    test.master.reactivate_agent("M-S0").unwrap();
    test.settle();
    assert_eq!(test.master.offers.len(), 1);
}

#[test]
fn weights_are_kept_and_wrong_ones_change_nothing() {
    let mut test = Test::new();
    let weight = |role: &str, weight: f64| v1::WeightInfo { role: Some(role.to_owned()), weight };
    let wrong = test.master.update_weights(&[weight("a", 2.0), weight("b", 0.0)]);
    assert!(
        matches!(wrong, Err(Refusal::BadRequest(text)) if text.contains("Weights must be positive"))
    );
    assert!(test.master.registry.weights.is_empty());
    test.master.update_weights(&[weight("a", 2.0)]).unwrap();
    test.master.update_weights(&[weight("a", 3.0)]).unwrap();
    assert_eq!(test.master.registry.weights.len(), 1);
    assert_eq!(test.master.registry.weights[0].info.weight, 3.0);
}
