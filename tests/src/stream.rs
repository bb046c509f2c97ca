//! Streams of records over HTTP (`application/recordio`), in both directions: events of the scheduler and operator
//! APIs, input and output of containers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
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
        let record = self.read_record().expect("a record in time")?;
        Some(serde_json::from_slice(&record).expect("a record is JSON"))
    }

    /// The next event of a kind; others are passed over.
    ///
    /// # Panics
    /// When the stream ends before, or nothing comes in time.
    pub fn next_event(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next_record().expect("an event before the end");
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Has all further events sent on, until the stream ends or nobody listens.
    pub fn forward(mut self, events: mpsc::Sender<Value>) {
        std::thread::spawn(move || {
            while let Ok(Some(record)) = self.read_record() {
                let event = serde_json::from_slice(&record).expect("an event is JSON");
                if events.send(event).is_err() {
                    return;
                }
            }
        });
    }

    /// The next record's bytes; `None` at the end.
    ///
    /// # Errors
    /// When nothing comes in time, or the connection breaks.
    pub fn read_record(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.records.iter().position(|byte| *byte == b'\n') {
                let length: usize = String::from_utf8_lossy(&self.records[..end])
                    .parse()
                    .map_err(std::io::Error::other)?;
                if self.records.len() > end + length {
                    let record = self.records[end + 1..=end + length].to_vec();
                    self.records.drain(..=end + length);
                    return Ok(Some(record));
                }
            }
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            self.records.extend_from_slice(&chunk);
        }
    }

    fn chunk(&mut self) -> std::io::Result<Vec<u8>> {
        let mut size = String::new();
        self.reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        if size == 0 || self.reader.read_exact(&mut chunk).is_err() {
            return Ok(Vec::new());
        }
        chunk.truncate(size);
        Ok(chunk)
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
    let accept = [("Accept", "application/recordio"), ("Message-Accept", "application/json")];
    post_with(port, path, &accept, body)
}

/// Subscribes to events in JSON: of the scheduler API, of the operator API.
///
/// # Panics
/// When there is no reply.
#[must_use]
pub fn subscribe(port: u16, path: &str, call: &Value) -> Stream {
    post_with(port, path, &[("Accept", "application/json")], call)
}

/// Posts JSON with these headers, and takes the reply as a stream.
///
/// # Panics
/// When there is no reply.
#[must_use]
pub fn post_with(port: u16, path: &str, headers: &[(&str, &str)], body: &Value) -> Stream {
    let mut stream = connect(port);
    let body = body.to_string();
    let length = body.len().to_string();
    let mut all = vec![("Content-Type", "application/json"), ("Content-Length", length.as_str())];
    all.extend_from_slice(headers);
    write!(stream, "{}\r\n{body}", head(path, &all)).expect("a request is sent");
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
