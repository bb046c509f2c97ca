//! What metrics count, where the original's figures surprise.

use std::collections::BTreeMap;

use master::view::metrics::{Around, Moment, snapshot};

use super::*;

fn metrics(test: &Test) -> BTreeMap<String, f64> {
    snapshot(Some(&Moment::of(&test.master)), Around::default()).into_iter().collect()
}

fn aware() -> v1::FrameworkInfo {
    let capability = v1::framework_info::capability::Type::PartitionAware as i32;
    let capabilities = vec![v1::framework_info::Capability { r#type: Some(capability) }];
    v1::FrameworkInfo { capabilities, principal: Some("p".to_owned()), ..framework_info() }
}

#[test]
fn each_launched_task_is_an_operation_and_a_refused_one_is_none_of_its_framework() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(aware());
    let much = v1::TaskInfo { resources: resources("cpus:100"), ..task("much") };
    test.launch(stream, vec![task("t1"), task("t2"), much]);
    let all = metrics(&test);
    let own = |name: &str| all[&format!("master/frameworks/{}/M-0000/{name}", aware().name)];
    assert_eq!((own("operations"), own("operations/launch")), (2.0, 2.0));
    assert_eq!((own("tasks/terminal/task_error"), all["master/tasks_error"]), (0.0, 1.0));
}

#[test]
fn frameworks_that_are_over_and_their_principals_are_counted_on() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(aware());
    test.launch(stream, vec![task("t1")]);
    test.master.remove_framework(test.now, "M-0000");
    let all = metrics(&test);
    let own = |name: &str| all[&format!("master/frameworks/{}/M-0000/{name}", aware().name)];
    assert_eq!((own("subscribed"), own("operations/launch")), (0.0, 1.0));
    // It stays, though calls over HTTP are no messages.
    assert_eq!(all["frameworks/p/messages_processed"], 0.0);
}

#[test]
fn unreachable_is_who_is_it_now_and_gone_is_no_removal() {
    let mut test = Test::new();
    test.register();
    let stream = test.subscribe(aware());
    test.launch(stream, vec![task("t1")]);
    for _ in 0..5 {
        test.after(15.0);
    }
    let all = metrics(&test);
    assert_eq!((all["master/tasks_unreachable"], all["master/slave_removals"]), (1.0, 1.0));
    test.master.mark_agent_gone(test.now, "M-S0").unwrap();
    test.settle();
    let all = metrics(&test);
    assert_eq!((all["master/tasks_unreachable"], all["master/slave_removals"]), (0.0, 1.0));
    assert_eq!(all["master/tasks_gone_by_operator"], 1.0);
}
