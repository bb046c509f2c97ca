//! The shell around the core: one task owns the core and feeds it from one bounded queue.

pub mod actor;
mod background;
pub mod http;
mod legacy;
pub mod operator_api;
mod permissions;
mod registrar;
pub mod run;
pub mod scheduler_api;
mod streamed;
mod visible;
mod wanted;
mod whitelist;

/// The name that its log files begin with.
pub const PROGRAM: &str = "mesos-master";
