//! The limits: a server that frames and replies without a database, and a file that is only synced.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jute::Writer;
use jute::records::{Stat, StatPersisted};
use jute::request::opcode;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::wire;

const LISTENER: Token = Token(usize::MAX);
/// What a set of 100 bytes takes in a log, roughly.
const ENTRY: usize = 200;

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    out: Vec<u8>,
    is_open: bool,
}

/// Answers every request as if it had done it. Writes of a wake-up are written and synced together before any of its
/// replies, in the file `log`.
pub(crate) fn serve(port: u16, log: &Path) -> anyhow::Result<()> {
    let file = preallocated(log)?;
    let mut at = 0;
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: HashMap<usize, Connection> = HashMap::new();
    let mut number = 0;
    let mut events = Events::with_capacity(1024);
    let (mut batch, mut waiting) = (Vec::new(), Vec::new());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(number), interest)?;
                    let (input, out) = (Vec::new(), Vec::new());
                    connections.insert(number, Connection { stream, input, out, is_open: false });
                    number += 1;
                }
                continue;
            }
            let index = event.token().0;
            let Some(connection) = connections.get_mut(&index) else { continue };
            match connection.receive(&mut batch) {
                Ok(()) => waiting.push(index),
                Err(_) => drop(connections.remove(&index)),
            }
        }
        if !batch.is_empty() {
            file.write_all_at(&batch, at)?;
            file.sync_data()?;
            at = (at + batch.len() as u64) % (SIZE - (4 << 20));
            batch.clear();
        }
        for index in waiting.drain(..) {
            if connections.get_mut(&index).is_some_and(|connection| connection.flush().is_err()) {
                connections.remove(&index);
            }
        }
    }
}

const SIZE: u64 = 64 << 20;

fn preallocated(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.set_len(SIZE)?;
    file.sync_all()?;
    Ok(file)
}

impl Connection {
    fn receive(&mut self, batch: &mut Vec<u8>) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.input.extend_from_slice(&chunk[..length]);
                    if length < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut at = 0;
        while let Some(length) = wire::whole(&self.input[at..]) {
            let frame = &self.input[at + 4..at + length];
            let mut reply = Writer::new();
            if self.is_open {
                answer(frame, &mut reply, batch);
            } else {
                self.is_open = true;
                reply.int(0).int(40_000).long(1).buffer(Some(&[0; 16])).boolean(false);
            }
            self.out.extend_from_slice(&(reply.as_bytes().len() as u32).to_be_bytes());
            self.out.extend_from_slice(reply.as_bytes());
            at += length;
        }
        self.input.drain(..at);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..written);
        Ok(())
    }
}

fn answer(frame: &[u8], reply: &mut Writer, batch: &mut Vec<u8>) {
    let mut reader = jute::Reader::new(frame);
    let (Ok(xid), Ok(kind)) = (reader.int(), reader.int()) else { return };
    reply.int(xid).long(1).int(0);
    let stat = Stat { persisted: StatPersisted::default(), data_length: 100, num_children: 0 };
    match kind {
        opcode::GET_DATA => {
            reply.buffer(Some(&wire::DATA));
            stat.write(reply);
        }
        opcode::SET_DATA => stat.write(reply),
        opcode::CREATE => {
            reply.buffer(reader.buffer().unwrap_or_default());
        }
        _ => {}
    }
    if kind != opcode::GET_DATA {
        batch.resize(batch.len() + ENTRY, 1);
    }
}

/// Entries a second that a file takes, so many with each sync.
pub(crate) fn synced_rate(directory: &Path, entries: usize, time: Duration) -> anyhow::Result<f64> {
    let path: PathBuf = directory.join("synced");
    let file = preallocated(&path)?;
    let batch = vec![1; entries * ENTRY];
    let (begin, mut at, mut syncs) = (Instant::now(), 0, 0_u64);
    while begin.elapsed() < time {
        file.write_all_at(&batch, at)?;
        file.sync_data()?;
        at = (at + batch.len() as u64) % (SIZE - batch.len() as u64);
        syncs += 1;
    }
    let rate = (syncs * entries as u64) as f64 / begin.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
