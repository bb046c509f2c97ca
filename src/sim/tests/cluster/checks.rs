//! What holds all along, whatever goes wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use master::core::Master;
use master::core::allocator::{Limits, Quantities};
use mesos::internal as m;
use mesos::libprocess::inbound::Header;
use mesos::resources::Resources;
use mesos::v1;
use prost::Name as _;

use super::World;
use super::masters::{PING, PINGS, REREGISTER};

/// What must have happened often for a run to show anything.
pub(super) const EXPECTED: &[&str] = &[
    "agents crashed",
    "agents told to leave",
    "containers started",
    "drained",
    "frameworks crashed",
    "groups started",
    "isolated",
    "masters crashed",
    "masters led",
    "offers",
    "operations",
    "quotas",
    "tasks",
    "tasks over",
    "tasks to be killed",
    "torn down",
    "unreachable",
    "volumes made or destroyed",
    "writes torn",
];

/// One master as it was looked at last.
#[derive(Default)]
struct Looked {
    led_since: Duration,
    registered: BTreeSet<String>,
    offers: BTreeSet<String>,
    /// When agents were last heard of, by address.
    heard: BTreeMap<std::net::SocketAddr, Duration>,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// Updates whose acknowledgement an agent has on disk.
    acknowledged: HashSet<Vec<u8>>,
    /// Tasks that an executor was handed.
    started: HashSet<String>,
    /// Tasks that were to be launched together, by each of them.
    groups: HashMap<String, BTreeSet<String>>,
    /// Frameworks that somebody wanted to end.
    ended: HashSet<String>,
    /// What is reserved on each agent's disk, and what is about to be.
    reserved: BTreeMap<usize, (Resources, Option<Resources>)>,
    may_change: BTreeMap<usize, bool>,
    masters: BTreeMap<usize, Looked>,
}

impl Checks {
    pub(super) fn count(&mut self, what: &'static str) {
        self.count_of(what, 1);
    }

    pub(super) fn count_of(&mut self, what: &'static str, by: u64) {
        *self.seen.entry(what).or_default() += by;
    }

    /// An agent has an acknowledgement on disk.
    pub(super) fn acknowledged(&mut self, uuid: Vec<u8>) {
        self.acknowledged.insert(uuid);
    }

    /// An executor is handed a task: none is run twice, by whomever.
    pub(super) fn task_starts(&mut self, task: &str) {
        assert!(self.started.insert(task.to_owned()), "{task} is run twice");
    }

    /// A framework is to end.
    pub(super) fn framework_ends(&mut self, id: String) {
        self.ended.insert(id);
    }

    /// A framework launches a group.
    pub(super) fn group_wanted(&mut self, tasks: &[v1::TaskInfo]) {
        self.count("groups");
        let names = names(tasks);
        self.groups.extend(names.iter().map(|name| (name.clone(), names.clone())));
    }

    /// An executor is handed a group: all of it, and nothing else.
    pub(super) fn group_starts(&mut self, tasks: &[v1::TaskInfo]) {
        let names = names(tasks);
        for name in &names {
            assert_eq!(self.groups.get(name), Some(&names), "of the group of {name}, a part runs");
        }
        self.count("groups started");
    }

    /// The tasks that were to be launched with one.
    pub(super) fn group_of(&self, task: &str) -> Option<&BTreeSet<String>> {
        self.groups.get(task)
    }

    /// An agent sends an update.
    pub(super) fn update_sent(&self, update: &m::StatusUpdate) {
        assert!(
            !update.uuid.as_ref().is_some_and(|uuid| self.acknowledged.contains(uuid)),
            "an update is sent again after it was acknowledged: {update:?}"
        );
    }

    /// The message that an agent just took may change what is reserved.
    pub(super) fn agent_may_change_resources(&mut self, agent: usize, may: bool) {
        self.may_change.insert(agent, may);
    }

    /// An agent is about to write what is reserved.
    pub(super) fn agent_reserves(&mut self, agent: usize, after: &Resources) {
        let (on_disk, next) = self.reserved.entry(agent).or_default();
        let may = self.may_change.get(&agent).copied().unwrap_or_default();
        assert!(
            may || on_disk == after,
            "agent {agent} changes what is reserved without being told: {on_disk} to {after}"
        );
        *next = Some(after.clone());
    }

    /// An agent has written what is reserved.
    pub(super) fn agent_reserved(&mut self, agent: usize, after: Resources) {
        self.reserved.insert(agent, (after, None));
    }

    /// An agent that starts has read what is reserved.
    pub(super) fn agent_recovered(&mut self, agent: usize, found: &Resources) {
        let (on_disk, next) = self.reserved.entry(agent).or_default();
        assert!(
            on_disk == found || next.as_ref() == Some(found),
            "agent {agent} had {on_disk} reserved, and finds {found}"
        );
        (*on_disk, *next) = (found.clone(), None);
    }

    /// A master begins to lead.
    pub(super) fn leads(&mut self, master: usize, now: Duration, registry: &m::Registry) {
        let looked =
            Looked { led_since: now, registered: registered(registry), ..Looked::default() };
        self.masters.insert(master, looked);
    }

    /// A master takes a message.
    pub(super) fn master_hears(&mut self, master: usize, now: Duration, header: &Header) {
        let says_it_lives = [
            m::PongSlaveMessage::full_name(),
            m::RegisterSlaveMessage::full_name(),
            m::ReregisterSlaveMessage::full_name(),
        ];
        if says_it_lives.contains(&header.name) {
            let looked = self.masters.entry(master).or_default();
            looked.heard.insert(header.from.address, now);
        }
    }
}

fn names(tasks: &[v1::TaskInfo]) -> BTreeSet<String> {
    tasks.iter().map(|task| task.task_id.value.clone()).collect()
}

fn registered(registry: &m::Registry) -> BTreeSet<String> {
    let slaves = registry.slaves.iter().flat_map(|slaves| &slaves.slaves);
    slaves.filter_map(|slave| Some(slave.info.id.as_ref()?.value.clone())).collect()
}

fn is_in(role: &str, top: &str) -> bool {
    role == top || role.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}

/// What is given to nobody, offered or used of each agent is all it has: nothing is in two places, nothing is missing. An
/// agent may still run what is to end with its framework when another master takes over, after what that held was given
/// again. No registry holds ends of frameworks: the new master counts both until the agent is done, as the original does.
fn check_resources(index: usize, master: &Master, ended: &HashSet<String>) {
    for (id, agent) in master.agents.iter() {
        let free = master.allocator.free(id);
        let (mut all, mut ending) = (free.clone(), Resources::new());
        for offer in &agent.offers {
            let offer = master.offers.get(offer).expect("an offer that an agent is in");
            all.add(&offer.resources.unallocate());
        }
        for framework in master.frameworks.values() {
            let used = framework.used(Some(id)).unallocate();
            all.add(&used);
            if ended.contains(&framework.id) {
                ending.add(&used);
            }
        }
        let mut stays = all.clone();
        stays.subtract(&ending);
        assert!(
            all.contains(&agent.total) && agent.total.contains(&stays),
            "master {index}: of {id} ({}) {free} is free, and with what is offered and used that makes {all}",
            agent.total
        );
    }
    let of_agents: usize = master.agents.values().map(|agent| agent.offers.len()).sum();
    assert_eq!(master.offers.len(), of_agents, "every offer is of an agent that is there");
}

/// What runs on an agent fits on it, whichever masters sent it. What ends with its framework is left out: for masters it
/// is over at once, as in the original, and an agent that starts anew learns only from them which framework ended.
fn check_agent_resources(index: usize, agent: &agent::core::Agent, ended: &HashSet<String>) {
    let mut used = Resources::new();
    for executor in agent.executors().filter(|own| !ended.contains(&own.run.framework)) {
        used.add(&executor.resources().unallocate());
        if executor.is_generated {
            // It takes part of its task's.
            used.subtract(&Resources::from_protos(&executor.info.resources).unallocate());
        }
    }
    let total = &agent.total;
    assert!(total.contains(&used), "agent {index} has {total}, and {used} of it is used");
}

/// No offer brings a role above its limit.
fn check_quotas(index: usize, master: &Master, new: &[&str]) {
    for (role, config) in master.quotas() {
        let limits = Limits::from_map(&config.limits);
        let own = master.offers.values().filter(|offer| is_in(&offer.role, role));
        let is_new = |offer: &master::core::model::Offer| {
            new.contains(&offer.message.id.value.as_str())
                && !offer.resources.unreserved().is_empty()
        };
        if !own.clone().any(is_new) {
            continue;
        }
        let mut taken = master.consumed_quota(role);
        for offer in own {
            taken.plus(&Quantities::of(&offer.resources.unreserved()));
        }
        // A limit that was set while agents were away may be exceeded by what they bring; in that, nothing is offered.
        let given: Vec<&str> = limits
            .iter()
            .filter(|(name, most)| taken.get(name) > *most)
            .map(|(name, _)| name)
            .collect();
        for offer in master.offers.values().filter(|offer| is_in(&offer.role, role)) {
            let offered = Quantities::of(&offer.resources.unreserved());
            let excess = given.iter().find(|name| offered.get(name) > 0);
            assert!(
                excess.is_none() || !is_new(offer),
                "master {index}: role {role} gets {offered} above its limits {limits}, with {taken} in all"
            );
        }
    }
}

impl World {
    /// Looks at an agent after it has done something.
    pub(super) fn check_agent(&mut self, index: usize) {
        let adds_up = self.random.chance(100);
        if let Some(agent) = self.agents[index].agent.as_ref().filter(|_| adds_up) {
            check_agent_resources(index, agent, &self.checks.ended);
        }
    }

    /// Looks at a master after it has done something.
    pub(super) fn check_master(&mut self, index: usize) {
        let now = self.master_now(index);
        // What is wrong stays wrong for a while; to add everything up each time would take most of the time.
        let adds_up = self.random.chance(50);
        let Some(master) = &self.masters[index].master else { return };
        if adds_up {
            check_resources(index, master, &self.checks.ended);
        }
        let looked = self.checks.masters.entry(index).or_default();
        let offers: BTreeSet<String> = master.offers.keys().map(str::to_owned).collect();
        let new: Vec<&str> = offers.difference(&looked.offers).map(String::as_str).collect();
        if !new.is_empty() {
            check_quotas(index, master, &new);
            looked.offers = offers;
        }
        let registered = registered(&master.registry);
        if registered == looked.registered {
            return;
        }
        for gone in looked.registered.difference(&registered) {
            let slaves = master.registry.unreachable.iter().flat_map(|all| &all.slaves);
            if !slaves.into_iter().any(|slave| slave.id.value == *gone) {
                continue; // An operator, or another agent in its place.
            }
            let pid = self.agents.iter().enumerate().find_map(|(own, host)| {
                let agent = host.agent.as_ref()?;
                (agent.id() == Some(gone)).then(|| super::address(Self::agent_place(own)))
            });
            let heard = pid.and_then(|pid| looked.heard.get(&pid)).copied();
            let silent = PING * (PINGS - 1);
            assert!(
                heard.is_none_or(|heard| now.mono >= heard + silent)
                    || now.mono >= looked.led_since + REREGISTER,
                "master {index} gives {gone} up at {:?}, which it heard at {heard:?}",
                now.mono
            );
            *self.checks.seen.entry("unreachable").or_default() += 1;
        }
        looked.registered = registered;
    }
}
