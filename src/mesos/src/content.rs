//! The two encodings of the v1 HTTP APIs.

use bytes::Bytes;
use prost::Message;

use crate::json::{self, Dialect, Json, JsonError};
use crate::required::is_complete;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`, v1 names.
    Json,
    /// `application/x-protobuf`.
    Protobuf,
}

/// Why a body is no message. The texts are those of the original's 400 replies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Not JSON at all.
    #[error("Failed to parse body into JSON: {0}")]
    Syntax(JsonError),
    /// JSON, but not of the message's shape.
    #[error("Failed to convert JSON into Call protobuf: {0}")]
    Shape(JsonError),
    /// Not the protobuf encoding of the message.
    #[error("Failed to parse body into Call protobuf")]
    Protobuf,
}

impl ContentType {
    /// From a `Content-Type` value, compared exactly, as the original does. Parameters after `;` are refused as well.
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "application/json" => Some(Self::Json),
            "application/x-protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }

    /// From an `Accept` value: JSON when both would do or none is named.
    pub fn accepted(value: Option<&str>) -> Option<Self> {
        let Some(value) = value else { return Some(Self::Json) };
        let mut protobuf = false;
        for media in value.split(',') {
            let mut parts = media.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            // What has no weight is not wanted.
            if parts.filter_map(|part| part.strip_prefix("q=")).any(|q| q.parse() == Ok(0.0)) {
                continue;
            }
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            if is("*/*") || is("application/*") || is("application/json") {
                return Some(Self::Json);
            }
            protobuf |= is("application/x-protobuf");
        }
        protobuf.then_some(Self::Protobuf)
    }

    /// The header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// Encodes a message.
    pub fn encode<M: Json + Message>(self, message: &M) -> Bytes {
        match self {
            Self::Json => json::to_string(message, Dialect::V1).into(),
            Self::Protobuf => message.encode_to_vec().into(),
        }
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// When the body is no such message; the text says where.
    pub fn decode<M: Json + Message>(self, body: &[u8]) -> Result<M, ContentError> {
        match self {
            Self::Json => json::from_slice(body, Dialect::V1).map_err(|error| match error {
                JsonError::Syntax { .. } | JsonError::Trailing(_) | JsonError::Range => {
                    ContentError::Syntax(error)
                }
                other => ContentError::Shape(other),
            }),
            Self::Protobuf => {
                let message = M::decode(body).map_err(|_| ContentError::Protobuf)?;
                if is_complete::<M>(body) { Ok(message) } else { Err(ContentError::Protobuf) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers_choose_as_the_original_does() {
        assert_eq!(ContentType::accepted(None), Some(ContentType::Json));
        assert_eq!(ContentType::accepted(Some("*/*")), Some(ContentType::Json));
        assert_eq!(
            ContentType::accepted(Some("application/x-protobuf")),
            Some(ContentType::Protobuf)
        );
        assert_eq!(
            ContentType::accepted(Some("text/html, application/json;q=0.5")),
            Some(ContentType::Json)
        );
        assert_eq!(ContentType::accepted(Some("APPLICATION/JSON")), Some(ContentType::Json));
        assert_eq!(ContentType::accepted(Some("text/html")), None);
        assert_eq!(ContentType::accepted(Some("application/json;q=0")), None);
        assert_eq!(
            ContentType::accepted(Some("application/json; q=0.0, application/x-protobuf")),
            Some(ContentType::Protobuf)
        );
        assert_eq!(ContentType::parse("Application/JSON"), None);
    }
}
