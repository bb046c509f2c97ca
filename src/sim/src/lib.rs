//! Deterministic simulation of what decides in cores: virtual time, a network that can fail, and histories by seed.
//!
//! A simulation owns an [`Agenda`] of its own events, sends over a [`Network`], takes every choice from a [`Random`],
//! and is run for many seeds by [`histories`]. The same seed gives the same history. Nothing here knows what is
//! simulated; `tests/cluster` runs masters, agents and frameworks together.

mod agenda;
pub mod histories;
pub mod network;
mod random;

pub use agenda::Agenda;
pub use network::Network;
pub use random::Random;
