//! A group without a leader: ephemeral sequential children whose data tells who takes part, as the masters'
//! `log_replicas`.

use std::collections::BTreeSet;
use std::time::Duration;

use mesos::zk_url::ZkUrl;
use tokio::sync::watch;
use zookeeper_client::{Client, CreateMode, Error};

use crate::session;

/// Takes part with `data` in `<path>/<directory>` until the receiver is dropped; the data of all who do. While there
/// is no session, those known last are kept.
pub fn join(
    zk: ZkUrl,
    session_timeout: Duration,
    directory: &str,
    data: String,
) -> watch::Receiver<BTreeSet<String>> {
    let (report, members) = watch::channel(BTreeSet::new());
    let directory = zk.child(directory);
    tokio::spawn(async move {
        loop {
            let once = async {
                let client = session::connect_for_ever(&zk, session_timeout).await;
                match enter(&client, &zk, &directory, &data).await {
                    Ok(()) => follow(&client, &directory, &report).await,
                    Err(error) => error,
                }
            };
            tokio::select! {
                () = report.closed() => return,
                error = once => {
                    tracing::warn!(%zk, directory, %error, "membership interrupted; joining again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    });
    members
}

async fn enter(client: &Client, zk: &ZkUrl, directory: &str, data: &str) -> Result<(), Error> {
    session::make_path(client, zk, directory).await?;
    let options = CreateMode::EphemeralSequential.with_acls(session::acls(zk));
    // Names are the sequence alone, without a label.
    client.create(&format!("{directory}/"), data.as_bytes(), &options).await?;
    Ok(())
}

async fn follow(
    client: &Client,
    directory: &str,
    report: &watch::Sender<BTreeSet<String>>,
) -> Error {
    loop {
        let (children, changed) = match client.list_and_watch_children(directory).await {
            Ok(listed) => listed,
            Err(Error::ConnectionLoss) => {
                let state = client.state_watcher().changed().await;
                if state.is_terminated() {
                    return Error::SessionExpired;
                }
                continue;
            }
            Err(error) => return error,
        };
        let mut members = BTreeSet::new();
        let mut interrupted = false;
        for name in children {
            match client.get_data(&format!("{directory}/{name}")).await {
                Ok((data, _)) => {
                    members.insert(String::from_utf8_lossy(&data).trim().to_owned());
                }
                // It left between the two questions: the watch tells of it.
                Err(Error::NoNode) => {}
                Err(Error::ConnectionLoss) => interrupted = true,
                Err(error) => return error,
            }
        }
        if interrupted {
            continue;
        }
        report.send_if_modified(|known| {
            let changed = *known != members;
            *known = members;
            changed
        });
        if changed.changed().await.session_state.is_terminated() {
            return Error::SessionExpired;
        }
    }
}
