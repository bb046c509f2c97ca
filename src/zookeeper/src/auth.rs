//! Who clients may prove to be: the schemes there are, and what each takes (`ProviderRegistry` and its providers).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jute::records::Id;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use crate::sasl::digest_md5::Users;
use crate::tls;

/// The hash of the scheme `digest` (`DigestAuthenticationProvider.digestAlg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DigestAlgorithm {
    /// `MD5`.
    Md5,
    /// `SHA1`, `SHA-1`, `SHA`: the one that all clients know.
    #[default]
    Sha1,
    /// `SHA-224`.
    Sha224,
    /// `SHA-256`.
    Sha256,
    /// `SHA-384`.
    Sha384,
    /// `SHA-512`.
    Sha512,
}

impl DigestAlgorithm {
    /// The algorithm of Java's name for it.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "MD5" => Some(Self::Md5),
            "SHA" | "SHA1" | "SHA-1" => Some(Self::Sha1),
            "SHA-224" => Some(Self::Sha224),
            "SHA-256" => Some(Self::Sha256),
            "SHA-384" => Some(Self::Sha384),
            "SHA-512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The id that `user:password` proves: `user:base64(hash(user:password))`.
    pub fn id(self, user_and_password: &str) -> String {
        let user = user_and_password.split(':').next().unwrap_or_default();
        let bytes = user_and_password.as_bytes();
        let hash = match self {
            Self::Md5 => Md5::digest(bytes).to_vec(),
            Self::Sha1 => Sha1::digest(bytes).to_vec(),
            Self::Sha224 => Sha224::digest(bytes).to_vec(),
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        };
        format!("{user}:{}", STANDARD.encode(hash))
    }
}

/// The schemes, and what each is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `digest`, unless it is switched off.
    pub digest: Option<DigestAlgorithm>,
    /// The `user:hash` that is the super user.
    pub super_digest: Option<String>,
    /// Whether ACLs may have certificates' subjects: `x509`.
    pub x509: bool,
    /// The subject that is the super user.
    pub x509_super_user: Option<String>,
    /// Whether ACLs may have `sasl` ids.
    pub sasl: bool,
    /// Who may prove who they are by SASL; none where it is not set up.
    pub sasl_users: Option<Users>,
    /// SASL names that are the super user.
    pub sasl_super_users: Vec<String>,
    /// The name in an ACL that stands for any SASL user (`letAnySaslUserDoX`).
    pub sasl_any_user: Option<String>,
    /// Whether a client whose SASL failed is served all the same (`allowSaslFailedClients`).
    pub allows_failed_sasl: bool,
    /// The scheme `ensemble`: what clients may call the ensemble; anything if none is given.
    pub ensemble: Option<Vec<String>>,
    /// Schemes of which a client must have proven one before it is served.
    pub enforced: Option<Vec<String>>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            digest: Some(DigestAlgorithm::default()),
            super_digest: None,
            x509: false,
            x509_super_user: None,
            sasl: false,
            sasl_users: None,
            sasl_super_users: Vec::new(),
            sasl_any_user: None,
            allows_failed_sasl: false,
            ensemble: None,
            enforced: None,
        }
    }
}

/// What an auth packet leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// These ids are proven.
    Proven(Vec<Id>),
    /// The client is told, then its connection is closed.
    Refused,
    /// The connection is closed, so that the client tries another server.
    Closed,
}

fn id(scheme: &str, id: impl Into<String>) -> Id {
    Id { scheme: scheme.to_owned(), id: id.into() }
}

impl Auth {
    /// Whether there is a scheme.
    pub fn has(&self, scheme: &str) -> bool {
        match scheme {
            "ip" => true,
            "digest" => self.digest.is_some(),
            "x509" => self.x509,
            "sasl" => self.sasl,
            "ensemble" => self.ensemble.is_some(),
            _ => false,
        }
    }

    /// Whether an id of a scheme says who one is: `auth` in an ACL stands for those.
    pub fn is_proof(&self, scheme: &str) -> bool {
        matches!(scheme, "digest" | "x509" | "sasl") && self.has(scheme)
    }

    /// What an auth packet proves (`AuthenticationProvider.handleAuthentication`). `proven` are the ids so far.
    pub fn authenticate(&self, scheme: &str, data: Option<&[u8]>, proven: &[Id]) -> Outcome {
        let text = || String::from_utf8_lossy(data.unwrap_or_default());
        match scheme {
            "ip" => Outcome::Proven(Vec::new()),
            "digest" => match self.digest.filter(|_| data.is_some()) {
                None => Outcome::Refused,
                Some(algorithm) => {
                    let digest = algorithm.id(&text());
                    let is_super = self.super_digest.as_ref() == Some(&digest);
                    let all = is_super.then(|| id("super", "")).into_iter();
                    Outcome::Proven(all.chain([id("digest", digest)]).collect())
                }
            },
            // The handshake has proven it, or nothing does.
            "x509" if self.x509 && proven.iter().any(|id| id.scheme == "x509") => {
                Outcome::Proven(Vec::new())
            }
            "ensemble" => match &self.ensemble {
                None => Outcome::Refused,
                Some(names)
                    if data.is_none_or(<[u8]>::is_empty)
                        || names.is_empty()
                        || names.iter().any(|name| *name == text()) =>
                {
                    Outcome::Proven(Vec::new())
                }
                Some(_) => Outcome::Closed,
            },
            _ => Outcome::Refused,
        }
    }

    /// The part of an id that names its user (`AuthUtil.getUser`); nothing for schemes that are not there.
    pub fn user<'a>(&self, id: &'a Id) -> &'a str {
        match id.scheme.as_str() {
            "digest" => id.id.split(':').next().unwrap_or_default(),
            scheme if self.has(scheme) => &id.id,
            _ => "",
        }
    }

    /// Ids of a client whose certificate has this subject.
    pub fn of_subject(&self, subject: &str) -> Vec<Id> {
        let is_super = self.x509_super_user.as_deref() == Some(subject);
        let all = is_super.then(|| id("super", subject)).into_iter();
        all.chain([id("x509", subject)]).collect()
    }

    /// Ids of a client that has proven its name by SASL.
    pub fn of_sasl_user(&self, name: &str) -> Vec<Id> {
        let is_super = self.sasl_super_users.iter().any(|known| known == name);
        [id("sasl", name)].into_iter().chain(is_super.then(|| id("super", ""))).collect()
    }

    /// Whether ids are enough to be served.
    pub fn is_enough(&self, ids: &[Id]) -> bool {
        self.enforced
            .as_ref()
            .is_none_or(|schemes| ids.iter().any(|id| schemes.contains(&id.scheme)))
    }

    /// Whether one must prove by SASL who one is.
    pub fn is_sasl_enforced(&self) -> bool {
        self.enforced.as_ref().is_some_and(|schemes| schemes.iter().any(|scheme| scheme == "sasl"))
    }

    /// Whether an id may stand in an ACL.
    pub fn is_valid(&self, id: &Id) -> bool {
        if id.scheme == "world" {
            return id.id == "anyone";
        }
        self.has(&id.scheme)
            && match id.scheme.as_str() {
                "digest" => java_parts(&id.id) == 2,
                "ip" => Network::parse(&id.id).is_some(),
                "x509" => tls::is_name(&id.id),
                "sasl" => is_principal(&id.id),
                _ => false,
            }
    }

    /// Whether a client's id is the one of an ACL's entry of the same scheme.
    pub fn is_match(&self, scheme: &str, own: &str, entry: &str) -> bool {
        match scheme {
            "ip" => Network::parse(entry)
                .zip(Network::parse(own))
                .is_some_and(|(network, own)| network.holds(own.address)),
            "x509" => own == entry || self.x509_super_user.as_deref() == Some(own),
            "sasl" => {
                own == "super" || own == entry || self.sasl_any_user.as_deref() == Some(entry)
            }
            _ => own == entry,
        }
    }
}

/// The number of parts between colons, as Java splits: empty ones at the end don't count.
fn java_parts(text: &str) -> usize {
    let trimmed = text.trim_end_matches(':');
    if trimmed.is_empty() { usize::from(text.is_empty()) } else { trimmed.split(':').count() }
}

/// Whether a name is one of Kerberos, or of nothing (`KerberosName`): `service[/host]@REALM`, or anything without `@`.
fn is_principal(name: &str) -> bool {
    match name.split_once('@') {
        None => true,
        Some((left, realm)) => !realm.contains(['@', '/']) && left.split('/').count() <= 2,
    }
}

/// `a.b.c.d/bits`: what the original knows of networks is IPv4.
struct Network {
    address: u32,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text, 32),
            Some((address, bits)) => (address, java_int(bits)?),
        };
        let mut octets = address.split('.').map(java_int);
        let mut number = 0;
        for _ in 0..4 {
            let octet = octets.next()??;
            number = number << 8 | u32::from(u8::try_from(octet).ok()?);
        }
        let bits = u32::try_from(bits).ok().filter(|bits| *bits <= 32)?;
        octets.next().is_none().then_some(Self { address: number, bits })
    }

    fn holds(&self, address: u32) -> bool {
        let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
        address & mask == self.address & mask
    }
}

/// `Integer.parseInt`: a sign and leading zeros are taken.
fn java_int(text: &str) -> Option<i32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn digests_are_the_originals() {
        assert_eq!(DigestAlgorithm::Sha1.id("super:admin"), "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
        assert_eq!(DigestAlgorithm::Sha1.id("abc"), "abc:qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
        // `printf u:p | openssl dgst -binary -sha512 | base64`, and so on.
        for (name, hash) in [
            ("MD5", "wj9ntl1lUHd6RGlGHs+1Hg=="),
            ("SHA-256", "/Y8xRBngpX5duYn15uUqIRaIaCviy5TEwSk419hCwuA="),
        ] {
            let id = DigestAlgorithm::named(name).unwrap().id("u:p");
            assert_eq!(id, format!("u:{hash}"), "{name}");
        }
        assert_eq!(DigestAlgorithm::named("SHA3-256"), None);
    }

    #[test]
    fn packets_prove_what_their_scheme_says() {
        let mut auth = Auth {
            super_digest: Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs=".into()),
            ..Auth::default()
        };
        let digest = id("digest", "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
        assert_eq!(
            auth.authenticate("digest", Some(b"super:admin"), &[]),
            Outcome::Proven(vec![id("super", ""), digest])
        );
        assert_eq!(auth.authenticate("ip", None, &[]), Outcome::Proven(vec![]));
        assert_eq!(auth.authenticate("digest", None, &[]), Outcome::Refused);
        for scheme in ["world", "super", "auth", "sasl", "x509", "ensemble", "nonsense"] {
            assert_eq!(auth.authenticate(scheme, Some(b"a:b"), &[]), Outcome::Refused, "{scheme}");
        }
        (auth.x509, auth.sasl, auth.ensemble) = (true, true, Some(vec!["prod".into()]));
        assert_eq!(auth.authenticate("x509", Some(b""), &[]), Outcome::Refused);
        assert_eq!(
            auth.authenticate("x509", Some(b""), &[id("x509", "CN=a")]),
            Outcome::Proven(vec![])
        );
        assert_eq!(auth.authenticate("sasl", Some(b""), &[]), Outcome::Refused);
        assert_eq!(auth.authenticate("ensemble", Some(b"prod"), &[]), Outcome::Proven(vec![]));
        assert_eq!(auth.authenticate("ensemble", Some(b"test"), &[]), Outcome::Closed);
        auth.digest = None;
        assert_eq!(auth.authenticate("digest", Some(b"a:b"), &[]), Outcome::Refused);
    }

    #[test]
    fn super_users_of_tls_and_sasl_are_known() {
        let auth = Auth {
            x509_super_user: Some("CN=root".into()),
            sasl_super_users: vec!["admin".into()],
            ..Auth::default()
        };
        let root = [id("super", "CN=root"), id("x509", "CN=root")];
        assert_eq!(auth.of_subject("CN=root"), root);
        assert_eq!(auth.of_subject("CN=a"), [id("x509", "CN=a")]);
        assert_eq!(auth.of_sasl_user("admin"), [id("sasl", "admin"), id("super", "")]);
        assert_eq!(auth.of_sasl_user("bob"), [id("sasl", "bob")]);
    }

    #[test]
    fn ids_are_valid_where_the_original_takes_them() {
        let plain = Auth::default();
        let all = Auth { x509: true, sasl: true, ensemble: Some(vec![]), ..Auth::default() };
        for (scheme, text, in_plain, in_all) in [
            ("world", "anyone", true, true),
            ("world", "me", false, false),
            ("digest", "u:h", true, true),
            ("digest", "u", false, false),
            ("digest", "u:", false, false),
            ("digest", ":h", true, true),
            ("digest", "u:h:", true, true),
            ("digest", "u:h:x", false, false),
            ("ip", "10.0.0.1", true, true),
            ("ip", "010.0.0.01", true, true),
            ("ip", "10.0.0.0/8", true, true),
            ("ip", "10.0.0.0/0", true, true),
            ("ip", "10.0.0.0/33", false, false),
            ("ip", "10.0.0.0/-1", false, false),
            ("ip", "10.0.0.0/8/9", false, false),
            ("ip", "10.0.0.256", false, false),
            ("ip", "10.0.0", false, false),
            ("ip", "10.0.0.1.", false, false),
            ("ip", "::1", false, false),
            ("x509", "CN=a,O=b", false, true),
            ("x509", "a", false, false),
            ("sasl", "bob", false, true),
            ("sasl", "zk/host@REALM", false, true),
            ("sasl", "a/b/c@R", false, false),
            ("sasl", "a@b@c", false, false),
            ("ensemble", "x", false, false),
            ("super", "", false, false),
            ("nonsense", "x", false, false),
        ] {
            let id = id(scheme, text);
            assert_eq!((plain.is_valid(&id), all.is_valid(&id)), (in_plain, in_all), "{id:?}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let auth = Auth::default();
        for (own, entry, holds) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.0.0/16", true),
            ("10.1.2.3", "10.1.2.255/23", true),
            ("10.1.2.3", "10.2.0.0/16", false),
            ("10.1.2.3", "11.0.0.0/0", true),
            ("10.1.2.3", "010.1.2.3", true),
            ("0:0:0:0:0:0:0:1", "0:0:0:0:0:0:0:1", false),
            ("10.1.2.3", "nonsense", false),
        ] {
            assert_eq!(auth.is_match("ip", own, entry), holds, "{own} {entry}");
        }
    }

    #[test]
    fn schemes_that_are_enforced_must_be_proven() {
        let auth = Auth {
            sasl_users: Some([("bob".to_owned(), Secret::new("x"))].into()),
            enforced: Some(vec!["digest".into(), "x509".into()]),
            ..Auth::default()
        };
        assert!(!auth.is_enough(&[id("ip", "10.0.0.1"), id("sasl", "bob")]));
        assert!(auth.is_enough(&[id("ip", "10.0.0.1"), id("x509", "CN=a")]));
        assert!(!auth.is_sasl_enforced());
        assert!(Auth::default().is_enough(&[]));
    }
}
