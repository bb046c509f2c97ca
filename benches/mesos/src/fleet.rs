//! Simulated agents: they register, answer pings, and end each task that they are given at once. They speak libprocess
//! over real sockets, each host from its own address of 127.0.0.0/8.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use mesos::internal;
use mesos::libprocess::{Upid, outbound};
use mesos::resources::Resources;
use mesos::v1;
use prost::{Message, Name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::wire;

/// What each agent has.
const RESOURCES: &str = "cpus:64;mem:262144;disk:1000000;ports:[31000-32000]";

/// The agents. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    count: usize,
    per_host: usize,
    master: Mutex<SocketAddr>,
    writers: Mutex<Vec<Option<mpsc::UnboundedSender<Bytes>>>>,
    ids: Mutex<Vec<Option<String>>>,
    answered: AtomicUsize,
    answers: Mutex<Vec<bool>>,
    acknowledged: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a re-registering agent says that runs on it.
pub(crate) type Running = (Vec<v1::Task>, Vec<v1::FrameworkInfo>);

impl Fleet {
    /// `count` agents on as many hosts as there are descriptors for.
    ///
    /// # Errors
    /// When there is no port.
    pub(crate) async fn start(count: usize, master: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let hosts_max = (crate::process::open_files() as usize).saturating_sub(1000) / 3;
        let per_host = count.div_ceil(hosts_max.max(1));
        let shared = Arc::new(Shared {
            port: listener.local_addr()?.port(),
            count,
            per_host,
            master: Mutex::new(master),
            writers: Mutex::new(vec![None; count.div_ceil(per_host)]),
            ids: Mutex::new(vec![None; count]),
            answered: AtomicUsize::new(0),
            answers: Mutex::new(vec![false; count]),
            acknowledged: AtomicU64::new(0),
        });
        let serving = tokio::spawn(accept(shared.clone(), listener));
        Ok(Self { shared, serving })
    }

    /// How many share a host.
    pub(crate) fn per_host(&self) -> usize {
        self.shared.per_host
    }

    /// Tasks whose end was acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Forgets the connections to a master that is gone.
    pub(crate) fn disconnect(&self) {
        lock(&self.shared.writers).fill(None);
    }

    /// All register, and again until each was answered.
    ///
    /// # Errors
    /// When some were not within `limit`.
    pub(crate) async fn register(&self, limit: Duration) -> anyhow::Result<Duration> {
        self.all(limit, |agent| {
            self.shared.post(
                agent,
                &internal::RegisterSlaveMessage {
                    slave: self.shared.info(agent, None),
                    version: Some(mesos::VERSION.to_owned()),
                    agent_capabilities: capabilities(),
                    resource_version_uuid: Some(v1::Uuid { value: vec![7; 16] }),
                    ..Default::default()
                },
            );
        })
        .await
    }

    /// All register again, with what runs on them; those that have no id take the one that `id` says.
    ///
    /// # Errors
    /// When some were not answered within `limit`.
    pub(crate) async fn reregister(
        &self,
        limit: Duration,
        running: impl Fn(usize, &str) -> Running,
    ) -> anyhow::Result<Duration> {
        self.all(limit, |agent| {
            let id = lock(&self.shared.ids)[agent]
                .get_or_insert_with(|| format!("0b0e0000-0000-4000-8000-000000000000-S{agent}"))
                .clone();
            let (tasks, frameworks) = running(agent, &id);
            self.shared.post(
                agent,
                &internal::ReregisterSlaveMessage {
                    slave: self.shared.info(agent, Some(id)),
                    tasks,
                    frameworks,
                    version: Some(mesos::VERSION.to_owned()),
                    agent_capabilities: capabilities(),
                    resource_version_uuid: Some(v1::Uuid { value: vec![7; 16] }),
                    ..Default::default()
                },
            );
        })
        .await
    }

    async fn all(&self, limit: Duration, ask: impl Fn(usize)) -> anyhow::Result<Duration> {
        let began = tokio::time::Instant::now();
        lock(&self.shared.answers).fill(false);
        self.shared.answered.store(0, Ordering::Relaxed);
        let pause = Duration::from_secs(if self.shared.count > 1000 { 15 } else { 1 });
        let mut asked: Option<tokio::time::Instant> = None;
        loop {
            let answered = self.shared.answered.load(Ordering::Relaxed);
            if answered == self.shared.count {
                return Ok(began.elapsed());
            }
            if began.elapsed() > limit {
                bail!("{answered} of {} agents were answered within {limit:?}", self.shared.count);
            }
            // As agents do: who hears nothing asks again. A master that has just started may ignore the first.
            if asked.is_none_or(|asked| asked.elapsed() > pause) {
                for agent in 0..self.shared.count {
                    if !lock(&self.shared.answers)[agent] {
                        ask(agent);
                    }
                    if agent % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                asked = Some(tokio::time::Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.serving.abort();
        self.disconnect();
    }
}

fn capabilities() -> Vec<v1::agent_info::Capability> {
    use v1::agent_info::capability::Type;
    [Type::MultiRole, Type::HierarchicalRole, Type::ReservationRefinement]
        .map(|own| v1::agent_info::Capability { r#type: Some(own as i32) })
        .into()
}

impl Shared {
    fn address(&self, host: usize) -> Ipv4Addr {
        let (a, b, c) = (host / 62_500, host / 250 % 250, host % 250);
        Ipv4Addr::new(127, 1 + a as u8, b as u8, 1 + c as u8)
    }

    fn host_at(address: Ipv4Addr) -> usize {
        let [_, a, b, c] = address.octets().map(usize::from);
        (a - 1) * 62_500 + b * 250 + c - 1
    }

    fn upid(&self, agent: usize) -> Upid {
        let address = SocketAddrV4::new(self.address(agent / self.per_host), self.port);
        Upid::new(format!("slave({})", agent % self.per_host + 1), address.into())
    }

    fn info(&self, agent: usize, id: Option<String>) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: format!("agent{agent}.example"),
            port: Some(i32::from(self.port)),
            resources: Resources::parse(RESOURCES, "*").unwrap_or_default().to_protos(),
            id: id.map(|value| v1::AgentId { value }),
            checkpoint: Some(true),
            ..Default::default()
        }
    }

    /// Sends a message of an agent to the master.
    fn post<M: Message + Name>(self: &Arc<Self>, agent: usize, message: &M) {
        self.write(agent / self.per_host, frame(&self.upid(agent), "master", message));
    }

    /// Writes on a host's connection to the master, which is made when there is none.
    fn write(self: &Arc<Self>, host: usize, bytes: Bytes) {
        let mut writers = lock(&self.writers);
        let Some(writer) = writers.get_mut(host) else { return };
        if let Some(open) = writer
            && open.send(bytes.clone()).is_ok()
        {
            return;
        }
        let (open, queue) = mpsc::unbounded_channel();
        // The receiver is in the task: this can't fail.
        let _ = open.send(bytes);
        *writer = Some(open);
        let (from, to) = (self.address(host), *lock(&self.master));
        tokio::spawn(async move {
            // A master that dies is asked again by whoever waits for it.
            let _ = carry(from, to, queue).await;
        });
    }
}

fn frame<M: Message + Name>(from: &Upid, to: &str, message: &M) -> Bytes {
    outbound::encode(from, to, &M::full_name(), &message.encode_to_vec())
}

async fn carry(
    from: Ipv4Addr,
    to: SocketAddr,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let answers = async move {
        let mut ignored = vec![0; 2048];
        while reader.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
    };
    let messages = async move {
        while let Some(first) = queue.recv().await {
            let mut batch = BytesMut::from(first);
            while let Ok(next) = queue.try_recv() {
                batch.put_slice(&next);
            }
            writer.write_all(&batch).await?;
        }
        Ok(())
    };
    tokio::select! {
        () = answers => Ok(()),
        ended = messages => ended,
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // A connection that the master ends is no error.
            let _ = serve(&shared, stream).await;
        });
    }
}

async fn serve(shared: &Arc<Shared>, mut stream: TcpStream) -> anyhow::Result<()> {
    let SocketAddr::V4(own) = stream.local_addr()? else { bail!("not IPv4") };
    let host = Shared::host_at(*own.ip());
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut replies = BytesMut::new();
        while let Some(message) = wire::whole(&mut buffer)? {
            answer(shared, host, &message, &mut replies)?;
        }
        if !replies.is_empty() {
            shared.write(host, replies.freeze());
        }
    }
}

/// Answers one message of the master's.
fn answer(
    shared: &Arc<Shared>,
    host: usize,
    message: &wire::Whole,
    replies: &mut BytesMut,
) -> anyhow::Result<()> {
    let path = message.first_line().split(' ').nth(1).context("no path")?;
    let mut parts = path.trim_start_matches('/').split('/');
    let (to, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let digits = to.trim_start_matches("slave").trim_start_matches("%28").trim_end_matches("%29");
    let number: usize = digits.trim_matches(['(', ')']).parse().context("which agent")?;
    let agent = host * shared.per_host + number - 1;
    let own = shared.upid(agent);
    match name.trim_start_matches("mesos.internal.") {
        "RunTaskMessage" => {
            let run = internal::RunTaskMessage::decode(message.body.as_ref())?;
            let update = finished(run, &own).context("a task without its framework's id")?;
            replies.put_slice(&frame(&own, "master", &update));
        }
        "StatusUpdateAcknowledgementMessage" => {
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        "PingSlaveMessage" => {
            let from = message.header("libprocess-from").context("nobody pings")?;
            let observer = from.split('@').next().unwrap_or_default();
            replies.put_slice(&frame(&own, observer, &internal::PongSlaveMessage {}));
        }
        "SlaveRegisteredMessage" => {
            let id = internal::SlaveRegisteredMessage::decode(message.body.as_ref())?.slave_id;
            lock(&shared.ids)[agent] = Some(id.value);
            shared.answered(agent);
        }
        "SlaveReregisteredMessage" => shared.answered(agent),
        _ => {}
    }
    Ok(())
}

impl Shared {
    fn answered(&self, agent: usize) {
        if !std::mem::replace(&mut lock(&self.answers)[agent], true) {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The only update of a task that does nothing.
fn finished(run: internal::RunTaskMessage, own: &Upid) -> Option<internal::StatusUpdateMessage> {
    static UPDATES: AtomicU64 = AtomicU64::new(1);
    // The original ignores updates whose UUID says of no version and variant what it is.
    let mut uuid = vec![0, 0, 0, 0, 0, 0, 0x40, 0];
    uuid.extend_from_slice(&(1 << 63 | UPDATES.fetch_add(1, Ordering::Relaxed)).to_be_bytes());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    let status = v1::TaskStatus {
        task_id: run.task.task_id,
        state: v1::TaskState::TaskFinished as i32,
        source: Some(v1::task_status::Source::Executor as i32),
        agent_id: Some(run.task.agent_id.clone()),
        timestamp: Some(now.as_secs_f64()),
        uuid: Some(uuid.clone()),
        ..Default::default()
    };
    let update = internal::StatusUpdate {
        framework_id: run.framework.id?,
        slave_id: Some(run.task.agent_id),
        status,
        timestamp: now.as_secs_f64(),
        uuid: Some(uuid),
        latest_state: Some(v1::TaskState::TaskFinished as i32),
        ..Default::default()
    };
    Some(internal::StatusUpdateMessage { update, pid: Some(own.to_string()) })
}
