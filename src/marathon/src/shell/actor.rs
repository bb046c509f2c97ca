//! The one task that owns the core: takes input from a bounded queue, and carries out what comes of it in order.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mesos::v1;
use mesos::v1::scheduler::{Call, Event};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::events::Bus;
use super::run::Ended;
use super::store::Store;
use crate::core::api::{Answer, Request};
use crate::core::{Effect, Marathon, Now};

/// Inputs that may wait.
const QUEUE: usize = 1024;
/// How often the core looks at the time.
const TICK: Duration = Duration::from_millis(100);
/// Exit code of the original when ZooKeeper is lost.
const LOST_ZOOKEEPER: u8 = 101;

/// What the actor is told.
pub(super) enum Input {
    /// An event of Mesos.
    Mesos(Box<Event>),
    /// The stream of events broke.
    Disconnected,
    /// A request, and where its answer goes once what it promises is stored.
    Request(Box<Request>, oneshot::Sender<Answer>),
    /// What `/metrics` and `/v2/info` show.
    Look(oneshot::Sender<Look>),
}

/// What is shown of the core beside its API.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// The framework's id, once registered.
    pub(super) framework_id: Option<String>,
    /// Gauges by name.
    pub(super) gauges: Value,
}

/// Where input goes.
#[derive(Debug, Clone)]
pub(super) struct Handle(mpsc::Sender<Input>);

impl Handle {
    /// Waits for room in the queue. Input after the end is dropped.
    pub(super) async fn send(&self, input: Input) {
        let _ = self.0.send(input).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Asks the core; `None` when it ended.
    pub(super) async fn request(&self, request: Request) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Request(Box::new(request), reply)).await;
        answer.await.ok()
    }

    /// Looks at the core; `None` when it ended.
    pub(super) async fn look(&self) -> Option<Look> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Look(reply)).await;
        answer.await.ok()
    }
}

/// The actor, before it runs.
pub(super) struct Actor {
    core: Marathon,
    store: Store,
    bus: Bus,
    calls: mpsc::Sender<Call>,
    framework: watch::Sender<v1::FrameworkInfo>,
    inputs: mpsc::Receiver<Input>,
    started: Instant,
}

impl Actor {
    /// Puts it together: the actor, where its input goes, and where its calls come out.
    pub(super) fn new(
        core: Marathon,
        store: Store,
        bus: Bus,
    ) -> (Self, Handle, mpsc::Receiver<Call>, watch::Receiver<v1::FrameworkInfo>) {
        let (input, inputs) = mpsc::channel(QUEUE);
        let (calls, sent) = mpsc::channel(QUEUE);
        let (framework, registered) = watch::channel(core.framework_info());
        let actor = Self { core, store, bus, calls, framework, inputs, started: Instant::now() };
        (actor, Handle(input), sent, registered)
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall_ms: wall.as_millis() as i64, mono: self.started.elapsed() }
    }

    /// Runs until `shutdown`, or until Marathon must end itself.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Ended> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut answers: Vec<(oneshot::Sender<Answer>, Answer)> = Vec::new();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
                input = self.inputs.recv() => {
                    let Some(input) = input else { return Ok(()) };
                    self.take(input, &mut answers);
                    // What waits already shares the round, and its writes their order.
                    while let Ok(input) = self.inputs.try_recv() {
                        self.take(input, &mut answers);
                    }
                }
            }
            let now = self.now();
            self.core.tick(now);
            self.carry_out().await?;
            for (reply, answer) in answers {
                // An error means that the client went away.
                let _ = reply.send(answer);
            }
        }
    }

    fn take(&mut self, input: Input, answers: &mut Vec<(oneshot::Sender<Answer>, Answer)>) {
        let now = self.now();
        match input {
            Input::Mesos(event) => self.core.mesos(now, *event),
            Input::Disconnected => self.core.disconnected(),
            Input::Request(request, reply) => {
                answers.push((reply, self.core.request(now, &request)))
            }
            Input::Look(reply) => {
                let look = Look {
                    framework_id: self.core.framework_id().map(str::to_owned),
                    gauges: self.core.gauges(),
                };
                let _ = reply.send(look);
            }
        }
    }

    async fn carry_out(&mut self) -> Result<(), Ended> {
        for effect in self.core.take_effects() {
            match effect {
                Effect::Store(key, value) => {
                    self.store
                        .put(&key, &value)
                        .await
                        .map_err(|error| Ended::new(LOST_ZOOKEEPER, format!("{error:#}")))?;
                    if key == "framework-id" {
                        self.framework.send_replace(self.core.framework_info());
                    }
                }
                Effect::Forget(key) => {
                    self.store
                        .delete(&key)
                        .await
                        .map_err(|error| Ended::new(LOST_ZOOKEEPER, format!("{error:#}")))?;
                }
                // An error means that the sender ended, as it does with the process.
                Effect::Call(call) => drop(self.calls.send(*call).await),
                Effect::Event(kind, value) => self.bus.tell(&kind, &value),
                Effect::Abort(code, reason) => return Err(Ended::new(code, reason)),
            }
        }
        Ok(())
    }
}
