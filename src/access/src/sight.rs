//! What a caller may see: frameworks, tasks, executors and containers by their users, what is of a role by it
//! (`common/authorization`'s approvers, `authorizer/local/authorizer.cpp`). What may not be seen is left out without a word.

use mesos::v1;

use crate::Action;
use crate::acls::Object;
use crate::guard::Caller;

impl Caller {
    fn sees(&self, action: Action, name: &str) -> bool {
        self.may(action, Object::Named(name))
    }

    /// A daemon's flags.
    pub fn sees_flags(&self) -> bool {
        self.may_any(Action::ViewFlags)
    }

    /// A role.
    pub fn sees_role(&self, role: &str) -> bool {
        self.sees(Action::ViewRoles, role)
    }

    /// A resource: all roles that it is reserved for and allocated to.
    pub fn sees_resource(&self, resource: &v1::Resource) -> bool {
        let old = resource.role.as_deref().filter(|role| *role != "*");
        let reserved = resource.reservations.iter().filter_map(|own| own.role.as_deref());
        let allocated = resource.allocation_info.as_ref().map(v1::resource::AllocationInfo::role);
        old.into_iter().chain(reserved).chain(allocated).all(|role| self.sees_role(role))
    }

    /// A framework.
    pub fn sees_framework(&self, framework: &v1::FrameworkInfo) -> bool {
        self.sees(Action::ViewFrameworks, &framework.user)
    }

    /// A task of a framework.
    pub fn sees_task(&self, framework: &v1::FrameworkInfo, task: &v1::Task) -> bool {
        self.sees(Action::ViewTasks, task.user.as_deref().unwrap_or(&framework.user))
    }

    /// A task that has not been handed to its executor.
    pub fn sees_queued(&self, framework: &v1::FrameworkInfo, task: &v1::TaskInfo) -> bool {
        let own = task.command.as_ref();
        let executors = task.executor.as_ref().and_then(|executor| executor.command.as_ref());
        let mut users = own.into_iter().chain(executors).filter_map(|own| own.user.as_deref());
        self.sees(Action::ViewTasks, users.next().unwrap_or(&framework.user))
    }

    /// An executor of a framework.
    pub fn sees_executor(
        &self,
        framework: &v1::FrameworkInfo,
        executor: &v1::ExecutorInfo,
    ) -> bool {
        self.sees(Action::ViewExecutors, user_of(framework, executor))
    }

    /// The container of an executor.
    pub fn sees_container(
        &self,
        framework: &v1::FrameworkInfo,
        executor: &v1::ExecutorInfo,
    ) -> bool {
        self.sees(Action::ViewContainers, user_of(framework, executor))
    }
}

fn user_of<'a>(framework: &'a v1::FrameworkInfo, executor: &'a v1::ExecutorInfo) -> &'a str {
    let own = executor.command.as_ref().and_then(|command| command.user.as_deref());
    own.unwrap_or(&framework.user)
}
