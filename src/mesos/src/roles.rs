//! Roles: which names are roles, and which role lies below which (Mesos' `common/roles.cpp`).

/// The role of what is reserved for nobody.
pub const DEFAULT: &str = "*";

/// Checks a role's name.
///
/// # Errors
/// The original's text of what is wrong with it.
pub fn validate(role: &str) -> Result<(), String> {
    if role == DEFAULT {
        return Ok(());
    }
    if role.is_empty() {
        return Err("Role names cannot be the empty string".to_owned());
    }
    if role.starts_with('/') {
        return Err(format!("Role '{role}' cannot start with a slash"));
    }
    if role.ends_with('/') {
        return Err(format!("Role '{role}' cannot end with a slash"));
    }
    if role.contains("//") {
        return Err(format!("Role '{role}' cannot contain two adjacent slashes"));
    }
    for component in role.split('/') {
        if matches!(component, "." | ".." | "*") {
            return Err(format!("Role '{role}' cannot include '{component}' as a component"));
        }
        if component.starts_with('-') {
            return Err(format!(
                "Role component '{component}' is invalid because it starts with a dash"
            ));
        }
        if component.contains(['\t', '\n', '\u{b}', '\u{c}', '\r', ' ', '\u{7f}']) {
            return Err(format!(
                "Role component '{component}' is invalid because it contains backspace or whitespace"
            ));
        }
    }
    Ok(())
}

/// Whether `role` lies strictly below `ancestor`: `a/b` below `a`, but not `ab`.
pub fn is_below(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each asked of the original with `PUT /weights`.
    #[test]
    fn names_are_judged_as_the_original_judges_them() {
        for role in ["*", "a", "a/b", "ä", "...", "a-b", "a\u{a0}b", "a\u{8}b"] {
            assert_eq!(validate(role), Ok(()), "{role}");
        }
        for (role, error) in [
            ("", "Role names cannot be the empty string"),
            ("/bad", "Role '/bad' cannot start with a slash"),
            ("bad/", "Role 'bad/' cannot end with a slash"),
            ("a//b", "Role 'a//b' cannot contain two adjacent slashes"),
            ("a/./b", "Role 'a/./b' cannot include '.' as a component"),
            ("..", "Role '..' cannot include '..' as a component"),
            ("*/a", "Role '*/a' cannot include '*' as a component"),
            ("a/-b", "Role component '-b' is invalid because it starts with a dash"),
            ("a b", "Role component 'a b' is invalid because it contains backspace or whitespace"),
        ] {
            assert_eq!(validate(role), Err(error.to_owned()), "{role}");
        }
    }

    #[test]
    fn only_whole_components_make_a_role_lie_below_another() {
        assert!(is_below("a/b", "a") && is_below("a/b/c", "a/b"));
        assert!(!is_below("ab", "a") && !is_below("a", "a") && !is_below("a", "a/b"));
    }
}
