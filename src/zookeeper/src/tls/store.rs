//! Files of keys and certificates: PEM, PKCS#12, and Java's own (`FileKeyStoreLoader`).

use std::fs;
use std::path::{Path, PathBuf};

use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use pkcs8::der::asn1::{ObjectIdentifier, OctetStringRef};
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::{EncryptedPrivateKeyInfoOwned, PrivateKeyInfoRef};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sec1::EcPrivateKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{TlsError, jks};
use crate::secret::Secret;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, of one or more parts.
    Pem,
    /// PKCS#12 or Java's own: Java takes the one for the other, and so does this server.
    Binary,
}

/// A file that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What protects it; empty for nothing.
    pub password: Secret,
    /// What it is.
    pub kind: Kind,
}

impl Kind {
    /// The format that is named, or else the one of a file's extension (`KeyStoreFileType`).
    ///
    /// # Errors
    /// When it can't be told, or this server doesn't read it.
    pub fn of(named: Option<&str>, path: &Path) -> Result<Self, String> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let name = match named.filter(|named| !named.is_empty()) {
            Some(named) => named.to_ascii_uppercase(),
            None => extension.unwrap_or_default().to_ascii_uppercase(),
        };
        match name.as_str() {
            "PEM" => Ok(Self::Pem),
            "PKCS12" | "P12" | "PFX" | "JKS" => Ok(Self::Binary),
            "BCFKS" => Err(format!(
                "stores of type BCFKS are not read by this server; convert it: keytool -importkeystore -srckeystore {} -srcstoretype BCFKS -destkeystore store.p12 -deststoretype PKCS12",
                path.display()
            )),
            _ => Err(format!(
                "unable to tell the type of {} by its name: set the .type key to PEM, PKCS12 or JKS",
                path.display()
            )),
        }
    }
}

/// The DER of a key and of its certificates.
type KeyAndChain = (Vec<u8>, Vec<Vec<u8>>);

/// A private key, and the certificates that belong to it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// A key of an elliptic curve without its public half, as Java writes it, with the one of its certificate: the library
/// wants both. `None` for keys that need nothing.
fn with_public_key(key: &[u8], certificate: &[u8]) -> Option<Vec<u8>> {
    const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    let info = PrivateKeyInfoRef::try_from(key).ok()?;
    let half = EcPrivateKey::from_der(info.private_key.as_bytes()).ok()?;
    if info.algorithm.oid != ELLIPTIC_CURVE || half.public_key.is_some() {
        return None;
    }
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let public_key = certificate.public_key().subject_public_key.data.as_ref();
    let whole = EcPrivateKey { public_key: Some(public_key), ..half }.to_der().ok()?;
    PrivateKeyInfoRef::new(info.algorithm, OctetStringRef::new(&whole).ok()?).to_der().ok()
}

impl File {
    fn wrong(&self, reason: impl Into<String>) -> TlsError {
        TlsError::Store { path: self.path.clone(), reason: reason.into() }
    }

    fn bytes(&self) -> Result<Vec<u8>, TlsError> {
        fs::read(&self.path).map_err(|source| TlsError::Io { path: self.path.clone(), source })
    }

    /// Reads the private key and its certificates.
    pub(super) fn identity(&self) -> Result<Identity, TlsError> {
        let bytes = self.bytes()?;
        let found = match self.kind {
            Kind::Pem => self.pem_identity(&bytes)?,
            Kind::Binary if bytes.starts_with(&jks::MAGIC) => {
                let entries = jks::read(&bytes, self.password.expose());
                entries.map_err(|reason| self.wrong(reason))?.into_iter().find_map(|entry| {
                    match entry {
                        jks::Entry::Key(key, chain) => Some((key, chain)),
                        jks::Entry::Trusted(_) => None,
                    }
                })
            }
            Kind::Binary => self.pkcs12(&bytes)?.private_key_chain().map(|(_, chain)| {
                let certificates = chain.certs().iter().map(|one| one.as_der().to_vec()).collect();
                (chain.key().as_der().to_vec(), certificates)
            }),
        };
        let (key, chain) = found.ok_or_else(|| self.wrong("there is no private key in it"))?;
        if chain.is_empty() {
            return Err(self.wrong("there is no certificate for the private key in it"));
        }
        let key = with_public_key(&key, &chain[0]).unwrap_or(key);
        let key = PrivateKeyDer::try_from(key).map_err(|reason| self.wrong(reason))?;
        Ok(Identity { chain: chain.into_iter().map(CertificateDer::from).collect(), key })
    }

    fn pem_identity(&self, bytes: &[u8]) -> Result<Option<KeyAndChain>, TlsError> {
        let chain = self.pem_certificates(bytes)?;
        if let Some(key) = self.encrypted_key(bytes)? {
            return Ok(Some((key, chain)));
        }
        match PrivateKeyDer::from_pem_slice(bytes) {
            Ok(key) => Ok(Some((key.secret_der().to_vec(), chain))),
            Err(rustls::pki_types::pem::Error::NoItemsFound) => Ok(None),
            Err(error) => Err(self.wrong(error.to_string())),
        }
    }

    /// A key of PKCS#8 that is protected by the password.
    fn encrypted_key(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, TlsError> {
        const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
        const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
        let text = String::from_utf8_lossy(bytes);
        let part = text
            .split_once(BEGIN)
            .and_then(|(_, rest)| rest.split_once(END))
            // The library for clear keys decodes it, once it has a clear key's label.
            .map(|(body, _)| {
                format!("-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----\n")
            });
        let Some(part) = part else { return Ok(None) };
        let document = PrivatePkcs8KeyDer::from_pem_slice(part.as_bytes())
            .map_err(|error| self.wrong(error.to_string()))?;
        let key = EncryptedPrivateKeyInfoOwned::try_from(document.secret_pkcs8_der())
            .map_err(|error| self.wrong(format!("the private key: {error}")))?
            .decrypt(self.password.expose())
            .map_err(|_| self.wrong("the password does not open the private key"))?;
        Ok(Some(key.as_bytes().to_vec()))
    }

    fn pem_certificates(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TlsError> {
        CertificateDer::pem_slice_iter(bytes)
            .map(|found| found.map(|certificate| certificate.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|error| self.wrong(error.to_string()))
    }

    fn pkcs12(&self, bytes: &[u8]) -> Result<KeyStore, TlsError> {
        KeyStore::from_pkcs12(bytes, self.password.expose(), Pkcs12ImportPolicy::Relaxed).map_err(
            |error| self.wrong(format!("not read as PKCS#12: {error}; is the password right?")),
        )
    }

    /// Reads the certificates that are trusted.
    pub(super) fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.bytes()?;
        let found: Vec<Vec<u8>> = match self.kind {
            Kind::Pem => self.pem_certificates(&bytes)?,
            Kind::Binary if bytes.starts_with(&jks::MAGIC) => {
                let entries = jks::read(&bytes, self.password.expose());
                entries
                    .map_err(|reason| self.wrong(reason))?
                    .into_iter()
                    .filter_map(|entry| match entry {
                        jks::Entry::Trusted(certificate) => Some(certificate),
                        // As in `PKIXParameters`.
                        jks::Entry::Key(..) => None,
                    })
                    .collect()
            }
            Kind::Binary => self
                .pkcs12(&bytes)?
                .entries()
                .filter_map(|(_, entry)| match entry {
                    KeyStoreEntry::Certificate(certificate) => Some(certificate.as_der().to_vec()),
                    KeyStoreEntry::PrivateKeyChain(_) | KeyStoreEntry::Secret(_) => None,
                })
                .collect(),
        };
        if found.is_empty() {
            return Err(self.wrong("there is no certificate in it that is marked as trusted"));
        }
        Ok(found.into_iter().map(CertificateDer::from).collect())
    }
}
