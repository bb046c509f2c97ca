//! Docker's Engine API, as agent and executor use it: connecting, pulling, ending, removing, finding orphans.

pub mod create;
mod parameters;
pub mod run;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerSummaryStateEnum, ContainerUpdateBody};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures::StreamExt as _;
use mesos::resources::Resources;
use mesos::v1;

use super::at;
use super::images::registry::Credentials;
use super::resource_limits::{self, Most, ResourceLimits};

const TIMEOUT_SECONDS: u64 = 120;
/// How long one order to the daemon may take while cleaning up.
const ORDER: Duration = Duration::from_secs(30);
/// Bytes of a configuration of Docker's.
const CONFIG_MAX: u64 = 1 << 20;
/// What names of Mesos' containers begin with.
const PREFIX: &str = "mesos-";

/// The name of a container in Docker.
pub fn name(container: &str) -> String {
    format!("{PREFIX}{container}")
}

/// Connects, with the newest version of the API that the daemon knows as well.
///
/// # Errors
/// When nobody answers at the socket.
pub async fn connect(socket: &Path) -> Result<Docker, String> {
    let named = |error: bollard::errors::Error| format!("{}: {error}", socket.display());
    let path = socket.to_string_lossy();
    let docker = Docker::connect_with_unix(&path, TIMEOUT_SECONDS, bollard::API_DEFAULT_VERSION);
    docker.map_err(named)?.negotiate_version().await.map_err(named)
}

/// Pulls an image where it is missing or must be fresh. The registry is shown what a configuration of Docker's in the
/// sandbox says, or else `credentials` (`--docker_config`).
///
/// # Errors
/// What the daemon says, or what is wrong with the configuration.
pub async fn pull(
    socket: &Path,
    info: &v1::container_info::DockerInfo,
    sandbox: &Path,
    credentials: &Credentials,
) -> Result<(), String> {
    let docker = connect(socket).await?;
    let has_tag = info.image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let reference = if has_tag { info.image.clone() } else { format!("{}:latest", info.image) };
    if !info.force_pull_image() && docker.inspect_image(&reference).await.is_ok() {
        return Ok(());
    }
    let own = brought(sandbox)?;
    let login = own.as_ref().unwrap_or(credentials).for_docker(&info.image);
    let options = CreateImageOptionsBuilder::default().from_image(&reference).build();
    let mut steps = docker.create_image(Some(options), None, login);
    while let Some(step) = steps.next().await {
        // In the words that operators search for.
        step.map_err(|error| {
            let socket = socket.display();
            format!("Failed to run 'docker -H unix://{socket} pull {reference}': {error}")
        })?;
    }
    Ok(())
}

/// Docker's configuration that a task brought along among its URIs.
fn brought(sandbox: &Path) -> Result<Option<Credentials>, String> {
    for name in [".docker/config.json", ".dockercfg"] {
        let path = sandbox.join(name);
        // It is the task's, and may lead anywhere: nothing but its own files is read for it.
        let Ok(real) = path.canonicalize() else { continue };
        if !sandbox.canonicalize().is_ok_and(|sandbox| real.starts_with(sandbox)) {
            return Err(format!("{name}: it leads out of the sandbox"));
        }
        let found = real.metadata().map_err(at(&path))?;
        if !found.is_file() || found.len() > CONFIG_MAX {
            return Err(format!("{name}: it is no file of at most {CONFIG_MAX} bytes"));
        }
        let content = std::fs::read(&real).map_err(at(&path))?;
        let parsed = Credentials::parse(&content).map_err(|reason| format!("{name}: {reason}"))?;
        return Ok(Some(parsed));
    }
    Ok(None)
}

/// Kills a container, if there is one of that name and it runs.
pub async fn end(socket: &Path, name: &str) {
    let Ok(docker) = connect(socket).await else { return };
    let options = KillContainerOptionsBuilder::default().signal("KILL").build();
    // An error means that there is none, or that it has ended.
    let _ = tokio::time::timeout(ORDER, docker.kill_container(name, Some(options))).await;
}

/// Gives a container other limits: CPUs as they are, memory only more than it has, since what is in use can't be taken
/// back (`DockerContainerizerProcess::__update`).
///
/// # Errors
/// What the daemon says.
pub async fn update(
    socket: &Path,
    name: &str,
    (resources, limits): (&Resources, &ResourceLimits),
    has_quota: bool,
) -> Result<(), String> {
    let text = |error: bollard::errors::Error| error.to_string();
    let docker = connect(socket).await?;
    let inspected =
        docker.inspect_container(name, None::<InspectContainerOptions>).await.map_err(text)?;
    let had = inspected.host_config.and_then(|host| host.memory).unwrap_or_default();
    let quota = limits.cpu_quota(resources, has_quota);
    // No limit is more than any, and Docker's word for none is -1.
    let memory = (had != 0).then(|| limits.memory(resources));
    let memory = match memory {
        Some(Most::Number(bytes)) => Some(create::signed(bytes)).filter(|memory| *memory > had),
        Some(Most::Infinite) => Some(-1),
        None => None,
    };
    let body = ContainerUpdateBody {
        cpu_shares: Some(create::signed(resource_limits::cpu_shares(resources))),
        cpu_period: quota.map(|_| create::signed(resource_limits::CPU_PERIOD)),
        cpu_quota: quota.map(|quota| match quota {
            Most::Number(quota) => create::signed(quota),
            Most::Infinite => -1,
        }),
        memory_reservation: Some(create::signed(resource_limits::memory_asked(resources))),
        memory,
        // As much again, as Docker does where nothing is said.
        memory_swap: memory.map(|memory| if memory < 0 { -1 } else { memory.saturating_mul(2) }),
        ..Default::default()
    };
    docker.update_container(name, body).await.map_err(text)
}

/// Removes a container, running or not, if there is one of that name.
pub async fn remove(socket: &Path, name: &str) {
    let Ok(docker) = connect(socket).await else { return };
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    // An error means that there is none.
    let _ = tokio::time::timeout(ORDER, docker.remove_container(name, Some(options))).await;
}

/// A container that nobody knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub is_running: bool,
}

/// Containers that an agent with this work directory started, and that are not among the `known` ones.
///
/// # Errors
/// What the daemon says.
pub async fn orphans(
    socket: &Path,
    work_dir: &Path,
    known: &BTreeSet<String>,
) -> Result<Vec<Orphan>, String> {
    let docker = connect(socket).await?;
    let filters = HashMap::from([("name", vec![PREFIX])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let all = docker.list_containers(Some(options)).await.map_err(|error| error.to_string())?;
    let is_ours = |mounts: &[bollard::models::MountPoint]| {
        let mut sources = mounts.iter().filter_map(|mount| mount.source.as_deref());
        sources.any(|source| Path::new(source).starts_with(work_dir))
    };
    Ok(all
        .into_iter()
        .filter(|container| is_ours(container.mounts.as_deref().unwrap_or_default()))
        .filter_map(|container| {
            let name = container.names?.first()?.trim_start_matches('/').to_owned();
            let is_running = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            Some(Orphan { name, is_running })
        })
        .filter(|orphan| orphan.name.strip_prefix(PREFIX).is_some_and(|id| !known.contains(id)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_brings_its_own_logins() {
        let sandbox = tempfile::TempDir::new().unwrap();
        assert!(brought(sandbox.path()).unwrap().is_none());
        // user:pass
        let old = r#"{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYXNz","email":"a@b"}}"#;
        std::fs::write(sandbox.path().join(".dockercfg"), old).unwrap();
        let login = |image: &str| brought(sandbox.path()).unwrap().unwrap().for_docker(image);
        let found = login("busybox").unwrap();
        assert_eq!(found.username.as_deref(), Some("user"));
        assert_eq!(found.password.as_deref(), Some("pass"));
        assert!(login("registry.example/busybox").is_none(), "it is for another registry");
        std::fs::create_dir(sandbox.path().join(".docker")).unwrap();
        let new = r#"{"auths":{"registry.example:5000":{"auth":"dXNlcjpwYXNz"}},"credsStore":"x"}"#;
        std::fs::write(sandbox.path().join(".docker/config.json"), new).unwrap();
        let found = login("registry.example:5000/a/b:c").unwrap();
        assert_eq!(found.serveraddress.as_deref(), Some("registry.example:5000"));
        assert!(login("busybox").is_none(), "the newer file alone counts");
        std::fs::remove_file(sandbox.path().join(".docker/config.json")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", sandbox.path().join(".docker/config.json"))
            .unwrap();
        let refused = brought(sandbox.path()).unwrap_err();
        assert!(refused.contains("leads out of the sandbox"), "{refused}");
    }
}
