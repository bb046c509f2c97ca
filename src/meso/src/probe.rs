//! Asking a host's daemons how they are, through the SSH connection: no port needs to be open to where meso runs.

use std::net::Ipv4Addr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::ssh::Connection;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Most that an answer may be: the state of a big cluster is some MB.
const BODY_MAX: usize = 64 * 1024 * 1024;

/// Asks one host.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The connection to it.
    pub connection: &'a Connection,
    /// The address that its daemons are asked at.
    pub address: Ipv4Addr,
}

impl Probe<'_> {
    async fn stream(&self, port: u16) -> Result<UnixStream, String> {
        let stream = self
            .connection
            .port_stream(&self.address.to_string(), port)
            .await
            .map_err(|_| format!("nothing listens on {}:{port}", self.address))?;
        UnixStream::from_std(stream).map_err(|error| error.to_string())
    }

    /// Sends one of ZooKeeper's four-letter words.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn word(&self, word: &str) -> Result<String, String> {
        let asked = async {
            let mut stream = self.stream(2181).await?;
            let mut answer = Vec::new();
            stream.write_all(word.as_bytes()).await.map_err(|error| error.to_string())?;
            stream
                .take(64 * 1024)
                .read_to_end(&mut answer)
                .await
                .map_err(|error| error.to_string())?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        tokio::time::timeout(ANSWER, asked)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// Status and body of a path; a redirect is not followed.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, port: u16, path: &str) -> Result<Answer, String> {
        let asked = async {
            let stream = self.stream(port).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| error.to_string())?;
            let driver = tokio::spawn(connection);
            let request = hyper::Request::get(path)
                .header("Host", format!("{}:{port}", self.address))
                .header("Accept", "application/json")
                .header("Connection", "close")
                .body(Empty::<Bytes>::new())
                .map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let location = response.headers().get("Location");
            let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = Limited::new(response.into_body(), BODY_MAX)
                .collect()
                .await
                .map_err(|error| error.to_string())?;
            driver.abort();
            Ok(Answer { status, location, body: body.to_bytes() })
        };
        tokio::time::timeout(ANSWER, asked)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// The JSON at a path, where the status is 200.
    ///
    /// # Errors
    /// When there is no such answer.
    pub async fn json(&self, port: u16, path: &str) -> Result<Value, String> {
        let answer = self.get(port, path).await?;
        self.json_of(port, path, &answer)
    }

    fn json_of(&self, port: u16, path: &str, answer: &Answer) -> Result<Value, String> {
        let url = format!("http://{}:{port}{path}", self.address);
        if answer.status != 200 {
            return Err(format!("{url} answers with status {}", answer.status));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| format!("{url} answers with what is no JSON: {error}"))
    }

    /// ZooKeeper's mode: `standalone`, `leader` or `follower`.
    ///
    /// # Errors
    /// When it does not say that it is well.
    pub async fn zookeeper(&self) -> Result<String, String> {
        let answer = self.word("ruok").await?;
        if answer.trim() != "imok" {
            return Err(if answer.is_empty() {
                "ruok is not answered".to_owned()
            } else {
                format!("ruok is answered with '{}'", answer.trim())
            });
        }
        let srvr = self.word("srvr").await?;
        let mode = srvr.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(|mode| mode.trim().to_owned()).ok_or_else(|| "it does not serve yet".to_owned())
    }

    /// What a master knows of who leads.
    ///
    /// # Errors
    /// When it knows none.
    pub async fn master(&self) -> Result<Leading, String> {
        let health = self.get(5050, "/health").await?;
        if health.status != 200 {
            return Err(format!("/health answers with status {}", health.status));
        }
        let answer = self.get(5050, "/state").await?;
        // A master that follows sends those who ask to the leader.
        if let (307, Some(location)) = (answer.status, &answer.location) {
            let leader = authority(location).to_owned();
            return Ok(Leading { leader, is_self: false, agents: Vec::new() });
        }
        leading(&self.json_of(5050, "/state", &answer)?)
    }

    /// An agent's own name, when it is well.
    ///
    /// # Errors
    /// When it isn't.
    pub async fn agent(&self) -> Result<Option<String>, String> {
        let state = self.json(5051, "/state").await?;
        Ok(state["master_hostname"].as_str().map(str::to_owned))
    }

    /// `host:port` of the Marathon that leads, when this one is registered with a master or follows.
    ///
    /// # Errors
    /// When none leads.
    pub async fn marathon(&self) -> Result<String, String> {
        let ping = self.get(8080, "/ping").await?;
        if ping.status != 200 {
            return Err(format!("/ping answers with status {}", ping.status));
        }
        let leader = self.json(8080, "/v2/leader").await.map_err(|_| "no leader yet".to_owned())?;
        let leader =
            leader["leader"].as_str().ok_or_else(|| "no leader yet".to_owned())?.to_owned();
        let info = self.json(8080, "/v2/info").await?;
        if info["frameworkId"].is_string() {
            Ok(leader)
        } else {
            Err("it is not registered with a master yet".to_owned())
        }
    }
}

/// An answer over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// `host:port` of `//host:port/path` or `http://host:port/path`.
fn authority(location: &str) -> &str {
    let rest = location.split_once("//").map_or(location, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// What the leading master says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leading {
    /// `host:port` of the leader.
    pub leader: String,
    /// Whether the asked master is the leader; else it says nothing of agents.
    pub is_self: bool,
    /// Host names of agents that are registered and connected.
    pub agents: Vec<String>,
}

/// Reads a master's `/state`.
fn leading(state: &Value) -> Result<Leading, String> {
    let info = &state["leader_info"];
    let (Some(name), Some(port)) = (info["hostname"].as_str(), info["port"].as_u64()) else {
        return Err("no leader is elected yet".to_owned());
    };
    let agents = state["slaves"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Leading {
        leader: format!("{name}:{port}"),
        is_self: state["pid"].is_string() && state["pid"] == state["leader"],
        agents: agents
            .iter()
            .filter(|agent| agent["active"] == true)
            .filter_map(|agent| agent["hostname"].as_str().map(str::to_owned))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_redirect_names_the_leader() {
        assert_eq!(authority("//10.0.0.1:5050/state"), "10.0.0.1:5050");
        assert_eq!(authority("http://h:5050"), "h:5050");
    }

    #[test]
    fn a_state_tells_leader_and_agents() {
        let state = json!({
            "pid": "master@10.0.0.1:5050", "leader": "master@10.0.0.1:5050",
            "leader_info": {"hostname": "10.0.0.1", "port": 5050},
            "slaves": [{"hostname": "10.0.0.2", "active": true}, {"hostname": "10.0.0.3", "active": false}],
        });
        let expected = Leading {
            leader: "10.0.0.1:5050".into(),
            is_self: true,
            agents: vec!["10.0.0.2".into()],
        };
        assert_eq!(leading(&state), Ok(expected));
        assert!(leading(&json!({"pid": "x"})).is_err());
    }
}
