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
        test.master
            .drain_agent(test.now, &DrainAgent { agent_id: id("other"), ..Default::default() }),
        Err(Refusal::BadRequest("Unknown agent".to_owned()))
    );
    let drain = DrainAgent { agent_id: id("M-S0"), mark_gone: Some(true), ..Default::default() };
    test.master.drain_agent(test.now, &drain).unwrap();
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

#[test]
fn weights_of_the_flag_count_until_others_are_set() {
    let settings = || Settings { weights: vec![("dev".into(), 2.0)], ..Settings::default() };
    let mut test = Test::with(settings(), Registry::default());
    let weights = |test: &Test| {
        let each = test.master.registry.weights.iter();
        each.map(|weight| (weight.info.role().to_owned(), weight.info.weight)).collect::<Vec<_>>()
    };
    assert_eq!(weights(&test), [("dev".to_owned(), 2.0)]);
    let set = v1::WeightInfo { role: Some("dev".into()), weight: 3.0 };
    test.master.update_weights(&[set]).unwrap();
    let again = Test::with(settings(), test.master.registry.clone());
    assert_eq!(weights(&again), [("dev".to_owned(), 3.0)]);
}

#[test]
fn only_roles_of_the_flag_are_taken() {
    let roles = Some(["*".to_owned(), "dev".to_owned()].into());
    let mut test = Test::with(Settings { roles, ..Settings::default() }, Registry::default());
    let in_role = |role: &str| v1::FrameworkInfo { role: Some(role.into()), ..framework_info() };
    test.subscribe(in_role("dev"));
    assert_eq!(test.master.frameworks.len(), 1);
    test.subscribe(in_role("ops"));
    let errors = test.events(event::Type::Error);
    let message = &errors[0].error.as_ref().unwrap().message;
    assert_eq!(message, "Roles { ops } are not present in the master's --roles");
    let set = v1::WeightInfo { role: Some("ops".into()), weight: 3.0 };
    let refused = format!("{:?}", test.master.update_weights(&[set]).unwrap_err());
    assert!(refused.contains("Unknown role 'ops'"), "{refused}");
}
