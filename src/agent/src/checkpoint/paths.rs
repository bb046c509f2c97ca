//! Where an agent keeps what: sandboxes and checkpoints (Mesos' `slave/paths.cpp`).

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Beside `task.info`: the whole task, as long as no update says that its executor has got it. The original has no
/// such file, and ignores it.
pub const QUEUED_TASK: &str = "task.queued";

/// Beside it, for a task of a group: the name of the group's first task. The original has no such file either.
pub const TASK_GROUP: &str = "task.group";

/// Beside `executor.info`: whether the agent made that up for a task that named no executor, `1` or `0`.
pub const GENERATED: &str = "executor_generated_for_command_task";

/// In an agent's checkpoint: how an operator wants it drained.
pub const DRAIN_CONFIG: &str = "drain.config";

/// One run of an executor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The agent's id.
    pub agent: String,
    /// The framework's id.
    pub framework: String,
    /// The executor's id.
    pub executor: String,
    /// The container's id.
    pub container: String,
}

impl Run {
    /// Its directory below `root`: the work directory, or the checkpoint in it.
    pub fn below(&self, root: &Path) -> PathBuf {
        executor(root, &self.agent, &self.framework, &self.executor)
            .join("runs")
            .join(&self.container)
    }

    /// The sandbox.
    pub fn sandbox(&self, work_dir: &Path) -> PathBuf {
        self.below(work_dir)
    }

    /// Where the run's checkpoint is.
    pub fn meta(&self, work_dir: &Path) -> PathBuf {
        self.below(&meta(work_dir))
    }

    /// Where the checkpoint of one of its tasks is.
    pub fn task(&self, work_dir: &Path, task: &str) -> PathBuf {
        self.meta(work_dir).join("tasks").join(task)
    }
}

/// `<work_dir>/meta`.
pub fn meta(work_dir: &Path) -> PathBuf {
    work_dir.join("meta")
}

/// `<root>/slaves/<agent>`.
pub fn agent(root: &Path, agent: &str) -> PathBuf {
    root.join("slaves").join(agent)
}

/// `<root>/slaves/<agent>/frameworks/<framework>`.
pub fn framework(root: &Path, agent_id: &str, framework: &str) -> PathBuf {
    agent(root, agent_id).join("frameworks").join(framework)
}

/// `…/executors/<executor>`.
pub fn executor(root: &Path, agent_id: &str, framework_id: &str, executor: &str) -> PathBuf {
    framework(root, agent_id, framework_id).join("executors").join(executor)
}

/// Removes the directory of a run, and its executor's with it if there was no later run.
///
/// # Errors
/// What the system says, with the path; what is gone already is no error.
pub fn remove_run(directory: &Path) -> io::Result<()> {
    let is_latest = directory.parent().is_some_and(|runs| {
        fs::read_link(runs.join("latest")).is_ok_and(|latest| latest == directory)
    });
    let executor = directory.ancestors().nth(2).filter(|_| is_latest);
    let removed = executor.unwrap_or(directory);
    remove(removed)
}

/// Removes what is left of a framework or an agent, from the sandboxes or the checkpoint.
///
/// # Errors
/// What the system says, with the path; what is gone already is no error.
pub fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", directory.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_run_keeps_its_executor() {
        let directory = tempfile::TempDir::new().unwrap();
        let executor = directory.path().join("executors/e");
        let (first, second) = (executor.join("runs/1"), executor.join("runs/2"));
        for run in [&first, &second] {
            fs::create_dir_all(run.join("tasks")).unwrap();
        }
        std::os::unix::fs::symlink(&second, executor.join("runs/latest")).unwrap();
        remove_run(&first).unwrap();
        assert!(!first.exists() && second.exists());
        remove_run(&second).unwrap();
        assert!(!executor.exists());
        remove_run(&second).unwrap();
    }
}
