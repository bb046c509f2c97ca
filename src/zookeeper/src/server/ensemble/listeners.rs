//! The ports for other members: opened at start, and again where a change of the ensemble puts them
//! (`QuorumPeer.restartLeaderElection`).

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::quorum::configuration::Address;
use crate::quorum::elections::Elections;
use crate::quorum::net::{self, Door, Events};
use crate::quorum::security::Security;
use crate::server::ServerError;

/// Between two tries to open a port.
const PAUSE: Duration = Duration::from_secs(1);

/// How ports are opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// At every address of the host (`quorumListenOnAllIPs`).
    pub(super) everywhere: bool,
    /// Tries; 0 for as many as it takes (`electionPortBindRetry`).
    pub(super) tries: u32,
}

/// Ports of one address, for elections and for learners.
pub(super) type Bound = (TcpListener, TcpListener);

/// Opens the ports of these addresses.
///
/// # Errors
/// When one can't be opened.
pub(super) async fn bind(at: &[Address], manner: Manner) -> Result<Vec<Bound>, ServerError> {
    let mut bound = Vec::new();
    for Address { host, quorum_port, election_port } in at {
        let host = if manner.everywhere { "::" } else { host.as_str() };
        let electing = listen(host, *election_port, manner.tries).await?;
        bound.push((electing, listen(host, *quorum_port, manner.tries).await?));
        if manner.everywhere {
            break;
        }
    }
    Ok(bound)
}

async fn listen(host: &str, port: u16, tries: u32) -> Result<TcpListener, ServerError> {
    let mut tried = 0;
    loop {
        let bound = match TcpListener::bind((host, port)).await {
            // A kernel without IPv6.
            Err(_) if host == "::" => TcpListener::bind(("0.0.0.0", port)).await,
            bound => bound,
        };
        let address = format!("{host}:{port}");
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) if tries == 0 || tried + 1 < tries => {
                tracing::warn!("{address} can't be opened for the other servers yet: {error}");
            }
            Err(source) => return Err(ServerError::ListenForPeers { address, source }),
        }
        tried += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whom those who connect are led to.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) elections: Elections,
    pub(super) links: net::Links,
    pub(super) security: Security,
    pub(super) events: Events,
    pub(super) shutdown: CancellationToken,
}

impl Doors {
    /// Accepts until the shutdown.
    async fn serve(self, bound: Vec<Bound>) {
        let mut accepting = JoinSet::new();
        for (electing, learning) in bound {
            accepting.spawn(self.elections.clone().accept(electing));
            let (links, security) = (self.links.clone(), self.security.clone());
            accepting.spawn(net::accept(
                Door::Learners,
                learning,
                links,
                security,
                self.events.clone(),
            ));
        }
        self.shutdown.cancelled().await;
    }
}

/// The port at which a follower serves observers: open while it does.
#[derive(Default)]
pub(super) struct ObserverPort {
    open: Option<(Vec<Address>, DropGuard)>,
}

impl ObserverPort {
    /// Opens it at each of the server's addresses, or tries until it is closed again: the leader is not for observers.
    pub(super) fn open(&mut self, at: &[Address], port: u16, listeners: &Listeners) {
        if self.open.as_ref().is_some_and(|(before, _)| before == at) {
            return;
        }
        let (at, manner, doors) = (at.to_vec(), listeners.manner, listeners.doors.clone());
        let token = doors.shutdown.child_token();
        let (serving, opened) = (token.clone(), at.clone());
        listeners.runtime.spawn(async move {
            serving.run_until_cancelled(serve_observers(at, port, manner, doors)).await;
        });
        self.open = Some((opened, token.drop_guard()));
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

async fn serve_observers(at: Vec<Address>, port: u16, manner: Manner, doors: Doors) {
    let mut accepting = JoinSet::new();
    for Address { host, .. } in at {
        let host = if manner.everywhere { "::" } else { host.as_str() };
        match listen(host, port, 0).await {
            Ok(listener) => {
                tracing::info!("serving observers at {host}:{port}");
                let (links, security) = (doors.links.clone(), doors.security.clone());
                let events = doors.events.clone();
                accepting.spawn(net::accept(Door::Observers, listener, links, security, events));
            }
            Err(error) => tracing::error!("{error}"),
        }
        if manner.everywhere {
            break;
        }
    }
    while accepting.join_next().await.is_some() {}
}

/// Open ports.
pub(super) struct Listeners {
    at: Vec<Address>,
    manner: Manner,
    doors: Doors,
    runtime: Handle,
    task: Option<JoinHandle<()>>,
}

impl Listeners {
    /// Serves the ports that are open at these addresses.
    pub(super) fn new(at: Vec<Address>, manner: Manner, bound: Vec<Bound>, doors: Doors) -> Self {
        let runtime = Handle::current();
        let task = Some(runtime.spawn(doors.clone().serve(bound)));
        Self { at, manner, doors, runtime, task }
    }

    /// Closes the ports and opens those of other addresses; connections stay. Where one can't be opened it is tried again
    /// and again: without it this server is of no use to the others.
    pub(super) fn move_to(&mut self, at: &[Address]) {
        if self.at == at {
            return;
        }
        self.at = at.to_vec();
        let (before, doors, at) = (self.task.take(), self.doors.clone(), self.at.clone());
        let manner = Manner { tries: 0, ..self.manner };
        self.task = Some(self.runtime.spawn(async move {
            if let Some(before) = before {
                before.abort();
                // It ends with its ports closed, or had ended.
                let _ = before.await;
            }
            let opening = doors.shutdown.clone();
            match opening.run_until_cancelled(bind(&at, manner)).await {
                Some(Ok(bound)) => {
                    tracing::info!("other servers reach this one at another address now");
                    doors.serve(bound).await;
                }
                Some(Err(error)) => tracing::error!("{error}"),
                None => {}
            }
        }));
    }
}
