//! Whether a certificate is one of the host at the other end (`ZKHostnameVerifier`, `ZKTrustManager`).

use std::net::IpAddr;

use tls::{Names, matches};

/// Whether a certificate names an address or one of the host names.
///
/// # Errors
/// What it names instead.
pub(super) fn check(certificate: &[u8], ip: IpAddr, names: &[String]) -> Result<(), String> {
    let Names { mut hosts, addresses, common } = Names::of(certificate)?;
    // The common name counts only where nothing else is said.
    if addresses.is_empty() && hosts.is_empty() {
        hosts.extend(common);
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
