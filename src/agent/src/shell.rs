//! The shell around the core: one task owns the core and feeds it from one bounded queue.

pub mod actor;
mod attach;
mod container_calls;
pub mod containers;
mod given;
pub mod http;
mod images;
mod limits;
mod media;
pub mod metrics;
mod modules;
mod operator_api;
pub mod operator_view;
mod origin;
mod oversubscription;
mod perf;
mod permissions;
mod plan;
mod ports;
mod qos;
mod quota;
pub mod run;
pub mod view;

/// The name that its log files begin with.
pub const PROGRAM: &str = "mesos-agent";
