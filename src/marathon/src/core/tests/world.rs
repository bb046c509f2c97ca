//! A Marathon's core with what a shell and a Mesos would keep of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::resources::Resources;
use mesos::v1::scheduler::{Call, Event, call, event};
use mesos::v1::{self, TaskState};
use serde_json::Value;

use crate::core::api::{Answer, Request};
use crate::core::{Effect, Marathon, Now, Settings};

pub(super) fn settings() -> Settings {
    Settings {
        role: "*".to_owned(),
        user: "root".to_owned(),
        max_instances_per_offer: 5,
        decline_offer: Duration::from_secs(120),
        task_launch_timeout: Duration::from_secs(300),
        kill_retry_timeout: Duration::from_secs(30),
        reconciliation_initial_delay: Duration::from_secs(15),
        reconciliation_interval: Duration::from_secs(600),
        local_ports: (10000, 20000),
        framework: v1::FrameworkInfo::default(),
    }
}

/// That Marathon.
pub(super) struct World {
    pub(super) marathon: Marathon,
    pub(super) now: Now,
    pub(super) stored: BTreeMap<String, Vec<u8>>,
    pub(super) events: Vec<(String, Value)>,
    /// Calls other than launches, kills and acknowledgements.
    pub(super) calls: Vec<Call>,
    /// Launched, and not yet told of.
    pub(super) staged: BTreeMap<String, v1::TaskInfo>,
    pub(super) running: BTreeMap<String, v1::TaskInfo>,
    pub(super) killed: BTreeSet<String>,
    pub(super) acknowledged: usize,
}

impl World {
    pub(super) fn with(stored: BTreeMap<String, Vec<u8>>) -> Self {
        let marathon = Marathon::load(settings(), stored.clone()).unwrap();
        let mut world = Self {
            marathon,
            now: Now { wall_ms: 1_767_323_045_678, mono: Duration::from_secs(1) },
            stored,
            events: Vec::new(),
            calls: Vec::new(),
            staged: BTreeMap::new(),
            running: BTreeMap::new(),
            killed: BTreeSet::new(),
            acknowledged: 0,
        };
        world.tell(Event {
            r#type: Some(event::Type::Subscribed as i32),
            subscribed: Some(event::Subscribed {
                framework_id: v1::FrameworkId { value: "f".to_owned() },
                ..Default::default()
            }),
            ..Default::default()
        });
        world
    }

    pub(super) fn new() -> Self {
        Self::with(BTreeMap::new())
    }

    pub(super) fn later(&mut self, seconds: f64) {
        self.now.wall_ms += (seconds * 1e3) as i64;
        self.now.mono += Duration::from_secs_f64(seconds);
        self.tick();
    }

    pub(super) fn tick(&mut self) {
        self.marathon.tick(self.now);
        for effect in self.marathon.take_effects() {
            match effect {
                Effect::Store(key, value) => drop(self.stored.insert(key, value)),
                Effect::Forget(key) => drop(self.stored.remove(&key)),
                Effect::Event(kind, value) => self.events.push((kind, value)),
                Effect::Abort(code, reason) => panic!("{code}: {reason}"),
                Effect::Call(call) => self.take(*call),
            }
        }
    }

    pub(super) fn take(&mut self, call: Call) {
        match call.r#type() {
            call::Type::Accept => {
                for operation in call.accept.unwrap().operations {
                    for task in operation.launch.unwrap().task_infos {
                        let id = task.task_id.value.clone();
                        let key = format!("instances/{id}");
                        assert!(self.stored.contains_key(&key), "{id} launched before it is kept");
                        self.staged.insert(id, task);
                    }
                }
            }
            call::Type::Kill => drop(self.killed.insert(call.kill.unwrap().task_id.value)),
            call::Type::Acknowledge => self.acknowledged += 1,
            _ => self.calls.push(call),
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.marathon.mesos(self.now, event);
        self.tick();
    }

    pub(super) fn offer(&mut self, resources: &str) {
        self.offer_to(None, resources);
    }

    /// Masters name the role only to those that may have more than one.
    pub(super) fn offer_to(&mut self, role: Option<&str>, resources: &str) {
        let resources = Resources::parse(resources, "*").unwrap();
        let offer = v1::Offer {
            id: v1::OfferId { value: "o".to_owned() },
            agent_id: v1::AgentId { value: "s".to_owned() },
            hostname: "h".to_owned(),
            allocation_info: role
                .map(|role| v1::resource::AllocationInfo { role: Some(role.to_owned()) }),
            resources: role.map_or(resources.clone(), |role| resources.allocate(role)).to_protos(),
            ..Default::default()
        };
        self.tell(Event {
            r#type: Some(event::Type::Offers as i32),
            offers: Some(event::Offers { offers: vec![offer] }),
            ..Default::default()
        });
    }

    pub(super) fn big_offer(&mut self) {
        self.offer("cpus:64;mem:65536;disk:65536;ports:[31000-31999]");
    }

    pub(super) fn update(&mut self, task: &str, state: TaskState) {
        let info = self.staged.remove(task).or_else(|| self.running.remove(task));
        if let (TaskState::TaskRunning, Some(info)) = (state, info) {
            self.running.insert(task.to_owned(), info);
        } else {
            self.killed.remove(task);
        }
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: Some(v1::AgentId { value: "s".to_owned() }),
            state: state as i32,
            uuid: Some(vec![1; 16]),
            message: Some("as told".to_owned()),
            ..Default::default()
        };
        self.tell(Event {
            r#type: Some(event::Type::Update as i32),
            update: Some(event::Update { status }),
            ..Default::default()
        });
    }

    /// Mesos does everything that it was asked, until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            self.later(0.1);
            self.big_offer();
            let (staged, killed) = (self.staged.clone(), self.killed.clone());
            if staged.is_empty() && killed.is_empty() {
                return;
            }
            for task in staged.keys() {
                self.update(task, TaskState::TaskRunning);
            }
            for task in &killed {
                self.update(task, TaskState::TaskKilled);
            }
        }
        panic!("never settles: {:?} {:?}", self.staged.keys(), self.killed);
    }

    pub(super) fn ask(&mut self, method: &str, target: &str, body: &Value) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: body.to_string().into_bytes(),
        };
        let answer = self.marathon.request(self.now, &request);
        self.tick();
        answer
    }

    pub(super) fn get(&mut self, target: &str) -> Value {
        let answer = self.ask("GET", target, &Value::Null);
        assert_eq!(answer.status, 200, "{target}: {}", answer.body);
        answer.body
    }

    pub(super) fn create(&mut self, app: &Value) -> Answer {
        let answer = self.ask("POST", "/v2/apps", app);
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer
    }

    pub(super) fn ids(&self) -> BTreeSet<String> {
        self.running.keys().cloned().collect()
    }
}
