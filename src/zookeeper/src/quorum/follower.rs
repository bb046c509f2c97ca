//! A learner (`Learner`, `Follower`, `Observer`), without I/O: it takes over the leader's history, then logs what is
//! proposed and applies what is committed, in order.
//!
//! The epoch in force is written only when the whole history is on disk, and acknowledged only then. A follower
//! acknowledges each proposal; an observer is informed of what was committed, and acknowledges the epoch alone.

use std::collections::VecDeque;

use jute::Writer;

use super::configuration::Configuration;
use super::membership::Membership;
use super::observers::{Observers, Place};
use super::packet::{LEARNER_VERSION, Packet, kind};
use super::zab::{Epochs, History, Limits, Output, Proposal};

/// A zxid that is in no ensemble's log: epochs begin at 1.
const NOWHERE: i64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Discovery,
    Synchronisation,
    /// The epoch is acknowledged.
    Acknowledged,
    Broadcast,
}

/// Whom a learner follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Who was elected.
    pub leader: i64,
    /// Whom it learns from: the leader, or a follower that serves observers.
    pub from: i64,
}

/// The follower, or observer.
#[derive(Debug, Clone)]
pub struct Follower {
    members: Membership,
    observes: bool,
    /// The leader's newest configuration: in force when the leader serves.
    announced: Option<Configuration>,
    source: Source,
    /// Those that this follower serves in the leader's place.
    observers: Option<Observers>,
    limits: Limits,
    epochs: Epochs,
    epoch: i64,
    phase: Phase,
    since_ms: i64,
    heard_ms: i64,
    /// The last zxid in the log, or on its way to it.
    last: i64,
    /// Proposals that are not committed.
    pending: VecDeque<Proposal>,
    /// The last zxid that is in the tree.
    delivered: i64,
    /// The last zxid whose acknowledgement was sent.
    acknowledged: i64,
    gave_up: bool,
    /// It told the leader of a zxid that is in nobody's log, to be sent a whole tree.
    wants_tree: bool,
    outputs: Vec<Output>,
}

impl Follower {
    /// A follower that is connected to whom it learns from; `last` is the last zxid in its log and tree.
    pub fn new(
        members: &Membership,
        limits: Limits,
        epochs: Epochs,
        source: Source,
        last: i64,
        now_ms: i64,
    ) -> Self {
        let mut info = Writer::new();
        info.long(members.id).int(LEARNER_VERSION).long(members.current().version);
        let observes = members.observes();
        let kind = if observes { kind::OBSERVERINFO } else { kind::FOLLOWERINFO };
        let hello = Packet::with(kind, epochs.accepted << 32, info.into_bytes());
        Self {
            members: members.clone(),
            observes,
            announced: None,
            source,
            observers: None,
            limits,
            epochs,
            epoch: 0,
            phase: Phase::Discovery,
            since_ms: now_ms,
            heard_ms: now_ms,
            last,
            pending: VecDeque::new(),
            delivered: last,
            acknowledged: last,
            gave_up: false,
            wants_tree: false,
            outputs: vec![Output::Send(source.from, hello)],
        }
    }

    /// Asks for a whole tree: the log can't be cut to where the leader's goes on.
    pub fn want_tree(&mut self) {
        self.wants_tree = true;
    }

    /// What to do since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Whom it learns from: the leader, or who stands in its place.
    pub fn source(&self) -> i64 {
        self.source.from
    }

    /// Observers that are synchronised with this follower, if it serves any.
    pub fn observers(&self) -> Option<impl Iterator<Item = i64> + '_> {
        self.observers.as_ref().map(Observers::synchronised)
    }

    fn tell_observers(&mut self, tell: impl FnOnce(&mut Observers)) {
        if let Some(observers) = &mut self.observers {
            tell(observers);
            self.outputs.extend(observers.take_outputs());
        }
    }

    /// A packet of an observer. `history` is what is in the log.
    pub fn observer_packet(&mut self, now_ms: i64, history: &History, from: i64, packet: Packet) {
        let (Some(observers), false) = (&mut self.observers, self.gave_up) else {
            self.outputs.push(Output::Drop(from));
            return;
        };
        let configuration = self.members.current();
        let place = Place { history, committed: self.delivered, configuration };
        observers.packet(now_ms, &place, from, packet);
        self.outputs.extend(observers.take_outputs());
    }

    /// The connection of an observer has ended.
    pub fn observer_left(&mut self, id: i64) {
        self.tell_observers(|observers| observers.disconnected(id));
    }

    /// What the log on disk has between an observer's and the history.
    pub fn lend(&mut self, to: i64, older: Vec<Proposal>) {
        self.tell_observers(|observers| observers.lend(to, older));
    }

    /// The epoch, once it is settled.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether clients are served.
    pub fn serves(&self) -> bool {
        self.phase == Phase::Broadcast
    }

    /// Takes the proposals that are logged but not committed: the tree of a member without a leader is as its log.
    pub fn take_pending(&mut self) -> VecDeque<Proposal> {
        std::mem::take(&mut self.pending)
    }

    fn send(&mut self, packet: Packet) {
        self.outputs.push(Output::Send(self.source.from, packet));
    }

    fn give_up(&mut self, reason: impl Into<String>) {
        self.gave_up = true;
        self.outputs.push(Output::GiveUp(reason.into()));
    }

    /// The tree that a SNAP packet announced is in memory and on disk.
    pub fn restored(&mut self, zxid: i64) {
        (self.last, self.delivered, self.acknowledged) = (zxid, zxid, zxid);
        self.pending.clear();
    }

    /// A packet of the leader.
    pub fn packet(&mut self, now_ms: i64, packet: Packet) {
        if self.gave_up {
            return;
        }
        self.heard_ms = now_ms;
        match (self.phase, packet.kind) {
            (Phase::Discovery, kind::LEADERINFO) => self.leader_info(now_ms, packet.zxid >> 32),
            (Phase::Synchronisation, kind::DIFF | kind::TRUNC) if self.wants_tree => {
                self.give_up("the leader does not send its whole tree, which this server needs");
            }
            (Phase::Synchronisation, kind::DIFF | kind::SNAP) => {}
            (Phase::Synchronisation, kind::TRUNC) => {
                self.outputs.push(Output::Truncate(packet.zxid));
                self.restored(packet.zxid);
            }
            (Phase::Synchronisation, kind::NEWLEADER) if packet.zxid >> 32 == self.epoch => {
                self.announce(packet.data.as_deref().unwrap_or_default());
                self.outputs.push(Output::SaveCurrentEpoch(self.epoch));
                self.epochs.current = self.epoch;
                self.phase = Phase::Acknowledged;
                self.send(Packet::bare(kind::ACK, self.epoch << 32));
                if !self.observes {
                    self.acknowledge_up_to(self.last);
                }
            }
            (Phase::Acknowledged, kind::UPTODATE) => {
                let announced = self.announced.take();
                let agreed = announced.filter(|announced| !self.is_under_way(announced));
                if agreed.is_some_and(|configuration| self.activate(configuration, None)) {
                    return;
                }
                self.phase = Phase::Broadcast;
                self.send(Packet::bare(kind::ACK, self.epoch << 32));
                self.outputs.push(Output::Serve(self.epoch << 32));
                if self.limits.tuning.observer_masters && !self.observes {
                    self.observers = Some(Observers::new(self.limits, self.epoch, now_ms));
                }
            }
            (Phase::Discovery, _) => self.give_up(format!("packet {} out of turn", packet.kind)),
            (_, kind::PROPOSAL) => self.proposal(packet.zxid, packet.data.unwrap_or_default()),
            (_, kind::COMMIT) => self.commit(packet.zxid, None),
            (_, kind::COMMITANDACTIVATE) => self.commit_and_activate(packet),
            (_, kind::INFORM) if self.observes => {
                self.inform(packet.zxid, packet.data.unwrap_or_default());
            }
            (_, kind::INFORMANDACTIVATE) if self.observes => self.inform_and_activate(packet),
            (_, kind::PING | kind::REVALIDATE | kind::SYNC) => {
                self.outputs.push(Output::Pass(self.source.from, packet));
            }
            _ => self.give_up(format!("packet {} out of turn", packet.kind)),
        }
    }

    fn leader_info(&mut self, now_ms: i64, epoch: i64) {
        let current = match epoch.cmp(&self.epochs.accepted) {
            std::cmp::Ordering::Greater => {
                self.outputs.push(Output::SaveAcceptedEpoch(epoch));
                self.epochs.accepted = epoch;
                self.epochs.current as i32
            }
            // Promised before: that must not count twice.
            std::cmp::Ordering::Equal => -1,
            std::cmp::Ordering::Less => {
                self.give_up(format!("the leader's epoch {epoch} is older than one promised"));
                return;
            }
        };
        self.epoch = epoch;
        self.phase = Phase::Synchronisation;
        self.since_ms = now_ms;
        let last = if self.wants_tree { NOWHERE } else { self.last };
        self.send(Packet::with(kind::ACKEPOCH, last, current.to_be_bytes().to_vec()));
    }

    /// What the leader's newest configuration is; older leaders say nothing.
    fn announce(&mut self, text: &[u8]) {
        if text.len() < 2 {
            return;
        }
        match Configuration::parse(&String::from_utf8_lossy(text)) {
            Ok(configuration) => {
                if self.members.adopt(configuration.clone()) {
                    self.outputs.push(Output::Propose(configuration.clone()));
                }
                self.announced = Some(configuration);
                // Changes of this epoch, not committed yet.
                for next in self.pending.iter().filter_map(Proposal::configuration) {
                    if self.members.propose(next.clone()) {
                        self.outputs.push(Output::Propose(next));
                    }
                }
            }
            Err(wrong) => tracing::warn!("the leader's configuration can't be read: {wrong}"),
        }
    }

    /// Whether a configuration is a change of this epoch that was proposed, but not committed. Leaders of the original's
    /// announce those too.
    fn is_under_way(&self, announced: &Configuration) -> bool {
        announced.version > self.delivered.max(self.epoch << 32)
    }

    /// Puts a configuration in force; whether this member has to begin anew, as it has another part in it, or another
    /// leader (`QuorumPeer.processReconfig`).
    fn activate(&mut self, next: Configuration, named: Option<i64>) -> bool {
        let Some(before) = self.members.activate(next.clone()) else { return false };
        self.outputs.push(Output::Activate(next.clone()));
        if before.is_same_as(&next) {
            return false;
        }
        let own = self.members.id;
        let addresses = |configuration: &Configuration| {
            let server = configuration.servers().get(&self.source.leader);
            let server = server.filter(|_| configuration.is_voter(self.source.leader));
            server.map(|server| server.addresses.clone())
        };
        let leader_changes = match named {
            Some(named) => named != self.source.leader,
            None => addresses(&next).is_none() || addresses(&next) != addresses(&before),
        };
        let role_changes = next.is_observer(own) != self.observes;
        if leader_changes || role_changes {
            if let Some(named) = named {
                self.outputs.push(Output::HandOver(named));
            }
            self.give_up("the ensemble has changed");
        }
        leader_changes || role_changes
    }

    fn commit_and_activate(&mut self, packet: Packet) {
        let next = self.pending.front().and_then(Proposal::configuration);
        let named = packet.data.as_deref().and_then(|data| data.first_chunk::<8>());
        let (Some(next), Some(named)) = (next, named) else {
            self.give_up(format!("commit 0x{:x} is of no configuration", packet.zxid));
            return;
        };
        let named = i64::from_be_bytes(*named);
        // First what clients may see, as there may be nobody to see it afterwards.
        self.commit(packet.zxid, Some(named));
        if !self.gave_up {
            self.activate(next, Some(named));
        }
    }

    fn inform(&mut self, zxid: i64, data: Vec<u8>) {
        self.proposal(zxid, data);
        if !self.gave_up {
            self.commit(zxid, None);
        }
    }

    fn inform_and_activate(&mut self, packet: Packet) {
        let data = packet.data.unwrap_or_default();
        let Some((named, data)) = data.split_first_chunk::<8>() else {
            self.give_up(format!("inform 0x{:x} names no leader", packet.zxid));
            return;
        };
        let named = i64::from_be_bytes(*named);
        let proposal = Proposal { zxid: packet.zxid, data: data.into() };
        let next = proposal.configuration();
        self.inform(packet.zxid, data.to_vec());
        if let (Some(next), false) = (next, self.gave_up) {
            self.activate(next, Some(named));
        }
    }

    fn proposal(&mut self, zxid: i64, data: Vec<u8>) {
        if zxid <= self.last {
            self.give_up(format!("proposal 0x{zxid:x} comes twice"));
            return;
        }
        let proposal = Proposal { zxid, data: data.into() };
        if let Some(next) = proposal.configuration()
            && self.members.propose(next.clone())
        {
            self.outputs.push(Output::Propose(next));
        }
        self.last = zxid;
        self.pending.push_back(proposal.clone());
        self.outputs.push(Output::Log(proposal));
    }

    fn commit(&mut self, zxid: i64, named: Option<i64>) {
        match self.pending.pop_front_if(|proposal| proposal.zxid == zxid) {
            Some(proposal) => {
                self.delivered = zxid;
                self.outputs.push(Output::Deliver(proposal.clone()));
                self.tell_observers(|observers| observers.inform(&proposal, named));
            }
            // It stays: it is in the log, so the tree will be given it when the leader is given up.
            None => {
                let head = self.pending.front().map_or(-1, |proposal| proposal.zxid);
                self.give_up(format!("commit 0x{zxid:x}, but 0x{head:x} is next"));
            }
        }
    }

    /// The log is on disk up to here.
    pub fn logged(&mut self, zxid: i64) {
        if !self.observes && matches!(self.phase, Phase::Acknowledged | Phase::Broadcast) {
            self.acknowledge_up_to(zxid);
        }
    }

    /// Acknowledges each proposal that is on disk. Of those before the epoch the leader needs only what is not
    /// committed yet.
    fn acknowledge_up_to(&mut self, zxid: i64) {
        let from = self.acknowledged;
        let fresh: Vec<i64> = self
            .pending
            .iter()
            .map(|proposal| proposal.zxid)
            .filter(|pending| (from + 1..=zxid).contains(pending))
            .collect();
        for pending in &fresh {
            self.send(Packet::bare(kind::ACK, *pending));
        }
        // What was committed by others before our own sync still moves the leader's idea of us.
        if fresh.last().copied().unwrap_or(from) < zxid && zxid > from {
            self.send(Packet::bare(kind::ACK, zxid));
        }
        self.acknowledged = self.acknowledged.max(zxid);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: i64) {
        let limit =
            if self.phase == Phase::Broadcast { self.limits.sync_ms } else { self.limits.init_ms };
        let since = if self.phase == Phase::Broadcast { self.heard_ms } else { self.since_ms };
        if now_ms - since > limit && !self.gave_up {
            self.give_up(format!("server {} is silent for too long", self.source.from));
        }
        let committed = self.delivered.max(self.epoch << 32);
        self.tell_observers(|observers| observers.tick(now_ms, committed));
    }
}

#[cfg(test)]
mod tests {
    use jute::txn::{Entry, Txn};

    use super::*;
    use crate::quorum::zab::Tuning;

    #[test]
    fn what_is_in_the_log_stays_for_the_tree_when_a_commit_is_of_another() {
        let limits = Limits { tick_ms: 100, init_ms: 1000, sync_ms: 500, tuning: Tuning::DEFAULT };
        let three = Configuration::for_tests(3, 0).at_version(1);
        let members = Membership::new(2, three, None, true);
        let source = Source { leader: 1, from: 1 };
        let mut follower = Follower::new(&members, limits, Epochs::default(), source, 0, 0);
        for zxid in [1, 2, 3] {
            let txn = Txn::Error { code: -101 };
            let entry = Entry { session: 1, cxid: 1, zxid, time: 0, txn, digest: None };
            follower.proposal(zxid, entry.encode());
        }
        follower.commit(1, None);
        assert!(!follower.gave_up);
        follower.commit(3, None);
        assert!(follower.gave_up);
        let kept: Vec<i64> = follower.take_pending().iter().map(|kept| kept.zxid).collect();
        assert_eq!(kept, [2, 3]);
    }

    #[test]
    fn what_a_leader_announces_is_in_force_unless_it_is_only_proposed() {
        const EPOCH: i64 = 1 << 32;
        let limits = Limits { tick_ms: 100, init_ms: 1000, sync_ms: 500, tuning: Tuning::DEFAULT };
        for (version, is_in_force) in [(2, true), (EPOCH, true), (EPOCH + 1, false)] {
            let members =
                Membership::new(2, Configuration::for_tests(3, 0).at_version(1), None, true);
            let mut follower = Follower::new(
                &members,
                limits,
                Epochs::default(),
                Source { leader: 1, from: 1 },
                0,
                0,
            );
            let next = Configuration::for_tests(3, 1).at_version(version);
            let txn = Txn::Reconfig { data: Some(next.to_string().into_bytes()) };
            let entry = Entry { session: 1, cxid: 1, zxid: version, time: 0, txn, digest: None };
            for packet in [
                Packet::with(kind::LEADERINFO, EPOCH, LEARNER_VERSION.to_be_bytes().to_vec()),
                Packet::bare(kind::DIFF, 0),
                Packet::with(kind::PROPOSAL, EPOCH + 1, entry.encode()),
                // The original's say this of what is only proposed, ours tell what is in force.
                Packet::with(kind::NEWLEADER, EPOCH, next.to_string().into_bytes()),
                Packet::bare(kind::UPTODATE, -1),
            ] {
                follower.packet(0, packet);
            }
            assert!(follower.serves());
            assert_eq!(follower.members.current().version == version, is_in_force, "{version:x}");
            let proposed = follower.members.proposed().map(|proposed| proposed.version);
            assert_eq!(proposed, (!is_in_force).then_some(version));
        }
    }
}
