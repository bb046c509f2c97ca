//! What subscribers of the operator API hear: tasks, agents and frameworks as they come, change and go.
//!
//! Nothing is put together while nobody listens.

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::master::{Event, event};

use super::model::Now;
use super::scene::Scene;
use super::{Effect, HEARTBEAT_SECONDS, Master};
use crate::view::operator::{self as shown, notice};

impl Master {
    /// A new subscriber: from now on [`Effect::Notify`] is for it, too. What it hears first is made of the scene.
    pub fn subscribe_operator(&mut self, now: Now) -> Scene {
        if self.operators == 0 {
            self.notice_due = now.mono + std::time::Duration::from_secs_f64(HEARTBEAT_SECONDS);
        }
        self.operators += 1;
        self.scene()
    }

    /// A subscriber is gone.
    pub fn operator_closed(&mut self) {
        self.operators = self.operators.saturating_sub(1);
    }

    /// How many listen.
    pub fn operators(&self) -> usize {
        self.operators
    }

    fn notify(&mut self, event: impl FnOnce(&Self) -> Option<Event>) {
        if self.operators > 0
            && let Some(event) = event(self)
        {
            self.effects.push(Effect::Notify(Box::new(event)));
        }
    }

    pub(super) fn notify_heartbeat(&mut self, now: Now) {
        if now.mono >= self.notice_due {
            self.notice_due = now.mono + std::time::Duration::from_secs_f64(HEARTBEAT_SECONDS);
            self.notify(|_| Some(notice(event::Type::Heartbeat)));
        }
    }

    pub(super) fn notify_task_added(&mut self, framework: &str, task: &str) {
        self.notify(|master| {
            let task = master.frameworks.get(framework)?.tasks.get(task)?.clone();
            Some(Event {
                task_added: Some(event::TaskAdded { task }),
                ..notice(event::Type::TaskAdded)
            })
        });
    }

    pub(super) fn notify_task_updated(
        &mut self,
        framework: &str,
        status: &v1::TaskStatus,
        state: v1::TaskState,
    ) {
        self.notify(|_| {
            let updated = event::TaskUpdated {
                framework_id: v1::FrameworkId { value: framework.to_owned() },
                status: status.clone(),
                state: state as i32,
            };
            Some(Event { task_updated: Some(updated), ..notice(event::Type::TaskUpdated) })
        });
    }

    /// An agent is there, on which this runs, by framework and role.
    pub(super) fn notify_agent_added(&mut self, id: &str, used: &[(String, String, Resources)]) {
        self.notify(|master| {
            let used = used.iter().map(|(_, role, used)| used.allocate(role)).sum();
            let agent = shown::one_agent(master, id, &used)?;
            Some(Event {
                agent_added: Some(event::AgentAdded { agent }),
                ..notice(event::Type::AgentAdded)
            })
        });
    }

    pub(super) fn notify_agent_removed(&mut self, id: &str) {
        self.notify(|_| {
            let agent_id = v1::AgentId { value: id.to_owned() };
            Some(Event {
                agent_removed: Some(event::AgentRemoved { agent_id }),
                ..notice(event::Type::AgentRemoved)
            })
        });
    }

    pub(super) fn notify_framework(&mut self, id: &str, is_new: bool) {
        self.notify(|master| {
            let framework = shown::one_framework(master, id)?;
            Some(if is_new {
                let added = Some(event::FrameworkAdded { framework });
                Event { framework_added: added, ..notice(event::Type::FrameworkAdded) }
            } else {
                let updated = Some(event::FrameworkUpdated { framework });
                Event { framework_updated: updated, ..notice(event::Type::FrameworkUpdated) }
            })
        });
    }

    pub(super) fn notify_framework_removed(&mut self, info: &v1::FrameworkInfo) {
        self.notify(|_| {
            let removed = Some(event::FrameworkRemoved { framework_info: info.clone() });
            Some(Event { framework_removed: removed, ..notice(event::Type::FrameworkRemoved) })
        });
    }
}
