//! How a replica comes to vote.
//!
//! EMPTY → STARTING → VOTING in two steps, when all of the expected group are on the way together (there never was a
//! log); or, when a quorum votes already, RECOVERING → VOTING after what was agreed without it has been learned.
//!
//! An emptied replica has forgotten its promises and what it accepted. Before it votes again it therefore waits until
//! no round that it may have answered can still be under way, takes over the highest promise of a quorum of the others
//! (asked for with proposal 0, which promises nothing), and learns every position that they have.

use std::time::Duration;

use mesos::internal::log::metadata::Status;

use crate::catch_up::Fill;
use crate::message::Message;
use crate::node::{Node, Work};
use crate::round::Verdict;

/// Least pause before the others are asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long answers are waited for before all are asked anew.
const ANSWERS: Duration = Duration::from_secs(2);
/// Longest that a message is taken to be under way.
const TRANSIT: Duration = Duration::from_secs(2);

impl Node {
    pub(crate) fn advance_recovery(&mut self, now: Duration) {
        let Some(round) = &self.round else { return };
        let count = |status| round.count(status);
        let (voting, starting) = (count(Status::Voting), count(Status::Starting));
        let own = self.replica.status();
        let promised = self.replica.promised();
        let initialize = self.settings.auto_initialize;
        if voting >= self.settings.quorum {
            let settled = self.started + self.settings.round_limit + TRANSIT;
            // Who is starting has never voted: there is nothing that it forgot.
            if own != Status::Starting && now < settled {
                self.round = None;
                self.work = Work::Settling(settled);
                return;
            }
            let (begin, end) = round.range();
            self.replica.update(Status::Recovering, promised);
            self.work = Work::Probing { begin, end };
            self.ask_promise(now, 0, None);
        } else if initialize
            && own == Status::Empty
            && count(Status::Empty) + starting >= self.group_size()
        {
            self.replica.update(Status::Starting, promised);
            self.begin(now);
        } else if initialize && own == Status::Starting && starting + voting >= self.group_size() {
            self.replica.update(Status::Voting, promised);
            self.begin(now);
        } else if round.answers.len() >= self.members.len() && now > round.since
            || now >= round.since + ANSWERS
        {
            self.pause(now, PAUSE);
        }
    }

    pub(crate) fn advance_probe(&mut self, now: Duration) {
        let Work::Probing { begin, end } = self.work else { return };
        let Some(round) = &self.round else { return };
        if let Verdict::Rejected(promised) = round.promises(self.settings.quorum) {
            self.round = None;
            let fill = Fill::new(promised.saturating_add(1));
            self.work = Work::CatchingUp { promised, begin, end, fill };
            self.advance_fill(now);
        } else if self.round_is_over(now) {
            self.pause(now, PAUSE);
        }
    }

    /// What recovery waits for, in words.
    pub(crate) fn recovery_state(&self) -> String {
        let status = self.replica.status().as_str_name();
        if let Work::CatchingUp { end, .. } = &self.work {
            return format!(
                "the replica is {status} and learns what it missed, up to position {end}"
            );
        }
        let answers = self.asked().filter(|round| round.request == Message::Recover);
        let counts = answers.map_or_else(String::new, |round| {
            let of = |status: Status| match round.count(status) {
                0 => None,
                count => Some(format!("{count} {}", status.as_str_name())),
            };
            let all = [Status::Voting, Status::Recovering, Status::Starting, Status::Empty];
            format!(" ({})", all.into_iter().filter_map(of).collect::<Vec<_>>().join(", "))
        });
        let quorum = self.settings.quorum;
        let first = if self.settings.auto_initialize {
            format!("or all {} replicas without a log", self.group_size())
        } else {
            "and --no-log_auto_initialize forbids to begin a new log".to_owned()
        };
        format!("the replica is {status}: it needs {quorum} voting replicas, {first}{counts}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mesos::internal::log::{PromiseResponse, RecoverResponse, promise_response};
    use mesos::libprocess::Upid;

    use super::*;
    use crate::message::{Envelope, REPLICA};
    use crate::{Replica, Settings};

    const LIMIT: Duration = Duration::from_secs(3);

    fn upid(number: u16) -> Upid {
        Upid::new(REPLICA, ([127, 0, 0, 1], number).into())
    }

    fn node() -> Node {
        let settings = Settings {
            own: upid(1),
            quorum: 2,
            auto_initialize: true,
            round_limit: LIMIT,
            seed: 1,
        };
        let mut node = Node::new(settings, Replica::default(), Duration::ZERO);
        node.set_members(Duration::ZERO, BTreeSet::from([1, 2, 3].map(upid)));
        node
    }

    /// Lets replicas 2 and 3 answer whatever the node asks of them, until it asks nothing more.
    fn answer(node: &mut Node, now: Duration, with: &dyn Fn(&Message) -> Option<Message>) {
        loop {
            let asked = node.take().messages;
            let mut answered = false;
            for Envelope { from, to, message } in asked {
                let reply = if to == upid(1) { None } else { with(&message) };
                if let Some(message) = reply {
                    answered = true;
                    node.receive(now, Envelope { from: to, to: from, message });
                }
            }
            if !answered {
                return;
            }
        }
    }

    fn of_a_voter(message: &Message) -> Option<Message> {
        match message {
            Message::Recover => Some(Message::Recovered(RecoverResponse {
                status: Status::Voting as i32,
                begin: Some(0),
                end: Some(0),
            })),
            Message::Promise(request) if request.position.is_none() => {
                Some(Message::Promised(PromiseResponse {
                    okay: false,
                    r#type: Some(promise_response::Type::Reject as i32),
                    proposal: 7,
                    ..Default::default()
                }))
            }
            _ => None,
        }
    }

    #[test]
    fn an_emptied_replica_waits_then_takes_over_the_promise_of_the_others() {
        let mut node = node();
        answer(&mut node, Duration::ZERO, &of_a_voter);
        assert!(matches!(node.work, Work::Settling(_)));
        let early = LIMIT;
        node.tick(early);
        answer(&mut node, early, &of_a_voter);
        assert_eq!(node.replica.status(), Status::Empty);
        assert!(node.complaint().unwrap().contains("may have lost its disk"));

        let settled = LIMIT + TRANSIT;
        node.tick(settled);
        answer(&mut node, settled, &of_a_voter);
        assert_eq!(node.replica.status(), Status::Recovering);
        assert!(matches!(node.work, Work::CatchingUp { promised: 7, begin: 0, end: 0, .. }));
    }

    #[test]
    fn a_new_log_begins_only_when_all_of_the_group_are_without_one() {
        let status = |status: Status| {
            move |message: &Message| {
                let answer = RecoverResponse { status: status as i32, ..Default::default() };
                (*message == Message::Recover).then_some(Message::Recovered(answer))
            }
        };
        // Its own answer is missing: two of three are not all.
        let mut two = node();
        answer(&mut two, Duration::ZERO, &status(Status::Empty));
        assert_eq!(two.replica.status(), Status::Empty);

        let mut all = node();
        let own = all.take().messages.into_iter().find(|envelope| envelope.to == upid(1)).unwrap();
        let round = own.from.clone();
        all.receive(Duration::ZERO, own);
        for number in [2, 3] {
            let message = status(Status::Empty)(&Message::Recover).unwrap();
            all.receive(
                Duration::ZERO,
                Envelope { from: upid(number), to: round.clone(), message },
            );
        }
        let output = all.take();
        assert_eq!(all.replica.status(), Status::Empty, "its own answer is still under way");
        for envelope in output.messages.into_iter().filter(|envelope| envelope.to == round) {
            all.receive(Duration::ZERO, envelope);
        }
        assert_eq!(all.replica.status(), Status::Starting);
    }

    #[test]
    fn while_it_pauses_the_node_tells_what_the_others_said() {
        let mut node = node();
        let status = |status: Status| {
            Message::Recovered(RecoverResponse { status: status as i32, ..Default::default() })
        };
        // A voter and one that never voted: no quorum, and no group without a log.
        let own = node.take().messages.into_iter().find(|envelope| envelope.to == upid(1)).unwrap();
        for (number, status) in
            [(1, status(Status::Empty)), (2, status(Status::Voting)), (3, status(Status::Starting))]
        {
            let from = upid(number);
            node.receive(
                Duration::from_millis(1),
                Envelope { from, to: own.from.clone(), message: status },
            );
        }
        assert!(node.round.is_none(), "it pauses");
        let told = node.complaint().unwrap();
        assert!(told.contains("(1 VOTING, 1 STARTING, 1 EMPTY); 3 of 3 known"), "{told}");
    }

    #[test]
    fn too_many_and_too_few_replicas_are_told() {
        let mut node = node();
        node.set_members(Duration::ZERO, BTreeSet::new());
        let few = node.complaint().unwrap();
        assert!(few.contains("too few replicas: 1 known of the 2 that --quorum=2 needs"), "{few}");
        node.set_members(Duration::ZERO, (1..=4).map(upid).collect());
        let many = node.complaint().unwrap();
        assert!(many.contains("--quorum=2 is too small for 4 replicas"), "{many}");
        assert!(many.contains("start each master with --quorum=3"), "{many}");
    }
}
