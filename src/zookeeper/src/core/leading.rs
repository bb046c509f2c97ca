//! What the leader of an ensemble does for its followers: their clients' writes and sessions.

use jute::Code;
use jute::Reader;
use jute::records::Id;
use jute::request::{Request, opcode};
use jute::txn::Txn;

use super::local::Scope;
use super::{ConnectionId, Core};

/// Stands for the client of another server while its request is prepared.
const FORWARDED: ConnectionId = ConnectionId(u64::MAX);

impl Core {
    /// Begins to lead: numbers go on from `zxid`, and every session gets its whole timeout.
    pub fn lead(&mut self, now_ms: i64, zxid: i64) {
        self.mode = "leader";
        self.zxid = self.zxid.max(zxid);
        self.settled = self.zxid;
        self.ensemble.owners.clear();
        for session in super::sorted(self.sessions.keys().copied()) {
            self.touch(session, now_ms);
        }
    }

    /// A client of another server has been heard of there.
    pub fn heard(&mut self, now_ms: i64, session: i64) {
        self.touch(session, now_ms);
    }

    /// Whether a client may go on with its session at server `at`; its connection here, if any, ends then.
    pub fn revalidate(&mut self, now_ms: i64, at: i64, session: i64) -> bool {
        let known = self.sessions.get(&session).filter(|known| known.scope != Scope::Local);
        let Some(known) = known else { return false };
        let connection = known.connection;
        self.touch(session, now_ms);
        self.ensemble.owners.insert(session, at);
        if let Some(connection) = connection {
            self.close(connection);
        }
        true
    }

    /// Whether requests of a session may come from server `at`.
    fn may_come_from(&mut self, session: i64, at: i64, request: &Request) -> Result<(), Code> {
        let Some(known) = self.sessions.get(&session) else {
            return self.may_be_local_elsewhere(session, request);
        };
        if known.connection.is_some() {
            return Err(Code::SessionMoved);
        }
        // A new leader doesn't know where sessions are: the first that speaks for one has it.
        if *self.ensemble.owners.entry(session).or_insert(at) == at {
            Ok(())
        } else {
            Err(Code::SessionMoved)
        }
    }

    /// A request that server `at` forwards: session, then the client's frame.
    pub fn forwarded(&mut self, now_ms: i64, wall_ms: i64, at: i64, data: &[u8], ids: Vec<Id>) {
        let mut reader = Reader::new(data);
        let (Ok(session), frame) = (reader.long(), reader.rest()) else { return };
        let (Ok(cxid), Ok(kind)) = (reader.int(), reader.int()) else { return };
        if kind == opcode::CREATE_SESSION {
            let Ok(timeout) = reader.int() else { return };
            let timeout = timeout
                .clamp(self.settings.session_timeout_min_ms, self.settings.session_timeout_max_ms);
            self.commit(session, cxid, wall_ms, Txn::CreateSession { timeout });
            self.ensemble.owners.insert(session, at);
            self.touch(session, now_ms);
            return;
        }
        let request = Request::decode(frame).map(|framed| framed.request);
        let known = request.as_ref().ok().and_then(|request| request.as_ref().ok());
        if let Err(code) = self.may_come_from(session, at, known.unwrap_or(&Request::Unknown)) {
            self.fail(session, cxid, wall_ms, code);
            return;
        }
        self.touch(session, now_ms);
        let Ok(Ok(request)) = request else {
            self.fail(session, cxid, wall_ms, Code::MarshallingError);
            return;
        };
        match request {
            Request::CloseSession => {
                self.ensemble.owners.remove(&session);
                self.close_session(session, cxid, wall_ms);
            }
            Request::Create(_)
            | Request::Delete { .. }
            | Request::SetData { .. }
            | Request::SetAcl { .. }
            | Request::Reconfig { .. }
            | Request::Multi(_) => {
                self.opened(wall_ms, FORWARDED, "", Vec::new());
                if let Some(client) = self.connections.get_mut(&FORWARDED) {
                    client.ids = ids;
                }
                // The server that forwarded it makes the reply, of the transaction.
                if let Ok(body) = self.write(FORWARDED, session, cxid, wall_ms, request) {
                    self.take_back(body.into_bytes());
                }
                self.connections.remove(&FORWARDED);
            }
            _ => self.fail(session, cxid, wall_ms, Code::Unimplemented),
        }
    }
}
