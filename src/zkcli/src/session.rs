//! The session with the server: begun, lost, ended (`ZooKeeperMain.connectToZK`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zookeeper::tls::Tls;
use zookeeper_client::{Client, Error, SaslOptions, SessionState};

use crate::failure::{Failure, at};
use crate::output::Output;
use crate::relay::Relays;
use crate::watches::Watches;

/// How long the end of a session is waited for: its `closeSession` is on its way.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How sessions are begun.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The session timeout that is asked for.
    pub timeout: Duration,
    /// Whether a server without a quorum will do.
    pub readonly: bool,
    /// Whether to go on trying for as long as the timeout.
    pub wait: bool,
    /// TLS, if it is spoken with the servers.
    pub tls: Option<Arc<Tls>>,
    /// Who to be by SASL, if it is used.
    pub sasl: Option<SaslOptions>,
}

/// The client of the present session, for those beside the shell (completion); `None` without one.
pub type Shared = Arc<Mutex<Option<Client>>>;

/// A session, or the wish for one.
pub struct Session {
    /// The servers, as given.
    pub host: String,
    settings: Settings,
    client: Option<Client>,
    relays: Option<Relays>,
    /// Whether it was ended on purpose, and is not begun again unasked.
    ended: bool,
    shared: Shared,
    /// Its watches.
    pub watches: Watches,
    /// Where it says what happens.
    pub output: Output,
}

/// A state's name in events (`Watcher.Event.KeeperState`).
fn state_name(state: SessionState) -> String {
    state.to_string()
}

impl Session {
    /// No session yet.
    pub fn new(host: &str, settings: Settings, output: Output) -> Self {
        Self {
            host: host.to_owned(),
            settings,
            client: None,
            relays: None,
            ended: false,
            shared: Shared::default(),
            watches: Watches::new(output.clone()),
            output,
        }
    }

    /// See [`Shared`].
    pub fn shared(&self) -> Shared {
        Arc::clone(&self.shared)
    }

    fn set(&mut self, client: Option<Client>) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&client);
        self.client = client;
    }

    /// Begins a session with `host`; one that there was is ended first.
    ///
    /// # Errors
    /// When no server takes it.
    pub async fn connect(&mut self, host: &str) -> Result<(), Failure> {
        self.close().await;
        self.ended = false;
        host.clone_into(&mut self.host);
        let mut connector = Client::connector()
            .with_session_timeout(self.settings.timeout)
            .with_readonly(self.settings.readonly);
        if !self.settings.wait {
            connector = connector.with_fail_eagerly();
        }
        if let Some(sasl) = self.settings.sasl.clone() {
            connector = connector.with_sasl(sasl);
        }
        self.relays = match &self.settings.tls {
            None => None,
            Some(tls) => {
                Some(Relays::open(tls, host, &self.output).await.map_err(Failure::Malformed)?)
            }
        };
        let host = self.relays.as_ref().map_or(host, |relays| relays.hosts.as_str());
        let client = connector.connect(host).await.map_err(at(""))?;
        let first = if client.session().is_readonly() {
            SessionState::ConnectedReadOnly
        } else {
            SessionState::SyncConnected
        };
        self.output.event(&state_name(first), "None", None);
        let (mut states, output) = (client.state_watcher(), self.output.clone());
        tokio::spawn(async move {
            loop {
                let state = states.changed().await;
                output.event(&state_name(state), "None", None);
                if state.is_terminated() {
                    break;
                }
            }
        });
        self.set(Some(client));
        Ok(())
    }

    /// The client of the session; one is begun if there was none yet. `None` when the session has ended: a new one is begun
    /// by `connect` alone.
    ///
    /// # Errors
    /// When no server takes it; `path` is what it was wanted for.
    pub async fn client(&mut self, path: &str) -> Result<Option<Client>, Failure> {
        if self.client.is_none() && !self.ended {
            let host = self.host.clone();
            self.connect(&host).await.map_err(|failure| match failure {
                Failure::Keeper { error: Error::NoHosts | Error::Timeout, .. } => {
                    at(path)(Error::ConnectionLoss)
                }
                other => other,
            })?;
        }
        Ok(self.client.clone().filter(|client| !client.state().is_terminated()))
    }

    /// What the prompt says of it (`ZooKeeper.States`).
    pub fn state(&self) -> &'static str {
        match self.client.as_ref().map(Client::state) {
            None if self.ended => "CLOSED",
            None | Some(SessionState::Disconnected) => "CONNECTING",
            Some(SessionState::SyncConnected) => "CONNECTED",
            Some(SessionState::ConnectedReadOnly) => "CONNECTEDREADONLY",
            Some(SessionState::AuthFailed) => "AUTH_FAILED",
            Some(SessionState::Expired | SessionState::Closed) => "CLOSED",
        }
    }

    /// Ends the session, and waits until the server knows.
    pub async fn close(&mut self) {
        self.ended = true;
        self.watches.clear();
        let Some(client) = self.client.take() else { return };
        let was_alive = !client.state().is_terminated();
        let mut states = client.state_watcher();
        self.set(None);
        drop(client);
        if was_alive {
            let ended = async { while !states.changed().await.is_terminated() {} };
            let _ = tokio::time::timeout(CLOSE_LIMIT, ended).await;
        }
    }
}
