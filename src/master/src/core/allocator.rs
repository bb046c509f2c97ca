//! Who is offered what: dominant resource fairness over roles, then over the frameworks of a role
//! (Mesos' `hierarchical.cpp` with the `drf` sorters, flat roles).
//!
//! Everything free on an agent goes, whole, to the first role and framework in order of dominant share that may have
//! it and has not refused as much. Shares are compared anew after each allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::resources::{Milli, Resources};

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

#[derive(Debug, Default)]
struct Agent {
    total: Resources,
    allocated: Resources,
    active: bool,
}

#[derive(Debug, Default)]
struct Framework {
    roles: BTreeSet<String>,
    suppressed: BTreeSet<String>,
    active: bool,
    /// By role: sums of what it holds.
    held: BTreeMap<String, BTreeMap<String, Milli>>,
}

#[derive(Debug)]
struct Filter {
    framework: String,
    role: String,
    agent: String,
    refused: Resources,
    until: Duration,
}

/// The allocator's state. Times are of one monotonic clock.
#[derive(Debug, Default)]
pub struct Allocator {
    agents: BTreeMap<String, Agent>,
    frameworks: BTreeMap<String, Framework>,
    filters: Vec<Filter>,
    weights: BTreeMap<String, f64>,
    /// Allocation rounds so far.
    pub rounds: u64,
}

/// Filters kept at most; the oldest go first. A framework that refuses more than this sees some offers again.
const FILTERS_MAX: usize = 200_000;

impl Allocator {
    /// A new or returning agent, with what runs on it.
    pub fn add_agent(&mut self, id: &str, total: Resources, used: &[(String, String, Resources)]) {
        self.remove_agent(id);
        let allocated = used.iter().map(|(_, _, resources)| resources).sum();
        for (framework, role, resources) in used {
            self.hold(framework, role, resources);
        }
        self.agents.insert(id.to_owned(), Agent { total, allocated, active: true });
    }

    /// An agent is gone; what frameworks held on it must have been given back by [`Allocator::recover`] before.
    pub fn remove_agent(&mut self, id: &str) {
        self.agents.remove(id);
        self.filters.retain(|filter| filter.agent != id);
    }

    /// An agent may be offered or not.
    pub fn activate_agent(&mut self, id: &str, active: bool) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.active = active;
        }
    }

    /// A framework, or what changed of one.
    pub fn set_framework(
        &mut self,
        id: &str,
        roles: BTreeSet<String>,
        suppressed: BTreeSet<String>,
    ) {
        let framework = self.frameworks.entry(id.to_owned()).or_default();
        framework.roles = roles;
        framework.suppressed = suppressed;
        framework.active = true;
    }

    /// A framework stays, but is offered nothing; its filters are forgotten.
    pub fn deactivate_framework(&mut self, id: &str) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.active = false;
        }
        self.filters.retain(|filter| filter.framework != id);
    }

    /// A framework is gone.
    pub fn remove_framework(&mut self, id: &str) {
        self.frameworks.remove(id);
        self.filters.retain(|filter| filter.framework != id);
    }

    /// No more offers for these roles (all, if none is named).
    pub fn suppress(&mut self, id: &str, roles: &[String]) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            let roles: Vec<String> = if roles.is_empty() {
                framework.roles.iter().cloned().collect()
            } else {
                roles.to_vec()
            };
            framework.suppressed.extend(roles);
        }
    }

    /// Offers again for these roles (all, if none is named), also of what was refused.
    pub fn revive(&mut self, id: &str, roles: &[String]) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            if roles.is_empty() {
                framework.suppressed.clear();
            } else {
                framework.suppressed.retain(|role| !roles.contains(role));
            }
        }
        self.filters.retain(|filter| {
            filter.framework != id || !(roles.is_empty() || roles.contains(&filter.role))
        });
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
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.allocated.subtract(&resources);
        }
        if let Some(held) =
            self.frameworks.get_mut(framework).and_then(|framework| framework.held.get_mut(role))
        {
            for (name, value) in resources.scalars() {
                if let Some(sum) = held.get_mut(&name) {
                    sum.0 = (sum.0 - value.0).max(0);
                }
            }
        }
        if let Some(until) = refuse_until {
            if self.filters.len() >= FILTERS_MAX {
                self.filters.remove(0);
            }
            self.filters.push(Filter {
                framework: framework.to_owned(),
                role: role.to_owned(),
                agent: agent.to_owned(),
                refused: resources,
                until,
            });
        }
    }

    fn hold(&mut self, framework: &str, role: &str, resources: &Resources) {
        let held = self
            .frameworks
            .entry(framework.to_owned())
            .or_default()
            .held
            .entry(role.to_owned())
            .or_default();
        for (name, value) in resources.scalars() {
            held.entry(name).or_default().0 += value.0;
        }
    }

    /// Gives a role another weight than 1.
    pub fn set_weight(&mut self, role: &str, weight: f64) {
        self.weights.insert(role.to_owned(), weight);
    }

    /// What is free on an agent.
    pub fn free(&self, agent: &str) -> Resources {
        self.agents
            .get(agent)
            .map(|agent| {
                let mut free = agent.total.clone();
                free.subtract(&agent.allocated);
                free
            })
            .unwrap_or_default()
    }

    fn cluster(&self) -> BTreeMap<String, Milli> {
        let mut total: BTreeMap<String, Milli> = BTreeMap::new();
        for agent in self.agents.values() {
            for (name, value) in agent.total.scalars() {
                total.entry(name).or_default().0 += value.0;
            }
        }
        total
    }

    /// One round. What is given out counts as allocated from now on.
    pub fn allocate(&mut self, now: Duration) -> Vec<Allocation> {
        self.rounds += 1;
        self.filters.retain(|filter| filter.until > now);
        let cluster = self.cluster();
        let mut allocations = Vec::new();
        let agents: Vec<String> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.active)
            .map(|(id, _)| id.clone())
            .collect();
        for agent in agents {
            while let Some(allocation) = self.allocate_once(&agent, &cluster) {
                let resources = allocation.resources.clone();
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.allocated.add(&resources);
                }
                self.hold(&allocation.framework, &allocation.role, &resources);
                allocations.push(allocation);
            }
        }
        allocations
    }

    fn allocate_once(&self, agent: &str, cluster: &BTreeMap<String, Milli>) -> Option<Allocation> {
        let free = self.free(agent);
        if !is_allocatable(&free) {
            return None;
        }
        for role in self.roles_in_order(cluster) {
            let available = free.allocatable_to(&role);
            if !is_allocatable(&available) {
                continue;
            }
            for framework in self.frameworks_in_order(&role, cluster) {
                let filtered = self.filters.iter().any(|filter| {
                    filter.agent == agent
                        && filter.framework == framework
                        && filter.role == role
                        && filter.refused.contains(&available)
                });
                if !filtered {
                    return Some(Allocation {
                        framework,
                        role,
                        agent: agent.to_owned(),
                        resources: available,
                    });
                }
            }
        }
        None
    }

    fn roles_in_order(&self, cluster: &BTreeMap<String, Milli>) -> Vec<String> {
        let mut held: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
        for framework in self.frameworks.values() {
            for role in framework
                .roles
                .iter()
                .filter(|role| framework.active && !framework.suppressed.contains(*role))
            {
                held.entry(role).or_default();
            }
        }
        for framework in self.frameworks.values() {
            for (role, sums) in &framework.held {
                if let Some(role) = held.get_mut(role.as_str()) {
                    for (name, value) in sums {
                        *role.entry(name).or_default() += value.0;
                    }
                }
            }
        }
        let mut order: Vec<(f64, &str)> = held
            .iter()
            .map(|(role, sums)| {
                (
                    share(sums.iter().map(|(name, value)| (*name, *value)), cluster)
                        / self.weights.get(*role).copied().unwrap_or(1.0),
                    *role,
                )
            })
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        order.into_iter().map(|(_, role)| role.to_owned()).collect()
    }

    fn frameworks_in_order(&self, role: &str, cluster: &BTreeMap<String, Milli>) -> Vec<String> {
        let mut order: Vec<(f64, &str)> = self
            .frameworks
            .iter()
            .filter(|(_, framework)| {
                framework.active
                    && framework.roles.contains(role)
                    && !framework.suppressed.contains(role)
            })
            .map(|(id, framework)| {
                let held = framework.held.get(role);
                (
                    share(
                        held.into_iter().flatten().map(|(name, value)| (name.as_str(), value.0)),
                        cluster,
                    ),
                    id.as_str(),
                )
            })
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        order.into_iter().map(|(_, id)| id.to_owned()).collect()
    }
}

/// The largest fraction of the cluster that is held of any resource.
fn share<'a>(held: impl Iterator<Item = (&'a str, i64)>, cluster: &BTreeMap<String, Milli>) -> f64 {
    held.filter_map(|(name, value)| {
        cluster.get(name).filter(|total| total.0 > 0).map(|total| value as f64 / total.0 as f64)
    })
    .fold(0.0, f64::max)
}

/// `--min_allocatable_resources`' default: enough CPU or enough memory to run something.
fn is_allocatable(resources: &Resources) -> bool {
    resources.cpus() >= 0.01 || resources.mem() >= 32.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resources(text: &str) -> Resources {
        Resources::parse(text, "*").unwrap()
    }

    fn roles(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn agents_go_to_the_framework_with_the_smaller_share() {
        let mut allocator = Allocator::default();
        for agent in ["a1", "a2", "a3", "a4"] {
            allocator.add_agent(agent, resources("cpus:4;mem:1024"), &[]);
        }
        allocator.set_framework("f1", roles(&["*"]), BTreeSet::new());
        allocator.set_framework("f2", roles(&["*"]), BTreeSet::new());
        let given = allocator.allocate(Duration::ZERO);
        let count = |framework: &str| {
            given.iter().filter(|allocation| allocation.framework == framework).count()
        };
        assert_eq!((count("f1"), count("f2")), (2, 2));
        assert!(allocator.allocate(Duration::ZERO).is_empty());
    }

    #[test]
    fn what_was_refused_comes_back_after_its_time_or_when_it_grew() {
        let mut allocator = Allocator::default();
        allocator.add_agent("a", resources("cpus:4;mem:1024"), &[]);
        allocator.set_framework("f", roles(&["*"]), BTreeSet::new());
        let all = allocator.allocate(Duration::ZERO).remove(0).resources;
        let part = resources("cpus:2;mem:512");
        let mut rest = all.clone();
        rest.subtract(&part);
        allocator.recover("f", "*", "a", &rest, Some(Duration::from_secs(5)));
        assert!(allocator.allocate(Duration::from_secs(1)).is_empty(), "refused");
        assert_eq!(allocator.allocate(Duration::from_secs(5)).len(), 1, "the filter ended");
        allocator.recover("f", "*", "a", &rest, Some(Duration::from_secs(50)));
        allocator.recover("f", "*", "a", &part, None);
        assert_eq!(allocator.allocate(Duration::from_secs(6)).len(), 1, "more than was refused");
        allocator.recover("f", "*", "a", &all, Some(Duration::from_secs(500)));
        assert!(allocator.allocate(Duration::from_secs(7)).is_empty());
        allocator.revive("f", &[]);
        assert_eq!(allocator.allocate(Duration::from_secs(7)).len(), 1, "revived");
    }

    #[test]
    fn suppressed_and_inactive_frameworks_get_nothing() {
        let mut allocator = Allocator::default();
        allocator.add_agent("a", resources("cpus:4;mem:1024"), &[]);
        allocator.set_framework("f", roles(&["*"]), roles(&["*"]));
        assert!(allocator.allocate(Duration::ZERO).is_empty());
        allocator.revive("f", &[]);
        allocator.deactivate_framework("f");
        assert!(allocator.allocate(Duration::ZERO).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_shares_stay_close(agents in 1usize..12, frameworks in 1usize..5) {
            let mut allocator = Allocator::default();
            for agent in 0..agents {
                allocator.add_agent(&format!("a{agent}"), resources("cpus:2;mem:512"), &[]);
            }
            for framework in 0..frameworks {
                allocator.set_framework(&format!("f{framework}"), roles(&["r"]), BTreeSet::new());
            }
            let given = allocator.allocate(Duration::ZERO);
            prop_assert_eq!(given.len(), agents);
            for agent in 0..agents {
                let left = allocator.free(&format!("a{agent}"));
                prop_assert!(left.is_empty());
            }
            // Brute force: with equal agents, DRF deals them like cards.
            let counts: Vec<usize> = (0..frameworks).map(|framework| given.iter().filter(|allocation| allocation.framework == format!("f{framework}")).count()).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }
    }
}
