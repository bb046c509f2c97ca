//! A ZooKeeper server, compatible with Apache's 3.8 on the wire and on disk: alone, or in an ensemble.
//!
//! A request's way, module by module: [`server`] reads frames → [`core`] decodes, checks and numbers them, applies
//! them to the [`tree`] and tells [`watch`]es → [`disk`] logs transactions, many with one sync → replies leave.
//!
//! Beside it: [`config`] reads `zoo.cfg` by one table of keys, [`throttle`] bounds what is under way, [`metrics`] count,
//! and [`words`] and [`admin`] tell what [`status`] sees.
//!
//! Around it: a port's door opens a `stream`, plain or under [`tls`], and names the client by its certificate; [`auth`]
//! has the schemes by which clients prove who they are, [`sasl`] one of them, [`acl`] what they may do. Members reach
//! each other through [`quorum::security`].
//!
//! Invariants: nothing is answered before it is on disk; replies of a connection come in order, and events before
//! replies that show their cause; torn tails are cut, damaged middles refused with file and offset; queues, frames and
//! connections are bounded; passwords and keys are neither logged nor shown. Sources: `org.apache.zookeeper.server` of 3.8, by class as named at each item.

pub mod acl;
pub mod admin;
pub mod auth;
pub mod config;
pub mod core;
pub mod disk;
#[cfg(test)]
mod fuzz;
pub mod metrics;
pub mod path;
pub mod quorum;
pub mod sasl;
pub mod secret;
pub mod server;
pub mod status;
mod stream;
pub mod throttle;
pub mod tls;
pub mod tools;
pub mod tree;
pub mod watch;
pub mod words;

pub use config::Config;
pub use server::{Server, ServerError};
