//! Starting containers, noticing their ends, and ending them.
//!
//! A container that is being started (its files fetched, its image pulled) can be ended at any time. What was started
//! by an agent before is adopted: watched and ended like the rest.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesos::resources::Resources;
use mesos::v1::NetworkInfo;
use mesos::v1::task_status::Reason;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cgroups::Cgroups;
use super::cgroups::memory::Exceeded;
use super::cni::Networks;
use super::confinement::Policy;
use super::dns::ContainerDns;
use super::docker::Orphan;
use super::fetch::Fetching;
use super::images::registry::Credentials;
use super::images::{self, Provisioner};
use super::processes::{environment_has, is_of, kill_stray, kill_tree, send, start_time};
use super::{Launch, Problem, ResourceLimits, docker, secrets, start};

/// Time between looks at what was adopted and at who ran out of memory.
const LOOK: Duration = Duration::from_millis(250);

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
    /// It has addresses of its own.
    Networked {
        /// The container's id.
        container: String,
        /// Its networks.
        infos: Vec<NetworkInfo>,
    },
    /// It has ended, or never began.
    Ended {
        /// The container's id.
        container: String,
        /// Wait status, as `waitpid` gives it, if it is known.
        status: Option<i32>,
        /// What went wrong, if the launcher knows.
        problem: Option<Problem>,
    },
}

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--launcher_dir`.
    pub launcher_dir: PathBuf,
    /// `--work_dir`.
    pub work_dir: PathBuf,
    /// `--containerizers`, in order.
    pub containerizers: Vec<String>,
    /// `--docker_socket`.
    pub docker_socket: PathBuf,
    /// `--cgroups_enable_cfs`: whether containers have no more CPU time than they ask for.
    pub cpu_quota: bool,
    /// `--docker_remove_delay`.
    pub docker_remove_delay: Duration,
    /// `--docker_config`.
    pub logins: Credentials,
    /// `--default_container_dns`.
    pub dns: ContainerDns,
    /// `--docker_kill_orphans`.
    pub docker_kill_orphans: bool,
    /// What the operator lets containers do.
    pub policy: Policy,
    /// How files are fetched.
    pub fetching: Arc<Fetching>,
    /// What makes images ready; `None` without `--image_providers`.
    pub provisioner: Option<Provisioner>,
    /// `--docker_ignore_runtime`: whether nothing is heard of what an image says of what runs in it.
    pub ignores_image_runtime: bool,
    /// The networks that containers may join; `None` without CNI.
    pub networks: Option<Networks>,
    /// `--runtime_dir`.
    pub runtime_dir: PathBuf,
    /// `--sandbox_directory`.
    pub sandbox_directory: PathBuf,
    /// Where containers' cgroups are made; `None` with `--launcher=posix`.
    pub cgroups: Option<Cgroups>,
}

impl Config {
    /// Whether one of `--containerizers` is `name`.
    pub fn has(&self, name: &str) -> bool {
        self.containerizers.iter().any(|own| own == name)
    }
}

#[derive(Debug)]
struct Running {
    pid: Option<i32>,
    /// Where the end is noted of a container without executor.
    runtime: Option<PathBuf>,
    ending: CancellationToken,
    /// What is to be said of its memory: ending it removes the cgroup that tells.
    exceeded: Option<Exceeded>,
}

/// Starts and ends containers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    config: Arc<Config>,
    running: Arc<Mutex<HashMap<String, Running>>>,
    notices: mpsc::Sender<Notice>,
}

impl Launcher {
    /// A launcher that tells `notices` of each container's beginning and end.
    pub fn new(config: Config, notices: mpsc::Sender<Notice>) -> Self {
        Self { config: Arc::new(config), running: Arc::default(), notices }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails only when the agent is ending: then nobody needs to know.
    async fn tell(&self, notice: Notice) {
        let _ = self.notices.send(notice).await;
    }

    /// Starts a container in the background.
    pub fn launch(&self, launch: Launch) {
        let launcher = self.clone();
        let container = launch.run.container.clone();
        let ending = CancellationToken::new();
        let runtime = launch.supervision.as_ref().map(|supervision| supervision.runtime.clone());
        let entry = Running { pid: None, runtime, ending: ending.clone(), exceeded: None };
        self.running().insert(container.clone(), entry);
        tokio::spawn(async move {
            let started = tokio::select! {
                biased;
                () = ending.cancelled() => Err("Container destroyed while it was being prepared".to_owned()),
                started = start::start(&launcher.config, &launch) => started,
            };
            match started {
                Ok(child) => launcher.watch(container, child).await,
                Err(message) => {
                    tracing::warn!(container, message, "container not launched");
                    let _ = launcher.clean_up(&container, None).await;
                    let problem = Some(match start::unsupported(&launcher.config, &launch) {
                        // The original asks after a container that none of its containerizers has.
                        Some(reason) => {
                            let message = format!(
                                "{reason}; Abnormal executor termination: unknown container"
                            );
                            Problem::new(Reason::ExecutorTerminated, message)
                        }
                        None => {
                            // Who asked for one without executor gets this as the answer.
                            let is_plain =
                                launch.supervision.as_ref().is_some_and(|own| !own.is_executors);
                            let message = if is_plain {
                                message
                            } else {
                                format!("Failed to launch container: {message}")
                            };
                            Problem::new(Reason::ContainerLaunchFailed, message)
                        }
                    });
                    launcher.tell(Notice::Ended { container, status: None, problem }).await;
                }
            }
        });
    }

    async fn watch(&self, container: String, mut child: Child) {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let is_ending = self.running().get_mut(&container).is_none_or(|entry| {
            entry.pid = pid;
            entry.ending.is_cancelled()
        });
        if let Some(pid) = pid {
            if is_ending {
                let _ = tokio::task::spawn_blocking(move || kill_tree(pid)).await;
            }
            self.tell_networks(&container).await;
            self.tell(Notice::Started { container: container.clone(), pid }).await;
        }
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = tokio::time::sleep(LOOK) => self.end_if_out_of_memory(&container),
            }
        };
        let status = status.ok().map(ExitStatusExt::into_raw);
        let notice = self.clean_up(&container, status).await;
        self.tell(notice).await;
    }

    async fn tell_networks(&self, container: &str) {
        let networks = self.config.networks.as_ref();
        if let Some(joined) = networks.and_then(|networks| networks.joined(container)) {
            let (container, infos) = (container.to_owned(), joined.infos);
            self.tell(Notice::Networked { container, infos }).await;
        }
    }

    /// A task whose helpers were killed for memory may hang on for ever: the whole container ends.
    fn end_if_out_of_memory(&self, container: &str) {
        if self.running().get(container).is_none_or(|entry| entry.ending.is_cancelled()) {
            return;
        }
        let exceeded = self.config.cgroups.as_ref().and_then(|all| all.out_of_memory(container));
        if exceeded.is_some() {
            if let Some(entry) = self.running().get_mut(container) {
                entry.exceeded = exceeded;
            }
            self.destroy(container.to_owned());
        }
    }

    /// After a container's end: nothing of it is left. Returns the notice of it.
    async fn clean_up(&self, container: &str, status: Option<i32>) -> Notice {
        let entry = self.running().remove(container);
        // What ended it, it could not note any more where the agent before had started it.
        let killed =
            entry.as_ref().filter(|own| own.runtime.is_some() && own.ending.is_cancelled());
        let killed = killed.map(|_| nix::sys::signal::Signal::SIGKILL as i32);
        let (runtime, exceeded) =
            entry.map_or((None, None), |entry| (entry.runtime, entry.exceeded));
        let noted = runtime.and_then(|runtime| {
            let text = fs::read_to_string(runtime.join("status")).ok()?;
            text.trim().parse().ok()
        });
        let status = noted.or(status).or(killed);
        let mut problem = None;
        if let Some(cgroups) = self.config.cgroups.clone() {
            let limit = exceeded.or_else(|| cgroups.out_of_memory(container));
            problem = limit.map(Problem::from);
            let id = container.to_owned();
            let _ = tokio::task::spawn_blocking(move || cgroups.destroy(&id)).await;
        } else if !container.contains('.') {
            // What stays beside a nested one has ended all of it.
            let id = container.to_owned();
            let _ = tokio::task::spawn_blocking(move || kill_stray(&id)).await;
        }
        // A nested one's id has a point: Docker has none of these.
        if let Some(networks) = self.config.networks.as_ref().filter(|_| !container.contains('.')) {
            networks.leave(container).await;
        }
        secrets::forget(&secrets::directory(&self.config.runtime_dir, container));
        if let Some(provisioner) = self.config.provisioner.clone() {
            let id = container.to_owned();
            let _ = tokio::task::spawn_blocking(move || provisioner.destroy(&id)).await;
        }
        if self.uses_docker() && !container.contains('.') {
            let name = docker::name(container);
            docker::end(&self.config.docker_socket, &name).await;
            self.remove_later(name);
        }
        Notice::Ended { container: container.to_owned(), status, problem }
    }

    fn uses_docker(&self) -> bool {
        self.config.has("docker") && self.config.docker_socket.exists()
    }

    /// Ended containers stay for a look at them (`docker logs`), for `--docker_remove_delay`.
    fn remove_later(&self, name: String) {
        let config = self.config.clone();
        tokio::spawn(async move {
            tokio::time::sleep(config.docker_remove_delay).await;
            docker::remove(&config.docker_socket, &name).await;
        });
    }

    /// Watches a container of the agent before: its first process is no child of ours.
    /// `runtime` is where the end is noted of one without executor.
    pub fn adopt(&self, container: String, pid: Option<i32>, runtime: Option<PathBuf>) {
        let launcher = self.clone();
        let entry = Running { pid, runtime, ending: CancellationToken::new(), exceeded: None };
        self.running().insert(container.clone(), entry);
        tokio::spawn(async move {
            launcher.tell_networks(&container).await;
            let started = pid.and_then(start_time);
            let is_executor = pid.is_some_and(|pid| is_of(pid, &container));
            while is_executor && started.is_some() && pid.and_then(start_time) == started {
                launcher.end_if_out_of_memory(&container);
                tokio::time::sleep(LOOK).await;
            }
            let ended = launcher.clean_up(&container, None).await;
            launcher.tell(ended).await;
        });
    }

    /// Whether there are cgroups of a container's own.
    pub fn has_cgroups(&self, container: &str) -> bool {
        self.config.cgroups.as_ref().is_some_and(|cgroups| cgroups.is_there(container))
    }

    /// Ends what an agent with the same work directory left behind and nobody knows any more.
    pub fn end_orphans(&self) {
        let launcher = self.clone();
        let known: BTreeSet<String> = launcher.running().keys().cloned().collect();
        // Before the first new container comes to be.
        let provisioner = self.config.provisioner.as_ref();
        let strays = provisioner.map(|own| own.strays(&known)).unwrap_or_default();
        let networks = self.config.networks.clone();
        let mut attached = networks.as_ref().map(Networks::containers).unwrap_or_default();
        attached.retain(|container| !known.contains(container));
        tokio::spawn(async move {
            if let Some(cgroups) = launcher.config.cgroups.clone() {
                let known = known.clone();
                let work_dir = launcher.config.work_dir.to_string_lossy().into_owned();
                let _ = tokio::task::spawn_blocking(move || {
                    for container in cgroups.containers() {
                        let mut processes = cgroups.processes(&container).into_iter();
                        // Another agent's containers may lie beside ours.
                        let is_ours = processes.any(|pid| environment_has(pid, &work_dir));
                        if is_ours && !known.contains(&container) {
                            tracing::warn!(container, "orphaned container ended");
                            cgroups.destroy(&container);
                        }
                    }
                })
                .await;
            }
            if let Some(networks) = networks {
                for container in attached {
                    networks.leave(&container).await;
                }
            }
            let _ =
                tokio::task::spawn_blocking(move || strays.iter().for_each(images::remove)).await;
            if !launcher.config.docker_kill_orphans || !launcher.uses_docker() {
                return;
            }
            let config = &launcher.config;
            match docker::orphans(&config.docker_socket, &config.work_dir, &known).await {
                Ok(orphans) => {
                    for Orphan { name, is_running } in orphans {
                        // Started in the meantime?
                        let id = name.trim_start_matches("mesos-");
                        if launcher.running().contains_key(id) {
                            continue;
                        }
                        if is_running {
                            tracing::warn!(name, "orphaned Docker container ended");
                            docker::end(&config.docker_socket, &name).await;
                        }
                        launcher.remove_later(name);
                    }
                }
                Err(error) => tracing::warn!(error, "orphaned Docker containers not looked for"),
            }
        });
    }

    /// Gives a container other limits.
    pub fn resize(&self, container: &str, resources: &Resources, limits: &ResourceLimits) {
        let Some(cgroups) = &self.config.cgroups else { return };
        if self.running().get(container).is_none_or(|entry| entry.pid.is_none()) {
            return; // It is not there yet, and gets its limits when it starts.
        }
        if let Err(error) = cgroups.limit(container, resources, limits) {
            tracing::warn!(container, %error, "limits not changed");
        }
    }

    /// Gives a container of Docker's other limits.
    pub fn resize_in_docker(
        &self,
        container: String,
        resources: Resources,
        limits: ResourceLimits,
    ) {
        if self.running().get(&container).is_none_or(|entry| entry.pid.is_none()) {
            return; // As above.
        }
        let config = self.config.clone();
        tokio::spawn(async move {
            let (socket, name) = (&config.docker_socket, docker::name(&container));
            let updated =
                docker::update(socket, &name, (&resources, &limits), config.cpu_quota).await;
            if let Err(error) = updated {
                tracing::warn!(container, %error, "limits not changed");
            }
        });
    }

    /// Sends a signal to a container's first process, which may have ended just now.
    pub fn signal(&self, container: &str, signal: i32) {
        let pid = self.running().get(container).and_then(|entry| entry.pid);
        let Some(pid) = pid.filter(|pid| is_of(*pid, container)) else { return };
        if let Err(error) = send(pid, signal) {
            tracing::debug!(container, %error, "not signalled");
        }
    }

    /// Ends a container and everything in it.
    pub fn destroy(&self, container: String) {
        let pid = self.running().get(&container).and_then(|entry| {
            entry.ending.cancel();
            entry.pid
        });
        let launcher = self.clone();
        tokio::spawn(async move { launcher.end(container, pid).await });
    }

    async fn end(&self, container: String, pid: Option<i32>) {
        if self.uses_docker() && !container.contains('.') {
            docker::end(&self.config.docker_socket, &docker::name(&container)).await;
        }
        let cgroups = self.config.cgroups.clone();
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(pid) = pid.filter(|pid| is_of(*pid, &container)) {
                kill_tree(pid);
            }
            if let Some(cgroups) = cgroups {
                cgroups.destroy(&container);
            }
        })
        .await;
    }

    /// Ends a container of the agent before that nobody is to know of.
    pub fn end_stray(&self, container: String, pid: i32) {
        let launcher = self.clone();
        tokio::spawn(async move { launcher.end(container, Some(pid)).await });
    }

    /// Ends all containers, as `meso up` does when it ends.
    pub async fn destroy_all(&self) {
        let running: Vec<(String, Option<i32>)> = {
            let all = self.running();
            all.iter().map(|(id, entry)| (id.clone(), entry.pid)).collect()
        };
        for (container, pid) in running {
            let name = docker::name(&container);
            self.end(container, pid).await;
            if self.uses_docker() {
                docker::remove(&self.config.docker_socket, &name).await;
            }
        }
    }
}

/// Whether containers may be started from the launcher directory: what is missing there, if anything.
///
/// # Errors
/// The missing file, in words.
pub fn check_programs(config: &Config) -> Result<(), String> {
    let needed = [("mesos", "mesos-executor"), ("docker", "mesos-docker-executor")];
    for (containerizer, program) in needed {
        let path = config.launcher_dir.join(program);
        if config.has(containerizer) && fs::metadata(&path).is_err() {
            return Err(format!("{} is missing (--launcher_dir)", path.display()));
        }
    }
    Ok(())
}
