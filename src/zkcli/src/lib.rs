//! `zkcli`: an interactive ZooKeeper client with the commands, options, output and exit codes of Apache's `zkCli.sh`.
//!
//! A line goes [`words`] → [`table`] (which command, with which options) → [`commands`] (what it asks the server) →
//! [`output`] (text as the original prints it, or JSON). [`session`] and [`watches`] hold what outlives a line.
//!
//! [`relay`] takes sessions to servers under TLS.
//!
//! It is built on `zookeeper-client`, as our daemons are: sessions, reconnection and the renewal of watches are tested in
//! one place. That library can't tell null data from empty data: what `create PATH` makes here holds empty data, where the
//! original stores null (which it prints as `null`).

pub mod acl;
pub mod commands;
pub mod documents;
pub mod editor;
pub mod failure;
pub mod options;
pub mod output;
pub mod path;
pub mod quota;
pub mod relay;
pub mod session;
pub mod shell;
pub mod stat;
pub mod table;
pub mod watches;
pub mod words;
