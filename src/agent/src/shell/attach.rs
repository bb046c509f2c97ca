//! Attaching to a container's input and output, and sessions: containers to look into others with (`slave/http.cpp`,
//! `io_switchboard.cpp`).

use std::path::PathBuf;
use std::time::Duration;

use access::guard::Caller;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use http::StatusCode;
use mesos::content::ContentType;
use mesos::recordio;
use mesos::v1;
use mesos::v1::agent::{Call, ProcessIo, call, process_io};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use web::respond;

use super::actor::Handle;
use super::container_calls;
use super::http::{App, bad_request};
use super::media::{self, Media, Wanted};
use crate::containerizer::switchboard;
use crate::core::container_id::ContainerId;
use crate::core::containers::Launched;

const RECORD_MAX: usize = 4 << 20;
const CHUNK: usize = 16 << 10;
/// Records that wait for a client.
const WAITING_MAX: usize = 16;

fn not_found(id: &ContainerId) -> Response {
    respond::text(StatusCode::NOT_FOUND, format!("Container {id} cannot be found"))
}

fn failed(text: impl Into<Body>) -> Response {
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

impl App {
    /// Connects to a container's switchboard.
    async fn attach(&self, id: &ContainerId) -> Result<UnixStream, Box<Response>> {
        let asked = id.clone();
        let found = self.handle.look(move |agent| agent.attachable(&asked)).await;
        let runtime: PathBuf = match found {
            Some(Some(Some(runtime))) => runtime,
            Some(Some(None)) => {
                let text = "I/O switchboard server was disabled for this container";
                return Err(Box::new(failed(text)));
            }
            Some(None) => {
                let root = id.root_id();
                let known = self.handle.look(move |agent| agent.attachable(&root).is_some()).await;
                // The original finds the root, and then nothing in it.
                let is_in_known = id.depth() > 0 && known == Some(true);
                let unknown = || failed(format!("Unknown container {id}"));
                return Err(Box::new(if is_in_known { unknown() } else { not_found(id) }));
            }
            None => return Err(Box::new(self.ending())),
        };
        // The process that serves it may not have come to that yet.
        let mut pause = Duration::from_millis(5);
        loop {
            match switchboard::connect(&runtime).await {
                Ok(stream) => return Ok(stream),
                Err(error) if pause > Duration::from_secs(2) => {
                    let text = format!("Failed to connect to container {id}: {error}");
                    return Err(Box::new(failed(text)));
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
    }

    /// ATTACH_CONTAINER_OUTPUT.
    pub(super) async fn attach_output(&self, accept: Media, call: Call) -> Response {
        let id = call.attach_container_output.unwrap_or_default().container_id;
        let id = match ContainerId::parse(&id) {
            Ok(id) => id,
            Err(reason) => return bad_request(reason),
        };
        match self.output(accept, &id, None).await {
            Ok(response) | Err(response) => *response,
        }
    }

    async fn output(
        &self,
        accept: Media,
        id: &ContainerId,
        session: Option<Session>,
    ) -> Result<Box<Response>, Box<Response>> {
        let mut stream = self.attach(id).await?;
        let asked = stream.write_all(switchboard::OUTPUT).await;
        asked.map_err(|error| Box::new(failed(error.to_string())))?;
        let content = match accept {
            Media::One(content) | Media::Stream(content) => content,
        };
        let (records, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(relay(stream, content, self.heartbeat, records, session));
        Ok(Box::new(media::stream(accept, ReceiverStream::new(receiver))))
    }

    /// LAUNCH_NESTED_CONTAINER_SESSION.
    pub(super) async fn launch_session(&self, accept: Media, call: Call) -> Response {
        let Some(ask) = container_calls::ask(call) else {
            return bad_request("The container can't be read");
        };
        let id = ask.id.clone();
        match self.launch(ask).await {
            Ok(Launched::Launching) => {}
            Ok(Launched::Already) => return respond::empty(StatusCode::ACCEPTED),
            Err(refusal) => return *refusal,
        }
        let session = Session { handle: self.handle.clone(), id: id.clone() };
        match self.output(accept, &id, Some(session)).await {
            Ok(response) | Err(response) => *response,
        }
    }

    /// A stream of calls: ATTACH_CONTAINER_INPUT.
    pub(super) async fn attach_input(
        &self,
        caller: &Caller,
        wanted: Wanted,
        content: ContentType,
        body: Body,
    ) -> Response {
        let mut calls = Calls {
            body: body.into_data_stream(),
            records: recordio::Decoder::new(RECORD_MAX),
            content,
        };
        let first = match calls.next().await {
            Some(Ok(call)) => call,
            Some(Err(refusal)) => return *refusal,
            None => return bad_request("Received EOF while reading request body"),
        };
        let name = first.r#type().as_str_name();
        if first.r#type() != call::Type::AttachContainerInput {
            let text = format!(
                "Streaming 'Content-Type' application/recordio is not supported for {name} call"
            );
            return respond::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        }
        if matches!(wanted.accept, Media::Stream(_)) {
            let text = format!("Streaming response is not supported for {name} call");
            return respond::text(StatusCode::NOT_ACCEPTABLE, text);
        }
        if !self.may_call(caller, &first).await {
            return respond::forbidden();
        }
        let input = first.attach_container_input.unwrap_or_default();
        let id = match (input.r#type(), &input.container_id) {
            (call::attach_container_input::Type::ContainerId, Some(id)) => ContainerId::parse(id),
            _ => {
                return bad_request("Expecting 'attach_container_input.type' to be CONTAINER_ID");
            }
        };
        let id = match id {
            Ok(id) => id,
            Err(reason) => return bad_request(reason),
        };
        match self.input(&id, &mut calls).await {
            Ok(()) => respond::empty(StatusCode::OK),
            Err(refusal) => *refusal,
        }
    }

    /// Sends on what is typed, until the client or the container ends.
    async fn input(&self, id: &ContainerId, calls: &mut Calls) -> Result<(), Box<Response>> {
        let stream = self.attach(id).await?;
        let (mut from, mut to) = stream.into_split();
        let asked = to.write_all(switchboard::INPUT).await;
        asked.map_err(|error| Box::new(failed(error.to_string())))?;
        let mut nothing = [0];
        loop {
            let call = tokio::select! {
                call = calls.next() => call,
                // The switchboard says nothing on this connection: it ends it.
                _ = from.read(&mut nothing) => return Ok(()),
            };
            let call = match call {
                None => return Ok(()),
                Some(call) => call?,
            };
            let input = call.attach_container_input.unwrap_or_default();
            let Some(io) = input.process_io else { continue };
            let record = recordio::encode(&io.encode_to_vec());
            if to.write_all(&record).await.is_err() {
                return Ok(()); // The container has ended.
            }
        }
    }
}

/// A session ends with the stream of its output.
struct Session {
    handle: Handle,
    id: ContainerId,
}

impl Drop for Session {
    fn drop(&mut self) {
        let (handle, id) = (self.handle.clone(), self.id.clone());
        tokio::spawn(async move {
            handle.look(move |agent| agent.kill_container(&id, None)).await;
        });
    }
}

fn heartbeat(interval: Duration) -> ProcessIo {
    let nanoseconds = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
    ProcessIo {
        r#type: Some(process_io::Type::Control as i32),
        control: Some(process_io::Control {
            r#type: Some(process_io::control::Type::Heartbeat as i32),
            heartbeat: Some(process_io::control::Heartbeat {
                interval: Some(v1::DurationInfo { nanoseconds }),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Hands a container's output to a client, with heartbeats in between, until one of them ends.
async fn relay(
    mut stream: UnixStream,
    content: ContentType,
    interval: Duration,
    records: mpsc::Sender<Bytes>,
    _session: Option<Session>,
) {
    let encode = |io: &ProcessIo| recordio::encode(&content.encode(io));
    let mut decoder = recordio::Decoder::new(RECORD_MAX);
    let mut buffer = vec![0; CHUNK];
    let mut beats = tokio::time::interval(interval.max(Duration::from_millis(1)));
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first is due at once.
    beats.tick().await;
    loop {
        let count = tokio::select! {
            read = stream.read(&mut buffer) => read.unwrap_or_default(),
            _ = beats.tick() => {
                if records.send(encode(&heartbeat(interval))).await.is_err() {
                    return;
                }
                continue;
            }
            () = records.closed() => return,
        };
        if count == 0 {
            return;
        }
        decoder.push(&buffer[..count]);
        while let Ok(Some(record)) = decoder.next() {
            let Ok(io) = ProcessIo::decode(record) else { return };
            if records.send(encode(&io)).await.is_err() {
                return;
            }
        }
    }
}

/// Calls that come as a stream.
struct Calls {
    body: axum::body::BodyDataStream,
    records: recordio::Decoder,
    content: ContentType,
}

impl Calls {
    async fn next(&mut self) -> Option<Result<Call, Box<Response>>> {
        loop {
            match self.records.next() {
                Ok(Some(record)) => return Some(self.parse(&record)),
                Ok(None) => {}
                Err(error) => {
                    return Some(Err(Box::new(failed(format!("Decoder failure: {error}")))));
                }
            }
            match self.body.next().await? {
                Ok(chunk) => self.records.push(&chunk),
                Err(error) => return Some(Err(Box::new(bad_request(error.to_string())))),
            }
        }
    }

    fn parse(&self, record: &[u8]) -> Result<Call, Box<Response>> {
        super::operator_api::parse(self.content, record)
            .map_err(|reason| Box::new(bad_request(reason)))
    }
}
