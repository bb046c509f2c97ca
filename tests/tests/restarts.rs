//! Marathon's apps survive the death of each daemon: what was acknowledged stays, and tasks keep their ids.

use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::{http, wait};
use serde_json::json;

#[test]
fn apps_keep_their_tasks_while_each_daemon_is_killed_and_started_again() {
    let mut cluster = Cluster::start();
    cluster.run_app("/sleeper", "sleep 1000", 2);
    let before = cluster.wait_for_tasks("/sleeper", 2);

    cluster.agent.take().expect("a running agent").kill();
    cluster.start_agent();
    cluster.wait_for_agent();
    assert_eq!(cluster.wait_for_tasks("/sleeper", 2), before, "after the agent was killed");

    cluster.master.take().expect("a running master").kill();
    cluster.start_master();
    cluster.wait_for_agent();
    assert_eq!(cluster.wait_for_tasks("/sleeper", 2), before, "after the master was killed");

    cluster.marathon.take().expect("a running Marathon").kill();
    cluster.start_marathon();
    cluster.wait_for_marathon();
    assert_eq!(cluster.wait_for_tasks("/sleeper", 2), before, "after Marathon was killed");

    // Everything still answers orders: the guide's own scale call.
    let reply = http::put(&cluster.marathon_url("/v2/apps/sleeper"), &json!({"instances": 3}))
        .expect("Marathon answers");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let after = cluster.wait_for_tasks("/sleeper", 3);
    assert!(before.iter().all(|task| after.contains(task)), "{before:?} kept in {after:?}");
}

#[test]
fn every_app_that_marathon_acknowledged_outlives_its_death() {
    let mut cluster = Cluster::start();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for number in 0..8 {
            let id = format!("/load/app-{round}-{number}");
            let app =
                json!({"id": id, "cmd": "sleep 1000", "cpus": 0.01, "mem": 1, "instances": 0});
            let reply =
                http::post(&cluster.marathon_url("/v2/apps"), &app).expect("Marathon answers");
            assert_eq!(reply.status, 201, "{}", reply.body);
            acknowledged.push(id);
        }
        cluster.marathon.take().expect("a running Marathon").kill();
        cluster.start_marathon();
        cluster.wait_for_marathon();
    }
    let missing = wait::until("the list of apps", Duration::from_secs(10), || {
        let apps = http::get_json(&cluster.marathon_url("/v2/apps"))?;
        let known: Vec<&str> = apps["apps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|app| app["id"].as_str())
            .collect();
        Ok(acknowledged
            .iter()
            .filter(|id| !known.contains(&id.as_str()))
            .cloned()
            .collect::<Vec<_>>())
    });
    assert!(missing.is_empty(), "acknowledged, then lost: {missing:?}");
}

#[test]
fn a_task_that_dies_is_replaced() {
    let cluster = Cluster::start();
    cluster.run_app("/mortal", "sleep 1000 & echo $! > pid; wait", 1);
    let [first] = cluster.wait_for_tasks("/mortal", 1).try_into().expect("one task");
    end_to_end::daemon::kill_all_under(&cluster.directory().join("agent/slaves"));
    wait::until("another task", Duration::from_secs(60), || {
        let app = http::get_json(&cluster.marathon_url("/v2/apps/mortal"))?;
        let tasks = app["app"]["tasks"].as_array().cloned().unwrap_or_default();
        let replaced = tasks
            .iter()
            .any(|task| task["state"] == "TASK_RUNNING" && task["id"] != first.as_str());
        if replaced { Ok(()) } else { Err(app.to_string()) }
    });
}
