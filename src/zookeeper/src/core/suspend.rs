//! Writes that are refused because they can't be logged.
//!
//! No transaction is made meanwhile: not for clients, not for sessions that have been silent for too long. So nothing
//! is numbered, and what clients read is what is on disk.

use jute::Code;
use jute::request::opcode;

use super::local::Scope;
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
                (id, Session { timeout_ms, expires_ms: i64::MAX, connection, scope: Scope::Global })
            })
            .collect();
        (self.tree, self.zxid, self.settled) = (state.tree, state.zxid, state.zxid);
        self.touch_all(now_ms);
        let gone = self.connections.iter().filter(|(_, connection)| {
            connection.session.is_some_and(|session| !self.sessions.contains_key(&session))
        });
        let gone = super::sorted(gone.map(|(id, _)| *id));
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
        let is_write = kind == opcode::CHECK || opcode::is_write(kind);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Effect, Settings};
    use jute::Writer;

    const HERE: ConnectionId = ConnectionId(1);

    fn connect(core: &mut Core, from: ConnectionId, session: i64) {
        core.opened(0, from, "1.2.3.4:5", Vec::new());
        let mut frame = Writer::new();
        frame.int(0).long(0).int(100).long(session);
        frame.buffer(Some(&crate::core::password(session)));
        core.frame(0, 0, from, frame.as_bytes());
    }

    fn create(core: &mut Core, from: ConnectionId, path: &str) {
        let mut frame = Writer::new();
        frame.int(7).int(opcode::CREATE).string(path).buffer(None).int(1).int(31);
        frame.string("world").string("anyone").int(0);
        core.frame(0, 0, from, frame.as_bytes());
    }

    fn read(core: &mut Core, from: ConnectionId, path: &str) {
        let mut frame = Writer::new();
        frame.int(8).int(opcode::EXISTS).string(path).boolean(false);
        core.frame(0, 0, from, frame.as_bytes());
    }

    /// The errors of replies to a connection; `None` for its end.
    fn answers(core: &mut Core, to: ConnectionId) -> Vec<Option<i32>> {
        let effects = core.take_effects().into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Send(id, body) if id == to => {
                    Some(Some(i32::from_be_bytes(body[12..16].try_into().unwrap())))
                }
                Effect::Close(id) if id == to => Some(None),
                Effect::Append(entry) => panic!("0x{:x} while writes are refused", entry.zxid),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn writes_are_refused_without_a_number_and_reads_see_what_is_on_disk() {
        let mut core = Core::new(Settings::for_tests(), State::default(), 0);
        connect(&mut core, HERE, 0);
        create(&mut core, HERE, "/kept");
        core.take_effects();
        let (zxid, sessions) = (core.zxid(), core.sessions());
        let session = sessions[0].0;
        let mut kept = State { zxid, ..State::default() };
        kept.sessions.extend(sessions);
        kept.tree = core.tree().clone();
        connect(&mut core, ConnectionId(2), 0);
        create(&mut core, HERE, "/lost");
        assert_eq!(core.suspend(0, kept), [ConnectionId(2)]);
        create(&mut core, HERE, "/refused");
        read(&mut core, HERE, "/kept");
        read(&mut core, HERE, "/lost");
        let refused = Code::SystemError.number();
        assert_eq!(answers(&mut core, HERE), [Some(refused), Some(0), Some(Code::NoNode.number())]);
        assert_eq!(core.zxid(), zxid);
        core.tick(1_000_000, 0);
        connect(&mut core, ConnectionId(3), 0);
        assert_eq!(answers(&mut core, ConnectionId(3)), [None]);
        connect(&mut core, ConnectionId(4), session);
        assert!(
            core.take_effects()
                .iter()
                .any(|effect| matches!(effect, Effect::Send(ConnectionId(4), _)))
        );
        core.resume(1_000_000);
        core.tick(1_000_000, 0);
        assert_eq!(core.sessions().len(), 1);
        create(&mut core, ConnectionId(4), "/again");
        assert_eq!((core.zxid(), core.tree().get("/again").is_some()), (zxid + 1, true));
    }
}
