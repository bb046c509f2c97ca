//! The Mesos agent: runs tasks in containers.
//!
//! Data flow: messages of the master and calls of executors reach one actor ([`shell`]), which owns the [`core`]; the
//! effects that come out of it are carried out in order, what is to be on disk ([`checkpoint`]) before anything
//! leaves. The [`containerizer`] starts executors as processes of their own; the [`executor`]s run the tasks and
//! report to the agent. Tasks of a group run in containers nested in their executor's, which the executor asks the
//! agent for through the operator API, as operators do for containers of their own; beside each of these stays a
//! process that notes its end and serves its input and output.
//!
//! Invariants: an update is on disk before it is sent, and sent until it is acknowledged; executors outlive the agent
//! and are found again; nothing outside a sandbox is shown; ending a container leaves no process of it behind.
//! The core must not know of sockets, files, clocks or processes.
//! Sources: `slave/slave.cpp`, `slave/http.cpp`, `slave/state.cpp`, `slave/containerizer/mesos`, `launcher/executor.cpp`,
//! `launcher/default_executor.cpp`, `docker/executor.cpp` of 1.11.

pub mod checkpoint;
pub mod containerizer;
pub mod core;
pub mod executor;
pub mod flags;
pub mod shell;

pub use executor::multicall;
pub use shell::PROGRAM;
pub use shell::run::{Options, run};

/// When the version that this one is compatible with was released, as `/version` shows it.
pub const BUILD_DATE: &str = "2020-11-24 15:38:37";
/// [`BUILD_DATE`] in seconds since 1970.
pub const BUILD_TIME: f64 = 1_606_232_317.0;
