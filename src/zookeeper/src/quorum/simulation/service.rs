//! A server's tree and clients in a simulation: what the shell (`server::ensemble`) does between them and its member.

use std::collections::VecDeque;

use jute::Writer;
use jute::request::opcode;
use jute::txn::{Entry, Txn};

use super::{Node, Simulation};
use crate::core::{ConnectionId, Core, Effect, Forward, Settings, State, read_touched};
use crate::disk::replay::replay;
use crate::metrics::Counter;
use crate::quorum::leader::Leader;
use crate::quorum::member::Member;
use crate::quorum::observers::Relays;
use crate::quorum::packet::{Packet, kind};
use crate::quorum::zab::Proposal;
use crate::server::ensemble::turns::Turns;

/// What waits for its turn.
enum Request {
    Frame(ConnectionId, Vec<u8>),
    Forwarded(i64, Packet),
}

/// What waits until everything before it is committed.
enum Held {
    Effect(Effect),
    Packet(i64, Packet),
}

pub(super) struct Service {
    pub(super) core: Core,
    turns: Turns<Request>,
    relays: Relays<(i64, u64)>,
    held: VecDeque<(i64, Held)>,
    proposed: i64,
    committed: i64,
    /// It waits for quiet, as for a snapshot.
    wants_quiet: bool,
    ticked_ms: i64,
}

fn state(log: &[Proposal]) -> State {
    let mut state = State::default();
    for proposal in log {
        replay(&mut state, Entry::decode(&proposal.data).unwrap());
    }
    state
}

impl Service {
    pub(super) fn new(id: i64, log: &[Proposal], now_ms: i64) -> Self {
        let settings = Settings { session_timeout_max_ms: 10_000, ..Settings::for_tests() };
        let mut core = Core::new(settings, state(log), now_ms);
        core.set_server_id(id);
        core.without_leader();
        let zxid = core.zxid();
        Self {
            core,
            turns: Turns::default(),
            relays: Relays::default(),
            held: VecDeque::new(),
            proposed: zxid,
            committed: zxid,
            wants_quiet: false,
            ticked_ms: 0,
        }
    }
}

impl Node {
    fn leads(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.leading().is_some() && member.serves())
    }

    /// What is in the log replaces the tree.
    pub(super) fn restore_service(&mut self) {
        if let Some(service) = &mut self.service {
            service.core.restore(state(&self.log));
        }
    }

    pub(super) fn deliver(&mut self, proposal: &Proposal) {
        if let Some(service) = &mut self.service {
            service.core.deliver(&Entry::decode(&proposal.data).unwrap());
            let mismatches = service.core.metrics.get(Counter::DigestMismatchesCount);
            assert_eq!(mismatches, 0, "the tree is not what the leader says it is");
        }
    }

    pub(super) fn lose_leader(&mut self, kept: &VecDeque<Proposal>) {
        let Some(service) = &mut self.service else { return };
        service.core.without_leader();
        service.held.clear();
        service.turns.clear();
        service.relays.clear();
        for proposal in kept {
            service.core.deliver(&Entry::decode(&proposal.data).unwrap());
        }
        (service.proposed, service.committed) = (service.core.zxid(), service.core.zxid());
    }

    fn is_quiet(&self) -> bool {
        let wants = self.service.as_ref().is_some_and(|service| {
            service.wants_quiet && service.proposed > service.committed && self.leads()
        });
        let leading = self.member.as_ref().and_then(Member::leading);
        wants || leading.is_some_and(Leader::wants_quiet)
    }
}

impl Simulation {
    pub(super) fn serve_clients(&mut self, id: i64, zxid: i64) {
        let now_ms = self.clock(id);
        let node = self.nodes.get_mut(&id).unwrap();
        let leads = node.member.as_ref().unwrap().leading().is_some();
        let Some(service) = &mut node.service else { return };
        if leads {
            service.core.lead(now_ms, zxid);
            (service.proposed, service.committed) = (zxid, zxid);
        } else {
            let observes = node.member.as_ref().unwrap().members().observes();
            service.core.follow(zxid, observes);
            (service.proposed, service.committed) = (0, 0);
        }
    }

    /// Proposes and sends what the core wants; whether that was nothing.
    pub(super) fn settle_service(&mut self, id: i64) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(service) = node.service.as_mut().filter(|_| node.member.is_some()) else {
            return true;
        };
        let effects = service.core.take_effects();
        let forwards = service.core.take_forwards();
        let is_idle = effects.is_empty() && forwards.is_empty();
        self.effects(id, effects);
        let leader = self.nodes[&id].member.as_ref().and_then(Member::leader);
        for forward in forwards {
            let packet = match forward {
                Forward::Request(data, ids) => {
                    Packet { kind: kind::REQUEST, zxid: -1, data: Some(data), ids: Some(ids) }
                }
                Forward::Revalidate(session, timeout) => {
                    let mut data = Writer::new();
                    data.long(session).int(timeout);
                    Packet::with(kind::REVALIDATE, -1, data.into_bytes())
                }
            };
            if let (Some(leader), Some(service)) =
                (leader, &mut self.nodes.get_mut(&id).unwrap().service)
            {
                service.relays.sent(&packet, None);
                self.send(id, leader, packet, None);
            }
        }
        is_idle
    }

    fn effects(&mut self, id: i64, effects: Vec<Effect>) {
        let node = self.nodes.get_mut(&id).unwrap();
        let leads = node.leads();
        for effect in effects {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(service) = &mut node.service else { return };
            match effect {
                Effect::Append(entry) => {
                    assert!(leads, "0x{:x} without leading", entry.zxid);
                    if matches!(entry.txn, Txn::CloseSession { .. }) {
                        self.checks.model.doomed.insert(entry.session);
                    }
                    let proposal = Proposal { zxid: entry.zxid, data: entry.encode().into() };
                    self.checks.written(&proposal);
                    service.proposed = entry.zxid;
                    node.tree.push(proposal.clone());
                    node.member.as_mut().unwrap().propose(proposal);
                }
                Effect::Send(..) | Effect::Close(_)
                    if leads && service.proposed > service.committed =>
                {
                    service.held.push_back((service.proposed, Held::Effect(effect)));
                }
                other => self.perform(id, other),
            }
        }
    }

    fn perform(&mut self, id: i64, effect: Effect) {
        match effect {
            Effect::Send(to, frame) | Effect::SendAtOnce(to, frame) => {
                self.tell(id, to.0, Some(frame));
            }
            Effect::Close(to) => self.tell(id, to.0, None),
            Effect::Append(_) => {}
        }
    }

    /// What was proposed up to here is committed.
    pub(super) fn release(&mut self, id: i64, zxid: i64) {
        let Some(service) = &mut self.nodes.get_mut(&id).unwrap().service else { return };
        service.committed = zxid;
        service.core.settle(zxid);
        service.wants_quiet &= service.proposed > zxid;
        let count = service.held.iter().take_while(|(needed, _)| *needed <= zxid).count();
        for (_, held) in service.held.drain(..count).collect::<Vec<_>>() {
            match held {
                Held::Effect(effect) => self.perform(id, effect),
                Held::Packet(to, packet) => self.send(id, to, packet, None),
            }
        }
    }

    fn take_turn(&mut self, id: i64, request: Request) {
        let node = self.nodes.get_mut(&id).unwrap();
        let is_quiet = node.is_quiet();
        let Some(service) = &mut node.service else { return };
        match service.turns.admit(is_quiet, request) {
            Some(request) => self.request(id, request),
            None => self.deferred += 1,
        }
    }

    /// Whether a request that waited has had its turn.
    pub(super) fn serve_deferred(&mut self, id: i64) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let is_quiet = node.is_quiet();
        let next = node.service.as_mut().and_then(|service| service.turns.next(is_quiet));
        next.map(|request| self.request(id, request)).is_some()
    }

    fn request(&mut self, id: i64, request: Request) {
        let (now_ms, wall_ms) = (self.clock(id), self.wall(id));
        let node = self.nodes.get_mut(&id).unwrap();
        let leads = node.leads();
        let serves = node.member.as_ref().is_some_and(Member::serves);
        let Some(service) = node.service.as_mut().filter(|_| serves) else { return };
        match request {
            Request::Frame(from, frame) if leads => {
                service.core.frame(now_ms, wall_ms, from, &frame);
            }
            Request::Frame(from, frame) => service.core.follower_frame(now_ms, from, &frame),
            Request::Forwarded(from, packet) => {
                let data = packet.data.unwrap_or_default();
                if data.get(12..16) == Some(&opcode::SYNC.to_be_bytes()) {
                    let effects = service.core.take_effects();
                    self.effects(id, effects);
                    let packet = Packet::bare(kind::SYNC, 0);
                    let service = self.nodes.get_mut(&id).unwrap().service.as_mut().unwrap();
                    if service.proposed > service.committed {
                        service.held.push_back((service.proposed, Held::Packet(from, packet)));
                    } else {
                        self.send(id, from, packet, None);
                    }
                } else {
                    let ids = packet.ids.unwrap_or_default();
                    service.core.forwarded(now_ms, wall_ms, from, &data, ids);
                }
            }
        }
    }

    /// What members tell each other of clients.
    pub(super) fn pass(&mut self, id: i64, from: i64, packet: Packet) {
        let now_ms = self.clock(id);
        let node = self.nodes.get_mut(&id).unwrap();
        let leads = node.member.as_ref().is_some_and(|member| member.leading().is_some());
        let Some(service) = &mut node.service else { return };
        let core = &mut service.core;
        let touched = read_touched(packet.data.as_deref().unwrap_or_default());
        let source = node.member.as_ref().and_then(Member::leader);
        if !leads && source != Some(from) {
            if packet.kind == kind::PING {
                for (session, _) in touched {
                    core.heard_elsewhere(session);
                }
            } else if let Some(leader) = source {
                let connection = self.network.link(from, id);
                service.relays.sent(&packet, connection.map(|number| (from, number)));
                self.send(id, leader, packet, None);
            }
            return;
        }
        if !leads
            && packet.kind != kind::PING
            && let Some((to, number)) = service.relays.answered(&packet)
        {
            if self.network.link(to, id) == Some(number) {
                self.send(id, to, packet, None);
            }
            return;
        }
        let reply = match packet.kind {
            kind::PING if leads => {
                for (session, _) in touched {
                    core.heard(now_ms, session);
                }
                return;
            }
            kind::PING => {
                let mut data = Writer::new();
                for (session, timeout) in core.take_touched() {
                    data.long(session).int(timeout);
                }
                Packet::with(kind::PING, packet.zxid, data.into_bytes())
            }
            kind::REVALIDATE if leads => {
                let Some((session, _)) = touched.first() else { return };
                let is_valid = core.revalidate(now_ms, from, *session);
                let mut data = Writer::new();
                data.long(*session).boolean(is_valid);
                Packet::with(kind::REVALIDATE, -1, data.into_bytes())
            }
            kind::REVALIDATE => {
                let data = packet.data.unwrap_or_default();
                let mut reader = jute::Reader::new(&data);
                if let (Ok(session), Ok(is_valid)) = (reader.long(), reader.boolean()) {
                    core.validated(session, is_valid);
                }
                return;
            }
            _ if leads => return self.take_turn(id, Request::Forwarded(from, packet)),
            _ => return core.synchronised(),
        };
        self.send(id, from, reply, None);
    }

    pub(super) fn tick_service(&mut self, id: i64) {
        let (now_ms, wall_ms) = (self.clock(id), self.wall(id));
        let begins_to_wait = self.random.below(40) == 0;
        let node = self.nodes.get_mut(&id).unwrap();
        let may_tick = node.leads() && !node.is_quiet();
        let Some(service) = &mut node.service else { return };
        service.wants_quiet |= begins_to_wait && service.proposed > service.committed;
        if may_tick && now_ms - service.ticked_ms >= super::LIMITS.tick_ms / 2 {
            service.ticked_ms = now_ms;
            service.core.tick(now_ms, wall_ms);
        }
    }

    /// A client connects, asks, or hangs up.
    pub(super) fn asked(&mut self, at: i64, connection: u64, frame: Option<Vec<u8>>) {
        let from = ConnectionId(connection);
        let wall_ms = self.wall(at);
        let node = self.nodes.get_mut(&at).unwrap();
        let serves = node.member.as_ref().is_some_and(Member::serves);
        let (Some(service), true) = (node.service.as_mut(), serves) else {
            self.tell(at, connection, None);
            return;
        };
        match frame {
            None => service.core.closed(from),
            // The first frame comes with the connection.
            Some(frame) if frame.is_empty() => {
                service.core.opened(wall_ms, from, "client:1", Vec::new());
            }
            Some(frame) => self.take_turn(at, Request::Frame(from, frame)),
        }
        self.carry_out(at);
    }
}
