//! Connections: accepting, reading frames, writing replies, and the bounds on all of them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use jute::request::opcode;
use nix::sys::socket::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::Door;
use super::peer::Peer;
use super::{Input, Question};
use crate::config::Config;
use crate::core::ConnectionId;
use crate::metrics::Counter;
use crate::stream::{ReadHalf, Stream, WriteHalf};
use crate::throttle::{Gate, Ticket};
use crate::{tls, words};

/// Requests of one connection that may be under way; it is not read beyond that.
const REQUESTS_MAX: usize = 64;
/// A connection with this many bytes still to be read by the client is not read itself.
const UNREAD_PAUSE: usize = 1 << 20;
/// A connection with this many bytes still to be read by the client (events, for the most part) is cut off.
const UNREAD_MAX: usize = 128 << 20;
/// What a frame costs beside its bytes.
const FRAME_COST: usize = 64;
/// Bytes that all clients together have still to read, beyond which those that read slowly are cut off.
const UNREAD_TOTAL: usize = 1 << 30;
/// A client that takes nothing for this long is cut off.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// A request under way; dropped when its reply is.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
    ticket: Ticket,
    began: Instant,
    is_write: bool,
}

impl Permit {
    /// Time since the request was read.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the request waited for so long that it is answered with an error.
    pub fn is_throttled(&self) -> bool {
        self.ticket.is_throttled()
    }

    /// Whether it asks for a transaction.
    pub fn is_write(&self) -> bool {
        self.is_write
    }
}

/// Whether a frame asks for a transaction: as every connection's first does, which asks for a session.
fn is_write(is_first: bool, frame: &[u8]) -> bool {
    let code = frame.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    is_first
        || matches!(
            code,
            Some(
                opcode::CREATE
                    | opcode::CREATE2
                    | opcode::CREATE_CONTAINER
                    | opcode::CREATE_TTL
                    | opcode::DELETE
                    | opcode::SET_DATA
                    | opcode::SET_ACL
                    | opcode::MULTI
                    | opcode::RECONFIG
                    | opcode::CLOSE_SESSION
            )
        )
}

/// What a client has still to read; counts among all clients' until it is dropped.
#[derive(Debug)]
struct Unread {
    bytes: AtomicUsize,
    less: Notify,
    gate: Arc<Gate>,
}

impl Unread {
    fn new(gate: Arc<Gate>) -> Self {
        Self { bytes: AtomicUsize::new(0), less: Notify::new(), gate }
    }

    /// One more frame. False if too much waits already.
    fn add(&self, cost: usize) -> bool {
        let own = self.bytes.fetch_add(cost, Ordering::Relaxed);
        let all = self.gate.unread.fetch_add(cost, Ordering::Relaxed);
        own <= UNREAD_MAX && (all <= UNREAD_TOTAL || own <= UNREAD_PAUSE)
    }

    fn sub(&self, cost: usize) {
        self.bytes.fetch_sub(cost, Ordering::Relaxed);
        self.gate.unread.fetch_sub(cost, Ordering::Relaxed);
        self.less.notify_one();
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.gate.unread.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The way to one client.
#[derive(Debug)]
pub struct Outgoing {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    unread: Arc<Unread>,
    cut: CancellationToken,
}

impl Outgoing {
    /// Sends a frame's body. False if too much waits already: the connection is cut off then.
    pub fn send(&self, frame: Vec<u8>) -> bool {
        if !self.unread.add(frame.len() + FRAME_COST) {
            self.cut.cancel();
            return false;
        }
        // An error means that the connection has ended: whoever serves it says so in the queue.
        let _ = self.frames.send(frame);
        true
    }
}

/// What all ports of clients have in common: the numbers of connections, and the bounds on them.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    inputs: mpsc::Sender<Input>,
    config: Arc<Config>,
    gate: Arc<Gate>,
    next: Arc<AtomicU64>,
    connections: TaskTracker,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    shutdown: CancellationToken,
}

impl Ports {
    pub(super) fn new(
        inputs: mpsc::Sender<Input>,
        config: Config,
        gate: Arc<Gate>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            inputs,
            config: Arc::new(config),
            gate,
            next: Arc::default(),
            connections: TaskTracker::new(),
            by_address: Arc::default(),
            shutdown,
        }
    }

    /// Accepts connections of one port, which may move, until the shutdown, and waits for the end of all.
    pub(super) async fn accept(
        self,
        mut listener: TcpListener,
        door: Door,
        mut moves: Option<watch::Receiver<Option<SocketAddr>>>,
    ) {
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break,
                to = next_move(&mut moves) => match self.moved(listener, to).await {
                    Some(moved) => {
                        listener = moved;
                        continue;
                    }
                    None => break,
                },
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.admit(stream, Peer::plain(address), &door),
                Err(error) => {
                    tracing::warn!("connection not accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        self.connections.close();
        self.connections.wait().await;
    }

    /// Listens elsewhere, or where it did if that can't be; what is connected stays so
    /// (`NIOServerCnxnFactory.reconfigure`). `None` at the shutdown.
    async fn moved(&self, listener: TcpListener, to: SocketAddr) -> Option<TcpListener> {
        let from = listener.local_addr().ok();
        // First: one of both may be a wildcard of the same port.
        drop(listener);
        loop {
            for address in std::iter::once(to).chain(from) {
                match super::bind(address, self.config.listen_backlog) {
                    Ok(listener) => {
                        tracing::info!("clients are served on {address} from now on");
                        return Some(listener);
                    }
                    Err(error) => tracing::error!("cannot listen on {address}: {error}"),
                }
            }
            let pause = tokio::time::sleep(Duration::from_secs(1));
            self.shutdown.run_until_cancelled(pause).await?;
        }
    }

    /// Serves a connection in a task of its own, unless there are too many.
    fn admit(&self, stream: TcpStream, mut peer: Peer, door: &Door) {
        let ip = peer.address.ip();
        let Some(counted) = self.count(ip) else { return };
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let (inputs, shutdown) = (self.inputs.clone(), self.shutdown.clone());
        let (config, gate, door) = (self.config.clone(), self.gate.clone(), door.clone());
        if config.client_keep_alive {
            // A connection without it works all the same.
            let _ = nix::sys::socket::setsockopt(&stream, sockopt::KeepAlive, &true);
        }
        let served = async move {
            let stream = door.open(stream, &mut peer, &config.security.auth).await?;
            serve(id, stream, peer, inputs, &config, gate).await
        };
        self.connections.spawn(async move {
            tokio::select! {
                // Clients that go away are no event.
                _ = served => {}
                () = shutdown.cancelled() => {}
            }
            drop(counted);
        });
    }

    fn count(&self, ip: IpAddr) -> Option<Counted> {
        let (max, each_max) =
            (self.config.connections_max, self.config.connections_per_address_max);
        if max > 0 && self.connections.len() >= max {
            tracing::warn!("too many connections: maxCnxns is {max}");
            self.gate.metrics().count(Counter::ConnectionRejected);
            return None;
        }
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if each_max > 0 && *count >= each_max {
            tracing::warn!("too many connections from {ip}: maxClientCnxns is {each_max}");
            self.gate.metrics().count(Counter::ConnectionRejected);
            return None;
        }
        *count += 1;
        Some(Counted { ip, by_address: self.by_address.clone() })
    }
}

/// Where a port is to move to, whenever that is.
async fn next_move(moves: &mut Option<watch::Receiver<Option<SocketAddr>>>) -> SocketAddr {
    while let Some(changes) = moves {
        match changes.changed().await {
            Ok(()) => {
                if let Some(to) = *changes.borrow_and_update() {
                    return to;
                }
            }
            Err(_) => *moves = None,
        }
    }
    std::future::pending().await
}

/// A connection that counts among those of its address, until it is dropped.
#[derive(Debug)]
struct Counted {
    ip: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

async fn serve(
    id: ConnectionId,
    mut stream: Stream,
    peer: Peer,
    inputs: mpsc::Sender<Input>,
    config: &Config,
    gate: Arc<Gate>,
) -> io::Result<()> {
    let mut first = [0; 4];
    let received = tokio::time::timeout(config.first_frame, stream.read_exact(&mut first)).await;
    sessionless(received, &gate)?;
    if words::is_word(&first) {
        let argument = if &first == words::SET_TRACE_MASK {
            Some(tokio::time::timeout(config.first_frame, stream.read_i64()).await??)
        } else {
            None
        };
        let (reply, answer) = oneshot::channel();
        let question = Question::Word(first, argument, peer.address.to_string(), reply);
        let sent = inputs.send(Input::Question(question)).await;
        if let (Ok(()), Ok(Some(text))) = (sent, answer.await) {
            tokio::time::timeout(WRITE_STALL, stream.write_all(text.as_bytes())).await??;
            stream.shutdown().await?;
        }
        return Ok(());
    }
    if first[0] == tls::HANDSHAKE {
        tracing::warn!("a client at {} speaks TLS on a port that does not", peer.name());
        return Ok(());
    }
    let (reader, writer) = stream.split();
    let (frames, outgoing) = mpsc::unbounded_channel();
    let (unread, cut) = (Arc::new(Unread::new(gate.clone())), CancellationToken::new());
    let to_client = Outgoing { frames, unread: unread.clone(), cut: cut.clone() };
    let name = peer.name();
    if inputs.send(Input::Opened(id, peer, to_client)).await.is_err() {
        return Ok(());
    }
    // Whichever ends first ends the connection; what waits to be written when the core closes it is written first.
    let ended = tokio::select! {
        ended = write(writer, outgoing, &unread) => ended,
        ended = read(reader, first, id, &name, &inputs, &unread, config) => ended,
        () = cut.cancelled() => Ok(()),
    };
    let _ = inputs.send(Input::Closed(id)).await;
    ended
}

/// Counts clients that don't ask for their session in time.
fn sessionless<T>(
    read: Result<io::Result<T>, tokio::time::error::Elapsed>,
    gate: &Gate,
) -> io::Result<T> {
    read.inspect_err(|_| gate.metrics().count(Counter::SessionlessConnectionsExpired))?
}

/// Counts clients that take nothing.
fn stalled<T>(
    written: Result<io::Result<T>, tokio::time::error::Elapsed>,
    gate: &Gate,
) -> io::Result<T> {
    written.inspect_err(|_| gate.metrics().count(Counter::SlowClientsEvicted))?
}

async fn write(
    mut writer: WriteHalf,
    mut frames: mpsc::UnboundedReceiver<Vec<u8>>,
    unread: &Unread,
) -> io::Result<()> {
    const BATCH: usize = 256 * 1024;
    let mut batch = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        let mut cost = 0;
        let mut next = Some(frame);
        while let Some(frame) = next {
            cost += frame.len() + FRAME_COST;
            batch.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            batch.extend_from_slice(&frame);
            next = if batch.len() < BATCH { frames.try_recv().ok() } else { None };
        }
        while !batch.is_empty() {
            let written = tokio::time::timeout(WRITE_STALL, writer.write_buf(&mut batch)).await;
            stalled(written, &unread.gate)?;
        }
        // Under TLS, what is written may still be here.
        tokio::time::timeout(WRITE_STALL, writer.flush()).await??;
        if batch.capacity() > 2 * BATCH {
            batch = BytesMut::new();
        }
        unread.sub(cost);
    }
    writer.shutdown().await
}

async fn read(
    mut reader: ReadHalf,
    first: [u8; 4],
    id: ConnectionId,
    peer: &str,
    inputs: &mpsc::Sender<Input>,
    unread: &Unread,
    config: &Config,
) -> io::Result<()> {
    let gate = &unread.gate;
    let deadline = tokio::time::Instant::now() + config.first_frame;
    let mut is_first = true;
    let under_way = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut buffer = BytesMut::with_capacity(4 * 1024);
    buffer.extend_from_slice(&first);
    loop {
        while let Some(header) = buffer.first_chunk::<4>() {
            let length = u32::from_be_bytes(*header) as usize;
            if length > config.frame_max {
                tracing::warn!("closing a connection of {peer}: unreasonable length = {length}");
                return Ok(());
            }
            if buffer.len() < 4 + length {
                break;
            }
            let frame = buffer.split_to(4 + length).freeze().slice(4..);
            gate.metrics().add(Counter::BytesReceivedCount, frame.len() as u64);
            if is_first && let Err(error) = gate.admit_session(&frame) {
                tracing::warn!("closing a connection of {peer}: {error}");
                return Ok(());
            }
            while unread.bytes.load(Ordering::Relaxed) > UNREAD_PAUSE {
                unread.less.notified().await;
            }
            let Ok(permit) = under_way.clone().acquire_owned().await else { return Ok(()) };
            let began = Instant::now();
            let own = REQUESTS_MAX - under_way.available_permits() - 1;
            let ticket = match gate.enter(own, &frame).await {
                Ok(ticket) => ticket,
                Err(error) => {
                    tracing::warn!("closing a connection of {peer}: {error}");
                    return Ok(());
                }
            };
            let is_write = is_write(is_first, &frame);
            is_first = false;
            let permit = Permit { _slot: permit, ticket, began, is_write };
            if inputs.send(Input::Frame(id, frame, permit)).await.is_err() {
                return Ok(());
            }
        }
        let received = if is_first {
            let read = tokio::time::timeout_at(deadline, reader.read_buf(&mut buffer)).await;
            sessionless(read, gate)?
        } else {
            reader.read_buf(&mut buffer).await?
        };
        if received == 0 {
            return Ok(());
        }
    }
}
