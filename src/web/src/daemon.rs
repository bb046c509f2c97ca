//! A daemon's life: telling systemd, ending on a signal.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use crate::logging::init as init_logging;

/// Tells systemd that the daemon serves. Does nothing without systemd.
pub fn notify_ready() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// A token that is cancelled by SIGTERM or SIGINT; systemd is told then.
///
/// # Errors
/// When signals can't be listened to.
pub fn cancelled_by_signals() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("ending, because of {name}");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        cancelled.cancel();
    });
    Ok(token)
}

/// The calling thread gives way to all others of this process by so much (`nice(7)`, at most 19), where processors are
/// few. One that is refused works as all do.
pub fn give_way(nice: i32) {
    // Linux counts threads: of no process is of the one that asks.
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, "a thread can't give way to others");
    }
}
