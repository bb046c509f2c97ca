//! Images from a registry: its HTTP API, version 2, with tokens (`provisioner/docker/registry_puller.cpp`,
//! `uri/fetchers/docker.cpp`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::super::fetch::cause;
use super::archive::{DOCUMENT_MAX, Pulled, with_digests};
use super::reference::Reference;
use super::spec::{Config, Descriptor, Digest, Kind, Manifest};

const ACCEPTED: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
/// Docker's own registry, by all its names.
const HUB: &[&str] = &["registry-1.docker.io", "index.docker.io", "docker.io"];
/// Bytes of a packed layer.
const BLOB_MAX: u64 = 32 << 30;

/// Docker's configuration (`~/.docker/config.json`, or `~/.dockercfg` as it was before): who we are to which registry. Its
/// content is never shown.
#[derive(Clone, Default, Deserialize)]
pub struct Credentials {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Clone, Default, Deserialize)]
struct Login {
    auth: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.auths.keys()).finish()
    }
}

impl Credentials {
    /// Reads Docker's configuration.
    ///
    /// # Errors
    /// That it isn't one; nothing of its content.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let wrong = || {
            "expecting Docker's configuration: {\"auths\": {REGISTRY: {\"auth\": …}}}".to_owned()
        };
        let whole: serde_json::Value = serde_json::from_slice(json).map_err(|_| wrong())?;
        if !whole.is_object() {
            return Err(wrong());
        }
        if whole.get("auths").is_some() {
            return serde_json::from_value(whole).map_err(|_| wrong());
        }
        // The older form is what the newer has in `auths`; what is no registry there is a setting of Docker's.
        let logins = whole.as_object().into_iter().flatten();
        let logins = logins.filter_map(|(name, login)| {
            Some((name.clone(), serde_json::from_value(login.clone()).ok()?))
        });
        Ok(Self { auths: logins.collect() })
    }

    /// What Docker is to show to the registry that an image is in; none for one that it asks for as nobody.
    pub fn for_docker(&self, image: &str) -> Option<DockerCredentials> {
        let reference = Reference::parse(image).ok()?;
        let host = reference.registry.as_deref().unwrap_or(HUB[0]);
        let decoded = STANDARD.decode(self.of(host)?).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(DockerCredentials {
            username: Some(user.to_owned()),
            password: Some(password.trim_end_matches('\0').to_owned()),
            serveraddress: Some(host.to_owned()),
            ..Default::default()
        })
    }

    /// What to show to a registry: user and password in base64.
    fn of(&self, host: &str) -> Option<&str> {
        let is_it = |name: &str| {
            let name = name.trim_start_matches("https://").trim_start_matches("http://");
            let name = name.split('/').next().unwrap_or_default();
            name == host || HUB.contains(&name) && HUB.contains(&host)
        };
        let found = self.auths.iter().find(|(name, _)| is_it(name))?;
        found.1.auth.as_deref()
    }
}

/// The registry that is asked where an image names none.
#[derive(Debug, Clone)]
pub struct Registry {
    scheme: String,
    host: String,
    /// How long a download may stand still.
    stall_timeout: Duration,
    credentials: Credentials,
}

/// One image's exchange with one registry.
struct Session {
    client: reqwest::Client,
    base: String,
    login: Option<String>,
    authorization: Option<HeaderValue>,
}

impl Registry {
    /// Of `--docker_registry`, where it is a URL, and `--docker_config`.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(
        url: &str,
        credentials: Credentials,
        stall_timeout: Duration,
    ) -> Result<Self, String> {
        let parsed = url.split_once("://").and_then(|(scheme, rest)| {
            let host = rest.trim_end_matches('/');
            let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@']);
            (is_host && matches!(scheme, "http" | "https")).then_some((scheme, host))
        });
        let (scheme, host) = parsed.ok_or_else(|| {
            format!("'{url}' is neither a directory of images nor the URL of a registry")
        })?;
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), stall_timeout, credentials })
    }

    fn session(&self, reference: &Reference, own: Option<&Credentials>) -> Result<Session, String> {
        let host = reference.registry.as_ref().unwrap_or(&self.host);
        let host = if host == "docker.io" { HUB[0] } else { host.as_str() };
        // Only the operator may say that it is asked in plain.
        let scheme = if host == self.host { self.scheme.as_str() } else { "https" };
        let repository = &reference.repository;
        let is_official = HUB.contains(&host) && !repository.contains('/');
        let library = if is_official { "library/" } else { "" };
        let login = own.and_then(|own| own.of(host)).or_else(|| self.credentials.of(host));
        let client = tls::client::builder(None)
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(self.stall_timeout)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Session {
            client,
            base: format!("{scheme}://{host}/v2/{library}{repository}"),
            login: login.map(str::to_owned),
            authorization: None,
        })
    }

    /// Brings an image's layers, but for those that are there already, into the directory `staging`.
    ///
    /// # Errors
    /// What the registry says, or what is wrong with what it gives.
    pub(super) async fn pull(
        &self,
        reference: &Reference,
        own: Option<&Credentials>,
        staging: &Path,
        is_there: impl Fn(&Digest) -> bool,
    ) -> Result<Pulled, String> {
        let mut session = self.session(reference, own)?;
        let named = |reason: String| format!("Failed to pull image '{reference}': {reason}");
        let mut digest = reference.digest.clone();
        let mut version = reference.version();
        for _ in 0..3 {
            let content = session.manifest(&version).await.map_err(named)?;
            if digest.as_ref().is_some_and(|own| Digest::of(&Sha256::digest(&content)) != *own) {
                return Err(named(format!(
                    "what the registry gave as {version} is something else"
                )));
            }
            match Manifest::parse(&content).map_err(named)? {
                Kind::Index(Descriptor { digest: own, .. }) => {
                    version = own.to_string();
                    digest = Some(own);
                }
                Kind::Image(config, layers) => {
                    return session.image(&config, &layers, staging, is_there).await.map_err(named);
                }
            }
        }
        Err(named("its index names another index".to_owned()))
    }
}

impl Session {
    async fn send(&self, url: &str, accept: &str) -> Result<reqwest::Response, String> {
        let mut request = self.client.get(url).header(ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|error| cause(&error))
    }

    /// Asks, and if the registry wants to know who asks, once more with what it wants.
    async fn get(&mut self, path: &str, accept: &str) -> Result<reqwest::Response, String> {
        let url = format!("{}{path}", self.base);
        let mut response = self.send(&url, accept).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.authorize(&response).await?;
            response = self.send(&url, accept).await?;
        }
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(format!("'{url}': unexpected HTTP response '{status}'")),
        }
    }

    async fn authorize(&mut self, refused: &reqwest::Response) -> Result<(), String> {
        let wanted = refused.headers().get(WWW_AUTHENTICATE).and_then(|own| own.to_str().ok());
        let wanted = wanted.ok_or("the registry asks for authentication, and says not which")?;
        let (kind, rest) = wanted.split_once(' ').unwrap_or((wanted, ""));
        if kind.eq_ignore_ascii_case("basic") {
            let login = self.login.as_ref().ok_or(
                "the registry asks for a user and a password, and --docker_config has none for it",
            )?;
            self.authorization = Some(secret(format!("Basic {login}"))?);
            return Ok(());
        }
        let parameters = parameters(rest);
        let realm = parameters.get("realm").filter(|_| kind.eq_ignore_ascii_case("bearer"));
        let realm = realm
            .ok_or_else(|| format!("the registry asks for authentication of the kind '{kind}'"))?;
        if self.base.starts_with("https://") && !realm.starts_with("https://") {
            return Err(format!("the registry sends us to '{realm}', which is not encrypted"));
        }
        let query: Vec<(&str, &String)> = ["service", "scope"]
            .into_iter()
            .filter_map(|name| Some((name, parameters.get(name)?)))
            .collect();
        let mut request = self.client.get(realm).query(&query);
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, secret(format!("Basic {login}"))?);
        }
        let response = request.send().await.map_err(|error| cause(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("'{realm}' gives no token: '{status}'"));
        }
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let content = document(response).await?;
        let answer = serde_json::from_slice::<Answer>(&content).ok();
        let token = answer.and_then(|own| own.token.or(own.access_token));
        let token = token.ok_or_else(|| format!("'{realm}' gives no token"))?;
        self.authorization = Some(secret(format!("Bearer {token}"))?);
        Ok(())
    }

    async fn manifest(&mut self, version: &str) -> Result<Vec<u8>, String> {
        let response = self.get(&format!("/manifests/{version}"), ACCEPTED).await?;
        document(response).await
    }

    async fn image(
        &mut self,
        config: &Descriptor,
        layers: &[Descriptor],
        staging: &Path,
        is_there: impl Fn(&Digest) -> bool,
    ) -> Result<Pulled, String> {
        let file = staging.join("config");
        self.blob(config, &file, DOCUMENT_MAX).await?;
        let content = tokio::fs::read(&file).await.map_err(|error| error.to_string())?;
        let config = Config::parse(&content)?;
        let mut files = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            if config.layers().get(index).is_some_and(&is_there) {
                files.push(None);
                continue;
            }
            let file = staging.join(format!("{index}.blob"));
            self.blob(layer, &file, BLOB_MAX).await?;
            files.push(Some(file));
        }
        Ok((with_digests(files, &config)?, config.into_runtime()))
    }

    /// Brings a blob, which must be what its descriptor says.
    async fn blob(&mut self, own: &Descriptor, to: &Path, max: u64) -> Result<(), String> {
        let digest = &own.digest;
        if own.size > max {
            return Err(format!("{digest} is too large: {} bytes", own.size));
        }
        let mut response = self.get(&format!("/blobs/{digest}"), "*/*").await?;
        let failed = |error: std::io::Error| format!("{}: {error}", to.display());
        let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
            size += chunk.len() as u64;
            if size > own.size {
                break;
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        if size != own.size {
            return Err(format!(
                "what the registry gave as {digest} has {size} bytes or more instead of {}",
                own.size
            ));
        }
        if Digest::of(&hash.finalize()) == *digest {
            Ok(())
        } else {
            Err(format!("what the registry gave as {digest} is something else"))
        }
    }
}

fn secret(text: String) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| "a credential has characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn document(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
        content.extend_from_slice(&chunk);
        if content.len() as u64 > DOCUMENT_MAX {
            return Err(format!("'{}': the answer is too large", response.url()));
        }
    }
    Ok(content)
}

/// `name="value",…` of a challenge.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        all.insert(name.trim_matches([' ', ',']).to_lowercase(), value.to_owned());
        rest = after;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let own = parameters(
            r#"realm="https://auth.docker.io/token",service="registry.docker.io", scope="repository:a/b:pull,push",x=1"#,
        );
        assert_eq!(own["realm"], "https://auth.docker.io/token");
        assert_eq!(own["scope"], "repository:a/b:pull,push");
        assert_eq!((own["service"].as_str(), own["x"].as_str()), ("registry.docker.io", "1"));
        assert!(parameters("").is_empty());
    }

    #[test]
    fn credentials_are_found_by_host_and_never_shown() {
        let json = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHVi"},"own:5000":{"auth":"b3du"}}}"#;
        let own = Credentials::parse(json).unwrap();
        assert_eq!(own.of("registry-1.docker.io"), Some("aHVi"));
        assert_eq!(own.of("own:5000"), Some("b3du"));
        assert_eq!(own.of("other"), None);
        assert!(!format!("{own:?}").contains("aHVi"));
        assert!(!Credentials::parse(b"secret").unwrap_err().contains("secret"));
    }

    #[test]
    fn where_an_image_is_asked_for() {
        let registry = |url: &str| Registry::new(url, Credentials::default(), Duration::ZERO);
        let base = |url: &str, name: &str| {
            let reference = Reference::parse(name).unwrap();
            registry(url).unwrap().session(&reference, None).unwrap().base
        };
        let hub = "https://registry-1.docker.io";
        assert_eq!(base(hub, "busybox"), "https://registry-1.docker.io/v2/library/busybox");
        assert_eq!(base(hub, "a/b"), "https://registry-1.docker.io/v2/a/b");
        assert_eq!(base("http://r:5000/", "busybox"), "http://r:5000/v2/busybox");
        assert_eq!(base("http://r:5000", "quay.io/b"), "https://quay.io/v2/b");
        for url in ["", "ftp://x", "https://", "https://u@h", "relative/path"] {
            assert!(registry(url).is_err(), "{url}");
        }
    }
}
