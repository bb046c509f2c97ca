//! Talking to the leading master and to agents.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use election::{MasterAddress, address, detector};
use mesos::v1::master::response::get_agents::Agent;
use mesos::v1::{agent, master};
use prost::Message;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Body, RequestBuilder, Response, StatusCode};

use crate::settings::Settings;

const PROTOBUF: &str = "application/x-protobuf";
/// How long the leading master may take to be found.
const DETECTION_LIMIT: Duration = Duration::from_secs(15);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer that is no stream may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection to a cluster.
pub(crate) struct Client {
    http: reqwest::Client,
    credential: Option<(String, String)>,
    master: String,
    /// `http` or `https`, of the master and of agents.
    scheme: &'static str,
}

/// What a server said instead of doing what was asked.
async fn refusal(whom: &str, response: Response) -> anyhow::Error {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let text = text.trim();
    let hint = match status {
        StatusCode::UNAUTHORIZED => "; say who you are with --principal and --secret-file",
        StatusCode::FORBIDDEN => "; its ACLs do not let you",
        _ => "",
    };
    if text.is_empty() {
        anyhow!("{whom} answered {status}{hint}")
    } else {
        anyhow!("{whom} answered {}: {text}{hint}", status.as_u16())
    }
}

impl Client {
    /// Finds the leading master.
    ///
    /// # Errors
    /// When the address is none, or there is no leading master.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self> {
        let address = MasterAddress::parse(&settings.master)
            .with_context(|| format!("the master was named by {}", settings.said_by))?;
        let mut leader = detector::detect(address, Duration::from_secs(10));
        let found = tokio::time::timeout(DETECTION_LIMIT, leader.wait_for(Option::is_some)).await;
        let info = match found {
            Ok(Ok(info)) => info.clone(),
            _ => bail!("there is no leading master at {}", settings.master),
        };
        let at = info.as_ref().and_then(address::socket_address);
        let at = at.with_context(|| format!("{}: the leader has no address", settings.master))?;
        let scheme = tls::client::scheme(settings.tls.as_ref());
        // What is named by a URL has a certificate of the name in it.
        let named = settings.master.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
        let at = match named {
            Some(named) if named.contains(':') => named.to_owned(),
            Some(named) => format!("{named}:5050"),
            None => at.to_string(),
        };
        let http = tls::client::builder(settings.tls.as_ref())
            .connect_timeout(CONNECT_LIMIT)
            // A redirect to the leader must keep what proves who this is.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            credential: settings.credential.clone(),
            master: format!("{scheme}://{at}"),
            scheme,
        })
    }

    /// Where an agent's API is.
    ///
    /// # Errors
    /// When the master doesn't say.
    pub(crate) fn base_of(&self, agent: &Agent) -> Result<String> {
        let pid = agent.pid.as_deref().and_then(|pid| pid.rsplit_once('@'));
        let id = agent.agent_info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        let (_, address) = pid.with_context(|| format!("agent {id} has no address"))?;
        Ok(format!("{}://{address}", self.scheme))
    }

    fn authenticated(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credential {
            Some((principal, secret)) => request.basic_auth(principal, Some(secret)),
            None => request,
        }
    }

    async fn post(&self, base: &str, body: Vec<u8>) -> Result<Response> {
        let request = self
            .http
            .post(format!("{base}/api/v1"))
            .header(CONTENT_TYPE, PROTOBUF)
            .header(ACCEPT, PROTOBUF)
            .timeout(ANSWER_LIMIT)
            .body(body);
        Ok(self.authenticated(request).send().await?)
    }

    /// Calls the leading master, wherever it is by now.
    ///
    /// # Errors
    /// When it can't be reached, or refuses.
    pub(crate) async fn call(&self, call: &master::Call) -> Result<master::Response> {
        let mut base = self.master.clone();
        for _ in 0..3 {
            let response = self.post(&base, call.encode_to_vec()).await;
            let response =
                response.with_context(|| format!("the master at {base} does not answer"))?;
            if response.status() == StatusCode::TEMPORARY_REDIRECT {
                let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                let host = location
                    .and_then(|to| to.split_once("//"))
                    .and_then(|(_, rest)| rest.split('/').next());
                let host = host.context("the master redirects to nowhere")?;
                base = format!("{}://{host}", self.scheme);
                continue;
            }
            return decoded(&format!("the master at {base}"), response).await;
        }
        bail!("the masters send this request around in a circle: there is no leader now")
    }

    /// Calls an agent.
    ///
    /// # Errors
    /// When it can't be reached, or refuses.
    pub(crate) async fn call_agent(
        &self,
        base: &str,
        call: &agent::Call,
    ) -> Result<agent::Response> {
        let response = self.post(base, call.encode_to_vec()).await;
        let response = response.with_context(|| format!("the agent at {base} does not answer"))?;
        decoded(&format!("the agent at {base}"), response).await
    }

    /// Waits for an answer that comes when a container ends.
    ///
    /// # Errors
    /// As [`Client::call_agent`].
    pub(crate) async fn wait_at_agent(
        &self,
        base: &str,
        call: &agent::Call,
    ) -> Result<agent::Response> {
        let request = self
            .http
            .post(format!("{base}/api/v1"))
            .header(CONTENT_TYPE, PROTOBUF)
            .header(ACCEPT, PROTOBUF)
            .body(call.encode_to_vec());
        decoded(&format!("the agent at {base}"), self.authenticated(request).send().await?).await
    }

    /// A call to an agent that is answered by a stream of records.
    ///
    /// # Errors
    /// As [`Client::call_agent`].
    pub(crate) async fn stream_from_agent(
        &self,
        base: &str,
        call: &agent::Call,
    ) -> Result<Response> {
        let request = self
            .http
            .post(format!("{base}/api/v1"))
            .header(CONTENT_TYPE, PROTOBUF)
            .header(ACCEPT, "application/recordio")
            .header("Message-Accept", PROTOBUF)
            .body(call.encode_to_vec());
        let response = self.authenticated(request).send().await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(refusal(&format!("the agent at {base}"), response).await),
        }
    }

    /// Sends an agent a stream of records, until it answers.
    ///
    /// # Errors
    /// As [`Client::call_agent`].
    pub(crate) async fn stream_to_agent(&self, base: &str, records: Body) -> Result<()> {
        let request = self
            .http
            .post(format!("{base}/api/v1"))
            .header(CONTENT_TYPE, "application/recordio")
            .header("Message-Content-Type", PROTOBUF)
            .body(records);
        let response = self.authenticated(request).send().await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            _ => Err(refusal(&format!("the agent at {base}"), response).await),
        }
    }

    /// `GET`s something of an agent's by path and query.
    ///
    /// # Errors
    /// When it can't be reached or answers anything but 200.
    pub(crate) async fn get(
        &self,
        base: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response> {
        let request = self.http.get(format!("{base}{path}")).query(query);
        let response = self.authenticated(request).send().await;
        let response = response.with_context(|| format!("the agent at {base} does not answer"))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(refusal(&format!("the agent at {base}"), response).await),
        }
    }
}

/// The message in an answer; an empty one where nothing was to be said.
async fn decoded<M: Message + Default>(whom: &str, response: Response) -> Result<M> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::ACCEPTED => return Ok(M::default()),
        _ => return Err(refusal(whom, response).await),
    }
    let body = response.bytes().await.with_context(|| format!("{whom} broke off"))?;
    M::decode(body).with_context(|| format!("{whom} answered something that is no message"))
}
