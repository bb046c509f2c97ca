//! What time brings: allocation rounds, pings, heartbeats, timeouts.

use std::time::Duration;

use mesos::internal;

use super::agents::observer_id;
use super::model::{Agent, Away, Connection, Now};
use super::{Effect, Master, Settings};

/// How often agents and frameworks are looked over: there may be many, and inputs come far more often than they are due.
const SCAN_INTERVAL: Duration = Duration::from_millis(50);

impl Master {
    /// Does what is due. Called at least ten times a second and after every batch of input.
    pub fn tick(&mut self, now: Now) {
        self.release(now);
        if now.mono >= self.scan_due {
            self.scan_due = now.mono + SCAN_INTERVAL;
            self.ping_agents(now);
            self.heartbeats(now);
            self.remove_frameworks_that_stay_away(now);
            self.rescind_old_offers(now);
            self.look_after_agents(now);
            self.give_recovered_agents_up(now);
            self.notify_heartbeat(now);
            self.authentication.expire(now);
        }
        if self.allocation_wanted || now.mono >= self.allocation_due {
            self.allocation_wanted = false;
            self.allocation_due = now.mono + self.settings.allocation_interval;
            self.candidates.clear();
            self.make_offers(now, None);
            self.make_inverse_offers(now, None);
        } else if !self.candidates.is_empty() {
            let candidates = std::mem::take(&mut self.candidates);
            self.make_offers(now, Some(&candidates));
            self.make_inverse_offers(now, Some(&candidates));
        }
    }

    /// Pings whose turn it is: agents wait for theirs in one line.
    fn ping_agents(&mut self, now: Now) {
        while let Some((due, id)) = self.pings.pop_front_if(|(due, _)| *due <= now.mono) {
            let Some(agent) = self.agents.get_mut(&id).filter(|agent| agent.ping_due == due) else {
                continue; // It is gone, or came anew and is in line once more.
            };
            agent.missed += 1;
            let is_late = agent.missed > self.settings.max_agent_ping_timeouts;
            let is_scheduled = is_late && agent.removal_due.is_none();
            if is_scheduled {
                agent.removal_due = Some(next_removal(&mut self.removal_next, &self.settings, now));
                self.watched.insert(id.clone());
            }
            agent.ping_due = now.mono + self.settings.agent_ping_timeout;
            // One that is given up at once is not pinged any more.
            let ping = agent
                .removal_due
                .is_none_or(|due| due > now.mono)
                .then(|| (agent.observer, agent.pid.clone(), agent.connected));
            self.pings.push_back((agent.ping_due, id));
            if is_scheduled {
                self.count("master/slave_unreachable_scheduled");
            }
            if let Some((observer, pid, connected)) = ping {
                let message = internal::PingSlaveMessage { connected };
                self.send_from(&observer_id(observer), &pid, &message);
            }
        }
    }

    /// Looks after agents that are cut off, silent or draining.
    fn look_after_agents(&mut self, now: Now) {
        let agents = &self.agents;
        self.watched.retain(|id| agents.get(id).is_some_and(Agent::is_watched));
        let watched: Vec<String> = self.watched.iter().cloned().collect();
        for id in &watched {
            let due = |agent: &Agent| agent.removal_due.is_some_and(|due| due <= now.mono);
            if self.agents.get(id).is_some_and(due) {
                self.mark_unreachable(now, id, "health check timed out");
            }
            self.give_up_if_away(now, id);
            self.finish_draining(now, id);
        }
    }

    fn heartbeats(&mut self, now: Now) {
        let due: Vec<String> = self
            .frameworks
            .values()
            .filter(|framework| framework.stream().is_some() && framework.heartbeat_due <= now.mono)
            .map(|framework| framework.id.clone())
            .collect();
        for id in due {
            self.heartbeat(now, &id);
        }
    }

    fn remove_frameworks_that_stay_away(&mut self, now: Now) {
        let away: Vec<String> = self
            .frameworks
            .values()
            .filter(|framework| match framework.connection {
                Connection::Lost(since) => {
                    now.mono.saturating_sub(since).as_secs_f64()
                        >= framework.info.failover_timeout()
                }
                _ => false,
            })
            .map(|framework| framework.id.clone())
            .collect();
        for id in away {
            tracing::info!(framework = id, "framework stayed away for its failover timeout");
            self.remove_framework(now, &id);
        }
    }

    fn rescind_old_offers(&mut self, now: Now) {
        let Some(timeout) = self.settings.offer_timeout else { return };
        let old: Vec<String> = self
            .offers
            .iter()
            .filter(|(_, offer)| now.mono >= offer.made + timeout)
            .map(|(id, _)| id.to_owned())
            .collect();
        for id in old {
            self.rescind(&id, true);
            self.allocation_wanted = true;
        }
    }

    /// An agent whose connection broke, and that does not register again: it may answer pings and yet be of no use.
    fn give_up_if_away(&mut self, now: Now, id: &str) {
        let due = match self.agents.get(id).and_then(|agent| agent.away) {
            Some(Away::Until(end)) if end <= now.mono => {
                self.count("master/slave_unreachable_scheduled");
                next_removal(&mut self.removal_next, &self.settings, now)
            }
            Some(Away::GivenUp(due)) => due,
            _ => return,
        };
        if due > now.mono {
            if let Some(agent) = self.agents.get_mut(id) {
                agent.away = Some(Away::GivenUp(due));
            }
            return;
        }
        let limit = mesos::units::format_duration(self.settings.agent_reregister_timeout);
        let message = format!("agent did not reregister within {limit} after disconnecting");
        self.mark_unreachable(now, id, &message);
    }

    fn give_recovered_agents_up(&mut self, now: Now) {
        if self.recovery_due.is_some_and(|due| now.mono >= due) {
            self.recovery_due = None;
            self.schedule_recovered_removals(now);
        }
        let due: Vec<String> = self
            .recovered_removals
            .iter()
            .filter(|(_, due)| **due <= now.mono)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.recovered_removals.remove(&id);
            // It may have come back meanwhile.
            if self.recovered_agents.contains_key(&id) {
                self.count("master/recovery_slave_removals");
                self.mark_unreachable(
                    now,
                    &id,
                    "agent did not re-register within agent_reregister_timeout after master failover",
                );
            }
        }
    }

    fn schedule_recovered_removals(&mut self, now: Now) {
        let (missing, all) = (self.recovered_agents.len(), self.registered_count());
        let (part, limit) =
            (missing as f64 / all.max(1) as f64, self.settings.recovery_removal_limit);
        if part > limit {
            let ids: Vec<&str> = self.recovered_agents.keys().collect();
            self.abdicate(&format!(
                "Post-recovery agent removal limit exceeded! After {} there were {missing} ({:.0}%) agents recovered from the registry that did not re-register: {}. The configured removal limit is {:.0}%. Please investigate or increase this limit to proceed further",
                mesos::units::format_duration(self.settings.agent_reregister_timeout),
                part * 100.0,
                ids.join(", "),
                limit * 100.0
            ));
            return;
        }
        let missing: Vec<String> = self.recovered_agents.keys().map(str::to_owned).collect();
        for id in missing {
            let due = next_removal(&mut self.removal_next, &self.settings, now);
            self.recovered_removals.insert(id, due);
        }
    }

    fn registered_count(&self) -> usize {
        self.registry.slaves.as_ref().map_or(0, |slaves| slaves.slaves.len())
    }

    /// The master must end: its leadership is lost.
    pub fn abdicate(&mut self, reason: &str) {
        self.effects.push(Effect::Abort(reason.to_owned()));
    }
}

/// When the next agent may be given up: no more often than `--agent_removal_rate_limit` says.
fn next_removal(next: &mut Duration, settings: &Settings, now: Now) -> Duration {
    let due = now.mono.max(*next);
    if let Some(interval) = settings.removal_interval {
        *next = due + interval;
    }
    due
}
