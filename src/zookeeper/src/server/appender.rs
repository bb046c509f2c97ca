//! The log's thread: it writes and syncs while the server's task goes on.
//!
//! What has come while one sync went on is written together and has the next one in common. Reports come in the order
//! of the transactions. When the disk has refused some, those behind them are dropped until [`Appender::resume`]: a log
//! has no gaps.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use tokio::sync::Notify;

use crate::disk::DiskError;
use crate::disk::log::Log;

/// Bytes that may wait to be logged; more make the server wait.
const WAITING_MAX: usize = 64 << 20;
/// Transactions that are written together.
const BATCH_MAX: usize = 16 * 1024;

/// A transaction's number and bytes.
pub(crate) type Encoded = (i64, Arc<[u8]>);

enum Command {
    Append(Vec<Encoded>),
    Roll,
    Resume,
    Wait(mpsc::SyncSender<()>),
}

/// Transactions that are on disk now.
#[derive(Debug)]
pub(crate) struct Logged {
    /// The last one.
    pub(crate) last: i64,
    /// How many they are.
    pub(crate) count: usize,
    /// Bytes of them.
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
struct Reports {
    reports: Mutex<VecDeque<Result<Logged, DiskError>>>,
    is_new: Notify,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Result<Logged, DiskError>>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the thread. It ends, when all is written, after this is dropped.
#[derive(Debug)]
pub(crate) struct Appender {
    commands: mpsc::Sender<Command>,
    reports: Arc<Reports>,
    waiting: usize,
    slow_syncs: Arc<AtomicU64>,
}

impl Appender {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn start(log: Log) -> io::Result<Self> {
        let (commands, queue) = mpsc::channel();
        let reports = Arc::<Reports>::default();
        let (told, slow_syncs) = (reports.clone(), log.slow_syncs.clone());
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(log, &queue, &told))?;
        Ok(Self { commands, reports, waiting: 0, slow_syncs })
    }

    fn command(&self, command: Command) {
        // The thread ends only when this is dropped; if it had died, no report would come, and nothing be answered.
        let _ = self.commands.send(command);
    }

    /// Appends transactions; a report says when they are on disk. Waits while too much is not.
    pub(crate) fn append(&mut self, entries: Vec<Encoded>) {
        if entries.is_empty() {
            return;
        }
        self.waiting += entries.iter().map(|(_, data)| data.len()).sum::<usize>();
        self.command(Command::Append(entries));
        if self.waiting > WAITING_MAX {
            self.wait();
        }
    }

    /// Syncs that took longer than they should, as [`Log::slow_syncs`].
    pub(crate) fn slow_syncs(&self) -> u64 {
        self.slow_syncs.load(Ordering::Relaxed)
    }

    /// The next transaction begins a new file.
    pub(crate) fn roll(&self) {
        self.command(Command::Roll);
    }

    /// Takes transactions again after the disk had refused some.
    pub(crate) fn resume(&self) {
        self.command(Command::Resume);
    }

    /// Waits until everything is on disk or refused: the reports say which.
    pub(crate) fn wait(&self) {
        let (done, is_done) = mpsc::sync_channel(1);
        self.command(Command::Wait(done));
        // An error means that the thread has died: no report says then that something is on disk.
        let _ = is_done.recv();
    }

    /// The next report, if there is one.
    pub(crate) fn report(&mut self) -> Option<Result<Logged, DiskError>> {
        let report = self.reports.lock().pop_front();
        match &report {
            Some(Ok(logged)) => self.waiting = self.waiting.saturating_sub(logged.bytes),
            Some(Err(_)) => self.waiting = 0,
            None => {}
        }
        report
    }

    /// Waits until there may be a report.
    pub(crate) async fn reported(&self) {
        self.reports.is_new.notified().await;
    }
}

fn write(mut log: Log, queue: &mpsc::Receiver<Command>, reports: &Reports) {
    let mut is_refused = false;
    let mut next = queue.recv().ok();
    while let Some(command) = next.take() {
        match command {
            Command::Append(mut entries) => {
                while entries.len() < BATCH_MAX {
                    match queue.try_recv() {
                        Ok(Command::Append(more)) => entries.extend(more),
                        other => {
                            next = other.ok();
                            break;
                        }
                    }
                }
                if let Some(report) = append(&mut log, &entries, is_refused) {
                    is_refused = report.is_err();
                    reports.lock().push_back(report);
                    reports.is_new.notify_one();
                }
            }
            Command::Roll => log.roll(),
            Command::Resume => is_refused = false,
            // An error means that nobody waits any more.
            Command::Wait(done) => drop(done.send(())),
        }
        if next.is_none() {
            next = queue.recv().ok();
        }
    }
}

fn append(
    log: &mut Log,
    entries: &[Encoded],
    is_refused: bool,
) -> Option<Result<Logged, DiskError>> {
    let (last, _) = entries.last()?;
    if is_refused {
        return None;
    }
    let bytes = entries.iter().map(|(_, data)| data.len()).sum();
    let logged = Logged { last: *last, count: entries.len(), bytes };
    Some(log.append_encoded(entries).map(|_| logged))
}

#[cfg(test)]
mod tests {
    use jute::txn::{Entry, Txn};

    use super::*;
    use crate::disk::scan::read;

    fn entry(zxid: i64) -> Encoded {
        let txn = Txn::Delete { path: format!("/{zxid}") };
        let entry = Entry { session: 1, cxid: 2, zxid, time: 3, txn, digest: None };
        (zxid, entry.encode().into())
    }

    fn outcomes(appender: &mut Appender) -> Vec<Result<i64, ()>> {
        appender.wait();
        std::iter::from_fn(|| appender.report())
            .map(|report| report.map(|logged| logged.last).map_err(drop))
            .collect()
    }

    #[test]
    fn what_is_reported_is_on_disk_in_order() {
        let directory = tempfile::TempDir::new().unwrap();
        let log = Log::new(directory.path().to_owned(), crate::disk::log::Options::default());
        let mut appender = Appender::start(log).unwrap();
        for zxid in 1..=100 {
            appender.append(vec![entry(zxid)]);
        }
        assert_eq!(outcomes(&mut appender).last(), Some(&Ok(100)));
        assert_eq!(appender.waiting, 0);
        let zxids = read(&directory.path().join("log.1")).unwrap().entries;
        assert!(zxids.iter().map(|entry| entry.zxid).eq(1..=100));
        appender.roll();
        appender.append(vec![entry(101), entry(102)]);
        assert_eq!(outcomes(&mut appender), [Ok(102)]);
        assert_eq!(read(&directory.path().join("log.65")).unwrap().entries.len(), 2);
    }

    #[test]
    fn behind_what_was_refused_nothing_is_logged_until_it_is_resumed() {
        let directory = tempfile::TempDir::new().unwrap();
        let place = directory.path().join("logs");
        let log = Log::new(place.clone(), crate::disk::log::Options::default());
        let mut appender = Appender::start(log).unwrap();
        appender.append(vec![entry(1)]);
        assert_eq!(outcomes(&mut appender), [Err(())], "there is no directory");
        std::fs::create_dir(&place).unwrap();
        appender.append(vec![entry(2)]);
        assert_eq!(outcomes(&mut appender), []);
        appender.resume();
        appender.append(vec![entry(1)]);
        assert_eq!(outcomes(&mut appender), [Ok(1)]);
        assert_eq!(read(&place.join("log.1")).unwrap().entries.len(), 1);
    }
}
