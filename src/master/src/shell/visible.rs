//! What a caller may see of the state: frameworks, tasks and executors by their users, roles, flags
//! (`common/authorization`'s approvers). What may not be seen is left out without a word.

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use mesos::v1;
use mesos::v1::maintenance::{ClusterStatus, Schedule};
use mesos::v1::master::{Event, response};
use mesos::v1::quota::QuotaStatus;

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
#[derive(Clone)]
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

    /// Those of these weights whose roles may be seen.
    pub(super) fn weights(&self, mut all: response::GetWeights) -> response::GetWeights {
        all.weight_infos.retain(|weight| self.role(weight.role()));
        all
    }

    /// The quotas of roles whose quota may be seen.
    pub(super) fn quotas(&self, mut all: QuotaStatus) -> QuotaStatus {
        all.infos.retain(|own| self.named(Action::GetQuotas, own.role()));
        all.configs.retain(|own| self.named(Action::GetQuotas, &own.role));
        all
    }

    /// The schedule of maintenance, to who may see it. About machines, ACLs say ANY or NONE.
    pub(super) fn schedule(&self, all: Schedule) -> Schedule {
        if self.0.may_any(Action::GetMaintenanceSchedules) { all } else { Schedule::default() }
    }

    /// How machines are maintained, to who may see it.
    pub(super) fn machines(&self, all: ClusterStatus) -> ClusterStatus {
        if self.0.may_any(Action::GetMaintenanceStatuses) { all } else { ClusterStatus::default() }
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
}
