//! Where an agent keeps what: sandboxes and checkpoints (Mesos' `slave/paths.cpp`).

use std::path::{Path, PathBuf};

/// Beside `task.info`: the whole task, as long as no update says that its executor has got it. The original has no
/// such file, and ignores it.
pub const QUEUED_TASK: &str = "task.queued";

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
    fn below(&self, root: &Path) -> PathBuf {
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
