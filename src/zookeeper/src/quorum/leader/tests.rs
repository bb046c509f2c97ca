//! A leader with scripted learners: what it takes to commit a change of the ensemble.

use jute::Writer;
use jute::txn::{Entry, Txn};

use super::*;
use crate::quorum::zab::Tuning;

const LIMITS: Limits =
    Limits { tick_ms: 100, init_ms: 1000, sync_ms: 500, tuning: Tuning::DEFAULT };
const EPOCH: i64 = 1 << 32;

struct Scripted {
    leader: Leader,
    history: History,
}

impl Scripted {
    /// Server 1 leads three, and two more have joined that are in no configuration.
    fn new() -> Self {
        let three = Configuration::for_tests(3, 0).at_version(1);
        let members = Membership::new(1, three, None, true);
        let leader = Leader::new(members, LIMITS, Epochs::default(), 0, 0);
        let mut scripted = Self { leader, history: History::new(0, 100) };
        (2..=5).for_each(|id| scripted.join(id));
        assert!(scripted.leader.serves());
        assert_eq!(scripted.leader.synchronised().count(), 5);
        scripted.leader.take_outputs();
        scripted
    }

    fn packet(&mut self, from: i64, packet: Packet) {
        self.leader.packet(0, &self.history, from, packet);
    }

    fn join(&mut self, id: i64) {
        self.join_with(id, 0);
    }

    /// One whose log ends with a zxid comes.
    fn join_with(&mut self, id: i64, last: i64) {
        let mut info = Writer::new();
        info.long(id).int(LEARNER_VERSION).long(1);
        self.packet(id, Packet::with(kind::FOLLOWERINFO, 0, info.into_bytes()));
        self.packet(id, Packet::with(kind::ACKEPOCH, last, vec![0; 4]));
        self.packet(id, Packet::bare(kind::ACK, EPOCH));
    }

    fn propose(&mut self, zxid: i64, txn: Txn) {
        let entry = Entry { session: 1, cxid: 1, zxid, time: 0, txn, digest: None };
        let proposal = Proposal { zxid, data: entry.encode().into() };
        self.history.push(proposal.clone());
        self.leader.propose(proposal);
        self.leader.logged(&self.history, zxid);
    }

    /// Proposes that servers 1, 4 and 5 be the ensemble.
    fn change(&mut self, zxid: i64) {
        let mut servers = Configuration::for_tests(5, 0).servers().clone();
        servers.retain(|id, _| [1, 4, 5].contains(id));
        let next = Configuration::of(servers, zxid);
        self.propose(zxid, Txn::Reconfig { data: Some(next.to_string().into_bytes()) });
    }

    /// What is committed when these have a transaction on disk.
    fn acknowledged(&mut self, by: &[i64], zxid: i64) -> Vec<i64> {
        for id in by {
            self.packet(*id, Packet::bare(kind::ACK, zxid));
        }
        let outputs = self.leader.take_outputs().into_iter();
        let commits = outputs.filter_map(|output| match output {
            Output::Commit(zxid) => Some(zxid),
            _ => None,
        });
        commits.collect()
    }

    fn voters(&self) -> Vec<i64> {
        self.leader.members.current().voters().collect()
    }
}

#[test]
fn a_change_needs_a_quorum_of_the_new_configuration_too() {
    let mut scripted = Scripted::new();
    scripted.change(EPOCH + 1);
    assert_eq!(scripted.acknowledged(&[2, 3], EPOCH + 1), [0; 0], "all of the old, one of the new");
    // What follows it must not overtake it.
    scripted.propose(EPOCH + 2, Txn::Delete { path: "/a".to_owned() });
    assert_eq!(scripted.acknowledged(&[2, 3], EPOCH + 2), [0; 0]);
    assert_eq!(scripted.voters(), [1, 2, 3]);
    assert_eq!(scripted.acknowledged(&[4], EPOCH + 1), [EPOCH + 1]);
    assert_eq!(scripted.voters(), [1, 4, 5]);
    assert_eq!(scripted.acknowledged(&[3], EPOCH + 2), [0; 0], "the old ones count no more");
    assert_eq!(scripted.acknowledged(&[5], EPOCH + 2), [EPOCH + 2]);
}

#[test]
fn a_change_needs_a_quorum_of_the_old_configuration_too() {
    let mut scripted = Scripted::new();
    scripted.change(EPOCH + 1);
    assert_eq!(scripted.acknowledged(&[4, 5], EPOCH + 1), [0; 0], "all of the new, one of the old");
    assert_eq!(scripted.voters(), [1, 2, 3]);
    assert_eq!(scripted.acknowledged(&[2], EPOCH + 1), [EPOCH + 1]);
    assert_eq!(scripted.voters(), [1, 4, 5]);
}

#[test]
fn what_a_learner_has_logged_counts_when_it_comes_back() {
    let mut scripted = Scripted::new();
    scripted.propose(EPOCH + 1, Txn::CreateSession { timeout: 1000 });
    scripted.propose(EPOCH + 2, Txn::CreateSession { timeout: 1000 });
    // Both logged the first; that they did was lost with their connections, and they will not say so again.
    scripted.join_with(2, EPOCH + 1);
    assert_eq!(scripted.acknowledged(&[], 0), [EPOCH + 1]);
    scripted.join_with(3, EPOCH + 1);
    assert_eq!(scripted.acknowledged(&[], 0), [0; 0]);
    assert_eq!(scripted.acknowledged(&[3], EPOCH + 2), [EPOCH + 2]);
}

#[test]
fn a_change_that_is_not_agreed_on_is_announced_to_nobody() {
    let mut scripted = Scripted::new();
    scripted.change(EPOCH + 1);
    scripted.leader.take_outputs();
    scripted.join(2);
    let announced = scripted.leader.take_outputs().into_iter().find_map(|output| match output {
        Output::Send(2, Packet { kind: kind::NEWLEADER, data, .. }) => data,
        _ => None,
    });
    let announced = Configuration::parse(&String::from_utf8(announced.unwrap()).unwrap()).unwrap();
    assert_eq!((announced.version, announced.voters().count()), (1, 3));
}
