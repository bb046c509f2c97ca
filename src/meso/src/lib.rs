//! `meso`: turns a list of hosts into a running Mesos cluster.
//!
//! Data flows one way: [`inventory`] (which hosts, what each becomes) → [`gather`] (over [`ssh`] and [`systemd`], one command a
//! host, read by [`facts`]) → [`plan`] (pure: a value that can be printed and tested) → [`apply`] (by [`install`] and [`systemd`]) → [`verify`] (asks the
//! daemons by [`probe`]). [`bootstrap`], [`status`] and [`up`] (a cluster on this machine) are the commands, [`cli`] the command line.
//!
//! Invariants: all hosts are judged before the first is changed; files are replaced as a whole or not at all; what is as it
//! should be is not touched, so that a second run changes nothing; every error names host, reason and remedy ([`problem`]).

pub mod apply;
pub mod bootstrap;
pub mod cli;
pub mod documents;
pub mod facts;
pub mod gather;
pub mod install;
pub mod inventory;
pub mod packages;
pub mod plan;
pub mod probe;
pub mod problem;
pub mod progress;
pub mod show;
pub mod ssh;
pub mod status;
pub mod systemd;
pub mod templates;
pub mod up;
pub mod verify;
