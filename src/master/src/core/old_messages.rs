//! Messages of drivers that are older than `mesos.scheduler.Call` (pesos, mesos-go's first API): each is a call that has
//! its own name (`Master::registerFramework`, `Master::launchTasks`, …).

use mesos::internal as m;
use mesos::scheduler_v0;
use mesos::v1;
use mesos::v1::offer::{Operation, operation};
use mesos::v1::scheduler::call::{self, Type, reconcile};
use prost::{DecodeError, Message as _, Name as _};

/// What an old message asks for.
pub(super) enum Old {
    /// To be let in.
    Subscribe(Box<scheduler_v0::Call>),
    /// Anything else.
    Call(Box<v1::scheduler::Call>),
}

fn subscribe(framework_info: v1::FrameworkInfo, force: bool) -> Old {
    let subscribe =
        scheduler_v0::call::Subscribe { framework_info, force: Some(force), ..Default::default() };
    Old::Subscribe(Box::new(scheduler_v0::Call {
        r#type: Some(Type::Subscribe as i32),
        subscribe: Some(subscribe),
        ..Default::default()
    }))
}

fn call(kind: Type, framework: v1::FrameworkId) -> v1::scheduler::Call {
    v1::scheduler::Call {
        framework_id: Some(framework),
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

/// Reads an old message; `None` if it is none.
pub(super) fn read(name: &str, body: &[u8]) -> Result<Option<Old>, DecodeError> {
    let is = |own: String| name == own;
    let asked = if is(m::RegisterFrameworkMessage::full_name()) {
        return Ok(Some(subscribe(m::RegisterFrameworkMessage::decode(body)?.framework, false)));
    } else if is(m::ReregisterFrameworkMessage::full_name()) {
        let message = m::ReregisterFrameworkMessage::decode(body)?;
        return Ok(Some(subscribe(message.framework, message.failover)));
    } else if is(m::LaunchTasksMessage::full_name()) {
        let message = m::LaunchTasksMessage::decode(body)?;
        let launch = Operation {
            r#type: Some(operation::Type::Launch as i32),
            launch: Some(operation::Launch { task_infos: message.tasks }),
            ..Default::default()
        };
        let accept = call::Accept {
            offer_ids: message.offer_ids,
            operations: vec![launch],
            filters: Some(message.filters),
        };
        v1::scheduler::Call { accept: Some(accept), ..call(Type::Accept, message.framework_id) }
    } else if is(m::KillTaskMessage::full_name()) {
        let message = m::KillTaskMessage::decode(body)?;
        let kill = call::Kill {
            task_id: message.task_id,
            kill_policy: message.kill_policy,
            ..Default::default()
        };
        v1::scheduler::Call { kill: Some(kill), ..call(Type::Kill, message.framework_id) }
    } else if is(m::ReviveOffersMessage::full_name()) {
        let message = m::ReviveOffersMessage::decode(body)?;
        let revive = call::Revive { roles: message.roles };
        v1::scheduler::Call { revive: Some(revive), ..call(Type::Revive, message.framework_id) }
    } else if is(m::ResourceRequestMessage::full_name()) {
        let message = m::ResourceRequestMessage::decode(body)?;
        let request = call::Request { requests: message.requests };
        v1::scheduler::Call { request: Some(request), ..call(Type::Request, message.framework_id) }
    } else if is(m::ReconcileTasksMessage::full_name()) {
        let message = m::ReconcileTasksMessage::decode(body)?;
        let tasks = message
            .statuses
            .into_iter()
            .map(|status| reconcile::Task { task_id: status.task_id, agent_id: status.agent_id })
            .collect();
        let reconcile = Some(call::Reconcile { tasks });
        v1::scheduler::Call { reconcile, ..call(Type::Reconcile, message.framework_id) }
    } else if is(m::StatusUpdateAcknowledgementMessage::full_name()) {
        let message = m::StatusUpdateAcknowledgementMessage::decode(body)?;
        let acknowledge = call::Acknowledge {
            agent_id: message.slave_id,
            task_id: message.task_id,
            uuid: message.uuid,
        };
        v1::scheduler::Call {
            acknowledge: Some(acknowledge),
            ..call(Type::Acknowledge, message.framework_id)
        }
    } else if is(m::FrameworkToExecutorMessage::full_name()) {
        let message = m::FrameworkToExecutorMessage::decode(body)?;
        let to_executor = call::Message {
            agent_id: message.slave_id,
            executor_id: message.executor_id,
            data: message.data,
        };
        v1::scheduler::Call {
            message: Some(to_executor),
            ..call(Type::Message, message.framework_id)
        }
    } else {
        return Ok(None);
    };
    Ok(Some(Old::Call(Box::new(asked))))
}
