//! What master, agent and frameworks say to each other.
//!
//! Messages ([`v1`], [`internal`]), their JSON form ([`json`]; [`model`] in `/state`), how they travel ([`content`], [`required`],
//! [`recordio`], [`libprocess`]), and the values in them and in flags ([`resources`], [`units`], [`flags`], [`ids`], [`roles`], [`zk_url`]).
//! This crate decides nothing: no policy, no state machine of a daemon.
//!
//! Invariants: one set of Rust types serves both API versions (field numbers are the same, names differ: see
//! [`json::Dialect`]); nothing here panics on input; whatever is read from a peer is bounded by its caller.

pub mod content;
pub mod debug_text;
pub mod entropy;
pub mod flags;
pub mod ids;
pub mod json;
pub mod libprocess;
pub mod model;
pub mod recordio;
pub mod required;
pub mod resources;
pub mod roles;
pub mod units;
pub mod zk_url;

#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::all,
    unreachable_pub,
    reason = "generated from proto/"
)]
pub(crate) mod protos {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}
pub use protos::mesos::{internal, scheduler as scheduler_v0, v1};

/// The version of Mesos that this is compatible with, as `/version` and `MasterInfo` say it.
pub const VERSION: &str = "1.11.0";
