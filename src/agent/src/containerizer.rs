//! Starting and ending containers.
//!
//! An executor is a process of its own session that outlives the agent. The mesos containerizer puts it into cgroups
//! where it may; for a Docker task the process is `mesos-docker-executor`, which runs the container in Docker. A
//! container without executor has a process of ours beside it ([`supervise`]), which outlives the agent as well.

pub mod cgroups;
pub mod cni;
pub mod confinement;
pub mod dns;
pub mod docker;
pub mod fetch;
mod first;
pub mod helper;
pub mod images;
pub mod isolation;
pub mod launcher;
mod namespaces;
mod problem;
pub mod processes;
mod resource_limits;
pub mod secrets;
mod shared;
mod start;
pub mod supervise;
pub mod switchboard;
mod terminal;
pub mod view;
mod volumes;

pub use problem::Problem;
pub use resource_limits::ResourceLimits;
pub use shared::SharedPath;
pub use volumes::PersistentVolume;

pub use start::{
    MEMORY_EVENTS, MEMORY_LIMIT, TASK_CONFINEMENT, TASK_IMAGE, TASK_SECRETS, TASK_USER, check_user,
};

use std::io;
use std::path::{Path, PathBuf};

use mesos::resources::Resources;
use mesos::v1;

use crate::checkpoint::paths::Run;

/// An error of the system, with its place.
fn at(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

/// What runs as the executor.
#[derive(Debug, Clone)]
pub enum Program {
    /// `mesos-executor`, which runs a command.
    CommandExecutor,
    /// `mesos-docker-executor`, which runs a Docker container.
    DockerExecutor,
    /// A framework's own.
    Custom(v1::CommandInfo),
    /// A framework's own, which is a container of Docker's.
    CustomInDocker(v1::CommandInfo),
}

/// What is different for a container that a process stays beside: one without executor, or with a terminal.
#[derive(Debug, Clone)]
pub struct Supervision {
    /// Whether it is an executor's.
    pub is_executors: bool,
    /// Where its process and its end are noted, and its input and output served.
    pub runtime: PathBuf,
    /// The container that it shares cgroups with: it has none of its own.
    pub shares: Option<String>,
    /// Whether it ends with whoever looks into another by it.
    pub is_session: bool,
    /// Whether its input and output are served.
    pub has_io: bool,
    /// Rows and columns of its terminal, if it has one.
    pub window: Option<(u16, u16)>,
    /// The process whose namespaces it shares.
    pub beside: Option<i32>,
    /// The first process of the container that it is nested in.
    pub nested_in: Option<i32>,
    /// What it shares of the sandbox of the container that it is nested in.
    pub shared_paths: Vec<SharedPath>,
}

/// A container to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which run of which executor.
    pub run: Run,
    /// What runs in it.
    pub program: Program,
    /// Its sandbox.
    pub sandbox: PathBuf,
    /// Where to note its first process, if it is checkpointed.
    pub pid_file: Option<PathBuf>,
    /// The user to run as, if the agent may choose.
    pub user: Option<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Variables of the command whose values are secrets.
    pub secrets: Vec<v1::environment::Variable>,
    /// What to fetch into the sandbox first.
    pub uris: Vec<v1::command_info::Uri>,
    /// The kind of container that was asked for.
    pub container: Option<v1::ContainerInfo>,
    /// How it is watched, if no executor runs in it.
    pub supervision: Option<Supervision>,
    /// What it asks for.
    pub resources: Resources,
    /// What it may take of that.
    pub limits: ResourceLimits,
    /// Its persistent volumes.
    pub volumes: Vec<PersistentVolume>,
}
