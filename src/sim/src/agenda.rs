//! What is to happen, in the order of virtual time.

use std::collections::BTreeMap;

/// Events by time, in milliseconds; those of one time in the order in which they were put in.
#[derive(Debug)]
pub struct Agenda<E> {
    now: u64,
    entered: u64,
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { now: 0, entered: 0, events: BTreeMap::new() }
    }
}

impl<E> Agenda<E> {
    /// The time of the event that was taken last.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Has something happen after `delay`.
    pub fn after(&mut self, delay: u64, event: E) {
        self.at(self.now + delay, event);
    }

    /// Has something happen at `time`, or at once if that is over.
    pub fn at(&mut self, time: u64, event: E) {
        self.entered += 1;
        self.events.insert((time.max(self.now), self.entered), event);
    }

    /// Takes what happens next; the time is its time then.
    pub fn take(&mut self) -> Option<E> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_order() {
        let mut agenda = Agenda::default();
        agenda.after(5, "c");
        agenda.after(1, "a");
        agenda.after(1, "b");
        assert_eq!((agenda.take(), agenda.now()), (Some("a"), 1));
        agenda.at(0, "late");
        assert_eq!(agenda.take(), Some("b"));
        assert_eq!((agenda.take(), agenda.now()), (Some("late"), 1));
        assert_eq!((agenda.take(), agenda.take(), agenda.now()), (Some("c"), None, 5));
    }
}
