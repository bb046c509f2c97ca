//! What a caller may see of the state: frameworks, tasks and executors by their users, roles, flags
//! (`common/authorization`'s approvers). What may not be seen is left out without a word.

use std::collections::HashMap;

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use mesos::v1;
use mesos::v1::master::{Event, Response, response};
use serde_json::Value;

use super::actor::Handle;
use crate::core::Master;

/// What is to be asked about when something is shown.
const ACTIONS: &[Action] = &[
    Action::ViewFrameworks,
    Action::ViewTasks,
    Action::ViewExecutors,
    Action::ViewRoles,
    Action::ViewFlags,
    Action::GetQuotas,
];

/// A caller who may not see everything, and the users of the frameworks there are.
pub(super) struct Visible {
    caller: Caller,
    users: HashMap<String, String>,
}

/// Users of frameworks, by framework.
pub(super) fn users(master: &Master) -> HashMap<String, String> {
    let all = master.frameworks.values().chain(master.completed_frameworks.values());
    all.map(|framework| (framework.id.clone(), framework.info.user.clone())).collect()
}

/// Whether a caller may see all there is.
pub(super) fn sees_all(caller: &Caller) -> bool {
    ACTIONS.iter().all(|action| caller.acls.is_open(*action))
}

impl Visible {
    /// `None` where all may be seen. What comes into being after this is not seen.
    pub(super) async fn of(caller: &Caller, handle: &Handle) -> Option<Self> {
        if sees_all(caller) {
            return None;
        }
        let users = handle.look(|master, _| users(master)).await.unwrap_or_default();
        Some(Self { caller: caller.clone(), users })
    }

    /// The same, for who has the state at hand.
    pub(super) fn now(caller: &Caller, master: &Master) -> Self {
        Self { caller: caller.clone(), users: users(master) }
    }

    fn named(&self, action: Action, name: &str) -> bool {
        self.caller.may(action, Object::Named(name))
    }

    /// Whether what a framework's user, or another user, runs may be seen.
    fn of_user(&self, action: Action, own: Option<&str>, framework: &str) -> bool {
        own.or_else(|| self.users.get(framework).map(String::as_str))
            .is_some_and(|user| self.named(action, user))
    }

    fn role(&self, name: &str) -> bool {
        self.named(Action::ViewRoles, name)
    }

    fn task(&self, task: &v1::Task) -> bool {
        self.of_user(Action::ViewTasks, task.user.as_deref(), &task.framework_id.value)
    }

    fn frameworks(&self, shown: &mut response::GetFrameworks) {
        for list in [&mut shown.frameworks, &mut shown.completed_frameworks] {
            list.retain(|own| self.named(Action::ViewFrameworks, &own.framework_info.user));
        }
        shown.recovered_frameworks.retain(|info| self.named(Action::ViewFrameworks, &info.user));
    }

    fn tasks(&self, shown: &mut response::GetTasks) {
        for list in [
            &mut shown.pending_tasks,
            &mut shown.tasks,
            &mut shown.unreachable_tasks,
            &mut shown.completed_tasks,
            &mut shown.orphan_tasks,
        ] {
            list.retain(|task| self.task(task));
        }
    }

    fn executors(&self, shown: &mut response::GetExecutors) {
        for list in [&mut shown.executors, &mut shown.orphan_executors] {
            list.retain(|own| {
                let info = &own.executor_info;
                let user = info.command.as_ref().and_then(|command| command.user.as_deref());
                let framework = info.framework_id.as_ref().map(|id| id.value.as_str());
                self.of_user(Action::ViewExecutors, user, framework.unwrap_or_default())
            });
        }
    }

    fn state(&self, shown: &mut response::GetState) {
        shown.get_frameworks.iter_mut().for_each(|own| self.frameworks(own));
        shown.get_tasks.iter_mut().for_each(|own| self.tasks(own));
        shown.get_executors.iter_mut().for_each(|own| self.executors(own));
    }

    /// Leaves out of an answer of the operator API what may not be seen.
    pub(super) fn prune(&self, answer: &mut Response) {
        answer.get_state.iter_mut().for_each(|own| self.state(own));
        answer.get_frameworks.iter_mut().for_each(|own| self.frameworks(own));
        answer.get_tasks.iter_mut().for_each(|own| self.tasks(own));
        answer.get_executors.iter_mut().for_each(|own| self.executors(own));
        if let Some(shown) = &mut answer.get_roles {
            shown.roles.retain(|role| self.role(&role.name));
        }
        if let Some(shown) = &mut answer.get_weights {
            shown.weight_infos.retain(|weight| self.role(weight.role()));
        }
        if let Some(shown) = &mut answer.get_quota {
            let status = &mut shown.status;
            status.infos.retain(|own| self.named(Action::GetQuotas, own.role()));
            status.configs.retain(|own| self.named(Action::GetQuotas, &own.role));
        }
    }

    /// An event of the operator API as the caller may see it; `None` if not at all.
    pub(super) fn event(&self, event: &Event) -> Option<Event> {
        let mut event = event.clone();
        if let Some(state) =
            event.subscribed.as_mut().and_then(|subscribed| subscribed.get_state.as_mut())
        {
            self.state(state);
        }
        let info = |info: &v1::FrameworkInfo| self.named(Action::ViewFrameworks, &info.user);
        let seen = event.task_added.as_ref().is_none_or(|own| self.task(&own.task))
            && event
                .task_updated
                .as_ref()
                .is_none_or(|own| self.of_user(Action::ViewTasks, None, &own.framework_id.value))
            && event.framework_added.as_ref().is_none_or(|own| info(&own.framework.framework_info))
            && event
                .framework_updated
                .as_ref()
                .is_none_or(|own| info(&own.framework.framework_info))
            && event.framework_removed.as_ref().is_none_or(|own| info(&own.framework_info));
        seen.then_some(event)
    }

    /// Leaves out of what an older endpoint shows what may not be seen.
    pub(super) fn prune_json(&self, shown: &mut Value) {
        if let Value::Array(weights) = shown {
            weights.retain(|own| own["role"].as_str().is_none_or(|role| self.role(role)));
            return;
        }
        let Value::Object(members) = shown else { return };
        if !self.caller.may_any(Action::ViewFlags) {
            members.shift_remove("flags");
        }
        for name in ["frameworks", "completed_frameworks"] {
            let Some(Value::Array(list)) = members.get_mut(name) else { continue };
            list.retain_mut(|framework| {
                let id = framework["id"].as_str().unwrap_or_default().to_owned();
                let user = framework["user"].as_str().map(str::to_owned);
                let seen = self.of_user(Action::ViewFrameworks, user.as_deref(), &id);
                if seen {
                    self.prune_framework(framework, &id);
                }
                seen
            });
        }
        if let Some(Value::Array(list)) = members.get_mut("tasks") {
            list.retain(|task| {
                let framework = task["framework_id"].as_str().unwrap_or_default();
                self.of_user(Action::ViewTasks, task["user"].as_str(), framework)
            });
        }
        if let Some(Value::Array(list)) = members.get_mut("roles") {
            list.retain(|own| own["name"].as_str().is_none_or(|role| self.role(role)));
        }
        if let Some(Value::Array(list)) = members.get_mut("infos") {
            list.retain(|own| {
                own["role"].as_str().is_none_or(|role| self.named(Action::GetQuotas, role))
            });
        }
        for agent in members.get_mut("slaves").and_then(Value::as_array_mut).into_iter().flatten() {
            for name in ["reserved_resources", "reserved_resources_full"] {
                if let Some(Value::Object(by_role)) = agent.get_mut(name) {
                    by_role.retain(|role, _| self.role(role));
                }
            }
        }
    }

    fn prune_framework(&self, framework: &mut Value, id: &str) {
        for name in ["tasks", "unreachable_tasks", "completed_tasks"] {
            if let Some(Value::Array(list)) = framework.get_mut(name) {
                list.retain(|task| self.of_user(Action::ViewTasks, task["user"].as_str(), id));
            }
        }
        if let Some(Value::Array(list)) = framework.get_mut("executors") {
            list.retain(|own| {
                self.of_user(Action::ViewExecutors, own["command"]["user"].as_str(), id)
            });
        }
    }
}
