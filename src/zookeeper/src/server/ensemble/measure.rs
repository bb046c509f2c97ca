//! Metrics of a member: what it proposes, commits and is told, and how long nobody was served.

use std::collections::VecDeque;

use super::Quorum;
use crate::metrics::{Counter, Metrics, Summary};
use crate::quorum::packet::kind;
use crate::quorum::zab::{Output, Proposal};
use crate::server::wall_ms;

/// Where the time of a transaction is in its entry: behind session, cxid and zxid.
const TIME: std::ops::Range<usize> = 20..28;
/// Proposals whose time is kept until they are committed or acknowledged.
const PROPOSED_MAX: usize = 10_000;

/// Since when something is so, on the core's clock in ms.
#[derive(Debug, Default)]
pub(super) struct Clock {
    looking: Option<i64>,
    elected: Option<i64>,
    /// When each proposal was made that is not committed.
    proposed: VecDeque<(i64, i64)>,
    /// When the leader made what this learner logs and has not acknowledged, in ms since 1970.
    logged: VecDeque<(i64, i64)>,
}

/// How long ago the leader made a proposal, on the wall's clock: nothing if the clocks differ too much for an answer
/// (`Request.logLatency`).
fn age(made_ms: i64) -> Option<u64> {
    u64::try_from(wall_ms() - made_ms).ok()
}

/// When a proposal was made, in ms since 1970.
fn made_ms(proposal: &Proposal) -> Option<i64> {
    let bytes = proposal.data.get(TIME)?.try_into().ok()?;
    Some(i64::from_be_bytes(bytes))
}

impl Quorum {
    /// Takes note of what is about to be carried out.
    pub(super) fn measure(&mut self, metrics: &Metrics, now_ms: i64, output: &Output) {
        let leads = self.member.leading().is_some();
        let observes = self.member.members().current().is_observer(self.ensemble.id);
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
            // Observers are told of what is committed alone.
            Output::Log(_) if observes => {}
            Output::Log(proposal) => {
                metrics.count(Counter::LearnerProposalReceivedCount);
                if let Some(made) = made_ms(proposal) {
                    if let Some(age) = age(made) {
                        metrics.note(Summary::ProposalLatency, age);
                    }
                    if self.clock.logged.len() < PROPOSED_MAX {
                        self.clock.logged.push_back((proposal.zxid, made));
                    }
                }
            }
            Output::Send(_, packet) if !leads && packet.kind == kind::ACK => {
                while let Some((_, made)) =
                    self.clock.logged.pop_front_if(|(logged, _)| *logged <= packet.zxid)
                {
                    if let Some(age) = age(made) {
                        metrics.note(Summary::ProposalAckCreationLatency, age);
                    }
                }
            }
            Output::Commit(zxid) => {
                // The first of an epoch begins its numbers anew.
                let before = self.committed.max(zxid & !0xffff_ffff);
                metrics.add(Counter::CommitCount, (zxid - before).max(0) as u64);
                while let Some((_, then)) =
                    self.clock.proposed.pop_front_if(|(proposed, _)| *proposed <= *zxid)
                {
                    metrics.note(Summary::QuorumAckLatency, since(then));
                    metrics.note(Summary::PropagationLatency, since(then));
                }
            }
            Output::Deliver(proposal) => {
                metrics.count(Counter::LearnerCommitReceivedCount);
                // It is applied as soon as it is told of.
                if let Some(age) = made_ms(proposal).and_then(age) {
                    metrics.note(Summary::CommitPropagationLatency, age);
                    metrics.note(Summary::PropagationLatency, age);
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
                let syncing =
                    if observes { Summary::ObserverSyncTime } else { Summary::FollowerSyncTime };
                if let Some(elected) = self.clock.elected.take().filter(|_| !leads) {
                    metrics.note(syncing, since(elected));
                }
            }
            _ => {}
        }
    }
}
