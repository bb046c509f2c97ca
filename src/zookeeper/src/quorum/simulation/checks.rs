//! What must hold whatever happens: one order of transactions for all, writes linearizable, each done once, nothing lost
//! that was acknowledged, one leader an epoch, one configuration a version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::promises::Model;
use crate::quorum::configuration::Configuration;
use crate::quorum::zab::Proposal;

/// When a write was begun and acknowledged, in steps of the simulation.
#[derive(Debug, Clone, Copy)]
struct Times {
    begun: u64,
    acknowledged: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Checks {
    /// What members took for committed, in order.
    pub(super) agreed: Vec<Proposal>,
    /// What that means for clients.
    pub(super) model: Model,
    /// By the bytes of a write, which are its own.
    writes: HashMap<Arc<[u8]>, Times>,
    leaders: BTreeMap<i64, i64>,
    configurations: BTreeMap<i64, String>,
    pub(super) acknowledged: usize,
    pub(super) changes: usize,
}

impl Checks {
    /// A member takes a transaction for committed, as the one at `index`.
    pub(super) fn committed(&mut self, id: i64, index: usize, proposal: &Proposal) {
        match self.agreed.get(index) {
            Some(agreed) => assert_eq!(agreed, proposal, "server {id} disagrees at {index}"),
            None => {
                self.agreed.push(proposal.clone());
                self.model.agree(&proposal.data);
            }
        }
    }

    pub(super) fn begun(&mut self, now: u64, proposal: &Proposal) {
        let times = Times { begun: now, acknowledged: None };
        let before = self.writes.insert(proposal.data.clone(), times);
        assert!(before.is_none(), "the simulation writes the same twice");
    }

    /// A leader answers the clients of these writes.
    pub(super) fn acknowledged(&mut self, now: u64, proposals: &[Proposal]) {
        for proposal in proposals {
            if let Some(times) = self.writes.get_mut(&*proposal.data)
                && times.acknowledged.is_none()
            {
                times.acknowledged = Some(now);
                self.acknowledged += 1;
            }
        }
    }

    pub(super) fn leads(&mut self, id: i64, epoch: i64) {
        let before = self.leaders.insert(epoch, id);
        assert!(before.is_none(), "epoch {epoch} has two leaders");
    }

    pub(super) fn epochs(&self) -> usize {
        self.leaders.len()
    }

    pub(super) fn activated(&mut self, id: i64, configuration: &Configuration) {
        let (version, text) = (configuration.version, configuration.to_string());
        match self.configurations.get(&version) {
            Some(other) => assert_eq!(*other, text, "server {id} has another version {version:x}"),
            None => {
                self.changes += 1;
                self.configurations.insert(version, text);
            }
        }
    }

    /// At the end, when all have the same.
    pub(super) fn finish(&self) {
        let mut seen = HashMap::new();
        let mut earliest_later = u64::MAX;
        for (index, proposal) in self.agreed.iter().enumerate().rev() {
            let times = self.writes.get(&*proposal.data).expect("somebody wrote what is agreed on");
            let twice = seen.insert(proposal.data.clone(), index);
            assert!(twice.is_none(), "the write at {index} was done twice");
            assert!(
                times.begun < earliest_later,
                "the write at {index} was begun after one behind it had been acknowledged"
            );
            earliest_later = earliest_later.min(times.acknowledged.unwrap_or(u64::MAX));
        }
        for (data, times) in &self.writes {
            assert!(
                times.acknowledged.is_none() || seen.contains_key(data),
                "an acknowledged write is lost"
            );
        }
    }
}
