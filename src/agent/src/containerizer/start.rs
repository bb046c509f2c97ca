//! One container's start: its sandbox, its files, its image, its cgroups, its first process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;

use mesos::v1::{self, container_info};
use nix::unistd::{User, chown};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::cgroups::Cgroups;
use super::cni::Joined;
use super::confinement::Confinement;
use super::images::Provisioned;
use super::images::spec::{self, Runtime};
use super::launcher::Config;
use super::view::{Mount, Root, Tree, View};
use super::{
    Launch, Program, Supervision, at, docker, fetch, helper, namespaces, processes, secrets,
    shared, supervise, volumes,
};
use crate::checkpoint::{self, found};
use crate::executor::client::TOKEN;

/// Variables by which an executor of ours learns what concerns only it; its task never sees them.
pub const TASK_USER: &str = "MESOS_TASK_USER";
/// What the task's process gives up, a line each.
pub const TASK_CONFINEMENT: &str = "MESOS_TASK_CONFINEMENT";
/// What the image of the task's container says of what runs in it, as JSON.
pub const TASK_IMAGE: &str = "MESOS_TASK_IMAGE";
/// The task's variables whose values are secrets, as JSON.
pub const TASK_SECRETS: &str = "MESOS_TASK_SECRETS";
/// Where the kernel counts kills for memory in the container's cgroup.
pub const MEMORY_EVENTS: &str = "MESOS_MEMORY_EVENTS";
/// Where the container's limit of memory is.
pub const MEMORY_LIMIT: &str = "MESOS_MEMORY_LIMIT";

/// Starts a container. May be dropped at any time: then there is no process.
///
/// # Errors
/// What went wrong, in words.
pub(super) async fn start(config: &Config, launch: &Launch) -> Result<Child, String> {
    check(config, launch)?;
    let is_nested = launch.run.container.contains('.');
    let user = user(launch, is_nested)?;
    let own_processes = is_for_mesos(&launch.program)
        && config.policy.has_own_processes(launch.container.as_ref(), is_nested)?;
    let hidden = secrets::values(&launch.secrets)?;
    let mut confinement = Confinement::of(&config.policy, launch.container.as_ref())?;
    let is_session = launch.supervision.as_ref().is_some_and(|own| own.is_session);
    confinement.ipc = config.policy.ipc(launch.container.as_ref(), is_nested, is_session)?;
    let shares_ipc =
        is_nested && confinement.ipc.is_none() && config.policy.isolation.has("namespaces/ipc");
    prepare_sandbox(launch, user.as_ref())?;
    let name = user.as_ref().map(|user| user.name.as_str());
    let log = output(launch, "stderr")?;
    let fetcher = fetch::Fetcher {
        shared: &config.fetching,
        sandbox: &launch.sandbox,
        user: name,
        log: Some(&log),
    };
    fetcher.fetch_all(&launch.uris).await.map_err(|error| match error {
        fetch::Error::Invalid(reason) => format!("Could not fetch: {reason}"),
        fetch::Error::Failed(reason) => {
            let container = &launch.run.container;
            format!("Failed to fetch all URIs for container '{container}': {reason}")
        }
    })?;
    let docker = launch.container.as_ref().and_then(|container| container.docker.as_ref());
    if let (Some(docker), false) = (docker, is_for_mesos(&launch.program)) {
        docker::pull(&config.docker_socket, docker, &launch.sandbox, &config.logins).await?;
    }
    let image = image(config, launch).await?;
    let joined = join(config, launch).await?;
    confinement.view = view(config, launch, image.as_ref(), joined.as_ref(), user.as_ref()).await?;
    let has_network = joined.is_some();
    confinement.network = joined.map(|joined| joined.network);
    let confinement = confinement.to_arguments();
    let runtime = image.map(|image| image.runtime);
    let cgroups = config.cgroups.as_ref().filter(|_| is_for_mesos(&launch.program));
    let shared = launch.supervision.as_ref().and_then(|supervision| supervision.shares.as_ref());
    if let (Some(cgroups), None) = (cgroups, shared) {
        let made = tokio::task::block_in_place(|| {
            cgroups.create(&launch.run.container, &launch.resources, &launch.limits)
        });
        made.map_err(|error| error.to_string())?;
    }
    if let Some(supervision) = &launch.supervision {
        prepare_runtime(supervision, launch.run.container.contains('.'))?;
    }
    // Who looks into a container sees what that sees.
    let session = launch.supervision.as_ref().filter(|supervision| supervision.is_session);
    let beside = session.and_then(|supervision| supervision.beside).map(namespaces::of_task);
    let mut command = command(
        config,
        launch,
        user.as_ref(),
        &confinement,
        &Shares { beside, own_processes, ipc: shares_ipc },
        runtime.as_ref(),
    )?;
    command
        .env_clear()
        .envs(beside.map(processes::environment).unwrap_or_default())
        // The executor's own: not for those who look into its container.
        .env_remove(TOKEN)
        .env_remove(TASK_SECRETS)
        .envs(environment(config, launch, runtime.as_ref()))
        .current_dir(&launch.sandbox)
        .stdin(Stdio::piped())
        .stdout(output(launch, "stdout")?)
        .stderr(output(launch, "stderr")?)
        .process_group(0);
    if let Program::CustomInDocker(_) = launch.program {
        // It has the environment; what stays beside it needs nothing of that, but is recognised by the sandbox.
        command.env_clear().env("MESOS_SANDBOX", &launch.sandbox);
    } else if matches!(launch.program, Program::Custom(_)) {
        if has_network {
            // The agent's address is not there.
            command.env("LIBPROCESS_IP", "0.0.0.0");
        }
        command.envs(&hidden);
    } else {
        if !hidden.is_empty() {
            // Not as they are: an executor of ours is not to be told by a task what to load.
            let text = serde_json::to_string(&hidden).map_err(|error| error.to_string())?;
            command.env(TASK_SECRETS, text);
        }
        if !confinement.is_empty() {
            command.env(TASK_CONFINEMENT, confinement.join("\n"));
        }
        if let Some(user) = &user {
            command.env(TASK_USER, &user.name);
        }
        if let Some(runtime) = &runtime {
            let text = serde_json::to_string(runtime).map_err(|error| error.to_string())?;
            command.env(TASK_IMAGE, text);
        }
        let files = cgroups.and_then(|cgroups| cgroups.memory_files(&launch.run.container));
        if let Some(files) = files {
            command.env(MEMORY_EVENTS, files.events).env(MEMORY_LIMIT, files.limit);
        }
    }
    if let Program::CustomInDocker(info) = &launch.program {
        start_in_docker(config, launch, info, hidden).await?;
    }
    let mut child = command.spawn().map_err(|error| format!("cannot start a process: {error}"))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    if let Some(cgroups) = cgroups {
        let container = shared.unwrap_or(&launch.run.container);
        cgroups.enter(container, pid).map_err(|error| error.to_string())?;
        // As in the original, of executors only ours, which is its task's.
        let is_task = is_nested || matches!(launch.program, Program::CommandExecutor);
        if is_task && shared.is_none() {
            let preferred = cgroups.prefer_to_end(pid, &launch.resources, &launch.limits);
            preferred.map_err(|error| error.to_string())?;
        }
    }
    if let Some(path) = &launch.pid_file {
        checkpoint::replace(path, pid.to_string().as_bytes()).map_err(at(path))?;
    }
    // Only now may it run: an agent that dies before leaves nothing behind.
    if let Some(mut stdin) = child.stdin.take() {
        let told = stdin.write_all(&[helper::GO]).await;
        told.map_err(|error| format!("the container's first process ended early: {error}"))?;
    }
    Ok(child)
}

fn is_for_mesos(program: &Program) -> bool {
    !matches!(program, Program::DockerExecutor | Program::CustomInDocker(_))
}

/// Starts an executor that is a container of Docker's (`launchExecutorContainer`).
async fn start_in_docker(
    config: &Config,
    launch: &Launch,
    command: &v1::CommandInfo,
    hidden: BTreeMap<String, String>,
) -> Result<(), String> {
    let name = docker::name(&launch.run.container);
    let mut variables = launch.environment.clone();
    variables.extend(hidden);
    let body = docker::create::container(docker::create::Asked {
        name: &name,
        container: &launch.container.clone().unwrap_or_default(),
        command,
        resources: &launch.resources,
        limits: &launch.limits,
        sandbox: &launch.sandbox.to_string_lossy(),
        mapped: &config.sandbox_directory.to_string_lossy(),
        has_quota: config.cpu_quota,
        variables,
        dns: &config.dns,
    })?;
    let docker = docker::connect(&config.docker_socket).await?;
    docker::run::start(&docker, &name, body).await.map(drop)
}

fn wants_docker(launch: &Launch) -> bool {
    let container = launch.container.as_ref();
    container.is_some_and(|container| container.r#type() == container_info::Type::Docker)
}

/// Says so if none of the containerizers runs what is asked for.
pub(super) fn unsupported(config: &Config, launch: &Launch) -> Option<String> {
    let needed = if wants_docker(launch) { "docker" } else { "mesos" };
    (!config.has(needed)).then(|| {
        format!(
            "None of the enabled containerizers ({}) could create a container for the provided TaskInfo/ExecutorInfo message",
            config.containerizers.join(",")
        )
    })
}

/// Refuses what none of the containerizers can run.
fn check(config: &Config, launch: &Launch) -> Result<(), String> {
    if let Some(reason) = unsupported(config, launch) {
        return Err(reason);
    }
    if wants_docker(launch) && is_for_mesos(&launch.program) {
        return Err("Nested containers are not supported by the Docker containerizer".to_owned());
    }
    Ok(())
}

/// The image that a container asks for, made ready.
async fn image(config: &Config, launch: &Launch) -> Result<Option<Provisioned>, String> {
    let container = launch.container.as_ref().filter(|_| is_for_mesos(&launch.program));
    let Some(image) = container.and_then(|container| container.mesos.as_ref()?.image.as_ref())
    else {
        return Ok(None);
    };
    let provisioner =
        config.provisioner.as_ref().filter(|_| image.r#type() == v1::image::Type::Docker);
    let provisioner = provisioner.ok_or_else(|| {
        let kind = image.r#type().as_str_name();
        let hint = match image.r#type() {
            v1::image::Type::Docker => " (the agent needs --image_providers=docker)",
            v1::image::Type::Appc => "",
        };
        format!("Unsupported container image type: {kind}{hint}")
    })?;
    let mut provisioned = provisioner.provision(&launch.run.container, image).await;
    if let (Ok(own), true) = (&mut provisioned, config.ignores_image_runtime) {
        own.runtime = Runtime::default();
    }
    provisioned.map(Some).map_err(|reason| format!("Failed to provision the image: {reason}"))
}

/// The network that a container asks for, or is in with the one that it is nested in.
async fn join(config: &Config, launch: &Launch) -> Result<Option<Joined>, String> {
    let is_session = launch.supervision.as_ref().is_some_and(|own| own.is_session);
    if !is_for_mesos(&launch.program) || is_session {
        return Ok(None);
    }
    let container = launch.container.as_ref();
    let Some(networks) = &config.networks else {
        let mut asked = container.iter().flat_map(|container| &container.network_infos);
        return match asked.find_map(|network| network.name.as_ref()) {
            Some(name) => Err(format!(
                "The network '{name}' needs an agent with --isolation=network/cni, --network_cni_plugins_dir and --network_cni_config_dir"
            )),
            None => Ok(None),
        };
    };
    networks.join(&launch.run.container, container).await
}

/// How this host finds others, for a root of its own in the host's network.
fn hosts_files() -> Vec<Mount> {
    let paths = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(Path::new);
    let there = paths.into_iter().filter(|path| path.exists());
    let mount = |path: &Path| Mount {
        source: Tree::Directory(path.to_owned()),
        target: path.to_owned(),
        is_read_only: true,
    };
    there.map(mount).collect()
}

/// What the container's process sees, if not what the agent sees. Without a root and mounts of its own, what is shared
/// is linked into the sandbox.
async fn view(
    config: &Config,
    launch: &Launch,
    image: Option<&Provisioned>,
    joined: Option<&Joined>,
    user: Option<&User>,
) -> Result<Option<View>, String> {
    let shared = launch.supervision.as_ref().map(|own| &own.shared_paths[..]).unwrap_or_default();
    let mut mounts = match joined {
        Some(joined) => joined.files.clone(),
        None if image.is_some() => hosts_files(),
        None => Vec::new(),
    };
    if joined.is_some() && image.is_none() {
        // What this host has no file for can't be seen in its place.
        mounts.retain(|own| own.target.exists());
    }
    if image.is_some() {
        let cgroups = config.cgroups.as_ref().filter(|_| is_for_mesos(&launch.program));
        let devices = cgroups.map(Cgroups::device_files).unwrap_or_default();
        mounts.extend(devices.into_iter().map(|path| Mount {
            source: Tree::Directory(path.clone()),
            target: path,
            is_read_only: false,
        }));
        mounts.extend(volumes::mounts(&launch.volumes, user)?);
        mounts.extend(shared::mounts(shared, user)?);
    } else {
        volumes::link(&launch.sandbox, &launch.volumes, user)?;
        shared::link(&launch.sandbox, shared, user)?;
    }
    if is_for_mesos(&launch.program) {
        mounts.extend(volumes::asked_for(config, launch, image.is_some(), user).await?);
    }
    let is_missing = |own: &&Mount| own.target.is_absolute() && !own.target.exists();
    if let (None, Some(missing)) = (image, mounts.iter().find(is_missing)) {
        return Err(format!(
            "Mount point '{}' is an absolute path. It must exist if the container shares the host filesystem",
            missing.target.display()
        ));
    }
    let root = image.map(|image| Root {
        tree: image.tree.clone(),
        sandbox_directory: config.sandbox_directory.clone(),
        directory: image
            .runtime
            .directory()
            .map_or_else(|| config.sandbox_directory.clone(), |path| Path::new("/").join(path)),
    });
    let is_host = root.is_none() && mounts.is_empty();
    Ok((!is_host).then(|| View { root, sandbox: launch.sandbox.clone(), mounts }))
}

/// What the container's first process finds in its environment. What the image says comes before what the agent says, and
/// after what the command says.
fn environment(
    config: &Config,
    launch: &Launch,
    runtime: Option<&Runtime>,
) -> Vec<(String, String)> {
    let mut all = launch.environment.clone();
    // An executor of ours is not in the root: what is said of that concerns its task.
    let Program::Custom(info) = &launch.program else { return all };
    let Some(runtime) = runtime else { return all };
    let mut own = runtime.environment();
    for variable in info.environment.iter().flat_map(|environment| &environment.variables) {
        own.remove(&variable.name);
    }
    own.retain(|name, _| !name.starts_with("MESOS_") && !name.starts_with("LIBPROCESS_"));
    own.insert("MESOS_SANDBOX".to_owned(), config.sandbox_directory.display().to_string());
    all.retain(|(name, _)| !own.contains_key(name));
    all.extend(own);
    all
}

/// What the next agent is to find of a container without executor.
fn prepare_runtime(supervision: &Supervision, is_nested: bool) -> Result<(), String> {
    let runtime = &supervision.runtime;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755).create(runtime).map_err(at(runtime))?;
    // Of a container of the same name before, or not there.
    let _ = fs::remove_file(runtime.join("status"));
    let _ = fs::remove_file(runtime.join(supervise::INNER_STATUS));
    let markers = [
        (found::SESSION, supervision.is_session),
        (found::STANDALONE, !is_nested && !supervision.is_executors),
    ];
    for (name, _) in markers.into_iter().filter(|(_, is_so)| *is_so) {
        let path = runtime.join(name);
        checkpoint::replace(&path, b"").map_err(at(&path))?;
    }
    Ok(())
}

fn prepare_sandbox(launch: &Launch, user: Option<&User>) -> Result<(), String> {
    let sandbox = &launch.sandbox;
    fs::create_dir_all(sandbox).map_err(at(sandbox))?;
    // What a task keeps there is nobody else's business (`createSandboxDirectory`).
    fs::set_permissions(sandbox, Permissions::from_mode(0o750)).map_err(at(sandbox))?;
    for name in ["stdout", "stderr"] {
        output(launch, name)?;
    }
    let Some(user) = user else { return Ok(()) };
    for path in [sandbox.clone(), sandbox.join("stdout"), sandbox.join("stderr")] {
        chown(&path, Some(user.uid), Some(user.gid))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn output(launch: &Launch, name: &str) -> Result<File, String> {
    let path = launch.sandbox.join(name);
    OpenOptions::new().append(true).create(true).mode(0o644).open(&path).map_err(at(&path))
}

/// Which namespaces a container's process has of others, or of its own.
struct Shares {
    /// The process that it looks into, all of whose it has.
    beside: Option<i32>,
    /// Whether it has a process namespace of its own.
    own_processes: bool,
    /// Whether it has the IPC namespace of the container that it is nested in.
    ipc: bool,
}

fn command(
    config: &Config,
    launch: &Launch,
    user: Option<&User>,
    confinement: &[String],
    &Shares { beside, own_processes, ipc }: &Shares,
    runtime: Option<&Runtime>,
) -> Result<Command, String> {
    let own = |name: &str, more: Vec<String>| {
        let program = config.launcher_dir.join(name).to_string_lossy().into_owned();
        let flag = format!("--launcher_dir={}", config.launcher_dir.display());
        (program, [vec![name.to_owned(), flag], more].concat())
    };
    let (program, argv) = match &launch.program {
        Program::CommandExecutor => own("mesos-executor", Vec::new()),
        Program::DockerExecutor => own(
            "mesos-docker-executor",
            vec![
                format!("--container={}", docker::name(&launch.run.container)),
                format!("--docker_socket={}", config.docker_socket.display()),
                format!("--mapped_directory={}", config.sandbox_directory.display()),
                format!("--cgroups_enable_cfs={}", config.cpu_quota),
                format!(
                    "--default_container_dns={}",
                    serde_json::to_string(&config.dns).unwrap_or_default()
                ),
            ],
        ),
        Program::CustomInDocker(_) => {
            let name = docker::name(&launch.run.container);
            return Ok(helper::follower(&config.docker_socket, &name).into());
        }
        Program::Custom(info) => spec::program(runtime, info)?,
    };
    // Executors of ours speak for a task of another user: they stay who they are, and change over for the task.
    let is_custom = matches!(launch.program, Program::Custom(_));
    let user = user.filter(|_| is_custom);
    let confinement = if is_custom { confinement } else { &[] };
    let user = user.map(|user| user.name.as_str());
    if let Some(supervision) = &launch.supervision {
        let options = supervise::Options {
            container: launch.run.container.clone(),
            runtime: supervision.runtime.clone(),
            serves: supervision.has_io,
            is_session: supervision.is_session,
            window: supervision.window,
            lends_terminal: !is_custom,
            beside: beside.or(supervision.beside),
            directory: beside.and_then(|pid| fs::read_link(format!("/proc/{pid}/cwd")).ok()),
            processes_of: supervision
                .nested_in
                .filter(|_| !own_processes && config.policy.isolation.has("namespaces/pid"))
                .map(namespaces::of_task),
            ipc_of: supervision
                .nested_in
                .filter(|_| ipc && !supervision.is_session)
                .map(namespaces::of_task),
            own_processes: own_processes && !supervision.is_session,
            user: user.map(str::to_owned),
            confinement: confinement.to_vec(),
        };
        return Ok(helper::supervisor(&options, &program, &argv).into());
    }
    let options = helper::Options {
        waits: true,
        own_processes,
        user,
        confinement,
        ..helper::Options::default()
    };
    Ok(helper::command(&options, &program, &argv).into())
}

fn user(launch: &Launch, is_nested: bool) -> Result<Option<User>, String> {
    let Some(name) = &launch.user else { return Ok(None) };
    find_user(name).map_err(|reason| {
        let reason = format!("Failed to chown directory to '{name}': {reason}");
        if is_nested {
            let sandbox = launch.sandbox.display();
            format!("Failed to create nested sandbox '{sandbox}': {reason}")
        } else {
            format!("Failed to create sandbox: {reason}")
        }
    })
}

/// Whether this host has a user that sandboxes can belong to.
///
/// # Errors
/// Why it has not, in the original's words (`os::chown`).
pub fn check_user(name: &str) -> Result<(), String> {
    find_user(name).map(drop)
}

/// A user that processes can run as, if that is another than the agent's.
fn find_user(name: &str) -> Result<Option<User>, String> {
    if !nix::unistd::geteuid().is_root() || name == "root" {
        return Ok(None);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(format!("No such user '{name}'")),
        Err(error) => Err(format!("Failed to get user information for '{name}': {error}")),
    }
}
