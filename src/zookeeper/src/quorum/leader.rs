//! A leader (`Leader`, `LearnerHandler`), without I/O: it settles an epoch with a quorum, brings learners to its own
//! history, and then has its proposals acknowledged.
//!
//! Everything in its log when it begins becomes committed with its epoch. A proposal is committed when a quorum, itself
//! included, has it on disk; each member acknowledges in order, so the last acknowledged zxid says it all.
//!
//! A change of the ensemble is a proposal like any other, but it and what follows it need quorums of both
//! configurations until it is committed.

use std::collections::{BTreeMap, VecDeque};

use super::configuration::Configuration;
use super::learners::{Learner, Stage, Way, is_ahead, may_synchronise, take_silent};
use super::membership::Membership;
use super::packet::{LEARNER_VERSION, Packet, kind};
use super::zab::{Epochs, History, Limits, Output, Proposal};

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
    /// Proposed, but not committed.
    outstanding: VecDeque<Proposal>,
    /// The change of the ensemble among them, and its zxid.
    change: Option<(i64, Configuration)>,
    /// Another server was named leader: nothing is committed here any more.
    is_replaced: bool,
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
            outstanding: VecDeque::new(),
            change: None,
            is_replaced: false,
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

    /// Learners that are synchronised and log what is proposed, and this member.
    pub fn synchronised(&self) -> impl Iterator<Item = i64> + Clone + '_ {
        self.accepting(|learner| learner.stage == Stage::Synchronised && !learner.observes)
    }

    /// Every connected learner: its id, whether it observes, and whether it is synchronised.
    pub fn learners(&self) -> impl Iterator<Item = (i64, bool, bool)> + '_ {
        self.learners
            .iter()
            .map(|(id, learner)| (*id, learner.observes, learner.stage == Stage::Synchronised))
    }

    /// Where it is on its way to lead, in the original's words (`QuorumPeer.ZabState`).
    pub fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Discovery | Phase::Promise => "discovery",
            Phase::Synchronisation => "synchronization",
            Phase::Broadcast => "broadcast",
        }
    }

    /// Whether everything proposed is committed, as far as this leader may commit.
    pub fn is_done(&self) -> bool {
        self.outstanding.is_empty() || self.is_replaced
    }

    fn send(&mut self, to: i64, packet: Packet) {
        self.outputs.push(Output::Send(to, packet));
    }

    fn give_up(&mut self, reason: impl Into<String>) {
        self.outputs.push(Output::GiveUp(reason.into()));
    }

    /// This member and the learners for which something holds.
    fn accepting<'a>(
        &'a self,
        accept: impl Fn(&Learner) -> bool + Clone + 'a,
    ) -> impl Iterator<Item = i64> + Clone + 'a {
        let learners = self.learners.iter().filter(move |(_, learner)| accept(learner));
        learners.map(|(id, _)| *id).chain([self.members.id])
    }

    /// What the oracle says.
    pub fn set_oracle(&mut self, grants: bool) {
        self.members.set_oracle(grants);
    }

    /// Whether no follower is there and none is needed (`QuorumOracleMaj.updateNeedOracle`).
    fn stands_alone(&self) -> bool {
        self.members.may_stand_alone() && self.learners.values().all(|learner| learner.observes)
    }

    /// Whether they are a quorum of the configuration in force: what counts for an epoch.
    fn is_quorum_in_force(&self, accept: impl Fn(&Learner) -> bool + Clone) -> bool {
        self.stands_alone() || self.members.current().is_quorum(self.accepting(accept))
    }

    /// Whether they are a quorum of each configuration that counts.
    fn is_quorum_of_all(&self, accept: impl Fn(&Learner) -> bool + Clone) -> bool {
        self.stands_alone() || self.members.is_quorum(self.accepting(accept))
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
        if matches!(packet.kind, kind::FOLLOWERINFO | kind::OBSERVERINFO) {
            if is_ahead(&packet, self.members.current()) {
                tracing::warn!("server {from} has a later configuration than this leader's");
                self.outputs.push(Output::Drop(from));
                return;
            }
            let learner = Learner::new(&packet, now_ms);
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
                let has_more = learner.acknowledged > self.committed;
                self.synchronised_one(now_ms, from);
                if has_more {
                    self.advance(history);
                }
            }
            (kind::ACK, Stage::Synchronised) => {
                // The low word of an acknowledged epoch is 0: it adds nothing.
                learner.acknowledged = learner.acknowledged.max(packet.zxid);
                // What is committed already needs no more of them.
                if packet.zxid > self.committed {
                    self.advance(history);
                }
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

    /// What waited for the other one's word waits no longer.
    fn go_on_alone(&mut self, now_ms: i64, history: &History) {
        match self.phase {
            Phase::Discovery => self.settle_epoch(now_ms),
            Phase::Promise => self.count_promises(now_ms),
            Phase::Synchronisation => self.finish_synchronisation(now_ms),
            Phase::Broadcast => self.advance(history),
        }
    }

    fn settle_epoch(&mut self, now_ms: i64) {
        if !self.is_quorum_in_force(|_| true) {
            return;
        }
        let promised = self.learners.values().map(|learner| learner.accepted);
        self.epoch = promised.chain([self.epochs.accepted]).max().unwrap_or_default() + 1;
        self.outputs.push(Output::SaveAcceptedEpoch(self.epoch));
        self.epochs.accepted = self.epoch;
        if self.members.newest().version == 0 {
            let numbered = self.members.current().at_version(self.epoch << 32);
            if self.members.propose(numbered.clone()) {
                self.outputs.push(Output::Propose(numbered));
            }
        }
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
            if self.members.current().is_voter(from) {
                self.give_up(format!("server {from} has a more recent history"));
            } else {
                tracing::warn!("server {from} has a more recent history, but no vote");
                self.learners.remove(&from);
                self.outputs.push(Output::Drop(from));
            }
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
        if !self.is_quorum_in_force(|learner| {
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

    /// A learner's log ends where the history in memory does not reach, but the disk's does: what is between them.
    pub fn lend(&mut self, id: i64, older: Vec<Proposal>) {
        if let Some(learner) = self.learners.get_mut(&id) {
            learner.older = older;
        }
    }

    fn may_synchronise(&mut self, id: i64, way: Way) -> bool {
        let may = may_synchronise(&mut self.learners, id, way, &self.limits.tuning);
        if !may {
            self.outputs.push(Output::Drop(id));
        }
        may
    }

    /// Sends what a learner needs to have this leader's history (`LearnerHandler.syncFollower`).
    fn synchronise(&mut self, history: &History, id: i64, last: i64) {
        let Some(learner) = self.learners.get_mut(&id) else { return };
        if let Some(packets) = learner.difference(history, last, self.committed) {
            if !self.may_synchronise(id, Way::Difference) {
                return;
            }
            // What is in its log it acknowledges with the epoch, and never again: maybe that was lost with the connection
            // on which it was proposed.
            if packets.first().is_some_and(|first| first.kind == kind::DIFF)
                && let Some(learner) = self.learners.get_mut(&id)
            {
                learner.acknowledged = last;
            }
            self.outputs.extend(packets.into_iter().map(|packet| Output::Send(id, packet)));
        } else if self.wants_quiet() {
            // The tree in memory is ahead of what is committed, and a tree can't be cut back like a log.
            return;
        } else if self.may_synchronise(id, Way::Tree) {
            self.outputs.push(Output::SendSnapshot(id));
        } else {
            return;
        }
        let text = self.announced().to_string().into_bytes();
        self.send(id, Packet::with(kind::NEWLEADER, self.epoch << 32, text));
        if let Some(learner) = self.learners.get_mut(&id) {
            learner.stage = Stage::Forwarding;
        }
    }

    /// What a learner puts in force when it is synchronised. With an epoch begins what its leader knew to be proposed;
    /// later a change is in force when it is committed. (The original announces it before. A learner then spreads what
    /// nobody agreed on, and a quorum of that elects a leader that lacks what was committed.)
    fn announced(&self) -> &Configuration {
        if self.phase == Phase::Broadcast { self.members.current() } else { self.members.newest() }
    }

    fn synchronised_one(&mut self, now_ms: i64, id: i64) {
        if self.phase == Phase::Broadcast {
            self.send(id, Packet::bare(kind::UPTODATE, -1));
        } else {
            self.finish_synchronisation(now_ms);
        }
    }

    fn finish_synchronisation(&mut self, now_ms: i64) {
        if !self.is_quorum_of_all(|learner| learner.stage == Stage::Synchronised) {
            return;
        }
        self.enter(Phase::Broadcast, now_ms);
        if let Some(proposed) = self.members.proposed().cloned() {
            self.activate(proposed, self.epoch << 32);
        }
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
        if let Some(next) = proposal.configuration()
            && self.members.propose(next.clone())
        {
            self.outputs.push(Output::Propose(next.clone()));
            self.change = Some((proposal.zxid, next));
        }
        let to: Vec<i64> = self.forwarding(false).collect();
        for id in to {
            self.send(id, Packet::with(kind::PROPOSAL, proposal.zxid, proposal.data.to_vec()));
        }
        let used = proposal.zxid & 0xffff_ffff;
        self.outstanding.push_back(proposal.clone());
        self.outputs.push(Output::Log(proposal));
        if used >= EPOCH_MAX {
            self.give_up("the numbers of this epoch are used up");
        }
    }

    /// Those who get everything from now on: followers, or observers.
    fn forwarding(&self, observers: bool) -> impl Iterator<Item = i64> + '_ {
        self.learners
            .iter()
            .filter(move |(_, learner)| {
                matches!(learner.stage, Stage::Forwarding | Stage::Synchronised)
                    && learner.observes == observers
            })
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

    /// The last zxid that a quorum of a configuration has on disk.
    fn reached(&self, configuration: &Configuration) -> i64 {
        if self.stands_alone() {
            return self.logged;
        }
        let learners = self.learners.iter();
        let mut acknowledged: Vec<(i64, i64)> = learners
            .filter(|(_, learner)| learner.stage == Stage::Synchronised && !learner.observes)
            .map(|(id, learner)| (learner.acknowledged, *id))
            .chain([(self.logged, self.members.id)])
            .collect();
        acknowledged.sort_unstable_by_key(|(zxid, _)| std::cmp::Reverse(*zxid));
        let reached = (1..=acknowledged.len()).find(|count| {
            configuration.is_quorum(acknowledged[..*count].iter().map(|(_, id)| *id))
        });
        reached.map_or(0, |count| acknowledged[count - 1].0)
    }

    /// Commits what a quorum has.
    fn advance(&mut self, history: &History) {
        if self.phase != Phase::Broadcast || self.is_replaced {
            return;
        }
        let mut reached = self.reached(self.members.current()).min(self.proposed);
        let mut change = None;
        if let Some((zxid, next)) = self.change.take_if(|(zxid, _)| *zxid <= reached) {
            if self.reached(&next) < zxid {
                reached = zxid - 1;
                self.change = Some((zxid, next));
            } else {
                reached = zxid;
                change = Some(next);
            }
        }
        // Of this epoch only: what came before is committed with the epoch.
        if reached > self.committed.max(self.epoch << 32) {
            self.commit(reached, change);
            self.synchronise_all(history);
            // Behind a change another quorum counts.
            self.advance(history);
        }
    }

    /// Commits up to a zxid, of which `change` may be the transaction.
    fn commit(&mut self, reached: i64, change: Option<Configuration>) {
        let followers: Vec<i64> = self.forwarding(false).collect();
        let observers: Vec<i64> = self.forwarding(true).collect();
        let named = change.map(|next| self.activate(next, reached));
        while let Some(proposal) = self.outstanding.pop_front_if(|first| first.zxid <= reached) {
            let zxid = proposal.zxid;
            let named = named.filter(|_| zxid == reached);
            for id in &followers {
                self.send(
                    *id,
                    match named {
                        Some(leader) => {
                            let data = leader.to_be_bytes().to_vec();
                            Packet::with(kind::COMMITANDACTIVATE, zxid, data)
                        }
                        None => Packet::bare(kind::COMMIT, zxid),
                    },
                );
            }
            for id in &observers {
                self.send(*id, Packet::inform(zxid, &proposal.data, named));
            }
        }
        self.committed = reached;
        self.outputs.push(Output::Commit(reached));
    }

    /// Puts a configuration in force; who is to lead in it. This leader goes on if it is a voter under the address it
    /// has now, else the one takes over that has logged most (`Leader.getDesignatedLeader`).
    fn activate(&mut self, next: Configuration, zxid: i64) -> i64 {
        let own = self.members.id;
        let addresses = |configuration: &Configuration| {
            configuration.servers().get(&own).map(|server| server.addresses.clone())
        };
        let stays = next.is_voter(own) && addresses(&next) == addresses(self.members.current());
        let acknowledged = |learner: &Learner| learner.acknowledged.max(self.epoch << 32);
        let candidates = self.learners.iter().filter(|(id, learner)| {
            learner.stage == Stage::Synchronised
                && !learner.observes
                && next.may_lead(**id)
                && acknowledged(learner) >= zxid
        });
        let best = candidates.max_by_key(|(_, learner)| acknowledged(learner)).map(|(id, _)| *id);
        let leader = if stays { own } else { best.unwrap_or(own) };
        self.members.activate(next.clone());
        self.outputs.push(Output::Activate(next));
        if leader != own {
            self.is_replaced = true;
            self.outputs.push(Output::HandOver(leader));
        }
        leader
    }

    /// Time has passed: pings go out, and a leader without a quorum is none.
    pub fn tick(&mut self, now_ms: i64, history: &History) {
        if self.stands_alone() {
            self.go_on_alone(now_ms, history);
        }
        if self.phase != Phase::Broadcast {
            let waited_ms = now_ms - self.since_ms;
            if waited_ms > self.limits.init_ms {
                self.give_up("no quorum of followers in initLimit");
            } else if self.phase == Phase::Discovery && waited_ms > self.limits.tuning.epoch_ms {
                self.give_up("no quorum of followers in leader.maxTimeToWaitForEpoch");
            }
            return;
        }
        if now_ms < self.ping_ms {
            return;
        }
        self.ping_ms = now_ms + self.limits.tick_ms / 2;
        let silent = take_silent(&mut self.learners, now_ms, &self.limits);
        self.outputs.extend(silent.into_iter().map(Output::Drop));
        if !self
            .is_quorum_of_all(|learner| learner.stage == Stage::Synchronised && !learner.observes)
        {
            self.give_up("a quorum of followers is gone");
            return;
        }
        let to = self.learners.iter().filter(|(_, learner)| learner.stage == Stage::Synchronised);
        for id in to.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.send(id, Packet::bare(kind::PING, self.proposed));
        }
    }
}

#[cfg(test)]
mod tests;
