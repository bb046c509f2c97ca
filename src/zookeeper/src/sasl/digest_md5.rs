//! Both ends of DIGEST-MD5, without I/O: tokens go in and out.
//!
//! Challenge → response → `rspauth`. Nonces are given from outside; each is used once.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};

use super::{SaslError, Service};
use crate::secret::Secret;

/// Longest response that is read (`DigestMD5Base.MAX_RESPONSE_LENGTH`), in bytes.
const RESPONSE_MAX: usize = 4096;
/// Longest challenge that is read, in bytes.
const CHALLENGE_MAX: usize = 2048;
/// The number of uses of a nonce, as it is hashed: there is one.
const NONCE_COUNT: &str = "00000001";

/// Names and passwords.
pub type Users = BTreeMap<String, Secret>;

/// Whether a user may act as another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// Whom it wants to act as is passed over (`SaslServerCallbackHandler`).
    Ignored,
    /// It may only be itself (`SaslQuorumServerCallbackHandler`).
    Itself,
}

/// The end that asks.
#[derive(Debug, Clone)]
pub struct Server {
    service: Service,
    nonce: String,
    authorization: Authorization,
    step: ServerStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerStep {
    Challenge,
    Response,
    Over,
}

/// What the server answers to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A challenge: another token must come.
    Challenge(Vec<u8>),
    /// The last token, and who the other end is.
    Proven(Vec<u8>, String),
}

impl Server {
    /// One exchange. The nonce must never have been used, and must not be guessable.
    pub fn new(service: Service, nonce: String, authorization: Authorization) -> Self {
        Self { service, nonce, authorization, step: ServerStep::Challenge }
    }

    /// Takes a token of the other end. An exchange that has failed or ended takes no more.
    ///
    /// # Errors
    /// When the other end has not proven who it is.
    pub fn evaluate(&mut self, token: &[u8], users: &Users) -> Result<Answer, SaslError> {
        match std::mem::replace(&mut self.step, ServerStep::Over) {
            ServerStep::Challenge => {
                self.step = ServerStep::Response;
                let (realm, nonce) = (self.service.server, &self.nonce);
                let challenge =
                    format!("realm=\"{realm}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                Ok(Answer::Challenge(challenge.into_bytes()))
            }
            ServerStep::Response => self.check(token, users),
            ServerStep::Over => Err(malformed("the exchange is over")),
        }
    }

    fn check(&self, token: &[u8], users: &Users) -> Result<Answer, SaslError> {
        if token.len() > RESPONSE_MAX {
            return Err(malformed(format!("a response of {} bytes", token.len())));
        }
        let directives = Directives::parse(token)?;
        if directives.get("charset").is_some_and(|charset| charset != "utf-8") {
            return Err(malformed("a charset other than utf-8"));
        }
        let username = directives.need("username")?;
        let realm = directives.get("realm").unwrap_or_default();
        if realm != self.service.server {
            return Err(malformed(format!("nonexistent realm {realm:?}")));
        }
        if directives.need("nonce")? != self.nonce {
            return Err(malformed("mismatched nonce"));
        }
        let cnonce = directives.need("cnonce")?;
        if directives.get("qop").is_some_and(|qop| qop != "auth") {
            return Err(malformed("a quality other than auth"));
        }
        let uri = directives.need("digest-uri")?;
        if !uri.eq_ignore_ascii_case(&uri_of(self.service)) {
            return Err(malformed(format!("mismatched URI {uri:?}")));
        }
        let response = directives.need("response")?;
        let authzid = directives.get("authzid");
        let password =
            users.get(username).ok_or_else(|| SaslError::UnknownUser(username.to_owned()))?;
        let proof = Proof {
            username,
            realm,
            password: password.expose(),
            nonce: &self.nonce,
            cnonce,
            uri,
            authzid,
        };
        if !is_same(proof.value("AUTHENTICATE").as_bytes(), response.as_bytes()) {
            return Err(SaslError::WrongPassword(username.to_owned()));
        }
        if self.authorization == Authorization::Itself
            && let Some(wanted) = authzid.filter(|wanted| *wanted != username)
        {
            return Err(SaslError::NotAuthorized {
                user: username.to_owned(),
                wanted: wanted.to_owned(),
            });
        }
        let last = format!("rspauth={}", proof.value(""));
        Ok(Answer::Proven(last.into_bytes(), username.to_owned()))
    }
}

/// The end that proves who it is.
#[derive(Debug, Clone)]
pub struct Client {
    service: Service,
    username: String,
    password: Secret,
    cnonce: String,
    expected: Option<String>,
}

impl Client {
    /// One exchange, with a nonce as for [`Server::new`].
    pub fn new(service: Service, username: String, password: Secret, cnonce: String) -> Self {
        Self { service, username, password, cnonce, expected: None }
    }

    /// The response to the server's challenge.
    ///
    /// # Errors
    /// When the challenge is none of this mechanism.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        if challenge.len() > CHALLENGE_MAX {
            return Err(malformed(format!("a challenge of {} bytes", challenge.len())));
        }
        let directives = Directives::parse(challenge)?;
        if directives.need("algorithm")? != "md5-sess" {
            return Err(malformed("an algorithm other than md5-sess"));
        }
        if directives.get("charset").is_some_and(|charset| charset != "utf-8") {
            return Err(malformed("a charset other than utf-8"));
        }
        let offers = directives.get("qop").unwrap_or("auth");
        if !offers.split([',', ' ']).any(|offer| offer == "auth") {
            return Err(malformed("the quality auth is not offered"));
        }
        let nonce = directives.need("nonce")?;
        let realm = directives.get("realm").unwrap_or_default();
        let uri = uri_of(self.service);
        let proof = Proof {
            username: &self.username,
            realm,
            password: self.password.expose(),
            nonce,
            cnonce: &self.cnonce,
            uri: &uri,
            authzid: None,
        };
        self.expected = Some(proof.value(""));
        let response = format!(
            "charset=utf-8,username=\"{}\",realm=\"{}\",nonce=\"{}\",nc={NONCE_COUNT},cnonce=\"{}\",digest-uri=\"{uri}\",maxbuf=65536,response={},qop=auth",
            quoted(&self.username),
            quoted(realm),
            quoted(nonce),
            self.cnonce,
            proof.value("AUTHENTICATE")
        );
        Ok(response.into_bytes())
    }

    /// Looks at the server's last token: it must know the password, too.
    ///
    /// # Errors
    /// When it does not.
    pub fn finish(&self, token: &[u8]) -> Result<(), SaslError> {
        let directives = Directives::parse(token)?;
        let given = directives.need("rspauth")?;
        match &self.expected {
            Some(expected) if is_same(expected.as_bytes(), given.as_bytes()) => Ok(()),
            _ => Err(malformed("the other end does not know the password")),
        }
    }
}

fn uri_of(service: Service) -> String {
    format!("{}/{}", service.protocol, service.server)
}

fn malformed(reason: impl Into<String>) -> SaslError {
    SaslError::Malformed(reason.into())
}

/// Compares without telling by time where two differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// All that goes into a response's value.
struct Proof<'a> {
    username: &'a str,
    realm: &'a str,
    password: &'a str,
    nonce: &'a str,
    cnonce: &'a str,
    uri: &'a str,
    authzid: Option<&'a str>,
}

impl Proof<'_> {
    /// RFC 2831, 2.1.2.1: `method` is `AUTHENTICATE` for a response, and empty for `rspauth`.
    fn value(&self, method: &str) -> String {
        let mut secret = Md5::new();
        for (index, part) in [self.username, self.realm, self.password].into_iter().enumerate() {
            if index > 0 {
                secret.update(b":");
            }
            secret.update(narrow(part));
        }
        let mut first = Md5::new();
        first.update(secret.finalize());
        for part in [Some(self.nonce), Some(self.cnonce), self.authzid].into_iter().flatten() {
            first.update(b":");
            first.update(part);
        }
        let second = Md5::digest(format!("{method}:{}", self.uri));
        let value = format!(
            "{}:{}:{NONCE_COUNT}:{}:auth:{}",
            hex(&first.finalize()),
            self.nonce,
            self.cnonce,
            hex(&second)
        );
        hex(&Md5::digest(value))
    }
}

/// ISO 8859-1 where that is enough, else UTF-8.
fn narrow(text: &str) -> Vec<u8> {
    let latin: Result<Vec<u8>, _> = text.chars().map(|one| u8::try_from(u32::from(one))).collect();
    latin.unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `key=value,key="value"`.
struct Directives(BTreeMap<String, String>);

impl Directives {
    /// # Errors
    /// When it is not of that form, or a key comes twice.
    fn parse(token: &[u8]) -> Result<Self, SaslError> {
        let text = std::str::from_utf8(token).map_err(|_| malformed("a token that is no text"))?;
        let mut found = BTreeMap::new();
        let mut rest = text.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        while !rest.is_empty() {
            let (key, after) =
                rest.split_once('=').ok_or_else(|| malformed("a directive without a value"))?;
            let (value, after) = value(after.trim_start())?;
            if found.insert(key.trim().to_owned(), value).is_some() {
                return Err(malformed(format!("the directive {:?} comes twice", key.trim())));
            }
            let after = after.trim_start();
            if !after.is_empty() && !after.starts_with(',') {
                return Err(malformed("no comma between two directives"));
            }
            rest = after.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        }
        Ok(Self(found))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn need(&self, key: &str) -> Result<&str, SaslError> {
        self.get(key).ok_or_else(|| malformed(format!("the directive {key:?} is missing")))
    }
}

/// A value, quoted or not, and what comes behind it.
fn value(text: &str) -> Result<(String, &str), SaslError> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &inner[index + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    Err(malformed("a quote that does not end"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sasl::CLIENTS;

    fn users(pairs: &[(&str, &str)]) -> Users {
        pairs.iter().map(|(name, password)| ((*name).to_owned(), Secret::new(*password))).collect()
    }

    /// RFC 2831, section 4.
    #[test]
    fn the_rfcs_example_is_reproduced() {
        let service = Service { protocol: "imap", server: "elwood.innosoft.com" };
        let password = Secret::new("secret");
        let mut client = Client::new(service, "chris".into(), password, "OA6MHXh6VqTrRk".into());
        let response = client
            .respond(b"realm=\"elwood.innosoft.com\",nonce=\"OA6MG9tEQGm2hh\",qop=\"auth\",algorithm=md5-sess,charset=utf-8")
            .unwrap();
        let response = String::from_utf8(response).unwrap();
        assert!(response.contains("response=d388dad90d4bbd760a152321f2143af7"), "{response}");
        assert_eq!(client.finish(b"rspauth=ea40f60335c427b5527b84dbabcdfffd"), Ok(()));
        assert!(client.finish(b"rspauth=ea40f60335c427b5527b84dbabcdfffe").is_err());
    }

    fn exchange(username: &str, password: &str, users: &Users) -> Result<String, SaslError> {
        let mut server = Server::new(CLIENTS, "n".into(), Authorization::Ignored);
        let Answer::Challenge(challenge) = server.evaluate(b"", users)? else { panic!() };
        let mut client = Client::new(CLIENTS, username.into(), Secret::new(password), "c".into());
        match server.evaluate(&client.respond(&challenge)?, users)? {
            Answer::Proven(last, who) => client.finish(&last).map(|()| who),
            Answer::Challenge(_) => panic!("a second challenge"),
        }
    }

    #[test]
    fn challenges_are_the_originals() {
        let mut server = Server::new(CLIENTS, "abc".into(), Authorization::Ignored);
        let expected = b"realm=\"zk-sasl-md5\",nonce=\"abc\",charset=utf-8,algorithm=md5-sess";
        let challenge = server.evaluate(b"anything", &Users::new()).unwrap();
        assert_eq!(challenge, Answer::Challenge(expected.to_vec()));
    }

    #[test]
    fn who_knows_the_password_is_believed() {
        let users = users(&[("bob", "pw"), ("josé", "ñ\"\\"), ("日本", "語")]);
        for (name, password) in [("bob", "pw"), ("josé", "ñ\"\\"), ("日本", "語")] {
            assert_eq!(exchange(name, password, &users).as_deref(), Ok(name));
        }
        assert_eq!(exchange("bob", "no", &users), Err(SaslError::WrongPassword("bob".into())));
        assert_eq!(exchange("eve", "pw", &users), Err(SaslError::UnknownUser("eve".into())));
    }

    #[test]
    fn responses_that_do_not_fit_are_refused() {
        let users = users(&[("bob", "pw")]);
        let mut client = Client::new(CLIENTS, "bob".into(), Secret::new("pw"), "c".into());
        let mut first = Server::new(CLIENTS, "n".into(), Authorization::Itself);
        let Ok(Answer::Challenge(challenge)) = first.evaluate(b"", &users) else { panic!() };
        let good = String::from_utf8(client.respond(&challenge).unwrap()).unwrap();
        for (from, to, reason) in [
            ("nonce=\"n\"", "nonce=\"m\"", "mismatched nonce"),
            ("realm=\"zk-sasl-md5\"", "realm=\"x\"", "nonexistent realm"),
            ("digest-uri=\"zookeeper/", "digest-uri=\"x/", "mismatched URI"),
            ("qop=auth", "qop=auth-conf", "a quality other"),
            ("username=\"bob\",", "", "\"username\" is missing"),
            ("charset=utf-8,", "charset=latin,", "a charset other"),
            ("qop=auth", "qop=auth,qop=auth", "comes twice"),
            ("qop=auth", "qop=\"auth", "a quote that does not end"),
            ("qop=auth", "qop", "without a value"),
            ("cnonce=\"c\"", "cnonce=\"d\"", "is wrong"),
        ] {
            let mut server = first.clone();
            let error = server.evaluate(good.replace(from, to).as_bytes(), &users).unwrap_err();
            assert!(error.to_string().contains(reason), "{to}: {error}");
            let again = server.evaluate(good.as_bytes(), &users);
            assert_eq!(again, Err(malformed("the exchange is over")), "{to}: no second try");
        }
        assert!(matches!(first.evaluate(good.as_bytes(), &users), Ok(Answer::Proven(..))));
    }

    proptest! {
        #[test]
        fn garbage_proves_nothing(token in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut server = Server::new(CLIENTS, "n".into(), Authorization::Ignored);
            let users = users(&[("bob", "pw")]);
            server.evaluate(b"", &users).unwrap();
            prop_assert!(server.evaluate(&token, &users).is_err());
            let mut client = Client::new(CLIENTS, "bob".into(), Secret::new("pw"), "c".into());
            let _ = client.respond(&token);
            prop_assert!(client.finish(&token).is_err());
        }
    }
}
