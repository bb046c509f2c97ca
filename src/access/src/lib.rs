//! Who somebody is and what they may do: what Mesos' masters and agents have of security.
//!
//! Data flow: [`credentials`] are read once from a file → [`basic`] tells who sends an HTTP request, [`cram_md5`] who
//! sends libprocess messages → [`acls`] say what that [`Principal`] may do; [`guard`] joins
//! them for HTTP endpoints. Machines only: no sockets, no clocks; the one file read is the credentials'.
//!
//! Invariants: secrets are compared in constant time and never shown; whoever isn't known gets the same answer whether
//! the name or the secret is wrong; an ACL that can't be understood is refused at the start, never passed over.
//! Sources: `credentials/credentials.hpp`, `authentication/cram_md5`, libprocess' `authenticator.cpp`,
//! `authorizer/local/authorizer.cpp` of 1.11.

pub mod acls;
pub mod basic;
pub mod cram_md5;
pub mod credentials;
pub mod firewall;
pub mod flags;
pub mod guard;
pub mod jwt;
mod sight;

pub use acls::{Acls, Action};
pub use credentials::{Credentials, Secret};

/// The name of somebody who has proved to be it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(pub String);

impl std::fmt::Display for Principal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}
