//! Sending libprocess messages: one persistent connection and one bounded queue a peer.
//!
//! A message is written at most once. When a connection breaks, what was queued on it is lost and everybody who
//! listens for [`Sender::exited`] hears of it; the next message dials again. That is the original's contract, and
//! every protocol above repeats what matters.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{Message, Name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc};

use super::Upid;

/// Messages that may wait for one peer; more are dropped, as if lost on the way.
const QUEUE_MAX: usize = 4096;
/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may refuse to read before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Sends messages from processes that listen at one address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    own: SocketAddr,
    peers: Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<Bytes>>>>,
    exited: broadcast::Sender<SocketAddr>,
}

impl Sender {
    /// A sender for processes that others reach at `advertised`.
    pub fn new(advertised: SocketAddr) -> Self {
        Self { own: advertised, peers: Arc::default(), exited: broadcast::channel(1024).0 }
    }

    /// The UPID of a process of ours.
    pub fn upid(&self, id: &str) -> Upid {
        Upid::new(id, self.own)
    }

    /// Addresses whose connection broke, or could not be made, from now on.
    pub fn exited(&self) -> broadcast::Receiver<SocketAddr> {
        self.exited.subscribe()
    }

    /// Sends a message of a type that has its own name on the wire.
    pub fn send<M: Message + Name>(&self, from: &str, to: &Upid, message: &M) {
        self.send_named(from, to, &M::full_name(), &message.encode_to_vec());
    }

    /// Sends a message under a given name. Must be called inside a tokio runtime.
    pub fn send_named(&self, from: &str, to: &Upid, name: &str, body: &[u8]) {
        let frame = encode(&self.upid(from), &to.id, name, body);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = match peers.get(&to.address) {
            None => frame,
            Some(queue) => match queue.try_send(frame) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!(peer = %to.address, name, "message dropped: {QUEUE_MAX} already wait for this peer");
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(frame)) => frame,
            },
        };
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        // Cannot fail: the queue is new and empty.
        let _ = queue.try_send(frame);
        peers.insert(to.address, queue);
        drop(peers);
        tokio::spawn(connection(to.address, receiver, self.exited.clone()));
    }

    /// Forgets the connection to a peer, so that the next message dials anew: a peer that registers again may be a new
    /// process behind the same address.
    pub fn relink(&self, peer: SocketAddr) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }
}

/// One message as bytes on the wire: headers in the original's order, the body as one chunk, none if it is empty.
pub fn encode(from: &Upid, to: &str, name: &str, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(256 + body.len());
    let head = format!(
        "POST /{to}/{name} HTTP/1.1\r\nUser-Agent: libprocess/{from}\r\nLibprocess-From: {from}\r\nConnection: Keep-Alive\r\nHost: \r\n"
    );
    frame.put_slice(head.as_bytes());
    if body.is_empty() {
        frame.put_slice(b"\r\n");
    } else {
        frame.put_slice(
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).as_bytes(),
        );
        frame.put_slice(body);
        frame.put_slice(b"\r\n0\r\n\r\n");
    }
    frame.freeze()
}

async fn connection(
    peer: SocketAddr,
    mut queue: mpsc::Receiver<Bytes>,
    exited: broadcast::Sender<SocketAddr>,
) {
    if let Err(error) = carry(peer, &mut queue).await {
        tracing::debug!(%peer, %error, "libprocess connection ended");
        queue.close();
        // Nobody listening is fine.
        let _ = exited.send(peer);
    }
}

async fn carry(peer: SocketAddr, queue: &mut mpsc::Receiver<Bytes>) -> std::io::Result<()> {
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let stream = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(peer))
        .await
        .map_err(|_| timed_out())??;
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut replies = [0u8; 4096];
    loop {
        tokio::select! {
            // Replies say nothing of use; the end of the stream does.
            read = reader.read(&mut replies) => {
                if read? == 0 {
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
            }
            frame = tokio::time::timeout(IDLE_TIMEOUT, queue.recv()) => {
                let Ok(Some(mut frame)) = frame else { return Ok(()) };
                // Small messages that wait already go out together.
                if let Ok(next) = queue.try_recv() {
                    let mut batch = BytesMut::from(frame.as_ref());
                    batch.put_slice(&next);
                    while batch.len() < 64 * 1024 {
                        let Ok(next) = queue.try_recv() else { break };
                        batch.put_slice(&next);
                    }
                    frame = batch.freeze();
                }
                tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&frame)).await.map_err(|_| timed_out())??;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_message_has_the_bytes_that_the_original_sends() {
        let from: Upid = "slave(1)@127.0.0.1:5051".parse().unwrap();
        assert_eq!(
            encode(&from, "master", "mesos.internal.X", b"abc"),
            &b"POST /master/mesos.internal.X HTTP/1.1\r\nUser-Agent: libprocess/slave(1)@127.0.0.1:5051\r\nLibprocess-From: slave(1)@127.0.0.1:5051\r\nConnection: Keep-Alive\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"[..]
        );
        assert!(encode(&from, "master", "mesos.internal.X", b"").ends_with(b"Host: \r\n\r\n"));
    }

    #[tokio::test]
    async fn messages_arrive_in_order_and_a_broken_connection_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Upid::new("master", listener.local_addr().unwrap());
        let sender = Sender::new("127.0.0.1:1".parse().unwrap());
        let mut exited = sender.exited();
        for body in [b"1", b"2", b"3"] {
            sender.send_named("slave(1)", &peer, "x", body);
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while seen.windows(5).filter(|part| part == b"0\r\n\r\n").count() < 3 {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        let text = String::from_utf8(seen).unwrap();
        let order: Vec<usize> = ["1\r\n1\r\n", "1\r\n2\r\n", "1\r\n3\r\n"]
            .iter()
            .map(|part| text.find(part).unwrap())
            .collect();
        assert!(order.is_sorted());
        drop(stream);
        assert_eq!(exited.recv().await.unwrap(), peer.address);
    }
}
