//! Sending libprocess messages: one persistent connection and one bounded queue a peer.
//!
//! A message is written at most once. When a connection breaks, what was queued on it is lost (and counted), and
//! everybody who listens for [`Sender::exited`] hears of it; the next message dials again. That is the original's
//! contract, and every protocol above repeats what matters. A linked peer is watched even while nothing is sent.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{Message, Name};
use tls::{Stream, Tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc};

use super::Upid;

/// Messages that may wait for one peer; more are dropped, as if lost on the way.
const QUEUE_MAX: usize = 4096;
/// Exits that may wait for one listener; one that is slower gets `RecvError::Lagged` and must look at all its peers.
const EXITED_MAX: usize = 1024;
/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may refuse to read before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection to a peer that is not linked is kept unused.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Small messages that wait are written together up to this many bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// Sends messages from processes that listen at one address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: SocketAddr,
    peers: Mutex<HashMap<SocketAddr, Peer>>,
    exited: broadcast::Sender<SocketAddr>,
    dropped: AtomicU64,
    idle_timeout: Duration,
    tls: Option<Tls>,
}

#[derive(Debug, Clone)]
struct Peer {
    queue: mpsc::Sender<Bytes>,
    linked: Arc<AtomicBool>,
}

impl Sender {
    /// A sender for processes that others reach at `advertised`.
    pub fn new(advertised: SocketAddr) -> Self {
        Self::secured(advertised, None)
    }

    /// As [`Sender::new`], dialling under TLS where it is given.
    pub fn secured(advertised: SocketAddr, tls: Option<Tls>) -> Self {
        Self::with_idle_timeout(advertised, IDLE_TIMEOUT, tls)
    }

    fn with_idle_timeout(advertised: SocketAddr, idle_timeout: Duration, tls: Option<Tls>) -> Self {
        Self {
            shared: Arc::new(Shared {
                own: advertised,
                peers: Mutex::default(),
                exited: broadcast::channel(EXITED_MAX).0,
                dropped: AtomicU64::new(0),
                idle_timeout,
                tls,
            }),
        }
    }

    /// The UPID of a process of ours.
    pub fn upid(&self, id: &str) -> Upid {
        Upid::new(id, self.shared.own)
    }

    /// Addresses whose connection broke, or could not be made, from now on.
    pub fn exited(&self) -> broadcast::Receiver<SocketAddr> {
        self.shared.exited.subscribe()
    }

    /// Messages lost here since the start: their peer's queue was full or its connection broke.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Sends a message of a type that has its own name on the wire. Must be called inside a tokio runtime.
    pub fn send<M: Message + Name>(&self, from: &str, to: &Upid, message: &M) {
        self.send_named(from, to, &M::full_name(), &message.encode_to_vec());
    }

    /// Sends a message under a given name. Must be called inside a tokio runtime.
    pub fn send_named(&self, from: &str, to: &Upid, name: &str, body: &[u8]) {
        if !to.is_some() {
            tracing::debug!(name, "message to nobody dropped");
            return;
        }
        let frame = encode(&self.upid(from), &to.id, name, body);
        let peer = self.shared.peer(to.address);
        let frame = match peer.queue.try_send(frame) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Closed(frame)) => frame,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.shared.drop_messages(1);
                tracing::warn!(peer = %to.address, name, "message dropped: {QUEUE_MAX} already wait for this peer");
                return;
            }
        };
        // The connection ended just now: once more on a new one.
        if self.shared.peer(to.address).queue.try_send(frame).is_err() {
            self.shared.drop_messages(1);
        }
    }

    /// Watches a peer: its connection is made if there is none, kept while unused, and its end told by
    /// [`Sender::exited`]. Must be called inside a tokio runtime.
    pub fn link(&self, to: &Upid) {
        if to.is_some() {
            self.shared.peer(to.address).linked.store(true, Ordering::Relaxed);
        }
    }

    /// Forgets the connection to a peer, so that the next message or link dials anew: a peer that registers again may
    /// be a new process behind the same address. What is queued is still written; no exit is told.
    pub fn relink(&self, peer: SocketAddr) {
        self.shared.peers().remove(&peer);
    }
}

impl Shared {
    fn peers(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_messages(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// The peer with a connection that lives or is being made.
    fn peer(self: &Arc<Self>, address: SocketAddr) -> Peer {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(&address)
            && !peer.queue.is_closed()
        {
            return peer.clone();
        }
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let peer = Peer { queue, linked: Arc::default() };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let shared = Arc::clone(self);
                let linked = Arc::clone(&peer.linked);
                runtime.spawn(shared.connection(address, receiver, linked));
                peers.insert(address, peer.clone());
            }
            // The receiver is dropped here: what is sent is counted as lost.
            Err(error) => tracing::error!(%error, peer = %address, "cannot dial"),
        }
        peer
    }

    async fn connection(
        self: Arc<Self>,
        address: SocketAddr,
        mut queue: mpsc::Receiver<Bytes>,
        linked: Arc<AtomicBool>,
    ) {
        let result = match self.dial(address).await {
            Ok(Stream::Plain(stream)) => {
                let (reader, writer) = stream.into_split();
                carry(reader, writer, &mut queue, &linked, self.idle_timeout).await
            }
            Ok(Stream::Tls(stream)) => {
                let (reader, writer) = tokio::io::split(*stream);
                carry(reader, writer, &mut queue, &linked, self.idle_timeout).await
            }
            Err(error) => {
                if self.tls.is_some() {
                    tracing::warn!(peer = %address, "not connected: {error}");
                }
                Err(error)
            }
        };
        queue.close();
        let mut lost = 0;
        while queue.try_recv().is_ok() {
            lost += 1;
        }
        self.drop_messages(lost);
        let mut peers = self.peers();
        // Another connection to it may have been made meanwhile.
        if peers.get(&address).is_some_and(|peer| peer.queue.is_closed()) {
            peers.remove(&address);
        }
        drop(peers);
        if let Err(error) = result {
            tracing::debug!(peer = %address, %error, lost, "libprocess connection ended");
            // Nobody listening is fine.
            let _ = self.exited.send(address);
        }
    }

    async fn dial(&self, address: SocketAddr) -> std::io::Result<Stream> {
        let dialling = async {
            match &self.tls {
                Some(tls) => tls.connect(address).await,
                None => TcpStream::connect(address).await.map(Stream::from),
            }
        };
        let limit = if self.tls.is_some() { DIAL_TIMEOUT * 3 } else { DIAL_TIMEOUT };
        let stream = tokio::time::timeout(limit, dialling).await.map_err(|_| timed_out())??;
        stream.tcp().set_nodelay(true)?;
        Ok(stream)
    }
}

/// One message as bytes on the wire: headers in the original's order, the body as one chunk, none if it is empty.
pub fn encode(from: &Upid, to: &str, name: &str, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(256 + body.len());
    let from = Upid::new(escape(&from.id), from.address);
    let head = format!(
        "POST /{}/{} HTTP/1.1\r\nUser-Agent: libprocess/{from}\r\nLibprocess-From: {from}\r\nConnection: Keep-Alive\r\nHost: \r\n",
        escape(to),
        escape(name)
    );
    frame.put_slice(head.as_bytes());
    if body.is_empty() {
        frame.put_slice(b"\r\n");
    } else {
        let size = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        frame.put_slice(size.as_bytes());
        frame.put_slice(body);
        frame.put_slice(b"\r\n0\r\n\r\n");
    }
    frame.freeze()
}

/// Ids may come from peers: what could end a path or a line is percent-encoded, the rest stays as the original writes it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b'/' | b'?' | b'#' | b'"' | b'<' | b'>' | b'\\' => {}
            b'!'..=b'~' => {
                escaped.push(char::from(byte));
                continue;
            }
            _ => {}
        }
        let _ = write!(escaped, "%{byte:02X}");
    }
    escaped
}

fn timed_out() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut)
}

async fn carry(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    queue: &mut mpsc::Receiver<Bytes>,
    linked: &AtomicBool,
    idle_timeout: Duration,
) -> std::io::Result<()> {
    // Replies say nothing of use; the end of the stream does. They are read while messages are written as well, or a
    // peer that waits to be read could not read.
    let replies = async {
        let mut buffer = [0; 4096];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => return std::io::Error::from(std::io::ErrorKind::ConnectionReset),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    tokio::pin!(replies);
    loop {
        let frame = tokio::select! {
            error = &mut replies => return Err(error),
            frame = tokio::time::timeout(idle_timeout, queue.recv()) => frame,
        };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            // Nobody can send any more: relinked, or idle and all is written.
            Ok(None) => return Ok(()),
            Err(_) if linked.load(Ordering::Relaxed) => continue,
            Err(_) => {
                // Whoever sends from now on dials anew; what came in meanwhile is still written.
                queue.close();
                continue;
            }
        };
        let batch = batch(frame, queue);
        tokio::select! {
            error = &mut replies => return Err(error),
            written = tokio::time::timeout(WRITE_TIMEOUT, async {
                writer.write_all(&batch).await?;
                // Under TLS a record may wait for room below.
                writer.flush().await
            }) => {
                written.map_err(|_| timed_out())??;
            }
        }
    }
}

/// The frame with those that wait behind it.
fn batch(first: Bytes, queue: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let Ok(second) = queue.try_recv() else { return first };
    let mut batch = BytesMut::with_capacity(first.len() + second.len());
    batch.put_slice(&first);
    batch.put_slice(&second);
    while batch.len() < BATCH_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        batch.put_slice(&next);
    }
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn peer() -> (TcpListener, Upid) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upid = Upid::new("master", listener.local_addr().unwrap());
        (listener, upid)
    }

    fn sender() -> Sender {
        Sender::new("127.0.0.1:1".parse().unwrap())
    }

    async fn read_messages(stream: &mut TcpStream, count: usize) -> String {
        let mut seen = Vec::new();
        while seen.windows(5).filter(|part| part == b"0\r\n\r\n").count() < count {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn a_message_has_the_bytes_that_the_original_sends() {
        let from: Upid = "slave(1)@127.0.0.1:5051".parse().unwrap();
        assert_eq!(
            encode(&from, "master", "mesos.internal.X", b"abc"),
            &b"POST /master/mesos.internal.X HTTP/1.1\r\nUser-Agent: libprocess/slave(1)@127.0.0.1:5051\r\nLibprocess-From: slave(1)@127.0.0.1:5051\r\nConnection: Keep-Alive\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"[..]
        );
        assert!(encode(&from, "master", "mesos.internal.X", b"").ends_with(b"Host: \r\n\r\n"));
    }

    #[test]
    fn ids_cannot_smuggle_headers_or_paths() {
        let from: Upid = "slave(1)@127.0.0.1:5051".parse().unwrap();
        let frame = encode(&from, "a b/c\r\nX: y", "n?m", b"");
        assert!(frame.starts_with(b"POST /a%20b%2Fc%0D%0AX:%20y/n%3Fm HTTP/1.1\r\nUser-Agent"));
    }

    #[tokio::test]
    async fn messages_arrive_in_order_and_a_broken_connection_is_told() {
        let (listener, peer) = peer().await;
        let sender = sender();
        let mut exited = sender.exited();
        for body in [b"1", b"2", b"3"] {
            sender.send_named("slave(1)", &peer, "x", body);
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = read_messages(&mut stream, 3).await;
        let order: Vec<usize> = ["1\r\n1\r\n", "1\r\n2\r\n", "1\r\n3\r\n"]
            .iter()
            .map(|part| text.find(part).unwrap())
            .collect();
        assert!(order.is_sorted());
        drop(stream);
        assert_eq!(exited.recv().await.unwrap(), peer.address);
        // The next message dials anew.
        sender.send_named("slave(1)", &peer, "x", b"4");
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_messages(&mut stream, 1).await.contains("1\r\n4\r\n"));
        assert_eq!(sender.dropped(), 0);
    }

    #[tokio::test]
    async fn a_link_alone_dials_and_tells_of_the_end() {
        let (listener, peer) = peer().await;
        let sender = sender();
        let mut exited = sender.exited();
        sender.link(&peer);
        drop(listener.accept().await.unwrap());
        assert_eq!(exited.recv().await.unwrap(), peer.address);
        // Nobody listens there any more: that is an exit too.
        drop(listener);
        sender.link(&peer);
        assert_eq!(exited.recv().await.unwrap(), peer.address);
    }

    #[tokio::test]
    async fn relinking_writes_what_waits_and_dials_anew_without_an_exit() {
        let (listener, peer) = peer().await;
        let sender = sender();
        let mut exited = sender.exited();
        sender.send_named("a", &peer, "x", b"1");
        sender.relink(peer.address);
        sender.send_named("a", &peer, "x", b"2");
        let mut texts = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            texts.push(read_messages(&mut stream, 1).await);
            streams.push(stream);
        }
        let found = |body: &str| texts.iter().any(|text| text.contains(body));
        assert!(found("1\r\n1\r\n") && found("1\r\n2\r\n"));
        assert!(exited.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_unused_connection_is_closed_unless_linked() {
        let idle_timeout = Duration::from_millis(20);
        let (listener, peer) = peer().await;
        let sender = Sender::with_idle_timeout("127.0.0.1:1".parse().unwrap(), idle_timeout, None);
        let mut exited = sender.exited();
        sender.send_named("a", &peer, "x", b"1");
        let (mut stream, _) = listener.accept().await.unwrap();
        read_messages(&mut stream, 1).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(exited.try_recv().is_err(), "closing on purpose is no exit");

        sender.link(&peer);
        let (mut stream, _) = listener.accept().await.unwrap();
        let unread = tokio::time::timeout(idle_timeout * 5, stream.read(&mut [0; 8])).await;
        assert!(unread.is_err(), "a linked connection stays open");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let (_listener, peer) = peer().await;
        let sender = sender();
        // The connection's task cannot run before this one waits.
        for _ in 0..QUEUE_MAX + 3 {
            sender.send_named("a", &peer, "x", b"");
        }
        assert_eq!(sender.dropped(), 3);
    }

    #[test]
    fn outside_a_runtime_messages_are_lost_and_counted() {
        let sender = sender();
        sender.send_named("a", &"b@127.0.0.1:9".parse().unwrap(), "x", b"");
        assert_eq!(sender.dropped(), 1);
        sender.send_named("a", &Upid::none(), "x", b"");
        assert_eq!(sender.dropped(), 1);
    }

    #[tokio::test]
    async fn replies_do_not_block_a_peer_that_answers_while_it_reads() {
        let (listener, peer) = peer().await;
        let sender = sender();
        let body = vec![b'x'; 64 * 1024];
        for _ in 0..200 {
            sender.send_named("a", &peer, "x", &body);
        }
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        // Answers before it reads, far more than socket buffers hold.
        let answers = vec![b'y'; 16 << 20];
        writer.write_all(&answers).await.unwrap();
        let mut total = 0;
        let mut buffer = vec![0; 1 << 16];
        while total < 200 * body.len() {
            total += reader.read(&mut buffer).await.unwrap();
        }
    }
}
