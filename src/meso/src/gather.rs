//! Connecting to all hosts at once and asking each what it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;

use crate::facts::{self, Facts};
use crate::inventory::Host;
use crate::packages;
use crate::plan::{FIREWALL, PORTS, UNITS};
use crate::problem::{Kind, Problem, Problems, all};
use crate::progress::Progress;
use crate::ssh::known_hosts::KnownHosts;
use crate::ssh::{Connection, Login};
use crate::systemd::Systemd;
use crate::templates;

/// Hosts that are talked to at once.
pub const AT_ONCE: usize = 32;
/// How long a host may take to tell what it is.
const FACTS: Duration = Duration::from_secs(60);

/// A host that is connected to and known.
#[derive(Debug)]
pub struct Known {
    /// The connection, and with it the host.
    pub connection: Connection,
    /// Its systemd, where it has one.
    pub systemd: Option<Systemd>,
    /// What it is.
    pub facts: Facts,
}

/// Files of host keys that are read unless one is given.
#[must_use]
pub fn default_known_hosts() -> Vec<PathBuf> {
    let own = std::env::home_dir().map(|home| home.join(".ssh/known_hosts"));
    own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect()
}

/// Reads the known host keys.
///
/// # Errors
/// When a file can't be read.
pub fn known_hosts(given: Option<PathBuf>) -> Result<Arc<KnownHosts>, Problem> {
    let paths = match given {
        Some(path) if !path.is_file() => {
            return Err(Problem::usage(
                "the file of known hosts can't be read",
                format!("{} is no file", path.display()),
                "give an existing file to --known-hosts, made for example with ssh-keyscan",
            ));
        }
        Some(path) => vec![path],
        None => default_known_hosts(),
    };
    KnownHosts::read(&paths).map(Arc::new).map_err(|why| {
        Problem::usage(
            "the known hosts can't be read",
            why,
            "correct the file's permissions, or give another to --known-hosts",
        )
    })
}

/// Does something for each at once; all results, in order.
pub async fn each<T, R, F: Future<Output = Result<R, Problem>>>(
    items: impl IntoIterator<Item = T>,
    act: impl Fn(T) -> F,
) -> Result<Vec<R>, Problems> {
    all(futures::stream::iter(items).map(act).buffered(AT_ONCE).collect::<Vec<_>>().await)
}

/// Connects to all hosts and gathers their facts; what each came to, in order.
pub async fn gather(
    hosts: &[Host],
    login: &Login,
    progress: &Progress,
) -> Vec<Result<Known, Problem>> {
    futures::stream::iter(hosts)
        .map(async |host: &Host| {
            progress.say(&host.name, "connecting");
            let connection = Connection::open(host, login.clone()).await?;
            progress.say(&host.name, "looking around");
            let known = look(connection).await?;
            progress.done(&host.name, "looked at");
            Ok(known)
        })
        .buffered(AT_ONCE)
        .collect()
        .await
}

async fn look(connection: Connection) -> Result<Known, Problem> {
    let command = facts::command(&PORTS, packages::MASTER, &templates::paths());
    let output = connection
        .succeed("the host can't be looked at", &command, facts::SCRIPT.as_bytes().to_vec(), FACTS)
        .await?;
    let mut facts = facts::parse(&output.text()).map_err(|why| {
        Problem::on(
            &connection.host.name,
            Kind::Preflight,
            "the host's answer can't be read",
            why,
            "see that the login shell's start-up files print nothing (try: ssh HOST true)",
        )
    })?;
    // Where there is no systemd the planner says so, with all that is wrong.
    let systemd = if facts.tools.contains("systemd") && facts.tools.contains("systemd-stdio-bridge")
    {
        Some(Systemd::open(&connection).await?)
    } else {
        None
    };
    if let Some(systemd) = &systemd {
        let units: Vec<&str> = UNITS.iter().map(|(unit, _, _)| *unit).chain([FIREWALL]).collect();
        facts.units = systemd.units(&units).await?;
    }
    Ok(Known { connection, systemd, facts })
}
