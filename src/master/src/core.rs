//! The master's decisions, without I/O: messages, calls and ticks come in with the time, effects go out.
//!
//! Effects are carried out in order: a [`Effect::Store`] must be on disk before anything behind it leaves.

mod accept;
mod agents;
pub mod allocator;
pub mod authentication;
mod authorization;
mod calls;
pub mod copies;
mod framework_info;
mod frameworks;
pub mod maintenance;
pub mod model;
mod notices;
mod offers;
mod old_messages;
mod operations;
mod operator;
mod operator_operations;
mod quota;
mod registration;
mod roll;
pub mod scene;
pub mod series;
pub mod throttle;
mod timers;
mod updates;
mod v0;
mod validation;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use indexmap::IndexMap;
use mesos::entropy::Entropy;
use mesos::internal::{self, Registry};
use mesos::libprocess::Upid;
use mesos::v1;
use mesos::v1::scheduler::Event;
use prost::{Message, Name};

use allocator::Allocator;
use authentication::{Authentication, Security};
use copies::Copies;
use model::{Agent, Connection, Framework, Now, Offer, StreamId};

pub use calls::CallError;
pub use operator::Refusal;

/// What the shell must do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send a libprocess message.
    Send {
        /// From which process of the master.
        from: String,
        /// To whom.
        to: Upid,
        /// The message's full type name.
        name: String,
        /// Its encoding.
        body: Vec<u8>,
    },
    /// Dial a peer anew, since it may be a new process, and watch the connection.
    Relink(Upid),
    /// Send an event to a framework.
    Event(StreamId, Box<Event>),
    /// Send an event to all who subscribed to the operator API.
    Notify(Box<v1::master::Event>),
    /// End a framework's stream.
    Close(StreamId),
    /// Put [`Master::registry`] on disk before carrying out what follows.
    Store,
    /// The master can't go on.
    Abort(String),
}

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--agent_ping_timeout`.
    pub agent_ping_timeout: Duration,
    /// `--max_agent_ping_timeouts`.
    pub max_agent_ping_timeouts: u32,
    /// `--agent_reregister_timeout`.
    pub agent_reregister_timeout: Duration,
    /// `--offer_timeout`.
    pub offer_timeout: Option<Duration>,
    /// `--allocation_interval`.
    pub allocation_interval: Duration,
    /// `--max_completed_frameworks`.
    pub max_completed_frameworks: usize,
    /// `--max_completed_tasks_per_framework`.
    pub max_completed_tasks: usize,
    /// `--root_submissions`.
    pub root_submissions: bool,
    /// `--publish_per_framework_metrics`.
    pub publish_framework_metrics: bool,
    /// `--agent_removal_rate_limit`: the least time between two agents that are given up.
    pub removal_interval: Option<Duration>,
    /// `--recovery_agent_removal_limit`: the part of the agents that may be given up after a failover.
    pub recovery_removal_limit: f64,
    /// `--rate_limits`.
    pub rate_limits: throttle::RateLimits,
    /// `--roles`, with the default one: all, if it isn't given.
    pub roles: Option<BTreeSet<String>>,
    /// `--weights`: where the registry has none.
    pub weights: Vec<(String, f64)>,
    /// What concerns the allocator.
    pub allocator: allocator::Options,
    /// `--require_agent_domain`.
    pub require_agent_domain: bool,
    /// What identifiers are made from, and the order in which agents are offered: different at every start.
    pub seed: [u8; 32],
    /// Who is asked for credentials, and what principals may do.
    pub security: Security,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent_ping_timeout: Duration::from_secs(15),
            max_agent_ping_timeouts: 5,
            agent_reregister_timeout: Duration::from_secs(600),
            offer_timeout: None,
            allocation_interval: Duration::from_secs(1),
            max_completed_frameworks: 50,
            max_completed_tasks: 1000,
            root_submissions: true,
            publish_framework_metrics: true,
            removal_interval: None,
            recovery_removal_limit: 1.0,
            rate_limits: throttle::RateLimits::default(),
            roles: None,
            weights: Vec::new(),
            allocator: allocator::Options::default(),
            require_agent_domain: false,
            seed: [0; 32],
            security: Security::default(),
        }
    }
}

/// Seconds between heartbeats on streams of events.
pub const HEARTBEAT_SECONDS: f64 = 15.0;

/// The master.
#[derive(Debug)]
pub struct Master {
    /// What an operator chose.
    pub settings: Settings,
    /// What it says of itself.
    pub info: v1::MasterInfo,
    /// When it began to lead (wall).
    pub elected: f64,
    /// What is on disk.
    pub registry: Registry,
    roll: roll::Roll,
    /// Registered agents.
    pub agents: Copies<Agent>,
    /// Agents of the registry that have not come back since this master leads.
    pub recovered_agents: Copies<v1::AgentInfo>,
    /// Frameworks, connected or not.
    pub frameworks: IndexMap<String, Framework>,
    /// Frameworks that are gone, newest last.
    pub completed_frameworks: Copies<Framework>,
    /// Outstanding offers.
    pub offers: Copies<Offer>,
    /// Outstanding inverse offers.
    pub inverse_offers: BTreeMap<String, v1::InverseOffer>,
    /// Who is offered what.
    pub allocator: Allocator,
    /// Counters, by metric name.
    pub counters: BTreeMap<String, u64>,
    /// How long things took, by metric name; the shell measures.
    pub timings: BTreeMap<&'static str, series::Series>,
    next_framework: u64,
    next_agent: u64,
    next_offer: u64,
    next_observer: u64,
    allocation_due: Duration,
    allocation_wanted: bool,
    /// Machines that were brought up since this master leads, by host name and address.
    machines_seen: BTreeSet<(String, String)>,
    /// Agents whose resources should be offered at once.
    candidates: BTreeSet<String>,
    /// When agents and frameworks are next looked over for what is due.
    scan_due: Duration,
    /// Agents in the order of their next pings, which are due then.
    pings: VecDeque<(Duration, String)>,
    /// Agents that something may come of by time alone ([`model::Agent::is_watched`]).
    watched: BTreeSet<String>,
    agents_by_pid: HashMap<Upid, String>,
    /// Agents by where they listen.
    agents_at: HashMap<SocketAddr, BTreeSet<String>>,
    /// How many subscribed to the operator API, and when they next hear that the master lives.
    operators: usize,
    notice_due: Duration,
    recovery_due: Option<Duration>,
    /// Recovered agents that stayed away, and when they are given up.
    recovered_removals: BTreeMap<String, Duration>,
    /// When the next agent may be given up.
    removal_next: Duration,
    entropy: Entropy,
    authentication: Authentication,
    throttle: throttle::Throttle,
    effects: Vec<Effect>,
}

impl Master {
    /// A master that leads from `now` on, with what the registry held.
    pub fn elected(
        settings: Settings,
        info: v1::MasterInfo,
        mut registry: Registry,
        now: Now,
    ) -> Self {
        let mut recovered_agents = Copies::new();
        for slave in registry.slaves.iter().flat_map(|slaves| &slaves.slaves) {
            if let Some(id) = &slave.info.id {
                recovered_agents.insert(id.value.as_str(), slave.info.clone());
            }
        }
        registry.master = Some(internal::registry::Master { info: info.clone() });
        let recovery_due =
            (!recovered_agents.is_empty()).then(|| now.mono + settings.agent_reregister_timeout);
        let authentication = Authentication::new(settings.security.seed);
        let throttle = throttle::Throttle::new(settings.rate_limits.clone());
        let allocator = Allocator::new(settings.allocator.clone(), settings.seed);
        let mut master = Self {
            entropy: Entropy::new(settings.seed),
            roll: roll::Roll::of(&registry),
            settings,
            info,
            elected: now.wall,
            registry,
            agents: Copies::new(),
            recovered_agents,
            frameworks: IndexMap::new(),
            completed_frameworks: Copies::new(),
            offers: Copies::new(),
            inverse_offers: BTreeMap::new(),
            allocator,
            machines_seen: BTreeSet::new(),
            counters: BTreeMap::new(),
            timings: BTreeMap::new(),
            next_framework: 0,
            next_agent: 0,
            next_offer: 0,
            next_observer: 1,
            allocation_due: now.mono,
            allocation_wanted: false,
            candidates: BTreeSet::new(),
            scan_due: now.mono,
            pings: VecDeque::new(),
            watched: BTreeSet::new(),
            agents_by_pid: HashMap::new(),
            agents_at: HashMap::new(),
            operators: 0,
            notice_due: now.mono,
            recovery_due,
            authentication,
            recovered_removals: BTreeMap::new(),
            removal_next: now.mono,
            throttle,
            effects: Vec::new(),
        };
        master.recover_weights();
        for weight in &master.registry.weights {
            master.allocator.set_weight(weight.info.role(), weight.info.weight);
        }
        master.recover_quotas();
        master.allocator.wait_for_agents(now.mono, master.recovered_agents.len());
        master.store();
        master
    }

    /// What is to be done since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn count(&mut self, metric: &str) {
        *self.counters.entry(metric.to_owned()).or_default() += 1;
    }

    /// Counts something of one framework, under a name below its own.
    fn count_of(&mut self, framework: &str, group: &str, kind: &str, by: u64) {
        if let Some(known) = self.frameworks.get_mut(framework) {
            *known.counters.entry(format!("{group}/{kind}")).or_default() += by;
            if group != "offers" && group != "terminal" {
                *known.counters.entry(group.to_owned()).or_default() += by;
            }
        }
    }

    fn store(&mut self) {
        self.effects.push(Effect::Store);
    }

    fn send<M: Message + Name>(&mut self, to: &Upid, message: &M) {
        self.send_from("master", to, message);
    }

    fn send_from<M: Message + Name>(&mut self, from: &str, to: &Upid, message: &M) {
        self.effects.push(Effect::Send {
            from: from.to_owned(),
            to: to.clone(),
            name: M::full_name(),
            body: message.encode_to_vec(),
        });
    }

    fn event(&mut self, framework: &str, event: Event) {
        let kind = event.r#type().as_str_name().to_ascii_lowercase();
        self.count_of(framework, "events", &kind, 1);
        match self.frameworks.get(framework).map(|framework| &framework.connection) {
            Some(Connection::Http(stream)) => {
                self.effects.push(Effect::Event(*stream, Box::new(event)))
            }
            Some(Connection::Pid(pid)) => {
                let pid = pid.clone();
                self.event_to_driver(framework, &pid, event);
            }
            Some(Connection::Lost(_) | Connection::Recovered) | None => {}
        }
    }
}
