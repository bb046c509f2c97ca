//! Changing the ensemble while it runs: the `reconfig` request and `/zookeeper/config` (`PrepRequestProcessor`).

use jute::Code;
use jute::request::Request;
use jute::txn::{CONFIG_NODE, Txn};

use super::{ConnectionId, Core};
use crate::acl::perms;
use crate::quorum::configuration::{Configuration, Fault, Wrong};

/// What this server's ensemble is, and what may be made of it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// `reconfigEnabled`.
    pub is_enabled: bool,
    /// `standaloneEnabled`: two voters must remain.
    pub keeps_two: bool,
    /// `multiAddress.enabled`: a server may have several addresses.
    pub takes_several: bool,
    /// The configuration in force; a server by itself has none.
    pub current: Option<Configuration>,
    /// Of a leader: the voters that have everything, itself included.
    pub synchronised: Vec<i64>,
    /// Whether a change is proposed and not yet agreed on.
    pub is_under_way: bool,
}

impl Core {
    /// Puts the ensemble's configuration where clients look for it (`ZKDatabase.initConfigInZKDatabase`).
    pub fn set_configuration(&mut self, wall_ms: i64, configuration: &Configuration) {
        let text = configuration.to_string();
        let version = configuration.version;
        self.tree.set_data(CONFIG_NODE, Some(text.as_bytes()), -1, version, wall_ms);
        self.changes.current = Some(configuration.clone());
        self.changes.is_under_way = false;
    }

    /// What a request would make of the ensemble. The order of the checks is the original's.
    pub(super) fn prepare_reconfig(
        &self,
        from: ConnectionId,
        request: &Request,
    ) -> Result<Txn, Code> {
        let Request::Reconfig { joining, leaving, members, version } = request else {
            return Err(Code::Unimplemented);
        };
        let changes = &self.changes;
        if !changes.is_enabled {
            return Err(Code::ReconfigDisabled);
        }
        let current = changes.current.as_ref().ok_or(Code::Unimplemented)?;
        if changes.is_under_way {
            return Err(Code::ReconfigInProgress);
        }
        if *version != -1 && *version != current.version {
            return Err(Code::BadVersion);
        }
        let refused = |wrong: Wrong| {
            tracing::warn!("a change of the ensemble is refused: {wrong}");
            match wrong.fault {
                Fault::Unreadable => Code::MarshallingError,
                Fault::Unfit => Code::BadArguments,
            }
        };
        let next = match members {
            Some(members) => Configuration::replaced(members, changes.keeps_two),
            None => current.changed(
                joining.as_deref().unwrap_or_default(),
                leaving.as_deref().unwrap_or_default(),
            ),
        };
        let next = next.and_then(|next| next.check_addresses(changes.takes_several).map(|()| next));
        let next = next.map_err(refused)?.at_version(self.zxid + 1);
        if next.voters().count() < if changes.keeps_two { 2 } else { 1 } {
            return Err(Code::BadArguments);
        }
        if !next.is_quorum(changes.synchronised.iter().copied()) {
            return Err(Code::NewConfigNoQuorum);
        }
        let node = self.tree.get(CONFIG_NODE).ok_or(Code::NoNode)?;
        self.check_acl(from, node, perms::WRITE)?;
        // The original takes such ids, and servers that can't have them never come.
        next.check_ids().map_err(refused)?;
        Ok(Txn::Reconfig { data: Some(next.to_string().into_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use jute::records::Id;

    use super::*;
    use crate::core::{Settings, State};

    const CLIENT: ConnectionId = ConnectionId(1);

    fn core(super_user: bool) -> Core {
        let mut core = Core::new(Settings::for_tests(), State::default(), 0);
        core.changes.is_enabled = true;
        core.changes.keeps_two = true;
        core.changes.synchronised = vec![1, 2, 3];
        core.lead(0, 5 << 32);
        let text = "server.1=a:1:2;3\nserver.2=b:1:2;3\nserver.3=c:1:2;3\nversion=500000000";
        core.set_configuration(7, &Configuration::parse(text).unwrap());
        let id = Id { scheme: "super".to_owned(), id: String::new() };
        core.opened(0, CLIENT, "c:1", if super_user { vec![id] } else { Vec::new() });
        core
    }

    fn request(joining: &str, leaving: &str, members: &str, version: i64) -> Request {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (joining, leaving, members) = (some(joining), some(leaving), some(members));
        Request::Reconfig { joining, leaving, members, version }
    }

    fn text(txn: Result<Txn, Code>) -> String {
        let Ok(Txn::Reconfig { data: Some(text) }) = txn else { panic!("{txn:?}") };
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn servers_join_and_leave_in_parts_or_as_a_whole() {
        let core = core(true);
        let change = core.prepare_reconfig(CLIENT, &request("server.4=d:1:2;3", "1", "", -1));
        let expected = "server.2=b:1:2:participant;0.0.0.0:3\nserver.3=c:1:2:participant;0.0.0.0:3\nserver.4=d:1:2:participant;0.0.0.0:3\nversion=500000001";
        assert_eq!(text(change), expected);
        let whole = request("", "", "server.2=b:1:2;3,server.3=c:1:2;3", 5 << 32);
        assert!(text(core.prepare_reconfig(CLIENT, &whole)).ends_with("version=500000001"));
        let node = core.tree().get(CONFIG_NODE).unwrap();
        assert_eq!((node.stat().persisted.mzxid, node.stat().persisted.version), (5 << 32, -1));
    }

    #[test]
    fn each_reason_to_refuse_has_its_code() {
        let code = |core: &Core, request: Request| {
            core.prepare_reconfig(CLIENT, &request).map(|_| ()).unwrap_err()
        };
        let leaving = || request("", "1", "", -1);
        let mut core = core(true);
        let others = "server.4=d:1:2;3,server.5=e:1:2;3,server.1=a:1:2;3";
        for (joining, leaving, members, version, expected) in [
            ("", "1", "", 3, Code::BadVersion),
            ("server.x=d", "1", "", 3, Code::BadVersion),
            ("", "1,2", "", -1, Code::BadArguments),
            ("", "x", "", -1, Code::MarshallingError),
            ("server.4=d:1:2", "", "", -1, Code::BadArguments),
            ("server.4=d:1:2|e:1:2;3", "", "", -1, Code::BadArguments),
            ("server.999=d:1:2:observer;3", "", "", -1, Code::BadArguments),
            ("server.x=d:1:2;3", "", "", -1, Code::MarshallingError),
            ("", "", others, -1, Code::NewConfigNoQuorum),
            ("", "", "tickTime=3", -1, Code::BadArguments),
            ("", "", "version=x", -1, Code::MarshallingError),
            ("", "", "server.1=a:1:2:observer", -1, Code::MarshallingError),
        ] {
            let asked = request(joining, leaving, members, version);
            assert_eq!(code(&core, asked), expected, "{joining} {leaving} {members} {version}");
        }
        core.changes.is_under_way = true;
        assert_eq!(code(&core, leaving()), Code::ReconfigInProgress);
        core.changes.is_enabled = false;
        assert_eq!(code(&core, leaving()), Code::ReconfigDisabled);
        let anyone = self::core(false);
        assert_eq!(code(&anyone, leaving()), Code::NoAuth);
        let far = || request("server.999=d:1:2:observer;3", "", "", -1);
        assert_eq!(code(&anyone, far()), Code::NoAuth);
        let mut alone = self::core(true);
        alone.changes.current = None;
        assert_eq!(code(&alone, leaving()), Code::Unimplemented);
    }
}
