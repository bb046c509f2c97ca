//! Containers that no framework's executor runs in: nested ones, which run inside of another container, and standalone
//! ones, which an operator asks for (`slave/containerizer/mesos/containerizer.cpp`).
//!
//! A nested container ends with the container that it is in. How it ended is kept until then, so that whoever waits for
//! it can come late; of a standalone one nothing is kept, as in the original.

mod ends;

use std::path::PathBuf;

use indexmap::IndexMap;
use mesos::resources::Resources;
use mesos::v1;

use super::container_id::ContainerId;
use super::{Agent, Effect};
use crate::checkpoint::paths::Run;
use crate::containerizer::{
    Launch, Problem, Program, ResourceLimits, SharedPath, Supervision, secrets,
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// To run something of its own.
    Default,
    /// To look into the container that it is nested in (`ContainerClass::DEBUG`): it ends with whoever asked for it.
    Session,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Termination {
    /// The wait status of its process, if it is known.
    pub status: Option<i32>,
    /// Why the agent ended it, if it did.
    pub problem: Option<Problem>,
}

/// How far a container is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It is being started.
    Launching,
    /// It runs.
    Running,
    /// It is being ended.
    Destroying,
    /// It has ended.
    Ended(Termination),
}

/// A container without an executor.
#[derive(Debug)]
pub struct Container {
    /// How far it is.
    pub state: State,
    /// What it is for.
    pub class: Class,
    /// The process that stays beside it.
    pub pid: Option<i32>,
    /// Where it runs.
    pub sandbox: PathBuf,
    /// Who it runs as, if the agent may choose.
    pub user: Option<String>,
    /// What a standalone one may use.
    pub resources: Resources,
    /// Whether its input and output can be attached to.
    pub has_io: bool,
}

impl Container {
    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }
}

/// A container that is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Its id.
    pub id: ContainerId,
    /// What it is for.
    pub class: Class,
    /// What runs in it.
    pub command: v1::CommandInfo,
    /// What kind it is.
    pub container: Option<v1::ContainerInfo>,
    /// What it asks for, if it shares no cgroups.
    pub resources: Resources,
    /// What it may take of that.
    pub limits: ResourceLimits,
}

/// What became of a container that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// [`Effect::Launched`] tells when it runs.
    Launching,
    /// It runs already.
    Already,
}

/// What is known of a container that is waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Waited {
    /// [`Effect::Ended`] tells when it has ended.
    Alive,
    /// It has ended.
    Ended(Termination),
}

/// What was found of a container that the agent before had.
#[derive(Debug, Clone)]
pub struct RecoveredContainer {
    /// Its id.
    pub id: ContainerId,
    /// The process that stays beside it, if it lives.
    pub pid: Option<i32>,
    /// The wait status, if it has ended.
    pub status: Option<i32>,
    /// What it is for.
    pub class: Class,
    /// Whether its input and output can be attached to.
    pub has_io: bool,
    /// Whether cgroups of its own are left: they tell why it ended, and are to be removed.
    pub has_cgroups: bool,
}

/// A container that the agent before had, and the process that stays beside it.
pub type Living = (ContainerId, i32);

/// Why a container can't be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRemoved {
    /// There is none, or it is not one that can be removed: 400.
    Wrong(String),
    /// It has not ended, or what it was in is gone: 500.
    State(String),
}

/// All of them, by id.
pub type Containers = IndexMap<ContainerId, Container>;

/// What an executor's container says of the containers in it.
struct Root {
    run: Run,
    sandbox: PathBuf,
    user: Option<String>,
    is_docker: bool,
    is_ending: bool,
}

impl Agent {
    /// The executor's container of this id.
    fn root(&self, id: &str) -> Option<Root> {
        let mut executors =
            self.frameworks.values().flat_map(|framework| framework.executors.values());
        let executor = executors.find(|executor| executor.run.container == id)?;
        let docker = executor
            .info
            .container
            .as_ref()
            .filter(|container| container.r#type() == v1::container_info::Type::Docker);
        Some(Root {
            run: executor.run.clone(),
            sandbox: executor.run.sandbox(&self.settings.work_dir),
            user: self.owner(id).filter(|_| self.settings.switch_user),
            is_docker: docker.is_some(),
            is_ending: matches!(executor.state, super::ExecutorState::Terminating(None)),
        })
    }

    /// The user that an executor's container belongs to.
    pub fn owner(&self, id: &str) -> Option<String> {
        self.frameworks.values().find_map(|framework| {
            let mut executors = framework.executors.values();
            let executor = executors.find(|executor| executor.run.container == id)?;
            let own = executor.info.command.as_ref().and_then(|command| command.user.clone());
            Some(own.unwrap_or_else(|| framework.info.user.clone()))
        })
    }

    /// The process that a container began with.
    fn first_process(&self, id: &ContainerId) -> Option<i32> {
        if let Some(container) = self.containers.get(id) {
            return container.pid;
        }
        let is_it = |executor: &&super::Executor| executor.run.container == id.root();
        self.executors().find(is_it).filter(|_| id.depth() == 0).and_then(|executor| executor.pid)
    }

    /// Starts a container. What is to be asked later is told by effects.
    ///
    /// # Errors
    /// Why it can't be, in the original's words.
    pub fn launch_container(&mut self, ask: Ask) -> Result<Launched, String> {
        let Ask { id, class, command, container: mut kind, resources, limits } = ask;
        let is_alive = self.containers.get(&id).is_some_and(Container::is_alive);
        if is_alive || (id.depth() == 0 && self.root(id.root()).is_some()) {
            return Ok(Launched::Already);
        }
        let wants_docker =
            |kind: &v1::ContainerInfo| kind.r#type() != v1::container_info::Type::Mesos;
        if kind.as_ref().is_some_and(wants_docker) {
            return Err("The provided ContainerInfo is not supported".to_owned());
        }
        let shares = kind
            .as_ref()
            .and_then(|kind| kind.linux_info.as_ref())
            .is_none_or(v1::LinuxInfo::share_cgroups);
        let given = command.user.clone().filter(|_| self.settings.switch_user);
        let (run, sandbox, inherited) = self.place(&id)?;
        let shared_paths = id
            .parent()
            .and_then(|parent| self.sandbox_of(&parent))
            .map(|parent| take_shared(kind.as_mut(), &parent))
            .unwrap_or_default();
        let user = given.or(inherited);
        let window = window(kind.as_ref());
        let has_io = window.is_some() || class == Class::Session;
        let beside = (class == Class::Session).then(|| id.parent()).flatten();
        let supervision = Supervision {
            runtime: id.runtime(&self.settings.runtime_dir),
            shares: id.parent().filter(|_| shares).map(|parent| parent.to_string()),
            is_session: class == Class::Session,
            has_io,
            window,
            is_executors: false,
            beside: beside.and_then(|parent| self.first_process(&parent)),
            nested_in: id.parent().and_then(|parent| self.first_process(&parent)),
            shared_paths,
        };
        let launch = Launch {
            environment: environment(&command, class, &sandbox),
            secrets: secrets::variables(Some(&command)),
            uris: command.uris.clone(),
            run,
            pid_file: Some(supervision.runtime.join("pid")),
            supervision: Some(supervision),
            sandbox: sandbox.clone(),
            user: user.clone(),
            container: kind,
            resources: resources.clone(),
            limits,
            // Only executors have persistent volumes: those in them reach these through their sandbox.
            volumes: Vec::new(),
            program: Program::Custom(command),
        };
        tracing::info!(container = %id, ?class, "container to start");
        self.containers.shift_remove(&id);
        let container = Container {
            state: State::Launching,
            class,
            pid: None,
            sandbox,
            user,
            resources,
            has_io,
        };
        self.containers.insert(id, container);
        self.effects.push(Effect::Launch(Box::new(launch)));
        Ok(Launched::Launching)
    }

    /// The sandbox of a container.
    fn sandbox_of(&self, id: &ContainerId) -> Option<PathBuf> {
        match self.containers.get(id) {
            Some(container) => Some(container.sandbox.clone()),
            None => self.root(id.root()).filter(|_| id.depth() == 0).map(|root| root.sandbox),
        }
    }

    /// Where a container runs: its run, its sandbox, and the user of what it is in.
    fn place(&self, id: &ContainerId) -> Result<(Run, PathBuf, Option<String>), String> {
        let named = |run: Run| Run { container: id.to_string(), ..run };
        let unowned = Run {
            agent: self.id().unwrap_or_default().to_owned(),
            framework: String::new(),
            executor: String::new(),
            container: String::new(),
        };
        let Some(parent) = id.parent() else {
            let sandbox = self.settings.work_dir.join("containers").join(id.value());
            return Ok((named(unowned), sandbox, None));
        };
        let root = self.root(id.root());
        let missing = || format!("Parent container {parent} does not exist");
        let ending = || format!("Parent container {parent} is in 'DESTROYING' state");
        if root.as_ref().is_some_and(|root| root.is_docker) {
            return Err(
                "Nested containers are not supported by the Docker containerizer".to_owned()
            );
        }
        let inherited = match (self.containers.get(&parent), &root) {
            (Some(container), _) => match container.state {
                State::Ended(_) => return Err(missing()),
                State::Destroying => return Err(ending()),
                _ => container.user.clone(),
            },
            (None, Some(root)) if parent.depth() == 0 => {
                if root.is_ending {
                    return Err(ending());
                }
                root.user.clone()
            }
            (None, _) => return Err(missing()),
        };
        let (run, sandbox) = match root {
            Some(root) => (root.run, root.sandbox),
            None => {
                let top = self.containers.get(&id.root_id());
                (unowned, top.map(|top| top.sandbox.clone()).ok_or_else(missing)?)
            }
        };
        Ok((named(run), id.sandbox_in(&sandbox), inherited))
    }

    /// What is known of a container that somebody waits for; `None` if nothing is.
    pub fn wait_container(&self, id: &ContainerId) -> Option<Waited> {
        match self.containers.get(id) {
            Some(Container { state: State::Ended(how), .. }) => Some(Waited::Ended(how.clone())),
            Some(_) => Some(Waited::Alive),
            None => (id.depth() == 0 && self.root(id.root()).is_some()).then_some(Waited::Alive),
        }
    }

    /// Where a container's input and output are served, if they are; `None` if there is no such container.
    pub fn attachable(&self, id: &ContainerId) -> Option<Option<PathBuf>> {
        match self.containers.get(id).filter(|container| container.is_alive()) {
            Some(container) => {
                Some(container.has_io.then(|| id.runtime(&self.settings.runtime_dir)))
            }
            None => {
                let mut executors = self.executors().filter(|_| id.depth() == 0);
                let executor = executors.find(|executor| executor.run.container == id.root())?;
                let runtime = id.runtime(&self.settings.runtime_dir);
                Some(executor.terminal().map(|_| runtime))
            }
        }
    }

    /// Takes over the containers that the agent before had; returned are those to watch, with their processes, and those to
    /// end: what they were in is gone, or whoever looked into them. To be watched is, too, what ended without an agent and
    /// is not cleaned up.
    pub fn recover_containers(
        &mut self,
        found: Vec<RecoveredContainer>,
    ) -> (Vec<(ContainerId, Option<i32>)>, Vec<Living>) {
        let (mut watched, mut ended) = (Vec::new(), Vec::new());
        for RecoveredContainer { id, pid, status, class, has_io, has_cgroups } in found {
            let has_root = id.depth() == 0
                || self.root(id.root()).is_some()
                || self.containers.contains_key(&id.root_id());
            let is_orphan = !has_root || class == Class::Session;
            match pid {
                Some(pid) if is_orphan => {
                    ended.push((id, pid));
                    continue;
                }
                None if is_orphan || id.depth() == 0 => {
                    self.effects.push(Effect::Remove(id.runtime(&self.settings.runtime_dir)));
                    continue;
                }
                _ => {}
            }
            let Ok((_, sandbox, user)) = self.place(&id) else { continue };
            let is_watched = pid.is_some() || has_cgroups;
            let state = if is_watched {
                State::Running
            } else {
                State::Ended(Termination { status, ..Termination::default() })
            };
            let resources = Resources::new();
            let container = Container { state, class, pid, sandbox, user, resources, has_io };
            self.containers.insert(id.clone(), container);
            watched.extend(is_watched.then_some((id, pid)));
        }
        (watched, ended)
    }
}

/// Rows and columns of a container's terminal, if it is to have one.
pub(super) fn window(kind: Option<&v1::ContainerInfo>) -> Option<(u16, u16)> {
    let size = kind?.tty_info.as_ref()?.window_size.unwrap_or_default();
    let bounded = |number: u32| number.clamp(1, 0xffff) as u16;
    Some((bounded(size.rows), bounded(size.columns)))
}

/// The volumes of a container that are in the sandbox of its parent; what is left in `kind` is others' business.
fn take_shared(kind: Option<&mut v1::ContainerInfo>, parent: &std::path::Path) -> Vec<SharedPath> {
    let Some(kind) = kind else { return Vec::new() };
    let mut shared = Vec::new();
    kind.volumes.retain(|volume| {
        let source = volume.source.as_ref().and_then(|source| source.sandbox_path.as_ref());
        let of_parent = source
            .filter(|source| source.r#type() == v1::volume::source::sandbox_path::Type::Parent);
        shared.extend(of_parent.map(|source| SharedPath {
            sandbox: parent.to_owned(),
            path: source.path.clone(),
            container_path: volume.container_path.clone(),
        }));
        of_parent.is_none()
    });
    shared
}

/// What a container's process finds in its environment.
fn environment(
    command: &v1::CommandInfo,
    class: Class,
    sandbox: &std::path::Path,
) -> Vec<(String, String)> {
    let mut environment = match class {
        Class::Default => vec![
            ("PATH".to_owned(), PATH.to_owned()),
            ("MESOS_SANDBOX".to_owned(), sandbox.to_string_lossy().into_owned()),
        ],
        // It has that of the container that it looks into.
        Class::Session => Vec::new(),
    };
    let given = command.environment.iter().flat_map(|environment| &environment.variables);
    for variable in given {
        if let Some(value) = &variable.value {
            environment.retain(|(name, _)| *name != variable.name);
            environment.push((variable.name.clone(), value.clone()));
        }
    }
    environment
}
