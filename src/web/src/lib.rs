//! What every daemon's HTTP side shares: serving, answers in the originals' form, the UIs, and a daemon's life
//! (logging, readiness, signals).
//!
//! Data flow: [`serve`] accepts connections, plain or under TLS, and hands requests to the daemon's router; [`routes`] finds
//! endpoints, [`respond`] forms answers.
//! Invariants: connections and header sizes are bounded; on shutdown open streams are cut after a grace period;
//! nothing here knows which daemon it serves.

pub mod address;
pub mod daemon;
pub mod files;
pub mod help;
pub mod log_files;
pub mod logging;
pub mod prometheus;
pub mod respond;
pub mod routes;
pub mod serve;
pub mod ui;

pub use serve::{First, Found, Options, Secure, serve};
