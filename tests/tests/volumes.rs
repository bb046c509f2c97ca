//! Reservations and persistent volumes with our master and agent: a task writes, the agent dies, another task reads.

use std::path::PathBuf;
use std::time::Duration;

use end_to_end::cluster::Cluster;
use end_to_end::framework::{Framework, command_task, launch};
use end_to_end::{http, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn disk() -> Value {
    json!({
        "name": "disk", "type": "SCALAR", "scalar": {"value": 64},
        "reservations": [{"type": "DYNAMIC", "role": "keep"}],
    })
}

fn volume() -> Value {
    let mut volume = disk();
    volume["disk"] =
        json!({"persistence": {"id": "v"}, "volume": {"container_path": "data", "mode": "RW"}});
    volume
}

fn run(id: &str, agent: &Value, command: &str) -> Value {
    let mut task = command_task(id, agent, command);
    task["resources"].as_array_mut().expect("a list").push(volume());
    launch(&[task])
}

fn is_volume(resource: &Value) -> bool {
    resource["disk"]["persistence"]["id"] == "v"
}

fn operate(cluster: &Cluster, kind: &str, name: &str, list: &str, resources: &Value) {
    let slaves = http::get_json(&cluster.master_url("/slaves")).expect("the agents");
    let mut wanted = json!({"agent_id": {"value": slaves["slaves"][0]["id"]}});
    wanted[list] = json!([resources]);
    let call = json!({"type": kind, name: wanted});
    let reply = http::post(&cluster.master_url("/api/v1"), &call).expect("an answer");
    assert_eq!(reply.status, 202, "{kind}: {}", reply.body);
}

#[test]
fn a_volume_outlives_its_tasks_and_the_agent_and_is_destroyed_with_its_content() {
    let mut cluster = Cluster::new();
    cluster.start_zookeeper();
    cluster.start_master();
    cluster.start_agent();
    cluster.wait_for_agent();
    let info = json!({
        "user": "root", "name": "keeper", "roles": ["keep"], "checkpoint": true, "failover_timeout": 600,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
    });
    let framework = Framework::start(cluster.master_port, &info);
    let offer = framework.offer(|_| true);
    let reserve =
        json!({"type": "RESERVE", "id": {"value": "r"}, "reserve": {"resources": [disk()]}});
    let create = json!({"type": "CREATE", "create": {"volumes": [volume()]}});
    let write = run("write", &offer["agent_id"], "echo kept > data/file");
    framework.accept(&offer, &[reserve, create, write]);
    framework.wait_for("write", "TASK_FINISHED");
    let kept: PathBuf = cluster.directory().join("agent/volumes/roles/keep/v/file");
    assert_eq!(std::fs::read_to_string(&kept).expect("what the task wrote"), "kept\n");

    let has_volume = |offer: &Value| {
        offer["resources"].as_array().into_iter().flatten().any(is_volume)
            && offer["resources"].as_array().into_iter().flatten().any(|own| own["name"] == "cpus")
    };
    // The master has noticed the agent's end when it takes the offer back.
    framework.offer(has_volume);
    cluster.agent.take().expect("a running agent").kill();
    framework.next("RESCIND");
    cluster.start_agent_with(&[
        "--containerizers=mesos",
        "--launcher=posix",
        "--isolation=posix/cpu,posix/mem,disk/du",
        "--enforce_container_disk_quota",
        "--container_disk_watch_interval=200ms",
    ]);
    let offer = framework.offer(has_volume);
    let read = run("read", &offer["agent_id"], "grep kept data/file && echo more >> data/file");
    framework.accept(&offer, &[read]);
    framework.wait_for("read", "TASK_FINISHED");
    assert_eq!(std::fs::read_to_string(&kept).expect("what the tasks wrote"), "kept\nmore\n");

    let command = "dd if=/dev/zero of=data/file bs=1M count=80; sleep 1000";
    let offer = framework.offer(has_volume);
    framework.accept(&offer, &[run("fill", &offer["agent_id"], command)]);
    let statuses = framework.wait_for("fill", "TASK_FAILED");
    let last = statuses.last().expect("its end");
    assert_eq!(last["reason"], "REASON_CONTAINER_LIMITATION_DISK", "{last}");
    let message = last["message"].as_str().unwrap_or_default();
    assert!(message.ends_with(" exceeds quota (64MB)"), "{message}");

    framework.call(&json!({"type": "TEARDOWN"}));
    operate(&cluster, "DESTROY_VOLUMES", "destroy_volumes", "volumes", &volume());
    wait::until_true("the volume to go", LIMIT, || !kept.exists());
    operate(&cluster, "UNRESERVE_RESOURCES", "unreserve_resources", "resources", &disk());
    let slaves = http::get_json(&cluster.master_url("/slaves")).expect("the agents");
    assert_eq!(slaves["slaves"][0]["reserved_resources"], json!({}));
}
