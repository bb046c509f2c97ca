//! One round: guarantees first, then fairness (`HierarchicalAllocatorProcess::__generateOffers`).

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use indexmap::IndexMap;
use mesos::resources::{Milli, Resources, reserved_role};
use mesos::v1;

use super::agent::Holder;
use super::quantities::{Limits, Quantities};
use super::{Allocation, Allocator, fair, unreserved};

/// What quotas leave, as it changes over a round.
#[derive(Debug, Default)]
struct Budget {
    /// By role with a quota: what it consumes.
    consumed: HashMap<u32, Quantities>,
    /// What must stay free for guarantees that are not used.
    required: Quantities,
    /// What is free for it.
    available: Quantities,
}

impl Budget {
    /// How much more of a resource a role may have within its limits.
    fn room(&self, role: u32, limits: &Limits, name: &str) -> Option<Milli> {
        let consumed = self.consumed.get(&role).map_or(0, |consumed| consumed.get(name));
        limits.get(name).map(|most| Milli((most - consumed).max(0)))
    }

    /// How much may be given out of a resource without touching others' guarantees.
    fn headroom(&self, name: &str) -> Milli {
        Milli((self.available.get(name) - self.required.get(name)).max(0))
    }

    fn spend(&mut self, top: u32, spent: &Quantities) {
        if let Some(consumed) = self.consumed.get_mut(&top) {
            consumed.plus(spent);
        }
        self.available.minus(spent);
    }
}

/// Allocations of a round, by holder and agent.
type Given = IndexMap<(Holder, usize), Resources, hashbrown::DefaultHashBuilder>;

/// What is counted by quotas: scalars that are neither reserved nor revocable.
fn is_counted(identity: &v1::Resource) -> bool {
    identity.r#type == v1::value::Type::Scalar as i32
        && identity.reservations.is_empty()
        && identity.revocable.is_none()
}

fn note_shared(shared: &mut HashMap<usize, Resources>, at: usize, offered: &Resources) {
    let own = offered.shared();
    if !own.is_empty() {
        shared.entry(at).or_default().add(&own);
    }
}

impl Allocator {
    /// One round over all agents, or over some. What is given out counts as allocated from now on.
    pub fn allocate(&mut self, now: Duration, only: Option<&BTreeSet<String>>) -> Vec<Allocation> {
        self.rounds += 1;
        if self.pause.is_some_and(|pause| now < pause.until) {
            return Vec::new();
        }
        self.pause = None;
        let all = &mut self.agents;
        self.tree.clear_seats(|seats| {
            all.values_mut().for_each(|agent| agent.forget_seats(seats));
        });
        let mut agents: Vec<usize> = match only {
            Some(only) => only.iter().filter_map(|id| self.agents.get_index_of(id)).collect(),
            None => (0..self.agents.len()).collect(),
        };
        agents.retain(|at| {
            self.agents.get_index(*at).is_some_and(|(_, agent)| {
                let is_listed = self
                    .whitelist
                    .as_ref()
                    .is_none_or(|hosts| hosts.contains(&agent.info.hostname));
                agent.is_active && is_listed && !agent.free_ref().is_empty()
            })
        });
        self.entropy.shuffle(&mut agents);
        let mut budget = self.budget();
        let mut given = Given::default();
        let mut shared: HashMap<usize, Resources> = HashMap::new();
        if self.tree.with_quota().any(|(_, quota)| !quota.guarantees.is_empty()) {
            for at in &agents {
                self.satisfy_guarantees(now, *at, &mut budget, &mut given, &mut shared);
            }
            self.entropy.shuffle(&mut agents);
        }
        for at in &agents {
            self.share_out(now, *at, &mut budget, &mut given, &mut shared);
        }
        given
            .into_iter()
            .filter_map(|(((framework, role), at), resources)| {
                Some(Allocation {
                    framework: self.framework(framework)?.name.to_string(),
                    role: self.tree.name(role).to_string(),
                    agent: self.agents.get_index(at)?.0.clone(),
                    resources,
                })
            })
            .collect()
    }

    /// What quotas leave before a round. Without quotas there is nothing to reckon.
    fn budget(&self) -> Budget {
        let mut budget = Budget::default();
        for (role, _) in self.tree.with_quota() {
            budget.consumed.insert(role, self.tree.unreserved(role).clone());
        }
        if budget.consumed.is_empty() {
            return budget;
        }
        for agent in self.agents.values() {
            budget.available.plus(&unreserved(agent.free_ref()));
            if agent.is_plain {
                continue;
            }
            // What is reserved for a role, used or not, it consumes.
            agent.total().each_scalar(|identity, value| {
                let reserved = reserved_role(identity);
                if reserved != mesos::roles::DEFAULT
                    && let Some(role) = self
                        .tree
                        .find(reserved)
                        .or_else(|| self.tree.find(reserved.split('/').next().unwrap_or(reserved)))
                    && let Some(consumed) = budget.consumed.get_mut(&self.tree.top(role))
                {
                    consumed.add(&identity.name, value.0);
                }
            });
        }
        for (role, quota) in self.tree.with_quota() {
            let consumed = budget.consumed.get(&role).cloned().unwrap_or_default();
            budget.required.plus(&quota.guarantees.without(&consumed));
        }
        budget
    }

    fn give(&mut self, at: usize, holder: Holder, resources: Resources, given: &mut Given) {
        let Some(name) = self.framework(holder.0).map(|framework| framework.name.clone()) else {
            return;
        };
        self.tree.give(holder.1, (holder.0, &name), &fair(&resources), &unreserved(&resources));
        if let Some((_, agent)) = self.agents.get_index_mut(at) {
            agent.hold(holder, &resources);
        }
        given.entry((holder, at)).or_default().add(&resources);
    }

    /// What a framework could have of an agent in a role; `None` if nothing.
    fn available(
        &self,
        at: usize,
        holder: Holder,
        shared: &HashMap<usize, Resources>,
    ) -> Option<Resources> {
        let (_, agent) = self.agents.get_index(at)?;
        if agent.is_plain {
            return Some(agent.free_ref().clone());
        }
        let framework = self.framework(holder.0)?;
        let mut available = agent.free_ref().allocatable_to(self.tree.name(holder.1));
        if let Some(offered) = shared.get(&at) {
            // To one framework at a time.
            available.subtract(offered);
        }
        Some(framework.usable(&available)).filter(|available| !available.is_empty())
    }

    fn satisfy_guarantees(
        &mut self,
        now: Duration,
        at: usize,
        budget: &mut Budget,
        given: &mut Given,
        shared: &mut HashMap<usize, Resources>,
    ) {
        let roles = self.tree.roles(self.options.role_sorter, &mut self.entropy);
        for role in roles.iter().copied() {
            let quota = self.tree.quota(role).clone();
            if quota.guarantees.is_empty() {
                continue;
            }
            let clients = self.tree.clients(role, self.options.framework_sorter, &mut self.entropy);
            for (framework, _) in clients.iter().copied() {
                let consumed = budget.consumed.get(&role).cloned().unwrap_or_default();
                let unsatisfied = quota.guarantees.without(&consumed);
                if unsatisfied.is_empty() {
                    break;
                }
                let holder = (framework, role);
                if !self.is_possible(at, holder) {
                    continue;
                }
                let Some(available) = self.available(at, holder, shared) else { continue };
                let (counted, others) = available.partition(is_counted);
                let guaranteed = counted
                    .filter(|identity| unsatisfied.get(&identity.name) > 0)
                    .shrunk_to(|name| Some(Milli(unsatisfied.get(name))));
                if guaranteed.is_empty() {
                    continue;
                }
                let first = unreserved(&guaranteed);
                let mut additional = counted;
                additional.subtract(&guaranteed);
                let additional = additional.shrunk_to(|name| {
                    let room = budget.room(role, &quota.limits, name);
                    room.map(|room| Milli((room.0 - first.get(name)).max(0)))
                });
                let additional = if budget.required.is_empty() {
                    additional
                } else {
                    additional.shrunk_to(|name| Some(budget.headroom(name)))
                };
                // Reservations of roles above are left for those who need them.
                let own = self.tree.name(role).clone();
                let mut offered = others.filter(|identity| {
                    identity.reservations.is_empty() || reserved_role(identity) == &*own
                });
                offered.add(&guaranteed);
                offered.add(&additional);
                if !self.is_wanted(now, at, holder, &offered) {
                    continue;
                }
                note_shared(shared, at, &offered);
                let mut spent = first.clone();
                spent.plus(&unreserved(&additional));
                budget.required.minus(&first);
                budget.spend(self.tree.top(role), &spent);
                self.give(at, holder, offered, given);
            }
        }
    }

    fn share_out(
        &mut self,
        now: Duration,
        at: usize,
        budget: &mut Budget,
        given: &mut Given,
        shared: &mut HashMap<usize, Resources>,
    ) {
        let roles = self.tree.roles(self.options.role_sorter, &mut self.entropy);
        for role in roles.iter().copied() {
            let Some((_, agent)) = self.agents.get_index_mut(at) else { return };
            if agent.free_ref().is_empty() {
                return;
            }
            agent.refresh_refusals(now);
            let top = self.tree.top(role);
            let limits = self.tree.quota(top).limits.clone();
            let is_bounded = !limits.is_empty() || !budget.required.is_empty();
            let clients = self.tree.clients(role, self.options.framework_sorter, &mut self.entropy);
            for (framework, seat) in clients.iter().copied() {
                let is_known =
                    |(_, agent): (_, &super::agent::Agent)| agent.is_known_to_be_refused(seat);
                // Who refused all of it refused any part.
                if self.agents.get_index(at).is_some_and(is_known) {
                    continue;
                }
                let holder = (framework, role);
                if !self.is_possible(at, holder) {
                    continue;
                }
                let Some(available) = self.available(at, holder, shared) else { continue };
                if self.is_refused_whole(now, at, (holder, seat), &available, shared) {
                    continue;
                }
                let offered = if is_bounded {
                    let (counted, mut offered) = available.partition(is_counted);
                    let counted = counted.shrunk_to(|name| budget.room(top, &limits, name));
                    let counted = if budget.required.is_empty() {
                        counted
                    } else {
                        counted.shrunk_to(|name| Some(budget.headroom(name)))
                    };
                    offered.add(&counted);
                    offered
                } else {
                    available
                };
                if !self.is_wanted(now, at, holder, &offered) {
                    continue;
                }
                note_shared(shared, at, &offered);
                if !budget.consumed.is_empty() {
                    budget.spend(top, &unreserved(&offered));
                }
                self.give(at, holder, offered, given);
            }
        }
    }

    /// What doesn't depend on how much there is.
    fn is_possible(&self, at: usize, (framework, role): Holder) -> bool {
        let (Some((_, agent)), Some(framework)) =
            (self.agents.get_index(at), self.framework(framework))
        else {
            return false;
        };
        let role = self.tree.name(role);
        framework.is_enough(&self.options, role, agent.free_quantities())
            && framework.may_have(&self.options, role, agent)
            && !framework.excludes(role, agent)
    }

    /// Whether a framework has refused all that it could have, as is known from now on.
    fn is_refused_whole(
        &mut self,
        now: Duration,
        at: usize,
        (holder, seat): (Holder, u32),
        available: &Resources,
        shared: &HashMap<usize, Resources>,
    ) -> bool {
        // What others got of shared volumes in this round says nothing for the next.
        !shared.contains_key(&at)
            && self
                .agents
                .get_index_mut(at)
                .is_some_and(|(_, agent)| agent.is_refused(holder, seat, now, available))
    }

    fn is_wanted(&mut self, now: Duration, at: usize, holder: Holder, offered: &Resources) -> bool {
        let Some(framework) = self.framework(holder.0) else { return false };
        if offered.is_empty()
            || !framework.is_enough(
                &self.options,
                self.tree.name(holder.1),
                &Quantities::of(offered),
            )
        {
            return false;
        }
        self.agents.get_index(at).is_some_and(|(_, agent)| !agent.has_refused(holder, now, offered))
    }
}
