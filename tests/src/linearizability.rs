//! Whether a history of a versioned register is linearizable: whether all operations could have happened one after the
//! other, each at some moment between its call and its return (Wing and Gong's search, with Lowe's memory of where it has been).
//!
//! A register is a znode: its data, and the number of changes. An operation whose reply was lost has no return: it may happen
//! at any moment after its call, or never.

use std::collections::{HashMap, HashSet};

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Put a value; no two operations put the same one.
    Write(u64),
    /// Put a value if the version is `expected`.
    Cas {
        /// The version that it must have.
        expected: i32,
        /// The value.
        value: u64,
    },
    /// See what is there.
    Read,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The value was put, and the register has this version by it.
    Changed {
        /// The version after it.
        version: i32,
    },
    /// A read saw this.
    Saw {
        /// The version.
        version: i32,
        /// The value.
        value: u64,
    },
    /// The version was not the one expected.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// An operation of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// What was asked.
    pub act: Act,
    /// What it came to.
    pub outcome: Outcome,
    /// When it was called, on one clock for all.
    pub called: u64,
    /// When it returned; of no meaning for one whose outcome is unknown.
    pub returned: u64,
}

/// A register's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register {
    /// Changes so far.
    pub version: i32,
    /// The value.
    pub value: u64,
}

/// What is known from the whole history of operations whose outcome nobody knows.
struct Evidence {
    /// Versions at which values were seen.
    seen: HashMap<u64, i32>,
    /// Versions that operations with a known outcome made.
    taken: HashSet<i32>,
}

impl Operation {
    /// The state after it, if it can happen in this one.
    fn applied(&self, state: Register, evidence: &Evidence) -> Option<Register> {
        let next = state.version.wrapping_add(1);
        let fits = match (self.act, self.outcome) {
            (Act::Read, Outcome::Saw { version, value }) => {
                return (state == Register { version, value }).then_some(state);
            }
            (Act::Cas { expected, .. }, Outcome::Refused) => {
                return (state.version != expected).then_some(state);
            }
            (Act::Write(_), Outcome::Changed { version }) => version == next,
            (Act::Cas { expected, .. }, Outcome::Changed { version }) => {
                version == next && state.version == expected
            }
            (Act::Write(value), Outcome::Unknown) => evidence.allows(value, next),
            (Act::Cas { expected, value }, Outcome::Unknown) => {
                state.version == expected && evidence.allows(value, next)
            }
            _ => false,
        };
        match self.act {
            Act::Write(value) | Act::Cas { value, .. } => {
                fits.then_some(Register { version: next, value })
            }
            Act::Read => None,
        }
    }
}

impl Evidence {
    fn of(history: &[Operation]) -> Self {
        let mut evidence = Self { seen: HashMap::new(), taken: HashSet::new() };
        for operation in history {
            match operation.outcome {
                Outcome::Changed { version } => {
                    evidence.taken.insert(version);
                }
                Outcome::Saw { version, value } => {
                    evidence.seen.insert(value, version);
                }
                _ => {}
            }
        }
        evidence
    }

    /// Whether an operation with an unknown outcome can have put `value` as `version`.
    fn allows(&self, value: u64, version: i32) -> bool {
        !self.taken.contains(&version) && self.seen.get(&value).is_none_or(|seen| *seen == version)
    }
}

/// How many steps the search may take.
const STEPS_MAX: usize = 20_000_000;

/// Calls and returns in the order of time, as a list from which operations are taken and put back.
struct Timeline {
    /// Operation, and whether it is its return.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    call_at: Vec<usize>,
    return_at: Vec<Option<usize>>,
}

/// Stands before the first event.
const HEAD: usize = 0;

impl Timeline {
    fn of(history: &[Operation]) -> Self {
        // At one moment calls come first: such operations overlap.
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (index, operation) in history.iter().enumerate() {
            moments.push((operation.called, false, index));
            if operation.outcome != Outcome::Unknown {
                moments.push((operation.returned, true, index));
            }
        }
        moments.sort_unstable();
        let mut timeline = Self {
            events: vec![(usize::MAX, false)],
            next: Vec::new(),
            previous: Vec::new(),
            call_at: vec![0; history.len()],
            return_at: vec![None; history.len()],
        };
        for (_, is_return, index) in moments {
            let at = timeline.events.len();
            timeline.events.push((index, is_return));
            if is_return {
                timeline.return_at[index] = Some(at);
            } else {
                timeline.call_at[index] = at;
            }
        }
        let count = timeline.events.len();
        timeline.next = (1..=count).collect();
        timeline.previous = (0..count).map(|at| at.saturating_sub(1)).collect();
        timeline.previous.push(count - 1);
        timeline
    }

    /// The event after `at`, if any.
    fn after(&self, at: usize) -> Option<usize> {
        Some(self.next[at]).filter(|next| *next < self.events.len())
    }

    fn unlink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn relink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = at;
        self.previous[after] = at;
    }

    fn take(&mut self, operation: usize) {
        self.unlink(self.call_at[operation]);
        if let Some(at) = self.return_at[operation] {
            self.unlink(at);
        }
    }

    fn put_back(&mut self, operation: usize) {
        if let Some(at) = self.return_at[operation] {
            self.relink(at);
        }
        self.relink(self.call_at[operation]);
    }
}

/// A number for an operation; sets of operations are told apart by the exclusive or of theirs.
fn mark(operation: usize) -> u128 {
    let mix = |seed: u64| {
        let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let seed = operation as u64 + 1;
    (u128::from(mix(seed)) << 64) | u128::from(mix(seed ^ 0x5555_5555_5555_5555))
}

/// Checks a history that began with `first`.
///
/// # Errors
/// With the operation that can't have happened where it must, when the history is not linearizable; or when the search takes
/// too long.
pub fn check(first: Register, history: &[Operation]) -> Result<(), String> {
    let evidence = Evidence::of(history);
    let mut timeline = Timeline::of(history);
    let mut left = history.iter().filter(|operation| operation.outcome != Outcome::Unknown).count();
    let mut been: HashSet<(u128, Register)> = HashSet::new();
    let (mut state, mut done) = (first, 0_u128);
    let mut chosen: Vec<(usize, Register)> = Vec::new();
    let mut stuck: Option<(usize, usize, Register)> = None;
    let mut at = timeline.after(HEAD);
    for _ in 0..STEPS_MAX {
        if left == 0 {
            return Ok(());
        }
        let event = at.map(|at| (at, timeline.events[at]));
        if let Some((here, (index, false))) = event {
            let operation = &history[index];
            let after = operation.applied(state, &evidence);
            if let Some(after) = after.filter(|after| been.insert((done ^ mark(index), *after))) {
                chosen.push((index, state));
                done ^= mark(index);
                left -= usize::from(operation.outcome != Outcome::Unknown);
                state = after;
                timeline.take(index);
                at = timeline.after(HEAD);
            } else {
                at = timeline.after(here);
            }
            continue;
        }
        // A return that has not happened, or the end: an earlier choice was wrong.
        if let Some((_, (index, true))) = event
            && stuck.is_none_or(|(depth, _, _)| chosen.len() > depth)
        {
            stuck = Some((chosen.len(), index, state));
        }
        let Some((index, before)) = chosen.pop() else {
            let told = stuck.map_or_else(String::new, |(depth, index, state)| {
                format!(
                    "after {depth} of {} operations, in {state:?}, this can't have happened before it returned: {:?}",
                    history.len(),
                    history[index]
                )
            });
            return Err(told);
        };
        state = before;
        done ^= mark(index);
        left += usize::from(history[index].outcome != Outcome::Unknown);
        timeline.put_back(index);
        at = timeline.after(timeline.call_at[index]);
    }
    Err(format!("no answer after {STEPS_MAX} steps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Register = Register { version: 0, value: 0 };

    fn operation(act: Act, outcome: Outcome, called: u64, returned: u64) -> Operation {
        Operation { client: 0, act, outcome, called, returned }
    }

    fn write(value: u64, version: i32, called: u64, returned: u64) -> Operation {
        operation(Act::Write(value), Outcome::Changed { version }, called, returned)
    }

    fn read(value: u64, version: i32, called: u64, returned: u64) -> Operation {
        operation(Act::Read, Outcome::Saw { version, value }, called, returned)
    }

    fn lost(value: u64, called: u64) -> Operation {
        operation(Act::Write(value), Outcome::Unknown, called, 0)
    }

    fn cas(expected: i32, value: u64, outcome: Outcome, called: u64, returned: u64) -> Operation {
        operation(Act::Cas { expected, value }, outcome, called, returned)
    }

    #[test]
    fn histories_that_can_be_put_in_order_pass() {
        for history in [
            vec![],
            vec![write(1, 1, 0, 10), read(1, 1, 5, 6), write(2, 2, 7, 20), read(2, 2, 8, 30)],
            // Overlapping, in the other order than they were called.
            vec![write(1, 2, 0, 10), write(2, 1, 1, 9), read(2, 1, 2, 8), read(1, 2, 11, 12)],
            // A lost write happened, another never did, and one late.
            vec![
                lost(1, 0),
                read(1, 1, 5, 6),
                lost(2, 7),
                lost(3, 8),
                write(4, 2, 20, 21),
                read(3, 3, 30, 31),
            ],
            // A lost write made the version that nobody saw.
            vec![lost(1, 0), write(2, 2, 1, 9), read(2, 2, 10, 11)],
            vec![
                cas(0, 1, Outcome::Changed { version: 1 }, 0, 5),
                cas(0, 2, Outcome::Refused, 1, 3),
                cas(1, 3, Outcome::Unknown, 6, 0),
                read(3, 2, 9, 10),
            ],
        ] {
            assert_eq!(check(FIRST, &history), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn histories_that_can_not_be_put_in_order_are_found() {
        for history in [
            // Read before it was written; not read after it was; read back in time.
            vec![read(1, 1, 0, 1), write(1, 1, 2, 3)],
            vec![write(1, 1, 0, 1), read(0, 0, 2, 3)],
            vec![write(1, 1, 0, 9), read(1, 1, 1, 2), read(0, 0, 3, 4)],
            // A lost write that happens before it is called, or twice, or where another did.
            vec![read(1, 1, 0, 1), lost(1, 2)],
            vec![lost(1, 0), read(1, 1, 1, 2), write(2, 2, 3, 4), read(1, 3, 5, 6)],
            vec![lost(1, 0), write(2, 1, 1, 2), read(1, 1, 3, 4)],
            // An acknowledged write is lost.
            vec![write(1, 1, 0, 1), write(2, 2, 2, 3), write(3, 2, 4, 5)],
            // Two for one version; refused though it fits.
            vec![
                cas(0, 1, Outcome::Changed { version: 1 }, 0, 5),
                cas(0, 2, Outcome::Changed { version: 1 }, 0, 5),
            ],
            vec![cas(0, 1, Outcome::Refused, 0, 5)],
        ] {
            assert!(check(FIRST, &history).is_err(), "{history:?}");
        }
    }

    #[test]
    fn long_histories_are_checked_fast() {
        // Five writers that overlap, each tenth reply lost.
        let mut history = Vec::new();
        for step in 0..20_000_u64 {
            let version = i32::try_from(step + 1).unwrap();
            let mut operation = write(step + 1, version, step * 10, step * 10 + 49);
            if step % 10 == 3 {
                operation.outcome = Outcome::Unknown;
            }
            history.push(operation);
        }
        history.push(read(20_000, 20_000, 300_000, 300_001));
        assert_eq!(check(FIRST, &history), Ok(()));
    }
}
