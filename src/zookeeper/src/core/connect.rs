//! Connecting: new sessions, sessions taken up again, and proving who one is.

use jute::Writer;
use jute::records::ConnectRequest;
use jute::txn::Txn;

use super::local::Scope;
use super::{ConnectionId, Core, Session};
use crate::metrics::Counter;

/// The password of a session: what `java.util.Random` makes of its id (`SessionTrackerImpl`), so that sessions move
/// between this server and the original's.
pub fn password(session: i64) -> [u8; 16] {
    const MASK: u64 = (1 << 48) - 1;
    const SECRET: i64 = 0xB341_5C00;
    let mut seed = ((session ^ SECRET) as u64 ^ 0x5_DEEC_E66D) & MASK;
    let mut bytes = [0; 16];
    for part in bytes.chunks_mut(4) {
        seed = (seed.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB)) & MASK;
        part.copy_from_slice(&((seed >> 16) as u32).to_le_bytes());
    }
    bytes
}

impl Core {
    pub(super) fn connect(&mut self, now_ms: i64, wall_ms: i64, from: ConnectionId, frame: &[u8]) {
        self.metrics.count(Counter::ConnectionRequestCount);
        let Ok(request) = ConnectRequest::decode(frame) else {
            self.close(from);
            return;
        };
        if request.last_zxid_seen > self.zxid {
            tracing::info!(
                "refusing a client that has seen zxid 0x{:x}, ours is 0x{:x}",
                request.last_zxid_seen,
                self.zxid
            );
            self.close(from);
            return;
        }
        let timeout_ms = request
            .timeout
            .clamp(self.settings.session_timeout_min_ms, self.settings.session_timeout_max_ms);
        let session = if request.session == 0 && self.is_suspended {
            self.close(from);
            return;
        } else if request.session == 0 && self.has_local_sessions() {
            self.begin_local(now_ms, from, timeout_ms)
        } else if request.session == 0 {
            let session = self.number_session();
            self.commit(session, 0, wall_ms, Txn::CreateSession { timeout: timeout_ms });
            session
        } else {
            self.metrics.count(Counter::ConnectionRevalidateCount);
            let known = self.sessions.contains_key(&request.session)
                && request.password == password(request.session);
            if !known {
                self.connect_reply(from, 0, 0, &[0; 16], request.read_only);
                self.close(from);
                return;
            }
            request.session
        };
        let entry = self.sessions.entry(session).or_insert(Session {
            timeout_ms,
            expires_ms: 0,
            connection: None,
            scope: Scope::Global,
        });
        entry.timeout_ms = timeout_ms;
        let other = entry.connection.replace(from).filter(|other| *other != from);
        if let Some(other) = other {
            self.close(other);
            if let Some(entry) = self.sessions.get_mut(&session) {
                entry.connection = Some(from);
            }
        }
        self.ensemble.owners.remove(&session);
        self.touch(session, now_ms);
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.session = Some(session);
        }
        self.connect_reply(from, timeout_ms, session, &password(session), request.read_only);
    }

    pub(super) fn connect_reply(
        &mut self,
        to: ConnectionId,
        timeout_ms: i32,
        session: i64,
        password: &[u8],
        read_only: Option<bool>,
    ) {
        let mut body = Writer::new();
        body.int(0).int(timeout_ms).long(session).buffer(Some(password));
        // Clients that don't speak of it don't read it either.
        if read_only.is_some() {
            body.boolean(self.is_read_only());
        }
        self.send(to, body.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Effect, Settings, State};

    /// A core with one session in its data, and a connection that asks for a session.
    fn connected(known: i64, now_ms: i64) -> (Core, i64) {
        let state = State { sessions: [(known, 100)].into(), ..State::default() };
        let mut core = Core::new(Settings::for_tests(), state, now_ms);
        core.opened(now_ms, ConnectionId(1), "127.0.0.1:1", Vec::new());
        let mut request = Writer::new();
        request.int(0).long(0).int(100).long(0).buffer(Some(&[0; 16])).boolean(false);
        core.frame(now_ms, now_ms, ConnectionId(1), request.as_bytes());
        let effects = core.take_effects();
        let Some(Effect::Append(entry)) = effects.first() else { panic!("{effects:?}") };
        assert!(matches!(effects.get(1), Some(Effect::Send(..))), "logged before it is answered");
        (core, entry.session)
    }

    #[test]
    fn a_clock_that_went_back_gives_no_session_id_twice() {
        let first = |now_ms: i64| 1 << 56 | now_ms << 16;
        assert_eq!(
            connected(first(9), 5).1,
            first(5),
            "behind it are numbers that were given before"
        );
        assert_eq!(connected(first(5), 5).1, first(5) + 1);
    }

    #[test]
    fn silent_sessions_end_after_their_timeout() {
        let (mut core, session) = connected(7, 1000);
        core.tick(1100, 1100);
        assert!(core.session_ends().any(|(id, _)| id == session), "at its timeout it still lives");
        core.tick(1111, 1111);
        assert!(core.session_ends().all(|(id, _)| id != session));
        let effects = core.take_effects();
        assert!(effects.contains(&Effect::Close(ConnectionId(1))), "{effects:?}");
    }

    #[test]
    fn passwords_are_the_originals() {
        let hex = |bytes: [u8; 16]| format!("{:032x}", u128::from_be_bytes(bytes));
        assert_eq!(hex(password(0x0100_0000_0000_0000)), "f22acd4a97e69d6d20a49bb638eadb38");
        assert_eq!(hex(password(0x02de_adbe_ef00_0001)), "053d2c3437cffdee15c0d3ed0cd8d2bc");
    }
}
