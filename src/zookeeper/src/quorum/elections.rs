//! Connections for the election: one with each member, kept by the side with the larger id; of what is to be sent only
//! the newest matters (`QuorumCnxManager`).
//!
//! Servers that no configuration names may connect too: they ask who leads before they can be made members.

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

use super::configuration::{Configuration, Endpoint};
use super::membership::Membership;
use super::net::{Event, Events, HELLO_LIMIT, Numbers, reach};
use super::packet::{NOTIFICATION_MAX, Notification, decode_hello, hello, hello_addresses};
use super::security::Security;
use crate::stream::Stream;

/// One member's slot: what it is to hear next, and what carries it there.
#[derive(Debug, Default)]
struct Slot {
    /// Where it listens, as a configuration says or else it itself did.
    addresses: Vec<Endpoint>,
    newest: watch::Sender<Bytes>,
    connection: Option<AbortHandle>,
    /// Of the connections that the member has dialled, the place of the one in use among them.
    accepted: u64,
    dialling: Option<AbortHandle>,
}

fn is_alive(task: Option<&AbortHandle>) -> bool {
    task.is_some_and(|task| !task.is_finished())
}

/// All connections for the election.
#[derive(Debug, Clone)]
pub(crate) struct Elections {
    id: i64,
    slots: Arc<Mutex<BTreeMap<i64, Slot>>>,
    security: Security,
    numbers: Numbers,
    events: Events,
    runtime: Handle,
}

/// Where a server listens for the election.
fn addresses(configuration: &Configuration, id: i64) -> Option<Vec<Endpoint>> {
    let server = configuration.servers().get(&id)?;
    Some(server.addresses.iter().map(super::configuration::Address::election).collect())
}

impl Elections {
    pub(crate) fn new(
        members: &Membership,
        security: Security,
        events: Events,
        runtime: Handle,
    ) -> Self {
        let (slots, numbers) = (Arc::default(), Numbers::default());
        let elections = Self { id: members.id, slots, numbers, security, events, runtime };
        elections.configure(members);
        elections
    }

    /// Takes over where the members of the ensemble listen. Those that left may still ask who leads.
    pub(crate) fn configure(&self, members: &Membership) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for configuration in [Some(members.current()), members.proposed()].into_iter().flatten() {
            for id in configuration.servers().keys() {
                let slot = slots.entry(*id).or_default();
                slot.addresses = addresses(configuration, *id).unwrap_or_default();
            }
        }
    }

    /// Sends a notification when there is a connection, and sees to it that there will be one.
    pub(crate) fn send(&self, to: i64, notification: Vec<u8>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get_mut(&to) else { return };
        slot.newest.send_replace(notification.into());
        if !is_alive(slot.connection.as_ref()) {
            self.dial_once(to, slot);
        }
    }

    /// Dials unless that is under way: of two connections each side might keep the other one.
    fn dial_once(&self, to: i64, slot: &mut Slot) {
        if !is_alive(slot.dialling.as_ref()) {
            slot.dialling = Some(self.runtime.spawn(self.clone().dial(to)).abort_handle());
        }
    }

    fn addresses(&self, of: i64) -> Vec<Endpoint> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(&of).map(|slot| slot.addresses.clone()).unwrap_or_default()
    }

    async fn dial(self, to: i64) {
        let own = self.addresses(self.id);
        let limit = self.security.dial_limit();
        let dialled = tokio::time::timeout(limit, async {
            let mut stream = reach(&self.security, self.addresses(to)).await?;
            stream.write_all(&hello(self.id, &own)).await?;
            stream.flush().await?;
            self.security.prove(&mut stream).await?;
            Ok::<_, io::Error>(stream)
        });
        match dialled.await {
            // The other side has the larger id: it closes this and dials back.
            Ok(Ok(mut stream)) if to > self.id => {
                let wait = tokio::time::timeout(Duration::from_secs(1), stream.read_u8());
                let _ = wait.await;
            }
            Ok(Ok(stream)) => self.keep(to, stream),
            Ok(Err(error)) => tracing::debug!("server {to} is not reached: {error}"),
            Err(_) => tracing::debug!("server {to} is not reached in {limit:?}"),
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
                    let accepted = self.numbers.next();
                    let elections = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = elections.greet(accepted, stream).await {
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

    async fn greet(self, accepted: u64, stream: TcpStream) -> io::Result<()> {
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let mut stream = tokio::time::timeout(HELLO_LIMIT, self.security.accept(stream)).await??;
        let read = async {
            let mut head = [0; 20];
            stream.read_exact(&mut head).await?;
            let (id, length) = decode_hello(&head).map_err(|error| wrong(error.to_string()))?;
            let mut address = vec![0; length];
            stream.read_exact(&mut address).await?;
            Ok::<_, io::Error>((id, hello_addresses(&address)))
        };
        let (id, told) = tokio::time::timeout(HELLO_LIMIT, read).await??;
        self.security.check(&mut stream).await?;
        if id == self.id {
            return Err(wrong(format!("it says that it is server {id}, as this one is")));
        }
        if !(1..=255).contains(&id) {
            return Err(wrong(format!("it says that it is server {id}: ids go from 1 to 255")));
        }
        {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = slots.entry(id).or_default();
            if slot.addresses.is_empty() {
                slot.addresses = told;
            }
            if slot.accepted > accepted {
                // It has dialled again since.
                return Ok(());
            }
            slot.accepted = accepted;
            // It may have been started again: what there was is dead.
            if let Some(earlier) = slot.connection.take() {
                earlier.abort();
            }
            if id < self.id {
                self.dial_once(id, slot);
                return Ok(());
            }
        }
        self.keep(id, stream);
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
            let configuration = Notification::configuration(&body)
                .and_then(|text| Configuration::parse(&String::from_utf8_lossy(text)).ok());
            let event = Event::Notification(with, notification, configuration.map(Box::new));
            if !events.send(event).await {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
    }
}
