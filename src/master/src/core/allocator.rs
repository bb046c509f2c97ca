//! Who is offered what: dominant resource fairness over roles, then over the frameworks of a role
//! (Mesos' `hierarchical.cpp` with the `drf` sorters, flat roles).
//!
//! Everything free on an agent goes, whole, to the first role and framework in order of dominant share that may have
//! it and has not refused as much. Shares are compared anew after each allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::resources::{Conversion, Milli, Resources};

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

/// Quantities by name.
type Sums = BTreeMap<String, i64>;

#[derive(Debug, Default)]
struct Agent {
    total: Resources,
    allocated: Resources,
    active: bool,
    /// What each framework holds here, in each of its roles.
    held: BTreeMap<(String, String), Sums>,
    filters: Vec<Filter>,
}

#[derive(Debug, Default)]
struct Framework {
    roles: BTreeSet<String>,
    suppressed: BTreeSet<String>,
    active: bool,
    /// By role: sums of what it holds.
    held: BTreeMap<String, Sums>,
}

impl Framework {
    fn takes(&self, role: &str) -> bool {
        self.active && self.roles.contains(role) && !self.suppressed.contains(role)
    }
}

#[derive(Debug)]
struct Filter {
    framework: String,
    role: String,
    refused: Resources,
    until: Duration,
}

/// The allocator's state. Times are of one monotonic clock.
#[derive(Debug, Default)]
pub struct Allocator {
    agents: BTreeMap<String, Agent>,
    frameworks: BTreeMap<String, Framework>,
    weights: BTreeMap<String, f64>,
    cluster: Sums,
    /// Allocation rounds so far.
    pub rounds: u64,
}

/// Filters kept of one agent at most; the oldest go first. Frameworks that refuse more see some offers again.
const FILTERS_MAX: usize = 10_000;

fn add_to(sums: &mut Sums, quantities: &BTreeMap<String, Milli>, sign: i64) {
    for (name, value) in quantities {
        let sum = sums.entry(name.clone()).or_default();
        *sum = sum.saturating_add(sign * value.0).max(0);
    }
}

impl Allocator {
    /// A new or returning agent, with what runs on it.
    pub fn add_agent(&mut self, id: &str, total: Resources, used: &[(String, String, Resources)]) {
        self.remove_agent(id);
        let allocated = used.iter().map(|(_, _, resources)| resources).sum();
        add_to(&mut self.cluster, &total.scalars(), 1);
        let agent = Agent { total, allocated, active: true, ..Agent::default() };
        self.agents.insert(id.to_owned(), agent);
        for (framework, role, resources) in used {
            self.hold(framework, role, id, resources);
        }
    }

    /// An agent is gone, and with it what frameworks held there.
    pub fn remove_agent(&mut self, id: &str) {
        let Some(agent) = self.agents.remove(id) else { return };
        add_to(&mut self.cluster, &agent.total.scalars(), -1);
        for ((framework, role), sums) in agent.held {
            let Some(held) =
                self.frameworks.get_mut(&framework).and_then(|own| own.held.get_mut(&role))
            else {
                continue;
            };
            for (name, value) in sums {
                if let Some(sum) = held.get_mut(&name) {
                    *sum = (*sum - value).max(0);
                }
            }
        }
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

    fn forget_filters(&mut self, of: impl Fn(&Filter) -> bool) {
        for agent in self.agents.values_mut() {
            agent.filters.retain(|filter| !of(filter));
        }
    }

    /// A framework stays, but is offered nothing; its filters are forgotten.
    pub fn deactivate_framework(&mut self, id: &str) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.active = false;
        }
        self.forget_filters(|filter| filter.framework == id);
    }

    /// A framework is gone.
    pub fn remove_framework(&mut self, id: &str) {
        self.frameworks.remove(id);
        for agent in self.agents.values_mut() {
            agent.held.retain(|(framework, _), _| framework != id);
        }
        self.forget_filters(|filter| filter.framework == id);
    }

    /// No more offers for these roles (all, if none is named).
    pub fn suppress(&mut self, id: &str, roles: &[String]) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            let named: Vec<String> = framework
                .roles
                .iter()
                .filter(|role| roles.is_empty() || roles.contains(role))
                .cloned()
                .collect();
            framework.suppressed.extend(named);
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
        self.forget_filters(|filter| {
            filter.framework == id && (roles.is_empty() || roles.contains(&filter.role))
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
        let Some(on) = self.agents.get_mut(agent) else { return };
        let resources = resources.unallocate();
        let quantities = resources.scalars();
        on.allocated.subtract(&resources);
        let key = (framework.to_owned(), role.to_owned());
        if let Some(held) = on.held.get_mut(&key) {
            add_to(held, &quantities, -1);
            if held.values().all(|value| *value == 0) {
                on.held.remove(&key);
            }
        }
        if let Some(held) =
            self.frameworks.get_mut(framework).and_then(|own| own.held.get_mut(role))
        {
            add_to(held, &quantities, -1);
        }
        if let Some(until) = refuse_until {
            if on.filters.len() >= FILTERS_MAX {
                on.filters.remove(0);
            }
            on.filters.push(Filter { framework: key.0, role: key.1, refused: resources, until });
        }
    }

    fn hold(&mut self, framework: &str, role: &str, agent: &str, resources: &Resources) {
        let quantities = resources.scalars();
        let own = self.frameworks.entry(framework.to_owned()).or_default();
        add_to(own.held.entry(role.to_owned()).or_default(), &quantities, 1);
        if let Some(agent) = self.agents.get_mut(agent) {
            let held = agent.held.entry((framework.to_owned(), role.to_owned())).or_default();
            add_to(held, &quantities, 1);
        }
    }

    /// An agent's resources change while it runs; what is given out stays.
    pub fn set_total(&mut self, id: &str, total: Resources) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        add_to(&mut self.cluster, &agent.total.scalars(), -1);
        add_to(&mut self.cluster, &total.scalars(), 1);
        agent.total = total;
    }

    /// Converts what was given out on an agent; quantities stay as they are.
    pub fn convert_allocated(&mut self, id: &str, conversions: &[Conversion]) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        for conversion in conversions.iter().map(Conversion::unallocate) {
            agent.allocated.subtract(&conversion.consumed);
            agent.allocated.add(&conversion.converted);
        }
    }

    /// More copies of what several may use are given out.
    pub fn share(&mut self, id: &str, copies: &Resources) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.allocated.add(&copies.unallocate());
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
                // What several may use at once is never used up.
                let mut free = agent.total.non_shared();
                free.subtract(&agent.allocated.non_shared());
                free.add(&agent.total.shared());
                free
            })
            .unwrap_or_default()
    }

    /// One round over all agents, or over some. What is given out counts as allocated from now on.
    pub fn allocate(&mut self, now: Duration, only: Option<&BTreeSet<String>>) -> Vec<Allocation> {
        self.rounds += 1;
        let agents: Vec<String> = match only {
            Some(only) => only.iter().cloned().collect(),
            None => self.agents.keys().cloned().collect(),
        };
        let mut order = self.order();
        let mut allocations = Vec::new();
        for id in agents {
            let Some(agent) = self.agents.get_mut(&id).filter(|agent| agent.active) else {
                continue;
            };
            agent.filters.retain(|filter| filter.until > now);
            while let Some(allocation) = self.allocate_once(&id, &order) {
                let Allocation { framework, role, resources, .. } = &allocation;
                if let Some(agent) = self.agents.get_mut(&id) {
                    agent.allocated.add(resources);
                }
                self.hold(framework, role, &id, resources);
                order.update(self, framework, role, resources);
                allocations.push(allocation);
            }
        }
        allocations
    }

    fn allocate_once(&self, id: &str, order: &Order) -> Option<Allocation> {
        let agent = self.agents.get(id)?;
        let free = self.free(id);
        if !is_allocatable(&free) {
            return None;
        }
        for (_, role) in &order.roles {
            let available = free.allocatable_to(role);
            if !is_allocatable(&available) {
                continue;
            }
            for (_, framework) in order.frameworks.get(role).into_iter().flatten() {
                let filtered = agent.filters.iter().any(|filter| {
                    filter.framework == *framework
                        && filter.role == *role
                        && filter.refused.contains(&available)
                });
                if !filtered {
                    let (framework, role) = (framework.clone(), role.clone());
                    return Some(Allocation {
                        framework,
                        role,
                        agent: id.to_owned(),
                        resources: available,
                    });
                }
            }
        }
        None
    }

    /// Who is next, by what everybody holds now.
    fn order(&self) -> Order {
        let mut order = Order::default();
        for (id, framework) in &self.frameworks {
            for role in framework.roles.iter().filter(|role| framework.takes(role)) {
                let share =
                    framework.held.get(role).map_or(Share(0.0), |held| self.dominant(held, 1.0));
                order.frameworks.entry(role.clone()).or_default().insert((share, id.clone()));
                order.held.entry(role.clone()).or_default();
            }
        }
        // What frameworks hold that take nothing now counts for their role all the same.
        for framework in self.frameworks.values() {
            for (role, held) in &framework.held {
                if let Some(sums) = order.held.get_mut(role) {
                    for (name, value) in held {
                        *sums.entry(name.clone()).or_default() += value;
                    }
                }
            }
        }
        for (role, held) in &order.held {
            order.roles.insert((self.dominant(held, self.weight(role)), role.clone()));
        }
        order
    }

    fn weight(&self, role: &str) -> f64 {
        self.weights.get(role).copied().unwrap_or(1.0)
    }

    /// The largest fraction of the cluster that is held of any resource.
    fn dominant(&self, held: &Sums, weight: f64) -> Share {
        let parts = held.iter().filter_map(|(name, value)| {
            self.cluster
                .get(name)
                .filter(|total| **total > 0)
                .map(|total| *value as f64 / *total as f64)
        });
        Share(parts.fold(0.0, f64::max) / weight)
    }
}

/// A dominant share, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share(f64);

impl Eq for Share {}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Roles, and the frameworks of each, least share first; kept in order over a round.
#[derive(Debug, Default)]
struct Order {
    roles: BTreeSet<(Share, String)>,
    frameworks: BTreeMap<String, BTreeSet<(Share, String)>>,
    held: BTreeMap<String, Sums>,
}

impl Order {
    /// A framework got something in a role: both shares are others now.
    fn update(&mut self, allocator: &Allocator, framework: &str, role: &str, got: &Resources) {
        let weight = allocator.weight(role);
        if let Some(sums) = self.held.get_mut(role) {
            self.roles.remove(&(allocator.dominant(sums, weight), role.to_owned()));
            add_to(sums, &got.scalars(), 1);
            self.roles.insert((allocator.dominant(sums, weight), role.to_owned()));
        }
        let after = allocator.frameworks.get(framework).and_then(|own| own.held.get(role));
        if let (Some(frameworks), Some(after)) = (self.frameworks.get_mut(role), after) {
            let mut before = after.clone();
            add_to(&mut before, &got.scalars(), -1);
            frameworks.remove(&(allocator.dominant(&before, 1.0), framework.to_owned()));
            frameworks.insert((allocator.dominant(after, 1.0), framework.to_owned()));
        }
    }
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
        let given = allocator.allocate(Duration::ZERO, None);
        let count = |framework: &str| {
            given.iter().filter(|allocation| allocation.framework == framework).count()
        };
        assert_eq!((count("f1"), count("f2")), (2, 2));
        assert!(allocator.allocate(Duration::ZERO, None).is_empty());
    }

    #[test]
    fn what_was_refused_comes_back_after_its_time_or_when_it_grew() {
        let mut allocator = Allocator::default();
        allocator.add_agent("a", resources("cpus:4;mem:1024"), &[]);
        allocator.set_framework("f", roles(&["*"]), BTreeSet::new());
        let all = allocator.allocate(Duration::ZERO, None).remove(0).resources;
        let part = resources("cpus:2;mem:512");
        let mut rest = all.clone();
        rest.subtract(&part);
        allocator.recover("f", "*", "a", &rest, Some(Duration::from_secs(5)));
        assert!(allocator.allocate(Duration::from_secs(1), None).is_empty(), "refused");
        assert_eq!(allocator.allocate(Duration::from_secs(5), None).len(), 1, "the filter ended");
        allocator.recover("f", "*", "a", &rest, Some(Duration::from_secs(50)));
        allocator.recover("f", "*", "a", &part, None);
        assert_eq!(
            allocator.allocate(Duration::from_secs(6), None).len(),
            1,
            "more than was refused"
        );
        allocator.recover("f", "*", "a", &all, Some(Duration::from_secs(500)));
        assert!(allocator.allocate(Duration::from_secs(7), None).is_empty());
        allocator.revive("f", &[]);
        assert_eq!(allocator.allocate(Duration::from_secs(7), None).len(), 1, "revived");
    }

    #[test]
    fn suppressed_and_inactive_frameworks_get_nothing() {
        let mut allocator = Allocator::default();
        allocator.add_agent("a", resources("cpus:4;mem:1024"), &[]);
        allocator.set_framework("f", roles(&["*"]), roles(&["*"]));
        assert!(allocator.allocate(Duration::ZERO, None).is_empty());
        allocator.revive("f", &[]);
        allocator.deactivate_framework("f");
        assert!(allocator.allocate(Duration::ZERO, None).is_empty());
    }

    #[test]
    fn an_agent_that_comes_back_is_not_counted_twice() {
        let mut allocator = Allocator::default();
        let used = [("f1".to_owned(), "*".to_owned(), resources("cpus:1;mem:256"))];
        for _ in 0..3 {
            allocator.add_agent("a1", resources("cpus:4;mem:1024"), &used);
        }
        assert_eq!(allocator.frameworks["f1"].held["*"]["cpus"], 1000);
        assert_eq!(allocator.cluster["cpus"], 4000);
        allocator.remove_agent("a1");
        assert_eq!(allocator.frameworks["f1"].held["*"]["cpus"], 0);
        assert_eq!(allocator.cluster["cpus"], 0);
    }

    #[test]
    fn a_role_with_more_weight_gets_more() {
        let mut allocator = Allocator::default();
        for agent in 0..9 {
            allocator.add_agent(&format!("a{agent}"), resources("cpus:1;mem:128"), &[]);
        }
        allocator.set_framework("f1", roles(&["light"]), BTreeSet::new());
        allocator.set_framework("f2", roles(&["heavy"]), BTreeSet::new());
        allocator.set_weight("heavy", 2.0);
        let given = allocator.allocate(Duration::ZERO, None);
        let count = |role: &str| given.iter().filter(|allocation| allocation.role == role).count();
        assert_eq!((count("light"), count("heavy")), (3, 6));
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
            let given = allocator.allocate(Duration::ZERO, None);
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
