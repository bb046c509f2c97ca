//! A framework over the v1 scheduler API in JSON that does what a test tells it.

use std::cell::RefCell;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::golden::{Exchange, Names};
use crate::stream::subscribe;

const LIMIT: Duration = Duration::from_secs(60);

/// A subscribed framework. It acknowledges what it is told of tasks when it waits for one.
#[derive(Debug)]
pub struct Framework {
    /// Its id.
    pub id: String,
    /// Its stream's id.
    pub stream: String,
    info: Value,
    port: u16,
    events: Receiver<Value>,
    /// What came while something else was waited for, without offers that were rescinded.
    earlier: RefCell<Vec<Value>>,
}

impl Framework {
    /// Subscribes to the master at this port, as `info` describes.
    ///
    /// # Panics
    /// When it isn't accepted.
    #[must_use]
    pub fn start(port: u16, info: &Value) -> Self {
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        let (stream, events) = Self::subscribe(port, &call);
        let earlier = RefCell::default();
        let mut framework =
            Self { id: String::new(), stream, info: info.clone(), port, events, earlier };
        let subscribed = framework.next("SUBSCRIBED");
        let id = subscribed["subscribed"]["framework_id"]["value"].as_str();
        id.expect("the framework's id").clone_into(&mut framework.id);
        framework
    }

    /// Subscribes once more as what it was, to another master.
    ///
    /// # Panics
    /// When it isn't accepted.
    pub fn rejoin(&mut self, port: u16) {
        let mut info = self.info.clone();
        info["id"] = json!({"value": self.id});
        let call = json!({
            "type": "SUBSCRIBE", "framework_id": {"value": self.id},
            "subscribe": {"framework_info": info},
        });
        (self.stream, self.events) = Self::subscribe(port, &call);
        self.earlier.borrow_mut().clear();
        self.port = port;
        self.next("SUBSCRIBED");
    }

    fn subscribe(port: u16, call: &Value) -> (String, Receiver<Value>) {
        let (tell, events) = mpsc::channel();
        let subscribed = subscribe(port, "/api/v1/scheduler", call);
        let stream = subscribed.header("mesos-stream-id").expect("a stream's id").to_owned();
        subscribed.forward(tell);
        (stream, events)
    }

    /// Makes a call, which the master must accept.
    pub fn call(&self, call: &Value) {
        self.call_for(call, "202 Accepted");
    }

    /// Makes a call, which must be answered so.
    pub fn call_for(&self, call: &Value, status: &str) {
        let mut call = call.clone();
        call["framework_id"] = json!({"value": self.id});
        let headers = [("Mesos-Stream-Id", self.stream.as_str())];
        Exchange::call("/api/v1/scheduler", &headers, &call).expect(
            self.port,
            &Names::default(),
            status,
        );
    }

    /// The next event of a kind; others are kept.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn next(&self, kind: &str) -> Value {
        self.next_in_time(kind).unwrap_or_else(|| panic!("no {kind} in time"))
    }

    fn next_in_time(&self, kind: &str) -> Option<Value> {
        let until = Instant::now() + LIMIT;
        let mut earlier = self.earlier.borrow_mut();
        for event in self.events.try_iter() {
            keep(&mut earlier, event);
        }
        loop {
            if let Some(index) = earlier.iter().position(|event| event["type"] == kind) {
                return Some(earlier.remove(index));
            }
            let left = until.saturating_duration_since(Instant::now());
            keep(&mut earlier, self.events.recv_timeout(left).ok()?);
        }
    }

    /// An offer that fits; others are declined.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn offer(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < until, "no offer fits in time");
            let event = self.next("OFFERS");
            let offers = event["offers"]["offers"].as_array().cloned().unwrap_or_default();
            let (fitting, others): (Vec<Value>, Vec<Value>) =
                offers.into_iter().partition(|offer| fits(offer));
            for offer in others {
                self.call(&json!({"type": "DECLINE", "decline": {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}}}));
            }
            if let Some(offer) = fitting.into_iter().next() {
                return offer;
            }
        }
    }

    /// Declines all offers that came until now.
    pub fn decline_all(&self) {
        let mut earlier = self.earlier.borrow_mut();
        for event in self.events.try_iter() {
            keep(&mut earlier, event);
        }
        let events: Vec<Value> =
            earlier.extract_if(.., |event| event["type"] == "OFFERS").collect();
        let offers =
            events.iter().filter_map(|event| event["offers"]["offers"].as_array()).flatten();
        let ids: Vec<&Value> = offers.map(|offer| &offer["id"]).collect();
        if !ids.is_empty() {
            self.call(&json!({"type": "DECLINE", "decline": {"offer_ids": ids}}));
        }
    }

    /// Accepts an offer with operations, and wants what is left of it at once.
    pub fn accept(&self, offer: &Value, operations: &[Value]) {
        self.call(&json!({"type": "ACCEPT", "accept": {
            "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}, "operations": operations,
        }}));
    }

    /// The next status of a task, which is acknowledged.
    fn next_status(&self, problem: &dyn Fn() -> String) -> Value {
        let update = self.next_in_time("UPDATE").unwrap_or_else(|| panic!("{}", problem()));
        let status = update["update"]["status"].clone();
        if !status["uuid"].is_null() {
            self.call(&json!({"type": "ACKNOWLEDGE", "acknowledge": {
                "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
            }}));
        }
        status
    }

    /// Waits until each of these tasks came to its state; all statuses until then.
    ///
    /// # Panics
    /// When one does not in time.
    pub fn wait_for_all(&self, wanted: &[(&str, &str)]) -> Vec<Value> {
        let mut open = wanted.to_vec();
        let mut statuses = Vec::new();
        while !open.is_empty() {
            let status = self.next_status(&|| format!("what is waited for: {open:?}"));
            open.retain(|(task, state)| {
                status["task_id"]["value"] != *task || status["state"] != *state
            });
            statuses.push(status);
        }
        statuses
    }

    /// Waits for a task's state; the statuses of that task until then. What is said again of others, since an
    /// acknowledgement was lost with the agent, is acknowledged once more.
    ///
    /// # Panics
    /// When the task ends otherwise before.
    pub fn wait_for(&self, task: &str, state: &str) -> Vec<Value> {
        let mut statuses = Vec::new();
        loop {
            let status = self.next_status(&|| format!("{task} never comes to {state}"));
            if status["task_id"]["value"] != task {
                continue;
            }
            let is_last = status["state"] == state;
            assert!(
                is_last
                    || matches!(status["state"].as_str(), Some("TASK_STARTING" | "TASK_RUNNING")),
                "{status}"
            );
            statuses.push(status);
            if is_last {
                return statuses;
            }
        }
    }
}

fn keep(earlier: &mut Vec<Value>, event: Value) {
    if event["type"] == "RESCIND" {
        for offers in earlier.iter_mut().filter(|event| event["type"] == "OFFERS") {
            if let Some(offers) = offers["offers"]["offers"].as_array_mut() {
                offers.retain(|offer| offer["id"] != event["rescind"]["offer_id"]);
            }
        }
    }
    earlier.push(event);
}

/// A task with 0.1 CPUs and 32 MB that runs a command.
#[must_use]
pub fn command_task(id: &str, agent: &Value, command: &str) -> Value {
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    json!({
        "name": id, "task_id": {"value": id}, "agent_id": agent, "command": {"value": command},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
    })
}

/// The operation that launches tasks.
#[must_use]
pub fn launch(tasks: &[Value]) -> Value {
    json!({"type": "LAUNCH", "launch": {"task_infos": tasks}})
}
