//! What an agent that starts again finds of the one before (Mesos' `slave/state.cpp`): its id, its executors, and the
//! updates that nobody acknowledged.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use mesos::internal as m;
use mesos::v1;
use prost::Message as _;

use super::{Agent, Executor, ExecutorState, Framework, is_terminal};
use crate::checkpoint;
use crate::paths::{self, Run};

/// An executor that was running.
#[derive(Debug)]
pub struct RecoveredExecutor {
    /// What it is.
    pub info: v1::ExecutorInfo,
    /// Where it ran.
    pub run: Run,
    /// Whether it was made up for a command task.
    pub generated: bool,
    /// The first process of its container, if it was noted.
    pub pid: Option<i32>,
    /// Its tasks with the records of their updates.
    pub tasks: Vec<(v1::Task, Vec<m::StatusUpdateRecord>)>,
    /// Whether it is known to have ended.
    pub ended: bool,
}

/// Everything that was found.
#[derive(Debug)]
pub struct Recovered {
    /// The agent, with its id.
    pub info: v1::AgentInfo,
    /// Frameworks and their executors.
    pub frameworks: Vec<(v1::FrameworkInfo, Vec<RecoveredExecutor>)>,
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads the checkpoint below `<work_dir>/meta`; `None` if there is none.
///
/// # Errors
/// When a file can't be read or is damaged.
pub fn read(work_dir: &Path) -> io::Result<Option<Recovered>> {
    let Ok(latest) = fs::read_link(paths::meta(work_dir).join("slaves/latest")) else { return Ok(None) };
    let agent_id = name(&latest);
    let directory = paths::agent(&paths::meta(work_dir), &agent_id);
    let Some(info) = checkpoint::read::<v1::AgentInfo>(&directory.join("slave.info"))? else { return Ok(None) };
    let mut frameworks = Vec::new();
    for framework in list(&directory.join("frameworks"))? {
        let Some(framework_info) = checkpoint::read::<v1::FrameworkInfo>(&framework.join("framework.info"))? else { continue };
        let mut executors = Vec::new();
        for executor in list(&framework.join("executors"))? {
            if let Some(found) = read_executor(&agent_id, &name(&framework), &executor)? {
                executors.push(found);
            }
        }
        frameworks.push((framework_info, executors));
    }
    Ok(Some(Recovered { info, frameworks }))
}

fn read_executor(agent: &str, framework: &str, directory: &Path) -> io::Result<Option<RecoveredExecutor>> {
    let Some(info) = checkpoint::read::<v1::ExecutorInfo>(&directory.join("executor.info"))? else { return Ok(None) };
    let Ok(latest) = fs::read_link(directory.join("runs/latest")) else { return Ok(None) };
    let run = Run { agent: agent.to_owned(), framework: framework.to_owned(), executor: name(directory), container: name(&latest) };
    let meta = directory.join("runs").join(&run.container);
    let mut tasks = Vec::new();
    for task in list(&meta.join("tasks"))? {
        let Some(info) = checkpoint::read::<v1::Task>(&task.join("task.info"))? else { continue };
        let records = match fs::read(task.join("task.updates")) {
            // A torn record at the end was never acted upon.
            Ok(content) => checkpoint::read_all::<m::StatusUpdateRecord>(&content).0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        tasks.push((info, records));
    }
    Ok(Some(RecoveredExecutor {
        info,
        generated: directory.join("executor_generated_for_command_task").exists(),
        pid: fs::read_to_string(meta.join("pids/forked.pid")).ok().and_then(|text| text.trim().parse().ok()),
        tasks,
        ended: meta.join("executor.sentinel").exists(),
        run,
    }))
}

/// Whether an agent that was `old` may go on as `new` (`--reconfiguration_policy=equal`): what differs, if anything.
pub fn incompatibility(old: &v1::AgentInfo, new: &v1::AgentInfo) -> Option<String> {
    let normal = |info: &v1::AgentInfo| {
        let mut info = info.clone();
        info.id = None;
        info.checkpoint = None;
        info.resources = mesos::resources::Resources::from_protos(&info.resources).to_protos();
        info
    };
    let (old, new) = (normal(old), normal(new));
    if old.hostname != new.hostname {
        return Some(format!("hostname: '{}' vs '{}'", old.hostname, new.hostname));
    }
    if old.port() != new.port() {
        return Some(format!("port: {} vs {}", old.port(), new.port()));
    }
    if old.resources != new.resources {
        let text = |info: &v1::AgentInfo| mesos::resources::Resources::from_protos(&info.resources).to_string();
        return Some(format!("resources: {} vs {}", text(&old), text(&new)));
    }
    (old.encode_to_vec() != new.encode_to_vec()).then(|| "attributes or domain".to_owned())
}

impl Agent {
    /// Takes over what was recovered. Executors are expected to subscribe again within
    /// `--executor_reregistration_timeout`; the containers to watch are returned with their processes.
    pub fn recover(&mut self, now: super::Now, recovered: Recovered) -> Vec<(Run, Option<i32>)> {
        let mut watched = Vec::new();
        self.info.id.clone_from(&recovered.info.id);
        let deadline = now.mono + self.settings.executor_reregistration_timeout.max(Duration::from_secs(1));
        for (info, executors) in recovered.frameworks {
            let Some(framework_id) = info.id.as_ref().map(|id| id.value.clone()) else { continue };
            let mut framework = Framework { info, executors: IndexMap::new(), completed: VecDeque::new() };
            for found in executors {
                let mut executor = Executor {
                    info: found.info,
                    run: found.run.clone(),
                    generated: found.generated,
                    state: ExecutorState::Registering(deadline),
                    stream: None,
                    queued: IndexMap::new(),
                    tasks: IndexMap::new(),
                    completed: VecDeque::new(),
                    ending: None,
                };
                let mut waits = false;
                for (mut task, records) in found.tasks {
                    waits |= self.replay(&framework_id, &mut task, records);
                    if is_terminal(task.state()) {
                        executor.completed.push_back(task);
                    } else {
                        executor.tasks.insert(task.task_id.value.clone(), task);
                    }
                }
                if !found.ended {
                    watched.push((found.run, found.pid));
                    framework.executors.insert(executor.run.executor.clone(), executor);
                } else if waits {
                    framework.completed.push_back(executor);
                }
            }
            if !framework.executors.is_empty() || !framework.completed.is_empty() {
                self.frameworks.insert(framework_id, framework);
            }
        }
        watched
    }

    /// Replays a task's records; whether an update still waits for its acknowledgement.
    fn replay(&mut self, framework: &str, task: &mut v1::Task, records: Vec<m::StatusUpdateRecord>) -> bool {
        let key = (framework.to_owned(), task.task_id.value.clone());
        for record in records {
            match (record.r#type(), record.update, record.uuid) {
                (m::status_update_record::Type::Update, Some(update), _) => {
                    task.state = update.status.state;
                    task.statuses.push(update.status.clone());
                    self.updates.push(update);
                }
                (m::status_update_record::Type::Ack, _, Some(uuid)) => {
                    self.updates.acknowledge(&key, &uuid);
                }
                _ => {}
            }
        }
        self.updates.has_pending(&key)
    }
}
