//! Certificates for tests, made anew each time.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType, date_time_ymd,
};

/// One who issues certificates.
pub struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, whose certificate is `<directory>/<name>.pem`.
    ///
    /// # Panics
    /// When there is no place for it.
    #[must_use]
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Self { directory: directory.to_owned(), issuer };
        std::fs::write(authority.path(name), authority.issuer.pem()).expect("a file");
        authority
    }

    /// Where a certificate of this name is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    /// A key and a certificate for `CN=<name>,O=Meso` and these hosts, in one file.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> PathBuf {
        self.sign(name, hosts, false)
    }

    /// One whose time is over.
    pub fn issue_expired(&self, name: &str, hosts: &[&str]) -> PathBuf {
        self.sign(name, hosts, true)
    }

    fn sign(&self, name: &str, hosts: &[&str], is_expired: bool) -> PathBuf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Meso");
        params.distinguished_name.push(DnType::CommonName, name);
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName((*host).try_into().expect("a host's name")),
            });
        }
        if is_expired {
            (params.not_before, params.not_after) =
                (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = self.path(name);
        std::fs::write(&path, key.serialize_pem() + &certificate.pem()).expect("a file");
        path
    }
}
