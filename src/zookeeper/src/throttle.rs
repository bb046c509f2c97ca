//! Throttling: how many requests are under way, how large they are, and how fast new sessions come
//! (`ZooKeeperServer.shouldThrottle`, `RequestThrottler`, `BlueThrottle`).
//!
//! All connections share one [`Gate`]. A request enters before it goes to the core and leaves when its reply is on its
//! way; while there is no room its connection is not read, so that nothing piles up. Those that wait take turns:
//! `server::clients` sees to it.

mod bucket;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jute::request::opcode;

pub use bucket::Bucket;

use crate::config::Limits;
use crate::metrics::{Counter, Metrics, Summary};

/// Why a request is not taken: its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many bytes of large requests are under way.
    #[error("too many bytes of large requests are under way: largeRequestMaxBytes is {0}")]
    Large(usize),
    /// New sessions come too fast.
    #[error("new sessions come faster than connection_throttle_tokens allows")]
    Sessions,
}

/// What all connections share.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    /// What `globalOutstandingLimit` is divided by.
    share: AtomicUsize,
    metrics: Arc<Metrics>,
    under_way: AtomicUsize,
    large_bytes: AtomicUsize,
    /// Bytes that all clients together have still to read.
    pub(crate) unread: AtomicUsize,
    sessions: Option<Mutex<Bucket>>,
    began: Instant,
}

/// What a request holds of the [`Gate`] that it has entered, until it leaves.
#[derive(Debug)]
pub struct Entered {
    large_bytes: usize,
    is_throttled: bool,
}

impl Entered {
    /// Whether it waited for so long that it is answered with an error in place of being carried out.
    pub fn is_throttled(&self) -> bool {
        self.is_throttled
    }
}

impl Gate {
    /// A gate that nothing has entered. `seed` is for dropping sessions by chance.
    pub fn new(limits: Limits, metrics: Arc<Metrics>, seed: u64) -> Arc<Self> {
        let sessions = limits.sessions.clone().map(|bucket| Mutex::new(Bucket::new(bucket, seed)));
        Arc::new(Self {
            limits,
            share: AtomicUsize::new(1),
            metrics,
            under_way: AtomicUsize::new(0),
            large_bytes: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            sessions,
            began: Instant::now(),
        })
    }

    /// Takes this server for one of so many voters, which share `globalOutstandingLimit` between them
    /// (`LeaderZooKeeperServer.getGlobalOutstandingLimit` and the learner's).
    pub fn share(&self, voters: usize) {
        let share = if voters > 2 { voters - 1 } else { 1 };
        self.share.store(share, Ordering::Relaxed);
    }

    /// Where what it does is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Whether a connection may ask for its session, in this frame.
    ///
    /// # Errors
    /// When it may not.
    pub fn admit_session(&self, frame: &[u8]) -> Result<(), Refused> {
        let Some(sessions) = &self.sessions else { return Ok(()) };
        // Behind protocol version, last zxid and timeout.
        let session = frame.get(16..24).and_then(|bytes| bytes.try_into().ok());
        let is_new = session.is_none_or(|bytes| i64::from_be_bytes(bytes) == 0);
        let now_ms = self.began.elapsed().as_millis() as i64;
        let mut bucket = sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let is_admitted = bucket.take(now_ms, is_new);
        self.metrics.note(Summary::ConnectionTokenDeficit, bucket.deficit());
        self.metrics.set_drop_chance(bucket.drop_chance());
        if is_admitted {
            return Ok(());
        }
        self.metrics.count(Counter::ConnectionRejected);
        Err(Refused::Sessions)
    }

    /// A client has gone away without a word (`NIOServerCnxn.handleFailedRead`).
    pub fn gone(&self) {
        self.metrics.count(Counter::ConnectionDropCount);
    }

    /// Whether there is room for a request of a connection that has `own` under way. A connection without any gets in
    /// whatever `globalOutstandingLimit` says, so that each makes progress.
    pub fn has_room(&self, own: usize) -> bool {
        let under_way = self.under_way();
        let Limits { requests_max, outstanding_max, .. } = self.limits;
        (own == 0 || under_way <= outstanding_max / self.share.load(Ordering::Relaxed))
            && (requests_max == 0 || under_way < requests_max)
    }

    /// Lets a request in, for which there is room; it may have `waited` for that.
    ///
    /// # Errors
    /// When it is large, and too much of that is under way.
    pub fn enter(&self, frame: &[u8], waited: Option<Duration>) -> Result<Entered, Refused> {
        let waited_ms = waited.map_or(0, |waited| waited.as_millis() as u64);
        if waited.is_some() {
            self.metrics.note(Summary::RequestThrottleQueueTimeMs, waited_ms);
        }
        let large_bytes = self.enter_large(frame.len())?;
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let limit_ms = self.limits.throttled_after_ms;
        let is_throttled = limit_ms > 0 && waited_ms > limit_ms && may_be_throttled(frame);
        if is_throttled {
            self.metrics.count(Counter::ThrottledOps);
        }
        Ok(Entered { large_bytes, is_throttled })
    }

    /// A request's reply is on its way.
    pub fn leave(&self, entered: &Entered) {
        if entered.large_bytes > 0 {
            self.large_bytes.fetch_sub(entered.large_bytes, Ordering::Relaxed);
        }
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    fn enter_large(&self, length: usize) -> Result<usize, Refused> {
        if self.limits.large_threshold.is_none_or(|threshold| length <= threshold) {
            return Ok(0);
        }
        let before = self.large_bytes.fetch_add(length, Ordering::Relaxed);
        if before + length > self.limits.large_bytes_max {
            self.large_bytes.fetch_sub(length, Ordering::Relaxed);
            self.metrics.count(Counter::LargeRequestsRejected);
            return Err(Refused::Large(self.limits.large_bytes_max));
        }
        Ok(length)
    }
}

/// Pings, and the ends of sessions, are always carried out (`Request.isThrottlable`).
fn may_be_throttled(frame: &[u8]) -> bool {
    let code = frame.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    !matches!(
        code,
        None | Some(
            opcode::PING
                | opcode::CLOSE_SESSION
                | opcode::CREATE_SESSION
                | opcode::AUTH
                | opcode::SASL
        )
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn gate(lines: &str) -> Arc<Gate> {
        let text = format!("dataDir=/d\nclientPort=1\n{lines}");
        let config = crate::Config::parse(Path::new("zoo.cfg"), &text).unwrap();
        Gate::new(config.limits, Arc::default(), 1)
    }

    fn frame(code: i32) -> Vec<u8> {
        [1i32.to_be_bytes(), code.to_be_bytes()].concat()
    }

    #[test]
    fn beyond_the_limit_only_idle_connections_have_room() {
        let gate = gate("globalOutstandingLimit=1");
        let first = gate.enter(&frame(4), None).unwrap();
        assert!(gate.has_room(1));
        let _second = gate.enter(&frame(4), None).unwrap();
        assert!(!gate.has_room(1) && gate.has_room(0));
        gate.leave(&first);
        assert!(gate.has_room(1));
        assert_eq!(gate.metrics.get(Counter::ThrottledOps), 0);
    }

    #[test]
    fn voters_share_the_limit() {
        let gate = gate("globalOutstandingLimit=4");
        let _under_way = [(); 3].map(|()| gate.enter(&frame(4), None).unwrap());
        for (voters, has_room) in [(1, true), (2, true), (3, false), (2, true), (5, false)] {
            gate.share(voters);
            assert_eq!(gate.has_room(1), has_room, "{voters} voters");
        }
    }

    #[test]
    fn what_waited_for_too_long_is_refused_but_pings_are_not() {
        for (code, waited_ms, is_refused) in
            [(opcode::GET_DATA, 2, true), (opcode::GET_DATA, 1, false), (opcode::PING, 2, false)]
        {
            let gate = gate("request_throttle_max_requests=1\nthrottled_op_wait_time=1");
            let first = gate.enter(&frame(code), None).unwrap();
            assert!(!first.is_throttled() && !gate.has_room(0));
            gate.leave(&first);
            let waited = Some(Duration::from_millis(waited_ms));
            let second = gate.enter(&frame(code), waited).unwrap();
            assert_eq!(second.is_throttled(), is_refused, "{code} {waited_ms}");
            assert_eq!(gate.metrics.get(Counter::ThrottledOps), u64::from(is_refused));
        }
    }

    #[test]
    fn large_requests_have_a_budget() {
        let gate = gate("largeRequestThreshold=10\nlargeRequestMaxBytes=30");
        let first = gate.enter(&[0; 20], None).unwrap();
        let _small = gate.enter(&[0; 10], None).unwrap();
        assert_eq!(gate.enter(&[0; 11], None).unwrap_err(), Refused::Large(30));
        assert_eq!(gate.under_way(), 2, "what is refused is not under way");
        gate.leave(&first);
        assert!(gate.enter(&[0; 11], None).is_ok());
        assert_eq!(gate.metrics.get(Counter::LargeRequestsRejected), 1);
    }

    #[test]
    fn sessions_take_tokens() {
        let gate = gate("connection_throttle_tokens=2\nconnection_throttle_fill_time=1000000");
        let connect = [0; 44];
        assert_eq!(gate.admit_session(&connect), Ok(()));
        assert_eq!(gate.admit_session(&connect), Ok(()));
        assert_eq!(gate.admit_session(&connect), Err(Refused::Sessions));
        assert_eq!(gate.metrics.get(Counter::ConnectionRejected), 1);
    }
}
