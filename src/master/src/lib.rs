//! The Mesos master.
pub mod core;
