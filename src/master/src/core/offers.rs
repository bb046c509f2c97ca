//! Making, rescinding and declining offers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::v1;
use mesos::v1::framework_info::capability::Type as Capability;
use mesos::v1::scheduler::{Event, event};

use super::Master;
use super::model::{Agent, Now, Offer};

/// A framework that says nothing of filters refuses for this long.
const REFUSE_SECONDS: f64 = 5.0;
/// Longer refusals are cut to this: a year.
const REFUSE_SECONDS_MAX: f64 = 365.0 * 24.0 * 3600.0;

/// Until when a filter refuses, at least for one allocation `interval`; `None` if it doesn't.
pub(super) fn refused_until(
    now: Now,
    filters: Option<&v1::Filters>,
    interval: Duration,
) -> Option<Duration> {
    let seconds = filters.and_then(|filters| filters.refuse_seconds).unwrap_or(REFUSE_SECONDS);
    let seconds = if seconds.is_nan() || seconds < 0.0 {
        REFUSE_SECONDS
    } else {
        seconds.min(REFUSE_SECONDS_MAX)
    };
    (seconds > 0.0).then(|| now.mono + Duration::from_secs_f64(seconds).max(interval))
}

/// Where an agent is reached.
pub(super) fn url_of(agent: &Agent) -> v1::Url {
    let address = agent.pid.address;
    v1::Url {
        scheme: "http".to_owned(),
        address: v1::Address {
            hostname: Some(agent.info.hostname.clone()),
            ip: Some(address.ip().to_string()),
            port: i32::from(address.port()),
        },
        path: Some(format!("/{}", agent.pid.id)),
        ..Default::default()
    }
}

impl Master {
    /// Offers what is free, on all agents or on some, one event a framework.
    pub(super) fn make_offers(&mut self, now: Now, agents: Option<&BTreeSet<String>>) {
        let mut events: BTreeMap<String, Vec<v1::Offer>> = BTreeMap::new();
        for allocation in self.allocator.allocate(now.mono, agents) {
            let id = mesos::ids::offer(&self.info.id, self.next_offer);
            self.next_offer += 1;
            let Some(agent) = self.agents.get_mut(&allocation.agent) else { continue };
            let resources = allocation.resources.allocate(&allocation.role);
            let Some(framework) = self.frameworks.get_mut(&allocation.framework) else { continue };
            let shown = if framework.can(Capability::ReservationRefinement) {
                resources.to_protos()
            } else {
                resources.to_protos_unrefined()
            };
            let message = v1::Offer {
                id: v1::OfferId { value: id.clone() },
                framework_id: v1::FrameworkId { value: allocation.framework.clone() },
                agent_id: v1::AgentId { value: agent.id.clone() },
                hostname: agent.info.hostname.clone(),
                url: Some(url_of(agent)),
                unavailability: agent.unavailable.as_ref().map(|own| own.unavailability),
                domain: agent.info.domain.clone(),
                resources: shown,
                executor_ids: framework.executors_on(&agent.id),
                attributes: agent.info.attributes.clone(),
                allocation_info: Some(v1::resource::AllocationInfo {
                    role: Some(allocation.role.clone()),
                }),
            };
            agent.offers.insert(id.clone());
            framework.offers.insert(id.as_str(), ());
            let mut told = message.clone();
            if !framework.can(Capability::MultiRole) {
                // It has one role, and knows it.
                told.allocation_info = None;
                for resource in &mut told.resources {
                    resource.allocation_info = None;
                }
            }
            events.entry(allocation.framework).or_default().push(told);
            let offer = Offer { message, resources, role: allocation.role, made: now.mono };
            self.offers.insert(id, offer);
        }
        for (framework, offers) in events {
            self.count_of(&framework, "offers", "sent", offers.len() as u64);
            self.event(
                &framework,
                Event {
                    r#type: Some(event::Type::Offers as i32),
                    offers: Some(event::Offers { offers }),
                    ..Default::default()
                },
            );
        }
    }

    /// Takes an offer off the books; its resources stay allocated.
    pub(super) fn remove_offer(&mut self, id: &str) -> Option<Offer> {
        let offer = self.offers.remove(id)?;
        if let Some(agent) = self.agents.get_mut(&offer.message.agent_id.value) {
            agent.offers.remove(id);
        }
        if let Some(framework) = self.frameworks.get_mut(&offer.message.framework_id.value) {
            framework.offers.remove(id);
        }
        Some(offer)
    }

    /// Takes an offer back and frees its resources.
    pub(super) fn rescind(&mut self, id: &str, tell: bool) {
        let Some(offer) = self.remove_offer(id) else { return };
        let framework = offer.message.framework_id.value.clone();
        self.allocator.recover(
            &framework,
            &offer.role,
            &offer.message.agent_id.value,
            &offer.resources,
            None,
        );
        if tell {
            self.count_of(&framework, "offers", "rescinded", 1);
            let rescind = event::Rescind { offer_id: offer.message.id };
            self.event(
                &framework,
                Event {
                    r#type: Some(event::Type::Rescind as i32),
                    rescind: Some(rescind),
                    ..Default::default()
                },
            );
        }
    }

    pub(super) fn rescind_offers_of_agent(&mut self, id: &str) {
        let offers: Vec<String> = self
            .agents
            .get(id)
            .map(|agent| agent.offers.iter().cloned().collect())
            .unwrap_or_default();
        for offer in offers {
            self.rescind(&offer, true);
        }
    }

    pub(super) fn rescind_offers_of_framework(&mut self, id: &str, tell: bool) {
        let offers: Vec<String> = self
            .frameworks
            .get(id)
            .map(|framework| framework.offers.keys().map(str::to_owned).collect())
            .unwrap_or_default();
        for offer in offers {
            self.rescind(&offer, tell);
        }
        self.allocation_wanted = true;
    }

    pub(super) fn decline(
        &mut self,
        now: Now,
        framework: &str,
        offers: &[v1::OfferId],
        filters: Option<&v1::Filters>,
    ) {
        let until = refused_until(now, filters, self.settings.allocation_interval);
        for id in offers {
            if self
                .offers
                .get(&id.value)
                .is_none_or(|offer| offer.message.framework_id.value != framework)
            {
                continue;
            }
            if let Some(offer) = self.remove_offer(&id.value) {
                self.count_of(framework, "offers", "declined", 1);
                self.allocator.recover(
                    framework,
                    &offer.role,
                    &offer.message.agent_id.value,
                    &offer.resources,
                    until,
                );
            }
        }
    }
}
