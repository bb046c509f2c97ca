//! What a client's `reconfig` makes of a configuration (`PrepRequestProcessor`, `QuorumPeerConfig.parseDynamicConfig`).

use std::collections::BTreeMap;

use super::{Configuration, Server, Wrong};

/// The parts between separators, without blanks around them; empty ones are left out (`StringUtils.split`).
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split(separator).map(str::trim).filter(|part| !part.is_empty())
}

impl Configuration {
    /// Adds and removes servers: of `joining` there are `server.N=…` parts between commas, of `leaving` ids.
    ///
    /// # Errors
    /// When a part can't be read, votes are weighted, or two servers would listen at one address.
    pub fn changed(&self, joining: &str, leaving: &str) -> Result<Self, Wrong> {
        if !self.is_majority() {
            let reason = "with groups and weights all servers must be given";
            return Err(Wrong::new("reconfig", reason));
        }
        let mut servers = self.servers.clone();
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| Wrong::unreadable(text, "this is no server's id"))
        };
        for id in split(leaving, ',') {
            servers.remove(&number(id)?);
        }
        for line in split(joining, ',') {
            let parts: Vec<&str> = split(line, '=').collect();
            let [key, value] = parts[..] else {
                return Err(Wrong::new(line, "this is not server.N=host:port:port;port"));
            };
            let id = number(key.rsplit('.').next().unwrap_or(key))?;
            let server = Server::parse(value).map_err(|reason| Wrong::new(key, reason))?;
            if server.client.is_none() {
                return Err(Wrong::new(line, "the port of clients is missing"));
            }
            if servers.iter().any(|(other, its)| *other != id && its.clashes_with(&server)) {
                return Err(Wrong::new(line, "another server has this address"));
            }
            servers.insert(id, server);
        }
        Ok(Self::of(servers, self.version))
    }

    /// A whole new configuration: lines between commas or line ends, of which the last of a key counts.
    /// `keeps_two`: `standaloneEnabled`.
    ///
    /// # Errors
    /// When a line can't be read, or there are observers, but nobody to observe.
    pub fn replaced(members: &str, keeps_two: bool) -> Result<Self, Wrong> {
        let lines = members.split([',', '\n']).map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        let lines: BTreeMap<&str, &str> = lines
            .map(|line| line.split_once('=').unwrap_or((line, "")))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let next = Self::read(lines)?;
        let has_observers = next.servers.len() > next.voters().count();
        let fits = match next.voters().count() {
            0 => keeps_two && !has_observers,
            1 => !(keeps_two && has_observers),
            _ => true,
        };
        if fits {
            Ok(next)
        } else {
            Err(Wrong::unreadable("reconfig", "there are not enough participants"))
        }
    }

    /// Refuses servers with several addresses, unless these are to be taken.
    ///
    /// # Errors
    /// For the first such server.
    pub fn check_addresses(&self, takes_several: bool) -> Result<(), Wrong> {
        match self.servers.iter().find(|(_, server)| server.addresses.len() > 1) {
            Some((id, _)) if !takes_several => {
                let reason = "several addresses need multiAddress.enabled=true on each server";
                Err(Wrong::new(&format!("server.{id}"), reason))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::configuration::Fault::{Unfit, Unreadable};

    #[test]
    fn servers_join_and_leave() {
        let before = Configuration::parse("server.1=10.0.0.1:1:2;3\nserver.2=b:1:2;3").unwrap();
        let after = before.changed("server.3=c:1:2:observer;3, server.2=b:1:3;3", "1,9").unwrap();
        assert_eq!(
            after.to_string(),
            "server.2=b:1:3:participant;0.0.0.0:3\nserver.3=c:1:2:observer;0.0.0.0:3\nversion=0"
        );
        assert_eq!(before.changed("3 = c:1:2;3", ",").unwrap().servers().len(), 3);
        for (joining, leaving, fault) in [
            ("server.3=c:1:2", "", Unfit),
            ("server.3=10.0.0.1:1:4;3", "", Unfit),
            ("server.3", "", Unfit),
            ("server.3=c:1:2;3=4", "", Unfit),
            ("", "x", Unreadable),
            ("server.x=c:1:2;3", "", Unreadable),
            ("group.1=1", "", Unfit),
        ] {
            let wrong = before.changed(joining, leaving).unwrap_err();
            assert_eq!(wrong.fault, fault, "{joining} {leaving}: {wrong}");
        }
    }

    #[test]
    fn all_servers_are_given_anew() {
        let two = "server.1=a:1:2, server.2=b:1:2\nserver.1=c:3:4";
        let next = Configuration::replaced(two, true).unwrap();
        assert!(next.to_string().starts_with("server.1=c:3:4:participant\nserver.2=b:1:2"));
        let one = "server.1=a:1:2";
        assert!(Configuration::replaced(one, true).is_ok(), "too few, but that is looked at later");
        for (members, keeps_two, fault) in [
            ("server.1=a:1:2:observer", true, Unreadable),
            ("server.1=a:1:2,server.2=b:1:2:observer", true, Unreadable),
            ("", false, Unreadable),
            ("group.x=1", false, Unreadable),
            ("clientPort=1", false, Unfit),
            ("server.1=a:1", false, Unfit),
        ] {
            let wrong = Configuration::replaced(members, keeps_two).unwrap_err();
            assert_eq!(wrong.fault, fault, "{members}: {wrong}");
        }
        let several = Configuration::replaced("server.1=a:1:2|b:1:2", false).unwrap();
        assert!(several.check_addresses(true).is_ok() && several.check_addresses(false).is_err());
    }
}
