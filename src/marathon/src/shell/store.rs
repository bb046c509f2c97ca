//! What Marathon keeps in ZooKeeper: one znode a value, below `<zk path>/meso`.
//!
//! Keys are `apps/<id>`, `instances/<id>`, `deployments/<id>` and `framework-id`. The place is not that of the original (`state`), whose
//! values are protobuf of another schema: a Marathon of either kind never misreads the other's.

use std::time::Duration;

use anyhow::Context as _;
use election::session;
use mesos::zk_url::ZkUrl;
use zookeeper_client::{Client, CreateMode, Error};

/// Where all of it is, below the path of `--zk`.
pub(super) const DIRECTORY: &str = "meso";
/// Directories of keys.
const DIRECTORIES: [&str; 3] = ["apps", "deployments", "instances"];
/// How long a write is tried while ZooKeeper can't be reached.
const PATIENCE: Duration = Duration::from_secs(30);

/// The store.
pub(super) struct Store {
    client: Client,
    zk: ZkUrl,
    base: String,
}

impl Store {
    /// Connects, and makes the directories where missing.
    pub(super) async fn open(zk: ZkUrl, session_timeout: Duration) -> anyhow::Result<Self> {
        let client = session::connect_for_ever(&zk, session_timeout).await;
        let base = zk.child(DIRECTORY);
        for directory in DIRECTORIES {
            let path = format!("{base}/{directory}");
            session::make_path(&client, &zk, &path)
                .await
                .with_context(|| format!("{zk}: making {path}"))?;
        }
        Ok(Self { client, zk, base })
    }

    /// Every key with its value, as the newest acknowledged writes left them.
    pub(super) async fn load(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        // Another Marathon may have written through another server.
        self.client.sync(&self.base).await.with_context(|| format!("{}: sync", self.zk))?;
        let mut found = Vec::new();
        for directory in DIRECTORIES {
            let path = format!("{}/{directory}", self.base);
            let names = self
                .client
                .list_children(&path)
                .await
                .with_context(|| format!("{}: listing {path}", self.zk))?;
            for name in names {
                let key = format!("{directory}/{name}");
                if let Some(value) = self.get(&key).await? {
                    found.push((key, value));
                }
            }
        }
        if let Some(value) = self.get("framework-id").await? {
            found.push(("framework-id".to_owned(), value));
        }
        Ok(found)
    }

    async fn get(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self.client.get_data(&format!("{}/{key}", self.base)).await {
            Ok((data, _)) => Ok(Some(data)),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{}: reading {key}", self.zk)),
        }
    }

    /// Keeps a value: acknowledged by ZooKeeper when this returns.
    pub(super) async fn put(&self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        let path = format!("{}/{key}", self.base);
        self.patiently(key, || async {
            match self.client.set_data(&path, value, None).await {
                Ok(_) => Ok(()),
                Err(Error::NoNode) => {
                    let options = CreateMode::Persistent.with_acls(session::acls(&self.zk));
                    match self.client.create(&path, value, &options).await {
                        Ok(_) => Ok(()),
                        // A create whose answer was lost: what is there must still become the value.
                        Err(Error::NodeExists) => {
                            self.client.set_data(&path, value, None).await.map(drop)
                        }
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Forgets a value.
    pub(super) async fn delete(&self, key: &str) -> anyhow::Result<()> {
        let path = format!("{}/{key}", self.base);
        self.patiently(key, || async {
            match self.client.delete(&path, None).await {
                Ok(()) | Err(Error::NoNode) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Does something idempotent until ZooKeeper has answered; a lost session is final.
    async fn patiently<F: Future<Output = Result<(), Error>>>(
        &self,
        key: &str,
        attempt: impl Fn() -> F,
    ) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match attempt().await {
                Ok(()) => return Ok(()),
                Err(Error::ConnectionLoss) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("{}: writing {key}", self.zk));
                }
            }
        }
    }
}
