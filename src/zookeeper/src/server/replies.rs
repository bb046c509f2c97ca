//! What leaves for clients, and what is held until the transactions before it are on disk or committed.

use std::time::{Duration, Instant};

use super::Actor;
use super::appender::{Logged, Sync};
use super::clients::Permit;
use crate::core::{ConnectionId, Effect};
use crate::disk::DiskError;
use crate::metrics::Counter;
use crate::quorum::packet::Packet;

/// Syncs that take longer are not counted as time that has passed.
const STALL: Duration = Duration::from_millis(100);
/// Transactions that a lone server's task writes itself.
const ALONE_MAX: usize = 128;

/// What may leave only when the transactions before it are on disk, or committed.
pub(super) enum Held {
    Effect(Effect),
    Answered(Vec<(ConnectionId, Permit)>),
    Packet(i64, Packet),
}

impl Actor {
    /// Keeps transactions for the log, and sends what doesn't wait for them to clients.
    pub(super) fn carry_out(&mut self) {
        for effect in self.core.take_effects() {
            match effect {
                Effect::Append(entry) => {
                    self.appended = entry.zxid;
                    self.entries.push((entry.zxid, entry.encode().into()));
                }
                Effect::SendAtOnce(id, body) => self.send(id, body),
                effect if self.appended > self.logged => {
                    self.held.push_back((self.appended, Held::Effect(effect)));
                }
                effect => self.perform(effect),
            }
        }
        self.answered_at_once();
        let answered = std::mem::take(&mut self.permits);
        if self.appended == self.logged {
            self.answered(answered);
        } else if !answered.is_empty() {
            self.held.push_back((self.appended, Held::Answered(answered)));
        }
    }

    /// Sends transactions to the log. Where the disk keeps the server waiting, its clock stands still: clients that have
    /// sent what keeps their sessions alive must not lose them because nobody could look.
    pub(super) fn append(&mut self) -> Result<(), DiskError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let begin = Instant::now();
        let sync = self.sync(ALONE_MAX);
        let report = self.log.append(std::mem::take(&mut self.entries), sync);
        let took = begin.elapsed();
        if took > STALL {
            self.base_ms -= took.as_millis() as i64;
        }
        report.map_or(Ok(()), |report| self.reported(report))
    }

    /// Where what has been asked for since the last call may be synced: those who only read are not to wait for it.
    pub(super) fn sync(&mut self, here_max: usize) -> Sync {
        if std::mem::take(&mut self.has_answered) {
            Sync::Elsewhere
        } else {
            Sync::Anywhere(here_max)
        }
    }

    /// Transactions are on disk, or were refused for want of room.
    pub(super) fn reported(&mut self, report: Result<Logged, DiskError>) -> Result<(), DiskError> {
        match report {
            Ok(logged) => self.logged(logged),
            Err(error) if error.is_full() => self.suspend(&error)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What waited for transactions leaves.
    fn logged(&mut self, logged: Logged) {
        self.logged = logged.last;
        self.core.settle(logged.last);
        self.taking.note(logged.count, logged.bytes as u64);
        for held in self.release(logged.last) {
            match held {
                Held::Effect(effect) => self.perform(effect),
                Held::Answered(permits) => self.answered(permits),
                // Only members have somebody to send it to.
                Held::Packet(..) => {}
            }
        }
    }

    /// Takes a snapshot if it is time, when all that is in the tree is on disk.
    pub(super) fn snapshot_when_due(&mut self) -> Result<(), DiskError> {
        if self.taking.is_due() {
            self.log.wait();
            while let Some(report) = self.log.report() {
                self.reported(report)?;
            }
        }
        // The disk may have refused what it waited for.
        if self.taking.is_due() && !self.core.is_suspended() {
            self.snapshot();
        }
        Ok(())
    }

    /// What waits for nothing behind `zxid`.
    pub(super) fn release(&mut self, zxid: i64) -> Vec<Held> {
        let count = self.held.iter().take_while(|(needed, _)| *needed <= zxid).count();
        self.held.drain(..count).map(|(_, held)| held).collect()
    }

    /// The core has dealt with a request: it is under way for as long as its reply waits for a transaction.
    pub(super) fn under_way(&mut self, id: ConnectionId, permit: Permit) {
        let waits = self.core.waits(id);
        self.has_answered |= !waits;
        let list = if waits { &mut self.permits } else { &mut self.answered };
        list.push((id, permit));
    }

    /// The replies of this batch that wait for nothing are on their way.
    pub(super) fn answered_at_once(&mut self) {
        let mut answered = std::mem::take(&mut self.answered);
        self.note_answered(&mut answered);
        self.answered = answered;
    }

    /// The replies to requests that waited for the leader are on their way.
    pub(super) fn leader_answered(&mut self) {
        for id in self.core.take_answered() {
            let kept = self.clients.kept(id);
            self.answered.extend(kept.map(|permit| (id, permit)));
        }
    }

    pub(super) fn answered(&mut self, mut permits: Vec<(ConnectionId, Permit)>) {
        self.note_answered(&mut permits);
    }

    fn note_answered(&mut self, permits: &mut Vec<(ConnectionId, Permit)>) {
        if permits.is_empty() {
            return;
        }
        let now = Instant::now();
        for (id, permit) in permits.drain(..) {
            self.core.note_latency(id, permit.age(now), permit.is_write());
        }
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(id, body) | Effect::SendAtOnce(id, body) => self.send(id, body),
            Effect::Close(id) => self.clients.close(id),
            Effect::Append(_) => {}
        }
    }

    pub(super) fn send(&mut self, id: ConnectionId, frame: Vec<u8>) {
        if !self.clients.send(id, &frame) {
            tracing::warn!("connection {}: too much waits to be read by the client: cut off", id.0);
            self.core.metrics.count(Counter::SlowClientsEvicted);
            self.core.closed(id);
        }
        self.core.take_back(frame);
    }

    /// Cuts off clients that take nothing of what they are sent.
    pub(super) fn cut_stalled(&mut self) {
        for id in self.clients.cut_stalled() {
            self.core.closed(id);
        }
    }
}
