//! Those who learn, as who teaches them sees each, and what brings one to the teacher's history (`LearnerHandler`): of
//! a [`leader`](super::leader), or of a follower that has [`observers`](super::observers).

use std::collections::BTreeMap;

use super::configuration::Configuration;
use super::packet::{Packet, kind};
use super::zab::{Difference, History, Limits, Proposal, Tuning};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Informed,
    /// It accepted the epoch, and this is the last zxid in its log.
    Promised(i64),
    /// It has been sent the history, and gets what is new.
    Forwarding,
    /// It acknowledged the epoch.
    Synchronised,
}

/// How a learner comes to have its teacher's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Difference,
    Tree,
}

#[derive(Debug, Clone)]
pub(super) struct Learner {
    /// It is told what was agreed on, and nothing before.
    pub(super) observes: bool,
    pub(super) accepted: i64,
    pub(super) stage: Stage,
    pub(super) acknowledged: i64,
    pub(super) heard_ms: i64,
    /// What the log on disk has between this learner's and the history in memory.
    pub(super) older: Vec<Proposal>,
    /// How it was brought to this server's history.
    pub(super) way: Option<Way>,
}

impl Learner {
    /// One that has said who it is.
    pub(super) fn new(hello: &Packet, now_ms: i64) -> Self {
        Self {
            observes: hello.kind == kind::OBSERVERINFO,
            accepted: hello.zxid >> 32,
            stage: Stage::Informed,
            acknowledged: 0,
            heard_ms: now_ms,
            older: Vec::new(),
            way: None,
        }
    }

    /// What brings a log that ends with `last` to the end of a history; `None` when the history doesn't say. An observer
    /// gets what is committed only: the rest it is told of when it is.
    pub(super) fn difference(
        &mut self,
        history: &History,
        last: i64,
        committed: i64,
    ) -> Option<Vec<Packet>> {
        let older = std::mem::take(&mut self.older);
        let begin = older.last().map_or(last, |newest| newest.zxid);
        let Difference { cut, missing } = history.after(begin)?;
        let mut packets = vec![match cut {
            Some(zxid) => Packet::bare(kind::TRUNC, zxid),
            None => Packet::bare(kind::DIFF, committed),
        }];
        for proposal in older.iter().chain(missing) {
            let is_committed = proposal.zxid <= committed;
            if self.observes && !is_committed {
                break;
            }
            packets.push(Packet::with(kind::PROPOSAL, proposal.zxid, proposal.data.to_vec()));
            if is_committed {
                packets.push(Packet::bare(kind::COMMIT, proposal.zxid));
            }
        }
        Some(packets)
    }

    fn limit(&self, limits: &Limits) -> i64 {
        if self.stage == Stage::Synchronised { limits.sync_ms } else { limits.init_ms }
    }
}

/// Whether who says hello knows of a later configuration than this.
pub(super) fn is_ahead(hello: &Packet, current: &Configuration) -> bool {
    let version = hello.data.as_deref().and_then(|data| data.get(12..20)?.first_chunk());
    version.is_some_and(|version| i64::from_be_bytes(*version) > current.version)
}

/// Whether a learner may be brought to this server's history now: so many observers at a time; the others come again
/// (`LearnerSyncThrottler`). Followers always may, as they make the quorum.
pub(super) fn may_synchronise(
    learners: &mut BTreeMap<i64, Learner>,
    id: i64,
    way: Way,
    tuning: &Tuning,
) -> bool {
    let under_way = |learner: &&Learner| {
        learner.stage == Stage::Forwarding && learner.way == Some(way) && learner.observes
    };
    let count = learners.values().filter(under_way).count();
    let max = match way {
        Way::Difference => tuning.differences_max,
        Way::Tree => tuning.trees_max,
    };
    let Some(learner) = learners.get_mut(&id) else { return false };
    if learner.observes && count >= max {
        tracing::info!("observer {id} has to wait: {count} others are sent what they missed");
        learners.remove(&id);
        return false;
    }
    learner.way = Some(way);
    true
}

/// Takes out those that have been silent for too long.
pub(super) fn take_silent(
    learners: &mut BTreeMap<i64, Learner>,
    now_ms: i64,
    limits: &Limits,
) -> Vec<i64> {
    let silent: Vec<i64> = learners
        .extract_if(.., |_, learner| now_ms - learner.heard_ms > learner.limit(limits))
        .map(|(id, _)| id)
        .collect();
    for id in &silent {
        tracing::warn!("server {id} is silent for too long");
    }
    silent
}
