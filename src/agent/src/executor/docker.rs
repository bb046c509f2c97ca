//! `mesos-docker-executor`: runs one task in a Docker container (Mesos' `docker/executor.cpp`, `docker/docker.cpp`),
//! through the Engine's API.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder, WaitContainerOptions,
};
use futures::StreamExt as _;
use mesos::v1::container_info::docker_info::Network;
use mesos::v1::executor::event;
use mesos::v1::{self, TaskState};
use tokio::sync::mpsc;

use super::client::{Client, Heard};
use super::command::{environment, grace};
use super::health::{self, Place};

/// Where the sandbox is in a container.
const SANDBOX: &str = "/mnt/mesos/sandbox";
const TIMEOUT_SECONDS: u64 = 120;
const FAREWELL: Duration = Duration::from_secs(60);
const MEMORY_MIN: f64 = 32.0;

fn connect(socket: &Path) -> Result<Docker, String> {
    Docker::connect_with_unix(
        &socket.to_string_lossy(),
        TIMEOUT_SECONDS,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| format!("{}: {error}", socket.display()))
}

/// Removes a container, running or not, if there is one of that name.
pub async fn remove(socket: &Path, name: &str) {
    let Ok(docker) = connect(socket) else { return };
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let removal = docker.remove_container(name, Some(options));
    let _ = tokio::time::timeout(Duration::from_secs(30), removal).await;
}

/// What a task asks of Docker, as the Engine's API takes it.
///
/// # Errors
/// What the original refuses, and parameters that this executor doesn't know.
pub fn container(
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

struct Running {
    data: Vec<u8>,
    ip: Option<String>,
}

async fn start(
    docker: &Docker,
    task: &v1::TaskInfo,
    name: &str,
    sandbox: &str,
) -> Result<Running, String> {
    let mut variables = Vec::new();
    if let Ok(role) = std::env::var("MESOS_ALLOCATION_ROLE") {
        variables.push(("MESOS_ALLOCATION_ROLE".to_owned(), role));
    }
    let body = container(task, sandbox, name, variables)?;
    let info = task.container.clone().unwrap_or_default().docker.unwrap_or_default();
    let text = |error: bollard::errors::Error| error.to_string();
    if info.force_pull_image() || docker.inspect_image(&info.image).await.is_err() {
        let reference =
            if info.image.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
                info.image.clone()
            } else {
                format!("{}:latest", info.image)
            };
        let options = CreateImageOptionsBuilder::default().from_image(&reference).build();
        let mut pull = docker.create_image(Some(options), None, None);
        while let Some(step) = pull.next().await {
            step.map_err(|error| format!("Failed to run 'docker pull {}': {error}", info.image))?;
        }
    }
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    docker.create_container(Some(options), body).await.map_err(text)?;
    docker.start_container(name, None::<StartContainerOptions>).await.map_err(text)?;
    let inspected =
        docker.inspect_container(name, None::<InspectContainerOptions>).await.map_err(text)?;
    let ip =
        inspected.network_settings.as_ref().and_then(|network| network.networks.as_ref()).and_then(
            |networks| {
                networks
                    .values()
                    .find_map(|network| network.ip_address.clone().filter(|ip| !ip.is_empty()))
            },
        );
    Ok(Running { data: serde_json::to_vec(&[&inspected]).unwrap_or_default(), ip })
}

/// Copies the container's output to the sandbox.
async fn copy_output(docker: Docker, name: String) {
    let options = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).build();
    let mut logs = docker.logs(&name, Some(options));
    let open = |name: &str| OpenOptions::new().append(true).create(true).open(name);
    let (Ok(mut stdout), Ok(mut stderr)) = (open("stdout"), open("stderr")) else { return };
    while let Some(Ok(output)) = logs.next().await {
        // A full disk loses output, not the task.
        let _ = match output {
            LogOutput::StdErr { message } => stderr.write_all(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                stdout.write_all(&message)
            }
            LogOutput::StdIn { .. } => Ok(()),
        };
    }
}

async fn wait(docker: Docker, name: String, tell: mpsc::Sender<Result<i64, String>>) {
    let mut ends = docker.wait_container(&name, None::<WaitContainerOptions>);
    let ended = match ends.next().await {
        Some(Ok(end)) => Ok(end.status_code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("Docker said nothing of the container's end".to_owned()),
    };
    let _ = tell.send(ended).await;
}

/// Runs until the task is over and the agent knows.
///
/// # Errors
/// When it wasn't started by an agent.
pub async fn run(arguments: &[String]) -> anyhow::Result<()> {
    let flag = |name: &str| {
        arguments
            .iter()
            .find_map(|argument| argument.strip_prefix(&format!("--{name}=")).map(str::to_owned))
    };
    let name = flag("container")
        .context("--container is missing: this program is started by a Mesos agent")?;
    let socket = flag("docker_socket").unwrap_or_else(|| "/var/run/docker.sock".to_owned());
    let sandbox = std::env::var("MESOS_SANDBOX")
        .context("MESOS_SANDBOX is not set: this program is started by a Mesos agent")?;
    let mut client = Client::from_environment()?;
    let docker = connect(Path::new(&socket));
    let (tell_end, mut end) = mpsc::channel(1);
    let (tell_health, mut health) = mpsc::channel(16);
    let mut task: Option<v1::TaskInfo> = None;
    let (mut killed, mut unhealthy, mut over) = (false, false, false);
    let mut farewell = tokio::time::Instant::now();
    loop {
        if over && (client.is_settled() || tokio::time::Instant::now() >= farewell) {
            return Ok(());
        }
        tokio::select! {
            heard = client.next() => {
                let (stop, policy) = match heard {
                    Heard::Reconnect => (false, None),
                    Heard::Shutdown => {
                        remove(Path::new(&socket), &name).await;
                        return Ok(());
                    }
                    Heard::Event(event) => match event.r#type() {
                        event::Type::Launch if task.is_none() => {
                            let info = event.launch.unwrap_or_default().task;
                            client.update(&info.task_id, TaskState::TaskStarting, |_| {}).await;
                            let started = match &docker {
                                Ok(docker) => start(docker, &info, &name, &sandbox).await.map(|running| (docker.clone(), running)),
                                Err(error) => Err(error.clone()),
                            };
                            match started {
                                Err(message) => {
                                    remove(Path::new(&socket), &name).await;
                                    client.update(&info.task_id, TaskState::TaskFailed, |status| {
                                        status.message = Some(format!("Failed to launch container: {message}"));
                                        status.reason = Some(v1::task_status::Reason::ContainerLaunchFailed as i32);
                                    }).await;
                                    over = true;
                                    farewell = tokio::time::Instant::now() + FAREWELL;
                                }
                                Ok((docker, running)) => {
                                    tokio::spawn(copy_output(docker.clone(), name.clone()));
                                    tokio::spawn(wait(docker, name.clone(), tell_end.clone()));
                                    let ip = running.ip.clone();
                                    client.update(&info.task_id, TaskState::TaskRunning, |status| {
                                        status.data = Some(running.data);
                                        if let Some(ip) = running.ip {
                                            let address = v1::network_info::IpAddress { protocol: Some(v1::network_info::Protocol::IPv4 as i32), ip_address: Some(ip) };
                                            let network = v1::NetworkInfo { ip_addresses: vec![address], ..Default::default() };
                                            status.container_status = Some(v1::ContainerStatus { network_infos: vec![network], ..Default::default() });
                                        }
                                    }).await;
                                    if let Some(check) = info.health_check.clone() {
                                        let ip = ip.and_then(|ip| ip.parse().ok()).unwrap_or_else(|| [127, 0, 0, 1].into());
                                        let prefix = ["docker", "-H", &format!("unix://{socket}"), "exec", &name].map(str::to_owned).to_vec();
                                        tokio::spawn(health::watch(check, Place { ip, prefix, environment: Vec::new() }, tell_health.clone()));
                                    }
                                }
                            }
                            task = Some(info);
                            (false, None)
                        }
                        event::Type::Kill => (true, event.kill.and_then(|kill| kill.kill_policy)),
                        event::Type::Shutdown if task.is_none() => return Ok(()),
                        event::Type::Shutdown => (true, None),
                        _ => (false, None),
                    },
                };
                if let (true, false, false, Some(info), Ok(docker)) = (stop, killed, over, &task, &docker) {
                    killed = true;
                    stop_container(docker.clone(), name.clone(), grace(policy.as_ref(), info, Duration::from_secs(5)));
                }
            }
            Some(ended) = end.recv() => {
                if let Some(info) = &task {
                    let (state, message) = match ended {
                        _ if killed => (TaskState::TaskKilled, "Container killed".to_owned()),
                        Ok(0) => (TaskState::TaskFinished, "Container exited with status 0".to_owned()),
                        Ok(code) => (TaskState::TaskFailed, format!("Container exited with status {code}")),
                        Err(error) => (TaskState::TaskFailed, error),
                    };
                    client.update(&info.task_id, state, |status| {
                        status.message = Some(message);
                        if unhealthy {
                            status.healthy = Some(false);
                        }
                    }).await;
                }
                over = true;
                farewell = tokio::time::Instant::now() + FAREWELL;
            }
            Some(found) = health.recv(), if !over => {
                if let Some(info) = &task {
                    client.update(&info.task_id, TaskState::TaskRunning, |status| {
                        status.healthy = Some(found.healthy);
                        status.reason = Some(v1::task_status::Reason::TaskHealthCheckStatusUpdated as i32);
                    }).await;
                    if let (true, false, Ok(docker)) = (found.kill, killed, &docker) {
                        (killed, unhealthy) = (true, true);
                        stop_container(docker.clone(), name.clone(), grace(None, info, Duration::from_secs(5)));
                    }
                }
            }
            () = tokio::time::sleep_until(farewell), if over => {}
        }
    }
}

fn stop_container(docker: Docker, name: String, grace: Duration) {
    tokio::spawn(async move {
        let options = StopContainerOptionsBuilder::default()
            .t(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX))
            .build();
        if let Err(error) = docker.stop_container(&name, Some(options)).await {
            tracing::warn!(name, %error, "container not stopped");
        }
    });
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
