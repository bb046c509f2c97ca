//! Who agents and v0 drivers are (CRAM-MD5), and what principals may do here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::acls::Object;
use access::cram_md5::{Session, Step};
use access::{Acls, Action, Credentials, Principal};
use indexmap::IndexMap;
use mesos::entropy::Entropy;
use mesos::internal as m;
use mesos::libprocess::{Upid, inbound::Header};
use mesos::v1;
use prost::{DecodeError, Message as _, Name as _};

use super::model::{Now, roles_of};
use super::{Effect, Master};

/// The names of the processes that authenticate others begin so.
pub const SESSION_PREFIX: &str = "crammd5-authenticator-session(";
/// Authentications that may go on at once; the oldest makes room.
const SESSIONS_MAX: usize = 4096;

/// What an operator chose of security. The default asks nobody and allows everything.
#[derive(Debug, Clone)]
pub struct Security {
    /// `--credentials`.
    pub credentials: Option<Arc<Credentials>>,
    /// `--acls`.
    pub acls: Arc<Acls>,
    /// `--authenticate_frameworks`.
    pub authenticate_frameworks: bool,
    /// `--authenticate_agents`.
    pub authenticate_agents: bool,
    /// `--authentication_v0_timeout`.
    pub timeout: Duration,
    /// What challenges are made from: different at every start, and secret.
    pub seed: [u8; 32],
}

impl Default for Security {
    fn default() -> Self {
        Self {
            credentials: None,
            acls: Arc::default(),
            authenticate_frameworks: false,
            authenticate_agents: false,
            timeout: Duration::from_secs(15),
            seed: [0; 32],
        }
    }
}

/// Who has authenticated, and who is about to.
#[derive(Debug)]
pub(super) struct Authentication {
    /// By the name of the process that speaks for the master, with when it must be over.
    sessions: IndexMap<String, (Session, Duration)>,
    next_session: u64,
    known: HashMap<Upid, Principal>,
    entropy: Entropy,
}

impl Authentication {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            sessions: IndexMap::new(),
            next_session: 1,
            known: HashMap::new(),
            entropy: Entropy::new(seed),
        }
    }

    /// Who was at an address may be somebody else now.
    pub(super) fn exited(&mut self, address: SocketAddr) {
        self.known.retain(|pid, _| pid.address != address);
        self.sessions.retain(|_, (session, _)| session.subject.address != address);
    }

    pub(super) fn expire(&mut self, now: Now) {
        self.sessions.retain(|_, (session, deadline)| {
            let in_time = now.mono < *deadline;
            if !in_time {
                tracing::warn!(of = %session.subject, "authentication took too long");
            }
            in_time
        });
    }
}

impl Master {
    /// A message of somebody who authenticates; whether it was one.
    pub(super) fn authentication_message(
        &mut self,
        now: Now,
        header: &Header,
        body: &[u8],
    ) -> Result<bool, DecodeError> {
        if header.name == m::AuthenticateMessage::full_name() {
            self.count("master/messages_authenticate");
            let message = m::AuthenticateMessage::decode(body)?;
            match message.pid.parse::<Upid>() {
                Ok(subject) if subject.address == header.from.address => {
                    self.authenticate(now, subject, &header.from);
                }
                _ => {
                    tracing::warn!(from = %header.from, of = message.pid, "authentication refused: it is of another process");
                }
            }
            return Ok(true);
        }
        if !header.to.starts_with(SESSION_PREFIX) {
            return Ok(false);
        }
        let Some((session, _)) = self.authentication.sessions.get_mut(&header.to) else {
            return Ok(true);
        };
        let Some(credentials) = self.settings.security.credentials.clone() else {
            return Ok(true);
        };
        if session.peer != header.from {
            tracing::warn!(from = %header.from, "message of an authentication ignored: it is another's");
            return Ok(true);
        }
        let (step, reply) = session.message(&credentials, &header.name, body)?;
        let (peer, subject) = (session.peer.clone(), session.subject.clone());
        if let Some(reply) = reply {
            self.effects.push(Effect::Send {
                from: header.to.clone(),
                to: peer,
                name: reply.name,
                body: reply.body,
            });
        }
        match step {
            Step::Going => return Ok(true),
            Step::Known(principal) => {
                tracing::info!(of = %subject, %principal, "authenticated");
                self.authentication.known.insert(subject, principal);
            }
            Step::Refused => tracing::warn!(of = %subject, "authentication failed"),
            Step::Broken(reason) => tracing::warn!(of = %subject, reason, "authentication failed"),
        }
        self.authentication.sessions.shift_remove(&header.to);
        Ok(true)
    }

    fn authenticate(&mut self, now: Now, subject: Upid, peer: &Upid) {
        self.authentication.known.remove(&subject);
        self.authentication.sessions.retain(|_, (session, _)| session.subject != subject);
        if self.settings.security.credentials.is_none() {
            tracing::warn!(of = %subject, "authentication refused: this master has no --credentials");
            let error =
                Some("No credentials provided, authentication requests will be refused".to_owned());
            self.send(peer, &m::AuthenticationErrorMessage { error });
            return;
        }
        if self.authentication.sessions.len() >= SESSIONS_MAX {
            self.authentication.sessions.shift_remove_index(0);
        }
        let nonce = self.authentication.entropy.uuid().as_u64_pair().1;
        let hostname = self.info.hostname.clone().unwrap_or_default();
        let id = format!("{SESSION_PREFIX}{})", self.authentication.next_session);
        self.authentication.next_session += 1;
        let (session, first) = Session::start(subject, peer.clone(), nonce, &hostname);
        self.effects.push(Effect::Relink(peer.clone()));
        self.effects.push(Effect::Send {
            from: id.clone(),
            to: peer.clone(),
            name: first.name,
            body: first.body,
        });
        let deadline = now.mono + self.settings.security.timeout;
        self.authentication.sessions.insert(id, (session, deadline));
    }

    /// Who a process has proved to be.
    pub(super) fn authenticated(&self, pid: &Upid) -> Option<String> {
        self.authentication.known.get(pid).map(|principal| principal.0.clone())
    }

    /// Whether a driver is who its framework says (`Master::validateFrameworkAuthentication`).
    pub(super) fn check_driver(&self, from: &Upid, info: &v1::FrameworkInfo) -> Result<(), String> {
        let known = self.authentication.known.get(from);
        if known.is_none() && self.settings.security.authenticate_frameworks {
            return Err(format!("Framework at {from} is not authenticated"));
        }
        match (known, &info.principal) {
            (Some(known), Some(claimed)) if known.0 != *claimed => Err(format!(
                "Framework principal '{claimed}' does not match authenticated principal '{known}'"
            )),
            _ => Ok(()),
        }
    }

    /// Whether an agent may be here. One that may not is not answered, as by the original.
    pub(super) fn check_agent(&self, from: &Upid) -> bool {
        let known = self.authentication.known.get(from);
        if known.is_none() && self.settings.security.authenticate_agents {
            tracing::warn!(%from, "agent refused: it is not authenticated");
            return false;
        }
        let may = self.settings.security.acls.allow(known, Action::RegisterAgents, Object::Any);
        if !may {
            tracing::warn!(%from, principal = ?known, "agent refused: not authorized to register");
        }
        may
    }

    /// Whether a framework may have its roles.
    pub(super) fn authorize_framework(&self, info: &v1::FrameworkInfo) -> Result<(), String> {
        let roles = roles_of(info);
        let may = |role: &String| {
            let role = Object::Named(role);
            self.allows(info.principal.as_deref(), Action::RegisterFrameworks, role)
        };
        if roles.iter().all(may) {
            return Ok(());
        }
        let id = info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        Err(format!(
            "Not authorized to register framework {id} with roles {{ {} }}",
            roles.join(", ")
        ))
    }

    /// Whether a framework may run a task as its user.
    pub(super) fn authorize_task(
        &self,
        framework: &v1::FrameworkInfo,
        task: &v1::TaskInfo,
    ) -> Result<(), String> {
        let executor = task.executor.as_ref().and_then(|executor| executor.command.as_ref());
        let command = task.command.as_ref().and_then(|command| command.user.as_deref());
        let user = command
            .or_else(|| executor.and_then(|command| command.user.as_deref()))
            .unwrap_or(&framework.user);
        let principal = framework.principal.as_deref();
        if self.allows(principal, Action::RunTasks, Object::Named(user)) {
            return Ok(());
        }
        let id = framework.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        // The words are the original's.
        Err(format!(
            "Principal '{}' no authorized to launch task {} of framework {id} under user '{user}'",
            principal.unwrap_or("ANY"),
            task.task_id.value
        ))
    }

    /// Whether a principal that a framework gave itself, or none, may do something.
    pub(super) fn allows(
        &self,
        principal: Option<&str>,
        action: Action,
        object: Object<'_>,
    ) -> bool {
        let principal = principal.map(|name| Principal(name.to_owned()));
        self.settings.security.acls.allow(principal.as_ref(), action, object)
    }
}
