//! Streams of events over HTTP: of the scheduler API, of the operator API.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;

use serde_json::Value;

/// Opens a stream of events, and has them sent on; the stream's id, if it has one.
///
/// # Panics
/// When nobody answers, or what comes is no stream of JSON records.
pub fn subscribe(port: u16, path: &str, call: &Value, events: mpsc::Sender<Value>) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the master listens");
    let body = call.to_string();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a request is sent");
    let mut reader = BufReader::new(stream);
    let mut id = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("the head of the reply");
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("mesos-stream-id")
        {
            value.trim().clone_into(&mut id);
        }
    }
    std::thread::spawn(move || {
        let mut records = Vec::new();
        loop {
            let mut size = String::new();
            if reader.read_line(&mut size).unwrap_or(0) == 0 {
                return;
            }
            let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).unwrap_or(0) + 2];
            if reader.read_exact(&mut chunk).is_err() {
                return;
            }
            records.extend_from_slice(&chunk[..chunk.len() - 2]);
            while let Some(end) = records.iter().position(|byte| *byte == b'\n') {
                let length: usize =
                    String::from_utf8_lossy(&records[..end]).parse().expect("a record's length");
                if records.len() < end + 1 + length {
                    break;
                }
                let event = serde_json::from_slice(&records[end + 1..end + 1 + length])
                    .expect("an event is JSON");
                records.drain(..end + 1 + length);
                if events.send(event).is_err() {
                    return;
                }
            }
        }
    });
    id
}
