//! What must hold whatever happens: one order of transactions for all, each done once, one leader an epoch, one
//! configuration a version.
//!
//! Nothing that was acknowledged may be lost: what a member takes for committed is agreed on from then on, in its place,
//! and all must have what was agreed on at the end. That writes are linearizable is for clients to see
//! ([`super::clients`]).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::promises::Model;
use crate::quorum::configuration::Configuration;
use crate::quorum::zab::Proposal;

#[derive(Debug, Default)]
pub(super) struct Checks {
    /// What members took for committed, in order.
    pub(super) agreed: Vec<Proposal>,
    /// What that means for clients.
    pub(super) model: Model,
    /// The bytes of each write, which are its own.
    writes: HashSet<Arc<[u8]>>,
    leaders: BTreeMap<i64, i64>,
    configurations: BTreeMap<i64, String>,
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

    /// A leader proposes something.
    pub(super) fn written(&mut self, proposal: &Proposal) {
        let is_new = self.writes.insert(proposal.data.clone());
        assert!(is_new, "the simulation writes the same twice");
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
        let mut seen = HashSet::new();
        for (index, proposal) in self.agreed.iter().enumerate() {
            assert!(self.writes.contains(&*proposal.data), "nobody wrote what is agreed on");
            assert!(seen.insert(&*proposal.data), "the write at {index} was done twice");
        }
    }
}
