//! Requests of clients, by opcode (`ZooDefs.OpCode`).

use crate::codec::{DecodeError, Reader};
use crate::records::Acl;

/// Opcodes by name.
#[expect(missing_docs, reason = "the names say it")]
pub mod opcode {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;

    /// Whether a request asks for a transaction of its own. (`CHECK` does only within others.)
    #[must_use]
    pub fn is_write(code: i32) -> bool {
        matches!(
            code,
            CREATE
                | CREATE2
                | CREATE_CONTAINER
                | CREATE_TTL
                | DELETE
                | SET_DATA
                | SET_ACL
                | MULTI
                | RECONFIG
                | CLOSE_SESSION
        )
    }
}

/// The number of every ping (`ClientCnxn.PING_XID`).
pub const PING_XID: i32 = -2;

/// A request to create a znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Its path, without the number of a sequential one.
    pub path: String,
    /// Its data; null is not the same as empty.
    pub data: Option<Vec<u8>>,
    /// Who may do what with it; null and empty are refused.
    pub acl: Vec<Acl>,
    /// What kind it is to be.
    pub flags: i32,
    /// Its time to live in ms, for TTL nodes.
    pub ttl: Option<i64>,
    /// The opcode, which says what the reply holds and whether it is a container.
    pub opcode: i32,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum Request {
    Create(Create),
    Delete {
        path: String,
        version: i32,
    },
    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    SetData {
        path: String,
        data: Option<Vec<u8>>,
        version: i32,
    },
    GetAcl {
        path: String,
    },
    SetAcl {
        path: String,
        acl: Vec<Acl>,
        version: i32,
    },
    GetChildren {
        path: String,
        watch: bool,
        with_stat: bool,
    },
    Sync {
        path: String,
    },
    Ping,
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Request>),
    MultiRead(Vec<Request>),
    CheckWatches {
        path: String,
        kind: i32,
    },
    RemoveWatches {
        path: String,
        kind: i32,
    },
    Auth {
        scheme: String,
        auth: Option<Vec<u8>>,
    },
    SetWatches {
        relative_zxid: i64,
        data: Vec<String>,
        exist: Vec<String>,
        child: Vec<String>,
        persistent: Vec<String>,
        recursive: Vec<String>,
    },
    Sasl {
        token: Vec<u8>,
    },
    GetEphemerals {
        prefix: String,
    },
    GetAllChildrenNumber {
        path: String,
    },
    AddWatch {
        path: String,
        mode: i32,
    },
    WhoAmI,
    Reconfig {
        joining: Option<String>,
        leaving: Option<String>,
        members: Option<String>,
        version: i64,
    },
    CloseSession,
    Unknown,
}

/// A request with its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed {
    /// The client's number for it; of pings always their own, by which they are answered.
    pub xid: i32,
    /// What it asks.
    pub opcode: i32,
    /// Its body, if it can be read.
    pub request: Result<Request, DecodeError>,
}

/// A path where the original can't do without one: null makes the request unreadable, other than in those that validate it
/// first (`setData`, `setACL`, `check`).
fn given_path(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = reader.buffer()?.ok_or(DecodeError::Length(-1))?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

impl Request {
    /// Reads a whole frame.
    ///
    /// # Errors
    /// When there is no header.
    pub fn decode(frame: &[u8]) -> Result<Framed, DecodeError> {
        let mut reader = Reader::new(frame);
        let (given, opcode) = (reader.int()?, reader.int()?);
        let xid = if opcode == opcode::PING { PING_XID } else { given };
        Ok(Framed { xid, opcode, request: Self::body(opcode, &mut reader) })
    }

    /// In a multi the flags, not the opcode, say what is created, and plain znodes are answered as by `create` (`Op`); a
    /// time to live that is not there makes it unreadable, and reads set no watches.
    fn in_multi(mut self) -> Result<Self, DecodeError> {
        match &mut self {
            Self::Create(create) => {
                create.opcode = match (create.opcode, create.flags) {
                    (opcode::CREATE_TTL, 5 | 6) => opcode::CREATE_TTL,
                    (_, flags @ (5 | 6)) => return Err(DecodeError::Kind(flags)),
                    (_, 4) => opcode::CREATE_CONTAINER,
                    _ => opcode::CREATE,
                };
            }
            Self::GetData { watch, .. } | Self::GetChildren { watch, .. } => *watch = false,
            _ => {}
        }
        Ok(self)
    }

    fn body(kind: i32, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        use opcode as o;
        Ok(match kind {
            o::CREATE | o::CREATE2 | o::CREATE_CONTAINER | o::CREATE_TTL => {
                let path = given_path(reader)?;
                let data = reader.buffer()?.map(<[u8]>::to_vec);
                let acl = reader.vector(Acl::read)?.unwrap_or_default();
                let flags = reader.int()?;
                let ttl = if kind == o::CREATE_TTL { Some(reader.long()?) } else { None };
                Self::Create(Create { path, data, acl, flags, ttl, opcode: kind })
            }
            o::DELETE => Self::Delete { path: given_path(reader)?, version: reader.int()? },
            o::EXISTS => Self::Exists { path: given_path(reader)?, watch: reader.boolean()? },
            o::GET_DATA => Self::GetData { path: given_path(reader)?, watch: reader.boolean()? },
            o::SET_DATA => Self::SetData {
                path: reader.string()?,
                data: reader.buffer()?.map(<[u8]>::to_vec),
                version: reader.int()?,
            },
            o::GET_ACL => Self::GetAcl { path: given_path(reader)? },
            o::SET_ACL => Self::SetAcl {
                path: reader.string()?,
                acl: reader.vector(Acl::read)?.unwrap_or_default(),
                version: reader.int()?,
            },
            o::GET_CHILDREN | o::GET_CHILDREN2 => Self::GetChildren {
                path: given_path(reader)?,
                watch: reader.boolean()?,
                with_stat: kind == o::GET_CHILDREN2,
            },
            o::SYNC => Self::Sync { path: reader.string()? },
            o::PING => Self::Ping,
            o::CHECK => Self::Check { path: reader.string()?, version: reader.int()? },
            o::MULTI | o::MULTI_READ => {
                let mut operations = Vec::new();
                loop {
                    let (inner, done) = (reader.int()?, reader.boolean()?);
                    let _err = reader.int()?;
                    if done {
                        break;
                    }
                    let allowed: &[i32] = if kind == o::MULTI {
                        &[
                            o::CREATE,
                            o::CREATE2,
                            o::CREATE_CONTAINER,
                            o::CREATE_TTL,
                            o::DELETE,
                            o::SET_DATA,
                            o::CHECK,
                        ]
                    } else {
                        &[o::GET_DATA, o::GET_CHILDREN]
                    };
                    if !allowed.contains(&inner) {
                        return Err(DecodeError::Kind(inner));
                    }
                    operations.push(Self::body(inner, reader)?.in_multi()?);
                }
                if kind == o::MULTI { Self::Multi(operations) } else { Self::MultiRead(operations) }
            }
            o::CHECK_WATCHES => Self::CheckWatches { path: reader.string()?, kind: reader.int()? },
            o::REMOVE_WATCHES => {
                Self::RemoveWatches { path: reader.string()?, kind: reader.int()? }
            }
            o::AUTH => {
                let _type = reader.int()?;
                Self::Auth { scheme: reader.string()?, auth: reader.buffer()?.map(<[u8]>::to_vec) }
            }
            o::SET_WATCHES | o::SET_WATCHES2 => {
                let relative_zxid = reader.long()?;
                let mut paths = || reader.vector(given_path)?.ok_or(DecodeError::Length(-1));
                let (data, exist, child) = (paths()?, paths()?, paths()?);
                let (persistent, recursive) =
                    if kind == o::SET_WATCHES2 { (paths()?, paths()?) } else { Default::default() };
                Self::SetWatches { relative_zxid, data, exist, child, persistent, recursive }
            }
            o::SASL => Self::Sasl { token: reader.buffer()?.unwrap_or_default().to_vec() },
            o::GET_EPHEMERALS => Self::GetEphemerals { prefix: reader.string()? },
            o::GET_ALL_CHILDREN_NUMBER => Self::GetAllChildrenNumber { path: given_path(reader)? },
            o::ADD_WATCH => Self::AddWatch { path: reader.string()?, mode: reader.int()? },
            o::WHO_AM_I => Self::WhoAmI,
            o::RECONFIG => {
                let mut text = || {
                    let bytes = reader.buffer()?;
                    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
                };
                let (joining, leaving, members) = (text()?, text()?, text()?);
                Self::Reconfig { joining, leaving, members, version: reader.long()? }
            }
            o::CLOSE_SESSION => Self::CloseSession,
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Writer;

    fn decoded(frame: &mut Writer) -> Result<Request, DecodeError> {
        Request::decode(frame.as_bytes()).unwrap().request
    }

    fn multi(
        kind: i32,
        inner: i32,
        write: impl FnOnce(&mut Writer),
    ) -> Result<Request, DecodeError> {
        let mut frame = Writer::new();
        frame.int(1).int(kind).int(inner).boolean(false).int(-1);
        write(&mut frame);
        decoded(frame.int(-1).boolean(true).int(-1))
    }

    #[test]
    fn a_multi_is_unreadable_where_a_time_to_live_is_missing_or_an_operation_has_no_place_in_it() {
        for (inner, flags, expected) in [
            (opcode::CREATE, 0, None),
            (opcode::CREATE, 5, Some(DecodeError::Kind(5))),
            (opcode::CREATE2, 6, Some(DecodeError::Kind(6))),
            (opcode::CREATE_CONTAINER, 5, Some(DecodeError::Kind(5))),
            (opcode::SET_ACL, 0, Some(DecodeError::Kind(opcode::SET_ACL))),
        ] {
            let request = multi(opcode::MULTI, inner, |frame| {
                frame.string("/a").buffer(None).int(0).int(flags);
            });
            assert_eq!(request.err(), expected, "{inner} {flags}");
        }
    }

    #[test]
    fn reads_in_a_multi_set_no_watches() {
        for inner in [opcode::GET_DATA, opcode::GET_CHILDREN] {
            let request = multi(opcode::MULTI_READ, inner, |frame| {
                frame.string("/a").boolean(true);
            });
            let Ok(Request::MultiRead(operations)) = &request else { panic!("{request:?}") };
            assert!(
                matches!(
                    operations[..],
                    [Request::GetData { watch: false, .. }
                        | Request::GetChildren { watch: false, .. }]
                ),
                "{operations:?}"
            );
        }
    }

    #[test]
    fn lists_of_watches_and_their_paths_can_not_be_null() {
        let list = |frame: &mut Writer, path: i32| {
            frame.int(1).int(path);
        };
        for (nulls, readable) in [([0, 0, 0], true), ([-1, 0, 0], false), ([0, 0, -1], false)] {
            let mut frame = Writer::new();
            frame.int(-8).int(opcode::SET_WATCHES).long(0);
            for path in nulls {
                list(&mut frame, path);
            }
            assert_eq!(decoded(&mut frame).is_ok(), readable, "{nulls:?}");
        }
        let mut frame = Writer::new();
        frame.int(-8).int(opcode::SET_WATCHES2).long(0).int(0).int(0).int(0).int(0).int(-1);
        assert_eq!(decoded(&mut frame), Err(DecodeError::Length(-1)));
    }

    #[test]
    fn a_path_of_null_makes_most_requests_unreadable() {
        for (kind, readable) in [
            (opcode::DELETE, false),
            (opcode::EXISTS, false),
            (opcode::GET_DATA, false),
            (opcode::GET_ACL, false),
            (opcode::GET_CHILDREN2, false),
            (opcode::GET_ALL_CHILDREN_NUMBER, false),
            (opcode::CHECK, true),
            (opcode::GET_EPHEMERALS, true),
        ] {
            let mut frame = Writer::new();
            frame.int(1).int(kind).int(-1).int(0);
            let framed = Request::decode(frame.as_bytes()).unwrap();
            assert_eq!(framed.request.is_ok(), readable, "{kind}");
        }
    }
}
