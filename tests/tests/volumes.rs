//! Reservations and persistent volumes with our master and agent: a task writes, the agent dies, another task reads.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use end_to_end::cluster::Cluster;
use end_to_end::events::subscribe;
use end_to_end::golden::{Exchange, Names, Reply, replay};
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

fn launch(id: &str, agent: &Value, command: &str) -> Value {
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    json!({"type": "LAUNCH", "launch": {"task_infos": [{
        "name": id, "task_id": {"value": id}, "agent_id": agent,
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0), volume()],
        "command": {"value": command},
    }]}})
}

struct Framework {
    id: Value,
    stream: String,
    port: u16,
    events: Receiver<Value>,
}

impl Framework {
    fn start(port: u16) -> Self {
        let info = json!({
            "user": "root", "name": "keeper", "roles": ["keep"], "checkpoint": true, "failover_timeout": 600,
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
        });
        let (tell, events) = mpsc::channel();
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        let stream = subscribe(port, "/api/v1/scheduler", &call, tell);
        let mut framework = Self { id: Value::Null, stream, port, events };
        framework.id = framework.next("SUBSCRIBED")["subscribed"]["framework_id"].clone();
        framework
    }

    fn call(&self, call: &Value) {
        let mut call = call.clone();
        call["framework_id"] = self.id.clone();
        let exchange = Exchange {
            name: "call".to_owned(),
            method: "POST".to_owned(),
            path: "/api/v1/scheduler".to_owned(),
            request_headers: vec![
                ("Content-Type".to_owned(), "application/json".to_owned()),
                ("Mesos-Stream-Id".to_owned(), self.stream.clone()),
            ],
            request_body: call.to_string().into_bytes(),
            reply: Some(Reply::default()),
        };
        let reply = replay(&exchange, self.port, &Names::default()).expect("an answer");
        let reply = reply.expect("in time");
        assert_eq!(reply.status, "202 Accepted", "{}", String::from_utf8_lossy(&reply.body));
    }

    fn next(&self, kind: &str) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < until, "no {kind} in time");
            let event = self.events.recv_timeout(LIMIT).expect("an event in time");
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// An offer with all of these kinds of resources.
    fn offer(&self, has: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next("OFFERS");
            for offer in event["offers"]["offers"].as_array().into_iter().flatten() {
                if has(offer) {
                    return offer.clone();
                }
                self.call(&json!({"type": "DECLINE", "decline": {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}}}));
            }
        }
    }

    fn accept(&self, offer: &Value, operations: &[Value]) {
        self.call(&json!({"type": "ACCEPT", "accept": {
            "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}, "operations": operations,
        }}));
    }

    /// Waits for a task's state. What is said again of others, since an acknowledgement was lost with the agent, is
    /// acknowledged once more.
    fn wait_for(&self, task: &str, state: &str) {
        loop {
            let status = self.next("UPDATE")["update"]["status"].clone();
            if !status["uuid"].is_null() {
                self.call(&json!({"type": "ACKNOWLEDGE", "acknowledge": {
                    "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
                }}));
            }
            if status["task_id"]["value"] != task {
                continue;
            }
            if status["state"] == state {
                return;
            }
            assert!(
                matches!(status["state"].as_str(), Some("TASK_STARTING" | "TASK_RUNNING")),
                "{status}"
            );
        }
    }
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
    let framework = Framework::start(cluster.master_port);
    let offer = framework.offer(|_| true);
    let reserve =
        json!({"type": "RESERVE", "id": {"value": "r"}, "reserve": {"resources": [disk()]}});
    let create = json!({"type": "CREATE", "create": {"volumes": [volume()]}});
    let write = launch("write", &offer["agent_id"], "echo kept > data/file");
    framework.accept(&offer, &[reserve, create, write]);
    framework.wait_for("write", "TASK_FINISHED");
    let kept: PathBuf = cluster.directory().join("agent/volumes/roles/keep/v/file");
    assert_eq!(std::fs::read_to_string(&kept).expect("what the task wrote"), "kept\n");

    cluster.agent.take().expect("a running agent").kill();
    cluster.start_agent();
    let has_volume = |offer: &Value| {
        offer["resources"].as_array().into_iter().flatten().any(is_volume)
            && offer["resources"].as_array().into_iter().flatten().any(|own| own["name"] == "cpus")
    };
    let offer = framework.offer(has_volume);
    let read = launch("read", &offer["agent_id"], "grep kept data/file && echo more >> data/file");
    framework.accept(&offer, &[read]);
    framework.wait_for("read", "TASK_FINISHED");
    assert_eq!(std::fs::read_to_string(&kept).expect("what the tasks wrote"), "kept\nmore\n");

    framework.call(&json!({"type": "TEARDOWN"}));
    operate(&cluster, "DESTROY_VOLUMES", "destroy_volumes", "volumes", &volume());
    wait::until_true("the volume to go", LIMIT, || !kept.exists());
    operate(&cluster, "UNRESERVE_RESOURCES", "unreserve_resources", "resources", &disk());
    let slaves = http::get_json(&cluster.master_url("/slaves")).expect("the agents");
    assert_eq!(slaves["slaves"][0]["reserved_resources"], json!({}));
}
