//! Who is offered what: dominant resource fairness over a tree of roles, then over the frameworks of a role, within
//! quotas (Mesos' `hierarchical.cpp` and its sorters).
//!
//! Everything on an agent that a framework may have goes, whole, to the first role and framework in turn that has not
//! refused as much. Shares are compared anew after each allocation. Names are numbers inside: a round over ten thousand
//! agents and hundreds of frameworks looks at each pair.

mod agent;
mod constraints;
mod framework;
mod quantities;
mod round;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use mesos::entropy::Entropy;
use mesos::resources::{Conversion, Resources};
use mesos::v1;
use mesos::v1::scheduler::OfferConstraints;

use agent::Agent;
use constraints::Constraints;
use framework::Framework;
pub use quantities::{Limits, Quantities, Quota};
pub use tree::Sorter;
use tree::Tree;

/// What is to be offered.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// To which framework.
    pub framework: String,
    /// In which of its roles.
    pub role: String,
    /// On which agent.
    pub agent: String,
    /// What, not marked as allocated.
    pub resources: Resources,
}

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--min_allocatable_resources`: an offer has all of one of these at least; no condition if there are none.
    pub min_allocatable: Vec<Quantities>,
    /// `--fair_sharing_excluded_resource_names`.
    pub excluded: BTreeSet<String>,
    /// `--role_sorter`.
    pub role_sorter: Sorter,
    /// `--framework_sorter`.
    pub framework_sorter: Sorter,
    /// `--filter_gpu_resources`.
    pub filter_gpus: bool,
    /// The region of `--domain`.
    pub region: Option<String>,
    /// `--allocator_agent_recovery_factor`.
    pub recovery_factor: f64,
    /// `--allocator_recovery_timeout`.
    pub recovery_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let one = |name: &str, value: i64| {
            let mut quantities = Quantities::default();
            quantities.add(name, value);
            quantities
        };
        Self {
            min_allocatable: vec![one("cpus", 10), one("mem", 32_000)],
            excluded: BTreeSet::new(),
            role_sorter: Sorter::Drf,
            framework_sorter: Sorter::Drf,
            filter_gpus: true,
            region: None,
            recovery_factor: 0.8,
            recovery_timeout: Duration::from_secs(600),
        }
    }
}

/// After a failover with quotas: nothing is given out before so many agents are back, or this time is over.
#[derive(Debug, Clone, Copy)]
struct Pause {
    agents: usize,
    until: Duration,
}

/// The allocator's state. Times are of one monotonic clock.
#[derive(Debug)]
pub struct Allocator {
    options: Options,
    agents: IndexMap<String, Agent>,
    frameworks: Vec<Option<Framework>>,
    keys: HashMap<String, u32>,
    tree: Tree,
    /// Hosts whose agents are offered (`--whitelist`); all, if there is none.
    whitelist: Option<BTreeSet<String>>,
    pause: Option<Pause>,
    entropy: Entropy,
    /// Allocation rounds so far.
    pub rounds: u64,
}

impl Allocator {
    /// An allocator without agents and frameworks.
    pub fn new(options: Options, seed: [u8; 32]) -> Self {
        Self {
            tree: Tree::new(options.excluded.clone()),
            options,
            agents: IndexMap::new(),
            frameworks: Vec::new(),
            keys: HashMap::new(),
            whitelist: None,
            pause: None,
            entropy: Entropy::new(seed),
            rounds: 0,
        }
    }

    /// Waits for the agents of before a failover, so that quotas are not given to others meanwhile.
    pub fn wait_for_agents(&mut self, now: Duration, expected: usize) {
        let agents = (expected as f64 * self.options.recovery_factor) as usize;
        if agents > 0 && self.tree.with_quota().next().is_some() {
            tracing::info!(agents, "no offers until agents are back, as there are quotas");
            self.pause = Some(Pause { agents, until: now + self.options.recovery_timeout });
        }
    }

    /// The number of a framework; it is known from now on.
    fn key(&mut self, id: &str) -> u32 {
        if let Some(key) = self.keys.get(id) {
            return *key;
        }
        let new = Some(Framework::new(id));
        let key = match self.frameworks.iter().position(Option::is_none) {
            Some(at) => {
                self.frameworks[at] = new;
                at
            }
            None => {
                self.frameworks.push(new);
                self.frameworks.len() - 1
            }
        } as u32;
        self.keys.insert(id.to_owned(), key);
        key
    }

    fn framework(&self, key: u32) -> Option<&Framework> {
        self.frameworks.get(key as usize)?.as_ref()
    }

    fn framework_mut(&mut self, id: &str) -> Option<(u32, &mut Framework)> {
        let key = *self.keys.get(id)?;
        Some((key, self.frameworks.get_mut(key as usize)?.as_mut()?))
    }

    /// A new or returning agent, with what runs on it.
    pub fn add_agent(
        &mut self,
        info: &v1::AgentInfo,
        capabilities: &[v1::agent_info::Capability],
        total: Resources,
        used: &[(String, String, Resources)],
    ) {
        let Some(id) = info.id.as_ref().map(|id| id.value.clone()) else { return };
        self.remove_agent(&id);
        self.tree.set_total(|sums| sums.plus(&Quantities::of(&total)));
        let agent = Agent::new(info.clone(), capabilities, total, self.options.region.as_deref());
        self.agents.insert(id.clone(), agent);
        for (framework, role, resources) in used {
            self.hold(framework, role, &id, resources);
        }
        if self.pause.is_some_and(|pause| self.agents.len() >= pause.agents) {
            tracing::info!("enough agents are back: offers go out");
            self.pause = None;
        }
    }

    /// An agent is gone, and with it what frameworks held there.
    pub fn remove_agent(&mut self, id: &str) {
        let Some(agent) = self.agents.swap_remove(id) else { return };
        self.tree.set_total(|sums| sums.minus(&Quantities::of(agent.total())));
        for ((framework, role), held) in agent.held() {
            let (sums, unreserved) = (fair(held), unreserved(held));
            self.tree.take(*role, *framework, &sums, &unreserved);
        }
    }

    /// An agent may be offered or not.
    pub fn activate_agent(&mut self, id: &str, active: bool) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.is_active = active;
        }
    }

    /// Only agents of these hosts are offered; of all, if none are named.
    pub fn set_whitelist(&mut self, hosts: Option<BTreeSet<String>>) {
        self.whitelist = hosts;
    }

    /// An agent's resources change while it runs; what is given out stays.
    pub fn set_total(&mut self, id: &str, total: Resources) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let (before, after) = (Quantities::of(agent.total()), Quantities::of(&total));
        agent.set_total(total);
        if before != after {
            self.tree.set_total(|sums| {
                sums.minus(&before);
                sums.plus(&after);
            });
        }
    }

    /// Converts what a framework was given on an agent; quantities stay as they are.
    pub fn convert_allocated(
        &mut self,
        framework: &str,
        role: &str,
        id: &str,
        conversions: &[Conversion],
    ) {
        for conversion in conversions.iter().map(Conversion::unallocate) {
            self.release(framework, role, id, &conversion.consumed);
            self.hold(framework, role, id, &conversion.converted);
        }
    }

    /// A framework, or what changed of one.
    ///
    /// # Errors
    /// When its constraints are wrong; nothing is changed then.
    pub fn set_framework(
        &mut self,
        id: &str,
        info: &v1::FrameworkInfo,
        suppressed: BTreeSet<String>,
        constraints: Option<&OfferConstraints>,
    ) -> Result<(), String> {
        let constraints = constraints.map(Constraints::new).transpose()?.unwrap_or_default();
        let key = self.key(id);
        let Some(framework) = self.frameworks.get_mut(key as usize).and_then(Option::as_mut) else {
            return Ok(());
        };
        let before = framework.update(info, suppressed, constraints);
        let name = framework.name.clone();
        // It may make use of other resources now.
        let seats = self.seats(key, None);
        self.agents.values_mut().for_each(|agent| agent.forget_seats(&seats));
        let Some(framework) = self.framework(key) else { return Ok(()) };
        let wanted: Vec<(String, bool)> = framework
            .roles
            .iter()
            .map(|role| (role.clone(), !framework.suppressed.contains(role)))
            .collect();
        for (role, is_active) in &wanted {
            let role = self.tree.insert(role);
            self.tree.subscribe(role, key, &name, *is_active);
        }
        for role in before.iter().filter(|role| !wanted.iter().any(|(own, _)| own == *role)) {
            if let Some(role) = self.tree.find(role) {
                self.tree.unsubscribe(role, key);
            }
        }
        Ok(())
    }

    /// Whether constraints can be used.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_constraints(constraints: &OfferConstraints) -> Result<(), String> {
        Constraints::new(constraints).map(drop)
    }

    /// Roles and agents on which a framework's constraints keep it from offers, for a look at them.
    pub fn excluded_by_constraints(&self, id: &str) -> BTreeMap<String, Vec<String>> {
        let Some(framework) = self.keys.get(id).and_then(|key| self.framework(*key)) else {
            return BTreeMap::new();
        };
        let excluded = |role: &String| {
            let agents = self.agents.iter();
            let excluded = agents.filter(|(_, agent)| framework.excludes(role, agent));
            (role.clone(), excluded.map(|(id, _)| id.clone()).collect())
        };
        framework.roles.iter().map(excluded).collect()
    }

    /// Roles for which a framework wants no offers.
    pub fn suppressed(&self, id: &str) -> BTreeSet<String> {
        let framework = self.keys.get(id).and_then(|key| self.framework(*key));
        framework.map(|own| own.suppressed.clone()).unwrap_or_default()
    }

    fn set_active(&mut self, id: &str, roles: &[String], is_active: bool) {
        let Some((key, framework)) = self.framework_mut(id) else { return };
        let named: Vec<String> = framework
            .roles
            .iter()
            .filter(|role| roles.is_empty() || roles.contains(role))
            .cloned()
            .collect();
        for role in &named {
            if is_active {
                framework.suppressed.remove(role);
            } else {
                framework.suppressed.insert(role.clone());
            }
        }
        let is_active = is_active && framework.is_active;
        for role in &named {
            if let Some(role) = self.tree.find(role) {
                self.tree.activate(role, key, is_active);
            }
        }
    }

    /// A framework stays, but is offered nothing; its filters are forgotten.
    pub fn deactivate_framework(&mut self, id: &str) {
        let Some((key, framework)) = self.framework_mut(id) else { return };
        framework.is_active = false;
        let roles: Vec<String> = framework.roles.iter().cloned().collect();
        for role in roles {
            if let Some(role) = self.tree.find(&role) {
                self.tree.activate(role, key, false);
            }
        }
        self.forget_filters(key, None);
    }

    /// The seats of a framework, in some of its roles or in all.
    fn seats(&self, framework: u32, roles: Option<&[u32]>) -> Vec<u32> {
        let own = self.framework(framework).map(|own| &own.roles);
        let own = own.into_iter().flatten().filter_map(|role| self.tree.find(role));
        let named = own.filter(|role| roles.is_none_or(|roles| roles.contains(role)));
        named.filter_map(|role| self.tree.seat(role, framework)).collect()
    }

    fn forget_filters(&mut self, framework: u32, roles: Option<&[u32]>) {
        let seats = self.seats(framework, roles);
        for agent in self.agents.values_mut() {
            agent.forget_seats(&seats);
            agent.forget_filters(framework, roles);
        }
    }

    /// A framework is gone; what it held was given back before.
    pub fn remove_framework(&mut self, id: &str) {
        let Some(key) = self.keys.remove(id) else { return };
        for agent in self.agents.values_mut() {
            agent.forget_filters(key, None);
            for (role, held) in agent.forget_framework(key) {
                self.tree.take(role, key, &fair(&held), &unreserved(&held));
            }
        }
        if let Some(framework) = self.frameworks.get_mut(key as usize).and_then(Option::take) {
            for role in &framework.roles {
                if let Some(role) = self.tree.find(role) {
                    self.tree.unsubscribe(role, key);
                }
            }
        }
    }

    /// No more offers for these roles (all, if none is named).
    pub fn suppress(&mut self, id: &str, roles: &[String]) {
        self.set_active(id, roles, false);
    }

    /// Offers again for these roles (all, if none is named), also of what was refused.
    pub fn revive(&mut self, id: &str, roles: &[String]) {
        self.set_active(id, roles, true);
        let Some(key) = self.keys.get(id).copied() else { return };
        let found: Vec<u32> = roles.iter().filter_map(|role| self.tree.find(role)).collect();
        self.forget_filters(key, (!roles.is_empty()).then_some(found.as_slice()));
    }

    /// What a task or an executor had on an agent is free again.
    pub fn recover_used(&mut self, framework: &str, agent: &str, resources: &[v1::Resource]) {
        // Those of agents that know no allocation to roles are marked when they register.
        let role = mesos::model::role(resources).unwrap_or("*");
        self.recover(framework, role, agent, &Resources::from_protos(resources), None);
    }

    /// Resources of an offer or a task are free again; with `refuse_until` the framework is not offered as much on that
    /// agent before then.
    pub fn recover(
        &mut self,
        framework: &str,
        role: &str,
        agent: &str,
        resources: &Resources,
        refuse_until: Option<Duration>,
    ) {
        let resources = resources.unallocate();
        self.release(framework, role, agent, &resources);
        let Some(until) = refuse_until.filter(|_| !resources.is_empty()) else { return };
        let (Some(key), Some(role)) = (self.keys.get(framework), self.tree.find(role)) else {
            return;
        };
        // What a framework that is gone refused counts no more.
        if let (Some(agent), Some(seat)) = (self.agents.get_mut(agent), self.tree.seat(role, *key))
        {
            agent.refuse((*key, role), seat, resources, until);
        }
    }

    fn release(&mut self, framework: &str, role: &str, agent: &str, resources: &Resources) {
        let (Some(key), Some(role)) = (self.keys.get(framework), self.tree.find(role)) else {
            return;
        };
        let Some(agent) = self.agents.get_mut(agent) else { return };
        let released = agent.release((*key, role), resources);
        self.tree.take(role, *key, &fair(&released), &unreserved(&released));
    }

    /// A framework gets resources on an agent: what it runs there, or further copies of what several may use.
    pub fn hold(&mut self, framework: &str, role: &str, agent: &str, resources: &Resources) {
        if !self.agents.contains_key(agent) {
            return;
        }
        let resources = resources.unallocate();
        let (key, role) = (self.key(framework), self.tree.insert(role));
        let name = self.framework(key).map_or_else(|| Arc::from(framework), |own| own.name.clone());
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.hold((key, role), &resources);
            self.tree.give(role, (key, &name), &fair(&resources), &unreserved(&resources));
        }
    }

    /// Gives a role another weight than 1.
    pub fn set_weight(&mut self, role: &str, weight: f64) {
        self.tree.set_weight(role, weight);
    }

    /// Gives a role a quota; the default one takes it away.
    pub fn set_quota(&mut self, role: &str, quota: Quota) {
        self.tree.set_quota(role, quota);
    }

    /// What is free on an agent.
    pub fn free(&self, agent: &str) -> Resources {
        self.agents.get(agent).map(Agent::free).unwrap_or_default()
    }

    /// How much of a scalar resource is not free, on all agents.
    pub fn taken(&self, name: &str) -> f64 {
        let taken = |agent: &Agent| agent.total().get(name) - agent.free_ref().get(name);
        self.agents.values().map(taken).sum()
    }

    /// Frameworks that hold something on an agent.
    pub fn holders(&self, agent: &str) -> BTreeSet<String> {
        let held = self.agents.get(agent).into_iter().flat_map(|agent| agent.held().keys());
        held.filter_map(|(key, _)| Some(self.framework(*key)?.name.to_string())).collect()
    }

    /// What a role and all below were given that is neither reserved nor revocable: what its quota limits.
    pub fn given_unreserved(&self, role: &str) -> Quantities {
        self.tree.find(role).map(|role| self.tree.unreserved(role).clone()).unwrap_or_default()
    }

    /// By role: the largest part of anything in the cluster that it holds, and how many refusals stand.
    pub fn shares(&self) -> Vec<(String, f64, usize)> {
        let mut filters: HashMap<u32, usize> = HashMap::new();
        for agent in self.agents.values() {
            agent.count_filters(&mut filters);
        }
        let share = |(name, role): (&str, u32)| {
            let standing = filters.get(&role).copied().unwrap_or_default();
            (name.to_owned(), self.tree.dominant_share(role), standing)
        };
        self.tree.names().map(share).collect()
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::new(Options::default(), [0; 32])
    }
}

/// What counts for fairness: what several may use at once is nobody's own.
fn fair(resources: &Resources) -> Quantities {
    let mut sums = Quantities::default();
    resources.each_scalar(|identity, value| {
        if identity.shared.is_none() {
            sums.add(&identity.name, value.0);
        }
    });
    sums
}

/// What counts for quotas beside reservations.
fn unreserved(resources: &Resources) -> Quantities {
    let mut sums = Quantities::default();
    resources.each_scalar(|identity, value| {
        if identity.reservations.is_empty() && identity.revocable.is_none() {
            sums.add(&identity.name, value.0);
        }
    });
    sums
}
