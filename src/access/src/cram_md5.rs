//! SASL CRAM-MD5 (RFC 2195) over libprocess messages, both sides, for agents and v0 schedulers.
//!
//! authenticatee → master: `AuthenticateMessage`; then with a session of the master's: mechanisms, start, challenge,
//! response, completed or failed (`authentication/cram_md5/{authenticatee,authenticator}.cpp`).

use hmac::{KeyInit as _, Mac as _};
use mesos::internal as m;
use mesos::libprocess::Upid;
use prost::{DecodeError, Message, Name};

use crate::{Credentials, Principal, Secret};

/// The one mechanism there is.
const MECHANISM: &str = "CRAM-MD5";

type HmacMd5 = hmac::Hmac<md5::Md5>;

/// A message to the other side: its full name and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Full type name.
    pub name: String,
    /// Encoding.
    pub body: Vec<u8>,
}

fn reply<M: Message + Name>(message: &M) -> Reply {
    Reply { name: M::full_name(), body: message.encode_to_vec() }
}

/// A keyed digest of a challenge. Any length of key is taken: longer ones are hashed first.
fn digest(secret: &Secret, challenge: &[u8]) -> Option<HmacMd5> {
    let mut mac = HmacMd5::new_from_slice(secret.expose()).ok()?;
    mac.update(challenge);
    Some(mac)
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 32 && text.is_ascii())?;
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// How far an authentication is, on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The other side must say something more.
    Going,
    /// It is over, and somebody is who they say.
    Known(Principal),
    /// It is over: the credential is not right.
    Refused,
    /// It is over: the other side said something that is not in its turn.
    Broken(String),
}

/// The master's side of one authentication.
#[derive(Debug)]
pub struct Session {
    /// Who is to be authenticated: an agent or a scheduler.
    pub subject: Upid,
    /// The helper process that speaks for it.
    pub peer: Upid,
    challenge: String,
    challenged: bool,
}

impl Session {
    /// A session that begins, and what to send first. `nonce` must not be guessable, nor come twice.
    pub fn start(subject: Upid, peer: Upid, nonce: u64, hostname: &str) -> (Self, Reply) {
        let (high, low) = (nonce >> 32, nonce & 0xffff_ffff);
        let challenge = format!("<{high}.{low}@{hostname}>");
        let mechanisms =
            m::AuthenticationMechanismsMessage { mechanisms: vec![MECHANISM.to_owned()] };
        (Self { subject, peer, challenge, challenged: false }, reply(&mechanisms))
    }

    /// A message of the other side.
    ///
    /// # Errors
    /// When it can't be decoded.
    pub fn message(
        &mut self,
        credentials: &Credentials,
        name: &str,
        body: &[u8],
    ) -> Result<(Step, Option<Reply>), DecodeError> {
        let broken = |text: &str| {
            let error = m::AuthenticationErrorMessage { error: Some(text.to_owned()) };
            (Step::Broken(text.to_owned()), Some(reply(&error)))
        };
        if name == m::AuthenticationStartMessage::full_name() {
            let start = m::AuthenticationStartMessage::decode(body)?;
            return Ok(if self.challenged {
                broken("Unexpected authentication 'start' received")
            } else if start.mechanism == MECHANISM {
                self.challenged = true;
                let data = self.challenge.clone().into_bytes();
                (Step::Going, Some(reply(&m::AuthenticationStepMessage { data })))
            } else {
                broken("Failed to start the authentication: no mechanism available")
            });
        }
        if name == m::AuthenticationStepMessage::full_name() {
            let step = m::AuthenticationStepMessage::decode(body)?;
            return Ok(if self.challenged {
                match self.judge(credentials, &step.data) {
                    Some(principal) => {
                        let completed = reply(&m::AuthenticationCompletedMessage {});
                        (Step::Known(principal), Some(completed))
                    }
                    None => (Step::Refused, Some(reply(&m::AuthenticationFailedMessage {}))),
                }
            } else {
                broken("Unexpected authentication 'step' received")
            });
        }
        Ok((Step::Going, None))
    }

    fn judge(&self, credentials: &Credentials, data: &[u8]) -> Option<Principal> {
        let space = data.iter().rposition(|byte| *byte == b' ')?;
        let name = std::str::from_utf8(&data[..space]).ok()?;
        let secret = credentials.secret(name)?;
        let claimed = unhex(&data[space + 1..])?;
        let mac = digest(secret, self.challenge.as_bytes())?;
        mac.verify_slice(&claimed).is_ok().then(|| Principal(name.to_owned()))
    }
}

/// The side that proves who it is.
#[derive(Debug, Clone)]
pub struct Authenticatee {
    principal: Principal,
    secret: Secret,
}

impl Authenticatee {
    /// The process' name that speaks for this side.
    pub const PROCESS: &str = "crammd5-authenticatee(1)";

    /// One with a credential.
    pub fn new(principal: Principal, secret: Secret) -> Self {
        Self { principal, secret }
    }

    /// What to send to `master` first, for the process `subject`.
    pub fn first(&self, subject: &Upid) -> Reply {
        reply(&m::AuthenticateMessage { pid: subject.to_string() })
    }

    /// A message of the master's session.
    ///
    /// # Errors
    /// When it can't be decoded.
    pub fn message(&self, name: &str, body: &[u8]) -> Result<(Step, Option<Reply>), DecodeError> {
        if name == m::AuthenticationMechanismsMessage::full_name() {
            let offered = m::AuthenticationMechanismsMessage::decode(body)?.mechanisms;
            return Ok(if offered.iter().any(|name| name == MECHANISM) {
                let start = m::AuthenticationStartMessage {
                    mechanism: MECHANISM.to_owned(),
                    data: Some(Vec::new()),
                };
                (Step::Going, Some(reply(&start)))
            } else {
                (Step::Broken(format!("the master offers only {}", offered.join(", "))), None)
            });
        }
        if name == m::AuthenticationStepMessage::full_name() {
            let challenge = m::AuthenticationStepMessage::decode(body)?.data;
            let Some(mac) = digest(&self.secret, &challenge) else {
                return Ok((Step::Broken("the secret can't be used as a key".to_owned()), None));
            };
            let mut data = format!("{} ", self.principal).into_bytes();
            for byte in mac.finalize().into_bytes() {
                data.extend(format!("{byte:02x}").into_bytes());
            }
            return Ok((Step::Going, Some(reply(&m::AuthenticationStepMessage { data }))));
        }
        if name == m::AuthenticationCompletedMessage::full_name() {
            return Ok((Step::Known(self.principal.clone()), None));
        }
        if name == m::AuthenticationFailedMessage::full_name() {
            return Ok((Step::Refused, None));
        }
        if name == m::AuthenticationErrorMessage::full_name() {
            let error = m::AuthenticationErrorMessage::decode(body)?.error.unwrap_or_default();
            return Ok((Step::Broken(error), None));
        }
        Ok((Step::Going, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(text: &str) -> Credentials {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Credentials::read(file.path()).unwrap()
    }

    fn pid(id: &str) -> Upid {
        format!("{id}@127.0.0.1:5051").parse().unwrap()
    }

    fn run(known: &str, principal: &str, secret: &str) -> (Step, Step) {
        let credentials = credentials(known);
        let own = Authenticatee::new(Principal(principal.to_owned()), secret.into());
        let (mut session, mut to_client) = Session::start(
            pid("slave(1)"),
            pid(Authenticatee::PROCESS),
            7 << 32 | 9,
            "master.example",
        );
        for _ in 0..8 {
            let (client, to_master) = own.message(&to_client.name, &to_client.body).unwrap();
            let to_master = to_master.expect("an answer");
            assert_eq!(client, Step::Going);
            let (master, answer) =
                session.message(&credentials, &to_master.name, &to_master.body).unwrap();
            to_client = answer.expect("an answer");
            if master != Step::Going {
                return (master, own.message(&to_client.name, &to_client.body).unwrap().0);
            }
        }
        panic!("no end");
    }

    #[test]
    fn the_right_secret_is_taken_and_others_are_not() {
        let known = Step::Known(Principal("agent".to_owned()));
        assert_eq!(run("agent agentpw", "agent", "agentpw"), (known.clone(), known));
        for (principal, secret) in [("agent", "x"), ("other", "agentpw"), ("agent", "")] {
            assert_eq!(run("agent agentpw", principal, secret), (Step::Refused, Step::Refused));
        }
    }

    /// The recording's challenge and answer (`wire/auth.jsonl`).
    #[test]
    fn the_digest_is_the_originals() {
        let mac = digest(&"agentpw".into(), b"<186870382.325771@master.example>").unwrap();
        let claimed = unhex(b"82238e64e3fef9f3c4e5a5a86fde23e9").unwrap();
        mac.verify_slice(&claimed).unwrap();
    }

    #[test]
    fn a_step_out_of_turn_breaks_it() {
        let credentials = credentials("a b");
        let (mut session, _) = Session::start(pid("x"), pid("y"), 1, "h");
        let step = reply(&m::AuthenticationStepMessage { data: b"a b".to_vec() });
        let (state, answer) = session.message(&credentials, &step.name, &step.body).unwrap();
        assert!(matches!(state, Step::Broken(_)) && answer.is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_passes(data: Vec<u8>) {
            let credentials = credentials("a b");
            let (mut session, _) = Session::start(pid("x"), pid("y"), 1, "h");
            session.challenged = true;
            let step = reply(&m::AuthenticationStepMessage { data });
            let (state, _) = session.message(&credentials, &step.name, &step.body).unwrap();
            proptest::prop_assert_eq!(state, Step::Refused);
        }
    }
}
