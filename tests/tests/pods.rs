//! Task groups: under our agent and the original's, under our master and the original's.

use std::time::Duration;

use end_to_end::programs::original_mesos;
use end_to_end::site::{Maker, Parts, Site};
use end_to_end::{http, need, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn command(text: &str) -> Value {
    json!({"command": {"value": text}})
}

/// Processes whose command line holds `marker`.
fn processes(marker: &str) -> usize {
    let lines = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let number = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        number.then(|| std::fs::read(entry.path().join("cmdline")).ok()).flatten()
    });
    lines.filter(|line| String::from_utf8_lossy(line).contains(marker)).count()
}

/// A number of seconds that no other test sleeps.
fn unique(salt: u32) -> u32 {
    100_000 + (std::process::id() % 10_000) * 10 + salt
}

/// What every site must do with pods.
fn pods_live_and_die_together(parts: Parts) {
    let site = Site::start(parts);
    let long = unique(1);
    site.run_group(
        "finishing",
        &[("f1", command("echo one; sleep 0.2")), ("f2", command("echo two"))],
    );
    site.wait_for("f1", "TASK_FINISHED");
    site.wait_for("f2", "TASK_FINISHED");
    assert_eq!(site.states("f1"), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
    site.run_group(
        "failing",
        &[("x1", command("sleep 0.3; exit 7")), ("x2", command(&format!("sleep {long}")))],
    );
    let failed = site.wait_for("x1", "TASK_FAILED");
    assert_eq!(failed["message"], "Command exited with status 7");
    let killed = site.wait_for("x2", "TASK_KILLED");
    assert_eq!(killed["message"], "Command terminated with signal Terminated");
    site.run_group(
        "killed",
        &[
            ("k1", command(&format!("sleep {long}"))),
            ("k2", command(&format!("trap '' TERM; while true; do sleep 0.1; : {long}; done"))),
        ],
    );
    site.wait_for("k1", "TASK_RUNNING");
    site.wait_for("k2", "TASK_RUNNING");
    site.order(&json!({"kill": "k1"}));
    site.wait_for("k1", "TASK_KILLED");
    let killed = site.wait_for("k2", "TASK_KILLED");
    assert_eq!(killed["message"], "Command terminated with signal Killed", "TERM is ignored");
    wait::until("no process left of the pods", LIMIT, || match processes(&long.to_string()) {
        0 => Ok(()),
        count => Err(count.to_string()),
    });
}

#[test]
fn pods_on_our_agent_live_and_die_together() {
    pods_live_and_die_together(Parts::default());
}

#[test]
fn pods_on_our_agent_under_the_originals_master_live_and_die_together() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    pods_live_and_die_together(Parts { master: Maker::Original, ..Parts::default() });
}

#[test]
fn our_default_executor_serves_the_originals_agent() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    pods_live_and_die_together(Parts {
        agent: Maker::Original,
        executors: Maker::Ours,
        ..Parts::default()
    });
}

#[test]
fn a_default_executor_of_another_make_serves_our_agent() {
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let site = Site::start(Parts { executors: Maker::Original, ..Parts::default() });
    site.run_group("pod", &[("a", command("sleep 0.2")), ("b", command("exit 3"))]);
    site.wait_for("a", "TASK_FINISHED");
    site.wait_for("b", "TASK_FAILED");
    assert_eq!(site.states("a"), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
}

#[test]
fn a_pod_outlives_its_agent_and_is_checked() {
    let mut site = Site::start(Parts::default());
    let long = unique(2);
    let file = site.path("healthy");
    std::fs::write(&file, "0").expect("a file");
    let check = |text: &str| json!({"value": text});
    let health = json!({
        "type": "COMMAND", "command": check(&format!("exit $(cat {})", file.display())),
        "delay_seconds": 0, "interval_seconds": 0.2, "grace_period_seconds": 30, "consecutive_failures": 1,
    });
    let checked = json!({
        "command": {"value": format!("echo $MESOS_SANDBOX; sleep {long}")},
        "health_check": health,
        "check": {
            "type": "COMMAND", "command": {"command": check("exit 5")},
            "delay_seconds": 0, "interval_seconds": 60,
        },
    });
    site.run_group("pod", &[("a", checked), ("b", command(&format!("sleep {long}")))]);
    let healthy = wait::until("a healthy task", LIMIT, || {
        let updates = site.updates("a");
        let found = updates.iter().find(|update| update["healthy"] == true);
        found.cloned().ok_or_else(|| format!("{updates:?}"))
    });
    assert_eq!(healthy["reason"], "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED");
    wait::until("the check's result", LIMIT, || {
        let updates = site.updates("a");
        let code = |update: &Value| update["check_status"]["command"]["exit_code"].as_i64();
        if updates.iter().any(|update| code(update) == Some(5)) {
            Ok(())
        } else {
            Err(format!("{updates:?}"))
        }
    });
    let (container, sandbox) = site.executor("pod");
    let stdout =
        std::fs::read_to_string(sandbox.join("tasks/a/stdout")).expect("the task's output");
    assert!(stdout.starts_with(&format!("{}/containers/", sandbox.display())), "{stdout}");

    site.restart_agent();
    let (again, _) = site.executor("pod");
    assert_eq!(again, container, "it is the same executor");
    wait::until("the executor to be back", LIMIT, || {
        let metrics = http::get_json(&site.agent_url("/metrics/snapshot"))?;
        let tasks = &metrics["slave/tasks_running"];
        if *tasks == 2.0 { Ok(()) } else { Err(metrics.to_string()) }
    });
    assert_eq!(processes(&format!("sleep {long}")), 4, "two tasks and who watches them");
    std::fs::write(&file, "1").expect("a file");
    let killed = site.wait_for("a", "TASK_KILLED");
    assert_eq!(killed["healthy"], false);
    site.wait_for("b", "TASK_KILLED");
    wait::until("no process left of the pod", LIMIT, || match processes(&long.to_string()) {
        0 => Ok(()),
        count => Err(count.to_string()),
    });
}
