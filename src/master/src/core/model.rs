//! What the master knows: agents, frameworks, tasks, offers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use mesos::libprocess::Upid;
use mesos::resources::Resources;
use mesos::v1::agent_info::capability::Type as AgentCapability;
use mesos::v1::{self, framework_info::capability::Type as Capability};
use uuid::Uuid;

use super::copies::Copies;
use super::maintenance::Unavailable;

/// The time of an input, on both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Seconds since 1970, for people and messages.
    pub wall: f64,
    /// A monotonic clock, for deadlines.
    pub mono: Duration,
}

/// One subscription of a framework: the value of `Mesos-Stream-Id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub Uuid);

/// The name that the master gives an operation, of 16 bytes.
pub type OperationUuid = Vec<u8>;

/// How a framework is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// By a stream of events over HTTP.
    Http(StreamId),
    /// By libprocess messages: a v0 driver.
    Pid(Upid),
    /// Not: since when (monotonic).
    Lost(Duration),
    /// Known only from agents that run its tasks, since a master failed.
    Recovered,
}

/// A framework.
#[derive(Debug, Clone)]
pub struct Framework {
    /// Its id.
    pub id: String,
    /// What it said of itself.
    pub info: v1::FrameworkInfo,
    /// Which agents it wants to be offered.
    pub constraints: v1::scheduler::OfferConstraints,
    /// How it is connected.
    pub connection: Connection,
    /// Its driver's last address, connected or not; none of an HTTP framework.
    pub pid: Option<Upid>,
    /// Whether it may be offered resources: a driver can stop that and stay.
    pub active: bool,
    /// When it first subscribed (wall).
    pub registered: f64,
    /// When it last subscribed again (wall).
    pub reregistered: f64,
    /// When it went away (wall), 0 while it is here.
    pub unregistered: f64,
    /// Tasks that are not over, or whose end is not acknowledged.
    pub tasks: Copies<v1::Task>,
    /// Tasks that are over, newest last.
    pub completed: VecDeque<Arc<Ended>>,
    /// Tasks on agents that can't be reached.
    pub unreachable: Copies<v1::Task>,
    /// Operations that it wants to hear of, by its own name for each: on which agent, and the operation's id there.
    pub operations: BTreeMap<String, (String, OperationUuid)>,
    /// Custom executors by agent and id.
    pub executors: BTreeMap<(String, String), v1::ExecutorInfo>,
    /// Counters, by what follows its name in the names of its metrics.
    pub counters: BTreeMap<String, u64>,
    /// How many messages its driver has sent since it subscribed; calls over HTTP are not counted, as in the original.
    pub messages: u64,
    /// Outstanding offers, by id.
    pub offers: Copies<()>,
    /// When the next heartbeat is due (monotonic).
    pub heartbeat_due: Duration,
}

/// A task that is over.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The task, as it was at last.
    pub task: v1::Task,
    /// Who may tell of its end yet.
    pub end: End,
}

/// How much of a task's end was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All: the framework acknowledged it, or its agent knows no more of it. A report of the task is older than that.
    Settled,
    /// The master saw or made it when it lost the agent: the agent tells of the task again if it comes back.
    Open,
}

impl Framework {
    /// Whether it said that it can something.
    pub fn can(&self, capability: Capability) -> bool {
        self.info.capabilities.iter().any(|own| own.r#type == Some(capability as i32))
    }

    /// Its roles.
    pub fn roles(&self) -> BTreeSet<String> {
        roles_of(&self.info)
    }

    /// The stream of events, if it is connected.
    pub fn stream(&self) -> Option<StreamId> {
        match self.connection {
            Connection::Http(stream) => Some(stream),
            _ => None,
        }
    }

    /// Its tasks that are over, newest last.
    pub fn completed_tasks(&self) -> impl Iterator<Item = &v1::Task> {
        self.completed.iter().map(|ended| &ended.task)
    }

    /// Whether it is connected, in either way.
    pub fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Http(_) | Connection::Pid(_))
    }

    /// How agents are told of its address: that of its driver, or nobody's.
    pub fn pid_text(&self) -> String {
        self.pid.as_ref().map_or_else(|| Upid::none().to_string(), Upid::to_string)
    }

    /// Its custom executors on an agent.
    pub fn executors_on(&self, agent: &str) -> Vec<v1::ExecutorId> {
        let from = (agent.to_owned(), String::new());
        let on_agent = self.executors.range(from..).take_while(|((on, _), _)| on == agent);
        on_agent.map(|(_, executor)| executor.executor_id.clone()).collect()
    }

    /// Forgets its custom executors on an agent.
    pub fn forget_executors_on(&mut self, agent: &str) {
        for executor in self.executors_on(agent) {
            self.executors.remove(&(agent.to_owned(), executor.value));
        }
    }

    /// Resources of its tasks and executors, by the role that they are allocated to.
    pub fn used_by_role(&self) -> BTreeMap<String, Resources> {
        let live = self.tasks.values().filter(|task| !is_terminal(task.state()));
        let tasks = live.map(|task| &task.resources);
        let executors = self.executors.values().map(|executor| &executor.resources);
        let mut by_role: BTreeMap<String, Resources> = BTreeMap::new();
        for resource in tasks.chain(executors).flatten() {
            let role = resource.allocation_info.as_ref().map_or("*", |info| info.role());
            // Few roles, many resources: names are copied for new ones only.
            if !by_role.contains_key(role) {
                by_role.insert(role.to_owned(), Resources::new());
            }
            if let Some(sum) = by_role.get_mut(role) {
                sum.add_protos(std::slice::from_ref(resource));
            }
        }
        by_role
    }

    /// Resources of its tasks and executors, on one agent or on all.
    pub fn used(&self, agent: Option<&str>) -> Resources {
        let mut used = Resources::new();
        for task in self.tasks.values().filter(|task| {
            !is_terminal(task.state()) && agent.is_none_or(|agent| task.agent_id.value == agent)
        }) {
            used.add_protos(&task.resources);
        }
        for ((on, _), executor) in &self.executors {
            if agent.is_none_or(|agent| on == agent) {
                used.add_protos(&executor.resources);
            }
        }
        used
    }
}

/// A framework's roles, by whichever field its capabilities say.
pub fn roles_of(info: &v1::FrameworkInfo) -> BTreeSet<String> {
    if info.capabilities.iter().any(|own| own.r#type == Some(Capability::MultiRole as i32)) {
        info.roles.iter().cloned().collect()
    } else {
        BTreeSet::from([info.role.clone().unwrap_or_else(|| "*".to_owned())])
    }
}

/// A registered agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// What it said of itself, id included.
    pub info: v1::AgentInfo,
    /// Where it listens.
    pub pid: Upid,
    /// Number of its observer process, which pings it.
    pub observer: u64,
    /// Its version.
    pub version: String,
    /// What it can.
    pub capabilities: Vec<v1::agent_info::Capability>,
    /// Version of its resources.
    pub resource_version: Option<v1::Uuid>,
    /// All it has, reservations and volumes included.
    pub total: Resources,
    /// Tasks on it that are not over, or whose end is not acknowledged, by framework and id.
    pub tasks: BTreeSet<(String, String)>,
    /// Operations on its resources that are not over, or whose end was not acknowledged.
    pub operations: IndexMap<OperationUuid, v1::Operation>,
    /// Operations whose end was acknowledged last: what the agent told before it heard so is no news.
    pub acknowledged: VecDeque<OperationUuid>,
    /// Whether its connection holds.
    pub connected: bool,
    /// What comes of it, if its connection does not hold.
    pub away: Option<Away>,
    /// What comes of it, if its machine is scheduled for maintenance.
    pub unavailable: Option<Unavailable>,
    /// Whether an operator took it out of service.
    pub deactivated: bool,
    /// How far it has drained, if it was told to.
    pub drain: Option<v1::DrainInfo>,
    /// When it began to drain, as far as this master knows (wall).
    pub drain_since: Option<f64>,
    /// When it first registered (wall).
    pub registered: f64,
    /// When it registered again (wall), 0 if never.
    pub reregistered: f64,
    /// Pings without an answer.
    pub missed: u32,
    /// When it is given up (monotonic), if it answers no pings.
    pub removal_due: Option<Duration>,
    /// When the next ping is due (monotonic).
    pub ping_due: Duration,
    /// Outstanding offers.
    pub offers: BTreeSet<String>,
}

/// What comes of an agent whose connection broke, unless it registers again (`Master::agentReregisterTimeout`). Times
/// are monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It may come back until then, if it answers pings.
    Until(Duration),
    /// It stayed away: it is given up then, when it is its turn.
    GivenUp(Duration),
}

impl Agent {
    /// Whether it said that it can something.
    pub fn can(&self, capability: AgentCapability) -> bool {
        self.capabilities.iter().any(|own| own.r#type == Some(capability as i32))
    }

    /// How errors call it.
    pub fn title(&self) -> String {
        format!("{} at {} ({})", self.id, self.pid, self.info.hostname)
    }

    /// Whether it was told to drain, and has not yet.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some_and(|info| info.state() == v1::DrainState::Draining)
    }

    /// Whether something may come of it by time alone, besides pings.
    pub fn is_watched(&self) -> bool {
        self.away.is_some() || self.removal_due.is_some() || self.is_draining()
    }

    /// Whether it may be offered.
    pub fn is_active(&self) -> bool {
        self.connected && !self.deactivated
    }
}

/// An outstanding offer.
#[derive(Debug, Clone)]
pub struct Offer {
    /// As it was sent.
    pub message: v1::Offer,
    /// What is in it, marked as allocated.
    pub resources: Resources,
    /// The role that it was made for.
    pub role: String,
    /// When it was made (monotonic).
    pub made: Duration,
}

/// Whether a task in this state is over.
pub fn is_terminal(state: v1::TaskState) -> bool {
    use v1::TaskState as S;
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
