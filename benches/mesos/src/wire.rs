//! HTTP/1.1 as masters write it, cut from a stream of bytes.

use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes, BytesMut};

/// A message or an answer with its whole body.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The head, without the empty line.
    pub(crate) head: Bytes,
    /// The body, without the framing of its chunks.
    pub(crate) body: Bytes,
}

impl Whole {
    /// The head's first line.
    pub(crate) fn first_line(&self) -> &str {
        text(&self.head).lines().next().unwrap_or_default()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn text(head: &[u8]) -> &str {
    std::str::from_utf8(head).unwrap_or_default()
}

/// A header's value in a head.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    text(head).lines().skip(1).find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

/// Takes a head off the buffer, if it is all there.
pub(crate) fn head(buffer: &mut BytesMut) -> Option<Bytes> {
    let end = find(buffer, b"\r\n\r\n")?;
    let head = buffer.split_to(end).freeze();
    buffer.advance(4);
    Some(head)
}

/// Takes a message or an answer off the buffer, if it is all there.
///
/// # Errors
/// When it is no HTTP.
pub(crate) fn whole(buffer: &mut BytesMut) -> anyhow::Result<Option<Whole>> {
    let Some(end) = find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let start = end + 4;
    if header(&buffer[..end], "transfer-encoding").is_some_and(|value| value == "chunked") {
        let mut body = BytesMut::new();
        let mut at = start;
        loop {
            let Some(line) = find(&buffer[at..], b"\r\n") else { return Ok(None) };
            let size =
                usize::from_str_radix(text(&buffer[at..at + line]), 16).context("a chunk")?;
            let from = at + line + 2;
            if buffer.len() < from + size + 2 {
                return Ok(None);
            }
            body.extend_from_slice(&buffer[from..from + size]);
            at = from + size + 2;
            if size == 0 {
                let head = buffer.split_to(end).freeze();
                buffer.advance(at - end);
                return Ok(Some(Whole { head, body: body.freeze() }));
            }
        }
    }
    let length = match header(&buffer[..end], "content-length") {
        Some(length) => length.parse().context("Content-Length")?,
        None => 0,
    };
    if buffer.len() < start + length {
        return Ok(None);
    }
    let head = buffer.split_to(end).freeze();
    buffer.advance(4);
    Ok(Some(Whole { head, body: buffer.split_to(length).freeze() }))
}

/// Takes one chunk of an endless body off the buffer, if it is all there.
///
/// # Errors
/// When it is no chunk, or the last.
pub(crate) fn chunk(buffer: &mut BytesMut) -> anyhow::Result<Option<Bytes>> {
    let Some(line) = find(&buffer[..buffer.len().min(32)], b"\r\n") else { return Ok(None) };
    let size = usize::from_str_radix(text(&buffer[..line]), 16).context("a chunk")?;
    if size == 0 {
        bail!("the master ended the stream");
    }
    if buffer.len() < line + 2 + size + 2 {
        return Ok(None);
    }
    buffer.advance(line + 2);
    let chunk = buffer.split_to(size).freeze();
    buffer.advance(2);
    Ok(Some(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_answers_are_cut_whatever_their_framing() {
        let stream = b"POST /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 202 Accepted\r\n\r\n";
        let mut seen = Vec::new();
        let mut buffer = BytesMut::new();
        for byte in stream {
            buffer.extend_from_slice(&[*byte]);
            while let Some(next) = whole(&mut buffer).unwrap() {
                seen.push((next.first_line().to_owned(), next.body.to_vec()));
            }
        }
        let expected = [
            ("POST /a/b HTTP/1.1", "abcde"),
            ("HTTP/1.1 202 Accepted", "ok"),
            ("HTTP/1.1 202 Accepted", ""),
        ];
        assert_eq!(seen, expected.map(|(line, body)| (line.to_owned(), body.as_bytes().to_vec())));
        assert!(whole(&mut BytesMut::from(&b"X\r\nContent-Length: z\r\n\r\n"[..])).is_err());
    }
}
