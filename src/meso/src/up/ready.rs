//! Waiting until the cluster works: an agent is registered, and Marathon leads and is a framework.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Options;

/// How long the cluster may take to come up.
const START_MAX: Duration = Duration::from_secs(90);
/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often it is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// A client of the daemons' APIs.
pub(super) fn client() -> anyhow::Result<reqwest::Client> {
    let built = tls::client::builder(None).timeout(ANSWER_MAX).no_proxy().build();
    built.context("no HTTP client can be made")
}

/// Waits until all is up.
///
/// # Errors
/// When it takes too long; what was missing last is named.
pub(super) async fn wait(options: &Options) -> anyhow::Result<()> {
    let client = client()?;
    let host = options.shown_host();
    let state = format!("http://{host}:{}/state", options.master_port);
    let info = format!("http://{host}:{}/v2/info", options.marathon_port);
    let deadline = tokio::time::Instant::now() + START_MAX;
    loop {
        let missing = match (json(&client, &state).await, json(&client, &info).await) {
            (Some(state), _) if state["activated_slaves"].as_f64().unwrap_or_default() < 1.0 => {
                "the agent is not registered with the master"
            }
            (None, _) => "the master does not lead",
            (_, Some(info)) if info["frameworkId"].is_string() => return Ok(()),
            (_, Some(_)) => "Marathon is not registered with the master",
            (_, None) => "Marathon does not lead",
        };
        if tokio::time::Instant::now() >= deadline {
            bail!("after {} s {missing}", START_MAX.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A JSON answer; `None` for any other.
pub(super) async fn json(client: &reqwest::Client, url: &str) -> Option<Value> {
    let response = client.get(url).send().await.ok()?.error_for_status().ok()?;
    response.json().await.ok()
}
