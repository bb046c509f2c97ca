//! What a client is still to be sent, and how much of its own is under way.
//!
//! The server's task collects a connection's replies here and writes them itself, once a batch. Only what a socket does
//! not take at once, and all that goes under TLS, is left to the connection's own task. So replies wake nobody, and an
//! idle connection holds no buffer.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::metrics::Counter;
use crate::stream::WriteHalf;
use crate::throttle::{Gate, Ticket};

/// Requests of one connection that may be under way; it is not read beyond that.
const REQUESTS_MAX: usize = 64;
/// A connection with this many bytes still to be read by the client is not read itself.
const UNREAD_PAUSE: usize = 1 << 20;
/// A connection with this many bytes still to be read by the client (events, for the most part) is cut off.
const UNREAD_MAX: usize = 128 << 20;
/// Bytes that all clients together have still to read, beyond which those that read slowly are cut off.
const UNREAD_TOTAL: usize = 1 << 30;
/// A client that takes nothing for this long is cut off.
pub(super) const WRITE_STALL: Duration = Duration::from_secs(30);
/// Bytes that a connection's task writes at a time.
const CHUNK: usize = 256 * 1024;
/// Buffers that are kept for replies to come, and the largest of them in bytes.
const SPARE_MAX: (usize, usize) = (128, 16 * 1024);

/// Empty buffers.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<BytesMut>);

impl Spare {
    fn keep(&mut self, mut buffer: BytesMut) {
        if self.0.len() < SPARE_MAX.0 && buffer.capacity() <= SPARE_MAX.1 {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What waits is written first.
    Closed,
    /// Nothing more is written.
    Cut,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: BytesMut,
    /// The connection's task is writing.
    is_left_to_task: bool,
    end: Option<End>,
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Of a connection without TLS.
    direct: Option<OwnedWriteHalf>,
    pending: Mutex<Pending>,
    /// Bytes that are still to be written; they count among all clients' too.
    unread: AtomicUsize,
    under_way: AtomicUsize,
    /// For the task: there is something to write, or the end has come.
    wake: Notify,
    /// For whoever reads: less is unread or under way than was.
    less: Notify,
    gate: Arc<Gate>,
}

/// The server's way to one client. When it is dropped, the connection ends after what was sent on it.
#[derive(Debug)]
pub(crate) struct Outgoing(Arc<Outbox>);

/// A request under way; dropped when its reply is.
#[derive(Debug)]
pub(crate) struct Permit {
    outbox: Arc<Outbox>,
    ticket: Ticket,
    began: Instant,
    is_write: bool,
}

impl Permit {
    /// Lets in a request that was read at `began`: [`Outbox::room`] says when, and `ticket` is its connection's count of
    /// those before it.
    pub(super) fn new(
        outbox: &Arc<Outbox>,
        ticket: Ticket,
        began: Instant,
        is_write: bool,
    ) -> Self {
        outbox.under_way.fetch_add(1, Ordering::Relaxed);
        Self { outbox: outbox.clone(), ticket, began, is_write }
    }

    /// Time since the request was read.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Whether the request waited for so long that it is answered with an error.
    pub(super) fn is_throttled(&self) -> bool {
        self.ticket.is_throttled()
    }

    /// Whether it asks for a transaction.
    pub(super) fn is_write(&self) -> bool {
        self.is_write
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.outbox.under_way.fetch_sub(1, Ordering::Relaxed) >= REQUESTS_MAX {
            self.outbox.less.notify_one();
        }
    }
}

impl Outgoing {
    /// Puts a frame's body behind what is still to be sent: [`Outgoing::flush`] sends it. False if too much waits
    /// already: the connection is cut off then.
    pub(super) fn push(&self, frame: &[u8], spare: &mut Spare) -> bool {
        let outbox = &*self.0;
        let bytes = frame.len() + 4;
        let own = outbox.unread.fetch_add(bytes, Ordering::Relaxed);
        let all = outbox.gate.unread.fetch_add(bytes, Ordering::Relaxed);
        let mut pending = outbox.lock();
        if own > UNREAD_MAX || (all > UNREAD_TOTAL && own > UNREAD_PAUSE) {
            pending.end = Some(End::Cut);
            outbox.wake.notify_one();
            return false;
        }
        if pending.bytes.capacity() == 0 {
            pending.bytes = spare.0.pop().unwrap_or_default();
        }
        pending.bytes.reserve(bytes);
        pending.bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        pending.bytes.extend_from_slice(frame);
        true
    }

    /// Writes what the socket takes, and leaves the rest to the connection's task.
    pub(super) fn flush(&self, spare: &mut Spare) {
        let outbox = &*self.0;
        let mut pending = outbox.lock();
        if pending.is_left_to_task || pending.bytes.is_empty() {
            return;
        }
        let mut written = 0;
        while let Some(direct) = outbox.direct.as_ref().filter(|_| written < pending.bytes.len()) {
            match direct.try_write(&pending.bytes[written..]) {
                Ok(count) => written += count,
                // An error that stays shows again where the task writes.
                Err(_) => break,
            }
        }
        outbox.sent(written);
        if written == pending.bytes.len() {
            spare.keep(std::mem::take(&mut pending.bytes));
        } else {
            pending.bytes.advance(written);
            pending.is_left_to_task = true;
            outbox.wake.notify_one();
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.lock().end.get_or_insert(End::Closed);
        self.0.wake.notify_one();
    }
}

impl Outbox {
    /// Of a connection whose side to write to is `writer`; what is left of that is for [`Outbox::write`].
    pub(super) fn new(
        writer: WriteHalf,
        gate: Arc<Gate>,
    ) -> (Arc<Self>, Outgoing, Option<WriteHalf>) {
        let (direct, rest) = match writer {
            WriteHalf::Plain(direct) => (Some(direct), None),
            tls @ WriteHalf::Tls(_) => (None, Some(tls)),
        };
        let outbox = Arc::new(Self {
            direct,
            pending: Mutex::default(),
            unread: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            wake: Notify::new(),
            less: Notify::new(),
            gate,
        });
        (outbox.clone(), Outgoing(outbox), rest)
    }

    /// What all connections share.
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, bytes: usize) {
        let before = self.unread.fetch_sub(bytes, Ordering::Relaxed);
        self.gate.unread.fetch_sub(bytes, Ordering::Relaxed);
        if before > UNREAD_PAUSE {
            self.less.notify_one();
        }
    }

    /// Waits until one more request may be under way; how many are.
    pub(super) async fn room(&self) -> usize {
        loop {
            let under_way = self.under_way.load(Ordering::Relaxed);
            if under_way < REQUESTS_MAX && self.unread.load(Ordering::Relaxed) <= UNREAD_PAUSE {
                return under_way;
            }
            self.less.notified().await;
        }
    }

    /// The part of the connection's task that writes: what the server's task leaves to it, until the end.
    ///
    /// # Errors
    /// When the client is gone, or takes nothing.
    pub(super) async fn write(&self, mut tls: Option<WriteHalf>) -> io::Result<()> {
        loop {
            self.wake.notified().await;
            loop {
                let chunk = {
                    let mut pending = self.lock();
                    pending.is_left_to_task = !pending.bytes.is_empty();
                    match (pending.bytes.len(), pending.end) {
                        (_, Some(End::Cut)) => return Ok(()),
                        (0, Some(End::Closed)) => None,
                        (0, None) => break,
                        (length, _) => Some(pending.bytes.split_to(length.min(CHUNK))),
                    }
                };
                let Some(chunk) = chunk else {
                    if let Some(tls) = &mut tls {
                        tls.shutdown().await?;
                    }
                    return Ok(());
                };
                self.write_all(&chunk, &mut tls).await?;
                self.sent(chunk.len());
            }
        }
    }

    async fn write_all(&self, chunk: &[u8], tls: &mut Option<WriteHalf>) -> io::Result<()> {
        let mut written = 0;
        while written < chunk.len() {
            let rest = &chunk[written..];
            let write = async {
                match (tls.as_mut(), &self.direct) {
                    (Some(tls), _) => match tls.write(rest).await {
                        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                        written => written,
                    },
                    (None, Some(direct)) => {
                        direct.writable().await?;
                        match direct.try_write(rest) {
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                            written => written,
                        }
                    }
                    (None, None) => Err(io::ErrorKind::NotConnected.into()),
                }
            };
            written += self.stalled(tokio::time::timeout(WRITE_STALL, write).await)?;
        }
        if let Some(tls) = tls {
            // What is written may still be here.
            self.stalled(tokio::time::timeout(WRITE_STALL, tls.flush()).await)?;
        }
        Ok(())
    }

    /// Counts clients that take nothing.
    fn stalled<T>(
        &self,
        written: Result<io::Result<T>, tokio::time::error::Elapsed>,
    ) -> io::Result<T> {
        written.inspect_err(|_| self.gate.metrics().count(Counter::SlowClientsEvicted))?
    }

    /// Ends the connection, whoever still has a part of it.
    pub(super) fn close(&self) {
        if let Some(direct) = &self.direct {
            // An error means that it has ended already.
            let _ = shutdown(direct.as_ref().as_raw_fd(), Shutdown::Both);
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.gate.unread.fetch_sub(*self.unread.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::stream::{ReadHalf, Stream};

    /// A client, and the server's side of its connection.
    async fn connection(gate: Arc<Gate>) -> (TcpStream, ReadHalf, Arc<Outbox>, Outgoing) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (reader, writer) = Stream::from(listener.accept().await.unwrap().0).split();
        let (outbox, outgoing, rest) = Outbox::new(writer, gate);
        assert!(rest.is_none());
        (client, reader, outbox, outgoing)
    }

    fn gate() -> Arc<Gate> {
        let config =
            crate::Config::parse(Path::new("zoo.cfg"), "dataDir=/d\nclientPort=1").unwrap();
        Gate::new(config.limits, Arc::default(), 1)
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_is_written_by_the_task_in_order_and_then_it_ends() {
        let gate = gate();
        let (mut client, _reader, outbox, outgoing) = connection(gate.clone()).await;
        let mut spare = Spare::default();
        let task = {
            let outbox = outbox.clone();
            tokio::spawn(async move {
                let written = outbox.write(None).await;
                outbox.close();
                written
            })
        };
        let frames: Vec<Vec<u8>> = (0..64).map(|number: u8| vec![number; 256 * 1024]).collect();
        for frame in &frames {
            assert!(outgoing.push(frame, &mut spare));
            outgoing.flush(&mut spare);
        }
        assert!(gate.unread.load(Ordering::Relaxed) > 0, "more than a socket takes");
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a client that does not read is not read");
        drop(outgoing);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        let mut sent = Vec::new();
        for frame in &frames {
            sent.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            sent.extend_from_slice(frame);
        }
        assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
        task.await.unwrap().unwrap();
        assert_eq!(waiting.await.unwrap(), 0);
        assert_eq!(gate.unread.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn whoever_reads_too_little_is_cut_off_and_counts_no_more() {
        let gate = gate();
        let (_client, _reader, outbox, outgoing) = connection(gate.clone()).await;
        let (mut spare, frame) = (Spare::default(), vec![0; 16 << 20]);
        let taken = (0..64).take_while(|_| outgoing.push(&frame, &mut spare)).count();
        assert_eq!(taken, UNREAD_MAX / frame.len());
        outbox.write(None).await.unwrap();
        drop((outgoing, outbox));
        assert_eq!(gate.unread.load(Ordering::Relaxed), 0);
    }
}
