//! Reads, and what doesn't go through the log (`FinalRequestProcessor`).

use jute::request::{Request, opcode};
use jute::{Code, Writer};

use super::apply::Event;
use super::{ConnectionId, Core};
use crate::acl::{self, perms};
use crate::tree::Node;
use crate::watch::Mode;

impl Core {
    pub(super) fn may(&self, from: ConnectionId, node: Node<'_>, wanted: i32) -> bool {
        self.settings.skip_acl
            || node.is_open()
            || acl::is_allowed(&self.settings.auth, node.acl(), wanted, self.ids(from))
    }

    fn readable(&self, from: ConnectionId, path: &str) -> Result<Node<'_>, Code> {
        let node = self.tree.get(path).ok_or(Code::NoNode)?;
        if self.may(from, node, perms::READ) { Ok(node) } else { Err(Code::NoAuth) }
    }

    pub(super) fn read(
        &mut self,
        from: ConnectionId,
        session: i64,
        request: Request,
    ) -> Result<Writer, Code> {
        let mut body = self.body();
        match request {
            Request::Ping => {}
            Request::Sync { path } => {
                body.string(&path);
            }
            Request::Exists { path, watch } => {
                if path.contains('\0') {
                    return Err(Code::BadArguments);
                }
                let stat = self.readable(from, &path).map(|node| node.stat());
                self.note_read(&path, 0);
                if watch && stat != Err(Code::NoAuth) {
                    self.data_watches.add(&path, from, Mode::Standard);
                }
                stat?.write(&mut body);
            }
            Request::GetData { path, watch } => {
                let node = self.readable(from, &path)?;
                body.buffer(node.data());
                node.stat().write(&mut body);
                let bytes = node.data().map_or(0, <[u8]>::len);
                self.note_read(&path, bytes);
                if watch {
                    self.data_watches.add(&path, from, Mode::Standard);
                }
            }
            Request::GetChildren { path, watch, with_stat } => {
                let node = self.readable(from, &path)?;
                body.vector(&node.children(), |writer, name| {
                    writer.string(name);
                });
                let bytes = body.as_bytes().len();
                if with_stat {
                    node.stat().write(&mut body);
                }
                self.note_read(&path, bytes);
                if watch {
                    self.child_watches.add(&path, from, Mode::Standard);
                }
            }
            Request::GetAcl { path } => {
                let node = self.tree.get(&path).ok_or(Code::NoNode)?;
                if !self.may(from, node, perms::READ | perms::ADMIN) {
                    return Err(Code::NoAuth);
                }
                let shown = if self.may(from, node, perms::ADMIN) {
                    node.acl().to_vec()
                } else {
                    acl::masked(node.acl())
                };
                body.vector(&shown, |writer, entry| entry.write(writer));
                node.stat().write(&mut body);
            }
            Request::MultiRead(operations) => {
                for operation in operations {
                    let kind = if matches!(operation, Request::GetData { .. }) {
                        opcode::GET_DATA
                    } else {
                        opcode::GET_CHILDREN
                    };
                    match self.read(from, session, operation) {
                        Ok(result) => body.int(kind).boolean(false).int(0).raw(result.as_bytes()),
                        Err(code) => {
                            body.int(-1).boolean(false).int(code.number()).int(code.number())
                        }
                    };
                }
                body.int(-1).boolean(true).int(-1);
            }
            Request::GetEphemerals { prefix } => {
                let everything = prefix.trim().is_empty() || prefix == "/";
                let paths: Vec<String> = self
                    .tree
                    .ephemerals(session)
                    .into_iter()
                    .filter(|path| everything || path.starts_with(&prefix))
                    .collect();
                body.vector(&paths, |writer, path| {
                    writer.string(path);
                });
            }
            Request::GetAllChildrenNumber { path } => {
                self.readable(from, &path)?;
                body.int(self.tree.descendants(&path) as i32);
            }
            Request::WhoAmI => {
                let ids: Vec<(String, String)> = self
                    .ids(from)
                    .iter()
                    .map(|id| (id.scheme.clone(), self.settings.auth.user(id).to_owned()))
                    .collect();
                body.vector(&ids, |writer, (scheme, user)| {
                    writer.string(scheme).string(user);
                });
            }
            Request::AddWatch { path, mode } => {
                let mode = match mode {
                    0 => Mode::Persistent,
                    1 => Mode::Recursive,
                    _ => return Err(Code::MarshallingError),
                };
                self.data_watches.add(&path, from, mode);
                self.child_watches.add(&path, from, mode);
                body.int(0);
            }
            Request::CheckWatches { path, kind } => {
                if !self.watched(&path, kind)? {
                    return Err(Code::NoWatcher);
                }
            }
            Request::RemoveWatches { path, kind } => {
                self.watched(&path, kind)?;
                let of_children = kind != 2 && self.child_watches.remove(&path, from);
                let of_data = kind != 1 && self.data_watches.remove(&path, from);
                if !(of_children || of_data) {
                    return Err(Code::NoWatcher);
                }
            }
            Request::SetWatches { relative_zxid, data, exist, child, persistent, recursive } => {
                self.set_watches(from, relative_zxid, &data, &exist, &child);
                for (paths, mode) in [(persistent, Mode::Persistent), (recursive, Mode::Recursive)]
                {
                    for path in paths {
                        self.data_watches.add(&path, from, mode);
                        self.child_watches.add(&path, from, mode);
                    }
                }
            }
            _ => return Err(Code::Unimplemented),
        }
        Ok(body)
    }

    /// Whether a path is watched, by whomever: the original's check does not look at whose watch it is
    /// (`WatchManager.containsWatcher`).
    fn watched(&self, path: &str, kind: i32) -> Result<bool, Code> {
        match kind {
            1 => Ok(self.child_watches.is_watched(path)),
            2 => Ok(self.data_watches.is_watched(path)),
            3 => Ok(self.child_watches.is_watched(path) || self.data_watches.is_watched(path)),
            _ => Err(Code::MarshallingError),
        }
    }

    /// Watches of a client that was away: what it missed is told now, the rest is watched again.
    fn set_watches(
        &mut self,
        from: ConnectionId,
        relative_zxid: i64,
        data: &[String],
        exist: &[String],
        child: &[String],
    ) {
        for path in data {
            match self.tree.get(path).map(|node| node.persisted().mzxid) {
                None => self.send_event(from, path, Event::Deleted),
                Some(mzxid) if mzxid > relative_zxid => {
                    self.send_event(from, path, Event::DataChanged)
                }
                Some(_) => self.data_watches.add(path, from, Mode::Standard),
            }
        }
        for path in exist {
            if self.tree.get(path).is_some() {
                self.send_event(from, path, Event::Created);
            } else {
                self.data_watches.add(path, from, Mode::Standard);
            }
        }
        for path in child {
            match self.tree.get(path).map(|node| node.persisted().pzxid) {
                None => self.send_event(from, path, Event::Deleted),
                Some(pzxid) if pzxid > relative_zxid => {
                    self.send_event(from, path, Event::ChildrenChanged)
                }
                Some(_) => self.child_watches.add(path, from, Mode::Standard),
            }
        }
    }
}
