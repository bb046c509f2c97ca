//! Reading messages off a connection without a whole HTTP server: a master is sent many thousands a second.
//!
//! What is not an ordinary message to a process that is known stays unread, for the HTTP server behind.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::inbound::Header;

/// Longest head taken, in bytes; the HTTP server says what is wrong with a longer one.
const HEAD_MAX: usize = 8 * 1024;
/// Most headers taken: the original sends five.
const HEADERS_MAX: usize = 16;
/// What is read at once, in bytes: little from a peer that says little, for there may be many.
const READ_MIN: usize = 1024;
/// What is read at once at most, in bytes.
const READ_MAX: usize = 64 * 1024;

/// Where messages go.
pub trait Mailbox: Send + Sync {
    /// Whether there is such a process.
    fn knows(&self, process: &str) -> bool;

    /// Takes a message, at its own pace: nothing more is read meanwhile.
    fn deliver(&self, header: Header, body: Bytes) -> impl Future<Output = ()> + Send;
}

/// Limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest body taken, in bytes.
    pub body_max: usize,
    /// How long a peer may pause in the middle of a message, or before its first.
    pub pause_max: Duration,
}

#[derive(Debug, PartialEq)]
enum Next {
    Message(Header, Bytes),
    /// More bytes are needed to tell.
    Partial,
    /// Not for us.
    Other,
}

/// Delivers messages as long as nothing else comes. Gives the stream back, and what was read and not used, when
/// something else does; `None` when it is over.
///
/// # Errors
/// When the stream can't be read or written.
pub async fn deliver<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mailbox: &impl Mailbox,
    limits: Limits,
) -> io::Result<Option<(S, BytesMut)>> {
    let mut buffer = BytesMut::new();
    let mut at_once = READ_MIN;
    let mut is_peer = false;
    let mut is_heard = true;
    loop {
        let mut taken = 0;
        let is_other = loop {
            match next(&mut buffer, mailbox, limits.body_max) {
                Next::Message(header, body) => {
                    mailbox.deliver(header, body).await;
                    taken += 1;
                }
                Next::Partial => break false,
                Next::Other => break true,
            }
        };
        if taken > 0 {
            is_peer = true;
            // Who sent a last message and went away doesn't hear that it was taken, and may have said more before.
            is_heard =
                is_heard && stream.write_all(accepted().repeat(taken).as_bytes()).await.is_ok();
        }
        if is_other {
            return Ok(Some((stream, buffer)));
        }
        let must_go_on = !is_peer || !buffer.is_empty();
        if buffer.is_empty() {
            buffer = BytesMut::with_capacity(at_once);
        } else {
            buffer.reserve(at_once);
        }
        let reading = stream.read_buf(&mut buffer);
        let read = if must_go_on {
            match tokio::time::timeout(limits.pause_max, reading).await {
                Ok(read) => read?,
                Err(_) => return Ok(None),
            }
        } else {
            reading.await?
        };
        if read == 0 {
            return Ok(None);
        }
        if read >= at_once {
            at_once = (at_once * 2).min(READ_MAX);
        } else if read < at_once / 4 {
            at_once = (at_once / 2).max(READ_MIN);
        }
    }
}

/// The answer to a message: it was taken, no more.
fn accepted() -> String {
    let now = httpdate::fmt_http_date(SystemTime::now());
    format!("HTTP/1.1 202 Accepted\r\nDate: {now}\r\nContent-Length: 0\r\n\r\n")
}

/// The next message, taken off the buffer.
fn next(buffer: &mut BytesMut, mailbox: &impl Mailbox, body_max: usize) -> Next {
    const START: &[u8] = b"POST /";
    let known = buffer.len().min(START.len());
    if buffer[..known] != START[..known] {
        return Next::Other;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let start = match request.parse(buffer) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) if buffer.len() <= HEAD_MAX => return Next::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Next::Other,
    };
    let (mut from, mut agent, mut length, mut is_chunked) = (None, None, None, false);
    for header in request.headers.iter() {
        let Ok(value) = std::str::from_utf8(header.value) else { return Next::Other };
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("libprocess-from") {
            from = Some(value);
        } else if is("user-agent") {
            agent = Some(value);
        } else if is("transfer-encoding") && value.eq_ignore_ascii_case("chunked") && !is_chunked {
            is_chunked = true;
        } else if is("content-length") && length.is_none() {
            let Ok(value) = value.parse::<usize>() else { return Next::Other };
            length = Some(value);
        } else if is("connection") && value.eq_ignore_ascii_case("keep-alive") || is("host") {
        } else {
            // Whatever else there may be, the HTTP server knows how to deal with it.
            return Next::Other;
        }
    }
    let header = request.path.and_then(|path| Header::read(path, from, agent));
    let Some(header) = header.filter(|header| mailbox.knows(&header.to)) else {
        return Next::Other;
    };
    if is_chunked && length.is_some() || length.is_some_and(|length| length > body_max) {
        return Next::Other;
    }
    if is_chunked {
        return chunked(buffer, start, body_max, header);
    }
    let length = length.unwrap_or_default();
    if buffer.len() < start + length {
        return Next::Partial;
    }
    buffer.advance(start);
    Next::Message(header, buffer.split_to(length).freeze())
}

/// A message whose body comes in chunks; libprocess sends one.
fn chunked(buffer: &mut BytesMut, start: usize, body_max: usize, header: Header) -> Next {
    let mut parts = Vec::with_capacity(1);
    let (mut at, mut total) = (start, 0);
    loop {
        let (skip, size) = match httparse::parse_chunk_size(&buffer[at..]) {
            Ok(httparse::Status::Complete((skip, size))) => (skip, size as usize),
            Ok(httparse::Status::Partial) => return Next::Partial,
            Err(_) => return Next::Other,
        };
        let from = at + skip;
        total += size.min(body_max + 1);
        if total > body_max {
            return Next::Other;
        }
        let Some(end) = buffer.get(from + size..from + size + 2) else { return Next::Partial };
        if end != b"\r\n" {
            return Next::Other;
        }
        at = from + size + 2;
        if size == 0 {
            break;
        }
        parts.push(from..from + size);
    }
    let mut message = buffer.split_to(at);
    let body = match parts.as_slice() {
        [] => Bytes::new(),
        [only] => {
            message.advance(only.start);
            message.truncate(only.len());
            message.freeze()
        }
        several => {
            let mut body = BytesMut::with_capacity(total);
            for part in several {
                body.extend_from_slice(&message[part.clone()]);
            }
            body.freeze()
        }
    };
    Next::Message(header, body)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::libprocess::{Upid, outbound};

    #[derive(Default)]
    struct Kept(Mutex<Vec<(String, Bytes)>>);

    impl Mailbox for Kept {
        fn knows(&self, process: &str) -> bool {
            process == "master"
        }

        async fn deliver(&self, header: Header, body: Bytes) {
            self.0.lock().unwrap().push((header.name, body));
        }
    }

    const LIMITS: Limits = Limits { body_max: 1 << 20, pause_max: Duration::from_secs(5) };

    fn message(name: &str, body: &[u8]) -> Bytes {
        let from: Upid = "slave(1)@127.0.0.1:5051".parse().unwrap();
        outbound::encode(&from, "master", name, body)
    }

    /// What is delivered of some bytes in pieces of a size, what is answered, and what is left for the HTTP server.
    async fn read(bytes: &[u8], piece: usize) -> (Vec<(String, Bytes)>, String, Option<BytesMut>) {
        let (mut peer, own) = tokio::io::duplex(1 << 20);
        let mailbox = Kept::default();
        let reading = async { deliver(own, &mailbox, LIMITS).await.unwrap().map(|(_, rest)| rest) };
        let writing = async {
            for piece in bytes.chunks(piece) {
                peer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            peer.shutdown().await.unwrap();
            let mut answers = String::new();
            peer.read_to_string(&mut answers).await.unwrap();
            answers
        };
        let (rest, answers) = tokio::join!(reading, writing);
        (mailbox.0.into_inner().unwrap(), answers, rest)
    }

    #[tokio::test]
    async fn messages_are_delivered_and_answered_however_they_are_cut() {
        let long = vec![b'x'; 100_000];
        let mut bytes = message("a", b"1").to_vec();
        bytes.extend_from_slice(&message("b", &long));
        bytes.extend_from_slice(&message("c", b""));
        bytes.extend_from_slice(
            b"POST /master/d HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nContent-Length: 2\r\n\r\nhi",
        );
        bytes.extend_from_slice(b"POST /master/e HTTP/1.1\r\nUser-Agent: libprocess/a@1.2.3.4:5\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n2\r\n34\r\n0\r\n\r\n");
        let expected: Vec<(String, Bytes)> =
            [("a", &b"1"[..]), ("b", &long), ("c", b""), ("d", b"hi"), ("e", b"234")]
                .map(|(name, body)| (name.to_owned(), Bytes::copy_from_slice(body)))
                .into();
        for piece in [7, 1000, bytes.len()] {
            let (delivered, answers, rest) = read(&bytes, piece).await;
            assert_eq!(delivered, expected);
            assert_eq!(answers.matches("HTTP/1.1 202 Accepted\r\nDate: ").count(), 5);
            assert_eq!(rest, None);
        }
    }

    #[tokio::test]
    async fn all_is_delivered_of_one_who_went_away_behind_it() {
        let (mut peer, own) = tokio::io::duplex(1 << 20);
        for _ in 0..100 {
            peer.write_all(&message("a", &[b'x'; 100])).await.unwrap();
        }
        drop(peer);
        let mailbox = Kept::default();
        assert!(deliver(own, &mailbox, LIMITS).await.unwrap().is_none());
        assert_eq!(mailbox.0.into_inner().unwrap().len(), 100);
    }

    #[tokio::test]
    async fn what_else_comes_is_left_as_it_came() {
        let huge = format!(
            "POST /master/x HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nContent-Length: {}\r\n\r\n",
            2 << 20
        );
        for other in [
            "GET /state HTTP/1.1\r\n\r\n",
            "POST /api/v1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
            "POST /nobody/x HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\n\r\n",
            "POST /master/x HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nConnection: close\r\n\r\n",
            "POST /master/x HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST /master/x HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "POST /master/x HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
            "POST /master/x HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "\u{1}\u{2}",
            &huge,
        ] {
            let mut bytes = message("a", b"1").to_vec();
            bytes.extend_from_slice(other.as_bytes());
            let (delivered, answers, rest) = read(&bytes, bytes.len()).await;
            assert_eq!(delivered.len(), 1, "{other}");
            assert_eq!(answers.matches("202 Accepted").count(), 1, "{other}");
            assert_eq!(rest.as_deref(), Some(other.as_bytes()), "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_stops_in_a_message_is_cut_off_and_one_who_is_silent_between_them_is_not() {
        let (mut peer, own) = tokio::io::duplex(1 << 20);
        let mailbox = Kept::default();
        let reading = deliver(own, &mailbox, LIMITS);
        tokio::pin!(reading);
        peer.write_all(&message("a", b"1")).await.unwrap();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, &mut reading).await.is_err(), "silent, and kept");
        peer.write_all(b"POST /mas").await.unwrap();
        assert!(reading.await.unwrap().is_none());
    }
}
