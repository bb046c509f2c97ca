//! Which reads need not wait: those that show nothing but what is on disk, or committed, already.
//!
//! The tree is ahead of the disk. What a reply shows of it may leave only when that is settled, so a reply waits for
//! the last transaction that it shows, and for what its own connection waits for: within a session all comes in order
//! (`CommitProcessor`). The writes of other sessions to other znodes don't hold it up.

use jute::request::Request;
use jute::{Code, Writer};

use super::{ConnectionId, Core, Effect};

/// Below it the server itself changes data, without a mark in its znodes' zxids.
const OWN: &str = "/zookeeper";

impl Core {
    /// Transactions up to this one are on disk, or in an ensemble committed: clients may know of them.
    pub fn settle(&mut self, zxid: i64) {
        self.settled = zxid;
    }

    /// Whether what was last sent to a connection waits for a transaction that is not settled.
    pub fn waits(&self, id: ConnectionId) -> bool {
        let is_held = |connection: &super::Connection| connection.told > self.settled;
        self.zxid > self.settled && self.connections.get(&id).is_some_and(is_held)
    }

    /// The last transaction that the reply to a read shows; it may be an earlier one.
    pub(super) fn shown(&self, request: &Request) -> i64 {
        match request {
            _ if self.zxid <= self.settled => self.settled,
            Request::Ping => 0,
            Request::Exists { path, .. }
            | Request::GetData { path, .. }
            | Request::GetChildren { path, .. }
            | Request::GetAcl { path }
                if !path.starts_with(OWN) =>
            {
                self.tree.changed(path).max(self.unmarked).min(self.zxid)
            }
            Request::MultiRead(requests) => {
                requests.iter().map(|request| self.shown(request)).max().unwrap_or(0)
            }
            _ => self.zxid,
        }
    }

    /// The reply to a read that shows transactions up to `shown`.
    pub(super) fn answer_read(
        &mut self,
        to: ConnectionId,
        xid: i32,
        shown: i64,
        result: Result<Writer, Code>,
    ) {
        if self.zxid == self.settled || shown > self.settled || self.waits(to) {
            self.reply(to, xid, self.zxid, result);
        } else {
            let body = self.framed(xid, self.settled, result);
            self.count_sent(to, body.len());
            self.effects.push(Effect::SendAtOnce(to, body));
        }
    }
}

#[cfg(test)]
mod tests {
    use jute::request::opcode;

    use super::*;
    use crate::core::{Settings, State};

    const ONE: ConnectionId = ConnectionId(1);
    const OTHER: ConnectionId = ConnectionId(2);

    /// Two sessions and the znodes `/a`, `/a/b`, `/c`, all settled.
    fn core() -> Core {
        let mut core = Core::new(Settings::for_tests(), State::default(), 0);
        for id in [ONE, OTHER] {
            core.opened(0, id, "1.2.3.4:5", Vec::new());
            let mut frame = Writer::new();
            frame.int(0).long(0).int(100).long(0).buffer(Some(&[0; 16]));
            core.frame(0, 0, id, frame.as_bytes());
        }
        for path in ["/a", "/a/b", "/c"] {
            create(&mut core, path);
        }
        core.take_effects();
        core.settle(core.zxid());
        core
    }

    fn create(core: &mut Core, path: &str) {
        let mut frame = Writer::new();
        frame.int(7).int(opcode::CREATE).string(path).buffer(None).int(1).int(31);
        frame.string("world").string("anyone").int(0);
        core.frame(0, 0, OTHER, frame.as_bytes());
    }

    fn set(core: &mut Core, from: ConnectionId, path: &str) {
        let mut frame = Writer::new();
        frame.int(7).int(opcode::SET_DATA).string(path).buffer(Some(b"new")).int(-1);
        core.frame(0, 0, from, frame.as_bytes());
    }

    fn delete(core: &mut Core, path: &str) {
        let mut frame = Writer::new();
        frame.int(7).int(opcode::DELETE).string(path).int(-1);
        core.frame(0, 0, OTHER, frame.as_bytes());
    }

    fn set_acl(core: &mut Core, path: &str) {
        let mut frame = Writer::new();
        frame.int(7).int(opcode::SET_ACL).string(path).int(1).int(1);
        frame.string("world").string("anyone").int(-1);
        core.frame(0, 0, OTHER, frame.as_bytes());
    }

    /// Whether a read leaves at once, and the zxid in its reply's header.
    fn read(core: &mut Core, kind: i32, path: &str) -> (bool, i64) {
        core.take_effects();
        let mut frame = Writer::new();
        frame.int(8).int(kind).string(path).boolean(false);
        core.frame(0, 0, ONE, frame.as_bytes());
        let effects = core.take_effects();
        let (leaves, body) = match effects.as_slice() {
            [Effect::SendAtOnce(ONE, body)] => (true, body),
            [Effect::Send(ONE, body)] => (false, body),
            other => panic!("{other:?}"),
        };
        (leaves, i64::from_be_bytes(body[4..12].try_into().unwrap()))
    }

    /// A change by another session, what is read behind it, and whether the reply leaves before the change is settled.
    #[test]
    fn reads_wait_for_what_they_show_and_for_nothing_else() {
        use opcode::{EXISTS, GET_ACL, GET_CHILDREN2, GET_DATA};
        type Change = fn(&mut Core);
        let set_a: Change = |core| set(core, OTHER, "/a");
        let create_below_c: Change = |core| create(core, "/c/new");
        let delete_b: Change = |core| delete(core, "/a/b");
        let delete_a: Change = |core| (delete(core, "/a/b"), delete(core, "/a")).1;
        let protect_a: Change = |core| set_acl(core, "/a");
        let fail: Change = |core| delete(core, "/nowhere/to/be/found");
        for (change, kind, path, leaves) in [
            (set_a, GET_DATA, "/a", false),
            (set_a, GET_DATA, "/c", true),
            (set_a, EXISTS, "/a/b", true),
            (set_a, GET_CHILDREN2, "/", true),
            (set_a, EXISTS, "/nowhere/at/all", true),
            (set_a, opcode::GET_ALL_CHILDREN_NUMBER, "/c", false),
            (set_a, GET_DATA, "/zookeeper/config", false),
            (create_below_c, GET_DATA, "/c", false),
            (create_below_c, GET_CHILDREN2, "/c", false),
            (create_below_c, EXISTS, "/c/new", false),
            (create_below_c, EXISTS, "/c/other", false),
            (create_below_c, EXISTS, "/a/other", true),
            (delete_b, EXISTS, "/a/b", false),
            (delete_b, EXISTS, "/c", true),
            (delete_a, EXISTS, "/a/b/c", false),
            (delete_a, EXISTS, "/c/b", true),
            (protect_a, GET_ACL, "/a", false),
            (protect_a, GET_DATA, "/a", false),
            (fail, GET_DATA, "/a", true),
        ] {
            let mut core = core();
            let before = core.zxid();
            change(&mut core);
            assert!(core.zxid() > before);
            let zxid = if leaves { before } else { core.zxid() };
            assert_eq!(read(&mut core, kind, path), (leaves, zxid), "{kind} {path}");
            core.settle(core.zxid());
            assert_eq!(read(&mut core, kind, path).1, core.zxid(), "settled: {kind} {path}");
        }
    }

    #[test]
    fn a_session_waits_for_its_own_writes_and_events() {
        let mut core = core();
        set(&mut core, ONE, "/a");
        assert!(core.waits(ONE) && !core.waits(OTHER));
        assert_eq!(read(&mut core, opcode::GET_DATA, "/c"), (false, core.zxid()));
        core.settle(core.zxid());
        assert!(!core.waits(ONE));
        let mut watch = Writer::new();
        watch.int(8).int(opcode::GET_DATA).string("/c").boolean(true);
        core.frame(0, 0, ONE, watch.as_bytes());
        core.take_effects();
        set(&mut core, OTHER, "/c");
        let effects = core.take_effects();
        assert!(
            matches!(
                effects[..],
                [Effect::Append(_), Effect::Send(ONE, _), Effect::Send(OTHER, _)]
            ),
            "an event waits for its transaction: {effects:?}"
        );
        assert!(!read(&mut core, opcode::GET_DATA, "/a").0, "no reply overtakes an event");
    }
}
