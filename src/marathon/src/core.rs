//! Marathon's decisions, without I/O: events of Mesos, requests of people and time come in, effects go out.
//!
//! A reconciling loop: for each app, what runs is compared with what should, and the difference launched or killed.
//! Effects are carried out in order: what is stored is stored before what follows leaves.

pub mod api;
mod instances;
pub mod matching;
mod offers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::v1::scheduler::Call;
use mesos::v1::{self, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;

/// The time of an input, on both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// A monotonic clock.
    pub mono: Duration,
}

/// A time as Marathon writes it: `2015-09-30T12:44:30.061Z`.
pub fn timestamp(wall_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What the shell must do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Call Mesos.
    Call(Box<Call>),
    /// Keep a value under a key, before what follows.
    Store(String, Vec<u8>),
    /// Forget a key.
    Forget(String),
    /// Tell those who listen to `/v2/events`.
    Event(String, Value),
    /// Marathon must end itself with this exit code.
    Abort(u8, String),
}

/// One task of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The task's id.
    pub task_id: String,
    /// Of which app.
    pub app_id: String,
    /// In which version.
    pub version: String,
    /// On which agent.
    pub agent_id: String,
    /// The agent's name.
    pub host: String,
    /// Host ports.
    pub ports: Vec<u16>,
    /// `TASK_STAGING`, `TASK_RUNNING`, …
    pub state: String,
    /// When it was launched (ms since 1970).
    pub staged_ms: i64,
    /// When it began to run.
    pub started_ms: Option<i64>,
    /// What its health check says.
    pub healthy: Option<bool>,
    /// Addresses.
    pub addresses: Vec<String>,
    /// Attributes of its agent that constraints look at.
    pub attributes: BTreeMap<String, String>,
    /// Whether it is being killed.
    #[serde(skip)]
    pub killed_at: Option<Duration>,
    /// Since when its agent can't be reached (ms since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_ms: Option<i64>,
}

impl Instance {
    fn is_running(&self) -> bool {
        self.state == "TASK_RUNNING"
    }
}

/// Why the last task of an app failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure(pub Value);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Known {
    app: App,
    versions: Vec<App>,
    #[serde(default)]
    last_failure: Option<Failure>,
    /// The version before which every instance is old, whatever it runs: set by a restart.
    #[serde(default)]
    restarted_at: String,
    /// The version in which only the number of instances changed last.
    #[serde(default)]
    scaled_at: String,
    /// The version in which anything else changed last.
    #[serde(default)]
    changed_at: String,
}

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

/// A change under way.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// When it began, as a version.
    pub version: String,
    /// Of which app.
    pub app: String,
    /// `StartApplication`, `ScaleApplication`, `RestartApplication`, `StopApplication`.
    pub action: &'static str,
    /// What was before, for taking it back.
    before: Option<App>,
}

impl Deployment {
    fn step(&self) -> Value {
        json!({"actions": [{"action": self.action, "app": self.app}]})
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Delay {
    seconds: f64,
    until: Duration,
}

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--mesos_role`.
    pub role: String,
    /// `--mesos_user`.
    pub user: String,
    /// `--max_instances_per_offer`.
    pub max_instances_per_offer: usize,
    /// `--decline_offer_duration`.
    pub decline_offer: Duration,
    /// `--task_launch_timeout`.
    pub task_launch_timeout: Duration,
    /// `--kill_retry_timeout`.
    pub kill_retry_timeout: Duration,
    /// `--reconciliation_initial_delay`.
    pub reconciliation_initial_delay: Duration,
    /// `--reconciliation_interval`.
    pub reconciliation_interval: Duration,
    /// Service ports: `--local_port_min` to `--local_port_max`.
    pub local_ports: (u16, u16),
    /// The framework's info, without id.
    pub framework: v1::FrameworkInfo,
}

/// Marathon.
#[derive(Debug)]
pub struct Marathon {
    settings: Settings,
    framework_id: Option<String>,
    /// The Mesos master that answers.
    pub mesos_leader: Option<v1::MasterInfo>,
    apps: BTreeMap<String, Known>,
    instances: BTreeMap<String, Instance>,
    deployments: Vec<Deployment>,
    delays: BTreeMap<String, Delay>,
    connected: bool,
    reconcile_due: Option<Duration>,
    revived: Option<Duration>,
    wants_offers: bool,
    last_version_ms: i64,
    effects: Vec<Effect>,
}

impl Marathon {
    /// What was stored: keys and values as [`Effect::Store`] gave them.
    pub fn load(settings: Settings, stored: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut marathon = Self {
            settings,
            framework_id: None,
            mesos_leader: None,
            apps: BTreeMap::new(),
            instances: BTreeMap::new(),
            deployments: Vec::new(),
            delays: BTreeMap::new(),
            connected: false,
            reconcile_due: None,
            revived: None,
            wants_offers: false,
            last_version_ms: 0,
            effects: Vec::new(),
        };
        for (key, value) in stored {
            let unreadable = |error: serde_json::Error| tracing::error!(key, %error, "stored value can't be read; it is left alone");
            match key.split_once('/') {
                Some(("apps", _)) => match serde_json::from_slice::<Known>(&value) {
                    Ok(known) => {
                        let newest = known.app.version.parse::<jiff::Timestamp>();
                        let newest = newest.map_or(0, jiff::Timestamp::as_millisecond);
                        marathon.last_version_ms = marathon.last_version_ms.max(newest);
                        drop(marathon.apps.insert(known.app.id.clone(), known));
                    }
                    Err(error) => unreadable(error),
                },
                Some(("instances", _)) => match serde_json::from_slice::<Instance>(&value) {
                    Ok(instance) => {
                        drop(marathon.instances.insert(instance.task_id.clone(), instance))
                    }
                    Err(error) => unreadable(error),
                },
                _ if key == "framework-id" => {
                    marathon.framework_id = Some(String::from_utf8_lossy(&value).into_owned())
                }
                _ => {}
            }
        }
        marathon
    }

    /// What is to be done since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// What it registers with.
    pub fn framework_info(&self) -> v1::FrameworkInfo {
        let mut info = self.settings.framework.clone();
        info.id = self.framework_id.as_ref().map(|value| v1::FrameworkId { value: value.clone() });
        info
    }

    fn call(&mut self, kind: v1::scheduler::call::Type, fill: impl FnOnce(&mut Call)) {
        let framework_id =
            self.framework_id.as_ref().map(|value| v1::FrameworkId { value: value.clone() });
        let mut call = Call { framework_id, r#type: Some(kind as i32), ..Default::default() };
        fill(&mut call);
        self.effects.push(Effect::Call(Box::new(call)));
    }

    fn event(&mut self, now: Now, kind: &str, mut value: Value) {
        if let Value::Object(object) = &mut value {
            object.insert("eventType".to_owned(), json!(kind));
            object.insert("timestamp".to_owned(), json!(timestamp(now.wall_ms)));
        }
        api::shorten(&mut value);
        self.effects.push(Effect::Event(kind.to_owned(), value));
    }

    fn store_app(&mut self, id: &str) {
        if let Some(bytes) = self.apps.get(id).and_then(|known| serde_json::to_vec(known).ok()) {
            self.effects.push(Effect::Store(
                format!("apps/{}", id.trim_start_matches('/').replace('/', "_")),
                bytes,
            ));
        }
    }

    fn store_instance(&mut self, id: &str) {
        if let Some(bytes) =
            self.instances.get(id).and_then(|instance| serde_json::to_vec(instance).ok())
        {
            self.effects.push(Effect::Store(format!("instances/{id}"), bytes));
        }
    }

    /// A version that no other has.
    fn new_version(&mut self, now: Now) -> String {
        self.last_version_ms = now.wall_ms.max(self.last_version_ms + 1);
        timestamp(self.last_version_ms)
    }

    /// Does what is due. Called at least ten times a second and after every batch of input.
    pub fn tick(&mut self, now: Now) {
        self.reconcile_when_due(now);
        self.expunge_unreachable(now);
        self.kill_stuck(now);
        let ids: Vec<String> = self.apps.keys().cloned().collect();
        for id in &ids {
            self.converge(now, id);
        }
        self.kill_orphans(now);
        self.finish_deployments(now);
        self.ask_for_offers(now);
    }

    fn instances_of<'a>(&'a self, app: &'a str) -> impl Iterator<Item = &'a Instance> {
        self.instances.values().filter(move |instance| instance.app_id == app)
    }

    /// Forgets instances whose agent has been away for longer than their app puts up with.
    fn expunge_unreachable(&mut self, now: Now) {
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
    fn kill_stuck(&mut self, now: Now) {
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
    fn counts(&self, now: Now, known: &Known, instance: &Instance) -> bool {
        let inactive = instance.unreachable_ms.is_some_and(|since| {
            let after = known.app.unreachable_strategy.inactive_after_ms();
            after.is_some_and(|after| now.wall_ms >= since + after)
        });
        instance.killed_at.is_none() && !inactive
    }

    /// Whether an instance would do as one of the app as it is now.
    fn is_current(&self, known: &Known, instance: &Instance) -> bool {
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

    fn counts_as_ready(known: &Known, instance: &Instance) -> bool {
        instance.is_running()
            && (known.app.health_checks.is_empty() || instance.healthy == Some(true))
    }

    /// How many instances of an app are missing. Scaling down and replacing kills what is too many.
    fn converge(&mut self, now: Now, id: &str) {
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
    fn wanted(&self, now: Now) -> BTreeMap<String, usize> {
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

    fn kill_orphans(&mut self, now: Now) {
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

    fn kill(&mut self, now: Now, task: &str) {
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

    fn deploy(
        &mut self,
        now: Now,
        app: &str,
        action: &'static str,
        before: Option<App>,
        version: String,
    ) -> String {
        let id = Uuid::new_v4().to_string();
        let deployment =
            Deployment { id: id.clone(), version, app: app.to_owned(), action, before };
        self.delays.remove(app);
        let (plan, step) = (self.plan(&deployment), deployment.step());
        self.deployments.push(deployment);
        self.event(now, "deployment_info", json!({"plan": plan, "currentStep": step}));
        id
    }

    /// A deployment as events tell it. The original leaves out both states of the group since 1.8, which its published
    /// clients can't read; here they hold the one app that changes.
    fn plan(&self, deployment: &Deployment) -> Value {
        let group = |version: &str, app: Option<&App>| {
            let apps: Vec<&App> = app.into_iter().collect();
            json!({"id": "/", "apps": apps, "groups": [], "pods": [], "dependencies": [], "version": version})
        };
        let before = deployment.before.as_ref();
        let after = self.apps.get(&deployment.app).map(|known| &known.app);
        json!({
            "id": deployment.id,
            "version": deployment.version,
            "original": group(before.map_or(&*deployment.version, |app| &app.version), before),
            "target": group(&deployment.version, after),
            "steps": [deployment.step()],
        })
    }

    fn finish_deployments(&mut self, now: Now) {
        let mut finished = Vec::new();
        for (index, deployment) in self.deployments.iter().enumerate() {
            let done = match self.apps.get(&deployment.app) {
                None => self.instances_of(&deployment.app).next().is_none(),
                Some(known) => {
                    let all: Vec<&Instance> = self.instances_of(&deployment.app).collect();
                    all.len() == known.app.instances as usize
                        && all.iter().all(|instance| {
                            instance.killed_at.is_none()
                                && self.is_current(known, instance)
                                && Self::counts_as_ready(known, instance)
                        })
                }
            };
            if done {
                finished.push(index);
            }
        }
        for index in finished.into_iter().rev() {
            let deployment = self.deployments.remove(index);
            let (plan, step) = (self.plan(&deployment), deployment.step());
            self.event(now, "deployment_step_success", json!({"plan": plan, "currentStep": step}));
            self.event(now, "deployment_success", json!({"id": deployment.id, "plan": plan}));
        }
    }

    /// Counts that metrics show, by the original's names.
    pub fn gauges(&self) -> Value {
        let running = self.instances.values().filter(|instance| instance.is_running()).count();
        json!({
            "apps.active": self.apps.len(),
            "deployments.active": self.deployments.len(),
            "instances.running": running,
            "instances.staged": self.instances.len() - running,
        })
    }

    fn locked_by(&self, app: &str) -> BTreeSet<String> {
        self.deployments
            .iter()
            .filter(|deployment| deployment.app == app)
            .map(|deployment| deployment.id.clone())
            .collect()
    }

    /// Remembers that a task of an app ended badly: the next launch waits.
    fn back_off(&mut self, now: Now, app: &str) {
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

/// Whether a task in this state is over.
fn is_over(state: TaskState) -> bool {
    use TaskState as S;
    matches!(
        state,
        S::TaskFinished
            | S::TaskFailed
            | S::TaskKilled
            | S::TaskError
            | S::TaskLost
            | S::TaskDropped
            | S::TaskGone
            | S::TaskGoneByOperator
            | S::TaskUnknown
    )
}
