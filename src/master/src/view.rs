//! What the master shows of itself: the legacy JSON endpoints and the operator API's messages.
//!
//! Field names, their order and their kinds are the original's (`master/http.cpp`, `common/http.cpp`).

mod framework_metrics;
pub mod metrics;
pub mod operator;
pub mod pieces;
pub mod prometheus;
pub mod roles;
pub mod seen;
pub mod shown;
pub mod state;
pub mod summary;
