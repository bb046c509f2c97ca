//! Who may do what (`ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL`).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jute::records::{Acl, Id};
use sha1::{Digest as _, Sha1};

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
pub fn is_allowed(acl: &[Acl], wanted: i32, ids: &[Id]) -> bool {
    if acl.is_empty() || ids.iter().any(|id| id.scheme == "super") {
        return true;
    }
    acl.iter().filter(|entry| entry.perms & wanted != 0).any(|entry| {
        (entry.id.scheme == "world" && entry.id.id == "anyone")
            || ids
                .iter()
                .any(|id| id.scheme == entry.id.scheme && matches(&id.scheme, &id.id, &entry.id.id))
    })
}

fn matches(scheme: &str, own: &str, entry: &str) -> bool {
    match scheme {
        "ip" => ip_matches(own, entry),
        _ => own == entry,
    }
}

fn ip_matches(own: &str, entry: &str) -> bool {
    let (address, bits) = entry.split_once('/').unwrap_or((entry, "32"));
    let (Ok(IpAddr::V4(own)), Ok(IpAddr::V4(address)), Ok(bits)) =
        (own.parse(), address.parse(), bits.parse::<u32>())
    else {
        return own == entry;
    };
    let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
    u32::from(own) & mask == u32::from(address) & mask
}

fn is_valid_id(id: &Id) -> bool {
    match id.scheme.as_str() {
        "world" => id.id == "anyone",
        "digest" => {
            let parts: Vec<&str> = id.id.split(':').collect();
            parts.len() == 2 && parts.iter().all(|part| !part.is_empty())
        }
        "ip" => {
            let (address, bits) = id.id.split_once('/').unwrap_or((&id.id, "32"));
            matches!(address.parse(), Ok(IpAddr::V4(_)))
                && bits.parse::<u32>().is_ok_and(|bits| bits <= 32)
        }
        _ => false,
    }
}

/// The ACL to store for one that a client gave: duplicates dropped, `auth` expanded. `None` if it is not valid.
pub fn fix_up(given: &[Acl], ids: &[Id]) -> Option<Vec<Acl>> {
    let mut fixed: Vec<Acl> = Vec::with_capacity(given.len());
    let mut add = |entry: Acl| {
        if !fixed.contains(&entry) {
            fixed.push(entry);
        }
    };
    for entry in given {
        if entry.id.scheme == "auth" {
            let mut found = false;
            for id in ids.iter().filter(|id| id.scheme == "digest" || id.scheme == "super") {
                add(Acl { perms: entry.perms, id: id.clone() });
                found = true;
            }
            if !found {
                return None;
            }
        } else if is_valid_id(&entry.id) {
            add(entry.clone());
        } else {
            return None;
        }
    }
    (!fixed.is_empty()).then_some(fixed)
}

/// The id that `user:password` proves: `user:base64(sha1(user:password))`.
pub fn digest_id(user_and_password: &str) -> String {
    let user = user_and_password.split(':').next().unwrap_or_default();
    format!("{user}:{}", STANDARD.encode(Sha1::digest(user_and_password.as_bytes())))
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
    fn digests_are_the_originals() {
        assert_eq!(digest_id("super:admin"), "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
        assert_eq!(digest_id("abc"), "abc:qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
    }

    #[test]
    fn entries_apply_to_those_they_name() {
        let ids = [
            Id { scheme: "ip".into(), id: "10.1.2.3".into() },
            Id { scheme: "digest".into(), id: "u:h".into() },
        ];
        assert!(is_allowed(&[entry(1, "world", "anyone")], perms::READ, &ids));
        assert!(!is_allowed(&[entry(1, "world", "anyone")], perms::WRITE, &ids));
        assert!(is_allowed(&[entry(2, "ip", "10.1.0.0/16")], perms::WRITE, &ids));
        assert!(!is_allowed(&[entry(2, "ip", "10.2.0.0/16")], perms::WRITE, &ids));
        assert!(is_allowed(&[entry(31, "digest", "u:h")], perms::ADMIN, &ids));
        assert!(is_allowed(
            &[entry(0, "digest", "x:y")],
            perms::ADMIN,
            &[Id { scheme: "super".into(), id: String::new() }]
        ));
    }

    #[test]
    fn given_lists_are_fixed_up_or_refused() {
        let ids = [Id { scheme: "digest".into(), id: "u:h".into() }];
        assert_eq!(
            fix_up(&[entry(31, "auth", ""), entry(31, "digest", "u:h")], &ids),
            Some(vec![entry(31, "digest", "u:h")])
        );
        for bad in [
            &[][..],
            &[entry(1, "auth", "")],
            &[entry(1, "world", "me")],
            &[entry(1, "ip", "1.2.3")],
            &[entry(1, "digest", "nohash")],
            &[entry(1, "x", "y")],
        ] {
            assert_eq!(fix_up(bad, &[]), None, "{bad:?}");
        }
    }
}
