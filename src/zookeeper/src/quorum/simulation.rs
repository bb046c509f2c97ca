//! A deterministic simulation of an ensemble: the real decisions of every member on a virtual network and disk that
//! lose, delay, reorder, duplicate, partition, pause, jump in time, fill up and crash, while servers come, go and change
//! their parts.
//!
//! [`network`] and [`disk`] do to members what networks and disks do, [`writes`] make them write and change. [`checks`] say
//! what must hold of the members' logs. In a part of the simulations servers hold real trees ([`service`]) for [`clients`],
//! and [`promises`] say what must hold of what those are told. [`runs`] go through seeds.

mod checks;
mod clients;
mod disk;
mod network;
mod promises;
mod runs;
mod service;
mod writes;

use std::collections::{BTreeMap, BTreeSet};

use self::checks::Checks;
use self::clients::Client;
use self::network::Network;
use self::service::Service;
use super::configuration::Configuration;
use super::member::Member;
use super::membership::Membership;
use super::packet::{Notification, Packet, kind};
use super::zab::{Epochs, History, Limits, Output, Proposal, Tuning};

const LIMITS: Limits =
    Limits { tick_ms: 100, init_ms: 1500, sync_ms: 800, tuning: Tuning::DEFAULT };
/// Short, so that learners are often too far behind for a DIFF.
const HISTORY: usize = 6;
/// How often members look at their clocks.
const TICK_MS: i64 = 25;
/// What clocks begin at: they may go back from there.
const CLOCK_MS: i64 = 1_700_000_000_000;
/// What is under way never comes to that much, unless messages beget messages.
const EVENTS_MAX: usize = 5000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug)]
enum Event {
    Notification {
        from: i64,
        to: i64,
        notification: Notification,
        configuration: Configuration,
    },
    Packet {
        from: i64,
        to: i64,
        connection: u64,
        packet: Packet,
        tree: Option<Vec<Proposal>>,
    },
    Closed {
        at: i64,
        other: i64,
        connection: u64,
    },
    Flush {
        at: i64,
        life: u64,
    },
    /// A client's frame, or the end of its connection.
    Asked {
        at: i64,
        connection: u64,
        frame: Option<Vec<u8>>,
    },
    /// What a client is sent, or the end of its connection.
    Told {
        connection: u64,
        frame: Option<Vec<u8>>,
    },
    Tick,
}

#[derive(Default)]
struct Node {
    /// What survives a crash.
    log: Vec<Proposal>,
    epochs: Epochs,
    /// Written but not synced.
    unsynced: Vec<Proposal>,
    /// What is in memory: every transaction applied, in order.
    tree: Vec<Proposal>,
    member: Option<Member>,
    /// What its clients see, in simulations with clients.
    service: Option<Service>,
    life: u64,
    /// How many of the tree were seen to be committed.
    committed: usize,
    /// In its files: what is in force, and what was proposed.
    current: Option<Configuration>,
    proposed: Option<Configuration>,
    /// How far its clock has jumped: ahead, unless it begins anew.
    skew_ms: i64,
    /// How far the time of day is from it, as somebody sets that.
    wall_skew_ms: i64,
    /// It does nothing until then.
    paused_ms: i64,
}

/// What has gone wrong so far.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    crashes: u64,
    full_disks: u64,
    /// Crashes of all at once.
    blackouts: u64,
    /// Transactions that were not synced and are gone, and that are there all the same.
    lost: u64,
    survived: u64,
    /// Crashes that left a part of a transaction.
    torn: u64,
    pauses: u64,
    /// Clocks that went ahead, and times of day that were set.
    jumps: u64,
    partitions: u64,
    dropped: u64,
    doubled: u64,
    overtaken: u64,
    stalled: u64,
    /// Packets that came when their connection had ended.
    late: u64,
}

struct Simulation {
    random: Random,
    now_ms: i64,
    sequence: u64,
    events: BTreeMap<(i64, u64), Event>,
    nodes: BTreeMap<i64, Node>,
    network: Network,
    faults: Faults,
    calm: bool,
    /// Whether everything that happens is printed.
    is_traced: bool,
    is_dynamic: bool,
    /// Whether the network breaks just when the ensemble is to change.
    is_stormy: bool,
    limits: Limits,
    checks: Checks,
    clients: Vec<Client>,
    connections_of_clients: u64,
    /// The last write that a client was told of.
    known: i64,
    /// Requests that had to wait for their turn.
    deferred: u64,
    values: u64,
    snapshots: u64,
    truncations: u64,
    /// Times at which the network broke as the ensemble was to change.
    storms: u64,
    lent: u64,
    /// Connections of observers with followers.
    observed: u64,
}

impl Simulation {
    fn new(seed: u64, clients: usize) -> Self {
        let mut random = Random(seed);
        // What clients see of a change is another matter.
        let is_dynamic = random.percent(40) && clients == 0;
        let configuration = match random.below(4) {
            0 if !is_dynamic => writes::weighted(),
            1 => Configuration::for_tests(5, 0),
            2 => Configuration::for_tests(3, 1 + random.below(2) as i64),
            _ => Configuration::for_tests(3, 0),
        };
        // Some that are in no configuration at the beginning.
        let more = if is_dynamic { random.below(3) as i64 } else { 0 };
        let count = configuration.servers().len() as i64 + more;
        let observer_masters = seed % 3 == 1;
        let limits = Limits { tuning: Tuning { observer_masters, ..LIMITS.tuning }, ..LIMITS };
        let node = || Node { current: Some(configuration.clone()), ..Node::default() };
        let mut simulation = Self {
            random,
            now_ms: 0,
            sequence: 0,
            events: BTreeMap::new(),
            nodes: (1..=count).map(|id| (id, node())).collect(),
            network: Network::default(),
            faults: Faults::default(),
            calm: false,
            is_traced: false,
            is_dynamic,
            is_stormy: is_dynamic && seed.is_multiple_of(2),
            limits,
            checks: Checks::default(),
            clients: (0..clients).map(Client::new).collect(),
            connections_of_clients: 0,
            known: 0,
            deferred: 0,
            values: 0,
            snapshots: 0,
            truncations: 0,
            storms: 0,
            lent: 0,
            observed: 0,
        };
        for id in 1..=count {
            simulation.start(id);
        }
        simulation.at(0, Event::Tick);
        simulation
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>6} {}", self.now_ms, what());
        }
    }

    /// What a member's clock shows.
    fn clock(&self, id: i64) -> i64 {
        CLOCK_MS + self.now_ms + self.nodes[&id].skew_ms
    }

    /// The time of day that a member reads.
    fn wall(&self, id: i64) -> i64 {
        self.clock(id) + self.nodes[&id].wall_skew_ms
    }

    fn at(&mut self, delay_ms: i64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_ms + delay_ms, self.sequence), event);
    }

    fn start(&mut self, id: i64) {
        if !self.calm && self.random.percent(20) {
            // It begins with the time of day, whatever that is now.
            let skew_ms = self.random.below(2_000_000_000) as i64 - 1_000_000_000;
            self.nodes.get_mut(&id).unwrap().skew_ms = skew_ms;
            self.faults.jumps += 1;
        }
        let now_ms = self.clock(id);
        let (is_dynamic, limits) = (self.is_dynamic, self.limits);
        let has_clients = !self.clients.is_empty();
        let node = self.nodes.get_mut(&id).unwrap();
        node.service = has_clients.then(|| Service::new(id, &node.log, now_ms));
        let (current, proposed) = (node.current.clone().unwrap(), node.proposed.clone());
        let members = Membership::new(id, current, proposed, is_dynamic);
        node.life += 1;
        let (last, epochs) = (node.log.last().map_or(0, |last| last.zxid), node.epochs);
        node.tree = node.log.clone();
        node.committed = 0;
        node.unsynced.clear();
        let history = history(&node.log);
        node.member = Some(Member::new(members, limits, node.epochs, history, now_ms));
        self.trace(|| format!("server {id} starts at {last:x} with {epochs:?}"));
        self.carry_out(id);
    }

    fn crash(&mut self, id: i64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.member = None;
        let mut unsynced = std::mem::take(&mut node.unsynced);
        let left = disk::power_failure(&mut self.random, &unsynced);
        self.trace(|| format!("server {id} crashes: {left:?}"));
        let node = self.nodes.get_mut(&id).unwrap();
        self.faults.crashes += 1;
        self.faults.lost += (unsynced.len() - left.kept) as u64;
        self.faults.survived += left.kept as u64;
        self.faults.torn += u64::from(left.is_torn);
        unsynced.truncate(left.kept);
        node.log.extend(unsynced);
        self.hang_up_all(id);
        self.drop_links(id);
    }

    fn flush(&mut self, id: i64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let unsynced = std::mem::take(&mut node.unsynced);
        node.log.extend(unsynced);
    }

    /// What a server's shell does after each input.
    fn carry_out(&mut self, id: i64) {
        loop {
            let now_ms = self.clock(id);
            let is_idle = self.settle_service(id);
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(member) = &mut node.member else { return };
            let outputs = member.take_outputs();
            let notifications = member.take_notifications();
            let is_done = outputs.is_empty() && is_idle;
            let configuration =
                (!notifications.is_empty()).then(|| member.members().current().clone());
            for (to, notification) in notifications {
                let Some(configuration) =
                    configuration.as_ref().filter(|_| self.nodes.contains_key(&to))
                else {
                    continue;
                };
                let is_doubled = self.random.percent(10);
                self.faults.doubled += u64::from(is_doubled);
                for _ in 0..=u64::from(is_doubled) {
                    let delay_ms = 1 + self.random.below(60) as i64;
                    if self.network.is_blocked(id, to) || !self.calm && self.random.percent(10) {
                        self.faults.dropped += 1;
                        continue;
                    }
                    let notification = notification.clone();
                    let configuration = configuration.clone();
                    let event = Event::Notification { from: id, to, notification, configuration };
                    self.travel(delay_ms, event);
                }
            }
            let gave_up = outputs.iter().any(|output| matches!(output, Output::GiveUp(_)));
            for output in outputs {
                if !self.calm && self.random.below(3000) == 0 {
                    self.crash(id);
                    return;
                }
                self.output(id, output);
            }
            if gave_up {
                self.nodes.get_mut(&id).unwrap().member.as_mut().unwrap().look(now_ms);
            }
            if is_done && !self.serve_deferred(id) {
                return;
            }
        }
    }

    fn output(&mut self, id: i64, output: Output) {
        self.trace(|| format!("server {id}: {output:?}"));
        let node = self.nodes.get_mut(&id).unwrap();
        match output {
            Output::Send(to, packet) => self.send(id, to, packet, None),
            Output::SendSnapshot(to) => {
                self.snapshots += 1;
                let tree = node.tree.clone();
                let zxid = tree.last().map_or(0, |last| last.zxid);
                self.send(id, to, Packet::bare(kind::SNAP, zxid), Some(tree));
            }
            Output::Drop(other) => self.drop_link(id, other),
            Output::SaveAcceptedEpoch(epoch) => node.epochs.accepted = epoch,
            Output::SaveCurrentEpoch(epoch) => {
                self.flush(id);
                self.nodes.get_mut(&id).unwrap().epochs.current = epoch;
            }
            Output::Log(proposal) => {
                let life = node.life;
                node.unsynced.push(proposal);
                if node.unsynced.len() == 1 {
                    let delay_ms = self.random.below(15) as i64;
                    self.at(delay_ms, Event::Flush { at: id, life });
                }
            }
            Output::Truncate(zxid) => {
                self.truncations += 1;
                self.flush(id);
                let node = self.nodes.get_mut(&id).unwrap();
                node.log.retain(|proposal| proposal.zxid <= zxid);
                node.tree = node.log.clone();
                let is_kept = node.committed <= node.tree.len();
                assert!(is_kept, "server {id} cuts off what it took for committed");
                node.restore_service();
            }
            Output::Deliver(proposal) => {
                node.tree.push(proposal.clone());
                node.deliver(&proposal);
                // What comes before is committed with the epoch, if that is.
                if node.member.as_ref().is_some_and(Member::serves) {
                    let end = node.tree.len();
                    self.check(id, end);
                }
            }
            Output::Commit(zxid) => {
                let end = node.tree.partition_point(|proposal| proposal.zxid <= zxid);
                self.check(id, end);
                self.release(id, zxid);
            }
            Output::Serve(zxid) => {
                if node.member.as_ref().unwrap().leading().is_some() {
                    self.checks.leads(id, zxid >> 32);
                }
                let end = self.nodes[&id].tree.len();
                self.check(id, end);
                self.serve_clients(id, zxid);
            }
            Output::Lost => {
                self.flush(id);
                let node = self.nodes.get_mut(&id).unwrap();
                let kept = node.member.as_mut().unwrap().take_kept();
                node.tree.extend(kept.iter().cloned());
                node.lose_leader(&kept);
                self.hang_up_all(id);
                self.drop_links(id);
            }
            Output::Propose(newest) => node.proposed = Some(newest),
            Output::Activate(next) => {
                node.proposed.take_if(|proposed| proposed.version <= next.version);
                self.checks.activated(id, &next);
                node.current = Some(next);
            }
            Output::Pass(from, packet) => self.pass(id, from, packet),
            Output::GiveUp(_) | Output::HandOver(_) => {}
        }
    }

    /// A member takes the first `end` transactions of its tree for committed: everybody must agree.
    fn check(&mut self, id: i64, end: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        let begin = node.committed.min(end);
        for (index, proposal) in node.tree.iter().enumerate().take(end).skip(begin) {
            self.checks.committed(id, index, proposal);
        }
        node.committed = end;
    }

    fn step(&mut self) {
        assert!(self.events.len() < EVENTS_MAX, "messages multiply");
        let ((now_ms, sequence), event) = self.events.pop_first().unwrap();
        self.now_ms = now_ms;
        let at = match &event {
            Event::Notification { to, .. } | Event::Packet { to, .. } => Some(*to),
            Event::Closed { at, .. } | Event::Flush { at, .. } | Event::Asked { at, .. } => {
                Some(*at)
            }
            Event::Told { .. } | Event::Tick => None,
        };
        if let Some(until_ms) = at.map(|id| self.nodes[&id].paused_ms).filter(|at| *at > now_ms) {
            // Under its number: connections keep the order.
            self.events.insert((until_ms, sequence), event);
            return;
        }
        let now_ms = at.map_or(now_ms, |id| self.clock(id));
        let Some(event) = self.arrive(sequence, event) else { return };
        if !matches!(event, Event::Tick) {
            self.trace(|| format!("{event:?}"));
        }
        match event {
            Event::Notification { from, to, notification, configuration } => {
                if let Some(member) = self.nodes.get_mut(&to).unwrap().member.as_mut() {
                    member.notification(now_ms, from, notification, Some(configuration));
                    self.carry_out(to);
                }
            }
            Event::Packet { from, to, packet, tree, .. } => {
                let node = self.nodes.get_mut(&to).unwrap();
                let Some(member) = node.member.as_mut() else { return };
                let zxid = packet.zxid;
                if packet.kind == kind::ACKEPOCH
                    && self.random.percent(50)
                    && let Some(older) = older(&node.log, zxid, member.history().base())
                {
                    self.lent += 1;
                    member.lend(from, older);
                }
                if packet.kind == kind::TRUNC && self.random.percent(30) {
                    member.cannot_truncate(now_ms);
                } else {
                    member.packet(now_ms, from, packet);
                }
                if let Some(tree) = tree {
                    node.unsynced.clear();
                    node.log.clone_from(&tree);
                    node.tree = tree;
                    node.committed = 0;
                    member.restored(zxid, history(&node.log));
                    node.restore_service();
                }
                self.carry_out(to);
            }
            Event::Closed { at, other, connection } => {
                let is_over = self.is_over(at, other, connection);
                let member = self.nodes.get_mut(&at).unwrap().member.as_mut();
                if let Some(member) = member.filter(|_| is_over) {
                    member.disconnected(now_ms, other);
                    self.carry_out(at);
                }
            }
            Event::Flush { at, life } => {
                if self.nodes[&at].life == life && self.nodes[&at].member.is_some() {
                    if !self.calm && self.random.below(1500) == 0 {
                        // It leaves the ensemble, and takes part again when there is room.
                        self.faults.full_disks += 1;
                        self.crash(at);
                        return;
                    }
                    self.flush(at);
                    let node = self.nodes.get_mut(&at).unwrap();
                    if let Some(zxid) = node.log.last().map(|last| last.zxid) {
                        node.member.as_mut().unwrap().logged(zxid);
                    }
                    self.carry_out(at);
                }
            }
            Event::Asked { at, connection, frame } => self.asked(at, connection, frame),
            Event::Told { connection, frame } => self.told(connection, frame),
            Event::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        self.at(TICK_MS, Event::Tick);
        let ids: Vec<i64> = self.nodes.keys().copied().collect();
        for id in ids.iter().copied() {
            if self.nodes[&id].paused_ms > self.now_ms {
                continue;
            }
            if !self.calm && self.random.below(2000) == 0 {
                self.nodes.get_mut(&id).unwrap().paused_ms =
                    self.now_ms + self.random.below(3000) as i64;
                self.faults.pauses += 1;
                continue;
            }
            if !self.calm && self.random.below(1000) == 0 {
                let node = self.nodes.get_mut(&id).unwrap();
                if self.random.percent(50) {
                    node.skew_ms += self.random.below(3000) as i64;
                } else {
                    node.wall_skew_ms = self.random.below(200_000) as i64 - 100_000;
                }
                self.faults.jumps += 1;
            }
            let now_ms = self.clock(id);
            let Some(member) = self.nodes.get_mut(&id).unwrap().member.as_mut() else {
                if self.calm || self.random.percent(3) {
                    self.start(id);
                }
                continue;
            };
            member.tick(now_ms);
            self.tick_service(id);
            self.carry_out(id);
            self.dial(id);
            if self.clients.is_empty() {
                self.propose(id);
            }
            if !self.calm && self.random.below(600) == 0 {
                self.crash(id);
            }
        }
        self.tick_clients();
        if self.calm {
            return;
        }
        if self.random.below(600) == 0 {
            // What a quorum has not synced is gone everywhere.
            self.faults.blackouts += 1;
            for id in
                ids.iter().copied().filter(|id| self.nodes[id].member.is_some()).collect::<Vec<_>>()
            {
                self.crash(id);
            }
        }
        self.tick_network(&ids);
    }

    fn dial(&mut self, id: i64) {
        let clock_ms = self.clock(id);
        let dials = self.nodes[&id].member.as_ref().and_then(Member::dials);
        let is_reached = |leader: &i64| !self.network.is_blocked(id, *leader);
        let Some(leader) = dials.filter(is_reached) else { return };
        let observes = self.nodes[&id].member.as_ref().is_some_and(Member::dials_follower);
        let listens = |member: &Member| match member.following() {
            Some(follower) => observes && follower.observers().is_some(),
            None => !observes && member.leading().is_some(),
        };
        if !self.nodes[&leader].member.as_ref().is_some_and(listens) {
            self.nodes.get_mut(&id).unwrap().member.as_mut().unwrap().unreachable(leader);
            return;
        }
        self.observed += u64::from(observes);
        self.open_link(id, leader);
        self.nodes.get_mut(&id).unwrap().member.as_mut().unwrap().connected(clock_ms, leader);
        self.carry_out(id);
    }

    /// Whether all are one ensemble again, with the same tree.
    fn is_settled(&self) -> bool {
        let trees: BTreeSet<usize> = self.nodes.values().map(|node| node.committed).collect();
        self.clients.iter().all(Client::is_idle)
            && self.nodes.values().all(|node| {
                node.member.as_ref().is_some_and(Member::serves)
                    && node.paused_ms <= self.now_ms
                    && node.committed == node.tree.len()
            })
            && trees.len() == 1
            && self.checks.agreed.len() == *trees.first().unwrap()
    }
}

/// What a log on disk has between two zxids, if it has both.
fn older(log: &[Proposal], after: i64, until: i64) -> Option<Vec<Proposal>> {
    let place = |zxid| log.binary_search_by_key(&zxid, |proposal: &Proposal| proposal.zxid).ok();
    let begin = if after == 0 { 0 } else { place(after)? + 1 };
    let older = log.get(begin..=place(until)?)?;
    (!older.is_empty()).then(|| older.to_vec())
}

fn history(log: &[Proposal]) -> History {
    let begin = log.len().saturating_sub(HISTORY);
    let base = if begin == 0 { 0 } else { log[begin - 1].zxid };
    let mut history = History::new(base, HISTORY);
    for proposal in &log[begin..] {
        history.push(proposal.clone());
    }
    history
}
