//! The shell around the core: one task owns the core and feeds it from one bounded queue.

pub mod actor;
pub mod files;
pub mod http;
pub mod metrics;
mod origin;
mod plan;
pub mod run;
pub mod view;
