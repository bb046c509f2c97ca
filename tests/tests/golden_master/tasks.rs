//! The master's part of `mesos-golden/tasks`: a pod and command tasks, calls in protobuf, a framework that is away,
//! quotas, reservations and volumes by an operator, maintenance, draining, an agent that is gone. The agents are the
//! original's.

use end_to_end::framework::{Framework, command_task, launch};
use end_to_end::golden::tasks::{MASTER, STATES, info, operations};
use end_to_end::golden::{self, Allowed, Exchange, Mode, Names, Tally};
use end_to_end::programs::original_mesos;
use end_to_end::{http, need, ports, stream, wait};
use serde_json::{Value, json};

use super::partition::withdraw;
use super::{LIMIT, Site};

/// Streams of the frameworks that the recording's calls are of.
const FILTERS: &str = "f8128b23-e2a1-4a74-a83b-eb5005ae7d72";
const PBCALLS: &str = "9139188a-b546-40e1-8d18-840340d7889c";
const AWAY: &str = "00bb7fc1-5176-475f-8a12-c5cea7eb0136";

const ALLOWED: Allowed = Allowed {
    exchanges: &[],
    differences: &[
        (
            "order of members: recorded [\"mem\", \"cpus\"], ours [\"cpus\", \"mem\"]",
            "resources of quotas in the order of the original's hash table",
        ),
        (
            ".offered_resources[3]: members missing [\"scalar\"], of ours only [\"ranges\"]",
            "ports of two agents are one range in the original's sum: what is taken away for one is gone for both",
        ),
        ("resources: members missing [], of ours only [\"ports\"]", "the same in the old form"),
    ],
    incomparable: &[],
};

fn get(site: &Site, path: &str) -> Result<Value, String> {
    http::get_json(&format!("http://127.0.0.1:{}{path}", site.port))
}

fn wait_for_agents(site: &Site, what: &str, is_so: impl Fn(&[Value]) -> bool) {
    wait::until(what, LIMIT, || {
        let slaves = get(site, "/slaves")?;
        let all = slaves["slaves"].as_array().cloned().unwrap_or_default();
        if is_so(&all) { Ok(()) } else { Err(slaves.to_string()) }
    });
}

fn run(framework: &Framework, task: &str, host: &str) {
    let offer = framework.offer(|offer| offer["hostname"] == host);
    let task_info = command_task(task, &offer["agent_id"], "sleep 600");
    framework.accept(&offer, &[launch(&[task_info])]);
    framework.wait_for(task, "TASK_RUNNING");
}

/// The frameworks as they come and go, and what else happened between the exchanges.
struct Story {
    site: Site,
    names: Names,
    third: u16,
    tasks: Framework,
    others: Vec<Framework>,
    drain: Option<Framework>,
}

impl Story {
    fn begin() -> Self {
        let site = Site::start(&[]);
        let mut names = site.names(MASTER);
        let [third] = ports::free();
        for pattern in ["127.0.0.1:", ".example:", "\"port\":"] {
            names.add(format!("{pattern}5053"), format!("{pattern}{third}"));
        }
        let tasks = Framework::start(site.port, &info("tasks", &["tasks"]));
        let offer = tasks.offer(|offer| offer["hostname"] == "agent1.example");
        tasks.accept(&offer, &operations(&offer["agent_id"], &tasks.id));
        let refused =
            [("g-nodisk", "TASK_ERROR"), ("c-user", "TASK_DROPPED"), ("c-uri", "TASK_FAILED")];
        let mut statuses = tasks.wait_for_all(&[&refused[..], &STATES].concat());
        for task in ["c-kill", "g-2"] {
            let kill = json!({"task_id": {"value": task}, "agent_id": offer["agent_id"]});
            tasks.call(&json!({"type": "KILL", "kill": kill}));
        }
        statuses.extend(tasks.wait_for_all(&[("c-kill", "TASK_KILLED"), ("g-2", "TASK_KILLED")]));
        names.add_statuses(&golden::records("tasks/scheduler-tasks.recordio"), &statuses);
        wait_for_agents(&site, "all that is free in offers", |all| {
            all.iter().all(|agent| agent["offered_resources"]["ports"] == "[31000-32000]")
        });
        Self { site, names, third, tasks, others: Vec::new(), drain: None }
    }

    fn id(&self, number: usize) -> Value {
        let state = get(&self.site, "/state").expect("the state");
        json!({"value": format!("{}-S{number}", state["id"].as_str().unwrap_or_default())})
    }

    fn operate(&self, call: &Value) {
        self.site.operate(call, "200 OK");
    }

    fn constrain(&mut self) {
        withdraw(&self.site, &self.tasks);
        let filters = Framework::start(self.site.port, &info("filters", &["filters"]));
        withdraw(&self.site, &filters);
        let mut own = info("filters", &["filters"]);
        own["id"] = json!({"value": filters.id});
        let constraint = json!({
            "selector": {"attribute_name": "rack"}, "predicate": {"text_equals": {"value": "r2"}},
        });
        let update = json!({"type": "UPDATE_FRAMEWORK", "update_framework": {
            "framework_info": own,
            "offer_constraints": {"role_constraints": {
                "filters": {"groups": [{"attribute_constraints": [constraint]}]},
            }},
        }});
        filters.call_for(&update, "200 OK");
        filters.call(&json!({"type": "REVIVE"}));
        filters.next("OFFERS");
        self.names.add(FILTERS, &filters.stream);
        self.others.push(filters);
    }

    fn call_in_protobuf(&mut self) {
        let info = json!({
            "user": "root", "name": "pbcalls", "roles": ["pbcalls"], "failover_timeout": 30,
            "capabilities": [{"type": "MULTI_ROLE"}],
        });
        let framework = Framework::start(self.site.port, &info);
        self.names.add(PBCALLS, &framework.stream);
        self.others.push(framework);
    }

    /// A framework subscribes, once more as what it is now, and loses its connection.
    fn go_away(&mut self) {
        let before = Framework::start(self.site.port, &info("failover", &["failover"]));
        let mut now = info("failover renamed", &["failover", "more"]);
        now["id"] = json!({"value": before.id});
        let call = json!({
            "type": "SUBSCRIBE", "framework_id": now["id"], "subscribe": {"framework_info": now},
        });
        let mut stream = stream::subscribe(self.site.port, "/api/v1/scheduler", &call);
        let id = stream.next_event("SUBSCRIBED")["subscribed"]["framework_id"]["value"].clone();
        self.names.add(AWAY, stream.header("mesos-stream-id").expect("a stream's id"));
        drop(stream);
        wait::until("a framework that is away", LIMIT, || {
            let state = get(&self.site, "/frameworks")?;
            let mut all = state["frameworks"].as_array().into_iter().flatten();
            let is_away = all.any(|known| known["id"] == id && known["connected"] == false);
            if is_away { Ok(()) } else { Err(state.to_string()) }
        });
    }

    fn maintain(&mut self) {
        let flags = ["--resources=cpus:1;mem:256;disk:256;ports:[]"];
        self.site.start_agent(3, self.third, &flags);
        let drain = Framework::start(self.site.port, &info("drain", &["drain"]));
        run(&drain, "d-1", "agent3.example");
        self.schedule();
        self.drain = Some(drain);
    }

    fn schedule(&self) {
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let start = start.expect("a time").as_nanos() + 60_000_000_000;
        self.operate(&json!({
            "type": "UPDATE_MAINTENANCE_SCHEDULE",
            "update_maintenance_schedule": {"schedule": {"windows": [{
                "machine_ids": [{"hostname": "agent3.example", "ip": "127.0.0.1"}],
                "unavailability": {
                    "start": {"nanoseconds": i64::try_from(start).expect("a time")}, "duration": {"nanoseconds": 600_000_000_000_i64},
                },
            }]}},
        }));
    }

    /// What was done before an exchange, and not recorded.
    fn prepare(&mut self, exchange: &str) {
        match exchange {
            "op/GET_FRAMEWORKS-constraints" => self.constrain(),
            "op/GET_ROLES-with-pod" => {
                wait::until("all of an agent to be given out", LIMIT, || {
                    // What tasks that ended had is offered again in the next round.
                    let roles = get(&self.site, "/roles")?;
                    let cpus = &roles["roles"][0]["resources"]["cpus"];
                    if *cpus == 8.0 { Ok(()) } else { Err(roles.to_string()) }
                });
            }
            "scheduler/pb-reconcile" => self.call_in_protobuf(),
            "scheduler/call-while-disconnected" => self.go_away(),
            "op/CREATE_VOLUMES" => {
                // It was refined before.
                let text = |value: &str| json!({"type": "DYNAMIC", "role": value});
                let mut below = text("opr2");
                below["labels"] = json!({"labels": [{"key": "a", "value": "b"}]});
                let agent_id = self.id(0);
                let call = json!({
                    "type": "UNRESERVE_RESOURCES",
                    "unreserve_resources": {"agent_id": agent_id, "resources": [{
                        "name": "disk", "type": "SCALAR", "scalar": {"value": 64},
                        "reservations": [below, text("opr2/sub")],
                    }]},
                });
                self.site.operate(&call, "202 Accepted");
            }
            "op/quota-delete" => {
                let guarantee =
                    [json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}})];
                self.operate(&json!({
                    "type": "SET_QUOTA",
                    "set_quota": {"quota_request": {"role": "q3", "guarantee": guarantee}},
                }));
            }
            "op/GET_MAINTENANCE_STATUS-waiting" => self.maintain(),
            "master/get/maintenance-status-accepted" => {
                let Some(drain) = &self.drain else { return };
                let asked = drain.next("INVERSE_OFFERS");
                let ids = [&asked["inverse_offers"]["inverse_offers"][0]["id"]];
                drain.call(&json!({
                    "type": "ACCEPT_INVERSE_OFFERS",
                    "accept_inverse_offers": {"inverse_offer_ids": ids},
                }));
            }
            "master/get/slaves-drained" => {
                let Some(drain) = &self.drain else { return };
                drain.wait_for_all(&[("d-1", "TASK_KILLED")]);
                wait_for_agents(&self.site, "a drained agent", |all| {
                    all.iter().any(|agent| agent["drain_info"]["state"] == "DRAINED")
                });
            }
            "op/REACTIVATE_AGENT-active" => {
                let agent_id = self.id(2);
                self.operate(&json!({
                    "type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": agent_id},
                }));
            }
            "op/START_MAINTENANCE-again" => {
                self.schedule();
                let machines = [json!({"hostname": "agent3.example", "ip": "127.0.0.1"})];
                self.operate(&json!({
                    "type": "START_MAINTENANCE", "start_maintenance": {"machines": machines},
                }));
            }
            "op/GET_AGENTS-down" => {
                wait_for_agents(&self.site, "an agent that is down", |all| all.len() == 2);
            }
            "op/MARK_AGENT_GONE" => {
                let Some(drain) = &self.drain else { return };
                drain.call(&json!({"type": "REVIVE"}));
                run(drain, "x-1", "agent2.example");
                let agent_id = self.id(1);
                self.operate(&json!({
                    "type": "DRAIN_AGENT", "drain_agent": {"agent_id": agent_id, "mark_gone": true},
                }));
                drain.wait_for_all(&[("x-1", "TASK_GONE_BY_OPERATOR")]);
                wait_for_agents(&self.site, "an agent that is gone", |all| all.len() == 1);
            }
            "op/GET_AGENTS-gone" => {
                wait_for_agents(&self.site, "no agents", <[Value]>::is_empty);
                self.tasks.wait_for_all(&[
                    ("c-hold", "TASK_GONE_BY_OPERATOR"),
                    ("g-1", "TASK_GONE_BY_OPERATOR"),
                ]);
            }
            _ => {}
        }
    }
}

fn mode(exchange: &Exchange) -> Mode {
    // Which tasks ended first, and what is offered to whom at the moment, is not the same in two runs.
    let shown = ["state", "STATE", "tasks-", "frameworks-", "FRAMEWORKS", "AGENTS-"];
    let is_view = exchange.method == "GET" || exchange.name.starts_with("op/GET_");
    if is_view && shown.iter().any(|part| exchange.name.contains(part)) {
        Mode::Shape
    } else {
        Mode::Values
    }
}

fn is_with_master(exchange: &Exchange) -> bool {
    ["master/", "op/", "scheduler/"].iter().any(|whose| exchange.name.starts_with(whose))
}

#[test]
fn our_master_tells_of_tasks_and_operators_as_the_original_did() {
    need!(golden::directory().is_some(), "../shared/reference/mesos-golden is missing");
    need!(original_mesos().is_some(), "../shared/oracle is missing or can't be built");
    let mut story = Story::begin();
    let mut tally = Tally::new("tasks, the master", ALLOWED);
    for exchange in golden::load("tasks").iter().filter(|exchange| is_with_master(exchange)) {
        story.prepare(&exchange.name);
        let ours = golden::replay(exchange, story.site.port, &story.names);
        tally.reply(exchange, ours.expect("our master answers").as_ref(), mode(exchange));
    }
    tally.finish();
}
