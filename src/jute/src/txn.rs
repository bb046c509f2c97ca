//! Transactions, as the log holds them.

use crate::codec::{DecodeError, Reader, Writer};
use crate::records::Acl;
use crate::request::opcode;

/// The znode that holds the ensemble's configuration.
pub const CONFIG_NODE: &str = "/zookeeper/config";

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the log's")]
pub enum Txn {
    CreateSession {
        timeout: i32,
    },
    CloseSession {
        paths: Vec<String>,
    },
    Create {
        opcode: i32,
        path: String,
        data: Option<Vec<u8>>,
        acl: Vec<Acl>,
        ephemeral: bool,
        parent_cversion: i32,
        ttl: i64,
    },
    Delete {
        path: String,
    },
    SetData {
        path: String,
        data: Option<Vec<u8>>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: Vec<Acl>,
        version: i32,
    },
    /// The ensemble's configuration, as text: logged as data of `/zookeeper/config` under a type of its own.
    Reconfig {
        data: Option<Vec<u8>>,
    },
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Txn>),
    Error {
        code: i32,
    },
}

impl Txn {
    /// The type that the log gives it.
    pub fn kind(&self) -> i32 {
        match self {
            Self::CreateSession { .. } => opcode::CREATE_SESSION,
            Self::CloseSession { .. } => opcode::CLOSE_SESSION,
            Self::Create { opcode, .. } => *opcode,
            Self::Delete { .. } => opcode::DELETE,
            Self::SetData { .. } => opcode::SET_DATA,
            Self::SetAcl { .. } => opcode::SET_ACL,
            Self::Reconfig { .. } => opcode::RECONFIG,
            Self::Check { .. } => opcode::CHECK,
            Self::Multi(_) => opcode::MULTI,
            Self::Error { .. } => opcode::ERROR,
        }
    }

    /// Its bytes, as a multi holds them.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.into_bytes()
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::CreateSession { timeout } => {
                writer.int(*timeout);
            }
            Self::CloseSession { paths } => {
                writer.vector(paths, |writer, path| {
                    writer.string(path);
                });
            }
            Self::Create { opcode, path, data, acl, ephemeral, parent_cversion, ttl } => {
                writer
                    .string(path)
                    .buffer(data.as_deref())
                    .vector(acl, |writer, acl| acl.write(writer));
                match *opcode {
                    opcode::CREATE_TTL => writer.int(*parent_cversion).long(*ttl),
                    opcode::CREATE_CONTAINER => writer.int(*parent_cversion),
                    _ => writer.boolean(*ephemeral).int(*parent_cversion),
                };
            }
            Self::Delete { path } => {
                writer.string(path);
            }
            Self::SetData { path, data, version } => {
                writer.string(path).buffer(data.as_deref()).int(*version);
            }
            Self::SetAcl { path, acl, version } => {
                writer.string(path).vector(acl, |writer, acl| acl.write(writer)).int(*version);
            }
            Self::Reconfig { data } => {
                writer.string(CONFIG_NODE).buffer(data.as_deref()).int(-1);
            }
            Self::Check { path, version } => {
                writer.string(path).int(*version);
            }
            Self::Multi(txns) => {
                writer.vector(txns, |writer, txn| {
                    let mut inner = Writer::new();
                    txn.write(&mut inner);
                    writer.int(txn.kind()).buffer(Some(inner.as_bytes()));
                });
            }
            Self::Error { code } => {
                writer.int(*code);
            }
        }
    }

    fn read(kind: i32, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            opcode::CREATE_SESSION => Self::CreateSession { timeout: reader.int()? },
            opcode::CLOSE_SESSION => Self::CloseSession {
                paths: if reader.is_empty() {
                    Vec::new()
                } else {
                    reader.vector(Reader::string)?.unwrap_or_default()
                },
            },
            opcode::CREATE | opcode::CREATE2 | opcode::CREATE_TTL | opcode::CREATE_CONTAINER => {
                let path = reader.string()?;
                let data = reader.buffer()?.map(<[u8]>::to_vec);
                let acl = reader.vector(Acl::read)?.unwrap_or_default();
                let ephemeral = if matches!(kind, opcode::CREATE | opcode::CREATE2) {
                    reader.boolean()?
                } else {
                    false
                };
                // Logs from before 3.4 don't have it.
                let parent_cversion = reader.int().unwrap_or(-1);
                let ttl = if kind == opcode::CREATE_TTL { reader.long()? } else { 0 };
                Self::Create { opcode: kind, path, data, acl, ephemeral, parent_cversion, ttl }
            }
            opcode::DELETE | 20 => Self::Delete { path: reader.string()? },
            opcode::SET_DATA => Self::SetData {
                path: reader.string()?,
                data: reader.buffer()?.map(<[u8]>::to_vec),
                version: reader.int()?,
            },
            opcode::RECONFIG => {
                let _path = reader.string()?;
                let data = reader.buffer()?.map(<[u8]>::to_vec);
                let _version = reader.int()?;
                Self::Reconfig { data }
            }
            opcode::SET_ACL => Self::SetAcl {
                path: reader.string()?,
                acl: reader.vector(Acl::read)?.unwrap_or_default(),
                version: reader.int()?,
            },
            opcode::CHECK => Self::Check { path: reader.string()?, version: reader.int()? },
            opcode::MULTI => {
                let parts = reader
                    .vector(|reader| {
                        Ok((reader.int()?, reader.buffer()?.unwrap_or_default().to_vec()))
                    })?
                    .unwrap_or_default();
                let txns = parts.iter().map(|(kind, data)| {
                    if *kind == opcode::MULTI {
                        Err(DecodeError::Length(*kind))
                    } else {
                        Self::read(*kind, &mut Reader::new(data))
                    }
                });
                Self::Multi(txns.collect::<Result<_, _>>()?)
            }
            opcode::ERROR => Self::Error { code: reader.int()? },
            other => return Err(DecodeError::Length(other)),
        })
    }
}

/// A transaction with its header and digest: the payload of a log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The session that asked for it.
    pub session: i64,
    /// The client's number for the request.
    pub cxid: i32,
    /// Its place in the order of all.
    pub zxid: i64,
    /// When, in ms since 1970.
    pub time: i64,
    /// What it does.
    pub txn: Txn,
    /// The tree's digest after it, if known.
    pub digest: Option<i64>,
}

/// The version of digests that 3.8 writes.
const DIGEST_VERSION: i32 = 2;

/// What most transactions take, in bytes.
const ENCODED: usize = 256;

impl Entry {
    /// As the log holds it.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(ENCODED);
        writer
            .long(self.session)
            .int(self.cxid)
            .long(self.zxid)
            .long(self.time)
            .int(self.txn.kind());
        self.txn.write(&mut writer);
        if let Some(digest) = self.digest {
            writer.int(DIGEST_VERSION).long(digest);
        }
        writer.into_bytes()
    }

    /// Reads a log entry's payload.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let (session, cxid, zxid, time, kind) =
            (reader.long()?, reader.int()?, reader.long()?, reader.long()?, reader.int()?);
        let txn = Txn::read(kind, &mut reader)?;
        let digest = match (reader.int(), reader.long()) {
            (Ok(DIGEST_VERSION), Ok(digest)) => Some(digest),
            _ => None,
        };
        Ok(Self { session, cxid, zxid, time, txn, digest })
    }
}
