//! The shell: connections, the one task that owns the core, the log.
//!
//! Requests of all connections go through one bounded queue. The core takes what waits as one batch; the transactions
//! of a batch are written and synced together, and only then do its replies leave.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::core::{ConnectionId, Core, Effect, Settings};
use crate::disk::{DiskError, load, log::Log, numbered, snapshot};
use crate::words;

/// Requests that may wait for the core; connections are not read beyond that.
const QUEUE_MAX: usize = 4096;
/// Requests taken as one batch.
const BATCH_MAX: usize = 1024;
/// Frames that may wait for one client; a client that reads more slowly is cut off.
const OUTGOING_MAX: usize = 8192;

enum Input {
    Opened(ConnectionId, SocketAddr, mpsc::Sender<Bytes>),
    Frame(ConnectionId, Bytes),
    Closed(ConnectionId),
    Word([u8; 4], oneshot::Sender<Option<String>>),
}

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The port.
    #[error("cannot listen on {address}: {source}; is another server running?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A bug, which must not be hidden.
    #[error("the server's task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A server that serves.
#[derive(Debug)]
pub struct Server {
    /// Where clients connect.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// Loads the data and begins to serve; port 0 lets the kernel choose. Ends when `shutdown` is cancelled.
    ///
    /// # Errors
    /// When the data can't be loaded or the port is taken.
    pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Self, ServerError> {
        let snapshots = config.data_dir.join("version-2");
        let logs = config.data_log_dir.join("version-2");
        let state = tokio::task::block_in_place(|| {
            load::load(&snapshots, &logs, config.trust_empty_snapshot)
        })?;
        let listener = TcpListener::bind(config.client_address)
            .await
            .map_err(|source| ServerError::Listen { address: config.client_address, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServerError::Listen { address: config.client_address, source })?;
        let settings = Settings {
            tick_ms: i64::from(config.tick_ms),
            session_timeout_min_ms: config.session_timeout_min_ms,
            session_timeout_max_ms: config.session_timeout_max_ms,
            extended_types: config.extended_types,
            skip_acl: config.skip_acl,
            super_digest: config.super_digest.clone(),
        };
        tracing::info!(
            "serving on {address}; last zxid 0x{:x}, {} znodes",
            state.zxid,
            state.tree.node_count()
        );
        let is_fresh = state.zxid == 0;
        let core = Core::new(settings, state, wall_ms());
        let (inputs, queue) = mpsc::channel(QUEUE_MAX);
        let mut actor = Actor {
            core,
            outgoing: HashMap::new(),
            log: Log::new(logs.clone()),
            snapshots,
            logs,
            since_snapshot: 0,
            config: config.clone(),
            began: Instant::now(),
            base_ms: wall_ms(),
            purged: Instant::now(),
        };
        if is_fresh {
            tokio::task::block_in_place(|| actor.snapshot())?;
        }
        let acceptor = tokio::spawn(accept(listener, inputs, config, shutdown.clone()));
        let task = tokio::spawn(async move {
            let ended = actor.run(queue, shutdown.clone()).await;
            shutdown.cancel();
            acceptor.await?;
            ended
        });
        Ok(Self { address, task })
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    /// When it ended because the disk refused.
    pub async fn ended(self) -> Result<(), ServerError> {
        self.task.await?
    }
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

struct Actor {
    core: Core,
    outgoing: HashMap<ConnectionId, mpsc::Sender<Bytes>>,
    log: Log,
    snapshots: PathBuf,
    logs: PathBuf,
    since_snapshot: u64,
    config: Config,
    began: Instant,
    base_ms: i64,
    purged: Instant,
}

impl Actor {
    /// A clock that begins at the wall's and never goes back.
    fn now_ms(&self) -> i64 {
        self.base_ms + self.began.elapsed().as_millis() as i64
    }

    async fn run(
        &mut self,
        mut queue: mpsc::Receiver<Input>,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        let mut ticks = tokio::time::interval(Duration::from_millis(
            u64::from(self.config.tick_ms).clamp(10, 1000) / 2,
        ));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                count = queue.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for input in batch.drain(..) {
                        self.input(input);
                    }
                }
                _ = ticks.tick() => {
                    self.core.tick(self.now_ms(), wall_ms());
                    self.purge_when_due();
                }
            }
            self.carry_out()?;
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Opened(id, peer, outgoing) => {
                self.outgoing.insert(id, outgoing);
                self.core.opened(id, &peer.to_string(), &peer.ip().to_string());
            }
            Input::Frame(id, frame) => self.core.frame(self.now_ms(), wall_ms(), id, &frame),
            Input::Closed(id) => {
                self.outgoing.remove(&id);
                self.core.closed(id);
            }
            Input::Word(word, reply) => {
                drop(reply.send(words::answer(&word, &self.config, &mut self.core)))
            }
        }
    }

    fn carry_out(&mut self) -> Result<(), DiskError> {
        let effects = self.core.take_effects();
        let entries: Vec<_> =
            effects
                .iter()
                .filter_map(|effect| {
                    if let Effect::Append(entry) = effect { Some(entry.clone()) } else { None }
                })
                .collect();
        if !entries.is_empty() {
            // Everything behind waits for the disk anyway; other tasks of this runtime need not.
            tokio::task::block_in_place(|| self.log.append(&entries))?;
            self.since_snapshot += entries.len() as u64;
        }
        for effect in effects {
            match effect {
                Effect::Append(_) => {}
                Effect::Send(id, body) => self.send(id, &body),
                Effect::Close(id) => drop(self.outgoing.remove(&id)),
            }
        }
        if self.since_snapshot >= self.config.snap_count {
            tokio::task::block_in_place(|| self.snapshot())?;
        }
        Ok(())
    }

    fn send(&mut self, id: ConnectionId, body: &[u8]) {
        let Some(outgoing) = self.outgoing.get(&id) else { return };
        let mut frame = BytesMut::with_capacity(4 + body.len());
        frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
        frame.extend_from_slice(body);
        if let Err(mpsc::error::TrySendError::Full(_)) = outgoing.try_send(frame.freeze()) {
            tracing::warn!("a client that doesn't read its replies is cut off");
            self.outgoing.remove(&id);
            self.core.closed(id);
        }
    }

    fn snapshot(&mut self) -> Result<(), DiskError> {
        let zxid = self.core.zxid();
        let bytes = snapshot::encode(self.core.tree(), zxid, &self.core.sessions());
        snapshot::write(&self.snapshots, zxid, &bytes)?;
        self.log.roll();
        self.since_snapshot = 0;
        Ok(())
    }

    fn purge_when_due(&mut self) {
        let hours = self.config.purge_interval_hours;
        if hours == 0 || self.purged.elapsed() < Duration::from_secs(hours * 3600) {
            return;
        }
        self.purged = Instant::now();
        let (Ok(snapshots), Ok(logs)) =
            (numbered(&self.snapshots, "snapshot"), numbered(&self.logs, "log"))
        else {
            return;
        };
        let Some(oldest) = snapshots
            .len()
            .checked_sub(self.config.snap_retain_count)
            .and_then(|index| snapshots.get(index))
        else {
            return;
        };
        let needed = logs.iter().rposition(|(zxid, _)| *zxid <= oldest.0 + 1).unwrap_or(0);
        let old = snapshots.iter().filter(|(zxid, _)| *zxid < oldest.0).chain(&logs[..needed]);
        for (_, path) in old {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!("{} not purged: {error}", path.display());
            }
        }
    }
}

async fn accept(
    listener: TcpListener,
    inputs: mpsc::Sender<Input>,
    config: Config,
    shutdown: CancellationToken,
) {
    let mut next = 0;
    let connections = tokio_util::task::TaskTracker::new();
    let by_address: std::sync::Arc<std::sync::Mutex<HashMap<IpAddr, usize>>> =
        std::sync::Arc::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("connection not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        {
            let mut counts = by_address.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let count = counts.entry(peer.ip()).or_default();
            if config.connections_per_address_max > 0
                && *count >= config.connections_per_address_max
            {
                tracing::warn!(
                    "too many connections from {}: maxClientCnxns is {}",
                    peer.ip(),
                    config.connections_per_address_max
                );
                continue;
            }
            *count += 1;
        }
        next += 1;
        let (inputs, shutdown, counts, frame_max) =
            (inputs.clone(), shutdown.clone(), by_address.clone(), config.frame_max);
        connections.spawn(async move {
            tokio::select! {
                // Clients that go away are no event.
                _ = serve(ConnectionId(next), stream, peer, inputs, frame_max) => {}
                () = shutdown.cancelled() => {}
            }
            let mut counts = counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(count) = counts.get_mut(&peer.ip()) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&peer.ip());
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
}

async fn serve(
    id: ConnectionId,
    mut stream: TcpStream,
    peer: SocketAddr,
    inputs: mpsc::Sender<Input>,
    frame_max: usize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 4];
    stream.read_exact(&mut first).await?;
    if first.iter().all(u8::is_ascii_alphabetic) {
        let (reply, answer) = oneshot::channel();
        let sent = inputs.send(Input::Word(first, reply)).await;
        if let (Ok(()), Ok(Some(text))) = (sent, answer.await) {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await?;
        }
        return Ok(());
    }
    let (mut reader, mut writer) = stream.into_split();
    let (outgoing, mut frames) = mpsc::channel::<Bytes>(OUTGOING_MAX);
    if inputs.send(Input::Opened(id, peer, outgoing)).await.is_err() {
        return Ok(());
    }
    let write = async {
        let mut batch = BytesMut::new();
        while let Some(frame) = frames.recv().await {
            batch.extend_from_slice(&frame);
            while let Ok(frame) = frames.try_recv() {
                batch.extend_from_slice(&frame);
                if batch.len() > 256 * 1024 {
                    break;
                }
            }
            writer.write_all(&batch).await?;
            batch.clear();
        }
        writer.shutdown().await
    };
    let read = async {
        let mut buffer = BytesMut::with_capacity(8 * 1024);
        buffer.extend_from_slice(&first);
        loop {
            while let Some(header) = buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*header) as usize;
                if length > frame_max {
                    tracing::warn!(
                        "closing a connection of {peer}: unreasonable length = {length}"
                    );
                    return Ok::<(), io::Error>(());
                }
                if buffer.len() < 4 + length {
                    break;
                }
                let frame = buffer.split_to(4 + length).freeze().slice(4..);
                if inputs.send(Input::Frame(id, frame)).await.is_err() {
                    return Ok(());
                }
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    };
    // Whichever side ends first ends the connection; what waits to be written when we close is written first.
    let mut write = std::pin::pin!(write);
    let ended = tokio::select! {
        ended = &mut write => ended,
        ended = read => ended,
    };
    let _ = inputs.send(Input::Closed(id)).await;
    ended
}
