//! A framework as the allocator sees it: its roles, what it can, what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::framework_info::capability::Type as Capability;

use super::Options;
use super::agent::Agent;
use super::constraints::Constraints;
use super::quantities::Quantities;
use crate::core::model::roles_of;

/// A framework.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "capabilities are independent of each other")]
pub(super) struct Framework {
    /// Its id.
    pub(super) name: Arc<str>,
    /// Its roles.
    pub(super) roles: BTreeSet<String>,
    /// Roles that it wants no offers for.
    pub(super) suppressed: BTreeSet<String>,
    /// Whether it is connected.
    pub(super) is_active: bool,
    takes_revocable: bool,
    takes_shared: bool,
    takes_refined: bool,
    is_gpu_aware: bool,
    is_region_aware: bool,
    is_multi_role: bool,
    /// By role, what an offer must have at least instead of `--min_allocatable_resources`.
    min_allocatable: BTreeMap<String, Vec<Quantities>>,
    constraints: Constraints,
}

impl Framework {
    /// One that is only known by its id.
    pub(super) fn new(id: &str) -> Self {
        Self {
            name: id.into(),
            roles: BTreeSet::new(),
            suppressed: BTreeSet::new(),
            is_active: false,
            takes_revocable: false,
            takes_shared: false,
            takes_refined: false,
            is_gpu_aware: false,
            is_region_aware: false,
            is_multi_role: false,
            min_allocatable: BTreeMap::new(),
            constraints: Constraints::default(),
        }
    }

    /// Takes over what it says of itself; the roles that it had before.
    pub(super) fn update(
        &mut self,
        info: &v1::FrameworkInfo,
        suppressed: BTreeSet<String>,
        constraints: Constraints,
    ) -> BTreeSet<String> {
        let can =
            |kind: Capability| info.capabilities.iter().any(|own| own.r#type == Some(kind as i32));
        self.takes_revocable = can(Capability::RevocableResources);
        self.takes_shared = can(Capability::SharedResources);
        self.takes_refined = can(Capability::ReservationRefinement);
        self.is_gpu_aware = can(Capability::GpuResources);
        self.is_region_aware = can(Capability::RegionAware);
        self.is_multi_role = can(Capability::MultiRole);
        self.is_active = true;
        self.suppressed = suppressed;
        self.constraints = constraints;
        self.min_allocatable = info
            .offer_filters
            .iter()
            .filter_map(|(role, filters)| {
                let sets = &filters.min_allocatable_resources.as_ref()?.quantities;
                let sets = sets.iter().map(|set| Quantities::from_map(&set.quantities)).collect();
                Some((role.clone(), sets))
            })
            .collect();
        std::mem::replace(&mut self.roles, roles_of(info))
    }

    /// Whether its constraints exclude an agent in a role.
    pub(super) fn excludes(&self, role: &str, agent: &Agent) -> bool {
        self.constraints.exclude(role, &agent.info)
    }

    /// Whether it may be offered an agent at all.
    pub(super) fn may_have(&self, options: &Options, role: &str, agent: &Agent) -> bool {
        let is_for_gpus_only = options.filter_gpus && agent.has_gpus && !self.is_gpu_aware;
        !is_for_gpus_only
            && (self.is_region_aware || !agent.is_remote)
            && (agent.is_multi_role || !self.is_multi_role)
            && (agent.is_hierarchical || !role.contains('/'))
    }

    /// What it can make use of.
    pub(super) fn usable(&self, resources: &Resources) -> Resources {
        resources.filter(|identity| {
            (self.takes_shared || identity.shared.is_none())
                && (self.takes_revocable || identity.revocable.is_none())
                && (self.takes_refined || identity.reservations.len() <= 1)
        })
    }

    /// Whether this is enough for an offer.
    pub(super) fn is_enough(&self, options: &Options, role: &str, offered: &Quantities) -> bool {
        let sets = self.min_allocatable.get(role).unwrap_or(&options.min_allocatable);
        sets.is_empty() || sets.iter().any(|set| offered.contains(set))
    }
}
