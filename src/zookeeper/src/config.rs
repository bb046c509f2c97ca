//! `zoo.cfg` and `myid` (`QuorumPeerConfig`): a Java properties file.

mod ensemble;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

pub use ensemble::{Ensemble, Peer};

use crate::quorum;

/// A server's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where snapshots are kept.
    pub data_dir: PathBuf,
    /// Where logs are kept.
    pub data_log_dir: PathBuf,
    /// Where clients connect.
    pub client_address: SocketAddr,
    /// Length of a tick in ms.
    pub tick_ms: u32,
    /// Shortest session timeout in ms.
    pub session_timeout_min_ms: i32,
    /// Longest session timeout in ms.
    pub session_timeout_max_ms: i32,
    /// Connections of one address, 0 for any number.
    pub connections_per_address_max: usize,
    /// Connections in all, 0 for any number.
    pub connections_max: usize,
    /// Four-letter words that are answered.
    pub words: Vec<String>,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// Longest frame of a client in bytes.
    pub frame_max: usize,
    /// Snapshots kept by purging.
    pub snap_retain_count: usize,
    /// Hours between purges, 0 for never.
    pub purge_interval_hours: u64,
    /// Whether TTL nodes may be made.
    pub extended_types: bool,
    /// Time between looks for containers and TTL nodes that are to be deleted, in ms.
    pub container_check_ms: i64,
    /// How many of them are deleted a minute at most.
    pub container_max_per_minute: usize,
    /// Whether hard quotas are enforced.
    pub enforce_quota: bool,
    /// Whether ACLs are ignored.
    pub skip_acl: bool,
    /// `user:hash` of the super user.
    pub super_digest: Option<String>,
    /// Whether logs without a snapshot are trusted.
    pub trust_empty_snapshot: bool,
    /// The ensemble that this server is a member of, if there is more than one server.
    pub ensemble: Option<Ensemble>,
    /// What protects the connections between its members.
    pub quorum_security: quorum::security::Security,
    /// Keys of features that are not built, and were given: said once at start.
    pub ignored: Vec<String>,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key has no usable value.
    #[error("{}:{line}: {key}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is missing or does not fit together.
    #[error("{}: {reason}", path.display())]
    Whole {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Keys of features that are not built yet and without which the server still serves.
const NOT_BUILT: &[&str] =
    &["secureClientPort", "metricsProvider.className", "sslQuorum", "dynamicConfigFile"];

struct Values {
    path: PathBuf,
    values: HashMap<String, (usize, String)>,
}

impl Values {
    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(_, value)| value.as_str())
    }

    fn error(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        let line = self.values.get(key).map_or(0, |(line, _)| *line);
        ConfigError::Key {
            path: self.path.clone(),
            line,
            key: key.to_owned(),
            reason: reason.into(),
        }
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T, ConfigError> {
        match self.text(key) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| self.error(key, format!("'{text}' is not a number that fits"))),
        }
    }

    fn boolean(&self, key: &str) -> Result<bool, ConfigError> {
        match self.text(key).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "no") => Ok(false),
            Some("true" | "yes") => Ok(true),
            Some(other) => Err(self.error(key, format!("'{other}' is neither true nor false"))),
        }
    }

    fn whole(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Whole { path: self.path.clone(), reason: reason.into() }
    }
}

/// Reads `key=value` lines with Java's rules: `#` and `!` comments, `:` or blank as separators, `\` at the end.
fn properties(text: &str) -> HashMap<String, (usize, String)> {
    let mut values = HashMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut line = first.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            let Some((_, next)) = lines.next() else { break };
            line.push_str(next.trim_start());
        }
        let end = line.find(['=', ':', ' ', '\t']).unwrap_or(line.len());
        let (key, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
        values.insert(key.to_owned(), (index + 1, value.to_owned()));
    }
    values
}

impl Config {
    /// Reads a `zoo.cfg`, and the `myid` that it needs where it has `server.N` lines.
    ///
    /// # Errors
    /// When a file can't be read, or what it says can't be used; the message names file, line and key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// [`Config::read`] for text already read.
    ///
    /// # Errors
    /// As there.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let values = Values { path: path.to_owned(), values: properties(text) };
        let data_dir = PathBuf::from(
            values
                .text("dataDir")
                .filter(|text| !text.is_empty())
                .ok_or_else(|| values.whole("dataDir is not set"))?,
        );
        let data_log_dir =
            values.text("dataLogDir").map_or_else(|| data_dir.clone(), PathBuf::from);
        let tick_ms: u32 = values.number("tickTime", 3000)?;
        if tick_ms == 0 {
            return Err(values.error("tickTime", "must not be 0"));
        }
        let tick = i32::try_from(tick_ms).map_err(|_| values.error("tickTime", "too large"))?;
        let limit = |key: &str, default: i32| {
            values.number(key, -1).map(|value: i32| if value == -1 { default } else { value })
        };
        let session_timeout_min_ms = limit("minSessionTimeout", tick.saturating_mul(2))?;
        let session_timeout_max_ms = limit("maxSessionTimeout", tick.saturating_mul(20))?;
        if session_timeout_min_ms > session_timeout_max_ms {
            return Err(
                values.error("minSessionTimeout", "must not be greater than maxSessionTimeout")
            );
        }
        let port: u16 = match values.text("clientPort") {
            None => return Err(values.whole("clientPort is not set")),
            Some(_) => values.number("clientPort", 0)?,
        };
        let ip = match values.text("clientPortAddress") {
            None => IpAddr::from([0, 0, 0, 0]),
            Some(text) => address(&values, text)?,
        };
        let words = values
            .text("4lw.commands.whitelist")
            .unwrap_or("srvr")
            .split(',')
            .map(|word| word.trim().to_owned())
            .collect();
        let ensemble = ensemble::read(&values, &data_dir)?;
        Ok(Self {
            ensemble,
            quorum_security: quorum::security::Security::default(),
            data_dir,
            data_log_dir,
            client_address: SocketAddr::new(ip, port),
            tick_ms,
            session_timeout_min_ms,
            session_timeout_max_ms,
            connections_per_address_max: values.number("maxClientCnxns", 60)?,
            connections_max: values.number("maxCnxns", 0)?,
            words,
            snap_count: values.number("snapCount", 100_000u64)?.max(2),
            frame_max: frame_max(&values)?,
            snap_retain_count: values.number("autopurge.snapRetainCount", 3usize)?.max(3),
            purge_interval_hours: values.number("autopurge.purgeInterval", 0)?,
            extended_types: values.boolean("extendedTypesEnabled")?,
            container_check_ms: values.number("znode.container.checkIntervalMs", 60_000)?,
            container_max_per_minute: values.number("znode.container.maxPerMinute", 10_000)?,
            enforce_quota: values.boolean("enforceQuota")?,
            skip_acl: values.boolean("skipACL")?,
            super_digest: values
                .text("DigestAuthenticationProvider.superDigest")
                .map(str::to_owned),
            trust_empty_snapshot: values.boolean("snapshot.trust.empty")?,
            ignored: NOT_BUILT
                .iter()
                .filter(|key| values.text(key).is_some())
                .map(|key| (*key).to_owned())
                .collect(),
        })
    }
}

/// The address of a host or address that is given as text.
fn address(values: &Values, text: &str) -> Result<IpAddr, ConfigError> {
    use std::net::ToSocketAddrs as _;
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, 0).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.map(|address| address.ip()).ok_or_else(|| {
        values.error("clientPortAddress", format!("'{text}' is no address and can't be resolved"))
    })
}

/// A number of bytes, in any of the forms that Java's `Integer.decode` takes.
fn frame_max(values: &Values) -> Result<usize, ConfigError> {
    const KEY: &str = "jute.maxbuffer";
    let Some(text) = values.text(KEY) else { return Ok(0xf_ffff) };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let number = hex.map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
    match number {
        Ok(number @ 1..=0x7fff_ffff) => Ok(number as usize),
        _ => Err(values.error(KEY, format!("'{text}' is not a number of bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("zoo.cfg"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_guides_configuration_is_read() {
        let directory = tempfile::TempDir::new().unwrap();
        fs::write(directory.path().join("myid"), "1\n").unwrap();
        let config = parse(&format!("# comment\ntickTime=2000\ndataDir={}\nclientPort=2181\ninitLimit 5\nserver.1=10.0.0.1:2888:3888\n", directory.path().display())).unwrap();
        assert_eq!(
            (
                config.client_address.port(),
                config.session_timeout_min_ms,
                config.session_timeout_max_ms
            ),
            (2181, 4000, 40000)
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_file_line_and_key() {
        let base = "dataDir=/d\nclientPort=2181\n";
        for (text, expected) in [
            ("clientPort=1".to_owned(), "zoo.cfg: dataDir is not set"),
            ("dataDir=/d".to_owned(), "zoo.cfg: clientPort is not set"),
            (format!("{base}tickTime=0"), "zoo.cfg:3: tickTime: must not be 0"),
            (format!("{base}tickTime=x"), "zoo.cfg:3: tickTime: 'x' is not a number that fits"),
            (
                format!("{base}minSessionTimeout=9\nmaxSessionTimeout=8"),
                "zoo.cfg:3: minSessionTimeout: must not be greater than maxSessionTimeout",
            ),
            (
                format!("{base}jute.maxbuffer=-1"),
                "zoo.cfg:3: jute.maxbuffer: '-1' is not a number of bytes",
            ),
            (format!("{base}server.0=h:1:2"), "zoo.cfg:3: server.0: ids go from 1 to 255"),
            (format!("{base}server.1=h:1"), "zoo.cfg:3: server.1: 'h:1' is not host:port:port"),
        ] {
            assert_eq!(parse(&text).unwrap_err(), expected, "{text}");
        }
        let no_id = parse(&format!("{base}server.1=h:1:2")).unwrap_err();
        assert!(no_id.starts_with("/d/myid: ") && no_id.contains("echo 1 > /d/myid"), "{no_id}");
    }
}
