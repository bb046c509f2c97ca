//! What proves who somebody is, what an operator asks by HTTP, and what the ensemble is to be.

use super::run;
use crate::quorum::configuration::Configuration;
use crate::sasl::digest_md5::{Answer, Authorization, Client, Server};
use crate::sasl::jaas::Jaas;
use crate::sasl::{MEMBERS, Service};
use crate::secret::Secret;
use crate::{tls, words};

const LOGINS: &str = "Server {\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n  user_bob=\"secret\"\n  user_ann=\"other\";\n};\n// a comment\nQuorumLearner { org.apache.zookeeper.server.auth.DigestLoginModule required username=\"bob\" password=\"secret\"; };\n";
const NONCE: &str = "bm9uY2U=";

fn client(service: Service) -> Client {
    Client::new(service, "bob".to_owned(), Secret::new("secret"), "cnonce".to_owned())
}

fn challenge(service: Service) -> (Server, Vec<u8>) {
    let users = Jaas::parse(LOGINS).unwrap().users("Server").unwrap();
    let mut server = Server::new(service, NONCE.to_owned(), Authorization::Itself);
    let Ok(Answer::Challenge(challenge)) = server.evaluate(b"", &users) else {
        panic!("an exchange begins with a challenge");
    };
    (server, challenge)
}

#[test]
fn tokens() {
    let users = Jaas::parse(LOGINS).unwrap().users("Server").unwrap();
    let (_, asked) = challenge(MEMBERS);
    let response = client(MEMBERS).respond(&asked).unwrap();
    run("tokens of SASL", &[asked, response], 200, |input| {
        let (mut server, _) = challenge(MEMBERS);
        let _ = server.evaluate(input, &users);
        assert!(server.evaluate(input, &users).is_err(), "an exchange is over after one response");
        let mut one = client(MEMBERS);
        let _ = one.respond(input);
        assert!(one.finish(input).is_err(), "nobody here knows what the server would answer");
    });
}

#[test]
fn logins() {
    run("logins", &[LOGINS.as_bytes().to_vec()], 200, |input| {
        if let Ok(logins) = Jaas::parse(&String::from_utf8_lossy(input)) {
            let _ = (logins.users("Server"), logins.credentials("QuorumLearner"));
        }
    });
}

/// A certificate's subject becomes the client's name, and must be one.
#[test]
fn certificates() {
    let mut params = rcgen::CertificateParams::default();
    for (kind, text) in [
        (rcgen::DnType::CommonName, "a, b+c=\"d\""),
        (rcgen::DnType::OrganizationName, " #e\\ "),
        (rcgen::DnType::CountryName, "DE"),
    ] {
        params.distinguished_name.push(kind, text);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    run(
        "certificates",
        &[certificate, b"CN=a\\, b,O=\"x\",1.2.3=#0401ff".to_vec()],
        200,
        |input| {
            let _ = tls::subject(input);
            let _ = tls::is_name(&String::from_utf8_lossy(input));
        },
    );
}

#[test]
fn ensembles() {
    let text = |text: &str| text.as_bytes().to_vec();
    let corpus = [
        text("server.1=a:1:2:participant;0.0.0.0:3\nserver.2=[::1]:1:2|b:3:4:observer\nversion=1f"),
        text("server.1=a:1:2\nserver.2=a:3:4\nserver.3=a:5:6\ngroup.1=1:2\ngroup.2=3\nweight.3=0"),
        text("server.4=d:7:8;9,server.5=e:1:2:observer"),
        text("1,2,server.3"),
    ];
    let three = Configuration::for_tests(3, 1);
    run("ensembles", &corpus, 1000, |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(configuration) = Configuration::parse(&text) {
            let again = Configuration::parse(&configuration.to_string());
            assert_eq!(again.ok(), Some(configuration), "what is written is read the same");
        }
        let (joining, leaving) = text.split_at(text.floor_char_boundary(text.len() / 2));
        let _ = three.changed(joining, leaving);
        let _ = three.changed(&text, "");
    });
}

/// What an administrator's URL and the first bytes of a client become.
#[test]
fn questions() {
    let text = |text: &str| text.as_bytes().to_vec();
    let corpus =
        [text("stat"), text("/commands/%73tat?traceMask=%31&x=+"), text("set_trace_mask%2")];
    run("questions", &corpus, 100, |input| {
        if let Some(first) = input.first_chunk() {
            let _ = words::is_word(first);
        }
        let text = String::from_utf8_lossy(input);
        let decoded = web::respond::percent_decode(&text);
        assert!(decoded.len() <= 3 * text.len());
        let _ = web::respond::query_parameter(Some(&text), "traceMask");
    });
}
