//! Connections: accepting, reading frames, writing replies, and the bounds on all of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use jute::request::opcode;
use nix::sys::socket::sockopt;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::outbox::{Outbox, Permit, WRITE_STALL};
use super::peer::Peer;
use super::{Input, Question};
use crate::config::Config;
use crate::core::ConnectionId;
use crate::metrics::Counter;
use crate::stream::{ReadHalf, Stream};
use crate::throttle::Gate;
use crate::{tls, words};

thread_local! {
    /// Where all connections read into, so that none of them holds room for what may come.
    static ARRIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into());
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

/// What all ports of clients have in common: the numbers of connections, and the bounds on them.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    inputs: mpsc::Sender<Input>,
    config: Arc<Config>,
    gate: Arc<Gate>,
    next: Arc<AtomicU64>,
    counts: Arc<Mutex<Counts>>,
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
            counts: Arc::default(),
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
        let mut served = JoinSet::new();
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
                Some(_) = served.join_next() => continue,
            };
            match accepted {
                Ok((stream, address)) => {
                    self.admit(&mut served, stream, Peer::plain(address), &door);
                }
                Err(error) => {
                    tracing::warn!("connection not accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        served.shutdown().await;
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
    fn admit(&self, served: &mut JoinSet<()>, stream: TcpStream, mut peer: Peer, door: &Door) {
        let ip = peer.address.ip();
        let Some(counted) = self.count(ip) else { return };
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let inputs = self.inputs.clone();
        let (config, gate, door) = (self.config.clone(), self.gate.clone(), door.clone());
        if config.client_keep_alive {
            // A connection without it works all the same.
            let _ = nix::sys::socket::setsockopt(&stream, sockopt::KeepAlive, &true);
        }
        served.spawn(async move {
            // Clients that go away are no event.
            if let Ok(stream) = door.open(stream, &mut peer, &config.security.auth).await {
                drop(serve(id, stream, peer, inputs, &config, gate).await);
            }
            drop(counted);
        });
    }

    fn count(&self, ip: IpAddr) -> Option<Counted> {
        let (max, each_max) =
            (self.config.connections_max, self.config.connections_per_address_max);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if max > 0 && counts.all >= max {
            tracing::warn!("too many connections: maxCnxns is {max}");
            self.gate.metrics().count(Counter::ConnectionRejected);
            return None;
        }
        let count = counts.by_address.entry(ip).or_default();
        if each_max > 0 && *count >= each_max {
            tracing::warn!("too many connections from {ip}: maxClientCnxns is {each_max}");
            self.gate.metrics().count(Counter::ConnectionRejected);
            return None;
        }
        *count += 1;
        counts.all += 1;
        Some(Counted { ip, counts: self.counts.clone() })
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

/// Connections that are open.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that counts among all and those of its address, until it is dropped.
#[derive(Debug)]
struct Counted {
    ip: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.ip);
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
    let (outbox, to_client, writer) = Outbox::new(writer, gate);
    let name = peer.name();
    if inputs.send(Input::Opened(id, peer, to_client)).await.is_err() {
        return Ok(());
    }
    // Whichever ends first ends the connection; what waits to be written when the core closes it is written first.
    let ended = tokio::select! {
        biased;
        ended = read(reader, first, id, &name, &inputs, &outbox, config) => ended,
        ended = outbox.write(writer) => ended,
    };
    outbox.close();
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

/// What has come.
enum Arrived {
    /// The end.
    Nothing,
    /// One whole frame, which needs no buffer.
    Frame(Bytes),
    /// Something else: it is in the buffer.
    Buffered,
}

/// Waits for bytes, and puts them behind those in `buffer` if need be.
async fn receive(reader: &mut ReadHalf, buffer: &mut BytesMut) -> io::Result<Arrived> {
    poll_fn(|context| {
        ARRIVED.with_borrow_mut(|arrived| {
            let mut arrived = ReadBuf::new(arrived);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut arrived))?;
            let arrived = arrived.filled();
            if let (true, Some((header, frame))) = (buffer.is_empty(), arrived.split_first_chunk())
                && frame.len() == u32::from_be_bytes(*header) as usize
            {
                return Poll::Ready(Ok(Arrived::Frame(Bytes::copy_from_slice(frame))));
            }
            buffer.extend_from_slice(arrived);
            let what = if arrived.is_empty() { Arrived::Nothing } else { Arrived::Buffered };
            Poll::Ready(Ok(what))
        })
    })
    .await
}

/// The next frame in the buffer, if it is whole.
///
/// # Errors
/// Its length, when it is too long.
fn next_frame(buffer: &mut BytesMut, frame_max: usize) -> Result<Option<Bytes>, usize> {
    let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if length > frame_max {
        return Err(length);
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(4 + length).freeze();
    frame.advance(4);
    Ok(Some(frame))
}

async fn read(
    mut reader: ReadHalf,
    first: [u8; 4],
    id: ConnectionId,
    peer: &str,
    inputs: &mpsc::Sender<Input>,
    outbox: &Arc<Outbox>,
    config: &Config,
) -> io::Result<()> {
    let gate = outbox.gate();
    let deadline = tokio::time::Instant::now() + config.first_frame;
    let mut is_first = true;
    let mut buffer = BytesMut::from(&first[..]);
    let mut began = Instant::now();
    let mut alone: Option<Bytes> = None;
    loop {
        loop {
            let next = match alone.take() {
                Some(frame) if frame.len() > config.frame_max => Err(frame.len()),
                Some(frame) => Ok(Some(frame)),
                None => next_frame(&mut buffer, config.frame_max),
            };
            let frame = match next {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(length) => {
                    tracing::warn!(
                        "closing a connection of {peer}: unreasonable length = {length}"
                    );
                    return Ok(());
                }
            };
            gate.metrics().add(Counter::BytesReceivedCount, frame.len() as u64);
            if is_first && let Err(error) = gate.admit_session(&frame) {
                tracing::warn!("closing a connection of {peer}: {error}");
                return Ok(());
            }
            let own = outbox.room().await;
            let ticket = match gate.enter(own, &frame).await {
                Ok(ticket) => ticket,
                Err(error) => {
                    tracing::warn!("closing a connection of {peer}: {error}");
                    return Ok(());
                }
            };
            let permit = Permit::new(outbox, ticket, began, is_write(is_first, &frame));
            is_first = false;
            let input = Input::Frame(id, frame, permit);
            // Most of the time there is room in the queue.
            let is_over = match inputs.try_send(input) {
                Ok(()) => false,
                Err(TrySendError::Full(input)) => inputs.send(input).await.is_err(),
                Err(TrySendError::Closed(_)) => true,
            };
            if is_over {
                return Ok(());
            }
        }
        if buffer.is_empty() {
            // Requests hold what they came in; nothing is held for those to come.
            buffer = BytesMut::new();
        }
        let received = if is_first {
            let read = receive(&mut reader, &mut buffer);
            sessionless(tokio::time::timeout_at(deadline, read).await, gate)?
        } else {
            receive(&mut reader, &mut buffer).await?
        };
        began = Instant::now();
        match received {
            Arrived::Nothing => return Ok(()),
            Arrived::Frame(frame) => alone = Some(frame),
            Arrived::Buffered => {}
        }
    }
}
