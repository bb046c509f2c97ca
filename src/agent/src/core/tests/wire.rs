//! The recorded wire, replayed: what the original's agent sent to its masters, ours sends too, message by message and
//! field by field.
//!
//! What is not compared: times; containers' ids and processes; versions of resources, which ours changes whenever it
//! registers again; the order of tasks and frameworks; how often a registration is repeated before it is answered. Ours
//! knows after a restart, too, which update of a task it sent last.

#[path = "../../../../mesos/tests/recorded/mod.rs"]
#[allow(dead_code, clippy::print_stdout, reason = "a test says when it skips")]
mod recorded;

use std::collections::BTreeMap;

use access::Principal;
use access::cram_md5::Authenticatee;
use serde_json::Value;

use super::*;
use recorded::Line;

const AGENT: &str = "127.0.0.1:5051";

struct Replay {
    own: Conversation,
    /// Streams and containers by task, of what runs.
    running: BTreeMap<String, (String, StreamId)>,
    recorded: Vec<(String, Value)>,
    ours: Vec<(String, Value)>,
}

fn comparable(to: &str, name: &str, body: &[u8]) -> (String, Value) {
    let mut told = recorded::told(name, body);
    recorded::each_text(&mut told, &mut Vec::new(), &mut |path, text| {
        let is = |end: &[&str]| {
            path.ends_with(&end.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        if is(&["container_id", "value"]) || is(&["resource_version_uuid", "value"]) {
            "of one run".clone_into(text);
        }
    });
    (format!("{to} {name}"), told)
}

fn running_status(line: &Line) -> Option<(String, v1::TaskStatus)> {
    (line.header.name == m::StatusUpdateMessage::full_name()).then(|| {
        let update = m::StatusUpdateMessage::decode(&line.body[..]).unwrap().update;
        // What the agent adds to what the executor says.
        let said = v1::TaskStatus {
            container_status: None,
            agent_id: None,
            executor_id: None,
            ..update.status
        };
        (update.framework_id.value, said)
    })
}

impl Replay {
    fn new(lines: &[Line], change: impl FnOnce(&mut Settings)) -> Self {
        let first =
            lines.iter().find(|line| line.header.name == m::RegisterSlaveMessage::full_name());
        let first = m::RegisterSlaveMessage::decode(&first.unwrap().body[..]).unwrap();
        let mut own = Conversation::with(first.slave, |settings| {
            settings.ip = Some("127.0.0.1".to_owned());
            change(settings);
        });
        // The recorded master's orders are for this one.
        let version = first.resource_version_uuid.unwrap().value;
        own.agent.resource_version = Uuid::from_slice(&version).unwrap();
        Self { own, running: BTreeMap::new(), recorded: Vec::new(), ours: Vec::new() }
    }

    fn note(&mut self) {
        let ours = &mut self.ours;
        self.own.seen.retain(|effect| {
            let (Effect::Send(to, name, body) | Effect::SendAs(_, to, name, body)) = effect else {
                return true;
            };
            let told = comparable(&to.id, name, body);
            let is_repeated =
                *name == m::RegisterSlaveMessage::full_name() && ours.last() == Some(&told);
            if !is_repeated {
                ours.push(told);
            }
            false
        });
    }

    fn advance(&mut self, seconds: f64) {
        let mut left = seconds;
        while left > 0.0 {
            self.own.later(left.min(0.05));
            self.note();
            left -= 0.05;
        }
    }

    /// An executor says what the recorded one must have said for this.
    fn cause(&mut self, framework: &str, status: v1::TaskStatus) {
        let task = status.task_id.value.clone();
        let call = |kind: call::Type| Call {
            framework_id: v1::FrameworkId { value: framework.to_owned() },
            executor_id: v1::ExecutorId { value: task.clone() },
            r#type: Some(kind as i32),
            ..Default::default()
        };
        if !self.running.contains_key(&task) {
            let container = self.own.launched().unwrap();
            self.own.agent.container_started(&container, self.pid(&task));
            let stream = StreamId(Uuid::new_v4());
            let subscribe = Some(call::Subscribe::default());
            self.own.agent.subscribe(
                self.own.now,
                stream,
                Call { subscribe, ..call(call::Type::Subscribe) },
            );
            self.running.insert(task.clone(), (container, stream));
        }
        let update = Some(call::Update { status });
        self.own.agent.call(self.own.now, Call { update, ..call(call::Type::Update) }).unwrap();
        self.own.settle();
        self.note();
    }

    /// The process of a task's executor, as recorded.
    fn pid(&self, task: &str) -> i32 {
        let of =
            |(_, told): &&(String, Value)| told["update"]["status"]["task_id"]["value"] == task;
        let told = &self.recorded.iter().rev().find(of).unwrap().1;
        let pid = told["update"]["status"]["container_status"]["executor_pid"].as_i64();
        i32::try_from(pid.unwrap()).unwrap()
    }

    /// The agent is killed and started anew; its executors come back to it.
    fn restart(mut self) -> Self {
        let master = self.own.agent.master.clone().unwrap();
        let frameworks: BTreeMap<String, String> = (self.own.agent.frameworks.iter())
            .flat_map(|(id, known)| known.executors.keys().map(|task| (task.clone(), id.clone())))
            .collect();
        (self.own, _) = self.own.restarted(|settings| settings.ip = Some("127.0.0.1".to_owned()));
        for (task, (_, stream)) in &mut self.running {
            *stream = StreamId(Uuid::new_v4());
            let call = Call {
                framework_id: v1::FrameworkId { value: frameworks[task].clone() },
                executor_id: v1::ExecutorId { value: task.clone() },
                r#type: Some(call::Type::Subscribe as i32),
                subscribe: Some(call::Subscribe::default()),
                ..Default::default()
            };
            self.own.agent.subscribe(self.own.now, *stream, call);
        }
        self.own.agent.master_changed(self.own.now, Some((master, "m".into())));
        self.own.settle();
        self.note();
        self
    }

    fn replay(mut self, lines: &[Line]) -> Self {
        let agent = AGENT.parse().unwrap();
        let mut time = lines[0].time;
        for line in lines.iter().filter(|line| !line.header.name.contains(".log.")) {
            let is_from_agent = line.header.from.address == agent;
            if !is_from_agent && line.to != agent.port() {
                continue;
            }
            self.advance(line.time - time);
            time = line.time;
            if is_from_agent {
                let name = &line.header.name;
                let told = comparable(&line.header.to, name, &line.body);
                let is_repeated = *name == m::RegisterSlaveMessage::full_name()
                    && self.recorded.last() == Some(&told);
                if !is_repeated {
                    self.recorded.push(told);
                }
                if let Some((framework, status)) = running_status(line) {
                    self.cause(&framework, status);
                }
                let master = std::net::SocketAddr::from(([127, 0, 0, 1], line.to));
                let known = self.own.agent.master.as_ref().map(|master| master.address);
                if known != Some(master) {
                    let pid = Upid::new("master", master);
                    self.own.agent.master_changed(self.own.now, Some((pid, "m".into())));
                    self.own.settle();
                    self.note();
                } else if *name == m::ReregisterSlaveMessage::full_name() {
                    self = self.restart();
                } else if *name == m::UnregisterSlaveMessage::full_name() {
                    self.own.agent.unregister(self.own.now);
                    self.own.settle();
                    self.note();
                }
            }
            if !is_from_agent {
                self.own.agent.message(self.own.now, &line.header, &line.body).unwrap();
                self.own.settle();
                self.note();
            }
        }
        self
    }

    fn compare(mut self) {
        let pairs = self.recorded.iter().zip(&mut self.ours);
        for ((_, recorded), (_, ours)) in pairs {
            let tasks = recorded["tasks"].as_array().into_iter().flatten();
            let own = ours.get_mut("tasks").and_then(Value::as_array_mut);
            for (recorded, ours) in tasks.zip(own.into_iter().flatten()) {
                for name in ["status_update_state", "status_update_uuid"] {
                    if let (None, Some(ours)) = (recorded.get(name), ours.as_object_mut()) {
                        ours.shift_remove(name);
                    }
                }
            }
        }
        recorded::assert_same("the master", &self.recorded, &self.ours);
    }
}

#[test]
fn it_says_to_two_masters_in_turn_what_the_original_said() {
    let Some(lines) = recorded::wire("ha.jsonl") else { return };
    Replay::new(&lines, |_| ()).replay(&lines).compare();
}

#[test]
fn it_authenticates_as_the_original_did() {
    let Some(lines) = recorded::wire("auth.jsonl") else { return };
    let credential = Authenticatee::new(Principal("agent".to_owned()), "agentpw".into());
    // Before it was given its credential the recorded agent was refused.
    let begin = lines.iter().position(|line| {
        line.header.to.starts_with("master")
            && line.header.name == m::AuthenticateMessage::full_name()
    });
    let lines = &lines[begin.unwrap()..];
    Replay::new(lines, |settings| settings.credential = Some(credential)).replay(lines).compare();
}
