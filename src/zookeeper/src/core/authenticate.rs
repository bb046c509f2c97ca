//! Clients that prove who they are: auth packets, SASL tokens, and what is asked of all before they are served
//! (`ZooKeeperServer.processPacket`, `AuthenticationHelper`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jute::records::Id;
use jute::request::{Request, opcode};
use jute::{Code, Writer};
use sha2::{Digest as _, Sha256};

use super::{ConnectionId, Core};
use crate::auth::Outcome;
use crate::sasl::CLIENTS;
use crate::sasl::digest_md5::{Answer, Authorization, Server};

/// Nonces that nobody guesses who does not know the seed.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    given: u64,
}

impl Nonces {
    fn next(&mut self, seed: &[u8; 32]) -> String {
        self.given += 1;
        let mut hash = Sha256::new();
        hash.update(seed);
        hash.update(self.given.to_be_bytes());
        STANDARD.encode(hash.finalize())
    }
}

impl Core {
    /// Handles what proves who a client is. True if it is another request, and the client may have it served.
    pub(super) fn admit<E>(
        &mut self,
        from: ConnectionId,
        (xid, opcode): (i32, i32),
        request: &Result<Request, E>,
    ) -> bool {
        match request {
            Ok(Request::Auth { scheme, auth }) => {
                self.authenticate(from, xid, scheme, auth.as_deref());
            }
            Err(_) if opcode == opcode::AUTH => {
                tracing::warn!("an auth packet can't be read: closed");
                self.close(from);
            }
            Ok(Request::Sasl { token }) => self.evaluate_token(from, xid, token),
            _ if self.settings.auth.is_enough(self.ids(from)) => return true,
            _ => {
                tracing::warn!("a client that has not proven who it is asks for something: closed");
                self.reply(from, xid, 0, Err(Code::SessionClosedRequireSaslAuth));
                self.close(from);
            }
        }
        false
    }

    fn authenticate(&mut self, from: ConnectionId, xid: i32, scheme: &str, data: Option<&[u8]>) {
        match self.settings.auth.authenticate(scheme, data, self.ids(from)) {
            Outcome::Proven(ids) => {
                self.add_ids(from, ids);
                self.reply(from, xid, 0, Ok(Writer::new()));
            }
            Outcome::Refused => {
                tracing::warn!("authentication failed for scheme {scheme:?}");
                self.reply(from, xid, 0, Err(Code::AuthFailed));
                self.close(from);
            }
            Outcome::Closed => {
                tracing::warn!("a client looks for another ensemble: closed");
                self.close(from);
            }
        }
    }

    fn add_ids(&mut self, to: ConnectionId, ids: Vec<Id>) {
        if let Some(connection) = self.connections.get_mut(&to) {
            for id in ids {
                if !connection.ids.contains(&id) {
                    connection.ids.push(id);
                }
            }
        }
    }

    /// A step of SASL. Where it is not set up, the original answers with no token.
    fn evaluate_token(&mut self, from: ConnectionId, xid: i32, token: &[u8]) {
        let auth = self.settings.auth.clone();
        let Some(connection) = self.connections.get_mut(&from) else { return };
        let Some(users) = &auth.sasl_users else {
            self.reply_token(from, xid, 0, None);
            return;
        };
        let exchange = connection.sasl.get_or_insert_with(|| {
            let nonce = self.nonces.next(&self.settings.nonce_seed);
            Box::new(Server::new(CLIENTS, nonce, Authorization::Ignored))
        });
        match exchange.evaluate(token, users) {
            Ok(Answer::Challenge(challenge)) => self.reply_token(from, xid, 0, Some(&challenge)),
            Ok(Answer::Proven(last, name)) => {
                tracing::debug!("a client is {name:?} by SASL");
                self.add_ids(from, auth.of_sasl_user(&name));
                self.reply_token(from, xid, 0, Some(&last));
            }
            Err(error) => {
                let peer = &connection.peer;
                tracing::warn!("a client at {peer} failed to authenticate by SASL: {error}");
                let code = if auth.is_sasl_enforced() {
                    Code::SessionClosedRequireSaslAuth
                } else if auth.allows_failed_sasl {
                    self.reply_token(from, xid, 0, None);
                    return;
                } else {
                    Code::AuthFailed
                };
                self.reply_token(from, xid, code.number(), None);
                self.close(from);
            }
        }
    }

    /// A token is sent with an error, too.
    fn reply_token(&mut self, to: ConnectionId, xid: i32, error: i32, token: Option<&[u8]>) {
        let mut frame = Writer::new();
        frame.int(xid).long(0).int(error).buffer(token);
        self.send(to, frame.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::Auth;
    use crate::core::{Effect, Settings, State};
    use crate::sasl::digest_md5::Client;
    use crate::secret::Secret;

    const CLIENT: ConnectionId = ConnectionId(1);

    /// A core with a client that has its session.
    fn core(auth: Auth) -> Core {
        let settings = Settings { auth: Arc::new(auth), ..Settings::for_tests() };
        let mut core = Core::new(settings, State::default(), 0);
        let ids = vec![Id { scheme: "ip".into(), id: "10.0.0.1".into() }];
        core.opened(0, CLIENT, "10.0.0.1:1", ids);
        let mut request = Writer::new();
        request.int(0).long(0).int(100).long(0).buffer(Some(&[0; 16])).boolean(false);
        core.frame(0, 0, CLIENT, request.as_bytes());
        core.take_effects();
        core
    }

    fn sasl_auth() -> Auth {
        let users = [("bob".to_owned(), Secret::new("pw"))].into();
        Auth { sasl: true, sasl_users: Some(users), ..Auth::default() }
    }

    /// Error code and body of the one reply, and whether the connection is closed then.
    fn exchange(core: &mut Core, frame: &[u8]) -> (i32, Vec<u8>, bool) {
        core.frame(0, 0, CLIENT, frame);
        let effects = core.take_effects();
        let Some(Effect::Send(_, reply)) =
            effects.iter().find(|effect| matches!(effect, Effect::Send(..)))
        else {
            panic!("{effects:?}")
        };
        let code = i32::from_be_bytes(reply[12..16].try_into().unwrap());
        (code, reply[16..].to_vec(), effects.contains(&Effect::Close(CLIENT)))
    }

    fn token(bytes: &[u8]) -> Vec<u8> {
        let mut frame = Writer::new();
        frame.int(7).int(102).buffer(Some(bytes));
        frame.into_bytes()
    }

    fn auth_packet(scheme: &str, data: &[u8]) -> Vec<u8> {
        let mut frame = Writer::new();
        frame.int(-4).int(100).int(0).string(scheme).buffer(Some(data));
        frame.into_bytes()
    }

    fn ping() -> Vec<u8> {
        let mut frame = Writer::new();
        frame.int(-2).int(11);
        frame.into_bytes()
    }

    fn sasl(core: &mut Core, password: &str) -> (i32, Vec<u8>, bool) {
        let (code, body, _) = exchange(core, &token(b""));
        assert_eq!(code, 0);
        let mut client = Client::new(CLIENTS, "bob".into(), Secret::new(password), "c".into());
        let response = client.respond(&body[4..]).unwrap();
        exchange(core, &token(&response))
    }

    #[test]
    fn sasl_adds_the_users_id() {
        let mut core = core(sasl_auth());
        let (code, body, is_closed) = sasl(&mut core, "pw");
        assert_eq!((code, is_closed), (0, false));
        assert!(body[4..].starts_with(b"rspauth="));
        assert!(core.ids(CLIENT).contains(&Id { scheme: "sasl".into(), id: "bob".into() }));
    }

    #[test]
    fn sasl_that_fails_is_told_with_a_body_and_closed() {
        let no_token = (-1i32).to_be_bytes().to_vec();
        assert_eq!(sasl(&mut core(sasl_auth()), "no"), (-115, no_token.clone(), true));
        let lenient = Auth { allows_failed_sasl: true, ..sasl_auth() };
        assert_eq!(sasl(&mut core(lenient.clone()), "no"), (0, no_token.clone(), false));
        let strict = Auth { enforced: Some(vec!["sasl".into()]), ..lenient };
        assert_eq!(sasl(&mut core(strict), "no"), (-124, no_token, true));
    }

    #[test]
    fn without_users_there_is_no_token() {
        let mut core = core(Auth::default());
        let answer = exchange(&mut core, &token(b""));
        assert_eq!(answer, (0, (-1i32).to_be_bytes().to_vec(), false));
    }

    #[test]
    fn challenges_differ() {
        let mut first = core(sasl_auth());
        let one = exchange(&mut first, &token(b"")).1;
        first.closed(CLIENT);
        first.opened(0, CLIENT, "10.0.0.1:2", Vec::new());
        let mut request = Writer::new();
        request.int(0).long(0).int(100).long(0).buffer(Some(&[0; 16])).boolean(false);
        first.frame(0, 0, CLIENT, request.as_bytes());
        first.take_effects();
        assert_ne!(one, exchange(&mut first, &token(b"")).1);
    }

    #[test]
    fn only_those_who_have_proven_who_they_are_are_served_where_that_is_asked() {
        let enforced = Some(vec!["digest".to_owned(), "sasl".to_owned()]);
        let auth = Auth { enforced, ..sasl_auth() };
        assert_eq!(exchange(&mut core(auth.clone()), &ping()), (-124, vec![], true));
        let mut proven = core(auth.clone());
        assert_eq!(exchange(&mut proven, &auth_packet("digest", b"u:p")), (0, vec![], false));
        assert_eq!(exchange(&mut proven, &ping()).0, 0);
        let mut by_sasl = core(auth);
        sasl(&mut by_sasl, "pw");
        assert_eq!(exchange(&mut by_sasl, &ping()).0, 0);
    }

    #[test]
    fn what_proves_nothing_ends_the_connection() {
        let mut nothing = Writer::new();
        nothing.int(-4).int(100).int(0).string("digest").buffer(None);
        assert_eq!(exchange(&mut core(Auth::default()), nothing.as_bytes()), (-115, vec![], true));
        let mut short = Writer::new();
        short.int(-4).int(100).int(0);
        let mut core = core(Auth::default());
        core.frame(0, 0, CLIENT, short.as_bytes());
        assert_eq!(core.take_effects(), [Effect::Close(CLIENT)], "closed without a word");
    }

    #[test]
    fn pings_are_answered_as_pings_whatever_their_number() {
        let mut core = core(Auth::default());
        let mut frame = Writer::new();
        core.frame(0, 0, CLIENT, frame.int(5).int(11).as_bytes());
        let effects = core.take_effects();
        let [Effect::Send(_, reply)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(reply[..4], (-2i32).to_be_bytes());
    }

    #[test]
    fn schemes_that_are_not_there_end_the_connection() {
        for scheme in ["world", "nonsense", "sasl", "x509"] {
            let mut core = core(sasl_auth());
            assert_eq!(exchange(&mut core, &auth_packet(scheme, b"x")), (-115, vec![], true));
        }
        let mut other = core(Auth { ensemble: Some(vec!["prod".into()]), ..Auth::default() });
        other.frame(0, 0, CLIENT, &auth_packet("ensemble", b"test"));
        assert_eq!(other.take_effects(), [Effect::Close(CLIENT)], "closed without a word");
    }
}
