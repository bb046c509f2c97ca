//! TLS, for clients and between members: which keys, which certificates, which versions (`X509Util`).
//!
//! Certificates of X.509's version 1 may be trusted to issue others, but none of them may be shown: the library reads
//! only those of version 3, as whoever shows one signs the handshake.
//!
//! Versions and suites are those of the configuration that rustls has: TLS 1.2 and 1.3 with authenticated ciphers.
//! Files are read at start, and again after they changed where the configuration asks for it.

mod host;
mod jks;
mod name;
mod revoked;
mod store;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub(crate) use name::{is_name, subject};
use revoked::Revocations;
pub use store::{File, Kind};
pub(crate) use tls::HANDSHAKE;
use tls::{Role, Trust, explain};

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Changed files are looked for at most this often.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Whether those who connect must show a certificate (`X509Util.ClientAuth`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    None,
    /// One that is shown must be good.
    Want,
    /// There must be a good one.
    Need,
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// What the configuration says of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Own key and certificates; a client may have none.
    pub key_store: Option<File>,
    /// Whom to trust; none where nobody is asked for a certificate.
    pub trust_store: Option<File>,
    /// Whether those who connect must show a certificate.
    pub client_auth: ClientAuth,
    /// Versions that are spoken.
    pub versions: Vec<Version>,
    /// Suites by their standard names, the preferred first; all that there are if none is named.
    pub suites: Vec<String>,
    /// Whether a server that is dialled must have a certificate of its host.
    pub checks_servers: bool,
    /// Whether those who connect must have a certificate of their host.
    pub checks_clients: bool,
    /// Whether an address may be turned into a host's name for that.
    pub asks_names: bool,
    /// Whether files are read again after they changed.
    pub reloads: bool,
    /// Whether lists of revoked certificates are fetched and heeded.
    pub checks_revocation: bool,
}

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has not what it should have.
    #[error("{}: {reason}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for can't be done.
    #[error("TLS can't be set up: {0}")]
    Setup(String),
}

/// What is made of the files.
#[derive(Debug, Clone)]
struct Loaded {
    server: Option<Arc<ServerConfig>>,
    client: Option<Arc<ClientConfig>>,
    trust: Option<Arc<Trust>>,
}

/// TLS, ready to be spoken.
#[derive(Debug)]
pub struct Tls {
    settings: Settings,
    current: Mutex<Current>,
    revocations: Revocations,
}

#[derive(Debug)]
struct Current {
    loaded: Loaded,
    seen: Vec<Option<SystemTime>>,
    looked: Option<Instant>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file can't be used; the message names it.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let seen = changed(&settings);
        let loaded = load(&settings)?;
        let current = Mutex::new(Current { loaded, seen, looked: Some(Instant::now()) });
        Ok(Self { settings, current, revocations: Revocations::default() })
    }

    fn loaded(&self) -> Loaded {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = current.looked.is_none_or(|looked| looked.elapsed() >= RELOAD_EVERY);
        if self.settings.reloads && is_due {
            current.looked = Some(Instant::now());
            let seen = changed(&self.settings);
            if seen != current.seen {
                match load(&self.settings) {
                    Ok(loaded) => {
                        tracing::info!("the key store or the trust store has changed: read again");
                        (current.loaded, current.seen) = (loaded, seen);
                    }
                    Err(error) => tracing::warn!("what was read before stays in use: {error}"),
                }
            }
        }
        current.loaded.clone()
    }

    /// Has the next handshake look for changed files.
    #[cfg(test)]
    fn look_again(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).looked = None;
    }

    /// Shakes hands with one who has dialled.
    ///
    /// # Errors
    /// When it speaks no TLS or is not accepted; the message says which.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let ip = stream.peer_addr()?.ip().to_canonical();
        let loaded = self.loaded();
        let server = loaded
            .server
            .ok_or_else(|| io::Error::other("there is no key store to accept connections with"))?;
        let accepting = TlsAcceptor::from(server).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, accepting)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))?
            .map_err(explain)?;
        let stream = TlsStream::from(stream);
        self.check_revocation(&stream, loaded.trust.as_deref(), Role::Client).await?;
        if self.settings.checks_clients
            && let Some(certificate) = certificate(&stream)
        {
            self.check_host(certificate, ip, None).await?;
        }
        Ok(stream)
    }

    /// Dials a server, which must be `host` where names are checked.
    ///
    /// # Errors
    /// When it speaks no TLS or is not accepted; the message says which.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let ip = stream.peer_addr()?.ip().to_canonical();
        let loaded = self.loaded();
        let client = loaded
            .client
            .ok_or_else(|| io::Error::other("there is no trust store to check servers with"))?;
        let name = ServerName::try_from(host.to_owned()).unwrap_or_else(|_| ServerName::from(ip));
        let connecting = TlsConnector::from(client).connect(name, stream);
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, connecting)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))?
            .map_err(explain)?;
        let stream = TlsStream::from(stream);
        self.check_revocation(&stream, loaded.trust.as_deref(), Role::Server).await?;
        if self.settings.checks_servers
            && let Some(certificate) = certificate(&stream)
        {
            self.check_host(certificate, ip, Some(host)).await?;
        }
        Ok(stream)
    }

    async fn check_revocation(
        &self,
        stream: &TlsStream<TcpStream>,
        trust: Option<&Trust>,
        role: Role,
    ) -> io::Result<()> {
        let chain = stream.get_ref().1.peer_certificates();
        match (trust, chain) {
            (Some(trust), Some(chain)) if self.settings.checks_revocation => {
                let checked = self.revocations.check(trust, chain, role).await;
                checked.map_err(|reason| io::Error::new(io::ErrorKind::PermissionDenied, reason))
            }
            _ => Ok(()),
        }
    }

    async fn check_host(
        &self,
        certificate: &CertificateDer<'_>,
        ip: IpAddr,
        host: Option<&str>,
    ) -> io::Result<()> {
        let refused = |reason| io::Error::new(io::ErrorKind::PermissionDenied, reason);
        let mut names: Vec<String> = host.map(str::to_owned).into_iter().collect();
        match host::check(certificate, ip, &names) {
            Ok(()) => return Ok(()),
            Err(reason) if host.is_some() || !self.settings.asks_names => {
                return Err(refused(reason));
            }
            Err(_) => {}
        }
        let name = tokio::task::spawn_blocking(move || name_of(ip)).await.unwrap_or_default();
        names.extend(name);
        host::check(certificate, ip, &names).map_err(refused)
    }
}

/// The name of an address, if the name has that address as well (`InetAddress.getHostName`).
fn name_of(ip: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&ip).ok()?;
    let mut addresses = dns_lookup::lookup_host(&name).ok()?;
    addresses.any(|address| address.to_canonical() == ip).then_some(name)
}

/// The certificate of the other end.
pub(crate) fn certificate(stream: &TlsStream<TcpStream>) -> Option<&CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates().and_then(<[_]>::first)
}

/// When the files were last changed.
fn changed(settings: &Settings) -> Vec<Option<SystemTime>> {
    settings
        .key_store
        .iter()
        .chain(&settings.trust_store)
        .map(|file| std::fs::metadata(&file.path).and_then(|file| file.modified()).ok())
        .collect()
}

fn load(settings: &Settings) -> Result<Loaded, TlsError> {
    let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
    let provider = Arc::new(provider(&settings.suites)?);
    let versions: Vec<_> = settings
        .versions
        .iter()
        .map(|version| match version {
            Version::Tls12 => &rustls::version::TLS12,
            Version::Tls13 => &rustls::version::TLS13,
        })
        .collect();
    let identity = settings.key_store.as_ref().map(|file| Ok((file, file.identity()?)));
    let identity = identity.transpose()?;
    let trust = match &settings.trust_store {
        None => None,
        Some(file) => {
            let is_needed = settings.client_auth == ClientAuth::Need;
            let trust = Trust::new(file.trusted()?, is_needed, &provider)
                .map_err(|reason| TlsError::Store { path: file.path.clone(), reason })?;
            Some(Arc::new(trust))
        }
    };
    let server = match &identity {
        None => None,
        Some((file, identity)) => {
            let server = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&versions)
                .map_err(setup)?;
            let server = match (&trust, settings.client_auth) {
                (_, ClientAuth::None) => server.with_no_client_auth(),
                (Some(trust), _) => server.with_client_cert_verifier(trust.clone()),
                (None, _) => {
                    return Err(TlsError::Setup(
                        "certificates of those who connect can't be checked without a trust store"
                            .to_owned(),
                    ));
                }
            };
            let mut server = server
                .with_single_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|error| wrong_key(file, &error))?;
            // A session that is taken up again was trusted by what is trusted now.
            server.session_storage = ServerSessionMemoryCache::new(1024);
            Some(Arc::new(server))
        }
    };
    let client = match &trust {
        None => None,
        Some(trust) => {
            let client = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&versions)
                .map_err(setup)?
                .dangerous()
                .with_custom_certificate_verifier(trust.clone());
            let client = match identity {
                None => client.with_no_client_auth(),
                Some((file, identity)) => client
                    .with_client_auth_cert(identity.chain, identity.key)
                    .map_err(|error| wrong_key(file, &error))?,
            };
            Some(Arc::new(client))
        }
    };
    Ok(Loaded { server, client, trust })
}

fn wrong_key(file: &File, error: &rustls::Error) -> TlsError {
    TlsError::Store { path: file.path.clone(), reason: error.to_string() }
}

/// The library's cryptography with the suites that are named.
fn provider(names: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if names.is_empty() {
        return Ok(provider);
    }
    let find = |name: &String| {
        provider.cipher_suites.iter().find(|suite| standard_name(suite) == *name).copied()
    };
    let (known, unknown): (Vec<_>, Vec<_>) =
        names.iter().map(|name| (name, find(name))).partition(|(_, suite)| suite.is_some());
    let unknown: Vec<&str> = unknown.into_iter().map(|(name, _)| name.as_str()).collect();
    let found: Vec<SupportedCipherSuite> =
        known.into_iter().filter_map(|(_, suite)| suite).collect();
    if found.is_empty() {
        let all: Vec<String> = provider.cipher_suites.iter().map(standard_name).collect();
        return Err(TlsError::Setup(format!(
            "none of the cipher suites {} is supported; these are: {}",
            unknown.join(","),
            all.join(",")
        )));
    }
    if !unknown.is_empty() {
        tracing::warn!("cipher suites that are not supported, and left out: {}", unknown.join(","));
    }
    provider.cipher_suites = found;
    Ok(provider)
}

/// A suite's name as Java has it.
fn standard_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

#[cfg(test)]
mod tests;
