//! `server.N` lines and `myid`: who the members of the ensemble are, and which of them this server is.
//!
//! The lines are in `zoo.cfg`, or in the file that its `dynamicConfigFile` names: servers that change their ensemble
//! while they run keep it in a file of its own (`QuorumPeerConfig.parseDynamicConfig`).

use std::fs;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::values::{Origin, Value, Values};
use super::{ConfigError, properties};
use crate::quorum::configuration::{Configuration, Endpoint};
use crate::quorum::zab::Tuning;

/// An ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensemble {
    /// This server's id.
    pub id: i64,
    /// The servers.
    pub current: Configuration,
    /// Servers that were proposed when this server last ran, and perhaps agreed on.
    pub proposed: Option<Configuration>,
    /// Ticks that joining a leader may take.
    pub init_limit: u32,
    /// Ticks that a member may be silent.
    pub sync_limit: u32,
    /// Times and numbers that few change.
    pub tuning: Tuning,
    /// `leaderServes`: whether clients are served while this server leads.
    pub leader_serves: bool,
    /// `db.autocreate`: whether a server without data may take part in electing a leader.
    pub creates_data: bool,
    /// `electionPortBindRetry`: how often opening the port for elections is tried; 0 for ever.
    pub bind_tries: u32,
    /// `reconfigEnabled`: whether the servers may change while they run.
    pub is_dynamic: bool,
    /// `standaloneEnabled`: whether an ensemble must keep two voters.
    pub standalone: bool,
    /// `quorumListenOnAllIPs`: whether to listen for members at every address of the host.
    pub listens_everywhere: bool,
    /// `multiAddress.enabled`: whether a server may have several addresses.
    pub takes_several: bool,
    /// `observerMasterPort`: where followers listen for observers.
    pub observer_master_port: Option<u16>,
    /// `oraclePath`: the file that says whether one of two voters may go on alone.
    pub oracle: Option<PathBuf>,
    /// `zoo.cfg`, beside which the files of configurations are.
    pub file: PathBuf,
    /// Whether the servers are in `zoo.cfg` itself.
    pub is_static: bool,
}

/// What the lines of servers say of this one.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The ensemble that it is a member of, unless it is alone.
    pub(super) ensemble: Option<Ensemble>,
    /// Its id and where its clients connect, if its own line says so: alone too.
    pub(super) client: Option<(i64, Endpoint)>,
}

impl Ensemble {
    /// The file of the configuration that was last proposed (`nextDynamicConfigFileSuffix`).
    pub fn next_file(&self) -> PathBuf {
        beside(&self.file, ".dynamic.next")
    }

    /// The file of a configuration.
    pub fn dynamic_file(&self, version: i64) -> PathBuf {
        beside(&self.file, &format!(".dynamic.{version:x}"))
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether a key is one of those that say who the servers are.
pub(crate) fn is_of_servers(key: &str) -> bool {
    ["server.", "group.", "weight."].iter().any(|prefix| key.starts_with(prefix))
}

/// Reads the lines. One participant is the classic guide's, and means this server by itself, unless
/// `standaloneEnabled` is false; more are an ensemble.
pub(super) fn read(values: &mut Values, data_dir: &Path) -> Result<Place, ConfigError> {
    let dynamic = match values.text("dynamicConfigFile") {
        None => None,
        Some(path) => Some(dynamic_values(values, Path::new(path))?),
    };
    let lines = dynamic.as_ref().unwrap_or(values);
    let servers = lines.given.iter().filter(|(key, _)| is_of_servers(key) || *key == "version");
    let current = Configuration::read(servers.map(|(key, value)| (&**key, &*value.text)))
        .and_then(|read| read.check_ids().map(|()| read))
        .map_err(|wrong| lines.error(&wrong.key, wrong.reason))?;
    let standalone = values.boolean_or("standaloneEnabled", true)?;
    if current.servers().is_empty() {
        if !standalone {
            return Err(lines.whole("with standaloneEnabled=false there must be server.N lines"));
        }
        return Ok(Place::default());
    }
    let several = current.servers().iter().find(|(_, server)| server.addresses.len() > 1);
    let takes_several = values.boolean("multiAddress.enabled")?;
    if let (Some((id, _)), false) = (several, takes_several) {
        return Err(lines.error(
            &format!("server.{id}"),
            "several addresses need multiAddress.enabled=true on each server",
        ));
    }
    let voters = current.voters().count();
    if voters == 0 {
        return Err(lines.whole("there are observers, but no participants"));
    }
    let is_alone = voters == 1 && standalone;
    if is_alone && current.servers().len() > 1 {
        return Err(lines.whole("there are observers, but only one participant"));
    }
    // One that is alone needs no id, but for what its line says of its clients.
    if is_alone && !data_dir.join("myid").is_file() {
        return Ok(Place::default());
    }
    let id = read_id(lines, data_dir, &current)?;
    let own = current.servers().get(&id).and_then(|own| own.client.clone());
    let client = own.map(|client| (id, client));
    if is_alone {
        return Ok(Place { ensemble: None, client });
    }
    let role = role_notice(values, &current, id)?;
    let limit = |key: &str| match values.number(key, 0u32)? {
        0 => Err(values.whole(format!("{key} is not set"))),
        limit => Ok(limit),
    };
    if values.number("electionAlg", 3)? != 3 {
        return Err(values.error("electionAlg", "only 3 is supported"));
    }
    let mut ensemble = Ensemble {
        id,
        current,
        proposed: None,
        init_limit: limit("initLimit")?,
        sync_limit: limit("syncLimit")?,
        tuning: tuning(values)?,
        leader_serves: values.yes_or_no("leaderServes", true)?,
        creates_data: values.boolean_or("db.autocreate", true)?,
        bind_tries: values.number("electionPortBindRetry", 3)?,
        is_dynamic: values.boolean("reconfigEnabled")?,
        standalone,
        listens_everywhere: values.boolean("quorumListenOnAllIPs")?,
        takes_several,
        observer_master_port: observer_master_port(values)?,
        oracle: values.text("oraclePath").map(PathBuf::from),
        file: values.path.clone(),
        is_static: dynamic.is_none(),
    };
    if !ensemble.is_static {
        ensemble.proposed = proposed(&ensemble.next_file());
    }
    values.notices.get_mut().extend(role);
    Ok(Place { ensemble: Some(ensemble), client })
}

/// None is 0 or less, as with the original.
fn observer_master_port(values: &Values) -> Result<Option<u16>, ConfigError> {
    let port: i64 = values.number("observerMasterPort", 0)?;
    if port <= 0 {
        return Ok(None);
    }
    let port = u16::try_from(port);
    port.map(Some).map_err(|_| values.error("observerMasterPort", "a port is at most 65535"))
}

fn tuning(values: &Values) -> Result<Tuning, ConfigError> {
    let standard = Tuning::DEFAULT;
    let tick_ms: i64 = values.number("tickTime", 3000)?;
    let positive = |key: &str, default: i64| values.number_in(key, 1..=0x7fff_ffff, default);
    let votes_min_ms = positive("fastleader.minNotificationInterval", standard.votes_min_ms)?;
    Ok(Tuning {
        votes_min_ms,
        votes_max_ms: positive("fastleader.maxNotificationInterval", standard.votes_max_ms)?
            .max(votes_min_ms),
        connect_ms: match values.number("connectToLearnerMasterLimit", 0i64)? {
            ticks if ticks > 0 => tick_ms.saturating_mul(ticks),
            _ => standard.connect_ms,
        },
        epoch_ms: match values.number("leader.maxTimeToWaitForEpoch", -1i64)? {
            given if given >= 0 => given,
            _ => standard.epoch_ms,
        },
        observer_delay_ms: values
            .number("observer.election.DelayMs", standard.observer_delay_ms)?
            .max(0),
        trees_max: values.limit("leader.maxConcurrentSnapSyncs", standard.trees_max)?.max(1),
        differences_max: values
            .limit("leader.maxConcurrentDiffSyncs", standard.differences_max)?
            .max(1),
        observer_masters: observer_master_port(values)?.is_some(),
    })
}

/// Reads the file that `dynamicConfigFile` names. Its name ends with its version.
fn dynamic_values(values: &Values, path: &Path) -> Result<Values, ConfigError> {
    if let Some(key) = values.keys().find(|key| is_of_servers(key)) {
        return Err(values.error(key, "it must be in the file that dynamicConfigFile names"));
    }
    let text = properties::read_file(path)?;
    let mut dynamic = Values::read(path, &text, &Environment::default())?;
    if dynamic.given.contains_key("version") {
        return Err(dynamic.error("version", "the version is in the file's name, not in it"));
    }
    if let Some(key) = dynamic.keys().find(|key| !is_of_servers(key)) {
        return Err(dynamic.error(key, "only server.N, group.N and weight.N belong here"));
    }
    let version = path.extension().and_then(|version| version.to_str());
    if let Some(version) = version.filter(|version| i64::from_str_radix(version, 16).is_ok()) {
        let value = Value { text: version.to_owned(), origin: Origin::Line(0) };
        dynamic.given.insert("version".to_owned(), value);
    }
    Ok(dynamic)
}

/// A configuration that may have been agreed on; one that can't be read was not written whole.
fn proposed(path: &Path) -> Option<Configuration> {
    let text = fs::read_to_string(path).ok()?;
    Configuration::parse(&text)
        .inspect_err(|wrong| tracing::warn!("{} is left out: {wrong}", path.display()))
        .ok()
}

/// What the server's own line says wins over `peerType`.
fn role_notice(
    values: &Values,
    current: &Configuration,
    id: i64,
) -> Result<Option<String>, ConfigError> {
    let told = match values.text("peerType").map(str::to_ascii_lowercase).as_deref() {
        None => return Ok(None),
        Some("observer") => true,
        Some("participant") => false,
        Some(other) => {
            let reason = format!("'{other}' is neither observer nor participant");
            return Err(values.error("peerType", reason));
        }
    };
    let differs = told != current.is_observer(id);
    Ok(differs.then(|| {
        let path = values.path.display();
        format!("{path}: peerType is not what the server.{id} line says: that line counts")
    }))
}

fn read_id(values: &Values, data_dir: &Path, current: &Configuration) -> Result<i64, ConfigError> {
    let path = data_dir.join("myid");
    let whole = |reason: String| ConfigError::Whole { path: path.clone(), reason };
    let text = fs::read_to_string(&path).map_err(|source| {
        let id = current.servers().keys().next().unwrap_or(&1);
        let hint = format!("write this server's id into it: echo {id} > {}", path.display());
        whole(format!("{source}; {hint}"))
    })?;
    let first = text.lines().next().unwrap_or_default().trim();
    let id: i64 = first.parse().map_err(|_| whole(format!("serverid {first} is not a number")))?;
    if current.servers().contains_key(&id) {
        Ok(id)
    } else {
        let config = values.path.display();
        Err(whole(format!("this server's id is {id}, but {config} has no server.{id} line")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use crate::Config;
    use crate::quorum::zab::Tuning;

    fn parse_in(directory: &TempDir, id: &str, lines: &str) -> Result<Config, String> {
        fs::write(directory.path().join("myid"), id).unwrap();
        let text =
            format!("initLimit=5\nsyncLimit=2\ndataDir={}\n{lines}", directory.path().display());
        let path = directory.path().join("zoo.cfg");
        Config::parse(&path, &text).map_err(|error| error.to_string())
    }

    fn parse(id: &str, lines: &str) -> Result<Config, String> {
        parse_in(&TempDir::new().unwrap(), id, &format!("clientPort=2181\n{lines}"))
    }

    #[test]
    fn an_ensemble_is_read_and_told_in_the_originals_words() {
        let config =
            parse("2\n", "server.2=b:2888:3888\nserver.1=[::1]:1:2:participant;2181\n").unwrap();
        let ensemble = config.ensemble.unwrap();
        assert_eq!((ensemble.id, ensemble.init_limit), (2, 5));
        assert_eq!(
            ensemble.current.to_string(),
            "server.1=[::1]:1:2:participant;0.0.0.0:2181\nserver.2=b:2888:3888:participant\nversion=0"
        );
        assert!(parse("1", "server.1=a:1:2").unwrap().ensemble.is_none());
        let alone = parse("1", "server.1=a:1:2\nstandaloneEnabled=false\nelectionAlg=03").unwrap();
        assert!(alone.ensemble.is_some());
    }

    #[test]
    fn one_that_is_alone_needs_no_id_but_its_line_says_where_its_clients_connect() {
        let directory = TempDir::new().unwrap();
        let text = |lines: &str| {
            let data = directory.path().display();
            Config::parse(&directory.path().join("zoo.cfg"), &format!("dataDir={data}\n{lines}"))
                .map_err(|error| error.to_string())
        };
        assert!(text("clientPort=2181\nserver.1=a:1:2").unwrap().ensemble.is_none());
        let error = text("server.1=a:1:2;2181").unwrap_err();
        assert!(error.contains("neither clientPort nor secureClientPort is set"), "{error}");
        fs::write(directory.path().join("myid"), "1").unwrap();
        let config = text("server.1=a:1:2;127.0.0.1:2181").unwrap();
        assert!(config.ensemble.is_none());
        assert_eq!(config.client_address.unwrap().to_string(), "127.0.0.1:2181");
        let error = text("clientPort=9\nserver.1=a:1:2;8").unwrap_err();
        assert!(error.contains("the server.1 line says 0.0.0.0:8"), "{error}");
    }

    #[test]
    fn servers_may_be_in_a_file_of_their_own() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("zoo.cfg.dynamic.1f00000000");
        fs::write(&file, "server.1=a:1:2;127.0.0.1:5\nserver.2=b:1:2:observer\nserver.3=c:1:2")
            .unwrap();
        let key = format!("dynamicConfigFile={}\nreconfigEnabled=true", file.display());
        let config = parse_in(&directory, "1", &key).unwrap();
        assert_eq!(config.client_address.unwrap().to_string(), "127.0.0.1:5");
        let ensemble = config.ensemble.unwrap();
        assert_eq!(ensemble.current.version, 0x1f_0000_0000);
        assert!(ensemble.is_dynamic && ensemble.current.is_observer(2));
        fs::write(ensemble.next_file(), "server.1=a:1:2\nversion=1f00000007").unwrap();
        let ensemble = parse_in(&directory, "1", &key).unwrap().ensemble.unwrap();
        assert_eq!(ensemble.proposed.unwrap().version, 0x1f_0000_0007);
        for (lines, text, reason) in [
            ("server.1=a:1:2", "", "it must be in the file that dynamicConfigFile names"),
            ("", "server.1=a:1:2\nserver.2=a:3:4\nversion=3", "the version is in the file's name"),
            ("", "tickTime=3", "only server.N, group.N and weight.N belong here"),
            (
                "clientPort=9",
                "server.1=a:1:2;8\nserver.2=a:3:4",
                "the server.1 line says 0.0.0.0:8",
            ),
            (
                "",
                "server.1=a:1:2\nserver.2=a:3:4",
                "neither clientPort nor secureClientPort is set",
            ),
        ] {
            fs::write(&file, text).unwrap();
            let error = parse_in(&directory, "1", &format!("{key}\n{lines}")).unwrap_err();
            assert!(error.contains(reason), "{lines} {text}: {error}");
        }
    }

    #[test]
    fn times_of_elections_are_read() {
        let two = "server.1=a:1:2\nserver.2=b:1:2";
        let tuned = |lines: &str| {
            parse("1", &format!("{two}\ntickTime=100\n{lines}")).unwrap().ensemble.unwrap()
        };
        assert_eq!(tuned("").tuning, Tuning::DEFAULT);
        let given = tuned(
            "fastleader.minNotificationInterval=300\nfastleader.maxNotificationInterval=9\nconnectToLearnerMasterLimit=7\nleader.maxTimeToWaitForEpoch=5\nobserver.election.DelayMs=80\nleader.maxConcurrentSnapSyncs=0\nleaderServes=no\ndb.autocreate=false",
        );
        let tuning = given.tuning;
        assert_eq!((tuning.votes_min_ms, tuning.votes_max_ms), (300, 300));
        assert_eq!((tuning.connect_ms, tuning.epoch_ms), (700, 5));
        assert_eq!((tuning.observer_delay_ms, tuning.trees_max), (80, 1));
        assert!(!given.leader_serves && !given.creates_data);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (id, lines, reason) in [
            ("3", "server.1=a:1:2\nserver.2=b:1:2", "has no server.3 line"),
            ("x", "server.1=a:1:2\nserver.2=b:1:2", "serverid x is not a number"),
            ("1", "server.1=a:1:1\nserver.2=b:1:2", "both ports are 1: they must differ"),
            ("1", "server.1=a:1:2\nserver.01=b:1:2", "is there twice"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2:observer", "only one participant"),
            ("1", "server.1=a:1:2:observer", "no participants"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2\ngroup.1=1", "server.2: it is not in a group"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2\nsyncLimit=0", "syncLimit is not set"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2\nelectionAlg=1", "only 3 is supported"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2\npeerType=x", "neither observer nor"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2|c:1:2", "multiAddress.enabled=true"),
            ("1", "server.1=a:1:2\nserver.2=:1:2", "is not host:port:port"),
            ("1", "standaloneEnabled=false", "there must be server.N lines"),
        ] {
            let error = parse(id, lines).unwrap_err();
            assert!(error.contains(reason), "{lines}: {error}");
        }
    }
}
