//! The task that owns the core.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mesos::content::ContentType;
use mesos::internal::Registry;
use mesos::internal::state::{self, Operation, operation};
use mesos::libprocess::inbound::Header;
use mesos::libprocess::outbound::Sender;
use mesos::v1;
use mesos::v1::scheduler::Call;
use prost::Message as _;
use replicated_log::Log;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::core::model::{Now, StreamId};
use crate::core::{CallError, Effect, Master, Settings};

/// Inputs that may wait for the core; senders wait beyond that.
const QUEUE_MAX: usize = 16 * 1024;
/// Events that may wait for one framework; one that reads more slowly is cut off.
const STREAM_MAX: usize = 8 * 1024;
/// How often time is looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(100);

type Look = Box<dyn FnOnce(Option<&mut Master>, Now) + Send>;

/// What can happen.
pub enum Input {
    /// A libprocess message.
    Message(Header, Bytes),
    /// A framework subscribes; its stream is answered.
    Subscribe(ContentType, Box<Call>, oneshot::Sender<Option<(StreamId, mpsc::Receiver<Bytes>)>>),
    /// A framework calls.
    Call(Option<String>, Box<Call>, oneshot::Sender<Option<Result<(), CallError>>>),
    /// A framework's stream was closed by it.
    Closed(StreamId),
    /// A connection of ours to a peer broke.
    Exited(SocketAddr),
    /// This master leads now.
    Elected,
    /// This master led and has lost it.
    Lost(String),
    /// Somebody looks at, or changes, the state.
    Look(Look),
}

/// The way to the actor. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
}

impl Handle {
    /// Hands an input over, waiting while the queue is full. An actor that has ended takes nothing.
    pub async fn send(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }

    /// Looks at the state inside the actor; `None` when this master doesn't lead, or ends.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Master, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |master, now| {
            // Nobody waits any more: fine.
            let _ = reply.send(master.map(|master| look(master, now)));
        });
        self.send(Input::Look(look)).await;
        answer.await.ok().flatten()
    }

    /// A framework's subscription: its id as a stream, and the records to send it.
    pub async fn subscribe(
        &self,
        content: ContentType,
        call: Call,
    ) -> Option<(StreamId, mpsc::Receiver<Bytes>)> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Subscribe(content, Box::new(call), reply)).await;
        answer.await.ok().flatten()
    }

    /// A framework's call; `None` when this master doesn't lead.
    pub async fn call(&self, stream: Option<String>, call: Call) -> Option<Result<(), CallError>> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Call(stream, Box::new(call), reply)).await;
        answer.await.ok().flatten()
    }
}

struct Stream {
    records: mpsc::Sender<Bytes>,
    content: ContentType,
}

/// The task's state.
pub struct Actor {
    settings: Settings,
    info: v1::MasterInfo,
    registry_directory: Option<PathBuf>,
    log: Option<Log>,
    master: Option<Master>,
    streams: HashMap<StreamId, Stream>,
    sender: Sender,
    handle: Handle,
    started: Instant,
    shutdown: CancellationToken,
    /// Why the master had to end itself.
    failure: Option<String>,
}

impl Actor {
    /// Starts the task; it ends when `shutdown` is cancelled, or when the master can't go on: then it cancels
    /// `shutdown` itself and gives the reason.
    pub fn start(
        settings: Settings,
        info: v1::MasterInfo,
        registry_directory: Option<PathBuf>,
        sender: Sender,
        shutdown: CancellationToken,
    ) -> (Handle, tokio::task::JoinHandle<Option<String>>) {
        let (inputs, queue) = mpsc::channel(QUEUE_MAX);
        let handle = Handle { inputs };
        let actor = Self {
            settings,
            info,
            registry_directory,
            log: None,
            master: None,
            streams: HashMap::new(),
            sender,
            handle: handle.clone(),
            started: Instant::now(),
            shutdown,
            failure: None,
        };
        (handle, tokio::spawn(actor.run(queue)))
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Now { wall, mono: self.started.elapsed() }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Input>) -> Option<String> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(256);
        while self.failure.is_none() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                count = queue.recv_many(&mut batch, 256) => {
                    if count == 0 {
                        break;
                    }
                    for input in batch.drain(..) {
                        self.input(input);
                    }
                }
                _ = ticks.tick() => {}
            }
            let now = self.now();
            if let Some(master) = &mut self.master {
                master.tick(now);
            }
            self.carry_out();
        }
        if self.failure.is_some() {
            self.shutdown.cancel();
        }
        self.failure
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        match (input, &mut self.master) {
            (Input::Message(header, body), Some(master)) => {
                if let Err(error) = master.message(now, &header, &body) {
                    tracing::warn!(from = %header.from, name = header.name, %error, "message dropped: it can't be read");
                }
            }
            // Agents and drivers repeat what a master that doesn't lead ignores.
            (Input::Message(..), None) => {}
            (Input::Subscribe(content, call, reply), Some(master)) => {
                let stream = StreamId(uuid::Uuid::new_v4());
                let (records, receiver) = mpsc::channel(STREAM_MAX);
                let (handle, closed) = (self.handle.clone(), records.clone());
                self.streams.insert(stream, Stream { records, content });
                master.subscribe(now, stream, call.subscribe.unwrap_or_default());
                if reply.send(Some((stream, receiver))).is_err() {
                    master.stream_closed(now, stream);
                }
                tokio::spawn(async move {
                    closed.closed().await;
                    handle.send(Input::Closed(stream)).await;
                });
            }
            (Input::Subscribe(_, _, reply), None) => drop(reply.send(None)),
            (Input::Call(stream, call, reply), Some(master)) => {
                drop(reply.send(Some(master.call(now, stream.as_deref(), *call))))
            }
            (Input::Call(_, _, reply), None) => drop(reply.send(None)),
            (Input::Closed(stream), master) => {
                self.streams.remove(&stream);
                if let Some(master) = master {
                    master.stream_closed(now, stream);
                }
            }
            (Input::Exited(address), Some(master)) => master.peer_exited(now, address),
            (Input::Exited(_), None) => {}
            (Input::Elected, None) => self.lead(now),
            (Input::Elected, Some(_)) => {}
            (Input::Lost(reason), _) => self.failure = Some(format!("Lost leadership: {reason}")),
            (Input::Look(look), master) => look(master.as_mut(), now),
        }
    }

    fn lead(&mut self, now: Now) {
        match self.recover() {
            Ok(registry) => {
                tracing::info!("elected as the leading master");
                self.master =
                    Some(Master::elected(self.settings.clone(), self.info.clone(), registry, now));
            }
            Err(reason) => self.failure = Some(format!("Failed to recover the registry: {reason}")),
        }
    }

    fn recover(&mut self) -> Result<Registry, String> {
        let Some(directory) = &self.registry_directory else { return Ok(Registry::default()) };
        let opened = Log::open(directory).map_err(|error| error.to_string())?;
        if opened.cut_bytes > 0 {
            tracing::warn!(
                bytes = opened.cut_bytes,
                "an unfinished write at the end of the registry log was cut"
            );
        }
        self.log = Some(opened.log);
        let Some(last) = opened.last else { return Ok(Registry::default()) };
        let operation = Operation::decode(last.as_slice())
            .map_err(|error| format!("the registry log's last entry: {error}"))?;
        let value = operation.snapshot.map(|snapshot| snapshot.entry.value).unwrap_or_default();
        Registry::decode(value.as_slice()).map_err(|error| format!("the registry: {error}"))
    }

    fn carry_out(&mut self) {
        let Some(master) = &mut self.master else { return };
        let effects = master.take_effects();
        // The registry holds all changes so far: of a batch, it is written once, before the first that waits for it.
        let mut registry =
            effects.contains(&Effect::Store).then(|| master.registry.encode_to_vec());
        for effect in effects {
            match effect {
                Effect::Store => {
                    if let Some(registry) = registry.take()
                        && let Err(reason) = self.store(registry)
                    {
                        self.failure = Some(format!("Registrar aborting: {reason}"));
                        return;
                    }
                }
                Effect::Send { from, to, name, body } => {
                    self.sender.send_named(&from, &to, &name, &body)
                }
                Effect::Relink(to) => {
                    self.sender.relink(to.address);
                    self.sender.link(&to);
                }
                Effect::Event(stream, event) => self.event(stream, &event),
                Effect::Close(stream) => drop(self.streams.remove(&stream)),
                Effect::Abort(reason) => {
                    self.failure = Some(reason);
                    return;
                }
            }
        }
    }

    fn store(&mut self, registry: Vec<u8>) -> Result<(), String> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let entry = state::Entry {
            name: "registry".to_owned(),
            uuid: uuid::Uuid::new_v4().as_bytes().to_vec(),
            value: registry,
        };
        let operation = Operation {
            r#type: operation::Type::Snapshot as i32,
            snapshot: Some(operation::Snapshot { entry }),
            ..Default::default()
        };
        // A registry change is rare and everybody behind it must wait for it anyway.
        tokio::task::block_in_place(|| log.append(&operation.encode_to_vec()))
            .map_err(|error| error.to_string())
    }

    fn event(&mut self, id: StreamId, event: &v1::scheduler::Event) {
        let Some(stream) = self.streams.get(&id) else { return };
        let record = mesos::recordio::encode(&stream.content.encode(event));
        if stream.records.try_send(record).is_err() {
            tracing::warn!(stream = %id.0, "a framework that doesn't read its events is cut off");
            self.streams.remove(&id);
        }
    }
}
