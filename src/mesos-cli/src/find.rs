//! Finding agents, tasks and their containers by what people call them.

use anyhow::{Context as _, Result, bail};
use mesos::v1::master::response::get_agents::Agent;
use mesos::v1::master::response::get_frameworks;
use mesos::v1::master::{Call, call};
use mesos::v1::{self, agent};

use crate::client::Client;

/// A master's call without anything in it.
pub(crate) fn master_call(kind: call::Type) -> Call {
    Call { r#type: Some(kind as i32), ..Default::default() }
}

/// An agent's call without anything in it.
pub(crate) fn agent_call(kind: agent::call::Type) -> agent::Call {
    agent::Call { r#type: Some(kind as i32), ..Default::default() }
}

/// All agents.
///
/// # Errors
/// As [`Client::call`].
pub(crate) async fn agents(client: &Client) -> Result<Vec<Agent>> {
    let answer = client.call(&master_call(call::Type::GetAgents)).await?;
    Ok(answer.get_agents.unwrap_or_default().agents)
}

/// An agent's id.
pub(crate) fn id_of(agent: &Agent) -> &str {
    agent.agent_info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default()
}

/// An agent by its id, or by its host's name if only one is there.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) async fn agent(client: &Client, name: &str) -> Result<Agent> {
    let mut found: Vec<Agent> = agents(client)
        .await?
        .into_iter()
        .filter(|agent| id_of(agent) == name || agent.agent_info.hostname == name)
        .collect();
    match (found.pop(), found.len()) {
        (Some(agent), 0) => Ok(agent),
        (Some(_), more) => bail!("{} agents are on '{name}': name one by its id", more + 1),
        (None, _) => bail!("there is no agent '{name}'; `mesos agents` lists them"),
    }
}

/// Looks for a framework that is or was.
///
/// # Errors
/// When none has this id.
pub(crate) async fn framework(client: &Client, id: &str) -> Result<()> {
    let answer = client.call(&master_call(call::Type::GetFrameworks)).await?;
    let all = answer.get_frameworks.unwrap_or_default();
    let mut every = all.frameworks.iter().chain(&all.completed_frameworks);
    let own = |known: &get_frameworks::Framework| {
        known.framework_info.id.as_ref().is_some_and(|own| own.value == id)
    };
    if !every.any(own) {
        bail!("there is no framework '{id}'; `mesos frameworks --all` lists them");
    }
    Ok(())
}

/// A task and where it runs.
pub(crate) struct Found {
    /// The task.
    pub(crate) task: v1::Task,
    /// The API of its agent.
    pub(crate) agent: String,
}

/// A task by its id, or the beginning of it; running ones go first.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) async fn task(client: &Client, name: &str) -> Result<Found> {
    let answer =
        client.call(&master_call(call::Type::GetTasks)).await?.get_tasks.unwrap_or_default();
    let running = answer.tasks;
    let over = answer.completed_tasks.into_iter().chain(answer.unreachable_tasks).collect();
    let task = match unique(running, name)? {
        Some(task) => task,
        None => unique(over, name)?.with_context(|| {
            format!("there is no task '{name}'; `mesos tasks --all` lists them")
        })?,
    };
    let agent = agent(client, &task.agent_id.value)
        .await
        .with_context(|| format!("task {} ran where nobody is any more", task.task_id.value))?;
    Ok(Found { task, agent: client.base_of(&agent)? })
}

fn unique(tasks: Vec<v1::Task>, name: &str) -> Result<Option<v1::Task>> {
    if let Some(exact) = tasks.iter().rfind(|task| task.task_id.value == name) {
        return Ok(Some(exact.clone()));
    }
    let mut found: Vec<v1::Task> =
        tasks.into_iter().filter(|task| task.task_id.value.starts_with(name)).collect();
    if found.len() > 1 {
        let ids: Vec<&str> = found.iter().take(5).map(|task| task.task_id.value.as_str()).collect();
        bail!("{} tasks begin with '{name}': {}", found.len(), ids.join(", "));
    }
    Ok(found.pop())
}

impl Found {
    fn executor(&self) -> &str {
        self.task.executor_id.as_ref().map_or(&self.task.task_id.value, |id| &id.value)
    }

    /// Where the agent shows the task's sandbox, or a file in it.
    pub(crate) fn sandbox(&self, path: &str) -> String {
        let run = format!(
            "/frameworks/{}/executors/{}/runs/latest",
            self.task.framework_id.value,
            self.executor()
        );
        let nested = self.container_in_status().is_some_and(|id| id.parent.is_some());
        let sandbox = if nested { format!("{run}/tasks/{}", self.task.task_id.value) } else { run };
        match path.trim_matches('/') {
            "" => sandbox,
            path => format!("{sandbox}/{path}"),
        }
    }

    /// What is said of a file in the sandbox that the agent doesn't give.
    pub(crate) fn cannot(&self, verb: &str, path: &str) -> String {
        let id = &self.task.task_id.value;
        format!("cannot {verb} {path} (`mesos ls {id}` lists what is in the sandbox)")
    }

    fn container_in_status(&self) -> Option<&v1::ContainerId> {
        let mut newest_first = self.task.statuses.iter().rev();
        newest_first.find_map(|status| status.container_status.as_ref()?.container_id.as_ref())
    }

    /// The container that the task runs in.
    ///
    /// # Errors
    /// When its agent doesn't know.
    pub(crate) async fn container(&self, client: &Client) -> Result<v1::ContainerId> {
        if let Some(known) = self.container_in_status() {
            return Ok(known.clone());
        }
        let call = agent_call(agent::call::Type::GetContainers);
        let all = client.call_agent(&self.agent, &call).await?.get_containers.unwrap_or_default();
        let id = |id: &Option<v1::ExecutorId>| id.as_ref().map(|id| id.value.clone());
        all.containers
            .into_iter()
            .find(|container| {
                let framework = container.framework_id.as_ref().map(|id| id.value.as_str());
                framework == Some(&self.task.framework_id.value)
                    && id(&container.executor_id).as_deref() == Some(self.executor())
            })
            .map(|container| container.container_id)
            .with_context(|| format!("task {} has no container now", self.task.task_id.value))
    }
}
