//! What monitors read: every metric and field that the exporter of Mesos for Prometheus takes from masters and agents
//! (`mesos/mesos_exporter`), and Prometheus' own form where our daemons have it.

use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::programs::{binary, python, root};
use end_to_end::site::{Parts, Site};
use end_to_end::{http, need, ports, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// Of `/metrics/snapshot` of a master: without these a group of the exporter's metrics is missing.
const OF_MASTERS: &[&str] = &[
    "allocator/mesos/allocation_runs",
    "allocator/mesos/event_queue_dispatches",
    "allocator/mesos/resources/cpus/offered_or_allocated",
    "allocator/mesos/resources/cpus/total",
    "allocator/mesos/resources/disk/offered_or_allocated",
    "allocator/mesos/resources/disk/total",
    "allocator/mesos/resources/mem/offered_or_allocated",
    "allocator/mesos/resources/mem/total",
    "master/cpus_revocable_total",
    "master/cpus_revocable_used",
    "master/cpus_total",
    "master/cpus_used",
    "master/disk_revocable_total",
    "master/disk_revocable_used",
    "master/disk_total",
    "master/disk_used",
    "master/elected",
    "master/event_queue_dispatches",
    "master/event_queue_http_requests",
    "master/event_queue_messages",
    "master/frameworks_active",
    "master/frameworks_disconnected",
    "master/frameworks_inactive",
    "master/invalid_executor_to_framework_messages",
    "master/invalid_framework_to_executor_messages",
    "master/invalid_status_update_acknowledgements",
    "master/invalid_status_updates",
    "master/mem_revocable_total",
    "master/mem_revocable_used",
    "master/mem_total",
    "master/mem_used",
    "master/outstanding_offers",
    "master/slave_registrations",
    "master/slave_removals",
    "master/slave_reregistrations",
    "master/slave_shutdowns_canceled",
    "master/slave_shutdowns_completed",
    "master/slave_shutdowns_scheduled",
    "master/slaves_active",
    "master/slaves_disconnected",
    "master/slaves_inactive",
    "master/tasks_error",
    "master/tasks_failed",
    "master/tasks_finished",
    "master/tasks_killed",
    "master/tasks_lost",
    "master/tasks_running",
    "master/tasks_staging",
    "master/tasks_starting",
    "master/uptime_secs",
    "master/valid_executor_to_framework_messages",
    "master/valid_framework_to_executor_messages",
    "master/valid_status_update_acknowledgements",
    "master/valid_status_updates",
];

/// Of an agent's.
const OF_AGENTS: &[&str] = &[
    "slave/cpus_revocable_total",
    "slave/cpus_revocable_used",
    "slave/cpus_total",
    "slave/cpus_used",
    "slave/disk_revocable_total",
    "slave/disk_revocable_used",
    "slave/disk_total",
    "slave/disk_used",
    "slave/executors_preempted",
    "slave/executors_registering",
    "slave/executors_running",
    "slave/executors_terminated",
    "slave/executors_terminating",
    "slave/frameworks_active",
    "slave/gpus_revocable_total",
    "slave/gpus_revocable_used",
    "slave/gpus_total",
    "slave/gpus_used",
    "slave/invalid_framework_messages",
    "slave/invalid_status_updates",
    "slave/mem_revocable_total",
    "slave/mem_revocable_used",
    "slave/mem_total",
    "slave/mem_used",
    "slave/registered",
    "slave/tasks_failed",
    "slave/tasks_finished",
    "slave/tasks_killed",
    "slave/tasks_lost",
    "slave/tasks_running",
    "slave/tasks_staging",
    "slave/tasks_starting",
    "slave/uptime_secs",
    "slave/valid_framework_messages",
    "slave/valid_status_updates",
];

/// Distributions, once there was something to measure: the allocator's rounds.
const DISTRIBUTIONS: &[&str] =
    &["allocator/mesos/allocation_run_ms", "allocator/mesos/allocation_run_latency_ms"];
const PARTS: &[&str] = &["", "/min", "/max", "/p50", "/p90", "/p95", "/p99", "/p999", "/p9999"];

/// Where numbers must be, as JSON pointers, and where text must be.
fn assert_there(whose: &str, value: &Value, numbers: &[&str], texts: &[&str]) {
    let is = |path: &&&str, fits: fn(&Value) -> bool| value.pointer(path).is_some_and(fits);
    let missing: Vec<_> = numbers
        .iter()
        .filter(|path| !is(path, Value::is_number))
        .chain(texts.iter().filter(|path| !is(path, Value::is_string)))
        .collect();
    assert!(missing.is_empty(), "{whose} lacks {missing:?}: {value:#}");
}

#[test]
fn the_exporter_of_mesos_finds_all_that_it_reads() {
    let site = Site::start(Parts::default());
    let labels = json!({"labels": [{"key": "team", "value": "red"}]});
    site.run("t", &json!({"command": {"value": "sleep 600"}, "labels": labels}));
    site.wait_for("t", "TASK_RUNNING");
    let distributions =
        DISTRIBUTIONS.iter().flat_map(|name| PARTS.iter().map(move |part| format!("{name}{part}")));
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let of_masters: Vec<String> = names(OF_MASTERS).into_iter().chain(distributions).collect();
    for (url, names) in [
        (site.master_url("/metrics/snapshot"), of_masters),
        (site.agent_url("/metrics/snapshot"), names(OF_AGENTS)),
    ] {
        let all = http::get_json(&url).expect("metrics");
        let missing: Vec<_> = names.iter().filter(|name| !all[name.as_str()].is_number()).collect();
        assert!(missing.is_empty(), "{url} lacks {missing:?}");
    }
    // Roles are part of these names.
    let all = http::get_json(&site.master_url("/metrics/snapshot")).expect("metrics");
    let filters = |name: &String| {
        name.starts_with("allocator/mesos/offer_filters/roles/") && name.ends_with("/active")
    };
    assert!(all.as_object().expect("an object").keys().any(filters), "{all:#}");

    let state = http::get_json(&site.master_url("/state")).expect("the state");
    let amounts = ["used_resources", "unreserved_resources", "resources"]
        .map(|set| ["cpus", "mem", "disk"].map(|name| format!("/slaves/0/{set}/{name}")));
    let amounts: Vec<&str> = amounts.iter().flatten().map(String::as_str).collect();
    let texts = [
        "/slaves/0/pid",
        "/slaves/0/attributes/rack",
        "/slaves/0/resources/ports",
        "/slaves/0/unreserved_resources/ports",
        "/frameworks/0/tasks/0/state",
    ];
    assert_there("the master's state", &state, &amounts, &texts);
    assert!(state["frameworks"][0]["active"].is_boolean());
    assert!(state["frameworks"][0]["completed_tasks"].is_array());

    let measured = wait::until("a measured executor", LIMIT, || {
        let all = http::get_json(&site.agent_url("/monitor/statistics"))?;
        if all[0]["statistics"]["mem_rss_bytes"].is_number() {
            Ok(all)
        } else {
            Err(all.to_string())
        }
    });
    // Without cgroups the original measures no more.
    let counted =
        ["cpus_system_time_secs", "cpus_user_time_secs", "mem_limit_bytes", "mem_rss_bytes"]
            .map(|name| format!("/0/statistics/{name}"));
    let counted: Vec<&str> = counted.iter().map(String::as_str).collect();
    let texts = ["/0/executor_id", "/0/executor_name", "/0/framework_id", "/0/source"];
    assert_there("the agent's statistics", &measured, &counted, &texts);

    let state = http::get_json(&site.agent_url("/slave(1)/state")).expect("the agent's state");
    let executor = "/frameworks/0/executors/0";
    let texts = ["/id", "/source", "/tasks/0/labels/0/key", "/tasks/0/labels/0/value"];
    let texts: Vec<String> = texts.iter().map(|name| format!("{executor}{name}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).chain(["/frameworks/0/id"]).collect();
    assert_there("the agent's state", &state, &[], &texts);
}

#[test]
fn prometheus_reads_what_is_in_its_form() {
    need!(python().is_some(), "target/venv is missing (tests/python-clients.sh)");
    let mut cluster = Cluster::new();
    let [metrics] = ports::free();
    let config = cluster.directory().join("metrics.cfg");
    let text = format!(
        "tickTime=500\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmetricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\nmetricsProvider.httpHost=127.0.0.1\nmetricsProvider.httpPort={metrics}\n",
        cluster.directory().join("zookeeper").display(),
        cluster.zookeeper_port
    );
    std::fs::write(&config, text).expect("a configuration");
    let mut command = Command::new(binary("zookeeper-server"));
    command.arg(config);
    cluster.zookeeper = Some(Daemon::start("zookeeper", cluster.directory(), &mut command));
    cluster.wait_for_zookeeper();
    cluster.start_master();
    cluster.start_agent();
    cluster.start_marathon();
    cluster.wait_for_agent();
    cluster.wait_for_marathon();
    let mut reader = Command::new(python().expect("checked before"));
    reader
        .arg(root().join("tests/clients/prometheus_text.py"))
        .arg(format!("http://127.0.0.1:{metrics}/metrics"))
        .arg(cluster.marathon_url("/metrics/prometheus"))
        .arg(cluster.master_url("/metrics/prometheus"))
        .arg(cluster.agent_url("/metrics/prometheus"));
    let mut reader = Daemon::start("reader", cluster.directory(), &mut reader);
    let status = reader.wait_for_end(LIMIT);
    assert!(status.success(), "{}", reader.output());
    for (url, sample) in [
        (cluster.master_url("/metrics/prometheus"), "mesos_master_slaves_active 1\n"),
        (
            cluster.master_url("/metrics/prometheus"),
            "mesos_allocator_mesos_resources_total{resource=\"cpus\"} 4\n",
        ),
        (cluster.agent_url("/metrics/prometheus"), "mesos_slave_registered 1\n"),
        (cluster.marathon_url("/metrics/prometheus"), "marathon_apps_active 0\n"),
    ] {
        let text = http::get(&url).expect("an answer").body;
        assert!(text.contains(sample), "{sample} {text}");
    }
}
