//! Starting executors' processes, noticing their ends, and ending them.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesos::resources::Resources;
use mesos::v1::task_status::Reason;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, User, chown};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::cgroups::Cgroups;
use super::{Launch, Program, fetch};
use crate::checkpoint;

/// What a container did.
#[derive(Debug)]
pub enum Notice {
    /// Its first process runs.
    Started {
        /// The container's id.
        container: String,
        /// The process.
        pid: i32,
    },
    /// It has ended, or never began.
    Ended {
        /// The container's id.
        container: String,
        /// Wait status, as `waitpid` gives it, if it is known.
        status: Option<i32>,
        /// What went wrong, if the launcher knows.
        problem: Option<(Reason, String)>,
    },
}

/// Starts and ends containers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    programs: PathBuf,
    containerizers: Vec<String>,
    docker_socket: PathBuf,
    cgroups: Option<Cgroups>,
    running: Arc<Mutex<HashMap<String, i32>>>,
    notices: mpsc::Sender<Notice>,
}

impl Launcher {
    /// A launcher that tells `notices` of each container's beginning and end.
    pub fn new(
        programs: PathBuf,
        containerizers: Vec<String>,
        docker_socket: PathBuf,
        cgroups: Option<Cgroups>,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        Self { programs, containerizers, docker_socket, cgroups, running: Arc::default(), notices }
    }

    /// Starts a container in the background.
    pub fn launch(&self, launch: Launch) {
        let launcher = self.clone();
        tokio::spawn(async move {
            let container = launch.run.container.clone();
            let ended = match launcher.start(&launch).await {
                Ok((mut child, pid)) => {
                    let _ = launcher
                        .notices
                        .send(Notice::Started { container: container.clone(), pid })
                        .await;
                    let status = child
                        .wait()
                        .await
                        .ok()
                        .map(std::os::unix::process::ExitStatusExt::into_raw);
                    launcher.clean_up(&container, status).await
                }
                Err(message) => {
                    tracing::warn!(container, message, "container not launched");
                    if let Some(cgroups) = launcher.cgroups.clone() {
                        let id = container.clone();
                        let _ = tokio::task::spawn_blocking(move || cgroups.destroy(&id)).await;
                    }
                    Notice::Ended {
                        container,
                        status: None,
                        problem: Some((
                            Reason::ContainerLaunchFailed,
                            format!("Failed to launch container: {message}"),
                        )),
                    }
                }
            };
            // Fails only when the agent is ending.
            let _ = launcher.notices.send(ended).await;
        });
    }

    async fn start(&self, launch: &Launch) -> Result<(tokio::process::Child, i32), String> {
        let text = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| format!("{path}: {error}")
        };
        let is_docker = matches!(launch.program, Program::DockerExecutor);
        let wants_docker = launch
            .container
            .as_ref()
            .is_some_and(|container| container.r#type() == mesos::v1::container_info::Type::Docker);
        let needed = if wants_docker { "docker" } else { "mesos" };
        // A plain command runs under either: the docker containerizer leaves it to the next in the list.
        if !self.containerizers.iter().any(|name| name == needed) {
            return Err(format!(
                "None of the enabled containerizers ({}) could create a container for the provided TaskInfo/ExecutorInfo message",
                self.containerizers.join(",")
            ));
        }
        if wants_docker && !is_docker {
            return Err(
                "custom executors in Docker containers are not supported by this agent yet"
                    .to_owned(),
            );
        }
        if !wants_docker
            && launch
                .container
                .as_ref()
                .and_then(|container| container.mesos.as_ref())
                .is_some_and(|mesos| mesos.image.is_some())
        {
            return Err(
                "container images without Docker are not supported by this agent yet".to_owned()
            );
        }
        fs::create_dir_all(&launch.sandbox).map_err(text(&launch.sandbox))?;
        for uri in &launch.uris {
            if let Err(reason) = fetch::fetch(uri, &launch.sandbox).await {
                if let Ok(mut stderr) =
                    OpenOptions::new().append(true).create(true).open(launch.sandbox.join("stderr"))
                {
                    let _ = writeln!(stderr, "Failed to fetch {reason}");
                }
                return Err(format!(
                    "Failed to fetch all URIs for container '{}': {reason}",
                    launch.run.container
                ));
            }
        }
        let output = |name: &str| -> Result<File, String> {
            let path = launch.sandbox.join(name);
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(&path)
                .map_err(text(&path))
        };
        let (stdout, stderr) = (output("stdout")?, output("stderr")?);
        let mut command = match &launch.program {
            Program::CommandExecutor => self.own("mesos-executor"),
            Program::DockerExecutor => {
                let mut command = self.own("mesos-docker-executor");
                command
                    .arg(format!("--container=mesos-{}", launch.run.container))
                    .arg(format!("--docker_socket={}", self.docker_socket.display()));
                command
            }
            Program::Custom(info) if info.shell() => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(info.value());
                command
            }
            Program::Custom(info) => {
                let mut command = Command::new(info.value());
                let mut arguments = info.arguments.iter();
                if let Some(name) = arguments.next() {
                    command.arg0(name);
                }
                command.args(arguments);
                command
            }
        };
        command
            .env_clear()
            .envs(launch.environment.iter().cloned())
            .current_dir(&launch.sandbox)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        // Executors of ours speak for a task of another user: they stay who they are and change over for the task.
        let user = self.user(launch)?;
        if let Some(user) = &user {
            for path in [
                launch.sandbox.clone(),
                launch.sandbox.join("stdout"),
                launch.sandbox.join("stderr"),
            ] {
                chown(&path, Some(user.uid), Some(user.gid))
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
            match &launch.program {
                Program::Custom(_) => {
                    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
                }
                _ => {
                    command.env("MESOS_TASK_USER", &user.name);
                }
            }
        }
        if let (Some(cgroups), false) = (&self.cgroups, is_docker) {
            cgroups
                .create(&launch.run.container, &launch.resources)
                .map_err(|error| error.to_string())?;
        }
        let child = command
            .spawn()
            .map_err(|error| format!("'{}': {error}", command.as_std().get_program().display()))?;
        let pid = child.id().unwrap_or_default() as i32;
        if let (Some(cgroups), false) = (&self.cgroups, is_docker) {
            // Before it forks anything: it waits to subscribe first.
            cgroups.enter(&launch.run.container, pid).map_err(|error| error.to_string())?;
        }
        if let Some(path) = &launch.pid_file {
            checkpoint::replace(path, pid.to_string().as_bytes()).map_err(text(path))?;
        }
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(launch.run.container.clone(), pid);
        Ok((child, pid))
    }

    /// One of our own programs in the launcher directory.
    fn own(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.arg(format!("--launcher_dir={}", self.programs.display()));
        command
    }

    fn user(&self, launch: &Launch) -> Result<Option<User>, String> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let Some(name) = launch.user.as_ref().filter(|name| name.as_str() != "root") else {
            return Ok(None);
        };
        match User::from_name(name) {
            Ok(Some(user)) => Ok(Some(user)),
            Ok(None) => Err(format!(
                "Failed to get user information for '{name}': no such user on this host"
            )),
            Err(error) => Err(format!("Failed to get user information for '{name}': {error}")),
        }
    }

    async fn clean_up(&self, container: &str, status: Option<i32>) -> Notice {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
        let mut problem = None;
        if let Some(cgroups) = self.cgroups.clone() {
            if let Some(limit) = cgroups.out_of_memory(container) {
                let mb = limit >> 20;
                problem = Some((
                    Reason::ContainerLimitationMemory,
                    format!("Memory limit exceeded: Requested: {mb}MB Maximum Used: {mb}MB"),
                ));
            }
            let id = container.to_owned();
            let _ = tokio::task::spawn_blocking(move || cgroups.destroy(&id)).await;
        }
        self.remove_docker(container).await;
        Notice::Ended { container: container.to_owned(), status, problem }
    }

    /// Watches a container of the agent before: its first process is no child of ours.
    pub fn adopt(&self, container: String, pid: Option<i32>) {
        let launcher = self.clone();
        if let Some(pid) = pid {
            self.running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(container.clone(), pid);
        }
        tokio::spawn(async move {
            let started = pid.and_then(start_time);
            let is_executor = pid.is_some_and(|pid| environment_has(pid, &container));
            while is_executor && started.is_some() && pid.and_then(start_time) == started {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            let ended = launcher.clean_up(&container, None).await;
            let _ = launcher.notices.send(ended).await;
        });
    }

    /// Gives a container other limits.
    pub fn resize(&self, container: &str, resources: &Resources) {
        let Some(cgroups) = &self.cgroups else { return };
        if !self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(container) {
            return; // It is not there yet, and gets its limits when it starts.
        }
        if let Err(error) = cgroups.limit(container, resources) {
            tracing::warn!(container, %error, "limits not changed");
        }
    }

    /// Ends a container and everything in it.
    pub fn destroy(&self, container: String) {
        let pid =
            self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&container).copied();
        let launcher = self.clone();
        tokio::spawn(async move {
            launcher.remove_docker(&container).await;
            if let Some(cgroups) = launcher.cgroups.clone() {
                let id = container.clone();
                let _ = tokio::task::spawn_blocking(move || cgroups.destroy(&id)).await;
            }
            if let Some(pid) = pid {
                let _ = tokio::task::spawn_blocking(move || kill_tree(pid)).await;
            }
        });
    }

    /// Removes the Docker container of an executor that is gone, if there is one.
    async fn remove_docker(&self, container: &str) {
        if self.containerizers.iter().any(|name| name == "docker") && self.docker_socket.exists() {
            crate::executor::docker::remove(&self.docker_socket, &format!("mesos-{container}"))
                .await;
        }
    }

    /// Ends all containers, as `meso up` does when it ends.
    pub async fn destroy_all(&self) {
        let running: Vec<(String, i32)> = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(id, pid)| (id.clone(), *pid))
            .collect();
        for (container, pid) in running {
            self.remove_docker(&container).await;
            let cgroups = self.cgroups.clone();
            let _ = tokio::task::spawn_blocking(move || {
                kill_tree(pid);
                if let Some(cgroups) = cgroups {
                    cgroups.destroy(&container);
                }
            })
            .await;
        }
    }
}

/// When a process began, in the kernel's ticks: with it a number names one process only. `None` when it is gone.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether a process is the executor of a container: a number from before a reboot may be anybody's.
fn environment_has(pid: i32, container: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(container))
}

/// Kills a process, its group, and all descendants, also those that left the group.
pub fn kill_tree(root: i32) {
    let mut tree = vec![root];
    let mut index = 0;
    while index < tree.len() {
        let children: Vec<i32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
            .filter(|pid| parent(*pid) == Some(tree[index]))
            .collect();
        // Stopped, it starts no further ones while we look.
        let _ = kill(Pid::from_raw(tree[index]), Signal::SIGSTOP);
        tree.extend(children.into_iter().filter(|pid| !tree.contains(pid)).collect::<Vec<_>>());
        index += 1;
    }
    let _ = killpg(Pid::from_raw(root), Signal::SIGKILL);
    for pid in tree {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
