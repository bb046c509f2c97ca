//! What is left of what has ended: removed after `--gc_delay`, or sooner when the disk fills (`slave/gc.cpp`).

use std::time::Duration;

use crate::checkpoint::paths::Run;

/// What can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waste {
    /// The sandbox and the checkpoint of an executor's run.
    Run(Run),
    /// Those of a framework: agent and framework.
    Framework(String, String),
    /// Those of an agent that this one was before.
    Agent(String),
}

#[derive(Debug)]
struct Entry {
    due: Duration,
    what: Waste,
}

/// What waits to be removed.
#[derive(Debug)]
pub struct Garbage {
    delay: Duration,
    headroom: f64,
    max_age: Duration,
    waiting: Vec<Entry>,
}

impl Garbage {
    /// `delay` is `--gc_delay`, `headroom` the part of the disk that is to stay free (`--gc_disk_headroom`).
    pub fn new(delay: Duration, headroom: f64) -> Self {
        let max_age = delay.mul_f64((1.0 - headroom).clamp(0.0, 1.0));
        Self { delay, headroom, max_age, waiting: Vec::new() }
    }

    /// Notes something that has ended `age` ago.
    pub fn add(&mut self, now: Duration, age: Duration, what: Waste) {
        self.waiting.retain(|own| own.what != what);
        let due = now + self.delay.saturating_sub(age);
        self.waiting.push(Entry { due, what });
    }

    /// Keeps what is needed again.
    pub fn keep(&mut self, what: &Waste) {
        self.waiting.retain(|own| own.what != *what);
    }

    /// How much of the disk is used: what is older than that allows is due now.
    pub fn disk_used(&mut self, now: Duration, part: f64) {
        self.max_age = self.delay.mul_f64((1.0 - self.headroom - part).clamp(0.0, 1.0));
        let horizon = now + self.delay.saturating_sub(self.max_age);
        for own in &mut self.waiting {
            if own.due <= horizon {
                own.due = now;
            }
        }
    }

    /// What is due.
    pub fn take_due(&mut self, now: Duration) -> Vec<Waste> {
        let (due, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|own| own.due <= now);
        self.waiting = waiting;
        due.into_iter().map(|own: Entry| own.what).collect()
    }

    /// How old what has ended may get, as the disk is now.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// How many directories wait: a sandbox and a checkpoint of each.
    pub fn pending(&self) -> usize {
        self.waiting.len() * 2
    }
}
