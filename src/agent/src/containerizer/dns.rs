//! `--default_container_dns`: the name servers of containers whose networks name none (`ContainerDNSInfo` of the original's
//! `messages/flags.proto`).

use std::collections::BTreeSet;

use mesos::v1::container_info::docker_info::Network;
use serde::{Deserialize, Serialize};

/// How names are looked up, as `resolv.conf` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers.
    pub nameservers: Vec<String>,
    /// The domain that short names are in; not for Docker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains that short names are looked for in.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

/// What holds in one network, or in all others of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(default)]
    network_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_name: Option<String>,
    dns: Dns,
}

/// What an operator chose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerDns {
    mesos: Vec<Entry>,
    docker: Vec<Entry>,
}

impl ContainerDns {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in the original's words (`slave/flags.cpp`).
    pub fn parse(text: &str) -> Result<Self, String> {
        let own: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        check(&own.mesos, |mode| match mode {
            "CNI" => Some("CNI network"),
            _ => None,
        })?;
        check(&own.docker, |mode| match mode {
            "BRIDGE" => Some("Docker default bridge network"),
            "USER" => Some("user-defined CNM network"),
            _ => None,
        })?;
        Ok(own)
    }

    /// Of a CNI network.
    pub fn of_cni(&self, network: &str) -> Option<&Dns> {
        find(&self.mesos, "CNI", Some(network))
    }

    /// Of a network of Docker's; `name` is what a user-defined one is called.
    pub fn of_docker(&self, network: Network, name: &str) -> Option<&Dns> {
        match network {
            Network::Bridge => find(&self.docker, "BRIDGE", None),
            Network::User => find(&self.docker, "USER", Some(name)),
            Network::Host | Network::None => None,
        }
    }
}

/// The entry of that name, or else the one that has none.
fn find<'a>(all: &'a [Entry], mode: &str, name: Option<&str>) -> Option<&'a Dns> {
    let of_mode = || all.iter().filter(|own| own.network_mode == mode);
    let named = of_mode().find(|own| name.is_some() && own.network_name.as_deref() == name);
    let found =
        named.or_else(|| of_mode().find(|own| name.is_none() || own.network_name.is_none()));
    found.map(|own| &own.dns)
}

fn check(all: &[Entry], kind: impl Fn(&str) -> Option<&'static str>) -> Result<(), String> {
    const FLAG: &str = "`--default_container_dns`";
    let mut seen = BTreeSet::new();
    for Entry { network_mode, network_name, .. } in all {
        let Some(kind) = kind(network_mode) else {
            return Err(if network_mode == "HOST" {
                format!("Configuring DNS for HOST network with {FLAG} is not yet supported")
            } else {
                format!("UNKNOWN network mode configured in {FLAG}")
            });
        };
        // There is one bridge, whatever it is called.
        let name = network_name.as_deref().filter(|_| network_mode != "BRIDGE");
        if !seen.insert((network_mode, name)) {
            return Err(match name {
                None if network_mode == "BRIDGE" => {
                    format!("Multiple DNS configuration for {kind} in {FLAG} is not allowed")
                }
                None => format!(
                    "Multiple DNS configuration without network name for {kind} in {FLAG} is not allowed"
                ),
                Some(name) => format!(
                    "Multiple DNS configuration with the same network name '{name}' for {kind} in {FLAG} is not allowed"
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_own_servers_come_before_those_of_all() {
        let all = ContainerDns::parse(
            r#"{"mesos":[{"network_mode":"CNI","dns":{"nameservers":["1.1.1.1"],"domain":"d"}},{"network_mode":"CNI","network_name":"a","dns":{"nameservers":["2.2.2.2"]}}],
            "docker":[{"network_mode":"BRIDGE","dns":{"nameservers":["3.3.3.3"]}},{"network_mode":"USER","network_name":"u","dns":{"search":["s"]}}]}"#,
        )
        .unwrap();
        let server = |dns: Option<&Dns>| dns.map(|dns| dns.nameservers.join(" "));
        assert_eq!(server(all.of_cni("a")).as_deref(), Some("2.2.2.2"));
        assert_eq!(server(all.of_cni("b")).as_deref(), Some("1.1.1.1"));
        assert_eq!(server(all.of_docker(Network::Bridge, "")).as_deref(), Some("3.3.3.3"));
        assert_eq!(all.of_docker(Network::User, "u").unwrap().search, ["s"]);
        assert_eq!(all.of_docker(Network::User, "v"), None);
        assert_eq!(all.of_docker(Network::Host, ""), None);
        let again = serde_json::to_string(&all).unwrap();
        assert_eq!(ContainerDns::parse(&again), Ok(all), "as executors are told");
    }

    #[test]
    fn what_can_not_hold_is_refused_in_the_originals_words() {
        for (text, expected) in [
            (r#"{"mesos":[{"dns":{}}]}"#, "UNKNOWN network mode configured"),
            (r#"{"mesos":[{"network_mode":"HOST","dns":{}}]}"#, "Configuring DNS for HOST network"),
            (r#"{"docker":[{"network_mode":"CNI","dns":{}}]}"#, "UNKNOWN network mode configured"),
            (
                r#"{"mesos":[{"network_mode":"CNI","dns":{}},{"network_mode":"CNI","dns":{}}]}"#,
                "Multiple DNS configuration without network name for CNI network in",
            ),
            (
                r#"{"docker":[{"network_mode":"BRIDGE","network_name":"a","dns":{}},{"network_mode":"BRIDGE","dns":{}}]}"#,
                "Multiple DNS configuration for Docker default bridge network in",
            ),
            (
                r#"{"docker":[{"network_mode":"USER","network_name":"a","dns":{}},{"network_mode":"USER","network_name":"a","dns":{}}]}"#,
                "Multiple DNS configuration with the same network name 'a' for user-defined CNM network",
            ),
            (r#"{"mesos":[{"network_mode":"CNI"}]}"#, "missing field `dns`"),
        ] {
            let refused = ContainerDns::parse(text).unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
