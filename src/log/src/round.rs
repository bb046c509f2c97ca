//! One request to all replicas, and what their answers amount to.

use std::collections::BTreeMap;
use std::time::Duration;

use mesos::internal::log::metadata::Status;
use mesos::internal::log::{Action, PromiseResponse, promise_response, write_response};
use mesos::libprocess::Upid;

use crate::message::Message;

/// A round.
#[derive(Debug)]
pub(crate) struct Round {
    /// Its number, new for each.
    pub(crate) id: u64,
    /// What is asked.
    pub(crate) request: Message,
    /// What was answered, the first answer of each replica.
    pub(crate) answers: BTreeMap<Upid, Message>,
    /// When it began.
    pub(crate) since: Duration,
    /// When it was last sent.
    pub(crate) sent: Duration,
}

/// What a quorum said.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict<T> {
    /// Too few answers yet.
    Open,
    /// At least one has promised this higher proposal.
    Rejected(u64),
    /// All agree.
    Accepted(T),
}

/// What a quorum promised.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Promises {
    /// The highest position that any of them has.
    pub(crate) end: u64,
    /// The action of the highest proposal performed at the position; a learned one before all.
    pub(crate) action: Option<Action>,
}

impl Round {
    /// Whether an answer belongs to this round and decides something: who can't vote is asked again later.
    pub(crate) fn takes(&self, answer: &Message) -> bool {
        match (&self.request, answer) {
            (Message::Promise(_), Message::Promised(answer)) => {
                answer.r#type != Some(promise_response::Type::Ignored as i32)
            }
            (Message::Write(request), Message::Written(answer)) => {
                answer.position == request.position
                    && answer.r#type != Some(write_response::Type::Ignored as i32)
            }
            (Message::Recover, Message::Recovered(_)) => true,
            _ => false,
        }
    }

    fn promised(&self) -> impl Iterator<Item = &PromiseResponse> + Clone {
        self.answers.values().filter_map(|answer| match answer {
            Message::Promised(answer) => Some(answer),
            _ => None,
        })
    }

    /// What a promise round amounts to.
    pub(crate) fn promises(&self, quorum: usize) -> Verdict<Promises> {
        let learned = |action: &&Action| action.learned == Some(true);
        let found = self.promised().filter(|answer| answer.okay);
        if let Some(action) =
            found.clone().filter_map(|answer| answer.action.as_ref()).find(learned)
        {
            return Verdict::Accepted(Promises { end: 0, action: Some(action.clone()) });
        }
        if self.answers.len() < quorum {
            return Verdict::Open;
        }
        if let Some(higher) = self.highest_rejection() {
            return Verdict::Rejected(higher);
        }
        let end = found.clone().filter_map(|answer| answer.position).max().unwrap_or_default();
        let action = found
            .filter_map(|answer| answer.action.clone())
            .filter(|action| action.performed.is_some())
            .max_by_key(|action| action.performed);
        Verdict::Accepted(Promises { end, action })
    }

    /// The highest proposal that a promise was refused for.
    pub(crate) fn highest_rejection(&self) -> Option<u64> {
        self.promised().filter(|answer| !answer.okay).map(|answer| answer.proposal).max()
    }

    /// What a write round amounts to.
    pub(crate) fn writes(&self, quorum: usize) -> Verdict<()> {
        if self.answers.len() < quorum {
            return Verdict::Open;
        }
        let rejected = self.answers.values().filter_map(|answer| match answer {
            Message::Written(answer) if !answer.okay => Some(answer.proposal),
            _ => None,
        });
        rejected.max().map_or(Verdict::Accepted(()), Verdict::Rejected)
    }

    /// How many replicas are in a status.
    pub(crate) fn count(&self, status: Status) -> usize {
        let statuses = self.answers.values().filter(|answer| match answer {
            Message::Recovered(answer) => answer.status() == status,
            _ => false,
        });
        statuses.count()
    }

    /// The lowest begin and the highest end of the voting replicas.
    pub(crate) fn range(&self) -> (u64, u64) {
        let voting = self.answers.values().filter_map(|answer| match answer {
            Message::Recovered(answer) if answer.status() == Status::Voting => {
                Some((answer.begin(), answer.end()))
            }
            _ => None,
        });
        voting
            .reduce(|(begin, end), (other, last)| (begin.min(other), end.max(last)))
            .unwrap_or_default()
    }
}
