//! What runs against what should: what is missing is wanted from offers, what is too many, old, stuck or of no app is
//! killed.

use std::collections::BTreeMap;
use std::time::Duration;

use mesos::v1;

use super::{Effect, Instance, Known, Marathon, Now};

impl Known {
    /// How many instances may run at a time: more than wanted only while others are being replaced.
    fn capacity(&self, replacing: bool) -> usize {
        let target = self.app.instances as usize;
        if !replacing {
            return target;
        }
        let over = 1.0 + self.app.upgrade_strategy.maximum_over_capacity;
        let capacity = (target as f64 * over).floor() as usize;
        // Where none may go and none may be added, nothing would ever be replaced.
        if capacity <= self.must_stay() { capacity + 1 } else { capacity }
    }

    /// How many instances must stay healthy while others are being replaced.
    fn must_stay(&self) -> usize {
        let part = self.app.upgrade_strategy.minimum_health_capacity;
        (f64::from(self.app.instances) * part).ceil() as usize
    }
}

impl Marathon {
    /// Forgets instances whose agent has been away for longer than their app puts up with.
    pub(super) fn expunge_unreachable(&mut self, now: Now) {
        let expunged: Vec<String> = self
            .instances
            .values()
            .filter(|instance| {
                let Some(since) = instance.unreachable_ms else { return false };
                let after = match self.apps.get(&instance.app_id) {
                    Some(known) => known.app.unreachable_strategy.expunge_after_ms(),
                    None => Some(0),
                };
                after.is_some_and(|after| now.wall_ms >= since + after)
            })
            .map(|instance| instance.task_id.clone())
            .collect();
        for task in expunged {
            tracing::info!(task, "forgetting an instance whose agent can't be reached");
            self.instances.remove(&task);
            self.effects.push(Effect::Forget(format!("instances/{task}")));
        }
    }

    /// Kills what was launched and does not get to run.
    pub(super) fn kill_stuck(&mut self, now: Now) {
        let patience = self.settings.task_launch_timeout.as_millis() as i64;
        let stuck: Vec<String> = self
            .instances
            .values()
            .filter(|instance| {
                matches!(instance.state.as_str(), "TASK_STAGING" | "TASK_STARTING")
                    && now.wall_ms >= instance.staged_ms + patience
            })
            .map(|instance| instance.task_id.clone())
            .collect();
        for task in stuck {
            self.kill(now, &task);
        }
    }

    /// Whether an instance counts as one of those that its app should have.
    pub(super) fn counts(&self, now: Now, known: &Known, instance: &Instance) -> bool {
        let inactive = instance.unreachable_ms.is_some_and(|since| {
            let after = known.app.unreachable_strategy.inactive_after_ms();
            after.is_some_and(|after| now.wall_ms >= since + after)
        });
        instance.killed_at.is_none() && !inactive
    }

    /// Whether an instance would do as one of the app as it is now.
    pub(super) fn is_current(&self, known: &Known, instance: &Instance) -> bool {
        if instance.version < known.restarted_at {
            return false;
        }
        instance.version == known.app.version
            || known
                .versions
                .iter()
                .find(|version| version.version == instance.version)
                .is_some_and(|version| version.runs_the_same(&known.app))
    }

    pub(super) fn counts_as_ready(known: &Known, instance: &Instance) -> bool {
        instance.is_running()
            && (known.app.health_checks.is_empty() || instance.healthy == Some(true))
    }

    /// How many instances of an app are missing. Scaling down and replacing kills what is too many.
    pub(super) fn converge(&mut self, now: Now, id: &str) {
        let Some(known) = self.apps.get(id) else { return };
        let target = known.app.instances as usize;
        let alive: Vec<&Instance> =
            self.instances_of(id).filter(|instance| self.counts(now, known, instance)).collect();
        let (current, old): (Vec<&Instance>, Vec<&Instance>) =
            alive.into_iter().partition(|instance| self.is_current(known, instance));
        let ready =
            current.iter().filter(|instance| Self::counts_as_ready(known, instance)).count();
        let mut kill: Vec<String> = Vec::new();
        if !old.is_empty() {
            let is_useful =
                |instance: &&Instance| instance.is_running() && instance.healthy != Some(false);
            let old_ready = old.iter().copied().filter(is_useful).count();
            let mut spare = (ready + old_ready).saturating_sub(known.must_stay());
            if target == 0 {
                spare = old.len();
            }
            // Those that are of no use go first.
            let (useful, useless): (Vec<&Instance>, Vec<&Instance>) =
                old.iter().copied().partition(is_useful);
            kill.extend(useless.iter().map(|instance| instance.task_id.clone()));
            kill.extend(useful.iter().take(spare).map(|instance| instance.task_id.clone()));
        }
        if current.len() > target {
            let mut surplus: Vec<&Instance> = current.clone();
            surplus.sort_by_key(|instance| (instance.is_running(), instance.staged_ms));
            if known.app.kill_selection != "OLDEST_FIRST" {
                surplus.sort_by_key(|instance| (instance.is_running(), -instance.staged_ms));
            }
            kill.extend(
                surplus
                    .iter()
                    .take(current.len() - target)
                    .map(|instance| instance.task_id.clone()),
            );
        }
        for task in kill {
            self.kill(now, &task);
        }
    }

    /// Instances that are to be launched now, by app.
    pub(super) fn wanted(&self, now: Now) -> BTreeMap<String, usize> {
        let mut wanted = BTreeMap::new();
        for (id, known) in &self.apps {
            if self.delays.get(id).is_some_and(|delay| now.mono < delay.until) {
                continue;
            }
            let alive: Vec<&Instance> = self
                .instances_of(id)
                .filter(|instance| self.counts(now, known, instance))
                .collect();
            let current = alive.iter().filter(|instance| self.is_current(known, instance)).count();
            let target = known.app.instances as usize;
            // What is being killed still takes its place, so that no restart runs more than it may.
            let inactive = self
                .instances_of(id)
                .filter(|instance| {
                    instance.killed_at.is_none() && !self.counts(now, known, instance)
                })
                .count();
            let taken = self.instances_of(id).count() - inactive;
            let room = known.capacity(taken > current).saturating_sub(taken);
            let missing = target.saturating_sub(current).min(room);
            if missing > 0 {
                wanted.insert(id.clone(), missing);
            }
        }
        wanted
    }

    pub(super) fn kill_orphans(&mut self, now: Now) {
        let orphans: Vec<String> = self
            .instances
            .values()
            .filter(|instance| !self.apps.contains_key(&instance.app_id))
            .map(|instance| instance.task_id.clone())
            .collect();
        for task in orphans {
            self.kill(now, &task);
        }
    }

    pub(super) fn kill(&mut self, now: Now, task: &str) {
        let retry = self.settings.kill_retry_timeout;
        let Some(instance) = self.instances.get_mut(task) else { return };
        if instance.killed_at.is_some_and(|at| now.mono < at + retry) {
            return;
        }
        instance.killed_at = Some(now.mono);
        let agent_id = Some(v1::AgentId { value: instance.agent_id.clone() });
        let task_id = v1::TaskId { value: task.to_owned() };
        self.call(v1::scheduler::call::Type::Kill, |call| {
            call.kill = Some(v1::scheduler::call::Kill { task_id, agent_id, kill_policy: None })
        });
    }

    /// Remembers that a task of an app ended badly: the next launch waits.
    pub(super) fn back_off(&mut self, now: Now, app: &str) {
        let Some(known) = self.apps.get(app) else { return };
        let delay = self.delays.entry(app.to_owned()).or_default();
        delay.seconds = if delay.seconds == 0.0 {
            known.app.backoff_seconds
        } else {
            delay.seconds * known.app.backoff_factor
        }
        .min(known.app.max_launch_delay_seconds);
        delay.until = now.mono + Duration::from_secs_f64(delay.seconds.clamp(0.0, 86_400.0));
    }
}
