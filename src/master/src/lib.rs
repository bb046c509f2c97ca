//! The Mesos master: who runs what where.
//!
//! Data flow: [`shell::http`](shell) receives libprocess messages and HTTP calls and hands them to one actor, which
//! owns the [`core`]: agents, frameworks, tasks and offers, with the [`core::allocator`]. Its effects go out in
//! order: the registry to disk first, then messages to agents and events to frameworks. [`view`] shows the state as a
//! caller may see it, of a [`core::scene`] that the actor copies at little cost: what takes long is done beside it.
//!
//! Invariants: no resource is in two offers or tasks at once; an agent's admission is on disk before it is answered;
//! a framework that doesn't read its events is cut off, it never makes the master grow; nothing a peer sends makes the
//! core panic; no question makes the actor go through all tasks. Sources: `master/master.cpp`, `master/http.cpp`, `master/allocator/mesos/hierarchical.cpp` of 1.11.

pub mod core;
pub mod flags;
pub mod shell;
pub mod view;

pub use shell::PROGRAM;
pub use shell::run::{Options, run};

/// When this compatible version was released, as `/version` shows it.
pub const BUILD_DATE: &str = "2020-11-24 15:38:37";
/// [`BUILD_DATE`] in seconds since 1970.
pub const BUILD_TIME: f64 = 1_606_232_317.0;
