//! The core's decisions by example: requests, offers, updates and time go in, answers and effects come out.

mod world;

use std::collections::BTreeSet;

use mesos::v1::TaskState;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::world::{World, settings};
use super::Marathon;
use super::api::Request;

fn web(instances: u32) -> Value {
    json!({"id": "web", "cmd": "serve", "cpus": 0.5, "mem": 64, "instances": instances})
}

#[test]
fn a_created_app_is_answered_as_the_original_does() {
    let mut world = World::new();
    let answer = world.create(&json!({
        "id": "/web", "cpus": 0.5, "mem": 64, "instances": 1,
        "container": {"type": "DOCKER", "docker": {"image": "nginx", "network": "BRIDGE",
            "portMappings": [{"containerPort": 80, "protocol": "tcp"}]}},
    }));
    let deployment = answer.deployment.clone().unwrap();
    let mut body = answer.body.clone();
    assert_eq!(body["deployments"].take(), json!([{"id": deployment}]));
    body["deployments"] = json!(["of another id each time"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap());
    assert!(world.stored.contains_key("apps/web"), "acknowledged, so kept");
}

#[test]
fn refusals_have_the_originals_status_and_text() {
    let mut world = World::new();
    world.create(&json!({"id": "/huge", "cmd": "x", "cpus": 1000}));
    let locked = "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";
    for (method, target, body, status, message) in [
        (
            "POST",
            "/v2/apps",
            json!({"id": "huge", "cmd": "x"}),
            409,
            "An app with id [/huge] already exists.",
        ),
        (
            "POST",
            "/v2/apps",
            json!({"id": "/a", "cmd": "x", "instances": "2"}),
            422,
            "Invalid JSON",
        ),
        ("POST", "/v2/apps", json!({"id": "/a"}), 422, "Object is not valid"),
        ("POST", "/v2/apps", json!([]), 422, "Invalid JSON"),
        ("PUT", "/v2/apps/huge", json!({"instances": 2}), 409, locked),
        ("POST", "/v2/apps/huge/restart", json!({}), 409, locked),
        ("DELETE", "/v2/apps/huge?force=false", json!({}), 409, locked),
        ("GET", "/v2/apps/none", json!({}), 404, "App '/none' does not exist"),
        ("PATCH", "/v2/apps/none", json!({"instances": 2}), 404, "App '/none' does not exist"),
        ("DELETE", "/v2/apps/none", json!({}), 404, "App '/none' does not exist"),
        ("DELETE", "/v2/apps/huge/tasks/t", json!({}), 404, "Task 't' does not exist"),
        ("DELETE", "/v2/deployments/d", json!({}), 404, "DeploymentPlan d does not exist"),
    ] {
        let before = world.stored.clone();
        let answer = world.ask(method, target, &body);
        let told = answer.body["message"].as_str().unwrap_or_default();
        assert_eq!((answer.status, told), (status, message), "{method} {target} {body}");
        assert_eq!(world.stored, before, "{method} {target}: refused, yet something changed");
    }
    let broken = Request {
        method: "POST".to_owned(),
        path: "/v2/apps".to_owned(),
        query: Vec::new(),
        body: b"{\"id\"".to_vec(),
    };
    let answer = world.marathon.request(world.now, &broken);
    assert_eq!((answer.status, &answer.body["message"]), (400, &json!("Invalid JSON")));
}

#[test]
fn scaling_keeps_what_runs_and_restarting_replaces_it() {
    let mut world = World::new();
    world.create(&web(1));
    world.settle();
    let first = world.ids();
    let changed_at = world.get("/v2/apps/web")["app"]["versionInfo"]["lastConfigChangeAt"].clone();

    let scaled = world.ask("PUT", "/v2/apps/web", &json!({"instances": 3}));
    assert_eq!(scaled.status, 200, "{}", scaled.body);
    world.settle();
    let three = world.ids();
    assert!(three.len() == 3 && three.is_superset(&first));
    let app = world.get("/v2/apps/web")["app"].take();
    assert_eq!(app["versionInfo"]["lastConfigChangeAt"], changed_at);
    assert_eq!(app["versionInfo"]["lastScalingAt"], scaled.body["version"]);
    assert_eq!(
        (&app["tasksRunning"], &app["cmd"], &app["deployments"]),
        (&json!(3), &json!("serve"), &json!([]))
    );

    assert_eq!(world.ask("POST", "/v2/apps/web/restart", &json!({})).status, 200);
    world.settle();
    let restarted = world.ids();
    assert!(restarted.len() == 3 && restarted.is_disjoint(&three));
    assert_eq!(world.get("/v2/apps/web/versions")["versions"].as_array().unwrap().len(), 3);
    assert_eq!(world.get("/v2/deployments"), json!([]));

    assert_eq!(world.ask("DELETE", "/v2/apps/web", &json!({})).status, 200);
    world.settle();
    assert!(world.ids().is_empty());
    assert_eq!(world.stored.keys().collect::<Vec<_>>(), ["framework-id"], "nothing is left of it");
    let told: Vec<&str> = world.events.iter().map(|(kind, _)| kind.as_str()).collect();
    for kind in [
        "api_post_event",
        "deployment_info",
        "deployment_success",
        "status_update_event",
        "app_terminated_event",
    ] {
        assert!(told.contains(&kind), "no {kind} in {told:?}");
    }
}

#[test]
fn many_scalings_replace_nothing() {
    let mut world = World::new();
    world.create(&web(1));
    world.settle();
    let first = world.ids();
    for count in 0..120_u32 {
        world.ask("PUT", "/v2/apps/web", &json!({"instances": 1 + count % 2}));
        world.settle();
    }
    assert!(world.ids().is_superset(&first), "{first:?} is not in {:?}", world.ids());
    assert!(world.get("/v2/apps/web/versions")["versions"].as_array().unwrap().len() <= 51);
}

#[test]
fn force_replaces_the_deployment_and_a_rollback_takes_it_back() {
    let mut world = World::new();
    world.create(&web(1));
    world.settle();
    let first = world.ids();
    let update = world.ask("PUT", "/v2/apps/web", &json!({"cpus": 1000}));
    assert_eq!(world.ask("PUT", "/v2/apps/web", &json!({"cpus": 2000})).status, 409);
    assert_eq!(world.ask("PUT", "/v2/apps/web?force=True", &json!({"cpus": 2000})).status, 200);
    let deployments = world.get("/v2/deployments");
    assert_eq!(deployments.as_array().unwrap().len(), 1);
    assert_ne!(deployments[0]["id"], update.body["deploymentId"]);
    let id = deployments[0]["id"].as_str().unwrap().to_owned();
    world.ask("DELETE", &format!("/v2/deployments/{id}"), &json!({}));
    let version = world.get("/v2/apps/web/versions")["versions"][3].as_str().unwrap().to_owned();
    world.ask("PUT", "/v2/apps/web?force=true", &json!({"version": version}));
    world.settle();
    assert_eq!(world.ids(), first, "what runs already is what the rollback wants");
}

#[test]
fn a_task_that_dies_is_replaced_after_a_growing_pause() {
    let mut world = World::new();
    world.create(&web(1));
    world.settle();
    for expected in [1.0, 1.15, 1.15 * 1.15] {
        let dead = world.ids().first().unwrap().clone();
        world.update(&dead, TaskState::TaskFailed);
        world.later(expected - 0.05);
        world.big_offer();
        assert!(world.staged.is_empty(), "launched before {expected} s");
        world.later(0.1);
        world.big_offer();
        assert_eq!(world.staged.len(), 1, "not launched after {expected} s");
        let next = world.staged.keys().next().unwrap().clone();
        assert_ne!(next, dead);
        world.update(&next, TaskState::TaskRunning);
    }
    let failure = &world.get("/v2/apps/web")["app"]["lastTaskFailure"];
    assert_eq!(
        (&failure["state"], &failure["message"]),
        (&json!("TASK_FAILED"), &json!("as told"))
    );
}

#[test]
fn an_agent_that_is_lost_is_made_up_for_and_its_tasks_are_killed_should_they_return() {
    let mut world = World::new();
    world.create(&web(1));
    world.create(&json!({"id": "/patient", "cmd": "x", "unreachableStrategy": {"inactiveAfterSeconds": 10, "expungeAfterSeconds": 60}}));
    world.create(&json!({"id": "/faithful", "cmd": "x", "unreachableStrategy": "disabled"}));
    world.settle();
    let lost = world.ids();
    assert_eq!(lost.len(), 3);
    for task in &lost {
        world.update(task, TaskState::TaskUnreachable);
    }
    let of = |world: &World, app: &str| world.ids().iter().filter(|id| id.starts_with(app)).count();
    world.settle();
    assert_eq!([of(&world, "web"), of(&world, "patient"), of(&world, "faithful")], [1, 0, 0]);
    world.later(10.0);
    world.settle();
    assert_eq!([of(&world, "web"), of(&world, "patient"), of(&world, "faithful")], [1, 1, 0]);
    world.later(60.0);
    world.settle();
    assert_eq!([of(&world, "web"), of(&world, "patient"), of(&world, "faithful")], [1, 1, 0]);

    for task in &lost {
        world.update(task, TaskState::TaskRunning);
    }
    let returned = |app: &str| lost.iter().find(|id| id.starts_with(app)).unwrap().clone();
    assert_eq!(world.killed, BTreeSet::from([returned("web"), returned("patient")]));
}

#[test]
fn what_does_not_get_to_run_is_killed() {
    let mut world = World::new();
    world.create(&web(1));
    world.big_offer();
    let stuck = world.staged.keys().next().unwrap().clone();
    world.later(299.0);
    assert!(world.killed.is_empty());
    world.later(2.0);
    assert_eq!(world.killed, BTreeSet::from([stuck]));
}

#[test]
fn another_marathon_goes_on_where_this_one_stopped() {
    let mut world = World::new();
    world.create(&web(2));
    world.settle();
    let (before, version) = (world.ids(), world.get("/v2/apps/web")["app"]["version"].clone());

    let mut next = World::with(world.stored.clone());
    next.settle();
    assert!(next.running.is_empty() && next.killed.is_empty(), "nothing is launched or killed");
    let app = next.get("/v2/apps/web")["app"].take();
    assert_eq!((&app["version"], &app["tasksRunning"]), (&version, &json!(2)));
    next.later(15.0);
    let asked: BTreeSet<String> = next
        .calls
        .iter()
        .filter_map(|call| call.reconcile.as_ref())
        .flat_map(|reconcile| &reconcile.tasks)
        .map(|task| task.task_id.value.clone())
        .collect();
    assert_eq!(asked, before);

    // A clock that went back makes no version that is older than the newest.
    next.now.wall_ms -= 3_600_000;
    let update = next.ask("PUT", "/v2/apps/web", &json!({"instances": 1}));
    assert!(update.body["version"].as_str() > version.as_str(), "{} {version}", update.body);

    let mut damaged = world.stored.clone();
    damaged.insert("apps/web".to_owned(), b"{".to_vec());
    let error = Marathon::load(settings(), damaged).unwrap_err();
    assert!(error.to_string().starts_with("apps/web: "), "{error}");

    let mut orphaned = world.stored.clone();
    orphaned.remove("apps/web");
    assert_eq!(World::with(orphaned).killed, before, "tasks of an app that is gone");
}

#[test]
fn deployments_go_on_under_another_marathon() {
    let mut world = World::new();
    let deployment = world.create(&web(1)).deployment;
    let mut next = World::with(world.stored.clone());
    assert_eq!(next.get("/v2/deployments")[0]["id"].as_str(), deployment.as_deref());
    assert_eq!(next.ask("PUT", "/v2/apps/web", &json!({"instances": 2})).status, 409);
    next.settle();
    assert_eq!(next.get("/v2/deployments"), json!([]));
    assert!(
        !next.stored.keys().any(|key| key.starts_with("deployments/")),
        "{:?}",
        next.stored.keys()
    );
}

#[test]
fn tasks_that_no_app_knows_are_killed() {
    let mut world = World::new();
    world.update("stranger", TaskState::TaskRunning);
    assert_eq!((world.killed.len(), world.acknowledged), (1, 1));
}

#[test]
fn nothing_is_launched_where_it_does_not_fit() {
    let mut world = World::new();
    world.create(&json!({"id": "/ported", "cmd": "x", "cpus": 1, "mem": 32, "requirePorts": true, "portDefinitions": [{"port": 8080}]}));
    for resources in [
        "cpus:0.9;mem:64;ports:[8080-8080]",
        "cpus:1;mem:31;ports:[8080-8080]",
        "cpus:1;mem:64;ports:[8081-8089]",
    ] {
        world.offer(resources);
        assert!(world.staged.is_empty(), "launched on {resources}");
    }
    let declined = world.calls.iter().filter(|call| call.decline.is_some()).count();
    assert_eq!(declined, 3, "an offer that isn't used is given back");
    world.offer("cpus:1;mem:32;ports:[8080-8080]");
    let task = world.staged.values().next().unwrap();
    let environment = &task.command.as_ref().unwrap().environment.as_ref().unwrap().variables;
    let port = environment.iter().find(|variable| variable.name == "PORT0").unwrap();
    assert_eq!(port.value.as_deref(), Some("8080"));
}

#[test]
fn offers_are_taken_as_masters_make_them_with_a_role_or_without() {
    for role in [None, Some("*"), Some("other")] {
        let mut world = World::new();
        world.create(&json!({"id": "/a", "cmd": "x", "cpus": 1, "mem": 32}));
        world.offer_to(role, "cpus:1;mem:32;ports:[31000-31009]");
        let task = world.staged.values().next().expect("it fits");
        let roles: BTreeSet<Option<&str>> = task
            .resources
            .iter()
            .map(|own| own.allocation_info.as_ref().and_then(|info| info.role.as_deref()))
            .collect();
        assert_eq!(roles, BTreeSet::from([role]), "what was offered is taken as it was offered");
    }
}

#[test]
fn groups_are_made_of_the_apps_below_them() {
    let mut world = World::new();
    for id in ["/a", "/b/c", "/b/d/e", "/bb"] {
        world.create(&json!({"id": id, "cmd": "x", "instances": 0}));
    }
    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let root = world.get("/v2/groups");
    assert_eq!(
        (ids(&root["apps"]), ids(&root["groups"])),
        (vec!["/a".into(), "/bb".into()], vec!["/b".into()])
    );
    let group = world.get("/v2/groups/b");
    assert_eq!(
        (ids(&group["apps"]), ids(&group["groups"])),
        (vec!["/b/c".into()], vec!["/b/d".into()])
    );
    assert_eq!(group["groups"], root["groups"][0]["groups"]);
    assert_eq!(world.ask("GET", "/v2/groups/none", &Value::Null).status, 404);
}

#[test]
fn an_apps_id_may_look_like_a_part_of_the_api() {
    let mut world = World::new();
    for id in ["/tasks-runner", "/a/versions-of/x", "/restarts"] {
        assert_eq!(
            world.ask("PUT", &format!("/v2/apps{id}"), &json!({"cmd": "x"})).status,
            201,
            "{id}"
        );
        assert_eq!(world.get(&format!("/v2/apps{id}"))["app"]["id"], id);
        assert_eq!(world.get(&format!("/v2/apps{id}/tasks")), json!({"tasks": []}));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In whatever order Mesos does what it is asked: enough stay, not too many run, and it ends.
    #[test]
    fn a_rolling_upgrade_keeps_its_bounds(
        count in 1_u32..6,
        minimum in 0..=4_u32,
        over in 0..=4_u32,
        choices in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let mut world = World::new();
        let mut app = web(count);
        app["upgradeStrategy"] = json!({"minimumHealthCapacity": f64::from(minimum) / 4.0, "maximumOverCapacity": f64::from(over) / 4.0});
        world.create(&app);
        world.settle();
        let old = world.ids();
        world.ask("PUT", "/v2/apps/web", &json!({"cmd": "serve better"}));

        let must_stay = (count * minimum).div_ceil(4) as usize;
        let capacity = (count + count * over / 4) as usize;
        let capacity = if capacity <= must_stay { capacity + 1 } else { capacity };
        for choice in choices {
            let serving = world.running.keys().filter(|task| !world.killed.contains(*task)).count();
            prop_assert!(serving >= must_stay, "{serving} of {must_stay} serve");
            let all = world.running.len() + world.staged.len();
            prop_assert!(all <= capacity, "{all} run, {capacity} may");
            let staged = world.staged.keys().map(|task| (task.clone(), TaskState::TaskRunning));
            let killed = world.killed.iter().map(|task| (task.clone(), TaskState::TaskKilled));
            let possible: Vec<(String, TaskState)> = staged.chain(killed).collect();
            match choice.index(possible.len() + 1).checked_sub(1) {
                Some(one) => world.update(&possible[one].0, possible[one].1),
                None => world.offer("cpus:0.5;mem:64;ports:[31000-31999]"),
            }
            world.later(0.1);
        }
        world.settle();
        prop_assert_eq!(world.running.len(), count as usize);
        prop_assert!(world.ids().is_disjoint(&old));
        prop_assert_eq!(world.get("/v2/deployments"), json!([]));
    }
}
