//! Who leads: contending for and detecting leadership over ZooKeeper.
//!
//! Candidates are ephemeral sequential children of a directory; the smallest sequence number leads (Mesos'
//! `zookeeper/group.cpp`, `master/contender`, `master/detector`; Curator's `LeaderLatch`).
//! Data flow: [`session`] connects, [`group`] follows a directory's children, and on top of it [`contender`] and
//! [`detector`] do it the masters' way, [`latch`] Marathon's.
//!
//! Invariants: while only the connection is lost the last known leader is kept; once the session has ended there is
//! none; a candidate whose session ended is no candidate any more and says so.

pub mod address;
pub mod contender;
pub mod detector;
pub mod group;
pub mod latch;
pub mod members;
pub mod session;

pub use address::MasterAddress;
