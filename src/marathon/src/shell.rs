//! Marathon's shell: ZooKeeper, Mesos, HTTP and time around the core.

mod actor;
mod events;
mod http;
mod info;
mod proxy;
pub mod run;
mod scheduler;
mod store;
