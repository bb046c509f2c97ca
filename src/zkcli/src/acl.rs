//! ACLs as text: `scheme:id:perms,…` (`AclParser`, `ZKUtil.getPermString`).

use serde_json::{Value, json};
use zookeeper_client::{Acl, AuthId, Permission};

const LETTERS: [(char, Permission); 5] = [
    ('c', Permission::CREATE),
    ('d', Permission::DELETE),
    ('r', Permission::READ),
    ('w', Permission::WRITE),
    ('a', Permission::ADMIN),
];

/// Reads a list; what can't be read is left out, and told through `complain`, as the original does.
pub fn parse(text: &str, mut complain: impl FnMut(String)) -> Vec<Acl> {
    let mut list = Vec::new();
    for entry in text.split(',') {
        let parts = entry.split_once(':').and_then(|(scheme, rest)| {
            let (id, perms) = rest.rsplit_once(':')?;
            Some((scheme, id, perms))
        });
        let Some((scheme, id, perms)) = parts else {
            complain(format!("{entry} does not have the form scheme:id:perm"));
            continue;
        };
        let mut permission = Permission::NONE;
        for letter in perms.chars() {
            match LETTERS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) => permission = permission | *bit,
                None => complain(format!("Unknown perm type: {letter}")),
            }
        }
        list.push(Acl::new(permission, AuthId::new(scheme, id)));
    }
    list
}

/// A permission's letters, in the original's order.
pub fn letters(permission: Permission) -> String {
    LETTERS.iter().filter(|(_, bit)| permission.has(*bit)).map(|(letter, _)| letter).collect()
}

/// One entry, in two lines: the original prints the id as a record.
pub fn text(acl: &Acl) -> String {
    format!("'{},'{}\n: {}", acl.scheme(), acl.id(), letters(acl.permission()))
}

/// One entry as JSON.
pub fn json(acl: &Acl) -> Value {
    json!({ "scheme": acl.scheme(), "id": acl.id(), "perms": letters(acl.permission()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<String>, Vec<String>) {
        let mut complaints = Vec::new();
        let list = parse(text, |complaint| complaints.push(complaint));
        (list.iter().map(super::text).collect(), complaints)
    }

    #[test]
    fn lists_are_read_and_written_as_the_original_does() {
        let (list, complaints) = parsed("world:anyone:rwa,digest:ann:hash=:cdrwa,auth::r");
        assert_eq!(list, ["'world,'anyone\n: rwa", "'digest,'ann:hash=\n: cdrwa", "'auth,'\n: r"]);
        assert_eq!(complaints, [""; 0]);
        let (list, complaints) = parsed("world:anyone,ip:1.2.3.4:rz");
        assert_eq!(list, ["'ip,'1.2.3.4\n: r"]);
        assert_eq!(
            complaints,
            ["world:anyone does not have the form scheme:id:perm", "Unknown perm type: z"]
        );
    }
}
