//! What members say to each other: packets of Zab, and the hello and the notifications of the election.
//!
//! Packets follow each other without a frame, so reading one from what has arrived says whether it is whole.

use jute::records::Id;
use jute::request::opcode;
use jute::{DecodeError, Reader, Writer};

use super::configuration::Endpoint;

/// Bytes of a packet without data and ids.
const FIXED: usize = 20;
/// The longest field of a packet: a proposal holds at most a client's frame and what the server adds.
pub const FIELD_MAX: usize = 64 << 20;
/// The longest notification.
pub const NOTIFICATION_MAX: usize = 512 << 10;
/// The election's protocol version in a hello.
const HELLO_VERSION: i64 = -65536;
/// The same with several addresses.
const HELLO_VERSION_2: i64 = -65535;
/// The protocol version of a learner.
pub const LEARNER_VERSION: i32 = 0x1_0000;

/// Packets by type.
#[expect(missing_docs, reason = "the names are the protocol's")]
pub mod kind {
    pub const REQUEST: i32 = 1;
    pub const PROPOSAL: i32 = 2;
    pub const ACK: i32 = 3;
    pub const COMMIT: i32 = 4;
    pub const PING: i32 = 5;
    pub const REVALIDATE: i32 = 6;
    pub const SYNC: i32 = 7;
    pub const INFORM: i32 = 8;
    pub const COMMITANDACTIVATE: i32 = 9;
    pub const NEWLEADER: i32 = 10;
    pub const FOLLOWERINFO: i32 = 11;
    pub const UPTODATE: i32 = 12;
    pub const DIFF: i32 = 13;
    pub const TRUNC: i32 = 14;
    pub const SNAP: i32 = 15;
    pub const OBSERVERINFO: i32 = 16;
    pub const LEADERINFO: i32 = 17;
    pub const ACKEPOCH: i32 = 18;
    pub const INFORMANDACTIVATE: i32 = 19;
}

/// A packet of Zab (`QuorumPacket`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// One of [`kind`].
    pub kind: i32,
    /// What it is about.
    pub zxid: i64,
    /// The rest.
    pub data: Option<Vec<u8>>,
    /// Who a forwarded request is from.
    pub ids: Option<Vec<Id>>,
}

impl Packet {
    /// A packet without data.
    pub fn bare(kind: i32, zxid: i64) -> Self {
        Self { kind, zxid, data: None, ids: None }
    }

    /// A packet with data.
    pub fn with(kind: i32, zxid: i64, data: Vec<u8>) -> Self {
        Self { kind, zxid, data: Some(data), ids: None }
    }

    /// Tells an observer what is committed; `named` is the leader that a change of the ensemble names.
    pub fn inform(zxid: i64, data: &[u8], named: Option<i64>) -> Self {
        match named {
            Some(leader) => {
                let data = [&leader.to_be_bytes(), data].concat();
                Self::with(kind::INFORMANDACTIVATE, zxid, data)
            }
            None => Self::with(kind::INFORM, zxid, data.to_vec()),
        }
    }

    /// The session that a request or a question of one is about.
    pub fn session(&self) -> Option<i64> {
        self.data.as_deref()?.first_chunk().map(|bytes| i64::from_be_bytes(*bytes))
    }

    /// Whether it is a client's request to see what is committed by now.
    pub fn is_sync(&self) -> bool {
        let kind = self.data.as_deref().and_then(|data| data.get(12..16));
        self.kind == kind::REQUEST && kind == Some(&opcode::SYNC.to_be_bytes())
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let ids = self.ids.iter().flatten().map(|id| 8 + id.scheme.len() + id.id.len());
        let length = FIXED + self.data.as_ref().map_or(0, Vec::len) + ids.sum::<usize>();
        let mut out = Writer::with_capacity(length);
        out.int(self.kind).long(self.zxid).buffer(self.data.as_deref());
        match &self.ids {
            None => {
                out.int(-1);
            }
            Some(ids) => {
                out.vector(ids, |out, id| {
                    out.string(&id.scheme).string(&id.id);
                });
            }
        }
        out.into_bytes()
    }

    /// Reads the packet that `bytes` begin with, and how long it is; `None` while it is not whole.
    ///
    /// # Errors
    /// When it can never become a packet.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (Ok(kind), Ok(zxid)) = (reader.int(), reader.long()) else { return Ok(None) };
        if !(1..=19).contains(&kind) {
            return Err(DecodeError::Short);
        }
        let Some(length) = reader.rest().first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        if length < -1 || length > FIELD_MAX as i32 {
            return Err(DecodeError::Short);
        }
        if reader.rest().len() < 4 + length.max(0) as usize {
            return Ok(None);
        }
        let data = reader.buffer()?.map(<[u8]>::to_vec);
        let Some(count) = reader.rest().first_chunk::<4>() else { return Ok(None) };
        let count = i32::from_be_bytes(*count);
        let ids = match count {
            -1 => {
                reader.int()?;
                None
            }
            0..=1024 => {
                let read = reader
                    .vector(|reader| Ok(Id { scheme: reader.string()?, id: reader.string()? }));
                match read {
                    Ok(ids) => ids,
                    Err(_) if reader.rest().len() < FIELD_MAX => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            _ => return Err(DecodeError::Short),
        };
        let used = bytes.len() - reader.rest().len();
        Ok(Some((Self { kind, zxid, data, ids }, used)))
    }
}

/// What a member does, as its notifications say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It looks for a leader.
    Looking,
    /// It follows one.
    Following,
    /// It leads.
    Leading,
    /// It observes.
    Observing,
}

/// Whom a member votes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The proposed leader.
    pub leader: i64,
    /// The last zxid in its log.
    pub zxid: i64,
    /// Its epoch.
    pub epoch: i64,
}

/// A notification of the election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What the sender does.
    pub state: State,
    /// Its vote.
    pub vote: Vote,
    /// The round of the election.
    pub round: i64,
}

impl Notification {
    /// Its bytes, the length in front, with the text of the configuration.
    pub fn encode(&self, config: &str) -> Vec<u8> {
        let mut body = Writer::new();
        let state = match self.state {
            State::Looking => 0,
            State::Following => 1,
            State::Leading => 2,
            State::Observing => 3,
        };
        body.int(state).long(self.vote.leader).long(self.vote.zxid).long(self.round);
        body.long(self.vote.epoch).int(2).buffer(Some(config.as_bytes()));
        let mut out = Writer::new();
        out.buffer(Some(body.as_bytes()));
        out.into_bytes()
    }

    /// The text of the sender's configuration; older forms have none.
    pub fn configuration(body: &[u8]) -> Option<&[u8]> {
        // Bodies of 40 bytes and less are from before there was one.
        let mut reader = Reader::new(body.get(36..).filter(|rest| rest.len() > 4)?);
        let version = reader.int().ok()?;
        (version > 1).then(|| reader.buffer().ok().flatten()).flatten()
    }

    /// Reads the body of one, of the older forms too.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let state = match reader.int()? {
            0 => State::Looking,
            1 => State::Following,
            2 => State::Leading,
            3 => State::Observing,
            _ => return Err(DecodeError::Short),
        };
        let (leader, zxid, round) = (reader.long()?, reader.long()?, reader.long()?);
        let epoch = reader.long().unwrap_or(zxid >> 32);
        Ok(Self { state, vote: Vote { leader, zxid, epoch }, round })
    }
}

/// What the side that dials for the election says first. Several addresses are said only by those who have them, as
/// older servers don't understand it.
pub fn hello(id: i64, addresses: &[Endpoint]) -> Vec<u8> {
    let version = if addresses.len() > 1 { HELLO_VERSION_2 } else { HELLO_VERSION };
    let text: Vec<String> = addresses.iter().map(Endpoint::to_string).collect();
    let mut out = Writer::new();
    out.long(version).long(id).string(&text.join("|"));
    out.into_bytes()
}

/// Reads the addresses in a hello; those that are no address are left out.
pub fn hello_addresses(text: &[u8]) -> Vec<Endpoint> {
    let text = String::from_utf8_lossy(text);
    let read = |part: &str| {
        let (host, port) = part.rsplit_once(':')?;
        let host = host.trim_matches(['[', ']']);
        let is_wildcard = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let port = port.parse().ok().filter(|_| !host.is_empty() && !is_wildcard)?;
        Some(Endpoint { host: host.to_owned(), port })
    };
    text.split('|').filter_map(read).collect()
}

/// Reads a hello's fixed part: the sender's id and how long the address is that follows.
///
/// # Errors
/// When it is no hello of a version that we know.
pub fn decode_hello(head: &[u8; 20]) -> Result<(i64, usize), DecodeError> {
    let mut reader = Reader::new(head);
    let (version, id, length) = (reader.long()?, reader.long()?, reader.int()?);
    if !matches!(version, HELLO_VERSION | HELLO_VERSION_2) || !(1..=2048).contains(&length) {
        return Err(DecodeError::Short);
    }
    Ok((id, length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packets_are_read_back_and_never_before_they_are_whole(
            kind in 1..=19, zxid: i64, data: Option<Vec<u8>>, names in prop::option::of(prop::collection::vec("[a-z]{0,5}", 0..4)), more: Vec<u8>,
        ) {
            let ids = names.map(|names| names.into_iter().map(|name| Id { scheme: name.clone(), id: name }).collect());
            let packet = Packet { kind, zxid, data, ids };
            let bytes = packet.encode();
            for end in 0..bytes.len() {
                prop_assert_eq!(Packet::decode(&bytes[..end]), Ok(None));
            }
            let all = [bytes.clone(), more].concat();
            prop_assert_eq!(Packet::decode(&all), Ok(Some((packet, bytes.len()))));
        }

        #[test]
        fn garbage_does_no_harm(bytes: Vec<u8>) {
            let _ = Packet::decode(&bytes);
            let _ = Notification::decode(&bytes);
        }
    }

    #[test]
    fn notifications_have_the_originals_bytes() {
        let vote = Vote { leader: 3, zxid: 0x1_0000_0002, epoch: 1 };
        let notification = Notification { state: State::Following, vote, round: 7 };
        let bytes = notification.encode("version=0");
        assert_eq!(bytes.len(), 4 + 4 + 8 * 4 + 4 + 4 + 9);
        assert_eq!(bytes[..4], [0, 0, 0, 53]);
        assert_eq!(Notification::decode(&bytes[4..]), Ok(notification));
        assert_eq!(Notification::configuration(&bytes[4..]), Some(&b"version=0"[..]));
        assert_eq!(Notification::configuration(&bytes[4..44]), None);
    }

    #[test]
    fn hellos_say_one_address_or_several() {
        let at = |host: &str| Endpoint { host: host.to_owned(), port: 3888 };
        let one = hello(2, &[at("127.0.0.1")]);
        assert_eq!(decode_hello(one.first_chunk().unwrap()), Ok((2, 14)));
        let two = hello(2, &[at("::1"), at("b")]);
        assert_eq!(decode_hello(two.first_chunk().unwrap()), Ok((2, 17)));
        assert_eq!(hello_addresses(&two[20..]), [at("::1"), at("b")]);
        assert_eq!(hello_addresses(b"0.0.0.0:3888|:1|x:y|[::]:2"), []);
    }
}
