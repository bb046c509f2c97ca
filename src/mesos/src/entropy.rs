//! Randomness from a seed: the same inputs give the same effects.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

/// A source of identifiers and of jitter.
#[derive(Debug)]
pub struct Entropy(StdRng);

impl Entropy {
    /// A source that gives the same for the same seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }

    /// A random (version 4) identifier.
    pub fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.0.random()).into_uuid()
    }

    /// A number from 0 up to 1.
    pub fn fraction(&mut self) -> f64 {
        self.0.random()
    }

    /// Brings a list into a random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        use rand::seq::SliceRandom as _;
        list.shuffle(&mut self.0);
    }
}
