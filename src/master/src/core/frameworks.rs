//! Frameworks: subscribing, failing over, losing the connection, being removed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mesos::internal;
use mesos::libprocess::Upid;
use mesos::v1;
use mesos::v1::scheduler::{Event, OfferConstraints, call, event};

use super::allocator::Allocator;
use super::copies::Copies;
use super::model::{Connection, End, Ended, Framework, Now, StreamId, is_terminal};
use super::updates::Cause;
use super::{Effect, HEARTBEAT_SECONDS, Master};

/// What a scheduler hears that another took over from.
pub(super) const FAILED_OVER: &str = "Framework failed over";
/// What a framework wants of offers.
pub(super) struct Wishes {
    /// Roles for which it wants none.
    pub(super) suppressed: BTreeSet<String>,
    /// Agents of which it wants them.
    pub(super) constraints: OfferConstraints,
}

impl Master {
    /// Opens an HTTP framework's stream. Refusals of the framework itself are an ERROR event, after which the stream ends.
    pub fn subscribe(&mut self, now: Now, stream: StreamId, subscribe: call::Subscribe) {
        self.count_subscription(&subscribe.framework_info);
        let suppressed: BTreeSet<String> = subscribe.suppressed_roles.into_iter().collect();
        let constraints = subscribe.offer_constraints.unwrap_or_default();
        let mut info = subscribe.framework_info;
        let checked = self
            .check_framework(&info, &suppressed)
            .and_then(|()| Allocator::check_constraints(&constraints))
            .and_then(|()| self.authorize_framework(&info))
            .and_then(|()| self.keep_what_is_fixed(&mut info));
        if let Err(message) = checked {
            tracing::info!(message, "framework refused");
            self.effects.push(Effect::Event(stream, Box::new(error_event(message))));
            self.effects.push(Effect::Close(stream));
            return;
        }
        let wishes = Wishes { suppressed, constraints };
        let id = self.connect(now, Connection::Http(stream), info, wishes);
        let subscribed = event::Subscribed {
            framework_id: v1::FrameworkId { value: id.clone() },
            heartbeat_interval_seconds: Some(HEARTBEAT_SECONDS),
            master_info: Some(self.info.clone()),
        };
        self.event(
            &id,
            Event {
                r#type: Some(event::Type::Subscribed as i32),
                subscribed: Some(subscribed),
                ..Default::default()
            },
        );
        self.heartbeat(now, &id);
        self.tell_agents_of_framework(&id);
    }

    pub(super) fn count_subscription(&mut self, info: &v1::FrameworkInfo) {
        self.count(match &info.id {
            Some(id) if !id.value.is_empty() => "master/messages_reregister_framework",
            _ => "master/messages_register_framework",
        });
    }

    /// Puts a framework that was checked behind a connection, and tells the one it replaces; its id.
    pub(super) fn connect(
        &mut self,
        now: Now,
        connection: Connection,
        mut info: v1::FrameworkInfo,
        wishes: Wishes,
    ) -> String {
        let Wishes { suppressed, constraints } = wishes;
        let given = info.id.as_ref().map(|id| id.value.clone()).filter(|id| !id.is_empty());
        let id = given.unwrap_or_else(|| {
            let id = mesos::ids::framework(&self.info.id, self.next_framework);
            self.next_framework += 1;
            id
        });
        info.id = Some(v1::FrameworkId { value: id.clone() });
        let allocated = info.clone();
        let pid = if let Connection::Pid(pid) = &connection { Some(pid.clone()) } else { None };
        let is_new = !self.frameworks.contains_key(&id);
        if !is_new {
            self.rescind_offers_of_framework(&id, false);
            self.replace_connection(&id, &connection);
        }
        if let Some(known) = self.frameworks.get_mut(&id) {
            if known.connection == Connection::Recovered {
                // Until now it was known by its tasks alone.
                known.registered = now.wall;
            }
            known.connection = connection;
            known.pid = pid;
            known.active = true;
            known.info = info;
            known.constraints = constraints.clone();
            known.reregistered = now.wall;
            known.heartbeat_due = now.mono;
            tracing::info!(framework = id, "framework subscribed again");
        } else {
            tracing::info!(framework = id, name = info.name, "framework subscribed");
            self.frameworks.insert(
                id.clone(),
                Framework {
                    id: id.clone(),
                    info,
                    constraints: constraints.clone(),
                    connection,
                    pid,
                    active: true,
                    registered: now.wall,
                    reregistered: now.wall,
                    unregistered: 0.0,
                    tasks: Copies::new(),
                    completed: VecDeque::new(),
                    unreachable: Copies::new(),
                    operations: BTreeMap::new(),
                    counters: BTreeMap::new(),
                    messages: 0,
                    executors: BTreeMap::new(),
                    offers: Copies::new(),
                    heartbeat_due: now.mono,
                },
            );
        }
        self.adopt_operations(&id);
        self.count_of(&id, "calls", "subscribe", 1);
        // They were checked before.
        drop(self.allocator.set_framework(&id, &allocated, suppressed, Some(&constraints)));
        self.allocation_wanted = true;
        self.notify_framework(&id, is_new);
        id
    }

    /// The scheduler that a new one takes over from hears of it.
    fn replace_connection(&mut self, id: &str, new: &Connection) {
        let Some(known) = self.frameworks.get(id) else { return };
        if known.connection == *new {
            return;
        }
        match known.connection.clone() {
            Connection::Http(old) => {
                self.effects
                    .push(Effect::Event(old, Box::new(error_event(FAILED_OVER.to_owned()))));
                self.effects.push(Effect::Close(old));
            }
            Connection::Pid(old) => self
                .send(&old, &internal::FrameworkErrorMessage { message: FAILED_OVER.to_owned() }),
            Connection::Lost(_) | Connection::Recovered => {}
        }
    }

    /// Agents that run a framework's tasks learn what changed of it.
    pub(super) fn tell_agents_of_framework(&mut self, id: &str) {
        let Some(known) = self.frameworks.get(id) else { return };
        let agents: BTreeSet<String> = known
            .tasks
            .values()
            .map(|task| task.agent_id.value.clone())
            .chain(known.executors.keys().map(|(agent, _)| agent.clone()))
            .collect();
        for agent in agents {
            if let Some(pid) = self.agents.get(&agent).map(|agent| agent.pid.clone()) {
                self.tell_agent_of_framework(&pid, id);
            }
        }
    }

    pub(super) fn heartbeat(&mut self, now: Now, id: &str) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.heartbeat_due = now.mono + Duration::from_secs_f64(HEARTBEAT_SECONDS);
        }
        self.event(id, Event { r#type: Some(event::Type::Heartbeat as i32), ..Default::default() });
    }

    /// A stream of events has ended on the framework's side.
    pub fn stream_closed(&mut self, now: Now, stream: StreamId) {
        let found = self
            .frameworks
            .values()
            .find(|framework| framework.stream() == Some(stream))
            .map(|framework| framework.id.clone());
        if let Some(id) = found {
            self.disconnect_framework(now, &id);
        }
    }

    /// A framework lost its connection: it is offered nothing until it is back.
    pub(super) fn disconnect_framework(&mut self, now: Now, id: &str) {
        tracing::info!(framework = id, "framework disconnected");
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.connection = Connection::Lost(now.mono);
        }
        self.deactivate_framework(id);
    }

    /// A framework wants nothing more for now.
    pub(super) fn deactivate_framework(&mut self, id: &str) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.active = false;
        }
        self.allocator.deactivate_framework(id);
        self.forget_inverse_offers_of_framework(id);
        self.rescind_offers_of_framework(id, false);
        self.notify_framework(id, false);
    }

    /// A framework is removed for good: its tasks are killed, its id can't be used again.
    pub fn remove_framework(&mut self, now: Now, id: &str) {
        tracing::info!(framework = id, "framework removed");
        self.rescind_offers_of_framework(id, false);
        self.forget_inverse_offers_of_framework(id);
        let Some(mut framework) = self.frameworks.shift_remove(id) else { return };
        // To all: what one that was cut off runs is known when it is back only.
        let pids: Vec<Upid> = self.agents.values().map(|agent| agent.pid.clone()).collect();
        let framework_id = v1::FrameworkId { value: id.to_owned() };
        let shutdown = internal::ShutdownFrameworkMessage { framework_id };
        for pid in pids {
            self.send(&pid, &shutdown);
        }
        for task in std::mem::take(&mut framework.tasks).into_values() {
            self.unindex_task(id, &task);
            if !is_terminal(task.state()) {
                self.allocator.recover_used(id, &task.agent_id.value, &task.resources);
            }
            let task = self.killed_with_framework(now, id, task);
            framework.completed.push_back(Arc::new(Ended { task, end: End::Settled }));
        }
        for task in std::mem::take(&mut framework.unreachable).into_values() {
            let task = self.killed_with_framework(now, id, task);
            framework.completed.push_back(Arc::new(Ended { task, end: End::Settled }));
        }
        while framework.completed.len() > self.settings.max_completed_tasks {
            framework.completed.pop_front();
        }
        for ((agent, _), executor) in std::mem::take(&mut framework.executors) {
            self.allocator.recover_used(id, &agent, &executor.resources);
        }
        if let Some(stream) = framework.stream() {
            self.effects.push(Effect::Close(stream));
        }
        framework.connection = Connection::Lost(now.mono);
        framework.active = false;
        framework.unregistered = now.wall;
        self.allocator.remove_framework(id);
        self.notify_framework_removed(&framework.info);
        self.completed_frameworks.insert(id, framework);
        while self.completed_frameworks.len() > self.settings.max_completed_frameworks {
            self.completed_frameworks.remove_first();
        }
        self.allocation_wanted = true;
    }

    /// A task of a framework that is removed: for the master it is over.
    fn killed_with_framework(&mut self, now: Now, id: &str, mut task: v1::Task) -> v1::Task {
        if is_terminal(task.state()) {
            return task;
        }
        let cause = Cause {
            state: v1::TaskState::TaskKilled,
            reason: v1::task_status::Reason::FrameworkRemoved,
            message: &format!("Framework {id} removed"),
        };
        let agent = task.agent_id.value.clone();
        let status = self.own_status(now, id, &task.task_id.value, Some(&agent), cause);
        task.set_state(v1::TaskState::TaskKilled);
        self.count("master/tasks_killed");
        self.notify_task_updated(id, &status, v1::TaskState::TaskKilled);
        task.statuses.push(status);
        task
    }
}

pub(super) fn error_event(message: String) -> Event {
    Event {
        r#type: Some(event::Type::Error as i32),
        error: Some(event::Error { message }),
        ..Default::default()
    }
}
