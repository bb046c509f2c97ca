//! Whether a server that was dialled is who it should be, by the settings (`openssl.cpp`'s `verify`).

use std::net::IpAddr;
use std::sync::Arc;

use rustls::Error;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::signatures::checks_signatures;
use crate::{Names, Scheme, Settings, Trust};

/// Judges servers.
#[derive(Debug)]
pub(crate) struct Verifier {
    trust: Option<Arc<Trust>>,
    settings: Arc<Settings>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(crate) fn new(
        trust: Option<Arc<Trust>>,
        settings: Arc<Settings>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { trust, settings, provider }
    }

    fn check(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), String> {
        let names = Names::of(certificate)?;
        let (host, ip) = match name {
            ServerName::DnsName(name) => (Some(name.as_ref().to_owned()), None),
            ServerName::IpAddress(ip) => (None, Some(IpAddr::from(*ip))),
            _ => (None, None),
        };
        match self.settings.scheme {
            Scheme::Legacy => {
                let host = host.or_else(|| ip.and_then(host_aside));
                check_legacy(&self.settings, &names, host.as_deref(), ip)
            }
            Scheme::OpenSsl => match (host, ip) {
                (Some(host), _) if names.has_host(&host) => Ok(()),
                (None, Some(_)) if !self.settings.verify_ipadd => Err(
                    "only the server's address is known, and LIBPROCESS_SSL_VERIFY_IPADD is not set"
                        .to_owned(),
                ),
                (None, Some(ip)) if names.addresses.contains(&ip) => Ok(()),
                (host, ip) => Err(mismatch(&names, host.as_deref(), ip)),
            },
        }
    }
}

fn mismatch(names: &Names, host: Option<&str>, ip: Option<IpAddr>) -> String {
    let wanted: Vec<String> =
        host.map(str::to_owned).into_iter().chain(ip.map(|ip| ip.to_string())).collect();
    format!("the certificate is of {}, not of {}", names.describe(), wanted.join(" or "))
}

/// The name of an address, if it has one.
pub(crate) fn host_of(ip: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&ip).ok()?;
    // The system gives the address back where it knows no name.
    name.parse::<IpAddr>().is_err().then_some(name)
}

/// As [`host_of`], from within a task: others go on meanwhile where there are other threads.
fn host_aside(ip: IpAddr) -> Option<String> {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| host_of(ip)),
        _ => host_of(ip),
    }
}

/// The originals' own check: the host's name must be there as it is, or the address where addresses count. One whose
/// address has no name passes, unless certificates are asked of everybody.
pub(crate) fn check_legacy(
    settings: &Settings,
    names: &Names,
    host: Option<&str>,
    ip: Option<IpAddr>,
) -> Result<(), String> {
    let Some(host) = host else {
        if settings.verify_ipadd {
            return match ip {
                Some(ip) if names.addresses.contains(&ip) => Ok(()),
                _ => Err(mismatch(names, None, ip)),
            };
        }
        return if settings.require_client_cert {
            Err("the certificate can't be checked: the host's name is unknown".to_owned())
        } else {
            Ok(())
        };
    };
    let is_named =
        names.hosts.iter().chain(&names.common).any(|name| name.eq_ignore_ascii_case(host));
    let is_addressed = settings.verify_ipadd && ip.is_some_and(|ip| names.addresses.contains(&ip));
    if is_named || is_addressed { Ok(()) } else { Err(mismatch(names, Some(host), ip)) }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        if intermediates.len() > self.settings.verification_depth {
            return Err(Error::General(format!(
                "it shows {} certificates beside its own, more than LIBPROCESS_SSL_VERIFY_DEPTH",
                intermediates.len()
            )));
        }
        trust.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.check(end_entity, server_name).map_err(Error::General)?;
        Ok(ServerCertVerified::assertion())
    }

    checks_signatures!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_own_check_asks_for_the_very_name() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let names = |hosts: &[&str], addresses: &[&str], common: &str| Names {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            common: Some(common.to_owned()),
        };
        for (host, verify_ipadd, require, names, fits) in [
            (Some("m1"), false, false, names(&["m1"], &[], "x"), true),
            (Some("m1"), false, false, names(&["other"], &[], "M1"), true),
            (Some("m1.lan"), false, false, names(&["*.lan"], &[], "x"), false),
            (Some("m1"), false, false, names(&[], &["10.0.0.1"], "x"), false),
            (Some("m1"), true, false, names(&[], &["10.0.0.1"], "x"), true),
            (Some("m1"), true, false, names(&[], &["10.0.0.2"], "x"), false),
            (None, true, false, names(&[], &["10.0.0.1"], "x"), true),
            (None, true, false, names(&["m1"], &["10.0.0.2"], "x"), false),
            (None, false, false, names(&["m1"], &[], "x"), true),
            (None, false, true, names(&["m1"], &[], "x"), false),
        ] {
            let settings =
                Settings { verify_ipadd, require_client_cert: require, ..Settings::default() };
            let checked = check_legacy(&settings, &names, host, Some(ip));
            assert_eq!(checked.is_ok(), fits, "{host:?} {names:?}: {checked:?}");
        }
    }
}
