//! Finding the leading master.

use std::time::Duration;

use mesos::json::{self, Dialect};
use mesos::libprocess::Upid;
use mesos::v1;
use prost::Message as _;
use tokio::sync::watch;

use crate::{MasterAddress, group, session};

/// The leading master, as it changes; `None` while there is none.
pub type Leader = watch::Receiver<Option<v1::MasterInfo>>;

/// Detects until the receiver is dropped.
pub fn detect(master: MasterAddress, session_timeout: Duration) -> Leader {
    let zk = match master {
        MasterAddress::Fixed(address) => {
            let (keep, leader) = watch::channel(Some(MasterAddress::fixed_info(address)));
            tokio::spawn(async move { keep.closed().await });
            return leader;
        }
        MasterAddress::ZooKeeper(zk) => zk,
    };
    let (report, leader) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let follow = async {
                let client = session::connect_for_ever(&zk, session_timeout).await;
                group::follow(&client, &zk.path, |observation| {
                    let info = observation.leader.and_then(|(name, data)| {
                        let info = parse(&name, &data);
                        if info.is_none() {
                            tracing::error!(%zk, name, "the leading master's data can't be read");
                        }
                        info
                    });
                    report.send_if_modified(|known| {
                        let changed = *known != info;
                        *known = info;
                        changed
                    });
                })
                .await
            };
            tokio::select! {
                () = report.closed() => return,
                error = follow => {
                    tracing::warn!(%zk, %error, "detection of the leading master interrupted");
                    report.send_if_modified(|known| known.take().is_some());
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    });
    leader
}

/// Reads a candidate's data by its label: JSON, protobuf (before 0.24), or a bare UPID.
fn parse(name: &str, data: &[u8]) -> Option<v1::MasterInfo> {
    if name.starts_with("json.info_") {
        json::from_slice(data, Dialect::V0).ok()
    } else if name.starts_with("info_") {
        v1::MasterInfo::decode(data).ok()
    } else {
        let pid: Upid = std::str::from_utf8(data).ok()?.trim().parse().ok()?;
        Some(MasterAddress::fixed_info(pid.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_original_master_writes_is_read() {
        let data = br#"{"address":{"hostname":"h","ip":"10.0.0.1","port":5050},"capabilities":[{"type":"AGENT_UPDATE"},{"type":"QUOTA_V2"}],"hostname":"h","id":"x","ip":16777226,"pid":"master@10.0.0.1:5050","port":5050,"version":"1.11.0"}"#;
        let info = parse("json.info_0000000001", data).unwrap();
        assert_eq!(crate::address::socket_address(&info), Some("10.0.0.1:5050".parse().unwrap()));
        assert_eq!(parse("info_0000000001", &info.encode_to_vec()).unwrap().id, "x");
        assert_eq!(parse("json.info_0000000001", b"nonsense"), None);
    }
}
