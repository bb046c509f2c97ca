//! Handshakes between two ends, and the files that they read.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::secret::Secret;

const PASSWORD: &str = "changeit";

fn file(path: &Path, password: &str) -> File {
    let kind = Kind::of(None, path).unwrap();
    File { path: path.to_owned(), password: Secret::new(password), kind }
}

/// A file that Java's keytool and OpenSSL made.
fn made(name: &str) -> File {
    file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls").join(name), PASSWORD)
}

fn settings(key_store: File, trust_store: Option<File>) -> Settings {
    Settings {
        key_store: Some(key_store),
        trust_store,
        client_auth: ClientAuth::Need,
        versions: vec![Version::Tls12],
        suites: Vec::new(),
        checks_servers: true,
        checks_clients: false,
        asks_names: false,
        reloads: false,
        checks_revocation: false,
    }
}

/// How both ends see a connection: an empty text, or the reason why it fails.
async fn meet(server: &Tls, client: &Tls) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    let accepting = async {
        let mut stream = server.accept(accepted.unwrap().0).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    };
    let dialling = async {
        let mut stream = client.connect(dialled.unwrap(), "localhost").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        assert_eq!(text, "hello");
        Ok::<_, io::Error>(())
    };
    let (accepted, dialled) = tokio::join!(accepting, dialling);
    let reason =
        |ended: io::Result<()>| ended.err().map_or_else(String::new, |error| error.to_string());
    (reason(accepted), reason(dialled))
}

fn met() -> (String, String) {
    (String::new(), String::new())
}

#[tokio::test]
async fn stores_of_all_kinds_are_read() {
    let reference = Tls::new(settings(made("server.p12"), Some(made("trusted.p12")))).unwrap();
    for (key_store, trust_store) in [
        ("server.jks", "trusted.jks"),
        ("server.p12", "trusted.p12"),
        ("legacy.p12", "trusted.jks"),
        ("encrypted.pem", "encrypted.pem"),
    ] {
        let tls = Tls::new(settings(made(key_store), Some(made(trust_store)))).unwrap();
        assert_eq!(meet(&reference, &tls).await, met(), "{key_store} {trust_store}");
        assert_eq!(meet(&tls, &reference).await, met(), "{key_store} {trust_store}");
    }
}

#[test]
fn stores_that_can_not_be_used_are_named_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        file(&path, PASSWORD)
    };
    let wrong = |name: &str| File { password: Secret::new("wrong"), ..made(name) };
    let jks = std::fs::read(made("server.jks").path).unwrap();
    let mut damaged = jks.clone();
    damaged[100] ^= 1;
    let pem = std::fs::read_to_string(made("encrypted.pem").path).unwrap();
    let (key, certificate) = pem.split_at(pem.find("-----BEGIN CERTIFICATE").unwrap());
    for (store, reason) in [
        (wrong("server.jks"), "the password is wrong, or the file is damaged"),
        (wrong("server.p12"), "is the password right?"),
        (wrong("encrypted.pem"), "the password does not open the private key"),
        (write("damaged.jks", &damaged), "the password is wrong, or the file is damaged"),
        (write("short.jks", &jks[..10]), "it is cut off"),
        (made("trusted.jks"), "there is no private key in it"),
        (write("key.pem", key.as_bytes()), "no certificate for the private key"),
        (write("certificate.pem", certificate.as_bytes()), "there is no private key in it"),
        (write("garbage.p12", b"garbage"), "not read as PKCS#12"),
        (file(&directory.path().join("missing.pem"), ""), "No such file"),
    ] {
        let error = store.identity().unwrap_err().to_string();
        let name = store.path.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(reason) && error.contains(name), "{name}: {error}");
    }
    let error = made("server.jks").trusted().unwrap_err().to_string();
    assert!(error.contains("no certificate in it that is marked as trusted"), "{error}");
}

/// One who issues certificates for tests.
struct Authority(CertifiedIssuer<'static, KeyPair>, TempDir);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap());
        Self(issuer.unwrap(), TempDir::new().unwrap())
    }

    fn trust_store(&self) -> File {
        let path = self.1.path().join("trusted.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        file(&path, "")
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> File {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let path = self.1.path().join(format!("{name}.pem"));
        std::fs::write(&path, key.serialize_pem() + &certificate.pem()).unwrap();
        file(&path, "")
    }

    /// One end that trusts this one's certificates and has this one.
    fn end(&self, key_store: File) -> Settings {
        settings(key_store, Some(self.trust_store()))
    }
}

#[tokio::test]
async fn only_good_certificates_are_accepted() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let good = authority.issue("good", |_| {});
    let server = Tls::new(authority.end(good.clone())).unwrap();
    let expired = authority.issue("expired", |params| {
        (params.not_before, params.not_after) =
            (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    });
    let early = authority.issue("early", |params| {
        (params.not_before, params.not_after) =
            (date_time_ymd(3001, 1, 1), date_time_ymd(3002, 1, 1));
    });
    let only_server = authority.issue("only-server", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (key_store, reason) in [
        (good.clone(), ""),
        (expired.clone(), "expired"),
        (early, "not valid yet"),
        (other.issue("foreign", |_| {}), "UnknownIssuer"),
        (only_server, "extended key usage"),
    ] {
        let client = Tls::new(authority.end(key_store.clone())).unwrap();
        let (accepted, _) = meet(&server, &client).await;
        let fits = if reason.is_empty() { accepted.is_empty() } else { accepted.contains(reason) };
        assert!(fits, "{}: {accepted}", key_store.path.display());
    }
    let dialling = Tls::new(authority.end(good.clone())).unwrap();
    let old_server = Tls::new(authority.end(expired)).unwrap();
    assert!(meet(&old_server, &dialling).await.1.contains("expired"));
    let elsewhere = authority.issue("elsewhere", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere".try_into().unwrap())];
    });
    let elsewhere = Tls::new(authority.end(elsewhere)).unwrap();
    let (_, dialled) = meet(&elsewhere, &dialling).await;
    assert_eq!(dialled, "the certificate is of elsewhere, not of localhost or 127.0.0.1");
    let careless =
        Tls::new(Settings { checks_servers: false, ..authority.end(good.clone()) }).unwrap();
    assert_eq!(meet(&elsewhere, &careless).await, met());
    let strict = Settings { checks_clients: true, ..authority.end(good) };
    let (accepted, _) = meet(&Tls::new(strict).unwrap(), &elsewhere).await;
    assert_eq!(accepted, "the certificate is of elsewhere, not of 127.0.0.1");
}

#[tokio::test]
async fn a_certificate_that_is_trusted_itself_needs_no_other() {
    let (authority, alone) = (Authority::new("one"), Authority::new("other"));
    let path = alone.1.path().join("alone.pem");
    std::fs::write(&path, alone.0.key().serialize_pem() + &alone.0.pem()).unwrap();
    let itself = file(&path, "");
    let server = settings(authority.issue("good", |_| {}), Some(alone.trust_store()));
    let client = Settings { checks_servers: false, ..authority.end(itself) };
    let (accepted, _) = meet(&Tls::new(server).unwrap(), &Tls::new(client).unwrap()).await;
    assert_eq!(accepted, "", "though it may issue others");
}

#[tokio::test]
async fn a_client_needs_no_certificate_where_none_is_asked_for() {
    let authority = Authority::new("one");
    let nameless = Settings { key_store: None, ..authority.end(authority.issue("good", |_| {})) };
    let client = Tls::new(nameless).unwrap();
    for (client_auth, reason) in [
        (ClientAuth::None, ""),
        (ClientAuth::Want, ""),
        (ClientAuth::Need, "it shows no certificate"),
    ] {
        let server = authority.end(authority.issue("server", |_| {}));
        let server = Tls::new(Settings { client_auth, ..server }).unwrap();
        assert_eq!(meet(&server, &client).await.0, reason, "{client_auth:?}");
    }
    let (accepted, _) = meet(&client, &client).await;
    assert_eq!(accepted, "there is no key store to accept connections with");
}

/// Serves these bytes over HTTP; where.
async fn served(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}/list.crl", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
            stream.write_all(&[head.as_bytes(), &bytes].concat()).await.unwrap();
        }
    });
    place
}

#[tokio::test]
async fn certificates_that_were_taken_back_are_refused_where_that_is_asked() {
    let authority = Authority::new("one");
    let list = |until| {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(66),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: until,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&authority.0).unwrap()
    };
    let newest = list(date_time_ymd(3000, 1, 1));
    let place = served(newest.der().to_vec()).await;
    let as_text = served(newest.pem().unwrap().into_bytes()).await;
    let old = served(list(date_time_ymd(2021, 1, 1)).der().to_vec()).await;
    let other = served(b"nothing of that kind".to_vec()).await;
    let issue = |name: &str, serial: u64, places: &[&str]| {
        authority.issue(name, |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            params.crl_distribution_points = places
                .iter()
                .map(|place| CrlDistributionPoint { uris: vec![(*place).to_owned()] })
                .collect();
        })
    };
    let server = authority.end(issue("server", 1, &[&place]));
    let strict = Tls::new(Settings { checks_revocation: true, ..server }).unwrap();
    for (serial, places, reason) in [
        (2, vec![place.as_str()], ""),
        (3, vec![as_text.as_str()], ""),
        (66, vec![place.as_str()], "Revoked"),
        (66, vec![as_text.as_str()], "Revoked"),
        (4, vec![], "names no list"),
        (5, vec![old.as_str()], "expired"),
        (6, vec![other.as_str()], "it is no list of revoked certificates"),
        (7, vec!["http://127.0.0.1:1/none.crl"], "can't be told"),
    ] {
        let end = authority.end(issue("client", serial, &places));
        let client = Tls::new(end.clone()).unwrap();
        let (accepted, _) = meet(&strict, &client).await;
        let fits = if reason.is_empty() {
            accepted.is_empty()
        } else {
            accepted.to_lowercase().contains(&reason.to_lowercase())
        };
        assert!(fits, "{serial} {places:?}: {accepted}");
        // The same when it is the one that is dialled.
        let (_, dialled) = meet(&client, &strict).await;
        assert_eq!(dialled.is_empty(), reason.is_empty(), "{serial} {places:?}: {dialled}");
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_apart() {
    let authority = Authority::new("one");
    let server = Tls::new(authority.end(authority.issue("good", |_| {}))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    dialled.write_all(b"ruok\n and more").await.unwrap();
    let error = server.accept(listener.accept().await.unwrap().0).await.unwrap_err();
    assert_eq!(error.to_string(), "it speaks no TLS");
}

#[tokio::test]
async fn versions_and_suites_are_those_of_the_configuration() {
    let authority = Authority::new("one");
    let with = |versions: &[Version], suites: &[&str]| {
        let suites = suites.iter().map(|suite| (*suite).to_owned()).collect();
        let versions = versions.to_vec();
        Settings { versions, suites, ..authority.end(authority.issue("good", |_| {})) }
    };
    let (old, new) = ([Version::Tls12], [Version::Tls13]);
    let both = [Version::Tls12, Version::Tls13];
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    for (server, client, meets) in [
        (with(&old, &[]), with(&new, &[]), false),
        (with(&old, &[]), with(&both, &[]), true),
        (with(&new, &[]), with(&both, &[]), true),
        (with(&old, &[suite, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"]), with(&old, &[]), true),
        (with(&old, &[suite]), with(&old, &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]), false),
    ] {
        let seen = meet(&Tls::new(server).unwrap(), &Tls::new(client).unwrap()).await;
        assert_eq!(seen == met(), meets, "{seen:?}");
    }
    let error = Tls::new(with(&old, &["TLS_NONSENSE"])).unwrap_err().to_string();
    assert!(error.contains("none of the cipher suites TLS_NONSENSE is supported"), "{error}");
    assert!(error.contains("TLS_AES_128_GCM_SHA256"), "{error}");
}

#[tokio::test]
async fn changed_files_are_read_again_where_that_is_asked() {
    let (before, after) = (Authority::new("one"), Authority::new("other"));
    let mut settings = before.end(before.issue("server", |_| {}));
    settings.reloads = true;
    let (key_path, trust_path) =
        (settings.key_store.clone().unwrap().path, settings.trust_store.clone().unwrap().path);
    let server = Tls::new(settings).unwrap();
    let client = Tls::new(after.end(after.issue("client", |_| {}))).unwrap();
    assert_ne!(meet(&server, &client).await, met());
    // Garbage changes nothing; then come the other one's files.
    std::fs::write(&key_path, "garbage").unwrap();
    server.look_again();
    let known = Tls::new(before.end(before.issue("known", |_| {}))).unwrap();
    assert_eq!(meet(&server, &known).await, met());
    std::fs::copy(after.issue("server", |_| {}).path, &key_path).unwrap();
    std::fs::copy(after.trust_store().path, &trust_path).unwrap();
    server.look_again();
    assert_eq!(meet(&server, &client).await, met());
}
