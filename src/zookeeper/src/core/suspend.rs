//! Writes that are refused because they can't be logged.
//!
//! No transaction is made meanwhile: not for clients, not for sessions that have been silent for too long. So nothing
//! is numbered, and what clients read is what is on disk.

use jute::Code;
use jute::request::opcode;

use super::{ConnectionId, Core, Session, State};

impl Core {
    /// Goes back to what is on disk and refuses writes. Connections whose sessions are not on disk are forgotten and
    /// come back: they must be closed. `now_ms` as for [`Core::frame`].
    pub fn suspend(&mut self, now_ms: i64, state: State) -> Vec<ConnectionId> {
        self.effects.clear();
        self.is_suspended = true;
        let mut sessions = std::mem::take(&mut self.sessions);
        self.sessions = state
            .sessions
            .into_iter()
            .map(|(id, timeout_ms)| {
                let connection = sessions.remove(&id).and_then(|session| session.connection);
                (id, Session { timeout_ms, expires_ms: i64::MAX, connection })
            })
            .collect();
        (self.tree, self.zxid) = (state.tree, state.zxid);
        self.touch_all(now_ms);
        let gone: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                connection.session.is_some_and(|session| !self.sessions.contains_key(&session))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.closed(*id);
        }
        gone
    }

    /// Takes writes again. Sessions get their whole timeout.
    pub fn resume(&mut self, now_ms: i64) {
        self.is_suspended = false;
        self.touch_all(now_ms);
    }

    /// Whether writes are refused.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    fn touch_all(&mut self, now_ms: i64) {
        for session in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.touch(session, now_ms);
        }
    }

    /// Answers what would be a transaction, if those are refused.
    pub(super) fn refuses(&mut self, from: ConnectionId, xid: i32, kind: i32) -> bool {
        let is_write = matches!(
            kind,
            opcode::CREATE
                | opcode::CREATE2
                | opcode::CREATE_CONTAINER
                | opcode::CREATE_TTL
                | opcode::DELETE
                | opcode::SET_DATA
                | opcode::SET_ACL
                | opcode::CHECK
                | opcode::MULTI
                | opcode::RECONFIG
                | opcode::CLOSE_SESSION
        );
        if !self.is_suspended || !is_write {
            return false;
        }
        self.reply(from, xid, self.zxid, Err(Code::SystemError));
        if kind == opcode::CLOSE_SESSION {
            self.close(from);
        }
        true
    }
}
