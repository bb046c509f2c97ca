//! What a connection's requests have to do with its socket: how many are under way, and the bell by which the
//! connection asks for its turn.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::core::ConnectionId;
use crate::throttle::{Entered, Gate};

/// Requests of one connection that may be under way; it is not read beyond that.
pub(super) const REQUESTS_MAX: usize = 64;

/// Connections that have rung, in order.
#[derive(Debug, Default)]
pub(super) struct Due {
    rung: Mutex<Vec<ConnectionId>>,
    is_new: Notify,
}

impl Due {
    /// Moves those that have rung behind those in `into`.
    pub(super) fn take(&self, into: &mut impl Extend<ConnectionId>) {
        into.extend(self.rung.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
    }

    /// Whether one has rung.
    pub(super) fn is_some(&self) -> bool {
        !self.rung.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits until one may have rung.
    pub(super) async fn rung(&self) {
        self.is_new.notified().await;
    }
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Flow {
    id: ConnectionId,
    due: Arc<Due>,
    gate: Arc<Gate>,
    has_rung: AtomicBool,
    under_way: AtomicUsize,
    /// It waits for room at the gate: it has some when nothing is under way.
    pub(super) is_waiting: AtomicBool,
}

impl Flow {
    pub(super) fn new(id: ConnectionId, due: Arc<Due>, gate: Arc<Gate>) -> Arc<Self> {
        let (has_rung, is_waiting) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { id, due, gate, has_rung, under_way: AtomicUsize::new(0), is_waiting })
    }

    /// There is something to do for the connection.
    pub(super) fn ring(&self) {
        if self.has_rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut rung = self.due.rung.lock().unwrap_or_else(PoisonError::into_inner);
        rung.push(self.id);
        if rung.len() == 1 {
            self.due.is_new.notify_one();
        }
    }

    /// It has its turn: what comes from now on rings again.
    pub(super) fn answer(&self) {
        self.has_rung.store(false, Ordering::Release);
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }
}

/// A socket is ready.
impl Wake for Flow {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A request under way; dropped when its reply is on its way.
#[derive(Debug)]
pub(crate) struct Permit {
    flow: Arc<Flow>,
    entered: Entered,
    began: Instant,
    is_write: bool,
}

impl Permit {
    /// Of a request that was read at `began` and has entered the gate.
    pub(super) fn new(flow: &Arc<Flow>, entered: Entered, began: Instant, is_write: bool) -> Self {
        flow.under_way.fetch_add(1, Ordering::Relaxed);
        Self { flow: flow.clone(), entered, began, is_write }
    }

    /// Time since the request was read.
    pub(in crate::server) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Whether the request waited for so long that it is answered with an error.
    pub(in crate::server) fn is_throttled(&self) -> bool {
        self.entered.is_throttled()
    }

    /// Whether it asks for a transaction.
    pub(in crate::server) fn is_write(&self) -> bool {
        self.is_write
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.flow.gate.leave(&self.entered);
        let before = self.flow.under_way.fetch_sub(1, Ordering::Relaxed);
        if before >= REQUESTS_MAX || (before == 1 && self.flow.is_waiting.load(Ordering::Relaxed)) {
            self.flow.ring();
        }
    }
}
