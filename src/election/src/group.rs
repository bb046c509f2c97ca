//! Following a directory whose smallest sequential child leads.

use zookeeper_client::{Client, Error};

/// What the directory says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Name and data of the leading child.
    pub leader: Option<(String, Vec<u8>)>,
}

/// The sequence number at the end of a child's name, after the last `_` or `-`; `None` if it is no candidate.
pub fn sequence(name: &str) -> Option<i64> {
    let (_, digits) = name.rsplit_once(['_', '-'])?;
    // A wrapped counter is negative: its sign is part of the ten characters, and the separator before it stays.
    digits.parse().ok().filter(|_| digits.len() >= 10)
}

/// Reports the leading child whenever it changes, until the session ends.
///
/// A directory that doesn't exist yet has no leader.
pub async fn follow(
    client: &Client,
    directory: &str,
    mut report: impl FnMut(Observation),
) -> Error {
    let mut last = None;
    loop {
        match observe(client, directory).await {
            Ok((observation, changed)) => {
                if last.as_ref() != Some(&observation) {
                    report(observation.clone());
                    last = Some(observation);
                }
                let event = changed.changed().await;
                if event.session_state.is_terminated() {
                    return Error::SessionExpired;
                }
            }
            // The connection is being made anew: the client knows when.
            Err(Error::ConnectionLoss) => {
                let state = client.state_watcher().changed().await;
                if state.is_terminated() {
                    return Error::SessionExpired;
                }
            }
            // The leading child went away between the two questions.
            Err(Error::NoNode) => {}
            Err(error) => return error,
        }
    }
}

async fn observe(
    client: &Client,
    directory: &str,
) -> Result<(Observation, zookeeper_client::OneshotWatcher), Error> {
    let (children, changed) = match client.list_and_watch_children(directory).await {
        Ok(listed) => listed,
        Err(Error::NoNode) => {
            let (stat, changed) = client.check_and_watch_stat(directory).await?;
            if stat.is_some() {
                return Err(Error::NoNode);
            }
            return Ok((Observation { leader: None }, changed));
        }
        Err(error) => return Err(error),
    };
    let leader = children.into_iter().filter_map(|name| Some((sequence(&name)?, name))).min();
    let Some((_, name)) = leader else { return Ok((Observation { leader: None }, changed)) };
    let path = if directory == "/" { format!("/{name}") } else { format!("{directory}/{name}") };
    let (data, _) = client.get_data(&path).await?;
    Ok((Observation { leader: Some((name, data)) }, changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sequential_children_are_candidates() {
        assert_eq!(sequence("json.info_0000000012"), Some(12));
        assert_eq!(sequence("_c_8c1f-latch-0000000003"), Some(3));
        assert_eq!(sequence("log_replicas"), None);
        assert_eq!(sequence("plain"), None);
    }
}
