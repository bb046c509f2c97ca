//! A container in Docker, from its start to its end. An executor that Docker runs by itself has a process of ours
//! beside it, as the original has `docker run`: it outlives the agent, copies output, passes signals on, and ends as the
//! container does.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, EndpointSettings};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    LogsOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use futures::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::connect;
use crate::containerizer::first::SIGNALS;
use crate::containerizer::helper;

/// Pause between two questions to a daemon that is away.
const RETRY: Duration = Duration::from_secs(1);
/// How long output may still come when the container has ended.
const DRAIN: Duration = Duration::from_secs(10);
/// The name of the part of [`helper`] that stays beside a container.
pub const FOLLOW: &str = "follow-docker";

/// A container that has begun.
#[derive(Debug)]
pub struct Running {
    /// What `docker inspect` says of it.
    pub data: Vec<u8>,
    /// Its addresses, if it has some of its own: of version 4, of version 6.
    pub ips: Vec<IpAddr>,
    /// Its first process.
    pub pid: Option<i64>,
}

/// Makes a container and starts it.
///
/// # Errors
/// What the daemon says.
pub async fn start(
    docker: &Docker,
    name: &str,
    body: ContainerCreateBody,
) -> Result<Running, String> {
    let text = |error: bollard::errors::Error| error.to_string();
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    docker.create_container(Some(options), body).await.map_err(text)?;
    docker.start_container(name, None::<StartContainerOptions>).await.map_err(text)?;
    let inspected =
        docker.inspect_container(name, None::<InspectContainerOptions>).await.map_err(text)?;
    let networks =
        inspected.network_settings.as_ref().and_then(|network| network.networks.as_ref());
    let first = |of: fn(&EndpointSettings) -> Option<&String>| {
        let mut all = networks.into_iter().flat_map(HashMap::values);
        all.find_map(|network| of(network)?.parse().ok())
    };
    let ip4: Option<IpAddr> = first(|network| network.ip_address.as_ref());
    let ip6: Option<IpAddr> = first(|network| network.global_ipv6_address.as_ref());
    Ok(Running {
        data: serde_json::to_vec(&[&inspected]).unwrap_or_default(),
        ips: ip4.into_iter().chain(ip6).collect(),
        pid: inspected.state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0),
    })
}

/// Runs a command in a container that runs; its exit status.
///
/// # Errors
/// What the daemon says.
pub async fn execute(
    socket: &Path,
    name: &str,
    words: Vec<String>,
    variables: Vec<(String, String)>,
) -> Result<Option<i32>, String> {
    let text = |error: bollard::errors::Error| error.to_string();
    let docker = connect(socket).await?;
    let options = CreateExecOptions {
        cmd: Some(words),
        env: Some(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let made = docker.create_exec(name, options).await.map_err(text)?;
    let started = docker.start_exec(&made.id, None::<StartExecOptions>).await.map_err(text)?;
    if let StartExecResults::Attached { mut output, .. } = started {
        // Its end is the command's; what it says is nobody's.
        while output.next().await.is_some() {}
    }
    let ended = docker.inspect_exec(&made.id).await.map_err(text)?;
    Ok(ended.exit_code.and_then(|code| i32::try_from(code).ok()))
}

/// Copies a container's output to the sandbox, which is the working directory.
pub async fn copy_output(docker: Docker, name: String) {
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

/// Waits for a container's end: its exit status.
///
/// # Errors
/// When there is no such container any more.
pub async fn wait(docker: Docker, name: String) -> Result<i64, String> {
    loop {
        let mut ends = docker.wait_container(&name, None::<WaitContainerOptions>);
        match ends.next().await {
            Some(Ok(end)) => return Ok(end.status_code),
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => {
                return Ok(code);
            }
            // A daemon that is restarted (with live-restore) keeps the container: ask again.
            Some(Err(error)) => {
                match docker.inspect_container(&name, None::<InspectContainerOptions>).await {
                    Err(bollard::errors::Error::DockerResponseServerError {
                        status_code: 404,
                        ..
                    }) => {
                        return Err(error.to_string());
                    }
                    Ok(_) | Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
            None => tokio::time::sleep(RETRY).await,
        }
    }
}

/// The arguments of the process that stays beside a container.
pub fn follower(socket: &Path, name: &str) -> Vec<String> {
    vec![format!("--container={name}"), format!("--docker_socket={}", socket.display())]
}

/// Stays beside a container until it ends; its exit status.
///
/// # Errors
/// When it is not started by an agent, or the container is gone.
pub fn follow(arguments: &[String]) -> anyhow::Result<u8> {
    let flag = |name: &str| {
        let value = arguments.iter().find_map(|argument| argument.strip_prefix(name));
        value.map(str::to_owned).with_context(|| format!("{name} is missing"))
    };
    let (name, socket) = (flag("--container=")?, PathBuf::from(flag("--docker_socket=")?));
    let mut told = [0];
    let count = std::io::stdin().read(&mut told)?;
    ensure!(count == 1 && told[0] == helper::GO, "the agent is gone: not watched");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let docker = loop {
            match connect(&socket).await {
                Ok(docker) => break docker,
                Err(error) => tracing::warn!(error, "no daemon"),
            }
            tokio::time::sleep(RETRY).await;
        };
        let (tell, mut heard) = mpsc::channel(16);
        for kind in SIGNALS {
            let mut signals = signal(SignalKind::from_raw(*kind as i32))?;
            let tell = tell.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() && tell.send(*kind).await.is_ok() {}
            });
        }
        let mut output = tokio::spawn(copy_output(docker.clone(), name.clone()));
        let ended = wait(docker.clone(), name.clone());
        tokio::pin!(ended);
        let ended = loop {
            tokio::select! {
                ended = &mut ended => break ended,
                Some(kind) = heard.recv() => {
                    let options = KillContainerOptionsBuilder::default().signal(kind.as_str());
                    // It has just ended: fine.
                    let _ = docker.kill_container(&name, Some(options.build())).await;
                }
            }
        };
        // What it said last is there soon, or never.
        let _ = tokio::time::timeout(DRAIN, &mut output).await;
        let code = ended.map_err(anyhow::Error::msg)?;
        Ok(u8::try_from(code).unwrap_or(u8::MAX))
    })
}
