//! The agents in the registry, found by id: there may be many thousands.

use std::collections::HashMap;

use mesos::internal::{Registry, registry};

use super::Master;

/// Where each agent is in the registry.
#[derive(Debug, Default)]
pub(super) struct Roll(HashMap<String, usize>);

fn id(slave: &registry::Slave) -> Option<&str> {
    slave.info.id.as_ref().map(|id| id.value.as_str())
}

impl Roll {
    /// That of a registry as it was read.
    pub(super) fn of(registry: &Registry) -> Self {
        let slaves = registry.slaves.iter().flat_map(|slaves| &slaves.slaves).enumerate();
        Self(slaves.filter_map(|(at, slave)| Some((id(slave)?.to_owned(), at))).collect())
    }
}

impl Master {
    /// An agent that is in the registry.
    pub(super) fn registered(&mut self, id: &str) -> Option<&mut registry::Slave> {
        let at = *self.roll.0.get(id)?;
        self.registry.slaves.as_mut()?.slaves.get_mut(at)
    }

    /// Adds an agent that is not in the registry.
    pub(super) fn enroll(&mut self, slave: registry::Slave) {
        let slaves = &mut self.registry.slaves.get_or_insert_default().slaves;
        if let Some(id) = id(&slave) {
            self.roll.0.insert(id.to_owned(), slaves.len());
        }
        slaves.push(slave);
    }

    /// Takes an agent out of the registry.
    pub(super) fn strike_off(&mut self, agent: &str) -> Option<registry::Slave> {
        let at = self.roll.0.remove(agent)?;
        let slaves = &mut self.registry.slaves.as_mut()?.slaves;
        let struck = slaves.swap_remove(at);
        // The last took its place.
        if let Some(moved) = slaves.get(at).and_then(id) {
            self.roll.0.insert(moved.to_owned(), at);
        }
        Some(struck)
    }
}
