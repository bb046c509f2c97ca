//! Replicas and coordinators on a network that loses, delays, reorders and repeats, on hosts that crash and lose disks.
//!
//! Each seed is one history. A failure prints its seed: `SEED=n cargo test -p replicated-log --test simulation` runs
//! that one alone.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use mesos::internal::log::metadata::Status;
use mesos::internal::log::{Action, Record};
use mesos::libprocess::Upid;
use replicated_log::message::{Envelope, REPLICA};
use replicated_log::{Event, Node, Replica, Settings};

const SEEDS: u64 = 4000;
/// Trouble in each history, in simulated milliseconds; then it heals.
const TROUBLE: u64 = 25_000;
const HEALED: u64 = 60_000;
const TICK: u64 = 200;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    fn chance(&mut self, in_thousand: u64) -> bool {
        self.below(1000) < in_thousand
    }
}

struct Host {
    node: Option<Node>,
    disk: Vec<Vec<Record>>,
    /// When it comes back.
    back: u64,
    leading: bool,
    writing: Option<Vec<u8>>,
}

struct UnderWay {
    seq: u64,
    envelope: Envelope,
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}
impl Eq for UnderWay {}
impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.seq.cmp(&other.seq)
    }
}

#[derive(Default)]
struct Seen {
    elections: u64,
    acknowledged: u64,
    crashes: u64,
    emptied: u64,
    demotions: u64,
    caught_up: u64,
}

struct World {
    random: Random,
    now: u64,
    hosts: Vec<Host>,
    network: BinaryHeap<Reverse<(u64, UnderWay)>>,
    sent: u64,
    loss: u64,
    isolated: BTreeSet<usize>,
    healed: bool,
    entries: u64,
    /// What was learned at each position by whoever learned it first.
    decided: BTreeMap<u64, Action>,
    /// Position of each acknowledged entry with the proposal it was written under.
    acknowledged: Vec<(u64, u64)>,
    seen: Seen,
}

fn upid(index: usize) -> Upid {
    Upid::new(REPLICA, ([127, 0, 0, 1], index as u16 + 1).into())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let count = if random.chance(250) { 5 } else { 3 };
        let loss = random.below(150);
        let hosts = (0..count)
            .map(|_| Host { node: None, disk: Vec::new(), back: 0, leading: false, writing: None })
            .collect();
        Self {
            random,
            now: 0,
            hosts,
            network: BinaryHeap::new(),
            sent: 0,
            loss,
            isolated: BTreeSet::new(),
            healed: false,
            entries: 0,
            decided: BTreeMap::new(),
            acknowledged: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn start(&mut self, index: usize) {
        let mut replica = Replica::default();
        for record in self.hosts[index].disk.iter().flatten() {
            replica.restore(record.clone());
        }
        let settings = Settings {
            own: upid(index),
            quorum: self.hosts.len() / 2 + 1,
            auto_initialize: true,
            round_limit: Duration::from_secs(3),
            seed: self.random.below(u64::MAX),
        };
        let mut node = Node::new(settings, replica, self.time());
        node.set_members(self.time(), (0..self.hosts.len()).map(upid).collect());
        self.hosts[index].node = Some(node);
        self.flush(index);
    }

    fn crash(&mut self, index: usize) {
        let back = self.now + 1 + self.random.below(4000);
        let host = &mut self.hosts[index];
        (host.node, host.back, host.leading, host.writing) = (None, back, false, None);
        self.seen.crashes += 1;
    }

    /// Carries out what a node wants, or dies over it.
    fn flush(&mut self, index: usize) {
        loop {
            let Some(node) = &mut self.hosts[index].node else { return };
            let output = node.take();
            if output.records.is_empty() && output.messages.is_empty() && output.events.is_empty() {
                return;
            }
            if !output.records.is_empty() {
                if !self.healed && self.random.chance(2) {
                    // Before the fsync: the batch is lost as a whole.
                    return self.crash(index);
                }
                self.hosts[index].disk.push(output.records);
                if !self.healed && self.random.chance(2) {
                    return self.crash(index);
                }
            }
            self.check_learned(index);
            for envelope in output.messages {
                self.post(index, envelope);
            }
            for event in output.events {
                self.event(index, event);
            }
        }
    }

    fn post(&mut self, from: usize, envelope: Envelope) {
        let to = envelope.to.address.port() as usize - 1;
        let cut = self.isolated.contains(&from) != self.isolated.contains(&to);
        let local = from == to;
        if !local && (cut || self.random.below(1000) < self.loss) {
            return;
        }
        let copies = if !local && !self.healed && self.random.chance(50) { 2 } else { 1 };
        for _ in 0..copies {
            let slow = !self.healed && self.random.chance(30);
            let delay = if local { 0 } else { 1 + self.random.below(if slow { 1500 } else { 30 }) };
            self.sent += 1;
            let under_way = UnderWay { seq: self.sent, envelope: envelope.clone() };
            self.network.push(Reverse((self.now + delay, under_way)));
        }
    }

    fn check_learned(&mut self, index: usize) {
        let Some(node) = &self.hosts[index].node else { return };
        let replica = node.replica();
        for position in replica.begin()..=replica.end() {
            let Some(action) = replica.action(position) else { continue };
            if action.learned != Some(true) {
                continue;
            }
            let first = self.decided.entry(position).or_insert_with(|| action.clone());
            assert_eq!(
                (action.r#type, &action.append, &action.truncate),
                (first.r#type, &first.append, &first.truncate),
                "position {position} was learned as two values, here by replica {index}"
            );
        }
    }

    fn event(&mut self, index: usize, event: Event) {
        let time = self.time();
        let Some(node) = &mut self.hosts[index].node else { return };
        let replica = node.replica();
        let position_of = |bytes: &[u8]| {
            (replica.begin()..=replica.end()).rev().find(|position| {
                let action = replica.action(*position);
                action.and_then(|action| action.append.as_ref()).is_some_and(|a| a.bytes == bytes)
            })
        };
        match event {
            Event::Elected(newest) => {
                self.seen.elections += 1;
                let found = newest.as_deref().and_then(position_of);
                let before = self.acknowledged.iter().filter(|(_, under)| *under < node.proposal());
                let needed = before.map(|(position, _)| *position).max();
                assert!(
                    found >= needed,
                    "replica {index} leads with the entry of {found:?}, but {needed:?} was acknowledged"
                );
                self.hosts[index].leading = true;
            }
            Event::Appended => {
                self.seen.acknowledged += 1;
                let entry = self.hosts[index].writing.take().expect("an append under way");
                let node = self.hosts[index].node.as_mut().expect("it spoke");
                let proposal = node.proposal();
                let position = self.decided.iter().find(|(_, action)| {
                    action.append.as_ref().is_some_and(|append| append.bytes == entry)
                });
                // One that a later coordinator found, told of and truncated already has no record left here.
                if let Some((position, _)) = position {
                    self.acknowledged.push((*position, proposal));
                }
            }
            Event::Demoted(_) => {
                self.seen.demotions += 1;
                (self.hosts[index].leading, self.hosts[index].writing) = (false, None);
                if self.healed {
                    self.hosts[index].node.as_mut().expect("it spoke").elect(time);
                }
            }
        }
    }

    fn append(&mut self, index: usize) {
        let time = self.time();
        let host = &mut self.hosts[index];
        let (Some(node), true, None) = (&mut host.node, host.leading, &host.writing) else {
            return;
        };
        self.entries += 1;
        let entry = self.entries.to_string().into_bytes();
        host.writing = Some(entry.clone());
        node.append(time, entry);
        self.flush(index);
    }

    fn voting(&self) -> usize {
        let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
        nodes.filter(|node| node.replica().status() == Status::Voting).count()
    }

    fn trouble(&mut self) {
        let count = self.hosts.len() as u64;
        let victim = self.random.below(count) as usize;
        if self.random.chance(20) {
            let heal = self.random.chance(400);
            let random = &mut self.random;
            self.isolated = (0..self.hosts.len()).filter(|_| !heal && random.chance(500)).collect();
            if self.random.chance(500) {
                self.isolated.insert(victim);
            }
        }
        if self.random.chance(10) && self.hosts[victim].node.is_some() {
            self.crash(victim);
        }
        if self.random.chance(10) && self.voting() == self.hosts.len() {
            self.crash(victim);
            self.hosts[victim].disk.clear();
            self.hosts[victim].back = self.now + 1;
            self.seen.emptied += 1;
        }
        if self.random.chance(40)
            && !self.hosts[victim].leading
            && let Some(node) = &mut self.hosts[victim].node
        {
            node.elect(Duration::from_millis(self.now));
            self.flush(victim);
        }
    }

    fn step(&mut self) {
        let next_tick = (self.now / TICK + 1) * TICK;
        while let Some(Reverse((at, _))) = self.network.peek()
            && *at < next_tick
        {
            let Some(Reverse((at, under_way))) = self.network.pop() else { break };
            self.now = at;
            let to = under_way.envelope.to.address.port() as usize - 1;
            let time = self.time();
            if let Some(node) = &mut self.hosts[to].node {
                let before = node.replica().status();
                node.receive(time, under_way.envelope);
                if before == Status::Recovering && node.replica().status() == Status::Voting {
                    self.seen.caught_up += 1;
                }
                self.flush(to);
            }
            let leader = self.random.below(self.hosts.len() as u64) as usize;
            if self.random.chance(100) {
                self.append(leader);
            }
        }
        self.now = next_tick;
        for index in 0..self.hosts.len() {
            let time = self.time();
            if let Some(node) = &mut self.hosts[index].node {
                node.tick(time);
                self.flush(index);
            } else if self.now >= self.hosts[index].back {
                self.start(index);
            }
        }
    }

    fn run(&mut self) {
        for index in 0..self.hosts.len() {
            self.start(index);
        }
        while self.now < TROUBLE {
            self.step();
            self.trouble();
        }
        (self.healed, self.loss) = (true, 0);
        self.isolated.clear();
        while self.voting() < self.hosts.len() {
            self.step();
            assert!(self.now < HEALED, "not all replicas vote after the network healed");
        }
        let acknowledged = self.seen.acknowledged;
        let time = self.time();
        self.hosts[0].leading = false;
        self.hosts[0].writing = None;
        self.crash(0);
        self.start(0);
        self.hosts[0].node.as_mut().expect("started").elect(time);
        while self.seen.acknowledged < acknowledged + 3 {
            self.step();
            self.append(0);
            assert!(self.now < 2 * HEALED, "nobody can write after the network healed");
        }
    }
}

#[test]
fn what_is_agreed_stays_agreed_and_what_is_acknowledged_is_never_lost() {
    let seeds = match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let alone = seeds.end - seeds.start == 1;
    let mut seen = Seen::default();
    for seed in seeds {
        let mut world = World::new(seed);
        let run = std::panic::AssertUnwindSafe(|| world.run());
        if let Err(panic) = std::panic::catch_unwind(run) {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            panic!("SEED={seed} at {} ms: {}", world.now, text.unwrap_or_default());
        }
        seen.elections += world.seen.elections;
        seen.acknowledged += world.seen.acknowledged;
        seen.crashes += world.seen.crashes;
        seen.emptied += world.seen.emptied;
        seen.demotions += world.seen.demotions;
        seen.caught_up += world.seen.caught_up;
    }
    // A simulation in which nothing happens would prove nothing.
    let Seen { elections, acknowledged, crashes, emptied, demotions, caught_up } = seen;
    let figures = format!(
        "{elections} elections, {acknowledged} acknowledged, {crashes} crashes, {emptied} emptied, {caught_up} caught up, {demotions} demoted"
    );
    let enough = [elections, acknowledged / 4, crashes, emptied, caught_up, demotions];
    assert!(alone || enough.iter().all(|count| *count > SEEDS / 4), "too tame: {figures}");
}
