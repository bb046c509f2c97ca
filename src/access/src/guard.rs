//! Which realms ask for credentials, and what a caller who passed may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::acls::Object;
use crate::basic::{self, Unauthorized};
use crate::jwt::{Claims, Key};
use crate::{Acls, Action, Credentials, Principal};

/// Stands before HTTP endpoints. The default lets everybody in, by no name.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    realms: BTreeMap<&'static str, Realm>,
    acls: Arc<Acls>,
}

/// What counts in a realm: the secret of a principal, the token of an executor, or either.
#[derive(Debug, Clone, Default)]
struct Realm {
    credentials: Option<Arc<Credentials>>,
    key: Option<Arc<Key>>,
}

/// Somebody who sent an HTTP request.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Who it is, where that was asked.
    pub principal: Option<Principal>,
    /// What its token says, where it is known by that alone: an executor.
    pub claims: Option<Claims>,
    /// What principals may do.
    pub acls: Arc<Acls>,
}

impl Guard {
    /// One that judges by these ACLs.
    pub fn new(acls: Arc<Acls>) -> Self {
        Self { realms: BTreeMap::new(), acls }
    }

    /// What it judges by.
    pub fn acls(&self) -> &Acls {
        &self.acls
    }

    /// From now on, a realm asks for credentials.
    pub fn ask(&mut self, realm: &'static str, credentials: Arc<Credentials>) {
        self.realms.entry(realm).or_default().credentials = Some(credentials);
    }

    /// From now on, a realm takes tokens that were signed with this key, and asks for them where it asks for nothing else.
    pub fn ask_for_tokens(&mut self, realm: &'static str, key: Arc<Key>) {
        self.realms.entry(realm).or_default().key = Some(key);
    }

    /// Whether a realm asks for anything.
    pub fn asks(&self, realm: &str) -> bool {
        self.realms.contains_key(realm)
    }

    /// Who sent a request to an endpoint of a realm. What is in no realm asks nobody.
    ///
    /// # Errors
    /// When the realm asks for credentials and the request has none that are right.
    pub fn caller(&self, realm: Option<&str>, headers: &HeaderMap) -> Result<Caller, Unauthorized> {
        let mut caller = Caller { acls: self.acls.clone(), ..Caller::default() };
        let asking = realm.and_then(|realm| Some((realm, self.realms.get(realm)?)));
        let Some((realm, Realm { credentials, key })) = asking else { return Ok(caller) };
        let is_token = headers
            .get(AUTHORIZATION)
            .is_some_and(|value| value.as_bytes().starts_with(b"Bearer "));
        match (credentials, key) {
            (_, Some(key)) if is_token => caller.claims = Some(key.authenticate(realm, headers)?),
            (Some(credentials), _) => {
                caller.principal = Some(basic::authenticate(credentials, realm, headers)?);
            }
            (None, Some(key)) => caller.claims = Some(key.authenticate(realm, headers)?),
            (None, None) => {}
        }
        Ok(caller)
    }
}

impl Caller {
    /// Whether the caller may do something to an object.
    pub fn may(&self, action: Action, object: Object<'_>) -> bool {
        // ACLs are about principals: who is known by a token alone may do what is said of tokens where that is.
        self.claims.is_none() && self.acls.allow(self.principal.as_ref(), action, object)
    }

    /// Whether the caller may do something to every object there could be.
    pub fn may_whatever(&self, action: Action) -> bool {
        self.claims.is_none() && self.acls.allow_whatever(self.principal.as_ref(), action)
    }

    /// Whether the caller may do something that is not done to anything in particular.
    pub fn may_any(&self, action: Action) -> bool {
        self.may(action, Object::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_realms_that_ask_refuse() {
        let mut guard = Guard::default();
        guard.ask("closed", Arc::new(Credentials::default()));
        let nothing = HeaderMap::new();
        assert_eq!(guard.caller(Some("open"), &nothing).unwrap().principal, None);
        assert_eq!(guard.caller(None, &nothing).unwrap().principal, None);
        let refused = guard.caller(Some("closed"), &nothing).unwrap_err();
        assert_eq!(refused.challenge, "Basic realm=\"closed\"");
    }

    #[test]
    fn tokens_count_where_their_key_is_known() {
        let key = Arc::new(Key::new(b"secret").unwrap());
        let token = key.sign(&Claims::of_executor("f", "e", "c"));
        let value = format!("Bearer {token}").parse().unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let mut guard = Guard::default();
        guard.ask("people", Arc::new(Credentials::default()));
        guard.ask("both", Arc::new(Credentials::default()));
        guard.ask_for_tokens("both", key.clone());
        guard.ask_for_tokens("executors", key);
        for realm in ["both", "executors"] {
            let caller = guard.caller(Some(realm), &headers).unwrap();
            assert_eq!(caller.claims.as_ref().and_then(|claims| claims.get("cid")), Some("c"));
            assert!(!caller.may_any(Action::ViewFlags), "no ACL is about it");
        }
        let challenge = |realm: &str, headers: &HeaderMap| {
            guard.caller(Some(realm), headers).unwrap_err().challenge
        };
        assert_eq!(challenge("people", &headers), "Basic realm=\"people\"");
        assert_eq!(challenge("both", &HeaderMap::new()), "Basic realm=\"both\"");
        assert_eq!(challenge("executors", &HeaderMap::new()), "Bearer realm=\"executors\"");
    }
}
