//! Events of Mesos: subscription, offers, updates of tasks, reconciliation.

use mesos::v1::scheduler::{Event, call, event};
use mesos::v1::{self, TaskState};
use serde_json::json;

use super::{Effect, Failure, Marathon, Now, is_over, timestamp};

impl Marathon {
    /// The stream of events broke.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.wants_offers = false;
        self.revived = None;
    }

    /// An event of Mesos.
    pub fn mesos(&mut self, now: Now, event: Event) {
        match event.r#type() {
            event::Type::Subscribed => {
                let Some(subscribed) = event.subscribed else { return };
                let id = subscribed.framework_id.value;
                if self.framework_id.as_ref() != Some(&id) {
                    self.effects
                        .push(Effect::Store("framework-id".to_owned(), id.clone().into_bytes()));
                    self.framework_id = Some(id);
                }
                self.mesos_leader = subscribed.master_info;
                self.connected = true;
                self.reconcile_due = Some(now.mono + self.settings.reconciliation_initial_delay);
            }
            event::Type::Offers => self.offers(now, event.offers.unwrap_or_default().offers),
            event::Type::Update => {
                if let Some(update) = event.update {
                    self.status_update(now, update.status);
                }
            }
            event::Type::Error => {
                let message = event.error.unwrap_or_default().message;
                if message.contains("Framework has been removed") {
                    self.effects.push(Effect::Abort(110, format!("{message}: its id is forgotten now; start Marathon again to register anew")));
                    self.effects.insert(0, Effect::Forget("framework-id".to_owned()));
                } else {
                    self.effects.push(Effect::Abort(
                        103,
                        format!("Mesos refuses this framework: {message}"),
                    ));
                }
            }
            _ => {}
        }
    }

    pub(super) fn reconcile_when_due(&mut self, now: Now) {
        if !self.connected || self.reconcile_due.is_none_or(|due| now.mono < due) {
            return;
        }
        self.reconcile_due = Some(now.mono + self.settings.reconciliation_interval);
        let tasks: Vec<call::reconcile::Task> = self
            .instances
            .values()
            .map(|instance| call::reconcile::Task {
                task_id: v1::TaskId { value: instance.task_id.clone() },
                agent_id: Some(v1::AgentId { value: instance.agent_id.clone() }),
            })
            .collect();
        if !tasks.is_empty() {
            self.call(call::Type::Reconcile, |call| {
                call.reconcile = Some(call::Reconcile { tasks })
            });
        }
        self.call(call::Type::Reconcile, |call| call.reconcile = Some(call::Reconcile::default()));
    }

    fn acknowledge(&mut self, status: &v1::TaskStatus) {
        if let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) {
            let task_id = status.task_id.clone();
            self.call(call::Type::Acknowledge, |call| {
                call.acknowledge = Some(call::Acknowledge { agent_id, task_id, uuid })
            });
        }
    }

    fn status_update(&mut self, now: Now, status: v1::TaskStatus) {
        let task_id = status.task_id.value.clone();
        let state = status.state();
        let Some(instance) = self.instances.get_mut(&task_id) else {
            if !is_over(state) {
                let agent_id = status.agent_id.clone();
                let task = status.task_id.clone();
                tracing::info!(task = task_id, "killing a task that no app knows");
                self.call(call::Type::Kill, |call| {
                    call.kill = Some(call::Kill { task_id: task, agent_id, kill_policy: None })
                });
            }
            self.acknowledge(&status);
            return;
        };
        let may_return = state == TaskState::TaskUnreachable;
        instance.unreachable_ms =
            may_return.then(|| instance.unreachable_ms.unwrap_or(now.wall_ms));
        let app = instance.app_id.clone();
        let was_killed = instance.killed_at.is_some();
        let previous = std::mem::replace(&mut instance.state, state.as_str_name().to_owned());
        if status.healthy.is_some() {
            instance.healthy = status.healthy;
        }
        let networks =
            status.container_status.iter().flat_map(|container| &container.network_infos);
        let addresses: Vec<String> = networks
            .flat_map(|network| &network.ip_addresses)
            .filter_map(|address| address.ip_address.clone())
            .collect();
        if !addresses.is_empty() {
            instance.addresses = addresses;
        }
        if state == TaskState::TaskRunning && instance.started_ms.is_none() {
            instance.started_ms = Some(now.wall_ms);
        }
        let told = json!({
            "taskId": task_id,
            "taskStatus": state.as_str_name(),
            "message": status.message(),
            "appId": app,
            "slaveId": instance.agent_id,
            "host": instance.host,
            "ipAddresses": instance.addresses.iter().map(|address| json!({"ipAddress": address, "protocol": "IPv4"})).collect::<Vec<_>>(),
            "ports": instance.ports,
            "version": instance.version,
        });
        let changed = json!({
            "instanceId": task_id.split("._app").next(),
            "condition": condition(state),
            "runSpecId": app,
            "agentId": instance.agent_id,
            "host": instance.host,
            "runSpecVersion": instance.version,
        });
        if is_over(state) {
            let failure = json!({
                "appId": app,
                "host": instance.host,
                "message": status.message(),
                "state": state.as_str_name(),
                "taskId": task_id,
                "timestamp": timestamp(now.wall_ms),
                "version": instance.version,
                "slaveId": instance.agent_id,
            });
            self.instances.remove(&task_id);
            self.effects.push(Effect::Forget(format!("instances/{task_id}")));
            if !was_killed && state != TaskState::TaskKilled {
                self.back_off(now, &app);
            }
            if state != TaskState::TaskKilled
                && state != TaskState::TaskFinished
                && let Some(known) = self.apps.get_mut(&app)
            {
                known.last_failure = Some(Failure(failure));
                self.store_app(&app);
            }
        } else {
            self.store_instance(&task_id);
        }
        if previous != state.as_str_name() || is_over(state) {
            self.event(now, "instance_changed_event", changed);
            self.event(now, "status_update_event", told);
        }
        // Only now that it is stored.
        self.acknowledge(&status);
    }
}

/// A task's state as Marathon names it: `TASK_RUNNING` is `Running`.
fn condition(state: TaskState) -> String {
    let name = state.as_str_name().trim_start_matches("TASK_");
    let mut letters = name.chars();
    let first = letters.next().into_iter();
    first.chain(letters.map(|letter| letter.to_ascii_lowercase())).collect()
}
