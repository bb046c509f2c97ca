//! Marathon's decisions, without I/O: events of Mesos, requests of people and time come in, effects go out.
//!
//! A reconciling loop: for each app, what runs is compared with what should, and the difference launched or killed.
//! Effects are carried out in order: what is stored is stored before what follows leaves.

pub mod api;
mod converge;
mod deployments;
mod instances;
pub mod matching;
mod offers;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use mesos::v1::scheduler::Call;
use mesos::v1::{self, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::deployments::Deployment;
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

#[derive(Debug, Clone, Copy, Default)]
struct Delay {
    seconds: f64,
    until: Duration,
}

/// A stored value that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error(
    "{key}: stored by another version, or damaged: {source}; nothing is launched or killed until it is put right"
)]
pub struct Unreadable {
    key: String,
    source: serde_json::Error,
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
    ///
    /// # Errors
    /// When a value can't be read.
    pub fn load(
        settings: Settings,
        stored: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, Unreadable> {
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
            let Some((kind, _)) = key.split_once('/') else {
                if key == "framework-id" {
                    marathon.framework_id = Some(String::from_utf8_lossy(&value).into_owned());
                }
                continue;
            };
            // Without its app an instance would be killed, so nothing is done where anything can't be read.
            marathon.take_stored(kind, &value).map_err(|source| Unreadable { key, source })?;
        }
        marathon.deployments.sort_by(|one, other| one.version.cmp(&other.version));
        Ok(marathon)
    }

    fn take_stored(&mut self, kind: &str, value: &[u8]) -> serde_json::Result<()> {
        match kind {
            "apps" => {
                let known: Known = serde_json::from_slice(value)?;
                let newest = known.app.version.parse::<jiff::Timestamp>();
                let newest = newest.map_or(0, jiff::Timestamp::as_millisecond);
                self.last_version_ms = self.last_version_ms.max(newest);
                self.apps.insert(known.app.id.clone(), known);
            }
            "instances" => {
                let instance: Instance = serde_json::from_slice(value)?;
                self.instances.insert(instance.task_id.clone(), instance);
            }
            "deployments" => self.deployments.push(serde_json::from_slice(value)?),
            _ => {}
        }
        Ok(())
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
        view::shorten(&mut value);
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
