//! What is left of what has ended.

use super::*;
use crate::checkpoint::paths::Run;
use crate::core::garbage::{Garbage, Waste};

const DAY: Duration = Duration::from_secs(86_400);

fn waste(id: &str) -> Waste {
    Waste::Framework("a".to_owned(), id.to_owned())
}

#[test]
fn what_has_ended_is_removed_in_time_and_sooner_when_the_disk_fills() {
    let mut garbage = Garbage::new(DAY * 7, 0.1);
    garbage.add(DAY, Duration::ZERO, waste("new"));
    garbage.add(DAY, DAY * 6, waste("old"));
    assert_eq!(garbage.pending(), 4);
    assert!(garbage.take_due(DAY).is_empty());
    assert_eq!(garbage.take_due(DAY * 2), [waste("old")], "a day was left of its seven");
    garbage.disk_used(DAY * 2, 0.5);
    assert_eq!(garbage.max_age(), (DAY * 7).mul_f64(0.4));
    assert!(garbage.take_due(DAY * 2).is_empty(), "a day old, and 2.8 are allowed");
    garbage.disk_used(DAY * 2, 0.85);
    assert_eq!(garbage.take_due(DAY * 2), [waste("new")], "0.35 are allowed");
    garbage.add(DAY * 2, Duration::ZERO, waste("kept"));
    garbage.keep(&waste("kept"));
    garbage.disk_used(DAY * 2, 1.0);
    assert!(garbage.take_due(DAY * 9).is_empty());
}

#[test]
fn a_framework_that_is_gone_is_forgotten_on_disk_unless_it_comes_back() {
    let (mut own, container) = Conversation::running("t");
    own.update("t", TaskState::TaskFinished, 2).unwrap();
    own.acknowledge("t", &[1; 16]);
    own.acknowledge("t", &[2; 16]);
    own.agent.container_ended(own.now, &container, Some(0), None);
    own.settle();
    let collected = |own: &Conversation| -> Vec<Waste> {
        let waste = own.seen.iter().filter_map(|effect| match effect {
            Effect::Collect(waste) => Some(waste.clone()),
            _ => None,
        });
        waste.collect()
    };
    own.hear(&run(task("again")));
    own.later(604_801.0);
    let run = Run {
        agent: AGENT_ID.into(),
        framework: FRAMEWORK_ID.into(),
        executor: "t".into(),
        container,
    };
    assert_eq!(collected(&own), [Waste::Run(run)], "and not the framework");
}
