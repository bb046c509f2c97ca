//! Requests take their turns in the order in which they came, also those that wait while nothing may be proposed.
//!
//! A follower takes commits for its requests in the order in which it sent them (`CommitProcessor.queuedWriteRequests`);
//! out of it, none of its clients would be answered again.

use std::collections::VecDeque;

/// Those that wait.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    waiting: VecDeque<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// A request has come: it is given back if its turn is now. It must wait for quiet, or behind those that wait already.
    pub(crate) fn admit(&mut self, is_quiet: bool, request: T) -> Option<T> {
        if is_quiet || !self.waiting.is_empty() {
            self.waiting.push_back(request);
            return None;
        }
        Some(request)
    }

    /// The next one that has waited, unless it must go on.
    pub(crate) fn next(&mut self, is_quiet: bool) -> Option<T> {
        if is_quiet { None } else { self.waiting.pop_front() }
    }

    /// Forgets those that wait.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_quiet_waits_for_what_came_during_it() {
        let mut turns = Turns::default();
        assert_eq!(turns.admit(false, 1), Some(1));
        assert_eq!(turns.admit(true, 2), None);
        assert_eq!(turns.next(true), None);
        // Quiet has ended, in the middle of a batch.
        assert_eq!(turns.admit(false, 3), None, "2 was first");
        assert_eq!(
            (turns.next(false), turns.next(false), turns.next(false)),
            (Some(2), Some(3), None)
        );
        assert_eq!(turns.admit(false, 4), Some(4));
        assert_eq!(turns.admit(true, 5), None);
        turns.clear();
        assert_eq!(turns.admit(false, 6), Some(6));
    }
}
