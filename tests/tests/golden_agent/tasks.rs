//! The agent's part of `mesos-golden/tasks` that is not of containers alone: a pod and command tasks, sessions and their
//! streams, draining.

use std::collections::BTreeMap;
use std::time::Duration;

use end_to_end::framework::{Framework, command_task, launch};
use end_to_end::golden::tasks::{MASTER, STATES, info, operations};
use end_to_end::golden::{self, Exchange, Mode, Names, Reply, Tally};
use end_to_end::{http, need, ports, wait};
use serde_json::{Value, json};

use super::{LIMIT, Site};

const POD: &str = "d1691ffc-697c-404f-92bc-c06cd07d968a";

const REPLAYED: &[&str] = &[
    "agent/GET_CONTAINERS-with-pod",
    "agent/GET_STATE-with-pod",
    "agent/get/metrics/snapshot-with-pod",
    "streams/session-json",
    "agent/session-wait-json",
    "agent/session-wait-plain-json",
    "agent/attach-input",
    "streams/attach-session",
    "agent/pb-GET_CONTAINERS",
    "agent3/get/state-drained",
    "agent/GET_STATE-drained",
];

struct Story {
    site: Site,
    names: Names,
    third: u16,
    pod: String,
    tasks: Framework,
    drain: Option<Framework>,
}

fn containers(port: u16) -> Result<Value, String> {
    let url = format!("http://127.0.0.1:{port}/api/v1");
    let call = json!({
        "type": "GET_CONTAINERS",
        "get_containers": {"show_nested": true, "show_standalone": true},
    });
    Ok(http::post_within(&url, &call, Duration::from_secs(10))?.json())
}

impl Story {
    fn begin() -> Self {
        let site = Site::start();
        let tasks = Framework::start(site.master_port, &info("tasks", &["tasks"]));
        let offer = tasks.offer(|_| true);
        tasks.accept(&offer, &operations(&offer["agent_id"], &tasks.id));
        let statuses = tasks.wait_for_all(&STATES);
        // The recording's stand-in of a default executor outlived the end of one of its tasks.
        let kill = json!({"task_id": {"value": "c-kill"}, "agent_id": offer["agent_id"]});
        tasks.call(&json!({"type": "KILL", "kill": kill}));
        tasks.wait_for_all(&[("c-kill", "TASK_KILLED")]);
        let pod = statuses.iter().find(|status| status["task_id"]["value"] == "g-1");
        let pod = pod.expect("a status of the pod")["container_status"]["container_id"]
            ["parent"]["value"]
            .as_str()
            .expect("its container")
            .to_owned();
        let [third] = ports::free();
        let mut names = site.names();
        names.add(MASTER, super::state(site.master_port)["id"].as_str().unwrap_or_default());
        names.add(POD, &pod);
        wait::until("the ends of what has ended", LIMIT, || {
            let all = containers(site.port)?;
            let count = all["get_containers"]["containers"].as_array().map_or(0, Vec::len);
            // The pod, its tasks, and the task that stays.
            if count == 4 { Ok(()) } else { Err(all.to_string()) }
        });
        Self { site, names, third, pod, tasks, drain: None }
    }

    fn session(&self, id: &str, command: &str) {
        let call = json!({
            "type": "LAUNCH_NESTED_CONTAINER_SESSION",
            "launch_nested_container_session": {
                "container_id": {"value": id, "parent": {"value": self.pod}},
                "command": {"value": command},
            },
        });
        let session = Exchange::call("/api/v1", &[("Accept", "application/json")], &call);
        session.expect(self.site.port, &Names::default(), "200 OK");
    }

    /// A third agent, drained of the task that it ran.
    fn drain(&mut self) {
        self.tasks.call(&json!({"type": "SUPPRESS"}));
        self.site.start_agent(3, self.third, &["--resources=cpus:1;mem:256;disk:256;ports:[]"]);
        let drain = Framework::start(self.site.master_port, &info("drain", &["drain"]));
        let offer = drain.offer(|offer| offer["hostname"] == "agent3.example");
        drain.accept(&offer, &[launch(&[command_task("d-1", &offer["agent_id"], "sleep 600")])]);
        drain.wait_for("d-1", "TASK_RUNNING");
        let call = json!({
            "type": "DRAIN_AGENT",
            "drain_agent": {"agent_id": offer["agent_id"], "max_grace_period": {"seconds": 0}},
        });
        let names = Names::default();
        Exchange::call("/api/v1", &[], &call).expect(self.site.master_port, &names, "200 OK");
        drain.wait_for_all(&[("d-1", "TASK_KILLED")]);
        self.drain = Some(drain);
    }

    fn replay(&self, exchange: &Exchange, port: u16) -> Option<Reply> {
        golden::replay(exchange, port, &self.names).expect("our agent answers")
    }
}

/// What came out of a session, by stream: how it is cut into records is chance.
fn output(reply: Option<&Reply>) -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for record in golden::parse_records(&reply.expect("the session ends").body) {
        let text = |name: &str| record["data"][name].as_str().unwrap_or_default().to_owned();
        assert_eq!(record["type"], "DATA", "{record}");
        all.entry(text("type")).or_default().extend(golden::decode_base64(&text("data")));
    }
    all
}

fn mode(exchange: &Exchange) -> Mode {
    if exchange.path.starts_with("/metrics/") {
        Mode::Names
    } else if exchange.name.contains("GET_") || exchange.method == "GET" {
        Mode::Shape
    } else {
        Mode::Values
    }
}

#[test]
fn our_agent_tells_of_pods_sessions_and_draining_as_the_original_did() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    let mut story = Story::begin();
    let mut tally = Tally::new("tasks, the agent", super::not_yet::ALLOWED_OF_TASKS);
    let all = golden::load("tasks");
    let find = |name: &str| all.iter().find(|exchange| exchange.name == name).expect("recorded");
    for exchange in all.iter().filter(|exchange| REPLAYED.contains(&exchange.name.as_str())) {
        match exchange.name.as_str() {
            "agent/session-wait-plain-json" => story.session("s-plain-json", "true"),
            // It goes on beside the input that ends it, and was recorded when it had ended.
            "streams/attach-session" => continue,
            "agent3/get/state-drained" => story.drain(),
            _ => {}
        }
        let port = if exchange.name.ends_with("-drained") { story.third } else { story.site.port };
        if exchange.name == "agent/attach-input" {
            let session = find("streams/attach-session");
            let names = &story.names;
            let (ours, shown) = std::thread::scope(|scope| {
                let shown = scope.spawn(move || {
                    golden::replay(session, port, names).expect("our agent answers")
                });
                wait::until("the session's container", LIMIT, || {
                    let all = containers(port)?.to_string();
                    if all.contains("\"tty\"") { Ok(()) } else { Err(all) }
                });
                (story.replay(exchange, port), shown.join().expect("the session"))
            });
            tally.reply(exchange, ours.as_ref(), Mode::Values);
            compare_output(&mut tally, session, shown.as_ref());
        } else if exchange.name.starts_with("streams/") {
            compare_output(&mut tally, exchange, story.replay(exchange, port).as_ref());
        } else {
            tally.reply(exchange, story.replay(exchange, port).as_ref(), mode(exchange));
        }
    }
    tally.finish();
}

fn compare_output(tally: &mut Tally, exchange: &Exchange, ours: Option<&Reply>) {
    let without_body = |reply: &Reply| Reply { body: Vec::new(), ..reply.clone() };
    let recorded = exchange.reply.as_ref();
    let mut found = golden::differences(
        recorded.map(without_body).as_ref(),
        ours.map(without_body).as_ref(),
        Mode::Values,
    );
    let (recorded, ours) = (output(recorded), output(ours));
    if recorded != ours {
        found.push(format!("output: recorded {recorded:?}, ours {ours:?}"));
    }
    tally.found(&exchange.name, found);
}
