//! A master contends: an ephemeral `json.info_<sequence>` with its `MasterInfo`.

use std::time::Duration;

use mesos::json::{self, Dialect};
use mesos::v1;
use mesos::zk_url::ZkUrl;
use tokio::sync::watch;
use zookeeper_client::{Client, CreateMode, Error};

use crate::{group, session};

/// How a candidacy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidacy {
    /// Not elected yet.
    Contending,
    /// Elected.
    Leading,
    /// Leadership was held and is gone: who led must not go on.
    Lost(String),
}

/// Contends until the receiver is dropped. A follower whose session ends contends again; a leader's candidacy is
/// [`Candidacy::Lost`] for good then.
pub fn contend(
    zk: ZkUrl,
    session_timeout: Duration,
    info: &v1::MasterInfo,
) -> watch::Receiver<Candidacy> {
    let (report, candidacy) = watch::channel(Candidacy::Contending);
    // Sorted members, as the original's writer leaves them.
    let data = sorted(&json::to_value(info, Dialect::V0)).to_string().into_bytes();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = report.closed() => return,
                error = contend_once(&zk, session_timeout, &data, &report) => {
                    if *report.borrow() == Candidacy::Leading {
                        report.send_replace(Candidacy::Lost(error.to_string()));
                        return;
                    }
                    tracing::warn!(%zk, %error, "candidacy ended; contending again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    });
    candidacy
}

fn sorted(value: &serde_json::Value) -> serde_json::Value {
    let mut value = value.clone();
    value.sort_all_objects();
    value
}

async fn contend_once(
    zk: &ZkUrl,
    timeout: Duration,
    data: &[u8],
    report: &watch::Sender<Candidacy>,
) -> Error {
    let client = session::connect_for_ever(zk, timeout).await;
    match enter(&client, zk, data).await {
        Ok(own) => {
            let mut led = false;
            let ended = group::follow(&client, &zk.path, |observation| {
                let leads = observation.leader.is_some_and(|(name, _)| name == own);
                if leads && !led {
                    led = true;
                    report.send_replace(Candidacy::Leading);
                } else if !leads && led {
                    // Our node is gone although the session lives: somebody removed it.
                    report
                        .send_replace(Candidacy::Lost("our candidate node was removed".to_owned()));
                }
            });
            ended.await
        }
        Err(error) => error,
    }
}

async fn enter(client: &Client, zk: &ZkUrl, data: &[u8]) -> Result<String, Error> {
    session::make_path(client, zk, &zk.path).await?;
    let options = CreateMode::EphemeralSequential.with_acls(session::acls(zk));
    let (_, sequence) = client.create(&zk.child("json.info_"), data, &options).await?;
    Ok(format!("json.info_{sequence}"))
}
