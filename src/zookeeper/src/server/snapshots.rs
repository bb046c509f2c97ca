//! Taking snapshots while requests go on, and purging old ones.
//!
//! A thread of its own writes the tree as it is at this moment. The file gets its name from the server's thread: what
//! has been taken back meanwhile gets none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio::sync::mpsc;

use super::{Actor, Input};
use crate::config::{Config, Storage};
use crate::disk::snapshot::file::Unpublished;
use crate::disk::snapshot::{Content, Trailer};
use crate::disk::{DiskError, purge};
use crate::metrics::Summary;

/// Clients come first where processors are few, but it has a tenth of one even then: what is not in a snapshot must be
/// replayed after a crash.
const NICE: i32 = 10;

/// What the thread has made.
pub(crate) type Written = Result<Unpublished, DiskError>;

struct Job {
    began: Instant,
    is_wanted: Arc<AtomicBool>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }
}

/// When the next one is to be taken (`SyncRequestProcessor.shouldSnapshot`): at a point between half and the whole of
/// what the configuration says, so that an ensemble's members don't all do it at once.
struct Due {
    transactions_max: u64,
    bytes_max: u64,
    transactions: u64,
    bytes: u64,
    at_transactions: u64,
    at_bytes: u64,
}

impl Due {
    fn new(transactions_max: u64, bytes_max: u64) -> Self {
        let (at_transactions, at_bytes) = (0, 0);
        let mut due = Self {
            transactions_max,
            bytes_max,
            transactions: 0,
            bytes: 0,
            at_transactions,
            at_bytes,
        };
        due.reset();
        due
    }

    fn reset(&mut self) {
        let between = |max: u64| {
            let half = max / 2;
            half + rand::rng().random_range(0..half.max(1))
        };
        self.at_transactions = between(self.transactions_max);
        self.at_bytes = if self.bytes_max == 0 { u64::MAX } else { between(self.bytes_max) };
        (self.transactions, self.bytes) = (0, 0);
    }

    fn is_now(&self) -> bool {
        self.transactions > self.at_transactions || self.bytes > self.at_bytes
    }
}

/// The snapshots of a server.
pub(super) struct Snapshots {
    inputs: mpsc::WeakSender<Input>,
    storage: Storage,
    due: Due,
    job: Option<Job>,
    /// Of the job, so that the thread of one that was given up is not listened to.
    number: u64,
    purged: Option<Instant>,
}

impl Snapshots {
    pub(super) fn new(config: &Config, inputs: &mpsc::Sender<Input>) -> Self {
        Self {
            inputs: inputs.downgrade(),
            storage: config.storage,
            due: Due::new(config.snap_count, config.storage.snap_bytes),
            job: None,
            number: 0,
            purged: None,
        }
    }

    /// Transactions have been logged.
    pub(super) fn note(&mut self, transactions: usize, bytes: u64) {
        self.due.transactions += transactions as u64;
        self.due.bytes += bytes;
    }

    /// Whether enough has been logged since the last.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_now()
    }

    /// There is one of now.
    pub(super) fn taken(&mut self) {
        self.due.reset();
    }

    /// Gives up the one that is being taken: what it holds is taken back.
    pub(super) fn cancel(&mut self) {
        self.job = None;
        self.number += 1;
    }

    fn failed(&mut self, error: &DiskError) {
        tracing::warn!(
            "no snapshot was taken: {error}; the logs are kept, and it is tried again later"
        );
        self.cancel();
        self.due.transactions /= 2;
        self.due.bytes /= 2;
    }
}

impl Storage {
    /// What a snapshot has behind its tree.
    pub(crate) fn trailer(&self, zxid: i64, digest: i64) -> Trailer {
        Trailer {
            digest: self.digests.then_some((zxid, digest)),
            last_zxid: self.last_zxid_in_snapshots.then_some(zxid),
        }
    }
}

impl Actor {
    /// Begins a snapshot of what is committed and logged; a new log file begins with the next transaction.
    pub(super) fn snapshot(&mut self) {
        if self.taking.job.is_some() {
            tracing::warn!("the snapshot before is not written yet: none is taken");
            self.taking.due.reset();
            return;
        }
        self.taking.number += 1;
        let number = self.taking.number;
        let (directory, inputs) = (self.snapshots.clone(), self.taking.inputs.clone());
        let (tree, zxid) = (self.core.tree().freeze(), self.core.zxid());
        let trailer = self.taking.storage.trailer(zxid, tree.digest());
        let content = Content { tree, sessions: self.core.sessions(), zxid };
        let compression = self.taking.storage.compression;
        let is_wanted = Arc::new(AtomicBool::new(true));
        let goes_on = is_wanted.clone();
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            web::daemon::give_way(NICE);
            let goes_on = || goes_on.load(Ordering::Relaxed);
            let written = content.write(&directory, compression, trailer, goes_on);
            drop(content);
            if let (Some(written), Some(inputs)) = (written.transpose(), inputs.upgrade()) {
                // An error means that the server is ending.
                let _ = inputs.blocking_send(Input::Snapshot(number, written));
            }
        });
        self.taking.job = Some(Job { began: Instant::now(), is_wanted });
        self.log.roll();
        self.taking.due.reset();
        if let Err(source) = thread {
            let path = self.snapshots.clone();
            self.taking.failed(&DiskError::Io { action: "begin a thread for", path, source });
        }
    }

    /// The thread of a snapshot is done.
    pub(super) fn snapshot_written(&mut self, number: u64, written: Written) {
        let Some(job) = self.taking.job.take_if(|_| number == self.taking.number) else { return };
        let took = job.began.elapsed();
        self.core.metrics.note(Summary::SnapshotTime, took.as_millis() as u64);
        match written.and_then(Unpublished::publish) {
            Ok(path) => tracing::info!("{} was written in {} ms", path.display(), took.as_millis()),
            Err(error) => self.taking.failed(&error),
        }
    }

    /// Begins to remove old files, every so many hours (`DatadirCleanupManager`).
    pub(super) fn purge_when_due(&mut self) {
        let hours = self.config.purge_interval_hours;
        let every = Duration::from_secs(hours.saturating_mul(3600));
        if hours == 0 || self.taking.purged.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.taking.purged = Some(Instant::now());
        let (snapshots, logs) = (self.snapshots.clone(), self.logs.clone());
        let retain = self.config.snap_retain_count;
        // Large files take a while to go.
        let purge = move || {
            web::daemon::give_way(NICE);
            let mut count = 0;
            let purged = purge::purge(&snapshots, &logs, retain, |_| count += 1);
            if count > 0 {
                tracing::info!("{count} old snapshots and logs were purged");
            }
            if let Err(error) = purged {
                tracing::warn!("not all was purged: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("purge".to_owned()).spawn(purge) {
            tracing::warn!("nothing is purged: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_due_between_half_and_the_whole() {
        for _ in 0..200 {
            let mut due = Due::new(10, 1000);
            assert!((5..10).contains(&due.at_transactions) && (500..1000).contains(&due.at_bytes));
            due.transactions = 10;
            assert!(due.is_now());
            due.reset();
            assert!(!due.is_now());
            due.bytes = 1000;
            assert!(due.is_now());
        }
        let mut never = Due::new(2, 0);
        never.bytes = u64::MAX - 1;
        assert!(!never.is_now());
    }
}
