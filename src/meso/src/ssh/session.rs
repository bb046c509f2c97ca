//! The thread that owns an SSH session and moves the bytes of its channels.
//!
//! Reads never block. Opening channels and writing do, bounded by the session's timeout: libssh2 takes a packet that it could
//! not send as a whole only from the very call that began it, so that two unfinished sends must never meet.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use ssh2::{Channel, Session};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::{Output, Request};

/// Bytes moved at once: libssh2 sends packets of up to 32 KB.
const CHUNK: usize = 32 * 1024;
/// Most that a command may say.
const SAID_MAX: usize = 16 * 1024 * 1024;
/// How often the far end is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Where a channel's bytes come from and go to.
enum Ends {
    /// A command: its input given, its output collected.
    Collected {
        input: Vec<u8>,
        sent: usize,
        output: Output,
        reply: Option<oneshot::Sender<Result<Output, String>>>,
    },
    /// A stream: what the channel gave and the stream has not taken yet.
    Piped { stream: UnixStream, pending: Vec<u8> },
}

struct Running {
    channel: Channel,
    ends: Ends,
    input_ended: bool,
    done: bool,
}

/// Serves requests until all who could ask are gone.
pub(super) fn serve(session: &Session, socket: TcpStream, inbox: mpsc::Receiver<Request>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // Without a runtime the inbox is dropped here, and whoever asks is told that the connection is closed.
    if let Ok(runtime) = runtime {
        runtime.block_on(pump(session, socket, inbox));
    }
    session.set_blocking(true);
    let _ = session.disconnect(None, "done", None);
}

async fn pump(session: &Session, socket: TcpStream, mut inbox: mpsc::Receiver<Request>) {
    // Only for readiness: libssh2, which has made the descriptor non-blocking, is the one that reads it.
    let Ok(socket) = tokio::net::TcpStream::from_std(socket) else { return };
    session.set_keepalive(false, KEEPALIVE.as_secs() as u32);
    let mut channels: Vec<Running> = Vec::new();
    loop {
        session.set_blocking(false);
        loop {
            let mut moved = false;
            // Each in turn, so that a long upload leaves room for the others.
            for running in &mut channels {
                moved |= running.advance(session);
            }
            if !moved {
                break;
            }
        }
        channels.retain(|running| !running.done);
        tokio::select! {
            request = inbox.recv() => match request {
                Some(request) => channels.extend(open(session, request)),
                None => return,
            },
            ready = socket.readable() => {
                if ready.is_err() {
                    return;
                }
                // What arrives from here on is told again; what is there is read above.
                let _ = socket.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
            }
            () = streams_ready(&channels) => {}
            () = tokio::time::sleep(KEEPALIVE) => {
                session.set_blocking(true);
                let _ = session.keepalive_send();
            }
        }
    }
}

/// Waits until a stream has something to give or takes what waits for it.
async fn streams_ready(channels: &[Running]) {
    let waits: Vec<_> = channels
        .iter()
        .filter_map(|running| match &running.ends {
            Ends::Piped { stream, pending } if !pending.is_empty() => {
                Some(stream.writable().boxed_local())
            }
            Ends::Piped { stream, .. } if !running.input_ended => {
                Some(stream.readable().boxed_local())
            }
            _ => None,
        })
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    let _ = select_all(waits).await;
}

fn open(session: &Session, request: Request) -> Option<Running> {
    session.set_blocking(true);
    let start = |command: &str| {
        let mut channel = session.channel_session()?;
        channel.exec(command)?;
        Ok(channel)
    };
    let (opened, ends, reply) = match request {
        Request::Run { command, input, reply } => {
            let opened: Result<Channel, ssh2::Error> = start(&command);
            match opened {
                Ok(channel) => {
                    let ends = Ends::Collected {
                        input,
                        sent: 0,
                        output: Output::default(),
                        reply: Some(reply),
                    };
                    return Some(Running { channel, ends, input_ended: false, done: false });
                }
                Err(error) => {
                    let _ = reply.send(Err(error.to_string()));
                    return None;
                }
            }
        }
        Request::Command { command, far, reply } => (start(&command), piped(far), reply),
        Request::Port { address, port, far, reply } => {
            (session.channel_direct_tcpip(&address, port, None), piped(far), reply)
        }
    };
    let result = match (opened, ends) {
        (Ok(channel), Ok(ends)) => Ok(Running { channel, ends, input_ended: false, done: false }),
        (Err(error), _) => Err(error.to_string()),
        (_, Err(error)) => Err(error.to_string()),
    };
    match result {
        Ok(running) => {
            let _ = reply.send(Ok(()));
            Some(running)
        }
        Err(why) => {
            let _ = reply.send(Err(why));
            None
        }
    }
}

fn piped(far: StdStream) -> std::io::Result<Ends> {
    Ok(Ends::Piped { stream: UnixStream::from_std(far)?, pending: Vec::new() })
}

impl Running {
    /// Moves what can be moved now; whether anything was.
    fn advance(&mut self, session: &Session) -> bool {
        if self.done {
            return false;
        }
        let moved = match &mut self.ends {
            Ends::Collected { reply, .. }
                if reply.as_ref().is_none_or(oneshot::Sender::is_closed) =>
            {
                self.end(session);
                return true;
            }
            Ends::Collected { .. } => self.advance_collected(session),
            Ends::Piped { .. } => self.advance_piped(session),
        };
        moved.unwrap_or_else(|why| {
            self.fail(session, why);
            true
        })
    }

    fn advance_collected(&mut self, session: &Session) -> Result<bool, String> {
        let Ends::Collected { input, sent, output, .. } = &mut self.ends else { return Ok(false) };
        let mut moved = false;
        if !self.input_ended {
            let rest = &input[*sent..];
            let part = &rest[..rest.len().min(CHUNK)];
            session.set_blocking(true);
            // A command that ended without reading its input says why in its output.
            match self.channel.write(part) {
                Ok(written) if *sent + written < input.len() => *sent += written,
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(error.to_string()),
                _ => {
                    self.input_ended = true;
                    let _ = self.channel.send_eof();
                }
            }
            session.set_blocking(false);
            moved = true;
        }
        let mut buffer = vec![0; CHUNK];
        for is_error in [false, true] {
            let mut stream = self.channel.stream(i32::from(is_error));
            let said = if is_error { &mut output.stderr } else { &mut output.stdout };
            if let Some(count) = read(&mut stream, &mut buffer)? {
                if said.len() + count > SAID_MAX {
                    return Err(format!("a command said more than {} MB", SAID_MAX / 1024 / 1024));
                }
                said.extend_from_slice(&buffer[..count]);
                moved = moved || count > 0;
            }
        }
        if !moved && self.channel.eof() {
            self.end(session);
            return Ok(true);
        }
        Ok(moved)
    }

    fn advance_piped(&mut self, session: &Session) -> Result<bool, String> {
        let Ends::Piped { stream, pending } = &mut self.ends else { return Ok(false) };
        let mut moved = false;
        let mut buffer = vec![0; CHUNK];
        if !self.input_ended {
            match stream.try_read(&mut buffer) {
                Ok(0) => {
                    // Whoever had the stream is gone, and wants no answer any more.
                    self.end(session);
                    return Ok(true);
                }
                Ok(count) => {
                    session.set_blocking(true);
                    let written = self.channel.write_all(&buffer[..count]);
                    session.set_blocking(false);
                    written.map_err(|error| error.to_string())?;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        // What a command says beside its stream would fill the channel's window if nobody read it.
        let _ = read(&mut self.channel.stderr(), &mut buffer)?;
        if pending.is_empty()
            && let Some(count) = read(&mut self.channel, &mut buffer)?
        {
            pending.extend_from_slice(&buffer[..count]);
            moved = moved || count > 0;
        }
        if !pending.is_empty() {
            match stream.try_write(pending) {
                Ok(count) => {
                    pending.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        } else if !moved && self.channel.eof() {
            self.end(session);
            return Ok(true);
        }
        Ok(moved)
    }

    /// Closes the channel, and hands over what a command said.
    fn end(&mut self, session: &Session) {
        self.done = true;
        let Ends::Collected { output, reply, .. } = &mut self.ends else {
            let _ = self.channel.close();
            return;
        };
        let Some(reply) = reply.take().filter(|reply| !reply.is_closed()) else {
            // Nobody waits, and the command may run on: nor is waited for it here.
            let _ = self.channel.close();
            return;
        };
        let mut output = std::mem::take(output);
        session.set_blocking(true);
        let closed = self.channel.close().and_then(|()| self.channel.wait_close());
        session.set_blocking(false);
        let signal = self.channel.exit_signal();
        let signalled = signal.is_ok_and(|signal| signal.exit_signal.is_some());
        output.status = self.channel.exit_status().ok().filter(|_| !signalled);
        let _ = reply.send(closed.map(|()| output).map_err(|error| error.to_string()));
    }

    fn fail(&mut self, session: &Session, why: String) {
        if let Ends::Collected { reply, .. } = &mut self.ends
            && let Some(reply) = reply.take()
        {
            let _ = reply.send(Err(why));
        }
        self.end(session);
    }
}

/// Bytes read, or `None` when there are none now.
fn read(stream: &mut impl std::io::Read, buffer: &mut [u8]) -> Result<Option<usize>, String> {
    match stream.read(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
