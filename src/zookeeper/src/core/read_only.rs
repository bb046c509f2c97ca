//! Serving reads while there is no leader (`readonlymode.enabled`, `ReadOnlyZooKeeperServer`).
//!
//! Only clients that asked for it are served. Their sessions are this server's alone, live as long as their
//! connections, and are in no transaction.

use jute::records::ConnectRequest;
use jute::request::{Request, opcode};
use jute::{Code, Writer};

use super::{ConnectionId, Core, password};

/// What `srvr` says of a server that serves reads alone.
const READ_ONLY: &str = "read-only";

/// A client of a server without a leader.
#[derive(Debug)]
pub(super) struct Visit {
    timeout_ms: i64,
    expires_ms: i64,
}

impl Core {
    /// Begins to serve reads without a leader.
    pub fn serve_reads(&mut self) {
        self.mode = READ_ONLY;
    }

    /// Whether reads are served without a leader.
    pub fn is_read_only(&self) -> bool {
        self.mode == READ_ONLY
    }

    /// [`Core::frame`] of a server that serves reads alone.
    pub fn read_only_frame(&mut self, now_ms: i64, from: ConnectionId, frame: &[u8]) {
        self.received += 1;
        let Some(connection) = self.connections.get_mut(&from) else { return };
        connection.received += 1;
        let Some(session) = connection.session else {
            self.visit(now_ms, from, frame);
            return;
        };
        if let Some(visit) = self.ensemble.visits.get_mut(&from) {
            visit.expires_ms = now_ms + visit.timeout_ms;
        }
        let Ok(framed) = Request::decode(frame) else {
            self.close(from);
            return;
        };
        let (xid, kind) = (framed.xid, framed.opcode);
        if !self.admit(from, (xid, kind), &framed.request) || self.refuses(from, xid, kind) {
            return;
        }
        let result = match framed.request {
            Ok(Request::Unknown) => {
                self.reply(from, xid, -1, Err(Code::Unimplemented));
                self.close(from);
                return;
            }
            Ok(Request::CloseSession) => {
                self.reply(from, xid, self.zxid, Ok(Writer::new()));
                self.close(from);
                return;
            }
            Ok(
                Request::Create(_)
                | Request::Delete { .. }
                | Request::SetData { .. }
                | Request::SetAcl { .. }
                | Request::Check { .. }
                | Request::Multi(_)
                | Request::Reconfig { .. }
                | Request::Sync { .. },
            ) => Err(Code::NotReadOnly),
            Err(_) if kind == opcode::MULTI => Err(Code::NotReadOnly),
            Err(_) => Err(Code::MarshallingError),
            Ok(request) => self.read(from, session, request),
        };
        self.reply(from, xid, self.zxid, result);
    }

    /// Sessions of the ensemble can't be gone on with here: nobody knows whether they have ended.
    fn visit(&mut self, now_ms: i64, from: ConnectionId, frame: &[u8]) {
        let request = ConnectRequest::decode(frame).ok().filter(|request| {
            request.read_only == Some(true)
                && request.last_zxid_seen <= self.zxid
                && request.session == 0
        });
        let Some(request) = request else {
            self.close(from);
            return;
        };
        let timeout_ms = request
            .timeout
            .clamp(self.settings.session_timeout_min_ms, self.settings.session_timeout_max_ms);
        let session = self.number_session();
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.session = Some(session);
        }
        let timeout = i64::from(timeout_ms);
        let visit = Visit { timeout_ms: timeout, expires_ms: now_ms + timeout };
        self.ensemble.visits.insert(from, visit);
        self.connect_reply(from, timeout_ms, session, &password(session), request.read_only);
    }

    /// Ends the sessions of clients that are silent.
    pub fn read_only_tick(&mut self, now_ms: i64) {
        let visits = self.ensemble.visits.iter();
        let ended = visits.filter(|(_, visit)| visit.expires_ms <= now_ms).map(|(id, _)| *id);
        for id in super::sorted(ended) {
            self.close(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use jute::Reader;

    use super::*;
    use crate::core::{Effect, Settings, State};

    fn connect(read_only: bool, session: i64) -> Vec<Effect> {
        let mut core = Core::new(Settings::for_tests(), State::default(), 0);
        core.without_leader();
        core.serve_reads();
        core.opened(0, ConnectionId(1), "c:1", Vec::new());
        let mut hello = Writer::new();
        hello.int(0).long(0).int(100).long(session).buffer(Some(&[0; 16])).boolean(read_only);
        core.read_only_frame(0, ConnectionId(1), hello.as_bytes());
        for (kind, path) in [(opcode::EXISTS, "/"), (opcode::DELETE, "/a")] {
            let mut frame = Writer::new();
            frame.int(1).int(kind).string(path).int(0);
            core.read_only_frame(50, ConnectionId(1), frame.as_bytes());
        }
        core.read_only_tick(149);
        core.read_only_tick(150);
        core.take_effects()
    }

    #[test]
    fn clients_that_asked_for_it_may_read_and_nothing_else() {
        let effects = connect(true, 0);
        let sent: Vec<&[u8]> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send(_, body) => Some(&**body),
                _ => None,
            })
            .collect();
        let code = |frame: &[u8]| Reader::new(&frame[12..]).int().unwrap();
        assert_eq!(sent[0].last(), Some(&1), "the reply says that this server is read-only");
        assert_eq!([code(sent[1]), code(sent[2])], [0, Code::NotReadOnly.number()]);
        assert_eq!(effects.last(), Some(&Effect::Close(ConnectionId(1))), "silent for too long");
        assert_eq!(effects.len(), 4);
        for (read_only, session) in [(false, 0), (true, 7)] {
            assert_eq!(connect(read_only, session), [Effect::Close(ConnectionId(1))]);
        }
    }
}
