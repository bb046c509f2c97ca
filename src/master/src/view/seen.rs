//! What of the state a caller may see (`ObjectApprovers` in `common/http.hpp`). What may not be seen is left out without a
//! word; sums are of all there is.

use mesos::v1;

use crate::core::model::Framework;
use crate::core::scene::Scene;

/// Judges what may be seen.
pub trait Seen {
    /// The master's flags.
    fn flags(&self) -> bool;
    /// A role.
    fn role(&self, role: &str) -> bool;
    /// A framework.
    fn framework(&self, framework: &v1::FrameworkInfo) -> bool;
    /// A task of a framework.
    fn task(&self, framework: &v1::FrameworkInfo, task: &v1::Task) -> bool;
    /// An executor of a framework.
    fn executor(&self, framework: &v1::FrameworkInfo, executor: &v1::ExecutorInfo) -> bool;

    /// A resource: all roles that it is reserved for and allocated to.
    fn resource(&self, resource: &v1::Resource) -> bool {
        let old = resource.role.as_deref().filter(|role| *role != "*");
        let reserved = resource.reservations.iter().filter_map(|own| own.role.as_deref());
        let allocated = resource.allocation_info.as_ref().map(v1::resource::AllocationInfo::role);
        old.into_iter().chain(reserved).chain(allocated).all(|role| self.role(role))
    }
}

/// Sees everything.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Seen for Everything {
    fn flags(&self) -> bool {
        true
    }
    fn role(&self, _: &str) -> bool {
        true
    }
    fn framework(&self, _: &v1::FrameworkInfo) -> bool {
        true
    }
    fn task(&self, _: &v1::FrameworkInfo, _: &v1::Task) -> bool {
        true
    }
    fn executor(&self, _: &v1::FrameworkInfo, _: &v1::ExecutorInfo) -> bool {
        true
    }
}

/// A scene, as somebody sees it.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The whole of it.
    pub scene: &'a Scene,
    /// Who says what is seen.
    pub seen: &'a dyn Seen,
}

impl<'a> Sight<'a> {
    /// Frameworks that are here.
    pub fn frameworks(self) -> impl Iterator<Item = &'a Framework> {
        let all = self.scene.frameworks.values();
        all.filter(move |framework| self.seen.framework(&framework.info))
    }

    /// Frameworks that are over.
    pub fn completed_frameworks(self) -> impl Iterator<Item = &'a Framework> {
        let all = self.scene.completed_frameworks.values();
        all.filter(move |framework| self.seen.framework(&framework.info))
    }

    /// Both.
    pub fn all_frameworks(self) -> impl Iterator<Item = &'a Framework> {
        self.frameworks().chain(self.completed_frameworks())
    }

    /// Those of a framework's tasks that are seen.
    pub fn of_tasks(
        self,
        framework: &'a Framework,
        tasks: impl Iterator<Item = &'a v1::Task>,
    ) -> impl Iterator<Item = &'a v1::Task> {
        tasks.filter(move |task| self.seen.task(&framework.info, task))
    }
}
