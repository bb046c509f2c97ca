//! What CNI plugins say, in the forms before and since version 0.3 (`isolators/network/cni/spec.cpp`).

use std::fmt::Write as _;

use mesos::v1;
use mesos::v1::network_info::{IpAddress, Protocol};
use serde::Deserialize;

use crate::containerizer::dns::Dns;

/// What a plugin said when it had attached a container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attached {
    ip4: Option<Old>,
    ip6: Option<Old>,
    ips: Vec<New>,
    dns: Dns,
}

#[derive(Debug, Deserialize)]
struct Old {
    ip: String,
}

#[derive(Debug, Deserialize)]
struct New {
    address: String,
}

impl Attached {
    pub(super) fn parse(output: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(output).map_err(|error| error.to_string())
    }

    fn addresses(&self) -> impl Iterator<Item = std::net::IpAddr> {
        let old = self.ip4.iter().chain(&self.ip6).map(|own| &own.ip);
        let all = old.chain(self.ips.iter().map(|own| &own.address));
        all.filter_map(|text| text.split('/').next()?.parse().ok())
    }

    /// Its first address of version 4.
    pub(super) fn ip(&self) -> Option<std::net::IpAddr> {
        self.addresses().find(std::net::IpAddr::is_ipv4)
    }

    /// The servers that the plugin names; some say that there is such a thing and name none.
    pub(super) fn dns(&self) -> Option<&Dns> {
        Some(&self.dns).filter(|dns| !dns.nameservers.is_empty())
    }

    /// As updates tell it.
    pub(super) fn message(&self, network: &str) -> v1::NetworkInfo {
        let each = self.addresses().map(|ip| IpAddress {
            protocol: Some(if ip.is_ipv4() { Protocol::IPv4 } else { Protocol::IPv6 } as i32),
            ip_address: Some(ip.to_string()),
        });
        v1::NetworkInfo {
            name: Some(network.to_owned()),
            ip_addresses: each.collect(),
            ..Default::default()
        }
    }
}

/// The text of `resolv.conf`, for the servers of all networks, in order; none if there are no servers. Of domains the last
/// counts.
pub(super) fn resolver(all: &[&Dns]) -> Option<String> {
    let mut text = String::new();
    let lines = |name: &str, values: Vec<&String>, text: &mut String| {
        if !values.is_empty() {
            let values: Vec<&str> = values.into_iter().map(String::as_str).collect();
            let _ = writeln!(text, "{name} {}", values.join(" ")); // A String takes everything.
        }
    };
    let domain = all.iter().filter_map(|own| own.domain.as_ref()).next_back();
    lines("domain", domain.into_iter().collect(), &mut text);
    lines("search", all.iter().flat_map(|own| &own.search).collect(), &mut text);
    lines("options", all.iter().flat_map(|own| &own.options).collect(), &mut text);
    let servers: Vec<&String> = all.iter().flat_map(|own| &own.nameservers).collect();
    if servers.is_empty() {
        return None;
    }
    for server in servers {
        lines("nameserver", vec![server], &mut text);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let old = Attached::parse(br#"{"ip4": {"ip": "10.0.0.2/24"}, "dns": {"nameservers": ["10.0.0.1"], "search": ["a", "b"]}}"#).unwrap();
        let new = Attached::parse(br#"{"cniVersion": "0.3.1", "ips": [{"version": "6", "address": "fd00::2/64"}, {"address": "10.0.0.2/24"}], "dns": {}}"#).unwrap();
        for own in [&old, &new] {
            assert_eq!(own.ip().unwrap().to_string(), "10.0.0.2");
        }
        assert_eq!(new.message("n").ip_addresses.len(), 2);
        assert_eq!(new.dns(), None, "it names no server");
        assert_eq!(resolver(&[old.dns().unwrap()]).unwrap(), "search a b\nnameserver 10.0.0.1\n");
        assert_eq!(resolver(&[]), None);
        assert!(Attached::parse(b"oops").is_err());
    }
}
