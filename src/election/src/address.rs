//! `--master`: how an agent or a framework is told where the masters are.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};

use mesos::v1;
use mesos::zk_url::ZkUrl;

/// Where the leading master is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterAddress {
    /// Through ZooKeeper.
    ZooKeeper(ZkUrl),
    /// A master by itself, at this address.
    Fixed(SocketAddr),
}

/// Why a text names no master.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' names no master ({reason}); expecting zk://host:port/path, file:///path or host:port"
)]
pub struct AddressError {
    text: String,
    reason: String,
}

impl MasterAddress {
    /// Reads `zk://…`, `file://…` (whose content is one of the others), `host:port`, or an `http://` or `https://` URL of it.
    ///
    /// # Errors
    /// When the text is none of these, or the host is not known.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let error = |reason: String| AddressError { text: text.to_owned(), reason };
        let text = text.trim();
        if let Some(path) = text.strip_prefix("file://") {
            let content = std::fs::read_to_string(path)
                .map_err(|reason| error(format!("{path}: {reason}")))?;
            return if content.trim().starts_with("file://") {
                Err(error("a file names a file".to_owned()))
            } else {
                Self::parse(&content)
            };
        }
        if text.starts_with("zk://") {
            return text
                .parse()
                .map(Self::ZooKeeper)
                .map_err(|reason: mesos::zk_url::ZkUrlError| error(reason.to_string()));
        }
        let url = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let host = url.unwrap_or(text).trim_end_matches('/');
        let host = host.strip_prefix("master@").unwrap_or(host);
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:5050") };
        let address =
            with_port.to_socket_addrs().map_err(|reason| error(reason.to_string()))?.next();
        address.map(Self::Fixed).ok_or_else(|| error("the host has no address".to_owned()))
    }

    /// What a fixed master's `MasterInfo` would say as far as the address tells.
    pub fn fixed_info(address: SocketAddr) -> v1::MasterInfo {
        let ip = match address.ip() {
            std::net::IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
            std::net::IpAddr::V6(_) => 0,
        };
        v1::MasterInfo {
            id: String::new(),
            ip,
            port: u32::from(address.port()),
            pid: Some(format!("master@{address}")),
            hostname: Some(address.ip().to_string()),
            address: Some(v1::Address {
                hostname: Some(address.ip().to_string()),
                ip: Some(address.ip().to_string()),
                port: i32::from(address.port()),
            }),
            ..Default::default()
        }
    }
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZooKeeper(url) => url.fmt(formatter),
            Self::Fixed(address) => address.fmt(formatter),
        }
    }
}

/// The socket address that a `MasterInfo` says its master listens at.
pub fn socket_address(info: &v1::MasterInfo) -> Option<SocketAddr> {
    if let Some(address) = &info.address {
        let ip = address.ip.as_ref().and_then(|ip| ip.parse().ok());
        if let (Some(ip), Ok(port)) = (ip, u16::try_from(address.port)) {
            return Some(SocketAddr::new(ip, port));
        }
    }
    let (_, address) = info.pid.as_ref()?.rsplit_once('@')?;
    address.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_a_master_are_read() {
        assert!(matches!(
            MasterAddress::parse("zk://h:2181/mesos"),
            Ok(MasterAddress::ZooKeeper(_))
        ));
        let fixed = MasterAddress::Fixed("127.0.0.1:5050".parse().unwrap());
        for text in
            ["127.0.0.1:5050", "127.0.0.1", "http://127.0.0.1:5050/", "master@127.0.0.1:5050"]
        {
            assert_eq!(MasterAddress::parse(text).unwrap(), fixed, "{text}");
        }
        assert!(MasterAddress::parse("zk://").is_err());
        assert!(MasterAddress::parse("file:///nonexistent").is_err());
    }
}
