//! `zoo.cfg` and `myid` (`QuorumPeerConfig`), and what the packages' environment adds.
//!
//! [`keys`] lists every key. Bad values are refused with file and line; keys that nobody knows, and keys without an
//! effect here, are named.

pub mod client;
pub(crate) mod ensemble;
pub mod environment;
pub mod keys;
mod limits;
mod properties;
mod security;
mod services;
mod storage;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use ensemble::Ensemble;
use environment::Environment;
pub use limits::{Limits, SessionBucket};
pub use security::Security;
pub use services::{Admin, Https, Metrics};
pub use storage::Storage;
use values::{Origin, Values};

use crate::core::LocalSessions;
use crate::disk;
use crate::quorum::configuration::Endpoint;

/// A server's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where snapshots are kept.
    pub data_dir: PathBuf,
    /// Where logs are kept.
    pub data_log_dir: PathBuf,
    /// Where clients connect without TLS.
    pub client_address: Option<SocketAddr>,
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
    /// How long a container may wait for its first child, in ms, if not for ever.
    pub container_unused_max_ms: Option<i64>,
    /// Whether hard quotas are enforced.
    pub enforce_quota: bool,
    /// Whether ACLs are ignored.
    pub skip_acl: bool,
    /// Whether logs without a snapshot are trusted.
    pub trust_empty_snapshot: bool,
    /// How logs and snapshots are written.
    pub storage: Storage,
    /// The ensemble that this server is a member of, if there is more than one server.
    pub ensemble: Option<Ensemble>,
    /// `snapshotSizeFactor`: the part of a snapshot's size up to which learners are sent what the log has instead.
    pub snapshot_size_factor: f64,
    /// `readonlymode.enabled`: whether reads are served while there is no leader.
    pub read_only: bool,
    /// `reconfigEnabled`: whether an ensemble's servers may change while they run.
    pub is_dynamic: bool,
    /// What protects the server.
    pub security: Security,
    /// Transactions that a leader keeps for followers that missed a few.
    pub commit_log_count: usize,
    /// Connections that may wait to be accepted, as given; −1 for the system's own idea.
    pub listen_backlog: i32,
    /// What new sessions are, in an ensemble.
    pub local_sessions: LocalSessions,
    /// Whether connections of clients have TCP keep-alive.
    pub client_keep_alive: bool,
    /// Time in which a new connection must ask for its session.
    pub first_frame: Duration,
    /// What clients may have under way.
    pub limits: Limits,
    /// How the log is written.
    pub log: disk::log::Options,
    /// The administrator's HTTP server, if there is to be one.
    pub admin: Option<Admin>,
    /// The metrics' HTTP server, if there is to be one.
    pub metrics: Option<Metrics>,
    /// What a person should know: keys without effect here, keys that nobody knows. Said once at start.
    pub notices: Vec<String>,
    /// The text of `zoo.cfg`, secrets masked.
    pub initial: String,
    /// All that was given, by key, secrets masked.
    pub given: BTreeMap<String, String>,
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
    /// A flag of the environment has no usable value.
    #[error("{variable}: -Dzookeeper.{key}: {reason}")]
    Flag {
        /// The variable that holds it, and the file that set it.
        variable: String,
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

impl Config {
    /// Reads a `zoo.cfg`, and the `myid` that it needs where it has `server.N` lines.
    ///
    /// # Errors
    /// When a file can't be read, or what it says can't be used; the message names file, line and key.
    pub fn read(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let text = properties::read_file(path)?;
        Self::parse_in(path, &text, environment)
    }

    /// [`Config::read`] for text already read, without an environment.
    ///
    /// # Errors
    /// As there.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_in(path, text, &Environment::default())
    }

    /// [`Config::read`] for text already read.
    ///
    /// # Errors
    /// As there.
    pub fn parse_in(
        path: &Path,
        text: &str,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut values = Values::read(path, text, environment)?;
        let (data_dir, data_log_dir) = directories(&mut values)?;
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
        let place = ensemble::read(&mut values, &data_dir)?;
        let client_address = client_address(&values, place.client)?;
        let security = Security::read(&mut values)?;
        if client_address.is_none() && security.secure_address.is_none() {
            return Err(values.whole("neither clientPort nor secureClientPort is set"));
        }
        let log = log_options(&values)?;
        Ok(Self {
            ensemble: place.ensemble,
            is_dynamic: values.boolean("reconfigEnabled")?,
            snapshot_size_factor: values.part("snapshotSizeFactor", 0.33)?,
            read_only: values.boolean("readonlymode.enabled")?,
            local_sessions: local_sessions(&values)?,
            security,
            storage: Storage::read(&values)?,
            data_dir,
            data_log_dir,
            client_address,
            tick_ms,
            session_timeout_min_ms,
            session_timeout_max_ms,
            connections_per_address_max: values.limit("maxClientCnxns", 60)?,
            connections_max: values.limit("maxCnxns", 0)?,
            words: words(&values),
            snap_count: values.number("snapCount", 100_000i64)?.max(2) as u64,
            frame_max: frame_max(&values)?,
            snap_retain_count: values
                .limit("autopurge.snapRetainCount", 3)?
                .max(crate::disk::purge::RETAIN_MIN),
            purge_interval_hours: values.limit("autopurge.purgeInterval", 0)? as u64,
            extended_types: values.boolean("extendedTypesEnabled")?,
            container_check_ms: values.number("znode.container.checkIntervalMs", 60_000)?,
            container_max_per_minute: values.number("znode.container.maxPerMinute", 10_000)?,
            container_unused_max_ms: Some(
                values.number("znode.container.maxNeverUsedIntervalMs", 0)?,
            )
            .filter(|limit_ms| *limit_ms != 0),
            enforce_quota: values.boolean("enforceQuota")?,
            skip_acl: values.yes_or_no("skipACL", false)?,
            trust_empty_snapshot: values.boolean("snapshot.trust.empty")?,
            // Less is taken for a slip, as in the original.
            commit_log_count: values.limit("commitLogCount", 500)?.max(500),
            listen_backlog: values.number("clientPortListenBacklog", -1)?,
            client_keep_alive: values.boolean("clientTcpKeepAlive")?,
            first_frame: Duration::from_millis(
                values.number("nio.sessionlessCnxnTimeout", 10_000)?,
            ),
            limits: Limits::read(&values)?,
            log,
            admin: Admin::read(&values)?,
            metrics: Metrics::read(&values)?,
            initial: masked_text(text),
            given: given(&values),
            notices: values.notices.into_inner(),
        })
    }
}

fn local_sessions(values: &Values) -> Result<LocalSessions, ConfigError> {
    let is_enabled = values.boolean("localSessionsEnabled")?;
    let is_upgraded = values.boolean("localSessionsUpgradingEnabled")?;
    Ok(match (is_enabled, is_upgraded) {
        (false, _) => LocalSessions::Off,
        (true, false) => LocalSessions::Kept,
        (true, true) => LocalSessions::Upgraded,
    })
}

fn directories(values: &mut Values) -> Result<(PathBuf, PathBuf), ConfigError> {
    let given = |key: &str| values.text(key).filter(|text| !text.is_empty()).map(PathBuf::from);
    let data = given("dataDir").ok_or_else(|| values.whole("dataDir is not set"))?;
    let log = given("dataLogDir").unwrap_or_else(|| data.clone());
    let may_make = values.boolean_or("datadir.autocreate", true)?;
    for (key, path) in [("dataDir", &data), ("dataLogDir", &log)] {
        if !may_make && !path.join("version-2").is_dir() {
            let missing = format!(
                "{} is missing, and datadir.autocreate is off; make it",
                path.join("version-2").display()
            );
            return Err(values.error(key, missing));
        }
        if path.is_relative() && values.text(key).is_some() {
            values.notice(format!(
                "{}: {key}: {} is relative: it depends on where the server is started",
                values.path.display(),
                path.display()
            ));
        }
    }
    Ok((data, log))
}

/// Where clients connect: what `clientPort` says, or the server's own line in the ensemble's configuration; both must
/// agree (`QuorumPeerConfig.setupClientPort`).
fn client_address(
    values: &Values,
    own: Option<(i64, Endpoint)>,
) -> Result<Option<SocketAddr>, ConfigError> {
    let fixed = listen_address(values, "clientPort", "clientPortAddress")?;
    let Some((id, client)) = own else {
        return Ok(fixed);
    };
    let ip = resolved(&client.host).ok_or_else(|| {
        values.whole(format!("server.{id}: {} is no address and can't be resolved", client.host))
    })?;
    let own = SocketAddr::new(ip, client.port);
    if let Some(fixed) = fixed
        && (fixed.port() != own.port() || !fixed.ip().is_unspecified() && fixed != own)
    {
        return Err(values.error("clientPort", format!("the server.{id} line says {client}")));
    }
    Ok(Some(own))
}

/// Where a port for clients is opened, if it is given.
fn listen_address(
    values: &Values,
    port: &str,
    at: &str,
) -> Result<Option<SocketAddr>, ConfigError> {
    let is_given = values.text(at).is_some();
    if values.text(port).is_none() {
        return if is_given {
            Err(values.whole(format!("{at} is set but {port} is not set")))
        } else {
            Ok(None)
        };
    }
    let port = values.number(port, 0u16)?;
    let ip = if is_given { address(values, at)? } else { IpAddr::from([0, 0, 0, 0]) };
    Ok(Some(SocketAddr::new(ip, port)))
}

/// The address of a host that is given by name or number.
pub(crate) fn resolved(text: &str) -> Option<IpAddr> {
    use std::net::ToSocketAddrs as _;
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, 0).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.map(|address| address.ip())
}

/// The address that a key gives by name or number.
fn address(values: &Values, key: &str) -> Result<IpAddr, ConfigError> {
    let text = values.text(key).unwrap_or_default();
    resolved(text)
        .ok_or_else(|| values.error(key, format!("'{text}' is no address and can't be resolved")))
}

/// `srvr` is always answered (`FourLetterCommands`): the original's own scripts ask it.
fn words(values: &Values) -> Vec<String> {
    let given = values.text("4lw.commands.whitelist").unwrap_or_default();
    let mut words: Vec<String> = given
        .split(',')
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    words.push("srvr".to_owned());
    if values.text("readonlymode.enabled") == Some("true") {
        words.push("isro".to_owned());
    }
    words
}

fn log_options(values: &Values) -> Result<disk::log::Options, ConfigError> {
    let kib = |key: &str, default: u64| Ok(values.number(key, default)?.saturating_mul(1024));
    let standard = disk::log::Options::default();
    Ok(disk::log::Options {
        growth: kib("preAllocSize", standard.growth / 1024)?,
        file_max: match kib("txnLogSizeLimitInKb", 0)? {
            0 => standard.file_max,
            limit => limit,
        },
        sync: values.yes_or_no("forceSync", true)?,
        slow_sync: Duration::from_millis(values.number("fsync.warningthresholdms", 1000)?),
    })
}

/// A number of bytes, in any of the forms that Java's `Integer.decode` takes.
fn frame_max(values: &Values) -> Result<usize, ConfigError> {
    Ok(values.number_in("jute.maxbuffer", 1..=0x7fff_ffff, 0xf_ffff)? as usize)
}

/// Whether a key's value is nobody's business.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    (key.contains("password") && !key.ends_with("path")) || key.ends_with("superdigest")
}

const MASK: &str = "***";

fn masked_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for line in text.lines() {
        let key = line.split(['=', ':', ' ', '\t']).next().unwrap_or_default();
        if is_secret(key.trim()) {
            let _ = write!(masked, "{key}={MASK}");
        } else {
            masked.push_str(line);
        }
        masked.push('\n');
    }
    masked
}

/// What was given under the names of the original's system properties.
fn given(values: &Values) -> BTreeMap<String, String> {
    let named = values.given.iter().filter_map(|(key, value)| {
        let scope = keys::find(key).map(|key| key.scope);
        let name = match (scope, &value.origin) {
            (Some(keys::Scope::File), _) => return None,
            (Some(keys::Scope::Bare), Origin::Flag(_)) => key.clone(),
            _ => format!("zookeeper.{key}"),
        };
        let text = if is_secret(key) { MASK.to_owned() } else { value.text.clone() };
        Some((name, text))
    });
    named.collect()
}

#[cfg(test)]
mod tests;
