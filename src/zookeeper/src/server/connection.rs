//! Connections before they have asked for a session: accepting, the bounds on how many there are, the handshake,
//! four-letter words. With its first frame a connection goes to the server's task ([`super::clients`]).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use nix::sys::socket::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::clients::{Arrival, WRITE_STALL};
use super::door::Door;
use super::peer::Peer;
use super::{Input, Question};
use crate::config::Config;
use crate::core::ConnectionId;
use crate::metrics::Counter;
use crate::stream::Stream;
use crate::throttle::Gate;
use crate::{tls, words};

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

    /// Has a connection ask for its session in a task of its own, unless there are too many.
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
                let connection = Connection { stream, peer, counted };
                drop(connection.begin(id, &inputs, &config, &gate).await);
            }
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
pub(super) struct Counted {
    ip: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

#[cfg(test)]
impl Counted {
    /// The only one.
    pub(super) fn alone(ip: IpAddr) -> Self {
        let counts = Counts { all: 1, by_address: HashMap::from([(ip, 1)]) };
        Self { ip, counts: Arc::new(Mutex::new(counts)) }
    }
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

/// A connection that is open.
struct Connection {
    stream: Stream,
    peer: Peer,
    counted: Counted,
}

impl Connection {
    /// Answers a four-letter word, or hands the connection over when its first frame is there.
    async fn begin(
        self,
        id: ConnectionId,
        inputs: &mpsc::Sender<Input>,
        config: &Config,
        gate: &Gate,
    ) -> io::Result<()> {
        let Self { mut stream, peer, counted } = self;
        let mut first = [0; 4];
        let read = tokio::time::timeout(config.first_frame, stream.read_exact(&mut first)).await;
        sessionless(read, gate)?;
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
        let length = u32::from_be_bytes(first) as usize;
        if length > config.frame_max {
            tracing::warn!(
                "closing a connection of {}: unreasonable length = {length}",
                peer.name()
            );
            return Ok(());
        }
        let mut input = BytesMut::from(&first[..]);
        let frame = async {
            while input.len() < first.len() + length {
                if stream.read_buf(&mut input).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        };
        sessionless(tokio::time::timeout(config.first_frame, frame).await, gate)?;
        if let Err(error) = gate.admit_session(&input[first.len()..first.len() + length]) {
            tracing::warn!("closing a connection of {}: {error}", peer.name());
            return Ok(());
        }
        let arrival = Arrival { stream, input, address: peer.address, counted };
        // An error means that the server is ending.
        let _ = inputs.send(Input::Opened(id, peer, Box::new(arrival))).await;
        Ok(())
    }
}

/// Counts clients that don't ask for their session in time.
fn sessionless<T>(
    read: Result<io::Result<T>, tokio::time::error::Elapsed>,
    gate: &Gate,
) -> io::Result<T> {
    read.inspect_err(|_| gate.metrics().count(Counter::SessionlessConnectionsExpired))?
}
