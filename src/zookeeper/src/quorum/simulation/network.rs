//! The network between members. Notifications are lost, doubled and overtake each other. A connection keeps its order, and
//! delivers all or, when it ends, a first part; while there is no way between two servers it stalls.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Random, Simulation};
use crate::quorum::packet::Packet;
use crate::quorum::zab::Proposal;

/// A connection for Zab: its number, and when the last packet arrives each way.
#[derive(Debug, Clone, Copy)]
struct Link {
    id: u64,
    up_ms: i64,
    down_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Network {
    /// Pairs of servers without a way between them.
    blocked: BTreeSet<(i64, i64)>,
    /// By learner and leader.
    links: BTreeMap<(i64, i64), Link>,
    next_link: u64,
    /// Until when what was on its way when a connection ended still arrives at a server.
    ends: BTreeMap<(u64, i64), i64>,
    /// What waits for a way.
    stalled: Vec<(u64, Event)>,
    /// The latest arrival of what is on its way.
    latest_ms: i64,
}

impl Network {
    pub(super) fn is_blocked(&self, a: i64, b: i64) -> bool {
        self.blocked.contains(&(a.min(b), a.max(b)))
    }

    /// Blocks some way, or each between two parts of the ensemble.
    fn block(&mut self, random: &mut Random, ids: &[i64]) {
        let pick = |random: &mut Random| ids[random.below(ids.len() as u64) as usize];
        if random.percent(75) {
            let (a, b) = (pick(random), pick(random));
            self.blocked.insert((a.min(b), a.max(b)));
            return;
        }
        self.part(random, ids);
    }

    /// Blocks each way between two parts of the ensemble.
    pub(super) fn part(&mut self, random: &mut Random, ids: &[i64]) {
        let part = random.next();
        for a in ids {
            for b in ids.iter().filter(|b| a < b && part >> *a & 1 != part >> **b & 1) {
                self.blocked.insert((*a, *b));
            }
        }
    }

    /// The number of a learner's connection, while it is open.
    pub(super) fn link(&self, learner: i64, leader: i64) -> Option<u64> {
        self.links.get(&(learner, leader)).map(|link| link.id)
    }

    fn between(&self, a: i64, b: i64) -> Option<(i64, i64)> {
        [(a, b), (b, a)].into_iter().find(|key| self.links.contains_key(key))
    }

    fn of(&self, id: i64) -> Vec<(i64, i64)> {
        self.links
            .keys()
            .copied()
            .filter(|(learner, leader)| *learner == id || *leader == id)
            .collect()
    }

    /// Whether what was sent on a connection reaches a server: it is open, or was not long ago.
    fn reaches(&self, link: u64, from: i64, to: i64, now_ms: i64) -> Option<Reach> {
        match self.between(from, to) {
            Some(key) => (self.links[&key].id == link).then_some(Reach::Open),
            None => {
                let until_ms = self.ends.get(&(link, to))?;
                (now_ms <= *until_ms).then_some(Reach::Late)
            }
        }
    }
}

/// How a packet comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Open,
    /// Its connection has ended.
    Late,
}

impl Simulation {
    /// Something is on its way and takes so long.
    pub(super) fn travel(&mut self, delay_ms: i64, event: Event) {
        let arrives_ms = self.now_ms + delay_ms;
        if arrives_ms < self.network.latest_ms {
            self.faults.overtaken += 1;
        }
        self.network.latest_ms = self.network.latest_ms.max(arrives_ms);
        self.at(delay_ms, event);
    }

    pub(super) fn send(&mut self, from: i64, to: i64, packet: Packet, tree: Option<Vec<Proposal>>) {
        let delay_ms = 1 + self.random.below(20) as i64;
        let now_ms = self.now_ms;
        let Some(key) = self.network.between(from, to) else { return };
        let Some(link) = self.network.links.get_mut(&key) else { return };
        let last_ms = if key.0 == from { &mut link.up_ms } else { &mut link.down_ms };
        *last_ms = (now_ms + delay_ms).max(*last_ms);
        let (arrives_ms, connection) = (*last_ms, link.id);
        self.travel(arrives_ms - now_ms, Event::Packet { from, to, connection, packet, tree });
    }

    /// A packet has come all the way; `None` if it waits, or its connection is no more.
    pub(super) fn arrive(&mut self, sequence: u64, event: Event) -> Option<Event> {
        let Event::Packet { from, to, connection, .. } = event else { return Some(event) };
        if self.network.is_blocked(from, to) {
            self.faults.stalled += 1;
            self.network.stalled.push((sequence, event));
            return None;
        }
        let reach = self.network.reaches(connection, from, to, self.now_ms)?;
        self.faults.late += u64::from(reach == Reach::Late);
        Some(event)
    }

    /// Ends a connection, maybe at one server's wish: that one reads no more of it.
    fn cut(&mut self, (learner, leader): (i64, i64), by: Option<i64>) {
        let Some(link) = self.network.links.remove(&(learner, leader)) else { return };
        for (at, other) in [(learner, leader), (leader, learner)] {
            let delay_ms = self.random.below(300) as i64;
            if by != Some(at) {
                let more_ms = self.random.below(delay_ms as u64 + 1) as i64;
                self.network.ends.insert((link.id, at), self.now_ms + more_ms.min(30));
            }
            self.at(delay_ms, Event::Closed { at, other, connection: link.id });
        }
    }

    /// A server hangs up on another.
    pub(super) fn drop_link(&mut self, id: i64, other: i64) {
        while let Some(key) = self.network.between(id, other) {
            self.cut(key, Some(id));
        }
    }

    /// A server has no connections any more.
    pub(super) fn drop_links(&mut self, id: i64) {
        for key in self.network.of(id) {
            self.cut(key, Some(id));
        }
        self.network.ends.retain(|(_, at), _| *at != id);
    }

    /// Whether the end of a connection is news: there is no later one.
    pub(super) fn is_over(&self, at: i64, other: i64, connection: u64) -> bool {
        let is_later = |key| self.network.links.get(&key).is_some_and(|link| link.id > connection);
        !is_later((at, other)) && !is_later((other, at))
    }

    /// A learner has reached a leader, or a follower that serves observers.
    pub(super) fn open_link(&mut self, learner: i64, leader: i64) {
        self.network.next_link += 1;
        let (id, now_ms) = (self.network.next_link, self.now_ms);
        let link = Link { id, up_ms: now_ms, down_ms: now_ms };
        self.network.links.insert((learner, leader), link);
    }

    /// Ways are lost and found, connections end.
    pub(super) fn tick_network(&mut self, ids: &[i64]) {
        if self.random.percent(1) {
            self.network.block(&mut self.random, ids);
            self.faults.partitions += 1;
        }
        if self.random.percent(2) {
            self.unblock();
        }
        for (learner, leader) in self.network.links.keys().copied().collect::<Vec<_>>() {
            let is_blocked = self.network.is_blocked(learner, leader);
            if is_blocked && self.random.percent(5) || self.random.below(2000) == 0 {
                self.cut((learner, leader), None);
            }
        }
    }

    /// There is a way between all, and what waited for one arrives.
    pub(super) fn unblock(&mut self) {
        self.network.blocked.clear();
        for (sequence, event) in std::mem::take(&mut self.network.stalled) {
            // Under its number: connections keep the order.
            self.events.insert((self.now_ms, sequence), event);
        }
    }
}
