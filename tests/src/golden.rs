//! Exchanges recorded from the original (`../shared/reference/mesos-golden`), replayed against ours and compared.
//!
//! What belongs to one run is named differently in each: ids, ports. [`Names`] turns the recording's into ours in
//! requests and ours into the recording's in replies. Times and the like are compared by type.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::programs::shared;

mod compare;
mod tally;
pub mod tasks;

pub use compare::{Mode, differences, unlike};
pub use tally::{Allowed, Tally};

/// One recorded exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its key in the set's index.
    pub name: String,
    /// Method of the request.
    pub method: String,
    /// Path and query of the request.
    pub path: String,
    /// Headers of the request.
    pub request_headers: Vec<(String, String)>,
    /// Body of the request.
    pub request_body: Vec<u8>,
    /// The reply; `None` where it had not ended in time.
    pub reply: Option<Reply>,
}

impl Exchange {
    /// A call in JSON of a test's own, which is sent as recorded ones are.
    #[must_use]
    pub fn call(path: &str, headers: &[(&str, &str)], call: &Value) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut request_headers = vec![own(&("Content-Type", "application/json"))];
        request_headers.extend(headers.iter().map(own));
        Self {
            name: format!("a call to {path}"),
            method: "POST".to_owned(),
            path: path.to_owned(),
            request_headers,
            request_body: call.to_string().into_bytes(),
            reply: Some(Reply::default()),
        }
    }

    /// Sends it, and sees that the reply has this status.
    ///
    /// # Panics
    /// When there is no reply, or one with another status.
    pub fn expect(&self, port: u16, names: &Names, status: &str) {
        let reply = replay(self, port, names).expect("the daemon answers").expect("in time");
        assert_eq!(reply.status, status, "{}: {}", self.name, String::from_utf8_lossy(&reply.body));
    }
}

/// A reply, recorded or ours.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Code and reason: `404 Not Found`.
    pub status: String,
    /// Headers as received.
    pub headers: Vec<(String, String)>,
    /// Body, chunks joined.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Where the recordings are, if at hand.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    let path = shared().join("reference/mesos-golden");
    path.join("core/index.jsonl").is_file().then_some(path)
}

fn bytes(line: &Value, text: &str, base64: &str) -> Vec<u8> {
    if let Some(text) = line[text].as_str() {
        return text.as_bytes().to_vec();
    }
    line[base64].as_str().map(decode_base64).unwrap_or_default()
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as JSON has them.
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let value = (bits >> (18 - 6 * index) & 63) as usize;
            text.push(if index <= chunk.len() { char::from(ALPHABET[value]) } else { '=' });
        }
    }
    text
}

/// Bytes from how JSON has them; what is no base64 is skipped.
#[must_use]
pub fn decode_base64(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte) else { continue };
        bits = bits << 6 | u32::try_from(value).unwrap_or_default();
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count & 0xff) as u8);
        }
    }
    decoded
}

/// A set's exchanges, in the order in which they happened.
///
/// # Panics
/// When the recording can't be read.
#[must_use]
pub fn load(set: &str) -> Vec<Exchange> {
    let directory = directory().expect("checked before").join(set);
    let index = std::fs::read_to_string(directory.join("index.jsonl")).expect("the set's index");
    let parse = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a line of the index");
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let headers = match &line["request_headers"] {
            Value::Object(object) => object
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            _ => Vec::new(),
        };
        let pairs = line["headers"].as_array().into_iter().flatten();
        let reply = text("status").strip_prefix("HTTP/1.1 ").map(|status| Reply {
            status: status.to_owned(),
            headers: pairs
                .filter_map(|pair| {
                    Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()))
                })
                .collect(),
            body: match line["body_file"].as_str() {
                Some(file) => {
                    // Names are of the set's directory, or of its bodies'.
                    let path = [directory.join(file), directory.join("bodies").join(file)];
                    path.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default()
                }
                None => bytes(&line, "body", "body_base64"),
            },
        });
        Exchange {
            name: text("name"),
            method: text("method"),
            path: text("path"),
            request_headers: headers,
            request_body: bytes(&line, "request_body", "request_body_base64"),
            reply,
        }
    };
    index.lines().filter(|line| !line.is_empty()).map(parse).collect()
}

/// Pairs of what the recording calls something and what ours does.
#[derive(Debug, Clone, Default)]
pub struct Names(pub Vec<(String, String)>);

impl Names {
    /// A name that is as long in both, or a text.
    pub fn add(&mut self, recorded: impl Into<String>, ours: impl Into<String>) {
        self.0.push((recorded.into(), ours.into()));
    }

    /// Names what statuses of ours name anew in each run, updates and containers, as the recorded events of the same task and
    /// state do.
    pub fn add_statuses(&mut self, recorded: &[Value], ours: &[Value]) {
        for status in ours {
            let twin = recorded.iter().map(|event| &event["update"]["status"]).find(|recorded| {
                ["task_id", "state", "reason"].iter().all(|own| recorded[own] == status[own])
            });
            let Some(twin) = twin else { continue };
            let container =
                |status: &Value| status["container_status"]["container_id"]["value"].clone();
            for (recorded, ours) in [
                (twin["uuid"].clone(), status["uuid"].clone()),
                (container(twin), container(status)),
            ] {
                let (Some(recorded), Some(ours)) = (recorded.as_str(), ours.as_str()) else {
                    continue;
                };
                if !self.0.iter().any(|(known, _)| known == recorded) {
                    self.add(recorded, ours);
                }
            }
        }
    }

    fn to_ours(&self, text: &[u8]) -> Vec<u8> {
        self.0.iter().fold(text.to_vec(), |text, (recorded, ours)| replace(&text, recorded, ours))
    }

    fn to_recorded(&self, text: &[u8]) -> Vec<u8> {
        self.0.iter().fold(text.to_vec(), |text, (recorded, ours)| replace(&text, ours, recorded))
    }
}

fn replace(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let from = from.as_bytes();
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Sends a recorded request to ours. The reply is in the recording's names; `None` when it had not ended in time.
///
/// # Errors
/// When there is no connection, or what comes is not HTTP.
pub fn replay(exchange: &Exchange, port: u16, names: &Names) -> std::io::Result<Option<Reply>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(if exchange.reply.is_some() {
        10
    } else {
        1
    })))?;
    let body = names.to_ours(&exchange.request_body);
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n",
        exchange.method, exchange.path
    );
    for (name, value) in &exchange.request_headers {
        write!(head, "{name}: {value}\r\n").map_err(std::io::Error::other)?;
    }
    if !body.is_empty() || matches!(exchange.method.as_str(), "POST" | "PUT") {
        write!(head, "Content-Length: {}\r\n", body.len()).map_err(std::io::Error::other)?;
    }
    let mut request = names.to_ours(head.as_bytes());
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(&body);
    stream.write_all(&request)?;
    match receive(stream, exchange.method == "HEAD") {
        Ok(mut reply) => {
            reply.body = names.to_recorded(&reply.body);
            for (_, value) in &mut reply.headers {
                *value = String::from_utf8_lossy(&names.to_recorded(value.as_bytes())).into_owned();
            }
            Ok(Some(reply))
        }
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn receive(stream: TcpStream, without_body: bool) -> std::io::Result<Reply> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).map(|_| line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let status = line()?.strip_prefix("HTTP/1.1 ").unwrap_or_default().to_owned();
    let mut reply = Reply { status, ..Reply::default() };
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        reply.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    if without_body {
        return Ok(reply);
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            reply.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) =
        reply.header("content-length").and_then(|length| length.parse().ok())
    {
        reply.body = vec![0; length];
        reader.read_exact(&mut reply.body)?;
    } else {
        reader.read_to_end(&mut reply.body)?;
    }
    Ok(reply)
}

/// A recorded stream's records.
///
/// # Panics
/// When the recording can't be read.
#[must_use]
pub fn records(file: &str) -> Vec<Value> {
    let path = directory().expect("checked before").join(file);
    let stream = std::fs::read(path).expect("the recorded stream");
    parse_records(&stream)
}

/// The records in JSON of a stream that was read.
///
/// # Panics
/// When a record has no length.
#[must_use]
pub fn parse_records(stream: &[u8]) -> Vec<Value> {
    let mut rest = stream;
    let mut records = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let length: usize = String::from_utf8_lossy(&rest[..end]).parse().expect("a length");
        let record = &rest[end + 1..(end + 1 + length).min(rest.len())];
        // The recording may end inside of a record.
        if let Ok(record) = serde_json::from_slice(record) {
            records.push(record);
        }
        rest = rest.get(end + 1 + length..).unwrap_or_default();
    }
    records
}
