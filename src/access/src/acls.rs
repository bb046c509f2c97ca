//! Access control lists, as `--acls` gives them (`acls.proto`, `authorizer/local/authorizer.cpp`).
//!
//! Of an action's list the first entry that matches both who and what decides; where none does, `permissive`.

mod actions;

use serde_json::Value;

pub use actions::Action;

use crate::Principal;

/// Whom or what an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entity {
    Some(Vec<String>),
    Any,
    None,
}

/// Whom or what a request is about: something by name, or all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// One by its name: a role, a user, a principal, a path.
    Named(&'a str),
    /// Nothing in particular.
    Any,
}

impl Entity {
    fn has(&self, name: &str) -> bool {
        matches!(self, Self::Some(names) if names.iter().any(|own| own == name))
    }

    fn matches(&self, object: Object<'_>) -> bool {
        match (object, self) {
            (_, Self::Any | Self::None) => true,
            (Object::Named(name), Self::Some(_)) => self.has(name),
            (Object::Any, Self::Some(_)) => false,
        }
    }

    fn allows(&self, object: Object<'_>) -> bool {
        match (object, self) {
            (_, Self::Any) => true,
            (Object::Named(name), Self::Some(_)) => self.has(name),
            (Object::Any, Self::Some(_)) | (_, Self::None) => false,
        }
    }

    /// For objects that are roles: `a/%` stands for all roles below `a`.
    fn covers_role(&self, role: &str) -> bool {
        self.has(role)
            || matches!(self, Self::Some(names) if names.iter().any(|own| {
                own.strip_suffix('%')
                    .is_some_and(|above| above.ends_with('/') && role.len() > above.len() && role.starts_with(above))
            }))
    }
}

#[derive(Debug, Clone)]
struct Entry {
    principals: Entity,
    objects: Entity,
}

/// Why ACLs can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ACLs are not valid: {0}")]
pub struct AclsError(String);

/// Access control lists. The default allows everything.
#[derive(Debug, Clone)]
pub struct Acls {
    permissive: bool,
    /// In the order of [`Action::ALL`].
    entries: Vec<(Action, Vec<Entry>)>,
}

impl Default for Acls {
    fn default() -> Self {
        Self { permissive: true, entries: Vec::new() }
    }
}

impl Acls {
    /// Reads ACLs from JSON.
    ///
    /// # Errors
    /// When it is no JSON, names an action that there isn't, or an entry lacks whom or what it is about: what isn't
    /// understood could be a restriction.
    pub fn parse(text: &str) -> Result<Self, AclsError> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| AclsError(error.to_string()))?;
        let Value::Object(members) = value else {
            return Err(AclsError("expected a JSON object".to_owned()));
        };
        let mut acls = Self::default();
        for (name, member) in &members {
            if name == "permissive" {
                acls.permissive = member
                    .as_bool()
                    .ok_or_else(|| AclsError("'permissive' must be true or false".to_owned()))?;
                continue;
            }
            let action = Action::by_name(name)
                .ok_or_else(|| AclsError(format!("there is no action '{name}'")))?;
            let list = member
                .as_array()
                .ok_or_else(|| AclsError(format!("'{name}' must be a list of entries")))?;
            let entries = list
                .iter()
                .map(|entry| {
                    let principals = entity(name, entry, "principals")?;
                    let objects = entity(name, entry, action.objects())?;
                    check_objects(action, &objects)?;
                    Ok(Entry { principals, objects })
                })
                .collect::<Result<_, AclsError>>()?;
            acls.entries.push((action, entries));
        }
        acls.entries.sort_by_key(|(action, _)| *action);
        Ok(acls)
    }

    fn list(&self, action: Action) -> &[Entry] {
        self.entries
            .iter()
            .find(|(own, _)| *own == action)
            .map_or(&[], |(_, entries)| entries.as_slice())
    }

    /// Whether everybody may do `action` to everything, without looking closer.
    pub fn is_open(&self, action: Action) -> bool {
        self.permissive && self.list(action).is_empty()
    }

    /// Whether a principal, or somebody unknown, may do `action` to an object.
    pub fn allow(&self, principal: Option<&Principal>, action: Action, object: Object<'_>) -> bool {
        let subject = principal.map_or(Object::Any, |principal| Object::Named(&principal.0));
        for entry in self.list(action) {
            let on_role = match object {
                Object::Named(role) => {
                    action.objects() == "roles" && entry.objects.covers_role(role)
                }
                Object::Any => false,
            };
            if entry.principals.matches(subject) && (on_role || entry.objects.matches(object)) {
                return entry.principals.allows(subject)
                    && (on_role || entry.objects.allows(object));
            }
        }
        self.permissive
    }

    /// Whether a principal may do `action` to every object there could be: for what isn't known to belong to somebody.
    pub fn allow_whatever(&self, principal: Option<&Principal>, action: Action) -> bool {
        let subject = principal.map_or(Object::Any, |principal| Object::Named(&principal.0));
        for entry in self.list(action) {
            if entry.principals.matches(subject) {
                match entry.objects {
                    Entity::Any => return entry.principals.allows(subject),
                    Entity::None => return false,
                    Entity::Some(_) if !entry.principals.allows(subject) => return false,
                    Entity::Some(_) => {}
                }
            }
        }
        self.permissive
    }

    /// As the original's flags show them: the protobuf text of the lists.
    pub fn to_text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("permissive: {}\n", self.permissive);
        for (action, entries) in &self.entries {
            for entry in entries {
                // Writing to a String can't fail.
                let _ = writeln!(text, "{} {{", action.name());
                for (name, entity) in
                    [("principals", &entry.principals), (action.objects(), &entry.objects)]
                {
                    let _ = writeln!(text, "  {name} {{");
                    match entity {
                        Entity::Any => text.push_str("    type: ANY\n"),
                        Entity::None => text.push_str("    type: NONE\n"),
                        Entity::Some(names) => {
                            for name in names {
                                let _ = writeln!(text, "    values: {name:?}");
                            }
                        }
                    }
                    text.push_str("  }\n");
                }
                text.push_str("}\n");
            }
        }
        text
    }
}

/// What an entry may be about (`LocalAuthorizer::validate`): a name that is never asked about would be no restriction.
fn check_objects(action: Action, objects: &Entity) -> Result<(), AclsError> {
    let Entity::Some(names) = objects else { return Ok(()) };
    let (name, of) = (action.name(), action.objects());
    if matches!(
        of,
        "agents" | "flags" | "images" | "level" | "logs" | "machines" | "resource_providers"
    ) {
        let text = format!("'{of}' in '{name}' must be ANY or NONE: they are all or nothing");
        return Err(AclsError(text));
    }
    if let Some(path) = names.iter().find(|path| !PATHS.contains(&path.as_str()))
        && action == Action::GetEndpoints
    {
        let text = format!("'{path}' in '{name}' is no endpoint that asks: {}", PATHS.join(", "));
        return Err(AclsError(text));
    }
    Ok(())
}

/// Endpoints of either daemon that `get_endpoints` is about (`common/authorization.cpp`).
const PATHS: [&str; 6] = [
    "/containers",
    "/containerizer/debug",
    "/files/debug",
    "/logging/toggle",
    "/metrics/snapshot",
    "/monitor/statistics",
];

fn entity(action: &str, entry: &Value, field: &str) -> Result<Entity, AclsError> {
    let value = entry
        .get(field)
        .ok_or_else(|| AclsError(format!("an entry of '{action}' lacks '{field}'")))?;
    match value.get("type").map(|kind| kind.as_str()) {
        None | Some(Some("SOME")) => {}
        Some(Some("ANY")) => return Ok(Entity::Any),
        Some(Some("NONE")) => return Ok(Entity::None),
        Some(_) => {
            return Err(AclsError(format!(
                "'type' of '{field}' in '{action}' must be SOME, ANY or NONE"
            )));
        }
    }
    let wrong =
        || AclsError(format!("'values' of '{field}' in '{action}' must be a list of names"));
    let values = match value.get("values") {
        None => Vec::new(),
        Some(values) => values
            .as_array()
            .ok_or_else(wrong)?
            .iter()
            .map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
    };
    Ok(Entity::Some(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(name: &str) -> Principal {
        Principal(name.to_owned())
    }

    #[test]
    fn the_first_entry_that_matches_decides() {
        let acls = Acls::parse(
            r#"{"permissive": false, "register_frameworks": [
                {"principals": {"values": ["a"]}, "roles": {"values": ["ok", "eng/%"]}},
                {"principals": {"type": "NONE"}, "roles": {"values": ["secret"]}},
                {"principals": {"type": "ANY"}, "roles": {"values": ["*", "secret"]}}]}"#,
        )
        .unwrap();
        let may = |who: Option<&str>, role: &str| {
            let who = who.map(principal);
            acls.allow(who.as_ref(), Action::RegisterFrameworks, Object::Named(role))
        };
        assert!(may(Some("a"), "ok"));
        assert!(may(Some("a"), "eng/web"));
        assert!(!may(Some("a"), "eng"));
        assert!(!may(Some("a"), "engine"));
        assert!(!may(Some("b"), "ok"));
        assert!(!may(Some("b"), "secret"), "NONE comes first");
        assert!(may(Some("b"), "*"));
        assert!(may(None, "*"), "ANY takes those who are not known, too");
        assert!(!may(None, "ok"));
    }

    #[test]
    fn without_a_match_permissive_decides() {
        let acls = Acls::default();
        assert!(acls.allow(None, Action::ViewFlags, Object::Any));
        let acls = Acls::parse(r#"{"permissive": false}"#).unwrap();
        assert!(!acls.allow(Some(&principal("a")), Action::ViewFlags, Object::Any));
    }

    #[test]
    fn asking_for_all_needs_any() {
        let acls = Acls::parse(
            r#"{"view_flags": [{"principals": {"values": ["a"]}, "flags": {"type": "ANY"}},
                               {"principals": {"type": "ANY"}, "flags": {"type": "NONE"}}]}"#,
        )
        .unwrap();
        assert!(acls.allow(Some(&principal("a")), Action::ViewFlags, Object::Any));
        assert!(!acls.allow(Some(&principal("b")), Action::ViewFlags, Object::Any));
        assert!(!acls.allow(None, Action::ViewFlags, Object::Any));
    }

    #[test]
    fn whatever_is_allowed_only_without_exceptions() {
        let acls = |entries: &str| {
            Acls::parse(&format!(r#"{{"kill_standalone_containers": [{entries}]}}"#)).unwrap()
        };
        let whatever = |entries: &str| {
            acls(entries).allow_whatever(Some(&principal("a")), Action::KillStandaloneContainers)
        };
        let (any, none) = (r#"{"type": "ANY"}"#, r#"{"type": "NONE"}"#);
        let entry = |who: &str, what: &str| format!(r#"{{"principals": {who}, "users": {what}}}"#);
        assert!(whatever(""));
        assert!(whatever(&entry(any, any)));
        assert!(!whatever(&entry(any, none)));
        assert!(!whatever(&entry(none, r#"{"values": ["root"]}"#)), "root is an exception");
        assert!(whatever(&entry(any, r#"{"values": ["root"]}"#)), "the rest is permissive");
        assert!(!whatever(&format!(
            "{}, {}",
            entry(any, r#"{"values": ["root"]}"#),
            entry(any, none)
        )));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, place) in [
            ("[]", "object"),
            ("{", "EOF"),
            (r#"{"run_task": []}"#, "run_task"),
            (r#"{"run_tasks": {}}"#, "list"),
            (r#"{"run_tasks": [{"principals": {"type": "ANY"}}]}"#, "users"),
            (r#"{"run_tasks": [{"principals": {"type": "ALL"}, "users": {}}]}"#, "ANY"),
            (r#"{"run_tasks": [{"principals": {"values": [1]}, "users": {}}]}"#, "names"),
            (r#"{"permissive": "no"}"#, "permissive"),
            (
                r#"{"stop_maintenances": [{"principals": {"type": "ANY"}, "machines": {"values": ["host1"]}}]}"#,
                "'machines' in 'stop_maintenances' must be ANY or NONE",
            ),
            (
                r#"{"get_endpoints": [{"principals": {"type": "ANY"}, "paths": {"values": ["/state"]}}]}"#,
                "'/state' in 'get_endpoints' is no endpoint that asks",
            ),
        ] {
            let error = Acls::parse(text).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn the_text_is_the_originals() {
        let json = r#"{"permissive": false,
            "view_flags": [{"principals": {"values": ["admin"]}, "flags": {"type": "ANY"}}],
            "register_frameworks": [{"principals": {"values": ["framework", "admin"]}, "roles": {"values": ["ok"]}}]}"#;
        assert_eq!(
            Acls::parse(json).unwrap().to_text(),
            "permissive: false\nregister_frameworks {\n  principals {\n    values: \"framework\"\n    values: \"admin\"\n  }\n  roles {\n    values: \"ok\"\n  }\n}\nview_flags {\n  principals {\n    values: \"admin\"\n  }\n  flags {\n    type: ANY\n  }\n}\n"
        );
    }
}
