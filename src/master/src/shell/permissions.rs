//! Which realm an endpoint is in, and what a caller needs for an operator's call.

use access::Action;
use access::acls::Object;
use access::guard::Caller;
use mesos::v1;
use mesos::v1::master::Call;
use mesos::v1::master::call::{DrainAgent, Type as T};

use crate::core::Master;

/// The realm of what is only looked at.
pub(super) const READ_ONLY: &str = "mesos-master-readonly";
/// The realm of what changes something, and of the operator API.
pub(super) const READ_WRITE: &str = "mesos-master-readwrite";
/// The realm of frameworks.
pub(super) const SCHEDULER: &str = "mesos-master-scheduler";

/// The realm of an endpoint, if it is in one.
pub(super) fn realm(local: &str) -> Option<&'static str> {
    match local {
        "/health" | "/version" | "/redirect" => None,
        "/state"
        | "/state-summary"
        | "/slaves"
        | "/frameworks"
        | "/tasks"
        | "/roles"
        | "/flags"
        | "/metrics/snapshot"
        | "/metrics/prometheus"
        | "/system/stats.json"
        | "/maintenance/status"
        | "/allocator/offer_constraints_debug"
        | "/registrar(1)/registry" => Some(READ_ONLY),
        _ if local.starts_with("/files/") => Some(READ_ONLY),
        "/api/v1/scheduler" => Some(SCHEDULER),
        _ => Some(READ_WRITE),
    }
}

/// Whether a caller may end a framework; one that isn't there is for others to complain about.
pub(super) fn may_tear_down(caller: &Caller, master: &Master, framework: &str) -> bool {
    master.frameworks.get(framework).is_none_or(|framework| {
        let owner = Object::Named(framework.info.principal());
        caller.may(Action::TeardownFrameworks, owner)
    })
}

/// Whether a caller may set the weights of roles.
pub(super) fn may_weigh(caller: &Caller, weights: &[v1::WeightInfo]) -> bool {
    let may = |weight: &v1::WeightInfo| {
        caller.may(Action::UpdateWeights, Object::Named(weight.role().trim()))
    };
    if weights.is_empty() { caller.may_any(Action::UpdateWeights) } else { weights.iter().all(may) }
}

/// Whether a caller may have an operator's call answered, as far as the call alone tells. Operations on resources are judged
/// where they are carried out.
pub(super) fn may_call(caller: &Caller, call: &Call) -> bool {
    let may_limit = |role: &str| caller.may(Action::UpdateQuotas, Object::Named(role));
    // As the original's authorizer: about machines, ACLs say ANY or NONE.
    let machines = |action, ids: &[v1::MachineId]| ids.is_empty() || caller.may_any(action);
    match call.r#type() {
        T::GetFlags => caller.may_any(Action::ViewFlags),
        T::SetLoggingLevel => caller.may_any(Action::SetLogLevel),
        T::UpdateWeights => call
            .update_weights
            .as_ref()
            .is_none_or(|update| may_weigh(caller, &update.weight_infos)),
        T::UpdateQuota => call
            .update_quota
            .as_ref()
            .is_none_or(|update| update.quota_configs.iter().all(|own| may_limit(&own.role))),
        T::SetQuota => call
            .set_quota
            .as_ref()
            .is_none_or(|set| may_limit(set.quota_request.role.as_deref().unwrap_or_default())),
        T::RemoveQuota => call.remove_quota.as_ref().is_none_or(|remove| may_limit(&remove.role)),
        T::UpdateMaintenanceSchedule => {
            call.update_maintenance_schedule.as_ref().is_none_or(|own| {
                let windows = &own.schedule.windows;
                windows
                    .iter()
                    .all(|window| machines(Action::UpdateMaintenanceSchedules, &window.machine_ids))
            })
        }
        T::StartMaintenance => call
            .start_maintenance
            .as_ref()
            .is_none_or(|own| machines(Action::StartMaintenances, &own.machines)),
        T::StopMaintenance => call
            .stop_maintenance
            .as_ref()
            .is_none_or(|own| machines(Action::StopMaintenances, &own.machines)),
        T::DrainAgent => {
            let marks_gone = call.drain_agent.as_ref().is_some_and(DrainAgent::mark_gone);
            caller.may_any(Action::DrainAgents)
                && (!marks_gone || caller.may_any(Action::MarkAgentsGone))
        }
        T::DeactivateAgent => caller.may_any(Action::DeactivateAgents),
        T::ReactivateAgent => caller.may_any(Action::ReactivateAgents),
        T::MarkAgentGone => caller.may_any(Action::MarkAgentsGone),
        _ => true,
    }
}
