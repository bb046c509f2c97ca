//! Connections for the election: one with each member, kept by the side with the larger id; of what is to be sent only
//! the newest matters (`QuorumCnxManager`).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::net::{Event, Events, HELLO_LIMIT};
use super::packet::{NOTIFICATION_MAX, Notification, decode_hello, hello};
use super::security::Security;
use crate::config::Ensemble;
use crate::stream::Stream;

/// One member's slot: what it is to hear next, and what carries it there.
#[derive(Debug)]
struct Slot {
    newest: watch::Sender<Bytes>,
    connection: Option<AbortHandle>,
    dialling: Option<AbortHandle>,
}

/// All connections for the election.
#[derive(Debug, Clone)]
pub(crate) struct Elections {
    ensemble: Ensemble,
    slots: Arc<Mutex<BTreeMap<i64, Slot>>>,
    security: Security,
    events: Events,
    runtime: Handle,
}

impl Elections {
    pub(crate) fn new(
        ensemble: Ensemble,
        security: Security,
        events: Events,
        runtime: Handle,
    ) -> Self {
        let others = ensemble.peers.keys().filter(|id| **id != ensemble.id);
        let slots = others.map(|id| {
            let newest = watch::Sender::new(Bytes::new());
            (*id, Slot { newest, connection: None, dialling: None })
        });
        let slots = Arc::new(Mutex::new(slots.collect()));
        Self { ensemble, slots, security, events, runtime }
    }

    /// Sends a notification when there is a connection, and sees to it that there will be one.
    pub(crate) fn send(&self, to: i64, notification: Vec<u8>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get_mut(&to) else { return };
        slot.newest.send_replace(notification.into());
        let is_alive =
            |task: &Option<AbortHandle>| task.as_ref().is_some_and(|task| !task.is_finished());
        if !is_alive(&slot.connection) && !is_alive(&slot.dialling) {
            slot.dialling = Some(self.runtime.spawn(self.clone().dial(to)).abort_handle());
        }
    }

    async fn dial(self, to: i64) {
        let Some(peer) = self.ensemble.peers.get(&to) else { return };
        let dialled = tokio::time::timeout(HELLO_LIMIT, async {
            let mut stream = self.security.connect(&peer.host, peer.election_port).await?;
            let own = self.ensemble.peers.get(&self.ensemble.id).unwrap_or(peer);
            let address = if own.host.contains(':') {
                format!("[{}]:{}", own.host, own.election_port)
            } else {
                format!("{}:{}", own.host, own.election_port)
            };
            stream.write_all(&hello(self.ensemble.id, &address)).await?;
            stream.flush().await?;
            Ok::<_, io::Error>(stream)
        });
        match dialled.await {
            // The other side has the larger id: it closes this and dials back.
            Ok(Ok(mut stream)) if to > self.ensemble.id => {
                let wait = tokio::time::timeout(Duration::from_secs(1), stream.read_u8());
                let _ = wait.await;
            }
            Ok(Ok(stream)) => self.keep(to, stream),
            Ok(Err(error)) => tracing::debug!("server {to} is not reached: {error}"),
            Err(_) => tracing::debug!("server {to} is not reached in {HELLO_LIMIT:?}"),
        }
    }

    /// Makes `stream` the connection with a member, in place of an earlier one.
    fn keep(&self, with: i64, stream: Stream) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get_mut(&with) else { return };
        let task = exchange(with, stream, slot.newest.subscribe(), self.events.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = task.await {
                tracing::debug!("the election's connection with server {with}: {error}");
            }
        });
        if let Some(earlier) = slot.connection.replace(task.abort_handle()) {
            earlier.abort();
        }
    }

    /// Accepts connections of other members.
    pub(crate) async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let elections = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = elections.greet(stream).await {
                            tracing::warn!("{from} is no member of the ensemble: {error}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("an election's connection is not accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn greet(self, stream: TcpStream) -> io::Result<()> {
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let mut stream = tokio::time::timeout(HELLO_LIMIT, self.security.accept(stream)).await??;
        let read = async {
            let mut head = [0; 20];
            stream.read_exact(&mut head).await?;
            let (id, length) = decode_hello(&head).map_err(|error| wrong(error.to_string()))?;
            let mut address = vec![0; length];
            stream.read_exact(&mut address).await?;
            Ok::<_, io::Error>(id)
        };
        let id = tokio::time::timeout(HELLO_LIMIT, read).await??;
        if id == self.ensemble.id {
            return Err(wrong(format!("it says that it is server {id}, as this one is")));
        }
        if !self.ensemble.peers.contains_key(&id) {
            return Err(wrong(format!("there is no server.{id} line")));
        }
        if id > self.ensemble.id {
            self.keep(id, stream);
            return Ok(());
        }
        drop(stream);
        // It may have been started again: what there was is dead.
        {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(earlier) = slots.get_mut(&id).and_then(|slot| slot.connection.take()) {
                earlier.abort();
            }
        }
        self.dial(id).await;
        Ok(())
    }
}

async fn exchange(
    with: i64,
    stream: Stream,
    mut newest: watch::Receiver<Bytes>,
    events: Events,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        // The last one first: it may have been lost with the connection before.
        newest.mark_changed();
        while newest.changed().await.is_ok() {
            let notification = newest.borrow_and_update().clone();
            writer.write_all(&notification).await?;
            writer.flush().await?;
        }
        Ok(())
    };
    let read = async {
        loop {
            let length = reader.read_u32().await? as usize;
            if length == 0 || length > NOTIFICATION_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a notification of {length} bytes"),
                ));
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).await?;
            let notification = Notification::decode(&body)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if !events.send(Event::Notification(with, notification)).await {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
    }
}
