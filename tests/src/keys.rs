//! Certificates for tests, made anew each time.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
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
        self.sign(name, hosts, |_| {})
    }

    /// One whose time is over.
    pub fn issue_expired(&self, name: &str, hosts: &[&str]) -> PathBuf {
        self.sign(name, hosts, |params| {
            (params.not_before, params.not_after) =
                (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        })
    }

    /// One with this serial number, which says where the lists of revoked ones are.
    pub fn issue_listed(&self, name: &str, serial: u64, places: &[String]) -> PathBuf {
        self.sign(name, &[], |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            let points =
                places.iter().map(|place| CrlDistributionPoint { uris: vec![place.clone()] });
            params.crl_distribution_points = points.collect();
        })
    }

    /// A list that takes back those with these serial numbers, in DER.
    ///
    /// # Panics
    /// When it can't be signed.
    #[must_use]
    pub fn revoke(&self, serials: &[u64]) -> Vec<u8> {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").der().to_vec()
    }

    fn sign(
        &self,
        name: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> PathBuf {
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
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = self.path(name);
        std::fs::write(&path, key.serialize_pem() + &certificate.pem()).expect("a file");
        path
    }
}
