//! Writes: checked in the original's order (which error wins is visible), then numbered and applied
//! (`PrepRequestProcessor`).

use jute::records::Acl;
use jute::request::{Create, Request, opcode};
use jute::txn::{CONFIG_NODE, Txn};
use jute::{Code, Writer};

use super::{ConnectionId, Core};
use crate::acl::{self, perms};
use crate::path;
use crate::tree::Node;

/// Paths that can't be deleted.
const FIXED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
const TTL_MAX_MS: i64 = 0xff_ffff_ffff;

impl Core {
    pub(super) fn write(
        &mut self,
        from: ConnectionId,
        session: i64,
        cxid: i32,
        wall_ms: i64,
        request: Request,
    ) -> Result<Writer, Code> {
        if let Request::Multi(operations) = request {
            return Ok(self.multi(from, session, cxid, wall_ms, operations));
        }
        match self.prepare(from, request) {
            Ok(txn) => {
                let mut body = self.body();
                self.commit_and_show(session, cxid, wall_ms, txn, |core, txn| {
                    core.result(txn, &mut body);
                });
                Ok(body)
            }
            Err(code) => {
                self.fail(session, cxid, wall_ms, code);
                Err(code)
            }
        }
    }

    pub(super) fn check_acl(
        &self,
        from: ConnectionId,
        node: Node<'_>,
        wanted: i32,
    ) -> Result<(), Code> {
        if self.may(from, node, wanted) { Ok(()) } else { Err(Code::NoAuth) }
    }

    fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), Code> {
        if self.settings.enforce_quota && self.tree.exceeds_quota(path, count, bytes) {
            Err(Code::QuotaExceeded)
        } else {
            Ok(())
        }
    }

    fn fix_up(&self, from: ConnectionId, given: &[Acl]) -> Result<Vec<Acl>, Code> {
        acl::fix_up(&self.settings.auth, given, self.ids(from)).ok_or(Code::InvalidAcl)
    }

    /// The transaction that a request becomes, if the tree as it is allows it.
    fn prepare(&self, from: ConnectionId, request: Request) -> Result<Txn, Code> {
        let check_version = |current: i32, expected: i32| {
            if expected == -1 || expected == current {
                Ok(current.wrapping_add(1))
            } else {
                Err(Code::BadVersion)
            }
        };
        match request {
            Request::Create(create) => self.prepare_create(from, create),
            Request::Reconfig { .. } => self.prepare_reconfig(from, &request),
            Request::Delete { path, version } => {
                if !path.contains('/') || path.contains('\0') || FIXED.contains(&path.as_str()) {
                    return Err(Code::BadArguments);
                }
                let parent = self.tree.get(path::parent(&path)).ok_or(Code::NoNode)?;
                self.check_acl(from, parent, perms::DELETE)?;
                let node = self.tree.get(&path).ok_or(Code::NoNode)?;
                check_version(node.persisted().version, version)?;
                if node.child_count() > 0 {
                    return Err(Code::NotEmpty);
                }
                Ok(Txn::Delete { path })
            }
            Request::SetData { path, data, version } => {
                if !path::is_valid(&path) {
                    return Err(Code::BadArguments);
                }
                let node = self.tree.get(&path).ok_or(Code::NoNode)?;
                self.check_acl(from, node, perms::WRITE)?;
                let grown = data.as_ref().map_or(0, Vec::len) as i64 - node.data_length() as i64;
                self.check_quota(&path, 0, grown)?;
                let version = check_version(node.persisted().version, version)?;
                Ok(Txn::SetData { path, data, version })
            }
            Request::SetAcl { path, acl, version } => {
                if !path::is_valid(&path) {
                    return Err(Code::BadArguments);
                }
                let acl = self.fix_up(from, &acl)?;
                let node = self.tree.get(&path).ok_or(Code::NoNode)?;
                self.check_acl(from, node, perms::ADMIN)?;
                let version = check_version(node.persisted().aversion, version)?;
                Ok(Txn::SetAcl { path, acl, version })
            }
            Request::Check { path, version } => {
                if !path::is_valid(&path) {
                    return Err(Code::BadArguments);
                }
                let node = self.tree.get(&path).ok_or(Code::NoNode)?;
                self.check_acl(from, node, perms::READ)?;
                let version = check_version(node.persisted().version, version)?;
                Ok(Txn::Check { path, version })
            }
            _ => Err(Code::MarshallingError),
        }
    }

    fn prepare_create(&self, from: ConnectionId, create: Create) -> Result<Txn, Code> {
        let is_ttl = matches!(create.flags, 5 | 6);
        match (create.opcode, create.flags) {
            (opcode::CREATE_TTL, 5 | 6) => {
                if !self.settings.extended_types {
                    return Err(Code::Unimplemented);
                }
                if !create.ttl.is_some_and(|ttl| (1..=TTL_MAX_MS).contains(&ttl)) {
                    return Err(Code::BadArguments);
                }
            }
            (opcode::CREATE_TTL, _) => return Err(Code::BadArguments),
            (_, 0..=4) => {}
            _ => return Err(Code::BadArguments),
        }
        if !create.path.contains('/') || create.path.contains('\0') {
            return Err(Code::BadArguments);
        }
        let acl = self.fix_up(from, &create.acl)?;
        let parent = self.tree.get(path::parent(&create.path)).ok_or(Code::NoNode)?;
        self.check_acl(from, parent, perms::CREATE)?;
        let cversion = parent.persisted().cversion;
        let is_sequential = matches!(create.flags, 2 | 3 | 6);
        let path = if is_sequential {
            format!("{}{}", create.path, sequence(cversion))
        } else {
            create.path
        };
        if !path::is_valid(&path) {
            return Err(Code::BadArguments);
        }
        if self.tree.get(&path).is_some() {
            return Err(Code::NodeExists);
        }
        if parent.is_ephemeral() {
            return Err(Code::NoChildrenForEphemerals);
        }
        let bytes = create.data.as_ref().map_or(0, Vec::len) as i64;
        self.check_quota(&path, 1, bytes)?;
        Ok(Txn::Create {
            opcode: create.opcode,
            path,
            data: create.data,
            acl,
            ephemeral: matches!(create.flags, 1 | 3),
            parent_cversion: cversion.wrapping_add(1),
            ttl: if is_ttl { create.ttl.unwrap_or_default() } else { 0 },
        })
    }

    /// What the reply to a transaction holds.
    pub(super) fn result(&self, txn: &Txn, body: &mut Writer) {
        match txn {
            Txn::Create { opcode: kind, path, .. } => {
                body.string(path);
                if *kind != opcode::CREATE
                    && let Some(node) = self.tree.get(path)
                {
                    node.stat().write(body);
                }
            }
            Txn::Reconfig { data } => {
                body.buffer(data.as_deref());
                if let Some(node) = self.tree.get(CONFIG_NODE) {
                    node.stat().write(body);
                }
            }
            Txn::SetData { path, .. } | Txn::SetAcl { path, .. } => {
                if let Some(node) = self.tree.get(path) {
                    node.stat().write(body);
                }
            }
            _ => {}
        }
    }

    /// All or nothing: each operation sees the ones before; if one fails, the tree is as before.
    fn multi(
        &mut self,
        from: ConnectionId,
        session: i64,
        cxid: i32,
        wall_ms: i64,
        operations: Vec<Request>,
    ) -> Writer {
        let zxid = self.zxid + 1;
        let (mut txns, mut results, mut failed) = (Vec::new(), Vec::new(), None);
        self.tree.begin();
        let count = operations.len();
        for (index, operation) in operations.into_iter().enumerate() {
            let may = self.may_have(session, &operation);
            match may.and_then(|()| self.prepare(from, operation)) {
                Ok(txn) => {
                    self.apply_silently(session, zxid, wall_ms, &txn);
                    let mut body = Writer::new();
                    self.result(&txn, &mut body);
                    results.push(body);
                    txns.push(txn);
                }
                Err(code) => {
                    failed = Some((index, code));
                    break;
                }
            }
        }
        self.tree.roll_back();
        let mut body = Writer::new();
        if let Some((failed, code)) = failed {
            let errors: Vec<i32> = (0..count)
                .map(|index| match index.cmp(&failed) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => code.number(),
                    std::cmp::Ordering::Greater => Code::RuntimeInconsistency.number(),
                })
                .collect();
            self.commit(
                session,
                cxid,
                wall_ms,
                Txn::Multi(errors.iter().map(|code| Txn::Error { code: *code }).collect()),
            );
            for error in errors {
                body.int(-1).boolean(false).int(error).int(error);
            }
        } else {
            for (txn, result) in txns.iter().zip(&results) {
                let kind = match txn.kind() {
                    opcode::CREATE_CONTAINER | opcode::CREATE_TTL => opcode::CREATE2,
                    kind => kind,
                };
                body.int(kind).boolean(false).int(0).raw(result.as_bytes());
            }
            self.commit(session, cxid, wall_ms, Txn::Multi(txns));
        }
        body.int(-1).boolean(true).int(-1);
        body
    }

    /// Applies without telling watches: it may be rolled back.
    fn apply_silently(&mut self, session: i64, zxid: i64, time: i64, txn: &Txn) {
        match txn {
            Txn::Create { opcode, path, data, acl, ephemeral, parent_cversion, ttl } => {
                let owner = super::apply::owner(*opcode, *ephemeral, *ttl, session);
                let (data, parent_cversion) = (data.as_deref(), *parent_cversion);
                self.tree.create(path, data, acl, owner, parent_cversion, zxid, time);
            }
            Txn::Delete { path } => {
                self.tree.delete(path, zxid);
            }
            Txn::SetData { path, data, version } => {
                self.tree.set_data(path, data.as_deref(), *version, zxid, time);
            }
            _ => {}
        }
    }
}

/// Java's `%010d`: the sign counts among the ten characters.
fn sequence(cversion: i32) -> String {
    if cversion < 0 {
        format!("-{:09}", i64::from(cversion).abs())
    } else {
        format!("{cversion:010}")
    }
}

#[cfg(test)]
mod tests {
    use super::sequence;

    #[test]
    fn sequence_numbers_wrap_as_javas_do() {
        assert_eq!(sequence(0), "0000000000");
        assert_eq!(sequence(i32::MAX), "2147483647");
        assert_eq!(sequence(i32::MIN), "-2147483648");
        assert_eq!(sequence(-1), "-000000001");
    }
}
