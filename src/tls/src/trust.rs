//! Which certificates are accepted: those that chain up to a trusted one, and trusted ones themselves, as OpenSSL and
//! Java (`PKIXValidator`) have it. Names are not looked at here.

use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DistinguishedName, Error, RootCertStore};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{ASN1Time, FromDer as _};

use crate::signatures::checks_signatures;

/// What is trusted.
#[derive(Debug)]
pub struct Trust {
    trusted: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    is_client_needed: bool,
    provider: Arc<CryptoProvider>,
}

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To be served.
    Client,
    /// To serve.
    Server,
}

impl Trust {
    /// Trusts these certificates, and those that chain up to them; `is_client_needed` says whether one who connects
    /// must show one.
    ///
    /// # Errors
    /// When a certificate can't be trusted at all.
    pub fn new(
        trusted: Vec<CertificateDer<'static>>,
        is_client_needed: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &trusted {
            roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| error.to_string())?;
        let provider = provider.clone();
        Ok(Self { trusted, roots, clients, is_client_needed, provider })
    }

    /// Whether a chain is still good when these lists of revoked certificates are heeded. There must be one at least.
    pub fn check_with_lists(
        &self,
        chain: &[CertificateDer<'_>],
        lists: Vec<CertificateRevocationListDer<'static>>,
        role: Role,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some((first, others)) = chain.split_first() else {
            return Err(Error::NoCertificatesPresented);
        };
        let (roots, provider) = (self.roots.clone(), self.provider.clone());
        let unusable = |error: VerifierBuilderError| Error::General(error.to_string());
        match role {
            Role::Client => WebPkiClientVerifier::builder_with_provider(roots, provider)
                .with_crls(lists)
                .enforce_revocation_expiration()
                .build()
                .map_err(unusable)?
                .verify_client_cert(first, others, now)
                .map(|_| ()),
            Role::Server => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .with_crls(lists)
                    .enforce_revocation_expiration()
                    .build()
                    .map_err(unusable)?;
                // Names are looked at elsewhere; here they are looked at last.
                let nobody = ServerName::from(std::net::Ipv4Addr::UNSPECIFIED);
                match verifier.verify_server_cert(first, others, &nobody, &[], now) {
                    Err(Error::InvalidCertificate(
                        CertificateError::NotValidForName
                        | CertificateError::NotValidForNameContext { .. },
                    ))
                    | Ok(_) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Whether the very certificate is trusted, and its time has come and has not passed.
    pub fn is_trusted_itself(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<bool, Error> {
        if !self.trusted.iter().any(|trusted| trusted.as_ref() == certificate.as_ref()) {
            return Ok(false);
        }
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let now = ASN1Time::from_timestamp(now)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let validity = certificate.validity();
        if now < validity.not_before {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if validity.not_after < now {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        Ok(true)
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.is_trusted_itself(end_entity, now)? {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    checks_signatures!();
}

impl ClientCertVerifier for Trust {
    fn client_auth_mandatory(&self) -> bool {
        self.is_client_needed
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.is_trusted_itself(end_entity, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        self.clients.verify_client_cert(end_entity, intermediates, now)
    }

    checks_signatures!();
}
