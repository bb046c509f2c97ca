//! The load: many connections from one thread, each with so many requests outstanding.
//!
//! A closed loop: a reply is followed by the next request at once. What is measured lies between a warm-up and a
//! ramp-down, with the servers' CPU time taken at both ends.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::process::cpu_seconds;
use crate::wire::{self, Operation};

/// Znodes that are read and set.
pub(crate) const KEYS: usize = 10_000;
const SESSION_MS: i32 = 40_000;
const DRAIN: Duration = Duration::from_secs(60);

/// What the requests of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// All read.
    Get,
    /// All write.
    Set,
    /// All make znodes.
    Create,
    /// Seven of ten read, the others write.
    Mixed,
}

impl Mix {
    /// As the table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Create => "create",
            Self::Mixed => "70:30",
        }
    }

    /// Whether every request waits for the disk.
    pub(crate) fn is_durable(self) -> bool {
        self != Self::Get
    }
}

/// What one run found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Requests answered while it was measured.
    pub(crate) operations: u64,
    /// For how long.
    pub(crate) seconds: f64,
    /// CPU time of the servers in seconds.
    pub(crate) cpu_seconds: f64,
    /// Latencies in µs.
    pub(crate) latency: Histogram<u64>,
}

impl Found {
    /// Another round of the same.
    pub(crate) fn add(&mut self, more: &Self) -> anyhow::Result<()> {
        self.operations += more.operations;
        self.seconds += more.seconds;
        self.cpu_seconds += more.cpu_seconds;
        self.latency.add(&more.latency)?;
        Ok(())
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// CPU seconds a million requests.
    pub(crate) fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.operations.max(1) as f64
    }

    /// Latency in ms at a quantile.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    sent: VecDeque<Instant>,
    xid: i32,
    made: usize,
    random: u64,
}

/// Sessions on one or several servers.
pub(crate) struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    outstanding: usize,
    run: usize,
}

/// How long a server that serves may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session, if the server gives one in so short a time: Apache's takes connections before it serves, and never answers
/// some of those.
pub(crate) fn connect(
    server: SocketAddr,
    patience: Duration,
) -> anyhow::Result<std::net::TcpStream> {
    opened(asked(server, patience)?, server)
}

/// A connection that has asked for a session, in blocking mode.
fn asked(server: SocketAddr, patience: Duration) -> anyhow::Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&wire::connect(SESSION_MS))?;
    Ok(stream)
}

/// The connection when it has its session.
fn opened(
    mut stream: std::net::TcpStream,
    server: SocketAddr,
) -> anyhow::Result<std::net::TcpStream> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    ensure!(body.get(8..16) != Some(&[0; 8]), "{server} refused a session");
    Ok(stream)
}

/// Sessions, one server after the other, many asked for at a time: each waits for the disk.
pub(crate) fn connect_all(
    servers: &[SocketAddr],
    count: usize,
) -> anyhow::Result<Vec<std::net::TcpStream>> {
    const AT_ONCE: usize = 250;
    let mut all = Vec::with_capacity(count);
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let servers = numbers.iter().map(|number| servers[number % servers.len()]);
        let asked: Vec<_> = servers
            .map(|server| asked(server, PATIENCE).map(|stream| (stream, server)))
            .collect::<Result<_, _>>()?;
        for (stream, server) in asked {
            all.push(opened(stream, server)?);
        }
    }
    Ok(all)
}

impl Load {
    /// Opens sessions, one server after the other. `run` names the znodes that are made.
    pub(crate) fn open(
        servers: &[SocketAddr],
        connections: usize,
        outstanding: usize,
        run: usize,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut all = Vec::with_capacity(connections);
        for (index, stream) in connect_all(servers, connections)?.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), interest)?;
            all.push(Connection {
                stream,
                out: Vec::new(),
                written: 0,
                input: Vec::with_capacity(16 * 1024),
                sent: VecDeque::new(),
                xid: 0,
                made: 0,
                random: 0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1),
            });
        }
        Ok(Self { poll, connections: all, outstanding, run })
    }

    /// Runs for `warm` unmeasured and `measured`; `pids` are the servers'.
    pub(crate) fn run(
        &mut self,
        mix: Mix,
        warm: Duration,
        measured: Duration,
        pids: &[u32],
    ) -> anyhow::Result<Found> {
        let run = self.run;
        let next = move |index: usize, connection: &mut Connection| {
            let random = connection.random();
            let operation = match mix {
                Mix::Get => Operation::Get,
                Mix::Set => Operation::Set,
                Mix::Create => Operation::Create,
                Mix::Mixed if (random >> 40) % 10 < 7 => Operation::Get,
                Mix::Mixed => Operation::Set,
            };
            if operation == Operation::Create {
                connection.made += 1;
                Some((operation, made(run, index, connection.made)))
            } else {
                Some((operation, key(random as usize % KEYS)))
            }
        };
        self.pump(next, Some((warm, measured)), pids)
    }

    /// Deletes what [`Load::run`] made.
    pub(crate) fn clean(&mut self) -> anyhow::Result<()> {
        let run = self.run;
        self.outstanding = self.outstanding.max(2000 / self.connections.len());
        let next = move |index: usize, connection: &mut Connection| {
            let path = made(run, index, connection.made);
            connection.made = connection.made.checked_sub(1)?;
            Some((Operation::Delete, path))
        };
        self.pump(next, None, &[]).map(drop)
    }

    /// Makes znodes, `count` of them in all.
    pub(crate) fn make(
        &mut self,
        count: usize,
        path: impl Fn(usize) -> String,
    ) -> anyhow::Result<Found> {
        let mut begun = 0;
        let next = move |_: usize, _: &mut Connection| {
            (begun < count).then(|| {
                begun += 1;
                (Operation::Create, path(begun - 1))
            })
        };
        self.pump(next, None, &[])
    }

    /// Sends what `next` says until the time is over or it has nothing more, and waits for all replies.
    fn pump(
        &mut self,
        mut next: impl FnMut(usize, &mut Connection) -> Option<(Operation, String)>,
        times: Option<(Duration, Duration)>,
        pids: &[u32],
    ) -> anyhow::Result<Found> {
        let begin = Instant::now();
        let warm_end = times.map(|(warm, _)| begin + warm);
        let end = times.map(|(warm, measured)| begin + warm + measured);
        let mut latency = Histogram::new_with_bounds(1, 120_000_000, 3)?;
        let (mut cpu_begin, mut measured_from) = (cpu_seconds(pids)?, begin);
        let mut is_measured = warm_end.is_none();
        let mut finish: Option<(Instant, f64)> = None;
        let mut operations = 0;
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            for _ in 0..self.outstanding {
                connection.ask(index, &mut next, begin);
            }
            connection.flush()?;
        }
        let mut events = Events::with_capacity(1024);
        while self.connections.iter().any(|connection| !connection.sent.is_empty()) {
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            let now = Instant::now();
            if !is_measured && warm_end.is_some_and(|warm_end| now >= warm_end) {
                is_measured = true;
                (cpu_begin, measured_from) = (cpu_seconds(pids)?, now);
            }
            if finish.is_none() && end.is_some_and(|end| now >= end) {
                finish = Some((now, cpu_seconds(pids)?));
            }
            if finish.is_some_and(|(finish, _)| now > finish + DRAIN) {
                bail!("some requests were not answered within {DRAIN:?}");
            }
            for event in &events {
                let index = event.token().0;
                let connection = &mut self.connections[index];
                let received = if event.is_readable() { connection.receive()? } else { false };
                if !received {
                    connection.flush()?;
                    continue;
                }
                let now = Instant::now();
                let mut at = 0;
                while let Some(length) = wire::whole(&connection.input[at..]) {
                    let (xid, code) = wire::reply(&connection.input[at..at + length])
                        .context("a reply without a header")?;
                    at += length;
                    if xid < 0 {
                        continue;
                    }
                    ensure!(code == 0, "a request failed with {code}");
                    let sent = connection.sent.pop_front().context("a reply to no request")?;
                    if is_measured && finish.is_none() {
                        operations += 1;
                        latency.saturating_record((now - sent).as_micros() as u64);
                    }
                    if finish.is_none() {
                        connection.ask(index, &mut next, now);
                    }
                }
                connection.input.drain(..at);
                connection.flush()?;
            }
        }
        let (finish, cpu_end) = match finish {
            Some(finish) => finish,
            None => (Instant::now(), cpu_seconds(pids)?),
        };
        Ok(Found {
            operations,
            seconds: (finish - measured_from).as_secs_f64(),
            cpu_seconds: cpu_end - cpu_begin,
            latency,
        })
    }
}

/// A znode that is read and set.
pub(crate) fn key(number: usize) -> String {
    format!("/bench/key{number:05}")
}

fn made(run: usize, connection: usize, number: usize) -> String {
    format!("/bench/made{run}-{connection}-{number:07}")
}

impl Connection {
    /// xorshift64.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn ask(
        &mut self,
        index: usize,
        next: &mut impl FnMut(usize, &mut Self) -> Option<(Operation, String)>,
        now: Instant,
    ) {
        let Some((operation, path)) = next(index, self) else { return };
        self.xid = (self.xid + 1) & i32::MAX;
        wire::request(&mut self.out, self.xid, operation, &path);
        self.sent.push_back(now);
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// False if nothing came.
    fn receive(&mut self) -> anyhow::Result<bool> {
        let mut received = false;
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(length) => {
                    received = true;
                    self.input.extend_from_slice(&chunk[..length]);
                    if length < chunk.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(received),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
