//! Observers that a follower serves in the leader's place (`ObserverMaster`), without I/O: they are brought to what is
//! committed here, and informed of what is committed from then on. What they ask goes to the leader as if it were asked
//! here ([`Relays`]).

use std::collections::{BTreeMap, VecDeque};

use super::configuration::Configuration;
use super::learners::{Learner, Stage, Way, is_ahead, may_synchronise, take_silent};
use super::packet::{LEARNER_VERSION, Packet, kind};
use super::zab::{History, Limits, Output, Proposal};

/// What the follower has.
pub(super) struct Place<'a> {
    pub(super) history: &'a History,
    /// The last zxid in its tree.
    pub(super) committed: i64,
    pub(super) configuration: &'a Configuration,
}

/// The observers of a follower.
#[derive(Debug, Clone)]
pub(super) struct Observers {
    limits: Limits,
    epoch: i64,
    learners: BTreeMap<i64, Learner>,
    ping_ms: i64,
    outputs: Vec<Output>,
}

impl Observers {
    pub(super) fn new(limits: Limits, epoch: i64, now_ms: i64) -> Self {
        Self { limits, epoch, learners: BTreeMap::new(), ping_ms: now_ms, outputs: Vec::new() }
    }

    pub(super) fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Those that are synchronised.
    pub(super) fn synchronised(&self) -> impl Iterator<Item = i64> + '_ {
        let learners = self.learners.iter();
        learners.filter(|(_, learner)| learner.stage == Stage::Synchronised).map(|(id, _)| *id)
    }

    /// A connection has ended.
    pub(super) fn disconnected(&mut self, id: i64) {
        self.learners.remove(&id);
    }

    /// What the log on disk has between an observer's and the history.
    pub(super) fn lend(&mut self, id: i64, older: Vec<Proposal>) {
        if let Some(learner) = self.learners.get_mut(&id) {
            learner.older = older;
        }
    }

    fn send(&mut self, to: i64, packet: Packet) {
        self.outputs.push(Output::Send(to, packet));
    }

    fn refuse(&mut self, id: i64) {
        self.learners.remove(&id);
        self.outputs.push(Output::Drop(id));
    }

    /// A packet of an observer.
    pub(super) fn packet(&mut self, now_ms: i64, at: &Place<'_>, from: i64, packet: Packet) {
        if packet.kind == kind::OBSERVERINFO {
            if is_ahead(&packet, at.configuration) {
                tracing::warn!("observer {from} has a later configuration than this server's");
                self.outputs.push(Output::Drop(from));
                return;
            }
            self.learners.insert(from, Learner::new(&packet, now_ms));
            let version = LEARNER_VERSION.to_be_bytes().to_vec();
            self.send(from, Packet::with(kind::LEADERINFO, self.epoch << 32, version));
            return;
        }
        let Some(learner) = self.learners.get_mut(&from) else {
            tracing::warn!("server {from} is no observer: only observers learn from a follower");
            self.outputs.push(Output::Drop(from));
            return;
        };
        learner.heard_ms = now_ms;
        match (packet.kind, learner.stage) {
            (kind::ACKEPOCH, Stage::Informed) => self.synchronise(at, from, packet.zxid),
            (kind::ACK, Stage::Forwarding) => {
                learner.stage = Stage::Synchronised;
                self.send(from, Packet::bare(kind::UPTODATE, -1));
            }
            // Observers acknowledge nothing but the epoch.
            (kind::ACK, Stage::Synchronised) => {}
            (kind::PING | kind::REQUEST | kind::REVALIDATE, Stage::Synchronised) => {
                self.outputs.push(Output::Pass(from, packet));
            }
            _ => {
                tracing::warn!("packet {} of observer {from} is out of turn", packet.kind);
                self.refuse(from);
            }
        }
    }

    /// Brings an observer whose log ends with `last` to what is committed here.
    fn synchronise(&mut self, at: &Place<'_>, id: i64, last: i64) {
        if last >> 32 == self.epoch && last > at.committed {
            tracing::info!("observer {id} is ahead of this server: it has to come again");
            self.refuse(id);
            return;
        }
        let Some(learner) = self.learners.get_mut(&id) else { return };
        let packets = learner.difference(at.history, last, at.committed);
        let way = if packets.is_some() { Way::Difference } else { Way::Tree };
        let is_beyond = |first: &Packet| first.kind == kind::TRUNC && first.zxid > at.committed;
        let cuts_beyond =
            packets.as_ref().and_then(|packets| packets.first()).is_some_and(is_beyond);
        if cuts_beyond || !may_synchronise(&mut self.learners, id, way, &self.limits.tuning) {
            self.refuse(id);
            return;
        }
        match packets {
            Some(packets) => {
                self.outputs.extend(packets.into_iter().map(|packet| Output::Send(id, packet)));
            }
            None => self.outputs.push(Output::SendSnapshot(id)),
        }
        let text = at.configuration.to_string().into_bytes();
        self.send(id, Packet::with(kind::NEWLEADER, self.epoch << 32, text));
        if let Some(learner) = self.learners.get_mut(&id) {
            learner.stage = Stage::Forwarding;
        }
    }

    /// A proposal is committed; `named` is the leader that a change of the ensemble names.
    pub(super) fn inform(&mut self, proposal: &Proposal, named: Option<i64>) {
        let to = self.learners.iter().filter(|(_, learner)| {
            matches!(learner.stage, Stage::Forwarding | Stage::Synchronised)
        });
        for id in to.map(|(id, _)| *id).collect::<Vec<_>>() {
            let packet = Packet::inform(proposal.zxid, &proposal.data, named);
            self.send(id, packet);
        }
    }

    /// Time has passed; `committed` is the last zxid in the tree.
    pub(super) fn tick(&mut self, now_ms: i64, committed: i64) {
        if now_ms < self.ping_ms {
            return;
        }
        self.ping_ms = now_ms + self.limits.tick_ms / 2;
        let silent = take_silent(&mut self.learners, now_ms, &self.limits);
        self.outputs.extend(silent.into_iter().map(Output::Drop));
        for id in self.synchronised().collect::<Vec<_>>() {
            self.send(id, Packet::bare(kind::PING, committed));
        }
    }
}

/// Who has asked the leader what it answers without naming whom: answers come in the order of the questions.
///
/// `T` is an observer's connection; what this server's own clients ask has none.
#[derive(Debug)]
pub(crate) struct Relays<T> {
    syncs: VecDeque<Option<T>>,
    sessions: VecDeque<(i64, Option<T>)>,
}

impl<T> Default for Relays<T> {
    fn default() -> Self {
        Self { syncs: VecDeque::new(), sessions: VecDeque::new() }
    }
}

impl<T> Relays<T> {
    /// A packet goes to the leader.
    pub(crate) fn sent(&mut self, packet: &Packet, asker: Option<T>) {
        if packet.is_sync() {
            self.syncs.push_back(asker);
        } else if let (kind::REVALIDATE, Some(session)) = (packet.kind, packet.session()) {
            self.sessions.push_back((session, asker));
        }
    }

    /// Whose answer this packet of the leader is: an observer's, or of a client of this server.
    pub(crate) fn answered(&mut self, packet: &Packet) -> Option<T> {
        if packet.kind == kind::SYNC {
            return self.syncs.pop_front().flatten();
        }
        let session = packet.session()?;
        let place = self.sessions.iter().position(|(asked, _)| *asked == session)?;
        self.sessions.remove(place).and_then(|(_, asker)| asker)
    }

    /// The leader is lost, and its answers with it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::zab::Tuning;

    const LIMITS: Limits =
        Limits { tick_ms: 100, init_ms: 1000, sync_ms: 500, tuning: Tuning::DEFAULT };
    const EPOCH: i64 = 1 << 32;

    /// A follower of three that has two transactions in its log, one of them committed.
    struct Scripted {
        observers: Observers,
        history: History,
        configuration: Configuration,
    }

    impl Scripted {
        fn new() -> Self {
            let mut history = History::new(0, 100);
            for zxid in [EPOCH + 1, EPOCH + 2] {
                history.push(Proposal { zxid, data: Vec::new().into() });
            }
            let observers = Observers::new(LIMITS, 1, 0);
            Self { observers, history, configuration: Configuration::for_tests(3, 0) }
        }

        /// Kinds and zxids of what is sent, and whether the connection ends.
        fn packet(&mut self, packet: Packet) -> (Vec<(i32, i64)>, bool) {
            let (history, configuration) = (&self.history, &self.configuration);
            let place = Place { history, committed: EPOCH + 1, configuration };
            self.observers.packet(0, &place, 4, packet);
            let outputs = self.observers.take_outputs();
            let ends = outputs.contains(&Output::Drop(4));
            let sent = outputs.into_iter().filter_map(|output| match output {
                Output::Send(4, packet) => Some((packet.kind, packet.zxid)),
                _ => None,
            });
            (sent.collect(), ends)
        }

        fn hello(&mut self, kind: i32) -> (Vec<(i32, i64)>, bool) {
            self.packet(Packet::with(kind, 0, vec![0; 20]))
        }

        fn promise(&mut self, last: i64) -> (Vec<(i32, i64)>, bool) {
            self.hello(kind::OBSERVERINFO);
            self.packet(Packet::with(kind::ACKEPOCH, last, vec![0; 4]))
        }
    }

    #[test]
    fn an_observer_gets_what_is_committed_and_is_informed_of_the_rest() {
        let mut scripted = Scripted::new();
        let (sent, _) = scripted.promise(0);
        let expected = [
            (kind::DIFF, EPOCH + 1),
            (kind::PROPOSAL, EPOCH + 1),
            (kind::COMMIT, EPOCH + 1),
            (kind::NEWLEADER, EPOCH),
        ];
        assert_eq!(sent, expected);
        scripted.observers.inform(&Proposal { zxid: EPOCH + 2, data: Vec::new().into() }, None);
        let informed = scripted.observers.take_outputs();
        assert_eq!(informed, [Output::Send(4, Packet::inform(EPOCH + 2, &[], None))]);
        assert_eq!(scripted.observers.synchronised().count(), 0);
        assert_eq!(scripted.packet(Packet::bare(kind::ACK, EPOCH)).0, [(kind::UPTODATE, -1)]);
        assert_eq!(scripted.observers.synchronised().count(), 1);
    }

    #[test]
    fn who_is_no_observer_or_ahead_is_sent_away() {
        assert!(Scripted::new().hello(kind::FOLLOWERINFO).1);
        // It was informed of what is only proposed here so far.
        assert!(Scripted::new().promise(EPOCH + 2).1);
        assert!(!Scripted::new().promise(EPOCH + 1).1);
    }

    #[test]
    fn answers_find_who_asked() {
        let sync = |session: i64| {
            let mut data = session.to_be_bytes().to_vec();
            data.extend([0, 0, 0, 1, 0, 0, 0, 9]);
            Packet::with(kind::REQUEST, -1, data)
        };
        let about =
            |session: i64| Packet::with(kind::REVALIDATE, -1, session.to_be_bytes().to_vec());
        let mut relays = Relays::default();
        for (asker, packet) in
            [(None, sync(1)), (Some(4), sync(2)), (Some(5), about(3)), (None, about(2))]
        {
            relays.sent(&packet, asker);
        }
        let answer = Packet::bare(kind::SYNC, 0);
        assert_eq!(relays.answered(&answer), None);
        assert_eq!(relays.answered(&answer), Some(4));
        assert_eq!(relays.answered(&about(2)), None);
        assert_eq!(relays.answered(&about(3)), Some(5));
        assert_eq!(relays.answered(&about(3)), None);
    }
}
