//! The agent's decisions, without I/O: messages of the master, calls of executors, ends of containers and the time
//! come in, effects go out. Effects are carried out in order, except that all writes of a batch come first: what
//! leaves the agent is on disk by then.

mod authentication;
pub mod container_id;
pub mod containers;
mod drain;
mod executors;
pub mod garbage;
mod groups;
mod launch;
mod limits;
mod master;
pub mod operations;
pub mod reconfiguration;
pub mod recovery;
mod status;
mod tasks;
#[cfg(test)]
mod tests;
pub mod updates;
mod v0;
pub mod validation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::cram_md5::Authenticatee;
use access::jwt::Key;
use indexmap::IndexMap;
use mesos::entropy::Entropy;
use mesos::libprocess::Upid;
use mesos::resources::Resources;
use mesos::v1::executor::Event;
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState};
use prost::{Message, Name};
use uuid::Uuid;

use crate::checkpoint;
use crate::checkpoint::paths::{self, Run};
use crate::checkpoint::resources::Change;
use crate::containerizer::{Launch, Problem, ResourceLimits};
use authentication::Authentication;
use container_id::ContainerId;
use containers::{Containers, Termination};
use garbage::{Garbage, Waste};
use updates::Updates;

pub use drain::Drain;
pub use executors::CallError;
pub use limits::{DiskQuota, DiskUse};
pub use tasks::task_of;
pub use v0::Peer;

/// Completed tasks that are remembered of an executor, and completed frameworks of the agent.
const COMPLETED_TASKS_MAX: usize = 200;
const COMPLETED_FRAMEWORKS_MAX: usize = 50;

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
    /// Send a libprocess message from `slave(1)`: to whom, its name, its body.
    Send(Upid, String, Vec<u8>),
    /// Send a libprocess message from another process of this agent's.
    SendAs(&'static str, Upid, String, Vec<u8>),
    /// Dial the master anew, and watch the connection.
    Link(Upid),
    /// Replace a file, on disk before anything else of the batch.
    Write(PathBuf, Vec<u8>),
    /// Append to a file, on disk before anything else of the batch.
    Append(PathBuf, Vec<u8>),
    /// Point a symbolic link: its target, its own path.
    Symlink(PathBuf, PathBuf),
    /// Remove a file that is of no use any more.
    Unlink(PathBuf),
    /// Remove a directory that is of no use any more.
    RemoveDirectory(PathBuf),
    /// Other resources are reserved now: on disk, and as directories of volumes, before anything that follows.
    Reserve(Box<Change>),
    /// Start a container; its end is told by [`Agent::container_ended`].
    Launch(Box<Launch>),
    /// A container's tasks take other resources now.
    Resize {
        /// The container.
        container: String,
        /// What they ask for.
        resources: Resources,
        /// What they may take of that.
        limits: ResourceLimits,
        /// Whether Docker runs it.
        in_docker: bool,
    },
    /// End a container and all that runs in it.
    Destroy(String),
    /// Send a signal to a container's first process.
    Signal(String, i32),
    /// A container that an operator or an executor asked for runs, or why it does not.
    Launched(ContainerId, Result<(), String>),
    /// A container has ended: whoever waits for it is to know.
    Ended(ContainerId, Termination),
    /// Remove a directory of no further use.
    Remove(PathBuf),
    /// Send an event to an executor.
    Event(StreamId, Box<Event>),
    /// End an executor's stream.
    Close(StreamId),
    /// Remove what is left of something that has ended.
    Collect(Waste),
    /// The agent must end itself, because of a failure or at its end.
    Abort(Ending),
}

/// Why an agent ends itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It can't go on.
    Failure(String),
    /// It did all it was started for (`--recover=cleanup`).
    Done,
}

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--work_dir`.
    pub work_dir: PathBuf,
    /// `--runtime_dir`.
    pub runtime_dir: PathBuf,
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
    pub completed_executors_max: usize,
    /// `--executor_environment_variables`; `None` if not given.
    pub executor_environment: Option<BTreeMap<String, String>>,
    /// `--default_container_info`: what executors run in that ask for nothing.
    pub default_container: Option<v1::ContainerInfo>,
    /// What the executors that come with the agent need to speak TLS with it; nothing where it speaks none.
    pub tls_environment: Vec<(String, String)>,
    /// `--jwt_secret_key`: what executors' tokens are signed with.
    pub executor_key: Option<Arc<Key>>,
    /// `--gc_delay`.
    pub gc_delay: Duration,
    /// `--gc_disk_headroom`.
    pub gc_disk_headroom: f64,
    /// What it offers beyond what it has, revocable (`--resource_estimator`).
    pub oversubscribed: Vec<v1::Resource>,
    /// `--cgroups_enable_cfs`: whether containers have no more CPU time than they ask for.
    pub has_cpu_quota: bool,
    /// `--switch_user`.
    pub switch_user: bool,
    /// Looks a user of this host up: why there is none of that name, if so.
    pub check_user: fn(&str) -> Result<(), String>,
    /// `--recover=cleanup`: end what runs, then end.
    pub cleans_up: bool,
    /// `--ip`, as executors get it in `LIBPROCESS_IP`.
    pub ip: Option<String>,
    /// `ip:port` that executors reach the agent at.
    pub endpoint: std::net::SocketAddr,
    /// What else tasks in the host's network are reached at (`--ip6`).
    pub ip6: Option<std::net::Ipv6Addr>,
    /// `--credential`.
    pub credential: Option<Authenticatee>,
    /// `--authentication_timeout_min` and `--authentication_timeout_max`.
    pub authentication_timeout: (Duration, Duration),
    /// What identifiers are made from: different at every start.
    pub seed: [u8; 32],
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
    /// Started, not subscribed yet; must be by then (monotonic).
    Registering(Duration),
    /// It ran under the agent before, and must have subscribed again by then (monotonic).
    Reregistering(Duration),
    /// Subscribed.
    Running,
    /// Told to end; destroyed then (monotonic), or at once already.
    Terminating(Option<Duration>),
}

/// How an executor's tasks are reported when it ends because of the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Their state.
    pub state: TaskState,
    /// Why.
    pub problem: Problem,
}

impl Verdict {
    fn new(state: TaskState, reason: Reason, message: impl Into<String>) -> Self {
        Self { state, problem: Problem::new(reason, message) }
    }
}

/// An executor and its tasks.
#[derive(Debug)]
pub struct Executor {
    /// What it is.
    pub info: v1::ExecutorInfo,
    /// Where it runs.
    pub run: Run,
    /// Whether the agent made it up for a command task.
    pub is_generated: bool,
    /// How far it is.
    pub state: ExecutorState,
    /// How it is reached, while it is.
    pub peer: Option<Peer>,
    /// Its first process, once there is one.
    pub pid: Option<i32>,
    /// Its networks, where these are not the host's.
    pub networks: Vec<v1::NetworkInfo>,
    /// Tasks that wait for it to subscribe.
    pub queued: IndexMap<String, v1::TaskInfo>,
    /// Which of those are to be handed over together.
    pub groups: Vec<Vec<String>>,
    /// Tasks handed to it.
    pub tasks: IndexMap<String, v1::Task>,
    /// Tasks that are over, newest last.
    pub completed: VecDeque<v1::Task>,
    /// Tasks whose updates on disk nobody is to hear any more, since its framework was shut down.
    pub unheard: BTreeSet<String>,
    /// Tasks to be killed, until they are over: an order may be lost with a stream.
    pub kills: BTreeMap<String, Option<v1::KillPolicy>>,
    /// How its tasks end when it ends, if the agent ended it.
    pub verdict: Option<Verdict>,
    /// Whether its container is gone.
    pub has_ended: bool,
}

impl Executor {
    fn new(info: v1::ExecutorInfo, run: Run, is_generated: bool, state: ExecutorState) -> Self {
        Self {
            info,
            run,
            is_generated,
            state,
            peer: None,
            pid: None,
            networks: Vec::new(),
            queued: IndexMap::new(),
            groups: Vec::new(),
            tasks: IndexMap::new(),
            completed: VecDeque::new(),
            kills: BTreeMap::new(),
            verdict: None,
            has_ended: false,
            unheard: BTreeSet::new(),
        }
    }

    /// What it and its tasks take.
    pub fn resources(&self) -> Resources {
        let mut all = Resources::from_protos(&self.info.resources);
        for task in self.tasks.values() {
            all.add(&Resources::from_protos(&task.resources));
        }
        for task in self.queued.values() {
            all.add(&Resources::from_protos(&task.resources));
        }
        all
    }

    /// Whether Docker runs it: it, or the task that it was made up for.
    pub fn is_in_docker(&self) -> bool {
        let container = self.info.container.as_ref();
        container.is_some_and(|own| own.r#type() == v1::container_info::Type::Docker)
    }

    /// Whether a task waits for it, was handed to it, or is over.
    fn knows(&self, task: &str) -> bool {
        self.queued.contains_key(task)
            || self.tasks.contains_key(task)
            || self.completed.iter().any(|done| done.task_id.value == task)
    }

    /// Whether a task was handed to it: one may have reached it, or it has told of one that is over
    /// (`Executor::everSentTask`).
    fn ever_got_a_task(&self) -> bool {
        let is_its_own =
            |status: &v1::TaskStatus| status.source() == v1::task_status::Source::Executor;
        let mut over = self.completed.iter().flat_map(|task| &task.statuses);
        !self.tasks.is_empty() || over.any(is_its_own)
    }

    fn is_ending(&self) -> bool {
        matches!(self.state, ExecutorState::Terminating(_))
    }
}

/// A framework with executors here.
#[derive(Debug)]
pub struct Framework {
    /// What it said of itself.
    pub info: v1::FrameworkInfo,
    /// Where its v0 driver is; none of one that speaks HTTP, or until the master names it again.
    pub process: Option<Upid>,
    /// Whether the master shut it down: its updates interest nobody.
    pub is_terminating: bool,
    /// Its executors.
    pub executors: IndexMap<String, Executor>,
    /// Executors that are gone, newest last.
    pub completed: VecDeque<Executor>,
}

impl Framework {
    fn new(info: v1::FrameworkInfo) -> Self {
        let (executors, completed) = (IndexMap::new(), VecDeque::new());
        Self { info, process: None, is_terminating: false, executors, completed }
    }
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    /// What an operator chose.
    pub settings: Settings,
    /// What it says of itself; with an id once registered.
    pub info: v1::AgentInfo,
    /// What it has, reservations and volumes included.
    pub total: Resources,
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
    /// Containers without executor.
    pub containers: Containers,
    /// What containers' sandboxes take, in bytes, where that is looked at.
    pub disk_use: BTreeMap<String, DiskUse>,
    /// What waits to be removed.
    pub garbage: Garbage,
    /// What has just ended, and how long ago.
    ended: Vec<(Waste, Duration)>,
    /// What an operator wants drained.
    pub draining: Option<Drain>,
    /// Status updates that wait.
    pub updates: Updates,
    /// How long it took to take over from the agent before, in seconds.
    pub recovery_seconds: f64,
    /// Counters, by metric name.
    pub counters: BTreeMap<String, u64>,
    operations: IndexMap<Vec<u8>, operations::Waiting>,
    entropy: Entropy,
    authentication: Authentication,
    register_due: Duration,
    register_attempts: u32,
    ping_deadline: Option<Duration>,
    ping_timeout: Duration,
    /// Why it ends when nothing runs any more.
    leaving: Option<Ending>,
    effects: Vec<Effect>,
}

/// Capabilities of this agent.
pub const CAPABILITIES: &[v1::agent_info::capability::Type] = &[
    v1::agent_info::capability::Type::MultiRole,
    v1::agent_info::capability::Type::HierarchicalRole,
    v1::agent_info::capability::Type::ReservationRefinement,
    v1::agent_info::capability::Type::ResourceProvider,
    v1::agent_info::capability::Type::ResizeVolume,
    v1::agent_info::capability::Type::AgentOperationFeedback,
    v1::agent_info::capability::Type::AgentDraining,
    v1::agent_info::capability::Type::TaskResourceLimits,
];

/// [`CAPABILITIES`] as messages.
pub fn capabilities() -> Vec<v1::agent_info::Capability> {
    CAPABILITIES
        .iter()
        .map(|capability| v1::agent_info::Capability { r#type: Some(*capability as i32) })
        .collect()
}

/// Whether a task in this state is over.
pub fn is_terminal(state: TaskState) -> bool {
    use TaskState as S;
    matches!(
        state,
        S::TaskFinished
            | S::TaskFailed
            | S::TaskKilled
            | S::TaskLost
            | S::TaskError
            | S::TaskDropped
            | S::TaskGone
            | S::TaskGoneByOperator
    )
}

impl Agent {
    /// An agent that hasn't registered.
    pub fn new(settings: Settings, info: v1::AgentInfo) -> Self {
        let mut entropy = Entropy::new(settings.seed);
        let garbage = Garbage::new(settings.gc_delay, settings.gc_disk_headroom);
        Self {
            settings,
            total: Resources::from_protos(&info.resources),
            info,
            resource_version: entropy.uuid(),
            master: None,
            master_hostname: None,
            registration: Registration::Disconnected,
            frameworks: IndexMap::new(),
            completed_frameworks: VecDeque::new(),
            containers: Containers::new(),
            disk_use: BTreeMap::new(),
            garbage,
            ended: Vec::new(),
            draining: None,
            updates: Updates::default(),
            recovery_seconds: 0.0,
            counters: BTreeMap::new(),
            operations: IndexMap::new(),
            entropy,
            authentication: Authentication::Needed(0),
            register_due: Duration::ZERO,
            register_attempts: 0,
            ping_deadline: None,
            ping_timeout: Duration::from_secs(75),
            leaving: None,
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

    /// All executors that run or are to run.
    pub fn executors(&self) -> impl Iterator<Item = &Executor> {
        self.frameworks.values().flat_map(|framework| framework.executors.values())
    }

    fn count(&mut self, metric: &str) {
        *self.counters.entry(metric.to_owned()).or_default() += 1;
    }

    fn send<M: Message + Name>(&mut self, message: &M) {
        if let Some(master) = &self.master {
            self.effects.push(Effect::Send(
                master.clone(),
                M::full_name(),
                message.encode_to_vec(),
            ));
        }
    }

    fn meta(&self) -> PathBuf {
        paths::meta(&self.settings.work_dir)
    }

    fn write<M: Message>(&mut self, path: &Path, message: &M) {
        self.effects.push(Effect::Write(path.to_owned(), checkpoint::frame(message)));
    }

    fn is_checkpointing(&self, framework: &str) -> bool {
        self.frameworks.get(framework).is_some_and(|framework| framework.info.checkpoint())
    }

    fn executor_mut(&mut self, framework: &str, executor: &str) -> Option<&mut Executor> {
        self.frameworks.get_mut(framework)?.executors.get_mut(executor)
    }

    /// Sends an event to an executor, if it listens.
    fn tell(&mut self, framework: &str, executor: &str, event: Event) {
        match self.executor_mut(framework, executor).and_then(|executor| executor.peer.clone()) {
            Some(Peer::Stream(stream)) => {
                self.effects.push(Effect::Event(stream, Box::new(event)));
            }
            Some(Peer::Process(to)) => self.tell_process(&to, framework, executor, false, event),
            None => {}
        }
    }

    /// Does what is due. Called at least ten times a second and after every batch of input.
    pub fn tick(&mut self, now: Now) {
        self.register_when_due(now);
        if self.registration == Registration::Running {
            for update in self.updates.due(now.mono) {
                let pid = Some(Upid::new("slave(1)", self.settings.endpoint).to_string());
                self.send(&mesos::internal::StatusUpdateMessage { update, pid });
            }
            self.send_due_operations(now);
        }
        self.end_late_executors(now);
        for (what, age) in std::mem::take(&mut self.ended) {
            self.garbage.add(now.mono, age, what);
        }
        let due = self.garbage.take_due(now.mono);
        self.effects.extend(due.into_iter().map(Effect::Collect));
    }

    /// Something is there that nobody needs, since `age`.
    pub fn discard(&mut self, what: Waste, age: Duration) {
        self.ended.push((what, age));
    }

    /// Forgets a framework that has no executors and no updates left.
    fn forget_idle_framework(&mut self, id: &str) {
        let waits = |executor: &Executor| {
            executor
                .completed
                .iter()
                .any(|task| self.updates.has_pending(&(id.to_owned(), task.task_id.value.clone())))
        };
        let is_idle = self.frameworks.get(id).is_some_and(|framework| {
            framework.executors.is_empty()
                && (framework.is_terminating || !framework.completed.iter().any(waits))
        });
        if !is_idle {
            return;
        }
        if let Some(agent) = self.id().map(str::to_owned) {
            self.ended.push((Waste::Framework(agent, id.to_owned()), Duration::ZERO));
        }
        if let Some(framework) = self.frameworks.shift_remove(id) {
            self.completed_frameworks.push_back((id.to_owned(), framework));
            while self.completed_frameworks.len() > COMPLETED_FRAMEWORKS_MAX {
                self.completed_frameworks.pop_front();
            }
        }
        self.finish_draining();
        self.leave_when_idle();
    }
}
