//! v0 drivers (libmesos): frameworks that are connected by libprocess messages instead of a stream of events.
//!
//! They send `mesos.scheduler.Call`, which is the v1 API's call but for SUBSCRIBE, and hear what the v1 API says as
//! events in messages that are older than those (`Master::subscribe`, `scheduler/scheduler.cpp`).

use std::collections::BTreeSet;

use mesos::internal;
use mesos::libprocess::{Upid, inbound::Header};
use mesos::v1::scheduler::{Call, Event, call, event};
use mesos::{scheduler_v0, v1};
use prost::{DecodeError, Message, Name};

use super::allocator::Allocator;
use super::frameworks::{FAILED_OVER, Wishes};
use super::model::{Connection, Now};
use super::old_messages::{self, Old};
use super::{Effect, Master};

impl Master {
    /// A message of a driver; whether it was one.
    pub(super) fn driver_message(
        &mut self,
        now: Now,
        header: &Header,
        body: &[u8],
    ) -> Result<bool, DecodeError> {
        let from = &header.from;
        if header.name == "mesos.scheduler.Call" {
            let call = scheduler_v0::Call::decode(body)?;
            if call.r#type == Some(call::Type::Subscribe as i32) {
                self.subscribe_driver(now, from, call);
            } else {
                // All but SUBSCRIBE is the same in both versions, field by field.
                self.driver_call(now, from, Call::decode(body)?);
            }
        } else if header.name == internal::DeactivateFrameworkMessage::full_name() {
            let id = internal::DeactivateFrameworkMessage::decode(body)?.framework_id.value;
            if self.is_driver_of(from, &id) {
                self.count("master/messages_deactivate_framework");
                self.deactivate_framework(&id);
            }
        } else if header.name == internal::UnregisterFrameworkMessage::full_name() {
            let id = internal::UnregisterFrameworkMessage::decode(body)?.framework_id.value;
            if self.is_driver_of(from, &id) {
                self.count("master/messages_unregister_framework");
                self.remove_framework(now, &id);
            }
        } else {
            match old_messages::read(&header.name, body)? {
                Some(Old::Subscribe(call)) => self.subscribe_driver(now, from, *call),
                Some(Old::Call(call)) => self.driver_call(now, from, *call),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn is_driver_of(&self, from: &Upid, framework: &str) -> bool {
        let known = self
            .frameworks
            .get(framework)
            .is_some_and(|known| known.connection == Connection::Pid(from.clone()));
        if !known {
            tracing::warn!(%from, framework, "message of a driver ignored: it is not this framework's");
        }
        known
    }

    fn driver_call(&mut self, now: Now, from: &Upid, call: Call) {
        let Some(id) = call.framework_id.as_ref().map(|id| id.value.clone()) else {
            tracing::warn!(%from, "call of a driver ignored: it names no framework");
            return;
        };
        if !self.is_driver_of(from, &id) {
            self.count("master/dropped_messages");
            return;
        }
        let result =
            super::calls::check(&call).and_then(|kind| self.carry_out(now, &id, kind, call));
        if let Err(error) = result {
            tracing::warn!(%from, framework = id, ?error, "call of a driver ignored");
        }
    }

    fn subscribe_driver(&mut self, now: Now, from: &Upid, call: scheduler_v0::Call) {
        let Some(subscribe) = call.subscribe else { return };
        if !from.is_some() {
            tracing::warn!("SUBSCRIBE of a driver without an address ignored");
            return;
        }
        self.count_subscription(&subscribe.framework_info);
        let force = subscribe.force();
        let mut info = subscribe.framework_info;
        if let Some(known) = self.authenticated(from) {
            info.principal.get_or_insert(known);
        }
        let suppressed: BTreeSet<String> = subscribe.suppressed_roles.into_iter().collect();
        let constraints = subscribe.offer_constraints.unwrap_or_default();
        let checked = self
            .check_framework(&info, &suppressed)
            .and_then(|()| Allocator::check_constraints(&constraints))
            .and_then(|()| self.check_driver(from, &info))
            .and_then(|()| self.authorize_framework(&info))
            .and_then(|()| self.keep_what_is_fixed(&mut info));
        if let Err(message) = checked {
            tracing::info!(message, %from, "framework refused");
            self.effects.push(Effect::Relink(from.clone()));
            self.send(from, &internal::FrameworkErrorMessage { message });
            return;
        }
        let given = info.id.as_ref().map(|id| id.value.clone()).filter(|id| !id.is_empty());
        let own = Connection::Pid(from.clone());
        // A driver that did not hear our answer asks again.
        if given.is_none()
            && let Some(id) = self
                .frameworks
                .values()
                .find(|known| known.connection == own)
                .map(|known| known.id.clone())
        {
            self.send(
                from,
                &internal::FrameworkRegisteredMessage {
                    framework_id: v1::FrameworkId { value: id },
                    master_info: self.info.clone(),
                },
            );
            return;
        }
        let known = given.as_ref().and_then(|id| self.frameworks.get(id));
        let is_recovered = known.is_some_and(|known| known.connection == Connection::Recovered);
        let is_same = known.is_some_and(|known| known.pid.as_ref() == Some(from));
        let is_known = known.is_some();
        if is_known && !is_recovered && !is_same && !force {
            self.effects.push(Effect::Relink(from.clone()));
            self.send(from, &internal::FrameworkErrorMessage { message: FAILED_OVER.to_owned() });
            return;
        }
        self.effects.push(Effect::Relink(from.clone()));
        if let Some(id) = given.as_ref().filter(|_| is_same) {
            self.rescind_offers_of_framework(id, true);
        }
        let id = self.connect(now, own, info, Wishes { suppressed, constraints });
        let (framework_id, master_info) =
            (v1::FrameworkId { value: id.clone() }, self.info.clone());
        if is_same && !force {
            self.send(from, &internal::FrameworkReregisteredMessage { framework_id, master_info });
        } else {
            self.send(from, &internal::FrameworkRegisteredMessage { framework_id, master_info });
        }
        self.tell_agents_of_framework(&id);
    }

    /// What an event is to a driver.
    pub(super) fn event_to_driver(&mut self, framework: &str, to: &Upid, event: Event) {
        let framework_id = || v1::FrameworkId { value: framework.to_owned() };
        let pid_of =
            |agent: &v1::AgentId| self.agents.get(&agent.value).map(|agent| agent.pid.to_string());
        if let Some(event::Offers { offers }) = event.offers {
            let pids = offers.iter().filter_map(|offer| pid_of(&offer.agent_id)).collect();
            self.send(to, &internal::ResourceOffersMessage { offers, pids });
        } else if let Some(event::InverseOffers { inverse_offers }) = event.inverse_offers {
            let agents = inverse_offers.iter().filter_map(|offer| offer.agent_id.as_ref());
            let pids = agents.filter_map(pid_of).collect();
            self.send(to, &internal::InverseOffersMessage { inverse_offers, pids });
        } else if let Some(rescind) = event.rescind_inverse_offer {
            let inverse_offer_id = rescind.inverse_offer_id;
            self.send(to, &internal::RescindInverseOfferMessage { inverse_offer_id });
        } else if let Some(event::Rescind { offer_id }) = event.rescind {
            self.send(to, &internal::RescindResourceOfferMessage { offer_id });
        } else if let Some(event::Update { status }) = event.update {
            // An update with an address is to be acknowledged.
            let pid = status
                .uuid
                .as_ref()
                .and(status.agent_id.as_ref())
                .and_then(pid_of)
                .unwrap_or_else(|| Upid::none().to_string());
            let update = internal::StatusUpdate {
                framework_id: framework_id(),
                executor_id: status.executor_id.clone(),
                slave_id: status.agent_id.clone(),
                timestamp: status.timestamp.unwrap_or_default(),
                uuid: status.uuid.clone(),
                latest_state: Some(status.state),
                status,
            };
            self.send(to, &internal::StatusUpdateMessage { update, pid: Some(pid) });
        } else if let Some(event::Message { agent_id, executor_id, data }) = event.message {
            let message = internal::ExecutorToFrameworkMessage {
                slave_id: agent_id,
                framework_id: framework_id(),
                executor_id,
                data,
            };
            self.send(to, &message);
        } else if let Some(failure) = event.failure {
            match (failure.agent_id, failure.executor_id) {
                (Some(slave_id), Some(executor_id)) => {
                    let status = failure.status.unwrap_or_default();
                    self.send(
                        to,
                        &internal::ExitedExecutorMessage {
                            slave_id,
                            framework_id: framework_id(),
                            executor_id,
                            status,
                        },
                    );
                }
                (Some(slave_id), None) => self.send(to, &internal::LostSlaveMessage { slave_id }),
                (None, _) => {}
            }
        } else if let Some(event::Error { message }) = event.error {
            self.send(to, &internal::FrameworkErrorMessage { message });
        }
    }
}
