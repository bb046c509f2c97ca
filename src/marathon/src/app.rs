//! Apps: what they are, the forms in which they arrive, and what is wrong with one.
//!
//! Old forms (`container.docker.network`, `ports`, `uris`) become the canonical ones of 1.8 at the edge; inside there
//! is one form only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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

/// Why JSON is refused: status, and the body that the original answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// 400 or 422.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Refusal {
    fn shape(path: &str, error: &str) -> Self {
        Self {
            status: 422,
            body: json!({"message": "Invalid JSON", "details": [{"path": path, "errors": [error]}]}),
        }
    }

    /// Validation errors by path.
    pub fn invalid(errors: Vec<(String, String)>) -> Self {
        let details: Vec<Value> = errors
            .into_iter()
            .map(|(path, error)| json!({"path": path, "errors": [error]}))
            .collect();
        Self { status: 422, body: json!({"message": "Object is not valid", "details": details}) }
    }
}

/// Fields that must have a kind, so that an error names them.
const KINDS: &[(&str, &str)] = &[
    ("id", "string"),
    ("cmd", "string"),
    ("args", "array"),
    ("instances", "number"),
    ("cpus", "number"),
    ("mem", "number"),
    ("disk", "number"),
    ("gpus", "number"),
    ("env", "object"),
    ("labels", "object"),
    ("constraints", "array"),
    ("container", "object"),
    ("healthChecks", "array"),
    ("ports", "array"),
    ("portDefinitions", "array"),
    ("networks", "array"),
    ("uris", "array"),
    ("fetch", "array"),
];

/// Fields of features that are not built: an app that uses one is refused, not run without it.
const NOT_BUILT: &[&str] = &["residency", "secrets", "readinessChecks", "check"];

/// Checks kinds and turns old forms into the canonical ones.
///
/// # Errors
/// A [`Refusal`] that names the place.
pub fn normalise(update: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut app = update.clone();
    app.retain(|_, value| !value.is_null());
    for (name, kind) in KINDS {
        let Some(value) = app.get(*name) else { continue };
        let fits = match *kind {
            "string" => value.is_string(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            _ => value.is_object(),
        };
        if !fits {
            return Err(Refusal::shape(&format!("/{name}"), &format!("error.expected.js{kind}")));
        }
    }
    for name in NOT_BUILT {
        let used = app.get(*name).is_some_and(|value| {
            value.as_array().is_none_or(|list| !list.is_empty())
                && value.as_object().is_none_or(|object| !object.is_empty())
        });
        if used {
            return Err(Refusal::invalid(vec![(
                format!("/{name}"),
                "is not supported by this Marathon yet".to_owned(),
            )]));
        }
        app.remove(*name);
    }
    if let Some(Value::Array(uris)) = app.remove("uris") {
        let fetch: Vec<Value> = uris.iter().map(|uri| json!({"uri": uri})).collect();
        app.entry("fetch").or_insert(json!(fetch));
    }
    if let Some(Value::Array(ports)) = app.remove("ports") {
        let definitions: Vec<Value> =
            ports.iter().map(|port| json!({"port": port, "protocol": "tcp"})).collect();
        app.entry("portDefinitions").or_insert(json!(definitions));
    }
    old_docker(&mut app)?;
    for name in [
        "tasks",
        "tasksRunning",
        "tasksStaged",
        "tasksHealthy",
        "tasksUnhealthy",
        "deployments",
        "versionInfo",
        "lastTaskFailure",
        "executor",
        "storeUrls",
        "ipAddress",
    ] {
        app.remove(name);
    }
    Ok(app)
}

/// `container.docker.{network, portMappings}` → `networks` and `container.portMappings`.
fn old_docker(app: &mut Map<String, Value>) -> Result<(), Refusal> {
    let Some(Value::Object(container)) = app.get_mut("container") else { return Ok(()) };
    container.retain(|_, value| !value.is_null());
    if container.is_empty() {
        app.remove("container");
        return Ok(());
    }
    container.entry("type").or_insert(json!("DOCKER"));
    let (mut network, mut mappings) = (None, None);
    if let Some(Value::Object(docker)) = container.get_mut("docker") {
        docker.retain(|_, value| !value.is_null());
        network =
            docker.remove("network").and_then(|network| network.as_str().map(str::to_uppercase));
        mappings = docker.remove("portMappings");
    }
    if let Some(mappings) = mappings {
        container.entry("portMappings").or_insert(mappings);
    }
    if let Some(network) = network {
        if app.contains_key("networks") {
            return Err(Refusal {
                status: 422,
                body: json!({"message": "cannot mix deprecated and canonical network APIs"}),
            });
        }
        let mode = match network.as_str() {
            "BRIDGE" => json!([{"mode": "container/bridge"}]),
            "HOST" | "NONE" => json!([{"mode": "host"}]),
            _ => {
                return Err(Refusal::invalid(vec![(
                    "/container/docker/network".to_owned(),
                    "user networks need 'networks' with a name".to_owned(),
                )]));
            }
        };
        app.insert("networks".to_owned(), mode);
    }
    Ok(())
}

/// An absolute id: relative ones are taken from the root.
pub fn absolute(id: &str) -> String {
    format!("/{}", id.trim_matches('/'))
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

    fn validate(&self) -> Result<(), Refusal> {
        let mut errors: Vec<(String, String)> = Vec::new();
        let mut wrong = |path: &str, error: &str| errors.push((path.to_owned(), error.to_owned()));
        const SEGMENT: &str = "^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$";
        if self.id == "/" {
            wrong("/id", "must not be empty");
        }
        for part in self.id.split('/').skip(1).filter(|_| self.id != "/") {
            let label = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| {
                        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
                    })
            };
            if !part.split('.').all(label) {
                wrong("/id", &format!("must fully match regular expression '{SEGMENT}'"));
                break;
            }
        }
        if let Some(last) = self
            .id
            .rsplit('/')
            .next()
            .filter(|last| ["restart", "tasks", "versions", ".", ".."].contains(last))
        {
            wrong(
                "/id",
                &format!(
                    "must not end with any of the following reserved keywords: restart, tasks, versions, ., .. ({last})"
                ),
            );
        }
        if self.cmd.is_some() && self.args.is_some() {
            wrong("/", "AppDefinition must not contain both 'cmd' and 'args'.");
        }
        if let UnreachableStrategy::After { inactive_after_seconds, expunge_after_seconds } =
            self.unreachable_strategy
            && inactive_after_seconds > expunge_after_seconds
        {
            wrong(
                "/unreachableStrategy/inactiveAfterSeconds",
                &format!(
                    "inactiveAfterSeconds ({inactive_after_seconds}) must not be greater than expungeAfterSeconds ({expunge_after_seconds})"
                ),
            );
        }
        let has_image = self.container.as_ref().is_some_and(|container| container.docker.is_some());
        if self.cmd.as_deref().is_none_or(str::is_empty)
            && self.args.as_ref().is_none_or(Vec::is_empty)
            && !has_image
        {
            wrong(
                "/",
                "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.",
            );
        }
        if !(self.cpus >= 0.0 && self.cpus.is_finite()) {
            wrong("/cpus", "error.min");
        }
        if !(self.mem >= 0.0 && self.mem.is_finite()) {
            wrong("/mem", "error.min");
        }
        if !(self.disk >= 0.0 && self.disk.is_finite()) {
            wrong("/disk", "error.min");
        }
        if self.gpus > 0 {
            wrong("/gpus", "gpus are not supported by this Marathon yet");
        }
        if !self.dependencies.is_empty() {
            wrong("/dependencies", "dependencies are not supported by this Marathon yet");
        }
        for capacity in [
            self.upgrade_strategy.minimum_health_capacity,
            self.upgrade_strategy.maximum_over_capacity,
        ] {
            if !(0.0..=1.0).contains(&capacity) {
                wrong("/upgradeStrategy", "must be between 0.0 and 1.0");
            }
        }
        for (index, network) in self.networks.iter().enumerate() {
            match network.mode.as_str() {
                "host" | "container/bridge" => {}
                "container" if network.name.is_some() => {}
                "container" => wrong(&format!("/networks({index})/name"), "must not be empty"),
                other => wrong(
                    &format!("/networks({index})/mode"),
                    &format!("'{other}' is none of host, container/bridge, container"),
                ),
            }
        }
        if let Some(container) = &self.container {
            match (container.kind.as_str(), &container.docker) {
                ("DOCKER", None) => wrong("/container/docker", "not defined"),
                ("DOCKER", Some(docker)) if docker.image.is_empty() => {
                    wrong("/container/docker/image", "must not be empty")
                }
                ("DOCKER" | "MESOS", _) => {}
                (other, _) => {
                    wrong("/container/type", &format!("'{other}' is neither DOCKER nor MESOS"))
                }
            }
            if self.is_host_network() && !container.port_mappings.is_empty() {
                wrong("/container/portMappings", "must be empty with host networking");
            }
        }
        for (index, constraint) in self.constraints.iter().enumerate() {
            if let Err(error) = crate::core::matching::check_constraint(constraint) {
                wrong(&format!("/constraints({index})"), &error);
            }
        }
        for (index, check) in self.health_checks.iter().enumerate() {
            if !["MESOS_HTTP", "MESOS_TCP", "COMMAND"].contains(&check.protocol.as_str()) {
                wrong(
                    &format!("/healthChecks({index})/protocol"),
                    &format!(
                        "{} is not supported by this Marathon yet: use MESOS_HTTP, MESOS_TCP or COMMAND",
                        check.protocol
                    ),
                );
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Refusal::invalid(errors)) }
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
