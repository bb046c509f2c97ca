//! The forms in which apps arrive: old ones (`container.docker.network`, `ports`, `uris`) become the canonical one.

use serde_json::{Map, Value, json};

/// Why JSON is refused: status, and the body that the original answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// 400 or 422.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Refusal {
    pub(super) fn shape(path: &str, error: &str) -> Self {
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
