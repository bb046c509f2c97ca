//! The hosts and addresses that a certificate names.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// What a certificate names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Hosts among its alternative names; they may be patterns.
    pub hosts: Vec<String>,
    /// Addresses among its alternative names.
    pub addresses: Vec<IpAddr>,
    /// Its common name.
    pub common: Option<String>,
}

impl Names {
    /// What a certificate names, given its DER.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn of(certificate: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|_| "it is no certificate".to_owned())?;
        let mut names = Self::default();
        if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
            for name in &alternatives.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.hosts.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let common = certificate.subject().iter_common_name().last();
        names.common = common.and_then(|name| name.as_str().ok()).map(str::to_owned);
        Ok(names)
    }

    /// Whether a host is one of its names, as OpenSSL sees it: the common name counts where no host is named beside it.
    pub fn has_host(&self, host: &str) -> bool {
        if self.hosts.is_empty() {
            return self.common.as_ref().is_some_and(|common| matches(host, common));
        }
        self.hosts.iter().any(|pattern| matches(host, pattern))
    }

    /// All of them, for people.
    pub fn describe(&self) -> String {
        let mut all = self.hosts.clone();
        all.extend(self.addresses.iter().map(IpAddr::to_string));
        if all.is_empty() {
            all.extend(self.common.clone());
        }
        if all.is_empty() { "nobody".to_owned() } else { all.join(", ") }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_canonical()),
        _ => None,
    }
}

/// Whether a host is the one of a pattern: `*` stands for anything within one label.
pub fn matches(host: &str, pattern: &str) -> bool {
    let (host, pattern) = (host.to_lowercase(), pattern.to_lowercase());
    match pattern.split_once('*') {
        None => host == pattern,
        Some((prefix, suffix)) => host
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(suffix))
            .is_some_and(|middle| !middle.contains('.')),
    }
}
