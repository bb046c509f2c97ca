//! Reading what the agent before noted (Mesos' `slave/state.cpp`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesos::internal as m;
use mesos::v1;

use super::paths::{self, DRAIN_CONFIG, QUEUED_TASK, Run, TASK_GROUP};
use super::{read, read_all};
use crate::containerizer::{processes, switchboard};
use crate::core::container_id::ContainerId;
use crate::core::containers::{Class, RecoveredContainer};
use crate::core::recovery::{Recovered, RecoveredExecutor, RecoveredTask};

/// In a runtime directory: the container is standalone.
pub const STANDALONE: &str = "standalone.marker";
/// In a runtime directory: the container ends with whoever looked into another by it.
pub const SESSION: &str = "force_destroy_on_recovery";
/// Deepest nesting that is looked for.
const NESTED_MAX: usize = 32;

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            let mut paths = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()?;
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(super::named(directory, &error)),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is read, and what is not: a damaged file ends the recovery when `strict`, else what hangs on it is left out.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// `--work_dir`.
    pub work_dir: &'a Path,
    /// `--strict`.
    pub is_strict: bool,
}

impl Reader<'_> {
    /// Reads the checkpoint below `<work_dir>/meta`; `None` if there is none.
    ///
    /// # Errors
    /// When a file can't be read or is damaged.
    pub fn read(self, has_rebooted: bool) -> io::Result<Option<Recovered>> {
        let meta = paths::meta(self.work_dir);
        let Ok(latest) = fs::read_link(meta.join("slaves/latest")) else { return Ok(None) };
        let agent_id = name(&latest);
        let directory = paths::agent(&meta, &agent_id);
        let info = read::<v1::AgentInfo>(&directory.join("slave.info"))?;
        let Some(info) = info else { return Ok(None) };
        let mut frameworks = Vec::new();
        for framework in list(&directory.join("frameworks"))? {
            let info =
                self.lenient(read::<v1::FrameworkInfo>(&framework.join("framework.info")))?;
            let Some(info) = info.flatten() else { continue };
            let mut executors = Vec::new();
            for executor in list(&framework.join("executors"))? {
                let found = self.executor(&agent_id, &name(&framework), &executor);
                executors.extend(self.lenient(found)?.flatten());
            }
            frameworks.push((info, executors));
        }
        let drain = self.lenient(read(&directory.join(DRAIN_CONFIG)))?.flatten();
        Ok(Some(Recovered { info, frameworks, drain, has_rebooted }))
    }

    fn lenient<T>(self, result: io::Result<T>) -> io::Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.is_strict => Err(error),
            Err(error) => {
                tracing::error!(%error, "left out of the recovery (--no-strict)");
                Ok(None)
            }
        }
    }

    fn executor(
        self,
        agent: &str,
        framework: &str,
        directory: &Path,
    ) -> io::Result<Option<RecoveredExecutor>> {
        let info = read::<v1::ExecutorInfo>(&directory.join("executor.info"))?;
        let (Some(info), Ok(latest)) = (info, fs::read_link(directory.join("runs/latest"))) else {
            return Ok(None);
        };
        let run = Run {
            agent: agent.to_owned(),
            framework: framework.to_owned(),
            executor: name(directory),
            container: name(&latest),
        };
        let meta = run.meta(self.work_dir);
        if !meta.is_dir() {
            return Ok(None); // Collected as garbage.
        }
        let mut tasks = Vec::new();
        for directory in list(&meta.join("tasks"))? {
            tasks.extend(self.lenient(task(&directory))?.flatten());
        }
        let pid = fs::read_to_string(meta.join("pids/forked.pid")).ok();
        Ok(Some(RecoveredExecutor {
            is_generated: is_generated(directory, &info),
            info,
            process: fs::read_to_string(meta.join("pids/libprocess.pid"))
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            pid: pid.and_then(|text| text.trim().parse().ok()),
            tasks,
            has_ended: meta.join("executor.sentinel").exists(),
            ended_ago: age(&meta.join("executor.sentinel")),
            run,
        }))
    }
}

/// Whether an executor was made up by the agent; where that is not said, as older agents left it, by its looks.
fn is_generated(directory: &Path, info: &v1::ExecutorInfo) -> bool {
    match fs::read_to_string(directory.join(paths::GENERATED)) {
        Ok(text) => text.trim() != "0",
        Err(_) => {
            let command = info.command.as_ref().map(v1::CommandInfo::value).unwrap_or_default();
            command.ends_with("mesos-executor") && info.name().starts_with("Command Executor")
        }
    }
}

/// How long ago a file was written.
fn age(path: &Path) -> Duration {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.ok().and_then(|written| written.elapsed().ok()).unwrap_or_default()
}

/// The agents that were on this work directory before the one that goes on, and how long ago.
pub fn former_agents(work_dir: &Path) -> Vec<(String, Duration)> {
    let directory = paths::meta(work_dir).join("slaves");
    let latest = fs::read_link(directory.join("latest")).map(|path| name(&path)).ok();
    let all = list(&directory).unwrap_or_default();
    let former = all.iter().filter(|path| !path.is_symlink() && Some(name(path)) != latest);
    former.map(|path| (name(path), age(path))).collect()
}

fn task(directory: &Path) -> io::Result<Option<RecoveredTask>> {
    let Some(task) = read::<v1::Task>(&directory.join("task.info"))? else { return Ok(None) };
    let path = directory.join("task.updates");
    let records = match fs::read(&path) {
        Ok(content) => {
            let (records, rest) = read_all::<m::StatusUpdateRecord>(&content);
            // A torn record at the end was never acted upon. What is appended must not stand behind it.
            if rest > 0 {
                let file = fs::File::options().write(true).open(&path)?;
                file.set_len((content.len() - rest) as u64)?;
                file.sync_all()?;
            }
            records
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(super::named(&path, &error)),
    };
    let queued = read::<v1::TaskInfo>(&directory.join(QUEUED_TASK))?;
    let group = fs::read_to_string(directory.join(TASK_GROUP)).ok();
    Ok(Some(RecoveredTask { task, queued, group, records }))
}

/// The containers without executor below `--runtime_dir`, each after the one that it is nested in
/// (`slave/containerizer/mesos/paths.cpp`).
///
/// Nothing there outlives a reboot. What can't be read is left out: then nobody waits for it any more.
pub fn containers(runtime_dir: &Path) -> Vec<RecoveredContainer> {
    let mut found = Vec::new();
    for path in list(&runtime_dir.join("containers")).unwrap_or_default() {
        let id = ContainerId::root_of(&name(&path));
        if path.join(STANDALONE).exists() {
            found.push(container(id.clone(), &path));
        }
        containers_in(&id, &path, &mut found);
    }
    found
}

fn containers_in(parent: &ContainerId, path: &Path, found: &mut Vec<RecoveredContainer>) {
    if parent.depth() > NESTED_MAX {
        return;
    }
    for path in list(&path.join("containers")).unwrap_or_default() {
        let id = parent.child(&name(&path));
        found.push(container(id.clone(), &path));
        containers_in(&id, &path, found);
    }
}

fn container(id: ContainerId, path: &Path) -> RecoveredContainer {
    let number = |name: &str| -> Option<i32> {
        fs::read_to_string(path.join(name)).ok()?.trim().parse().ok()
    };
    let text = id.to_string();
    // The number may be anybody's by now.
    let pid = number("pid").filter(|pid| processes::is_of(*pid, &text));
    let is_session = path.join(SESSION).exists();
    RecoveredContainer {
        pid,
        status: number("status"),
        class: if is_session { Class::Session } else { Class::Default },
        has_io: switchboard::directory(path).is_dir(),
        has_cgroups: false,
        id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_is_the_agents_own_where_that_is_said_or_seen() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut info = v1::ExecutorInfo::default();
        let is_own = |info: &v1::ExecutorInfo| is_generated(directory.path(), info);
        assert!(!is_own(&info));
        info.name = Some("Command Executor (Task: t)".to_owned());
        let command =
            v1::CommandInfo { value: Some("/x/mesos-executor".to_owned()), ..Default::default() };
        info.command = Some(command);
        assert!(is_own(&info));
        // The original says it of each.
        for (text, expected) in [("0", false), ("1", true)] {
            fs::write(directory.path().join(paths::GENERATED), text).unwrap();
            assert_eq!(is_own(&info), expected);
        }
    }
}
