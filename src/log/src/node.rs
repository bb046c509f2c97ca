//! A replica with its coordinator: inputs, rounds, time and effects. What it is busy with is in [`crate::recovery`],
//! [`crate::catch_up`] and [`crate::coordinator`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::internal::log::{Action, PromiseRequest, Record, WriteRequest};
use mesos::libprocess::Upid;

use crate::catch_up::Fill;
use crate::message::{self, Envelope, Message, REPLICA};
use crate::replica::Replica;
use crate::round::Round;

/// How often a request is sent again to those that haven't answered.
const RESEND: Duration = Duration::from_secs(1);

/// What doesn't change while a node runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's replica.
    pub own: Upid,
    /// How many replicas must have a change.
    pub quorum: usize,
    /// Whether a group without any log begins an empty one by itself.
    pub auto_initialize: bool,
    /// How long a request is repeated before it counts as failed.
    pub round_limit: Duration,
    /// Where the random pauses come from.
    pub seed: u64,
}

/// What a node tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It may write now; the newest entry of the log.
    Elected(Option<Vec<u8>>),
    /// The last append is on a quorum's disks.
    Appended,
    /// It may not write any more, and why; an append under way may or may not count.
    Demoted(String),
}

/// What a node wants done: first the records written, then the messages sent and the events told.
#[derive(Debug, Default)]
pub struct Output {
    /// Must be on disk, all or none, before anything else here leaves.
    pub records: Vec<Record>,
    /// To send; those to the node itself as well.
    pub messages: Vec<Envelope>,
    /// To tell.
    pub events: Vec<Event>,
}

/// What a node is busy with.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing: the replica votes.
    Idle,
    /// Asking where the others stand.
    Recovering,
    /// Asking what the others promised, before positions up to `end` are learned.
    Probing { begin: u64, end: u64 },
    /// Learning positions, before the replica votes.
    CatchingUp { promised: u64, begin: u64, end: u64, fill: Fill },
    /// Asking for the right to write.
    Electing,
    /// Learning positions up to the last one, before writing.
    Filling { last: u64, fill: Fill },
    /// Elected, nothing to write.
    Leading,
    /// Writing an action.
    Writing(Action),
    /// Waiting before recovery or election begins anew.
    Pausing(Duration),
    /// An emptied replica waits until nothing that it answered before can be under way.
    Settling(Duration),
}

/// A replica with its coordinator.
#[derive(Debug)]
pub struct Node {
    pub(crate) settings: Settings,
    pub(crate) replica: Replica,
    pub(crate) members: BTreeSet<Upid>,
    pub(crate) work: Work,
    pub(crate) round: Option<Round>,
    /// The last round that was given up, for telling what is missing.
    pub(crate) given_up: Option<Round>,
    /// The proposal of the last election.
    pub(crate) proposal: u64,
    /// Where the next action is written.
    pub(crate) index: u64,
    pub(crate) wants_lead: bool,
    pub(crate) pending: Option<Vec<u8>>,
    pub(crate) output: Output,
    pub(crate) started: Duration,
    rounds: u64,
    random: u64,
}

impl Node {
    /// A node that begins with what its replica had on disk.
    pub fn new(settings: Settings, replica: Replica, now: Duration) -> Self {
        let random = settings.seed;
        let mut node = Self {
            members: BTreeSet::from([settings.own.clone()]),
            settings,
            replica,
            work: Work::Idle,
            round: None,
            given_up: None,
            proposal: 0,
            index: 0,
            wants_lead: false,
            pending: None,
            output: Output::default(),
            started: now,
            // Not those of an earlier life of this process, whose answers may still be under way.
            rounds: random >> 1,
            random,
        };
        node.begin(now);
        node
    }

    /// The proposal of the last election that this node stood in.
    pub fn proposal(&self) -> u64 {
        self.proposal
    }

    /// The replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Takes what is to be done.
    pub fn take(&mut self) -> Output {
        let mut output = std::mem::take(&mut self.output);
        output.records = self.replica.take_unwritten();
        output
    }

    /// The replicas known; this one always is.
    pub fn set_members(&mut self, now: Duration, mut members: BTreeSet<Upid>) {
        members.insert(self.settings.own.clone());
        let new: Vec<Upid> = members.difference(&self.members).cloned().collect();
        self.members = members;
        if let Some(round) = &self.round {
            let (id, request) = (round.id, round.request.clone());
            for to in new {
                self.send(id, &to, &request);
            }
        }
        self.advance(now);
    }

    /// Wants the right to write: [`Event::Elected`] follows once the replica votes and a quorum agrees.
    pub fn elect(&mut self, now: Duration) {
        self.wants_lead = true;
        if matches!(self.work, Work::Idle) {
            self.begin(now);
        }
    }

    /// Appends an entry; the ones before it are dropped once it is agreed. One at a time: the next after
    /// [`Event::Appended`].
    pub fn append(&mut self, now: Duration, entry: Vec<u8>) {
        match &self.work {
            Work::Leading => self.write_entry(now, entry),
            Work::Writing(_) if self.pending.is_none() => self.pending = Some(entry),
            _ => {
                let reason = "it is not elected, or an append is under way".to_owned();
                self.output.events.push(Event::Demoted(reason));
            }
        }
    }

    /// Takes a message.
    pub fn receive(&mut self, now: Duration, envelope: Envelope) {
        let answer = match envelope.message {
            Message::Promise(request) => Some(Message::Promised(self.replica.promise(&request))),
            Message::Write(request) => self.replica.write(&request).map(Message::Written),
            Message::Recover => Some(Message::Recovered(self.replica.recover())),
            Message::Learned(action) => {
                self.replica.learn(action);
                None
            }
            answer => {
                self.answered(now, &envelope.from, &envelope.to, answer);
                None
            }
        };
        if let Some(message) = answer {
            let from = self.settings.own.clone();
            self.output.messages.push(Envelope { from, to: envelope.from, message });
        }
    }

    fn answered(&mut self, now: Duration, from: &Upid, to: &Upid, answer: Message) {
        let Some(round) = &mut self.round else { return };
        if message::round(&to.id) != Some(round.id)
            || !self.members.contains(from)
            || !round.takes(&answer)
        {
            return;
        }
        round.answers.entry(from.clone()).or_insert(answer);
        self.advance(now);
    }

    /// Lets time pass: call it some times a second.
    pub fn tick(&mut self, now: Duration) {
        match &self.work {
            Work::Pausing(until) | Work::Settling(until) if now >= *until => self.begin(now),
            _ => {}
        }
        if let Some(round) = &mut self.round
            && now >= round.sent + RESEND
        {
            round.sent = now;
            let (id, request) = (round.id, round.request.clone());
            let silent: Vec<Upid> = self
                .members
                .iter()
                .filter(|member| !round.answers.contains_key(*member))
                .cloned()
                .collect();
            for to in silent {
                self.send(id, &to, &request);
            }
        }
        self.advance(now);
    }

    /// Begins what is due next: recovery until the replica votes, then an election if one is wanted.
    pub(crate) fn begin(&mut self, now: Duration) {
        use mesos::internal::log::metadata::Status;
        self.round = None;
        if self.replica.status() != Status::Voting {
            self.work = Work::Recovering;
            self.ask(now, Message::Recover);
        } else if self.wants_lead {
            self.start_election(now);
        } else {
            self.work = Work::Idle;
        }
    }

    /// Looks whether the current work can go on.
    pub(crate) fn advance(&mut self, now: Duration) {
        match &self.work {
            Work::Idle | Work::Leading | Work::Pausing(_) | Work::Settling(_) => {}
            Work::Recovering => self.advance_recovery(now),
            Work::Probing { .. } => self.advance_probe(now),
            Work::CatchingUp { .. } | Work::Filling { .. } => self.advance_fill(now),
            Work::Electing => self.advance_election(now),
            Work::Writing(_) => self.advance_write(now),
        }
    }

    /// Starts a round.
    pub(crate) fn ask(&mut self, now: Duration, request: Message) {
        self.rounds += 1;
        let id = self.rounds;
        for to in self.members.clone() {
            self.send(id, &to, &request);
        }
        self.round = Some(Round { id, request, answers: BTreeMap::new(), since: now, sent: now });
    }

    /// Starts a round for promises.
    pub(crate) fn ask_promise(&mut self, now: Duration, proposal: u64, position: Option<u64>) {
        self.ask(now, Message::Promise(PromiseRequest { proposal, position }));
    }

    /// Starts a round to write an action under a proposal.
    pub(crate) fn ask_write(&mut self, now: Duration, proposal: u64, action: &Action) {
        let request = WriteRequest {
            proposal,
            position: action.position,
            learned: None,
            r#type: action.r#type.unwrap_or_default(),
            nop: action.nop,
            append: action.append.clone(),
            truncate: action.truncate,
        };
        self.ask(now, Message::Write(request));
    }

    fn send(&mut self, round: u64, to: &Upid, request: &Message) {
        let from = Upid::new(message::round_process(round), self.settings.own.address);
        self.output.messages.push(Envelope { from, to: to.clone(), message: request.clone() });
    }

    /// Learns an agreed action, and tells the others.
    pub(crate) fn learn(&mut self, action: Action) {
        let action = Action { learned: Some(true), ..action };
        let message = Message::Learned(action.clone());
        let from = Upid::new(message.sender(), self.settings.own.address);
        for to in self.members.iter().filter(|member| **member != self.settings.own) {
            let envelope =
                Envelope { from: from.clone(), to: to.clone(), message: message.clone() };
            self.output.messages.push(envelope);
        }
        self.replica.learn(action);
    }

    /// Begins anew after a random pause, so that two that disturb each other don't for ever.
    pub(crate) fn pause(&mut self, now: Duration, least: Duration) {
        self.given_up = self.round.take().or(self.given_up.take());
        self.work = Work::Pausing(now + self.jitter(least));
    }

    /// A random time from `least` to twice that.
    pub(crate) fn jitter(&mut self, least: Duration) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + least * ((mixed >> 32) as u32 & 1023) / 1023
    }

    /// Whether the current round has been repeated for as long as it may be.
    pub(crate) fn round_is_over(&self, now: Duration) -> bool {
        self.round.as_ref().is_some_and(|round| now >= round.since + self.settings.round_limit)
    }

    /// The size of the group that the quorum is made for.
    pub(crate) fn group_size(&self) -> usize {
        (2 * self.settings.quorum).saturating_sub(1)
    }

    /// What the operator should know: what is being waited for, or is wrong; `None` when all is well.
    pub fn complaint(&self) -> Option<String> {
        let (quorum, size) = (self.settings.quorum, self.group_size());
        let list: Vec<String> = self.members.iter().map(ToString::to_string).collect();
        let (known, list) = (list.len(), list.join(", "));
        if known > size {
            return Some(format!(
                "--quorum={quorum} is too small for {known} replicas ({list}): two halves could decide apart; start each master with --quorum={}",
                known / 2 + 1
            ));
        }
        let work = match &self.work {
            Work::Settling(until) => {
                return Some(format!(
                    "the replica is {} where others vote: it may have lost its disk, and takes part {until:?} after its start at the earliest",
                    self.replica.status().as_str_name()
                ));
            }
            _ if !self.votes() => self.recovery_state(),
            Work::Idle | Work::Leading => return None,
            Work::Writing(action) => format!("a write at position {} waits", action.position),
            _ => "the right to write the registry is being asked for".to_owned(),
        };
        let answered = self.asked().map_or(0, |round| round.answers.len());
        let missing = if known < quorum {
            format!("too few replicas: {known} known of the {quorum} that --quorum={quorum} needs")
        } else {
            format!(
                "{answered} of {known} known replicas answered, --quorum={quorum} needs {quorum}"
            )
        };
        Some(format!(
            "{work}; {missing} ({list}); {size} masters with their {REPLICA} are expected"
        ))
    }

    /// The round that shows best who answers: the one under way may have begun just now.
    pub(crate) fn asked(&self) -> Option<&Round> {
        self.given_up.as_ref().or(self.round.as_ref())
    }

    fn votes(&self) -> bool {
        self.replica.status() == mesos::internal::log::metadata::Status::Voting
    }
}
