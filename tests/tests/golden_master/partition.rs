//! The recording of an agent that stops answering, comes back and is marked gone (`mesos-golden/partition`), with a
//! framework that can tell partitions apart and one that can't.

use end_to_end::framework::{Framework, command_task, launch};
use end_to_end::golden::{self, Allowed, Exchange, Mode, Tally};
use end_to_end::programs::original_mesos;
use end_to_end::{http, need, stream, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{LIMIT, Site};

const RECORDED_MASTER: &str = "7695183c-6ccc-4dc5-8521-63a1c6ed50ab";

const ALLOWED: Allowed = Allowed { exchanges: &[], differences: &[], incomparable: &[] };

fn info(name: &str, is_aware: bool) -> Value {
    let mut info = json!({
        "user": "root", "name": name, "roles": [name], "failover_timeout": 60,
        "capabilities": [{"type": "MULTI_ROLE"}],
    });
    if is_aware {
        info["checkpoint"] = json!(true);
        info["capabilities"] = json!([{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]);
    }
    info
}

fn on_first(offer: &Value) -> bool {
    offer["hostname"] == "agent1.example"
}

/// Launches a task on the first agent, and waits until it runs; its statuses.
fn run(framework: &Framework, id: &str, command: &str, last: &str) -> Vec<Value> {
    let offer = framework.offer(on_first);
    framework.accept(&offer, &[launch(&[command_task(id, &offer["agent_id"], command)])]);
    framework.wait_for(id, last)
}

/// Wants no more offers, and gives those back that it has.
pub(super) fn withdraw(site: &Site, framework: &Framework) {
    framework.call(&json!({"type": "SUPPRESS"}));
    wait::until("no offer", LIMIT, || {
        framework.decline_all();
        let state = http::get_json(&format!("http://127.0.0.1:{}/frameworks", site.port))?;
        let mut all = state["frameworks"].as_array().into_iter().flatten();
        let has = all.any(|known| known["id"] == framework.id && known["offers"] != json!([]));
        if has { Err(state.to_string()) } else { Ok(()) }
    });
}

fn mode(exchange: &Exchange) -> Mode {
    if exchange.path.starts_with("/metrics/") { Mode::Names } else { Mode::Values }
}

fn unreachable(site: &Site, count: f64) {
    wait::until("the number of unreachable agents", LIMIT, || {
        let state = http::get_json(&format!("http://127.0.0.1:{}/state", site.port))?;
        let now = state["unreachable_slaves"].as_f64();
        if now == Some(count) { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

/// Waits until a framework is told that a task runs yet, in the words that were recorded.
fn hears_of_return(framework: &Framework, task: &str) {
    let mut told = framework.wait_for(task, "TASK_RUNNING").remove(0);
    let recorded = golden::records("partition/scheduler-aware.recordio");
    let mut recorded = recorded
        .into_iter()
        .map(|mut event| event["update"]["status"].take())
        .find(|status| {
            status["task_id"]["value"] == task
                && status["source"] == "SOURCE_MASTER"
                && status["state"] == "TASK_RUNNING"
        })
        .expect("a recorded return");
    for status in [&mut told, &mut recorded] {
        for own in ["agent_id", "timestamp", "container_status"] {
            assert!(!status[own].take().is_null(), "{own}");
        }
    }
    assert_eq!(told, recorded);
}

#[test]
fn our_master_treats_a_silent_agent_as_the_original_did() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let site = Site::start(&["--agent_ping_timeout=1secs", "--max_agent_ping_timeouts=2"]);
    let (heard, events) = std::sync::mpsc::channel();
    stream::subscribe(site.port, "/api/v1", &json!({"type": "SUBSCRIBE"})).forward(heard);
    let aware = Framework::start(site.port, &info("aware", true));
    let mut statuses = run(&aware, "aware-1", "sleep 600", "TASK_RUNNING");
    // Late enough for the executor to have said that it runs.
    statuses.extend(run(&aware, "dies", "sleep 1; kill -9 $PPID; sleep 600", "TASK_FAILED"));
    withdraw(&site, &aware);
    let unaware = Framework::start(site.port, &info("unaware", false));
    let others = run(&unaware, "unaware-1", "sleep 600", "TASK_RUNNING");
    withdraw(&site, &unaware);

    let mut names = site.names(RECORDED_MASTER);
    names.add_statuses(&golden::records("partition/scheduler-aware.recordio"), &statuses);
    let operator = golden::records("partition/operator-events.recordio");
    let updated: Vec<Value> = operator
        .iter()
        .map(|event| json!({"update": {"status": event["task_updated"]["status"]}}))
        .collect();
    names.add_statuses(&updated, &others);

    let agent = &site.running[1];
    agent.signal(Signal::SIGSTOP);
    aware.wait_for("aware-1", "TASK_UNREACHABLE");
    unreachable(&site, 1.0);
    let mut tally = Tally::new("partition", ALLOWED);
    for exchange in &golden::load("partition") {
        match exchange.name.as_str() {
            "op/GET_STATE-back" => {
                agent.signal(Signal::SIGCONT);
                unreachable(&site, 0.0);
                hears_of_return(&aware, "aware-1");
            }
            "op/GET_STATE-gone" => {
                aware.wait_for("aware-1", "TASK_GONE_BY_OPERATOR");
            }
            _ => {}
        }
        let ours = golden::replay(exchange, site.port, &names).expect("our master answers");
        tally.reply(exchange, ours.as_ref(), mode(exchange));
    }
    tally.events(&operator, events.try_iter());
    tally.finish();
}
