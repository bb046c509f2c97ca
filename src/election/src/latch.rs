//! Marathon's election: Curator's `LeaderLatch` at `<path>/leader-curator`.

use std::time::Duration;

use mesos::zk_url::ZkUrl;
use tokio::sync::watch;
use zookeeper_client::{Client, CreateMode, Error};

use crate::{group, session};

/// Who leads, as far as this participant knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatchState {
    /// `host:port` of the leader.
    pub leader: Option<String>,
    /// Whether this participant leads.
    pub leading: bool,
    /// Whether this participant led and has lost it: it must end itself.
    pub lost: bool,
}

/// Takes part as `id` (`host:port`) until the receiver is dropped.
pub fn participate(
    zk: ZkUrl,
    session_timeout: Duration,
    id: String,
) -> watch::Receiver<LatchState> {
    let (report, state) = watch::channel(LatchState::default());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = report.closed() => return,
                error = once(&zk, session_timeout, &id, &report) => {
                    let led = report.borrow().leading;
                    report.send_replace(LatchState { lost: led, ..LatchState::default() });
                    if led {
                        return;
                    }
                    tracing::warn!(%zk, %error, "election interrupted; taking part again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    });
    state
}

async fn once(
    zk: &ZkUrl,
    timeout: Duration,
    id: &str,
    report: &watch::Sender<LatchState>,
) -> Error {
    let client = session::connect_for_ever(zk, timeout).await;
    let directory = zk.child("leader-curator");
    let own = match enter(&client, zk, &directory, id).await {
        Ok(own) => own,
        Err(error) => return error,
    };
    let ended = group::follow(&client, &directory, |observation| {
        let leading = observation.leader.as_ref().is_some_and(|(name, _)| *name == own);
        let leader =
            observation.leader.map(|(_, data)| String::from_utf8_lossy(&data).into_owned());
        report.send_if_modified(|state| {
            let next = LatchState { leader, leading, lost: state.leading && !leading };
            let changed = *state != next;
            *state = next;
            changed
        });
    });
    ended.await
}

async fn enter(client: &Client, zk: &ZkUrl, directory: &str, id: &str) -> Result<String, Error> {
    session::make_path(client, zk, directory).await?;
    let options = CreateMode::EphemeralSequential.with_acls(session::acls(zk));
    let name = format!("_c_{}-latch-", uuid::Uuid::new_v4());
    let (_, sequence) =
        client.create(&format!("{directory}/{name}"), id.as_bytes(), &options).await?;
    Ok(format!("{name}{sequence}"))
}
