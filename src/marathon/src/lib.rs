//! Marathon: long-running apps on Mesos, compatible with Marathon 1.8 in options, API and events.
//!
//! Data flow: requests of people ([`shell`]'s HTTP side), events of Mesos and the clock reach one actor, which owns the
//! [`core`] and carries out its effects in order: what is to be kept is in ZooKeeper before anything leaves. [`app`]
//! turns what people send into the one form of an app that the core knows.
//!
//! Invariants: an answer leaves after what it promises is stored; a task is stored before Mesos hears of it; only the
//! elected Marathon decides, all others pass requests on; one that loses its leadership ends itself.
//! The core must not know of sockets, ZooKeeper or the clock.
//! Sources: Marathon 1.8 (`core/`, `api/v2/`, `raml/`), its documentation and REST reference.

pub mod app;
pub mod core;
pub mod flags;
pub mod shell;

pub use shell::run::{Ended, Options, run};

/// The version that this one is compatible with.
pub const VERSION: &str = "1.8.667";
