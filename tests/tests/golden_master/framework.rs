//! The recording's framework: its description, two tasks that hold and one that has finished, an offer in hand.

use std::sync::mpsc;
use std::time::Duration;

use end_to_end::golden::{Exchange, Names};
use end_to_end::programs::shared;
use end_to_end::stream::subscribe;
use serde_json::{Value, json};

/// What the recording's framework reserved, and the volume that it made of it.
fn operations() -> [Value; 2] {
    let reservations = json!([{
        "type": "DYNAMIC", "role": "golden", "principal": "golden-principal",
        "labels": {"labels": [{"key": "rl", "value": "rv"}]},
    }]);
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "reservations": reservations});
    let mut volume = scalar("disk", 128.0);
    volume["disk"] = json!({
        "persistence": {"id": "vol-1", "principal": "golden-principal"},
        "volume": {"mode": "RW", "container_path": "data"},
    });
    [
        json!({"type": "RESERVE", "id": {"value": "op-reserve"}, "reserve": {"resources": [scalar("disk", 128.0), scalar("cpus", 0.5)]}}),
        json!({"type": "CREATE", "id": {"value": "op-create"}, "create": {"volumes": [volume]}}),
    ]
}

/// A framework over the v1 scheduler API that accepts what it is told to.
pub struct Framework {
    /// Its stream's id.
    pub stream: String,
    id: String,
    port: u16,
}

fn info() -> Value {
    json!({
        "user": "root", "name": "golden", "roles": ["golden", "golden/sub"], "checkpoint": true, "failover_timeout": 600,
        "hostname": "sched.example", "principal": "golden-principal", "webui_url": "http://sched.example/",
        "labels": {"labels": [{"key": "k", "value": "v"}, {"key": "novalue"}]},
        "capabilities": [
            {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}, {"type": "PARTITION_AWARE"},
            {"type": "TASK_KILLING_STATE"}, {"type": "REGION_AWARE"},
        ],
    })
}

fn task(id: &str, agent: &Value, states: &Value) -> Value {
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    let data = end_to_end::golden::encode_base64(states.to_string().as_bytes());
    let mut task = json!({
        "name": format!("name-{id}"), "task_id": {"value": id}, "agent_id": agent,
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        "executor": {
            "type": "CUSTOM", "executor_id": {"value": "ex-1"}, "name": "v1exec", "source": "golden-source",
            "command": {"environment": {}, "value": shared().join("oracle/py/v1exec.py").canonicalize().expect("the executor").to_string_lossy()},
            "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
            "labels": {"labels": [{"key": "el", "value": "ev"}]},
        },
        "data": data,
    });
    if id == "t-more" {
        // What the recording's other tasks took.
        task["resources"] = json!([scalar("cpus", 0.201), scalar("mem", 65.0)]);
    }
    if id == "t-hold-2" {
        let ports = json!({"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}});
        task["kill_policy"] = json!({"grace_period": {"nanoseconds": 5_000_000_000_i64}});
        task["resources"].as_array_mut().expect("a list").push(ports);
        task["labels"] = json!({"labels": [{"key": "tl", "value": "tv"}]});
        task["discovery"] = json!({
            "visibility": "FRAMEWORK", "name": "disc", "environment": "e", "location": "l", "version": "v",
            "ports": {"ports": [{"number": 31000, "name": "http", "protocol": "tcp"}]},
        });
    }
    task
}

impl Framework {
    /// Subscribes, launches, and waits until it runs as in the recording. `refused` tells whether it launches tasks
    /// that are refused, too: the recording's master had met such before, its agents show none.
    pub fn start(port: u16, refused: bool) -> Self {
        let (events, received) = mpsc::channel();
        let call = json!({
            "type": "SUBSCRIBE",
            "subscribe": {"framework_info": info(), "suppressed_roles": ["golden/sub"]},
        });
        let subscribed = subscribe(port, "/api/v1/scheduler", &call);
        let stream = subscribed.header("mesos-stream-id").expect("a stream's id").to_owned();
        subscribed.forward(events);
        let next = |kind: &str| -> Value {
            loop {
                let event =
                    received.recv_timeout(Duration::from_secs(30)).expect("an event in time");
                if event["type"] == kind {
                    return event;
                }
            }
        };
        let id = next("SUBSCRIBED")["subscribed"]["framework_id"]["value"]
            .as_str()
            .expect("an id")
            .to_owned();
        let framework = Self { stream, id, port };
        let offers = next("OFFERS");
        let offer = offers["offers"]["offers"].as_array().into_iter().flatten();
        let offer = offer
            .clone()
            .find(|offer| offer["hostname"] == "agent1.example")
            .expect("an offer of the first agent")
            .clone();
        let agent = &offer["agent_id"];
        let tasks = json!([
            task(
                "t-hold-1",
                agent,
                &json!({
                    "states": [["TASK_STARTING", 0], ["TASK_RUNNING", 0.1]],
                    "extra": {"message": "said", "data": "YmxvYg==", "labels": {"labels": [{"key": "sk", "value": "sv"}]}},
                })
            ),
            task("t-hold-2", agent, &json!({"states": [["TASK_RUNNING", 0]]})),
            task("t-more", agent, &json!({"states": []})),
            task(
                "t-finish",
                agent,
                &json!({"states": [["TASK_RUNNING", 0], ["TASK_FINISHED", 0.2]]})
            ),
        ]);
        // One that its agent refuses, and those that the master refuses.
        let mut stranger = task("t-stranger", agent, &json!({}));
        stranger.as_object_mut().expect("an object").remove("executor");
        stranger["command"] = json!({"value": "true", "user": "nosuchuser"});
        let mut wrong = task("t-wrong", agent, &json!({}));
        wrong["resources"] = json!([]);
        let group =
            json!({"executor": {"executor_id": {"value": "g"}}, "task_group": {"tasks": [wrong]}});
        let [reserve, create] = operations();
        let mut operations =
            vec![reserve, create, json!({"type": "LAUNCH", "launch": {"task_infos": tasks}})];
        if refused {
            operations.push(json!({"type": "LAUNCH", "launch": {"task_infos": [stranger, wrong]}}));
            operations.push(json!({"type": "LAUNCH_GROUP", "launch_group": group}));
        }
        framework.call(&json!({
            "type": "ACCEPT",
            "accept": {
                "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0},
                "operations": operations,
            },
        }));
        framework.call(&json!({
            "type": "ACCEPT",
            "accept": {
                "offer_ids": [{"value": "nosuch"}],
                "operations": [{"type": "LAUNCH", "launch": {"task_infos": [wrong]}}],
            },
        }));
        let (mut acknowledged, mut has_left) = (0, false);
        let left = |offer: &Value| offer["hostname"] == "agent1.example";
        let until = std::time::Instant::now() + Duration::from_secs(60);
        let updates = if refused { 6 } else { 5 };
        while acknowledged < updates || !has_left {
            // Heartbeats come for ever.
            assert!(std::time::Instant::now() < until, "{acknowledged} updates, {has_left}");
            let event = received.recv_timeout(Duration::from_secs(30)).expect("an event in time");
            let mut offers = event["offers"]["offers"].as_array().into_iter().flatten();
            has_left |= offers.any(left);
            let status = event["update"]["status"].clone();
            if status["uuid"].is_null() {
                continue;
            }
            framework.call(&json!({
                "type": "ACKNOWLEDGE",
                "acknowledge": {"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]},
            }));
            acknowledged += 1;
        }
        // Later events are not looked at.
        std::thread::spawn(move || while received.recv().is_ok() {});
        framework
    }

    fn call(&self, call: &Value) {
        let mut call = call.clone();
        call["framework_id"] = json!({"value": self.id});
        let exchange =
            Exchange::call("/api/v1/scheduler", &[("Mesos-Stream-Id", &self.stream)], &call);
        exchange.expect(self.port, &Names::default(), "202 Accepted");
    }

    /// Ends the framework.
    pub fn teardown(&self) {
        self.call(&json!({"type": "TEARDOWN"}));
    }
}
