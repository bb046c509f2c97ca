//! What principals may do to resources (`Master::authorizeReserveResources` and the like).

use access::Action;
use access::acls::Object;
use mesos::v1;
use mesos::v1::offer::Operation;
use mesos::v1::offer::operation::Type;

use super::Master;

/// The role that a resource is, or is to be, reserved for.
fn role(resource: &v1::Resource) -> Object<'_> {
    let reserved = resource.reservations.last().map(v1::resource::ReservationInfo::role);
    Object::Named(reserved.or(resource.role.as_deref()).unwrap_or(mesos::roles::DEFAULT))
}

/// Who reserved a resource; nobody in particular, if that is not known.
fn reserver(resource: &v1::Resource) -> Object<'_> {
    let stacked = resource.reservations.last().and_then(|own| own.principal.as_deref());
    let older = || resource.reservation.as_ref().and_then(|own| own.principal.as_deref());
    stacked.or_else(older).map_or(Object::Any, Object::Named)
}

/// Who made a volume.
fn creator(resource: &v1::Resource) -> Object<'_> {
    let persistence = resource.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
    persistence.and_then(|own| own.principal.as_deref()).map_or(Object::Any, Object::Named)
}

impl Master {
    /// Whether a principal, or somebody unknown, may carry out an operation.
    pub(super) fn may_operate(&self, principal: Option<&str>, operation: &Operation) -> bool {
        let all = |action: Action, of: fn(&v1::Resource) -> Object<'_>, on: &[v1::Resource]| {
            on.iter().all(|resource| self.allows(principal, action, of(resource)))
        };
        let one = |action, on: &v1::Resource| all(action, role, std::slice::from_ref(on));
        match operation.r#type() {
            Type::Reserve => operation.reserve.as_ref().is_none_or(|own| {
                // A reservation that replaces others gives those up.
                all(Action::UnreserveResources, reserver, &own.source)
                    && all(Action::ReserveResources, role, &own.resources)
            }),
            Type::Unreserve => operation
                .unreserve
                .as_ref()
                .is_none_or(|own| all(Action::UnreserveResources, reserver, &own.resources)),
            Type::Create => operation
                .create
                .as_ref()
                .is_none_or(|own| all(Action::CreateVolumes, role, &own.volumes)),
            Type::Destroy => operation
                .destroy
                .as_ref()
                .is_none_or(|own| all(Action::DestroyVolumes, creator, &own.volumes)),
            Type::GrowVolume => operation
                .grow_volume
                .as_ref()
                .is_none_or(|own| one(Action::ResizeVolumes, &own.volume)),
            Type::ShrinkVolume => operation
                .shrink_volume
                .as_ref()
                .is_none_or(|own| one(Action::ResizeVolumes, &own.volume)),
            _ => true,
        }
    }

    /// Whether a framework may carry out an operation.
    pub(super) fn authorize_operation(
        &self,
        framework: &v1::FrameworkInfo,
        operation: &Operation,
    ) -> Result<(), String> {
        let principal = framework.principal.as_deref();
        if self.may_operate(principal, operation) {
            return Ok(());
        }
        Err(format!(
            "Not authorized to perform {} as '{}'",
            operation.r#type().as_str_name(),
            principal.unwrap_or("ANY")
        ))
    }
}
