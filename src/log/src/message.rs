//! What replicas and coordinators say to each other, and its form on the wire.

use mesos::internal::log::{
    Action, LearnedMessage, PromiseRequest, PromiseResponse, RecoverRequest, RecoverResponse,
    WriteRequest, WriteResponse,
};
use mesos::libprocess::Upid;
use prost::{DecodeError, Message as _, Name};

/// The process id of a replica.
pub const REPLICA: &str = "log-replica(1)";
/// The process id that agreed actions are told from.
const NETWORK: &str = "log-network(1)";
const ROUND_PREFIX: &str = "__req_res__(";

/// Whether messages to this process id are the log's.
pub fn is_ours(process: &str) -> bool {
    process == REPLICA || round(process).is_some()
}

/// The process id that a round's requests come from, and its answers go to.
pub(crate) fn round_process(round: u64) -> String {
    format!("{ROUND_PREFIX}{round})")
}

/// The round that an answer belongs to.
pub(crate) fn round(process: &str) -> Option<u64> {
    process.strip_prefix(ROUND_PREFIX)?.strip_suffix(')')?.parse().ok()
}

/// A message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Asks for a promise; without a position for all that follow.
    Promise(PromiseRequest),
    /// Answers it.
    Promised(PromiseResponse),
    /// Asks to accept an action.
    Write(WriteRequest),
    /// Answers it.
    Written(WriteResponse),
    /// Asks where a replica stands.
    Recover,
    /// Answers it.
    Recovered(RecoverResponse),
    /// Tells of an agreed action.
    Learned(Action),
}

/// A message under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Who sends it.
    pub from: Upid,
    /// Whom to.
    pub to: Upid,
    /// What.
    pub message: Message,
}

impl Message {
    /// The process id to send it from, where that is always the same.
    pub(crate) fn sender(&self) -> &'static str {
        if matches!(self, Self::Learned(_)) { NETWORK } else { REPLICA }
    }

    /// Its name and body on the wire.
    pub fn encode(&self) -> (String, Vec<u8>) {
        fn named<M: prost::Message + Name>(message: &M) -> (String, Vec<u8>) {
            (M::full_name(), message.encode_to_vec())
        }
        match self {
            Self::Promise(message) => named(message),
            Self::Promised(message) => named(message),
            Self::Write(message) => named(message),
            Self::Written(message) => named(message),
            Self::Recover => named(&RecoverRequest {}),
            Self::Recovered(message) => named(message),
            Self::Learned(action) => named(&LearnedMessage { action: action.clone() }),
        }
    }

    /// Reads one by its name; `None` for names that are none of the log's.
    ///
    /// # Errors
    /// When the body is not what the name says.
    pub fn decode(name: &str, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Some(kind) = name.strip_prefix("mesos.internal.log.") else { return Ok(None) };
        Ok(Some(match kind {
            "PromiseRequest" => Self::Promise(PromiseRequest::decode(body)?),
            "PromiseResponse" => Self::Promised(PromiseResponse::decode(body)?),
            "WriteRequest" => Self::Write(WriteRequest::decode(body)?),
            "WriteResponse" => Self::Written(WriteResponse::decode(body)?),
            "RecoverRequest" => Self::Recover,
            "RecoverResponse" => Self::Recovered(RecoverResponse::decode(body)?),
            "LearnedMessage" => Self::Learned(LearnedMessage::decode(body)?.action),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_round_trips() {
        let action = Action { position: 3, promised: 2, ..Default::default() };
        for message in [
            Message::Promise(PromiseRequest { proposal: 1, position: Some(0) }),
            Message::Promised(PromiseResponse {
                action: Some(action.clone()),
                ..Default::default()
            }),
            Message::Write(WriteRequest { proposal: 2, r#type: 1, ..Default::default() }),
            Message::Written(WriteResponse { okay: true, ..Default::default() }),
            Message::Recover,
            Message::Recovered(RecoverResponse { status: 1, begin: Some(1), end: Some(2) }),
            Message::Learned(action),
        ] {
            let (name, body) = message.encode();
            assert_eq!(Message::decode(&name, &body).unwrap(), Some(message));
        }
        assert_eq!(Message::decode("mesos.internal.RegisterSlaveMessage", b""), Ok(None));
        assert!(Message::decode("mesos.internal.log.WriteRequest", b"\xff").is_err());
    }

    #[test]
    fn rounds_have_process_ids() {
        assert_eq!(round(&round_process(12)), Some(12));
        assert!(is_ours("log-replica(1)") && is_ours("__req_res__(1)"));
        assert!(!is_ours("master") && !is_ours("__req_res__(x)"));
    }
}
