//! Apps: what they are, the forms in which they arrive, and what is wrong with one.
//!
//! Old forms (`container.docker.network`, `ports`, `uris`) become the canonical ones of 1.8 at the edge; inside there
//! is one form only.

mod forms;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::forms::{Refusal, absolute, normalise};

/// A port of an app with host networking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct PortDefinition {
    /// The service's port; the host's too with `requirePorts`. 0 means any.
    #[serde(default)]
    pub port: u16,
    /// `tcp` or `udp`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// A name, for `PORT_<NAME>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A port of a container that the host forwards to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// In the container; 0 means the host's.
    #[serde(default)]
    pub container_port: u16,
    /// On the host; 0 means any that is offered.
    #[serde(default)]
    pub host_port: u16,
    /// The service's port.
    #[serde(default)]
    pub service_port: u16,
    /// `tcp` or `udp`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// A name, for `PORT_<NAME>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn tcp() -> String {
    "tcp".to_owned()
}

/// A parameter of `docker run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name without dashes.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What Docker runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Docker {
    /// The image.
    pub image: String,
    /// Whether it is pulled at every launch.
    #[serde(default)]
    pub force_pull_image: bool,
    /// Whether it may do everything.
    #[serde(default)]
    pub privileged: bool,
    /// Parameters of `docker run`.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// A volume of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// In the container.
    pub container_path: String,
    /// On the host.
    pub host_path: String,
    /// `RW` or `RO`.
    pub mode: String,
}

/// What an app runs in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// `DOCKER` or `MESOS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Docker>,
    /// Volumes.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Ports that are forwarded.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// `host`, `container/bridge` or `container`.
    pub mode: String,
    /// Its name, for `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What is checked of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// `MESOS_HTTP`, `MESOS_TCP`, `COMMAND`.
    pub protocol: String,
    /// For HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Which of the app's ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_index: Option<usize>,
    /// A port by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// For COMMAND.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Value>,
    /// Failures within these do not count.
    pub grace_period_seconds: f64,
    /// Time between checks.
    pub interval_seconds: f64,
    /// How long one may take.
    pub timeout_seconds: f64,
    /// Failures in a row that kill.
    pub max_consecutive_failures: u32,
    /// Before the first.
    pub delay_seconds: f64,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: "HTTP".to_owned(),
            path: None,
            port_index: None,
            port: None,
            command: None,
            grace_period_seconds: 300.0,
            interval_seconds: 60.0,
            timeout_seconds: 20.0,
            max_consecutive_failures: 3,
            delay_seconds: 15.0,
        }
    }
}

/// A file to fetch into the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fetch {
    /// Where from.
    pub uri: String,
    /// Whether to unpack it.
    #[serde(default = "yes")]
    pub extract: bool,
    /// Whether to make it executable.
    #[serde(default)]
    pub executable: bool,
    /// Whether to cache it.
    #[serde(default)]
    pub cache: bool,
}

fn yes() -> bool {
    true
}

/// How a new version takes over from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpgradeStrategy {
    /// Part of the instances that must stay healthy.
    pub minimum_health_capacity: f64,
    /// Part of the instances that may run beyond.
    pub maximum_over_capacity: f64,
}

impl Default for UpgradeStrategy {
    fn default() -> Self {
        Self { minimum_health_capacity: 1.0, maximum_over_capacity: 1.0 }
    }
}

/// What happens to instances whose agent can't be reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UnreachableStrategy {
    /// After these times.
    #[serde(rename_all = "camelCase")]
    After {
        /// Seconds until another is launched in its place.
        #[serde(default)]
        inactive_after_seconds: u32,
        /// Seconds until it is forgotten, and killed should it return.
        #[serde(default)]
        expunge_after_seconds: u32,
    },
    /// `disabled`: nothing.
    Disabled(Disabled),
}

/// The word `disabled`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disabled {
    /// The only one.
    Disabled,
}

impl UnreachableStrategy {
    /// Milliseconds until another is launched; `None` means never.
    pub fn inactive_after_ms(&self) -> Option<i64> {
        match self {
            Self::After { inactive_after_seconds, .. } => {
                Some(i64::from(*inactive_after_seconds) * 1000)
            }
            Self::Disabled(_) => None,
        }
    }

    /// Milliseconds until it is forgotten; `None` means never.
    pub fn expunge_after_ms(&self) -> Option<i64> {
        match self {
            Self::After { expunge_after_seconds, .. } => {
                Some(i64::from(*expunge_after_seconds) * 1000)
            }
            Self::Disabled(_) => None,
        }
    }
}

impl Default for UnreachableStrategy {
    fn default() -> Self {
        Self::After { inactive_after_seconds: 0, expunge_after_seconds: 0 }
    }
}

/// An app, in the canonical form of 1.8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct App {
    /// Its absolute path.
    pub id: String,
    /// A shell command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// Or words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Who runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Value>,
    /// How many.
    pub instances: u32,
    /// CPUs of each.
    pub cpus: f64,
    /// Memory of each in MiB.
    pub mem: f64,
    /// Disk of each in MiB.
    pub disk: f64,
    /// GPUs of each.
    pub gpus: u32,
    /// Where they may run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Vec<String>>,
    /// Files to fetch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<Fetch>,
    /// Pause before a failed one is launched again.
    pub backoff_seconds: f64,
    /// Growth of the pause.
    pub backoff_factor: f64,
    /// Longest pause.
    pub max_launch_delay_seconds: f64,
    /// What it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Checks of health.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// How long an instance may take to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_kill_grace_period_seconds: Option<f64>,
    /// Apps that must run first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// How versions change.
    pub upgrade_strategy: UpgradeStrategy,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Roles whose resources may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_resource_roles: Option<Vec<String>>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Ports with host networking.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_definitions: Vec<PortDefinition>,
    /// Whether the host's ports must be those of the definitions.
    pub require_ports: bool,
    /// Who goes first when there are too many.
    pub kill_selection: String,
    /// What happens to instances whose agent can't be reached.
    pub unreachable_strategy: UnreachableStrategy,
    /// When it became this.
    pub version: String,
}

impl Default for App {
    fn default() -> Self {
        Self {
            id: String::new(),
            cmd: None,
            args: None,
            user: None,
            env: BTreeMap::new(),
            instances: 1,
            cpus: 1.0,
            mem: 128.0,
            disk: 0.0,
            gpus: 0,
            constraints: Vec::new(),
            fetch: Vec::new(),
            backoff_seconds: 1.0,
            backoff_factor: 1.15,
            max_launch_delay_seconds: 300.0,
            container: None,
            health_checks: Vec::new(),
            task_kill_grace_period_seconds: None,
            dependencies: Vec::new(),
            upgrade_strategy: UpgradeStrategy::default(),
            labels: BTreeMap::new(),
            accepted_resource_roles: None,
            networks: Vec::new(),
            port_definitions: Vec::new(),
            require_ports: false,
            kill_selection: "YOUNGEST_FIRST".to_owned(),
            unreachable_strategy: UnreachableStrategy::default(),
            version: String::new(),
        }
    }
}

impl App {
    /// An app from its canonical form.
    ///
    /// # Errors
    /// A [`Refusal`] that names the place.
    pub fn from_canonical(fields: Map<String, Value>) -> Result<Self, Refusal> {
        let mut app: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|error| Refusal::shape("/", &error.to_string()))?;
        app.id = absolute(&app.id);
        if app.networks.is_empty() {
            app.networks.push(Network { mode: "host".to_owned(), name: None });
        }
        if app.is_host_network()
            && app.port_definitions.is_empty()
            && app.container.as_ref().is_none_or(|container| container.kind != "DOCKER")
        {
            app.port_definitions
                .push(PortDefinition { protocol: tcp(), ..PortDefinition::default() });
        }
        app.validate()?;
        Ok(app)
    }

    /// This app with some fields changed.
    ///
    /// # Errors
    /// A [`Refusal`] that names the place.
    pub fn updated(&self, update: &Map<String, Value>) -> Result<Self, Refusal> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else {
            return Err(Refusal::shape("/", "the app can't be written"));
        };
        for (name, value) in normalise(update)? {
            if name != "id" && name != "version" {
                fields.insert(name, value);
            }
        }
        Self::from_canonical(fields)
    }

    /// Whether it uses the host's network.
    pub fn is_host_network(&self) -> bool {
        self.networks.iter().all(|network| network.mode == "host")
    }

    /// Whether instances of `other` would do as instances of this.
    pub fn runs_the_same(&self, other: &Self) -> bool {
        let stripped = |app: &Self| Self {
            instances: 0,
            version: String::new(),
            upgrade_strategy: UpgradeStrategy::default(),
            unreachable_strategy: UnreachableStrategy::default(),
            kill_selection: String::new(),
            ..app.clone()
        };
        stripped(self) == stripped(other)
    }

    /// How many ports of the host each instance takes.
    pub fn port_count(&self) -> usize {
        match &self.container {
            Some(container) if !self.is_host_network() => container.port_mappings.len(),
            _ => self.port_definitions.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(text: &str) -> Result<App, Refusal> {
        let Ok(Value::Object(fields)) = serde_json::from_str(text) else { panic!("{text}") };
        App::from_canonical(normalise(&fields)?)
    }

    #[test]
    fn the_guides_docker_app_becomes_canonical() {
        let app = app(r#"{"id":"web","cpus":0.1,"mem":32,"instances":1,"cmd":"httpd -f","container":{"type":"DOCKER","docker":{"image":"busybox","network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0}]}}}"#).unwrap();
        assert_eq!((app.id.as_str(), app.networks[0].mode.as_str()), ("/web", "container/bridge"));
        let container = app.container.as_ref().unwrap();
        assert_eq!((container.port_mappings[0].container_port, app.port_count()), (80, 1));
        let scaled = app.updated(serde_json::json!({"instances": 2}).as_object().unwrap()).unwrap();
        assert!(scaled.runs_the_same(&app) && scaled.instances == 2);
        assert!(
            !app.updated(serde_json::json!({"cmd": "other"}).as_object().unwrap())
                .unwrap()
                .runs_the_same(&app)
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_path() {
        for (text, path) in [
            (r#"{"id":"/a","cmd":"x","instances":"2"}"#, "/instances"),
            (r#"{"id":"/A_b","cmd":"x"}"#, "/id"),
            (r#"{"id":"","cmd":"x"}"#, "/id"),
            (r#"{"id":"/a"}"#, "/"),
            (r#"{"id":"/a","cmd":"x","cpus":-1}"#, "/cpus"),
            (
                r#"{"id":"/a","cmd":"x","residency":{"taskLostBehavior":"WAIT_FOREVER"}}"#,
                "/residency",
            ),
            (r#"{"id":"/a","cmd":"x","constraints":[["hostname"]]}"#, "/constraints(0)"),
            (r#"{"id":"/a/restart","cmd":"x"}"#, "/id"),
        ] {
            let refusal = app(text).unwrap_err();
            assert_eq!(
                (refusal.status, refusal.body["details"][0]["path"].as_str()),
                (422, Some(path)),
                "{text}: {}",
                refusal.body
            );
        }
    }
}
