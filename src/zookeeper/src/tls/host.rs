//! Whether a certificate is one of the host at the other end (`ZKHostnameVerifier`, `ZKTrustManager`).

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Whether a certificate names an address or one of the host names.
///
/// # Errors
/// What it names instead.
pub(super) fn check(certificate: &[u8], ip: IpAddr, names: &[String]) -> Result<(), String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Err("it is no certificate".to_owned());
    };
    let (mut addresses, mut hosts) = (Vec::new(), Vec::new());
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    // The common name counts only where nothing else is said.
    if addresses.is_empty() && hosts.is_empty() {
        let common = certificate.subject().iter_common_name().last();
        hosts.extend(common.and_then(|name| name.as_str().ok()).map(str::to_owned));
        if hosts.iter().any(|host| host.parse() == Ok(ip)) {
            return Ok(());
        }
    }
    if addresses.contains(&ip)
        || names.iter().any(|name| hosts.iter().any(|pattern| matches(name, pattern)))
    {
        return Ok(());
    }
    let named: Vec<String> =
        hosts.into_iter().chain(addresses.iter().map(IpAddr::to_string)).collect();
    let wanted: Vec<String> = names.iter().cloned().chain([ip.to_string()]).collect();
    Err(format!("the certificate is of {}, not of {}", named.join(", "), wanted.join(" or ")))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_canonical()),
        _ => None,
    }
}

/// Whether a host is the one of a pattern: `*` stands for anything within one label.
fn matches(host: &str, pattern: &str) -> bool {
    let (host, pattern) = (host.to_lowercase(), pattern.to_lowercase());
    match pattern.split_once('*') {
        None => host == pattern,
        Some((prefix, suffix)) => host
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(suffix))
            .is_some_and(|middle| !middle.contains('.')),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common: &str, names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName((*name).try_into().unwrap()),
            });
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn certificates_are_of_the_hosts_they_name() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        for (common, names, host, fits) in [
            ("zk1", &[][..], "zk1", true),
            ("zk1", &[], "zk2", false),
            ("10.0.0.1", &[], "zk2", true),
            ("zk1", &["other"], "zk1", false),
            ("x", &["ZK1.example"], "zk1.example", true),
            ("x", &["*.example"], "zk1.example", true),
            ("x", &["*.example"], "a.zk1.example", false),
            ("x", &["zk*.example"], "zk1.example", true),
            ("x", &["10.0.0.1"], "zk1", true),
            ("x", &["10.0.0.2"], "zk1", false),
        ] {
            let checked = check(&certificate(common, names), ip, &[host.to_owned()]);
            assert_eq!(checked.is_ok(), fits, "{common} {names:?} {host}: {checked:?}");
        }
        let error = check(&certificate("x", &["a", "::1"]), ip, &["b".to_owned()]).unwrap_err();
        assert_eq!(error, "the certificate is of a, ::1, not of b or 10.0.0.1");
    }
}
