//! TLS as libprocess has it: what `LIBPROCESS_SSL_*` says, and both ends of a connection (Mesos' `docs/ssl.md`,
//! libprocess' `openssl.cpp`).
//!
//! Data flow: [`Settings`] reads the environment → [`Tls`] reads the files → [`Tls::accept`] and [`Tls::connect`] give
//! a [`Stream`], plain or not; [`client`] makes HTTP clients that go by the same settings. Chains are judged by
//! [`Trust`], names by [`Names`]. Invariants: a certificate that was refused is never passed over, also where
//! connections without TLS are allowed; a handshake has a time limit; keys are never shown.
//!
//! Versions and suites are those that rustls has: TLS 1.2 and 1.3 with authenticated ciphers. An original that is left
//! at its default suites has none of them: it needs `LIBPROCESS_SSL_CIPHERS` or `LIBPROCESS_SSL_ENABLE_TLS_V1_3`.

pub mod client;
mod names;
mod offered;
mod settings;
mod signatures;
mod stream;
mod trust;
mod verifier;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, InvalidMessage, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use names::{Names, matches};
pub use settings::{Scheme, Settings};
pub use stream::Stream;
pub use trust::{Role, Trust};
use verifier::Verifier;

/// What a record of a handshake begins with.
pub const HANDSHAKE: u8 = 0x16;
/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long one who may speak either may take until it says something.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(30);
/// How long a file of keys or certificates may be.
const FILE_MAX: u64 = 16 << 20;
/// How many files of a directory of certificates are read.
const FILES_MAX: usize = 10_000;

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A variable says what can't be.
    #[error("{variable}: {reason}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has not what it should have.
    #[error("{variable}: {}: {reason}", path.display())]
    File {
        /// Who named it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for can't be done.
    #[error("TLS can't be set up: {0}")]
    Setup(String),
}

/// TLS, ready to be spoken.
#[derive(Debug, Clone)]
pub struct Tls {
    settings: Arc<Settings>,
    /// None where there is no key: such a one can only dial.
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

/// The settings of this process' environment, with the files that they name; nothing where TLS is not turned on.
///
/// # Errors
/// When a variable or a file can't be used; the message names it.
pub fn of_server() -> Result<Option<Tls>, TlsError> {
    let Some(settings) = Settings::from_environment(std::env::vars())? else { return Ok(None) };
    settings.needs_identity()?;
    Tls::new(settings).map(Some)
}

/// As [`of_server`], for a process that only dials: it needs no key.
///
/// # Errors
/// As [`of_server`].
pub fn of_client() -> Result<Option<Tls>, TlsError> {
    Settings::from_environment(std::env::vars())?.map(Tls::new).transpose()
}

/// As [`of_client`], for an executor, which may also go by what its agent tells it.
///
/// # Errors
/// As [`of_server`].
pub fn of_executor() -> Result<Option<Tls>, TlsError> {
    Settings::of_executor(std::env::vars())?.map(Tls::new).transpose()
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file can't be used; the message names it.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
        let provider = Arc::new(offered::provider(&settings)?);
        let versions = settings.versions()?;
        let identity = match (&settings.cert_file, &settings.key_file) {
            (Some(certificates), Some(key)) => Some((chain(certificates)?, private_key(key)?)),
            _ => None,
        };
        let trust = if settings.verify_server_cert || settings.require_client_cert {
            let trusted = trusted(&settings)?;
            let trust = Trust::new(trusted, settings.require_client_cert, &provider);
            Some(Arc::new(trust.map_err(TlsError::Setup)?))
        } else {
            None
        };
        let settings = Arc::new(settings);
        let wrong_key = |error: rustls::Error| TlsError::File {
            variable: "LIBPROCESS_SSL_KEY_FILE",
            path: settings.key_file.clone().unwrap_or_default(),
            reason: error.to_string(),
        };
        let server = match &identity {
            None => None,
            Some((chain, key)) => {
                let server = ServerConfig::builder_with_provider(provider.clone())
                    .with_protocol_versions(&versions)
                    .map_err(setup)?;
                let server = match trust.clone().filter(|_| settings.require_client_cert) {
                    Some(trust) => server.with_client_cert_verifier(trust),
                    None => {
                        server.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth())
                    }
                };
                let server = server.with_single_cert(chain.clone(), key.clone_key());
                Some(Arc::new(server.map_err(wrong_key)?))
            }
        };
        let trust = trust.filter(|_| settings.verify_server_cert);
        let verifier = Verifier::new(trust, settings.clone(), provider.clone());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let client = match identity {
            Some((chain, key)) => client.with_client_auth_cert(chain, key).map_err(wrong_key)?,
            None => client.with_no_client_auth(),
        };
        Ok(Self { settings, server, client: Arc::new(client) })
    }

    /// What it goes by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Opens a connection of one who has dialled: under TLS, or plain where that is allowed and the other end begins so.
    ///
    /// # Errors
    /// When the other end is not accepted; the message says why.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let server = self
            .server
            .clone()
            .ok_or_else(|| io::Error::other("there is no key to accept connections with"))?;
        let ip = stream.peer_addr()?.ip().to_canonical();
        if self.settings.support_downgrade {
            let mut first = [0];
            let peeked = tokio::time::timeout(FIRST_BYTE_LIMIT, stream.peek(&mut first));
            if peeked.await.map_err(|_| late("nothing is said in time"))?? == 0
                || first[0] != HANDSHAKE
            {
                return Ok(stream.into());
            }
        }
        let accepting = TlsAcceptor::from(server).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, accepting)
            .await
            .map_err(|_| late("no handshake in time"))?
            .map_err(explain)?;
        let stream = TlsStream::from(stream);
        if self.settings.require_client_cert && self.settings.scheme == Scheme::Legacy {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let names = certificate.map(|one| Names::of(one)).transpose();
            let names = names.map_err(refused)?.unwrap_or_default();
            let host = tokio::task::spawn_blocking(move || verifier::host_of(ip)).await;
            let host = host.unwrap_or_default();
            verifier::check_legacy(&self.settings, &names, host.as_deref(), Some(ip))
                .map_err(refused)?;
        }
        Ok(stream.into())
    }

    /// Dials. Where connections without TLS are allowed, one who speaks none is dialled again without.
    ///
    /// # Errors
    /// When nobody is there, or the other end is not accepted; the message says why.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::from(address.ip().to_canonical());
        let connecting = TlsConnector::from(self.client.clone()).connect(name, stream);
        let error = match tokio::time::timeout(HANDSHAKE_LIMIT, connecting).await {
            Ok(Ok(stream)) => return Ok(TlsStream::from(stream).into()),
            Ok(Err(error)) if is_refusal(&error) => return Err(explain(error)),
            Ok(Err(error)) => explain(error),
            Err(_) => late("no handshake in time"),
        };
        if !self.settings.support_downgrade {
            return Err(error);
        }
        tracing::debug!(%address, %error, "dialled again without TLS");
        Ok(TcpStream::connect(address).await?.into())
    }

    fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.client)
    }
}

fn late(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

/// Whether a handshake failed because of whom a certificate is of, ours or theirs, not because no TLS is spoken.
fn is_refusal(error: &io::Error) -> bool {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        reason,
        Some(
            rustls::Error::InvalidCertificate(_)
                | rustls::Error::General(_)
                | rustls::Error::Other(_)
                | rustls::Error::AlertReceived(_)
        )
    )
}

/// Says what a failed handshake means where the library's words do not.
pub fn explain(error: io::Error) -> io::Error {
    let reason = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it speaks no TLS".to_owned()
        }
        Some(rustls::Error::NoCertificatesPresented) => "it shows no certificate".to_owned(),
        Some(rustls::Error::AlertReceived(alert)) => format!("it ends the handshake: {alert:?}"),
        Some(rustls::Error::General(reason)) => reason.clone(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it goes away during the handshake".to_owned()
        }
        None => return error,
    };
    io::Error::new(error.kind(), reason)
}

fn read(variable: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let wrong = |reason: String| TlsError::File { variable, path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > FILE_MAX {
        return Err(wrong(format!("it is longer than {FILE_MAX} bytes")));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

fn certificates(
    variable: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File { variable, path: path.to_owned(), reason };
    let bytes = read(variable, path)?;
    CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let variable = "LIBPROCESS_SSL_CERT_FILE";
    let chain = certificates(variable, path)?;
    if chain.is_empty() {
        let reason = "there is no certificate in it".to_owned();
        return Err(TlsError::File { variable, path: path.to_owned(), reason });
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let variable = "LIBPROCESS_SSL_KEY_FILE";
    let bytes = read(variable, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&bytes);
        let reason = if text.contains("ENCRYPTED") {
            "the key is encrypted: store it decrypted, readable by this daemon alone".to_owned()
        } else if matches!(error, rustls::pki_types::pem::Error::NoItemsFound) {
            "there is no private key in it".to_owned()
        } else {
            error.to_string()
        };
        TlsError::File { variable, path: path.to_owned(), reason }
    })
}

/// What the settings trust: the files they name, else what the system trusts.
fn trusted(settings: &Settings) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if settings.ca_file.is_none() && settings.ca_dir.is_none() {
        return Ok(rustls_native_certs::load_native_certs().certs);
    }
    let mut trusted = Vec::new();
    if let Some(path) = &settings.ca_file {
        let variable = "LIBPROCESS_SSL_CA_FILE";
        let found = certificates(variable, path)?;
        if found.is_empty() {
            let reason = "there is no certificate in it".to_owned();
            return Err(TlsError::File { variable, path: path.clone(), reason });
        }
        trusted.extend(found);
    }
    if let Some(directory) = &settings.ca_dir {
        let variable = "LIBPROCESS_SSL_CA_DIR";
        let wrong = |error: io::Error| TlsError::File {
            variable,
            path: directory.clone(),
            reason: error.to_string(),
        };
        for entry in std::fs::read_dir(directory).map_err(wrong)?.take(FILES_MAX) {
            let path = entry.map_err(wrong)?.path();
            // What is no certificate is none of ours: such directories hold other things, too.
            if path.is_file()
                && let Ok(found) = certificates(variable, &path)
            {
                trusted.extend(found);
            }
        }
    }
    // What can't be trusted at all is left out, or one odd file in a directory would stop everything.
    trusted.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    trusted.dedup();
    if settings.ca_dir.is_some() {
        trusted.retain(|one| RootCertStore::empty().add(one.clone()).is_ok());
    }
    Ok(trusted)
}

#[cfg(test)]
mod tests;
