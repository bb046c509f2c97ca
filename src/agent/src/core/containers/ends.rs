//! How containers without an executor begin, end, and are forgotten.

use std::path::PathBuf;

use super::{Container, NotRemoved, State, Termination};
use crate::containerizer::Problem;
use crate::core::container_id::ContainerId;
use crate::core::{Agent, Effect};

/// Ends that are remembered of the containers nested in one other, newest last.
const ENDED_MAX: usize = 1000;

impl Agent {
    /// Sends a signal to a container's first process; whether there is such a container.
    pub fn kill_container(&mut self, id: &ContainerId, signal: Option<i32>) -> bool {
        const SIGKILL: i32 = 9;
        let is_executor = id.depth() == 0 && self.root(id.root()).is_some();
        let container = self.containers.get_mut(id).filter(|container| container.is_alive());
        let (is_launching, is_known) = match container {
            Some(container) => (container.state == State::Launching, true),
            None => (false, is_executor),
        };
        if !is_known {
            return false;
        }
        match signal.unwrap_or(SIGKILL) {
            SIGKILL => self.destroy_container(id),
            _ if is_launching => self.destroy_container(id),
            signal => self.effects.push(Effect::Signal(id.to_string(), signal)),
        }
        true
    }

    /// Forgets a container that has ended; returned is what is to be removed of it.
    ///
    /// # Errors
    /// Why it can't be, in the original's words. The original doesn't survive being asked to remove one that is not nested.
    pub fn remove_container(&mut self, id: &ContainerId) -> Result<Vec<PathBuf>, NotRemoved> {
        let state = |text: &str| NotRemoved::State(text.to_owned());
        if self.containers.get(id).is_some_and(Container::is_alive) {
            return Err(state("Nested container has not terminated yet"));
        }
        let runtime = id.runtime(&self.settings.runtime_dir);
        if id.depth() == 0 {
            if self.root(id.root()).is_some() {
                return Err(NotRemoved::Wrong(format!(
                    "Container {id} is an executor's: it is removed with the executor"
                )));
            }
            let sandbox = self.settings.work_dir.join("containers").join(id.value());
            return Ok(vec![runtime, sandbox]);
        }
        let root = self
            .root(id.root())
            .map(|root| root.sandbox)
            .or_else(|| Some(self.containers.get(&id.root_id())?.sandbox.clone()));
        let Some(root) = root else { return Err(state("Unknown root container")) };
        if let Some(below) =
            self.containers.iter().find(|(own, container)| own.is_below(id) && container.is_alive())
        {
            return Err(NotRemoved::State(format!("Container {} has not terminated yet", below.0)));
        }
        self.containers.retain(|own, _| own != id && !own.is_below(id));
        Ok(vec![runtime, id.sandbox_in(&root)])
    }

    /// Ends a container and all that are nested in it, innermost first.
    pub fn destroy_container(&mut self, id: &ContainerId) {
        let mut ending: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(own, container)| (*own == id || own.is_below(id)) && container.is_alive())
            .map(|(own, _)| own.clone())
            .collect();
        ending.sort_by_key(|own| std::cmp::Reverse(own.depth()));
        let is_known = ending.contains(id);
        for own in ending {
            if let Some(container) = self.containers.get_mut(&own) {
                container.state = State::Destroying;
            }
            self.effects.push(Effect::Destroy(own.to_string()));
        }
        if !is_known {
            self.effects.push(Effect::Destroy(id.to_string()));
        }
    }

    fn by_name(&self, name: &str) -> Option<ContainerId> {
        self.containers.keys().find(|id| id.to_string() == name).cloned()
    }

    /// A container without executor has its first process; `false` if this is none.
    pub(in crate::core) fn plain_container_started(&mut self, name: &str, pid: i32) -> bool {
        let Some(id) = self.by_name(name) else { return false };
        if let Some(container) = self.containers.get_mut(&id) {
            container.pid = Some(pid);
            if container.state == State::Launching {
                container.state = State::Running;
                self.effects.push(Effect::Launched(id, Ok(())));
            }
        }
        true
    }

    /// A container without executor has ended; `false` if this is none.
    pub(in crate::core) fn plain_container_ended(
        &mut self,
        name: &str,
        status: Option<i32>,
        problem: Option<&Problem>,
    ) -> bool {
        let Some(id) = self.by_name(name) else { return false };
        tracing::info!(container = %id, ?status, "container ended");
        let termination = Termination { status, problem: problem.cloned() };
        let was_launching = self.containers.get(&id).is_some_and(|container| {
            // One that ended without an agent runs until it is cleaned up.
            container.pid.is_none() && container.state != State::Running
        });
        if was_launching {
            let message = problem.map(|own| own.message.clone()).unwrap_or_default();
            self.effects.push(Effect::Launched(id.clone(), Err(message)));
        }
        self.effects.push(Effect::Ended(id.clone(), termination.clone()));
        self.end_below(&id);
        let is_kept = id.depth() > 0 && !was_launching && self.is_alive(&id.root_id());
        if is_kept {
            if let Some(container) = self.containers.get_mut(&id) {
                container.state = State::Ended(termination);
            }
            self.forget_old_ends(&id);
        } else {
            self.containers.shift_remove(&id);
            if id.depth() == 0 {
                self.forget_containers_in(&id);
            }
        }
        true
    }

    fn is_alive(&self, id: &ContainerId) -> bool {
        self.root(id.root()).is_some() || self.containers.get(id).is_some_and(Container::is_alive)
    }

    fn end_below(&mut self, id: &ContainerId) {
        let below: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(own, container)| {
                own.is_below(id) && container.is_alive() && container.state != State::Destroying
            })
            .map(|(own, _)| own.clone())
            .collect();
        for own in below {
            self.destroy_container(&own);
        }
    }

    /// An outermost container is gone: what is nested in it ends, and is forgotten then.
    pub(in crate::core) fn forget_containers_in(&mut self, root: &ContainerId) {
        self.end_below(root);
        self.containers.retain(|id, container| !id.is_below(root) || container.is_alive());
        self.effects.push(Effect::Remove(root.runtime(&self.settings.runtime_dir)));
    }

    fn forget_old_ends(&mut self, id: &ContainerId) {
        let Some(parent) = id.parent() else { return };
        let ended: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(own, container)| {
                !container.is_alive() && own.parent().as_ref() == Some(&parent)
            })
            .map(|(own, _)| own.clone())
            .collect();
        for old in ended.iter().take(ended.len().saturating_sub(ENDED_MAX)) {
            self.containers.shift_remove(old);
        }
    }
}
