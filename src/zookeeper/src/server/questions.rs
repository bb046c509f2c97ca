//! Questions about the server: from the port for clients by four-letter words, and over HTTP by administrators and
//! Prometheus. The core's thread answers all of them between two batches.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Actor, Door, Input, ServerError, wall_ms};
use crate::config::{Config, Https};
use crate::status::{self, Member, View};
use crate::tls::Tls;
use crate::{admin, metrics, words};

/// What somebody wants to know of the server.
pub(crate) enum Question {
    /// A four-letter word, the number behind it, and who asks.
    Word([u8; 4], Option<i64>, String, oneshot::Sender<Option<String>>),
    /// An administrator's command.
    Command(admin::Command, oneshot::Sender<admin::Answer>),
    /// Metrics for Prometheus, with those of the process or without.
    Metrics(bool, oneshot::Sender<String>),
}

impl Actor {
    /// Answers. Whoever asked may be gone.
    pub(super) fn question(&mut self, question: Question, member: Option<Member>) {
        let (core_ms, metrics) = (self.now_ms(), self.core.metrics.clone());
        let mut view = View {
            core: &mut self.core,
            config: &self.config,
            standing: &mut self.standing,
            metrics: &metrics,
            member,
            outstanding: self.clients.under_way(),
            uptime: self.began.elapsed(),
            core_ms,
            wall_ms: wall_ms(),
            slow_syncs: self.log.slow_syncs(),
            asker: None,
        };
        match question {
            Question::Word(word, argument, asker, reply) => {
                view.asker = Some(&asker);
                drop(reply.send(words::answer(&word, argument, &mut view)));
            }
            Question::Command(command, reply) => {
                drop(reply.send(admin::answer(&command, &mut view)));
            }
            Question::Metrics(with_process, reply) => {
                let process = if with_process { status::process() } else { Vec::new() };
                drop(reply.send(metrics::prometheus(&metrics, &view.gauges(), &process)));
            }
        }
    }
}

/// The ports for administrators, open before anything else begins.
pub(super) struct Administrators {
    commands: Option<(TcpListener, Door)>,
    metrics: Option<TcpListener>,
}

impl Administrators {
    /// Opens the ports.
    ///
    /// # Errors
    /// When a port can't be opened. The port for commands that is only taken by default may be missing: the original
    /// takes Marathon's.
    pub(super) async fn listen(config: &Config) -> Result<Self, ServerError> {
        let mut ports = Self { commands: None, metrics: None };
        if let Some(admin) = &config.admin {
            let keys = "admin.serverPort, or admin.enableServer=false,";
            match bind(admin.address, "administrators", keys).await {
                Ok(listener) => ports.commands = Some((listener, door(config, admin.https)?)),
                Err(error) if admin.is_default => tracing::warn!("no commands over HTTP: {error}"),
                Err(error) => return Err(error),
            }
        }
        if let Some(metrics) = &config.metrics {
            let keys = "metricsProvider.httpPort";
            ports.metrics = Some(bind(metrics.address, "metrics", keys).await?);
        }
        Ok(ports)
    }

    /// Serves them in tasks of their own until the shutdown.
    pub(super) fn serve(
        self,
        config: &Config,
        inputs: &mpsc::Sender<Input>,
        shutdown: &CancellationToken,
    ) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        if let (Some((listener, door)), Some(options)) = (self.commands, config.admin.clone()) {
            tracing::info!("commands over HTTP on {}{}", options.address, options.url);
            let (inputs, shutdown) = (inputs.clone(), shutdown.clone());
            tasks.push(tokio::spawn(admin::serve(listener, door, options, inputs, shutdown)));
        }
        if let (Some(listener), Some(options)) = (self.metrics, config.metrics.clone()) {
            tracing::info!("metrics over HTTP on {}/metrics", options.address);
            let (inputs, shutdown) = (inputs.clone(), shutdown.clone());
            tasks.push(tokio::spawn(admin::serve_metrics(listener, options, inputs, shutdown)));
        }
        tasks
    }
}

/// How administrators connect.
fn door(config: &Config, https: Https) -> Result<Door, ServerError> {
    let tls = config.security.admin_tls.clone().map(Tls::new).transpose()?.map(Arc::new);
    Ok(match (https, tls) {
        (Https::Taken, Some(tls)) => Door::Either(tls),
        (Https::Forced, Some(tls)) => Door::Tls(tls),
        _ => Door::Plain,
    })
}

async fn bind(
    address: SocketAddr,
    what: &'static str,
    keys: &'static str,
) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::ListenForAdministrators {
        address,
        what,
        keys,
        source,
    })
}
