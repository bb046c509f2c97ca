//! `meso bootstrap`: hosts → facts → plan → apply → verify.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::apply::apply;
use crate::cli::HostOptions;
use crate::gather::Known;
use crate::inventory::{Host, Roles};
use crate::packages;
use crate::plan::{self, Plan};
use crate::problem::all;
use crate::progress::Progress;
use crate::show::{self, Style};
use crate::verify::verify;

/// Options of `meso bootstrap`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    hosts: HostOptions,
    /// Directory of the packages to install [default: target/rpms, else /usr/share/meso/rpms].
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
    /// Look at the hosts, print what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Makes the hosts a cluster.
///
/// # Errors
/// Everything that keeps them from it.
pub async fn run(options: Options) -> Result<()> {
    let chosen = options.hosts.resolve()?;
    let hosts = &chosen.hosts;
    let directory =
        options.packages.or(chosen.packages.clone()).unwrap_or_else(packages::default_directory);
    let roles: Vec<(&str, Roles)> =
        hosts.iter().map(|host| (host.name.as_str(), host.roles)).collect();
    let brought = packages::find(&directory, &roles)?;
    let known = all(chosen.look().await)?;
    let facts: Vec<_> =
        known.iter().map(|known| (known.connection.host.clone(), known.facts.clone())).collect();
    let plan = plan::plan(&facts, &brought)?;
    if !options.json {
        say(&show::plan(&plan, Style::of_stdout()))?;
    }
    if !options.dry_run {
        carry_out(&plan, &known, hosts).await?;
    }
    if options.json {
        let answer = json!({
            "version": 1,
            "dry_run": options.dry_run,
            "changed": !plan.is_empty() && !options.dry_run,
            "plan": plan,
            "facts": facts.iter().map(|(host, facts)| (host.name.clone(), facts)).collect::<std::collections::BTreeMap<_, _>>(),
            "ui": addresses(&plan),
        });
        say(&format!("{}\n", serde_json::to_string_pretty(&answer)?))?;
        return Ok(());
    }
    let style = Style::of_stdout();
    match (options.dry_run, plan.is_empty()) {
        (_, true) => say(&style.good("nothing to change\n"))?,
        (true, false) => say("dry run: nothing was changed\n")?,
        (false, false) => say(&style.good("the cluster works\n"))?,
    }
    if !options.dry_run {
        for address in addresses(&plan) {
            say(&format!(
                "Mesos:    {}\nMarathon: {}\n",
                address["mesos"].as_str().unwrap_or_default(),
                address["marathon"].as_str().unwrap_or_default()
            ))?;
        }
    }
    Ok(())
}

async fn carry_out(plan: &Plan, known: &[Known], hosts: &[Host]) -> Result<()> {
    let progress = Progress::new(hosts.iter().map(|host| host.name.as_str()));
    apply(plan, known, &progress).await?;
    verify(plan, known, &progress).await?;
    Ok(())
}

fn addresses(plan: &Plan) -> Vec<serde_json::Value> {
    let masters = plan.hosts.iter().filter(|host| host.roles.master);
    masters
        .map(|host| json!({"mesos": format!("http://{}:5050", host.address), "marathon": format!("http://{}:8080", host.address)}))
        .collect()
}

fn say(text: &str) -> std::io::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes())
}
