//! Sessions with ZooKeeper.

use std::time::Duration;

use mesos::zk_url::ZkUrl;
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error, Permission};

/// Longest pause between two attempts to connect.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Who may do what with what we create: the owner everything and others read, when there are credentials; else all.
pub fn acls(zk: &ZkUrl) -> Acls<'static> {
    if zk.credentials.is_some() { Acls::new(CREATOR_ALL_AND_READ) } else { Acls::anyone_all() }
}

const CREATOR_ALL_AND_READ: &[Acl] = &[
    Acl::new_const(Permission::ALL, "auth", ""),
    Acl::new_const(Permission::READ, "world", "anyone"),
];

/// Connects once.
///
/// # Errors
/// When no server of the ensemble takes a session in time, or the credentials are refused.
pub async fn connect(zk: &ZkUrl, timeout: Duration) -> Result<Client, Error> {
    let mut connector =
        Client::connector().with_session_timeout(timeout).with_connection_timeout(timeout / 3);
    if let Some((user, password)) = &zk.credentials {
        connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
    }
    connector.connect(&zk.connect_string()).await
}

/// Connects, however long it takes, saying why it did not work each time.
pub async fn connect_for_ever(zk: &ZkUrl, timeout: Duration) -> Client {
    let mut pause = Duration::from_millis(200);
    loop {
        match connect(zk, timeout).await {
            Ok(client) => return client,
            Err(error) => {
                tracing::warn!(%zk, %error, "no session with ZooKeeper; trying again in {pause:?}")
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Creates a persistent path with all its parents, where missing.
///
/// # Errors
/// What ZooKeeper answers, except that a node exists already.
pub async fn make_path(client: &Client, zk: &ZkUrl, path: &str) -> Result<(), Error> {
    if path == "/" {
        return Ok(());
    }
    let options = CreateMode::Persistent.with_acls(acls(zk));
    let mut end = 0;
    while end < path.len() {
        end = path[end + 1..].find('/').map_or(path.len(), |next| end + 1 + next);
        match client.create(&path[..end], b"", &options).await {
            Ok(_) | Err(Error::NodeExists) => {}
            // Without the right to create in a parent the path may still be there.
            Err(Error::NoAuth) if client.check_stat(&path[..end]).await?.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
