//! A framework over the v1 HTTP API, in protobuf: one connection for events, one for calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use mesos::recordio;
use mesos::resources::Resources;
use mesos::v1;
use mesos::v1::scheduler::{Call, Event, call};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::wire;

/// Its only role.
pub(crate) const ROLE: &str = "bench";
/// Longest event taken, in bytes.
const EVENT_MAX: usize = 256 << 20;

/// A framework that is subscribed.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// Its id.
    pub(crate) id: v1::FrameworkId,
    events: TcpStream,
    buffer: BytesMut,
    records: recordio::Decoder,
    /// What came with the answer to SUBSCRIBE.
    early: Vec<Event>,
    calls: mpsc::UnboundedSender<Bytes>,
    refused: Arc<AtomicU64>,
    head: String,
}

/// What a framework says of itself.
pub(crate) fn info(id: Option<v1::FrameworkId>) -> v1::FrameworkInfo {
    use v1::framework_info::capability::Type;
    v1::FrameworkInfo {
        user: "root".to_owned(),
        name: "bench".to_owned(),
        roles: vec![ROLE.to_owned()],
        capabilities: [Type::MultiRole, Type::ReservationRefinement, Type::PartitionAware]
            .map(|own| v1::framework_info::Capability { r#type: Some(own as i32) })
            .into(),
        failover_timeout: Some(3600.0),
        checkpoint: Some(true),
        id,
        ..Default::default()
    }
}

impl Scheduler {
    /// Subscribes; with an id, as the framework that had it.
    ///
    /// # Errors
    /// When the master refuses, or can't be reached.
    pub(crate) async fn subscribe(
        master: SocketAddr,
        id: Option<v1::FrameworkId>,
    ) -> anyhow::Result<Self> {
        let mut events = TcpStream::connect(master).await?;
        events.set_nodelay(true)?;
        let call = Call {
            framework_id: id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(call::Subscribe { framework_info: info(id), ..Default::default() }),
            ..Default::default()
        };
        let head = format!(
            "POST /api/v1/scheduler HTTP/1.1\r\nHost: {master}\r\nContent-Type: application/x-protobuf\r\nAccept: application/x-protobuf\r\n"
        );
        events.write_all(&request(&head, &call)).await?;
        let mut buffer = BytesMut::new();
        let answer = loop {
            ensure!(events.read_buf(&mut buffer).await? > 0, "the master hung up");
            if let Some(answer) = wire::head(&mut buffer) {
                break answer;
            }
        };
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "not subscribed: {answer:?}");
        let stream = wire::header(&answer, "mesos-stream-id").context("no stream id")?;
        let (calls, queue) = mpsc::unbounded_channel();
        let refused = Arc::new(AtomicU64::new(0));
        let connection = TcpStream::connect(master).await?;
        tokio::spawn(carry(connection, queue, refused.clone()));
        let mut own = Self {
            id: v1::FrameworkId { value: String::new() },
            events,
            buffer,
            records: recordio::Decoder::new(EVENT_MAX),
            early: Vec::new(),
            calls,
            refused,
            head: format!("{head}Mesos-Stream-Id: {stream}\r\n"),
        };
        while own.id.value.is_empty() {
            let events = own.events().await?;
            let subscribed = events.iter().find_map(|event| event.subscribed.as_ref());
            if let Some(subscribed) = subscribed {
                own.id = subscribed.framework_id.clone();
                own.early = events;
            }
        }
        Ok(own)
    }

    /// Calls that the master refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The next events.
    ///
    /// # Errors
    /// When the stream ends.
    pub(crate) async fn events(&mut self) -> anyhow::Result<Vec<Event>> {
        if !self.early.is_empty() {
            return Ok(std::mem::take(&mut self.early));
        }
        loop {
            while let Some(chunk) = wire::chunk(&mut self.buffer)? {
                self.records.push(&chunk);
            }
            let mut events = Vec::new();
            while let Some(record) = self.records.next()? {
                events.push(Event::decode(record)?);
            }
            if !events.is_empty() {
                return Ok(events);
            }
            self.buffer.reserve(64 * 1024);
            let read = self.events.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the master ended the stream");
        }
    }

    fn call(&self, kind: call::Type, call: Call) {
        let call = Call { framework_id: Some(self.id.clone()), r#type: Some(kind as i32), ..call };
        // A connection that ended shows as tasks that don't.
        let _ = self.calls.send(request(&self.head, &call));
    }

    /// Accepts an offer with `tasks`; the rest is to be offered again at once.
    pub(crate) fn accept(&self, offer: &v1::Offer, tasks: Vec<v1::TaskInfo>) {
        let launch = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(v1::offer::operation::Launch { task_infos: tasks }),
            ..Default::default()
        };
        let accept = call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![launch],
            filters: Some(v1::Filters { refuse_seconds: Some(0.0) }),
        };
        self.call(call::Type::Accept, Call { accept: Some(accept), ..Default::default() });
    }

    /// Acknowledges an update that wants it.
    pub(crate) fn acknowledge(&self, status: &v1::TaskStatus) {
        let (Some(agent_id), Some(uuid)) = (&status.agent_id, &status.uuid) else { return };
        let acknowledge = call::Acknowledge {
            agent_id: agent_id.clone(),
            task_id: status.task_id.clone(),
            uuid: uuid.clone(),
        };
        self.call(
            call::Type::Acknowledge,
            Call { acknowledge: Some(acknowledge), ..Default::default() },
        );
    }
}

/// The resources of one task.
pub(crate) fn small() -> Vec<v1::Resource> {
    let resources = Resources::parse("cpus:0.01;mem:8", "*").unwrap_or_default();
    resources.allocate(ROLE).to_protos()
}

fn request(head: &str, call: &Call) -> Bytes {
    let length = call.encoded_len();
    let mut request = BytesMut::with_capacity(head.len() + 32 + length);
    request.extend_from_slice(head.as_bytes());
    request.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
    request.extend_from_slice(&call.encode_to_vec());
    request.freeze()
}

/// Writes calls as they come, and counts answers that are no 202.
async fn carry(
    stream: TcpStream,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    refused: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let answers = async move {
        let mut buffer = BytesMut::new();
        while reader.read_buf(&mut buffer).await? > 0 {
            while let Some(answer) = wire::whole(&mut buffer)? {
                if !answer.head.starts_with(b"HTTP/1.1 202") {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        anyhow::Ok(())
    };
    let calls = async move {
        while let Some(first) = queue.recv().await {
            let mut batch = BytesMut::from(first);
            while let Ok(next) = queue.try_recv() {
                batch.extend_from_slice(&next);
            }
            writer.write_all(&batch).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = answers => ended,
        ended = calls => ended,
    }
}
