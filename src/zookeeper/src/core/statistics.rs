//! What operators are shown of clients, sessions and watches, by four-letter words and the AdminServer.

use std::time::Duration;

use super::{Connection, ConnectionId, Core, local};
use crate::metrics::Summary;

/// How long requests took, from the frame read to the reply on its way.
#[derive(Debug, Default, Clone, Copy)]
pub struct Latency {
    /// The last, in ms.
    pub last_ms: u64,
    /// Shortest, in ms.
    pub min_ms: u64,
    /// Longest, in ms.
    pub max_ms: u64,
    sum_ms: u64,
    count: u64,
}

impl Latency {
    /// One more request.
    pub fn note(&mut self, took: Duration) {
        let ms = took.as_millis() as u64;
        self.min_ms = if self.count == 0 { ms } else { self.min_ms.min(ms) };
        self.last_ms = ms;
        self.max_ms = self.max_ms.max(ms);
        self.sum_ms += ms;
        self.count += 1;
    }

    /// The mean, in ms.
    pub fn average_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ms as f64 / self.count as f64 }
    }
}

impl Core {
    /// All connections, in the order in which they came.
    pub(crate) fn connections(&self) -> impl Iterator<Item = &Connection> {
        let mut all: Vec<_> = self.connections.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all.into_iter().map(|(_, connection)| connection)
    }

    /// Whether a connection's session is known, and its timeout in ms.
    pub(crate) fn timeout_ms(&self, connection: &Connection) -> Option<i32> {
        connection.session.and_then(|id| self.sessions.get(&id)).map(|session| session.timeout_ms)
    }

    /// Who watches data: sessions and paths.
    pub(crate) fn watches(&self) -> impl Iterator<Item = (i64, &str)> {
        self.data_watches.iter().filter_map(|(connection, path)| {
            Some((self.connections.get(&connection)?.session?, path))
        })
    }

    /// A request's reply is on its way.
    pub fn note_latency(&mut self, id: ConnectionId, took: Duration, is_write: bool) {
        self.latency.note(took);
        let kind = if is_write { Summary::UpdateLatency } else { Summary::ReadLatency };
        self.metrics.note(kind, took.as_millis() as u64);
        if is_write && self.mode == "standalone" {
            // Nobody else is to be told of it; in an ensemble it is measured where it is committed.
            self.metrics.note(Summary::PropagationLatency, took.as_millis() as u64);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.latency.note(took);
        }
    }

    /// Forgets what was counted of all clients so far.
    pub fn reset_statistics(&mut self) {
        (self.received, self.sent, self.latency) = (0, 0, Latency::default());
    }

    /// Forgets what the connections did so far.
    pub fn reset_connection_statistics(&mut self) {
        for connection in self.connections.values_mut() {
            (connection.received, connection.sent, connection.latency, connection.last) =
                (0, 0, Latency::default(), None);
        }
    }

    /// Number of watches of data and of children.
    pub fn watch_total(&self) -> usize {
        self.data_watches.counts().2 + self.child_watches.counts().2
    }

    /// Numbers of data watches: connections, paths, watches.
    pub fn watch_counts(&self) -> (usize, usize, usize) {
        self.data_watches.counts()
    }

    /// When each session ends if nothing comes, in ms; those that only this server knows left out.
    pub fn session_ends(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let others = self.sessions.iter().filter(|(_, one)| one.scope != local::Scope::Local);
        others.map(|(id, session)| (*id, session.expires_ms))
    }
}
