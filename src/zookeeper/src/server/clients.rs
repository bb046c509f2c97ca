//! Clients' connections, all served by the server's own task: it reads what has come on many of them, carries it out as
//! one batch, and writes the replies. None of them has a task or a queue of its own, and an idle one holds no buffer.
//!
//! A socket that can be read or written rings a bell; the connections that have rung get their turns in that order.
//! Where more requests are under way than may be, connections wait in a row for room, and none overtakes those before:
//! the first in the row has room for all that it has sent, then it is the next one's turn. Whoever has nothing under way
//! does not wait for long, though: one request at a time has room, and the place in the row stays.

mod client;
mod flow;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

use super::Input;
use super::connection::Counted;
use crate::core::ConnectionId;
use crate::metrics::Counter;
use crate::stream::Stream;
use crate::throttle::Gate;
use client::{Client, Place, Turn};
pub(crate) use flow::Permit;
use flow::{Due, Flow, REQUESTS_MAX};

/// A connection with this many bytes still to be read by the client is not read itself.
const UNREAD_PAUSE: usize = 1 << 20;
/// A connection with this many bytes still to be read by the client (events, for the most part) is cut off.
const UNREAD_MAX: usize = 128 << 20;
/// Bytes that all clients together have still to read, beyond which those that read slowly are cut off.
const UNREAD_TOTAL: usize = 1 << 30;
/// A client that takes nothing for this long is cut off.
pub(super) const WRITE_STALL: Duration = Duration::from_secs(30);
/// A client with nothing under way does not wait for room for longer.
const PATIENCE: Duration = Duration::from_millis(100);
/// Where connections are read into, so that none of them holds room for what may come.
const SCRATCH: usize = 64 * 1024;
/// Requests are put into pieces of memory of so many bytes, as many as there is room for.
const PIECE: usize = 16 * 1024;
/// Buffers that are kept for replies to come, and the largest of them in bytes.
const SPARE_MAX: (usize, usize) = (128, 16 * 1024);

/// A connection on which a session is asked for.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The socket.
    pub(super) stream: Stream,
    /// Its first frame, and what came behind.
    pub(super) input: BytesMut,
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// It counts among all connections.
    pub(super) counted: Counted,
}

/// Empty buffers.
#[derive(Debug, Default)]
struct Spare(Vec<BytesMut>);

impl Spare {
    fn take(&mut self) -> BytesMut {
        self.0.pop().unwrap_or_default()
    }

    fn keep(&mut self, mut buffer: BytesMut) {
        if self.0.len() < SPARE_MAX.0 && (1..=SPARE_MAX.1).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// Where requests are while they are carried out: small ones share a piece of memory, which is used again when all of
/// them are done.
#[derive(Debug, Default)]
struct Frames(BytesMut);

impl Frames {
    fn put(&mut self, frame: &[u8]) -> Bytes {
        if frame.len() >= PIECE / 4 {
            return Bytes::copy_from_slice(frame);
        }
        if self.0.capacity() < frame.len() {
            self.0.reserve(PIECE);
        }
        self.0.extend_from_slice(frame);
        self.0.split().freeze()
    }
}

/// All connections that have asked for a session.
#[derive(Debug)]
pub(super) struct Clients {
    all: HashMap<ConnectionId, Client>,
    due: Arc<Due>,
    /// Those that have rung, until their turn.
    turns: VecDeque<ConnectionId>,
    /// Those whose next request waits for room.
    waiting: VecDeque<ConnectionId>,
    /// The same, and since when they have been patient: then one request of theirs has room whatever is under way.
    patient: VecDeque<(Instant, ConnectionId)>,
    patience: Duration,
    /// Those with something to be written at the end of this batch.
    touched: Vec<ConnectionId>,
    scratch: Box<[u8]>,
    frames: Frames,
    spare: Spare,
    gate: Arc<Gate>,
    frame_max: usize,
}

impl Clients {
    pub(super) fn new(gate: Arc<Gate>, frame_max: usize) -> Self {
        Self {
            all: HashMap::new(),
            due: Arc::default(),
            turns: VecDeque::new(),
            waiting: VecDeque::new(),
            patient: VecDeque::new(),
            patience: PATIENCE,
            touched: Vec::new(),
            scratch: vec![0; SCRATCH].into(),
            frames: Frames::default(),
            spare: Spare::default(),
            gate,
            frame_max,
        }
    }

    /// Serves a connection from now on.
    pub(super) fn open(&mut self, id: ConnectionId, arrival: Arrival) {
        let flow = Flow::new(id, self.due.clone(), self.gate.clone());
        // Its first frame is there.
        flow.ring();
        self.all.insert(id, Client::new(arrival, flow));
    }

    /// Requests under way: what clients wait for.
    pub(super) fn under_way(&self) -> usize {
        self.gate.under_way()
    }

    /// So many voters share the limit of requests under way.
    pub(super) fn share_limit(&self, voters: usize) {
        self.gate.share(voters);
    }

    /// Waits until there may be something to do.
    pub(super) async fn rung(&self) {
        self.due.rung().await;
    }

    /// Whether connections have rung since the last turns were given out.
    pub(super) fn have_rung(&self) -> bool {
        self.due.is_some()
    }

    /// Whether connections that have rung before still wait for their turn, or such as waited for room have it.
    pub(super) fn are_due(&self) -> bool {
        !self.turns.is_empty() || self.first_has_room() || self.first_has_waited()
    }

    /// Whether there is room for what the first in the row waits with; it may be gone.
    fn first_has_room(&self) -> bool {
        let has_room = |id| self.all.get(id).is_none_or(Client::has_room);
        self.waiting.front().is_some_and(has_room)
    }

    /// Whether the first of the patient has been so for long; it may wait no more, or be gone.
    fn first_has_waited(&self) -> bool {
        self.patient.front().is_some_and(|(since, _)| since.elapsed() > self.patience)
    }

    /// Takes requests, and a little more than `max` at most: those that have waited for room first, then those whose
    /// turn it is.
    pub(super) fn receive(&mut self, batch: &mut Vec<Input>, max: usize) {
        while batch.len() < max
            && self.first_has_room()
            && let Some(id) = self.waiting.pop_front()
        {
            if let Some(client) = self.all.get(&id) {
                client.flow().is_waiting.store(false, Ordering::Relaxed);
                self.turn(id, Place::First, batch);
            }
        }
        while batch.len() < max
            && self.first_has_waited()
            && let Some((_, id)) = self.patient.pop_front()
        {
            let Some(client) = self.all.get_mut(&id) else { continue };
            client.is_patient = false;
            if client.flow().is_waiting.load(Ordering::Relaxed) {
                self.turn(id, Place::Patient, batch);
                self.be_patient(id);
            }
        }
        if self.turns.is_empty() {
            self.due.take(&mut self.turns);
        }
        while batch.len() < max
            && let Some(id) = self.turns.pop_front()
        {
            let place = if self.waiting.is_empty() { Place::First } else { Place::Behind };
            self.turn(id, place, batch);
        }
    }

    fn turn(&mut self, id: ConnectionId, place: Place, batch: &mut Vec<Input>) {
        let Some(client) = self.all.get_mut(&id) else { return };
        client.flow().answer();
        let mut turn = match () {
            () if client.is_broken() => Turn::Over,
            () if client.is_left() => client.write(&mut self.spare),
            () => Turn::Done,
        };
        let before = batch.len();
        if turn == Turn::Done && !client.is_closing() {
            let take = |frame, permit| batch.push(Input::Frame(id, frame, permit));
            let (scratch, frames) = (&mut self.scratch, &mut self.frames);
            turn = client.receive(scratch, frames, self.frame_max, place, take);
        }
        client.taken += batch.len() - before;
        match turn {
            Turn::Done => client.taken = 0,
            Turn::More => {
                client.taken = 0;
                client.flow().ring();
            }
            Turn::NoRoom => {
                if !client.flow().is_waiting.swap(true, Ordering::Relaxed) {
                    if place == Place::First && (1..REQUESTS_MAX).contains(&client.taken) {
                        self.waiting.push_front(id);
                    } else {
                        client.taken = 0;
                        self.waiting.push_back(id);
                    }
                    self.be_patient(id);
                }
            }
            Turn::Over => {
                if self.all.remove(&id).is_some_and(|client| !client.is_closing()) {
                    batch.push(Input::Closed(id));
                }
            }
        }
    }

    /// Has one that waits for room wait among the patient, if it does not yet.
    fn be_patient(&mut self, id: ConnectionId) {
        if let Some(client) = self.all.get_mut(&id)
            && client.flow().is_waiting.load(Ordering::Relaxed)
            && !std::mem::replace(&mut client.is_patient, true)
        {
            self.patient.push_back((Instant::now(), id));
        }
    }

    /// Sends a frame's body with the next [`Clients::flush`]. False if so much waits to be read by the client already
    /// that it is cut off.
    pub(super) fn send(&mut self, id: ConnectionId, frame: &[u8]) -> bool {
        let Some(client) = self.all.get_mut(&id).filter(|client| !client.is_closing()) else {
            return true;
        };
        if !client.push(frame, &mut self.spare) {
            self.all.remove(&id);
            return false;
        }
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
        true
    }

    /// Keeps the permit of a request that waits for another server, behind those that are kept already.
    pub(super) fn keep(&mut self, id: ConnectionId, permit: Permit) {
        if let Some(client) = self.all.get_mut(&id) {
            client.keep(permit);
        }
    }

    /// The permit that is kept for longest, of the request that is answered now.
    pub(super) fn kept(&mut self, id: ConnectionId) -> Option<Permit> {
        self.all.get_mut(&id).and_then(Client::kept)
    }

    /// Writes what was sent.
    pub(super) fn flush(&mut self) {
        for id in self.touched.drain(..) {
            // One whose socket takes no more rings when it does, and when it is broken.
            if let Some(client) = self.all.get_mut(&id).filter(|client| !client.is_left()) {
                client.write(&mut self.spare);
            }
        }
    }

    /// Ends a connection after what was sent on it.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(client) = self.all.get_mut(&id)
            && client.close(&mut self.spare) == Turn::Over
        {
            self.all.remove(&id);
        }
    }

    /// Ends all connections after what was sent on them.
    pub(super) fn clear(&mut self) {
        self.all.retain(|_, client| client.close(&mut self.spare) != Turn::Over);
    }

    /// Cuts off those that take nothing of what they are sent; which of them were not being closed.
    pub(super) fn cut_stalled(&mut self) -> Vec<ConnectionId> {
        let now = Instant::now();
        let stalled = self.all.extract_if(|_, client| client.is_stalled(now));
        let metrics = self.gate.metrics();
        stalled
            .inspect(|_| metrics.count(Counter::SlowClientsEvicted))
            .filter(|(_, client)| !client.is_closing())
            .map(|(id, _)| id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn clients(lines: &str) -> Clients {
        let text = format!("dataDir=/d\nclientPort=1\n{lines}");
        let config = crate::Config::parse(Path::new("zoo.cfg"), &text).unwrap();
        Clients::new(Gate::new(config.limits, Arc::default(), 1), config.frame_max)
    }

    /// Frames of two bytes.
    fn frames(count: usize) -> BytesMut {
        [0, 0, 0, 2, 8, 9].repeat(count).as_slice().into()
    }

    /// A client that has sent so many frames.
    async fn connect(clients: &mut Clients, id: u64, count: usize) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let counted = Counted::alone(address.ip());
        let arrival = Arrival { stream: stream.into(), input: frames(count), address, counted };
        clients.open(ConnectionId(id), arrival);
        client
    }

    /// Waits until one has rung indeed.
    async fn rung(clients: &Clients) {
        while !clients.have_rung() {
            clients.rung().await;
        }
    }

    fn received(clients: &mut Clients) -> Vec<(u64, Permit)> {
        let mut batch = Vec::new();
        clients.receive(&mut batch, usize::MAX);
        let one = |input| match input {
            Input::Frame(ConnectionId(id), frame, permit) => {
                assert_eq!(&frame[..], [8, 9]);
                (id, permit)
            }
            _ => panic!("a connection has ended"),
        };
        batch.into_iter().map(one).collect()
    }

    /// Whose requests are taken, in order, when three clients have sent so many each and few have room.
    async fn order(count: usize) -> Vec<u64> {
        let mut clients = clients("globalOutstandingLimit=2");
        clients.patience = Duration::MAX;
        let _clients = [
            connect(&mut clients, 1, count).await,
            connect(&mut clients, 2, count).await,
            connect(&mut clients, 3, count).await,
        ];
        let mut order = Vec::new();
        while order.len() < 3 * count {
            let some = received(&mut clients);
            assert!((1..=3).contains(&some.len()), "{order:?}");
            order.extend(some.iter().map(|(id, _)| *id));
        }
        assert_eq!(clients.gate.under_way(), 0);
        order
    }

    #[tokio::test]
    async fn whoever_has_its_turn_has_room_for_all_that_it_sent() {
        assert_eq!(order(20).await, [[1; 20], [2; 20], [3; 20]].concat());
    }

    #[tokio::test]
    async fn turns_are_bounded() {
        let order = order(1000).await;
        let turns: Vec<usize> = order[..2700].chunk_by(PartialEq::eq).map(<[u64]>::len).collect();
        let whole = &turns[..turns.len() - 1];
        assert!(
            whole.iter().all(|turn| (REQUESTS_MAX..REQUESTS_MAX + 3).contains(turn)),
            "{turns:?}"
        );
        assert!([1, 2, 3].iter().all(|id| order.iter().filter(|one| *one == id).count() == 1000));
    }

    #[tokio::test]
    async fn whoever_asks_for_one_thing_at_a_time_has_room_though_others_hold_it_all() {
        let mut clients = clients("globalOutstandingLimit=1");
        let _hog = connect(&mut clients, 1, 5).await;
        let held = received(&mut clients);
        assert_eq!(held.len(), 2);
        let mut other = connect(&mut clients, 2, 1).await;
        for _ in 0..5 {
            let one = received(&mut clients);
            assert_eq!(one.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2]);
            other.write_all(&frames(1)).await.unwrap();
            rung(&clients).await;
            assert!(received(&mut clients).is_empty(), "now it has something under way");
            drop(one);
            assert!(clients.have_rung());
        }
        assert_eq!(received(&mut clients).len(), 1);
        assert!(!clients.are_due());
        drop(held);
        assert!(clients.are_due());
        assert_eq!(received(&mut clients).len(), 2);
    }

    #[tokio::test]
    async fn whoever_asks_for_much_waits_for_its_turn_but_not_for_long() {
        let mut clients = clients("globalOutstandingLimit=1");
        let _hog = connect(&mut clients, 1, 2).await;
        let held = received(&mut clients);
        assert_eq!(held.len(), 2);
        let began = Instant::now();
        let _other = connect(&mut clients, 2, 5).await;
        let one = loop {
            let some = received(&mut clients);
            if !some.is_empty() {
                break some;
            }
            assert!(began.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(one.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2]);
    }

    #[tokio::test]
    async fn one_connection_has_only_so_many_requests_under_way() {
        let mut clients = clients("");
        let mut client = connect(&mut clients, 1, 100).await;
        let held = received(&mut clients);
        assert_eq!(held.len(), flow::REQUESTS_MAX);
        assert!(received(&mut clients).is_empty() && !clients.have_rung());
        drop(held);
        rung(&clients).await;
        assert_eq!(received(&mut clients).len(), 100 - flow::REQUESTS_MAX);
        // Both halves of one come one after the other.
        for (half, count) in [(&[0, 0, 0][..], 0), (&[2, 8, 9], 1)] {
            client.write_all(half).await.unwrap();
            rung(&clients).await;
            assert_eq!(received(&mut clients).len(), count);
        }
    }

    #[tokio::test]
    async fn who_waits_for_another_server_keeps_the_room_until_it_is_answered_or_gone() {
        let mut clients = clients("globalOutstandingLimit=1");
        let _client = connect(&mut clients, 1, 4).await;
        for (id, permit) in received(&mut clients) {
            clients.keep(ConnectionId(id), permit);
        }
        assert_eq!(clients.under_way(), 2);
        assert!(received(&mut clients).is_empty());
        assert!(clients.kept(ConnectionId(1)).is_some());
        for (id, permit) in received(&mut clients) {
            clients.keep(ConnectionId(id), permit);
        }
        assert_eq!(clients.under_way(), 2, "one more had room");
        clients.close(ConnectionId(1));
        assert_eq!(clients.under_way(), 0);
        assert!(clients.kept(ConnectionId(1)).is_none());
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_follows_when_it_does_in_order_and_then_it_ends() {
        let mut clients = clients("");
        let mut client = connect(&mut clients, 1, 0).await;
        let frames: Vec<Vec<u8>> = (0..64).map(|number: u8| vec![number; 256 * 1024]).collect();
        let mut sent = Vec::new();
        for frame in &frames {
            sent.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            sent.extend_from_slice(frame);
        }
        let send_all = |clients: &mut Clients| {
            for frame in &frames {
                assert!(clients.send(ConnectionId(1), frame));
                clients.flush();
            }
            assert!(clients.gate.unread.load(Ordering::Relaxed) > UNREAD_PAUSE);
        };
        send_all(&mut clients);
        client.write_all(&[0, 0, 0, 2, 8, 9]).await.unwrap();
        assert!(received(&mut clients).is_empty(), "a client that does not read is not read");
        let mut all = vec![0; sent.len()];
        let reading = tokio::spawn(async move {
            client.read_exact(&mut all).await.unwrap();
            (client, all)
        });
        while received(&mut clients).is_empty() {
            clients.rung().await;
        }
        while clients.gate.unread.load(Ordering::Relaxed) > 0 {
            clients.rung().await;
            assert!(received(&mut clients).is_empty());
        }
        let (mut client, all) = reading.await.unwrap();
        assert!(all == sent);
        send_all(&mut clients);
        clients.close(ConnectionId(1));
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        });
        while !clients.all.is_empty() {
            clients.rung().await;
            assert!(received(&mut clients).is_empty());
        }
        assert!(reading.await.unwrap() == sent);
        assert_eq!(clients.gate.unread.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn whoever_reads_too_little_is_cut_off_and_counts_no_more() {
        let mut clients = clients("");
        let _client = connect(&mut clients, 1, 0).await;
        let frame = vec![0; 16 << 20];
        let taken = (0..64).take_while(|_| clients.send(ConnectionId(1), &frame)).count();
        assert_eq!(taken, UNREAD_MAX / frame.len());
        assert!(clients.all.is_empty());
        assert_eq!(clients.gate.unread.load(Ordering::Relaxed), 0);
    }
}
