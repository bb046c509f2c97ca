//! Who may do what (`ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL`).

use jute::records::{Acl, Id};

use crate::auth::Auth;

/// Permission bits.
pub mod perms {
    /// Data and children may be read.
    pub const READ: i32 = 1;
    /// Data may be changed.
    pub const WRITE: i32 = 2;
    /// Children may be made.
    pub const CREATE: i32 = 4;
    /// Children may be deleted.
    pub const DELETE: i32 = 8;
    /// The ACL may be changed.
    pub const ADMIN: i32 = 16;
}

/// Whether a connection with these ids may do any of `wanted`.
pub fn is_allowed(auth: &Auth, acl: &[Acl], wanted: i32, ids: &[Id]) -> bool {
    if acl.is_empty() || ids.iter().any(|id| id.scheme == "super") {
        return true;
    }
    acl.iter().filter(|entry| entry.perms & wanted != 0).any(|entry| {
        let scheme = &entry.id.scheme;
        (scheme == "world" && entry.id.id == "anyone")
            || (auth.has(scheme)
                && ids
                    .iter()
                    .any(|id| id.scheme == *scheme && auth.is_match(scheme, &id.id, &entry.id.id)))
    })
}

/// The ACL to store for one that a client gave: duplicates dropped, then `auth` expanded. `None` if it is not valid.
pub fn fix_up(auth: &Auth, given: &[Acl], ids: &[Id]) -> Option<Vec<Acl>> {
    let mut unique: Vec<&Acl> = Vec::with_capacity(given.len());
    for entry in given {
        if !unique.contains(&entry) {
            unique.push(entry);
        }
    }
    let mut fixed = Vec::with_capacity(unique.len());
    for entry in unique {
        if entry.id.scheme == "auth" {
            let before = fixed.len();
            let proofs = ids.iter().filter(|id| auth.is_proof(&id.scheme));
            fixed.extend(proofs.map(|id| Acl { perms: entry.perms, id: id.clone() }));
            if fixed.len() == before {
                return None;
            }
        } else if auth.is_valid(&entry.id) {
            fixed.push(entry.clone());
        } else {
            return None;
        }
    }
    (!fixed.is_empty()).then_some(fixed)
}

/// An ACL as one without ADMIN sees it: hashes hidden.
pub fn masked(acl: &[Acl]) -> Vec<Acl> {
    acl.iter()
        .map(|entry| {
            let mut entry = entry.clone();
            if entry.id.scheme == "digest" {
                entry.id.id = format!("{}:x", entry.id.id.split(':').next().unwrap_or_default());
            }
            entry
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id { scheme: scheme.into(), id: id.into() } }
    }

    #[test]
    fn entries_apply_to_those_they_name() {
        let ids = [
            Id { scheme: "ip".into(), id: "10.1.2.3".into() },
            Id { scheme: "digest".into(), id: "u:h".into() },
        ];
        let auth = Auth::default();
        let is_allowed = |acl: &[Acl], wanted| is_allowed(&auth, acl, wanted, &ids);
        assert!(is_allowed(&[entry(1, "world", "anyone")], perms::READ));
        assert!(!is_allowed(&[entry(1, "world", "anyone")], perms::WRITE));
        assert!(is_allowed(&[entry(2, "ip", "10.1.0.0/16")], perms::WRITE));
        assert!(!is_allowed(&[entry(2, "ip", "10.2.0.0/16")], perms::WRITE));
        assert!(is_allowed(&[entry(31, "digest", "u:h")], perms::ADMIN));
        assert!(is_allowed(&[], perms::ADMIN));
    }

    #[test]
    fn super_users_may_do_anything_and_absent_schemes_nothing() {
        let ids = |scheme: &str, id: &str| [Id { scheme: scheme.into(), id: id.into() }];
        let auth = Auth::default();
        let acl = [entry(31, "sasl", "bob")];
        assert!(is_allowed(&auth, &acl, perms::ADMIN, &ids("super", "")));
        assert!(!is_allowed(&auth, &acl, perms::READ, &ids("sasl", "bob")));
        let auth = Auth { sasl: true, ..auth };
        assert!(is_allowed(&auth, &acl, perms::READ, &ids("sasl", "bob")));
        assert!(is_allowed(&auth, &acl, perms::READ, &ids("sasl", "super")));
        assert!(!is_allowed(&auth, &acl, perms::READ, &ids("sasl", "eve")));
        let auth = Auth { sasl_any_user: Some("any".into()), ..auth };
        assert!(is_allowed(&auth, &[entry(1, "sasl", "any")], perms::READ, &ids("sasl", "eve")));
    }

    #[test]
    fn given_lists_are_fixed_up_or_refused() {
        let ids = [
            Id { scheme: "ip".into(), id: "10.0.0.1".into() },
            Id { scheme: "super".into(), id: String::new() },
            Id { scheme: "digest".into(), id: "u:h".into() },
        ];
        let auth = Auth::default();
        let own = entry(31, "digest", "u:h");
        assert_eq!(
            fix_up(&auth, &[entry(31, "auth", ""), entry(1, "ip", "1.2.3.4")], &ids),
            Some(vec![own.clone(), entry(1, "ip", "1.2.3.4")])
        );
        assert_eq!(fix_up(&auth, &[own.clone(), own.clone()], &ids), Some(vec![own.clone()]));
        // What `auth` stands for is not compared with the rest.
        assert_eq!(
            fix_up(&auth, &[entry(31, "auth", ""), own.clone()], &ids),
            Some(vec![own.clone(), own])
        );
        for bad in [
            &[][..],
            &[entry(1, "auth", "")],
            &[entry(1, "world", "me")],
            &[entry(1, "ip", "1.2.3")],
            &[entry(1, "digest", "nohash")],
            &[entry(1, "x", "y")],
        ] {
            assert_eq!(fix_up(&auth, bad, &ids[..2]), None, "{bad:?}");
        }
    }
}
