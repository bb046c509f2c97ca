//! ZooKeeper's records: what is on the wire between clients and servers and on disk (Apache's `zookeeper.jute`).
//!
//! [`codec`] reads and writes primitives, the other modules the records made of them. No I/O, no time.
//! Invariants: reading never panics and never reserves more than the input could hold; integers are big-endian;
//! a length of −1 is null, which is not the same as empty.

pub mod code;
pub mod codec;
pub mod records;
pub mod request;
pub mod txn;

pub use code::Code;
pub use codec::{DecodeError, Reader, Writer};
