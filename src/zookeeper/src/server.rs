//! The shell: the one task that owns the core, the log and the clients that [`connection`]s have brought.
//!
//! It reads the [`clients`]' sockets itself: what has come on many of them is one batch for the core. What else it is told,
//! by other members, administrators and the clock, goes through one bounded queue. Transactions go to the log's thread
//! ([`appender`]), and what follows them is held until they are on disk; the next batch is answered meanwhile.

mod appender;
mod clients;
pub mod connection;
mod door;
pub(crate) mod ensemble;
mod full;
pub mod peer;
mod questions;
mod replies;
mod snapshots;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::core::{ConnectionId, Core, Loaded, Settings};
use crate::disk::{DiskError, load, log::Log, remove_if_there, snapshot};
use crate::metrics::{Counter, Summary};
use crate::quorum::net::{Event, Events};
use crate::status::Standing;
use crate::throttle::Gate;
use crate::tls::{Tls, TlsError};
use appender::{Appender, Encoded};
use clients::{Arrival, Clients, Permit};
use connection::Ports;
pub(crate) use door::{Door, Opened};
use peer::Peer;
use questions::Administrators;
pub(crate) use questions::Question;
use replies::Held;

/// What may wait for the server's task beside clients' requests.
const QUEUE_MAX: usize = 4096;
/// Connections that may wait to be accepted when nothing is said; the system lowers it to what it allows.
const BACKLOG: u32 = 65_535;
/// What is taken out of the queue at once.
const BATCH_MAX: usize = 1024;
/// Requests of clients that are carried out as one batch: those that are answered first can go on while the others are.
const REQUESTS_AT_ONCE: usize = 128;

/// What the server's task is told.
pub(crate) enum Input {
    Opened(ConnectionId, Peer, Box<Arrival>),
    Frame(ConnectionId, bytes::Bytes, Permit),
    Closed(ConnectionId),
    Question(Question),
    Tick,
    Member(Event),
    Snapshot(u64, snapshots::Written),
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
    /// Keys and certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port for administrators.
    #[error("cannot listen on {address} for {what}: {source}; set {keys} in zoo.cfg")]
    ListenForAdministrators {
        /// Where.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// The keys that say where, or that there is to be none.
        keys: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory is another server's.
    #[error("{} is in use by another server: {source}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::fs::TryLockError,
    },
    /// A port for the other members.
    #[error(
        "cannot listen on {address} for the other servers: {source}; is another server running, and is this the host of this server's server.N line?"
    )]
    ListenForPeers {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The epochs on disk don't fit together.
    #[error(
        "acceptedEpoch is {accepted}, less than currentEpoch {current}: the data directory is damaged; empty it, and this server takes the data over from the others"
    )]
    Epochs {
        /// The one.
        accepted: i64,
        /// The other.
        current: i64,
    },
    /// The configuration does not name this server.
    #[error("this server's id is not among the server.N lines")]
    NoMember,
    /// The system gave no thread.
    #[error("no thread for the log: {0}")]
    Thread(io::Error),
    /// There is no port for clients.
    #[error("neither clientPort nor secureClientPort is set")]
    NoPort,
    /// A bug, which must not be hidden.
    #[error("the server's task ended without a result")]
    Died,
}

/// A server that serves.
#[derive(Debug)]
pub struct Server {
    /// Where clients connect: without TLS, if there is such a port.
    pub address: SocketAddr,
    ended: oneshot::Receiver<Result<(), DiskError>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Loads the data and begins to serve; port 0 lets the kernel choose. Ends when `shutdown` is cancelled.
    ///
    /// # Errors
    /// When the data can't be loaded or the port is taken.
    pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Self, ServerError> {
        let snapshots = config.data_dir.join("version-2");
        let logs = config.data_log_dir.join("version-2");
        // Before the data is touched: loading cuts torn tails, which must not happen to a running server's log.
        let locks = lock(&[&snapshots, &logs])?;
        let loading = Instant::now();
        let state = load::load(&snapshots, &logs, config.trust_empty_snapshot)?;
        let loaded = loading.elapsed();
        let mismatches = state.digests.mismatches;
        let Loaded { snapshot: restored_in, transactions, logs: replayed_in } = state.loaded;
        let (address, doors) = doors(&config)?;
        let settings = settings(&config);
        tracing::info!(
            "serving on {address}; last zxid 0x{:x}, {} znodes",
            state.zxid,
            state.tree.node_count()
        );
        let is_blank = is_blank(&config, &snapshots, state.zxid)?;
        let saving = (state.zxid == 0 && !is_blank).then(Instant::now);
        if saving.is_some() {
            let trailer = config.storage.trailer(0, state.tree.digest());
            snapshot::save(&snapshots, &state, config.storage.compression, trailer)?;
        }
        let saved = saving.map(|began| began.elapsed());
        // An election is counted in less than ticks.
        let tick_max_ms = if config.ensemble.is_some() { 100 } else { 1000 };
        let tick_every =
            Duration::from_millis(u64::from(config.tick_ms).clamp(10, tick_max_ms) / 2);
        let administrators = Administrators::listen(&config).await?;
        let zxid = state.zxid;
        let mut core = Core::new(settings, state, wall_ms());
        core.changes.is_enabled = config.is_dynamic;
        core.metrics.note(Summary::DbInitTime, loaded.as_millis() as u64);
        core.metrics.note(Summary::StartupSnapLoadTime, restored_in.as_millis() as u64);
        core.metrics.note(Summary::StartupTxnsLoaded, transactions);
        core.metrics.note(Summary::StartupTxnsLoadTime, replayed_in.as_millis() as u64);
        core.metrics.add(Counter::DigestMismatchesCount, mismatches);
        if let Some(saved) = saved {
            core.metrics.note(Summary::SnapshotTime, saved.as_millis() as u64);
        }
        let (inputs, queue) = mpsc::channel(QUEUE_MAX);
        let (client_port, moves) = watch::channel(None);
        let mut log = Log::new(logs.clone(), config.log.clone());
        log.metrics = core.metrics.clone();
        let seed = wall_ms().cast_unsigned() ^ u64::from(std::process::id());
        let gate = Gate::new(config.limits.clone(), core.metrics.clone(), seed);
        let mut actor = Actor {
            core,
            clients: Clients::new(gate.clone(), config.frame_max),
            entries: Vec::new(),
            log: Appender::start(log).map_err(ServerError::Thread)?,
            appended: zxid,
            logged: zxid,
            held: VecDeque::new(),
            taking: snapshots::Snapshots::new(&config, &inputs),
            snapshots,
            logs,
            looked_for_room: Instant::now(),
            config: config.clone(),
            began: Instant::now(),
            base_ms: wall_ms(),
            batch_ms: (0, 0),
            permits: Vec::new(),
            answered: Vec::new(),
            has_answered: false,
            quorum: None,
            standing: Standing::default(),
            is_blank,
            client_port,
            _locks: locks,
        };
        if let Some(ensemble) = config.ensemble.clone() {
            let events = Events(inputs.clone());
            let quorum =
                ensemble::start::start(ensemble, &mut actor, events, shutdown.clone()).await?;
            actor.quorum = Some(Box::new(quorum));
        }
        // A member of an ensemble hands over before it lets go of its clients.
        let closing =
            if config.ensemble.is_some() { CancellationToken::new() } else { shutdown.clone() };
        let mut tasks = administrators.serve(&config, &inputs, &closing);
        let ticks = tokio::spawn(tick(tick_every, inputs.clone(), closing.clone()));
        let ports = Ports::new(inputs, config, gate, closing.clone());
        let acceptors = doors.into_iter().map(|(listener, door)| {
            // Where the port for TLS is, no configuration says.
            let moves = (!matches!(door, Door::Tls(_))).then(|| moves.clone());
            tokio::spawn(ports.clone().accept(listener, door, moves))
        });
        tasks.extend(std::iter::once(ticks).chain(acceptors));
        drop(ports);
        let (result, ended) = oneshot::channel();
        // It does a bounded amount before it lets others run, whatever the runtime thinks of that.
        tokio::spawn(tokio::task::unconstrained(async move {
            let outcome = actor.run(queue).await;
            shutdown.cancel();
            closing.cancel();
            drop(result.send(outcome));
        }));
        Ok(Self { address, ended, tasks })
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    /// When it ended because the disk refused.
    pub async fn ended(self) -> Result<(), ServerError> {
        let outcome = self.ended.await.map_err(|_| ServerError::Died)?;
        for task in self.tasks {
            task.await.map_err(|_| ServerError::Died)?;
        }
        Ok(outcome?)
    }
}

/// Opens the ports of clients; the first one's address.
fn doors(config: &Config) -> Result<(SocketAddr, Vec<(TcpListener, Door)>), ServerError> {
    let security = &config.security;
    let tls = security.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
    let plain = match &tls {
        Some(tls) if security.unifies_ports => Door::Either(tls.clone()),
        _ => Door::Plain,
    };
    let secure = security.secure_address.zip(tls.map(Door::Tls));
    let mut doors = Vec::new();
    let mut first = None;
    for (address, door) in config.client_address.map(|at| (at, plain)).into_iter().chain(secure) {
        let listen = |source| ServerError::Listen { address, source };
        let listener = bind(address, config.listen_backlog).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        if matches!(door, Door::Tls(_)) {
            tracing::info!("clients that speak TLS are served on {address}");
        }
        first.get_or_insert(address);
        doors.push((listener, door));
    }
    Ok((first.ok_or(ServerError::NoPort)?, doors))
}

/// Opens a port with so many connections that may wait to be accepted; as many as the system allows if none are given
/// (Java's 50 are few for clients that come back all at once).
fn bind(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port of connections that ended a moment ago is taken again.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(u32::try_from(backlog).ok().filter(|given| *given > 0).unwrap_or(BACKLOG))
}

/// Whether a member of an ensemble has no data, and may not take that for the beginning (`db.autocreate`).
fn is_blank(config: &Config, snapshots: &Path, zxid: i64) -> Result<bool, DiskError> {
    let must_have_data = config.ensemble.as_ref().is_some_and(|ensemble| !ensemble.creates_data);
    if !must_have_data || zxid != 0 || !snapshot::list(snapshots)?.is_empty() {
        return Ok(false);
    }
    Ok(!remove_if_there(&config.data_dir.join(ensemble::INITIALIZE))?)
}

/// What the core knows of the configuration.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        tick_ms: i64::from(config.tick_ms),
        session_timeout_min_ms: config.session_timeout_min_ms,
        session_timeout_max_ms: config.session_timeout_max_ms,
        extended_types: config.extended_types,
        enforce_quota: config.enforce_quota,
        container_check_ms: config.container_check_ms,
        container_max_per_minute: config.container_max_per_minute,
        container_unused_max_ms: config.container_unused_max_ms,
        skip_acl: config.skip_acl,
        auth: Arc::new(config.security.auth.clone()),
        nonce_seed: rand::random(),
        digests: config.storage.digests,
        local_sessions: config.local_sessions,
    }
}

/// Locks directories, made if missing, for as long as the files are held.
fn lock(directories: &[&PathBuf]) -> Result<Vec<File>, ServerError> {
    let mut locks = Vec::new();
    for (index, directory) in directories.iter().enumerate() {
        let failed =
            |source| DiskError::Io { action: "create", path: (*directory).clone(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        if directories[..index].contains(directory) {
            continue;
        }
        let file = File::open(directory).map_err(failed)?;
        file.try_lock()
            .map_err(|source| ServerError::InUse { path: (*directory).clone(), source })?;
        locks.push(file);
    }
    Ok(locks)
}

/// Puts the passing of time into the queue, in order with what clients sent before.
async fn tick(every: Duration, inputs: mpsc::Sender<Input>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if inputs.send(Input::Tick).await.is_err() {
            return;
        }
    }
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

struct Actor {
    core: Core,
    clients: Clients,
    /// Transactions that go to the log when all requests that have come are carried out.
    entries: Vec<Encoded>,
    log: Appender,
    /// Of a server that is alone: the last zxid that the log's thread has, and that is on disk.
    appended: i64,
    logged: i64,
    /// With the zxid that it waits for: in an ensemble that must be committed, else on disk.
    held: VecDeque<(i64, Held)>,
    snapshots: PathBuf,
    logs: PathBuf,
    taking: snapshots::Snapshots,
    looked_for_room: Instant,
    config: Config,
    began: Instant,
    base_ms: i64,
    /// When this batch began, on the server's clock and on the wall's.
    batch_ms: (i64, i64),
    /// Of the requests of this batch: given back when their replies are on their way.
    permits: Vec<(ConnectionId, Permit)>,
    /// Of those that wait for no transaction.
    answered: Vec<(ConnectionId, Permit)>,
    /// Whether there were such since transactions were last sent to the log.
    has_answered: bool,
    quorum: Option<Box<ensemble::Quorum>>,
    standing: Standing,
    /// Its data is missing, and it may not begin without.
    is_blank: bool,
    /// Where clients are to connect from now on.
    client_port: watch::Sender<Option<SocketAddr>>,
    _locks: Vec<File>,
}

impl Actor {
    /// A clock that begins at the wall's and never goes back; it stands still while a disk makes everybody wait.
    fn now_ms(&self) -> i64 {
        self.base_ms + self.began.elapsed().as_millis() as i64
    }

    /// Until everybody else, the clock among them, has let go of the queue.
    async fn run(&mut self, mut queue: mpsc::Receiver<Input>) -> Result<(), DiskError> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            if self.clients.have_rung() {
                // The sockets are looked at, and other tasks have their turn.
                tokio::task::yield_now().await;
            }
            let is_over = tokio::select! {
                biased;
                () = self.log.reported() => false,
                count = queue.recv_many(&mut batch, BATCH_MAX) => count == 0,
                () = self.clients.rung() => false,
            };
            if is_over {
                break;
            }
            let mut quorum = self.quorum.take();
            loop {
                self.clients.receive(&mut batch, REQUESTS_AT_ONCE);
                self.batch_ms = (self.now_ms(), wall_ms());
                match &mut quorum {
                    None => self.batch(&mut batch)?,
                    Some(quorum) => self.member_batch(quorum, &mut batch)?,
                }
                self.clients.flush();
                if !self.clients.are_due() {
                    break;
                }
            }
            match quorum {
                None => {
                    self.append()?;
                    self.snapshot_when_due()?;
                    self.resume_when_possible()?;
                    self.clients.flush();
                }
                Some(mut quorum) => {
                    if self.may_end(&mut quorum) {
                        self.clients.clear();
                        Self::farewell(*quorum).await;
                        break;
                    }
                    self.quorum = Some(quorum);
                }
            }
        }
        self.log.wait();
        while let Some(report) = self.log.report() {
            report?;
        }
        Ok(())
    }

    /// What came in, and what follows from it.
    fn batch(&mut self, batch: &mut Vec<Input>) -> Result<(), DiskError> {
        while let Some(report) = self.log.report() {
            self.reported(report)?;
        }
        for input in batch.drain(..) {
            self.input(input);
        }
        self.carry_out();
        Ok(())
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Opened(id, peer, arrival) => {
                self.clients.open(id, *arrival);
                self.core.opened(wall_ms(), id, &peer.name(), peer.ids());
            }
            Input::Frame(id, frame, permit) => {
                let (now_ms, wall_ms) = self.batch_ms;
                if !(permit.is_throttled() && self.core.throttled_frame(now_ms, id, &frame)) {
                    self.core.frame(now_ms, wall_ms, id, &frame);
                }
                self.under_way(id, permit);
            }
            Input::Tick => {
                self.core.tick(self.now_ms(), wall_ms());
                self.cut_stalled();
                self.purge_when_due();
            }
            Input::Snapshot(number, written) => self.snapshot_written(number, written),
            // Only members are told of members.
            Input::Member(_) => {}
            Input::Closed(id) => self.core.closed(id),
            Input::Question(question) => self.question(question, None),
        }
    }
}
