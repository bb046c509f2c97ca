//! Maintenance of machines: when they will be away, and asking frameworks for what they have there
//! (`master/maintenance.cpp`, inverse offers of `hierarchical.cpp`).
//!
//! The registry says which machines are scheduled and how far they are. A machine is named by host name and address
//! together; an agent is on the machine that has both of its.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use mesos::internal::{self as m, registry};
use mesos::json::{self, Dialect};
use mesos::v1::allocator::{InverseOfferStatus, inverse_offer_status::Status};
use mesos::v1::machine_info::Mode;
use mesos::v1::maintenance::{ClusterStatus, Schedule, cluster_status::DrainingMachine};
use mesos::v1::scheduler::{Event, event};
use mesos::v1::{self, MachineId, MachineInfo};

use super::model::{Agent, Now};
use super::offers::refused_until;
use super::operator::bad;
use super::{Master, Refusal};

const DOWN: &str = "Operator initiated 'Machine DOWN'";

/// What is known of an agent whose machine will be away.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// From when, for how long.
    pub unavailability: v1::Unavailability,
    /// Frameworks that were asked and have not answered, with the inverse offer.
    pub outstanding: BTreeMap<String, String>,
    /// What frameworks answered.
    pub statuses: BTreeMap<String, InverseOfferStatus>,
    /// Until when (monotonic) frameworks are not asked again.
    pub filters: BTreeMap<String, Duration>,
}

/// A machine's name in the form in which it is compared.
fn key(id: &MachineId) -> (String, String) {
    (id.hostname().to_ascii_lowercase(), id.ip().to_owned())
}

fn shown(id: &MachineId) -> String {
    json::to_value(id, Dialect::V0).to_string()
}

fn check_machine(id: &MachineId) -> Result<(), Refusal> {
    if id.hostname().is_empty() && id.ip().is_empty() {
        return Err(bad("Both 'hostname' and 'ip' for a machine are empty"));
    }
    if !id.ip().is_empty() && id.ip().parse::<Ipv4Addr>().is_err() {
        return Err(bad(format!("Failed to parse IPv4: {}", id.ip())));
    }
    Ok(())
}

fn check_machines(ids: &[MachineId]) -> Result<(), Refusal> {
    if ids.is_empty() {
        return Err(bad("List of machines is empty"));
    }
    let mut seen = BTreeSet::new();
    for id in ids {
        check_machine(id)?;
        if !seen.insert(key(id)) {
            return Err(bad(format!(
                "Machine '{}' appears more than once in the schedule",
                shown(id)
            )));
        }
    }
    Ok(())
}

fn machine_of(agent: &Agent) -> MachineId {
    MachineId {
        hostname: Some(agent.info.hostname.clone()),
        ip: Some(agent.pid.address.ip().to_string()),
    }
}

impl Master {
    fn machine(&self, id: &MachineId) -> Option<&MachineInfo> {
        let mut all = self.registry.machines.iter().flat_map(|machines| &machines.machines);
        all.find(|machine| key(&machine.info.id) == key(id)).map(|machine| &machine.info)
    }

    /// Whether agents may not register from there.
    pub(super) fn is_down(&self, hostname: &str, ip: std::net::IpAddr) -> bool {
        let id = MachineId { hostname: Some(hostname.to_owned()), ip: Some(ip.to_string()) };
        self.machine(&id).is_some_and(|machine| machine.mode() == Mode::Down)
    }

    /// The schedule, as it was given.
    pub fn schedule(&self) -> Schedule {
        self.registry.schedules.first().cloned().unwrap_or_default()
    }

    /// Which machines drain or are down, and what frameworks answered.
    pub fn maintenance_status(&self) -> ClusterStatus {
        let mut status = ClusterStatus::default();
        for machine in self.registry.machines.iter().flat_map(|machines| &machines.machines) {
            match machine.info.mode() {
                Mode::Down => status.down_machines.push(machine.info.id.clone()),
                Mode::Draining => {
                    let statuses = self
                        .agents
                        .values()
                        .filter(|agent| key(&machine_of(agent)) == key(&machine.info.id))
                        .filter_map(|agent| agent.unavailable.as_ref())
                        .flat_map(|unavailable| unavailable.statuses.values().cloned())
                        .collect();
                    status
                        .draining_machines
                        .push(DrainingMachine { id: machine.info.id.clone(), statuses });
                }
                Mode::Up => {}
            }
        }
        status
    }

    /// Replaces the schedule.
    ///
    /// # Errors
    /// When it is not valid, or leaves out a machine that is down.
    pub fn update_schedule(&mut self, schedule: Schedule) -> Result<(), Refusal> {
        let mut scheduled = BTreeMap::new();
        for window in &schedule.windows {
            if window.machine_ids.is_empty() {
                return Err(bad("List of machines in the maintenance window is empty"));
            }
            if window.unavailability.duration.is_some_and(|duration| duration.nanoseconds < 0) {
                return Err(bad("Unavailability 'duration' is negative"));
            }
            for id in &window.machine_ids {
                check_machine(id)?;
                if scheduled.insert(key(id), (id.clone(), window.unavailability)).is_some() {
                    return Err(bad(format!(
                        "Machine '{}' appears more than once in the schedule",
                        shown(id)
                    )));
                }
            }
        }
        let machines = &mut self.registry.machines.get_or_insert_default().machines;
        for machine in machines.iter() {
            let id = &machine.info.id;
            if machine.info.mode() == Mode::Down && !scheduled.contains_key(&key(id)) {
                return Err(bad(format!(
                    "Machine '{}' is deactivated and cannot be removed from the schedule",
                    shown(id)
                )));
            }
        }
        machines.retain(|machine| scheduled.contains_key(&key(&machine.info.id)));
        for (name, (id, unavailability)) in scheduled {
            match machines.iter_mut().find(|machine| key(&machine.info.id) == name) {
                Some(machine) => machine.info.unavailability = Some(unavailability),
                None => machines.push(registry::Machine {
                    info: MachineInfo {
                        id,
                        mode: Some(Mode::Draining as i32),
                        unavailability: Some(unavailability),
                    },
                }),
            }
        }
        self.registry.schedules = vec![schedule];
        self.store();
        let agents: Vec<String> = self.agents.keys().map(str::to_owned).collect();
        for agent in agents {
            self.update_unavailability(&agent);
        }
        Ok(())
    }

    /// Brings an agent to what the schedule says of its machine.
    pub(super) fn update_unavailability(&mut self, id: &str) {
        let Some(agent) = self.agents.get(id) else { return };
        let scheduled = self
            .machine(&machine_of(agent))
            .filter(|machine| machine.mode() != Mode::Up)
            .and_then(|machine| machine.unavailability);
        if agent.unavailable.as_ref().map(|own| own.unavailability) == scheduled {
            return;
        }
        self.rescind_offers_of_agent(id);
        self.rescind_inverse_offers_of_agent(id);
        if let Some(agent) = self.agents.get_mut(id) {
            agent.unavailable = scheduled.map(|unavailability| Unavailable {
                unavailability,
                outstanding: BTreeMap::new(),
                statuses: BTreeMap::new(),
                filters: BTreeMap::new(),
            });
        }
        self.candidates.insert(id.to_owned());
    }

    fn expect_mode(&self, ids: &[MachineId], mode: Mode, direction: &str) -> Result<(), Refusal> {
        check_machines(ids)?;
        for id in ids {
            let is_known = |id: &MachineId| {
                self.machines_seen.contains(&key(id))
                    || self.agents.values().any(|agent| key(&machine_of(agent)) == key(id))
            };
            let known = self.machine(id).map(MachineInfo::mode);
            let known = known.or_else(|| is_known(id).then_some(Mode::Up));
            match known {
                None => {
                    return Err(bad(format!(
                        "Machine '{}' is not part of a maintenance schedule",
                        shown(id)
                    )));
                }
                Some(own) if own != mode => {
                    return Err(bad(format!(
                        "Machine '{}' is not in {} mode and cannot be brought {direction}",
                        shown(id),
                        mode.as_str_name()
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Takes machines down: their agents are removed and must stay away.
    ///
    /// # Errors
    /// When one of them is not scheduled, or is down already.
    pub fn start_maintenance(&mut self, now: Now, ids: &[MachineId]) -> Result<(), Refusal> {
        self.expect_mode(ids, Mode::Draining, "down")?;
        let names: BTreeSet<(String, String)> = ids.iter().map(key).collect();
        for machine in self.registry.machines.iter_mut().flat_map(|all| &mut all.machines) {
            if names.contains(&key(&machine.info.id)) {
                machine.info.set_mode(Mode::Down);
            }
        }
        self.store();
        let agents: Vec<(String, mesos::libprocess::Upid)> = self
            .agents
            .values()
            .filter(|agent| names.contains(&key(&machine_of(agent))))
            .map(|agent| (agent.id.clone(), agent.pid.clone()))
            .collect();
        for (id, pid) in agents {
            self.send(&pid, &m::ShutdownMessage { message: Some(DOWN.to_owned()) });
            self.remove_agent(now, &id, DOWN);
        }
        Ok(())
    }

    /// Brings machines up again; they are scheduled no more.
    ///
    /// # Errors
    /// When one of them is not down.
    pub fn stop_maintenance(&mut self, ids: &[MachineId]) -> Result<(), Refusal> {
        self.expect_mode(ids, Mode::Down, "up")?;
        let names: BTreeSet<(String, String)> = ids.iter().map(key).collect();
        if let Some(machines) = &mut self.registry.machines {
            machines.machines.retain(|machine| !names.contains(&key(&machine.info.id)));
        }
        for schedule in &mut self.registry.schedules {
            for window in &mut schedule.windows {
                window.machine_ids.retain(|id| !names.contains(&key(id)));
            }
            schedule.windows.retain(|window| !window.machine_ids.is_empty());
        }
        self.registry.schedules.retain(|schedule| !schedule.windows.is_empty());
        self.machines_seen.extend(names);
        self.store();
        Ok(())
    }

    fn is_unavailable(&self, agent: &str) -> bool {
        self.agents.get(agent).is_some_and(|agent| agent.unavailable.is_some())
    }

    /// Asks frameworks for what they have on agents whose machines will be away: on all of these, or on some.
    pub(super) fn make_inverse_offers(&mut self, now: Now, agents: Option<&BTreeSet<String>>) {
        if self.registry.schedules.iter().all(|schedule| schedule.windows.is_empty()) {
            return;
        }
        // Of very many agents few are asked for at a time.
        let unavailable: Vec<String> = match agents {
            Some(agents) => agents.iter().filter(|id| self.is_unavailable(id)).cloned().collect(),
            None => {
                let unavailable = self.agents.values().filter(|agent| agent.unavailable.is_some());
                unavailable.map(|agent| agent.id.clone()).collect()
            }
        };
        let mut asked: BTreeMap<String, Vec<v1::InverseOffer>> = BTreeMap::new();
        for id in unavailable {
            let holders = self.allocator.holders(&id);
            for framework in holders {
                let is_active = self.frameworks.get(&framework).is_some_and(|known| known.active);
                let Some(agent) = self.agents.get_mut(&id).filter(|_| is_active) else { continue };
                let url = super::offers::url_of(agent);
                let Some(unavailable) = &mut agent.unavailable else { continue };
                unavailable.filters.retain(|_, until| *until > now.mono);
                if unavailable.outstanding.contains_key(&framework)
                    || unavailable.filters.contains_key(&framework)
                {
                    continue;
                }
                let offer = mesos::ids::offer(&self.info.id, self.next_offer);
                self.next_offer += 1;
                unavailable.outstanding.insert(framework.clone(), offer.clone());
                let message = v1::InverseOffer {
                    id: v1::OfferId { value: offer.clone() },
                    url: Some(url),
                    framework_id: v1::FrameworkId { value: framework.clone() },
                    agent_id: Some(v1::AgentId { value: id.clone() }),
                    unavailability: unavailable.unavailability,
                    resources: Vec::new(),
                };
                self.inverse_offers.insert(offer, message.clone());
                asked.entry(framework).or_default().push(message);
            }
        }
        for (framework, inverse_offers) in asked {
            let event = Event {
                r#type: Some(event::Type::InverseOffers as i32),
                inverse_offers: Some(event::InverseOffers { inverse_offers }),
                ..Default::default()
            };
            self.event(&framework, event);
        }
    }

    /// A framework answers inverse offers.
    pub(super) fn answer_inverse_offers(
        &mut self,
        now: Now,
        framework: &str,
        ids: &[v1::OfferId],
        filters: Option<&v1::Filters>,
        answer: Status,
    ) {
        let until = refused_until(now, filters, self.settings.allocation_interval);
        for id in ids {
            let is_own = self
                .inverse_offers
                .get(&id.value)
                .is_some_and(|offer| offer.framework_id.value == framework);
            let Some(offer) = is_own.then(|| self.inverse_offers.remove(&id.value)).flatten()
            else {
                tracing::warn!(framework, offer = id.value, "inverse offer is no longer valid");
                continue;
            };
            let agent = offer.agent_id.map(|id| id.value).unwrap_or_default();
            let unavailable =
                self.agents.get_mut(&agent).and_then(|agent| agent.unavailable.as_mut());
            let Some(unavailable) = unavailable else { continue };
            unavailable.outstanding.remove(framework);
            let status = InverseOfferStatus {
                status: answer as i32,
                framework_id: v1::FrameworkId { value: framework.to_owned() },
                timestamp: v1::TimeInfo { nanoseconds: (now.wall * 1e9) as i64 },
            };
            unavailable.statuses.insert(framework.to_owned(), status);
            if let Some(until) = until {
                unavailable.filters.insert(framework.to_owned(), until);
            }
        }
    }

    fn rescind_inverse_offer(&mut self, id: &str, tell: bool) {
        let Some(offer) = self.inverse_offers.remove(id) else { return };
        let framework = offer.framework_id.value;
        let agent = offer.agent_id.map(|id| id.value).unwrap_or_default();
        if let Some(unavailable) =
            self.agents.get_mut(&agent).and_then(|agent| agent.unavailable.as_mut())
        {
            unavailable.outstanding.remove(&framework);
        }
        if tell {
            let rescind = event::RescindInverseOffer { inverse_offer_id: offer.id };
            let event = Event {
                r#type: Some(event::Type::RescindInverseOffer as i32),
                rescind_inverse_offer: Some(rescind),
                ..Default::default()
            };
            self.event(&framework, event);
        }
    }

    pub(super) fn rescind_inverse_offers_of_agent(&mut self, agent: &str) {
        let ids: Vec<String> = self
            .agents
            .get(agent)
            .and_then(|agent| agent.unavailable.as_ref())
            .map(|unavailable| unavailable.outstanding.values().cloned().collect())
            .unwrap_or_default();
        for id in ids {
            self.rescind_inverse_offer(&id, true);
        }
    }

    /// A framework is disconnected or gone.
    pub(super) fn forget_inverse_offers_of_framework(&mut self, framework: &str) {
        let ids: Vec<String> = self
            .inverse_offers
            .iter()
            .filter(|(_, offer)| offer.framework_id.value == framework)
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.rescind_inverse_offer(&id, false);
        }
    }
}
