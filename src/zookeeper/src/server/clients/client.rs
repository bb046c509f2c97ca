//! One client: the frames that its socket brings, and the replies that it takes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use jute::request::opcode;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::flow::{Flow, Permit, REQUESTS_MAX};
use super::{Arrival, Frames, Spare, UNREAD_MAX, UNREAD_PAUSE, UNREAD_TOTAL, WRITE_STALL};
use crate::metrics::Counter;
use crate::server::peer::Peer;
use crate::stream::Stream;

/// What a client's turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing is left of what has come, or the client must read first: it rings when there is something to do.
    Done,
    /// There may be more, after the others' turns.
    More,
    /// There is no room for its next request.
    NoRoom,
    /// The connection has ended.
    Over,
}

/// Where a client is in the row of those that wait for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody is before it.
    First,
    /// Others have waited for longer.
    Behind,
    /// The same, but it has waited for long.
    Patient,
}

/// A connection of a client that has asked for a session.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    address: SocketAddr,
    flow: Arc<Flow>,
    waker: Waker,
    /// What has come of the next frames.
    input: BytesMut,
    /// When the last of it came.
    began: Instant,
    /// No frame has been taken yet.
    is_first: bool,
    /// Since when its next request waits for room.
    waits: Option<Instant>,
    /// It is among the patient.
    pub(super) is_patient: bool,
    /// Requests that it has taken since it is the first in the row.
    pub(super) taken: usize,
    /// Replies that are still to be written.
    output: BytesMut,
    /// Since when the socket takes nothing of them.
    stalled: Option<Instant>,
    /// It ends when all is written.
    is_closing: bool,
    /// Its socket has refused something.
    is_broken: bool,
    /// Of requests that wait for another server.
    kept: VecDeque<Permit>,
    _counted: super::Counted,
}

impl Client {
    pub(super) fn new(arrival: Arrival, flow: Arc<Flow>) -> Self {
        let Arrival { stream, input, address, counted } = arrival;
        let waker = Waker::from(flow.clone());
        Self {
            stream,
            address,
            flow,
            waker,
            input,
            began: Instant::now(),
            is_first: true,
            waits: None,
            is_patient: false,
            taken: 0,
            output: BytesMut::new(),
            stalled: None,
            is_closing: false,
            is_broken: false,
            kept: VecDeque::new(),
            _counted: counted,
        }
    }

    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Whether it has been closed, and only takes what is left for it.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Whether it takes nothing of what it is sent.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.stalled.is_some_and(|since| now.saturating_duration_since(since) > WRITE_STALL)
    }

    /// Whether its socket has refused something.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether some of what it was sent waits for its socket.
    pub(super) fn is_left(&self) -> bool {
        self.stalled.is_some()
    }

    /// Takes the frames that have come, as long as there is room for them and nobody is overtaken who waits for it. Where
    /// that is not so, one is taken all the same if none is under way: of a client that asks for one thing at a time, and
    /// of one that has waited for long.
    pub(super) fn receive(
        &mut self,
        scratch: &mut [u8],
        frames: &mut Frames,
        frame_max: usize,
        place: Place,
        mut take: impl FnMut(Bytes, Permit),
    ) -> Turn {
        // What was read last, where nothing was left of what came before.
        let mut fresh: &[u8] = &[];
        let mut is_full = false;
        loop {
            loop {
                let ahead: &[u8] = if self.input.is_empty() { fresh } else { &self.input };
                let Some((header, rest)) = ahead.split_first_chunk() else { break };
                let length = u32::from_be_bytes(*header) as usize;
                if length > frame_max {
                    self.refuse(&format_args!("unreasonable length = {length}"));
                    return Turn::Over;
                }
                let Some(frame) = rest.get(..length) else { break };
                let (gate, own) = (self.flow.gate(), self.flow.under_way());
                let is_favoured = rest.len() == length || place == Place::Patient;
                let turn = if own >= REQUESTS_MAX || self.output.len() > UNREAD_PAUSE {
                    Some(Turn::Done)
                } else if (place == Place::First && gate.has_room(own.max(1)))
                    || (own == 0 && is_favoured && gate.has_room(0))
                {
                    None
                } else {
                    if self.waits.is_none() {
                        gate.metrics().count(Counter::RequestThrottleWaitCount);
                        self.waits = Some(Instant::now());
                    }
                    Some(Turn::NoRoom)
                };
                if let Some(turn) = turn {
                    self.input.extend_from_slice(fresh);
                    return turn;
                }
                let is_write = is_write(self.is_first, frame);
                let waited = self.waits.take().map(|since| since.elapsed());
                let entered = gate.enter(frame, waited);
                let frame = if self.input.is_empty() {
                    let frame = frames.put(frame);
                    fresh = &fresh[header.len() + length..];
                    frame
                } else {
                    let mut frame = self.input.split_to(header.len() + length).freeze();
                    frame.advance(size_of::<u32>());
                    frame
                };
                match entered {
                    Ok(entered) => {
                        self.is_first = false;
                        self.flow.gate().metrics().add(Counter::BytesReceivedCount, length as u64);
                        take(frame, Permit::new(&self.flow, entered, self.began, is_write));
                    }
                    Err(error) => {
                        self.refuse(&error);
                        return Turn::Over;
                    }
                }
            }
            self.input.extend_from_slice(fresh);
            if self.input.is_empty() {
                // Requests hold what they came in; nothing is held for those to come.
                self.input = BytesMut::new();
            }
            if is_full {
                return Turn::More;
            }
            let mut arrived = ReadBuf::new(scratch);
            let mut context = Context::from_waker(&self.waker);
            match Pin::new(&mut self.stream).poll_read(&mut context, &mut arrived) {
                Poll::Pending => return Turn::Done,
                Poll::Ready(Ok(())) if !arrived.filled().is_empty() => {}
                // Clients that go away are no event, but counted.
                Poll::Ready(_) => {
                    self.flow.gate().gone();
                    return Turn::Over;
                }
            }
            is_full = arrived.remaining() == 0;
            self.began = Instant::now();
            let filled = arrived.filled().len();
            fresh = &scratch[..filled];
            if !self.input.is_empty() {
                self.input.extend_from_slice(fresh);
                fresh = &[];
            }
        }
    }

    /// Whether there is room for a client that is the first in the row of those that wait.
    pub(super) fn has_room(&self) -> bool {
        self.flow.gate().has_room(self.flow.under_way().max(1))
    }

    fn refuse(&self, reason: &dyn std::fmt::Display) {
        let name = Peer::plain(self.address).name();
        tracing::warn!("closing a connection of {name}: {reason}");
    }

    /// Puts a frame's body behind what is still to be sent: [`Client::write`] sends it. False if too much waits already.
    pub(super) fn push(&mut self, frame: &[u8], spare: &mut Spare) -> bool {
        let (bytes, own) = (frame.len() + 4, self.output.len());
        let all = self.flow.gate().unread.load(Ordering::Relaxed);
        if own > UNREAD_MAX || (all > UNREAD_TOTAL && own > UNREAD_PAUSE) {
            return false;
        }
        self.flow.gate().unread.fetch_add(bytes, Ordering::Relaxed);
        if self.output.capacity() == 0 {
            self.output = spare.take();
        }
        self.output.reserve(bytes);
        self.output.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.output.extend_from_slice(frame);
        true
    }

    /// Writes what the socket takes; it rings when it takes more. Ends the connection behind that if it is closing.
    pub(super) fn write(&mut self, spare: &mut Spare) -> Turn {
        let before = self.output.len();
        let mut context = Context::from_waker(&self.waker);
        let mut stream = Pin::new(&mut self.stream);
        let mut written = 0;
        let mut polled = loop {
            if written == before {
                break stream.as_mut().poll_flush(&mut context);
            }
            match stream.as_mut().poll_write(&mut context, &self.output[written..]) {
                Poll::Ready(Ok(count)) if count > 0 => written += count,
                Poll::Ready(_) => {
                    self.is_broken = true;
                    self.flow.ring();
                    return Turn::Over;
                }
                Poll::Pending => break Poll::Pending,
            }
        };
        if polled.is_ready() && self.is_closing {
            polled = stream.poll_shutdown(&mut context);
        }
        self.flow.gate().unread.fetch_sub(written, Ordering::Relaxed);
        if written == before {
            spare.keep(std::mem::take(&mut self.output));
        } else {
            self.output.advance(written);
        }
        if before > UNREAD_PAUSE && self.output.len() <= UNREAD_PAUSE {
            self.flow.ring();
        }
        match polled {
            Poll::Pending => {
                let now = Instant::now();
                let since = self.stalled.filter(|_| written == 0).unwrap_or(now);
                self.stalled = Some(since);
                Turn::Done
            }
            Poll::Ready(Ok(())) if !self.is_closing => {
                self.stalled = None;
                Turn::Done
            }
            Poll::Ready(_) => Turn::Over,
        }
    }

    /// Ends the connection after what it was sent.
    pub(super) fn close(&mut self, spare: &mut Spare) -> Turn {
        self.is_closing = true;
        self.kept.clear();
        self.write(spare)
    }

    /// Keeps the permit of a request that waits for another server, until [`Client::kept`] or the end.
    pub(super) fn keep(&mut self, permit: Permit) {
        self.kept.push_back(permit);
    }

    /// The permit that is kept for longest.
    pub(super) fn kept(&mut self) -> Option<Permit> {
        self.kept.pop_front()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.flow.gate().unread.fetch_sub(self.output.len(), Ordering::Relaxed);
    }
}

/// Whether a frame asks for a transaction: as every connection's first does, which asks for a session.
fn is_write(is_first: bool, frame: &[u8]) -> bool {
    let code = frame.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    is_first || code.is_some_and(opcode::is_write)
}
