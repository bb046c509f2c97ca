//! Waiting on conditions with a deadline, instead of sleeping.

use std::thread;
use std::time::{Duration, Instant};

/// Polls `condition` until it gives a value.
///
/// # Panics
/// When `limit` passes first; the message names `what` and what was seen last.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= deadline => {
                panic!("waited {limit:?} for {what}; last seen: {seen}")
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// [`until`] for a plain yes or no.
///
/// # Panics
/// When `limit` passes before `condition` holds.
pub fn until_true(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    until(what, limit, || if condition() { Ok(()) } else { Err("not yet".to_owned()) });
}
