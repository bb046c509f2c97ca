//! What the REST API shows: apps, groups, tasks, the launch queue, deployments.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::api::{Answer, Request};
use super::{Instance, Known, Marathon, Now, offers, timestamp};

impl Marathon {
    pub(super) fn list(&self, request: &Request) -> Answer {
        let contains = |text: &str, part: Option<&str>| {
            part.is_none_or(|part| text.to_lowercase().contains(&part.to_lowercase()))
        };
        let with_tasks = request.query.iter().any(|(key, value)| {
            key == "embed" && (value.ends_with("tasks") || value.ends_with("failures"))
        });
        let apps: Vec<Value> = self
            .apps
            .values()
            .filter(|known| {
                contains(&known.app.id, request.parameter("id"))
                    && contains(
                        known.app.cmd.as_deref().unwrap_or_default(),
                        request.parameter("cmd"),
                    )
            })
            .filter(|known| {
                let selector = request.parameter("label").unwrap_or_default();
                selector.split(',').map(str::trim).filter(|part| !part.is_empty()).all(|part| {
                    match part.split_once("==") {
                        Some((name, value)) => {
                            known.app.labels.get(name.trim()).is_some_and(|own| own == value.trim())
                        }
                        None => known.app.labels.contains_key(part),
                    }
                })
            })
            .map(|known| self.info(known, with_tasks))
            .collect();
        Answer::new(200, json!({"apps": apps}))
    }

    /// A group with all below it; other than the root, there is one only where apps are.
    pub(super) fn group(&self, id: &str) -> Option<Value> {
        let below = if id == "/" { id.to_owned() } else { format!("{id}/") };
        let (mut apps, mut groups, mut version) = (Vec::new(), BTreeSet::new(), timestamp(0));
        for known in self.apps.values() {
            let Some(rest) = known.app.id.strip_prefix(&below) else { continue };
            version = version.max(known.app.version.clone());
            match rest.split_once('/') {
                Some((group, _)) => drop(groups.insert(format!("{below}{group}"))),
                None => apps.push(self.info(known, true)),
            }
        }
        if id != "/" && apps.is_empty() && groups.is_empty() {
            return None;
        }
        let groups: Vec<Value> = groups.iter().filter_map(|id| self.group(id)).collect();
        Some(
            json!({"id": id, "apps": apps, "groups": groups, "pods": [], "dependencies": [], "version": version}),
        )
    }

    /// An app as it is shown.
    pub(super) fn info(&self, known: &Known, with_tasks: bool) -> Value {
        let app = &known.app;
        let mut value = json!(app);
        let instances: Vec<&Instance> = self.instances_of(&app.id).collect();
        let running = instances.iter().filter(|instance| instance.is_running()).count();
        let Value::Object(object) = &mut value else { return value };
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("executor", json!(""));
        put(
            "versionInfo",
            json!({"lastScalingAt": known.scaled_at, "lastConfigChangeAt": known.changed_at}),
        );
        put("tasksStaged", json!(instances.len() - running));
        put("tasksRunning", json!(running));
        put(
            "tasksHealthy",
            json!(instances.iter().filter(|instance| instance.healthy == Some(true)).count()),
        );
        put(
            "tasksUnhealthy",
            json!(instances.iter().filter(|instance| instance.healthy == Some(false)).count()),
        );
        put(
            "deployments",
            self.deployments
                .iter()
                .filter(|deployment| deployment.app == app.id)
                .map(|deployment| json!({"id": deployment.id}))
                .collect(),
        );
        if with_tasks {
            put("tasks", instances.iter().map(|instance| self.task(instance)).collect());
            if let Some(failure) = &known.last_failure {
                put("lastTaskFailure", failure.0.clone());
            }
        }
        value
    }

    /// A task as it is shown.
    pub(super) fn task(&self, instance: &Instance) -> Value {
        let addresses: Vec<Value> = instance
            .addresses
            .iter()
            .map(|address| json!({"ipAddress": address, "protocol": "IPv4"}))
            .collect();
        let state = if instance.killed_at.is_some() { "TASK_KILLING" } else { &instance.state };
        let mut value = json!({
            "appId": instance.app_id,
            "healthCheckResults": [],
            "host": instance.host,
            "id": instance.task_id,
            "ipAddresses": addresses,
            "ports": instance.ports,
            "servicePorts": [],
            "slaveId": instance.agent_id,
            "state": state,
            "stagedAt": timestamp(instance.staged_ms),
            "startedAt": offers::started(instance),
            "version": instance.version,
            "localVolumes": [],
            "role": self.settings.role,
        });
        if let Some(healthy) = instance.healthy {
            value["healthCheckResults"] = json!([{"alive": healthy, "consecutiveFailures": u8::from(!healthy), "instanceId": instance.task_id.split("._app").next()}]);
        }
        value
    }

    pub(super) fn tasks(&self, request: &Request) -> Answer {
        let statuses: Vec<&str> = request
            .query
            .iter()
            .filter(|(key, _)| key == "status" || key == "status[]")
            .map(|(_, value)| value.as_str())
            .collect();
        let shown = |instance: &&Instance| {
            statuses.is_empty()
                || statuses.contains(&if instance.is_running() { "running" } else { "staging" })
        };
        let tasks: Vec<Value> =
            self.instances.values().filter(shown).map(|instance| self.task(instance)).collect();
        Answer::new(200, json!({"tasks": tasks}))
    }

    pub(super) fn queue(&self, now: Now) -> Answer {
        let mut queue = Vec::new();
        for known in self.apps.values() {
            let alive = self
                .instances_of(&known.app.id)
                .filter(|instance| {
                    self.counts(now, known, instance) && self.is_current(known, instance)
                })
                .count();
            let missing = (known.app.instances as usize).saturating_sub(alive);
            if missing > 0 {
                let left = self
                    .delays
                    .get(&known.app.id)
                    .map_or(0, |delay| delay.until.saturating_sub(now.mono).as_secs());
                queue.push(json!({"count": missing, "delay": {"timeLeftSeconds": left, "overdue": left == 0}, "app": known.app, "role": self.settings.role}));
            }
        }
        Answer::new(200, json!({"queue": queue}))
    }

    pub(super) fn deployments_view(&self) -> Value {
        self.deployments
            .iter()
            .map(|deployment| {
                json!({
                    "id": deployment.id,
                    "version": deployment.version,
                    "affectedApps": [deployment.app],
                    "affectedPods": [],
                    "steps": [{"actions": [{"action": deployment.action, "app": deployment.app}]}],
                    "currentActions": [{"action": deployment.action, "app": deployment.app, "readinessCheckResults": []}],
                    "currentStep": 1,
                    "totalSteps": 1,
                })
            })
            .collect()
    }
}

/// Writes whole numbers as 1.8 does: `128` rather than `128.0`.
pub(super) fn shorten(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(shorten),
        Value::Object(object) => object.values_mut().for_each(shorten),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|one| one.fract() == 0.0 && one.abs() < 1e15);
            if let Some(whole) = whole.filter(|_| number.is_f64()) {
                *value = json!(whole as i64);
            }
        }
        _ => {}
    }
}
