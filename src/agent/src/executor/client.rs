//! An executor's side of the v1 executor API: a subscription that is made anew when the agent comes back, and updates
//! that are kept until the agent has acknowledged them.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use mesos::json::{self, Dialect};
use mesos::v1;
use mesos::v1::executor::{Call, Event, call, event};
use tokio::sync::mpsc;

/// How long an acknowledgement may take before an update is sent again.
const RETRY: Duration = Duration::from_secs(5);
const RECORD_MAX: usize = 64 << 20;
/// The variable with what the agent knows an executor by, where it asks.
pub(crate) const TOKEN: &str = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN";

/// What an executor hears.
#[derive(Debug)]
pub enum Heard {
    /// An event of the agent.
    Event(Box<Event>),
    /// The stream broke: the agent may come back. Dealt with inside the client.
    Reconnect,
    /// The agent is gone for good: end the tasks.
    Shutdown,
}

/// A subscription.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    framework: v1::FrameworkId,
    executor: v1::ExecutorId,
    agent: Option<v1::AgentId>,
    /// Updates without acknowledgement, oldest first.
    unacknowledged: VecDeque<v1::TaskStatus>,
    /// Those to be sent again now.
    repeated: VecDeque<v1::TaskStatus>,
    knows_killing: bool,
    container: Option<v1::ContainerId>,
    tasks: Vec<v1::TaskInfo>,
    heard: mpsc::Receiver<Heard>,
    connect: mpsc::Sender<Call>,
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: this program is started by a Mesos agent"))
}

/// A duration that the agent put into the environment.
pub(super) fn duration(name: &str, default: Duration) -> Duration {
    std::env::var(name)
        .ok()
        .and_then(|text| mesos::units::parse_duration(&text).ok())
        .unwrap_or(default)
}

/// What a request to the agent is made with: over TLS where the agent speaks it, with the executor's token where it has one.
///
/// # Errors
/// When the token is no text that can be sent.
pub(super) fn connection(tls: Option<&tls::Tls>) -> anyhow::Result<reqwest::Client> {
    let mut headers = HeaderMap::new();
    if let Ok(token) = std::env::var(TOKEN) {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        // The value is not shown: it is a secret.
        let mut value = value.map_err(|_| anyhow::anyhow!("{TOKEN} is no token"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let builder = tls::client::builder(tls).connect_timeout(Duration::from_secs(5));
    Ok(builder.default_headers(headers).build()?)
}

impl Client {
    /// Subscribes with what the agent put into the environment.
    ///
    /// # Errors
    /// When the environment is not an executor's.
    pub fn from_environment() -> anyhow::Result<Self> {
        let tls = tls::of_executor()?;
        let scheme = tls::client::scheme(tls.as_ref());
        let endpoint = variable("MESOS_AGENT_ENDPOINT")?;
        let url = format!("{scheme}://{endpoint}/slave(1)/api/v1/executor");
        let framework = v1::FrameworkId { value: variable("MESOS_FRAMEWORK_ID")? };
        let executor = v1::ExecutorId { value: variable("MESOS_EXECUTOR_ID")? };
        let checkpointing = std::env::var("MESOS_CHECKPOINT").is_ok_and(|value| value == "1");
        let patience = if checkpointing {
            duration("MESOS_RECOVERY_TIMEOUT", Duration::from_secs(900))
        } else {
            Duration::ZERO
        };
        let backoff = duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", Duration::from_secs(1));
        let http = connection(tls.as_ref())?;
        let (tell, heard) = mpsc::channel(1024);
        let (connect, calls) = mpsc::channel(1);
        tokio::spawn(listen(http.clone(), url.clone(), calls, tell, patience, backoff));
        let mut client = Self {
            http,
            url,
            framework,
            executor,
            agent: None,
            unacknowledged: VecDeque::new(),
            repeated: VecDeque::new(),
            knows_killing: false,
            container: None,
            tasks: Vec::new(),
            heard,
            connect,
        };
        client.offer_subscription();
        Ok(client)
    }

    fn offer_subscription(&mut self) {
        let subscribe = call::Subscribe {
            unacknowledged_tasks: self.tasks.clone(),
            unacknowledged_updates: self
                .unacknowledged
                .iter()
                .map(|status| call::Update { status: status.clone() })
                .collect(),
        };
        let call = self.call(call::Type::Subscribe, |call| call.subscribe = Some(subscribe));
        // Full: one waits already, and what has changed since is sent after it.
        let _ = self.connect.try_send(call);
    }

    fn call(&self, kind: call::Type, fill: impl FnOnce(&mut Call)) -> Call {
        let mut call = Call {
            executor_id: self.executor.clone(),
            framework_id: self.framework.clone(),
            r#type: Some(kind as i32),
            ..Default::default()
        };
        fill(&mut call);
        call
    }

    /// The next event. Acknowledgements and reconnections are dealt with inside.
    pub async fn next(&mut self) -> Heard {
        loop {
            if let Some(status) = self.repeated.front().cloned() {
                self.post(status).await;
                self.repeated.pop_front();
                continue;
            }
            let heard = tokio::select! {
                heard = self.heard.recv() => heard.unwrap_or(Heard::Shutdown),
                () = tokio::time::sleep(RETRY), if !self.unacknowledged.is_empty() => {
                    self.repeated.clone_from(&self.unacknowledged);
                    continue;
                }
            };
            let event = match heard {
                Heard::Event(event) => event,
                Heard::Reconnect => {
                    self.offer_subscription();
                    continue;
                }
                Heard::Shutdown => return heard,
            };
            match event.r#type() {
                event::Type::Subscribed => {
                    let subscribed = event.subscribed.unwrap_or_default();
                    self.agent = subscribed.agent_info.id;
                    self.container = subscribed.container_id;
                    let killing = v1::framework_info::capability::Type::TaskKillingState as i32;
                    let capabilities = &subscribed.framework_info.capabilities;
                    self.knows_killing = capabilities.iter().any(|own| own.r#type == Some(killing));
                    // What happened while we were away.
                    self.repeated.clone_from(&self.unacknowledged);
                }
                event::Type::Acknowledged => {
                    if let Some(acknowledged) = event.acknowledged {
                        self.unacknowledged
                            .retain(|status| status.uuid.as_deref() != Some(&acknowledged.uuid));
                        self.tasks.retain(|task| task.task_id != acknowledged.task_id);
                        return Heard::Event(Box::new(Event {
                            r#type: Some(event::Type::Acknowledged as i32),
                            acknowledged: Some(acknowledged),
                            ..Default::default()
                        }));
                    }
                }
                event::Type::Launch => {
                    self.tasks.extend(event.launch.iter().map(|launch| launch.task.clone()));
                    return Heard::Event(event);
                }
                event::Type::LaunchGroup => {
                    let group =
                        event.launch_group.iter().flat_map(|launch| &launch.task_group.tasks);
                    self.tasks.extend(group.cloned());
                    return Heard::Event(event);
                }
                event::Type::Heartbeat => {}
                _ => return Heard::Event(event),
            }
        }
    }

    /// Whether the framework wants to hear that a task is being killed.
    pub fn framework_knows_killing(&self) -> bool {
        self.knows_killing
    }

    /// The container that the executor runs in, once it has subscribed.
    pub fn container_id(&self) -> Option<v1::ContainerId> {
        self.container.clone()
    }

    /// Whether every update was acknowledged.
    pub fn is_settled(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Reports a task's state. It is kept and sent again until the agent acknowledges it.
    pub async fn update(
        &mut self,
        task: &v1::TaskId,
        state: v1::TaskState,
        fill: impl FnOnce(&mut v1::TaskStatus),
    ) {
        let mut status =
            v1::TaskStatus { task_id: task.clone(), state: state as i32, ..Default::default() };
        fill(&mut status);
        self.report(status).await;
    }

    /// Reports a status, completed with what every one has: who, when, and a new identity.
    pub async fn report(&mut self, status: v1::TaskStatus) {
        let status = v1::TaskStatus {
            source: Some(v1::task_status::Source::Executor as i32),
            executor_id: Some(self.executor.clone()),
            agent_id: self.agent.clone(),
            timestamp: Some(
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            ),
            uuid: Some(uuid::Uuid::new_v4().as_bytes().to_vec()),
            ..status
        };
        self.unacknowledged.push_back(status.clone());
        self.post(status).await;
    }

    async fn post(&self, status: v1::TaskStatus) {
        let call =
            self.call(call::Type::Update, |call| call.update = Some(call::Update { status }));
        let body = json::to_string(&call, Dialect::V1);
        let sent = self
            .http
            .post(&self.url)
            .header("Content-Type", "application/json")
            .body(body)
            .timeout(Duration::from_secs(10))
            .send()
            .await;
        // Not taken: it goes with the next subscription.
        if let Err(error) = sent {
            tracing::debug!(%error, "update not sent");
        }
    }
}

/// Holds the stream of events; asks for a new subscription call when it breaks.
async fn listen(
    http: reqwest::Client,
    url: String,
    mut calls: mpsc::Receiver<Call>,
    tell: mpsc::Sender<Heard>,
    patience: Duration,
    backoff: Duration,
) {
    let mut lost: Option<Instant> = None;
    while let Some(call) = calls.recv().await {
        let mut served = false;
        let body = json::to_string(&call, Dialect::V1);
        let request = http
            .post(&url)
            .header("Content-Type", "application/json")
            .header("Accept", "application/json")
            .body(body);
        match request.send().await {
            Ok(mut response) if response.status().is_success() => {
                lost = None;
                served = true;
                let mut records = mesos::recordio::Decoder::new(RECORD_MAX);
                'stream: while let Ok(Some(chunk)) = response.chunk().await {
                    records.push(&chunk);
                    loop {
                        match records.next() {
                            Ok(Some(record)) => {
                                if let Ok(event) = json::from_slice::<Event>(&record, Dialect::V1)
                                    && tell.send(Heard::Event(Box::new(event))).await.is_err()
                                {
                                    return;
                                }
                            }
                            Ok(None) => break,
                            Err(_) => break 'stream,
                        }
                    }
                }
            }
            Ok(response)
                if response.status().is_client_error()
                    && response.status() != http::StatusCode::FORBIDDEN =>
            {
                // The agent knows neither us nor our framework: it has given us up.
                let _ = tell.send(Heard::Shutdown).await;
                return;
            }
            Ok(_) | Err(_) => {}
        }
        let since = *lost.get_or_insert_with(Instant::now);
        if since.elapsed() >= patience && (!served || patience.is_zero()) {
            let _ = tell.send(Heard::Shutdown).await;
            return;
        }
        tokio::time::sleep(backoff.min(Duration::from_millis(500))).await;
        // Asks the owner for a call with what is unacknowledged now.
        if tell.send(Heard::Reconnect).await.is_err() {
            return;
        }
    }
}
