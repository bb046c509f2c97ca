//! One member of the ensemble, without I/O: it looks for a leader, then leads or follows, and looks again.

use std::collections::VecDeque;

use super::configuration::Configuration;
use super::election::Election;
use super::follower::{Follower, Source};
use super::leader::Leader;
use super::membership::Membership;
use super::packet::{Notification, Packet, State, Vote};
use super::zab::{Epochs, History, Limits, Output, Proposal};

/// The zxid of those who have no data though they should: they neither vote nor are voted for.
const NO_DATA: i64 = -1;

/// What a member does.
#[derive(Debug)]
enum Role {
    Looking,
    /// An observer that begins to look at this time: all of them at once would be a burden.
    Resting(i64),
    Leading(Leader),
    /// The leader is known; the connection to whom this member learns from is on its way, since this time.
    Joining(Source, i64),
    Following(Follower),
}

/// The member.
#[derive(Debug)]
pub struct Member {
    members: Membership,
    limits: Limits,
    epochs: Epochs,
    election: Election,
    role: Role,
    history: History,
    /// Logged but not committed when the last leader was lost: now part of the tree.
    kept: VecDeque<Proposal>,
    wants_tree: bool,
    /// Nothing is on disk, though there should be: it is nobody's vote until a leader has sent everything
    /// (`db.autocreate`).
    is_blank: bool,
    /// Who is to lead next, if it was named.
    named: Option<i64>,
    /// How often an observer has asked for someone to learn from.
    attempts: usize,
    outputs: Vec<Output>,
}

impl Member {
    /// A member with what was on disk. It begins to look for a leader.
    pub fn new(
        members: Membership,
        limits: Limits,
        epochs: Epochs,
        history: History,
        now_ms: i64,
    ) -> Self {
        let election = Election::new(members.clone(), limits.tuning);
        let mut member = Self {
            members,
            limits,
            epochs,
            election,
            role: Role::Looking,
            history,
            kept: VecDeque::new(),
            wants_tree: false,
            is_blank: false,
            named: None,
            attempts: 0,
            outputs: Vec::new(),
        };
        member.look(now_ms);
        member
    }

    /// A member whose data is missing takes no part in electing a leader: it joins one that others have elected.
    pub fn set_blank(&mut self, now_ms: i64) {
        self.is_blank = true;
        self.look(now_ms);
    }

    /// What the oracle says now: whether this member may go on without the other (`oraclePath`).
    pub fn set_oracle(&mut self, grants: bool) {
        self.members.set_oracle(grants);
        self.election.set_members(self.members.clone());
        if let Role::Leading(leader) = &mut self.role {
            leader.set_oracle(grants);
        }
    }

    /// Its id.
    pub fn id(&self) -> i64 {
        self.members.id
    }

    /// The configurations that count.
    pub fn members(&self) -> &Membership {
        &self.members
    }

    /// The last transactions in the log.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The epochs as they are to be on disk.
    pub fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// The leader, if this member follows it, leads itself, or is about to. Of an observer that learns from a follower it
    /// is that follower (`QuorumPeer.setLeaderAddressAndId`).
    pub fn leader(&self) -> Option<i64> {
        match &self.role {
            Role::Looking | Role::Resting(_) => None,
            Role::Leading(_) => Some(self.members.id),
            Role::Joining(source, _) => Some(source.from),
            Role::Following(follower) => Some(follower.source()),
        }
    }

    /// The leading part, while it leads.
    pub fn leading(&self) -> Option<&Leader> {
        if let Role::Leading(leader) = &self.role { Some(leader) } else { None }
    }

    /// The following part, while it follows.
    pub fn following(&self) -> Option<&Follower> {
        if let Role::Following(follower) = &self.role { Some(follower) } else { None }
    }

    /// Whether clients are served.
    pub fn serves(&self) -> bool {
        match &self.role {
            Role::Looking | Role::Resting(_) | Role::Joining(..) => false,
            Role::Leading(leader) => leader.serves(),
            Role::Following(follower) => follower.serves(),
        }
    }

    /// `mode` of the status words.
    pub fn state(&self) -> State {
        self.election.state()
    }

    /// What to do since the last call, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        self.collect();
        std::mem::take(&mut self.outputs)
    }

    /// Takes over what the role wants, and what that means for the next election.
    fn collect(&mut self) {
        let (outputs, is_follower) = match &mut self.role {
            Role::Leading(leader) => (leader.take_outputs(), false),
            Role::Following(follower) => (follower.take_outputs(), true),
            Role::Looking | Role::Resting(_) | Role::Joining(..) => return,
        };
        for output in &outputs {
            match output {
                Output::SaveAcceptedEpoch(epoch) => self.epochs.accepted = *epoch,
                Output::SaveCurrentEpoch(epoch) => {
                    self.epochs.current = *epoch;
                    self.election.set_epoch(*epoch);
                }
                // A leader's own are in it since they were proposed.
                Output::Log(proposal) if is_follower => self.history.push(proposal.clone()),
                Output::Truncate(zxid) => self.history.truncate(*zxid),
                Output::Propose(next) => {
                    self.members.adopt(next.clone());
                    self.election.set_members(self.members.clone());
                }
                Output::Activate(next) => {
                    self.members.activate(next.clone());
                    self.election.set_members(self.members.clone());
                }
                Output::HandOver(leader) => self.named = Some(*leader),
                _ => {}
            }
        }
        self.outputs.extend(outputs);
    }

    /// Notifications of the election to send.
    pub fn take_notifications(&mut self) -> Vec<(i64, Notification)> {
        self.election.take_outgoing()
    }

    /// Begins to look for a leader. What was logged is applied: see [`Member::take_kept`].
    pub fn look(&mut self, now_ms: i64) {
        self.collect();
        self.outputs.retain(|output| !matches!(output, Output::GiveUp(_)));
        if let Role::Following(follower) = &mut self.role {
            self.kept.extend(follower.take_pending());
        }
        let had_leader = !matches!(self.role, Role::Looking | Role::Resting(_));
        self.role = Role::Looking;
        self.outputs.push(Output::Lost);
        let zxid = self.vote_zxid();
        if let Some(leader) = self.named.take().filter(|id| self.members.current().is_voter(*id)) {
            self.election.accept(Vote { leader, zxid, epoch: self.epochs.current });
            self.decided(now_ms, Some(leader));
        } else if had_leader && self.members.observes() && self.limits.tuning.observer_delay_ms > 0
        {
            // Spread by their ids: what a simulation sees must not be left to chance.
            let part = self.members.id.rem_euclid(8) + 1;
            self.role = Role::Resting(now_ms + self.limits.tuning.observer_delay_ms * part / 8);
        } else {
            self.election.start(now_ms, zxid, self.epochs.current);
        }
    }

    /// The last zxid, as votes tell it.
    fn vote_zxid(&self) -> i64 {
        match self.history.last() {
            0 if self.is_blank => NO_DATA,
            last => last,
        }
    }

    /// Proposals that a follower had logged when it lost its leader, to apply to the tree.
    pub fn take_kept(&mut self) -> VecDeque<Proposal> {
        std::mem::take(&mut self.kept)
    }

    fn decided(&mut self, now_ms: i64, leader: Option<i64>) {
        let Some(leader) = leader else { return };
        self.role = if leader == self.members.id {
            let last = self.history.last();
            Role::Leading(Leader::new(self.members.clone(), self.limits, self.epochs, last, now_ms))
        } else {
            Role::Joining(self.source(leader), now_ms)
        };
    }

    /// Whom to learn from: an observer's is any follower, if followers serve observers (`QuorumPeer.findLearnerMaster`),
    /// and the leader itself once all have been tried. The original tries the leader only at the port for observers,
    /// which it has none of; but who is to vote by a change that is proposed must be able to, and no follower serves before
    /// the change is agreed on.
    fn source(&mut self, leader: i64) -> Source {
        let mut from = leader;
        if self.limits.tuning.observer_masters && self.members.observes() {
            let masters: Vec<i64> =
                self.members.current().voters().filter(|id| *id != leader).collect();
            let turn = self.attempts % (masters.len() + 1);
            self.attempts = self.attempts.wrapping_add(1);
            // Not all observers begin with the same one.
            let first = usize::try_from(self.members.id).unwrap_or_default();
            if turn < masters.len() {
                from = masters[(first + turn) % masters.len()];
            }
        }
        Source { leader, from }
    }

    /// A notification has come, with the sender's configuration. A later one than ours is taken over while this member
    /// looks: it was agreed on, and it may have been so by others than those that this member asks.
    pub fn notification(
        &mut self,
        now_ms: i64,
        from: i64,
        notification: Notification,
        configuration: Option<Configuration>,
    ) {
        if let (Role::Looking, Some(next)) = (&self.role, configuration)
            && let Some(before) = self.members.activate(next.clone())
        {
            self.election.set_members(self.members.clone());
            let is_same = before.is_same_as(&next);
            self.outputs.push(Output::Activate(next));
            if !is_same {
                self.look(now_ms);
                return;
            }
        }
        if matches!(self.role, Role::Resting(_)) {
            return;
        }
        let leader = self.election.notification_from(now_ms, from, notification);
        self.decided(now_ms, leader);
    }

    /// Whom to dial, while a connection to the leader is wanted.
    pub fn dials(&self) -> Option<i64> {
        if let Role::Joining(source, _) = &self.role { Some(source.from) } else { None }
    }

    /// Whether whom it dials is a follower, at its port for observers.
    pub fn dials_follower(&self) -> bool {
        matches!(&self.role, Role::Joining(source, _) if source.from != source.leader)
    }

    /// A follower that is dialled does not listen for observers: another may.
    pub fn unreachable(&mut self, to: i64) {
        if self.dials() != Some(to) || !self.dials_follower() {
            return;
        }
        if let Role::Joining(Source { leader, .. }, since_ms) = self.role {
            self.role = Role::Joining(self.source(leader), since_ms);
        }
    }

    /// The connection to the leader is there.
    pub fn connected(&mut self, now_ms: i64, to: i64) {
        if let Role::Joining(source, _) = self.role
            && source.from == to
        {
            let last = self.history.last();
            let (members, limits, epochs) = (&self.members, self.limits, self.epochs);
            let mut follower = Follower::new(members, limits, epochs, source, last, now_ms);
            if self.wants_tree {
                follower.want_tree();
            }
            self.role = Role::Following(follower);
        }
    }

    /// A connection for Zab has ended.
    pub fn disconnected(&mut self, now_ms: i64, other: i64) {
        match &mut self.role {
            Role::Leading(leader) => leader.disconnected(other),
            Role::Following(follower) if follower.source() == other => {
                tracing::info!("the connection to server {other} has ended");
                self.look(now_ms);
            }
            Role::Following(follower) => follower.observer_left(other),
            _ => {}
        }
    }

    /// A packet has come.
    pub fn packet(&mut self, now_ms: i64, from: i64, packet: Packet) {
        // What a follower has logged so far is what its observers need.
        if self.leading().is_none() && self.leader() != Some(from) {
            self.collect();
        }
        match &mut self.role {
            Role::Leading(leader) => leader.packet(now_ms, &self.history, from, packet),
            Role::Following(follower) if follower.source() == from => {
                follower.packet(now_ms, packet);
            }
            Role::Following(follower) => {
                follower.observer_packet(now_ms, &self.history, from, packet);
            }
            _ => {}
        }
    }

    /// In place of a TRUNC packet that can't be followed, because what is on disk was never at that point. Nothing on
    /// disk is given up until the leader's whole tree is here.
    pub fn cannot_truncate(&mut self, now_ms: i64) {
        self.wants_tree = true;
        self.look(now_ms);
    }

    /// A tree that a leader sent is in memory and on disk.
    pub fn restored(&mut self, zxid: i64, history: History) {
        self.history = history;
        (self.wants_tree, self.is_blank) = (false, false);
        if let Role::Following(follower) = &mut self.role {
            follower.restored(zxid);
        }
    }

    /// What the log on disk has between a learner's and the history; see [`Leader::lend`].
    pub fn lend(&mut self, to: i64, older: Vec<Proposal>) {
        match &mut self.role {
            Role::Leading(leader) => leader.lend(to, older),
            Role::Following(follower) => follower.lend(to, older),
            _ => {}
        }
    }

    /// Proposes a transaction that the tree has applied.
    pub fn propose(&mut self, proposal: Proposal) {
        if let Role::Leading(leader) = &mut self.role {
            self.history.push(proposal.clone());
            leader.propose(proposal);
        }
    }

    /// The log is on disk up to here.
    pub fn logged(&mut self, zxid: i64) {
        match &mut self.role {
            Role::Leading(leader) => leader.logged(&self.history, zxid),
            Role::Following(follower) => follower.logged(zxid),
            _ => {}
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: i64) {
        match &mut self.role {
            Role::Looking => {
                let leader = self.election.tick(now_ms);
                self.decided(now_ms, leader);
            }
            Role::Resting(until) => {
                if now_ms >= *until {
                    self.role = Role::Looking;
                    self.election.start(now_ms, self.vote_zxid(), self.epochs.current);
                }
            }
            Role::Leading(leader) => leader.tick(now_ms, &self.history),
            Role::Following(follower) => follower.tick(now_ms),
            Role::Joining(source, since) => {
                if now_ms - *since > self.limits.tuning.connect_ms.min(self.limits.init_ms) {
                    tracing::info!("server {} can't be reached to learn from", source.from);
                    self.look(now_ms);
                }
            }
        }
    }
}
