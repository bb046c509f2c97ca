//! The task that owns the core.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use access::Principal;
use access::guard::Caller;
use bytes::Bytes;
use indexmap::IndexMap;
use mesos::content::ContentType;
use mesos::internal::Registry;
use mesos::libprocess::inbound::Header;
use mesos::libprocess::outbound::Sender;
use mesos::v1;
use mesos::v1::scheduler::Call;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::background;
use super::registrar::{Recovery, Registrar};
use super::visible::{self, Visible};
use super::whitelist::Hosts;
use crate::core::model::{Now, StreamId};
use crate::core::{CallError, Effect, Master, Settings};
use crate::view::operator::greeting;
use crate::view::seen::Sight;

/// Inputs that may wait for the core; senders wait beyond that.
const QUEUE_MAX: usize = 16 * 1024;
/// Inputs that the core is given before what comes of them is carried out.
const BATCH_MAX: usize = 256;
/// Effects that may wait for the registry; while there are more, nothing is taken in.
const WAITING_MAX: usize = 64 * 1024;
/// Events that may wait for one framework; one that reads more slowly is cut off. One with 100,000 tasks is told of all of
/// them at once, when it reconciles or when agents come back.
const STREAM_MAX: usize = 128 * 1024;
/// How often time is looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(100);

type Look = Box<dyn FnOnce(Option<&mut Master>, Now) + Send>;
type Reply = Box<dyn FnOnce() + Send>;
type Change = Box<dyn FnOnce(Option<&mut Master>, Now) -> Reply + Send>;

/// What can happen.
pub enum Input {
    /// A libprocess message.
    Message(Header, Bytes),
    /// A framework subscribes; its stream is answered.
    Subscribe(ContentType, Box<Call>, oneshot::Sender<Option<Subscription>>),
    /// Somebody subscribes to the operator API's events.
    Observe(ContentType, Caller, oneshot::Sender<Option<(JoinHandle<Bytes>, Subscription)>>),
    /// A framework calls.
    Call(Box<Asked>, oneshot::Sender<Option<Result<(), CallError>>>),
    /// A framework's stream was closed by it.
    Closed(StreamId),
    /// A connection of ours to a peer broke.
    Exited(SocketAddr),
    /// This master leads now.
    Elected,
    /// The registry was read, or can't be; when reading it began.
    Recovered(Result<Box<Registry>, String>, Instant),
    /// This master led and has lost it.
    Lost(String),
    /// This master can't go on.
    Failed(String),
    /// Somebody looks at the state.
    Look(Look),
    /// Somebody changes the state, and is answered when what comes of it is on disk.
    Change(Change),
}

/// A framework's call, and what came with it.
pub struct Asked {
    /// Who authenticated as its sender.
    pub principal: Option<Principal>,
    /// The id of the framework's stream, as given.
    pub stream: Option<String>,
    /// The call.
    pub call: Call,
}

/// The way to the actor. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
    unstored: Arc<AtomicUsize>,
}

impl Handle {
    /// Hands an input over, waiting while the queue is full. An actor that has ended takes nothing.
    pub async fn send(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }

    /// Inputs that wait.
    pub fn queued(&self) -> usize {
        self.inputs.max_capacity() - self.inputs.capacity()
    }

    /// Changes of the registry that wait for the one that is being stored.
    pub fn unstored(&self) -> usize {
        self.unstored.load(Ordering::Relaxed)
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

    /// Changes the state inside the actor; the answer comes after the registry is on disk. `None` as of `look`.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Master, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let change: Change = Box::new(move |master, now| {
            let changed = master.map(|master| change(master, now));
            // Nobody waits any more: fine.
            Box::new(move || drop(reply.send(changed)))
        });
        self.send(Input::Change(change)).await;
        answer.await.ok().flatten()
    }

    /// A framework's subscription: its id as a stream, and the records to send it.
    pub async fn subscribe(&self, content: ContentType, call: Call) -> Option<Subscription> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Subscribe(content, Box::new(call), reply)).await;
        answer.await.ok().flatten()
    }

    /// A subscription to the operator API's events, with its first records; `None` when this master doesn't lead.
    pub async fn observe(
        &self,
        content: ContentType,
        caller: Caller,
    ) -> Option<(Bytes, Subscription)> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Observe(content, caller, reply)).await;
        let (first, subscription) = answer.await.ok().flatten()?;
        // What happens meanwhile waits in the stream.
        Some((first.await.ok()?, subscription))
    }

    /// A framework's call; `None` when this master doesn't lead.
    pub async fn call(&self, asked: Asked) -> Option<Result<(), CallError>> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Call(Box::new(asked), reply)).await;
        answer.await.ok().flatten()
    }
}

/// A framework's stream, from the side that sends it.
pub struct Subscription {
    /// Its id.
    pub stream: StreamId,
    records: mpsc::Receiver<Bytes>,
    open: oneshot::Sender<Infallible>,
}

impl Subscription {
    /// The records as they come. When this is dropped, the stream counts as closed by the framework; it ends when the
    /// master closes it.
    pub fn records(self) -> impl tokio_stream::Stream<Item = Bytes> {
        let open = self.open;
        ReceiverStream::new(self.records).map(move |record| {
            let _kept = &open;
            record
        })
    }
}

struct Stream {
    records: mpsc::Sender<Bytes>,
    content: ContentType,
}

/// A subscriber of the operator API.
struct Observer {
    stream: Stream,
    caller: Caller,
    /// Effects that came before it subscribed: what they tell, it was told at once.
    before: u64,
}

/// What is to be done, in this order.
enum Due {
    Effect(Effect),
    /// The registry must be on disk as it was at this change, or later.
    Stored(u64),
    /// Somebody is answered.
    Reply(Reply),
}

/// The registry's way to disk: one write at a time, each with all changes so far. Changes that come while one is under
/// way share the next.
struct Keeper {
    /// None while it writes.
    registrar: Option<Registrar>,
    /// Changes of the registry so far.
    changes: u64,
    /// How many of them are on disk.
    stored: u64,
    /// Changes that are in no write yet, each one counted.
    waiting: usize,
    writing: Option<Writing>,
}

struct Writing {
    changes: u64,
    began: Instant,
    task: tokio::task::JoinHandle<(Registrar, Result<(), String>)>,
}

/// The task's state.
pub struct Actor {
    settings: Settings,
    whitelist: watch::Receiver<Hosts>,
    info: v1::MasterInfo,
    keeper: Keeper,
    recovering: bool,
    master: Option<Master>,
    streams: HashMap<StreamId, Stream>,
    /// Streams of the operator API, oldest first.
    observers: IndexMap<StreamId, Observer>,
    observers_max: usize,
    /// Streams that were ended here, which the core does not know yet.
    cut_off: Vec<StreamId>,
    replies: Vec<Reply>,
    due: VecDeque<Due>,
    /// How many were ever due.
    dues: u64,
    sender: Sender,
    handle: Handle,
    started: Instant,
    shutdown: CancellationToken,
    /// Why the master had to end itself.
    failure: Option<String>,
}

impl Keeper {
    /// Begins to write the registry, unless a write is under way.
    fn write(&mut self, registry: &Registry) {
        let Some(mut registrar) = self.registrar.take() else { return };
        self.waiting = 0;
        let registry = registry.encode_to_vec();
        let task = tokio::spawn(async move {
            let stored = registrar.store(registry).await;
            (registrar, stored)
        });
        self.writing = Some(Writing { changes: self.changes, began: Instant::now(), task });
    }

    /// The end of the write that is under way: which changes it had, when it began, and how it went.
    async fn written(&mut self) -> ((u64, Instant), Result<(), String>) {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let ended = (&mut writing.task).await;
        let of = (writing.changes, writing.began);
        self.writing = None;
        match ended {
            Ok((registrar, stored)) => {
                self.registrar = Some(registrar);
                (of, stored)
            }
            Err(error) => (of, Err(error.to_string())),
        }
    }
}

impl Actor {
    /// Starts the task; it ends when `shutdown` is cancelled, or when the master can't go on: then it cancels
    /// `shutdown` itself and gives the reason.
    pub fn start(
        settings: Settings,
        whitelist: watch::Receiver<Hosts>,
        info: v1::MasterInfo,
        observers_max: usize,
        registrar: Registrar,
        sender: Sender,
        shutdown: CancellationToken,
    ) -> (Handle, tokio::task::JoinHandle<Option<String>>) {
        let (inputs, queue) = mpsc::channel(QUEUE_MAX);
        let handle = Handle { inputs, unstored: Arc::default() };
        let actor = Self {
            settings,
            whitelist,
            info,
            keeper: Keeper {
                registrar: Some(registrar),
                changes: 0,
                stored: 0,
                waiting: 0,
                writing: None,
            },
            recovering: false,
            master: None,
            streams: HashMap::new(),
            observers: IndexMap::new(),
            observers_max,
            cut_off: Vec::new(),
            replies: Vec::new(),
            due: VecDeque::new(),
            dues: 0,
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
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut batch_began;
        while self.failure.is_none() {
            let has_room = self.due.len() < WAITING_MAX;
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                (changes, stored) = self.keeper.written() => {
                    batch_began = Instant::now();
                    self.stored(changes, stored);
                }
                count = queue.recv_many(&mut batch, BATCH_MAX), if has_room => {
                    if count == 0 {
                        break;
                    }
                    batch_began = Instant::now();
                    for input in batch.drain(..) {
                        self.input(input);
                    }
                }
                _ = ticks.tick() => batch_began = Instant::now(),
            }
            if self.failure.is_some() {
                break;
            }
            self.tick(batch_began);
            self.carry_out();
            self.handle.unstored.store(self.keeper.waiting, Ordering::Relaxed);
        }
        // A write that is under way is safe or not, but never cut in half.
        if self.failure.is_none()
            && self.keeper.writing.is_some()
            && let (_, Err(reason)) = self.keeper.written().await
        {
            tracing::error!("the registry could not be written at the end: {reason}");
        }
        if self.failure.is_some() {
            self.shutdown.cancel();
        }
        self.failure
    }

    fn tick(&mut self, batch_began: Instant) {
        let now = self.now();
        let Some(master) = &mut self.master else { return };
        if self.whitelist.has_changed().unwrap_or(false) {
            master.allocator.set_whitelist(self.whitelist.borrow_and_update().clone());
        }
        for stream in self.cut_off.drain(..) {
            master.stream_closed(now, stream);
        }
        let (rounds, began) = (master.allocator.rounds, Instant::now());
        master.tick(now);
        if master.allocator.rounds != rounds {
            let waited = began.duration_since(batch_began).as_secs_f64() * 1e3;
            master
                .timings
                .entry("allocator/mesos/allocation_run_latency_ms")
                .or_default()
                .add(waited);
            let took = began.elapsed().as_secs_f64() * 1e3;
            master.timings.entry("allocator/mesos/allocation_run_ms").or_default().add(took);
        }
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
                let (sending, subscription) = open(&self.handle, stream, content);
                self.streams.insert(stream, sending);
                master.subscribe(now, stream, call.subscribe.unwrap_or_default());
                // If nobody waits any more, what is given back here is dropped: the stream counts as closed.
                drop(reply.send(Some(subscription)));
            }
            (Input::Subscribe(_, _, reply), None) => drop(reply.send(None)),
            (Input::Observe(content, caller, reply), Some(_)) => {
                self.take_effects();
                let Some(master) = &mut self.master else { return };
                let id = StreamId(uuid::Uuid::new_v4());
                let (stream, subscription) = open(&self.handle, id, content);
                let (scene, visible) = (master.subscribe_operator(now), Visible(caller.clone()));
                let first = background::spawn(move || {
                    let sight = Sight { scene: &scene, seen: &visible };
                    let records = greeting(sight).map(|event| operator_record(content, &event));
                    Bytes::from(records.concat())
                });
                // As the original, the oldest makes room.
                if self.observers.len() >= self.observers_max
                    && self.observers.shift_remove_index(0).is_some()
                {
                    master.operator_closed();
                }
                self.observers.insert(id, Observer { stream, caller, before: self.dues });
                drop(reply.send(Some((first, subscription))));
            }
            (Input::Observe(_, _, reply), None) => drop(reply.send(None)),
            (Input::Call(asked, reply), Some(master)) => {
                let Asked { principal, stream, call } = *asked;
                let done = master.call(now, principal.as_ref(), stream.as_deref(), call);
                drop(reply.send(Some(done)));
            }
            (Input::Call(_, reply), None) => drop(reply.send(None)),
            (Input::Closed(stream), master) => {
                self.streams.remove(&stream);
                let observed = self.observers.shift_remove(&stream).is_some();
                match master {
                    Some(master) if observed => master.operator_closed(),
                    Some(master) => master.stream_closed(now, stream),
                    None => {}
                }
            }
            (Input::Exited(address), Some(master)) => master.peer_exited(now, address),
            (Input::Exited(_), None) => {}
            (Input::Elected, None) => self.lead(),
            (Input::Recovered(registry, began), None) => self.recovered(registry, began),
            (Input::Elected | Input::Recovered(..), Some(_)) => {}
            (Input::Lost(reason), _) => self.failure = Some(format!("Lost leadership: {reason}")),
            (Input::Failed(reason), _) => self.failure = Some(reason),
            (Input::Look(look), master) => look(master.as_mut(), now),
            (Input::Change(change), master) => self.replies.push(change(master.as_mut(), now)),
        }
    }

    fn lead(&mut self) {
        if std::mem::replace(&mut self.recovering, true) {
            return;
        }
        let began = Instant::now();
        let Some(registrar) = &mut self.keeper.registrar else { return };
        match registrar.recover() {
            Recovery::Done(registry) => self.recovered(registry, began),
            Recovery::Asking(others) => {
                tracing::info!("elected as the leading master; reading the registry");
                let handle = self.handle.clone();
                tokio::spawn(async move {
                    let registry = others.read().await;
                    handle.send(Input::Recovered(registry, began)).await;
                });
            }
        }
    }

    fn recovered(&mut self, registry: Result<Box<Registry>, String>, began: Instant) {
        match registry {
            Ok(registry) => {
                tracing::info!("elected as the leading master");
                let (settings, info, now) = (self.settings.clone(), self.info.clone(), self.now());
                let mut master = Master::elected(settings, info, *registry, now);
                let took = began.elapsed().as_secs_f64() * 1e3;
                master.allocator.set_whitelist(self.whitelist.borrow_and_update().clone());
                master.counters.insert("registrar/state_fetch_ms".to_owned(), took as u64);
                self.master = Some(master);
            }
            Err(reason) => self.failure = Some(format!("Failed to recover the registry: {reason}")),
        }
    }

    /// Puts what the core wants done behind what is due.
    fn take_effects(&mut self) {
        let effects = self.master.as_mut().map(Master::take_effects).unwrap_or_default();
        self.dues += effects.len() as u64;
        // The registry holds all changes so far: of a batch, it is written once, before the first that waits for it.
        let changes = effects.iter().filter(|effect| **effect == Effect::Store).count();
        self.keeper.changes += u64::from(changes > 0);
        self.keeper.waiting += changes;
        let changes = self.keeper.changes;
        self.due.extend(effects.into_iter().map(|effect| match effect {
            Effect::Store => Due::Stored(changes),
            other => Due::Effect(other),
        }));
    }

    /// Does what is due, up to where the registry must be on disk first.
    fn carry_out(&mut self) {
        self.take_effects();
        // An answer says that what was done is safe.
        if !self.replies.is_empty() {
            self.dues += 1 + self.replies.len() as u64;
            self.due.push_back(Due::Stored(self.keeper.changes));
            self.due.extend(self.replies.drain(..).map(Due::Reply));
        }
        while let Some(due) = self.due.pop_front() {
            match due {
                Due::Stored(changes) if changes > self.keeper.stored => {
                    self.due.push_front(Due::Stored(changes));
                    if let Some(master) = &self.master {
                        self.keeper.write(&master.registry);
                    }
                    return;
                }
                Due::Stored(_) => {}
                Due::Reply(reply) => reply(),
                Due::Effect(effect) => {
                    self.effect(effect);
                    if self.failure.is_some() {
                        return;
                    }
                }
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Store => {}
            Effect::Send { from, to, name, body } => {
                self.sender.send_named(&from, &to, &name, &body)
            }
            Effect::Relink(to) => {
                self.sender.relink(to.address);
                self.sender.link(&to);
            }
            Effect::Event(stream, event) => self.event(stream, &event),
            Effect::Notify(event) => self.notify(&event),
            Effect::Close(stream) => drop(self.streams.remove(&stream)),
            Effect::Abort(reason) => self.failure = Some(reason),
        }
    }

    /// A write of the registry has ended.
    fn stored(&mut self, writing: (u64, Instant), stored: Result<(), String>) {
        let (changes, began) = writing;
        match stored {
            Ok(()) => self.keeper.stored = changes,
            // What was not stored is not answered: then the master ends.
            Err(reason) => self.failure = Some(format!("Registrar aborting: {reason}")),
        }
        if let Some(master) = &mut self.master {
            let took = began.elapsed().as_secs_f64() * 1e3;
            master.timings.entry("registrar/state_store_ms").or_default().add(took);
        }
    }

    fn notify(&mut self, event: &v1::master::Event) {
        let mut encoded: [Option<Bytes>; 2] = [None, None];
        let mut cut = 0;
        let master = self.master.as_ref();
        let this = self.dues - self.due.len() as u64;
        self.observers.retain(|id, Observer { stream, caller, before }| {
            if this <= *before {
                return true;
            }
            let content = stream.content;
            let record = if visible::sees_all(caller) {
                let slot = usize::from(content == ContentType::Protobuf);
                encoded[slot].get_or_insert_with(|| operator_record(content, event)).clone()
            } else {
                let visible = Visible(caller.clone());
                let Some(event) = master.and_then(|master| visible.event(event, master)) else {
                    return true;
                };
                operator_record(content, &event)
            };
            let reads = stream.records.try_send(record).is_ok();
            if !reads {
                tracing::warn!(stream = %id.0, "a subscriber that doesn't read its events is cut off");
                cut += 1;
            }
            reads
        });
        for _ in 0..cut {
            if let Some(master) = &mut self.master {
                master.operator_closed();
            }
        }
    }

    fn event(&mut self, id: StreamId, event: &v1::scheduler::Event) {
        let Some(stream) = self.streams.get(&id) else { return };
        let record = mesos::recordio::encode(&stream.content.encode(event));
        if stream.records.try_send(record).is_err() {
            tracing::warn!(stream = %id.0, "a framework that doesn't read its events is cut off");
            self.streams.remove(&id);
            // Its connection may hang for long; for the master it is over now.
            self.cut_off.push(id);
        }
    }
}

/// A new stream: the side that the actor fills, and the side that is sent.
fn open(handle: &Handle, stream: StreamId, content: ContentType) -> (Stream, Subscription) {
    let (records, receiver) = mpsc::channel(STREAM_MAX);
    let (open, closed) = oneshot::channel::<Infallible>();
    let handle = handle.clone();
    tokio::spawn(async move {
        let Err(_) = closed.await;
        handle.send(Input::Closed(stream)).await;
    });
    (Stream { records, content }, Subscription { stream, records: receiver, open })
}

fn operator_record(content: ContentType, event: &v1::master::Event) -> Bytes {
    mesos::recordio::encode(&content.encode(event))
}
