//! Operators: quotas, weights, agents that are drained, deactivated, activated again, or gone, frameworks that are
//! removed.

use std::collections::BTreeMap;

use mesos::v1;
use mesos::v1::master::call::DrainAgent;
use mesos::v1::quota::QuotaConfig;

use super::{MASTERS, World};

fn amounts(cpus: u64, mem: u64) -> BTreeMap<String, v1::value::Scalar> {
    let scalar = |value: u64| v1::value::Scalar { value: value as f64 };
    BTreeMap::from([("cpus".to_owned(), scalar(cpus)), ("mem".to_owned(), scalar(mem))])
}

impl World {
    /// Perhaps an operator does something now.
    pub(super) fn operate(&mut self) {
        if !self.random.chance(25) {
            return;
        }
        let leaders: Vec<usize> =
            (0..MASTERS).filter(|index| self.masters[*index].takes_changes(self.now())).collect();
        let Some(index) = self.random.pick(&leaders).copied() else { return };
        let now = self.master_now(index);
        let choice = self.random.below(100);
        let (cpus, number) = (self.random.below(12), self.random.number());
        let Some(master) = &mut self.masters[index].master else { return };
        let agents: Vec<String> = master.agents.keys().map(str::to_owned).collect();
        let agent = agents.get((number % agents.len().max(1) as u64) as usize).cloned();
        let role = if number % 2 == 0 { "a" } else { "b" };
        // What can't be done now is refused: fine.
        let (what, done) = match (choice, agent) {
            (0..30, _) => {
                let limits = amounts(cpus, cpus * 256);
                let guarantees =
                    if number % 3 == 0 { BTreeMap::new() } else { amounts(cpus / 2, cpus * 64) };
                let config = QuotaConfig { role: role.to_owned(), guarantees, limits };
                ("quotas", master.update_quota(&[config], false))
            }
            (30..40, _) => {
                let config = QuotaConfig { role: role.to_owned(), ..Default::default() };
                ("quotas", master.update_quota(&[config], false))
            }
            (40..50, _) => {
                let weight = 1.0 + (number % 5) as f64;
                let info = v1::WeightInfo { weight, role: Some(role.to_owned()) };
                ("weights", master.update_weights(&[info]))
            }
            (50..65, Some(id)) => {
                let agent_id = v1::AgentId { value: id };
                ("drained", master.drain_agent(now, &DrainAgent { agent_id, ..Default::default() }))
            }
            (65..70, Some(id)) => ("deactivated", master.deactivate_agent(&id)),
            (70..95, Some(id)) => ("activated", master.reactivate_agent(&id)),
            (95..98, Some(id)) => ("gone", master.mark_agent_gone(now, &id)),
            (98..100, _) => {
                let frameworks: Vec<String> = master.frameworks.keys().cloned().collect();
                let Some(id) = frameworks.get((number % frameworks.len().max(1) as u64) as usize)
                else {
                    return;
                };
                self.checks.framework_ends(id.clone());
                master.remove_framework(now, id);
                ("frameworks removed", Ok(()))
            }
            _ => return,
        };
        if done.is_ok() {
            self.checks.count(what);
            self.tell(|| format!("an operator: {what}"));
        }
        self.master_effects(index);
    }
}
