//! Deterministic simulation: virtual time, network and disk.
