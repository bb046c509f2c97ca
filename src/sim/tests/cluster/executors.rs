//! Executors by script: they subscribe, run tasks, report, are killed, fail, and outlive their agent.

use std::collections::{BTreeMap, VecDeque};

use agent::containerizer::{Launch, Problem};
use agent::core::StreamId;
use mesos::v1::executor::{Call, Event, call, event};
use mesos::v1::task_status::{Reason, Source};
use mesos::v1::{self, TaskState};

use super::{Happening, World};

/// What happens to a container.
pub(super) enum Doing {
    /// The launcher has started it, for an agent in one of its lives.
    Begin(u64, Box<Launch>),
    /// Its executor asks for a stream.
    Connect,
    /// An event reaches its executor.
    Hear(StreamId, Box<Event>),
    /// A call reaches the agent.
    Call(u64, Box<Call>),
    /// A task comes to another state.
    Become(String, TaskState),
    /// The executor sends again what was not acknowledged.
    Repeat,
    /// It is destroyed.
    Destroy,
    /// Its executor ends by itself.
    End,
    /// An agent in one of its lives sees that it has ended, and how.
    EndIsSeen(u64, Option<i32>),
}

/// What becomes of an executor whose tasks have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It ends with its only task.
    Command,
    /// It waits for more.
    Custom,
    /// It runs groups, and ends with the last of its tasks.
    Default,
}

/// A container with its executor, which is alive.
pub(super) struct Executor {
    framework: String,
    id: String,
    kind: Kind,
    /// Whether it outlives its agent's process.
    checkpoints: bool,
    stream: Option<StreamId>,
    /// When the last event on the stream arrives, and the last call.
    heard_last: u64,
    called_last: u64,
    tasks: Vec<v1::TaskInfo>,
    /// Tasks that live and die together.
    groups: Vec<Vec<String>>,
    unacknowledged: VecDeque<v1::TaskStatus>,
    states: BTreeMap<String, TaskState>,
    attempts: u32,
    is_ending: bool,
}

impl World {
    fn later(&mut self, index: usize, container: &str, delay: u64, doing: Doing) {
        let place = Self::agent_place(index);
        self.agenda.after(delay, Happening::Container(place, container.to_owned(), doing));
    }

    pub(super) fn launch(&mut self, index: usize, launch: Launch) {
        let life = self.agents[index].life;
        let container = launch.run.container.clone();
        let delay = self.random.between(1, 800);
        self.later(index, &container, delay, Doing::Begin(life, Box::new(launch)));
    }

    pub(super) fn container(&mut self, index: usize, container: String, doing: Doing) {
        let until = self.agents[index].paused_until;
        let asks_agent = matches!(
            doing,
            Doing::Begin(..) | Doing::Connect | Doing::Call(..) | Doing::EndIsSeen(..)
        );
        if asks_agent && until > self.now() {
            let place = Self::agent_place(index);
            self.agenda.at(until, Happening::Container(place, container, doing));
            return;
        }
        match doing {
            Doing::Begin(life, launch) => self.begin(index, life, *launch),
            Doing::Connect => self.connect(index, &container),
            Doing::Hear(stream, event) => self.executor_hears(index, &container, stream, *event),
            Doing::Call(life, call) => {
                let now = self.agent_now(index);
                let host = &mut self.agents[index];
                if let Some(agent) = host.agent.as_mut().filter(|_| host.life == life) {
                    // Refused: it is repeated, or goes with the next subscription.
                    drop(agent.call(now, *call));
                    self.agent_effects(index);
                }
            }
            Doing::Become(task, state) => self.task_becomes(index, &container, &task, state),
            Doing::Repeat => self.repeat(index, &container),
            Doing::Destroy => {
                let host = &mut self.agents[index];
                if !host.executors.contains_key(&container) {
                    host.cancelled.insert(container.clone());
                }
                self.ends(index, &container, Some(9));
            }
            Doing::End => self.ends(index, &container, Some(0)),
            Doing::EndIsSeen(life, status) => {
                let now = self.agent_now(index);
                let host = &mut self.agents[index];
                if let Some(agent) = host.agent.as_mut().filter(|_| host.life == life) {
                    agent.container_ended(now, &container, status, None);
                    self.agent_effects(index);
                }
            }
        }
    }

    fn begin(&mut self, index: usize, life: u64, launch: Launch) {
        let now = self.agent_now(index);
        let fails = !self.is_calm && self.random.chance(20);
        let host = &mut self.agents[index];
        let Some(agent) = host.agent.as_mut().filter(|_| host.life == life) else { return };
        let container = launch.run.container.clone();
        if host.cancelled.remove(&container) {
            agent.container_ended(now, &container, None, None);
            return self.agent_effects(index);
        }
        if fails {
            let problem = Problem::new(Reason::ContainerLaunchFailed, "no such image");
            agent.container_ended(now, &container, None, Some(problem));
            return self.agent_effects(index);
        }
        if let Some(path) = &launch.pid_file {
            agent::checkpoint::replace(path, b"7").expect("room for files");
        }
        let kind = match launch.run.executor.split('-').next() {
            Some("task") => Kind::Command,
            Some("group") => Kind::Default,
            _ => Kind::Custom,
        };
        let executor = Executor {
            framework: launch.run.framework,
            id: launch.run.executor,
            kind,
            checkpoints: launch.pid_file.is_some(),
            stream: None,
            heard_last: 0,
            called_last: 0,
            tasks: Vec::new(),
            groups: Vec::new(),
            unacknowledged: VecDeque::new(),
            states: BTreeMap::new(),
            attempts: 0,
            is_ending: false,
        };
        assert!(host.executors.insert(container.clone(), executor).is_none(), "started twice");
        agent.container_started(&container, 7);
        self.checks.count("containers started");
        self.agent_effects(index);
        let delay = self.random.between(1, 600);
        self.later(index, &container, delay, Doing::Connect);
    }

    fn connect(&mut self, index: usize, container: &str) {
        let now = self.agent_now(index);
        let stream = self.new_stream();
        let host = &mut self.agents[index];
        let Some(executor) = host.executors.get_mut(container) else { return };
        if executor.stream.is_some() {
            return;
        }
        executor.attempts += 1;
        if executor.attempts > 1800 {
            // The agent does not come back, or does not know it.
            return self.later(index, container, 1, Doing::End);
        }
        let updates = executor.unacknowledged.iter();
        let subscribe = call::Subscribe {
            unacknowledged_tasks: executor.tasks.clone(),
            unacknowledged_updates: updates
                .map(|status| call::Update { status: status.clone() })
                .collect(),
        };
        let call = Call { subscribe: Some(subscribe), ..executor.call(call::Type::Subscribe) };
        match host.agent.as_mut().filter(|agent| agent.check_subscribe(&call).is_ok()) {
            Some(agent) => {
                executor.stream = Some(stream);
                executor.attempts = 0;
                host.streams.insert(stream, container.to_owned());
                agent.subscribe(now, stream, call);
                self.agent_effects(index);
            }
            None => self.later(index, container, 500, Doing::Connect),
        }
    }

    pub(super) fn executor_disconnected(&mut self, index: usize, container: &str) {
        let Some(executor) = self.agents[index].executors.get_mut(container) else { return };
        executor.stream = None;
        let next = if executor.checkpoints { Doing::Connect } else { Doing::End };
        let delay = self.random.between(1, 500);
        self.later(index, container, delay, next);
    }

    pub(super) fn executor_gets(&mut self, index: usize, stream: StreamId, event: Box<Event>) {
        let delay = self.random.between(1, 50);
        let at = self.now() + delay;
        let host = &mut self.agents[index];
        let Some(container) = host.streams.get(&stream).cloned() else { return };
        let Some(executor) = host.executors.get_mut(&container) else { return };
        executor.heard_last = executor.heard_last.max(at);
        let place = Self::agent_place(index);
        let doing = Doing::Hear(stream, event);
        self.agenda.at(executor.heard_last, Happening::Container(place, container, doing));
    }

    fn executor_hears(&mut self, index: usize, container: &str, stream: StreamId, event: Event) {
        let Some(executor) = self.agents[index].executors.get_mut(container) else { return };
        if executor.stream != Some(stream) {
            return;
        }
        match event.r#type() {
            event::Type::Launch => {
                self.take_task(index, container, event.launch.unwrap().task);
            }
            event::Type::LaunchGroup => {
                let tasks = event.launch_group.unwrap().task_group.tasks;
                self.checks.group_starts(&tasks);
                let ids = tasks.iter().map(|task| task.task_id.value.clone()).collect();
                executor.groups.push(ids);
                for task in tasks {
                    self.take_task(index, container, task);
                }
            }
            event::Type::Kill => {
                let id = event.kill.unwrap().task_id.value;
                if executor.states.contains_key(&id) {
                    let delay = self.random.between(1, 1500);
                    self.later(index, container, delay, Doing::Become(id, TaskState::TaskKilled));
                }
            }
            event::Type::Acknowledged => {
                let acknowledged = event.acknowledged.unwrap();
                executor
                    .unacknowledged
                    .retain(|status| status.uuid.as_deref() != Some(&acknowledged.uuid));
                executor.tasks.retain(|task| task.task_id != acknowledged.task_id);
                let is_done = executor.kind != Kind::Custom
                    && executor.unacknowledged.is_empty()
                    && executor.states.values().all(|state| agent::core::is_terminal(*state));
                if is_done {
                    let delay = self.random.between(1, 500);
                    self.later(index, container, delay, Doing::End);
                }
            }
            event::Type::Shutdown => {
                if std::mem::replace(&mut executor.is_ending, true) {
                    return;
                }
                let live: Vec<String> = executor.states.keys().cloned().collect();
                for task in live {
                    self.task_becomes(index, container, &task, TaskState::TaskKilled);
                }
                let delay = self.random.between(1, 7000);
                self.later(index, container, delay, Doing::End);
            }
            _ => {}
        }
    }

    fn take_task(&mut self, index: usize, container: &str, task: v1::TaskInfo) {
        let Some(executor) = self.agents[index].executors.get_mut(container) else { return };
        let id = task.task_id.value.clone();
        self.checks.task_starts(&id);
        executor.states.insert(id.clone(), TaskState::TaskStaging);
        executor.tasks.push(task);
        let delay = self.random.between(1, 2000);
        self.later(index, container, delay, Doing::Become(id.clone(), TaskState::TaskRunning));
        if self.random.chance(500) {
            let end = if self.random.chance(700) {
                TaskState::TaskFinished
            } else {
                TaskState::TaskFailed
            };
            let delay = delay + self.random.between(1, 30_000);
            self.later(index, container, delay, Doing::Become(id, end));
        } else if self.random.chance(100) {
            let delay = self.random.between(1, 30_000);
            self.later(index, container, delay, Doing::End);
        }
    }

    fn task_becomes(&mut self, index: usize, container: &str, task: &str, state: TaskState) {
        let uuid = self.uuid();
        let host = &mut self.agents[index];
        let Some(executor) = host.executors.get_mut(container) else { return };
        let Some(known) = executor.states.get_mut(task) else { return };
        if agent::core::is_terminal(*known) {
            return;
        }
        *known = state;
        let fails = matches!(state, TaskState::TaskFailed | TaskState::TaskKilled);
        let group = executor.groups.iter().find(|group| group.iter().any(|own| own == task));
        let others = group.filter(|_| fails).cloned().unwrap_or_default();
        executor.unacknowledged.push_back(v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state as i32,
            source: Some(Source::Executor as i32),
            uuid: Some(uuid.as_bytes().to_vec()),
            ..Default::default()
        });
        if let Some(status) = executor.unacknowledged.back().cloned() {
            self.report(index, container, status);
        }
        self.later(index, container, 5000, Doing::Repeat);
        for other in others {
            let delay = self.random.between(1, 1500);
            self.later(index, container, delay, Doing::Become(other, TaskState::TaskKilled));
        }
    }

    fn repeat(&mut self, index: usize, container: &str) {
        let Some(executor) = self.agents[index].executors.get(container) else { return };
        let all: Vec<v1::TaskStatus> = executor.unacknowledged.iter().cloned().collect();
        if all.is_empty() {
            return;
        }
        for status in all {
            self.report(index, container, status);
        }
        self.later(index, container, 5000, Doing::Repeat);
    }

    fn report(&mut self, index: usize, container: &str, status: v1::TaskStatus) {
        let delay = self.random.between(1, 50);
        let at = self.now() + delay;
        let host = &mut self.agents[index];
        let Some(executor) = host.executors.get_mut(container) else { return };
        executor.called_last = executor.called_last.max(at);
        let update = Some(call::Update { status });
        let call = Call { update, ..executor.call(call::Type::Update) };
        let doing = Doing::Call(host.life, Box::new(call));
        let happening = Happening::Container(Self::agent_place(index), container.to_owned(), doing);
        self.agenda.at(executor.called_last, happening);
    }

    fn ends(&mut self, index: usize, container: &str, status: Option<i32>) {
        let host = &mut self.agents[index];
        if host.executors.remove(container).is_none() {
            return;
        }
        let life = host.life;
        let streams: Vec<StreamId> = host
            .streams
            .iter()
            .filter(|(_, own)| *own == container)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in streams {
            host.streams.remove(&stream);
            if let Some(agent) = &mut host.agent {
                agent.stream_closed(stream);
            }
        }
        let delay = self.random.between(1, 400);
        self.later(index, container, delay, Doing::EndIsSeen(life, status));
    }

    /// An executor's stream breaks; both sides see it.
    pub(super) fn break_executor(&mut self, index: usize) {
        let host = &mut self.agents[index];
        let Some((stream, container)) = host.streams.pop_first() else { return };
        if let Some(agent) = &mut host.agent {
            agent.stream_closed(stream);
        }
        self.executor_disconnected(index, &container);
    }
}

impl Executor {
    fn call(&self, kind: call::Type) -> Call {
        Call {
            framework_id: v1::FrameworkId { value: self.framework.clone() },
            executor_id: v1::ExecutorId { value: self.id.clone() },
            r#type: Some(kind as i32),
            ..Default::default()
        }
    }
}
