//! A leader (`Leader`, `LearnerHandler`), without I/O: it settles an epoch with a quorum, brings learners to its own
//! history, and then has its proposals acknowledged.
//!
//! Everything in its log when it begins becomes committed with its epoch. A proposal is committed when a quorum, itself
//! included, has it on disk; each member acknowledges in order, so the last acknowledged zxid says it all.

use std::collections::BTreeMap;

use super::packet::{LEARNER_VERSION, Packet, kind};
use super::zab::{Epochs, History, Limits, Membership, Output, Proposal};

/// Transactions of one epoch; the rest of the 32 bits is for what is under way.
const EPOCH_MAX: i64 = 0xfff0_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for a quorum to say what epochs it has promised.
    Discovery,
    /// Waiting for a quorum to accept the new one.
    Promise,
    /// Waiting for a quorum to have taken over the history.
    Synchronisation,
    Broadcast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Informed,
    /// It accepted the epoch, and this is the last zxid in its log.
    Promised(i64),
    /// It has been sent the history, and gets proposals.
    Forwarding,
    /// It acknowledged the epoch.
    Synchronised,
}

#[derive(Debug, Clone)]
struct Learner {
    accepted: i64,
    stage: Stage,
    acknowledged: i64,
    heard_ms: i64,
}

/// The leader.
#[derive(Debug, Clone)]
pub struct Leader {
    members: Membership,
    limits: Limits,
    epochs: Epochs,
    /// The epoch that it leads; 0 until it is settled.
    epoch: i64,
    phase: Phase,
    since_ms: i64,
    learners: BTreeMap<i64, Learner>,
    /// Committed, or about to be with the epoch.
    committed: i64,
    logged: i64,
    proposed: i64,
    ping_ms: i64,
    outputs: Vec<Output>,
}

impl Leader {
    /// A leader of what is in its history.
    pub fn new(
        members: Membership,
        limits: Limits,
        epochs: Epochs,
        last: i64,
        now_ms: i64,
    ) -> Self {
        let mut leader = Self {
            members,
            limits,
            epochs,
            epoch: 0,
            phase: Phase::Discovery,
            since_ms: now_ms,
            learners: BTreeMap::new(),
            committed: last,
            logged: last,
            proposed: last,
            ping_ms: now_ms,
            outputs: Vec::new(),
        };
        leader.settle_epoch(now_ms);
        leader
    }

    /// What to do since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// The epoch, once it is settled.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether clients are served.
    pub fn serves(&self) -> bool {
        self.phase == Phase::Broadcast
    }

    /// Learners that are synchronised.
    pub fn synchronised(&self) -> usize {
        self.learners.values().filter(|learner| learner.stage == Stage::Synchronised).count()
    }

    fn send(&mut self, to: i64, packet: Packet) {
        self.outputs.push(Output::Send(to, packet));
    }

    fn give_up(&mut self, reason: impl Into<String>) {
        self.outputs.push(Output::GiveUp(reason.into()));
    }

    fn is_quorum_with_me(&self, accept: impl Fn(&Learner) -> bool) -> bool {
        let accepted =
            self.learners.iter().filter(|(_, learner)| accept(learner)).map(|(id, _)| id);
        self.members.is_quorum(accepted.chain([&self.members.id]))
    }

    fn enter(&mut self, phase: Phase, now_ms: i64) {
        self.phase = phase;
        self.since_ms = now_ms;
    }

    /// A learner's connection has ended.
    pub fn disconnected(&mut self, id: i64) {
        self.learners.remove(&id);
    }

    /// A packet of a learner.
    pub fn packet(&mut self, now_ms: i64, history: &History, from: i64, packet: Packet) {
        if packet.kind == kind::FOLLOWERINFO {
            let learner = Learner {
                accepted: packet.zxid >> 32,
                stage: Stage::Informed,
                acknowledged: 0,
                heard_ms: now_ms,
            };
            self.learners.insert(from, learner);
            if self.phase == Phase::Discovery {
                self.settle_epoch(now_ms);
            } else {
                self.inform(from);
            }
            return;
        }
        let Some(learner) = self.learners.get_mut(&from) else {
            self.outputs.push(Output::Drop(from));
            return;
        };
        learner.heard_ms = now_ms;
        match (packet.kind, learner.stage) {
            (kind::ACKEPOCH, Stage::Informed) if self.epoch != 0 => {
                self.promised(now_ms, history, from, packet);
            }
            (kind::ACK, Stage::Forwarding) => {
                learner.stage = Stage::Synchronised;
                self.synchronised_one(now_ms, from);
            }
            (kind::ACK, Stage::Synchronised) => {
                // The low word of an acknowledged epoch is 0: it adds nothing.
                learner.acknowledged = learner.acknowledged.max(packet.zxid);
                self.advance(history);
            }
            (kind::PING | kind::REQUEST | kind::REVALIDATE, Stage::Synchronised) => {
                self.outputs.push(Output::Pass(from, packet));
            }
            _ => {
                tracing::warn!("packet {} of server {from} is out of turn", packet.kind);
                self.learners.remove(&from);
                self.outputs.push(Output::Drop(from));
            }
        }
    }

    fn settle_epoch(&mut self, now_ms: i64) {
        if !self.is_quorum_with_me(|_| true) {
            return;
        }
        let promised = self.learners.values().map(|learner| learner.accepted);
        self.epoch = promised.chain([self.epochs.accepted]).max().unwrap_or_default() + 1;
        self.outputs.push(Output::SaveAcceptedEpoch(self.epoch));
        self.epochs.accepted = self.epoch;
        self.enter(Phase::Promise, now_ms);
        for id in self.learners.keys().copied().collect::<Vec<_>>() {
            self.inform(id);
        }
        self.count_promises(now_ms);
    }

    fn inform(&mut self, id: i64) {
        let version = LEARNER_VERSION.to_be_bytes().to_vec();
        self.send(id, Packet::with(kind::LEADERINFO, self.epoch << 32, version));
    }

    /// Whether a learner waits for the tree to hold only what is committed: nothing may be proposed meanwhile.
    pub fn wants_quiet(&self) -> bool {
        self.committed < self.proposed
            && self.phase == Phase::Broadcast
            && self.learners.values().any(|learner| matches!(learner.stage, Stage::Promised(_)))
    }

    fn promised(&mut self, now_ms: i64, history: &History, from: i64, packet: Packet) {
        let current = packet.data.as_deref().and_then(|data| data.first_chunk::<4>());
        let current = current.map_or(-1, |bytes| i64::from(i32::from_be_bytes(*bytes)));
        if self.phase == Phase::Promise
            && (current, packet.zxid) > (self.epochs.current, self.logged)
            && current != -1
        {
            self.give_up(format!("server {from} has a more recent history"));
            return;
        }
        if let Some(learner) = self.learners.get_mut(&from) {
            learner.stage = Stage::Promised(packet.zxid);
            // It already promised this epoch: it may be synchronised but is no proof.
            if current == -1 && self.phase == Phase::Promise {
                learner.accepted = -1;
            }
        }
        if self.phase == Phase::Promise {
            self.count_promises(now_ms);
        }
        if self.phase != Phase::Promise {
            self.synchronise_all(history);
        }
    }

    fn count_promises(&mut self, now_ms: i64) {
        if !self.is_quorum_with_me(|learner| {
            matches!(learner.stage, Stage::Promised(_)) && learner.accepted != -1
        }) {
            return;
        }
        self.outputs.push(Output::SaveCurrentEpoch(self.epoch));
        self.epochs.current = self.epoch;
        self.enter(Phase::Synchronisation, now_ms);
        self.finish_synchronisation(now_ms);
    }

    fn synchronise_all(&mut self, history: &History) {
        let waiting: Vec<(i64, i64)> = self
            .learners
            .iter()
            .filter_map(|(id, learner)| match learner.stage {
                Stage::Promised(last) => Some((*id, last)),
                _ => None,
            })
            .collect();
        for (id, last) in waiting {
            self.synchronise(history, id, last);
        }
    }

    /// Sends what a learner needs to have this leader's history (`LearnerHandler.syncFollower`).
    fn synchronise(&mut self, history: &History, id: i64, last: i64) {
        let missing: Option<Vec<Proposal>> =
            history.after(last).map(|missing| missing.cloned().collect());
        if let Some(missing) = missing {
            self.send(id, Packet::bare(kind::DIFF, self.committed));
            self.forward(id, missing);
        } else if last > history.last() && self.committed == history.last() {
            self.send(id, Packet::bare(kind::TRUNC, history.last()));
        } else if self.wants_quiet() {
            // The tree in memory is ahead of what is committed, and a tree can't be cut back like a log.
            return;
        } else {
            self.outputs.push(Output::SendSnapshot(id));
        }
        let text = self.members.text.clone().into_bytes();
        self.send(id, Packet::with(kind::NEWLEADER, self.epoch << 32, text));
        if let Some(learner) = self.learners.get_mut(&id) {
            learner.stage = Stage::Forwarding;
        }
    }

    fn forward(&mut self, id: i64, missing: Vec<Proposal>) {
        for proposal in missing {
            let data = proposal.data.to_vec();
            self.send(id, Packet::with(kind::PROPOSAL, proposal.zxid, data));
            if proposal.zxid <= self.committed {
                self.send(id, Packet::bare(kind::COMMIT, proposal.zxid));
            }
        }
    }

    fn synchronised_one(&mut self, now_ms: i64, id: i64) {
        if self.phase == Phase::Broadcast {
            self.send(id, Packet::bare(kind::UPTODATE, -1));
        } else {
            self.finish_synchronisation(now_ms);
        }
    }

    fn finish_synchronisation(&mut self, now_ms: i64) {
        if !self.is_quorum_with_me(|learner| learner.stage == Stage::Synchronised) {
            return;
        }
        self.enter(Phase::Broadcast, now_ms);
        self.outputs.push(Output::Serve(self.epoch << 32));
        let synchronised: Vec<i64> = self
            .learners
            .iter()
            .filter(|(_, learner)| learner.stage == Stage::Synchronised)
            .map(|(id, _)| *id)
            .collect();
        for id in synchronised {
            self.send(id, Packet::bare(kind::UPTODATE, -1));
        }
    }

    /// Proposes a transaction, which the tree has applied already. Only while [`Leader::serves`].
    pub fn propose(&mut self, proposal: Proposal) {
        self.proposed = proposal.zxid;
        let to: Vec<i64> = self.forwarding().collect();
        for id in to {
            self.send(id, Packet::with(kind::PROPOSAL, proposal.zxid, proposal.data.to_vec()));
        }
        let used = proposal.zxid & 0xffff_ffff;
        self.outputs.push(Output::Log(proposal));
        if used >= EPOCH_MAX {
            self.give_up("the numbers of this epoch are used up");
        }
    }

    fn forwarding(&self) -> impl Iterator<Item = i64> + '_ {
        self.learners
            .iter()
            .filter(|(_, learner)| matches!(learner.stage, Stage::Forwarding | Stage::Synchronised))
            .map(|(id, _)| *id)
    }

    /// The last zxid that was proposed.
    pub fn proposed(&self) -> i64 {
        self.proposed
    }

    /// Its own log is on disk up to here.
    pub fn logged(&mut self, history: &History, zxid: i64) {
        self.logged = zxid;
        self.advance(history);
    }

    /// Commits what a quorum has.
    fn advance(&mut self, history: &History) {
        if self.phase != Phase::Broadcast {
            return;
        }
        let mut acknowledged: Vec<i64> = self
            .learners
            .iter()
            .filter(|(id, learner)| {
                learner.stage == Stage::Synchronised && self.members.voters.contains(id)
            })
            .map(|(_, learner)| learner.acknowledged)
            .chain([self.logged])
            .collect();
        acknowledged.sort_unstable();
        let majority = self.members.voters.len() / 2 + 1;
        let Some(index) = acknowledged.len().checked_sub(majority) else { return };
        let reached = acknowledged[index].min(self.proposed);
        // Of this epoch only: what came before is committed with the epoch.
        let first = self.committed.max(self.epoch << 32) + 1;
        if reached < first {
            return;
        }
        let to: Vec<i64> = self.forwarding().collect();
        for zxid in first..=reached {
            for id in &to {
                self.send(*id, Packet::bare(kind::COMMIT, zxid));
            }
        }
        self.committed = reached;
        self.outputs.push(Output::Commit(reached));
        self.synchronise_all(history);
    }

    /// Time has passed: pings go out, and a leader without a quorum is none.
    pub fn tick(&mut self, now_ms: i64) {
        if self.phase != Phase::Broadcast {
            if now_ms - self.since_ms > self.limits.init_ms {
                self.give_up("no quorum of followers in initLimit");
            }
            return;
        }
        if now_ms < self.ping_ms {
            return;
        }
        self.ping_ms = now_ms + self.limits.tick_ms / 2;
        let silent: Vec<i64> = self
            .learners
            .iter()
            .filter(|(_, learner)| now_ms - learner.heard_ms > self.limit_of(learner))
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            tracing::warn!("server {id} is silent for too long");
            self.learners.remove(&id);
            self.outputs.push(Output::Drop(id));
        }
        if !self.is_quorum_with_me(|learner| learner.stage == Stage::Synchronised) {
            self.give_up("a quorum of followers is gone");
            return;
        }
        let to = self.learners.iter().filter(|(_, learner)| learner.stage == Stage::Synchronised);
        for id in to.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.send(id, Packet::bare(kind::PING, self.proposed));
        }
    }

    fn limit_of(&self, learner: &Learner) -> i64 {
        if learner.stage == Stage::Synchronised { self.limits.sync_ms } else { self.limits.init_ms }
    }
}
