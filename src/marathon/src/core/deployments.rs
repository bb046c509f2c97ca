//! Deployments: changes of apps that are under way, told of by events, locking their app until what runs is what should.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Effect, Instance, Marathon, Now};
use crate::app::App;

/// A change under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Deployment {
    /// Its id.
    pub id: String,
    /// When it began, as a version.
    pub version: String,
    /// Of which app.
    pub app: String,
    /// `StartApplication`, `ScaleApplication`, `RestartApplication`, `StopApplication`.
    pub action: String,
    /// What was before, for taking it back.
    pub(super) before: Option<App>,
}

impl Deployment {
    fn step(&self) -> Value {
        json!({"actions": [{"action": self.action, "app": self.app}]})
    }
}

impl Marathon {
    pub(super) fn deploy(
        &mut self,
        now: Now,
        app: &str,
        action: &'static str,
        before: Option<App>,
        version: String,
    ) -> String {
        let id = Uuid::new_v4().to_string();
        let deployment = Deployment {
            id: id.clone(),
            version,
            app: app.to_owned(),
            action: action.to_owned(),
            before,
        };
        self.delays.remove(app);
        let (plan, step) = (self.plan(&deployment), deployment.step());
        if let Ok(bytes) = serde_json::to_vec(&deployment) {
            self.effects.push(Effect::Store(format!("deployments/{id}"), bytes));
        }
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

    pub(super) fn finish_deployments(&mut self, now: Now) {
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
            let deployment = self.end_deployment(index);
            let (plan, step) = (self.plan(&deployment), deployment.step());
            self.event(now, "deployment_step_success", json!({"plan": plan, "currentStep": step}));
            self.event(now, "deployment_success", json!({"id": deployment.id, "plan": plan}));
        }
    }

    /// Ends the deployment at this place: its app is free.
    pub(super) fn end_deployment(&mut self, index: usize) -> Deployment {
        let deployment = self.deployments.remove(index);
        self.effects.push(Effect::Forget(format!("deployments/{}", deployment.id)));
        deployment
    }

    /// The place of a deployment of this app.
    pub(super) fn deployment_of(&self, app: &str) -> Option<usize> {
        self.deployments.iter().position(|deployment| deployment.app == app)
    }

    pub(super) fn locked_by(&self, app: &str) -> BTreeSet<String> {
        self.deployments
            .iter()
            .filter(|deployment| deployment.app == app)
            .map(|deployment| deployment.id.clone())
            .collect()
    }
}
