//! Streams of records over HTTP (`application/recordio`), in both directions.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A reply that comes in pieces.
#[derive(Debug)]
pub struct Stream {
    /// Code and reason.
    pub status: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    records: Vec<u8>,
}

impl Stream {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The next record; `None` at the end.
    ///
    /// # Panics
    /// When what comes is no record in JSON, or nothing comes in time.
    pub fn next_record(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.records.iter().position(|byte| *byte == b'\n') {
                let length: usize = String::from_utf8_lossy(&self.records[..end])
                    .parse()
                    .expect("a record's length");
                if self.records.len() > end + length {
                    let record = serde_json::from_slice(&self.records[end + 1..=end + length])
                        .expect("a record is JSON");
                    self.records.drain(..=end + length);
                    return Some(record);
                }
            }
            let chunk = self.chunk();
            if chunk.is_empty() {
                return None;
            }
            self.records.extend_from_slice(&chunk);
        }
    }

    fn chunk(&mut self) -> Vec<u8> {
        let mut size = String::new();
        self.reader.read_line(&mut size).expect("a chunk in time");
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        if size == 0 || self.reader.read_exact(&mut chunk).is_err() {
            return Vec::new();
        }
        chunk.truncate(size);
        chunk
    }
}

/// A request whose body comes in pieces.
#[derive(Debug)]
pub struct Upload {
    stream: TcpStream,
}

impl Upload {
    /// Sends a record in JSON.
    ///
    /// # Errors
    /// When the other side has closed the connection.
    pub fn send(&mut self, record: &Value) -> std::io::Result<()> {
        let record = record.to_string();
        let record = format!("{}\n{record}", record.len());
        write!(self.stream, "{:x}\r\n{record}\r\n", record.len())
    }

    /// Ends the body; the reply.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn finish(mut self) -> Stream {
        // The other side may have answered already.
        let _ = self.stream.write_all(b"0\r\n\r\n");
        reply(self.stream)
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

fn head(path: &str, headers: &[(&str, &str)]) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{}", lines.collect::<String>())
}

fn reply(stream: TcpStream) -> Stream {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("the head of a reply");
        line.trim_end().to_owned()
    };
    let status = line().split_once(' ').map(|(_, status)| status.to_owned()).unwrap_or_default();
    let mut headers = Vec::new();
    loop {
        let header = line();
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Stream { status, headers, reader, records: Vec::new() }
}

/// Posts JSON, and takes the reply as a stream of records in JSON.
///
/// # Panics
/// When there is no reply.
#[must_use]
pub fn post(port: u16, path: &str, body: &Value) -> Stream {
    let mut stream = connect(port);
    let body = body.to_string();
    let head = head(
        path,
        &[
            ("Content-Type", "application/json"),
            ("Accept", "application/recordio"),
            ("Message-Accept", "application/json"),
            ("Content-Length", &body.len().to_string()),
        ],
    );
    write!(stream, "{head}\r\n{body}").expect("a request is sent");
    reply(stream)
}

/// Begins to post a stream of records in JSON.
///
/// # Panics
/// When nobody listens.
#[must_use]
pub fn upload(port: u16, path: &str) -> Upload {
    let mut stream = connect(port);
    let head = head(
        path,
        &[
            ("Content-Type", "application/recordio"),
            ("Message-Content-Type", "application/json"),
            ("Accept", "application/json"),
            ("Transfer-Encoding", "chunked"),
        ],
    );
    write!(stream, "{head}\r\n").expect("a request is sent");
    Upload { stream }
}
