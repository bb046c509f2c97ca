//! `server.N` lines and `myid`: who the members of the ensemble are, and which of them this server is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{ConfigError, Values};

/// Where a member listens for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its host.
    pub host: String,
    /// The port for Zab, open while it leads.
    pub quorum_port: u16,
    /// The port for the election.
    pub election_port: u16,
}

/// An ensemble of more than one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensemble {
    /// This server's id.
    pub id: i64,
    /// All members by id, this one too.
    pub peers: BTreeMap<i64, Peer>,
    /// Ticks that joining a leader may take.
    pub init_limit: u32,
    /// Ticks that a member may be silent.
    pub sync_limit: u32,
}

impl Ensemble {
    /// The configuration as members tell it to each other.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (id, peer) in &self.peers {
            let Peer { host, quorum_port, election_port } = peer;
            let _ = writeln!(text, "server.{id}={host}:{quorum_port}:{election_port}:participant");
        }
        text + "version=0"
    }
}

/// Reads the lines. One is the classic guide's, and means this server by itself; more are an ensemble.
pub(super) fn read(values: &Values, data_dir: &Path) -> Result<Option<Ensemble>, ConfigError> {
    let mut peers = BTreeMap::new();
    for key in values.keys().filter(|key| key.starts_with("server.")) {
        let id: i64 = key["server.".len()..]
            .parse()
            .map_err(|_| values.error(key, "the part behind 'server.' is not a number"))?;
        if !(1..=255).contains(&id) {
            return Err(values.error(key, "ids go from 1 to 255"));
        }
        let peer = peer(values.text(key).unwrap_or_default())
            .map_err(|reason| values.error(key, reason))?;
        if peers.insert(id, peer).is_some() {
            return Err(values.error(key, format!("server {id} is there twice")));
        }
    }
    if peers.is_empty() {
        return Ok(None);
    }
    let id = read_id(values, data_dir, &peers)?;
    if peers.len() == 1 {
        return Ok(None);
    }
    for key in values.keys() {
        if key.starts_with("group.") || key.starts_with("weight.") {
            return Err(values.error(key, "weighted quorums are not supported by this server yet"));
        }
    }
    let limit = |key: &str| match values.number(key, 0u32)? {
        0 => Err(values.whole(format!("{key} is not set"))),
        limit => Ok(limit),
    };
    Ok(Some(Ensemble {
        id,
        init_limit: limit("initLimit")?,
        sync_limit: limit("syncLimit")?,
        peers,
    }))
}

fn peer(text: &str) -> Result<Peer, String> {
    let wrong = || format!("'{text}' is not host:port:port");
    let address = text.split(';').next().unwrap_or_default().trim();
    let address = match address.rsplit_once(':') {
        Some((rest, "participant")) => rest,
        Some((_, "observer")) => {
            return Err("observers are not supported by this server yet".to_owned());
        }
        _ => address,
    };
    if address.contains('|') {
        return Err("several addresses are not supported by this server yet".to_owned());
    }
    let mut parts = address.rsplitn(3, ':');
    let mut port = || parts.next().and_then(|port| port.parse().ok()).ok_or_else(wrong);
    let (election_port, quorum_port): (u16, u16) = (port()?, port()?);
    let host = parts.next().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err(wrong());
    }
    if quorum_port == election_port {
        return Err(format!("both ports are {quorum_port}: they must differ"));
    }
    Ok(Peer { host, quorum_port, election_port })
}

fn read_id(
    values: &Values,
    data_dir: &Path,
    peers: &BTreeMap<i64, Peer>,
) -> Result<i64, ConfigError> {
    let path = data_dir.join("myid");
    let whole = |reason: String| ConfigError::Whole { path: path.clone(), reason };
    let text = fs::read_to_string(&path).map_err(|source| {
        let id = peers.keys().next().unwrap_or(&1);
        let hint = format!("write this server's id into it: echo {id} > {}", path.display());
        whole(format!("{source}; {hint}"))
    })?;
    let first = text.lines().next().unwrap_or_default().trim();
    let id: i64 = first.parse().map_err(|_| whole(format!("serverid {first} is not a number")))?;
    if peers.contains_key(&id) {
        Ok(id)
    } else {
        let config = values.path.display();
        Err(whole(format!("this server's id is {id}, but {config} has no server.{id} line")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::Config;

    fn parse(id: &str, lines: &str) -> Result<Config, String> {
        let directory = tempfile::TempDir::new().unwrap();
        fs::write(directory.path().join("myid"), id).unwrap();
        let text = format!(
            "clientPort=2181\ninitLimit=5\nsyncLimit=2\ndataDir={}\n{lines}",
            directory.path().display()
        );
        Config::parse(Path::new("zoo.cfg"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_ensemble_is_read_and_told_in_the_originals_words() {
        let config =
            parse("2\n", "server.2=b:2888:3888\nserver.1=[::1]:1:2:participant;2181\n").unwrap();
        let ensemble = config.ensemble.unwrap();
        assert_eq!((ensemble.id, ensemble.init_limit, ensemble.peers.len()), (2, 5, 2));
        assert_eq!(
            ensemble.text(),
            "server.1=::1:1:2:participant\nserver.2=b:2888:3888:participant\nversion=0"
        );
        assert!(parse("1", "server.1=a:1:2").unwrap().ensemble.is_none());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (id, lines, reason) in [
            ("3", "server.1=a:1:2\nserver.2=b:1:2", "has no server.3 line"),
            ("x", "server.1=a:1:2\nserver.2=b:1:2", "serverid x is not a number"),
            ("1", "server.1=a:1:1\nserver.2=b:1:2", "both ports are 1: they must differ"),
            ("1", "server.1=a:1:2\nserver.01=b:1:2", "is there twice"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2:observer", "observers are not supported"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2\nweight.1=2", "weighted quorums are not"),
            ("1", "server.1=a:1:2\nserver.2=b:1:2\nsyncLimit=0", "syncLimit is not set"),
            ("1", "server.1=a:1:2\nserver.2=:1:2", "is not host:port:port"),
        ] {
            let error = parse(id, lines).unwrap_err();
            assert!(error.contains(reason), "{lines}: {error}");
        }
    }
}
