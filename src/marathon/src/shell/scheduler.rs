//! The v1 scheduler API: a subscription that is made anew whenever it breaks, and calls that go with it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use election::detector::Leader;
use mesos::content::ContentType;
use mesos::recordio::Decoder;
use mesos::v1;
use mesos::v1::scheduler::{Call, Event, call, event};
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use super::actor::{Handle, Input};

/// Longest event taken.
const EVENT_MAX: usize = 64 << 20;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long Mesos may take to accept a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Where calls go, and with which stream.
#[derive(Debug, Clone)]
struct Target {
    url: String,
    stream: String,
}

/// What the subscription needs.
pub(super) struct Subscription {
    pub(super) leader: Leader,
    pub(super) framework: watch::Receiver<v1::FrameworkInfo>,
    pub(super) credentials: Option<(String, String)>,
    /// Silence after which the stream counts as broken.
    pub(super) silence_max: Duration,
    /// TLS, where masters speak it.
    pub(super) tls: Option<tls::Tls>,
}

/// Subscribes for ever, telling `handle` what Mesos says; calls that come through `calls` are sent in order.
pub(super) fn start(
    subscription: Subscription,
    handle: Handle,
    calls: mpsc::Receiver<Call>,
) -> anyhow::Result<()> {
    let http = tls::client::builder(subscription.tls.as_ref())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .build()
        .context("HTTP client")?;
    let (publish, target) = watch::channel(None);
    tokio::spawn(send(http.clone(), subscription.credentials.clone(), target, calls));
    tokio::spawn(subscribe(http, subscription, handle, publish));
    Ok(())
}

async fn subscribe(
    http: reqwest::Client,
    mut subscription: Subscription,
    handle: Handle,
    publish: watch::Sender<Option<Target>>,
) {
    let mut pause = PAUSE_MIN;
    while !handle.is_closed() {
        let Some(info) = subscription.leader.borrow_and_update().clone() else {
            if subscription.leader.changed().await.is_err() {
                return;
            }
            continue;
        };
        let Some(address) = election::address::socket_address(&info) else {
            tracing::error!(id = info.id, "the leading Mesos master has no address");
            if subscription.leader.changed().await.is_err() {
                return;
            }
            continue;
        };
        let scheme = tls::client::scheme(subscription.tls.as_ref());
        let url = format!("{scheme}://{address}/api/v1/scheduler");
        let mut leader = subscription.leader.clone();
        let mut subscribed = false;
        let reason = tokio::select! {
            ended = once(&http, &subscription, &url, &handle, &publish, &mut subscribed) => match ended {
                Ok(()) => "the stream ended".to_owned(),
                Err(error) => format!("{error:#}"),
            },
            changed = leader.changed() => {
                if changed.is_err() {
                    return;
                }
                "another master leads".to_owned()
            }
        };
        publish.send_replace(None);
        handle.send(Input::Disconnected).await;
        pause = if subscribed { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        tracing::warn!(url, reason, "not subscribed to Mesos; trying again in {pause:?}");
        tokio::time::sleep(pause).await;
    }
}

/// One subscription, until it breaks.
async fn once(
    http: &reqwest::Client,
    subscription: &Subscription,
    url: &str,
    handle: &Handle,
    publish: &watch::Sender<Option<Target>>,
    subscribed: &mut bool,
) -> anyhow::Result<()> {
    let framework = subscription.framework.borrow().clone();
    let call = Call {
        framework_id: framework.id.clone(),
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(call::Subscribe { framework_info: framework, ..Default::default() }),
        ..Default::default()
    };
    let request = post(http, subscription.credentials.as_ref(), url, &call);
    let answer = tokio::time::timeout(CALL_TIMEOUT, request.send())
        .await
        .context("no answer to SUBSCRIBE")??;
    let url = answer.url().to_string();
    let status = answer.status();
    if !status.is_success() {
        bail!("SUBSCRIBE: {status}: {}", answer.text().await.unwrap_or_default());
    }
    let stream = answer
        .headers()
        .get("Mesos-Stream-Id")
        .and_then(|value| value.to_str().ok())
        .context("no Mesos-Stream-Id in the answer to SUBSCRIBE")?
        .to_owned();
    publish.send_replace(Some(Target { url, stream }));
    *subscribed = true;
    let mut records = Decoder::new(EVENT_MAX);
    let mut answer = answer;
    loop {
        let chunk =
            tokio::time::timeout(subscription.silence_max, answer.chunk()).await.with_context(
                || format!("nothing heard of Mesos for {:?}", subscription.silence_max),
            )??;
        let Some(chunk) = chunk else { return Ok(()) };
        records.push(&chunk);
        while let Some(record) = records.next()? {
            let event = Event::decode(record).context("an event can't be read")?;
            if event.r#type() != event::Type::Heartbeat {
                handle.send(Input::Mesos(Box::new(event))).await;
            }
        }
        ensure!(!handle.is_closed(), "Marathon is ending");
    }
}

fn post(
    http: &reqwest::Client,
    credentials: Option<&(String, String)>,
    url: &str,
    call: &Call,
) -> reqwest::RequestBuilder {
    let protobuf = ContentType::Protobuf.as_str();
    let request = http
        .post(url)
        .header("Content-Type", protobuf)
        .header("Accept", protobuf)
        .body(call.encode_to_vec());
    match credentials {
        Some((principal, secret)) => request.basic_auth(principal, Some(secret)),
        None => request,
    }
}

/// Sends calls. One that can't be sent is dropped and told of: Mesos repeats updates that nobody acknowledged, and
/// Marathon asks again for what did not happen.
async fn send(
    http: reqwest::Client,
    credentials: Option<(String, String)>,
    target: watch::Receiver<Option<Target>>,
    mut calls: mpsc::Receiver<Call>,
) {
    while let Some(call) = calls.recv().await {
        let kind = call.r#type().as_str_name();
        let Some(target) = target.borrow().clone() else {
            tracing::info!(call = kind, "not subscribed to Mesos: call dropped");
            continue;
        };
        let request = post(&http, credentials.as_ref(), &target.url, &call)
            .header("Mesos-Stream-Id", &target.stream)
            .timeout(CALL_TIMEOUT);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                tracing::warn!(call = kind, %status, text, "Mesos refuses a call");
            }
            Err(error) => tracing::warn!(call = kind, %error, "a call did not reach Mesos"),
        }
    }
}
