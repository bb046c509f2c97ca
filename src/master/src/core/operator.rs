//! What operators change: weights of roles, agents that are deactivated, drained, reactivated or gone for good.
//!
//! A change is in the registry before anything comes of it; whoever asked is answered after that.

use mesos::internal::{self, registry};
use mesos::v1::master::call::DrainAgent;
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState};

use super::Master;
use super::model::Now;
use super::updates::Cause;

/// Why an operator's change is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 400.
    BadRequest(String),
    /// 403.
    Forbidden,
    /// 404.
    NotFound(String),
    /// 409.
    Conflict(String),
}

pub(super) fn bad(text: impl Into<String>) -> Refusal {
    Refusal::BadRequest(text.into())
}

const GONE: &str = "Agent has been marked gone";

impl Master {
    /// Gives roles other weights, from the next allocation on.
    ///
    /// # Errors
    /// When a role is none, or a weight is not above 0; nothing is changed then.
    pub fn update_weights(&mut self, weights: &[v1::WeightInfo]) -> Result<(), Refusal> {
        let prefix = "Failed to validate update weights request JSON";
        let trimmed = |info: &v1::WeightInfo| v1::WeightInfo {
            role: Some(info.role().trim().to_owned()),
            ..info.clone()
        };
        let weights: Vec<v1::WeightInfo> = weights.iter().map(trimmed).collect();
        for info in &weights {
            let role = info.role();
            mesos::roles::validate(role)
                .map_err(|reason| bad(format!("{prefix}: Invalid role '{role}': {reason}")))?;
            if !self.has_role(role) {
                return Err(bad(format!("{prefix}: Unknown role '{role}'")));
            }
            if info.weight <= 0.0 || !info.weight.is_finite() {
                return Err(bad(format!(
                    "{prefix} for role '{role}': Invalid weight '{}': Weights must be positive",
                    info.weight
                )));
            }
        }
        for info in &weights {
            let known = self.registry.weights.iter_mut().find(|own| own.info.role() == info.role());
            match known {
                Some(known) => known.info.weight = info.weight,
                None => self.registry.weights.push(registry::Weight { info: info.clone() }),
            }
            self.allocator.set_weight(info.role(), info.weight);
        }
        self.store();
        self.rescind_all_offers();
        Ok(())
    }

    /// `--weights` count until an operator sets others.
    pub(super) fn recover_weights(&mut self) {
        if !self.registry.weights.is_empty() {
            if !self.settings.weights.is_empty() {
                tracing::warn!("--weights is ignored: the registry has weights");
            }
            return;
        }
        for (role, weight) in &self.settings.weights {
            let info = v1::WeightInfo { role: Some(role.clone()), weight: *weight };
            self.registry.weights.push(registry::Weight { info });
        }
    }

    /// Whether a role is one of `--roles`.
    pub(super) fn has_role(&self, role: &str) -> bool {
        self.settings.roles.as_ref().is_none_or(|roles| roles.contains(role))
    }

    fn rescind_all_offers(&mut self) {
        let offers: Vec<String> = self.offers.keys().map(str::to_owned).collect();
        for offer in offers {
            self.rescind(&offer, true);
        }
        self.allocation_wanted = true;
    }

    /// Offers nothing of an agent any more; its tasks stay.
    ///
    /// # Errors
    /// When there is no such agent.
    pub fn deactivate_agent(&mut self, id: &str) -> Result<(), Refusal> {
        let Some(slave) = self.registered(id) else { return Err(bad("Unknown agent")) };
        slave.deactivated = Some(true);
        self.store();
        self.apply_deactivation(id);
        Ok(())
    }

    /// Deactivates an agent and has it end its tasks.
    ///
    /// # Errors
    /// When there is no such agent.
    pub fn drain_agent(&mut self, now: Now, drain: &DrainAgent) -> Result<(), Refusal> {
        let id = &drain.agent_id.value;
        let grace = drain.max_grace_period.as_ref().map(|grace| v1::DurationInfo {
            nanoseconds: grace
                .seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::from(grace.nanos)),
        });
        if grace.as_ref().is_some_and(|grace| grace.nanoseconds < 0) {
            return Err(bad("Invalid value for 'max_grace_period': Duration must be non-negative"));
        }
        let config =
            v1::DrainConfig { max_grace_period: grace, mark_gone: Some(drain.mark_gone()) };
        let Some(slave) = self.registered(id) else { return Err(bad("Unknown agent")) };
        slave.deactivated = Some(true);
        slave.drain_info = Some(v1::DrainInfo { state: v1::DrainState::Draining as i32, config });
        self.store();
        self.apply_deactivation(id);
        if let Some(agent) = self.agents.get_mut(id) {
            agent.drain_since = Some(now.wall);
            let agent = agent.pid.clone();
            self.send(&agent, &internal::DrainSlaveMessage { config });
        }
        Ok(())
    }

    /// Offers an agent again that was deactivated, or has drained.
    ///
    /// # Errors
    /// When it is active, or still drains.
    pub fn reactivate_agent(&mut self, id: &str) -> Result<(), Refusal> {
        let Some(slave) = self.registered(id).filter(|slave| slave.deactivated()) else {
            return Err(bad("Agent is not deactivated"));
        };
        if slave.drain_info.as_ref().is_some_and(|info| info.state() == v1::DrainState::Draining) {
            return Err(bad("Agent is still in the DRAINING state"));
        }
        slave.deactivated = Some(false);
        slave.drain_info = None;
        self.store();
        if let Some(agent) = self.agents.get_mut(id) {
            agent.deactivated = false;
            agent.drain = None;
            agent.drain_since = None;
            self.allocator.activate_agent(id, agent.connected);
        }
        self.allocation_wanted = true;
        Ok(())
    }

    /// Brings an agent to the state that the registry has of it.
    pub(super) fn apply_deactivation(&mut self, id: &str) {
        let Some(slave) = self.registered(id) else { return };
        let (deactivated, drain) = (slave.deactivated(), slave.drain_info);
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.deactivated = deactivated;
        agent.drain = drain;
        agent.drain_since = drain.and(agent.drain_since);
        if agent.is_draining() {
            self.watched.insert(id.to_owned());
        }
        if deactivated {
            self.allocator.activate_agent(id, false);
            self.rescind_offers_of_agent(id);
        }
    }

    /// An agent that drains and has nothing left to end is drained, or gone if that was asked for. Executors without tasks
    /// are nothing to wait for (`Master::checkAndTransitionDrainingAgent`).
    pub(super) fn finish_draining(&mut self, now: Now, id: &str) {
        let Some(agent) = self.agents.get(id) else { return };
        if !agent.is_draining() || !agent.tasks.is_empty() || !agent.operations.is_empty() {
            return;
        }
        if agent.drain.is_some_and(|info| info.config.mark_gone()) {
            tracing::info!(agent = id, "agent drained");
            // It is known: there is nothing to refuse.
            drop(self.mark_agent_gone(now, id));
            return;
        }
        let Some(info) = self.registered(id).and_then(|slave| slave.drain_info.as_mut()) else {
            return;
        };
        info.set_state(v1::DrainState::Drained);
        tracing::info!(agent = id, "agent drained");
        self.store();
        self.apply_deactivation(id);
    }

    /// An agent will never come back: its tasks are gone, and if it is alive it is shut down.
    ///
    /// # Errors
    /// When no such agent was ever heard of.
    pub fn mark_agent_gone(&mut self, now: Now, id: &str) -> Result<(), Refusal> {
        if self.is_gone(id) {
            return Ok(());
        }
        if self.registered(id).is_none() && !self.is_unreachable(id) {
            return Err(Refusal::NotFound(format!("Agent '{id}' not found")));
        }
        tracing::info!(agent = id, "agent marked gone by an operator");
        self.strike_off(id);
        self.strike_off_unreachable(id);
        self.enroll_gone(id, v1::TimeInfo { nanoseconds: (now.wall * 1e9) as i64 });
        self.store();
        self.recovered_agents.remove(id);
        if let Some(pid) = self.agents.get(id).map(|agent| agent.pid.clone()) {
            self.send(&pid, &internal::ShutdownMessage { message: Some(GONE.to_owned()) });
        }
        self.rescind_offers_of_agent(id);
        self.tell_of_operations_on(id, v1::OperationState::OperationGoneByOperator, GONE);
        let cause = Cause {
            state: TaskState::TaskGoneByOperator,
            reason: Reason::AgentRemovedByOperator,
            message: GONE,
        };
        for (framework, task) in self.all_tasks_of(id) {
            self.end_task(now, &framework, &task, cause);
        }
        // The original doesn't count it among removals.
        if self.agents.contains_key(id) {
            self.forget_agent(id);
        }
        Ok(())
    }

    /// Whether an operator marked an agent gone.
    /// Tasks on an agent, reachable or not.
    fn all_tasks_of(&self, agent: &str) -> Vec<(String, String)> {
        let mut all = self.tasks_on(agent);
        for framework in self.frameworks.values() {
            let lost = framework.unreachable.values().filter(|task| task.agent_id.value == agent);
            all.extend(lost.map(|task| (framework.id.clone(), task.task_id.value.clone())));
        }
        all
    }
}
