//! Records that others are made of.

use crate::codec::{DecodeError, Reader, Writer};

/// Who: a scheme and an id in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// `world`, `digest`, `ip`, `auth`, …
    pub scheme: String,
    /// What the scheme makes of it.
    pub id: String,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    /// Bits: read 1, write 2, create 4, delete 8, admin 16.
    pub perms: i32,
    /// Who.
    pub id: Id,
}

impl Acl {
    /// `world:anyone` with these bits.
    pub fn anyone(perms: i32) -> Self {
        Self { perms, id: Id { scheme: "world".to_owned(), id: "anyone".to_owned() } }
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { perms: reader.int()?, id: Id { scheme: reader.string()?, id: reader.string()? } })
    }

    /// Writes it.
    pub fn write(&self, writer: &mut Writer) {
        writer.int(self.perms).string(&self.id.scheme).string(&self.id.id);
    }
}

/// What is kept of a znode beside data and ACL (60 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatPersisted {
    /// Created by.
    pub czxid: i64,
    /// Data changed last by.
    pub mzxid: i64,
    /// Created at, in ms since 1970.
    pub ctime: i64,
    /// Data changed last at, in ms since 1970.
    pub mtime: i64,
    /// Changes of the data.
    pub version: i32,
    /// Children created.
    pub cversion: i32,
    /// Changes of the ACL.
    pub aversion: i32,
    /// The session that it ends with, 0 for none.
    pub ephemeral_owner: i64,
    /// Children changed last by.
    pub pzxid: i64,
}

impl StatPersisted {
    /// Reads one.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            czxid: reader.long()?,
            mzxid: reader.long()?,
            ctime: reader.long()?,
            mtime: reader.long()?,
            version: reader.int()?,
            cversion: reader.int()?,
            aversion: reader.int()?,
            ephemeral_owner: reader.long()?,
            pzxid: reader.long()?,
        })
    }

    /// Writes it.
    pub fn write(&self, writer: &mut Writer) {
        writer.long(self.czxid).long(self.mzxid).long(self.ctime).long(self.mtime);
        writer
            .int(self.version)
            .int(self.cversion)
            .int(self.aversion)
            .long(self.ephemeral_owner)
            .long(self.pzxid);
    }
}

/// What clients are told of a znode (68 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What is kept; `cversion` as told to clients.
    pub persisted: StatPersisted,
    /// Bytes of data.
    pub data_length: i32,
    /// Number of children.
    pub num_children: i32,
}

impl Stat {
    /// Writes it.
    pub fn write(&self, writer: &mut Writer) {
        let stat = &self.persisted;
        writer.long(stat.czxid).long(stat.mzxid).long(stat.ctime).long(stat.mtime);
        writer.int(stat.version).int(stat.cversion).int(stat.aversion).long(stat.ephemeral_owner);
        writer.int(self.data_length).int(self.num_children).long(stat.pzxid);
    }
}

/// The first message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The last zxid that it saw.
    pub last_zxid_seen: i64,
    /// The timeout that it wants, in ms.
    pub timeout: i32,
    /// Its session, 0 for a new one.
    pub session: i64,
    /// The session's password.
    pub password: Vec<u8>,
    /// Whether it would take a read-only server; old clients don't say.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Reads a whole frame.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let _protocol_version = reader.int()?;
        Ok(Self {
            last_zxid_seen: reader.long()?,
            timeout: reader.int()?,
            session: reader.long()?,
            password: reader.buffer()?.unwrap_or_default().to_vec(),
            read_only: if reader.is_empty() { None } else { Some(reader.boolean()?) },
        })
    }
}
