//! What monitors read: every metric and field that the exporter of Mesos for Prometheus (`mesos/mesos_exporter`), Telegraf and Mesos-DNS
//! take from masters and agents, and Prometheus' own form where our daemons have it.

use std::process::Command;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::daemon::Daemon;
use end_to_end::programs::{binary, python, root};
use end_to_end::site::{Parts, Site};
use end_to_end::{http, need, ports, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// Of `/metrics/snapshot` of a master: without these a group of a monitor's metrics is missing.
const OF_MASTERS: &[&str] = &[
    "allocator/event_queue_dispatches",
    "allocator/mesos/allocation_runs",
    "allocator/mesos/event_queue_dispatches",
    "allocator/mesos/resources/cpus/offered_or_allocated",
    "allocator/mesos/resources/cpus/total",
    "allocator/mesos/resources/disk/offered_or_allocated",
    "allocator/mesos/resources/disk/total",
    "allocator/mesos/resources/mem/offered_or_allocated",
    "allocator/mesos/resources/mem/total",
    "master/cpus_percent",
    "master/cpus_revocable_percent",
    "master/cpus_revocable_total",
    "master/cpus_revocable_used",
    "master/cpus_total",
    "master/cpus_used",
    "master/disk_percent",
    "master/disk_revocable_percent",
    "master/disk_revocable_total",
    "master/disk_revocable_used",
    "master/disk_total",
    "master/disk_used",
    "master/dropped_messages",
    "master/elected",
    "master/event_queue_dispatches",
    "master/event_queue_http_requests",
    "master/event_queue_messages",
    "master/frameworks_active",
    "master/frameworks_connected",
    "master/frameworks_disconnected",
    "master/frameworks_inactive",
    "master/gpus_percent",
    "master/gpus_revocable_percent",
    "master/gpus_revocable_total",
    "master/gpus_revocable_used",
    "master/gpus_total",
    "master/gpus_used",
    "master/invalid_executor_to_framework_messages",
    "master/invalid_framework_to_executor_messages",
    "master/invalid_operation_status_update_acknowledgements",
    "master/invalid_status_update_acknowledgements",
    "master/invalid_status_updates",
    "master/mem_percent",
    "master/mem_revocable_percent",
    "master/mem_revocable_total",
    "master/mem_revocable_used",
    "master/mem_total",
    "master/mem_used",
    "master/messages_authenticate",
    "master/messages_deactivate_framework",
    "master/messages_decline_offers",
    "master/messages_executor_to_framework",
    "master/messages_exited_executor",
    "master/messages_framework_to_executor",
    "master/messages_kill_task",
    "master/messages_launch_tasks",
    "master/messages_operation_status_update_acknowledgement",
    "master/messages_reconcile_operations",
    "master/messages_reconcile_tasks",
    "master/messages_register_framework",
    "master/messages_register_slave",
    "master/messages_reregister_framework",
    "master/messages_reregister_slave",
    "master/messages_resource_request",
    "master/messages_revive_offers",
    "master/messages_status_update",
    "master/messages_status_update_acknowledgement",
    "master/messages_suppress_offers",
    "master/messages_unregister_framework",
    "master/messages_unregister_slave",
    "master/messages_update_slave",
    "master/operator_event_stream_subscribers",
    "master/outstanding_offers",
    "master/recovery_slave_removals",
    "master/slave_registrations",
    "master/slave_removals",
    "master/slave_removals/reason_registered",
    "master/slave_removals/reason_unhealthy",
    "master/slave_removals/reason_unregistered",
    "master/slave_reregistrations",
    "master/slave_shutdowns_canceled",
    "master/slave_shutdowns_completed",
    "master/slave_shutdowns_scheduled",
    "master/slave_unreachable_canceled",
    "master/slave_unreachable_completed",
    "master/slave_unreachable_scheduled",
    "master/slaves_active",
    "master/slaves_connected",
    "master/slaves_disconnected",
    "master/slaves_inactive",
    "master/slaves_unreachable",
    "master/tasks_dropped",
    "master/tasks_error",
    "master/tasks_failed",
    "master/tasks_finished",
    "master/tasks_gone",
    "master/tasks_gone_by_operator",
    "master/tasks_killed",
    "master/tasks_killing",
    "master/tasks_lost",
    "master/tasks_running",
    "master/tasks_staging",
    "master/tasks_starting",
    "master/tasks_unreachable",
    "master/uptime_secs",
    "master/valid_executor_to_framework_messages",
    "master/valid_framework_to_executor_messages",
    "master/valid_operation_status_update_acknowledgements",
    "master/valid_status_update_acknowledgements",
    "master/valid_status_updates",
    "registrar/log/ensemble_size",
    "registrar/log/recovered",
    "registrar/queued_operations",
    "registrar/registry_size_bytes",
    "registrar/state_fetch_ms",
    "registrar/state_store_ms",
    "system/cpus_total",
    "system/load_15min",
    "system/load_1min",
    "system/load_5min",
    "system/mem_free_bytes",
    "system/mem_total_bytes",
];

/// Of an agent's.
const OF_AGENTS: &[&str] = &[
    "containerizer/fetcher/cache_size_total_bytes",
    "containerizer/fetcher/cache_size_used_bytes",
    "containerizer/fetcher/task_fetches_failed",
    "containerizer/fetcher/task_fetches_succeeded",
    "containerizer/mesos/container_destroy_errors",
    "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
    "containerizer/mesos/provisioner/remove_container_errors",
    "gc/path_removals_failed",
    "gc/path_removals_pending",
    "gc/path_removals_succeeded",
    "slave/container_launch_errors",
    "slave/cpus_percent",
    "slave/cpus_revocable_percent",
    "slave/cpus_revocable_total",
    "slave/cpus_revocable_used",
    "slave/cpus_total",
    "slave/cpus_used",
    "slave/disk_percent",
    "slave/disk_revocable_percent",
    "slave/disk_revocable_total",
    "slave/disk_revocable_used",
    "slave/disk_total",
    "slave/disk_used",
    "slave/executor_directory_max_allowed_age_secs",
    "slave/executors_preempted",
    "slave/executors_registering",
    "slave/executors_running",
    "slave/executors_terminated",
    "slave/executors_terminating",
    "slave/frameworks_active",
    "slave/gpus_percent",
    "slave/gpus_revocable_percent",
    "slave/gpus_revocable_total",
    "slave/gpus_revocable_used",
    "slave/gpus_total",
    "slave/gpus_used",
    "slave/invalid_framework_messages",
    "slave/invalid_status_updates",
    "slave/mem_percent",
    "slave/mem_revocable_percent",
    "slave/mem_revocable_total",
    "slave/mem_revocable_used",
    "slave/mem_total",
    "slave/mem_used",
    "slave/recovery_errors",
    "slave/recovery_time_secs",
    "slave/registered",
    "slave/tasks_failed",
    "slave/tasks_finished",
    "slave/tasks_gone",
    "slave/tasks_killed",
    "slave/tasks_killing",
    "slave/tasks_lost",
    "slave/tasks_running",
    "slave/tasks_staging",
    "slave/tasks_starting",
    "slave/uptime_secs",
    "slave/valid_framework_messages",
    "slave/valid_status_updates",
    "system/cpus_total",
    "system/load_15min",
    "system/load_1min",
    "system/load_5min",
    "system/mem_free_bytes",
    "system/mem_total_bytes",
];

/// Distributions, once there was something to measure: the allocator's rounds, what the registry stored.
const DISTRIBUTIONS: &[&str] = &[
    "allocator/mesos/allocation_run_ms",
    "allocator/mesos/allocation_run_latency_ms",
    "registrar/state_store_ms",
];
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
    let discovery = json!({
        "visibility": "CLUSTER", "name": "web", "version": "1", "location": "here", "environment": "test",
        "labels": labels, "ports": {"ports": [{"number": 31000, "protocol": "tcp", "name": "http"}]},
    });
    let task = json!({"command": {"value": "sleep 600"}, "labels": labels, "discovery": discovery});
    site.run("t", &task);
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
    let task = "/frameworks/0/tasks/0";
    let discovered = ["visibility", "version", "name", "location", "environment"]
        .map(|name| format!("{task}/discovery/{name}"));
    let own = ["framework_id", "id", "name", "slave_id", "state", "statuses/0/state"]
        .map(|name| format!("{task}/{name}"));
    let address =
        format!("{task}/statuses/1/container_status/network_infos/0/ip_addresses/0/ip_address");
    let texts = [
        "/leader",
        "/slaves/0/id",
        "/slaves/0/hostname",
        "/frameworks/0/name",
        "/frameworks/0/hostname",
        address.as_str(),
        &format!("{task}/discovery/ports/ports/0/name"),
        &format!("{task}/discovery/ports/ports/0/protocol"),
        &format!("{task}/discovery/labels/labels/0/key"),
    ];
    let texts: Vec<&str> =
        texts.into_iter().chain(discovered.iter().chain(&own).map(String::as_str)).collect();
    let numbers =
        [format!("{task}/statuses/0/timestamp"), format!("{task}/discovery/ports/ports/0/number")];
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    assert_there("what Mesos-DNS reads of the master's state", &state, &numbers, &texts);
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
