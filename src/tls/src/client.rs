//! HTTP clients. All of the house's are begun here: the library's own beginnings know no cryptography.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, Error, RootCertStore};

use crate::Tls;
use crate::signatures::checks_signatures;
use crate::verifier::Verifier;

/// Where an API is: `https` where TLS is on, as the originals' libraries have it.
pub fn scheme(tls: Option<&Tls>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// The beginning of a client. Servers under `https` are checked by these settings; without any, by what the system
/// trusts and the name in the URL.
pub fn builder(tls: Option<&Tls>) -> reqwest::ClientBuilder {
    let config = match tls {
        Some(tls) => tls.client_config(),
        None => public(),
    };
    #[expect(clippy::disallowed_methods, reason = "this is where clients begin")]
    let builder = reqwest::Client::builder();
    builder.tls_backend_preconfigured(config)
}

/// The beginning of a client that takes any certificate: for probes, which ask whether somebody answers, not who.
pub fn unchecked() -> reqwest::ClientBuilder {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(None, Arc::default(), provider.clone());
    #[expect(clippy::disallowed_methods, reason = "this is where clients begin")]
    let builder = reqwest::Client::builder();
    builder.tls_backend_preconfigured(config(provider, Arc::new(verifier)))
}

fn public() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let verifier = System { provider: provider.clone(), roots: OnceLock::new() };
    config(provider, Arc::new(verifier))
}

fn config(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider);
    #[expect(clippy::expect_used, reason = "ring has suites for each version")]
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

/// What the system trusts, read when the first server is met: most clients never meet one.
#[derive(Debug)]
struct System {
    provider: Arc<CryptoProvider>,
    roots: OnceLock<Result<Arc<WebPkiServerVerifier>, String>>,
}

impl System {
    fn roots(&self) -> Result<&WebPkiServerVerifier, Error> {
        let load = || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| format!("this host's trusted certificates: {error}"))
        };
        let roots = self.roots.get_or_init(load).as_ref();
        roots.map(AsRef::as_ref).map_err(|error| Error::General(error.clone()))
    }
}

impl ServerCertVerifier for System {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.roots()?;
        roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    checks_signatures!();
}
