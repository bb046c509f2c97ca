//! The log: a thread of its own writes and syncs while the server's task goes on. Where the disk is quick and nobody
//! would wait but those who wait for the sync, the task does it itself: waking a thread, and being woken by it, takes
//! about as long.
//!
//! What has come while one sync went on is written together and has the next one in common; and the thread's next
//! one waits a little for those that will have heard of the last ([`Pace`]). Reports come in the order of the
//! transactions. When the disk has refused some, those behind them are dropped until [`Appender::resume`]: a log has no
//! gaps.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::disk::DiskError;
use crate::disk::log::Log;

/// Bytes that may wait to be logged; more make the server wait.
const WAITING_MAX: usize = 64 << 20;
/// Transactions that are written together.
const BATCH_MAX: usize = 16 * 1024;
/// So many batches of nothing but writes make it likely that the next one is such too.
const ROW: u32 = 8;

/// A transaction's number and bytes.
pub(crate) type Encoded = (i64, Arc<[u8]>);

/// Where a sync may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// In the log's thread: others would wait for it here.
    Elsewhere,
    /// Here too, if they are so many at most: with more of them, there is something to do here meanwhile.
    Anywhere(usize),
}

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

/// The log, and how the disk has done of late.
#[derive(Debug)]
struct Writer {
    log: Log,
    /// The disk has refused something.
    is_refused: bool,
    pace: Pace,
}

impl Writer {
    /// Writes and syncs, unless the disk has refused what comes before; `waiting` says how many transactions have come
    /// meanwhile.
    fn append(
        &mut self,
        entries: &[Encoded],
        waiting: impl FnOnce() -> usize,
    ) -> Option<Result<Logged, DiskError>> {
        let (last, _) = entries.last()?;
        if self.is_refused {
            return None;
        }
        let begin = Instant::now();
        let bytes = entries.iter().map(|(_, data)| data.len()).sum();
        let logged = Logged { last: *last, count: entries.len(), bytes };
        let report = self.log.append_encoded(entries).map(|_| logged);
        self.is_refused = report.is_err();
        self.pace.note(begin.elapsed(), entries.len(), waiting());
        Some(report)
    }
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// Taken out by whoever writes: no lock is held meanwhile.
    writer: Option<Writer>,
    /// Transactions among them.
    entries: usize,
    /// Commands that are not for transactions: they are not kept waiting.
    others: usize,
    /// The thread wants to be woken when so many transactions wait.
    wanted: usize,
    is_closed: bool,
    /// The thread has ended.
    is_over: bool,
}

/// The commands that wait for the thread. It is woken only when it has something to do.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    is_due: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, command: Command) {
        let mut waiting = self.lock();
        if waiting.is_over {
            return;
        }
        match &command {
            Command::Append(entries) => waiting.entries += entries.len(),
            _ => waiting.others += 1,
        }
        waiting.commands.push_back(command);
        if waiting.entries >= waiting.wanted || waiting.others > 0 {
            self.is_due.notify_one();
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.is_due.notify_one();
    }

    /// The log, if the thread has nothing to do and syncs are quick. Until it is put back, the thread is to be given
    /// nothing.
    fn borrow(&self) -> Option<Writer> {
        let mut waiting = self.lock();
        if !waiting.commands.is_empty() {
            return None;
        }
        waiting.writer.take_if(|writer| writer.pace.is_quick())
    }

    fn put_back(&self, writer: Writer) {
        self.lock().writer = Some(writer);
    }

    /// The next command, with all transactions that wait behind its own, and the log; `None` at the end.
    fn next(&self) -> Option<(Command, Writer)> {
        let mut waiting = self.lock();
        waiting.wanted = 1;
        while waiting.commands.is_empty() {
            if waiting.is_closed {
                return None;
            }
            waiting = self.is_due.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let pace = waiting.writer.as_ref().map(|writer| writer.pace)?;
        if let Some((gap, longest)) = pace.pause() {
            let begin = Instant::now();
            waiting.wanted = pace.outstanding;
            loop {
                let rest = longest.saturating_sub(begin.elapsed()).min(gap);
                let before = waiting.entries;
                if before >= pace.outstanding || waiting.others > 0 || rest.is_zero() {
                    break;
                }
                let woken = self.is_due.wait_timeout(waiting, rest);
                waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
                if waiting.entries == before {
                    break;
                }
            }
        }
        waiting.wanted = usize::MAX;
        let writer = waiting.writer.take()?;
        let Some(Command::Append(mut entries)) =
            waiting.commands.pop_front_if(|command| matches!(command, Command::Append(_)))
        else {
            waiting.others -= 1;
            return waiting.commands.pop_front().map(|command| (command, writer));
        };
        while entries.len() < BATCH_MAX
            && let Some(Command::Append(more)) =
                waiting.commands.pop_front_if(|command| matches!(command, Command::Append(_)))
        {
            entries.extend(more);
        }
        waiting.entries -= entries.len();
        Some((Command::Append(entries), writer))
    }
}

/// How long a sync is put off for more to come.
///
/// Clients that wait for their replies send on when they have them. If the next sync began at once, it would take only
/// those who waited meanwhile, and the others would have to wait for the one behind it: every sync would be half as
/// useful as it could be. So it waits until as many transactions are there as were outstanding at the last one, but
/// not for longer than a part of what a sync takes, and not if none comes.
#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    /// What a sync takes, of late.
    sync: Duration,
    /// Which of the last ones were not quick, a bit for each.
    slow: u8,
    /// Transactions that were outstanding behind the last one.
    outstanding: usize,
}

impl Pace {
    /// Syncs that take less are not worth waiting for.
    const SYNC_MIN: Duration = Duration::from_micros(400);
    /// Syncs that take less are not worth a thread.
    const QUICK: Duration = Duration::from_millis(1);
    /// So many of the last eight must take longer: one that does for once says little of the next.
    const SLOW_MIN: u32 = 4;
    /// Slow disks are not made slower than by a part of this.
    const SYNC_MAX: Duration = Duration::from_millis(10);

    /// For how long nothing may come, and for how long in all.
    fn pause(&self) -> Option<(Duration, Duration)> {
        let sync = self.sync.min(Self::SYNC_MAX);
        (self.outstanding > 1 && sync >= Self::SYNC_MIN).then_some((sync / 4, sync / 2))
    }

    /// Whether syncs are so short that others may wait for them.
    fn is_quick(&self) -> bool {
        self.slow.count_ones() < Self::SLOW_MIN
    }

    /// A sync took so long, for `synced` transactions; `waiting` have come meanwhile.
    fn note(&mut self, took: Duration, synced: usize, waiting: usize) {
        self.sync = (self.sync * 3 + took) / 4;
        self.slow = (self.slow << 1) | u8::from(took > Self::QUICK);
        self.outstanding = synced + waiting;
    }
}

/// The way to the log. Its thread ends, when all is written, after this is dropped.
#[derive(Debug)]
pub(crate) struct Appender {
    queue: Arc<Queue>,
    reports: Arc<Reports>,
    waiting: usize,
    /// Batches in a row that might have been synced anywhere.
    in_a_row: u32,
    slow_syncs: Arc<AtomicU64>,
}

impl Appender {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn start(log: Log) -> io::Result<Self> {
        let (queue, reports) = (Arc::<Queue>::default(), Arc::<Reports>::default());
        let (commands, told, slow_syncs) = (queue.clone(), reports.clone(), log.slow_syncs.clone());
        queue.put_back(Writer { log, is_refused: false, pace: Pace::default() });
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&commands, &told))?;
        Ok(Self { queue, reports, waiting: 0, in_a_row: 0, slow_syncs })
    }

    fn command(&self, command: Command) {
        // The thread ends only when this is dropped; if it had died, no report would come, and nothing be answered.
        self.queue.push(command);
    }

    /// Appends transactions; a report says when they are on disk: this one if they were written here, else one to come.
    /// Waits while too much is not.
    pub(crate) fn append(
        &mut self,
        entries: Vec<Encoded>,
        sync: Sync,
    ) -> Option<Result<Logged, DiskError>> {
        if entries.is_empty() {
            return None;
        }
        let here_max = match sync {
            Sync::Elsewhere => {
                self.in_a_row = 0;
                0
            }
            Sync::Anywhere(here_max) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                here_max
            }
        };
        if self.in_a_row > ROW
            && entries.len() <= here_max
            && let Some(mut writer) = self.queue.borrow()
        {
            let report = writer.append(&entries, || 0);
            self.queue.put_back(writer);
            return report;
        }
        self.waiting += entries.iter().map(|(_, data)| data.len()).sum::<usize>();
        self.command(Command::Append(entries));
        if self.waiting > WAITING_MAX {
            self.wait();
        }
        None
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

impl Drop for Appender {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Whatever ends the thread, nobody waits for it any more.
struct Ended<'a>(&'a Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_over = true;
        waiting.commands.clear();
    }
}

fn write(queue: &Queue, reports: &Reports) {
    let _ended = Ended(queue);
    while let Some((command, mut writer)) = queue.next() {
        let mut told = None;
        match command {
            Command::Append(entries) => {
                if let Some(report) = writer.append(&entries, || queue.lock().entries) {
                    reports.lock().push_back(report);
                    reports.is_new.notify_one();
                }
            }
            Command::Roll => writer.log.roll(),
            Command::Resume => writer.is_refused = false,
            Command::Wait(done) => told = Some(done),
        }
        queue.put_back(writer);
        if let Some(done) = told {
            // An error means that nobody waits any more.
            let _ = done.send(());
        }
    }
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
        // A slow disk would be left to the thread.
        let options = crate::disk::log::Options { sync: false, ..Default::default() };
        let log = Log::new(directory.path().to_owned(), options);
        let mut appender = Appender::start(log).unwrap();
        let mut here = 0;
        for zxid in 1..=110 {
            // Now this one writes, now the thread.
            let sync = if zxid % 32 < 16 { Sync::Anywhere(1) } else { Sync::Elsewhere };
            if let Some(report) = appender.append(vec![entry(zxid)], sync) {
                assert_eq!(report.unwrap().last, zxid);
                here += 1;
            } else {
                // It has nothing to do.
                appender.wait();
            }
        }
        assert_eq!(here, 4 * (16 - ROW as usize) - 2, "the first and the last row have 15");
        let too_many = appender.append(vec![entry(111), entry(112)], Sync::Anywhere(1));
        assert!(too_many.is_none(), "the thread writes them");
        assert_eq!(outcomes(&mut appender).last(), Some(&Ok(112)));
        assert_eq!(appender.waiting, 0);
        let zxids = read(&directory.path().join("log.1")).unwrap().entries;
        assert!(zxids.iter().map(|entry| entry.zxid).eq(1..=112));
        appender.roll();
        appender.append(vec![entry(113), entry(114)], Sync::Elsewhere);
        assert_eq!(outcomes(&mut appender), [Ok(114)]);
        assert_eq!(read(&directory.path().join("log.71")).unwrap().entries.len(), 2);
    }

    #[test]
    fn a_sync_waits_for_those_that_the_last_one_answered_but_not_for_long() {
        let mut pace = Pace::default();
        pace.note(Duration::from_millis(8), 50, 50);
        assert_eq!(pace.pause(), Some((Duration::from_micros(500), Duration::from_millis(1))));
        for _ in 0..20 {
            pace.note(Duration::from_secs(1), 50, 50);
        }
        assert_eq!(pace.pause().map(|(_, longest)| longest), Some(Pace::SYNC_MAX / 2));
        pace.note(Duration::from_secs(1), 1, 0);
        assert_eq!(pace.pause(), None, "nobody else is there");

        pace.note(Duration::from_secs(1), 1, 2);
        let queue = Arc::<Queue>::default();
        queue.push(Command::Append(vec![entry(1)]));
        queue.push(Command::Append(vec![entry(2), entry(3)]));
        let log = Log::new(std::path::PathBuf::new(), crate::disk::log::Options::default());
        queue.put_back(Writer { log, is_refused: false, pace });
        let next = || match queue.next() {
            Some((Command::Append(entries), writer)) => {
                queue.put_back(writer);
                entries.iter().map(|(zxid, _)| *zxid).collect()
            }
            Some((_, writer)) => {
                queue.put_back(writer);
                vec![0]
            }
            None => Vec::new(),
        };
        assert_eq!(next(), [1, 2, 3], "all are there");
        queue.push(Command::Append(vec![entry(4)]));
        assert_eq!(next(), [4], "no more come");
        queue.push(Command::Append(vec![entry(5)]));
        queue.push(Command::Roll);
        queue.push(Command::Append(vec![entry(6)]));
        assert_eq!(next(), [5], "the next file is not theirs");
        assert_eq!(next(), [0], "it has its turn");
        queue.close();
        assert_eq!(next(), [6]);
        assert!(queue.next().is_none());
    }

    #[test]
    fn behind_what_was_refused_nothing_is_logged_until_it_is_resumed() {
        let directory = tempfile::TempDir::new().unwrap();
        let place = directory.path().join("logs");
        let log = Log::new(place.clone(), crate::disk::log::Options::default());
        let mut appender = Appender::start(log).unwrap();
        appender.append(vec![entry(1)], Sync::Elsewhere);
        assert_eq!(outcomes(&mut appender), [Err(())], "there is no directory");
        std::fs::create_dir(&place).unwrap();
        appender.append(vec![entry(2)], Sync::Elsewhere);
        assert_eq!(outcomes(&mut appender), []);
        appender.resume();
        appender.append(vec![entry(1)], Sync::Elsewhere);
        assert_eq!(outcomes(&mut appender), [Ok(1)]);
        assert_eq!(read(&place.join("log.1")).unwrap().entries.len(), 1);
    }
}
