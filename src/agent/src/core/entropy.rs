//! Randomness from a seed: the same inputs give the same effects.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

/// A source of identifiers and of jitter.
#[derive(Debug)]
pub(super) struct Entropy(StdRng);

impl Entropy {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }

    /// A random (version 4) identifier.
    pub(super) fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.0.random()).into_uuid()
    }

    /// A number from 0 up to 1.
    pub(super) fn fraction(&mut self) -> f64 {
        self.0.random()
    }
}
