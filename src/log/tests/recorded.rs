//! Three replicas of ours get what three of the original's got, message by message, and must answer with the same bytes.
//!
//! The recording lies beside the repository; where it is absent this says so and passes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that says when it skips")]

#[expect(dead_code, reason = "used by the tests of other messages")]
#[macro_use]
#[path = "../../mesos/tests/recorded/mod.rs"]
mod recorded;

use std::collections::BTreeMap;

use mesos::internal::log::metadata::Status;
use mesos::libprocess::Upid;
use replicated_log::Replica;
use replicated_log::message::{self, Message};

/// What a replica answers to a message from others.
fn answer(replica: &mut Replica, message: &Message) -> Option<Message> {
    match message {
        Message::Promise(request) => Some(Message::Promised(replica.promise(request))),
        Message::Write(request) => replica.write(request).map(Message::Written),
        Message::Recover => Some(Message::Recovered(replica.recover())),
        Message::Learned(action) => {
            replica.learn(action.clone());
            None
        }
        _ => None,
    }
}

#[test]
fn replicas_answer_as_the_originals_did() {
    let Some(lines) = recorded::wire("ha.jsonl") else { return };
    let mut replicas: BTreeMap<u16, Replica> = BTreeMap::new();
    // By who answers whom.
    let mut answers: BTreeMap<(u16, Upid), Message> = BTreeMap::new();
    let (mut compared, mut learned) = (0, 0);
    for line in lines.iter().filter(|line| message::is_ours(&line.header.to)) {
        let (name, body) = (&line.header.name, &line.body);
        let decoded = Message::decode(name, body).unwrap().unwrap();
        assert_eq!(decoded.encode(), (name.clone(), body.clone()));
        let from = line.header.from.address.port();
        let at = format!("{name} from {from} to {} at {}", line.to, line.time);
        match &decoded {
            // What the status changes of an empty log rest on is not on the wire: a replica is asked by itself, too.
            Message::Recovered(recorded) => {
                let replica = replicas.entry(from).or_default();
                let is_next = matches!(
                    (replica.status(), recorded.status()),
                    (Status::Empty, Status::Starting)
                        | (Status::Empty | Status::Starting, Status::Voting)
                );
                if is_next {
                    replica.update(recorded.status(), replica.promised());
                    assert_eq!(replica.recover(), *recorded, "{at}");
                    continue;
                }
            }
            // Who asks for a promise votes itself, or will when this is over.
            Message::Promise(_) => {
                let own = replicas.entry(from).or_default();
                own.update(Status::Voting, own.promised());
            }
            _ => {}
        }
        if message::REPLICA == line.header.to {
            let replica = replicas.entry(line.to).or_default();
            learned += usize::from(matches!(decoded, Message::Learned(_)));
            if let Some(answer) = answer(replica, &decoded) {
                answers.insert((line.to, line.header.from.clone()), answer);
            }
        } else {
            let asked = Upid::new(line.header.to.clone(), ([127, 0, 0, 1], line.to).into());
            let ours = answers.remove(&(from, asked));
            assert_eq!(ours.map(|ours| ours.encode().1).as_ref(), Some(body), "{at}");
            compared += 1;
        }
    }
    assert!(compared > 30 && learned == 16, "{compared} answers, {learned} told");
    // What the second leader wrote itself is not on the wire.
    let ends: Vec<_> = replicas.values().map(|replica| (replica.begin(), replica.end())).collect();
    assert_eq!(ends, [(7, 8), (3, 4), (7, 8)]);
}
