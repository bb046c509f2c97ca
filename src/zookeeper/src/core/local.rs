//! Sessions that only their server knows: begun and ended without a transaction, until their client asks for an
//! ephemeral znode (`UpgradeableSessionTracker`, `QuorumZooKeeperServer.checkUpgradeSession`).
//!
//! They end with their server's part in the ensemble: a client that comes back to another server, or to this one under
//! another leader, is told that its session has expired.

use jute::request::{Create, Request, opcode};
use jute::txn::Txn;
use jute::{Code, Writer};

use super::following::Forward;
use super::{ConnectionId, Core, Session};

/// What new sessions of an ensemble's clients are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalSessions {
    /// Global.
    #[default]
    Off,
    /// Local for good (`localSessionsEnabled`).
    Kept,
    /// Local until they want an ephemeral znode (`localSessionsUpgradingEnabled`).
    Upgraded,
}

/// Who knows a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// All servers: it is in the log.
    #[default]
    Global,
    /// This server alone.
    Local,
    /// This server, which has asked that all do.
    Upgrading,
}

/// What becomes of a request for what a local session can't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// It is carried out as it is.
    Unneeded,
    /// The session becomes global first; its timeout in ms.
    Needed(i32),
    /// It is refused.
    Refused,
}

fn creates_ephemeral(request: &Request) -> bool {
    match request {
        Request::Create(Create { opcode: opcode::CREATE | opcode::CREATE2, flags, .. }) => {
            matches!(flags, 1 | 3)
        }
        _ => false,
    }
}

fn wants_ephemeral(request: &Request) -> bool {
    match request {
        Request::Multi(operations) => operations.iter().any(creates_ephemeral),
        _ => creates_ephemeral(request),
    }
}

impl Core {
    /// Whether new sessions are local.
    pub(crate) fn has_local_sessions(&self) -> bool {
        self.settings.local_sessions != LocalSessions::Off && self.mode != "standalone"
    }

    pub(super) fn is_local(&self, session: i64) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.scope == Scope::Local)
    }

    /// Local sessions, and on the core's clock when each ends if nothing comes, in ms.
    pub(crate) fn local_session_ends(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let local = self.sessions.iter().filter(|(_, session)| session.scope == Scope::Local);
        local.map(|(id, session)| (*id, session.expires_ms))
    }

    /// Begins a local session of a connection.
    pub(super) fn begin_local(&mut self, now_ms: i64, from: ConnectionId, timeout_ms: i32) -> i64 {
        let session = self.number_session();
        let known = Session {
            timeout_ms,
            expires_ms: i64::MAX,
            connection: Some(from),
            scope: Scope::Local,
        };
        self.sessions.insert(session, known);
        self.touch(session, now_ms);
        session
    }

    /// What must become of a session before a request of it is carried out.
    pub(super) fn upgrade(&self, session: i64, request: &Request) -> Upgrade {
        if !wants_ephemeral(request) {
            return Upgrade::Unneeded;
        }
        match self.sessions.get(&session).filter(|known| known.scope == Scope::Local) {
            Some(known) if self.settings.local_sessions == LocalSessions::Upgraded => {
                Upgrade::Needed(known.timeout_ms)
            }
            // The operation in it is refused, and the others with it.
            Some(_) if matches!(request, Request::Multi(_)) => Upgrade::Unneeded,
            Some(_) => Upgrade::Refused,
            None => Upgrade::Unneeded,
        }
    }

    /// Whether an operation of a multi may be of a session (`PrepRequestProcessor.validateCreateRequest`).
    pub(super) fn may_have(&self, session: i64, operation: &Request) -> Result<(), Code> {
        match self.sessions.get(&session).map(|known| known.scope) {
            _ if !creates_ephemeral(operation) => Ok(()),
            Some(Scope::Global) => Ok(()),
            Some(Scope::Local | Scope::Upgrading) => Err(Code::EphemeralOnLocalSession),
            None => Err(Code::SessionExpired),
        }
    }

    /// Makes a session global, on the server that orders writes.
    pub(super) fn upgrade_here(&mut self, session: i64, timeout: i32, wall_ms: i64) {
        tracing::info!("upgrading session 0x{session:x}");
        self.commit(session, 0, wall_ms, Txn::CreateSession { timeout });
    }

    /// Asks the leader to make a session global.
    pub(super) fn ask_upgrade(&mut self, from: ConnectionId, session: i64, timeout: i32) {
        tracing::info!("upgrading session 0x{session:x}");
        if let Some(known) = self.sessions.get_mut(&session) {
            known.scope = Scope::Upgrading;
        }
        let mut data = Writer::new();
        data.long(session).int(0).int(opcode::CREATE_SESSION).int(timeout);
        let ids = self.ids(from).to_vec();
        self.push_forward(Forward::Request(data.into_bytes(), ids));
    }

    /// Ends a local session; whether it was one.
    pub(super) fn end_local(&mut self, session: i64) -> bool {
        let was_local = self.is_local(session);
        if was_local {
            self.sessions.remove(&session);
        }
        was_local
    }

    /// Ends local sessions that have been silent for too long, on a server that ends no others.
    pub fn local_tick(&mut self, now_ms: i64) {
        let ended = self.local_session_ends().filter(|(_, expires_ms)| *expires_ms <= now_ms);
        for id in super::sorted(ended.map(|(id, _)| id)) {
            tracing::info!("expiring local session 0x{id:x}");
            let connection = self.sessions.remove(&id).and_then(|session| session.connection);
            if let Some(connection) = connection {
                self.close(connection);
            }
        }
    }

    /// Forgets all sessions that not every server knows.
    pub(super) fn forget_local(&mut self) {
        self.sessions.retain(|_, session| session.scope == Scope::Global);
    }

    /// Whether a session of another server, unknown here, may be local to that server. `creates` says that the request
    /// wants an ephemeral znode, which only a global session may (`LeaderSessionTracker.checkSession`).
    pub(super) fn may_be_local_elsewhere(
        &self,
        session: i64,
        request: &Request,
    ) -> Result<(), Code> {
        let own = self.next_session >> 56;
        if self.has_local_sessions() && session >> 56 != own && !creates_ephemeral(request) {
            Ok(())
        } else {
            Err(Code::SessionExpired)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::following::tests::{Pair, create_with, exists};

    fn pair(local_sessions: LocalSessions) -> Pair {
        Pair::with(|settings| settings.local_sessions = local_sessions)
    }

    fn the_session(pair: &Pair) -> i64 {
        *pair.follower.sessions.keys().next().unwrap()
    }

    #[test]
    fn local_sessions_read_and_write_without_a_transaction_of_theirs() {
        let mut pair = pair(LocalSessions::Kept);
        assert_eq!(pair.leader.zxid() & 0xff, 0);
        assert_eq!((pair.leader.sessions().len(), pair.follower.sessions().len()), (0, 0));
        pair.ask(1, opcode::CREATE, create_with("/a", 0));
        pair.exchange();
        pair.ask(2, opcode::EXISTS, exists("/a"));
        pair.ask(3, opcode::CREATE, create_with("/e", 1));
        pair.exchange();
        assert_eq!(pair.replies, [(1, 0), (2, 0), (3, Code::EphemeralOnLocalSession.number())]);
        assert_eq!(pair.follower.tree().node_count(), pair.leader.tree().node_count());
        pair.ask(4, opcode::CLOSE_SESSION, |_| {});
        assert_eq!(pair.replies.last(), Some(&(4, 0)));
        assert_eq!(pair.follower.local_session_ends().count(), 0);
        assert_eq!(pair.leader.zxid() & 0xff, 1, "only the znode");
    }

    #[test]
    fn the_first_ephemeral_makes_a_session_global() {
        let mut pair = pair(LocalSessions::Upgraded);
        let session = the_session(&pair);
        pair.ask(1, opcode::CREATE, create_with("/e", 1));
        pair.ask(2, opcode::EXISTS, exists("/e"));
        assert_eq!(pair.follower.sessions(), [], "not before all know it");
        pair.exchange();
        assert_eq!(pair.replies, [(1, 0), (2, 0)]);
        for core in [&pair.leader, &pair.follower] {
            assert_eq!(core.sessions(), [(session, 30_000)]);
            assert_eq!(core.tree().ephemerals(session), ["/e"]);
        }
    }

    #[test]
    fn a_leaders_own_clients_have_local_sessions_too() {
        for (local_sessions, expected) in [
            (LocalSessions::Kept, Code::EphemeralOnLocalSession.number()),
            (LocalSessions::Upgraded, 0),
        ] {
            let mut pair = pair(local_sessions);
            assert_eq!(pair.ask_leader(1, opcode::CREATE, create_with("/e", 1)), (1, expected));
            assert_eq!(pair.leader.sessions().len(), usize::from(expected == 0));
        }
    }

    #[test]
    fn in_a_multi_only_the_ephemeral_is_refused() {
        let two = |body: &mut Writer| {
            for (path, flags) in [("/a", 0), ("/e", 1)] {
                body.int(opcode::CREATE).boolean(false).int(-1);
                create_with(path, flags)(body);
            }
            body.int(-1).boolean(true).int(-1);
        };
        let failed = |pair: &Pair| pair.follower.tree().get("/a").is_none();
        let mut kept = pair(LocalSessions::Kept);
        kept.ask(1, opcode::MULTI, two);
        kept.exchange();
        assert_eq!(kept.replies, [(1, 0)]);
        assert!(failed(&kept));
        assert_eq!(kept.ask_leader(1, opcode::MULTI, two), (1, 0));
        assert!(failed(&kept));
        let mut upgraded = pair(LocalSessions::Upgraded);
        upgraded.ask(1, opcode::MULTI, two);
        upgraded.exchange();
        assert!(!failed(&upgraded));
    }

    #[test]
    fn they_end_when_they_are_silent_and_with_the_leader() {
        let mut pair = pair(LocalSessions::Kept);
        pair.follower.local_tick(29_000);
        assert_eq!(pair.follower.connections().count(), 1);
        pair.follower.local_tick(40_000);
        assert_eq!(pair.follower.connections().count(), 0);
        let mut pair = self::pair(LocalSessions::Kept);
        pair.follower.without_leader();
        assert_eq!(pair.follower.local_session_ends().count(), 0);
    }

    #[test]
    fn other_servers_do_not_know_them() {
        let mut pair = pair(LocalSessions::Kept);
        let session = the_session(&pair);
        assert!(!pair.leader.revalidate(0, 3, session));
        let own = pair.leader_session();
        assert!(pair.leader.is_local(own) && !pair.leader.revalidate(0, 3, own));
    }
}
