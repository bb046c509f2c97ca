//! What containers are limited to, and which devices they have, from an agent's flags and its host.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use mesos::flags::Values;
use mesos::json::Dialect;
use mesos::resources::Resources;
use mesos::v1;

use crate::containerizer::cgroups::gpus::{self, Gpus};
use crate::containerizer::cgroups::handles::Handles;
use crate::containerizer::cgroups::perf::Perf;
use crate::containerizer::cgroups::{Cgroups, Extras, Limits, devices};
use crate::containerizer::isolation::Isolation;

/// Where device files are.
const DEVICES: &str = "/dev";

/// Cgroups, where the launcher is to use them.
pub(super) fn cgroups(values: &Values, isolation: &Isolation) -> anyhow::Result<Option<Cgroups>> {
    let hierarchy = Path::new(values.text("cgroups_hierarchy").unwrap_or("/sys/fs/cgroup"));
    let root = values.text("cgroups_root").unwrap_or("mesos");
    let text = values.text("isolation").unwrap_or_default();
    let wanted = isolation.needs_linux().is_some();
    // Who asks for nothing gets limits where there can be any.
    let is_open = !values.is_given("isolation");
    // 'all' stands for those that the kernel has.
    let has = |name: &str| {
        isolation.names(&format!("cgroups/{name}"))
            || isolation.names("cgroups/all") && hierarchy.join(name).join("cgroup.procs").exists()
    };
    let is_unified = hierarchy.join("cgroup.controllers").exists();
    let limits = Limits {
        cpu: is_open || isolation.has("cgroups/cpu"),
        cpu_quota: values.boolean("cgroups_enable_cfs"),
        memory: is_open || isolation.has("cgroups/mem"),
        swap: values.boolean("cgroups_limit_swap"),
        pids: isolation.has("cgroups/pids"),
        pids_max: values.number("cgroups_pids_max"),
        blkio: isolation.has("cgroups/blkio"),
        cpuset: has("cpuset"),
        devices: has("devices")
            || isolation.names("cgroups/all") && is_unified && devices::can_be_limited(),
        hugetlb: has("hugetlb"),
        net_cls: has("net_cls"),
        net_prio: has("net_prio"),
        perf_event: has("perf_event"),
        counts: values.boolean("cgroups_cpu_enable_pids_and_tids_count"),
    };
    let extras = extras(values, isolation, limits)?;
    ensure!(
        limits.pids || limits.pids_max.is_none(),
        "--cgroups_pids_max needs --isolation=cgroups/pids"
    );
    let prepared = || Cgroups::prepare(hierarchy, root, limits).map(|own| own.with(extras));
    match values.text("launcher") {
        Some("posix") if wanted => bail!("--isolation={text} needs --launcher=linux"),
        Some("posix") => Ok(None),
        Some("linux") => prepared().map(Some).with_context(|| format!("--launcher=linux: cgroups below {} can't be used (root is needed; --launcher=posix does without)", hierarchy.display())),
        Some(other) => bail!("--launcher: '{other}' is neither linux nor posix"),
        None if !nix::unistd::geteuid().is_root() => {
            ensure!(!wanted, "--isolation={text} needs root");
            Ok(None)
        }
        None => match prepared() {
            Ok(cgroups) => Ok(Some(cgroups)),
            Err(error) if wanted => Err(error).with_context(|| format!("--isolation={text}: cgroups below {} can't be used", hierarchy.display())),
            Err(error) => {
                tracing::warn!(%error, "cgroups can't be used: containers are plain process groups without limits");
                Ok(None)
            }
        },
    }
}

/// What containers have beside limits.
fn extras(values: &Values, isolation: &Isolation, limits: Limits) -> anyhow::Result<Extras> {
    let more = values.json("allowed_devices").map(|json| {
        mesos::json::from_slice::<v1::DeviceWhitelist>(json.to_string().as_bytes(), Dialect::V0)
    });
    let more = more.transpose().context("--allowed_devices")?;
    ensure!(
        limits.devices || more.is_none(),
        "--allowed_devices needs --isolation=cgroups/devices"
    );
    let devices = devices::allowed(more.as_ref())
        .map_err(|reason| anyhow::anyhow!("--allowed_devices: {reason}"))?;
    let primary = values.text("cgroups_net_cls_primary_handle");
    let secondaries = values.text("cgroups_net_cls_secondary_handles");
    ensure!(
        limits.net_cls || primary.is_none() && secondaries.is_none(),
        "--cgroups_net_cls_primary_handle and --cgroups_net_cls_secondary_handles need --isolation=cgroups/net_cls"
    );
    let handles = primary.map(|primary| Handles::parse(primary, secondaries)).transpose();
    let gpus = if isolation.has("gpu/nvidia") {
        ensure!(
            limits.devices && isolation.has("filesystem/linux"),
            "--isolation: 'gpu/nvidia' needs 'cgroups/devices' and 'filesystem/linux'"
        );
        let gpus = Gpus::open(Path::new(DEVICES), chosen_gpus(values)?.as_deref());
        Some(Arc::new(gpus.map_err(anyhow::Error::msg)?))
    } else {
        None
    };
    let handles = handles.map_err(anyhow::Error::msg)?.map(Arc::new);
    Ok(Extras { devices, gpus, handles, perf: perf(values, limits)? })
}

/// What is counted of the processors' events, if anything.
fn perf(values: &Values, limits: Limits) -> anyhow::Result<Option<Arc<Perf>>> {
    let Some(events) = values.text("perf_events") else { return Ok(None) };
    ensure!(limits.perf_event, "--perf_events needs --isolation=cgroups/perf_event");
    let duration = |name: &str| values.duration(name).unwrap_or_default();
    let perf = Perf::prepare(events, duration("perf_duration"), duration("perf_interval"));
    Ok(Some(Arc::new(perf.map_err(anyhow::Error::msg).context("--perf_events")?)))
}

/// `--nvidia_gpu_devices`.
fn chosen_gpus(values: &Values) -> anyhow::Result<Option<Vec<u32>>> {
    let Some(text) = values.text("nvidia_gpu_devices") else { return Ok(None) };
    let numbers = text.split(',').map(|number| number.trim().parse());
    let numbers = numbers.collect::<Result<_, _>>();
    numbers.map(Some).with_context(|| {
        format!("--nvidia_gpu_devices: '{text}' is no list of numbers, as 0,1 is one")
    })
}

/// The GPUs of this host, where they are looked for and `--resources` says nothing else.
pub(super) fn with_gpus(
    given: Resources,
    named: &BTreeSet<String>,
    values: &Values,
    isolation: &Isolation,
) -> anyhow::Result<Resources> {
    let chosen = chosen_gpus(values)?;
    if !isolation.has("gpu/nvidia") {
        ensure!(
            chosen.is_none(),
            "'--nvidia_gpus_devices' can only be specified if the `--isolation` flag contains 'gpu/nvidia'"
        );
        return Ok(given);
    }
    let own = named.contains("gpus").then(|| given.gpus());
    let found = gpus::find(Path::new(DEVICES)).len();
    let count = gpus::offered(own, chosen.as_deref(), found).map_err(anyhow::Error::msg)?;
    let mut all = given;
    if own.is_none()
        && count > 0
        && let Ok(more) = Resources::parse(&format!("gpus:{count}"), "*")
    {
        all.add(&more);
    }
    Ok(all)
}
