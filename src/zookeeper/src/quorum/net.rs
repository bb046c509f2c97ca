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
use crate::disk::snapshot::encode::{self, Form};
use crate::disk::snapshot::{self, Content};
use crate::server::Input;
use crate::stream::Stream;

/// Packets that may wait for one member; one that reads more slowly is cut off.
const OUTGOING_MAX: usize = 32 * 1024;
/// Pieces of a tree between the connection and the thread that encodes or decodes it.
const PIECES_MAX: usize = 8;
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
    Joined(Door, i64, Link, Packet),
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
    /// The oracle says something else than before.
    Oracle(bool),
}

/// At which port a learner has connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// A leader's.
    Learners,
    /// A follower's, for observers (`observerMasterPort`).
    Observers,
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
    outgoing: mpsc::Sender<Frame>,
}

/// What goes to a member.
#[derive(Debug)]
enum Frame {
    Bytes(Bytes),
    /// A tree as it was when it was told to be sent; encoded while it goes.
    Tree(Box<Content>),
}

impl Link {
    /// Sends without waiting; false when the member reads too slowly or is gone.
    pub(crate) fn send(&self, bytes: Vec<u8>) -> bool {
        self.outgoing.try_send(Frame::Bytes(bytes.into())).is_ok()
    }

    /// Sends a tree, behind its SNAP packet; otherwise as [`Link::send`].
    pub(crate) fn send_tree(&self, content: Content) -> bool {
        self.outgoing.try_send(Frame::Tree(Box::new(content))).is_ok()
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
    door: Door,
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
            if let Err(error) = serve(door, stream, number, security, events).await {
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
    door: Door,
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
    if !events.send(Event::Joined(door, id, Link { number, outgoing }, hello)).await {
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

/// Decodes a tree in a thread of its own while it comes in: neither its bytes nor the other connections wait for it.
async fn next_tree(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
    zxid: i64,
) -> io::Result<State> {
    let (pieces, source) = mpsc::channel(PIECES_MAX);
    let mut decoding = tokio::task::spawn_blocking(move || {
        let mut source = Pieces { source, current: Bytes::new() };
        let (state, mut rest) = snapshot::decode_stream(&mut source, zxid)?;
        rest.extend_from_slice(&source.rest());
        Ok::<_, io::Error>((state, rest))
    });
    let mut piece = buffer.split().freeze();
    let decoded = loop {
        if piece.is_empty() {
            tokio::select! {
                decoded = &mut decoding => break decoded,
                read = stream.read_buf(buffer) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    piece = buffer.split().freeze();
                }
            }
        } else {
            match pieces.reserve().await {
                Ok(room) => room.send(std::mem::take(&mut piece)),
                Err(_) => break decoding.await,
            }
        }
    };
    let (state, rest) = decoded.map_err(io::Error::other)??;
    buffer.extend_from_slice(&rest);
    buffer.extend_from_slice(&piece);
    Ok(state)
}

/// What has come in of a tree, for the thread that decodes it.
struct Pieces {
    source: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    /// What has come in behind it.
    fn rest(mut self) -> Vec<u8> {
        self.source.close();
        let mut rest = self.current.to_vec();
        while let Some(piece) = self.source.blocking_recv() {
            rest.extend_from_slice(&piece);
        }
        rest
    }
}

impl io::Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            let Some(piece) = self.source.blocking_recv() else { return Ok(0) };
            self.current = piece;
        }
        let count = into.len().min(self.current.len());
        into[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Encodes a tree in a thread of its own, no faster than it is sent.
async fn send_tree(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    content: Box<Content>,
) -> io::Result<()> {
    let (pieces, mut ready) = mpsc::channel(PIECES_MAX);
    let encoding = tokio::task::spawn_blocking(move || {
        encode::content(&content.tree, &content.sessions, Form::Stream, |piece| {
            pieces.blocking_send(Bytes::copy_from_slice(piece))
        })
    });
    while let Some(piece) = ready.recv().await {
        writer.write_all(&piece).await?;
    }
    writer.flush().await?;
    let encoded = encoding.await.map_err(io::Error::other)?;
    encoded.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn exchange(
    stream: Stream,
    mut buffer: BytesMut,
    id: i64,
    number: u64,
    mut frames: mpsc::Receiver<Frame>,
    events: Events,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        let (mut batch, mut tree) = (BytesMut::new(), None);
        while let Some(frame) = frames.recv().await {
            let mut next = Some(frame);
            while let Some(frame) = next.take() {
                match frame {
                    Frame::Bytes(bytes) => batch.extend_from_slice(&bytes),
                    Frame::Tree(content) => tree = Some(content),
                }
                if tree.is_none() && batch.len() < 256 * 1024 {
                    next = frames.try_recv().ok();
                }
            }
            writer.write_all(&batch).await?;
            writer.flush().await?;
            batch.clear();
            if let Some(content) = tree.take() {
                send_tree(&mut writer, content).await?;
            }
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
