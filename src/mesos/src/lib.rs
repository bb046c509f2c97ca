//! What master, agent and frameworks say to each other.

#[allow(missing_docs, clippy::pedantic, clippy::all, unreachable_pub)]
mod protos {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}
pub use protos::mesos::{internal, v1};
