//! What leader and follower have in common: proposals, what they need at the start, and what they want done.

use std::collections::VecDeque;
use std::sync::Arc;

use jute::request::opcode;
use jute::txn::{Entry, Txn};

use super::configuration::Configuration;
use super::packet::Packet;

/// A transaction with its zxid, as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its number.
    pub zxid: i64,
    /// Header, transaction, digest.
    pub data: Arc<[u8]>,
}

impl Proposal {
    /// The configuration that it proposes, if it is a change of the ensemble.
    pub fn configuration(&self) -> Option<Configuration> {
        // The type of a transaction stands behind session, number, zxid and time.
        if self.data.get(28..32) != Some(&opcode::RECONFIG.to_be_bytes()) {
            return None;
        }
        let Ok(Txn::Reconfig { data: Some(text) }) =
            Entry::decode(&self.data).map(|entry| entry.txn)
        else {
            return None;
        };
        Configuration::parse(&String::from_utf8_lossy(&text))
            .inspect_err(|wrong| tracing::error!("a configuration can't be read: {wrong}"))
            .ok()
    }
}

/// What the shell must do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a packet to a member.
    Send(i64, Packet),
    /// Send the tree as it is in memory to a member, behind a SNAP packet with the last zxid in it.
    SendSnapshot(i64),
    /// Close the connection to a member.
    Drop(i64),
    /// Write the epoch that was promised, on disk before what follows.
    SaveAcceptedEpoch(i64),
    /// Write the epoch that is in force, on disk before what follows, and all proposals before it too.
    SaveCurrentEpoch(i64),
    /// Put a proposal into the log. When it is on disk the shell says so.
    Log(Proposal),
    /// Cut the log behind a zxid, and the tree with it.
    Truncate(i64),
    /// Apply a proposal to the tree: it is committed (followers).
    Deliver(Proposal),
    /// What was applied up to here is committed: replies may leave (leaders).
    Commit(i64),
    /// Serve clients; of a leader, from this zxid on.
    Serve(i64),
    /// A configuration is proposed: keep it for a start in which it is not known whether it was agreed on.
    Propose(Configuration),
    /// A configuration is in force, on disk before what follows.
    Activate(Configuration),
    /// When this member gives up it need not look for a leader: this one was named.
    HandOver(i64),
    /// This member should look for a leader again, and why.
    GiveUp(String),
    /// It looks for a leader: nobody is served, and what was logged is applied.
    Lost,
    /// A packet about sessions and requests, for the tree's side: from whom and what.
    Pass(i64, Packet),
}

/// What a member has on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epochs {
    /// The highest epoch promised to a leader.
    pub accepted: i64,
    /// The epoch of the last leader whose history was taken over.
    pub current: i64,
}

/// Times, in ms.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A tick.
    pub tick_ms: i64,
    /// How long synchronising may take.
    pub init_ms: i64,
    /// How long a member may be silent.
    pub sync_ms: i64,
    /// The rest, which few change.
    pub tuning: Tuning,
}

/// What the original has a key for that is seldom given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// `fastleader.minNotificationInterval`: time between votes at first, in ms.
    pub votes_min_ms: i64,
    /// `fastleader.maxNotificationInterval`: the longest time between votes, in ms. Apache's waits for up to 60 s; a lost
    /// notification costs less so.
    pub votes_max_ms: i64,
    /// `connectToLearnerMasterLimit`: how long reaching the leader may take, in ms.
    pub connect_ms: i64,
    /// `leader.maxTimeToWaitForEpoch`: how long a leader waits for what followers have promised, in ms.
    pub epoch_ms: i64,
    /// `observer.election.DelayMs`: within this time observers begin to look for a leader, in ms.
    pub observer_delay_ms: i64,
    /// `leader.maxConcurrentSnapSyncs`: observers that are sent the tree at a time.
    pub trees_max: usize,
    /// `leader.maxConcurrentDiffSyncs`: observers that are sent transactions at a time.
    pub differences_max: usize,
    /// `observerMasterPort`: observers learn from followers, not from the leader.
    pub observer_masters: bool,
}

impl Tuning {
    /// What is in force when no key is given.
    pub const DEFAULT: Self = Self {
        votes_min_ms: 200,
        votes_max_ms: 2000,
        connect_ms: 3000,
        epoch_ms: i64::MAX,
        observer_delay_ms: 0,
        trees_max: 10,
        differences_max: 100,
        observer_masters: false,
    };
}

/// The last transactions, kept for learners that missed a few.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The zxid before the first that is kept.
    base: i64,
    recent: VecDeque<Proposal>,
    max: usize,
}

impl History {
    /// An empty one behind `base`, to keep `max` transactions.
    pub fn new(base: i64, max: usize) -> Self {
        Self { base, recent: VecDeque::new(), max }
    }

    /// Adds what was logged.
    pub fn push(&mut self, proposal: Proposal) {
        self.recent.push_back(proposal);
        if self.recent.len() > self.max
            && let Some(oldest) = self.recent.pop_front()
        {
            self.base = oldest.zxid;
        }
    }

    /// The last zxid.
    pub fn last(&self) -> i64 {
        self.recent.back().map_or(self.base, |proposal| proposal.zxid)
    }

    /// Forgets what is behind `zxid`.
    pub fn truncate(&mut self, zxid: i64) {
        while self.recent.back().is_some_and(|proposal| proposal.zxid > zxid) {
            self.recent.pop_back();
        }
        if self.base > zxid {
            self.base = zxid;
        }
    }

    /// The zxid before the first that is kept.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// How to bring a log that ends with `zxid` to this one's end; `None` if that is not known here.
    pub fn after(&self, zxid: i64) -> Option<Difference<'_>> {
        let (cut, index) = match self.recent.binary_search_by_key(&zxid, |proposal| proposal.zxid) {
            Ok(index) => (None, index + 1),
            Err(0) if zxid == self.base => (None, 0),
            // The first zxid of an epoch is a leader's that had everything before it, committed.
            Err(index) if zxid > self.base && zxid.trailing_zeros() >= 32 => (None, index),
            // It logged what no quorum had. Where there is nothing yet the whole tree, which is empty, says so: some can't
            // cut their log to its very beginning, and would ask for the tree again and again.
            Err(index) if zxid > self.last() && self.last() != 0 => (Some(self.last()), index),
            Err(0) => return None,
            Err(index) => {
                let before = self.recent.get(index - 1)?.zxid;
                // Of another epoch it may hold more than one that must go.
                if before >> 32 != zxid >> 32 {
                    return None;
                }
                (Some(before), index)
            }
        };
        Some(Difference { cut, missing: self.recent.range(index..) })
    }
}

/// What brings one log to the end of another.
#[derive(Debug)]
pub struct Difference<'a> {
    /// Where to cut it first, if it holds what the other does not.
    pub cut: Option<i64>,
    /// What to append then.
    pub missing: std::collections::vec_deque::Iter<'a, Proposal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a log that ends with a zxid is cut first, or that it is sent everything.
    fn way(history: &History, zxid: i64) -> String {
        let shown = |difference: Difference<'_>| format!("{:?}", difference.cut);
        history.after(zxid).map_or_else(|| "the whole tree".to_owned(), shown)
    }

    #[test]
    fn a_log_is_cut_to_where_another_ends_but_not_to_nothing() {
        let mut history = History::new(0, 100);
        assert_eq!(way(&history, 0), "None");
        assert_eq!(way(&history, 1), "the whole tree");
        history.push(Proposal { zxid: 1, data: Vec::new().into() });
        assert_eq!(way(&history, 1), "None");
        assert_eq!(way(&history, 7), "Some(1)");
    }
}
