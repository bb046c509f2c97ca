//! The masters' registry log on disk: appended entries of which the last whole one counts.
//!
//! Data flow: [`Log::open`] reads the file, cuts a torn tail and gives the newest entry; [`Log::append`] returns only
//! when the entry is on disk. What an entry means is the master's business (a whole registry, as the original's
//! `state.Operation` snapshots are).
//!
//! Invariants: an appended entry survives `kill -9` and power loss; a torn tail (a write that was never acknowledged)
//! is cut; a broken record with whole ones behind it is refused with file and offset, never skipped.
//!
//! The masters' agreement on entries (Multi-Paxos over `mesos.internal.log.*`) goes in front of this; until it is
//! built, a master runs with `--quorum=1`.
//!
//! File format, integers little-endian: `MESOLOG1`, then records of length (u32), CRC-32 of the payload (u32), payload.

mod format;
mod log;

pub use log::{Log, LogError, Opened};
