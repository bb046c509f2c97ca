//! Certificates that were taken back: the lists that certificates name are fetched when they are shown, kept until their
//! next update, and looked through before their owner is heard (`ssl.crl`; Java's `PKIXRevocationChecker` with
//! `com.sun.security.enableCRLDP`). One whose status can't be determined is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use tokio::net::TcpStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use tls::{Role, Trust};

/// How long fetching a list may take: whoever shows the certificate waits for it.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// The longest list.
const LIST_MAX: usize = 16 << 20;
/// Lists that are kept; their places are in certificates that were trusted.
const LISTS_MAX: usize = 256;

/// A list, and until when it is the newest, in s since 1970.
#[derive(Debug, Clone)]
struct List {
    der: CertificateRevocationListDer<'static>,
    until: i64,
}

/// The lists that are known.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<HashMap<String, List>>);

impl Revocations {
    /// Looks whether a chain of certificates, which was found good otherwise, has one in it that was taken back.
    ///
    /// # Errors
    /// When it has, or when that can't be known; the text says which.
    pub(super) async fn check(
        &self,
        trust: &Trust,
        chain: &[CertificateDer<'static>],
        role: Role,
    ) -> Result<(), String> {
        let now = UnixTime::now();
        let Some(first) = chain.first() else { return Ok(()) };
        if trust.is_trusted_itself(first, now).map_err(|error| error.to_string())? {
            return Ok(());
        }
        let places: BTreeSet<String> = chain.iter().flat_map(places).collect();
        if places.is_empty() {
            return Err("the certificate names no list of revoked certificates".to_owned());
        }
        let (mut lists, mut problems) = (Vec::new(), String::new());
        for place in places {
            match self.list(&place, now).await {
                Ok(list) => lists.push(list),
                Err(problem) => problems = format!("{problems}; {place}: {problem}"),
            }
        }
        if lists.is_empty() {
            return Err(format!("whether the certificate was revoked can't be told{problems}"));
        }
        let checked = trust.check_with_lists(chain, lists, role, now);
        checked.map_err(|error| format!("{error}{problems}"))
    }

    async fn list(
        &self,
        place: &str,
        now: UnixTime,
    ) -> Result<CertificateRevocationListDer<'static>, String> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(list) = known.get(place).filter(|list| now < list.until) {
                return Ok(list.der.clone());
            }
        }
        let fetched = tokio::time::timeout(FETCH_LIMIT, fetch(place)).await;
        let list = read(&fetched.map_err(|_| "no answer in time")??)?;
        let der = list.der.clone();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LISTS_MAX {
            known.clear();
        }
        known.insert(place.to_owned(), list);
        Ok(der)
    }
}

/// Where a certificate says that lists are, as far as they are reached by HTTP.
fn places(certificate: &CertificateDer<'static>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else {
            continue;
        };
        for point in &points.points {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else {
                continue;
            };
            found.extend(names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("http://") => Some((*uri).to_owned()),
                _ => None,
            }));
        }
    }
    found
}

/// Lists are signed, so that anybody may bring them.
async fn fetch(place: &str) -> Result<Vec<u8>, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let uri: Uri = place.parse().map_err(|error| said(&error))?;
    let host = uri.host().ok_or("it has no host")?;
    let authority = uri.authority().map_or(host, http::uri::Authority::as_str).to_owned();
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)));
    let stream = TokioIo::new(stream.await.map_err(|error| said(&error))?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| said(&error))?;
    let driving = tokio::spawn(connection);
    let request = Request::get(path)
        .header(http::header::HOST, authority)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| said(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| said(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LIST_MAX).collect().await;
    driving.abort();
    Ok(body.map_err(|error| said(&error))?.to_bytes().to_vec())
}

fn read(bytes: &[u8]) -> Result<List, String> {
    let der = CertificateRevocationListDer::from_pem_slice(bytes)
        .unwrap_or_else(|_| CertificateRevocationListDer::from(bytes.to_vec()));
    let (_, list) = CertificateRevocationList::from_der(&der)
        .map_err(|_| "it is no list of revoked certificates".to_owned())?;
    let until = list.next_update().map_or(0, |until| until.timestamp());
    Ok(List { der, until })
}
