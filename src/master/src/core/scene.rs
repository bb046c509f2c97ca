//! The state of one moment, to be shown while the master goes on.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use mesos::v1;
use mesos::v1::quota::QuotaConfig;

use super::Master;
use super::copies::Copies;
use super::model::{Agent, Framework, Offer};

/// What is shown of a master. It shares agents, tasks and offers with the master, until they change.
#[derive(Debug, Clone)]
pub struct Scene {
    /// As [`Master::info`].
    pub info: v1::MasterInfo,
    /// As [`Master::elected`].
    pub elected: f64,
    /// As [`Master::agents`].
    pub agents: Copies<Agent>,
    /// As [`Master::recovered_agents`].
    pub recovered_agents: Copies<v1::AgentInfo>,
    /// How many agents can't be reached.
    pub unreachable_agents: usize,
    /// As [`Master::frameworks`].
    pub frameworks: IndexMap<String, Framework>,
    /// As [`Master::completed_frameworks`].
    pub completed_frameworks: Copies<Framework>,
    /// As [`Master::offers`].
    pub offers: Copies<Offer>,
    /// As [`Master::inverse_offers`].
    pub inverse_offers: BTreeMap<String, v1::InverseOffer>,
    /// Quotas, as the registry has them.
    pub quotas: Vec<QuotaConfig>,
    /// Weights that an operator gave.
    pub weights: Vec<v1::WeightInfo>,
    /// The roles that there are, where an operator lists them.
    pub roles: Option<BTreeSet<String>>,
}

impl Master {
    /// What can be shown of this moment.
    pub fn scene(&self) -> Scene {
        Scene {
            info: self.info.clone(),
            elected: self.elected,
            agents: self.agents.clone(),
            recovered_agents: self.recovered_agents.clone(),
            unreachable_agents: self
                .registry
                .unreachable
                .as_ref()
                .map_or(0, |all| all.slaves.len()),
            frameworks: self.frameworks.clone(),
            completed_frameworks: self.completed_frameworks.clone(),
            offers: self.offers.clone(),
            inverse_offers: self.inverse_offers.clone(),
            quotas: self.registry.quota_configs.clone(),
            weights: self.registry.weights.iter().map(|weight| weight.info.clone()).collect(),
            roles: self.settings.roles.clone(),
        }
    }
}
