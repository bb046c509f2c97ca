//! RecordIO: how streams of events are framed (Mesos' `docs/recordio.md`).
//!
//! A record is its length in decimal ASCII, a newline, and that many bytes. Records don't line up with HTTP chunks.

use bytes::{Buf as _, Bytes, BytesMut};

/// Why a stream is not RecordIO, or is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordIoError {
    /// The length is no decimal number.
    #[error("Failed to decode length '{0}': Failed to convert '{0}' to number")]
    Header(
        /// What stands there.
        String,
    ),
    /// The record is longer than the reader takes.
    #[error("record of {length} bytes is longer than the limit of {limit}")]
    TooLong {
        /// Length announced, in bytes.
        length: usize,
        /// Longest record taken, in bytes.
        limit: usize,
    },
}

/// Frames one record.
pub fn encode(payload: &[u8]) -> Bytes {
    let header = payload.len().to_string();
    let mut record = BytesMut::with_capacity(header.len() + 1 + payload.len());
    record.extend_from_slice(header.as_bytes());
    record.extend_from_slice(b"\n");
    record.extend_from_slice(payload);
    record.freeze()
}

/// Cuts a stream of bytes into records.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

/// A length has at most this many digits: 2^64 has 20.
const HEADER_MAX: usize = 20;

impl Decoder {
    /// A decoder that refuses records longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole record, or `None` until more bytes come.
    ///
    /// # Errors
    /// When the header is no length, or the record is too long; the stream can't be used any more then.
    #[expect(
        clippy::should_implement_trait,
        reason = "a decoder is fed between calls: not an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, RecordIoError> {
        let head = &self.buffer[..self.buffer.len().min(HEADER_MAX + 1)];
        let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
            return if head.len() > HEADER_MAX { Err(header_error(head)) } else { Ok(None) };
        };
        let length: usize = std::str::from_utf8(&head[..end])
            .ok()
            .filter(|digits| {
                !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
            })
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| header_error(&head[..end]))?;
        if length > self.limit {
            return Err(RecordIoError::TooLong { length, limit: self.limit });
        }
        if self.buffer.len() < end + 1 + length {
            return Ok(None);
        }
        self.buffer.advance(end + 1);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

fn header_error(header: &[u8]) -> RecordIoError {
    RecordIoError::Header(String::from_utf8_lossy(header).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive_any_chunking(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8), chunk in 1usize..20) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
            let mut decoder = Decoder::new(64);
            let mut seen = Vec::new();
            for part in stream.chunks(chunk) {
                decoder.push(part);
                while let Some(record) = decoder.next().unwrap() {
                    seen.push(record.to_vec());
                }
            }
            prop_assert_eq!(seen, records);
        }
    }

    #[test]
    fn a_header_that_is_no_length_is_refused() {
        for bytes in [&b"x\n"[..], b"-1\n", b"\n", b"123456789012345678901234567890"] {
            let mut decoder = Decoder::new(100);
            decoder.push(bytes);
            assert!(matches!(decoder.next(), Err(RecordIoError::Header(_))), "{bytes:?}");
        }
        let mut decoder = Decoder::new(100);
        decoder.push(b"xx\n{}");
        assert_eq!(
            decoder.next().unwrap_err().to_string(),
            "Failed to decode length 'xx': Failed to convert 'xx' to number"
        );
    }

    #[test]
    fn a_record_over_the_limit_is_refused_before_it_arrives() {
        let mut decoder = Decoder::new(10);
        decoder.push(b"11\n");
        assert_eq!(decoder.next(), Err(RecordIoError::TooLong { length: 11, limit: 10 }));
    }
}
