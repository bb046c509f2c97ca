//! The agents in the registry, found by id: there may be many thousands.

use std::collections::{HashMap, HashSet};

use mesos::internal::{Registry, registry};
use mesos::v1;

use super::Master;

/// Where each agent is in the registry's lists.
#[derive(Debug, Default)]
pub(super) struct Roll {
    admitted: HashMap<String, usize>,
    unreachable: HashMap<String, usize>,
    gone: HashSet<String>,
}

fn id(slave: &registry::Slave) -> Option<&str> {
    slave.info.id.as_ref().map(|id| id.value.as_str())
}

impl Roll {
    /// That of a registry as it was read.
    pub(super) fn of(registry: &Registry) -> Self {
        let admitted = registry.slaves.iter().flat_map(|slaves| &slaves.slaves).enumerate();
        let unreachable = registry.unreachable.iter().flat_map(|slaves| &slaves.slaves).enumerate();
        let gone = registry.gone.iter().flat_map(|slaves| &slaves.slaves);
        Self {
            admitted: admitted
                .filter_map(|(at, slave)| Some((id(slave)?.to_owned(), at)))
                .collect(),
            unreachable: unreachable.map(|(at, slave)| (slave.id.value.clone(), at)).collect(),
            gone: gone.map(|slave| slave.id.value.clone()).collect(),
        }
    }
}

impl Master {
    /// An agent that is in the registry.
    pub(super) fn registered(&mut self, id: &str) -> Option<&mut registry::Slave> {
        let at = *self.roll.admitted.get(id)?;
        self.registry.slaves.as_mut()?.slaves.get_mut(at)
    }

    /// Adds an agent that is not in the registry.
    pub(super) fn enroll(&mut self, slave: registry::Slave) {
        let slaves = &mut self.registry.slaves.get_or_insert_default().slaves;
        if let Some(id) = id(&slave) {
            self.roll.admitted.insert(id.to_owned(), slaves.len());
        }
        slaves.push(slave);
    }

    /// Takes an agent out of the registry.
    pub(super) fn strike_off(&mut self, agent: &str) -> Option<registry::Slave> {
        let at = self.roll.admitted.remove(agent)?;
        let slaves = &mut self.registry.slaves.as_mut()?.slaves;
        let struck = slaves.swap_remove(at);
        // The last took its place.
        if let Some(moved) = slaves.get(at).and_then(id) {
            self.roll.admitted.insert(moved.to_owned(), at);
        }
        Some(struck)
    }

    /// Whether the registry says that an agent can't be reached.
    pub(super) fn is_unreachable(&self, agent: &str) -> bool {
        self.roll.unreachable.contains_key(agent)
    }

    /// Puts an agent among those that can't be reached.
    pub(super) fn enroll_unreachable(&mut self, slave: registry::UnreachableSlave) {
        let slaves = &mut self.registry.unreachable.get_or_insert_default().slaves;
        self.roll.unreachable.insert(slave.id.value.clone(), slaves.len());
        slaves.push(slave);
    }

    /// Takes an agent from among those that can't be reached.
    pub(super) fn strike_off_unreachable(
        &mut self,
        agent: &str,
    ) -> Option<registry::UnreachableSlave> {
        let at = self.roll.unreachable.remove(agent)?;
        let slaves = &mut self.registry.unreachable.as_mut()?.slaves;
        let struck = slaves.swap_remove(at);
        if let Some(moved) = slaves.get(at) {
            self.roll.unreachable.insert(moved.id.value.clone(), at);
        }
        Some(struck)
    }

    /// Whether an operator said that an agent will never come back.
    pub(super) fn is_gone(&self, agent: &str) -> bool {
        self.roll.gone.contains(agent)
    }

    /// Puts an agent among those that never come back.
    pub(super) fn enroll_gone(&mut self, agent: &str, timestamp: v1::TimeInfo) {
        self.roll.gone.insert(agent.to_owned());
        let id = v1::AgentId { value: agent.to_owned() };
        let slaves = &mut self.registry.gone.get_or_insert_default().slaves;
        slaves.push(registry::GoneSlave { id, timestamp });
    }
}
