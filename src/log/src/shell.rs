//! A node with its surroundings: the libprocess wire, the replica's file, and the time.
//!
//! One task owns the node. It writes the records of a batch with one fsync before the batch's messages leave.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use mesos::internal::log::metadata::Status;
use mesos::libprocess::Upid;
use mesos::libprocess::inbound::Header;
use mesos::libprocess::outbound::Sender;
use tokio::sync::{mpsc, oneshot, watch};

use crate::message::{Envelope, Message};
use crate::{Event, LogError, Node, Settings, Store};

/// Inputs that may wait for the node; peers' messages beyond that are dropped: they are repeated.
const QUEUE_MAX: usize = 1024;
/// Inputs taken before what they lead to is written.
const BATCH_MAX: usize = 64;
/// How often time passes for the node.
const TICK: Duration = Duration::from_millis(50);
/// How long something may be waited for before the operator is told of it, and how often then.
const PATIENCE: Duration = Duration::from_secs(5);

enum Input {
    Message(Box<Envelope>),
    Elect(oneshot::Sender<Result<Option<Vec<u8>>, String>>),
    Append(Vec<u8>, oneshot::Sender<Result<(), String>>),
}

/// The log agreed on between masters. Cheap to clone; its task ends with the last clone.
#[derive(Debug, Clone)]
pub struct ReplicatedLog {
    inputs: mpsc::Sender<Input>,
    own: Upid,
    members: watch::Receiver<BTreeSet<Upid>>,
    votes: watch::Receiver<bool>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Message(_) => "Message",
            Self::Elect(_) => "Elect",
            Self::Append(..) => "Append",
        })
    }
}

impl ReplicatedLog {
    /// Opens the replica in `directory` and starts the task. `members` are the replicas known, as they come and go.
    ///
    /// # Errors
    /// When the replica's file can't be used.
    pub fn start(
        directory: &Path,
        settings: Settings,
        sender: Sender,
        members: watch::Receiver<BTreeSet<Upid>>,
    ) -> Result<Self, LogError> {
        let (store, replica, cut_bytes) = Store::open(directory)?;
        if cut_bytes > 0 {
            tracing::warn!(
                bytes = cut_bytes,
                "an unfinished write at the end of the replica's file was cut"
            );
        }
        tracing::info!(
            status = replica.status().as_str_name(),
            begin = replica.begin(),
            end = replica.end(),
            quorum = settings.quorum,
            "replica opened"
        );
        let (inputs, queue) = mpsc::channel(QUEUE_MAX);
        let started = Instant::now();
        let own = settings.own.clone();
        let (tell_votes, votes) = watch::channel(replica.status() == Status::Voting);
        let task = Task {
            votes: tell_votes,
            status: replica.status(),
            node: Node::new(settings, replica, Duration::ZERO),
            own: own.clone(),
            store,
            sender,
            started,
            local: VecDeque::new(),
            electing: None,
            appending: None,
            well_since: started,
            told: None,
        };
        tokio::spawn(task.run(queue, members.clone()));
        Ok(Self { inputs, own, members, votes })
    }

    /// How many replicas there are, as far as is known, the own included.
    pub fn replicas(&self) -> usize {
        let members = self.members.borrow();
        members.len() + usize::from(!members.contains(&self.own))
    }

    /// Whether the own replica has recovered: it votes.
    pub fn has_recovered(&self) -> bool {
        *self.votes.borrow()
    }

    /// Asks for the right to write, however long it takes; the newest entry then.
    ///
    /// # Errors
    /// When the disk refuses, or another election is under way.
    pub async fn elect(&self) -> Result<Option<Vec<u8>>, String> {
        let (reply, answer) = oneshot::channel();
        // If the task has ended, the answer says so.
        let _ = self.inputs.send(Input::Elect(reply)).await;
        answer.await.map_err(|_| ENDED.to_owned())?
    }

    /// Appends an entry that replaces all before it; when this returns, it is on a quorum's disks.
    ///
    /// # Errors
    /// When no quorum took it in time, another master was given the right to write, or the disk refuses. The entry may
    /// be in the log all the same: who gets this must not go on as the leader.
    pub async fn append(&self, entry: Vec<u8>) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        // If the task has ended, the answer says so.
        let _ = self.inputs.send(Input::Append(entry, reply)).await;
        answer.await.map_err(|_| ENDED.to_owned())?
    }

    /// Waits until the task has ended: the disk refused, and this replica doesn't speak any more.
    pub async fn stopped(&self) {
        self.inputs.closed().await;
    }

    /// Takes a libprocess message for one of the log's processes ([`crate::message::is_ours`]).
    pub fn deliver(&self, header: Header, body: &[u8]) {
        let message = match Message::decode(&header.name, body) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(from = %header.from, name = header.name, %error, "message dropped: it can't be read");
                return;
            }
        };
        let to = Upid::new(header.to, self.own.address);
        let envelope = Envelope { from: header.from, to, message };
        if self.inputs.try_send(Input::Message(Box::new(envelope))).is_err() {
            tracing::warn!("message dropped: {QUEUE_MAX} already wait for the replica");
        }
    }
}

const ENDED: &str = "the replica has stopped: see the log before this";

struct Task {
    node: Node,
    own: Upid,
    store: Store,
    sender: Sender,
    started: Instant,
    /// Messages from the node to itself.
    local: VecDeque<Envelope>,
    electing: Option<oneshot::Sender<Result<Option<Vec<u8>>, String>>>,
    appending: Option<oneshot::Sender<Result<(), String>>>,
    votes: watch::Sender<bool>,
    status: Status,
    /// Since when there is something to complain about.
    well_since: Instant,
    told: Option<Instant>,
}

impl Task {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Input>,
        mut members: watch::Receiver<BTreeSet<Upid>>,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut watched = true;
        let known = members.borrow_and_update().clone();
        self.node.set_members(self.now(), known);
        loop {
            tokio::select! {
                count = queue.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                }
                changed = members.changed(), if watched => {
                    watched = changed.is_ok();
                    let known = members.borrow_and_update().clone();
                    let list: Vec<String> = known.iter().map(ToString::to_string).collect();
                    tracing::info!(replicas = list.join(", "), "replicas of the log changed");
                    self.node.set_members(self.now(), known);
                }
                _ = ticks.tick() => self.node.tick(self.now()),
            }
            for input in batch.drain(..) {
                self.input(input);
            }
            if let Err(error) = self.carry_out() {
                // What was promised may not be on disk: this replica must not speak any more.
                tracing::error!(%error, "the replica stops");
                let reason = format!("the replica stopped: {error}");
                if let Some(reply) = self.electing.take() {
                    let _ = reply.send(Err(reason.clone()));
                }
                if let Some(reply) = self.appending.take() {
                    let _ = reply.send(Err(reason));
                }
                return;
            }
            self.tell();
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Message(envelope) => self.node.receive(now, *envelope),
            Input::Elect(reply) => {
                self.electing = Some(reply);
                self.node.elect(now);
            }
            Input::Append(entry, reply) => {
                self.appending = Some(reply);
                self.node.append(now, entry);
            }
        }
    }

    fn carry_out(&mut self) -> Result<(), LogError> {
        loop {
            let output = self.node.take();
            if !output.records.is_empty() {
                let (store, replica) = (&mut self.store, self.node.replica());
                tokio::task::block_in_place(|| store.write(&output.records, replica))?;
            }
            for envelope in output.messages {
                if envelope.to.address == self.own.address {
                    self.local.push_back(envelope);
                } else {
                    let (name, body) = envelope.message.encode();
                    self.sender.send_named(&envelope.from.id, &envelope.to, &name, &body);
                }
            }
            // Those who wait may be gone: fine.
            for event in output.events {
                match event {
                    Event::Elected(newest) => {
                        tracing::info!(
                            proposal = self.node.proposal(),
                            end = self.node.replica().end(),
                            "a quorum of replicas gave the right to write the registry"
                        );
                        let _ = self.electing.take().map(|reply| reply.send(Ok(newest)));
                    }
                    Event::Appended => {
                        let _ = self.appending.take().map(|reply| reply.send(Ok(())));
                    }
                    Event::Demoted(reason) => {
                        tracing::warn!(reason, "the right to write the registry is lost");
                        let _ = self.appending.take().map(|reply| reply.send(Err(reason)));
                    }
                }
            }
            let now = self.now();
            match self.local.pop_front() {
                Some(envelope) => self.node.receive(now, envelope),
                None => return Ok(()),
            }
        }
    }

    /// Tells the operator what changed, and what has been waited for too long.
    fn tell(&mut self) {
        let status = self.node.replica().status();
        if status != self.status {
            tracing::info!(
                from = self.status.as_str_name(),
                to = status.as_str_name(),
                end = self.node.replica().end(),
                "replica changed its status"
            );
            self.status = status;
            self.votes.send_replace(status == Status::Voting);
        }
        let Some(complaint) = self.node.complaint() else {
            (self.well_since, self.told) = (Instant::now(), None);
            return;
        };
        let due = self.told.map_or(self.well_since, |told| told) + PATIENCE;
        if Instant::now() >= due {
            tracing::warn!("replicated log: {complaint}");
            self.told = Some(Instant::now());
        }
    }
}
