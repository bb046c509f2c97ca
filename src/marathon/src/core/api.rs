//! The REST API's decisions: a request in, an answer out.
#![expect(
    clippy::result_large_err,
    reason = "an answer is made once a request; a box would only blur the code"
)]

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::view::shorten;
use super::{Known, Marathon, Now, timestamp};
use crate::app::{App, Refusal, absolute, normalise};

/// Versions of an app that are kept.
const VERSIONS_MAX: usize = 50;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON; null for an empty body.
    pub body: Value,
    /// `Marathon-Deployment-Id`.
    pub deployment: Option<String>,
    /// `Location`.
    pub location: Option<String>,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, body, deployment: None, location: None }
    }

    /// An error with a message.
    pub fn message(status: u16, text: impl Into<String>) -> Self {
        Self::new(status, json!({"message": text.into()}))
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status, refusal.body)
    }
}

/// A request, as far as the core needs it.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Decoded path without a trailing slash.
    pub path: String,
    /// Query parameters.
    pub query: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.parameter(name)
            .map_or(default, |value| value.is_empty() || value.eq_ignore_ascii_case("true"))
    }

    fn json(&self) -> Result<Value, Answer> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Answer::new(400, json!({"message": "Invalid JSON", "details": error.to_string()}))
        })
    }

    fn object(&self) -> Result<Map<String, Value>, Answer> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            _ => Err(Answer::new(
                422,
                json!({"message": "Invalid JSON", "details": [{"path": "/", "errors": ["error.expected.jsobject"]}]}),
            )),
        }
    }
}

impl Marathon {
    /// Answers a request. Everything that it changes is in the effects before the answer may leave.
    pub fn request(&mut self, now: Now, request: &Request) -> Answer {
        let mut answer = self.route(now, request).unwrap_or_else(|answer| answer);
        shorten(&mut answer.body);
        answer
    }

    fn route(&mut self, now: Now, request: &Request) -> Result<Answer, Answer> {
        let method = request.method.as_str();
        let method = if method == "PATCH" { "PUT" } else { method };
        let rest = request.path.strip_prefix("/v2/").unwrap_or_default();
        let (collection, id) = rest.split_once('/').unwrap_or((rest, ""));
        match (method, collection, id) {
            ("GET", "apps", "") => Ok(self.list(request)),
            ("POST", "apps", "") => self.create(now, request),
            ("PUT", "apps", "") => self.update_many(now, request),
            (_, "apps", id) => self.app(now, method, &absolute(id), request),
            ("GET", "deployments", "") => Ok(Answer::new(200, self.deployments_view())),
            ("DELETE", "deployments", id) => self.cancel(now, id, request.flag("force", false)),
            ("GET", "tasks", "") => Ok(self.tasks(request)),
            ("POST", "tasks", "delete") => self.delete_tasks(now, request),
            ("GET", "queue", "") => Ok(self.queue(now)),
            ("DELETE", "queue", id) => {
                let app = absolute(id.trim_end_matches("/delay"));
                self.apps.contains_key(&app).then_some(()).ok_or_else(|| {
                    Answer::message(404, format!("Application {app} not found in tasks queue."))
                })?;
                self.delays.remove(&app);
                Ok(Answer::new(204, Value::Null))
            }
            ("GET", "groups", id) => {
                self.group(&absolute(id)).map(|group| Answer::new(200, group)).ok_or_else(|| {
                    Answer::message(404, format!("Group '{}' does not exist", absolute(id)))
                })
            }
            (_, "groups", _) => Err(Answer::message(
                501,
                "groups can only be read in this Marathon yet; apps may have ids with slashes",
            )),
            (_, "pods", _) => {
                Err(Answer::message(501, "pods are not supported by this Marathon yet"))
            }
            (_, "deployments" | "tasks" | "queue", _) => {
                Err(Answer::message(405, "Method Not Allowed"))
            }
            _ => Err(Answer::message(404, "URI not found")),
        }
    }

    fn known(&self, id: &str) -> Result<&Known, Answer> {
        self.apps.get(id).ok_or_else(|| Answer::message(404, format!("App '{id}' does not exist")))
    }

    fn app(
        &mut self,
        now: Now,
        method: &str,
        path: &str,
        request: &Request,
    ) -> Result<Answer, Answer> {
        let (id, parts) = if self.apps.contains_key(path) { (path, vec![]) } else { parts(path) };
        match (method, parts.as_slice()) {
            ("GET", []) if id.ends_with("/*") => {
                let prefix = id.trim_end_matches('*').to_owned();
                let apps: Vec<Value> = self
                    .apps
                    .values()
                    .filter(|known| known.app.id.starts_with(&prefix))
                    .map(|known| self.info(known, true))
                    .collect();
                Ok(Answer::new(200, json!({"*": apps})))
            }
            ("GET", []) => Ok(Answer::new(200, json!({"app": self.info(self.known(id)?, true)}))),
            ("PUT", []) => self.update(now, id, request),
            ("DELETE", []) => self.delete(now, id, request.flag("force", true)),
            ("POST", ["restart"]) => self.restart(now, id, request.flag("force", false)),
            ("GET", ["tasks"]) => {
                self.known(id)?;
                let tasks: Vec<Value> =
                    self.instances_of(id).map(|instance| self.task(instance)).collect();
                Ok(Answer::new(200, json!({"tasks": tasks})))
            }
            ("DELETE", ["tasks", rest @ ..]) => {
                self.known(id)?;
                let tasks: Vec<String> = self
                    .instances_of(id)
                    .filter(|instance| {
                        rest.first().is_none_or(|task| instance.task_id == *task)
                            && request.parameter("host").is_none_or(|host| instance.host == host)
                    })
                    .map(|instance| instance.task_id.clone())
                    .collect();
                if let (Some(task), true) = (rest.first(), tasks.is_empty()) {
                    return Err(Answer::message(404, format!("Task '{task}' does not exist")));
                }
                let one = !rest.is_empty();
                self.kill_tasks(now, tasks, request.flag("scale", false), one)
            }
            ("GET", ["versions"]) => {
                let known = self.known(id)?;
                let versions: Vec<&String> =
                    known.versions.iter().rev().map(|version| &version.version).collect();
                Ok(Answer::new(200, json!({"versions": versions})))
            }
            ("GET", ["versions", wanted]) => {
                let known = self.known(id)?;
                let version = known.versions.iter().find(|version| version.version == *wanted);
                let version = version.ok_or_else(|| {
                    Answer::message(404, format!("App '{id}' does not exist in version {wanted}"))
                })?;
                Ok(Answer::new(200, json!(version)))
            }
            _ => Err(Answer::message(405, "Method Not Allowed")),
        }
    }

    fn service_ports(&self, app: &mut App) {
        let mut used: Vec<u16> = Vec::new();
        for known in self.apps.values().filter(|known| known.app.id != app.id) {
            used.extend(known.app.port_definitions.iter().map(|definition| definition.port));
            used.extend(known.app.container.iter().flat_map(|container| {
                container.port_mappings.iter().map(|mapping| mapping.service_port)
            }));
        }
        let (min, max) = self.settings.local_ports;
        let mut free = (min..=max).filter(|port| !used.contains(port));
        let is_host = app.is_host_network();
        for definition in app.port_definitions.iter_mut().filter(|definition| definition.port == 0)
        {
            definition.port = free.next().unwrap_or_default();
        }
        for mapping in app
            .container
            .iter_mut()
            .filter(|_| !is_host)
            .flat_map(|container| &mut container.port_mappings)
            .filter(|mapping| mapping.service_port == 0)
        {
            mapping.service_port = free.next().unwrap_or_default();
        }
    }

    fn create(&mut self, now: Now, request: &Request) -> Result<Answer, Answer> {
        let mut app = App::from_canonical(normalise(&request.object()?)?)?;
        if self.apps.contains_key(&app.id) {
            return Err(Answer::message(
                409,
                format!("An app with id [{}] already exists.", app.id),
            ));
        }
        self.service_ports(&mut app);
        let deployment = self.put(now, app.clone(), "StartApplication", None);
        let known = self.known(&app.id)?;
        let mut body = self.info(known, false);
        body["deployments"] = json!([{"id": deployment}]);
        Ok(Answer {
            status: 201,
            body,
            deployment: Some(deployment),
            location: Some(format!("/v2/apps{}", app.id)),
        })
    }

    /// Makes an app what it is to be; the deployment's id.
    fn put(&mut self, now: Now, mut app: App, action: &'static str, before: Option<App>) -> String {
        app.version = self.new_version(now);
        let (id, version) = (app.id.clone(), app.version.clone());
        let used: BTreeSet<String> =
            self.instances_of(&id).map(|instance| instance.version.clone()).collect();
        let known = self.apps.entry(id.clone()).or_default();
        known.versions.push(app.clone());
        // What an instance runs is kept: it tells whether the instance must be replaced.
        let mut surplus = known.versions.len().saturating_sub(VERSIONS_MAX);
        known.versions.retain(|one| {
            let goes = surplus > 0 && !used.contains(&one.version);
            surplus -= usize::from(goes);
            !goes
        });
        known.app = app;
        let is_scaling = action == "ScaleApplication";
        if is_scaling || known.scaled_at.is_empty() {
            known.scaled_at.clone_from(&version);
        }
        if !is_scaling || known.changed_at.is_empty() {
            known.changed_at.clone_from(&version);
        }
        self.store_app(&id);
        self.event(
            now,
            "api_post_event",
            json!({"clientIp": "", "uri": format!("/v2/apps{id}"), "appDefinition": self.apps[&id].app}),
        );
        self.event(now, "group_change_success", json!({"groupId": "/", "version": version}));
        self.deploy(now, &id, action, before, version)
    }

    fn check_lock(&mut self, id: &str, force: bool) -> Result<(), Answer> {
        let locked = self.locked_by(id);
        if locked.is_empty() {
            return Ok(());
        }
        if force {
            while let Some(place) = self.deployment_of(id) {
                self.end_deployment(place);
            }
            return Ok(());
        }
        let deployments: Vec<Value> = locked.iter().map(|id| json!({"id": id})).collect();
        Err(Answer::new(
            409,
            json!({
                "message": "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
                "deployments": deployments,
            }),
        ))
    }

    fn update(&mut self, now: Now, id: &str, request: &Request) -> Result<Answer, Answer> {
        let object = request.object()?;
        self.update_one(now, id, &object, request)
    }

    fn update_one(
        &mut self,
        now: Now,
        id: &str,
        object: &Map<String, Value>,
        request: &Request,
    ) -> Result<Answer, Answer> {
        let Some(known) = self.apps.get(id) else {
            if request.method == "PATCH" {
                return Err(Answer::message(404, format!("App '{id}' does not exist")));
            }
            let mut object = object.clone();
            object.insert("id".to_owned(), json!(id));
            let mut app = App::from_canonical(normalise(&object)?)?;
            self.service_ports(&mut app);
            let deployment = self.put(now, app, "StartApplication", None);
            let version = self.known(id)?.app.version.clone();
            return Ok(Answer {
                status: 201,
                body: json!({"version": version, "deploymentId": deployment}),
                deployment: Some(deployment),
                location: Some(format!("/v2/apps{id}")),
            });
        };
        let before = known.app.clone();
        let only_version = object.len() == 1 && object.contains_key("version");
        let mut app = if only_version {
            let wanted = object["version"].as_str().unwrap_or_default();
            let version = known.versions.iter().find(|version| version.version == wanted);
            version.cloned().ok_or_else(|| {
                Answer::message(404, format!("App '{id}' does not exist in version {wanted}"))
            })?
        } else if request.flag("partialUpdate", true) {
            before.updated(object)?
        } else {
            let mut object = object.clone();
            object.insert("id".to_owned(), json!(id));
            App::from_canonical(normalise(&object)?)?
        };
        self.service_ports(&mut app);
        self.check_lock(id, request.flag("force", false))?;
        let action =
            if app.runs_the_same(&before) { "ScaleApplication" } else { "RestartApplication" };
        let deployment = self.put(now, app, action, Some(before));
        let version = self.known(id)?.app.version.clone();
        Ok(Answer {
            status: 200,
            body: json!({"version": version, "deploymentId": deployment}),
            deployment: Some(deployment),
            location: None,
        })
    }

    fn update_many(&mut self, now: Now, request: &Request) -> Result<Answer, Answer> {
        let Value::Array(updates) = request.json()? else {
            return Err(Answer::new(
                422,
                json!({"message": "Invalid JSON", "details": [{"path": "/", "errors": ["error.expected.jsarray"]}]}),
            ));
        };
        // All are checked before any is done.
        let mut checked = Vec::new();
        for update in &updates {
            let object = update.as_object().ok_or_else(|| Answer::message(422, "Invalid JSON"))?;
            let id = absolute(object.get("id").and_then(Value::as_str).unwrap_or_default());
            match self.apps.get(&id) {
                Some(known) => drop(known.app.updated(object)?),
                None => drop(App::from_canonical(normalise(object)?)?),
            }
            self.check_lock(&id, request.flag("force", false))?;
            checked.push((id, object.clone()));
        }
        let mut last = Answer::new(200, json!({}));
        for (id, object) in checked {
            last = self.update_one(now, &id, &object, request)?;
        }
        Ok(Answer { status: 200, ..last })
    }

    fn delete(&mut self, now: Now, id: &str, force: bool) -> Result<Answer, Answer> {
        let before = self.known(id)?.app.clone();
        self.check_lock(id, force)?;
        self.apps.remove(id);
        self.effects.push(super::Effect::Forget(format!(
            "apps/{}",
            id.trim_start_matches('/').replace('/', "_")
        )));
        let version = self.new_version(now);
        self.event(now, "app_terminated_event", json!({"appId": id}));
        let deployment = self.deploy(now, id, "StopApplication", Some(before), version.clone());
        Ok(Answer {
            status: 200,
            body: json!({"version": version, "deploymentId": deployment}),
            deployment: Some(deployment),
            location: None,
        })
    }

    fn restart(&mut self, now: Now, id: &str, force: bool) -> Result<Answer, Answer> {
        let app = self.known(id)?.app.clone();
        self.check_lock(id, force)?;
        // Otherwise what runs the same would count as current.
        let restarted_at = timestamp(now.wall_ms.max(self.last_version_ms + 1));
        if let Some(known) = self.apps.get_mut(id) {
            known.restarted_at = restarted_at;
        }
        let deployment = self.put(now, app.clone(), "RestartApplication", Some(app));
        let version = self.known(id)?.app.version.clone();
        Ok(Answer {
            status: 200,
            body: json!({"version": version, "deploymentId": deployment}),
            deployment: Some(deployment),
            location: None,
        })
    }

    fn kill_tasks(
        &mut self,
        now: Now,
        tasks: Vec<String>,
        scale: bool,
        one: bool,
    ) -> Result<Answer, Answer> {
        let shown: Vec<Value> = tasks
            .iter()
            .filter_map(|task| self.instances.get(task))
            .map(|instance| self.task(instance))
            .collect();
        let mut deployment = None;
        if scale {
            let mut by_app: std::collections::BTreeMap<String, u32> =
                std::collections::BTreeMap::new();
            for instance in tasks.iter().filter_map(|task| self.instances.get(task)) {
                *by_app.entry(instance.app_id.clone()).or_default() += 1;
            }
            for (id, count) in by_app {
                if let Ok(known) = self.known(&id) {
                    let before = known.app.clone();
                    let app =
                        App { instances: before.instances.saturating_sub(count), ..before.clone() };
                    deployment = Some(self.put(now, app, "ScaleApplication", Some(before)));
                }
            }
        }
        for task in &tasks {
            self.kill(now, task);
        }
        Ok(match deployment {
            Some(id) => Answer {
                status: 200,
                body: json!({"version": timestamp(self.last_version_ms), "deploymentId": id}),
                deployment: Some(id),
                location: None,
            },
            None if one => Answer::new(200, json!({"task": shown.first()})),
            None => Answer::new(200, json!({"tasks": shown})),
        })
    }

    fn delete_tasks(&mut self, now: Now, request: &Request) -> Result<Answer, Answer> {
        let object = request.object()?;
        let ids: Vec<String> = object
            .get("ids")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect();
        let known: Vec<String> =
            ids.into_iter().filter(|id| self.instances.contains_key(id)).collect();
        self.kill_tasks(now, known, request.flag("scale", false), false)
    }

    fn cancel(&mut self, now: Now, id: &str, force: bool) -> Result<Answer, Answer> {
        let place = self.deployments.iter().position(|deployment| deployment.id == id);
        let place = place
            .ok_or_else(|| Answer::message(404, format!("DeploymentPlan {id} does not exist")))?;
        let deployment = self.end_deployment(place);
        if force {
            return Ok(Answer::new(202, Value::Null));
        }
        let undo = match (deployment.before, self.apps.contains_key(&deployment.app)) {
            (Some(before), _) => self.put(now, before, "RestartApplication", None),
            (None, true) => return self.delete(now, &deployment.app, true),
            (None, false) => return Ok(Answer::new(202, Value::Null)),
        };
        Ok(Answer {
            status: 200,
            body: json!({"version": timestamp(self.last_version_ms), "deploymentId": undo}),
            deployment: Some(undo),
            location: None,
        })
    }

    /// The framework's id, once Mesos gave one.
    pub fn framework_id(&self) -> Option<&str> {
        self.framework_id.as_deref()
    }
}

/// An app's id, and what of it is asked for: `/a/b/tasks/x` is `x` of the `tasks` of `/a/b`.
fn parts(path: &str) -> (&str, Vec<&str>) {
    let kept = |tail: &str| match tail.trim_start_matches('/').split_once('/') {
        Some(("tasks" | "versions", one)) => !one.is_empty() && !one.contains('/'),
        Some(_) => false,
        None => matches!(tail, "/tasks" | "/versions" | "/restart"),
    };
    let places: Vec<usize> = path.match_indices('/').map(|(place, _)| place).collect();
    let place = places.into_iter().filter(|place| *place > 0).find(|place| kept(&path[*place..]));
    let (id, tail) = path.split_at(place.unwrap_or(path.len()));
    (id, tail.split('/').filter(|part| !part.is_empty()).collect())
}
