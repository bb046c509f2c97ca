//! Connections for Zab: a learner's to its leader, packets both ways, trees behind SNAP packets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::configuration::{Configuration, Endpoint};
use super::packet::{Notification, Packet, kind};
use super::security::Security;
use crate::core::State;
use crate::disk::snapshot::{self, STREAM_END};
use crate::server::Input;
use crate::stream::Stream;

/// Packets that may wait for one member; one that reads more slowly is cut off.
const OUTGOING_MAX: usize = 32 * 1024;
/// How long a member may take to say who it is.
pub(super) const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Tries to reach a leader that may not listen yet.
const DIALS: usize = 5;

/// What the network tells the member's task.
#[derive(Debug)]
pub(crate) enum Event {
    /// A notification of the election, and the sender's configuration.
    Notification(i64, Notification, Option<Box<Configuration>>),
    /// A learner has connected, and this is what it said first.
    Joined(i64, Link, Packet),
    /// The leader has been reached.
    Connected(i64, Link),
    /// The leader has not been reached.
    Unreachable(i64),
    /// A packet on the connection of this number.
    Packet(i64, u64, Packet),
    /// A whole tree behind a SNAP packet.
    Snapshot(i64, u64, Packet, Box<State>),
    /// The connection of this number has ended.
    Closed(i64, u64),
}

/// Where events go: the queue of the server's task.
#[derive(Debug, Clone)]
pub(crate) struct Events(pub(crate) mpsc::Sender<Input>);

impl Events {
    /// Waits for room; false when the server is ending.
    pub(super) async fn send(&self, event: Event) -> bool {
        self.0.send(Input::Member(event)).await.is_ok()
    }

    /// Has the server's thread look around.
    pub(crate) async fn wake(&self) {
        // An error means that it has ended already.
        let _ = self.0.send(Input::Tick).await;
    }
}

/// The way to a member. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Tells this connection from earlier ones with the same member.
    pub(crate) number: u64,
    outgoing: mpsc::Sender<Bytes>,
}

impl Link {
    /// Sends without waiting; false when the member reads too slowly or is gone.
    pub(crate) fn send(&self, bytes: Vec<u8>) -> bool {
        self.outgoing.try_send(bytes.into()).is_ok()
    }
}

/// Numbers accepted connections. They are even: those that were dialled are odd.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers(Arc<AtomicU64>);

impl Numbers {
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(2, Ordering::Relaxed) + 2
    }
}

/// All connections for Zab.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links {
    numbers: Numbers,
    tasks: TaskTracker,
}

impl Links {
    /// Waits until what was sent to members before their links were dropped is on its way.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Accepts learners.
pub(crate) async fn accept(
    listener: TcpListener,
    links: Links,
    security: Security,
    events: Events,
) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a learner's connection is not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let number = links.numbers.next();
        let (security, events) = (security.clone(), events.clone());
        links.tasks.spawn(async move {
            if let Err(error) = serve(stream, number, security, events).await {
                let is_refused = error.kind() == io::ErrorKind::PermissionDenied;
                if is_refused || error.kind() == io::ErrorKind::InvalidData {
                    tracing::warn!("a learner at {from} is refused: {error}");
                } else {
                    tracing::debug!("a learner at {from}: {error}");
                }
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    number: u64,
    security: Security,
    events: Events,
) -> io::Result<()> {
    let mut stream = tokio::time::timeout(HELLO_LIMIT, security.accept(stream)).await??;
    security.check(&mut stream).await?;
    let mut buffer = BytesMut::new();
    let hello = tokio::time::timeout(HELLO_LIMIT, next_packet(&mut stream, &mut buffer)).await??;
    let id = hello.data.as_deref().and_then(|data| data.first_chunk::<8>());
    let (kind::FOLLOWERINFO | kind::OBSERVERINFO, Some(id)) = (hello.kind, id) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no learner"));
    };
    let id = i64::from_be_bytes(*id);
    let (outgoing, frames) = mpsc::channel(OUTGOING_MAX);
    if !events.send(Event::Joined(id, Link { number, outgoing }, hello)).await {
        return Ok(());
    }
    exchange(stream, buffer, id, number, frames, events).await
}

/// Opens a connection to whichever of a server's addresses answers first.
pub(super) async fn reach(security: &Security, addresses: Vec<Endpoint>) -> io::Result<Stream> {
    let mut dials = tokio::task::JoinSet::new();
    for Endpoint { host, port } in addresses {
        let security = security.clone();
        dials.spawn(async move { security.connect(&host, port).await });
    }
    let mut failed = io::Error::other("its address is not known");
    while let Some(dialled) = dials.join_next().await {
        match dialled {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = error,
            Err(error) => failed = io::Error::other(error),
        }
    }
    Err(failed)
}

/// Dials the leader in a task of its own and reports what became of it.
pub(crate) fn dial(
    links: &Links,
    runtime: &Handle,
    id: i64,
    addresses: Vec<Endpoint>,
    number: u64,
    security: Security,
    events: Events,
) {
    let dialling = async move {
        for attempt in 0..DIALS {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let dialled = async {
                let mut stream = reach(&security, addresses.clone()).await?;
                security.prove(&mut stream).await?;
                Ok::<_, io::Error>(stream)
            };
            let stream = match tokio::time::timeout(HELLO_LIMIT, dialled).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!("server {id}, which is to lead, is not reached: {error}");
                    continue;
                }
                Err(_) => continue,
            };
            let (outgoing, frames) = mpsc::channel(OUTGOING_MAX);
            let link = Link { number, outgoing };
            if !events.send(Event::Connected(id, link)).await {
                return;
            }
            if let Err(error) = exchange(stream, BytesMut::new(), id, number, frames, events).await
            {
                tracing::debug!("the connection to server {id}: {error}");
            }
            return;
        }
        events.send(Event::Unreachable(id)).await;
    };
    links.tasks.spawn_on(dialling, runtime);
}

async fn next_packet(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Packet> {
    loop {
        let decoded = Packet::decode(buffer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some((packet, length)) = decoded {
            buffer.advance(length);
            return Ok(packet);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn next_tree(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
    zxid: i64,
) -> io::Result<State> {
    let mut seen = 0;
    loop {
        // Decoding is tried only where the last word may have come; data may hold it too.
        let begin = seen.max(STREAM_END.len()) - STREAM_END.len();
        let may_end =
            buffer[begin..].windows(STREAM_END.len()).any(|word| word == STREAM_END.as_bytes());
        if may_end && let Some((state, length)) = snapshot::decode_stream(buffer, zxid) {
            buffer.advance(length);
            return Ok(state);
        }
        seen = buffer.len();
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn exchange(
    stream: Stream,
    mut buffer: BytesMut,
    id: i64,
    number: u64,
    mut frames: mpsc::Receiver<Bytes>,
    events: Events,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        let mut batch = BytesMut::new();
        while let Some(frame) = frames.recv().await {
            batch.extend_from_slice(&frame);
            while batch.len() < 256 * 1024 {
                let Ok(frame) = frames.try_recv() else { break };
                batch.extend_from_slice(&frame);
            }
            writer.write_all(&batch).await?;
            writer.flush().await?;
            batch.clear();
        }
        Ok(())
    };
    let read = async {
        loop {
            let packet = next_packet(&mut reader, &mut buffer).await?;
            let event = if packet.kind == kind::SNAP {
                let state = next_tree(&mut reader, &mut buffer, packet.zxid).await?;
                Event::Snapshot(id, number, packet, Box::new(state))
            } else {
                Event::Packet(id, number, packet)
            };
            if !events.send(event).await {
                return Ok(());
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = write => ended,
        ended = read => ended,
    };
    events.send(Event::Closed(id, number)).await;
    ended
}
