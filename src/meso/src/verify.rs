//! Whether the cluster works: its daemons are asked, not systemd, until they say so or a deadline passes.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::gather::{Known, each};
use crate::plan::{HostPlan, Plan};
use crate::probe::Probe;
use crate::problem::{Kind, Problem, Problems};
use crate::progress::Progress;

/// How long each thing may take to come true.
const LIMIT: Duration = Duration::from_secs(90);
/// How often is asked.
const EVERY: Duration = Duration::from_millis(200);

async fn until<T>(
    progress: &Progress,
    host: &HostPlan,
    what: &str,
    unit: &str,
    ask: impl AsyncFn() -> Result<T, String>,
) -> Result<T, Problem> {
    let deadline = Instant::now() + LIMIT;
    let mut told = String::new();
    loop {
        let seen = match ask().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if told != seen {
            progress.say(&host.host, &format!("waiting for {what}: {seen}"));
            told.clone_from(&seen);
        }
        if Instant::now() >= deadline {
            return Err(Problem::on(
                &host.host,
                Kind::Failed,
                format!("waited {} s in vain for {what}", LIMIT.as_secs()),
                seen,
                format!("look at journalctl -u {unit} on the host, then run meso again"),
            ));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Waits until ZooKeeper serves, a master leads, all agents are registered with it, and Marathon leads.
///
/// # Errors
/// What did not come true, by host.
pub async fn verify(plan: &Plan, hosts: &[Known], progress: &Progress) -> Result<(), Problems> {
    let probe = |host: &HostPlan| {
        let known = hosts.iter().find(|known| known.connection.host.name == host.host);
        known.map(|known| Probe { connection: &known.connection, address: host.address })
    };
    let masters = plan.hosts.iter().filter(|host| host.roles.master);
    let agents: BTreeSet<String> = plan
        .hosts
        .iter()
        .filter(|host| host.roles.agent)
        .map(|host| host.address.to_string())
        .collect();
    each(masters, async |host: &HostPlan| {
        let Some(probe) = probe(host) else { return Ok(()) };
        until(progress, host, "ZooKeeper to serve", "zookeeper", async || probe.zookeeper().await)
            .await?;
        until(
            progress,
            host,
            "a master to lead and the agents to register",
            "mesos-master",
            async || {
                let leading = probe.master().await?;
                let missing: Vec<&str> = agents
                    .iter()
                    .map(String::as_str)
                    .filter(|agent| !leading.agents.iter().any(|other| other == agent))
                    .collect();
                if leading.is_self && !missing.is_empty() {
                    return Err(format!("not registered: {}", missing.join(", ")));
                }
                Ok(())
            },
        )
        .await?;
        until(progress, host, "Marathon to lead", "marathon", async || probe.marathon().await)
            .await?;
        progress.done(&host.host, "works");
        Ok(())
    })
    .await?;
    Ok(())
}
