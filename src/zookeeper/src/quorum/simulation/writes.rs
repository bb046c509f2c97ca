//! Writes of members that have no clients: values like no other, and changes of the ensemble.

use std::sync::Arc;

use jute::txn::{Entry, Txn};

use super::{Random, Simulation};
use crate::quorum::configuration::{Configuration, Role};
use crate::quorum::member::Member;
use crate::quorum::zab::Proposal;

impl Simulation {
    /// A leader gets something to write, now and then.
    pub(super) fn propose(&mut self, id: i64) {
        let count = self.nodes.len() as i64;
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(member) = node.member.as_mut() else { return };
        let Some(leader) = member.leading().filter(|leader| leader.serves()) else { return };
        if leader.wants_quiet() || !self.random.percent(40) {
            return;
        }
        let epoch = leader.epoch() << 32;
        let mut is_to_change = false;
        let changes = if self.is_stormy { 15 } else { 4 };
        for _ in 0..=self.random.below(3) {
            self.values += 1;
            let last = node.tree.last().map_or(0, |last| last.zxid).max(epoch);
            let change = if self.is_dynamic && self.random.percent(changes) {
                change(&mut self.random, count, member, self.is_stormy)
            } else {
                None
            };
            let data: Arc<[u8]> = match change {
                Some(next) => reconfig(&next.at_version(last + 1), self.values).into(),
                None => value(self.values, last + 1).into(),
            };
            let proposal = Proposal { zxid: last + 1, data };
            is_to_change |= proposal.configuration().is_some();
            self.checks.written(&proposal);
            node.tree.push(proposal.clone());
            member.propose(proposal);
        }
        self.carry_out(id);
        if is_to_change && self.is_stormy && !self.calm {
            self.storm();
        }
    }

    /// A change has been proposed, and is to be agreed on by few: the ensemble falls apart, servers fail, join and elect.
    fn storm(&mut self) {
        self.storms += 1;
        let ids: Vec<i64> = self.nodes.keys().copied().collect();
        self.network.part(&mut self.random, &ids);
        for id in ids {
            if self.nodes[&id].member.is_some() && self.random.percent(20) {
                self.crash(id);
            } else if self.nodes[&id].member.is_none() && self.random.percent(50) {
                self.start(id);
            }
        }
    }
}

/// Two groups of five voters, one of whom weighs nothing.
pub(super) fn weighted() -> Configuration {
    let plain = Configuration::for_tests(5, 0).to_string();
    let text = format!("{plain}\ngroup.1=1:2:3\ngroup.2=4:5\nweight.1=2\nweight.5=0");
    Configuration::parse(&text).unwrap()
}

/// Another ensemble, as a client may ask for one; `None` while the leader would refuse it.
fn change(
    random: &mut Random,
    count: i64,
    member: &Member,
    is_stormy: bool,
) -> Option<Configuration> {
    let leader = member.leading()?;
    if member.members().proposed().is_some() {
        return None;
    }
    let mut servers = member.members().current().servers().clone();
    // Old and new may have hardly a server in common.
    let changes = if is_stormy { 2 + random.below(5) } else { 1 + random.below(2) };
    for _ in 0..changes {
        let id = 1 + random.below(count as u64) as i64;
        let mut server = Configuration::for_tests(count, 0).servers()[&id].clone();
        match random.below(3) {
            0 => drop(servers.remove(&id)),
            1 => drop(servers.insert(id, server)),
            _ => {
                server.role = Role::Observer;
                servers.insert(id, server);
            }
        }
    }
    let next = Configuration::of(servers, 0);
    (next.voters().count() >= 2 && next.is_quorum(leader.synchronised())).then_some(next)
}

fn reconfig(next: &Configuration, value: u64) -> Vec<u8> {
    let txn = Txn::Reconfig { data: Some(next.to_string().into_bytes()) };
    let session = value as i64;
    Entry { session, cxid: 0, zxid: next.version, time: 0, txn, digest: None }.encode()
}

/// A transaction that changes nothing, and is like no other.
fn value(value: u64, zxid: i64) -> Vec<u8> {
    let txn = Txn::Error { code: 0 };
    Entry { session: value as i64, cxid: 0, zxid, time: 0, txn, digest: None }.encode()
}
