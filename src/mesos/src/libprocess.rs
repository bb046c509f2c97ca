//! The libprocess wire: how masters, agents and v0 drivers send each other messages.
//!
//! A message is an HTTP `POST /<process>/<message name>` whose `Libprocess-From` names the sender; the answer, 202,
//! acknowledges nothing. Messages from A to B travel on a connection that A dialled. Delivery is at most once.
//! Source: libprocess' `encoder.hpp`, `process.cpp`, and the recordings in the project's tests.
//!
//! [`inbound`] tells messages from ordinary requests on a shared port; [`connection`] reads them where they are many;
//! [`outbound`] sends.

pub mod connection;
pub mod inbound;
pub mod outbound;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The address of a process: `slave(1)@10.0.0.1:5051`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Upid {
    /// The process' id on its host.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A text that is no UPID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no UPID (id@ip:port)")]
pub struct UpidError(String);

impl Upid {
    /// The UPID of `id` at `address`.
    pub fn new(id: impl Into<String>, address: SocketAddr) -> Self {
        Self { id: id.into(), address }
    }

    /// `@0.0.0.0:0`: no process, as an HTTP framework's `pid` is written.
    pub fn none() -> Self {
        Self::new("", SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }

    /// Whether it names a process that can be sent to.
    pub fn is_some(&self) -> bool {
        !self.id.is_empty() && self.address.port() != 0
    }
}

impl FromStr for Upid {
    type Err = UpidError;

    fn from_str(text: &str) -> Result<Self, UpidError> {
        let wrong = || UpidError(text.to_owned());
        let (id, address) = text.rsplit_once('@').ok_or_else(wrong)?;
        Ok(Self { id: id.to_owned(), address: address.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.id, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upids_round_trip() {
        for text in [
            "master@127.0.0.1:5050",
            "slave(1)@10.0.0.1:5051",
            "@0.0.0.0:0",
            "scheduler-0a@b@[::1]:80",
        ] {
            assert_eq!(text.parse::<Upid>().unwrap().to_string(), text);
        }
        for text in ["", "garbage", "master@host:5050", "master@1.2.3.4"] {
            assert!(text.parse::<Upid>().is_err(), "{text}");
        }
    }
}
