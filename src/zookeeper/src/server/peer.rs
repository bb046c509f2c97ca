//! Who is at the other end of a client's connection.

use std::net::{IpAddr, SocketAddr};

use jute::records::Id;

/// A client's address, and what its connection proves of it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from; one that came over an IPv6 socket with an IPv4 address has the latter.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub is_secure: bool,
    /// Ids that the handshake proved.
    pub proven: Vec<Id>,
}

impl Peer {
    /// A client that has proven nothing.
    pub fn plain(address: SocketAddr) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address, is_secure: false, proven: Vec::new() }
    }

    /// Address and port as `java.net` writes them.
    pub fn name(&self) -> String {
        format!("{}:{}", host_address(self.address.ip()), self.address.port())
    }

    /// What it may call itself in ACLs from the beginning.
    pub fn ids(&self) -> Vec<Id> {
        let ip = Id { scheme: "ip".to_owned(), id: host_address(self.address.ip()) };
        std::iter::once(ip).chain(self.proven.iter().cloned()).collect()
    }
}

/// `InetAddress.getHostAddress`: IPv6 without `::`.
fn host_address(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.segments().map(|part| format!("{part:x}")).join(":"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_writes_them() {
        for (address, name, ip) in [
            ("10.0.0.1:5", "10.0.0.1:5", "10.0.0.1"),
            ("[::1]:5", "0:0:0:0:0:0:0:1:5", "0:0:0:0:0:0:0:1"),
            ("[fe80::1:0]:5", "fe80:0:0:0:0:0:1:0:5", "fe80:0:0:0:0:0:1:0"),
            ("[::ffff:10.0.0.1]:5", "10.0.0.1:5", "10.0.0.1"),
        ] {
            let peer = Peer::plain(address.parse().unwrap());
            assert_eq!(peer.name(), name);
            assert_eq!(peer.ids(), [Id { scheme: "ip".into(), id: ip.into() }]);
        }
    }
}
