//! What must come to be once faults have ended, within bounded time.

use std::collections::BTreeSet;

use master::core::model::{Connection, Framework};
use mesos::resources::Resources;

use super::World;
use super::frameworks::View;
use super::masters::REREGISTER;

/// How long everything may take to settle, in milliseconds: longest an agent that is waited for, and the pauses between
/// repetitions, which grow.
const SETTLED: u64 = 180_000;
const LOOK: u64 = 2000;

impl World {
    /// Waits until `what` is so.
    fn wait(&mut self, what: &str, limit: u64, is_so: impl Fn(&Self) -> Result<(), String>) {
        self.wait_doing(what, limit, |_| (), is_so);
    }

    /// The same, doing something before each look.
    fn wait_doing(
        &mut self,
        what: &str,
        limit: u64,
        each_time: impl Fn(&mut Self),
        is_so: impl Fn(&Self) -> Result<(), String>,
    ) {
        let end = self.now() + limit;
        loop {
            each_time(self);
            match is_so(self) {
                Ok(()) => return,
                Err(reason) => assert!(self.now() < end, "in calm, never {what}: {reason}"),
            }
            self.run_until(self.now() + LOOK);
        }
    }

    pub(super) fn settle(&mut self) {
        let limit = SETTLED + REREGISTER.as_millis() as u64;
        self.wait("agents and frameworks under one master", limit, Self::are_together);
        self.end_frameworks_of_nobody(|_| true);
        self.wait("one view of every task", limit, Self::agree);
        for scheduler in &mut self.schedulers {
            scheduler.is_leaving = true;
        }
        // A leader that lost its session before may end with what it was told: the next one knows from agents only.
        let again = |world: &mut Self| {
            world.end_frameworks_of_nobody(|known| known.connection == Connection::Recovered);
        };
        self.wait_doing("an end of every task", limit, again, Self::are_idle);
        self.check_volumes();
    }

    /// Frameworks that ended while no master could hear of it, or whose end a new master does not know of, stay until
    /// an operator removes them, as in the original.
    fn end_frameworks_of_nobody(&mut self, which: impl Fn(&Framework) -> bool) {
        let own: BTreeSet<String> =
            self.schedulers.iter().filter_map(|scheduler| scheduler.id.clone()).collect();
        let Some(index) = self.leader() else { return };
        let now = self.master_now(index);
        let Some(master) = &mut self.masters[index].master else { return };
        let of_nobody = master.frameworks.values().filter(|known| !own.contains(&known.id));
        let orphans: Vec<String> =
            of_nobody.filter(|known| which(known)).map(|known| known.id.clone()).collect();
        for id in orphans {
            self.checks.count("frameworks of nobody");
            master.remove_framework(now, &id);
            self.checks.framework_ends(id);
        }
        self.master_effects(index);
    }

    fn leading(&self) -> Result<&master::core::Master, String> {
        let leader = self.leader().ok_or("nobody leads")?;
        self.masters[leader].master.as_ref().ok_or_else(|| "the leader is not ready".to_owned())
    }

    fn are_together(&self) -> Result<(), String> {
        let master = self.leading()?;
        for (index, host) in self.agents.iter().enumerate() {
            let agent = host.agent.as_ref().ok_or_else(|| format!("agent {index} is down"))?;
            let id = agent.id().ok_or_else(|| format!("agent {index} has no id"))?;
            let known = master.agents.get(id).filter(|known| known.connected);
            let known = known.ok_or_else(|| format!("agent {index} ({id}) is not there"))?;
            if !known.total.contains(&agent.total) || !agent.total.contains(&known.total) {
                return Err(format!(
                    "agent {index} ({id}) has {}, and for the master {}",
                    agent.total, known.total
                ));
            }
        }
        let extra = master.agents.len() - self.agents.len().min(master.agents.len());
        if extra > 0 || !master.recovered_agents.is_empty() {
            return Err(format!(
                "{extra} agents too many, {} waited for",
                master.recovered_agents.len()
            ));
        }
        for (index, scheduler) in self.schedulers.iter().enumerate() {
            if !scheduler.is_subscribed {
                return Err(format!("framework {index} is not subscribed"));
            }
        }
        Ok(())
    }

    /// Tasks that run on an agent, as its core has them.
    fn running(&self) -> BTreeSet<String> {
        let agents = self.agents.iter().filter_map(|host| host.agent.as_ref());
        let executors = agents.flat_map(agent::core::Agent::executors);
        executors
            .flat_map(|executor| executor.tasks.keys().chain(executor.queued.keys()))
            .cloned()
            .collect()
    }

    /// What frameworks, master and agents think of tasks is the same.
    fn agree(&self) -> Result<(), String> {
        self.are_together()?;
        let master = self.leading()?;
        let running = self.running();
        for (index, scheduler) in self.schedulers.iter().enumerate() {
            for (task, view) in &scheduler.tasks {
                let is_over = view.is_over() || view.is_forgotten();
                if is_over == running.contains(task) {
                    return Err(format!(
                        "{task} is {view:?} for framework {index}, running: {}",
                        !is_over
                    ));
                }
            }
            for (task, view) in scheduler.tasks.iter().filter(|(task, _)| running.contains(*task)) {
                let group = self.checks.group_of(task).into_iter().flatten();
                let mut others = group.filter_map(|other| scheduler.tasks.get(other));
                if others.any(View::has_failed) {
                    return Err(format!("{task} is {view:?}, and another of its group failed"));
                }
            }
            if let Some(operation) = scheduler.operations.keys().next() {
                return Err(format!("framework {index} waits for {operation}"));
            }
        }
        for known in master.frameworks.values() {
            for task in known.tasks.values() {
                if !running.contains(&task.task_id.value) {
                    return Err(format!(
                        "for the master {} is {:?}",
                        task.task_id.value,
                        task.state()
                    ));
                }
            }
        }
        for (id, agent) in master.agents.iter() {
            if let Some(operation) = agent.operations.values().next() {
                return Err(format!("an operation on {id} stays open: {operation:?}"));
            }
        }
        Ok(())
    }

    /// All has ended and all is free.
    fn are_idle(&self) -> Result<(), String> {
        self.agree()?;
        let master = self.leading()?;
        if let Some(task) = self.running().first() {
            return Err(format!("{task} runs"));
        }
        let agents = self.agents.iter().filter_map(|host| host.agent.as_ref());
        for executor in agents.flat_map(agent::core::Agent::executors) {
            let framework = Some(&executor.run.framework);
            if !self.schedulers.iter().any(|own| own.id.as_ref() == framework) {
                return Err(format!(
                    "{} of a framework that is gone is left",
                    executor.run.executor
                ));
            }
        }
        for (id, agent) in master.agents.iter() {
            let mut executors = Resources::new();
            for framework in master.frameworks.values() {
                executors.add(&framework.used(Some(id)).unallocate());
            }
            let agents = self.agents.iter().filter_map(|host| host.agent.as_ref());
            let own =
                agents.filter(|own| own.id() == Some(id)).flat_map(agent::core::Agent::executors);
            let left: Vec<&str> = own.map(|executor| executor.run.executor.as_str()).collect();
            // Custom executors wait for more.
            if left.iter().any(|executor| !executor.starts_with("executor")) {
                return Err(format!("{left:?} are left on {id}"));
            }
            if left.is_empty() && !executors.is_empty() {
                return Err(format!("of {id} ({}) {executors} is held by nobody", agent.total));
            }
        }
        Ok(())
    }

    /// What was made and not destroyed is there.
    fn check_volumes(&self) {
        let mut there = BTreeSet::new();
        for host in &self.agents {
            let total = host.agent.as_ref().map(|agent| agent.total.clone()).unwrap_or_default();
            for volume in total.persistent_volumes().to_protos() {
                let persistence = volume.disk.and_then(|disk| disk.persistence);
                there.extend(persistence.map(|persistence| persistence.id));
            }
        }
        for (index, scheduler) in self.schedulers.iter().enumerate() {
            for volume in scheduler.volumes.keys() {
                assert!(there.contains(volume), "volume {volume} of framework {index} is lost");
            }
        }
    }
}
