//! What a task or an executor asks of Docker: the body of the call that makes its container, equivalent to what the
//! original's `docker run` line would make (Mesos' `docker/docker.cpp`).

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, Mount, MountType, NetworkingConfig,
    PortBinding,
};
use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::container_info::DockerInfo;
use mesos::v1::container_info::docker_info::Network;

use super::parameters::{self, Filled};
use crate::containerizer::dns::ContainerDns;
use crate::containerizer::resource_limits::{self, Most, ResourceLimits};
use crate::executor::command::environment;

/// What is asked of Docker.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The container's name.
    pub name: &'a str,
    /// What it is.
    pub container: &'a v1::ContainerInfo,
    /// What runs in it.
    pub command: &'a v1::CommandInfo,
    /// What it asks for.
    pub resources: &'a Resources,
    /// What it may take of that.
    pub limits: &'a ResourceLimits,
    /// Where its sandbox is on this host.
    pub sandbox: &'a str,
    /// Where its sandbox is in it (`--sandbox_directory`).
    pub mapped: &'a str,
    /// Whether it has no more CPU time than it asks for (`--cgroups_enable_cfs`).
    pub has_quota: bool,
    /// Variables of its environment that come before the command's own.
    pub variables: Vec<(String, String)>,
    /// Name servers, where its parameters name none (`--default_container_dns`).
    pub dns: &'a ContainerDns,
}

/// As Docker counts.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What is asked of Docker, as the Engine's API takes it.
///
/// # Errors
/// What the original refuses, and parameters that this agent doesn't know.
pub fn container(asked: Asked<'_>) -> Result<ContainerCreateBody, String> {
    let Asked { name, container: info, command, resources, limits, sandbox, mapped, .. } = asked;
    let docker = info.docker.clone().ok_or("No docker info found in container info")?;
    let mut all = asked.variables;
    for variable in environment(command) {
        if !all.iter().any(|(name, _)| *name == variable.0) {
            all.push(variable);
        }
    }
    for (name, value) in [("MESOS_SANDBOX", mapped), ("MESOS_CONTAINER_NAME", name)] {
        all.retain(|(own, _)| own != name);
        all.push((name.to_owned(), value.to_owned()));
    }
    let env = all.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let (mut volumes, volume_driver) = volumes(info, &docker, sandbox, mapped)?;
    persistent_volumes(&mut volumes, resources, sandbox);
    let network = network(info, &docker)?;
    if docker.network() == Network::Host && info.hostname.is_some() {
        return Err("Unable to set hostname with host network mode".to_owned());
    }
    let bindings = port_bindings(&docker, resources)?;
    let quota = match limits.cpu_quota(resources, asked.has_quota) {
        Some(Most::Number(quota)) => Some(signed(quota)),
        Some(Most::Infinite) | None => None,
    };
    let memory = match limits.memory(resources) {
        Most::Number(memory) => Some(signed(memory)),
        Most::Infinite => None,
    };
    let reserved = limits.mem.map(|_| signed(resource_limits::memory_asked(resources)));
    let mut host = HostConfig {
        binds: Some(volumes.binds),
        mounts: Some(volumes.mounts),
        volume_driver,
        privileged: Some(docker.privileged()),
        cpu_shares: Some(signed(resource_limits::cpu_shares(resources))),
        cpu_period: quota.map(|_| signed(resource_limits::CPU_PERIOD)),
        cpu_quota: quota,
        memory,
        memory_reservation: reserved,
        oom_score_adj: limits.oom_score_adjustment(resources).map(i64::from),
        network_mode: Some(network.clone()),
        port_bindings: Some(bindings.clone()),
        ..Default::default()
    };
    let names_servers = docker.parameters.iter().any(|own| parameters::is_dns(&own.key));
    if let Some(dns) = asked.dns.of_docker(docker.network(), &network).filter(|_| !names_servers) {
        host.dns = Some(dns.nameservers.clone());
        host.dns_search = Some(dns.search.clone());
        host.dns_options = Some(dns.options.clone());
    }
    let body = ContainerCreateBody {
        image: Some(docker.image.clone()),
        hostname: info.hostname.clone(),
        exposed_ports: Some(bindings.into_keys().collect()),
        ..Default::default()
    };
    let mut filled = Filled { body, host, env, ..Filled::default() };
    for parameter in &docker.parameters {
        parameters::apply(&mut filled, parameter)?;
    }
    let Filled { mut body, host, env, labels, endpoint } = filled;
    if endpoint != EndpointSettings::default() {
        // The network that a parameter names comes after the container's.
        let name = host.network_mode.clone().unwrap_or(network);
        body.networking_config =
            Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(name, endpoint)])) });
    }
    if command.shell() {
        let Some(line) = &command.value else {
            return Err("Shell specified but no command value provided".to_owned());
        };
        // Of options that are there twice Docker takes the last, and parameters come after what Mesos says.
        body.entrypoint.get_or_insert_with(|| vec!["/bin/sh".to_owned()]);
        body.cmd = Some(vec!["-c".to_owned(), line.clone()]);
    } else if command.value.is_some() || !command.arguments.is_empty() {
        body.cmd = Some(command.value.iter().chain(&command.arguments).cloned().collect());
    }
    body.env = Some(env);
    body.labels = (!labels.is_empty()).then_some(labels);
    body.host_config = Some(host);
    Ok(body)
}

/// What is mounted.
#[derive(Debug, Default)]
struct Volumes {
    /// As `docker run -v` takes it.
    binds: Vec<String>,
    /// What that form has no room for.
    mounts: Vec<Mount>,
}

impl Volumes {
    /// Mounts a path of this host, or a volume. Ids of tasks, and with them sandboxes, may have colons in them, which part
    /// fields in Docker's short form.
    fn add(&mut self, outside: &str, inside: &str, mode: Option<&str>) {
        if outside.starts_with('/') && outside.contains(':') {
            self.mounts.push(Mount {
                source: Some(outside.to_owned()),
                target: Some(inside.to_owned()),
                typ: Some(MountType::BIND),
                read_only: Some(mode == Some("ro")),
                ..Default::default()
            });
            return;
        }
        let mode = mode.map(|mode| format!(":{mode}")).unwrap_or_default();
        self.binds.push(format!("{outside}:{inside}{mode}"));
    }
}

/// The agent links persistent volumes into the sandbox; in the container the links must lead to the same.
fn persistent_volumes(volumes: &mut Volumes, resources: &Resources, sandbox: &str) {
    for volume in resources.persistent_volumes().to_protos() {
        let inside = volume.disk.and_then(|disk| disk.volume).map(|volume| volume.container_path);
        let link = inside.map(|inside| std::path::Path::new(sandbox).join(inside));
        if let Some(Ok(source)) = link.map(std::fs::read_link) {
            let source = source.display().to_string();
            volumes.add(&source, &source, Some("rw"));
        }
    }
}

/// Volumes as `docker run -v` would take them, the sandbox's first, and the driver of those that have one. Those that only
/// the mesos containerizer has are passed over, as by the original.
fn volumes(
    info: &v1::ContainerInfo,
    docker: &DockerInfo,
    sandbox: &str,
    mapped: &str,
) -> Result<(Volumes, Option<String>), String> {
    let mut all = Volumes::default();
    all.add(sandbox, mapped, None);
    let mut driver: Option<String> = None;
    for volume in &info.volumes {
        let path = &volume.container_path;
        let is_relative = !path.starts_with('/');
        let inside = if is_relative { format!("{mapped}/{path}") } else { path.clone() };
        let outside = match (&volume.host_path, &volume.source) {
            (Some(host), _) if host.starts_with('/') => host.clone(),
            (Some(host), _) if is_relative => {
                return Err(format!(
                    "Both host_path '{host}' and container_path '{path}' of a volume are relative"
                ));
            }
            // With a driver it is a volume's name.
            (Some(host), _) if docker.volume_driver.is_some() => host.clone(),
            (Some(host), _) => format!("{sandbox}/{host}"),
            (None, Some(source)) => {
                let named = source.docker_volume.as_ref();
                let is_dockers = source.r#type() == v1::volume::source::Type::DockerVolume;
                let Some(named) = named.filter(|_| is_dockers) else {
                    let kind = source.r#type().as_str_name();
                    tracing::warn!(path, kind, "a volume that Docker does not have: passed over");
                    continue;
                };
                if let (Some(own), Some(other)) = (&driver, &named.driver)
                    && own != other
                {
                    return Err("Only one volume driver is supported".to_owned());
                }
                driver = driver.or_else(|| named.driver.clone());
                named.name.clone()
            }
            (None, None) => return Err("Host path or volume source is required".to_owned()),
        };
        let mode = if volume.mode() == v1::volume::Mode::Ro { "ro" } else { "rw" };
        all.add(&outside, &inside, Some(mode));
    }
    match (driver, docker.volume_driver.clone()) {
        (Some(own), Some(other)) if own != other => {
            Err("Only one volume driver per task is supported".to_owned())
        }
        (own, other) => Ok((all, own.or(other))),
    }
}

fn network(info: &v1::ContainerInfo, docker: &DockerInfo) -> Result<String, String> {
    Ok(match docker.network() {
        Network::Host => "host".to_owned(),
        Network::Bridge => "bridge".to_owned(),
        Network::None => "none".to_owned(),
        Network::User => match &info.network_infos[..] {
            [only] => only.name.clone().ok_or("No network name found in network info")?,
            [] => return Err("No network info found in container info".to_owned()),
            _ => return Err("Only a single network can be defined in Docker run".to_owned()),
        },
    })
}

fn port_bindings(
    docker: &DockerInfo,
    resources: &Resources,
) -> Result<HashMap<String, Option<Vec<PortBinding>>>, String> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    if docker.port_mappings.is_empty() {
        return Ok(bindings);
    }
    if !matches!(docker.network(), Network::Bridge | Network::User) {
        return Err(
            "Port mappings are only supported for bridge and user-defined networks".to_owned()
        );
    }
    let own = resources.ports();
    if own.is_empty() {
        return Err("Port mappings require port resources".to_owned());
    }
    for mapping in &docker.port_mappings {
        if !own.has(u64::from(mapping.host_port)) {
            return Err(format!("Port [{}] not included in resources", mapping.host_port));
        }
        let protocol = mapping.protocol.as_deref().unwrap_or("tcp").to_lowercase();
        let key = format!("{}/{protocol}", mapping.container_port);
        let binding = PortBinding { host_ip: None, host_port: Some(mapping.host_port.to_string()) };
        bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(text: &str) -> v1::TaskInfo {
        mesos::json::from_slice(text.as_bytes(), mesos::json::Dialect::V1).unwrap()
    }

    fn of(task: &v1::TaskInfo, variables: &[(&str, &str)]) -> Result<ContainerCreateBody, String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        container(Asked {
            name: "mesos-x",
            container: &task.container.clone().unwrap_or_default(),
            command: &task.command.clone().unwrap_or_default(),
            resources: &Resources::from_protos(&task.resources),
            limits: &ResourceLimits::of(&task.limits),
            sandbox: "/s",
            mapped: "/mnt/mesos/sandbox",
            has_quota: true,
            variables: variables.iter().map(pair).collect(),
            dns: &ContainerDns::parse(
                r#"{"docker":[{"network_mode":"BRIDGE","dns":{"nameservers":["10.0.0.1"],"search":["a"]}}]}"#,
            )
            .unwrap(),
        })
    }

    #[test]
    fn a_bridged_app_becomes_what_docker_run_would_make() {
        let info = task(
            r#"{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},
            "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}},{"name":"mem","type":"SCALAR","scalar":{"value":64}},{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31000}]}}],
            "command":{"shell":true,"value":"httpd -f","environment":{"variables":[{"name":"PORT0","value":"31000"}]}},
            "container":{"type":"DOCKER","docker":{"image":"busybox","network":"BRIDGE","port_mappings":[{"host_port":31000,"container_port":80,"protocol":"tcp"}],"parameters":[{"key":"label","value":"a=b"}]}}}"#,
        );
        let given = [("PORT0", "1"), ("MESOS_SANDBOX", "/s"), ("A", "b")];
        let body = of(&info, &given).unwrap();
        let host = body.host_config.unwrap();
        assert_eq!(
            (host.cpu_shares, host.memory, host.network_mode.as_deref()),
            (Some(512), Some(64 << 20), Some("bridge"))
        );
        assert_eq!((host.cpu_period, host.cpu_quota), (Some(100_000), Some(50_000)));
        assert_eq!(
            host.port_bindings.unwrap()["80/tcp"].as_ref().unwrap()[0].host_port.as_deref(),
            Some("31000")
        );
        assert_eq!(
            (body.entrypoint, body.cmd),
            (Some(vec!["/bin/sh".into()]), Some(vec!["-c".into(), "httpd -f".into()]))
        );
        let expected =
            ["PORT0=1", "A=b", "MESOS_SANDBOX=/mnt/mesos/sandbox", "MESOS_CONTAINER_NAME=mesos-x"];
        assert_eq!(body.env.unwrap(), expected, "each once, what the agent says first");
        assert_eq!(body.labels.unwrap()["a"], "b");
        assert_eq!(host.dns.unwrap(), ["10.0.0.1"], "the operator's, in this network");
    }

    #[test]
    fn parameters_come_after_what_mesos_says() {
        let info = task(
            r#"{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},"command":{"value":"x"},
            "container":{"type":"DOCKER","docker":{"image":"i","network":"BRIDGE","parameters":[{"key":"entrypoint","value":"/e"},{"key":"dns-search","value":"b"}]}}}"#,
        );
        let body = of(&info, &[]).unwrap();
        let host = body.host_config.unwrap();
        assert_eq!(body.entrypoint.unwrap(), ["/e"]);
        assert_eq!(body.cmd.unwrap(), ["-c", "x"]);
        assert_eq!((host.dns, host.dns_search), (None, Some(vec!["b".to_owned()])));
    }

    #[test]
    fn limits_go_beyond_what_is_reserved() {
        let with = |limits: &str| {
            let task = task(&format!(
                r#"{{"name":"t","task_id":{{"value":"t"}},"agent_id":{{"value":"a"}},"command":{{"shell":false}},"limits":{limits},
                "resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":0.5}}}},{{"name":"mem","type":"SCALAR","scalar":{{"value":64}}}}],
                "container":{{"type":"DOCKER","docker":{{"image":"i"}}}}}}"#
            ));
            let host = of(&task, &[]).unwrap().host_config.unwrap();
            (host.cpu_quota, host.memory, host.memory_reservation, host.oom_score_adj.is_some())
        };
        for (limits, expected) in [
            ("{}", (Some(50_000), Some(64 << 20), None, false)),
            (
                r#"{"cpus":{"value":2},"mem":{"value":96}}"#,
                (Some(200_000), Some(96 << 20), Some(64 << 20), true),
            ),
            (
                r#"{"cpus":{"value":"Infinity"},"mem":{"value":"Infinity"}}"#,
                (None, None, Some(64 << 20), true),
            ),
        ] {
            assert_eq!(with(limits), expected, "{limits}");
        }
    }

    #[test]
    fn ports_that_are_not_the_tasks_and_unknown_parameters_are_refused() {
        let with = |docker: &str| {
            task(&format!(
                r#"{{"name":"t","task_id":{{"value":"t"}},"agent_id":{{"value":"a"}},"command":{{"shell":false}},"container":{{"type":"DOCKER","docker":{docker}}}}}"#
            ))
        };
        let refused = |docker: &str| of(&with(docker), &[]).unwrap_err();
        assert_eq!(
            refused(
                r#"{"image":"i","network":"BRIDGE","port_mappings":[{"host_port":1,"container_port":2}]}"#
            ),
            "Port mappings require port resources"
        );
        for (docker, expected) in [
            (r#"{"image":"i","network":"USER"}"#, "No network info found in container info"),
            (
                r#"{"image":"i","port_mappings":[{"host_port":1,"container_port":2}]}"#,
                "Port mappings are only supported for bridge and user-defined networks",
            ),
        ] {
            assert_eq!(refused(docker), expected);
        }
        let mut no_command = with(r#"{"image":"i"}"#);
        no_command.command = Some(v1::CommandInfo::default());
        let refusal = of(&no_command, &[]).unwrap_err();
        assert_eq!(refusal, "Shell specified but no command value provided");
        assert!(
            refused(r#"{"image":"i","parameters":[{"key":"frobnicate","value":"x"}]}"#)
                .contains("frobnicate")
        );
    }

    #[test]
    fn volumes_are_where_the_original_puts_them() {
        let host = |text: &str| {
            let info = task(&format!(
                r#"{{"name":"t","task_id":{{"value":"t"}},"agent_id":{{"value":"a"}},"command":{{"shell":false}},"container":{{"type":"DOCKER","volumes":{text},"docker":{{"image":"i"}}}}}}"#
            ));
            of(&info, &[]).map(|body| body.host_config.unwrap())
        };
        let given = host(r#"[{"container_path":"data","host_path":"/h","mode":"RO"},{"container_path":"/c","host_path":"sub","mode":"RW"},{"container_path":"/v","mode":"RW","source":{"type":"DOCKER_VOLUME","docker_volume":{"name":"vol","driver":"rexray"}}}]"#).unwrap();
        let expected =
            ["/s:/mnt/mesos/sandbox", "/h:/mnt/mesos/sandbox/data:ro", "/s/sub:/c:rw", "vol:/v:rw"];
        assert_eq!(given.binds.unwrap(), expected);
        assert_eq!(given.volume_driver.as_deref(), Some("rexray"));
        assert_eq!(given.network_mode.as_deref(), Some("host"), "the default");
        let both = host(r#"[{"container_path":"a","host_path":"b","mode":"RW"}]"#).unwrap_err();
        assert!(both.contains("are relative"), "{both}");
        let others = host(r#"[{"container_path":"a","mode":"RW","source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"SELF","path":"b"}}}]"#).unwrap();
        assert_eq!(others.binds.unwrap(), ["/s:/mnt/mesos/sandbox"], "passed over");
        for (text, expected) in [
            (r#"[{"container_path":"/a","mode":"RW"}]"#, "Host path or volume source is required"),
            (
                r#"[{"container_path":"/a","mode":"RW","source":{"type":"DOCKER_VOLUME","docker_volume":{"name":"a","driver":"b"}}},{"container_path":"/c","mode":"RW","source":{"type":"DOCKER_VOLUME","docker_volume":{"name":"a","driver":"d"}}}]"#,
                "Only one volume driver is supported",
            ),
        ] {
            assert_eq!(host(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn sandboxes_of_tasks_with_colons_are_mounted_too() {
        let mut all = Volumes::default();
        all.add("/w/ct:1:0:job/runs/x", "/mnt/mesos/sandbox", None);
        all.add("/host", "/c", Some("ro"));
        all.add("vol", "/v", Some("rw"));
        assert_eq!(all.binds, ["/host:/c:ro", "vol:/v:rw"]);
        assert_eq!(all.mounts[0].source.as_deref(), Some("/w/ct:1:0:job/runs/x"));
        assert_eq!((all.mounts.len(), all.mounts[0].read_only), (1, Some(false)));
    }

    #[test]
    fn with_a_driver_a_relative_host_path_is_a_volumes_name() {
        let info = task(
            r#"{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},"command":{"shell":false},
            "container":{"type":"DOCKER","volumes":[{"container_path":"/c","host_path":"vol","mode":"RO"}],"docker":{"image":"i","volume_driver":"rexray"}}}"#,
        );
        let host = of(&info, &[]).unwrap().host_config.unwrap();
        assert_eq!(host.binds.unwrap()[1], "vol:/c:ro");
        assert_eq!(host.volume_driver.as_deref(), Some("rexray"));
    }
}
