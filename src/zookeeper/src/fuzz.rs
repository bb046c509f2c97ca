//! Whatever comes from the network or the disk: no panic, and no more memory than what came can account for.
//!
//! Each target takes good input, damages it in many ways and reads it. A run is a seed and a number, which a failure
//! names. `MESO_FUZZ_SECONDS` makes each target run longer, `MESO_FUZZ_SEED` begins elsewhere. `scripts/fuzz` builds them so
//! that inputs are kept that reach new parts of the program.

mod coverage;
mod memory;
mod security;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use coverage::Coverage;

/// Numbers that look random (SplitMix64).
#[derive(Debug, Clone, Copy)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Lengths and counts that break readers.
const NASTY: [u32; 9] =
    [0, 1, 0xffff_ffff, 0xffff_fffe, 0x7fff_ffff, 0x8000_0000, 0x0400_0000, 0x03ff_ffff, 0x1_0000];

/// Good input, damaged.
fn damaged(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus.get(numbers.below(corpus.len())).cloned().unwrap_or_default();
    for _ in 0..numbers.below(5) {
        let at = numbers.below(bytes.len());
        match numbers.below(8) {
            0 if !bytes.is_empty() => bytes[at] = numbers.next() as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            2 => {
                let nasty = NASTY[numbers.below(NASTY.len())].to_be_bytes();
                // Most fields are aligned to nothing, but many begin behind four others.
                let at = if numbers.below(2) == 0 { at } else { at & !3 };
                for (place, byte) in bytes.iter_mut().skip(at).zip(nasty) {
                    *place = byte;
                }
            }
            3 => bytes.truncate(at),
            4 => {
                let end = (at + numbers.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let more: Vec<u8> = (0..numbers.below(20)).map(|_| numbers.next() as u8).collect();
                bytes.splice(at..at, more);
            }
            6 => {
                let other = &corpus[numbers.below(corpus.len())];
                let from = numbers.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let end = (at + numbers.below(64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = numbers.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
        }
    }
    bytes
}

/// What is kept for being new: so many, of so many bytes.
const KEPT_MAX: usize = 20_000;
const KEPT_BYTES_MAX: usize = 1 << 16;

/// However slow the machine is.
const RUNS_MIN: u64 = 50;

/// Runs a target for a while. It may hold `factor` bytes for each that it was given, and a megabyte.
fn run(name: &str, corpus: &[Vec<u8>], factor: usize, mut target: impl FnMut(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let limit = Duration::from_secs_f64(number("MESO_FUZZ_SECONDS").map_or(0.7, |s| s as f64));
    let seed = number("MESO_FUZZ_SEED").unwrap_or(1);
    let (mut corpus, mut coverage) = (corpus.to_vec(), Coverage::default());
    for input in &corpus {
        Coverage::begin();
        target(input);
        coverage.is_new();
    }
    let given = corpus.len();
    let began = Instant::now();
    let mut run = 0_u64;
    while run < RUNS_MIN || began.elapsed() < limit {
        let mut numbers = Numbers(seed.wrapping_mul(1 << 40).wrapping_add(run));
        let input = damaged(&mut numbers, &corpus);
        let mut peak = 0;
        Coverage::begin();
        let done = catch_unwind(AssertUnwindSafe(|| peak = memory::peak(|| target(&input))));
        let allowed = input.len() * factor + (1 << 20);
        assert!(done.is_ok(), "{name}: seed {seed}, run {run} panics: {input:02x?}");
        assert!(
            peak <= allowed,
            "{name}: seed {seed}, run {run} takes {peak} bytes for {}: {input:02x?}",
            input.len()
        );
        if coverage.is_new() && corpus.len() < KEPT_MAX && input.len() <= KEPT_BYTES_MAX {
            corpus.push(input);
        }
        run += 1;
    }
    if corpus.len() > given {
        println!("{name}: {} of {run} inputs reached something new", corpus.len() - given);
    }
}
