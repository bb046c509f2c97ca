//! Fast leader election (`FastLeaderElection`), without I/O: notifications and time come in, notifications and a
//! decision go out.
//!
//! A member that looks proposes the best vote it knows, and decides when a quorum proposes the same and nothing better
//! came for a while. One that has a leader tells those who look.

use std::collections::BTreeMap;

use super::configuration::Configuration;
use super::membership::Membership;
use super::packet::{Notification, State, Vote};
use super::zab::Tuning;

/// How long a quorum must agree before it is believed, in ms.
const SETTLE_MS: i64 = 200;

/// The election as one member sees it.
#[derive(Debug, Clone)]
pub struct Election {
    members: Membership,
    round: i64,
    own: Vote,
    vote: Vote,
    state: State,
    received: BTreeMap<i64, Vote>,
    /// What members with a leader said: their vote, round and state.
    settled: BTreeMap<i64, Notification>,
    decide_ms: Option<i64>,
    resend_ms: i64,
    pause_ms: i64,
    tuning: Tuning,
    outgoing: Vec<(i64, Notification)>,
}

/// The vote of those who may not be voted for: any other is better.
const NOBODY: Vote = Vote { leader: i64::MIN, zxid: i64::MIN, epoch: i64::MIN };

/// Whether `a` is better than `b` and may be elected.
fn is_better(members: &Membership, a: Vote, b: Vote) -> bool {
    members.current().may_lead(a.leader)
        && (a.epoch, a.zxid, a.leader) > (b.epoch, b.zxid, b.leader)
}

impl Election {
    /// The election of a member that has not voted yet.
    pub fn new(members: Membership, tuning: Tuning) -> Self {
        Self {
            members,
            round: 0,
            own: NOBODY,
            vote: NOBODY,
            state: State::Looking,
            received: BTreeMap::new(),
            settled: BTreeMap::new(),
            decide_ms: None,
            resend_ms: i64::MAX,
            pause_ms: tuning.votes_min_ms,
            tuning,
            outgoing: Vec::new(),
        }
    }

    /// Begins a round with what this member has itself.
    pub fn start(&mut self, now_ms: i64, zxid: i64, epoch: i64) {
        let id = self.members.id;
        let votes = self.members.current().is_voter(id);
        // Rounds are those of the voters. One without a vote that was ahead of them would hear of no vote, and where a
        // change is proposed that gives it one, its own is needed.
        self.round = if votes { self.round + 1 } else { 0 };
        self.own = if votes { Vote { leader: id, zxid, epoch } } else { NOBODY };
        self.vote = self.own;
        self.state = State::Looking;
        self.received = BTreeMap::from([(id, self.vote)]);
        self.settled.clear();
        self.pause_ms = self.tuning.votes_min_ms;
        self.broadcast(now_ms);
        self.consider(now_ms);
    }

    /// Notifications to send since the last call.
    pub fn take_outgoing(&mut self) -> Vec<(i64, Notification)> {
        std::mem::take(&mut self.outgoing)
    }

    /// The state that notifications tell.
    pub fn state(&self) -> State {
        self.state
    }

    /// The vote's epoch is the leader's new one once the member is synchronised.
    pub fn set_epoch(&mut self, epoch: i64) {
        self.vote.epoch = epoch;
    }

    /// Votes go by other configurations from now on.
    pub fn set_members(&mut self, members: Membership) {
        self.members = members;
    }

    /// The configuration in force, for notifications.
    pub fn configuration(&self) -> &Configuration {
        self.members.current()
    }

    /// A leader was named by the one before: there is nothing to vote on.
    pub fn accept(&mut self, vote: Vote) {
        self.round += 1;
        self.received.clear();
        self.settled.clear();
        self.decide(vote);
    }

    fn notification(&self) -> Notification {
        Notification { state: self.state, vote: self.vote, round: self.round }
    }

    fn broadcast(&mut self, now_ms: i64) {
        let notification = self.notification();
        let others = self.members.electors().map(|voter| (voter, notification.clone()));
        self.outgoing.extend(others);
        self.resend_ms = now_ms + self.pause_ms;
    }

    /// Time has passed; the leader, once decided.
    pub fn tick(&mut self, now_ms: i64) -> Option<i64> {
        if self.state != State::Looking {
            return None;
        }
        if self.decide_ms.is_some_and(|at| now_ms >= at) {
            return Some(self.decide(self.vote));
        }
        if now_ms >= self.resend_ms {
            // The other one has had its time to answer, whatever the oracle knows of it.
            let is_alone = self.received.len() == 1 && self.vote == self.own;
            if is_alone
                && self.pause_ms >= self.tuning.votes_max_ms
                && self.members.may_stand_alone()
                && self.own.zxid != -1
            {
                tracing::info!("the oracle lets this server lead alone");
                return Some(self.decide(self.own));
            }
            self.pause_ms = (self.pause_ms * 2).min(self.tuning.votes_max_ms);
            self.broadcast(now_ms);
        }
        None
    }

    fn decide(&mut self, vote: Vote) -> i64 {
        self.vote = vote;
        self.state = if vote.leader == self.members.id {
            State::Leading
        } else if self.members.observes() {
            State::Observing
        } else {
            State::Following
        };
        self.decide_ms = None;
        vote.leader
    }

    fn consider(&mut self, now_ms: i64) {
        let agreeing = self.received.iter().filter(|(_, vote)| **vote == self.vote);
        if self.members.is_quorum(agreeing.map(|(id, _)| *id)) {
            self.decide_ms.get_or_insert(now_ms + SETTLE_MS);
        } else {
            self.decide_ms = None;
        }
    }

    /// A notification has come; the leader, once decided.
    pub fn notification_from(
        &mut self,
        now_ms: i64,
        from: i64,
        notification: Notification,
    ) -> Option<i64> {
        let Notification { state, vote, round } = notification.clone();
        let is_voter = |id| self.members.current().is_voter(id) || self.is_proposed_voter(id);
        if !is_voter(from) {
            // An observer, or one that wants to join, asks who leads. The original answers whatever comes; two that have
            // no vote in each other's eyes then answer each other for ever.
            let knows = self.state != State::Looking || is_voter(self.members.id);
            if state == State::Looking && knows {
                self.outgoing.push((from, self.notification()));
            }
            return None;
        }
        if !is_voter(vote.leader) {
            return None;
        }
        if self.state != State::Looking {
            if state == State::Looking {
                self.outgoing.push((from, self.notification()));
            }
            return None;
        }
        match state {
            State::Looking => self.looking(now_ms, from, vote, round),
            State::Observing => {}
            State::Following | State::Leading => return self.settled(from, notification),
        }
        None
    }

    fn is_proposed_voter(&self, id: i64) -> bool {
        self.members.proposed().is_some_and(|proposed| proposed.is_voter(id))
    }

    fn looking(&mut self, now_ms: i64, from: i64, vote: Vote, round: i64) {
        if self.vote.zxid == -1 || vote.zxid == -1 {
            return;
        }
        if round < self.round {
            // Without a vote it is one who asks, not one who is ahead: to its answer there would be another for ever.
            if self.members.current().is_voter(self.members.id) {
                self.outgoing.push((from, self.notification()));
            }
            return;
        }
        if round > self.round {
            self.round = round;
            self.received.clear();
            self.vote = if is_better(&self.members, vote, self.own) { vote } else { self.own };
            self.decide_ms = None;
            self.broadcast(now_ms);
        } else if is_better(&self.members, vote, self.vote) {
            self.vote = vote;
            self.decide_ms = None;
            self.broadcast(now_ms);
        }
        self.received.insert(self.members.id, self.vote);
        self.received.insert(from, vote);
        self.consider(now_ms);
    }

    /// Joins a leader that a quorum follows, maybe together with this member, and that says itself that it leads.
    fn settled(&mut self, from: i64, notification: Notification) -> Option<i64> {
        let (leader, epoch) = (notification.vote.leader, notification.vote.epoch);
        let (vote, round) = (notification.vote, notification.round);
        self.settled.insert(from, notification);
        let own = self.members.id;
        let agreeing = self
            .settled
            .iter()
            .filter(|(_, other)| other.vote.leader == leader && other.vote.epoch == epoch)
            .map(|(id, _)| *id);
        // Those who look in the same round and propose it count as well.
        let proposing = self
            .received
            .iter()
            .filter(|(id, other)| {
                round == self.round
                    && **id != own
                    && other.leader == leader
                    && !self.settled.contains_key(id)
            })
            .map(|(id, _)| *id);
        let says_so = self
            .settled
            .get(&leader)
            .is_some_and(|other| other.state == State::Leading && other.vote.leader == leader);
        // Two that lead by turns with this one's vote would else wait for it by turns: where a change is proposed that it
        // alone knows of, it decides for neither by its own count.
        let would_be_led = (vote.epoch, vote.zxid) >= (self.vote.epoch, self.vote.zxid);
        let joining = would_be_led.then_some(own);
        let is_quorum = self.members.current().is_quorum(agreeing.chain(proposing).chain(joining))
            || self.members.must_follow();
        if leader != own && says_so && is_quorum {
            self.round = self.round.max(round);
            return Some(self.decide(vote));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn elections(states: &[(i64, i64)]) -> Vec<Election> {
        let configuration = Configuration::for_tests(states.len() as i64, 0);
        states
            .iter()
            .enumerate()
            .map(|(index, (zxid, epoch))| {
                let id = index as i64 + 1;
                let members = Membership::new(id, configuration.clone(), None, false);
                let mut election = Election::new(members, Tuning::DEFAULT);
                election.start(0, *zxid, *epoch);
                election
            })
            .collect()
    }

    /// Delivers everything until nobody has anything to say, then lets time pass; who was decided on by whom.
    fn run(elections: &mut [Election], drop: impl Fn(i64, i64) -> bool) -> Vec<Option<i64>> {
        let mut decided = vec![None; elections.len()];
        for now_ms in (0..20_000).step_by(100) {
            loop {
                let mut moved = false;
                for from in 0..elections.len() {
                    for (to, notification) in elections[from].take_outgoing() {
                        if drop(from as i64 + 1, to) {
                            continue;
                        }
                        moved = true;
                        let to = to as usize - 1;
                        let leader =
                            elections[to].notification_from(now_ms, from as i64 + 1, notification);
                        decided[to] = decided[to].or(leader);
                    }
                }
                if !moved {
                    break;
                }
            }
            for (index, election) in elections.iter_mut().enumerate() {
                let leader = election.tick(now_ms);
                decided[index] = decided[index].or(leader);
            }
        }
        decided
    }

    #[test]
    fn the_best_log_wins_then_the_largest_id() {
        for (states, leader) in [
            (vec![(0, 0), (0, 0), (0, 0)], 3),
            (vec![(5, 0), (0, 0), (0, 0)], 1),
            (vec![(5, 1), (9, 0), (5, 1)], 3),
            (vec![(1, 2), (9, 1), (5, 1), (0, 0), (7, 1)], 1),
        ] {
            let decided = run(&mut elections(&states), |_, _| false);
            assert_eq!(decided, vec![Some(leader); states.len()], "{states:?}");
        }
    }

    #[test]
    fn the_oracle_lets_one_of_two_lead_and_the_other_follow() {
        let mut two = elections(&[(3, 0), (9, 0)]);
        assert_eq!(run(&mut two, |_, _| true), [None, None]);
        for (election, grants) in two.iter_mut().zip([true, false]) {
            election.members.set_oracle(grants);
            election.start(0, 3, 0);
        }
        assert_eq!(run(&mut two, |_, _| true), [Some(1), None]);
        two[1].start(0, 9, 0);
        assert_eq!(run(&mut two, |_, _| false), [None, Some(1)]);
    }

    #[test]
    fn one_of_three_does_not_decide_and_joins_later() {
        let mut three = elections(&[(0, 0), (0, 0), (9, 0)]);
        assert_eq!(run(&mut three, |from, to| from == 3 || to == 3), [Some(2), Some(2), None]);
        three[2].start(0, 9, 0);
        assert_eq!(run(&mut three, |_, _| false), [None, None, Some(2)]);
    }

    /// How many notifications two members say to each other, once the first has said what it has to say.
    fn said(first: &mut Election, second: &mut Election) -> usize {
        let (mut count, mut next) = (0, first.notification());
        let pair = [second, first];
        for turn in 0..100 {
            let (at, from) = (turn % 2, pair[(turn + 1) % 2].members.id);
            pair[at].notification_from(0, from, next);
            let mut answers = pair[at].take_outgoing().into_iter();
            let Some((_, answer)) = answers.rfind(|(to, _)| *to == from) else { break };
            (count, next) = (count + 1, answer);
        }
        count
    }

    #[test]
    fn those_without_a_vote_are_answered_once_if_they_ask_those_who_know() {
        let member = |id: i64, leader: Option<i64>| {
            let members = Membership::new(id, Configuration::for_tests(3, 0), None, false);
            let mut election = Election::new(members, Tuning::DEFAULT);
            election.start(0, 0, 0);
            if let Some(leader) = leader {
                election.accept(Vote { leader, zxid: 0, epoch: 0 });
            }
            election.take_outgoing();
            election
        };
        for ((id, other), (leader, others), count) in [
            // Two that were members once.
            ((4, 5), (None, None), 0),
            ((4, 5), (Some(3), Some(3)), 0),
            ((4, 5), (None, Some(3)), 1),
            ((4, 5), (Some(3), None), 0),
            // It takes over the vote that it is told of, and says so.
            ((4, 1), (None, None), 3),
            ((4, 1), (None, Some(3)), 1),
            ((4, 1), (Some(3), None), 0),
        ] {
            let (mut first, mut second) = (member(id, leader), member(other, others));
            assert_eq!(said(&mut first, &mut second), count, "{id} {leader:?}, {other} {others:?}");
        }
        let (mut observer, mut voter) = (member(4, None), member(1, None));
        let vote = Vote { leader: 2, zxid: 0, epoch: 0 };
        let ahead = Notification { state: State::Looking, vote, round: 5 };
        observer.notification_from(0, 2, ahead);
        observer.take_outgoing();
        assert_eq!(said(&mut observer, &mut voter), 1, "a later round of one without a vote");
    }

    #[test]
    fn one_that_is_to_have_a_vote_joins_the_round_of_those_who_have() {
        let four = Configuration::for_tests(4, 0);
        let mut servers = four.servers().clone();
        for id in [3, 4] {
            servers.get_mut(&id).unwrap().role = crate::quorum::configuration::Role::Observer;
        }
        let current = Configuration::of(servers, 1);
        let mut elections: Vec<Election> = (1..=3)
            .map(|id| {
                let proposed = (id < 3).then(|| four.at_version(2));
                let members = Membership::new(id, current.clone(), proposed, true);
                let mut election = Election::new(members, Tuning::DEFAULT);
                (0..=id * id).for_each(|_| election.start(0, 0, 0));
                election.take_outgoing();
                election
            })
            .collect();
        assert_eq!(run(&mut elections, |_, to| to == 4), [Some(2); 3]);
    }

    #[test]
    fn one_that_a_quorum_lacks_joins_who_leads_whatever_it_votes_for_itself() {
        let three = Configuration::for_tests(3, 0);
        let mut servers = three.servers().clone();
        servers.remove(&3);
        // A change that it proposed as the leader, and nobody heard of: by that one it needs the votes of both others.
        let proposed = Configuration::of(servers, 1);
        for (zxid, joins) in [(5, Some(1)), (4, None)] {
            let members = Membership::new(3, three.clone(), Some(proposed.clone()), true);
            let mut election = Election::new(members, Tuning::DEFAULT);
            election.start(0, 0, 0);
            let told = |leader, zxid, state| {
                let vote = Vote { leader, zxid, epoch: 1 };
                Notification { state, vote, round: 1 }
            };
            assert_eq!(election.notification_from(0, 2, told(2, 5, State::Looking)), None);
            assert_eq!(election.tick(SETTLE_MS), None);
            // It has turned to another; one that leads and has all of that will do, one that lacks something will not.
            let leading = told(1, zxid, State::Leading);
            assert_eq!(election.notification_from(SETTLE_MS, 1, leading), joins);
        }
    }

    proptest! {
        #[test]
        fn all_decide_on_a_member_with_the_best_log(states in prop::collection::vec((0i64..3, 0i64..3), 1..6)) {
            let decided = run(&mut elections(&states), |_, _| false);
            let best = states.iter().map(|(zxid, epoch)| (*epoch, *zxid)).max();
            for leader in &decided {
                prop_assert_eq!(*leader, decided[0]);
                let chosen = states[leader.unwrap() as usize - 1];
                prop_assert_eq!(Some((chosen.1, chosen.0)), best);
            }
        }
    }
}
