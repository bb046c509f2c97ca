//! Why a container could not begin, or had to end (`ContainerTermination`, `ContainerLimitation`).

use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::task_status::Reason;

use super::cgroups::memory::Exceeded;

/// What went wrong with a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// What it was.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    /// What it had too much of, if it was that.
    pub limited: Resources,
}

impl Problem {
    /// One that has nothing to do with what the container had.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), limited: Resources::default() }
    }

    /// Of a container that had too much of something: as much as it had, or what it had that it may not have.
    pub fn limitation(reason: Reason, message: impl Into<String>, limited: Resources) -> Self {
        Self { reason, message: message.into(), limited }
    }

    /// What updates say of resources of which there was too much.
    pub fn limited_resources(&self) -> Option<v1::TaskResourceLimitation> {
        let resources = self.limited.to_protos();
        (!resources.is_empty()).then_some(v1::TaskResourceLimitation { resources })
    }
}

impl From<Exceeded> for Problem {
    fn from(exceeded: Exceeded) -> Self {
        let megabytes = exceeded.used as f64 / 1_048_576.0;
        let used = v1::Resource {
            name: "mem".to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value: megabytes }),
            ..Default::default()
        };
        let used = Resources::from_protos(&[used]);
        Self::limitation(Reason::ContainerLimitationMemory, exceeded.message, used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_say_what_there_was_too_much_of() {
        let problem = Problem::from(Exceeded { message: "m".to_owned(), used: 96 << 19 });
        assert_eq!(problem.reason, Reason::ContainerLimitationMemory);
        let limited = problem.limited_resources().unwrap();
        assert_eq!(limited.resources[0].scalar.unwrap().value, 48.0);
        let other = Problem::new(Reason::ContainerLaunchFailed, "no such user");
        assert_eq!(other.limited_resources(), None);
    }
}
