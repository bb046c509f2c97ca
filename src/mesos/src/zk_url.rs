//! `zk://[user:password@]host:port,…/path`: where masters find each other (Mesos' `zookeeper/url.hpp`).

use std::fmt;
use std::str::FromStr;

/// Where a ZooKeeper ensemble is, and the path below which things are kept. Printing it hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ZkUrl {
    /// User and password for the `digest` scheme.
    pub credentials: Option<(String, String)>,
    /// Hosts and ports, in order.
    pub servers: Vec<(String, u16)>,
    /// Absolute path, without a trailing slash; `/` for the root.
    pub path: String,
}

/// Why a text is no ZooKeeper URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZkUrlError {
    /// It doesn't begin with `zk://`.
    #[error("Expecting 'zk://' at the beginning of the URL")]
    Scheme,
    /// A host or port is missing or wrong.
    #[error("Expecting 'host:port' in the URL, got '{0}'")]
    Server(String),
    /// The credentials are not `user:password`.
    #[error("Expecting 'user:password' before '@' in the URL")]
    Credentials,
    /// The path isn't one that ZooKeeper takes.
    #[error("Expecting an absolute path of ZooKeeper in the URL, got '{0}'")]
    Path(String),
}

/// ZooKeeper's port where none is given.
const PORT: u16 = 2181;

impl ZkUrl {
    /// `host:port,host:port`, as clients take it.
    pub fn connect_string(&self) -> String {
        let servers: Vec<String> =
            self.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        servers.join(",")
    }

    /// A path below this one.
    pub fn child(&self, name: &str) -> String {
        if self.path == "/" { format!("/{name}") } else { format!("{}/{name}", self.path) }
    }
}

impl FromStr for ZkUrl {
    type Err = ZkUrlError;

    fn from_str(text: &str) -> Result<Self, ZkUrlError> {
        let rest = text.trim().strip_prefix("zk://").ok_or(ZkUrlError::Scheme)?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (credentials, servers) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((credentials, servers)) => {
                let (user, password) =
                    credentials.split_once(':').ok_or(ZkUrlError::Credentials)?;
                (Some((user.to_owned(), password.to_owned())), servers)
            }
        };
        let servers = servers
            .split(',')
            .map(|server| {
                let wrong = || ZkUrlError::Server(server.to_owned());
                let (host, port) = match server.rsplit_once(':') {
                    Some((host, port)) => {
                        (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?)
                    }
                    None => (server, PORT),
                };
                if host.is_empty() { Err(wrong()) } else { Ok((host.to_owned(), port)) }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let trimmed = path.trim_end_matches('/');
        let path = if trimmed.is_empty() { "/" } else { trimmed };
        if path.contains("//")
            || path.contains('\0')
            || path.split('/').any(|part| part == "." || part == "..")
        {
            return Err(ZkUrlError::Path(path.to_owned()));
        }
        Ok(Self { credentials, servers, path: path.to_owned() })
    }
}

impl fmt::Display for ZkUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user =
            self.credentials.as_ref().map(|(user, _)| format!("{user}:***@")).unwrap_or_default();
        write!(formatter, "zk://{user}{}{}", self.connect_string(), self.path)
    }
}

impl fmt::Debug for ZkUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_passwords_never_printed() {
        let url: ZkUrl = "zk://jake:secret@h1:2181,h2:2182/mesos/".parse().unwrap();
        assert_eq!(url.connect_string(), "h1:2181,h2:2182");
        assert_eq!((url.path.as_str(), url.child("x").as_str()), ("/mesos", "/mesos/x"));
        assert_eq!(format!("{url:?}"), "zk://jake:***@h1:2181,h2:2182/mesos");
        assert_eq!("zk://h".parse::<ZkUrl>().unwrap().child("x"), "/x");
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_place() {
        for text in [
            "h:2181/mesos",
            "zk://",
            "zk:///mesos",
            "zk://h:x/m",
            "zk://h:0/m",
            "zk://u@h:1/m",
            "zk://h:1/a//b",
            "zk://h:1/../b",
        ] {
            assert!(text.parse::<ZkUrl>().is_err(), "{text}");
        }
    }
}
