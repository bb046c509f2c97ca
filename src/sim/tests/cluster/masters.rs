//! Hosts of masters: the core, the log's node and its disk, and what the shell does for them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use master::core::model::{Now, StreamId};
use master::core::{Effect, Master, Settings};
use mesos::internal::Registry;
use mesos::internal::log::Record;
use mesos::libprocess::Upid;
use mesos::libprocess::inbound::Header;
use mesos::v1;
use mesos::v1::scheduler::{Call, call};
use prost::Message as _;
use replicated_log::message::REPLICA;
use replicated_log::{Event, Node, Replica};
use sim::network::Place;
use uuid::Uuid;

use super::{Happening, MASTERS, Wire, World, address, place_of};

/// How long the registry may take to be read or written.
const STORE_LIMIT: u64 = 20_000;
pub(super) const PING: Duration = Duration::from_secs(3);
pub(super) const PINGS: u32 = 3;
pub(super) const REREGISTER: Duration = Duration::from_secs(40);

/// How far a master is.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Following,
    /// Asking for the right to write, until then.
    Electing(u64),
    /// Writing back what it read, until then.
    WritingBack(Box<Registry>, u64),
    Leading,
}

/// What a master's actor takes.
pub(super) enum Input {
    Message(Header, Vec<u8>),
    Subscribe(Place, Uuid, Box<call::Subscribe>),
    Call(Place, Uuid, Box<Call>),
    Closed(Uuid),
    Exited(Place),
}

/// A host of a master.
#[derive(Default)]
pub(super) struct MasterHost {
    pub(super) life: u64,
    started: u64,
    disk: Vec<Vec<Record>>,
    node: Option<Node>,
    phase: Phase,
    pub(super) master: Option<Master>,
    /// Effects behind a change of the registry that is being written, and until when it may take.
    storing: Option<(Vec<Effect>, u64)>,
    inputs: VecDeque<Input>,
    pub(super) paused_until: u64,
    streams: BTreeMap<Uuid, Place>,
}

impl MasterHost {
    pub(super) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Whether an operator's change would be taken in now.
    pub(super) fn takes_changes(&self, now: u64) -> bool {
        self.master.is_some() && self.storing.is_none() && self.paused_until <= now
    }
}

fn replica(place: Place) -> Upid {
    Upid::new(REPLICA, address(place))
}

impl World {
    pub(super) fn master_now(&self, index: usize) -> Now {
        Now { wall: self.wall(index), mono: self.mono(self.masters[index].started) }
    }

    fn node_now(&self, index: usize) -> Duration {
        self.mono(self.masters[index].started)
    }

    pub(super) fn start_master(&mut self, index: usize) {
        let now = self.now();
        let seed = self.random.number();
        let host = &mut self.masters[index];
        host.life += 1;
        host.started = now;
        let mut read = Replica::default();
        for record in host.disk.iter().flatten() {
            read.restore(record.clone());
        }
        let settings = replicated_log::Settings {
            own: replica(index),
            quorum: MASTERS / 2 + 1,
            auto_initialize: true,
            round_limit: Duration::from_secs(3),
            seed,
        };
        let mut node = Node::new(settings, read, Duration::ZERO);
        node.set_members(Duration::ZERO, (0..MASTERS).map(replica).collect());
        host.node = Some(node);
        let life = host.life;
        self.tell(|| format!("master {index} starts"));
        self.zookeeper.queue.push((index, life));
        self.leader_may_have_changed();
        self.flush_node(index);
    }

    pub(super) fn crash_master(&mut self, index: usize) {
        self.tell(|| format!("master {index} ends"));
        self.checks.count("masters crashed");
        let life = self.masters[index].life;
        let host = &mut self.masters[index];
        *host = MasterHost {
            life,
            started: host.started,
            disk: std::mem::take(&mut host.disk),
            ..MasterHost::default()
        };
        // ZooKeeper closes the session at once, or when it hears nothing any more.
        let session = if self.random.chance(500) { 1 } else { self.random.between(1000, 8000) };
        self.agenda.after(session, Happening::Expires(index, life));
        let back = self.random.between(1, 15_000);
        self.agenda.after(back, Happening::Starts(index));
        self.process_ended(index);
    }

    /// Connections of a process that ended break.
    pub(super) fn process_ended(&mut self, place: Place) {
        let (to, from) = self.network.peers(place);
        for peer in to {
            // What it wrote may still arrive.
            if self.random.chance(500) {
                self.network.break_off(place, peer);
            } else {
                self.network.dial_anew(place, peer);
            }
        }
        for peer in from {
            self.breaks(peer, place);
        }
    }

    pub(super) fn leader(&self) -> Option<Place> {
        self.zookeeper.queue.first().map(|(place, _)| *place)
    }

    pub(super) fn leader_may_have_changed(&mut self) {
        for place in 0..MASTERS + self.agents.len() + self.schedulers.len() {
            let delay = self.random.between(1, 500);
            self.agenda.after(delay, Happening::Looks(place));
        }
    }

    pub(super) fn expires(&mut self, place: Place, life: u64) {
        self.zookeeper.queue.retain(|contender| *contender != (place, life));
        self.leader_may_have_changed();
    }

    /// Somebody sees in ZooKeeper who leads.
    pub(super) fn looks(&mut self, place: Place) {
        if self.zookeeper.away.contains(&place) || !self.is_up(place) {
            return;
        }
        let leader = self.leader();
        if place < MASTERS {
            let leads = self.zookeeper.queue.first() == Some(&(place, self.masters[place].life));
            let host = &self.masters[place];
            if leads && matches!(host.phase, Phase::Following) {
                self.tell(|| format!("master {place} is elected"));
                let (now, limit) = (self.node_now(place), self.now() + STORE_LIMIT);
                let host = &mut self.masters[place];
                host.phase = Phase::Electing(limit);
                host.node.as_mut().unwrap().elect(now);
                self.flush_node(place);
            } else if !leads && !matches!(host.phase, Phase::Following) {
                self.crash_master(place);
            }
        } else if place - MASTERS < self.agents.len() {
            self.agent_sees(place - MASTERS, leader);
        } else {
            self.scheduler_sees(place - MASTERS - self.agents.len(), leader);
        }
    }

    pub(super) fn master_hears(&mut self, index: usize, from: Place, wire: Wire) {
        match wire {
            Wire::Log(envelope) => {
                let now = self.node_now(index);
                if let Some(node) = &mut self.masters[index].node {
                    node.receive(now, *envelope);
                }
                self.flush_node(index);
            }
            Wire::Message(header, body) => self.master_input(index, Input::Message(header, body)),
            Wire::Subscribe(stream, subscribe) => {
                self.master_input(index, Input::Subscribe(from, stream, subscribe));
            }
            Wire::Call(stream, call) => self.master_input(index, Input::Call(from, stream, call)),
            Wire::Closed(stream) => self.master_input(index, Input::Closed(stream)),
            Wire::Event(..) => {}
        }
    }

    pub(super) fn master_exited(&mut self, index: usize, peer: Place) {
        let streams = &self.masters[index].streams;
        let closed: Vec<Uuid> =
            streams.iter().filter(|(_, place)| **place == peer).map(|(id, _)| *id).collect();
        for stream in closed {
            self.master_input(index, Input::Closed(stream));
        }
        if peer >= MASTERS {
            self.master_input(index, Input::Exited(peer));
        }
    }

    fn master_input(&mut self, index: usize, input: Input) {
        self.masters[index].inputs.push_back(input);
        self.take_inputs(index);
    }

    /// Takes what waits, unless the registry is being written.
    fn take_inputs(&mut self, index: usize) {
        while self.masters[index].storing.is_none()
            && let Some(input) = self.masters[index].inputs.pop_front()
        {
            let now = self.master_now(index);
            let host = &mut self.masters[index];
            let Some(master) = &mut host.master else {
                if let Input::Subscribe(from, stream, _) = input {
                    // It says that another leads, or none.
                    self.send(index, from, Wire::Closed(stream));
                }
                continue;
            };
            match input {
                Input::Message(header, body) => {
                    self.checks.master_hears(index, now.mono, &header);
                    master.message(now, &header, &body).expect("a message of our own");
                }
                Input::Subscribe(from, stream, subscribe) => {
                    host.streams.insert(stream, from);
                    master.subscribe(now, StreamId(stream), *subscribe);
                }
                Input::Call(from, stream, call) => {
                    if let Err(error) = master.call(now, None, Some(&stream.to_string()), *call) {
                        self.tell(|| format!("master {index} refuses a call: {error:?}"));
                        self.send(index, from, Wire::Closed(stream));
                    }
                }
                Input::Closed(stream) => {
                    host.streams.remove(&stream);
                    master.stream_closed(now, StreamId(stream));
                }
                Input::Exited(peer) => master.peer_exited(now, address(peer)),
            }
            self.master_effects(index);
        }
    }

    /// Carries out what a master wants, up to the first change of the registry.
    pub(super) fn master_effects(&mut self, index: usize) {
        if self.masters[index].storing.is_some() {
            return;
        }
        let now = self.master_now(index);
        let Some(master) = &mut self.masters[index].master else { return };
        master.tick(now);
        let effects = master.take_effects();
        self.check_master(index);
        self.carry_out(index, effects);
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            match effect {
                Effect::Store => {
                    // It holds all changes so far.
                    let rest = effects.filter(|effect| *effect != Effect::Store).collect();
                    let (now, limit) = (self.node_now(index), self.now() + STORE_LIMIT);
                    let host = &mut self.masters[index];
                    host.storing = Some((rest, limit));
                    let entry = host.master.as_ref().map(|master| master.registry.encode_to_vec());
                    let (Some(node), Some(entry)) = (&mut host.node, entry) else { return };
                    node.append(now, entry);
                    self.checks.count("registry written");
                    return self.flush_node(index);
                }
                Effect::Send { from, to, name, body } => {
                    self.tell(|| format!("master {index} sends {name} to {to}"));
                    let header =
                        Header { from: Upid::new(from, address(index)), to: to.id.clone(), name };
                    self.send(index, place_of(to.address), Wire::Message(header, body));
                }
                Effect::Relink(to) => self.network.dial_anew(index, place_of(to.address)),
                Effect::Event(stream, event) => {
                    if let Some(place) = self.masters[index].streams.get(&stream.0).copied() {
                        self.send(index, place, Wire::Event(stream.0, event));
                    }
                }
                Effect::Close(stream) => {
                    if let Some(place) = self.masters[index].streams.remove(&stream.0) {
                        self.send(index, place, Wire::Closed(stream.0));
                    }
                }
                Effect::Notify(_) => {}
                Effect::Abort(reason) => {
                    self.tell(|| format!("master {index} aborts: {reason}"));
                    return self.crash_master(index);
                }
            }
        }
    }

    /// Carries out what a log's node wants.
    pub(super) fn flush_node(&mut self, index: usize) {
        loop {
            let Some(node) = &mut self.masters[index].node else { return };
            let output = node.take();
            if output.records.is_empty() && output.messages.is_empty() && output.events.is_empty() {
                return;
            }
            if !output.records.is_empty() {
                if !self.is_calm && self.random.chance(1) {
                    // Before the fsync: the batch is lost as a whole.
                    return self.crash_master(index);
                }
                self.masters[index].disk.push(output.records);
            }
            for envelope in output.messages {
                let to = place_of(envelope.to.address);
                if to == index {
                    let now = self.node_now(index);
                    let Some(node) = &mut self.masters[index].node else { return };
                    node.receive(now, envelope);
                } else {
                    self.send(index, to, Wire::Log(Box::new(envelope)));
                }
            }
            for event in output.events {
                self.log_tells(index, event);
            }
        }
    }

    fn log_tells(&mut self, index: usize, event: Event) {
        let now = self.node_now(index);
        match event {
            Event::Elected(newest) => {
                let limit = self.now() + STORE_LIMIT;
                let host = &mut self.masters[index];
                let (Phase::Electing(_), Some(node)) = (&host.phase, &mut host.node) else {
                    return;
                };
                let registry = newest.as_deref().map(Registry::decode).transpose();
                let registry = registry.expect("what was written").unwrap_or_default();
                node.append(now, registry.encode_to_vec());
                host.phase = Phase::WritingBack(Box::new(registry), limit);
            }
            Event::Appended => {
                let host = &mut self.masters[index];
                if let Some((effects, _)) = host.storing.take() {
                    self.carry_out(index, effects);
                    self.take_inputs(index);
                } else if let Phase::WritingBack(registry, _) = std::mem::take(&mut host.phase) {
                    host.phase = Phase::Leading;
                    self.lead(index, *registry);
                }
            }
            Event::Demoted(_) => {
                let host = &self.masters[index];
                if !matches!(host.phase, Phase::Following | Phase::Electing(_)) {
                    self.crash_master(index);
                }
            }
        }
    }

    fn lead(&mut self, index: usize, registry: Registry) {
        self.tell(|| format!("master {index} leads"));
        self.checks.count("masters led");
        let now = self.master_now(index);
        let life = self.masters[index].life;
        let settings = Settings {
            agent_ping_timeout: PING,
            max_agent_ping_timeouts: PINGS,
            agent_reregister_timeout: REREGISTER,
            offer_timeout: self.random.chance(300).then_some(Duration::from_secs(8)),
            seed: self.random.seed(),
            ..Settings::default()
        };
        let info = v1::MasterInfo { id: format!("m{index}-{life}"), ..Default::default() };
        self.checks.leads(index, now.mono, &registry);
        self.masters[index].master = Some(Master::elected(settings, info, registry, now));
        self.master_effects(index);
    }

    pub(super) fn tick_master(&mut self, index: usize) {
        let (time, now) = (self.now(), self.node_now(index));
        let host = &mut self.masters[index];
        let Some(node) = &mut host.node else { return };
        node.tick(now);
        let late = match (&host.phase, &host.storing) {
            (Phase::Electing(limit) | Phase::WritingBack(_, limit), _) | (_, Some((_, limit))) => {
                time >= *limit
            }
            _ => false,
        };
        if late {
            return self.crash_master(index);
        }
        self.flush_node(index);
        self.master_effects(index);
    }
}
