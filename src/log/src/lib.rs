//! The masters' registry log: entries of which the newest counts, on one disk or agreed between masters.
//!
//! **Alone** (`--quorum=1`): [`Log::open`] reads the file, cuts a torn tail and gives the newest entry; [`Log::append`]
//! returns only when the entry is on disk.
//!
//! **Replicated** (`--quorum` above 1): Multi-Paxos over `mesos.internal.log.*`, as the original's. A [`Node`] is pure:
//! a [`Replica`] that promises, accepts and learns, and a coordinator that asks a quorum of them; [`store`] keeps the
//! replica's records; [`shell`] gives it sockets, disk and time. Data flow: messages and time → node → records on disk
//! → messages out, events to the owner.
//!
//! What an entry means is the master's business (a whole registry, as the original's `state.Operation` snapshots are):
//! after each append the positions before it are truncated.
//!
//! Invariants: nothing leaves a node before the records that it rests on are on disk; a position once agreed never
//! changes; an appended entry survives `kill -9` and power loss, and the loss of all disks but a quorum's; a torn tail
//! (a write that was never acknowledged) is cut; a broken record with whole ones behind it is refused with file and
//! offset, never skipped.
//!
//! File format, integers little-endian: `MESOLOG1`, then records of length (u32), CRC-32 of the payload (u32), payload.

mod catch_up;
mod coordinator;
mod format;
mod log;
pub mod message;
mod node;
mod records;
mod recovery;
mod replica;
mod round;
pub mod shell;

pub mod store;

pub use log::{Log, LogError, Opened};
pub use node::{Event, Node, Output, Settings};
pub use replica::Replica;
pub use shell::ReplicatedLog;

pub use store::Store;
