//! What a task asks of Docker: the body of the call that makes its container, equivalent to what the original's
//! `docker run` line would make (Mesos' `docker/docker.cpp`).

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};
use mesos::v1;
use mesos::v1::container_info::docker_info::Network;

use crate::executor::command::environment;

/// Where the sandbox is in a container.
const SANDBOX: &str = "/mnt/mesos/sandbox";
const MEMORY_MIN: f64 = 32.0;

/// What a task asks of Docker, as the Engine's API takes it.
///
/// # Errors
/// What the original refuses, and parameters that this executor doesn't know.
pub(super) fn container(
    task: &v1::TaskInfo,
    sandbox: &str,
    name: &str,
    variables: Vec<(String, String)>,
) -> Result<ContainerCreateBody, String> {
    let info = task.container.clone().unwrap_or_default();
    let docker = info.docker.clone().ok_or("No DockerInfo found in ContainerInfo")?;
    let command = task.command.clone().unwrap_or_default();
    let resources = mesos::resources::Resources::from_protos(&task.resources);
    let mut env: Vec<String> = variables
        .into_iter()
        .chain(environment(&command))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    env.push(format!("MESOS_SANDBOX={SANDBOX}"));
    env.push(format!("MESOS_CONTAINER_NAME={name}"));
    let mut binds = vec![format!("{sandbox}:{SANDBOX}")];
    for volume in &info.volumes {
        let mode = if volume.mode() == v1::volume::Mode::Ro { "ro" } else { "rw" };
        let host = volume
            .host_path
            .clone()
            .ok_or("volumes without a host path are not supported by this agent yet")?;
        let container = if volume.container_path.starts_with('/') {
            volume.container_path.clone()
        } else {
            format!("{SANDBOX}/{}", volume.container_path)
        };
        let host = if host.starts_with('/') { host } else { format!("{sandbox}/{host}") };
        binds.push(format!("{host}:{container}:{mode}"));
    }
    let network = match docker.network() {
        Network::Host => "host".to_owned(),
        Network::Bridge => "bridge".to_owned(),
        Network::None => "none".to_owned(),
        Network::User => info
            .network_infos
            .first()
            .and_then(|network| network.name.clone())
            .ok_or("User mode networking needs one named network")?,
    };
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    if matches!(docker.network(), Network::Bridge | Network::User) {
        let own = resources.ports();
        for mapping in &docker.port_mappings {
            if !own.has(u64::from(mapping.host_port)) {
                return Err(format!("Port [{}] not included in resources", mapping.host_port));
            }
            let key = format!(
                "{}/{}",
                mapping.container_port,
                mapping.protocol.as_deref().unwrap_or("tcp").to_lowercase()
            );
            let binding =
                PortBinding { host_ip: None, host_port: Some(mapping.host_port.to_string()) };
            bindings.entry(key).or_default().get_or_insert_default().push(binding);
        }
    } else if !docker.port_mappings.is_empty() {
        return Err(
            "Port mappings are only supported for bridge and user-defined networks".to_owned()
        );
    }
    let mut host = HostConfig {
        binds: Some(binds),
        privileged: Some(docker.privileged()),
        cpu_shares: Some(((resources.cpus() * 1024.0) as i64).max(2)),
        memory: Some((resources.mem().max(MEMORY_MIN) * 1_048_576.0) as i64),
        network_mode: Some(network),
        port_bindings: Some(bindings.clone()),
        ..Default::default()
    };
    let mut body = ContainerCreateBody {
        image: Some(docker.image.clone()),
        hostname: info.hostname.clone(),
        exposed_ports: Some(bindings.into_keys().collect()),
        ..Default::default()
    };
    let mut labels: HashMap<String, String> = HashMap::new();
    for parameter in &docker.parameters {
        let value = parameter.value.clone();
        let pair = || {
            value.split_once('=').map_or_else(
                || (value.clone(), String::new()),
                |(key, value)| (key.to_owned(), value.to_owned()),
            )
        };
        match parameter.key.as_str() {
            "label" | "l" => {
                let (key, value) = pair();
                labels.insert(key, value);
            }
            "env" | "e" => env.push(value.clone()),
            "volume" | "v" => host.binds.get_or_insert_default().push(value.clone()),
            "add-host" => host.extra_hosts.get_or_insert_default().push(value.clone()),
            "dns" => host.dns.get_or_insert_default().push(value.clone()),
            "dns-search" => host.dns_search.get_or_insert_default().push(value.clone()),
            "cap-add" => host.cap_add.get_or_insert_default().push(value.clone()),
            "cap-drop" => host.cap_drop.get_or_insert_default().push(value.clone()),
            "hostname" | "h" => body.hostname = Some(value.clone()),
            "user" | "u" => body.user = Some(value.clone()),
            "workdir" | "w" => body.working_dir = Some(value.clone()),
            "entrypoint" => body.entrypoint = Some(vec![value.clone()]),
            "pid" => host.pid_mode = Some(value.clone()),
            "ipc" => host.ipc_mode = Some(value.clone()),
            "read-only" => host.readonly_rootfs = Some(value != "false"),
            other => {
                return Err(format!(
                    "the Docker parameter '{other}' is not supported by this agent yet"
                ));
            }
        }
    }
    if command.shell() && command.value.is_some() {
        body.entrypoint = Some(vec!["/bin/sh".to_owned()]);
        body.cmd = Some(vec!["-c".to_owned(), command.value().to_owned()]);
    } else if command.value.is_some() || !command.arguments.is_empty() {
        body.cmd = Some(command.value.iter().chain(&command.arguments).cloned().collect());
    }
    body.env = Some(env);
    body.labels = (!labels.is_empty()).then_some(labels);
    body.host_config = Some(host);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(text: &str) -> v1::TaskInfo {
        mesos::json::from_slice(text.as_bytes(), mesos::json::Dialect::V1).unwrap()
    }

    #[test]
    fn a_bridged_app_becomes_what_docker_run_would_make() {
        let info = task(
            r#"{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},
            "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}},{"name":"mem","type":"SCALAR","scalar":{"value":64}},{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31000}]}}],
            "command":{"shell":true,"value":"httpd -f","environment":{"variables":[{"name":"PORT0","value":"31000"}]}},
            "container":{"type":"DOCKER","docker":{"image":"busybox","network":"BRIDGE","port_mappings":[{"host_port":31000,"container_port":80,"protocol":"tcp"}],"parameters":[{"key":"label","value":"a=b"}]}}}"#,
        );
        let body = container(&info, "/s", "mesos-x", Vec::new()).unwrap();
        let host = body.host_config.unwrap();
        assert_eq!(
            (host.cpu_shares, host.memory, host.network_mode.as_deref()),
            (Some(512), Some(64 << 20), Some("bridge"))
        );
        assert_eq!(
            host.port_bindings.unwrap()["80/tcp"].as_ref().unwrap()[0].host_port.as_deref(),
            Some("31000")
        );
        assert_eq!(
            (body.entrypoint, body.cmd),
            (Some(vec!["/bin/sh".into()]), Some(vec!["-c".into(), "httpd -f".into()]))
        );
        assert!(body.env.unwrap().contains(&"PORT0=31000".to_owned()));
        assert_eq!(body.labels.unwrap()["a"], "b");
    }

    #[test]
    fn ports_that_are_not_the_tasks_and_unknown_parameters_are_refused() {
        let with = |docker: &str| {
            task(&format!(
                r#"{{"name":"t","task_id":{{"value":"t"}},"agent_id":{{"value":"a"}},"container":{{"type":"DOCKER","docker":{docker}}}}}"#
            ))
        };
        let refused = |docker: &str| container(&with(docker), "/s", "n", Vec::new()).unwrap_err();
        assert_eq!(
            refused(
                r#"{"image":"i","network":"BRIDGE","port_mappings":[{"host_port":1,"container_port":2}]}"#
            ),
            "Port [1] not included in resources"
        );
        assert!(
            refused(r#"{"image":"i","parameters":[{"key":"frobnicate","value":"x"}]}"#)
                .contains("frobnicate")
        );
    }
}
