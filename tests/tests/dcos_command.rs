//! The published DC/OS command line (dcoscli 0.6.1) leads an app through its life on our Marathon. Its `task` and
//! `service` ask for the master's `state.json`, which Mesos 1.11 no longer has either.

use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::programs::{python, root, run};
use end_to_end::{need, wait};
use serde_json::{Value, json};

#[test]
fn the_dcos_command_leads_an_app_through_its_life() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let cluster = Cluster::start();
    let dcos = |arguments: &[&str]| {
        let mut command = Command::new(python().expect("checked before"));
        command.arg(root().join("tests/clients/dcos_command.py")).args(arguments);
        command.env("DCOS_DIR", cluster.directory().join("dcos"));
        run(&mut command).unwrap_or_else(|error| panic!("dcos {arguments:?}: {error}"))
    };
    let listed = |arguments: &[&str]| -> Value {
        serde_json::from_str(&dcos(&[arguments, &["--json"]].concat())).expect("JSON")
    };
    for (key, value) in [
        ("core.dcos_url", cluster.marathon_url("")),
        ("core.mesos_master_url", cluster.master_url("/")),
        ("marathon.url", cluster.marathon_url("/")),
        ("core.reporting", "false".to_owned()),
    ] {
        dcos(&["config", "set", key, &value]);
    }
    assert!(dcos(&["marathon", "about"]).contains("\"name\": \"marathon\""));

    let file = cluster.directory().join("app.json");
    let app = json!({"id": "/hello", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": 1});
    std::fs::write(&file, app.to_string()).expect("a file");
    let file = file.to_str().expect("a path");
    assert!(dcos(&["marathon", "app", "add", file]).starts_with("Created deployment "));
    let first = cluster.wait_for_tasks("/hello", 1);
    let apps = listed(&["marathon", "app", "list"]);
    assert_eq!((&apps[0]["id"], &apps[0]["tasksRunning"]), (&json!("/hello"), &json!(1)));

    dcos(&["marathon", "app", "update", "/hello", "instances=2"]);
    let ids = cluster.wait_for_tasks("/hello", 2);
    assert!(ids.contains(&first[0]), "{first:?} {ids:?}");
    let tasks = listed(&["marathon", "task", "list"]);
    let mut seen: Vec<&str> =
        tasks.as_array().into_iter().flatten().filter_map(|task| task["id"].as_str()).collect();
    seen.sort_unstable();
    assert_eq!(seen, ids);
    let shown: Value =
        serde_json::from_str(&dcos(&["marathon", "task", "show", &ids[0]])).expect("JSON");
    assert_eq!(shown["appId"], "/hello");
    let versions: Value =
        serde_json::from_str(&dcos(&["marathon", "app", "version", "list", "/hello"]))
            .expect("JSON");
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "{versions}");

    dcos(&["marathon", "app", "restart", "/hello"]);
    wait::until("other tasks", Duration::from_secs(60), || {
        let now = cluster.wait_for_tasks("/hello", 2);
        if now.iter().any(|id| ids.contains(id)) { Err(format!("{now:?}")) } else { Ok(()) }
    });
    wait::until("the deployment to finish", Duration::from_secs(30), || {
        let deployments = end_to_end::http::get_json(&cluster.marathon_url("/v2/deployments"))?;
        if deployments == json!([]) { Ok(()) } else { Err(deployments.to_string()) }
    });
    dcos(&["marathon", "app", "stop", "/hello"]);
    let _none = cluster.wait_for_tasks("/hello", 0);
    dcos(&["marathon", "app", "remove", "/hello"]);
    assert_eq!(listed(&["marathon", "app", "list"]), json!([]));
}
