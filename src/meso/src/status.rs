//! `meso status`: hosts × units × health × leader.

use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::json;

use crate::cli::HostOptions;
use crate::facts::UnitFact;
use crate::gather::{AT_ONCE, Known};
use crate::inventory::Host;
use crate::plan::UNITS;
use crate::probe::Probe;
use crate::problem::Problem;
use crate::show::{Style, table};

/// Options of `meso status`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    hosts: HostOptions,
    /// Print one JSON document on standard output.
    #[arg(long)]
    pub json: bool,
}

/// A unit on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    host: String,
    address: Option<Ipv4Addr>,
    unit: &'static str,
    version: Option<String>,
    state: String,
    enabled: bool,
    healthy: bool,
    /// What the daemon says of itself, or why it is not well.
    health: String,
    /// `host:port` of the leader that the daemon knows.
    leader: Option<String>,
}

impl Row {
    /// The row of a host of which no unit is known.
    fn of_host(host: &Host, address: Option<Ipv4Addr>, why: &str) -> Self {
        Self {
            host: host.name.clone(),
            address,
            unit: "-",
            version: None,
            state: "-".to_owned(),
            enabled: false,
            healthy: false,
            health: why.to_owned(),
            leader: None,
        }
    }
}

/// Prints the status; whether all is well.
///
/// # Errors
/// When the options can't be used. A host that can't be asked is a row of its own.
pub async fn run(options: Options) -> Result<bool> {
    let chosen = options.hosts.resolve()?;
    let hosts = &chosen.hosts;
    let known = chosen.look().await;
    let rows = futures::stream::iter(known.iter().zip(hosts))
        .map(async |(known, host)| match known {
            Ok(known) => rows(known, host).await,
            Err(problem) => vec![Row::of_host(host, None, &problem.what)],
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let problems: Vec<&Problem> = known.iter().filter_map(|known| known.as_ref().err()).collect();
    for problem in &problems {
        writeln!(std::io::stderr(), "{} {problem}", Style::of_stderr().bad("error:"))?;
    }
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let healthy = !rows.is_empty() && rows.iter().all(|row| row.healthy);
    let mut out = std::io::stdout().lock();
    if options.json {
        let answer = json!({"version": 1, "healthy": healthy, "units": rows, "problems": problems});
        writeln!(out, "{answer:#}")?;
    } else {
        write!(out, "{}", shown(&rows, Style::of_stdout()))?;
    }
    Ok(healthy)
}

async fn rows(known: &Known, host: &Host) -> Vec<Row> {
    let facts = &known.facts;
    let address = host.address.or(facts.address);
    let mut rows = Vec::new();
    for (unit, package, _) in UNITS {
        let fact = facts.units.get(unit).cloned().unwrap_or_default();
        if !is_shown(&fact) {
            continue;
        }
        let (health, leader) = match address {
            Some(address) => ask(Probe { connection: &known.connection, address }, unit).await,
            None => (Err("the host's address is not known".to_owned()), None),
        };
        rows.push(Row {
            host: host.name.clone(),
            address,
            unit,
            version: facts.packages.get(package).map(|fact| fact.version.clone()),
            healthy: health.is_ok() && fact.active == "active",
            health: health.unwrap_or_else(|why| why),
            state: fact.active,
            enabled: fact.enabled,
            leader,
        });
    }
    if rows.is_empty() {
        rows.push(Row::of_host(host, address, "nothing of the cluster runs here"));
    }
    rows
}

/// Units that are neither enabled nor running are none of the host's.
fn is_shown(fact: &UnitFact) -> bool {
    fact.exists && (fact.enabled || fact.active != "inactive")
}

/// What a unit's daemon says, and who leads.
async fn ask(probe: Probe<'_>, unit: &str) -> (Result<String, String>, Option<String>) {
    match unit {
        "zookeeper.service" => (probe.zookeeper().await, None),
        "mesos-master.service" => match probe.master().await {
            Ok(leading) if leading.is_self => {
                (Ok(format!("leads {} agents", leading.agents.len())), Some(leading.leader))
            }
            Ok(leading) => (Ok("follows".to_owned()), Some(leading.leader)),
            Err(why) => (Err(why), None),
        },
        "marathon.service" => match probe.marathon().await {
            Ok(leader) => (Ok("ok".to_owned()), Some(leader)),
            Err(why) => (Err(why), None),
        },
        _ => match probe.agent().await {
            Ok(Some(master)) if !master.is_empty() => {
                (Ok("registered".to_owned()), Some(format!("{master}:5050")))
            }
            Ok(_) => (Err("it knows no master".to_owned()), None),
            Err(why) => (Err(why), None),
        },
    }
}

fn shown(rows: &[Row], style: Style) -> String {
    let mut cells = vec![
        ["HOST", "ADDRESS", "UNIT", "STATE", "BOOT", "VERSION", "HEALTH", "LEADER"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for row in rows {
        cells.push(vec![
            row.host.clone(),
            row.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
            row.unit.trim_end_matches(".service").to_owned(),
            row.state.clone(),
            match (row.unit, row.enabled) {
                ("-", _) => "-",
                (_, true) => "enabled",
                (_, false) => "disabled",
            }
            .to_owned(),
            row.version.clone().unwrap_or_else(|| "-".to_owned()),
            if row.healthy { row.health.clone() } else { format!("BAD: {}", row.health) },
            row.leader.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let lines = table(&cells);
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| match index.checked_sub(1).and_then(|index| rows.get(index)) {
            Some(row) if row.healthy => format!("{line}\n"),
            Some(_) => format!("{}\n", style.bad(line)),
            None => format!("{}\n", style.strong(line)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_unit() {
        let row = |unit, healthy, health: &str, leader: Option<&str>| Row {
            host: "h1".into(),
            address: Some(Ipv4Addr::new(10, 0, 0, 1)),
            unit,
            version: Some("1-100".into()),
            state: "active".into(),
            enabled: true,
            healthy,
            health: health.into(),
            leader: leader.map(str::to_owned),
        };
        let rows = [
            row("zookeeper.service", true, "standalone", None),
            row("mesos-master.service", true, "leads 2 agents", Some("10.0.0.1:5050")),
            row("marathon.service", false, "no leader yet", None),
        ];
        insta::assert_snapshot!(shown(&rows, Style::plain()));
    }
}
