//! Running a simulation for many seeds.
//!
//! `SEED=n` runs one alone, `SEEDS=n` so many, `SEEDS=m..n` those from there on.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Which histories are run: those of these seeds.
pub type Wanted = Range<u64>;

/// What the environment says, or `default` histories.
pub fn wanted(default: u64) -> Wanted {
    let text = |name: &str| std::env::var(name).unwrap_or_default();
    asked_for(&text("SEED"), &text("SEEDS")).unwrap_or(0..default)
}

fn asked_for(seed: &str, seeds: &str) -> Option<Wanted> {
    let number = |text: &str| text.parse::<u64>().ok();
    match (number(seed), seeds.split_once("..")) {
        (Some(seed), _) => Some(seed..seed + 1),
        (None, Some((first, end))) => Some(number(first)?..number(end)?),
        (None, None) => Some(0..number(seeds)?),
    }
}

/// Runs histories on all cores, and gives what each came to.
///
/// # Panics
/// When some do: with the lowest of their seeds and what it said, and the other seeds.
pub fn run<T: Send>(wanted: Wanted, history: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(wanted.start);
    let all = Mutex::new((Vec::new(), BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !wanted.contains(&seed) {
                        return;
                    }
                    let result = catch_unwind(AssertUnwindSafe(|| history(seed)));
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    match result {
                        Ok(result) => all.0.push(result),
                        Err(panic) => drop(all.1.insert(seed, text(panic))),
                    }
                }
            });
        }
    });
    let (results, failed) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, reason)) = failed.first_key_value() {
        let others: Vec<u64> = failed.keys().copied().skip(1).collect();
        panic!("SEED={seed}: {reason}\nof {wanted:?} fail as well: {others:?}");
    }
    results
}

fn text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => {
            panic.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_run_and_failures_name_theirs() {
        let mut all = run(0..100, |seed| seed);
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let failing = || run(5..10, |seed| assert_ne!(seed % 2, 1, "odd"));
        let reason = text(catch_unwind(failing).unwrap_err());
        assert!(reason.starts_with("SEED=5: ") && reason.ends_with("[7, 9]"), "{reason}");
    }

    #[test]
    fn one_some_or_a_range_can_be_asked_for() {
        assert_eq!(asked_for("7", "3"), Some(7..8));
        assert_eq!(asked_for("", "3"), Some(0..3));
        assert_eq!(asked_for("", "3..5"), Some(3..5));
        assert_eq!(asked_for("", "many"), None);
    }
}
