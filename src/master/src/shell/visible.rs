//! What a caller may see of the state: frameworks, tasks and executors by their users, roles, flags
//! (`common/authorization`'s approvers). What may not be seen is left out without a word.

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use mesos::v1;
use mesos::v1::master::{Event, Response};
use serde_json::Value;

use crate::core::Master;
use crate::view::seen::Seen;

/// What is to be asked about when something is shown.
const ACTIONS: &[Action] = &[
    Action::ViewFrameworks,
    Action::ViewTasks,
    Action::ViewExecutors,
    Action::ViewRoles,
    Action::ViewFlags,
    Action::GetQuotas,
];

/// What a caller may see.
pub(super) struct Visible(pub(super) Caller);

/// Whether a caller may see all there is.
pub(super) fn sees_all(caller: &Caller) -> bool {
    ACTIONS.iter().all(|action| caller.acls.is_open(*action))
}

impl Seen for Visible {
    fn flags(&self) -> bool {
        self.0.sees_flags()
    }

    fn role(&self, role: &str) -> bool {
        self.0.sees_role(role)
    }

    fn framework(&self, framework: &v1::FrameworkInfo) -> bool {
        self.0.sees_framework(framework)
    }

    fn task(&self, framework: &v1::FrameworkInfo, task: &v1::Task) -> bool {
        self.0.sees_task(framework, task)
    }

    fn executor(&self, framework: &v1::FrameworkInfo, executor: &v1::ExecutorInfo) -> bool {
        self.0.sees_executor(framework, executor)
    }
}

impl Visible {
    fn named(&self, action: Action, name: &str) -> bool {
        self.0.may(action, Object::Named(name))
    }

    /// Leaves out of an answer of the operator API what may not be seen of roles.
    pub(super) fn prune(&self, answer: &mut Response) {
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
    pub(super) fn event(&self, event: &Event, master: &Master) -> Option<Event> {
        let of_task = |framework: &v1::FrameworkId, task: &v1::TaskId, shown: Option<&v1::Task>| {
            master.frameworks.get(&framework.value).is_some_and(|known| {
                let task = shown.or_else(|| known.tasks.get(&task.value));
                self.framework(&known.info)
                    && task.map_or_else(
                        || self.named(Action::ViewTasks, &known.info.user),
                        |task| self.task(&known.info, task),
                    )
            })
        };
        let is_seen = if let Some(own) = &event.task_added {
            of_task(&own.task.framework_id, &own.task.task_id, Some(&own.task))
        } else if let Some(own) = &event.task_updated {
            of_task(&own.framework_id, &own.status.task_id, None)
        } else if let Some(own) = &event.framework_added {
            self.framework(&own.framework.framework_info)
        } else if let Some(own) = &event.framework_updated {
            self.framework(&own.framework.framework_info)
        } else if let Some(own) = &event.framework_removed {
            self.framework(&own.framework_info)
        } else {
            true
        };
        let mut event = is_seen.then(|| event.clone())?;
        if let Some(added) = &mut event.agent_added {
            added.agent.total_resources.retain(|resource| self.resource(resource));
        }
        Some(event)
    }

    /// Leaves out of what an older endpoint shows what may not be seen of roles.
    pub(super) fn prune_json(&self, shown: &mut Value) {
        let role = |own: &Value| own["role"].as_str().is_none_or(|role| self.role(role));
        match shown {
            Value::Array(weights) => weights.retain(role),
            Value::Object(members) => {
                if let Some(Value::Array(list)) = members.get_mut("infos") {
                    list.retain(|own| {
                        own["role"].as_str().is_none_or(|role| self.named(Action::GetQuotas, role))
                    });
                }
            }
            _ => {}
        }
    }
}
