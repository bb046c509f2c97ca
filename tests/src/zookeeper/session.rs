//! A blocking ZooKeeper session, bare: one request at a time, and never one twice. A request whose reply is lost stays
//! undecided, which is what a checker of histories must know.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use jute::request::opcode;
use jute::{Reader, Writer};

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);

/// What lets a session go on at another server.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Its id.
    pub id: i64,
    password: Vec<u8>,
    last_zxid: i64,
}

/// Why there is no session, or no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The server says that the session has ended.
    Expired,
    /// The connection broke, or nothing came in time: what was asked may have happened.
    Connection(String),
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 0, or why it failed (`KeeperException.Code`).
    pub error: i32,
    /// The last zxid that the server had applied.
    pub zxid: i64,
    /// The record, if it did not fail.
    pub body: Vec<u8>,
}

/// What a znode's stat says that tests ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// By which transaction the data is.
    pub mzxid: i64,
    /// Changes of the data.
    pub version: i32,
    /// The session that it ends with, 0 for none.
    pub owner: i64,
}

/// A connected session.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    ticket: Ticket,
    xid: i32,
}

fn broken(error: impl std::fmt::Display) -> Lost {
    Lost::Connection(error.to_string())
}

impl Session {
    /// Connects to a port on loopback: to go on with a session, or to begin one. Replies are waited for as long as
    /// `reply_limit`.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn connect(
        port: u16,
        ticket: Option<&Ticket>,
        timeout: Duration,
        reply_limit: Duration,
    ) -> Result<Self, Lost> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT).map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        stream.set_read_timeout(Some(reply_limit)).map_err(broken)?;
        stream.set_write_timeout(Some(reply_limit)).map_err(broken)?;
        let none = Ticket { id: 0, password: vec![0; 16], last_zxid: 0 };
        let ticket = ticket.cloned().unwrap_or(none);
        let mut session = Self { stream, ticket, xid: 0 };
        let mut request = Writer::new();
        request.int(0).long(session.ticket.last_zxid);
        request.int(i32::try_from(timeout.as_millis()).map_err(broken)?);
        request.long(session.ticket.id).buffer(Some(&session.ticket.password)).boolean(false);
        session.write(request.as_bytes())?;
        let reply = session.read()?;
        let mut reply = Reader::new(&reply);
        let mut fields = || {
            reply.int()?;
            Ok::<_, jute::DecodeError>((
                reply.int()?,
                reply.long()?,
                reply.buffer()?.map(<[u8]>::to_vec).unwrap_or_default(),
            ))
        };
        let (timeout_ms, id, password) = fields().map_err(broken)?;
        if timeout_ms <= 0 || id == 0 {
            return Err(Lost::Expired);
        }
        (session.ticket.id, session.ticket.password) = (id, password);
        Ok(session)
    }

    /// What lets it go on elsewhere.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    fn write(&mut self, body: &[u8]) -> Result<(), Lost> {
        let length = i32::try_from(body.len()).map_err(broken)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).map_err(broken)
    }

    fn read(&mut self) -> Result<Vec<u8>, Lost> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(broken)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(broken)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(broken)?;
        Ok(body)
    }

    /// Asks, and waits for the reply. Events are passed over.
    ///
    /// # Errors
    /// When the reply does not come.
    pub fn call(&mut self, kind: i32, record: &Writer) -> Result<Reply, Lost> {
        self.xid += 1;
        let mut request = Writer::new();
        request.int(self.xid).int(kind).raw(record.as_bytes());
        self.write(request.as_bytes())?;
        loop {
            let frame = self.read()?;
            let mut reader = Reader::new(&frame);
            let mut header =
                || Ok::<_, jute::DecodeError>((reader.int()?, reader.long()?, reader.int()?));
            let (xid, zxid, error) = header().map_err(broken)?;
            if xid == -1 {
                continue;
            }
            if xid != self.xid {
                return Err(broken(format!("reply {xid} where {} was due", self.xid)));
            }
            if zxid > 0 {
                self.ticket.last_zxid = self.ticket.last_zxid.max(zxid);
            }
            return match error {
                -112 => Err(Lost::Expired),
                _ => Ok(Reply { error, zxid, body: reader.rest().to_vec() }),
            };
        }
    }

    /// Creates a znode that all may use; its path, unless refused.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn create(
        &mut self,
        path: &str,
        data: &[u8],
        flags: i32,
    ) -> Result<Result<String, i32>, Lost> {
        let mut record = Writer::new();
        record
            .string(path)
            .buffer(Some(data))
            .int(1)
            .int(31)
            .string("world")
            .string("anyone")
            .int(flags);
        let reply = self.call(opcode::CREATE, &record)?;
        if reply.error != 0 {
            return Ok(Err(reply.error));
        }
        Reader::new(&reply.body).string().map(Ok).map_err(broken)
    }

    /// Changes data; the stat, unless refused.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn set(
        &mut self,
        path: &str,
        data: &[u8],
        version: i32,
    ) -> Result<Result<Stat, i32>, Lost> {
        let mut record = Writer::new();
        record.string(path).buffer(Some(data)).int(version);
        let reply = self.call(opcode::SET_DATA, &record)?;
        if reply.error != 0 {
            return Ok(Err(reply.error));
        }
        stat(&mut Reader::new(&reply.body)).map(Ok)
    }

    /// Reads data and stat, unless refused.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn get(&mut self, path: &str) -> Result<Result<(Vec<u8>, Stat), i32>, Lost> {
        let mut record = Writer::new();
        record.string(path).boolean(false);
        let reply = self.call(opcode::GET_DATA, &record)?;
        if reply.error != 0 {
            return Ok(Err(reply.error));
        }
        let mut reader = Reader::new(&reply.body);
        let data = reader.buffer().map_err(broken)?.unwrap_or_default().to_vec();
        Ok(Ok((data, stat(&mut reader)?)))
    }

    /// Lists children, sorted, unless refused.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn children(&mut self, path: &str) -> Result<Result<Vec<String>, i32>, Lost> {
        let mut record = Writer::new();
        record.string(path).boolean(false);
        let reply = self.call(opcode::GET_CHILDREN, &record)?;
        if reply.error != 0 {
            return Ok(Err(reply.error));
        }
        let names = Reader::new(&reply.body).vector(Reader::string).map_err(broken)?;
        let mut names = names.unwrap_or_default();
        names.sort();
        Ok(Ok(names))
    }

    /// Lets the server catch up with its leader.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn sync(&mut self, path: &str) -> Result<Reply, Lost> {
        let mut record = Writer::new();
        record.string(path);
        self.call(opcode::SYNC, &record)
    }

    /// Ends the session; its ephemeral znodes are gone when this returns.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn close(mut self) -> Result<(), Lost> {
        self.call(opcode::CLOSE_SESSION, &Writer::new()).map(|_| ())
    }
}

fn stat(reader: &mut Reader<'_>) -> Result<Stat, Lost> {
    let mut fields = || {
        let (_czxid, mzxid) = (reader.long()?, reader.long()?);
        let (_ctime, _mtime) = (reader.long()?, reader.long()?);
        let (version, _cversion, _aversion) = (reader.int()?, reader.int()?, reader.int()?);
        Ok::<_, jute::DecodeError>(Stat { mzxid, version, owner: reader.long()? })
    };
    fields().map_err(broken)
}
