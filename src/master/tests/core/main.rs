//! The master's core as agents, drivers and frameworks meet it: messages and calls in, effects out, no clock but ours.

#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test fails by panicking")]

mod agents;
mod drivers;
mod frameworks;
mod launches;
mod maintenance;
mod metrics;
mod operators;
mod quotas;
#[path = "../../../mesos/tests/recorded/mod.rs"]
#[allow(dead_code, clippy::print_stdout, reason = "a test says when it skips")]
mod recorded;
mod refusals;
mod reservations;
mod security;
mod seen;
mod wire;

use std::time::Duration;

use master::core::model::{Connection, Now, StreamId};
use master::core::{CallError, Effect, Master, Refusal, Settings};
use mesos::internal::{self, Registry};
use mesos::libprocess::{Upid, inbound::Header};
use mesos::v1::scheduler::{Call, Event, call, event};
use mesos::v1::{self, TaskState, master::call::DrainAgent};
use prost::{Message, Name};

struct Test {
    master: Master,
    now: Now,
    effects: Vec<Effect>,
}

fn upid(text: &str) -> Upid {
    text.parse().unwrap()
}

fn agent_pid() -> Upid {
    upid("slave(1)@10.0.0.1:5051")
}

fn id(value: &str) -> v1::AgentId {
    v1::AgentId { value: value.to_owned() }
}

fn resources(text: &str) -> Vec<v1::Resource> {
    mesos::resources::Resources::parse(text, "*").unwrap().to_protos()
}

fn agent_info() -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: "agent1".to_owned(),
        resources: resources("cpus:4;mem:1024"),
        checkpoint: Some(true),
        ..Default::default()
    }
}

/// A UUID as there are, with a number in it.
fn uuid_of(number: u8) -> Vec<u8> {
    uuid::Builder::from_random_bytes([number; 16]).into_uuid().into_bytes().to_vec()
}

fn update(task: &str, state: TaskState, uuid: u8) -> internal::StatusUpdateMessage {
    let status = v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        state: state as i32,
        ..Default::default()
    };
    let update = internal::StatusUpdate {
        framework_id: v1::FrameworkId { value: "M-0000".to_owned() },
        slave_id: Some(id("M-S0")),
        uuid: Some(uuid_of(uuid)),
        status,
        ..Default::default()
    };
    internal::StatusUpdateMessage { update, pid: Some(agent_pid().to_string()) }
}

fn framework_info() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: "test".to_owned(),
        checkpoint: Some(true),
        failover_timeout: Some(60.0),
        ..Default::default()
    }
}

impl Test {
    fn with_registry(registry: Registry) -> Self {
        Self::with(Settings::default(), registry)
    }

    fn with(settings: Settings, registry: Registry) -> Self {
        let info = v1::MasterInfo { id: "M".to_owned(), ..Default::default() };
        Self::elected(settings, info, registry)
    }

    fn elected(settings: Settings, info: v1::MasterInfo, registry: Registry) -> Self {
        let now = Now { wall: 1000.0, mono: Duration::ZERO };
        let master = Master::elected(settings, info, registry, now);
        let mut test = Self { master, now, effects: Vec::new() };
        test.settle();
        test
    }

    fn new() -> Self {
        Self::with_registry(Registry::default())
    }

    /// Ticks once; what came of all inputs since the last time is in `effects`.
    fn settle(&mut self) {
        self.master.tick(self.now);
        self.effects = self.master.take_effects();
    }

    fn after(&mut self, seconds: f64) {
        self.now.mono += Duration::from_secs_f64(seconds);
        self.now.wall += seconds;
        self.settle();
    }

    fn message<M: Message + Name>(&mut self, from: &Upid, message: &M) {
        self.named(from, "master", M::full_name(), message);
    }

    fn named<M: Message>(&mut self, from: &Upid, to: &str, name: String, message: &M) {
        let header = Header { from: from.clone(), to: to.to_owned(), name };
        self.master.message(self.now, &header, &message.encode_to_vec()).unwrap();
        self.settle();
    }

    fn register(&mut self) {
        self.message(
            &agent_pid(),
            &internal::RegisterSlaveMessage { slave: agent_info(), ..Default::default() },
        );
    }

    fn sent<M: Message + Name + Default>(&self, to: &Upid) -> Vec<M> {
        let body = |effect: &Effect| match effect {
            Effect::Send { to: own, name, body, .. } if own == to && *name == M::full_name() => {
                Some(M::decode(body.as_slice()).unwrap())
            }
            _ => None,
        };
        self.effects.iter().filter_map(body).collect()
    }

    fn events(&self, kind: event::Type) -> Vec<Event> {
        let event = |effect: &Effect| match effect {
            Effect::Event(_, event) if event.r#type() == kind => Some((**event).clone()),
            _ => None,
        };
        self.effects.iter().filter_map(event).collect()
    }

    fn subscribe(&mut self, info: v1::FrameworkInfo) -> StreamId {
        let stream = StreamId(uuid::Uuid::new_v4());
        let subscribe = call::Subscribe { framework_info: info, ..Default::default() };
        self.master.subscribe(self.now, stream, subscribe);
        self.settle();
        stream
    }

    fn call(&mut self, stream: StreamId, call: Call) -> Result<(), CallError> {
        let framework_id = Some(v1::FrameworkId { value: "M-0000".to_owned() });
        let call = Call { framework_id, ..call };
        let result = self.master.call(self.now, None, Some(&stream.0.to_string()), call);
        self.settle();
        result
    }

    /// The one offer that stands.
    fn offer(&self) -> v1::Offer {
        assert_eq!(self.master.offers.len(), 1);
        self.master.offers.values().next().unwrap().message.clone()
    }

    fn launch(&mut self, stream: StreamId, tasks: Vec<v1::TaskInfo>) {
        let launch = v1::offer::operation::Launch { task_infos: tasks };
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(launch),
            ..Default::default()
        };
        let accept = call::Accept {
            offer_ids: vec![self.offer().id],
            operations: vec![operation],
            filters: None,
        };
        self.call(
            stream,
            Call {
                r#type: Some(call::Type::Accept as i32),
                accept: Some(accept),
                ..Default::default()
            },
        )
        .unwrap();
    }

    fn update(&mut self, task: &str, state: TaskState, uuid: u8) {
        self.message(&agent_pid(), &update(task, state, uuid));
    }

    fn acknowledge(&mut self, stream: StreamId, task: &str, uuid: u8) {
        let acknowledge = call::Acknowledge {
            agent_id: id("M-S0"),
            task_id: v1::TaskId { value: task.to_owned() },
            uuid: uuid_of(uuid),
        };
        let kind = Some(call::Type::Acknowledge as i32);
        self.call(
            stream,
            Call { r#type: kind, acknowledge: Some(acknowledge), ..Default::default() },
        )
        .unwrap();
    }

    fn task_statuses(&self) -> Vec<v1::TaskStatus> {
        let status = |event: Event| event.update.unwrap().status;
        self.events(event::Type::Update).into_iter().map(status).collect()
    }

    fn states(&self) -> Vec<(String, TaskState)> {
        let pair = |status: v1::TaskStatus| (status.task_id.value.clone(), status.state());
        self.task_statuses().into_iter().map(pair).collect()
    }
}

fn task(name: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: name.to_owned(),
        task_id: v1::TaskId { value: name.to_owned() },
        agent_id: id("M-S0"),
        resources: resources("cpus:1;mem:128"),
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

/// Has a group launched on the next offer.
fn launch_group(
    test: &mut Test,
    stream: StreamId,
    executor: v1::ExecutorInfo,
    tasks: Vec<v1::TaskInfo>,
) {
    let group =
        v1::offer::operation::LaunchGroup { executor, task_group: v1::TaskGroupInfo { tasks } };
    let operation = v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::LaunchGroup as i32),
        launch_group: Some(group),
        ..Default::default()
    };
    test.after(6.0);
    let accept = call::Accept {
        offer_ids: vec![test.offer().id],
        operations: vec![operation],
        filters: None,
    };
    let kind = Some(call::Type::Accept as i32);
    test.call(stream, Call { r#type: kind, accept: Some(accept), ..Default::default() }).unwrap();
}
