//! What leader and follower have in common: proposals, what they need at the start, and what they want done.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::packet::Packet;

/// A transaction with its zxid, as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its number.
    pub zxid: i64,
    /// Header, transaction, digest.
    pub data: Arc<[u8]>,
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
}

/// The ensemble's configuration as far as Zab knows it.
#[derive(Debug, Clone)]
pub struct Membership {
    /// This member.
    pub id: i64,
    /// Those whose votes count.
    pub voters: BTreeSet<i64>,
    /// Its text, for NEWLEADER and notifications.
    pub text: String,
}

impl Membership {
    /// Whether these voters are a majority.
    pub fn is_quorum<'a>(&self, ids: impl IntoIterator<Item = &'a i64>) -> bool {
        ids.into_iter().filter(|id| self.voters.contains(id)).count() > self.voters.len() / 2
    }
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

    /// Everything behind `zxid`, if it is known what followed exactly that one.
    pub fn after(&self, zxid: i64) -> Option<impl Iterator<Item = &Proposal>> {
        let index = match self.recent.binary_search_by_key(&zxid, |proposal| proposal.zxid) {
            Ok(index) => index + 1,
            Err(0) if zxid == self.base => 0,
            // The first zxid of an epoch is a leader's that had everything before it, committed.
            Err(index) if zxid > self.base && zxid.trailing_zeros() >= 32 => index,
            Err(_) => return None,
        };
        Some(self.recent.range(index..))
    }
}
