//! Nested and standalone containers.

use super::*;
use crate::core::container_id::ContainerId;
use crate::core::containers::{
    Ask, Class, Launched, NotRemoved, RecoveredContainer, Termination, Waited,
};

fn ask(id: &ContainerId) -> Ask {
    Ask {
        id: id.clone(),
        class: Class::Default,
        command: v1::CommandInfo { value: Some("true".into()), ..Default::default() },
        container: None,
        resources: mesos::resources::Resources::new(),
        limits: crate::containerizer::ResourceLimits::default(),
    }
}

/// A running executor's container, and one that runs in it.
fn nested() -> (Conversation, ContainerId, ContainerId) {
    let (mut own, container) = Conversation::running("t");
    let root = ContainerId::root_of(&container);
    let child = root.child("n");
    assert_eq!(own.agent.launch_container(ask(&child)), Ok(Launched::Launching));
    own.settle();
    assert_eq!(own.launched(), Some(child.to_string()));
    own.agent.container_started(&child.to_string(), 7);
    own.settle();
    assert!(
        own.seen
            .iter()
            .any(|effect| matches!(effect, Effect::Launched(id, Ok(())) if *id == child))
    );
    own.seen.clear();
    (own, root, child)
}

fn ended(own: &Conversation, container: &ContainerId) -> Option<Termination> {
    own.seen.iter().find_map(|effect| match effect {
        Effect::Ended(id, termination) if id == container => Some(termination.clone()),
        _ => None,
    })
}

#[test]
fn the_end_of_a_nested_container_is_kept_until_it_is_removed() {
    let (mut own, _, child) = nested();
    assert_eq!(own.agent.launch_container(ask(&child)), Ok(Launched::Already));
    let running = NotRemoved::State("Nested container has not terminated yet".into());
    assert_eq!(own.agent.remove_container(&child), Err(running));
    assert_eq!(own.agent.wait_container(&child), Some(Waited::Alive));
    own.agent.container_ended(own.now, &child.to_string(), Some(7 << 8), None);
    own.settle();
    let expected = Termination { status: Some(7 << 8), ..Termination::default() };
    assert_eq!(ended(&own, &child), Some(expected.clone()));
    assert_eq!(own.agent.wait_container(&child), Some(Waited::Ended(expected)));
    assert!(!own.agent.kill_container(&child, None), "it is over");
    assert_eq!(own.agent.remove_container(&child).unwrap().len(), 2);
    assert_eq!(own.agent.wait_container(&child), None);
    assert_eq!(own.agent.remove_container(&child).unwrap().len(), 2, "again is no error");
}

#[test]
fn nested_containers_end_with_the_container_that_they_are_in() {
    let (mut own, root, child) = nested();
    let grandchild = child.child("g");
    own.agent.launch_container(ask(&grandchild)).unwrap();
    own.settle();
    own.agent.container_started(&grandchild.to_string(), 8);
    own.agent.container_ended(own.now, root.root(), Some(0), None);
    own.settle();
    assert!(own.destroyed(&child.to_string()) && own.destroyed(&grandchild.to_string()));
    assert!(ended(&own, &root).is_some(), "whoever waits for the executor hears of it");
    for id in [&grandchild, &child] {
        own.agent.container_ended(own.now, &id.to_string(), Some(9), None);
        own.settle();
        assert_eq!(ended(&own, id).unwrap().status, Some(9));
        assert_eq!(own.agent.wait_container(id), None, "nothing is kept");
    }
    let missing = format!("Parent container {root} does not exist");
    assert_eq!(own.agent.launch_container(ask(&child)), Err(missing));
    assert!(own.agent.containers.is_empty());
}

#[test]
fn signals_go_to_containers_that_run_and_a_kill_ends_all_within() {
    let (mut own, root, child) = nested();
    assert!(own.agent.kill_container(&child, Some(15)));
    own.settle();
    let name = child.to_string();
    assert!(own.seen.iter().any(|effect| matches!(effect, Effect::Signal(id, 15) if *id == name)));
    assert!(own.agent.kill_container(&root, None), "an executor's container may be killed as well");
    own.settle();
    assert!(own.destroyed(&name) && own.destroyed(root.root()));
    let ending = format!("Parent container {child} is in 'DESTROYING' state");
    assert_eq!(own.agent.launch_container(ask(&child.child("g"))), Err(ending));
    assert!(!own.agent.kill_container(&root.child("other"), None));
}

#[test]
fn a_container_that_can_not_start_is_forgotten() {
    let (mut own, root, _) = nested();
    let child = root.child("bad");
    own.agent.launch_container(ask(&child)).unwrap();
    let problem = Problem::new(Reason::ContainerLaunchFailed, "no such user");
    own.agent.container_ended(own.now, &child.to_string(), None, Some(problem));
    own.settle();
    assert!(own.seen.iter().any(
        |effect| matches!(effect, Effect::Launched(id, Err(text)) if *id == child && text == "no such user")
    ));
    assert_eq!(own.agent.wait_container(&child), None);
}

#[test]
fn a_standalone_container_stands_alone() {
    let mut own = Conversation::registered();
    let id = ContainerId::root_of("alone");
    assert_eq!(own.agent.launch_container(ask(&id)), Ok(Launched::Launching));
    own.settle();
    own.agent.container_started("alone", 7);
    let child = id.child("n");
    assert_eq!(own.agent.launch_container(ask(&child)), Ok(Launched::Launching));
    own.agent.container_started(&child.to_string(), 8);
    own.agent.container_ended(own.now, "alone", Some(0), None);
    own.settle();
    assert!(own.destroyed(&child.to_string()));
    own.agent.container_ended(own.now, &child.to_string(), Some(9), None);
    assert!(own.agent.containers.is_empty());
    assert_eq!(own.agent.remove_container(&id).unwrap().len(), 2);
}

#[test]
fn a_restarted_agent_takes_nested_containers_back_and_ends_those_of_nobody() {
    let (own, root, child) = nested();
    let (mut own, _) = own.restarted(|_| {});
    let found = |id: &ContainerId, pid, status, class| RecoveredContainer {
        id: id.clone(),
        pid,
        status,
        class,
        has_io: false,
        has_cgroups: false,
    };
    let lingers = root.child("lingers");
    let (over, session) = (root.child("over"), child.child("session"));
    let orphan = ContainerId::root_of("gone").child("n");
    let (watched, strays) = own.agent.recover_containers(vec![
        found(&child, Some(7), None, Class::Default),
        found(&over, None, Some(256), Class::Default),
        RecoveredContainer { has_cgroups: true, ..found(&lingers, None, Some(9), Class::Default) },
        found(&session, Some(8), None, Class::Session),
        found(&orphan, Some(9), None, Class::Default),
    ]);
    assert_eq!(watched, [(child.clone(), Some(7)), (lingers.clone(), None)]);
    assert_eq!(strays, [(session, 8), (orphan, 9)]);
    assert_eq!(own.agent.wait_container(&child), Some(Waited::Alive));
    let over = own.agent.wait_container(&over);
    assert!(matches!(over, Some(Waited::Ended(Termination { status: Some(256), .. }))));
    // What its cgroups tell is told when they are gone.
    assert_eq!(own.agent.wait_container(&lingers), Some(Waited::Alive));
    let problem = Some(Problem::new(Reason::ContainerLimitationMemory, "too much"));
    own.agent.container_ended(own.now, &lingers.to_string(), Some(9), problem.clone());
    own.settle();
    let expected = Termination { status: Some(9), problem };
    assert_eq!(own.agent.wait_container(&lingers), Some(Waited::Ended(expected)));
}

#[test]
fn a_container_shares_cgroups_with_what_it_is_nested_in_unless_it_asks_for_its_own() {
    let (mut own, _, child) = nested();
    let linux = v1::LinuxInfo { share_cgroups: Some(false), ..Default::default() };
    let apart = v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos as i32,
        linux_info: Some(linux),
        ..Default::default()
    };
    let root = child.root_id();
    for (id, container, shares) in [
        (root.child("apart"), Some(apart), None),
        (root.child("shares"), None, Some(root.to_string())),
        (child.child("inner"), None, Some(child.to_string())),
    ] {
        let limits = crate::containerizer::ResourceLimits { cpus: Some(2.0), mem: None };
        let asked = Ask { container, limits, ..ask(&id) };
        assert_eq!(own.agent.launch_container(asked), Ok(Launched::Launching));
        own.settle();
        let launch = own.seen.iter().rev().find_map(|effect| match effect {
            Effect::Launch(launch) => Some(launch),
            _ => None,
        });
        let launch = launch.expect("a launch");
        let supervision = launch.supervision.as_ref().expect("it has no executor");
        assert_eq!((&supervision.shares, launch.limits), (&shares, limits), "{id}");
    }
}
