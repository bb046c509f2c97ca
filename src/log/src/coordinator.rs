//! The one that writes: elected by a quorum's promise for all that follows, then a quorum's acceptance for each action.

use std::time::Duration;

use mesos::internal::log::Action;
use mesos::internal::log::action::{Append, Truncate, Type};

use crate::catch_up::Fill;
use crate::node::{Event, Node, Work};
use crate::round::Verdict;

/// Least pause before the next election.
const PAUSE: Duration = Duration::from_millis(100);

impl Node {
    pub(crate) fn start_election(&mut self, now: Duration) {
        self.proposal = self.proposal.max(self.replica.promised()).saturating_add(1);
        self.work = Work::Electing;
        self.ask_promise(now, self.proposal, None);
    }

    pub(crate) fn advance_election(&mut self, now: Duration) {
        let Some(round) = &self.round else { return };
        match round.promises(self.settings.quorum) {
            Verdict::Open => {
                if self.round_is_over(now) {
                    self.pause(now, PAUSE);
                }
            }
            Verdict::Rejected(higher) => {
                self.proposal = self.proposal.max(higher);
                self.pause(now, PAUSE);
            }
            Verdict::Accepted(promises) => {
                self.round = None;
                // The positions just promised would refuse the same proposal.
                let fill = Fill::new(self.proposal.saturating_add(1));
                self.work = Work::Filling { last: promises.end, fill };
                self.advance_fill(now);
            }
        }
    }

    /// All positions up to the last are known: writing begins behind it.
    pub(crate) fn elected(&mut self, now: Duration, last: u64) {
        // Another was elected and wrote meanwhile: what is known up to `last` is not the newest.
        if self.replica.promised() > self.proposal || self.replica.begin() > last {
            return self.pause(now, PAUSE);
        }
        self.index = last.saturating_add(1);
        self.work = Work::Leading;
        let newest = self.replica.newest(last).map(<[u8]>::to_vec);
        self.output.events.push(Event::Elected(newest));
    }

    pub(crate) fn write_entry(&mut self, now: Duration, bytes: Vec<u8>) {
        let action = Action {
            r#type: Some(Type::Append as i32),
            append: Some(Append { bytes, cksum: None }),
            ..Default::default()
        };
        self.write_action(now, action);
    }

    fn write_action(&mut self, now: Duration, action: Action) {
        let (position, promised) = (self.index, self.proposal);
        let action = Action { position, promised, performed: Some(promised), ..action };
        self.ask_write(now, promised, &action);
        self.work = Work::Writing(action);
    }

    pub(crate) fn advance_write(&mut self, now: Duration) {
        let (Work::Writing(action), Some(round)) = (&self.work, &self.round) else { return };
        match round.writes(self.settings.quorum) {
            Verdict::Open => {
                if self.round_is_over(now) {
                    let (answered, quorum) = (round.answers.len(), self.settings.quorum);
                    let limit = self.settings.round_limit;
                    self.demote(format!(
                        "{answered} of the {quorum} replicas that --quorum needs took a write within {limit:?}"
                    ));
                }
            }
            Verdict::Rejected(higher) => {
                self.proposal = self.proposal.max(higher);
                self.demote(format!(
                    "another master was given the right to write the registry (proposal {higher})"
                ));
            }
            Verdict::Accepted(()) => {
                let action = action.clone();
                self.round = None;
                self.written(now, action);
            }
        }
    }

    fn written(&mut self, now: Duration, action: Action) {
        let (position, appended) = (action.position, action.append.is_some());
        self.learn(action);
        self.index = position.saturating_add(1);
        if appended {
            self.output.events.push(Event::Appended);
            let truncate = Some(Truncate { to: position });
            let r#type = Some(Type::Truncate as i32);
            self.write_action(now, Action { r#type, truncate, ..Default::default() });
        } else {
            self.work = Work::Leading;
            if let Some(entry) = self.pending.take() {
                self.write_entry(now, entry);
            }
        }
    }

    fn demote(&mut self, reason: String) {
        self.round = None;
        self.work = Work::Idle;
        self.wants_lead = false;
        self.pending = None;
        self.output.events.push(Event::Demoted(reason));
    }
}
