//! Handshakes between two ends.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// An authority, `<name>.pem` in a directory.
struct Authority(TempDir, CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        // Of one name they would be taken for each other until a signature does not fit.
        let name = directory.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self(directory, issuer)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Settings of one who has a certificate of these addresses and trusts this authority.
    fn issue(&self, name: &str, addresses: &[&str]) -> Settings {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let addresses =
            addresses.iter().map(|address| SanType::IpAddress(address.parse().unwrap()));
        params.subject_alt_names.extend(addresses);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.1).unwrap();
        let (key_file, cert_file) =
            (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        std::fs::write(&cert_file, certificate.pem()).unwrap();
        Settings {
            key_file: Some(key_file),
            cert_file: Some(cert_file),
            ca_file: Some(self.path("ca.pem")),
            verify_server_cert: true,
            verify_ipadd: true,
            scheme: Scheme::OpenSsl,
            ..Settings::default()
        }
    }
}

/// What the server says of the connection, and the dialler; an empty text where all is well.
async fn meet(server: &Settings, client: &Settings) -> (String, String) {
    let server = Tls::new(server.clone()).unwrap();
    let client = Tls::new(client.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let mut stream = server.accept(listener.accept().await?.0).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    };
    let dialling = async {
        let mut stream = client.connect(address).await?;
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

#[tokio::test]
async fn servers_are_checked_by_their_chain_and_their_address() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.issue("server", &["127.0.0.1"]);
    let elsewhere = authority.issue("elsewhere", &["127.0.0.2"]);
    let met = (String::new(), String::new());
    for tls_v1_3 in [false, true] {
        let server = Settings { tls_v1_3, tls_v1_2: !tls_v1_3, ..server.clone() };
        let client = Settings { tls_v1_3: true, ..authority.issue("client", &["127.0.0.1"]) };
        assert_eq!(meet(&server, &client).await, met);
        // One who has no key dials as well.
        let client = Settings { key_file: None, cert_file: None, ..client };
        assert_eq!(meet(&server, &client).await, met);
        let stranger = Settings { ca_file: Some(other.path("ca.pem")), ..client.clone() };
        let (_, reason) = meet(&server, &stranger).await;
        assert!(reason.contains("UnknownIssuer"), "{reason}");
        let careless = Settings { verify_server_cert: false, ..stranger };
        assert_eq!(meet(&server, &careless).await, met);
        let (_, reason) = meet(&Settings { tls_v1_3: true, ..elsewhere.clone() }, &client).await;
        assert_eq!(reason, "the certificate is of 127.0.0.2, not of 127.0.0.1");
        let (_, reason) = meet(&server, &Settings { verify_ipadd: false, ..client }).await;
        assert!(reason.contains("LIBPROCESS_SSL_VERIFY_IPADD"), "{reason}");
    }
}

#[tokio::test]
async fn who_dials_is_asked_for_a_certificate_where_one_is_required() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server =
        Settings { require_client_cert: true, ..authority.issue("server", &["127.0.0.1"]) };
    let client = authority.issue("client", &[]);
    assert_eq!(meet(&server, &client).await, (String::new(), String::new()));
    let nameless = Settings { key_file: None, cert_file: None, ..client.clone() };
    assert_eq!(meet(&server, &nameless).await.0, "it shows no certificate");
    let foreign = other.issue("client", &["127.0.0.1"]);
    let foreign = Settings { ca_file: client.ca_file.clone(), ..foreign };
    assert!(meet(&server, &foreign).await.0.contains("UnknownIssuer"));
    // The other scheme asks for the address as well.
    let server = Settings { scheme: Scheme::Legacy, ..server };
    let reason = meet(&server, &client).await.0;
    assert!(reason.contains("the certificate is of client, not of "), "{reason}");
    let client = authority.issue("client", &["127.0.0.1"]);
    assert_eq!(meet(&server, &client).await, (String::new(), String::new()));
}

#[tokio::test]
async fn without_tls_one_is_met_only_where_that_is_allowed() {
    let authority = Authority::new();
    let settings = authority.issue("server", &["127.0.0.1"]);
    let lenient = Settings { support_downgrade: true, ..settings.clone() };
    for (settings, is_taken) in [(&settings, false), (&lenient, true)] {
        let tls = Tls::new(settings.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut plain = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let accepted = tls.accept(listener.accept().await.unwrap().0).await;
        match accepted {
            Ok(Stream::Plain(_)) => assert!(is_taken),
            Ok(Stream::Tls(_)) => panic!("plain text is no TLS"),
            Err(error) => {
                assert!(!is_taken);
                assert_eq!(error.to_string(), "it speaks no TLS");
            }
        }
        // A server that speaks none: the second connection is the plain one.
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let mut hello = [0; 64];
            assert!(first.read(&mut hello).await.unwrap() > 0);
            assert_eq!(hello[0], HANDSHAKE);
            first.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            drop(first);
            if is_taken {
                listener.accept().await.unwrap();
            }
        };
        let (dialled, ()) = tokio::join!(tls.connect(address), serving);
        assert_eq!(matches!(dialled, Ok(Stream::Plain(_))), is_taken, "{dialled:?}");
    }
    // One who is refused is not dialled again.
    let stranger = Settings { ca_file: Some(Authority::new().path("ca.pem")), ..lenient.clone() };
    let error = Tls::new(stranger).unwrap_err().to_string();
    assert!(error.contains("LIBPROCESS_SSL_CA_FILE"), "its directory is gone: {error}");
    let other = Authority::new();
    let stranger = Settings { ca_file: Some(other.path("ca.pem")), ..lenient.clone() };
    assert!(meet(&lenient, &stranger).await.1.contains("UnknownIssuer"));
}

#[test]
fn files_are_refused_by_name() {
    let authority = Authority::new();
    let settings = authority.issue("server", &[]);
    std::fs::write(authority.path("empty"), "").unwrap();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(authority.path("encrypted"), encrypted).unwrap();
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        Tls::new(settings).unwrap_err().to_string()
    };
    let at = |name: &str| Some(authority.path(name));
    let text = with(&|settings| settings.key_file = at("none"));
    assert!(
        text.starts_with("LIBPROCESS_SSL_KEY_FILE: ") && text.contains("/none: No such"),
        "{text}"
    );
    let text = with(&|settings| settings.key_file = at("empty"));
    assert!(text.contains("there is no private key in it"), "{text}");
    let text = with(&|settings| settings.key_file = at("encrypted"));
    assert!(text.contains("the key is encrypted"), "{text}");
    let text = with(&|settings| settings.cert_file = at("empty"));
    assert!(text.contains("LIBPROCESS_SSL_CERT_FILE") && text.contains("no certificate"), "{text}");
    let text = with(&|settings| settings.ca_file = at("empty"));
    assert!(text.contains("LIBPROCESS_SSL_CA_FILE") && text.contains("no certificate"), "{text}");
    authority.issue("other", &[]);
    let text = with(&|settings| settings.key_file = at("other.key"));
    assert!(text.starts_with("LIBPROCESS_SSL_KEY_FILE: "), "another certificate's key: {text}");
}

#[tokio::test]
async fn a_directory_of_authorities_may_hold_other_things() {
    let authority = Authority::new();
    let server = authority.issue("server", &["127.0.0.1"]);
    std::fs::write(authority.path("readme"), "no certificate").unwrap();
    let client = Settings {
        ca_file: None,
        ca_dir: Some(authority.0.path().to_owned()),
        ..authority.issue("client", &[])
    };
    assert_eq!(meet(&server, &client).await, (String::new(), String::new()));
}
