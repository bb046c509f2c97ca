//! What an input reaches, in a program that was built to tell (`scripts/fuzz`): inputs that reach something new are kept,
//! and damaged in turn.
//!
//! The compiler puts a counter of eight bits on every edge between blocks (`SanitizerCoverage`, "inline 8-bit counters"),
//! and has the program told where they are as it starts.

use std::sync::atomic::Ordering;

/// What all inputs so far have reached.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// By edge: how often it was passed, in classes, a bit each.
    seen: Vec<[u8; 8]>,
}

/// Once, twice, three times, then by powers of two: more often than before is news, by one more it is not.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..8 => 8,
        8..16 => 16,
        16..32 => 32,
        32..128 => 64,
        128.. => 128,
    }
}

impl Coverage {
    /// Before an input is read.
    pub(super) fn begin() {
        for eight in counters::all() {
            eight.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it has reached what none before it has. Never, where nothing tells.
    pub(super) fn is_new(&mut self) -> bool {
        let all = counters::all();
        self.seen.resize(all.len(), [0; 8]);
        let mut is_new = false;
        for (seen, eight) in self.seen.iter_mut().zip(all) {
            let counts = eight.load(Ordering::Relaxed);
            // Most are not passed at all.
            if counts != 0 {
                for (seen, count) in seen.iter_mut().zip(counts.to_ne_bytes()) {
                    is_new |= class(count) & !*seen != 0;
                    *seen |= class(count);
                }
            }
        }
        is_new
    }
}

#[cfg(fuzz_coverage)]
mod counters {
    use std::slice;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicU64;

    static ALL: OnceLock<&'static [AtomicU64]> = OnceLock::new();

    /// Every module of the program calls it, with the same two ends.
    #[expect(unsafe_code, reason = "the instrumentation asks for a function of this name")]
    #[unsafe(no_mangle)]
    extern "C" fn __sanitizer_cov_8bit_counters_init(start: *const u8, end: *const u8) {
        let first = (start as usize).next_multiple_of(8);
        let length = (end as usize).saturating_sub(first) / 8;
        // SAFETY: between the ends is a section of the program's own that is there as long as it runs, of bytes that
        // only the instrumentation writes. A few at each end are left out, so that eight are read at once.
        ALL.get_or_init(|| unsafe { slice::from_raw_parts(first as *const AtomicU64, length) });
    }

    pub(super) fn all() -> &'static [AtomicU64] {
        ALL.get().copied().unwrap_or_default()
    }
}

#[cfg(not(fuzz_coverage))]
mod counters {
    use std::sync::atomic::AtomicU64;

    pub(super) fn all() -> &'static [AtomicU64] {
        &[]
    }
}
