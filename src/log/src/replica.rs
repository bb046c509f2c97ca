//! One replica: what it promised, what it accepted, what it learned.
//!
//! Pure: every change is also put into the records that must be on disk before any answer that rests on it leaves.
//! The rules are those of the original's replica (Multi-Paxos, a decision a position), so that both can take part in
//! one group.

use std::collections::BTreeMap;

use mesos::internal::log::action::{Nop, Type};
use mesos::internal::log::metadata::Status;
use mesos::internal::log::{
    Action, Metadata, PromiseRequest, PromiseResponse, Record, RecoverResponse, WriteRequest,
    WriteResponse, promise_response, record, write_response,
};

/// A replica's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    status: Status,
    promised: u64,
    begin: u64,
    end: u64,
    actions: BTreeMap<u64, Action>,
    unwritten: Vec<Record>,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            status: Status::Empty,
            promised: 0,
            begin: 0,
            end: 0,
            actions: BTreeMap::new(),
            unwritten: Vec::new(),
        }
    }
}

impl Replica {
    /// What it may do.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The highest proposal that was promised for all positions without a record.
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// The first position that isn't truncated.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// The last position with a record.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The action at a position, unless there is none or it is truncated.
    pub fn action(&self, position: u64) -> Option<&Action> {
        self.actions.get(&position)
    }

    /// The newest appended entry up to a position, learned or not: the last word when nothing up to there is missing.
    pub fn newest(&self, to: u64) -> Option<&[u8]> {
        let mut upwards = self.actions.range(..=to);
        upwards
            .by_ref()
            .rev()
            .find_map(|(_, action)| Some(action.append.as_ref()?.bytes.as_slice()))
    }

    /// The first position from `from` to `to` whose value this replica doesn't know to be agreed. Truncated ones are.
    pub fn first_missing(&self, from: u64, to: u64) -> Option<u64> {
        let mut expected = from.max(self.begin);
        for (position, action) in self.actions.range(expected..) {
            if expected > to || *position != expected || action.learned != Some(true) {
                break;
            }
            expected = expected.saturating_add(1);
        }
        (expected <= to).then_some(expected)
    }

    /// Takes a record read from disk.
    pub fn restore(&mut self, record: Record) {
        if let Some(metadata) = record.metadata {
            self.status = metadata.status();
            self.promised = metadata.promised;
        }
        if let Some(action) = record.action {
            self.apply(action);
        }
    }

    /// Records that hold the whole state: what a file may be replaced by.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![metadata(self.status, self.promised)];
        if let Some(last) = self.begin.checked_sub(1) {
            records.push(of(self.tombstone(last)));
        }
        records.extend(self.actions.values().cloned().map(of));
        records
    }

    /// The records that must be on disk before anything said since leaves.
    pub fn take_unwritten(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.unwritten)
    }

    /// Changes the status and the promise.
    pub fn update(&mut self, status: Status, promised: u64) {
        (self.status, self.promised) = (status, promised);
        self.unwritten.push(metadata(status, promised));
    }

    /// Answers a request for a promise.
    pub fn promise(&mut self, request: &PromiseRequest) -> PromiseResponse {
        use promise_response::Type::{Accept, Ignored, Reject};
        let answer = |kind, proposal| PromiseResponse {
            okay: kind == Accept,
            r#type: Some(kind as i32),
            proposal,
            ..Default::default()
        };
        if self.status != Status::Voting {
            return answer(Ignored, request.proposal);
        }
        let Some(position) = request.position else {
            if request.proposal <= self.promised {
                return answer(Reject, self.promised);
            }
            self.update(self.status, request.proposal);
            return PromiseResponse {
                position: Some(self.end),
                ..answer(Accept, request.proposal)
            };
        };
        if position < self.begin {
            // Learned, so that the proposer doesn't try to write where nobody accepts any more.
            return PromiseResponse {
                action: Some(self.tombstone(position)),
                ..answer(Accept, request.proposal)
            };
        }
        let known = self.actions.get(&position);
        // A position without a record is covered by the promise for all that follow.
        let promised = known.map_or(self.promised, |action| action.promised);
        if request.proposal <= promised {
            return answer(Reject, promised);
        }
        let before = known.cloned();
        let action =
            Action { position, promised: request.proposal, ..before.clone().unwrap_or_default() };
        self.persist(action);
        let fresh = before.is_none().then_some(position);
        PromiseResponse { action: before, position: fresh, ..answer(Accept, request.proposal) }
    }

    /// Answers a request to write; `None` where the position is decided already.
    pub fn write(&mut self, request: &WriteRequest) -> Option<WriteResponse> {
        use write_response::Type::{Accept, Ignored, Reject};
        let answer = |kind, proposal| {
            Some(WriteResponse {
                okay: kind == Accept,
                r#type: Some(kind as i32),
                proposal,
                position: request.position,
            })
        };
        if self.status != Status::Voting {
            return answer(Ignored, request.proposal);
        }
        if request.position < self.begin {
            return None;
        }
        let known = self.actions.get(&request.position);
        let promised = known.map_or(self.promised, |action| action.promised);
        if request.proposal < promised {
            return answer(Reject, promised);
        }
        if known.is_some_and(|action| action.learned == Some(true)) {
            return None;
        }
        self.persist(Action {
            position: request.position,
            // The promise for all that follow may be higher than this proposal only where a record says otherwise.
            promised: promised.max(request.proposal),
            performed: Some(request.proposal),
            learned: request.learned,
            r#type: Some(request.r#type),
            nop: request.nop,
            append: request.append.clone(),
            truncate: request.truncate,
        });
        answer(Accept, request.proposal)
    }

    /// Takes an agreed action.
    pub fn learn(&mut self, action: Action) {
        let known = self.actions.get(&action.position);
        if action.position < self.begin || known.is_some_and(|known| known.learned == Some(true)) {
            // A tombstone may still tell of a truncation that this replica missed.
            let tombstone = action.nop.is_some_and(|nop| nop.tombstone == Some(true));
            if !tombstone || action.position < self.begin {
                return;
            }
        }
        self.persist(Action { learned: Some(true), ..action });
    }

    /// Says where it stands.
    pub fn recover(&self) -> RecoverResponse {
        let voting = self.status == Status::Voting;
        RecoverResponse {
            status: self.status as i32,
            begin: voting.then_some(self.begin),
            end: voting.then_some(self.end),
        }
    }

    fn tombstone(&self, position: u64) -> Action {
        Action {
            position,
            promised: self.promised,
            performed: Some(self.promised),
            learned: Some(true),
            r#type: Some(Type::Nop as i32),
            nop: Some(Nop { tombstone: Some(true) }),
            ..Default::default()
        }
    }

    fn persist(&mut self, action: Action) {
        self.unwritten.push(of(action.clone()));
        self.apply(action);
    }

    fn apply(&mut self, action: Action) {
        let (position, begin) = (action.position, self.begin);
        self.end = self.end.max(position);
        if action.learned == Some(true) {
            if let Some(truncate) = action.truncate {
                // Never past the truncation itself: its record says where the log begins.
                self.begin = self.begin.max(truncate.to.min(position));
            }
            if action.nop.is_some_and(|nop| nop.tombstone == Some(true)) {
                self.begin = self.begin.max(position.saturating_add(1));
            }
        }
        if position >= self.begin {
            self.actions.insert(position, action);
        }
        if self.begin > begin {
            self.actions = self.actions.split_off(&self.begin);
        }
    }
}

fn metadata(status: Status, promised: u64) -> Record {
    Record {
        r#type: record::Type::Metadata as i32,
        metadata: Some(Metadata { status: status as i32, promised }),
        ..Default::default()
    }
}

fn of(action: Action) -> Record {
    Record { r#type: record::Type::Action as i32, action: Some(action), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use mesos::internal::log::action::{Append, Truncate};

    use super::*;

    fn voting() -> Replica {
        let mut replica = Replica::default();
        replica.update(Status::Voting, 0);
        replica
    }

    fn append(proposal: u64, position: u64, bytes: &[u8]) -> WriteRequest {
        WriteRequest {
            proposal,
            position,
            r#type: Type::Append as i32,
            append: Some(Append { bytes: bytes.to_vec(), cksum: None }),
            ..Default::default()
        }
    }

    fn truncation(position: u64, to: u64) -> Action {
        Action {
            position,
            r#type: Some(Type::Truncate as i32),
            truncate: Some(Truncate { to }),
            ..Default::default()
        }
    }

    fn implicit(proposal: u64) -> PromiseRequest {
        PromiseRequest { proposal, position: None }
    }

    #[test]
    fn who_does_not_vote_ignores() {
        let mut replica = Replica::default();
        let ignored = Some(promise_response::Type::Ignored as i32);
        assert_eq!(replica.promise(&implicit(1)).r#type, ignored);
        let answer = replica.write(&append(1, 0, b"x")).unwrap();
        assert_eq!(answer.r#type, Some(write_response::Type::Ignored as i32));
        assert!(replica.take_unwritten().is_empty());
    }

    #[test]
    fn a_promise_is_given_once_and_on_record() {
        let mut replica = voting();
        assert!(replica.promise(&implicit(2)).okay);
        assert_eq!(replica.take_unwritten().last().unwrap().metadata.unwrap().promised, 2);
        for proposal in [0, 1, 2] {
            let answer = replica.promise(&implicit(proposal));
            assert!(!answer.okay && answer.proposal == 2);
        }
        assert!(!replica.write(&append(1, 3, b"x")).unwrap().okay);
        assert!(replica.write(&append(2, 3, b"x")).unwrap().okay);
        assert_eq!(replica.promise(&implicit(3)).position, Some(3));
    }

    #[test]
    fn a_late_repetition_of_an_older_write_is_refused() {
        let mut replica = voting();
        replica.promise(&implicit(2));
        assert!(replica.write(&append(2, 1, b"old")).unwrap().okay);
        assert!(replica.write(&append(5, 1, b"new")).unwrap().okay);
        assert!(!replica.write(&append(2, 1, b"old")).unwrap().okay);
        assert_eq!(replica.newest(1), Some(&b"new"[..]));
    }

    #[test]
    fn what_is_learned_stays() {
        let mut replica = voting();
        replica.write(&append(1, 1, b"agreed"));
        let agreed = replica.action(1).unwrap().clone();
        replica.learn(agreed);
        assert_eq!(replica.write(&append(9, 1, b"other")), None);
        assert_eq!(replica.newest(1), Some(&b"agreed"[..]));
        // A proposer that asks gets to know it.
        let answer = replica.promise(&PromiseRequest { proposal: 10, position: Some(1) });
        assert_eq!(answer.action.unwrap().learned, Some(true));
    }

    #[test]
    fn truncated_positions_are_gone_known_and_told_of() {
        let mut replica = voting();
        for position in 0..4 {
            replica.write(&append(1, position, b"x"));
        }
        assert_eq!(replica.first_missing(0, 4), Some(0));
        replica.learn(truncation(4, 3));
        assert_eq!((replica.begin(), replica.end()), (3, 4));
        assert_eq!((replica.action(2), replica.first_missing(0, 4)), (None, Some(3)));
        let answer = replica.promise(&PromiseRequest { proposal: 1, position: Some(0) });
        assert_eq!(answer.action.unwrap().nop, Some(Nop { tombstone: Some(true) }));
        assert_eq!(replica.write(&append(9, 0, b"x")), None);
        // Nobody can make it forget itself, or walk past the end of numbers.
        replica.learn(truncation(5, u64::MAX));
        assert_eq!(replica.begin(), 5);
        replica.learn(truncation(u64::MAX, 5));
        assert_eq!(replica.first_missing(0, u64::MAX), Some(6));
    }

    #[test]
    fn records_and_a_snapshot_both_give_the_state_back() {
        let mut replica = voting();
        replica.promise(&implicit(4));
        for position in 0..4 {
            replica.write(&append(4, position, b"x"));
        }
        replica.learn(truncation(4, 3));
        replica.promise(&PromiseRequest { proposal: 6, position: Some(7) });
        let records = replica.take_unwritten();
        for records in [records, replica.snapshot()] {
            let mut restored = Replica::default();
            for record in records {
                restored.restore(record);
            }
            assert_eq!(restored, replica);
        }
    }
}
