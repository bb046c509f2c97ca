//! The agent's decisions, without I/O: messages of the master, calls of executors, ends of containers and time come in,
//! effects go out. Effects are carried out in order: what is checkpointed is on disk before what follows leaves.

mod executors;
mod master;
pub mod recovery;
mod tasks;
pub mod updates;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use mesos::libprocess::Upid;
use mesos::resources::Resources;
use mesos::v1::{self, TaskState};
use mesos::v1::executor::Event;
use prost::{Message, Name};
use uuid::Uuid;

use crate::checkpoint;
use crate::containerizer::Launch;
use crate::paths::{self, Run};
use updates::Updates;

pub use executors::CallError;

/// The time of an input, on both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Seconds since 1970, for messages.
    pub wall: f64,
    /// A monotonic clock, for deadlines.
    pub mono: Duration,
}

/// One subscription of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub Uuid);

/// What the shell must do.
#[derive(Debug)]
pub enum Effect {
    /// Send a libprocess message from `slave(1)`.
    Send(Upid, String, Vec<u8>),
    /// Dial the master anew before the next message.
    Relink(Upid),
    /// Replace a file, on disk before what follows.
    Write(PathBuf, Vec<u8>),
    /// Append to a file, on disk before what follows.
    Append(PathBuf, Vec<u8>),
    /// Point a symbolic link (target, link).
    Link(PathBuf, PathBuf),
    /// Start a container; its end is told by [`Agent::container_ended`].
    Launch(Box<Launch>),
    /// End a container and all that runs in it.
    Destroy(String),
    /// Send an event to an executor.
    Event(StreamId, Box<Event>),
    /// End an executor's stream.
    Close(StreamId),
    /// Remove a sandbox and its checkpoint after `--gc_delay`.
    Forget(Run),
    /// The agent must end itself.
    Abort(String),
}

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--work_dir`.
    pub work_dir: PathBuf,
    /// `--launcher_dir`.
    pub launcher_dir: PathBuf,
    /// `--executor_registration_timeout`.
    pub executor_registration_timeout: Duration,
    /// `--executor_reregistration_timeout`.
    pub executor_reregistration_timeout: Duration,
    /// `--executor_shutdown_grace_period`.
    pub executor_shutdown_grace_period: Duration,
    /// `--recovery_timeout`.
    pub recovery_timeout: Duration,
    /// `--registration_backoff_factor`.
    pub registration_backoff_factor: Duration,
    /// `--max_completed_executors_per_framework`.
    pub max_completed_executors: usize,
    /// `--executor_environment_variables`.
    pub executor_environment: BTreeMap<String, String>,
    /// `--switch_user`.
    pub switch_user: bool,
    /// `ip:port` that executors reach the agent at.
    pub endpoint: String,
}

/// How an agent stands with the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// No leading master is known, or it hasn't answered.
    Disconnected,
    /// Registered.
    Running,
}

/// How far an executor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorState {
    /// Started (or found again), not subscribed yet; must be by then (monotonic).
    Registering(Duration),
    /// Subscribed.
    Running,
    /// Told to end; destroyed then (monotonic).
    Terminating(Duration),
}

/// An executor and its tasks.
#[derive(Debug)]
pub struct Executor {
    /// What it is.
    pub info: v1::ExecutorInfo,
    /// Where it runs.
    pub run: Run,
    /// Whether the agent made it up for a command task.
    pub generated: bool,
    /// How far it is.
    pub state: ExecutorState,
    /// Its stream of events.
    pub stream: Option<StreamId>,
    /// Tasks that wait for it to subscribe.
    pub queued: IndexMap<String, v1::TaskInfo>,
    /// Tasks handed to it.
    pub tasks: IndexMap<String, v1::Task>,
    /// Tasks that are over.
    pub completed: VecDeque<v1::Task>,
    /// Why its tasks are over when it ends, if the agent ended it.
    pub ending: Option<(TaskState, v1::task_status::Reason, String)>,
}

impl Executor {
    /// What it and its tasks take.
    pub fn resources(&self) -> Resources {
        let mut all = Resources::from_protos(&self.info.resources);
        for task in self.tasks.values().filter(|task| !is_terminal(task.state())) {
            all.add(&Resources::from_protos(&task.resources));
        }
        for task in self.queued.values() {
            all.add(&Resources::from_protos(&task.resources));
        }
        all
    }
}

/// A framework with executors here.
#[derive(Debug)]
pub struct Framework {
    /// What it said of itself.
    pub info: v1::FrameworkInfo,
    /// Its executors.
    pub executors: IndexMap<String, Executor>,
    /// Executors that are gone, newest last.
    pub completed: VecDeque<Executor>,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    /// What an operator chose.
    pub settings: Settings,
    /// What it says of itself; with an id once registered.
    pub info: v1::AgentInfo,
    /// Version of its resources.
    pub resource_version: Uuid,
    /// The leading master.
    pub master: Option<Upid>,
    /// Its name, for people.
    pub master_hostname: Option<String>,
    /// How it stands with it.
    pub registration: Registration,
    /// Frameworks with executors here.
    pub frameworks: IndexMap<String, Framework>,
    /// Frameworks without executors left, newest last.
    pub completed_frameworks: VecDeque<(String, Framework)>,
    /// Status updates that wait.
    pub updates: Updates,
    /// Counters, by metric name.
    pub counters: BTreeMap<String, u64>,
    register_due: Duration,
    register_attempts: u32,
    ping_deadline: Option<Duration>,
    ping_timeout: Duration,
    effects: Vec<Effect>,
}

/// Capabilities of this agent.
pub const CAPABILITIES: &[v1::agent_info::capability::Type] = &[
    v1::agent_info::capability::Type::MultiRole,
    v1::agent_info::capability::Type::HierarchicalRole,
    v1::agent_info::capability::Type::ReservationRefinement,
];

/// [`CAPABILITIES`] as messages.
pub fn capabilities() -> Vec<v1::agent_info::Capability> {
    CAPABILITIES.iter().map(|capability| v1::agent_info::Capability { r#type: Some(*capability as i32) }).collect()
}

/// Whether a task in this state is over.
pub fn is_terminal(state: TaskState) -> bool {
    use TaskState as S;
    matches!(state, S::TaskFinished | S::TaskFailed | S::TaskKilled | S::TaskLost | S::TaskError | S::TaskDropped | S::TaskGone | S::TaskGoneByOperator)
}

impl Agent {
    /// An agent that hasn't registered.
    pub fn new(settings: Settings, info: v1::AgentInfo) -> Self {
        Self {
            settings,
            info,
            resource_version: Uuid::new_v4(),
            master: None,
            master_hostname: None,
            registration: Registration::Disconnected,
            frameworks: IndexMap::new(),
            completed_frameworks: VecDeque::new(),
            updates: Updates::default(),
            counters: BTreeMap::new(),
            register_due: Duration::ZERO,
            register_attempts: 0,
            ping_deadline: None,
            ping_timeout: Duration::from_secs(75),
            effects: Vec::new(),
        }
    }

    /// Its id, once registered.
    pub fn id(&self) -> Option<&str> {
        self.info.id.as_ref().map(|id| id.value.as_str())
    }

    /// What is to be done since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn count(&mut self, metric: &str) {
        *self.counters.entry(metric.to_owned()).or_default() += 1;
    }

    fn send<M: Message + Name>(&mut self, message: &M) {
        if let Some(master) = &self.master {
            self.effects.push(Effect::Send(master.clone(), M::full_name(), message.encode_to_vec()));
        }
    }

    fn meta(&self) -> PathBuf {
        paths::meta(&self.settings.work_dir)
    }

    fn checkpoint<M: Message>(&mut self, path: &Path, message: &M) {
        self.effects.push(Effect::Write(path.to_owned(), checkpoint::frame(message)));
    }

    fn executor_mut(&mut self, framework: &str, executor: &str) -> Option<&mut Executor> {
        self.frameworks.get_mut(framework)?.executors.get_mut(executor)
    }

    /// Does what is due. Called at least ten times a second and after every batch of input.
    pub fn tick(&mut self, now: Now) {
        self.register_when_due(now);
        if self.registration == Registration::Running {
            for update in self.updates.due(now.mono) {
                let pid = self.settings.endpoint.parse().ok().map(|address| Upid::new("slave(1)", address).to_string());
                self.send(&mesos::internal::StatusUpdateMessage { update, pid });
            }
        }
        self.executors_that_are_late(now);
    }
}
