//! An agent as the allocator sees it: what it has, who holds what, who refused what.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::agent_info::capability::Type as Capability;

use super::quantities::Quantities;

/// Refusals kept of one agent at most; frameworks that refuse more see some offers again.
const FILTERS_MAX: usize = 10_000;
/// Refusals kept of one framework in one role on one agent.
const FILTERS_OF_ONE_MAX: usize = 16;

/// A framework and one of its roles, by number.
pub(super) type Holder = (u32, u32);

#[derive(Debug)]
struct Filter {
    refused: Arc<Resources>,
    until: Duration,
}

/// Seats of whose holders it is known that they refused all that they could have: a round over many agents and
/// frameworks looks at each pair, and most pairs end here. It stays known while what is free is offered around.
#[derive(Debug, Default)]
struct Standing {
    /// One bit a seat.
    seats: Vec<u64>,
    /// When the first of these refusals ends.
    until: Duration,
    /// What was free when they were found, and the last version of it that was the same.
    of: Resources,
    version: u64,
}

impl Standing {
    fn has(&self, seat: u32) -> bool {
        let word = self.seats.get(seat as usize / 64).copied().unwrap_or_default();
        word >> (seat % 64) & 1 == 1
    }

    fn set(&mut self, seat: u32, until: Duration) {
        let at = seat as usize / 64;
        if at >= self.seats.len() {
            self.seats.resize(at + 1, 0);
        }
        self.seats[at] |= 1 << (seat % 64);
        self.until = self.until.min(until);
    }

    fn unset(&mut self, seat: u32) {
        if let Some(word) = self.seats.get_mut(seat as usize / 64) {
            *word &= !(1 << (seat % 64));
        }
    }

    fn forget(&mut self) {
        self.seats.clear();
        self.until = Duration::MAX;
    }
}

/// An agent.
#[derive(Debug)]
pub(super) struct Agent {
    /// What it said of itself.
    pub(super) info: v1::AgentInfo,
    /// Whether it may be offered.
    pub(super) is_active: bool,
    /// Whether it is in another region than the master.
    pub(super) is_remote: bool,
    /// Whether it knows frameworks of several roles.
    pub(super) is_multi_role: bool,
    /// Whether it knows roles below others.
    pub(super) is_hierarchical: bool,
    /// Whether it has GPUs.
    pub(super) has_gpus: bool,
    /// Whether nothing on it is reserved, revocable or shared: then all of it is for everybody.
    pub(super) is_plain: bool,
    total: Resources,
    allocated: Resources,
    free: Resources,
    free_quantities: Quantities,
    /// Counts changes of what is free.
    version: u64,
    held: HashMap<Holder, Resources>,
    filters: HashMap<Holder, Vec<Filter>>,
    /// What was refused last: others mostly refuse the same.
    refused: Arc<Resources>,
    standing: Standing,
}

impl Agent {
    pub(super) fn new(
        info: v1::AgentInfo,
        capabilities: &[v1::agent_info::Capability],
        total: Resources,
        region: Option<&str>,
    ) -> Self {
        let can = |kind: Capability| capabilities.iter().any(|own| own.r#type == Some(kind as i32));
        let domain = info.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
        let is_remote =
            domain.is_some_and(|own| region.is_some_and(|region| own.region.name != region));
        let mut agent = Self {
            is_active: true,
            is_remote,
            is_multi_role: can(Capability::MultiRole),
            is_hierarchical: can(Capability::HierarchicalRole),
            has_gpus: false,
            is_plain: false,
            info,
            total: Resources::new(),
            allocated: Resources::new(),
            free: Resources::new(),
            free_quantities: Quantities::default(),
            version: 0,
            held: HashMap::new(),
            filters: HashMap::new(),
            refused: Arc::default(),
            standing: Standing { until: Duration::MAX, ..Standing::default() },
        };
        agent.set_total(total);
        agent
    }

    pub(super) fn total(&self) -> &Resources {
        &self.total
    }

    pub(super) fn set_total(&mut self, total: Resources) {
        self.has_gpus = total.gpus() > 0.0;
        self.is_plain = total
            .filter(|identity| {
                !identity.reservations.is_empty()
                    || identity.revocable.is_some()
                    || identity.shared.is_some()
            })
            .is_empty();
        self.total = total;
        self.find_free();
    }

    fn find_free(&mut self) {
        // What several may use at once is never used up.
        let mut free = self.total.non_shared();
        free.subtract(&self.allocated.non_shared());
        if !self.is_plain {
            free.add(&self.total.shared());
        }
        self.free_quantities = Quantities::of(&free);
        self.free = free;
        self.version += 1;
    }

    pub(super) fn free(&self) -> Resources {
        self.free.clone()
    }

    pub(super) fn free_ref(&self) -> &Resources {
        &self.free
    }

    pub(super) fn free_quantities(&self) -> &Quantities {
        &self.free_quantities
    }

    pub(super) fn held(&self) -> &HashMap<Holder, Resources> {
        &self.held
    }

    pub(super) fn hold(&mut self, holder: Holder, resources: &Resources) {
        self.allocated.add(resources);
        self.held.entry(holder).or_default().add(resources);
        if self.is_plain && self.free == *resources {
            self.free = Resources::new();
            self.free_quantities = Quantities::default();
            self.version += 1;
        } else if self.is_plain && self.free.contains(resources) {
            self.free.subtract(resources);
            self.free_quantities = Quantities::of(&self.free);
            self.version += 1;
        } else {
            self.find_free();
        }
    }

    /// Takes back what a holder has of some resources; what that was.
    pub(super) fn release(&mut self, holder: Holder, resources: &Resources) -> Resources {
        let Some(held) = self.held.get_mut(&holder) else { return Resources::new() };
        let released = if held.contains(resources) {
            resources.clone()
        } else {
            let mut rest = held.clone();
            rest.subtract(resources);
            let mut released = held.clone();
            released.subtract(&rest);
            released
        };
        held.subtract(&released);
        if held.is_empty() {
            self.held.remove(&holder);
        }
        self.allocated.subtract(&released);
        self.find_free();
        released
    }

    /// Takes back all that a framework has, by role.
    pub(super) fn forget_framework(&mut self, framework: u32) -> Vec<(u32, Resources)> {
        let holders: Vec<Holder> =
            self.held.keys().filter(|(own, _)| *own == framework).copied().collect();
        let mut forgotten = Vec::new();
        for holder in holders {
            if let Some(held) = self.held.remove(&holder) {
                self.allocated.subtract(&held);
                forgotten.push((holder.1, held));
            }
        }
        if !forgotten.is_empty() {
            self.find_free();
        }
        forgotten
    }

    /// A holder, in this seat, is not to be offered as much before then.
    pub(super) fn refuse(
        &mut self,
        holder: Holder,
        seat: u32,
        mut refused: Resources,
        until: Duration,
    ) {
        if self.filters.len() >= FILTERS_MAX {
            return;
        }
        refused.share_with(&self.total);
        if *self.refused != refused {
            self.refused = Arc::new(refused);
        }
        let filters = self.filters.entry(holder).or_insert_with(|| Vec::with_capacity(1));
        if filters.len() >= FILTERS_OF_ONE_MAX {
            filters.remove(0);
        }
        filters.push(Filter { refused: self.refused.clone(), until });
        self.notice_changes();
        // Mostly all of an offer is refused, and nothing else is free: the next round need not find that out.
        if self.refused.contains(&self.free) {
            self.standing.set(seat, until);
        }
    }

    /// Forgets what was known of refusals if other resources are free now.
    fn notice_changes(&mut self) {
        let standing = &mut self.standing;
        if standing.version != self.version {
            standing.version = self.version;
            if standing.of != self.free {
                standing.of = self.free.clone();
                standing.forget();
            }
        }
    }

    /// Looks whether what is known of refusals still holds.
    pub(super) fn refresh_refusals(&mut self, now: Duration) {
        if self.filters.is_empty() {
            // Nothing to know; most agents of a quiet cluster.
            self.standing.forget();
            return;
        }
        self.notice_changes();
        if now >= self.standing.until {
            self.standing.forget();
        }
    }

    /// Whether the holder in this seat is known to have refused all that it could have.
    pub(super) fn is_known_to_be_refused(&self, seat: u32) -> bool {
        self.standing.has(seat)
    }

    /// Whether a holder has refused as much as all that it could have of what is free now; if so, that is known then.
    pub(super) fn is_refused(
        &mut self,
        holder: Holder,
        seat: u32,
        now: Duration,
        offered: &Resources,
    ) -> bool {
        let Some(filters) = self.filters.get_mut(&holder) else { return false };
        filters.retain(|filter| filter.until > now);
        if filters.is_empty() {
            self.filters.remove(&holder);
            return false;
        }
        let Some(filter) = filters.iter().find(|filter| filter.refused.contains(offered)) else {
            return false;
        };
        self.standing.set(seat, filter.until);
        true
    }

    /// Whether a holder has refused as much as this.
    pub(super) fn has_refused(&self, holder: Holder, now: Duration, offered: &Resources) -> bool {
        self.filters.get(&holder).is_some_and(|filters| {
            filters.iter().any(|filter| filter.until > now && filter.refused.contains(offered))
        })
    }

    /// Whoever sits there is asked again.
    pub(super) fn forget_seats(&mut self, seats: &[u32]) {
        for seat in seats {
            self.standing.unset(*seat);
        }
    }

    pub(super) fn forget_filters(&mut self, framework: u32, roles: Option<&[u32]>) {
        match roles {
            Some(roles) => {
                for role in roles {
                    self.filters.remove(&(framework, *role));
                }
            }
            None => self.filters.retain(|(own, _), _| *own != framework),
        }
    }

    pub(super) fn count_filters(&self, into: &mut std::collections::HashMap<u32, usize>) {
        for ((_, role), filters) in &self.filters {
            *into.entry(*role).or_default() += filters.len();
        }
    }
}
