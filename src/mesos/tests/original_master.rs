//! Talks to a real Mesos 1.11.0 master over the libprocess wire: what we send it understands, what it sends we understand.
//!
//! Where no original is at hand the test says so and passes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that says when it skips")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mesos::libprocess::Upid;
use mesos::libprocess::inbound::{self, Header};
use mesos::libprocess::outbound::Sender;
use mesos::resources::Resources;
use mesos::{internal, v1};
use prost::{Message, Name};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(30);

struct Original {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start() -> Option<Original> {
    let home = std::env::var_os("MESOS_ORACLE_CACHE")
        .map_or_else(|| PathBuf::from("/var/tmp/mesos-oracle"), PathBuf::from);
    let program = home.join("bin/mesos-master");
    if !program.is_file() {
        println!("skipped: no original master at {}", program.display());
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let process = Command::new(program)
        .args(["--registry=in_memory", "--ip=127.0.0.1", "--hostname=localhost"])
        .arg("--agent_ping_timeout=1secs")
        .arg(format!("--port={}", address.port()))
        .arg(format!("--work_dir={}", directory.path().display()))
        .env("LIBPROCESS_NUM_WORKER_THREADS", "2")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Some(Original { process, address, _directory: directory })
}

/// Serves what comes in at `listener`: messages go to the channel and are answered with 202.
async fn listen(listener: TcpListener, messages: mpsc::Sender<(Header, Bytes)>) {
    while let Ok((stream, _)) = listener.accept().await {
        let messages = messages.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let messages = messages.clone();
            async move {
                let (parts, body) = request.into_parts();
                let header = inbound::classify(&parts.method, parts.uri.path(), &parts.headers);
                let body = body.collect().await.unwrap().to_bytes();
                messages.send((header.unwrap(), body)).await.unwrap();
                let mut reply = Response::new(Empty::<Bytes>::new());
                *reply.status_mut() = StatusCode::ACCEPTED;
                Ok::<_, Infallible>(reply)
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn expect<M: Message + Name + Default>(
    messages: &mut mpsc::Receiver<(Header, Bytes)>,
) -> (Header, M) {
    loop {
        let (header, body) = messages.recv().await.unwrap();
        if header.name == M::full_name() {
            return (header, M::decode(body).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_registers_answers_pings_and_sees_the_master_die() {
    let Some(original) = start() else { return };
    let conversation = async {
        while TcpStream::connect(original.address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sender = Sender::new(listener.local_addr().unwrap());
        let (into, mut messages) = mpsc::channel(64);
        tokio::spawn(listen(listener, into));

        let master = Upid::new("master", original.address);
        let mut exited = sender.exited();
        sender.link(&master);
        let register = internal::RegisterSlaveMessage {
            slave: v1::AgentInfo {
                hostname: "localhost".into(),
                port: Some(i32::from(sender.upid("slave(1)").address.port())),
                resources: Resources::parse("cpus:2;mem(ops):64;ports:[1-2]", "*")
                    .unwrap()
                    .to_protos_unrefined(),
                ..Default::default()
            },
            version: Some(mesos::VERSION.into()),
            ..Default::default()
        };
        // A master that has just started may not have elected itself: agents repeat themselves.
        let registered = loop {
            sender.send("slave(1)", &master, &register);
            let answer = expect::<internal::SlaveRegisteredMessage>(&mut messages);
            if let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), answer).await {
                break answer;
            }
        };
        assert_eq!((registered.0.from, registered.0.to), (master.clone(), "slave(1)".into()));
        assert!(registered.1.slave_id.value.ends_with("-S0"), "{:?}", registered.1);

        let (header, _) = expect::<internal::PingSlaveMessage>(&mut messages).await;
        sender.send("slave(1)", &header.from, &internal::PongSlaveMessage::default());

        assert!(kill(&original));
        while exited.recv().await.unwrap() != original.address {}
    };
    tokio::time::timeout(DEADLINE, conversation).await.unwrap();
}

fn kill(original: &Original) -> bool {
    Command::new("kill")
        .args(["-9", &original.process.id().to_string()])
        .status()
        .unwrap()
        .success()
}
