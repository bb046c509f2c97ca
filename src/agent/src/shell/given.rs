//! What an operator may say of the host's resources, and of where it is (`Resources::fromJSON`, `slave/slave.cpp`).

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use mesos::flags::Values;
use mesos::json::{self, Dialect};
use mesos::resources::Resources;
use mesos::v1::{self, resource};

/// What is given by `--resources`.
///
/// # Errors
/// What is wrong with it, in the original's words: what comes to be by operations can't be given.
pub(super) fn resources(values: &Values) -> anyhow::Result<Resources> {
    let text = values.text("resources").unwrap_or_default();
    let given = Resources::parse(text, values.text("default_role").unwrap_or("*"));
    let given = given.map_err(|error| anyhow::anyhow!("--resources: {error}"))?;
    for one in given.to_protos() {
        check(&one).context("--resources")?;
    }
    Ok(given)
}

fn check(given: &v1::Resource) -> anyhow::Result<()> {
    let disk = given.disk.as_ref();
    if disk.is_some_and(|disk| disk.persistence.is_some()) {
        bail!("Persistent volumes cannot be specified at the command line");
    }
    if given.revocable.is_some() {
        bail!(
            "Revocable resources cannot be specified at the command line; do not include a 'revocable' key in the resources JSON"
        );
    }
    let is_dynamic =
        |own: &resource::ReservationInfo| own.r#type() == resource::reservation_info::Type::Dynamic;
    if given.reservations.iter().any(is_dynamic) {
        bail!(
            "Dynamic reservations cannot be specified at the command line; do not include a reservation with DYNAMIC type in the resources JSON"
        );
    }
    let mount = disk.and_then(|disk| disk.source.as_ref()?.mount.as_ref()?.root.as_deref());
    mount.map_or(Ok(()), check_mount)
}

/// A disk of its own must be there, and not merely its directory: nothing would bound what is written.
fn check_mount(root: &str) -> anyhow::Result<()> {
    let real = Path::new(root).canonicalize();
    let real =
        real.with_context(|| format!("Failed to determine `realpath` for the disk '{root}'"))?;
    let table = std::fs::read_to_string("/proc/mounts")
        .context("Failed to open mount table to verify mounts")?;
    let shown = real.display().to_string();
    // As the table writes it.
    let written = shown.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    let is_there = table.lines().any(|line| line.split(' ').nth(1) == Some(&*written));
    ensure!(is_there, "Failed to find mount '{shown}' in /proc/mounts");
    Ok(())
}

/// `--agent_features`: what an agent of today can do is not to be done without.
///
/// # Errors
/// When some of it is left out.
pub(super) fn check_features(values: &Values) -> anyhow::Result<()> {
    let Some(given) = values.json("agent_features") else { return Ok(()) };
    let names = given["capabilities"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(|one| one["type"].as_str()).collect();
    let needed = [
        "MULTI_ROLE",
        "HIERARCHICAL_ROLE",
        "RESERVATION_REFINEMENT",
        "AGENT_OPERATION_FEEDBACK",
        "RESOURCE_PROVIDER",
        "AGENT_DRAINING",
        "TASK_RESOURCE_LIMITS",
    ];
    ensure!(
        needed.iter().all(|own| names.contains(own)),
        "At least the following agent features need to be enabled: {}, and {}",
        needed[..6].join(", "),
        needed[6]
    );
    Ok(())
}

/// `--default_container_info`.
///
/// # Errors
/// When it describes no container.
pub(super) fn container(values: &Values) -> anyhow::Result<Option<v1::ContainerInfo>> {
    let parse =
        |json: serde_json::Value| json::from_slice(json.to_string().as_bytes(), Dialect::V0);
    values.json("default_container_info").map(parse).transpose().context("--default_container_info")
}

/// `--domain`.
///
/// # Errors
/// When it is no fault domain.
pub(super) fn domain(values: &Values) -> anyhow::Result<Option<v1::DomainInfo>> {
    let parse = |text: &str| json::from_slice(text.as_bytes(), Dialect::V0);
    values.text("domain").map(parse).transpose().context("--domain")
}
