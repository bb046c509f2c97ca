//! Draining: an operator wants everything off this agent (`Slave::drain`).

use mesos::internal as m;
use mesos::v1::framework_info::capability::Type as Capability;
use mesos::v1::task_status::Reason;
use mesos::v1::{self, TaskState};

use super::{Agent, Effect, Now};
use crate::checkpoint::paths;

/// A drain that goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Drain {
    /// How the operator wants it.
    pub config: v1::DrainConfig,
    /// Since when, in seconds since 1970.
    pub began: f64,
}

/// The grace period of a task that has to go: the operator's, where the task's own is longer or not given.
fn policy(drain: &v1::DrainConfig, own: Option<&v1::KillPolicy>) -> Option<v1::KillPolicy> {
    let most = drain.max_grace_period?;
    match own.and_then(|own| own.grace_period) {
        Some(own) if own.nanoseconds <= most.nanoseconds => None,
        _ => Some(v1::KillPolicy { grace_period: Some(most) }),
    }
}

impl Agent {
    pub(super) fn drain(&mut self, now: Now, config: v1::DrainConfig) {
        if self.frameworks.is_empty() && self.operations.is_empty() {
            tracing::info!("nothing to drain");
            return;
        }
        tracing::info!(?config, "draining");
        if let Some(agent) = self.id() {
            let path = paths::agent(&self.meta(), agent).join(paths::DRAIN_CONFIG);
            self.write(&path, &config);
        }
        self.draining = Some(Drain { config, began: now.wall });
        let mut kills = Vec::new();
        for (framework, known) in &self.frameworks {
            for executor in known.executors.values() {
                let tasks = executor.tasks.values();
                let tasks = tasks.map(|task| (&task.task_id, task.kill_policy.as_ref()));
                let queued = executor.queued.values();
                let queued = queued.map(|task| (&task.task_id, task.kill_policy.as_ref()));
                kills.extend(tasks.chain(queued).map(|(task_id, own)| m::KillTaskMessage {
                    framework_id: v1::FrameworkId { value: framework.clone() },
                    task_id: task_id.clone(),
                    kill_policy: policy(&config, own),
                }));
            }
        }
        for kill in kills {
            self.kill_task(now, kill);
        }
    }

    /// Says in an update that it comes of draining.
    pub(super) fn mark_drained(&self, framework: &str, status: &mut v1::TaskStatus) {
        let Some(drain) = &self.draining else { return };
        if !matches!(status.state(), TaskState::TaskKilling | TaskState::TaskKilled) {
            return;
        }
        status.reason = Some(Reason::AgentDraining as i32);
        let knows_gone = self.frameworks.get(framework).is_some_and(|known| {
            let aware = Some(Capability::PartitionAware as i32);
            known.info.capabilities.iter().any(|own| own.r#type == aware)
        });
        if drain.config.mark_gone() && knows_gone {
            status.state = TaskState::TaskGoneByOperator as i32;
        }
    }

    /// Notes that nothing is left to drain, once it is so.
    pub(super) fn finish_draining(&mut self) {
        if self.draining.is_none() || !self.frameworks.is_empty() || !self.operations.is_empty() {
            return;
        }
        tracing::info!("drained");
        self.draining = None;
        if let Some(agent) = self.id() {
            let path = paths::agent(&self.meta(), agent).join(paths::DRAIN_CONFIG);
            self.effects.push(Effect::Unlink(path));
        }
    }
}
