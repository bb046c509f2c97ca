//! Learning positions one by one: an explicit promise, the value that was found or else nothing written, and told.

use std::time::Duration;

use mesos::internal::log::Action;
use mesos::internal::log::action::{Nop, Type};
use mesos::internal::log::metadata::Status;

use crate::node::{Node, Work};
use crate::round::Verdict;

/// Least pause after a higher proposal was met.
const PAUSE: Duration = Duration::from_millis(100);

/// The filling of one position.
#[derive(Debug, Clone)]
pub(crate) struct Fill {
    /// Under which proposal.
    proposal: u64,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    /// Choose the next position, no earlier than then.
    Next(Duration),
    Promise(u64),
    Write(Action),
}

impl Fill {
    /// Begins with a proposal.
    pub(crate) fn new(proposal: u64) -> Self {
        Self { proposal, stage: Stage::Next(Duration::ZERO) }
    }
}

impl Node {
    /// Goes on with the position under way, or with the next one; when none is missing, with what comes after.
    pub(crate) fn advance_fill(&mut self, now: Duration) {
        loop {
            let (begin, end, fill) = match &self.work {
                Work::CatchingUp { begin, end, fill, .. } => (*begin, *end, fill.clone()),
                Work::Filling { last, fill } => (0, *last, fill.clone()),
                _ => return,
            };
            let next = match fill.stage {
                Stage::Next(from) if now < from => return,
                Stage::Next(_) => {
                    let Some(position) = self.replica.first_missing(begin, end) else {
                        return self.filled(now);
                    };
                    self.ask_promise(now, fill.proposal, Some(position));
                    Fill { stage: Stage::Promise(position), ..fill }
                }
                Stage::Promise(position) => {
                    let Some(round) = &self.round else { return };
                    match round.promises(self.settings.quorum) {
                        Verdict::Open if self.round_is_over(now) => {
                            self.fill_again(now, fill.proposal)
                        }
                        Verdict::Open => return,
                        Verdict::Rejected(higher) => {
                            self.fill_again(now, higher.max(fill.proposal))
                        }
                        Verdict::Accepted(found) => {
                            let action = agreed(found.action, position, fill.proposal);
                            if action.learned == Some(true) {
                                self.round = None;
                                self.learn(action);
                                Fill { stage: Stage::Next(now), ..fill }
                            } else {
                                self.ask_write(now, fill.proposal, &action);
                                Fill { stage: Stage::Write(action), ..fill }
                            }
                        }
                    }
                }
                Stage::Write(action) => {
                    let Some(round) = &self.round else { return };
                    match round.writes(self.settings.quorum) {
                        Verdict::Open if self.round_is_over(now) => {
                            self.fill_again(now, fill.proposal)
                        }
                        Verdict::Open => return,
                        Verdict::Rejected(higher) => {
                            self.fill_again(now, higher.max(fill.proposal))
                        }
                        Verdict::Accepted(()) => {
                            self.round = None;
                            self.learn(action);
                            Fill { proposal: fill.proposal, stage: Stage::Next(now) }
                        }
                    }
                }
            };
            match &mut self.work {
                Work::CatchingUp { fill, .. } | Work::Filling { fill, .. } => *fill = next,
                _ => return,
            }
        }
    }

    fn fill_again(&mut self, now: Duration, higher: u64) -> Fill {
        self.round = None;
        let stage = Stage::Next(now + self.jitter(PAUSE));
        Fill { proposal: higher.saturating_add(1), stage }
    }

    fn filled(&mut self, now: Duration) {
        self.round = None;
        match self.work {
            Work::CatchingUp { promised, .. } => {
                let promised = promised.max(self.replica.promised());
                self.replica.update(Status::Voting, promised);
                self.begin(now);
            }
            Work::Filling { last, .. } => self.elected(now, last),
            _ => {}
        }
    }
}

/// What must be written at a position: what was found there, or nothing.
fn agreed(found: Option<Action>, position: u64, proposal: u64) -> Action {
    let value = found.unwrap_or_else(|| Action {
        r#type: Some(Type::Nop as i32),
        nop: Some(Nop::default()),
        ..Default::default()
    });
    Action { position, promised: proposal, performed: Some(proposal), ..value }
}
