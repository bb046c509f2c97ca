//! What the end-to-end tests share: finding the built binaries, starting daemons on free ports, waiting on
//! conditions, lab hosts, Python clients, and saying why a test is skipped.
//!
//! A test starts what it needs, on ports the kernel chose, in a directory of its own, and leaves nothing behind:
//! [`Daemon`], [`cluster::Cluster`] and [`lab::Lab`] clean up when dropped, and whatever process still lives under
//! the test's directory is killed with it.

pub mod browser;
pub mod cluster;
pub mod daemon;
pub mod disk;
pub mod framework;
pub mod golden;
pub mod http;
pub mod keys;
pub mod lab;
pub mod leftovers;
pub mod linearizability;
pub mod ports;
pub mod programs;
pub mod site;
pub mod skip;
pub mod stream;
pub mod wait;
pub mod zookeeper;

pub use daemon::Daemon;
