//! Calls of frameworks (`/api/v1/scheduler`, and the same from v0 drivers): checking them and handing them on.

use std::collections::BTreeSet;

use access::Principal;
use mesos::ids::is_uuid;
use mesos::internal;
use mesos::v1;
use mesos::v1::allocator::inverse_offer_status::Status;
use mesos::v1::scheduler::{Call, call};

use super::allocator::Allocator;
use super::model::{Connection, Now};
use super::{Master, framework_info};

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// 400.
    BadRequest(String),
    /// 403.
    Forbidden(String),
    /// 501.
    NotImplemented(String),
}

fn invalid(text: &str) -> CallError {
    CallError::BadRequest(format!("Failed to validate scheduler::Call: {text}"))
}

/// Whether somebody who authenticated is whom a framework says it is.
fn same_principal(principal: Option<&Principal>, claimed: &str) -> Result<(), String> {
    match principal {
        Some(known) if known.0 != claimed => Err(format!(
            "Authenticated principal '{known}' does not match principal '{claimed}' set in `FrameworkInfo`"
        )),
        _ => Ok(()),
    }
}

/// Whether two say the same framework; no id is as good as an empty one.
fn same_id(one: Option<&v1::FrameworkId>, other: Option<&v1::FrameworkId>) -> bool {
    let value = |id: Option<&v1::FrameworkId>| id.map(|id| id.value.clone()).unwrap_or_default();
    value(one) == value(other)
}

impl Master {
    /// Checks any call but SUBSCRIBE by itself.
    ///
    /// # Errors
    /// What the original answers with 400.
    pub fn check_call(call: &Call) -> Result<(), CallError> {
        check(call).map(drop)
    }

    /// Checks a SUBSCRIBE before a stream is opened for it.
    ///
    /// # Errors
    /// What the original answers with 400.
    pub fn check_subscribe(principal: Option<&Principal>, call: &Call) -> Result<(), CallError> {
        let Some(subscribe) = &call.subscribe else {
            return Err(invalid("Expecting 'subscribe' to be present"));
        };
        if !same_id(call.framework_id.as_ref(), subscribe.framework_info.id.as_ref()) {
            return Err(invalid("'framework_id' differs from 'subscribe.framework_info.id'"));
        }
        // One that doesn't say may be anybody.
        match &subscribe.framework_info.principal {
            Some(claimed) => same_principal(principal, claimed).map_err(|reason| invalid(&reason)),
            None => Ok(()),
        }
    }

    /// Any call but SUBSCRIBE.
    ///
    /// # Errors
    /// What the original answers with 400, 403 or 501.
    pub fn call(
        &mut self,
        now: Now,
        principal: Option<&Principal>,
        stream: Option<&str>,
        call: Call,
    ) -> Result<(), CallError> {
        let kind = check(&call)?;
        let Some(id) = call.framework_id.as_ref().map(|id| id.value.clone()) else {
            return Err(invalid("Expecting 'framework_id' to be present"));
        };
        let Some(framework) = self.frameworks.get(&id) else {
            return Err(CallError::BadRequest("Framework cannot be found".to_owned()));
        };
        same_principal(principal, framework.info.principal()).map_err(CallError::BadRequest)?;
        let current = match framework.connection {
            Connection::Http(current) => current,
            Connection::Pid(_) => {
                return Err(CallError::Forbidden("Framework is not connected via HTTP".to_owned()));
            }
            Connection::Lost(_) | Connection::Recovered => {
                return Err(CallError::Forbidden("Framework is not subscribed".to_owned()));
            }
        };
        match stream {
            None => {
                return Err(CallError::BadRequest(
                    "All non-subscribe calls should include the 'Mesos-Stream-Id' header"
                        .to_owned(),
                ));
            }
            Some(given) if given != current.0.to_string() => {
                return Err(CallError::BadRequest(format!(
                    "The stream ID '{given}' included in this request didn't match the stream ID currently associated with framework ID {id}"
                )));
            }
            Some(_) => {}
        }
        self.carry_out(now, &id, kind, call)
    }

    /// Does what a framework that is who it says asks for.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        id: &str,
        kind: call::Type,
        call: Call,
    ) -> Result<(), CallError> {
        use call::Type as T;
        let id = id.to_owned();
        self.count_of(&id, "calls", &kind.as_str_name().to_ascii_lowercase(), 1);
        if let Some(framework) = self.frameworks.get_mut(&id)
            && matches!(framework.connection, Connection::Pid(_))
        {
            framework.messages += 1;
        }
        match kind {
            T::Teardown => self.remove_framework(now, &id),
            T::Accept => {
                self.accept(now, &id, call.accept.unwrap_or_default());
            }
            T::Decline => {
                self.count("master/messages_decline_offers");
                let decline = call.decline.unwrap_or_default();
                self.decline(now, &id, &decline.offer_ids, decline.filters.as_ref());
            }
            T::Revive => {
                self.count("master/messages_revive_offers");
                self.allocator.revive(&id, &call.revive.unwrap_or_default().roles);
                self.allocation_wanted = true;
            }
            T::Suppress => {
                self.count("master/messages_suppress_offers");
                self.allocator.suppress(&id, &call.suppress.unwrap_or_default().roles);
            }
            T::Kill => {
                self.count("master/messages_kill_task");
                self.kill(now, &id, call.kill.unwrap_or_default());
            }
            T::Shutdown => {
                let shutdown = call.shutdown.unwrap_or_default();
                if let Some(pid) =
                    self.agents.get(&shutdown.agent_id.value).map(|agent| agent.pid.clone())
                {
                    let message = internal::ShutdownExecutorMessage {
                        executor_id: Some(shutdown.executor_id),
                        framework_id: Some(v1::FrameworkId { value: id }),
                    };
                    self.send(&pid, &message);
                }
            }
            T::Acknowledge => {
                self.count("master/messages_status_update_acknowledgement");
                self.acknowledge(&id, call.acknowledge.unwrap_or_default());
            }
            T::Reconcile => {
                self.count("master/messages_reconcile_tasks");
                self.reconcile(now, &id, call.reconcile.unwrap_or_default());
            }
            T::Message => {
                self.count("master/messages_framework_to_executor");
                let message = call.message.unwrap_or_default();
                let agent = self.agents.get(&message.agent_id.value);
                let pid = agent.filter(|agent| agent.connected).map(|agent| agent.pid.clone());
                self.count(if pid.is_some() {
                    "master/valid_framework_to_executor_messages"
                } else {
                    "master/invalid_framework_to_executor_messages"
                });
                if let Some(pid) = pid {
                    let message = internal::FrameworkToExecutorMessage {
                        slave_id: message.agent_id,
                        framework_id: v1::FrameworkId { value: id },
                        executor_id: message.executor_id,
                        data: message.data,
                    };
                    self.send(&pid, &message);
                }
            }
            // The original's default allocator takes requests and does nothing with them.
            T::Request => self.count("master/messages_resource_request"),
            T::Subscribe => return Err(invalid("Unexpected 'SUBSCRIBE' call")),
            T::Unknown => return Err(CallError::NotImplemented("501 Not Implemented.".to_owned())),
            T::AcceptInverseOffers => {
                let answer = call.accept_inverse_offers.unwrap_or_default();
                let (ids, filters) = (&answer.inverse_offer_ids, answer.filters.as_ref());
                self.answer_inverse_offers(now, &id, ids, filters, Status::Accept);
            }
            T::DeclineInverseOffers => {
                let answer = call.decline_inverse_offers.unwrap_or_default();
                let (ids, filters) = (&answer.inverse_offer_ids, answer.filters.as_ref());
                self.answer_inverse_offers(now, &id, ids, filters, Status::Decline);
            }
            T::UpdateFramework => {
                self.update_framework(&id, call.update_framework.unwrap_or_default())?
            }
            T::AcknowledgeOperationStatus => {
                self.count("master/messages_operation_status_update_acknowledgement");
                let acknowledge = call.acknowledge_operation_status.unwrap_or_default();
                self.acknowledge_operation(&id, &acknowledge);
            }
            T::ReconcileOperations => {
                self.count("master/messages_reconcile_operations");
                let reconcile = call.reconcile_operations.unwrap_or_default();
                self.reconcile_operations(&id, &reconcile);
            }
        }
        Ok(())
    }

    fn update_framework(
        &mut self,
        id: &str,
        update: call::UpdateFramework,
    ) -> Result<(), CallError> {
        let suppressed: BTreeSet<String> = update.suppressed_roles.into_iter().collect();
        let constraints = update.offer_constraints.unwrap_or_default();
        let refused = |about: &str, reason: String| {
            CallError::BadRequest(format!("{about} not valid: {reason}"))
        };
        let info = update.framework_info;
        self.check_framework(&info, &suppressed)
            .map_err(|reason| refused("Supplied FrameworkInfo is", reason))?;
        let Some(framework) = self.frameworks.get(id) else { return Ok(()) };
        framework_info::check_change(&framework.info, &info)
            .map_err(|reason| refused("FrameworkInfo update is", reason))?;
        Allocator::check_constraints(&constraints)
            .map_err(|reason| refused("'UpdateFramework.offer_constraints' are", reason))?;
        self.authorize_framework(&info).map_err(CallError::Forbidden)?;
        let Some(framework) = self.frameworks.get_mut(id) else { return Ok(()) };
        framework.info = info.clone();
        framework.constraints = constraints.clone();
        // They were checked before.
        drop(self.allocator.set_framework(id, &info, suppressed, Some(&constraints)));
        self.allocation_wanted = true;
        self.tell_agents_of_framework(id);
        self.notify_framework(id, false);
        Ok(())
    }
}

/// Checks a call by itself; its type.
pub(super) fn check(call: &Call) -> Result<call::Type, CallError> {
    use call::Type as T;
    // A number that this version doesn't know is as good as none.
    let Some(kind) = call.r#type.and_then(|kind| T::try_from(kind).ok()) else {
        return Err(invalid("Expecting 'type' to be present"));
    };
    if call.framework_id.is_none() {
        return Err(invalid("Expecting 'framework_id' to be present"));
    }
    let payload = |present: bool, name: &str| {
        if present { Ok(()) } else { Err(invalid(&format!("Expecting '{name}' to be present"))) }
    };
    match kind {
        T::Accept => payload(call.accept.is_some(), "accept")?,
        T::Decline => payload(call.decline.is_some(), "decline")?,
        T::Kill => payload(call.kill.is_some(), "kill")?,
        T::Shutdown => payload(call.shutdown.is_some(), "shutdown")?,
        T::Acknowledge => {
            payload(call.acknowledge.is_some(), "acknowledge")?;
            if call.acknowledge.as_ref().is_none_or(|own| !is_uuid(&own.uuid)) {
                return Err(invalid("Not a valid UUID"));
            }
        }
        T::Reconcile => payload(call.reconcile.is_some(), "reconcile")?,
        T::Message => payload(call.message.is_some(), "message")?,
        T::Request => payload(call.request.is_some(), "request")?,
        T::UpdateFramework => {
            payload(call.update_framework.is_some(), "update_framework")?;
            let own = call.update_framework.as_ref().and_then(|own| own.framework_info.id.as_ref());
            if !same_id(own, call.framework_id.as_ref()) {
                return Err(invalid(
                    "'framework_id' differs from 'update_framework.framework_info.id'",
                ));
            }
        }
        T::AcceptInverseOffers => {
            payload(call.accept_inverse_offers.is_some(), "accept_inverse_offers")?
        }
        T::DeclineInverseOffers => {
            payload(call.decline_inverse_offers.is_some(), "decline_inverse_offers")?
        }
        T::AcknowledgeOperationStatus => {
            payload(call.acknowledge_operation_status.is_some(), "acknowledge_operation_status")?;
            let acknowledge = call.acknowledge_operation_status.as_ref();
            if acknowledge.is_none_or(|own| !is_uuid(&own.uuid)) {
                return Err(invalid("Not a valid UUID"));
            }
            if acknowledge.is_none_or(|acknowledge| acknowledge.agent_id.is_none()) {
                return Err(invalid("Expecting 'agent_id' to be present"));
            }
        }
        T::ReconcileOperations => {
            payload(call.reconcile_operations.is_some(), "reconcile_operations")?
        }
        _ => {}
    }
    Ok(kind)
}
