//! Scriptlets that RPM 4.11 and systemd 219 run without complaint, on a host with or without a running systemd.
//!
//! The originals' packages enable their units and start none, and so do ours. But only on first install: an operator (or `meso
//! bootstrap`, which disables the unit that a host has no use for) decides afterwards. Upgrades restart nothing: the order
//! matters in a cluster. Nothing in a scriptlet may fail the transaction.

use std::fmt::Write as _;

use crate::definition::Scriptlets;

/// A system user that a package needs. Its group has the same name.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// Name of user and group.
    pub name: &'static str,
    /// Home directory; not created.
    pub home: &'static str,
    /// For people.
    pub comment: &'static str,
}

/// The scriptlets of a package with these units, and this user made before the files come.
#[must_use]
pub fn for_units(units: &[&str], user: Option<User>) -> Scriptlets {
    let units = units.join(" ");
    Scriptlets {
        before_install: user.map(make_user),
        after_install: Some(format!(
            "/usr/bin/systemctl daemon-reload >/dev/null 2>&1 || :\n\
             if [ \"$1\" -eq 1 ]; then\n    /usr/bin/systemctl enable {units} >/dev/null 2>&1 || :\nfi\n"
        )),
        before_remove: Some(format!(
            "if [ \"$1\" -eq 0 ]; then\n    /usr/bin/systemctl disable {units} >/dev/null 2>&1 || :\n    \
             /usr/bin/systemctl stop {units} >/dev/null 2>&1 || :\nfi\n"
        )),
        after_remove: Some("/usr/bin/systemctl daemon-reload >/dev/null 2>&1 || :\n".to_owned()),
    }
}

fn make_user(user: User) -> String {
    let User { name, home, comment } = user;
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "/usr/bin/getent group {name} >/dev/null || /usr/sbin/groupadd -r {name} || :"
    );
    let _ = writeln!(
        text,
        "/usr/bin/getent passwd {name} >/dev/null || \\\n    /usr/sbin/useradd -r -g {name} -d {home} -M -s /sbin/nologin -c \"{comment}\" {name} || :"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scriptlet_can_fail_a_transaction() {
        let user = User { name: "someone", home: "/", comment: "Some one" };
        let scriptlets = for_units(&["a.service", "b.service"], Some(user));
        for text in [
            scriptlets.before_install,
            scriptlets.after_install,
            scriptlets.before_remove,
            scriptlets.after_remove,
        ] {
            let text = text.expect("all four");
            for line in text.replace("\\\n", "").lines() {
                let harmless = line.ends_with("|| :") || line.starts_with("if ") || line == "fi";
                assert!(harmless, "{line}");
            }
        }
    }

    #[test]
    fn units_are_enabled_on_first_install_only() {
        let text = for_units(&["a.service"], None).after_install.expect("a scriptlet");
        let (before, after) = text.split_once("if [ \"$1\" -eq 1 ]").expect("a condition");
        assert!(!before.contains("enable"));
        assert!(after.contains("systemctl enable a.service"));
    }
}
