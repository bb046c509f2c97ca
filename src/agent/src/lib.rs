//! The Mesos agent: runs tasks in containers.
//!
//! Data flow: messages of the master and calls of executors reach one actor (`shell`), which owns the [`core`]: its
//! effects go out in order, checkpoints first. The [`containerizer`] starts executors as processes of their own;
//! the [`executor`]s run the tasks and report to the agent.
//!
//! Invariants: an update is on disk before it is sent, and sent until it is acknowledged; executors outlive the agent
//! and are found again; nothing outside a sandbox is shown; ending a container leaves no process of it behind.
//! Sources: `slave/slave.cpp`, `slave/state.cpp`, `launcher/executor.cpp`, `docker/executor.cpp` of 1.11.

pub mod checkpoint;
pub mod containerizer;
pub mod core;
pub mod executor;
pub mod flags;
pub mod paths;
pub mod shell;

pub use shell::run::{Options, run};

/// When this compatible version was released, as `/version` shows it.
pub const BUILD_DATE: &str = "2020-11-24 15:38:37";
/// [`BUILD_DATE`] in seconds since 1970.
pub const BUILD_TIME: f64 = 1_606_232_317.0;
