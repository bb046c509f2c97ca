//! What members tell each other of their clients: requests, sessions, and how far a client wants to see.

use jute::Writer;

use super::{Actor, Quorum, Request};
use crate::core::{Forward, read_touched};
use crate::quorum::packet::{Packet, kind};
use crate::server::replies::Held;
use crate::server::wall_ms;

impl Actor {
    pub(super) fn forward(&mut self, quorum: &mut Quorum, forward: Forward) {
        let Some(leader) = quorum.member.leader() else { return };
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
        quorum.relays.sent(&packet, None);
        quorum.send(self.now_ms(), leader, packet.encode());
    }

    /// What an observer asks the follower that serves it: the leader is asked in its place (`ObserverMaster`).
    pub(super) fn observer_packet(&mut self, quorum: &mut Quorum, from: i64, packet: Packet) {
        if packet.kind == kind::PING {
            for (session, _) in read_touched(packet.data.as_deref().unwrap_or_default()) {
                self.core.heard_elsewhere(session);
            }
        } else if let (Some(leader), Some(link)) = (quorum.member.leader(), quorum.links.get(&from))
        {
            quorum.relays.sent(&packet, Some((from, link.number)));
            quorum.send(self.now_ms(), leader, packet.encode());
        }
    }

    /// What a learner asks its leader.
    pub(super) fn learner_packet(&mut self, quorum: &mut Quorum, from: i64, packet: Packet) {
        let now_ms = self.now_ms();
        let data = packet.data.as_deref().unwrap_or_default();
        match packet.kind {
            kind::PING => {
                for (session, _) in read_touched(data) {
                    self.core.heard(now_ms, session);
                }
            }
            kind::REVALIDATE => {
                let Some((session, _)) = read_touched(data).first().copied() else { return };
                let is_valid = self.core.revalidate(now_ms, from, session);
                let mut data = Writer::new();
                data.long(session).boolean(is_valid);
                let packet = Packet::with(kind::REVALIDATE, -1, data.into_bytes());
                quorum.send(now_ms, from, packet.encode());
            }
            _ => self.take_turn(quorum, Request::Forwarded(from, packet)),
        }
    }

    pub(super) fn request(&mut self, quorum: &mut Quorum, from: i64, packet: Packet) {
        if quorum.ends_ms.is_some() {
            return;
        }
        let now_ms = self.now_ms();
        let is_sync = packet.is_sync();
        let data = packet.data.unwrap_or_default();
        if is_sync {
            let packet = Packet::bare(kind::SYNC, 0);
            // What came before it becomes a proposal first.
            let effects = self.core.take_effects();
            self.member_effects(quorum, effects);
            if quorum.proposed > quorum.committed {
                self.held.push_back((quorum.proposed, Held::Packet(from, packet)));
            } else {
                quorum.send(now_ms, from, packet.encode());
            }
            return;
        }
        self.note_synchronised(quorum, data.get(12..16));
        self.core.forwarded(now_ms, wall_ms(), from, &data, packet.ids.unwrap_or_default());
    }

    /// What a leader tells its follower.
    pub(super) fn leader_packet(&mut self, quorum: &mut Quorum, leader: i64, packet: Packet) {
        if packet.kind != kind::PING
            && let Some((observer, number)) = quorum.relays.answered(&packet)
        {
            if quorum.is_open(observer, number) {
                quorum.send(self.now_ms(), observer, packet.encode());
            }
            return;
        }
        let data = packet.data.as_deref().unwrap_or_default();
        match packet.kind {
            kind::PING => {
                let mut data = Writer::new();
                for (session, timeout) in self.core.take_touched() {
                    data.long(session).int(timeout);
                }
                let reply = Packet::with(kind::PING, packet.zxid, data.into_bytes());
                quorum.send(self.now_ms(), leader, reply.encode());
            }
            kind::REVALIDATE => {
                let mut reader = jute::Reader::new(data);
                if let (Ok(session), Ok(is_valid)) = (reader.long(), reader.boolean()) {
                    self.core.validated(session, is_valid);
                }
            }
            _ => self.core.synchronised(),
        }
    }
}
