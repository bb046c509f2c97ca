//! Which realms ask for credentials, and what a caller who passed may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;

use crate::acls::Object;
use crate::basic::{self, Unauthorized};
use crate::{Acls, Action, Credentials, Principal};

/// Stands before HTTP endpoints. The default lets everybody in, by no name.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    realms: BTreeMap<&'static str, Arc<Credentials>>,
    acls: Arc<Acls>,
}

/// Somebody who sent an HTTP request.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Who it is, where that was asked.
    pub principal: Option<Principal>,
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
        self.realms.insert(realm, credentials);
    }

    /// Who sent a request to an endpoint of a realm. What is in no realm asks nobody.
    ///
    /// # Errors
    /// When the realm asks for credentials and the request has none that are right.
    pub fn caller(&self, realm: Option<&str>, headers: &HeaderMap) -> Result<Caller, Unauthorized> {
        let asking = realm.and_then(|realm| Some((realm, self.realms.get(realm)?)));
        let principal = asking
            .map(|(realm, credentials)| basic::authenticate(credentials, realm, headers))
            .transpose()?;
        Ok(Caller { principal, acls: self.acls.clone() })
    }
}

impl Caller {
    /// Whether the caller may do something to an object.
    pub fn may(&self, action: Action, object: Object<'_>) -> bool {
        self.acls.allow(self.principal.as_ref(), action, object)
    }

    /// Whether the caller may do something to every object there could be.
    pub fn may_whatever(&self, action: Action) -> bool {
        self.acls.allow_whatever(self.principal.as_ref(), action)
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
}
