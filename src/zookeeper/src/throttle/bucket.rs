//! The bucket of tokens that new sessions take, and the chance that they are dropped all the same (`BlueThrottle`).

use crate::config::SessionBucket;

/// A bucket. Without I/O and clock; its chance comes from a seed.
#[derive(Debug)]
pub struct Bucket {
    options: SessionBucket,
    tokens: i64,
    filled_ms: i64,
    frozen_ms: i64,
    drop_chance: f64,
    random: u64,
}

impl Bucket {
    /// A full one, at time 0.
    pub fn new(options: SessionBucket, seed: u64) -> Self {
        let tokens = options.tokens_max;
        // A generator that starts at 0 stays there.
        let random = seed | 1;
        Self { options, tokens, filled_ms: 0, frozen_ms: 0, drop_chance: 0.0, random }
    }

    /// Takes the tokens of a new session, or of one taken up again; whether there were enough, and chance allowed it.
    pub fn take(&mut self, now_ms: i64, is_new: bool) -> bool {
        let since = now_ms - self.filled_ms;
        if since > self.options.fill_time_ms {
            let refill = since.saturating_mul(self.options.fill_count) / self.options.fill_time_ms;
            self.tokens = self.tokens.saturating_add(refill).min(self.options.tokens_max);
            self.filled_ms = now_ms;
        }
        if let Some(freeze_ms) = self.options.freeze_time_ms
            && self.is_dropped(now_ms, freeze_ms)
        {
            return false;
        }
        let needed = if is_new { self.options.new_weight } else { self.options.renew_weight };
        if self.tokens < needed {
            return false;
        }
        self.tokens -= needed;
        true
    }

    fn is_dropped(&mut self, now_ms: i64, freeze_ms: i64) -> bool {
        if now_ms - self.frozen_ms > freeze_ms {
            let missing = self.options.tokens_max - self.tokens;
            let few = (self.options.tokens_max as f64 * self.options.decrease_ratio).round() as i64;
            if missing == self.options.tokens_max {
                self.drop_chance = (self.drop_chance + self.options.drop_increase).min(1.0);
            } else if missing <= few {
                self.drop_chance = (self.drop_chance - self.options.drop_decrease).max(0.0);
            }
            self.frozen_ms = now_ms;
        }
        self.next() < self.drop_chance
    }

    /// A number from 0 to 1 (xorshift64*).
    fn next(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    /// Tokens that are missing.
    pub fn deficit(&self) -> u64 {
        (self.options.tokens_max - self.tokens).max(0) as u64
    }

    /// The chance that a session is dropped, from 0 to 1.
    pub fn drop_chance(&self) -> f64 {
        self.drop_chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SessionBucket {
        SessionBucket {
            tokens_max: 6,
            fill_time_ms: 10,
            fill_count: 3,
            freeze_time_ms: None,
            drop_increase: 0.5,
            drop_decrease: 0.25,
            decrease_ratio: 0.0,
            new_weight: 3,
            renew_weight: 2,
        }
    }

    #[test]
    fn tokens_are_taken_by_weight_and_come_back_with_time() {
        let mut bucket = Bucket::new(options(), 1);
        assert!(bucket.take(0, true) && bucket.take(0, false));
        assert_eq!(bucket.deficit(), 5);
        assert!(!bucket.take(10, false), "a refill comes after its time, not at it");
        assert!(bucket.take(11, true), "and 11 ms are worth 3 tokens");
        assert!(!bucket.take(12, true));
        assert!(bucket.take(i64::MAX / 4, true) && bucket.take(i64::MAX / 4, true));
        assert!(!bucket.take(i64::MAX / 4, true), "it never holds more than it can");
    }

    #[test]
    fn an_empty_bucket_makes_dropping_likely_and_a_full_one_unlikely() {
        let options = SessionBucket { freeze_time_ms: Some(1), fill_time_ms: 1000, ..options() };
        let mut bucket = Bucket::new(options, 1);
        assert!(bucket.take(0, true) && bucket.take(0, true));
        for now_ms in [2, 4, 6] {
            assert!(!bucket.take(now_ms, true));
        }
        assert_eq!(bucket.drop_chance(), 1.0);
        let mut chances = Vec::new();
        for now_ms in [3000, 6000, 9000, 12_000] {
            bucket.take(now_ms, true);
            chances.push(bucket.drop_chance());
        }
        assert_eq!(chances, [0.75, 0.5, 0.25, 0.0]);
    }
}
