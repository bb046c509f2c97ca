//! The `mesos` command: looking at a cluster and operating it, through the v1 operator APIs of masters and agents alone.
//!
//! Data flow: [`cli`] is what was asked → [`settings`] say which master, and as whom → [`client`] finds the leading
//! master and talks to it and to agents → [`commands`] ask, and [`show`] what they got as a table or as JSON.
//! Invariants: secrets come from files, not arguments; what a server refuses is shown in its own words; a terminal is
//! left as it was found.

pub mod cli;
mod client;
pub mod commands;
mod find;
mod session;
mod settings;
mod show;
mod terminal;
