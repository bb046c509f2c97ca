//! An executor's use of the agent's operator API: containers nested in its own.

use std::time::Duration;

use anyhow::Context as _;
use mesos::json::{self, Dialect};
use mesos::v1;
use mesos::v1::agent::{Call, Response, call};

use super::client::connection;
use super::pod::Ended;

/// Pause between two attempts to reach an agent that is away.
const RETRY: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(60);

/// The agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentApi {
    http: reqwest::Client,
    url: String,
}

/// What an agent said that did not do what it was asked for.
#[derive(Debug)]
pub struct Refusal {
    /// Whether it knows of no such thing.
    pub is_unknown: bool,
    /// What it said.
    pub text: String,
}

impl AgentApi {
    /// The agent that started this executor.
    ///
    /// # Errors
    /// When it was started by none.
    pub fn from_environment() -> anyhow::Result<Self> {
        let endpoint = std::env::var("MESOS_AGENT_ENDPOINT")
            .context("MESOS_AGENT_ENDPOINT is not set: this program is started by a Mesos agent")?;
        let tls = tls::of_executor()?;
        let scheme = tls::client::scheme(tls.as_ref());
        let http = connection(tls.as_ref())?;
        Ok(Self { http, url: format!("{scheme}://{endpoint}/slave(1)/api/v1") })
    }

    /// One attempt: the body of a reply that is well; nothing while the agent is away.
    async fn once(
        &self,
        call: &Call,
        timeout: Option<Duration>,
    ) -> Option<Result<Vec<u8>, Refusal>> {
        let request = self
            .http
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("Accept", "application/json")
            .body(json::to_string(call, Dialect::V1));
        let request = match timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        };
        let reply = request.send().await.ok()?;
        let status = reply.status();
        if status == http::StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let body = reply.bytes().await.ok()?.to_vec();
        if status.is_success() {
            return Some(Ok(body));
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        Some(Err(Refusal { is_unknown: status == http::StatusCode::NOT_FOUND, text }))
    }

    /// Starts a nested container. An agent that went away meanwhile is asked again: it knows if it has done so.
    ///
    /// # Errors
    /// What the agent says.
    pub async fn launch(&self, launch: call::LaunchContainer) -> Result<(), String> {
        let call = Call {
            r#type: Some(call::Type::LaunchContainer as i32),
            launch_container: Some(launch),
            ..Default::default()
        };
        loop {
            match self.once(&call, None).await {
                Some(Ok(_)) => return Ok(()),
                Some(Err(refusal)) => return Err(refusal.text),
                None => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Waits for a nested container's end, through restarts of the agent.
    pub async fn wait(&self, container_id: v1::ContainerId) -> Ended {
        let call = Call {
            r#type: Some(call::Type::WaitContainer as i32),
            wait_container: Some(call::WaitContainer { container_id }),
            ..Default::default()
        };
        loop {
            match self.once(&call, None).await {
                Some(Ok(body)) => {
                    let answer: Option<Response> = json::from_slice(&body, Dialect::V1).ok();
                    let ended = answer.and_then(|answer| answer.wait_container);
                    return ended.map_or(Ended::Unknown, |ended| Ended::Known(Box::new(ended)));
                }
                Some(Err(refusal)) if refusal.is_unknown => return Ended::Unknown,
                Some(Err(refusal)) => {
                    tracing::warn!(refusal.text, "the agent can't be waited at");
                    tokio::time::sleep(RETRY).await;
                }
                None => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Sends a signal to a nested container.
    ///
    /// # Errors
    /// What the agent says, or that it is away.
    pub async fn kill(&self, container_id: v1::ContainerId, signal: i32) -> Result<(), String> {
        let call = Call {
            r#type: Some(call::Type::KillContainer as i32),
            kill_container: Some(call::KillContainer { container_id, signal: Some(signal) }),
            ..Default::default()
        };
        match self.once(&call, Some(TIMEOUT)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(refusal)) => Err(refusal.text),
            None => Err("the agent is away".to_owned()),
        }
    }

    /// Removes what is left of a nested container; nothing is lost when that fails.
    pub async fn remove(&self, container_id: v1::ContainerId) {
        let call = Call {
            r#type: Some(call::Type::RemoveContainer as i32),
            remove_container: Some(call::RemoveContainer { container_id }),
            ..Default::default()
        };
        let _ = self.once(&call, Some(TIMEOUT)).await;
    }

    /// Runs a command beside a container, in a container nested in it; its exit status as `waitpid` gives it, if it is
    /// known.
    ///
    /// # Errors
    /// What the agent says.
    pub async fn run_beside(
        &self,
        beside: v1::ContainerId,
        command: v1::CommandInfo,
    ) -> Result<Option<i32>, String> {
        let container_id = v1::ContainerId {
            value: format!("check-{}", uuid::Uuid::new_v4()),
            parent: Some(Box::new(beside)),
        };
        self.launch(call::LaunchContainer {
            container_id: container_id.clone(),
            command: Some(command),
            ..Default::default()
        })
        .await?;
        // Dropped in between, the check is over time: it is ended with its container.
        let guard = Guard { api: self.clone(), container_id: Some(container_id.clone()) };
        let ended = self.wait(container_id.clone()).await;
        guard.forget();
        self.remove(container_id).await;
        match ended {
            Ended::Known(ended) => Ok(ended.exit_status),
            Ended::Unknown | Ended::Failed(..) => Ok(None),
        }
    }
}

/// Ends a container that nobody waits for any more.
struct Guard {
    api: AgentApi,
    container_id: Option<v1::ContainerId>,
}

impl Guard {
    fn forget(mut self) {
        self.container_id = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(container_id) = self.container_id.take() else { return };
        let api = self.api.clone();
        tokio::spawn(async move {
            // It may have ended just now.
            let _ = api.kill(container_id.clone(), 9).await;
            let _ = api.wait(container_id.clone()).await;
            api.remove(container_id).await;
        });
    }
}
