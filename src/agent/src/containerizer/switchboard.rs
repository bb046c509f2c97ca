//! A container's input and output, served on a socket (the original's `io_switchboard.cpp`).
//!
//! A connection says in its first line what it is for. `OUTPUT`: it gets what the container prints from then on, as
//! records of [`ProcessIo`]. `INPUT`: it sends such records: data, or the terminal's size. Output also goes to the
//! sandbox's files, save a session's, which is held until the first connection and goes nowhere else.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mesos::recordio;
use mesos::v1::agent::{ProcessIo, process_io};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::supervise::Options;
use super::terminal::{End, resize};

/// Records that wait for one reader.
const WAITING_MAX: usize = 64;
/// How long a reader may hold up the container before it is cut off.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most connections at once.
const CONNECTIONS_MAX: usize = 64;
const CHUNK: usize = 16 << 10;
const RECORD_MAX: usize = 4 << 20;
/// What ends the input of a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// The first line of a connection that listens.
pub const OUTPUT: &[u8] = b"OUTPUT\n";
/// The first line of a connection that types.
pub const INPUT: &[u8] = b"INPUT\n";

/// Where the socket of a container is, below its runtime directory.
pub fn directory(runtime: &Path) -> PathBuf {
    runtime.join("io_switchboard")
}

/// A path to the socket that is short enough for the kernel, whatever the directory's is; the file keeps it valid.
fn short(runtime: &Path) -> io::Result<(File, PathBuf)> {
    let file = File::open(directory(runtime))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/socket", file.as_raw_fd()));
    Ok((file, path))
}

/// Connects to a container.
///
/// # Errors
/// When nothing serves it.
pub async fn connect(runtime: &Path) -> io::Result<UnixStream> {
    let (_directory, path) = short(runtime)?;
    UnixStream::connect(&path).await
}

/// What somebody types.
enum Typed {
    Data(Vec<u8>),
    Size(u16, u16),
}

/// Those who listen.
#[derive(Clone)]
struct Listeners {
    all: Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>,
    /// Whether there was one yet, or there need not be.
    is_heard: watch::Sender<bool>,
}

impl Listeners {
    fn list(&self) -> Vec<mpsc::Sender<Bytes>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self) -> mpsc::Receiver<Bytes> {
        let (records, receiver) = mpsc::channel(WAITING_MAX);
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(records);
        self.is_heard.send_replace(true);
        receiver
    }

    async fn send(&self, kind: process_io::data::Type, data: &[u8]) {
        let io = ProcessIo {
            r#type: Some(process_io::Type::Data as i32),
            data: Some(process_io::Data { r#type: Some(kind as i32), data: Some(data.to_vec()) }),
            ..Default::default()
        };
        let record = recordio::encode(&io.encode_to_vec());
        for listener in self.list() {
            // A slow reader slows the container down, as a pipe would, but not for ever.
            let sent = tokio::time::timeout(PATIENCE, listener.send(record.clone())).await;
            if !matches!(sent, Ok(Ok(()))) {
                let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|own| !own.same_channel(&listener));
            }
        }
    }

    fn close(&self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What serves one container.
pub(super) struct Switchboard {
    pumps: Vec<JoinHandle<()>>,
    connections: JoinHandle<()>,
    listeners: Listeners,
    open: mpsc::Sender<()>,
    closed: mpsc::Receiver<()>,
}

impl Switchboard {
    pub(super) fn of_pipes(options: &Options, child: &mut Child) -> anyhow::Result<Self> {
        let missing = || anyhow::anyhow!("the program has no pipes");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        let typed = type_into(input, |_, _| Ok(()), false);
        let mut board = Self::serve(options, typed)?;
        let keeps = !options.is_session;
        let log = |keeps: bool, file: io::Result<OwnedFd>| {
            if keeps { file.map(File::from).map(Some) } else { Ok(None) }
        };
        let files = (
            log(keeps, io::stdout().as_fd().try_clone_to_owned())?,
            log(keeps, io::stderr().as_fd().try_clone_to_owned())?,
        );
        board.pump(output, process_io::data::Type::Stdout, files.0);
        board.pump(errors, process_io::data::Type::Stderr, files.1);
        Ok(board)
    }

    pub(super) fn of_terminal(options: &Options, terminal: OwnedFd) -> anyhow::Result<Self> {
        let sized = terminal.try_clone()?;
        let input = End::new(terminal.try_clone()?)?;
        let typed = type_into(input, move |rows, columns| resize(&sized, rows, columns), true);
        let mut board = Self::serve(options, typed)?;
        let log = if options.is_session {
            None
        } else {
            Some(File::from(io::stdout().as_fd().try_clone_to_owned()?))
        };
        let output = End::new(terminal)?;
        board.pump(output, process_io::data::Type::Stdout, log);
        Ok(board)
    }

    fn serve(options: &Options, typed: mpsc::Sender<Typed>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory(&options.runtime))?;
        let (kept, path) = short(&options.runtime)?;
        // Left over from a container of the same name, or not there.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let listeners =
            Listeners { all: Arc::default(), is_heard: watch::Sender::new(!options.is_session) };
        let (open, closed) = mpsc::channel(1);
        let connections =
            tokio::spawn(accept(listener, kept, listeners.clone(), typed, open.clone()));
        Ok(Self { pumps: Vec::new(), connections, listeners, open, closed })
    }

    fn pump(
        &mut self,
        from: impl AsyncRead + Unpin + Send + 'static,
        kind: process_io::data::Type,
        log: Option<File>,
    ) {
        self.pumps.push(tokio::spawn(pump(from, kind, log, self.listeners.clone())));
    }

    /// Waits until all that was printed has been sent.
    pub(super) async fn finish(mut self) {
        for pump in self.pumps {
            // A pump that failed has nothing more to send.
            let _ = pump.await;
        }
        self.connections.abort();
        let _ = self.connections.await;
        self.listeners.close();
        drop(self.open);
        // Each connection holds one end.
        while self.closed.recv().await.is_some() {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    kind: process_io::data::Type,
    mut log: Option<File>,
    listeners: Listeners,
) {
    let mut heard = listeners.is_heard.subscribe();
    // Fails only when the sender is gone, which is held here.
    let _ = heard.wait_for(|is_heard| *is_heard).await;
    let mut buffer = vec![0; CHUNK];
    // A terminal that nobody holds any more gives an error rather than an end.
    while let Ok(count) = from.read(&mut buffer).await {
        let Some(data) = buffer.get(..count).filter(|data| !data.is_empty()) else { break };
        if let Some(log) = &mut log {
            // A full disk must not stop the container.
            let _ = log.write_all(data);
        }
        listeners.send(kind, data).await;
    }
}

/// Takes what is typed to the program, in order.
fn type_into(
    input: impl AsyncWrite + Unpin + Send + 'static,
    resize: impl Fn(u16, u16) -> io::Result<()> + Send + 'static,
    is_terminal: bool,
) -> mpsc::Sender<Typed> {
    let (typed, mut received) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let mut input = Some(input);
        while let Some(typed) = received.recv().await {
            match typed {
                Typed::Size(rows, columns) => {
                    // The terminal may have gone with its program.
                    let _ = resize(rows, columns);
                }
                Typed::Data(data) => {
                    let Some(to) = &mut input else { continue };
                    let is_end = data.is_empty();
                    let data = if is_end && is_terminal { END_OF_INPUT } else { data.as_slice() };
                    let written = to.write_all(data).await;
                    let flushed = to.flush().await;
                    if (is_end && !is_terminal) || written.is_err() || flushed.is_err() {
                        input = None;
                    }
                }
            }
        }
    });
    typed
}

async fn accept(
    listener: UnixListener,
    _directory: File,
    listeners: Listeners,
    typed: mpsc::Sender<Typed>,
    open: mpsc::Sender<()>,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (listeners, typed, open) = (listeners.clone(), typed.clone(), open.clone());
        tokio::spawn(async move {
            // Whoever breaks off is gone, and nobody else is concerned.
            let _ = connection(stream, listeners, typed, open).await;
            drop(place);
        });
    }
}

async fn connection(
    mut stream: UnixStream,
    listeners: Listeners,
    typed: mpsc::Sender<Typed>,
    open: mpsc::Sender<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') && line.len() < OUTPUT.len() {
        line.push(stream.read_u8().await?);
    }
    if line == OUTPUT {
        let mut records = listeners.add();
        drop((listeners, typed));
        while let Some(record) = records.recv().await {
            stream.write_all(&record).await?;
        }
        return Ok(());
    }
    // The container's end needs not wait for who types.
    drop((listeners, open));
    let mut records = recordio::Decoder::new(RECORD_MAX);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        records.push(&buffer[..count]);
        while let Some(record) = records.next().map_err(io::Error::other)? {
            let io = ProcessIo::decode(record).map_err(io::Error::other)?;
            if let Some(input) = typed_in(io)
                && typed.send(input).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

/// What of a record concerns the container.
fn typed_in(io: ProcessIo) -> Option<Typed> {
    match io.r#type() {
        process_io::Type::Data => {
            let data = io.data?;
            (data.r#type() == process_io::data::Type::Stdin)
                .then(|| Typed::Data(data.data.unwrap_or_default()))
        }
        process_io::Type::Control => {
            let size = io.control?.tty_info?.window_size?;
            Some(Typed::Size(size.rows.min(0xffff) as u16, size.columns.min(0xffff) as u16))
        }
        process_io::Type::Unknown => None,
    }
}
