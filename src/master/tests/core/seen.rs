//! What is shown to whom: by users of frameworks and tasks, and by roles.

use master::view::operator;
use master::view::seen::{Everything, Seen, Sight};
use master::view::shown::{Shown, View};
use master::view::summary::TaskQuery;
use serde_json::{Value, json};

use super::*;

/// Sees what is of one user, no flags, and no role but `*`.
struct Only(&'static str);

impl Seen for Only {
    fn flags(&self) -> bool {
        false
    }
    fn role(&self, role: &str) -> bool {
        role == "*"
    }
    fn framework(&self, framework: &v1::FrameworkInfo) -> bool {
        framework.user == self.0
    }
    fn task(&self, framework: &v1::FrameworkInfo, task: &v1::Task) -> bool {
        task.user.as_deref().unwrap_or(&framework.user) == self.0
    }
    fn executor(&self, framework: &v1::FrameworkInfo, _: &v1::ExecutorInfo) -> bool {
        framework.user == self.0
    }
}

/// Sees frameworks, but not what they run.
struct Frameworks;

impl Seen for Frameworks {
    fn flags(&self) -> bool {
        true
    }
    fn role(&self, _: &str) -> bool {
        true
    }
    fn framework(&self, _: &v1::FrameworkInfo) -> bool {
        true
    }
    fn task(&self, _: &v1::FrameworkInfo, _: &v1::Task) -> bool {
        false
    }
    fn executor(&self, _: &v1::FrameworkInfo, _: &v1::ExecutorInfo) -> bool {
        false
    }
}

/// A framework of `nobody` runs a task of its own with an executor, and one as `other`, on an agent with a reservation.
fn running() -> Test {
    let mut test = Test::new();
    let mut slave = agent_info();
    slave.resources = resources("cpus:4;mem:1024;disk(someone):100");
    test.message(&agent_pid(), &internal::RegisterSlaveMessage { slave, ..Default::default() });
    let stream = test.subscribe(framework_info());
    let command = |user: Option<&str>| v1::CommandInfo {
        value: Some("true".to_owned()),
        user: user.map(str::to_owned),
        ..Default::default()
    };
    let executor = v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: "own".to_owned() },
        command: Some(command(None)),
        ..Default::default()
    };
    let own = v1::TaskInfo { executor: Some(executor), command: None, ..task("own") };
    let other = v1::TaskInfo { command: Some(command(Some("other"))), ..task("other") };
    test.launch(stream, vec![own, other]);
    test
}

fn shown(test: &Test, seen: &dyn Seen, view: &View) -> Value {
    let scene = test.master.scene();
    json!(Shown { view, sight: Sight { scene: &scene, seen } })
}

fn names(list: &Value, member: &str) -> Vec<String> {
    let name = |own: &Value| own[member].as_str().unwrap_or_default().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn tasks_executors_and_roles_that_may_not_be_seen_are_left_out_and_sums_are_of_all() {
    let test = running();
    let view = View::Frameworks(None);
    for (seen, tasks, executors) in [
        (&Everything as &dyn Seen, vec!["other", "own"], json!("own")),
        (&Only("nobody"), vec!["own"], json!("own")),
        (&Frameworks, vec![], Value::Null),
    ] {
        let all = shown(&test, seen, &view);
        let framework = &all["frameworks"][0];
        let mut found = names(&framework["tasks"], "id");
        found.sort();
        assert_eq!(found, tasks);
        assert_eq!(framework["executors"][0]["executor_id"], executors);
        assert_eq!(framework["executors"].as_array().unwrap().len(), 1, "its place is left");
        assert_eq!(framework["used_resources"]["cpus"], 2.0);
    }
    let hidden = shown(&test, &Only("other"), &view);
    assert_eq!(hidden["frameworks"], json!([]));

    let slaves = |seen| shown(&test, seen, &View::Slaves(None))["slaves"][0].clone();
    let (whole, part) = (slaves(&Everything), slaves(&Only("nobody")));
    assert_eq!(whole["reserved_resources"]["someone"]["disk"], 100.0);
    assert_eq!(names(&whole["reserved_resources_full"]["someone"], "name"), ["disk"]);
    assert_eq!(part["reserved_resources"], json!({}));
    assert_eq!(part["reserved_resources_full"], json!({}));
    assert_eq!(part["resources"]["disk"], 100.0);

    let flags = std::sync::Arc::new(mesos::flags::Values::default());
    let state = |seen| shown(&test, seen, &View::State(0.0, flags.clone()));
    assert!(state(&Everything)["flags"].is_object());
    assert!(state(&Only("nobody"))["flags"].is_null());
}

#[test]
fn tasks_are_counted_of_those_that_may_be_seen() {
    let test = running();
    let first = |seen: &dyn Seen| {
        let query = TaskQuery { limit: Some(1), ..Default::default() };
        names(&shown(&test, seen, &View::Tasks(query))["tasks"], "id")
    };
    assert_eq!(first(&Everything).len(), 1);
    assert_eq!(first(&Only("nobody")), ["own"]);
    // A task's user may be one who does not see its framework.
    assert!(first(&Only("other")).is_empty());
}

#[test]
fn the_operator_api_leaves_out_the_same() {
    let test = running();
    let scene = test.master.scene();
    let state = |seen| operator::state(Sight { scene: &scene, seen });
    let whole = state(&Everything);
    let counts = |state: &v1::master::response::GetState| {
        let (tasks, agents) = (state.get_tasks.as_ref(), state.get_agents.as_ref());
        let agent = &agents.unwrap().agents[0];
        [
            state.get_frameworks.as_ref().unwrap().frameworks.len(),
            tasks.unwrap().tasks.len(),
            state.get_executors.as_ref().unwrap().executors.len(),
            agent.total_resources.len(),
            agent.agent_info.resources.len(),
        ]
    };
    assert_eq!(counts(&whole), [1, 2, 1, 3, 3]);
    assert_eq!(counts(&state(&Only("nobody"))), [1, 1, 1, 2, 2]);
    assert_eq!(counts(&state(&Only("other"))), [0, 0, 0, 2, 2]);
    assert_eq!(counts(&state(&Frameworks)), [1, 0, 0, 3, 3]);
    let [first, second] = operator::greeting(Sight { scene: &scene, seen: &Only("other") });
    assert_eq!(counts(&first.subscribed.unwrap().get_state.unwrap()), [0, 0, 0, 2, 2]);
    assert_eq!(second.r#type(), v1::master::event::Type::Heartbeat);
}
