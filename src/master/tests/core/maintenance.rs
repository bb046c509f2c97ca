//! Maintenance: the schedule, inverse offers, machines that go down and come back.

use mesos::json::{self, Dialect};
use mesos::v1::maintenance::Schedule;

use super::*;

fn schedule(text: &str) -> Schedule {
    json::from_slice(text.as_bytes(), Dialect::V1).unwrap()
}

const WINDOW: &str = r#"{"windows":[{"machine_ids":[{"hostname":"AGENT1","ip":"10.0.0.1"}],"unavailability":{"start":{"nanoseconds":5}}}]}"#;

fn machine() -> Vec<v1::MachineId> {
    vec![v1::MachineId { hostname: Some("agent1".to_owned()), ip: Some("10.0.0.1".to_owned()) }]
}

impl Test {
    fn inverse_offers(&self) -> Vec<v1::InverseOffer> {
        let events = self.events(event::Type::InverseOffers).into_iter();
        events.flat_map(|event| event.inverse_offers.unwrap().inverse_offers).collect()
    }
}

#[test]
fn frameworks_are_asked_for_what_they_have_until_they_answer() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(framework_info());
    assert_eq!(test.offer().unavailability, None);
    test.master.update_schedule(schedule(WINDOW)).unwrap();
    test.settle();
    assert_eq!(test.events(event::Type::Rescind).len(), 1);
    assert!(test.offer().unavailability.is_some());
    let asked = test.inverse_offers().remove(0);
    test.after(5.0);
    assert!(test.inverse_offers().is_empty(), "asked once");
    let decline = call::DeclineInverseOffers {
        inverse_offer_ids: vec![asked.id],
        filters: Some(v1::Filters { refuse_seconds: Some(3.0) }),
    };
    let decline = Call {
        r#type: Some(call::Type::DeclineInverseOffers as i32),
        decline_inverse_offers: Some(decline),
        ..Default::default()
    };
    test.call(stream, decline).unwrap();
    test.after(1.0);
    assert!(test.inverse_offers().is_empty(), "refused for a while");
    test.after(3.0);
    let again = test.inverse_offers().remove(0);
    let accept = call::AcceptInverseOffers {
        inverse_offer_ids: vec![again.id],
        filters: Some(v1::Filters { refuse_seconds: Some(1000.0) }),
    };
    let accept = Call {
        r#type: Some(call::Type::AcceptInverseOffers as i32),
        accept_inverse_offers: Some(accept),
        ..Default::default()
    };
    test.call(stream, accept).unwrap();
    let status = test.master.maintenance_status();
    assert_eq!(status.draining_machines[0].statuses[0].status, 2, "ACCEPT");
    test.master.update_schedule(Schedule::default()).unwrap();
    test.settle();
    assert_eq!(test.offer().unavailability, None);
}

#[test]
fn a_machine_that_is_down_keeps_its_agents_out_until_it_is_up() {
    let mut test = Test::new();
    test.register();
    assert_eq!(
        test.master.start_maintenance(test.now, &machine()),
        Err(Refusal::BadRequest(
            r#"Machine '{"hostname":"agent1","ip":"10.0.0.1"}' is not in DRAINING mode and cannot be brought down"#
                .to_owned()
        ))
    );
    let capability = v1::framework_info::capability::Type::PartitionAware as i32;
    let capabilities = vec![v1::framework_info::Capability { r#type: Some(capability) }];
    let stream = test.subscribe(v1::FrameworkInfo { capabilities, ..framework_info() });
    test.launch(stream, vec![task("t1")]);
    test.master.update_schedule(schedule(WINDOW)).unwrap();
    test.master.start_maintenance(test.now, &machine()).unwrap();
    test.settle();
    assert_eq!(test.sent::<internal::ShutdownMessage>(&agent_pid()).len(), 1);
    assert!(test.master.agents.is_empty());
    // Even to those who know of agents that are gone.
    let status = test.task_statuses().remove(0);
    assert_eq!(status.state(), TaskState::TaskLost);
    assert_eq!(status.message(), "Agent agent1 removed: Operator initiated 'Machine DOWN'");
    test.register();
    assert_eq!(
        test.sent::<internal::ShutdownMessage>(&agent_pid())[0].message(),
        "Machine is `DOWN`"
    );
    // So it is after a failover.
    let mut test = Test::with_registry(test.master.registry.clone());
    test.register();
    assert!(test.master.agents.is_empty());
    assert!(test.master.update_schedule(Schedule::default()).is_err());
    test.master.stop_maintenance(&machine()).unwrap();
    assert!(test.master.stop_maintenance(&machine()).is_err());
    assert!(test.master.schedule().windows.is_empty());
    test.register();
    assert_eq!(test.master.agents.len(), 1);
}
