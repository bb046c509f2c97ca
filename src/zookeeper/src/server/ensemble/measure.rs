//! Metrics of a member: what it proposes, commits and is told, and how long nobody was served.

use std::collections::VecDeque;

use super::Quorum;
use crate::metrics::{Counter, Metrics, Summary};
use crate::quorum::packet::kind;
use crate::quorum::zab::Output;
use crate::server::wall_ms;

/// Where the time of a transaction is in its entry: behind session, cxid and zxid.
const TIME: std::ops::Range<usize> = 20..28;
/// Proposals whose time is kept until they are committed.
const PROPOSED_MAX: usize = 10_000;

/// Since when something is so, on the core's clock in ms.
#[derive(Debug, Default)]
pub(super) struct Clock {
    looking: Option<i64>,
    elected: Option<i64>,
    /// When each proposal was made that is not committed.
    proposed: VecDeque<(i64, i64)>,
}

impl Quorum {
    /// Takes note of what is about to be carried out.
    pub(super) fn measure(&mut self, metrics: &Metrics, now_ms: i64, output: &Output) {
        let leads = self.member.leading().is_some();
        let since = |then: i64| (now_ms - then).max(0) as u64;
        if let (Some(looking), None, Some(_)) =
            (self.clock.looking, self.clock.elected, self.member.leader())
        {
            metrics.note(Summary::ElectionTime, since(looking));
            self.clock.elected = Some(now_ms);
        }
        match output {
            Output::Log(proposal) if leads => {
                metrics.count(Counter::ProposalCount);
                metrics.proposals.note(proposal.data.len());
                if self.clock.proposed.len() < PROPOSED_MAX {
                    self.clock.proposed.push_back((proposal.zxid, now_ms));
                }
            }
            Output::Log(_) => metrics.count(Counter::LearnerProposalReceivedCount),
            Output::Commit(zxid) => {
                // The first of an epoch begins its numbers anew.
                let before = self.committed.max(zxid & !0xffff_ffff);
                metrics.add(Counter::CommitCount, (zxid - before).max(0) as u64);
                while let Some((_, then)) =
                    self.clock.proposed.pop_front_if(|(proposed, _)| *proposed <= *zxid)
                {
                    metrics.note(Summary::QuorumAckLatency, since(then));
                }
            }
            Output::Deliver(proposal) => {
                metrics.count(Counter::LearnerCommitReceivedCount);
                let time = proposal.data.get(TIME).and_then(|bytes| bytes.try_into().ok());
                if let Some(time) = time.map(i64::from_be_bytes) {
                    let took = (wall_ms() - time).max(0) as u64;
                    metrics.note(Summary::PropagationLatency, took);
                }
            }
            Output::SendSnapshot(_) => metrics.count(Counter::SnapCount),
            Output::Send(_, packet) if packet.kind == kind::DIFF => {
                metrics.count(Counter::DiffCount);
            }
            Output::Pass(_, packet) if leads && packet.kind == kind::REVALIDATE => {
                metrics.count(Counter::RevalidateCount);
            }
            Output::Lost => {
                metrics.count(Counter::LookingCount);
                let looking = Some(self.clock.looking.unwrap_or(now_ms));
                self.clock = Clock { looking, ..Clock::default() };
            }
            Output::Serve(_) => {
                if let Some(looking) = self.clock.looking.take() {
                    metrics.note(Summary::UnavailableTime, since(looking));
                    if leads {
                        metrics.note(Summary::LeaderUnavailableTime, since(looking));
                    }
                }
                let syncing = if self.member.members().current().is_observer(self.ensemble.id) {
                    Summary::ObserverSyncTime
                } else {
                    Summary::FollowerSyncTime
                };
                if let Some(elected) = self.clock.elected.take().filter(|_| !leads) {
                    metrics.note(syncing, since(elected));
                }
            }
            _ => {}
        }
    }
}
