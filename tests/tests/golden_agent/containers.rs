//! The recordings of nested and standalone containers (`mesos-golden/tasks`), replayed in the pod of a site.

use std::time::Duration;

use end_to_end::golden::{self, Exchange, Mode, Names, Tally};
use end_to_end::need;
use end_to_end::site::{Parts, Site};
use serde_json::json;

const MASTER: &str = "4f876669-8615-48fe-af3c-25a981c6c8ef";
const POD: &str = "d1691ffc-697c-404f-92bc-c06cd07d968a";
const TASK: &str = "3ff92f46-e45e-410c-ae30-5808de1e72c4";

/// What was not recorded, but done before an exchange.
fn prepare(site: &Site, pod: &str, name: &str) {
    let done = match name {
        "agent/nested-wait-killed" => site.call(&json!({
            "type": "KILL_CONTAINER",
            "kill_container": {"container_id": {"value": "n4", "parent": {"value": pod}}},
        })),
        "agent/standalone-launch-again" => site.call(&json!({
            "type": "LAUNCH_CONTAINER",
            "launch_container": {
                "container_id": {"value": "alone"}, "command": {"value": "sleep 600"},
            },
        })),
        _ => return,
    };
    assert_eq!(done.status, 200, "before {name}: {}", done.body);
}

fn is_replayed(exchange: &Exchange) -> bool {
    let names = ["agent/nested-", "agent/standalone-", "agent/sandbox-", "agent/attach-input-"];
    names.iter().any(|name| exchange.name.starts_with(name))
        || exchange.name == "agent/GET_EXECUTORS-with-pod"
}

#[test]
fn our_agent_treats_containers_as_the_original_did() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    let site = Site::start(Parts::default());
    site.run("c-hold", &json!({"command": {"value": "echo out; echo err >&2; sleep 600"}}));
    site.run_group("pod-ex", &[("p-1", json!({"command": {"value": "sleep 600"}}))]);
    site.wait_for("c-hold", "TASK_RUNNING");
    site.wait_for("p-1", "TASK_RUNNING");
    let (pod, _) = site.executor("pod-ex");
    let (task, sandbox) = site.executor("c-hold");
    end_to_end::wait::until("the task's output", Duration::from_secs(30), || {
        let text = std::fs::read_to_string(sandbox.join("stderr")).unwrap_or_default();
        if text == "err\n" { Ok(()) } else { Err(text) }
    });
    let state = end_to_end::http::get_json(&site.master_url("/state")).expect("the state");
    let mut names = Names::default();
    names.add(MASTER, state["id"].as_str().unwrap_or_default());
    names.add(POD, &pod);
    names.add(TASK, &task);
    names.add("/var/lib/mesos/agent1", site.path("agent1").display().to_string());
    names.add("/usr/libexec/mesos", site.path("launcher").display().to_string());
    let mut tally = Tally::new("tasks, containers", super::not_yet::ALLOWED_OF_CONTAINERS);
    for exchange in golden::load("tasks").iter().filter(|exchange| is_replayed(exchange)) {
        prepare(&site, &pod, &exchange.name);
        let ours = golden::replay(exchange, site.agent_port(), &names).expect("an answer");
        let is_list = exchange.name.contains("GET_") || exchange.name.contains("get-containers");
        let mode = if is_list || exchange.path.starts_with("/files/browse") {
            Mode::Shape
        } else {
            Mode::Values
        };
        tally.reply(exchange, ours.as_ref(), mode);
    }
    tally.finish();
}
