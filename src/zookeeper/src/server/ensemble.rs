//! A member of an ensemble: what the member's decisions and the core want of each other, of the disk and the network.
//!
//! A leader's tree is ahead of what is committed; what clients may only see of it then is held until it is. A
//! follower's tree holds what is committed. Without a leader, clients are sent away.

mod files;
mod full;
mod listeners;
mod measure;
mod output;
mod requests;
pub(super) mod start;
mod status;
pub(crate) mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jute::request::opcode;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::listeners::{Listeners, ObserverPort};
use self::turns::Turns;
use super::appender::{Logged, Sync};
use super::clients::Permit;
use super::replies::Held;
use super::{Actor, Input, wall_ms};
use crate::config;
use crate::core::{ConnectionId, Effect, State};
use crate::disk::snapshot::{self, Content};
use crate::disk::{DiskError, truncate};
use crate::quorum::configuration::{Address, Endpoint};
use crate::quorum::elections::Elections;
use crate::quorum::leader::Leader;
use crate::quorum::member::Member;
use crate::quorum::net::{self, Door, Event, Events, Link};
use crate::quorum::observers::Relays;
use crate::quorum::packet::{Packet, kind};
use crate::quorum::security::Security;
use crate::quorum::zab::{History, Output, Proposal};

/// A file in the data directory by which a server without data may vote; it is taken away (`FileTxnSnapLog`).
pub(super) const INITIALIZE: &str = "initialize";
/// Transactions that a follower's task writes itself; more come meanwhile, unlike to a lone server, that are to be
/// carried out.
const FOLLOWER_MAX: usize = 16;
/// How long members may take to read the last of what they are sent.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a server looks for a leader at least before it serves reads alone.
const READ_ONLY_MIN_MS: i64 = 2000;

/// What takes its turn.
enum Request {
    Frame(ConnectionId, Bytes, Permit),
    Forwarded(i64, Packet),
}

pub(super) struct Quorum {
    ensemble: config::Ensemble,
    member: Member,
    elections: Elections,
    listeners: Listeners,
    observer_port: ObserverPort,
    security: Security,
    events: Events,
    runtime: Handle,
    links: BTreeMap<i64, Link>,
    /// Those in use, and those that are ending.
    all: net::Links,
    /// Learners that knew before this member did that it leads.
    early: BTreeMap<i64, (Link, Packet)>,
    is_dialling: bool,
    next_number: u64,
    unlogged: Vec<(i64, Arc<[u8]>)>,
    proposed: i64,
    committed: i64,
    turns: Turns<Request>,
    /// Observers' questions to the leader, by who asked and on which connection.
    relays: Relays<(i64, u64)>,
    wants_snapshot: bool,
    ticked_ms: i64,
    /// The disk is full: it takes no part until there is room.
    is_parked: bool,
    /// When it last began to lead.
    leads_since_ms: i64,
    clock: measure::Clock,
    /// Since when this server looks for a leader.
    looking_ms: Option<i64>,
    shutdown: CancellationToken,
    /// Until when a leader that is told to end commits what it has proposed.
    ends_ms: Option<i64>,
}

impl Quorum {
    fn leads(&self) -> bool {
        self.member.leading().is_some() && self.member.serves()
    }

    fn is_quiet(&self) -> bool {
        (self.wants_snapshot && self.proposed > self.committed)
            || self.member.leading().is_some_and(Leader::wants_quiet)
    }

    fn send(&mut self, now_ms: i64, to: i64, bytes: Vec<u8>) {
        let Some(link) = self.links.get(&to) else { return };
        if !link.send(bytes) {
            tracing::warn!("server {to} does not read what it is sent: cut off");
            self.cut(now_ms, to);
        }
    }

    fn send_tree(&mut self, now_ms: i64, to: i64, content: Content) {
        let Some(link) = self.links.get(&to) else { return };
        if !link.send_tree(content) {
            self.cut(now_ms, to);
        }
    }

    fn cut(&mut self, now_ms: i64, other: i64) {
        if self.links.remove(&other).is_some() {
            self.member.disconnected(now_ms, other);
        }
    }

    /// Listens for observers, on a follower that serves them.
    fn open_observer_port(&mut self) {
        let serves = self.member.following().is_some_and(|one| one.observers().is_some());
        let own = self.member.members().current().servers().get(&self.ensemble.id);
        if let (Some(port), Some(own), true) = (self.ensemble.observer_master_port, own, serves) {
            self.observer_port.open(&own.addresses, port, &self.listeners);
        }
    }

    /// A learner begins to learn from this server.
    fn join(&mut self, now_ms: i64, id: i64, link: Link, packet: Packet) {
        self.cut(now_ms, id);
        self.links.insert(id, link);
        self.member.packet(now_ms, id, packet);
    }

    /// Those that knew first who leads have their turn, or are sent away.
    fn admit_early(&mut self, now_ms: i64) {
        if self.early.is_empty() || self.member.leader().is_none() {
            return;
        }
        for (id, (link, packet)) in std::mem::take(&mut self.early) {
            if self.member.leading().is_some() {
                self.join(now_ms, id, link, packet);
            }
        }
    }

    fn is_open(&self, other: i64, number: u64) -> bool {
        self.links.get(&other).is_some_and(|link| link.number == number)
    }
}

impl Actor {
    /// Whether a server that is told to end may. A leader ends when what it has proposed is committed, so that clients
    /// know what became of their writes; its followers see their connections end, and elect another at once.
    pub(super) fn may_end(&mut self, quorum: &mut Quorum) -> bool {
        if !quorum.shutdown.is_cancelled() {
            return false;
        }
        let now_ms = self.now_ms();
        let limit_ms = now_ms + 2 * i64::from(self.config.tick_ms);
        let until_ms = *quorum.ends_ms.get_or_insert(limit_ms);
        let leader = quorum.member.leading().filter(|leader| leader.serves());
        quorum.is_parked || leader.is_none_or(Leader::is_done) || now_ms >= until_ms
    }

    /// Ends all connections with members, after what was sent on them.
    pub(super) async fn farewell(quorum: Quorum) {
        let Quorum { all, links, early, .. } = quorum;
        drop((links, early));
        if tokio::time::timeout(FAREWELL, all.ended()).await.is_err() {
            tracing::debug!("members do not read what they are sent");
        }
    }

    /// Something has come in.
    pub(super) fn member_input(
        &mut self,
        quorum: &mut Quorum,
        input: Input,
    ) -> Result<(), DiskError> {
        match input {
            // Nothing new is begun at the end.
            Input::Opened(..) | Input::Frame(..) if quorum.ends_ms.is_some() => {}
            Input::Opened(id, peer, arrival) => {
                // Without a leader the connection ends with `arrival`.
                let is_open = quorum.ensemble.leader_serves || quorum.member.leading().is_none();
                if is_open && (quorum.member.serves() || self.core.is_read_only()) {
                    self.clients.open(id, *arrival);
                    self.core.opened(wall_ms(), id, &peer.name(), peer.ids());
                }
            }
            Input::Frame(id, frame, permit) => {
                self.take_turn(quorum, Request::Frame(id, frame, permit));
            }
            Input::Tick => self.member_tick(quorum),
            Input::Member(event) => self.member_event(quorum, event)?,
            Input::Question(question) => {
                let status = quorum.status(self.now_ms());
                self.question(question, Some(status));
            }
            other @ (Input::Closed(_) | Input::Snapshot(..)) => self.input(other),
        }
        Ok(())
    }

    /// Carries a request out, if its turn is now.
    fn take_turn(&mut self, quorum: &mut Quorum, request: Request) {
        if let Some(request) = quorum.turns.admit(quorum.is_quiet(), request) {
            self.carry_out_request(quorum, request);
        }
    }

    fn carry_out_request(&mut self, quorum: &mut Quorum, request: Request) {
        match request {
            Request::Frame(id, frame, permit) => self.client_request(quorum, id, frame, permit),
            Request::Forwarded(from, packet) => self.request(quorum, from, packet),
        }
    }

    /// A client's request whose turn it is.
    fn client_request(
        &mut self,
        quorum: &mut Quorum,
        id: ConnectionId,
        frame: Bytes,
        permit: Permit,
    ) {
        let (now_ms, wall_ms) = self.batch_ms;
        let throttled = permit.is_throttled() && quorum.member.serves();
        if throttled && self.core.throttled_frame(now_ms, id, &frame) {
            // It is answered.
        } else if quorum.leads() {
            self.note_synchronised(quorum, frame.get(4..8));
            self.core.frame(now_ms, wall_ms, id, &frame);
        } else if quorum.member.serves() {
            let before = self.core.queued(id);
            self.core.follower_frame(now_ms, id, &frame);
            if self.core.queued(id) > before {
                self.clients.keep(id, permit);
                return;
            }
        } else if self.core.is_read_only() {
            self.core.read_only_frame(now_ms, id, &frame);
        }
        self.under_way(id, permit);
    }

    /// Whoever asks for a change of the ensemble is answered by what the leader knows of its followers then.
    fn note_synchronised(&mut self, quorum: &Quorum, kind: Option<&[u8]>) {
        if kind == Some(&opcode::RECONFIG.to_be_bytes())
            && let Some(leader) = quorum.member.leading()
        {
            self.core.changes.synchronised = leader.synchronised().collect();
        }
    }

    /// Time has passed.
    fn member_tick(&mut self, quorum: &mut Quorum) {
        let now_ms = self.now_ms();
        quorum.member.tick(now_ms);
        self.serve_reads_when_due(quorum, now_ms);
        if now_ms - quorum.ticked_ms < i64::from(self.config.tick_ms) / 2 {
            return;
        }
        quorum.ticked_ms = now_ms;
        self.cut_stalled();
        if quorum.leads() && !quorum.is_quiet() {
            self.core.tick(now_ms, wall_ms());
        } else if quorum.member.serves() && !quorum.leads() {
            self.core.local_tick(now_ms);
        }
        self.purge_when_due();
    }

    /// Who looks for a leader for long serves reads meanwhile, until one is found (`QuorumPeer.run`).
    fn serve_reads_when_due(&mut self, quorum: &mut Quorum, now_ms: i64) {
        if !self.config.read_only {
            return;
        }
        let is_looking = quorum.member.leader().is_none();
        if self.core.is_read_only() {
            if is_looking {
                self.core.read_only_tick(now_ms);
            } else {
                self.core.without_leader();
            }
        }
        if !is_looking {
            quorum.looking_ms = None;
            return;
        }
        let since_ms = *quorum.looking_ms.get_or_insert(now_ms);
        let patience_ms = i64::from(self.config.tick_ms).max(READ_ONLY_MIN_MS);
        if !self.core.is_read_only() && now_ms - since_ms >= patience_ms {
            tracing::info!("there is no leader: serving reads to clients that ask for no more");
            self.take_configuration(quorum.member.members().current());
            self.core.serve_reads();
        }
    }

    fn member_event(&mut self, quorum: &mut Quorum, event: Event) -> Result<(), DiskError> {
        let now_ms = self.now_ms();
        match event {
            Event::Notification(from, notification, configuration) => {
                let configuration = configuration.map(|configuration| *configuration);
                quorum.member.notification(now_ms, from, notification, configuration);
            }
            // Those that no configuration names may learn, before they are made members.
            Event::Joined(Door::Observers, id, link, packet) => {
                let serves = quorum.member.following().is_some_and(|one| one.observers().is_some());
                if serves && quorum.member.leader() != Some(id) && id != quorum.ensemble.id {
                    quorum.join(now_ms, id, link, packet);
                }
            }
            Event::Joined(Door::Learners, id, link, packet) => {
                let is_other = (1..=255).contains(&id) && id != quorum.ensemble.id;
                if quorum.member.leading().is_some() && is_other {
                    quorum.join(now_ms, id, link, packet);
                } else if quorum.member.leader().is_none() && is_other {
                    quorum.early.insert(id, (link, packet));
                }
            }
            Event::Connected(id, link) => {
                quorum.is_dialling = false;
                if quorum.member.dials() == Some(id) {
                    quorum.links.insert(id, link);
                    quorum.member.connected(now_ms, id);
                }
            }
            Event::Unreachable(id) => {
                quorum.is_dialling = false;
                tracing::info!("server {id} does not listen for learners");
                quorum.member.unreachable(id);
            }
            Event::Packet(from, number, packet) => {
                if !quorum.is_open(from, number) {
                    return Ok(());
                }
                if packet.kind == kind::ACKEPOCH {
                    self.lend(quorum, from, packet.zxid)?;
                }
                if packet.kind == kind::TRUNC
                    && !truncate::can_truncate(&self.snapshots, &self.logs, packet.zxid)?
                {
                    tracing::info!("the log can't be cut behind zxid 0x{:x}", packet.zxid);
                    quorum.member.cannot_truncate(now_ms);
                } else {
                    quorum.member.packet(now_ms, from, packet);
                }
            }
            Event::Snapshot(from, number, packet, state) => {
                if quorum.is_open(from, number) && quorum.member.leader() == Some(from) {
                    let zxid = packet.zxid;
                    quorum.member.packet(now_ms, from, packet);
                    self.take_over(quorum, zxid, *state)?;
                }
            }
            Event::Oracle(grants) => quorum.member.set_oracle(grants),
            Event::Closed(other, number) => {
                quorum.early.retain(|_, (link, _)| link.number != number);
                if quorum.is_open(other, number) {
                    quorum.cut(now_ms, other);
                }
            }
        }
        Ok(())
    }

    /// A learner that missed more than is in memory is sent what the log has, unless a whole tree is not much more
    /// (`snapshotSizeFactor`).
    fn lend(&self, quorum: &mut Quorum, to: i64, zxid: i64) -> Result<(), DiskError> {
        let until = quorum.member.history().base();
        if quorum.member.leader() == Some(to) || zxid >= until {
            return Ok(());
        }
        let newest = snapshot::list(&self.snapshots)?.pop();
        let size = newest.and_then(|newest| std::fs::metadata(newest.path).ok());
        let size = size.map_or(0, |metadata| metadata.len());
        let bytes_max = (size as f64 * self.config.snapshot_size_factor) as u64;
        let range = (zxid, until);
        let older = truncate::entries_between(&self.snapshots, &self.logs, range, bytes_max)?;
        if let Some(older) = older {
            tracing::info!("server {to} gets {} transactions out of the log", older.len());
            let older = older.into_iter().map(|(zxid, data)| Proposal { zxid, data: data.into() });
            quorum.member.lend(to, older.collect());
        }
        Ok(())
    }

    /// A leader's tree replaces everything here, on disk before anything is acknowledged. The logs are cut first: what
    /// they have behind it must not be replayed on it.
    fn take_over(&mut self, quorum: &mut Quorum, zxid: i64, state: State) -> Result<(), DiskError> {
        tracing::info!("taking over the leader's tree at zxid 0x{zxid:x}");
        // One that is being taken may be of more than the leader has.
        self.taking.cancel();
        quorum.unlogged.clear();
        self.flush(quorum)?;
        truncate::cut_logs(&self.logs, zxid)?;
        let storage = self.config.storage;
        let trailer = storage.trailer(zxid, state.tree.digest());
        snapshot::save(&self.snapshots, &state, storage.compression, trailer)?;
        truncate::remove_newer_snapshots(&self.snapshots, zxid)?;
        self.core.restore(state);
        self.log.roll();
        self.taking.taken();
        quorum.member.restored(zxid, History::new(zxid, self.config.commit_log_count));
        Ok(())
    }

    /// Carries out what member and core want, until neither wants anything. The log is synced when all else is done.
    pub(super) fn settle(&mut self, quorum: &mut Quorum) -> Result<(), DiskError> {
        loop {
            let effects = self.core.take_effects();
            let forwards = self.core.take_forwards();
            let mut is_idle = effects.is_empty() && forwards.is_empty();
            self.member_effects(quorum, effects);
            for forward in forwards {
                self.forward(quorum, forward);
            }
            quorum.admit_early(self.now_ms());
            let outputs = quorum.member.take_outputs();
            is_idle &= outputs.is_empty();
            let mut gave_up = false;
            for output in outputs {
                if let Output::GiveUp(reason) = &output {
                    tracing::info!("looking for a leader: {reason}");
                    gave_up = true;
                } else {
                    self.output(quorum, output)?;
                }
            }
            if gave_up {
                quorum.member.look(self.now_ms());
            }
            let notifications = quorum.member.take_notifications();
            if !notifications.is_empty() {
                let text = quorum.member.members().current().to_string();
                for (to, notification) in notifications {
                    quorum.elections.send(to, notification.encode(&text));
                }
            }
            if let Some(leader) = quorum.member.dials().filter(|_| !quorum.is_dialling)
                && let Some(server) = quorum.member.members().current().servers().get(&leader)
            {
                let port =
                    quorum.ensemble.observer_master_port.filter(|_| quorum.member.dials_follower());
                let endpoint = |address: &Address| match port {
                    Some(port) => Endpoint { host: address.host.clone(), port },
                    None => address.quorum(),
                };
                let addresses = server.addresses.iter().map(endpoint).collect();
                quorum.is_dialling = true;
                quorum.next_number += 2;
                let (number, events) = (quorum.next_number, quorum.events.clone());
                let security = quorum.security.clone();
                net::dial(
                    &quorum.all,
                    &quorum.runtime,
                    leader,
                    addresses,
                    number,
                    security,
                    events,
                );
            }
            if !is_idle {
                continue;
            }
            let unlogged = std::mem::take(&mut quorum.unlogged);
            if !unlogged.is_empty() {
                // What a leader sends must leave meanwhile, so that its followers sync too.
                let sync = if quorum.leads() { Sync::Elsewhere } else { self.sync(FOLLOWER_MAX) };
                if let Some(report) = self.log.append(unlogged, sync) {
                    self.member_reported(quorum, report)?;
                    continue;
                }
            }
            // A leader under load is never without proposals: new ones wait until the tree is as what is committed.
            quorum.wants_snapshot = self.taking.is_due();
            if quorum.wants_snapshot && quorum.proposed == quorum.committed {
                self.log.wait();
                self.snapshot();
                quorum.wants_snapshot = false;
            }
            let Some(request) = quorum.turns.next(quorum.is_quiet()) else { break };
            self.carry_out_request(quorum, request);
        }
        self.leader_answered();
        self.answered_at_once();
        let answered = std::mem::take(&mut self.permits);
        if !quorum.leads() || quorum.proposed == quorum.committed {
            self.answered(answered);
        } else if !answered.is_empty() {
            self.held.push_back((quorum.proposed, Held::Answered(answered)));
        }
        Ok(())
    }

    /// Tells the member what is on disk since the last call.
    fn member_logged(&mut self, quorum: &mut Quorum) -> Result<(), DiskError> {
        while let Some(report) = self.log.report() {
            self.member_reported(quorum, report)?;
        }
        Ok(())
    }

    fn member_reported(
        &mut self,
        quorum: &mut Quorum,
        report: Result<Logged, DiskError>,
    ) -> Result<(), DiskError> {
        let logged = report?;
        self.taking.note(logged.count, logged.bytes as u64);
        quorum.member.logged(logged.last);
        Ok(())
    }

    /// Waits until everything is on disk. The member is not told: its role is about to change, and what it has on disk
    /// then goes without saying.
    fn flush(&mut self, quorum: &mut Quorum) -> Result<(), DiskError> {
        self.log.append(std::mem::take(&mut quorum.unlogged), Sync::Elsewhere);
        self.log.wait();
        while let Some(report) = self.log.report() {
            let logged = report?;
            self.taking.note(logged.count, logged.bytes as u64);
        }
        Ok(())
    }

    /// Proposes what is to be logged; what comes behind it waits for it.
    fn member_effects(&mut self, quorum: &mut Quorum, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append(entry) if quorum.leads() => {
                    quorum.proposed = entry.zxid;
                    let data = entry.encode().into();
                    quorum.member.propose(Proposal { zxid: entry.zxid, data });
                }
                Effect::Append(entry) => {
                    tracing::error!("zxid 0x{:x} without leading: not logged", entry.zxid);
                }
                Effect::SendAtOnce(id, body) => self.send(id, body),
                other if quorum.leads() && quorum.proposed > quorum.committed => {
                    self.held.push_back((quorum.proposed, Held::Effect(other)));
                }
                other => self.perform(other),
            }
        }
    }
}
