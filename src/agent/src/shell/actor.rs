//! The task that owns the core.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mesos::content::ContentType;
use mesos::libprocess::Upid;
use mesos::libprocess::inbound::Header;
use mesos::libprocess::outbound::Sender;
use mesos::v1::executor::{Call, Event, event};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{self, Batch, paths};
use crate::containerizer::launcher::{Launcher, Notice};
use crate::core::container_id::ContainerId;
use crate::core::containers::{Ask, Launched, Termination, Waited};
use crate::core::garbage::Waste;
use crate::core::{Agent, CallError, Effect, Ending, Now, StreamId};

const QUEUE_MAX: usize = 4096;
const STREAM_MAX: usize = 4096;
const TICK: Duration = Duration::from_millis(100);

type Reply<T> = oneshot::Sender<T>;
type Look = Box<dyn FnOnce(&mut Agent) + Send>;
type Subscription = Result<(StreamId, mpsc::Receiver<Bytes>), CallError>;

/// What can happen.
pub enum Input {
    /// A libprocess message.
    Message(Header, Bytes),
    /// An executor subscribes.
    Subscribe(ContentType, Box<Call>, oneshot::Sender<Subscription>),
    /// An executor calls.
    Call(Box<Call>, oneshot::Sender<Result<(), CallError>>),
    /// A container is asked for.
    LaunchContainer(Box<Ask>, Reply<Result<Launched, String>>),
    /// Somebody waits for a container's end.
    WaitContainer(ContainerId, Reply<Option<Termination>>),
    /// An executor's stream was closed by it.
    Closed(StreamId),
    /// A connection of ours to a peer broke.
    Exited(SocketAddr),
    /// There is another leading master (its UPID and name), or none.
    Master(Option<(Upid, String)>),
    /// Leave the master for good.
    Unregister,
    /// Somebody looks at the state.
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

    /// Looks at the state inside the actor; `None` when the agent ends.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Agent) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |agent| {
            // Nobody waits any more: fine.
            let _ = reply.send(look(agent));
        });
        self.send(Input::Look(look)).await;
        answer.await.ok()
    }

    /// Starts a container, and waits until it runs; why it does not otherwise.
    pub async fn launch_container(&self, ask: Ask) -> Option<Result<Launched, String>> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::LaunchContainer(Box::new(ask), reply)).await;
        answer.await.ok()
    }

    /// Waits for a container's end; `None` inside if there is no such container.
    pub async fn wait_container(&self, id: ContainerId) -> Option<Option<Termination>> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::WaitContainer(id, reply)).await;
        answer.await.ok()
    }

    /// An executor's subscription: the records to send it.
    pub async fn subscribe(&self, content: ContentType, call: Call) -> Option<Subscription> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Subscribe(content, Box::new(call), reply)).await;
        answer.await.ok()
    }

    /// An executor's call.
    pub async fn call(&self, call: Call) -> Option<Result<(), CallError>> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Call(Box::new(call), reply)).await;
        answer.await.ok()
    }
}

struct Stream {
    records: mpsc::Sender<Bytes>,
    content: ContentType,
}

/// The task's state.
pub struct Actor {
    agent: Agent,
    streams: HashMap<StreamId, Stream>,
    /// Who asked for a container that is being started.
    launching: HashMap<ContainerId, Reply<Result<Launched, String>>>,
    /// Who waits for a container's end.
    waiting: HashMap<ContainerId, Vec<Reply<Option<Termination>>>>,
    sender: Sender,
    launcher: Launcher,
    handle: Handle,
    /// `--http_heartbeat_interval`.
    heartbeat: Duration,
    started: Instant,
    shutdown: CancellationToken,
    ending: Option<Ending>,
}

/// The time of an input of an agent that began at `started`.
pub fn now(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Now { wall, mono: started.elapsed() }
}

impl Actor {
    /// Starts the task; it ends when `shutdown` is cancelled, or when the agent can't go on: then it cancels `shutdown`
    /// itself and gives the reason.
    pub fn start(
        agent: Agent,
        sender: Sender,
        launcher: Launcher,
        notices: mpsc::Receiver<Notice>,
        heartbeat: Duration,
        started: Instant,
        shutdown: CancellationToken,
    ) -> (Handle, tokio::task::JoinHandle<Option<Ending>>) {
        let (inputs, queue) = mpsc::channel(QUEUE_MAX);
        let handle = Handle { inputs };
        let actor = Self {
            agent,
            streams: HashMap::new(),
            launching: HashMap::new(),
            waiting: HashMap::new(),
            sender,
            launcher,
            handle: handle.clone(),
            heartbeat,
            started,
            shutdown,
            ending: None,
        };
        (handle, tokio::spawn(actor.run(queue, notices)))
    }

    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Input>,
        mut notices: mpsc::Receiver<Notice>,
    ) -> Option<Ending> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heartbeats = tokio::time::interval(self.heartbeat.max(Duration::from_millis(1)));
        heartbeats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.ending.is_none() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(notice) = notices.recv() => self.notice(notice),
                input = queue.recv() => match input {
                    Some(input) => self.input(input),
                    None => break,
                },
                _ = ticks.tick() => {}
                _ = heartbeats.tick() => self.send_heartbeats(),
            }
            self.agent.tick(now(self.started));
            self.carry_out();
        }
        if self.ending.is_some() {
            self.shutdown.cancel();
        }
        self.ending
    }

    fn input(&mut self, input: Input) {
        let now = now(self.started);
        match input {
            Input::Message(header, body) => {
                if let Err(error) = self.agent.message(now, &header, &body) {
                    tracing::warn!(from = %header.from, name = header.name, %error, "message dropped: it can't be read");
                }
            }
            Input::Subscribe(content, call, reply) => {
                if let Err(error) = self.agent.check_subscribe(&call) {
                    drop(reply.send(Err(error)));
                    return;
                }
                let stream = StreamId(uuid::Uuid::new_v4());
                let (records, receiver) = mpsc::channel(STREAM_MAX);
                let (handle, closed) = (self.handle.clone(), records.clone());
                self.streams.insert(stream, Stream { records, content });
                self.agent.subscribe(now, stream, *call);
                drop(reply.send(Ok((stream, receiver))));
                tokio::spawn(async move {
                    closed.closed().await;
                    handle.send(Input::Closed(stream)).await;
                });
            }
            Input::LaunchContainer(ask, reply) => self.launch_container(*ask, reply),
            Input::WaitContainer(id, reply) => match self.agent.wait_container(&id) {
                Some(Waited::Alive) => {
                    let waiting = self.waiting.entry(id).or_default();
                    // Those who went away need no answer.
                    waiting.retain(|reply| !reply.is_closed());
                    waiting.push(reply);
                }
                Some(Waited::Ended(termination)) => drop(reply.send(Some(termination))),
                None => drop(reply.send(None)),
            },
            Input::Call(call, reply) => drop(reply.send(self.agent.call(now, *call))),
            Input::Closed(stream) => {
                self.streams.remove(&stream);
                self.agent.stream_closed(stream);
            }
            Input::Exited(address) => self.agent.peer_exited(now, address),
            Input::Master(master) => self.agent.master_changed(now, master),
            Input::Unregister => self.agent.unregister(now),
            Input::Look(look) => look(&mut self.agent),
        }
    }

    fn launch_container(&mut self, ask: Ask, reply: Reply<Result<Launched, String>>) {
        let id = ask.id.clone();
        match self.agent.launch_container(ask) {
            Ok(Launched::Launching) => {
                self.launching.insert(id, reply);
            }
            other => drop(reply.send(other)),
        }
    }

    /// An executor whose stream stays silent knows that the connection is dead.
    fn send_heartbeats(&mut self) {
        let kind = Some(event::Type::Heartbeat as i32);
        let heartbeat = Event { r#type: kind, ..Default::default() };
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            self.event(stream, &heartbeat);
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Networked { container, infos } => {
                self.agent.container_networked(&container, infos);
            }
            Notice::Started { container, pid } => self.agent.container_started(&container, pid),
            Notice::Ended { container, status, problem } => {
                self.agent.container_ended(now(self.started), &container, status, problem);
            }
        }
    }

    /// Carries out what the core wants: first everything that is to be on disk, then the rest in order.
    fn carry_out(&mut self) {
        let (mut batch, mut others) = (Batch::default(), Vec::new());
        for effect in self.agent.take_effects() {
            match effect {
                Effect::Write(path, content) => batch.replace(path, content),
                Effect::Append(path, content) => batch.append(path, &content),
                Effect::Symlink(target, path) => batch.link(target, path),
                other => others.push(other),
            }
        }
        if !batch.is_empty()
            && let Err(error) = tokio::task::block_in_place(|| batch.commit())
        {
            // Nothing may be acknowledged that is not on disk.
            self.ending = Some(Ending::Failure(format!("cannot checkpoint: {error}")));
            return;
        }
        for effect in others {
            match effect {
                Effect::Write(..) | Effect::Append(..) | Effect::Symlink(..) => {}
                Effect::Send(to, name, body) => {
                    self.sender.send_named("slave(1)", &to, &name, &body)
                }
                Effect::SendAs(process, to, name, body) => {
                    self.sender.send_named(process, &to, &name, &body)
                }
                Effect::Link(to) => {
                    self.sender.relink(to.address);
                    self.sender.link(&to);
                }
                Effect::Unlink(path) => {
                    if let Err(error) = std::fs::remove_file(&path) {
                        // Most are not there.
                        if error.kind() != std::io::ErrorKind::NotFound {
                            tracing::warn!(path = %path.display(), %error, "not removed");
                        }
                    }
                }
                Effect::RemoveDirectory(path) => {
                    if let Err(error) = std::fs::remove_dir_all(&path) {
                        tracing::warn!(path = %path.display(), %error, "not removed");
                    }
                }
                Effect::Reserve(change) => {
                    let work_dir = self.agent.settings.work_dir.clone();
                    let committed = tokio::task::block_in_place(|| {
                        checkpoint::resources::commit(&work_dir, &change)
                    });
                    if let Err(error) = committed {
                        let reason = format!("cannot checkpoint what is reserved: {error}");
                        self.ending = Some(Ending::Failure(reason));
                        return;
                    }
                }
                Effect::Launch(launch) => self.launcher.launch(*launch),
                Effect::Resize { container, resources, limits, in_docker: false } => {
                    self.launcher.resize(&container, &resources, &limits)
                }
                Effect::Resize { container, resources, limits, in_docker: true } => {
                    self.launcher.resize_in_docker(container, resources, limits)
                }
                Effect::Destroy(container) => self.launcher.destroy(container),
                Effect::Signal(container, signal) => self.launcher.signal(&container, signal),
                Effect::Launched(id, result) => {
                    if let Some(reply) = self.launching.remove(&id) {
                        drop(reply.send(result.map(|()| Launched::Launching)));
                    }
                }
                Effect::Ended(id, termination) => {
                    for reply in self.waiting.remove(&id).unwrap_or_default() {
                        drop(reply.send(Some(termination.clone())));
                    }
                }
                Effect::Remove(path) => remove(path),
                Effect::Event(stream, event) => self.event(stream, &event),
                Effect::Close(stream) => {
                    self.streams.remove(&stream);
                }
                Effect::Collect(waste) => self.collect(waste),
                Effect::Abort(ending) => {
                    self.ending = Some(ending);
                    return;
                }
            }
        }
    }

    fn event(&mut self, id: StreamId, event: &mesos::v1::executor::Event) {
        let Some(stream) = self.streams.get(&id) else { return };
        let record = mesos::recordio::encode(&stream.content.encode(event));
        if stream.records.try_send(record).is_err() {
            tracing::warn!(stream = %id.0, "an executor that doesn't read its events is cut off");
            self.streams.remove(&id);
            self.agent.stream_closed(id);
        }
    }

    /// Removes what is left of something, and counts that.
    fn collect(&self, waste: Waste) {
        let (handle, work_dir) = (self.handle.clone(), self.agent.settings.work_dir.clone());
        tokio::spawn(async move {
            let removed = tokio::task::spawn_blocking(move || collect(&work_dir, &waste)).await;
            let removed = removed.unwrap_or_default();
            handle
                .look(move |agent| {
                    for result in removed {
                        let name = match result {
                            Ok(()) => "gc/path_removals_succeeded",
                            Err(error) => {
                                tracing::warn!(%error, "not removed");
                                "gc/path_removals_failed"
                            }
                        };
                        *agent.counters.entry(name.to_owned()).or_default() += 1;
                    }
                })
                .await;
        });
    }
}

/// Removes a directory in the background; most are not there.
fn remove(path: std::path::PathBuf) {
    tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "not removed");
        }
        _ => {}
    });
}

/// The sandboxes and the checkpoint of what has ended.
fn collect(work_dir: &std::path::Path, waste: &Waste) -> Vec<std::io::Result<()>> {
    let roots = [work_dir.to_owned(), paths::meta(work_dir)];
    let each = roots.iter().map(|root| match waste {
        Waste::Run(run) => paths::remove_run(&run.below(root)),
        Waste::Framework(agent, id) => paths::remove(&paths::framework(root, agent, id)),
        Waste::Agent(id) => paths::remove(&paths::agent(root, id)),
    });
    each.collect()
}
