//! Which hosts there are, how to log in to them, and what each is to become: from flags and a TOML file, checked as a whole
//! before the first connection.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Where a host's sshd is, and as whom to log in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Name or address, as the operator calls the host.
    pub name: String,
    /// User, if given with the host.
    pub user: Option<String>,
    /// Port, if given with the host.
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    /// `[user@]host[:port]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) => {
                let number = port.parse::<u16>().ok().filter(|number| *number > 0);
                (name, Some(number.ok_or_else(|| format!("'{port}' in '{text}' is no port"))?))
            }
            None => (rest, None),
        };
        let fits = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !fits(name) {
            return Err(format!(
                "'{text}' is no host; write host, user@host or user@host:port (IPv6 addresses are not supported yet)"
            ));
        }
        if user.is_some_and(|user| !fits(user)) {
            return Err(format!("'{text}' has no usable user name"));
        }
        Ok(Self { name: name.to_owned(), user: user.map(str::to_owned), port })
    }
}

/// What a host is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Roles {
    /// ZooKeeper, Mesos master and Marathon.
    pub master: bool,
    /// Mesos agent.
    pub agent: bool,
}

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address, as the operator calls it.
    pub name: String,
    /// User to log in as.
    pub user: String,
    /// Port of sshd.
    pub port: u16,
    /// Address that the other hosts reach it at; else the one that sshd was reached at.
    pub address: Option<Ipv4Addr>,
    /// What it is to be.
    pub roles: Roles,
}

/// What the command line and the file say of the hosts.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// All hosts, in order.
    pub hosts: Vec<Target>,
    /// Names of hosts that are masters.
    pub masters: Vec<Target>,
    /// Names of hosts that are agents.
    pub agents: Vec<Target>,
    /// User, where not given with a host.
    pub user: Option<String>,
    /// Port, where not given with a host.
    pub port: Option<u16>,
    /// The inventory file's content.
    pub file: File,
}

/// An inventory file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// User, where a host has none.
    pub user: Option<String>,
    /// Port, where a host has none.
    pub port: Option<u16>,
    /// Private key file.
    pub key: Option<PathBuf>,
    /// File of known host keys.
    pub known_hosts: Option<PathBuf>,
    /// Directory of packages.
    pub packages: Option<PathBuf>,
    /// The hosts.
    #[serde(default)]
    pub hosts: Vec<FileHost>,
}

/// A host in an inventory file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileHost {
    /// Name or address to connect to.
    pub name: String,
    /// User to log in as.
    pub user: Option<String>,
    /// Port of sshd.
    pub port: Option<u16>,
    /// Address that the other hosts reach it at.
    pub address: Option<Ipv4Addr>,
    /// `"master"`, `"agent"` or both; if no host has any, they are given out by default.
    #[serde(default)]
    pub roles: Vec<Role>,
}

/// A role in an inventory file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// ZooKeeper, Mesos master and Marathon.
    Master,
    /// Mesos agent.
    Agent,
}

/// Reads an inventory file.
///
/// # Errors
/// When it can't be read or isn't an inventory; the reason names line and column.
pub fn read_file(path: &Path) -> Result<File, Problem> {
    let what = format!("the inventory {} can't be used", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| {
        Problem::usage(
            what.clone(),
            error.to_string(),
            "give the path of a readable TOML file to --inventory",
        )
    })?;
    toml::from_str(&text).map_err(|error| {
        Problem::usage(
            what,
            error.to_string().trim_end(),
            "correct that line; see `meso bootstrap --help` for the file's form",
        )
    })
}

const HOSTS_NEXT: &str =
    "name the hosts, as in: meso bootstrap --hosts h1,h2,h3 (or in a file given to --inventory)";

/// The hosts with their roles.
///
/// # Errors
/// When there are none, one is named twice, or the roles don't fit.
pub fn resolve(request: &Request) -> Result<Vec<Host>, Problem> {
    let mut hosts = listed(request)?;
    let mut names = BTreeSet::new();
    for host in &hosts {
        if !names.insert(host.name.clone()) {
            return Err(Problem::usage(
                format!("{} is named twice", host.name),
                "each host has one place in the cluster",
                "name it once; a host can be both --masters and --agents",
            ));
        }
    }
    for target in request.masters.iter().chain(&request.agents) {
        if !names.contains(&target.name) {
            return Err(Problem::usage(
                format!("{} has a role but is not among the hosts", target.name),
                "--masters and --agents choose from --hosts",
                format!("add {} to --hosts, or leave --hosts out", target.name),
            ));
        }
    }
    let given = hosts.iter().any(|host| host.roles != Roles::default());
    if request.masters.is_empty() && request.agents.is_empty() {
        if !given {
            give_default_roles(&mut hosts);
        }
    } else {
        give_roles(&mut hosts, request);
    }
    check_roles(&hosts)?;
    Ok(hosts)
}

fn listed(request: &Request) -> Result<Vec<Host>, Problem> {
    let file = &request.file;
    let user =
        request.user.clone().or_else(|| file.user.clone()).unwrap_or_else(|| "root".to_owned());
    let port = request.port.or(file.port).unwrap_or(22);
    let of_target = |target: &Target| Host {
        name: target.name.clone(),
        user: target.user.clone().unwrap_or_else(|| user.clone()),
        port: target.port.unwrap_or(port),
        address: None,
        roles: Roles::default(),
    };
    if !request.hosts.is_empty() {
        return Ok(request.hosts.iter().map(of_target).collect());
    }
    if !file.hosts.is_empty() {
        return file
            .hosts
            .iter()
            .map(|host| {
                let target: Target = host.name.parse().map_err(|why: String| {
                    Problem::usage("the inventory names something that is no host", why, HOSTS_NEXT)
                })?;
                Ok(Host {
                    user: host.user.clone().or(target.user).unwrap_or_else(|| user.clone()),
                    port: host.port.or(target.port).unwrap_or(port),
                    name: target.name,
                    address: host.address,
                    roles: Roles {
                        master: host.roles.contains(&Role::Master),
                        agent: host.roles.contains(&Role::Agent),
                    },
                })
            })
            .collect();
    }
    let mut hosts: Vec<Host> = Vec::new();
    for target in request.masters.iter().chain(&request.agents) {
        if !hosts.iter().any(|host| host.name == target.name) {
            hosts.push(of_target(target));
        }
    }
    if hosts.is_empty() {
        return Err(Problem::usage(
            "there are no hosts",
            "neither --hosts nor an inventory names any",
            HOSTS_NEXT,
        ));
    }
    Ok(hosts)
}

/// From so many hosts on, three are masters: fewer would leave too little to run tasks on.
const HOSTS_FOR_THREE_MASTERS: usize = 5;

/// One host: everything. More: the first one or three are masters, the others are agents.
fn give_default_roles(hosts: &mut [Host]) {
    let only = hosts.len() == 1;
    let masters = if hosts.len() < HOSTS_FOR_THREE_MASTERS { 1 } else { 3 };
    for (index, host) in hosts.iter_mut().enumerate() {
        host.roles = Roles { master: index < masters, agent: index >= masters || only };
    }
}

/// Who is named is that; who is not named is what the list that was left out would hold.
fn give_roles(hosts: &mut [Host], request: &Request) {
    let in_list = |list: &[Target], name: &str| list.iter().any(|target| target.name == name);
    let only = hosts.len() == 1;
    for host in hosts {
        let mut roles = Roles {
            master: in_list(&request.masters, &host.name),
            agent: in_list(&request.agents, &host.name),
        };
        if request.agents.is_empty() && (!roles.master || only) {
            roles.agent = true;
        }
        if request.masters.is_empty() && (!roles.agent || only) {
            roles.master = true;
        }
        host.roles = roles;
    }
}

fn check_roles(hosts: &[Host]) -> Result<(), Problem> {
    if let Some(host) = hosts.iter().find(|host| host.roles == Roles::default()) {
        return Err(Problem::usage(
            format!("{} has no role", host.name),
            "it is neither among the masters nor among the agents",
            format!("add {} to --masters or --agents, or leave it out", host.name),
        ));
    }
    let masters: Vec<&str> =
        hosts.iter().filter(|host| host.roles.master).map(|host| host.name.as_str()).collect();
    match masters.as_slice() {
        [] => Err(Problem::usage(
            "there is no master",
            "every host is an agent only",
            "name one host in --masters",
        )),
        all if all.len() % 2 == 1 => Ok(()),
        all => Err(Problem::usage(
            format!("{} masters are asked for: {}", all.len(), all.join(", ")),
            format!(
                "{} of {} must be up for the cluster to work, so that the last one adds nothing but a way to fail",
                all.len() / 2 + 1,
                all.len()
            ),
            format!("use an odd number, such as --masters {}", all[..all.len() - 1].join(",")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<Target> {
        text.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().unwrap()).collect()
    }

    /// Hosts, masters and agents as on the command line; `h1=MA h2=A` back.
    fn roles(hosts: &str, masters: &str, agents: &str) -> Result<String, String> {
        let request = Request {
            hosts: targets(hosts),
            masters: targets(masters),
            agents: targets(agents),
            ..Request::default()
        };
        let hosts = resolve(&request).map_err(|problem| problem.what)?;
        let show = |host: &Host| {
            let (master, agent) = (host.roles.master, host.roles.agent);
            format!(
                "{}={}{}",
                host.name,
                if master { "M" } else { "" },
                if agent { "A" } else { "" }
            )
        };
        Ok(hosts.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn roles_are_given_by_flags_or_default() {
        for (hosts, masters, agents, expected) in [
            ("h1", "", "", Ok("h1=MA")),
            ("h1,h2", "", "", Ok("h1=M h2=A")),
            ("h1,h2,h3,h4", "", "", Ok("h1=M h2=A h3=A h4=A")),
            ("h1,h2,h3,h4,h5", "", "", Ok("h1=M h2=M h3=M h4=A h5=A")),
            ("h1,h2,h3", "h2", "", Ok("h1=A h2=M h3=A")),
            ("h1,h2,h3", "h1,h2,h3", "h3", Ok("h1=M h2=M h3=MA")),
            ("h1,h2,h3", "", "h1,h2", Ok("h1=A h2=A h3=M")),
            ("h1,h2", "h1", "h1,h2", Ok("h1=MA h2=A")),
            ("", "h1", "h2", Ok("h1=M h2=A")),
            ("h1", "h1", "", Ok("h1=MA")),
            ("h1,h2,h3", "h1", "h2", Err("h3 has no role")),
            ("h1,h2", "h3", "", Err("h3 has a role but is not among the hosts")),
            ("h1,h1", "", "", Err("h1 is named twice")),
            ("h1,h2,h3", "h1,h2", "", Err("2 masters are asked for: h1, h2")),
            ("", "", "", Err("there are no hosts")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(roles(hosts, masters, agents), expected, "{hosts} {masters} {agents}");
        }
    }

    #[test]
    fn hosts_are_read_with_user_and_port() {
        let target: Target = "ops@h1.example:2222".parse().unwrap();
        assert_eq!(
            target,
            Target { name: "h1.example".into(), user: Some("ops".into()), port: Some(2222) }
        );
        for bad in [
            "",
            "@h1",
            "h1:",
            "h1:0",
            "h1:99999",
            "a b",
            "-oProxyCommand=x",
            "fe80::1",
            "h1;reboot",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_gives_hosts_and_flags_go_first() {
        let file: File = toml::from_str(
            "user = 'ops'\n[[hosts]]\nname = 'h1'\nroles = ['master']\naddress = '10.0.0.1'\n[[hosts]]\nname = 'h2:2222'\nroles = ['agent']\n",
        )
        .unwrap();
        let hosts = resolve(&Request { file: file.clone(), ..Request::default() }).unwrap();
        assert_eq!(
            (hosts[0].user.as_str(), hosts[0].port, hosts[0].address),
            ("ops", 22, Some(Ipv4Addr::new(10, 0, 0, 1)))
        );
        assert_eq!((hosts[1].name.as_str(), hosts[1].port), ("h2", 2222));
        let hosts =
            resolve(&Request { file, user: Some("root".into()), ..Request::default() }).unwrap();
        assert_eq!(hosts[0].user, "root");
        assert!(toml::from_str::<File>("hostz = []").unwrap_err().to_string().contains("hostz"));
    }
}
