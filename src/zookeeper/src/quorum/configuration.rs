//! Who the members of an ensemble are, and which sets of them are quorums (`QuorumMaj`, `QuorumHierarchical`).
//!
//! A configuration is text that members tell each other, keep in files and show in `/zookeeper/config`:
//!
//! ```text
//! server.1=host:2888:3888:participant;0.0.0.0:2181
//! server.2=[::1]:2888:3888|10.0.0.2:2888:3888:observer
//! group.1=1:2
//! weight.1=3
//! version=100000000
//! ```
//!
//! Without groups and weights a quorum is more than half of the participants. With them it is more than half of the
//! groups that weigh anything, and in each of these more than half of its weight.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

/// Where one server listens for the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Its host, an IPv6 address without brackets.
    pub host: String,
    /// The port for Zab, open while it leads.
    pub quorum_port: u16,
    /// The port for the election.
    pub election_port: u16,
}

/// Where a server listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Whether a server votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It votes, and may lead.
    Participant,
    /// It is told what was agreed on.
    Observer,
}

/// One server of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// At least one; with `multiAddress.enabled` the others are tried as well.
    pub addresses: Vec<Address>,
    /// Whether it votes.
    pub role: Role,
    /// Where clients connect, if the configuration says so rather than the server's own `clientPort`.
    pub client: Option<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    groups: BTreeMap<i64, BTreeSet<i64>>,
    weights: BTreeMap<i64, u64>,
}

/// A configuration of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    servers: BTreeMap<i64, Server>,
    hierarchy: Option<Hierarchy>,
    /// The zxid of the transaction that made it; 0 of one that was only written into files.
    pub version: i64,
}

/// What is wrong with a line of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct Wrong {
    /// The line's key.
    pub key: String,
    /// What is wrong with its value.
    pub reason: String,
    /// Which of two errors the original answers when a client asks for it.
    pub fault: Fault,
}

/// Kinds of what is wrong, as far as clients can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What stands for a number is none, or the roles can't be: `MarshallingError`, as of Java's unchecked exceptions.
    Unreadable,
    /// All else (`ConfigException`): `BadArguments`.
    Unfit,
}

impl Wrong {
    fn new(key: &str, reason: impl Into<String>) -> Self {
        Self { key: key.to_owned(), reason: reason.into(), fault: Fault::Unfit }
    }

    fn unreadable(key: &str, reason: impl Into<String>) -> Self {
        Self { fault: Fault::Unreadable, ..Self::new(key, reason) }
    }
}

/// Hosts as they stand before a port.
struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(out, "[{}]", self.0) } else { out.write_str(self.0) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", Host(&self.host), self.port)
    }
}

impl Address {
    /// Host and port for the election.
    pub fn election(&self) -> Endpoint {
        Endpoint { host: self.host.clone(), port: self.election_port }
    }

    /// Host and port for Zab.
    pub fn quorum(&self) -> Endpoint {
        Endpoint { host: self.host.clone(), port: self.quorum_port }
    }
}

/// Splits at colons, those in the brackets of an IPv6 address excepted (`ConfigUtils.getHostAndPort`).
fn parts(text: &str) -> Vec<&str> {
    match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => vec![host],
        Some((host, rest)) => {
            std::iter::once(host).chain(rest.trim_start_matches(':').split(':')).collect()
        }
        None => text.split(':').collect(),
    }
}

impl Server {
    /// Reads what stands behind `server.N=`: `host:port:port[:role][|…][;[host:]port]`.
    ///
    /// # Errors
    /// When it is not of this form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut halves = text.split(';');
        let (servers, client) = (halves.next().unwrap_or_default(), halves.next());
        if halves.next().is_some() {
            return Err(format!("'{text}' has more than one client address"));
        }
        let (mut addresses, mut role) = (Vec::new(), None);
        for part in servers.split('|') {
            let (address, its) = Self::address(part.trim())?;
            if its.is_some() && role.is_some() && its != role {
                return Err("the addresses of a server must have the same role".to_owned());
            }
            role = its.or(role);
            addresses.push(address);
        }
        addresses.sort();
        let client = client.map(str::trim).filter(|client| !client.is_empty());
        let client = client.map(Self::endpoint).transpose()?;
        Ok(Self { addresses, role: role.unwrap_or(Role::Participant), client })
    }

    fn address(text: &str) -> Result<(Address, Option<Role>), String> {
        let wrong = || format!("'{text}' is not host:port:port");
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (host, quorum, election, role) = match parts(text)[..] {
            [host, quorum, election] => (host, quorum, election, None),
            [host, quorum, election, role] => (host, quorum, election, Some(role)),
            _ => return Err(wrong()),
        };
        let role = match role.map(|role| role.trim().to_ascii_lowercase()).as_deref() {
            None => None,
            Some("participant") => Some(Role::Participant),
            Some("observer") => Some(Role::Observer),
            Some(other) => return Err(format!("'{other}' is neither participant nor observer")),
        };
        let (quorum_port, election_port) =
            port(quorum).zip(port(election)).filter(|_| !host.is_empty()).ok_or_else(wrong)?;
        if quorum_port == election_port {
            return Err(format!("both ports are {quorum_port}: they must differ"));
        }
        Ok((Address { host: host.to_owned(), quorum_port, election_port }, role))
    }

    fn endpoint(text: &str) -> Result<Endpoint, String> {
        let (host, port) = match parts(text)[..] {
            [port] => ("0.0.0.0", port),
            [host, port] if !host.is_empty() => (host, port),
            _ => return Err(format!("'{text}' is neither port nor host:port of clients")),
        };
        let port = port.parse().map_err(|_| format!("'{port}' is no port of clients"))?;
        Ok(Endpoint { host: host.to_owned(), port })
    }

    /// Whether both would listen at one address. Loopback and wildcard addresses are taken for different hosts'.
    fn clashes_with(&self, other: &Self) -> bool {
        let all = |server: &Self| {
            let own = server.addresses.iter().flat_map(|one| [one.election(), one.quorum()]);
            own.chain(server.client.clone())
                .filter(|endpoint| {
                    let ip = endpoint.host.parse::<std::net::IpAddr>();
                    endpoint.host != "localhost"
                        && !ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
                })
                .collect::<Vec<_>>()
        };
        let theirs = all(other);
        all(self).iter().any(|own| theirs.contains(own))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            let Address { host, quorum_port, election_port } = address;
            let between = if index == 0 { "" } else { "|" };
            write!(out, "{between}{}:{quorum_port}:{election_port}", Host(host))?;
        }
        out.write_str(match self.role {
            Role::Participant => ":participant",
            Role::Observer => ":observer",
        })?;
        match &self.client {
            Some(client) => write!(out, ";{client}"),
            None => Ok(()),
        }
    }
}

impl Configuration {
    /// A configuration of servers, each of whose votes counts once.
    pub fn of(servers: BTreeMap<i64, Server>, version: i64) -> Self {
        Self { servers, hierarchy: None, version }
    }

    /// Reads lines, key and value each: `server.N`, `group.N`, `weight.N` and `version`.
    ///
    /// # Errors
    /// When a line is none of these, or they don't fit together.
    pub fn read<'a>(lines: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Wrong> {
        let (mut servers, mut groups) = (BTreeMap::new(), BTreeMap::new());
        let (mut weights, mut version) = (BTreeMap::new(), 0);
        for (key, value) in lines {
            let number = |prefix: &str| {
                let number = key.strip_prefix(prefix)?.strip_prefix('.')?;
                Some(number.parse::<i64>().map_err(|_| {
                    Wrong::unreadable(key, format!("the part behind '{prefix}.' is not a number"))
                }))
            };
            if let Some(id) = number("server").transpose()? {
                let server = Server::parse(value).map_err(|reason| Wrong::new(key, reason))?;
                if servers.insert(id, server).is_some() {
                    return Err(Wrong::new(key, format!("server {id} is there twice")));
                }
            } else if let Some(group) = number("group").transpose()? {
                let ids: Result<BTreeSet<i64>, _> =
                    value.split(':').map(|id| id.trim().parse::<i64>()).collect();
                let ids =
                    ids.map_err(|_| Wrong::unreadable(key, format!("'{value}' is not id:id…")))?;
                if groups.insert(group, ids).is_some() {
                    return Err(Wrong::new(key, format!("group {group} is there twice")));
                }
            } else if let Some(id) = number("weight").transpose()? {
                let weight = value.parse::<u32>();
                let weight = weight
                    .map_err(|_| Wrong::unreadable(key, format!("'{value}' is no weight")))?;
                weights.insert(id, u64::from(weight));
            } else if key == "version" {
                version = i64::from_str_radix(value, 16).map_err(|_| {
                    Wrong::unreadable(key, format!("'{value}' is no hexadecimal number"))
                })?;
            } else {
                return Err(Wrong::new(key, "it is no line of an ensemble's configuration"));
            }
        }
        let hierarchy = if groups.is_empty() && weights.is_empty() {
            None
        } else {
            Some(Hierarchy::new(&servers, groups, weights)?)
        };
        Ok(Self { servers, hierarchy, version })
    }

    /// Reads text, a line each.
    ///
    /// # Errors
    /// As [`Configuration::read`].
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        Self::read(lines.map(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            (key.trim(), value.trim())
        }))
    }

    /// All servers by id.
    pub fn servers(&self) -> &BTreeMap<i64, Server> {
        &self.servers
    }

    /// Ids of those whose votes count.
    pub fn voters(&self) -> impl Iterator<Item = i64> + '_ {
        let voters = self.servers.iter().filter(|(_, server)| server.role == Role::Participant);
        voters.map(|(id, _)| *id)
    }

    /// Whether a server's vote counts.
    pub fn is_voter(&self, id: i64) -> bool {
        self.servers.get(&id).is_some_and(|server| server.role == Role::Participant)
    }

    /// Whether a server is an observer.
    pub fn is_observer(&self, id: i64) -> bool {
        self.servers.get(&id).is_some_and(|server| server.role == Role::Observer)
    }

    /// Whether a server may be elected: one whose vote weighs nothing may not.
    pub fn may_lead(&self, id: i64) -> bool {
        let weighs = |hierarchy: &Hierarchy| hierarchy.weights.get(&id) != Some(&0);
        self.is_voter(id) && self.hierarchy.as_ref().is_none_or(weighs)
    }

    /// Whether each vote counts the same: only such configurations are changed in parts.
    pub fn is_majority(&self) -> bool {
        self.hierarchy.is_none()
    }

    /// Whether those of `ids` who vote are a quorum. Each id comes once.
    pub fn is_quorum(&self, ids: impl IntoIterator<Item = i64>) -> bool {
        let voting = ids.into_iter().filter(|id| self.is_voter(*id));
        match &self.hierarchy {
            None => voting.count() > self.voters().count() / 2,
            Some(hierarchy) => hierarchy.is_quorum(voting),
        }
    }

    /// Whether both have the same servers, groups and weights.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.servers == other.servers && self.hierarchy == other.hierarchy
    }

    /// This configuration under another version.
    #[must_use]
    pub fn at_version(&self, version: i64) -> Self {
        Self { version, ..self.clone() }
    }

    /// Refuses ids that no server can have. Those of other servers' configurations are taken as they are: the original
    /// does not look.
    ///
    /// # Errors
    /// For the first that is not from 1 to 255.
    pub fn check_ids(&self) -> Result<(), Wrong> {
        match self.servers.keys().find(|id| !(1..=255).contains(*id)) {
            None => Ok(()),
            Some(id) => Err(Wrong::new(&format!("server.{id}"), "ids go from 1 to 255")),
        }
    }

    /// The lines of a file, without the version, or with it.
    pub fn lines(&self, with_version: bool) -> String {
        let text = self.to_string();
        let mut lines: Vec<&str> =
            text.lines().filter(|line| with_version || !line.starts_with("version")).collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, server) in &self.servers {
            writeln!(out, "server.{id}={server}")?;
        }
        if let Some(Hierarchy { groups, weights }) = &self.hierarchy {
            for (group, ids) in groups {
                let mut text = String::new();
                for id in ids {
                    let _ = write!(text, "{}{id}", if text.is_empty() { "" } else { ":" });
                }
                writeln!(out, "group.{group}={text}")?;
            }
            for (id, weight) in weights {
                writeln!(out, "weight.{id}={weight}")?;
            }
        }
        write!(out, "version={:x}", self.version)
    }
}

impl Hierarchy {
    fn new(
        servers: &BTreeMap<i64, Server>,
        groups: BTreeMap<i64, BTreeSet<i64>>,
        mut weights: BTreeMap<i64, u64>,
    ) -> Result<Self, Wrong> {
        for (id, server) in servers {
            let count = groups.values().filter(|ids| ids.contains(id)).count();
            if count > 1 {
                return Err(Wrong::new(&format!("server.{id}"), "it is in several groups"));
            }
            if server.role == Role::Participant {
                if count == 0 {
                    return Err(Wrong::new(&format!("server.{id}"), "it is not in a group"));
                }
                weights.entry(*id).or_insert(1);
            }
        }
        for (group, ids) in &groups {
            if ids.iter().any(|id| !weights.contains_key(id)) {
                return Err(Wrong::new(
                    &format!("group.{group}"),
                    "it names a server that has no vote",
                ));
            }
        }
        Ok(Self { groups, weights })
    }

    fn is_quorum(&self, voting: impl Iterator<Item = i64>) -> bool {
        let voting: Vec<i64> = voting.collect();
        let weight = |id: &i64| self.weights.get(id).copied().unwrap_or_default();
        let (mut counting, mut won) = (0, 0);
        for ids in self.groups.values() {
            let whole: u64 = ids.iter().map(weight).sum();
            if whole == 0 {
                continue;
            }
            counting += 1;
            let there: u64 = voting.iter().filter(|id| ids.contains(id)).map(weight).sum();
            won += usize::from(there > whole / 2);
        }
        won > counting / 2
    }
}

#[cfg(test)]
impl Configuration {
    /// Servers 1 to `voters`, then `observers` more.
    pub(crate) fn for_tests(voters: i64, observers: i64) -> Self {
        let servers = (1..=voters + observers).map(|id| {
            let port = 2000 + 2 * id as u16;
            let address =
                Address { host: "h".to_owned(), quorum_port: port, election_port: port + 1 };
            let role = if id <= voters { Role::Participant } else { Role::Observer };
            (id, Server { addresses: vec![address], role, client: None })
        });
        Self::of(servers.collect(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_read_and_written_as_the_originals() {
        for (text, same) in [
            ("server.1=a:1:2\nversion=0", "server.1=a:1:2:participant\nversion=0"),
            (
                "version=1f\nserver.2=[::1]:1:2:observer;2181\n\nserver.1=b:1:2;c:3",
                "server.1=b:1:2:participant;c:3\nserver.2=[::1]:1:2:observer;0.0.0.0:2181\nversion=1f",
            ),
            (
                "server.1=b:1:2:observer|a:1:2;[::]:9",
                "server.1=a:1:2|b:1:2:observer;[::]:9\nversion=0",
            ),
            (
                "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\ngroup.1=1:2\ngroup.2=3\nweight.3=4",
                "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:participant\ngroup.1=1:2\ngroup.2=3\nweight.1=1\nweight.2=1\nweight.3=4\nversion=0",
            ),
        ] {
            let read = Configuration::parse(text).unwrap();
            assert_eq!(read.to_string(), same);
            assert_eq!(Configuration::parse(same).unwrap(), read);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("server.1=a:1", "server.1: 'a:1' is not host:port:port"),
            ("server.1=a:1:1", "server.1: both ports are 1: they must differ"),
            ("server.1=:1:2", "server.1: ':1:2' is not host:port:port"),
            ("server.1=a:0:2", "server.1: 'a:0:2' is not host:port:port"),
            ("server.1=a:1:2:voter", "server.1: 'voter' is neither participant nor observer"),
            ("server.1=a:1:2;x:y:z", "server.1: 'x:y:z' is neither port nor host:port of clients"),
            ("server.1=a:1:2;1;2", "server.1: 'a:1:2;1;2' has more than one client address"),
            ("server.x=a:1:2", "server.x: the part behind 'server.' is not a number"),
            ("server.1=a:1:2\nserver.01=a:1:2", "server.01: server 1 is there twice"),
            ("server.1=a:1:2\ngroup.1=2", "server.1: it is not in a group"),
            ("server.1=a:1:2\ngroup.1=1:2", "group.1: it names a server that has no vote"),
            ("server.1=a:1:2\ngroup.1=1\ngroup.2=1", "server.1: it is in several groups"),
            ("server.1=a:1:2\nweight.1=-1", "weight.1: '-1' is no weight"),
            ("version=z", "version: 'z' is no hexadecimal number"),
            ("tickTime=1", "tickTime: it is no line of an ensemble's configuration"),
        ] {
            assert_eq!(Configuration::parse(text).unwrap_err().to_string(), reason);
        }
        let far = Configuration::parse("server.256=a:1:2").unwrap();
        assert_eq!(far.check_ids().unwrap_err().to_string(), "server.256: ids go from 1 to 255");
    }

    #[test]
    fn quorums_are_majorities_of_weights_in_majorities_of_groups() {
        let plain = Configuration::for_tests(3, 2);
        for (ids, is_quorum) in
            [(vec![1, 2], true), (vec![1, 4, 5], false), (vec![3], false), (vec![1, 2, 3], true)]
        {
            assert_eq!(plain.is_quorum(ids.iter().copied()), is_quorum, "{ids:?}");
        }
        let lines: Vec<String> = (1..=7).map(|id| format!("server.{id}=h{id}:1:2")).collect();
        let lines = lines.join("\n");
        let three = Configuration::parse(&format!(
            "{lines}\ngroup.1=1:2:3\ngroup.2=4:5\ngroup.3=6:7\nweight.1=3\nweight.6=0\nweight.7=0"
        ))
        .unwrap();
        for (ids, is_quorum) in [
            // Group 3 weighs nothing: both others are needed.
            (vec![1, 4, 5], true),
            (vec![2, 3, 4, 5], false),
            (vec![1, 4], false),
            (vec![1, 2, 3], false),
            (vec![4, 5, 6, 7], false),
        ] {
            assert_eq!(three.is_quorum(ids.iter().copied()), is_quorum, "{ids:?}");
        }
        assert!(three.may_lead(1) && !three.may_lead(6) && !plain.may_lead(4));
    }

    proptest! {
        #[test]
        fn two_quorums_always_meet(
            groups in prop::collection::vec(prop::collection::vec(0u32..4, 1..4), 1..4),
            picks in prop::collection::vec((any::<bool>(), any::<bool>()), 12),
        ) {
            let (mut text, mut id) = (String::new(), 0);
            for (group, weights) in groups.iter().enumerate() {
                let mut ids = Vec::new();
                for weight in weights {
                    id += 1;
                    ids.push(id.to_string());
                    let _ = writeln!(text, "server.{id}=h:1:2\nweight.{id}={weight}");
                }
                let _ = writeln!(text, "group.{group}={}", ids.join(":"));
            }
            let configuration = Configuration::parse(&text).unwrap();
            let side = |first: bool| -> Vec<i64> {
                (1..=id).filter(|id| {
                    let (a, b) = picks[*id as usize - 1];
                    if first { a } else { b }
                }).collect()
            };
            let (a, b) = (side(true), side(false));
            if configuration.is_quorum(a.iter().copied()) && configuration.is_quorum(b.iter().copied()) {
                prop_assert!(a.iter().any(|id| b.contains(id)));
            }
        }

        #[test]
        fn garbage_does_no_harm(text: String) {
            let _ = Configuration::parse(&text);
            let _ = Server::parse(&text);
        }
    }
}
