//! What an agent is to be, from its flags and its host: everything is checked before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::cram_md5::Authenticatee;
use access::firewall::Firewall;
use access::guard::Guard;
use anyhow::{Context as _, bail, ensure};
use election::MasterAddress;
use mesos::flags::Values;
use mesos::resources::{Resources, parse_attributes};
use mesos::v1;
use web::address;

use super::images::Images;
use super::limits::{cgroups, with_gpus};
use super::{given, http, images, modules, oversubscription, ports, qos};
use crate::checkpoint::paths;
use crate::containerizer::cgroups::Cgroups;
use crate::containerizer::cni::Networks;
use crate::containerizer::confinement::{Capabilities, Policy};
use crate::containerizer::dns::ContainerDns;
use crate::containerizer::images::registry::Credentials;
use crate::containerizer::isolation::Isolation;
use crate::core::Settings;
use crate::flags;

/// A checked agent.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) master: MasterAddress,
    pub(super) guard: Guard,
    pub(super) firewall: Firewall,
    pub(super) credential: Option<Authenticatee>,
    pub(super) work_dir: PathBuf,
    pub(super) listening: Listening,
    pub(super) resources: Resources,
    pub(super) attributes: Vec<v1::Attribute>,
    pub(super) domain: Option<v1::DomainInfo>,
    pub(super) containerizers: Vec<String>,
    pub(super) docker_socket: PathBuf,
    pub(super) cgroups: Option<Cgroups>,
    pub(super) policy: Policy,
    /// What it offers beyond that.
    pub(super) oversubscribed: Vec<v1::Resource>,
    pub(super) images: Option<Images>,
    /// Who the agent is to registries.
    pub(super) logins: Credentials,
    pub(super) networks: Option<Networks>,
    /// The name servers in networks that name none.
    pub(super) dns: ContainerDns,
    /// The loads above which revocable resources are taken back.
    pub(super) thresholds: Option<qos::Thresholds>,
    /// How the ports that containers listen on are looked at, if they are.
    pub(super) ports: Option<ports::Watch>,
    /// Whether the sizes of sandboxes are looked at.
    pub(super) watches_sandboxes: bool,
}

/// Where it listens, and what others are told of that.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) ip: IpAddr,
    /// What else tasks in the host's network are reached at.
    pub(super) ip6: Option<Ipv6Addr>,
    pub(super) port: u16,
    pub(super) advertise_ip: Option<IpAddr>,
    pub(super) advertise_port: Option<u16>,
}

fn listening(values: &Values) -> Result<Listening, String> {
    let ip = address::given(values, "ip", "ip_discovery_command")?;
    Ok(Listening {
        ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        ip6: address::given(values, "ip6", "ip6_discovery_command")?,
        port: address::port(values, "port")?.unwrap_or(5051),
        advertise_ip: address::plain(values, "advertise_ip")?,
        advertise_port: address::port(values, "advertise_port")?,
    })
}

/// Checks all flags before anything is touched.
pub(super) fn check(values: &Values) -> anyhow::Result<Plan> {
    for (name, reason) in flags::compatible::REFUSED {
        let on = values.is_given(name) && !matches!(values.text(name), Some("false" | ""));
        ensure!(!on, "--{name} is not supported by this agent: {reason}; remove it");
    }
    let master = values.text("master").context("Missing required option --master")?;
    let master = MasterAddress::parse(master).context("--master")?;
    let work_dir = PathBuf::from(values.required("work_dir")?);
    ensure!(work_dir.is_absolute(), "--work_dir: '{}' is no absolute path", work_dir.display());
    let reregistration = values.duration("executor_reregistration_timeout").unwrap_or_default();
    ensure!(
        reregistration <= Duration::from_secs(15),
        "--executor_reregistration_timeout must be at most 15secs"
    );
    ensure!(
        matches!(values.text("recover"), Some("reconnect" | "cleanup")),
        "--recover must be reconnect or cleanup"
    );
    ensure!(
        matches!(values.text("reconfiguration_policy"), Some("equal" | "additive")),
        "--reconfiguration_policy must be equal or additive"
    );
    let listening = listening(values).map_err(anyhow::Error::msg)?;
    let attributes = parse_attributes(values.text("attributes").unwrap_or_default())
        .map_err(|error| anyhow::anyhow!("--attributes: {error}"))?;
    given::check_features(values)?;
    given::container(values)?;
    let given = given::resources(values)?;
    let docker_socket =
        PathBuf::from(values.text("docker_socket").unwrap_or("/var/run/docker.sock"));
    let (guard, credential) = secured(values)?;
    let isolation = Isolation::parse(values.text("isolation").unwrap_or_default())
        .map_err(|error| anyhow::anyhow!("--isolation: {error}"))?;
    modules::check(values)?;
    let named = named_resources(values);
    let given = with_gpus(given, &named, values, &isolation)?;
    let resources = with_detected(given, &named, &work_dir);
    let dns = values.text("default_container_dns").map(ContainerDns::parse).transpose();
    let dns = dns
        .map_err(|reason| anyhow::anyhow!("--default_container_dns: {reason}"))?
        .unwrap_or_default();
    let networks = networks(values, &isolation, &work_dir, &dns)?;
    let ports = isolation
        .has("network/ports")
        .then(|| ports::check(values, &resources.ports(), isolation.has("network/cni")));
    Ok(Plan {
        master,
        guard,
        firewall: access::flags::firewall(values)?,
        credential,
        resources,
        thresholds: qos::check(values)?,
        ports: ports.transpose()?,
        listening,
        attributes,
        domain: given::domain(values)?,
        containerizers: containerizers(values)?,
        docker_socket,
        cgroups: cgroups(values, &isolation)?,
        watches_sandboxes: isolation.has("disk/du"),
        oversubscribed: oversubscription::check(values)?,
        images: images::check(values, &isolation)?,
        logins: images::credentials(values)?,
        networks,
        dns,
        policy: policy(values, isolation)?,
        work_dir,
    })
}

/// Whom the agent asks for credentials and what it lets them do, and what it proves itself with.
fn secured(values: &Values) -> anyhow::Result<(Guard, Option<Authenticatee>)> {
    access::flags::only_built_in(
        values,
        &[("authenticatee", "crammd5"), ("authorizer", "local"), ("http_authenticators", "basic")],
    )?;
    let acls = access::flags::acls(values)?;
    let credentials = access::flags::credentials(values, "http_credentials")?;
    let mut guard = access::flags::guard(
        values,
        acls,
        "http_credentials",
        credentials.as_ref(),
        &[
            ("authenticate_http_readonly", http::READ_ONLY),
            ("authenticate_http_readwrite", http::READ_WRITE),
        ],
    )?;
    match access::flags::key(values)? {
        Some(key) => {
            for realm in [http::READ_ONLY, http::READ_WRITE] {
                if guard.asks(realm) {
                    guard.ask_for_tokens(realm, key.clone());
                }
            }
            if values.boolean("authenticate_http_executors") {
                guard.ask_for_tokens(http::EXECUTOR, key);
            }
        }
        None => ensure!(
            !values.boolean("authenticate_http_executors"),
            "--jwt_secret_key must be specified when --authenticate_http_executors is set to true"
        ),
    }
    Ok((guard, access::flags::own_credential(values, "credential")?))
}

fn containerizers(values: &Values) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in values.text("containerizers").unwrap_or("mesos").split(',') {
        let name = name.trim();
        ensure!(
            matches!(name, "docker" | "mesos"),
            "--containerizers: Unknown or unsupported containerizer: {name} (docker and mesos are known)"
        );
        ensure!(!names.iter().any(|own| own == name), "--containerizers: '{name}' is there twice");
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Makes the work directory; what is returned keeps other agents out of it.
pub(super) fn claim_work_dir(work_dir: &Path) -> anyhow::Result<std::fs::File> {
    let meta = paths::meta(work_dir);
    let lock = meta.join("agent.lock");
    let claimed = std::fs::create_dir_all(&meta).and_then(|()| {
        std::fs::File::options().create(true).truncate(false).write(true).open(&lock)
    });
    let file = claimed.with_context(|| {
        let user = nix::unistd::geteuid();
        let work_dir = work_dir.display();
        format!("--work_dir: {work_dir} can't be written to by this agent, which runs as user {user}: choose another, or give it to that user")
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("--work_dir: another agent runs on {}", work_dir.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} can't be locked", lock.display()))
        }
    }
}

/// What containers are let do.
fn policy(values: &Values, isolation: Isolation) -> anyhow::Result<Policy> {
    if let Some(name) = isolation.needs_root() {
        ensure!(nix::unistd::geteuid().is_root(), "--isolation: '{name}' needs root");
    }
    let set = |name: &str| {
        let json = values.json(name);
        json.map(|json| Capabilities::parse(&json))
            .transpose()
            .map_err(|error| anyhow::anyhow!("--{name}: {error}"))
    };
    let (effective, bounding) = (set("effective_capabilities")?, set("bounding_capabilities")?);
    let policy = Policy {
        isolation,
        effective,
        bounding,
        profiles: values.text("seccomp_config_dir").map(PathBuf::from),
        profile: values.text("seccomp_profile_name").map(str::to_owned),
        keeps_processes_apart: values.boolean("disallow_sharing_agent_pid_namespace"),
        keeps_ipc_apart: values.boolean("disallow_sharing_agent_ipc_namespace"),
        host_paths: values
            .text("host_path_volume_force_creation")
            .into_iter()
            .flat_map(|text| text.split(':'))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect(),
        shared_memory: values.bytes("default_container_shm_size").map(|size| size.0),
    };
    policy.check().map_err(anyhow::Error::msg)
}

/// The networks of this host.
fn networks(
    values: &Values,
    isolation: &Isolation,
    work_dir: &Path,
    dns: &ContainerDns,
) -> anyhow::Result<Option<Networks>> {
    let (plugins, configs) = ("network_cni_plugins_dir", "network_cni_config_dir");
    // As the original's: it is there, also when it isn't named, and without directories there are no networks.
    match (values.text(plugins), values.text(configs)) {
        (Some(plugins), Some(configs)) => {
            ensure!(
                isolation.has("network/cni") || nix::unistd::geteuid().is_root(),
                "--network_cni_config_dir: networks need root"
            );
            let runtime_dir = Path::new(values.text("runtime_dir").unwrap_or("/var/run/mesos"));
            let kept =
                if values.boolean("network_cni_root_dir_persist") { work_dir } else { runtime_dir };
            let networks = Networks::new(plugins, Path::new(configs), kept, dns.clone());
            networks
                .map(Some)
                .map_err(|reason| anyhow::anyhow!("--network_cni_config_dir: {reason}"))
        }
        (None, None) => Ok(None),
        (Some(_), None) => bail!("Missing required '--{configs}' flag"),
        (None, Some(_)) => bail!("Missing required '--{plugins}' flag"),
    }
}

/// The names in `--resources`: of what is given as nothing (`ports:[]`, `cpus:0`), too, nothing is looked for.
fn named_resources(values: &Values) -> BTreeSet<String> {
    let text = values.text("resources").unwrap_or_default();
    if let Ok(serde_json::Value::Array(all)) = serde_json::from_str(text) {
        let names = all.iter().filter_map(|one| one["name"].as_str());
        return names.map(str::to_owned).collect();
    }
    let name = |part: &str| part.split([':', '(']).next().unwrap_or_default().trim().to_owned();
    text.split(';').map(name).collect()
}

/// What the host has of what isn't given (`slave/containerizer/containerizer.cpp`).
fn with_detected(given: Resources, named: &BTreeSet<String>, work_dir: &Path) -> Resources {
    let mut missing = Vec::new();
    let has = |name: &str| named.contains(name);
    if !has("cpus") {
        missing.push(format!(
            "cpus:{}",
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        ));
    }
    if !has("mem") {
        let total = nix::sys::sysinfo::sysinfo().map_or(512 << 20, |info| info.ram_total()) >> 20;
        missing.push(format!("mem:{}", if total >= 2048 { total - 1024 } else { total / 2 }));
    }
    if !has("disk") {
        let below = work_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let total = nix::sys::statvfs::statvfs(below)
            .map_or(0, |stat| stat.blocks() * stat.fragment_size())
            >> 20;
        missing.push(format!(
            "disk:{}",
            if total >= 10 * 1024 { total - 5 * 1024 } else { total / 2 }
        ));
    }
    if !has("ports") {
        missing.push("ports:[31000-32000]".to_owned());
    }
    let mut all = given;
    if let Ok(detected) = Resources::parse(&missing.join(";"), "*") {
        all.add(&detected);
    }
    all
}

/// The part of the disk that is to stay free.
fn headroom(values: &Values) -> anyhow::Result<f64> {
    let text = values.text("gc_disk_headroom").unwrap_or("0.1");
    let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
    part.with_context(|| {
        format!("--gc_disk_headroom: '{text}' is no part of a disk: expecting 0.0 to 1.0")
    })
}

/// What the core is to know.
pub(super) fn settings(
    values: &Values,
    work_dir: &Path,
    endpoint: SocketAddr,
) -> anyhow::Result<Settings> {
    let duration = |name: &str| values.duration(name).unwrap_or_default();
    let executor_environment = match values.text("executor_environment_variables") {
        None => None,
        Some(text) => Some(
            serde_json::from_str::<BTreeMap<String, String>>(text)
                .context("--executor_environment_variables: expecting a JSON object of strings")?,
        ),
    };
    Ok(Settings {
        work_dir: work_dir.to_owned(),
        runtime_dir: PathBuf::from(values.text("runtime_dir").unwrap_or("/var/run/mesos")),
        launcher_dir: PathBuf::from(values.text("launcher_dir").unwrap_or("/usr/libexec/mesos")),
        executor_registration_timeout: duration("executor_registration_timeout"),
        executor_reregistration_timeout: duration("executor_reregistration_timeout"),
        executor_shutdown_grace_period: duration("executor_shutdown_grace_period"),
        recovery_timeout: duration("recovery_timeout"),
        registration_backoff_factor: duration("registration_backoff_factor"),
        completed_executors_max: values
            .number("max_completed_executors_per_framework")
            .unwrap_or(150) as usize,
        executor_environment,
        tls_environment: Vec::new(),
        default_container: given::container(values)?,
        executor_key: access::flags::key(values)?,
        gc_delay: duration("gc_delay"),
        gc_disk_headroom: headroom(values)?,
        oversubscribed: Vec::new(),
        has_cpu_quota: values.boolean("cgroups_enable_cfs"),
        switch_user: values.boolean("switch_user"),
        check_user: crate::containerizer::check_user,
        cleans_up: values.text("recover") == Some("cleanup"),
        ip: values.text("ip").map(str::to_owned),
        endpoint,
        ip6: None,
        credential: None,
        authentication_timeout: (
            duration("authentication_timeout_min"),
            duration("authentication_timeout_max"),
        ),
        seed: rand::random(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[&str]) -> Result<Values, String> {
        let given = ["--master=127.0.0.1:5050", "--work_dir=/tmp/w", "--launcher=posix"];
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let given = given.iter().filter(|own| !flags.iter().any(|flag| name(flag) == name(own)));
        let arguments = given.chain(flags).map(|flag| (*flag).to_owned());
        flags::table().load(arguments, std::iter::empty()).map_err(|error| error.to_string())
    }

    fn refusal(flags: &[&str]) -> String {
        match load(flags).map(|values| check(&values)) {
            Err(error) => error,
            Ok(Err(error)) => format!("{error:#}"),
            Ok(Ok(plan)) => panic!("{flags:?} taken: {plan:?}"),
        }
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_by_name() {
        for (flag, expected) in [
            ("--frobnicate=1", "frobnicate"),
            ("--resources=cpus:x", "--resources: "),
            ("--resources=cpus", "--resources: "),
            ("--attributes=a", "--attributes: "),
            (
                r#"--agent_features={"capabilities":[{"type":"MULTI_ROLE"}]}"#,
                "At least the following agent features need to be enabled: MULTI_ROLE, ",
            ),
            ("--default_container_info={}", "--default_container_info: "),
            ("--domain=here", "--domain: syntax error"),
            (r#"--domain={"fault_domain":{}}"#, "--domain: "),
            (
                r#"--resources=[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"a"}]}]"#,
                "--resources: Dynamic reservations cannot be specified at the command line",
            ),
            (
                r#"--resources=[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}]"#,
                "--resources: Revocable resources cannot be specified at the command line",
            ),
            (
                r#"--resources=[{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"MOUNT","mount":{"root":"/no/such"}}}}]"#,
                "--resources: Failed to determine `realpath` for the disk '/no/such'",
            ),
            (
                r#"--resources=[{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"source":{"type":"MOUNT","mount":{"root":"/proc/self"}}}}]"#,
                "in /proc/mounts",
            ),
            ("--master=", "--master"),
            ("--work_dir=relative", "'relative' is no absolute path"),
            ("--containerizers=docker,rkt", "containerizer: rkt"),
            ("--containerizers=docker,docker", "'docker' is there twice"),
            ("--isolation=cgroups/mem", "needs --launcher=linux"),
            ("--isolation=posix/cpu,docker/runtimes", "isolator 'docker/runtimes'"),
            ("--nvidia_gpu_devices=0", "if the `--isolation` flag contains 'gpu/nvidia'"),
            ("--allowed_devices={}", "needs --isolation=cgroups/devices"),
            ("--cgroups_net_cls_primary_handle=1", "need --isolation=cgroups/net_cls"),
            ("--cgroups_pids_max=10", "needs --isolation=cgroups/pids"),
            ("--launcher=windows", "neither linux nor posix"),
            ("--executor_registration_timeout=15", "executor_registration_timeout"),
            ("--executor_reregistration_timeout=16secs", "at most 15secs"),
            ("--port=70000", "--port: 70000 is no port"),
            ("--ip=localhost", "'localhost' is no address"),
            ("--ip_discovery_command=exit 3", "--ip_discovery_command ended with"),
            ("--ip_discovery_command=echo here", "'here', which is no address"),
            ("--recover=maybe", "--recover must be"),
            ("--reconfiguration_policy=any", "--reconfiguration_policy must be"),
            ("--modules_dir=/no/such", "--modules_dir: /no/such: No such file"),
            ("--image_providers=docker", "needs --isolation=filesystem/linux"),
            (
                "--image_gc_config={\"image_disk_watch_interval\": {\"nanoseconds\": 1}}",
                "needs --image_providers",
            ),
            ("--ip6=10.0.0.1", "--ip6: '10.0.0.1' is no address"),
            ("--hooks=a", "--hooks is not supported by this agent: native modules"),
            ("--authenticate_http_executors", "--jwt_secret_key must be specified"),
            ("--jwt_secret_key=/no/such/file", "--jwt_secret_key: /no/such/file: No such"),
            ("--firewall_rules={}x", "firewall_rules"),
            (
                "--authenticate_http_readwrite",
                "--authenticate_http_readwrite needs --http_credentials",
            ),
        ] {
            let text = refusal(&[flag]);
            assert!(text.contains(expected), "{flag}: {text}");
        }
        let both = refusal(&["--ip=127.0.0.1", "--ip_discovery_command=true"]);
        assert!(both.contains("Only one of `--ip` or `--ip_discovery_command`"), "{both}");
    }

    #[test]
    fn the_guides_flags_are_taken() {
        let flags = [
            "--containerizers=docker,mesos",
            "--executor_registration_timeout=15mins",
            "--resources=cpus:2;mem:512;ports:[1-9]",
        ];
        let values = load(&flags).unwrap();
        let plan = check(&values).unwrap();
        assert_eq!(plan.containerizers, ["docker", "mesos"]);
        assert_eq!((plan.resources.cpus(), plan.resources.mem()), (2.0, 512.0));
        assert!(plan.resources.get("disk") > 0.0, "looked up");
        let settings =
            settings(&values, &plan.work_dir, "127.0.0.1:5051".parse().unwrap()).unwrap();
        assert_eq!(settings.executor_registration_timeout, Duration::from_secs(900));
    }

    #[test]
    fn of_what_is_given_as_nothing_nothing_is_looked_for() {
        let text = r#"--resources=[{"name": "mem", "type": "SCALAR", "scalar": {"value": 0}}]"#;
        for (flag, cpus, mem, ports) in
            [("--resources=cpus:0;ports:[]", false, true, false), (text, true, false, true)]
        {
            let plan = check(&load(&[flag]).unwrap()).unwrap();
            let found = &plan.resources;
            let has = (found.cpus() > 0.0, found.mem() > 0.0, !found.ports().is_empty());
            assert_eq!(has, (cpus, mem, ports), "{flag}");
        }
    }

    #[test]
    fn a_work_dir_is_for_one_agent_that_may_write_to_it() {
        let directory = tempfile::TempDir::new().unwrap();
        let work_dir = directory.path().join("w");
        let claimed = claim_work_dir(&work_dir).unwrap();
        let text = claim_work_dir(&work_dir).unwrap_err().to_string();
        assert!(text.contains("another agent runs on"), "{text}");
        drop(claimed);
        claim_work_dir(&work_dir).unwrap();

        std::fs::write(directory.path().join("file"), "").unwrap();
        let text = format!("{:#}", claim_work_dir(&directory.path().join("file")).unwrap_err());
        assert!(text.contains("can't be written to by this agent, which runs as user"), "{text}");
    }
}
