//! What an agent does with executors over their life: v0 drivers, draining, quotas, what is left behind.

use std::time::Duration;

use end_to_end::framework::{command_task, launch};
use end_to_end::programs::{original_mesos, root};
use end_to_end::site::{Maker, Parts, Site};
use end_to_end::{http, need, skip, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A task under an executor that speaks libprocess messages.
fn with_v0_executor() -> Value {
    let program = root().join("tests/clients/executor_v0.py");
    json!({
        "executor": {
            "type": "CUSTOM", "executor_id": {"value": "v0"}, "name": "v0",
            "command": {"value": format!("exec python3 {}", program.display())},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
        },
    })
}

fn an_executor_with_a_v0_driver_outlives_the_agent(parts: Parts) {
    let mut site = Site::start(parts);
    site.run("t", &with_v0_executor());
    let running = site.wait_for("t", "TASK_RUNNING");
    assert_eq!(running["message"], "said in v0");
    let (_, sandbox) = site.executor("v0");
    site.restart_agent();
    wait::until("the executor to be back", LIMIT, || {
        let output = std::fs::read_to_string(sandbox.join("stdout")).unwrap_or_default();
        if output.contains("ExecutorReregisteredMessage") { Ok(()) } else { Err(output) }
    });
    std::fs::write(sandbox.join("go"), "").expect("a file");
    site.wait_for("t", "TASK_FINISHED");
    let mut states = site.states("t");
    // An update whose acknowledgement the agent had not written down when it was killed is sent again.
    states.dedup();
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
}

#[test]
fn an_executor_with_a_v0_driver_outlives_our_agent() {
    an_executor_with_a_v0_driver_outlives_the_agent(Parts::default());
}

#[test]
fn an_executor_with_a_v0_driver_outlives_our_agent_under_the_originals_master() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let parts = Parts { master: Maker::Original, ..Parts::default() };
    // The original's master, alone, is not found again by an agent that restarts: it registers again itself.
    an_executor_with_a_v0_driver_outlives_the_agent(parts);
}

fn an_agent_is_drained(parts: Parts) {
    let site = Site::start(parts);
    site.run("t", &json!({"command": {"value": "sleep 600"}}));
    site.run_group(
        "pod",
        &[("p", json!({"command": {"value": "trap '' TERM; while :; do sleep 0.1; done"}}))],
    );
    site.wait_for("t", "TASK_RUNNING");
    site.wait_for("p", "TASK_RUNNING");
    let master = |call: &Value| {
        http::post_within(&site.master_url("/api/v1"), call, LIMIT).expect("the master answers")
    };
    let agents = master(&json!({"type": "GET_AGENTS"})).json();
    let agent = agents["get_agents"]["agents"][0]["agent_info"]["id"].clone();
    let drain = json!({
        "type": "DRAIN_AGENT",
        "drain_agent": {"agent_id": agent, "max_grace_period": {"seconds": 1}},
    });
    let answer = master(&drain);
    assert_eq!(answer.status, 200, "{}", answer.body);
    for task in ["t", "p"] {
        let killed = site.wait_for(task, "TASK_KILLED");
        assert_eq!(killed["reason"], "REASON_AGENT_DRAINING", "{task}");
    }
    wait::until("a drained agent", LIMIT, || {
        let agents = master(&json!({"type": "GET_AGENTS"})).json();
        let state = &agents["get_agents"]["agents"][0]["drain_info"]["state"];
        if state == "DRAINED" { Ok(()) } else { Err(agents.to_string()) }
    });
    wait::until("nothing left to drain", LIMIT, || {
        let state = http::get_json(&site.agent_url("/state"))?;
        if state["drain_config"].is_null() {
            Ok(())
        } else {
            Err(state["drain_config"].to_string())
        }
    });
}

#[test]
fn our_agent_is_drained() {
    an_agent_is_drained(Parts::default());
}

#[test]
fn our_agent_is_drained_by_the_originals_master() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    an_agent_is_drained(Parts { master: Maker::Original, ..Parts::default() });
}

#[test]
fn a_sandbox_that_outgrows_its_quota_ends_its_task_and_is_removed_in_time() {
    let agent_flags = vec![
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,disk/du",
        "--enforce_container_disk_quota",
        "--container_disk_watch_interval=100ms",
        "--gc_delay=2secs",
        "--disk_watch_interval=100ms",
    ];
    let site = Site::start(Parts { agent_flags, ..Parts::default() });
    site.run("small", &json!({"command": {"value": "sleep 600"}}));
    site.wait_for("small", "TASK_RUNNING");
    // 32 MB each for the task and, in a pod, its executor.
    site.run(
        "large",
        &json!({"command": {"value": "dd if=/dev/zero of=file bs=1M count=70; sleep 600"}}),
    );
    site.wait_for("large", "TASK_RUNNING");
    let (_, sandbox) = site.executor("large");
    let failed = site.wait_for("large", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_DISK");
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("Disk usage (") && message.contains("exceeds quota (32MB)"),
        "{message}"
    );
    let containers = http::get_json(&site.agent_url("/containers")).expect("the containers");
    assert_eq!(containers[0]["statistics"]["disk_limit_bytes"], 32 << 20, "{containers}");
    wait::until("an empty disk", LIMIT, || {
        if sandbox.exists() { Err(sandbox.display().to_string()) } else { Ok(()) }
    });
    let metrics = http::get_json(&site.agent_url("/metrics/snapshot")).expect("the metrics");
    assert_eq!(metrics["gc/path_removals_failed"], 0.0, "{metrics}");
    assert_eq!(site.states("small"), ["TASK_STARTING", "TASK_RUNNING"]);
}

#[test]
fn tasks_that_take_too_long_fail_and_those_of_a_pod_share_files() {
    let site = Site::start(Parts::default());
    site.run(
        "slow",
        &json!({
            "command": {"value": "sleep 600"}, "max_completion_time": {"nanoseconds": 300_000_000},
        }),
    );
    let failed = site.wait_for("slow", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_MAX_COMPLETION_TIME_REACHED");
    let sharing = |command: &str| {
        json!({
            "command": {"value": command},
            "container": {"type": "MESOS", "volumes": [{
                "mode": "RW", "container_path": "data",
                "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "shared"}},
            }]},
        })
    };
    site.run_group(
        "pod",
        &[
            ("writes", sharing("echo hello > data/x")),
            ("reads", sharing("until grep -q hello data/x; do sleep 0.05; done")),
        ],
    );
    site.wait_for("writes", "TASK_FINISHED");
    site.wait_for("reads", "TASK_FINISHED");
    site.run(
        "checked",
        &json!({
            "command": {"value": "sleep 600"},
            "check": {
                "type": "COMMAND", "command": {"command": {"value": "exit 9"}},
                "delay_seconds": 0, "interval_seconds": 60,
            },
        }),
    );
    wait::until("the check's result", LIMIT, || {
        let updates = site.updates("checked");
        let code = |update: &Value| update["check_status"]["command"]["exit_code"].as_i64();
        if updates.iter().any(|update| code(update) == Some(9)) {
            Ok(())
        } else {
            Err(format!("{updates:?}"))
        }
    });
}

#[test]
fn what_an_agent_offers_beyond_what_it_has_is_taken_by_who_knows_that_it_may_be_lost() {
    // Any load is above this threshold: who takes it loses it at once.
    let modules = json!({"libraries": [{"modules": [{
        "name": "org_apache_mesos_FixedResourceEstimator",
        "parameters": [{"key": "resources", "value": "cpus:3"}],
    }, {
        "name": "org_apache_mesos_LoadQoSController",
        "parameters": [{"key": "load_threshold_5min", "value": "-1"}],
    }]}]});
    // A test's flags live as long as the test.
    let modules = format!("--modules={modules}").leak();
    let agent_flags = vec![
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem",
        "--resource_estimator=org_apache_mesos_FixedResourceEstimator",
        "--qos_controller=org_apache_mesos_LoadQoSController",
        modules,
    ];
    let site = Site::start(Parts { agent_flags, ..Parts::default() });
    let port: u16 = site.master_url("").rsplit(':').next().expect("a port").parse().expect("it");
    let info = json!({
        "user": "root", "name": "bold", "roles": ["*"],
        "capabilities": [
            {"type": "MULTI_ROLE"}, {"type": "REVOCABLE_RESOURCES"}, {"type": "PARTITION_AWARE"},
        ],
    });
    let framework = end_to_end::framework::Framework::start(port, &info);
    let has_more = |offer: &Value| {
        let resources = offer["resources"].as_array().into_iter().flatten();
        resources
            .filter(|own| own["revocable"].is_object())
            .any(|own| own["scalar"]["value"] == 3.0)
    };
    let offer = framework.offer(has_more);
    let task = |id: &str, revocable: bool| {
        let mut task = command_task(id, &offer["agent_id"], "sleep 600");
        if revocable {
            task["resources"][0]["revocable"] = json!({});
        }
        task
    };
    framework.accept(&offer, &[launch(&[task("sure", false), task("bold", true)])]);
    let statuses = framework.wait_for("bold", "TASK_GONE");
    let last = statuses.last().expect("a status");
    assert_eq!(last["reason"], "REASON_CONTAINER_PREEMPTED", "{last}");
    assert_eq!(last["message"], "Container preempted by QoS correction");
    let metrics = http::get_json(&site.agent_url("/metrics/snapshot")).expect("metrics");
    assert_eq!(metrics["slave/executors_preempted"], 1.0, "the other goes on");
}

/// A task as a user whom the agent's host has not.
fn a_task_of_an_unknown_user_is_dropped(parts: Parts) {
    let site = Site::start(parts);
    site.run("stranger", &json!({"command": {"value": "true", "user": "no-such-user"}}));
    site.run("own", &json!({"command": {"value": "true", "user": "root"}}));
    site.wait_for("own", "TASK_FINISHED");
    let dropped = site.wait_for("stranger", "TASK_DROPPED");
    let message = dropped["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Failed to create executor directory '"), "{message}");
    let reason = "Failed to chown directory to 'no-such-user': No such user 'no-such-user'";
    assert!(message.ends_with(reason), "{message}");
    assert_eq!(dropped["reason"], "REASON_EXECUTOR_TERMINATED");
    assert_eq!(site.states("stranger"), ["TASK_DROPPED"]);
}

#[test]
fn a_task_of_an_unknown_user_is_dropped_by_our_agent() {
    need!(skip::is_root(), "only root's agent switches users");
    a_task_of_an_unknown_user_is_dropped(Parts::default());
}

#[test]
fn a_task_of_an_unknown_user_is_dropped_by_the_originals_agent() {
    need!(skip::is_root(), "only root's agent switches users");
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let (agent, executors) = (Maker::Original, Maker::Original);
    a_task_of_an_unknown_user_is_dropped(Parts { agent, executors, ..Parts::default() });
}
