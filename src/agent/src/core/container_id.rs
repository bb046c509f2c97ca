//! Ids of containers: a nested one is named with its parents (`common/type_utils.cpp`, `slave/validation.cpp`).

use std::fmt;
use std::path::{Path, PathBuf};

use mesos::v1;

/// Longest part of an id, in bytes (`MAX_CONTAINER_ID_LENGTH`): the name of a socket is made from it.
const LENGTH_MAX: usize = 242;
/// Deepest nesting that is taken.
const DEPTH_MAX: usize = 32;

/// A container's id with those of its parents, outermost first. There is at least one part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Vec<String>);

impl ContainerId {
    /// The id of a container without parent.
    pub fn root_of(id: &str) -> Self {
        Self(vec![id.to_owned()])
    }

    /// Checks an id of a call.
    ///
    /// # Errors
    /// What is wrong with it, in the original's words.
    pub fn parse(id: &v1::ContainerId) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut prefix = String::new();
        let mut next = Some(id);
        while let Some(id) = next {
            check(&id.value).map_err(|reason| format!("{prefix}{reason}"))?;
            if parts.len() == DEPTH_MAX {
                return Err(format!("containers can't be nested deeper than {DEPTH_MAX} levels"));
            }
            parts.push(id.value.clone());
            prefix.push_str("'ContainerID.parent' is invalid: ");
            next = id.parent.as_deref();
        }
        parts.reverse();
        Ok(Self(parts))
    }

    /// Of a container below this one.
    #[must_use]
    pub fn child(&self, id: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(id.to_owned());
        Self(parts)
    }

    /// The container that it is nested in.
    pub fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        (!parents.is_empty()).then(|| Self(parents.to_vec()))
    }

    /// The outermost container.
    pub fn root(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The id of the outermost container.
    #[must_use]
    pub fn root_id(&self) -> Self {
        Self::root_of(self.root())
    }

    /// Its own part.
    pub fn value(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// How deep it is nested: 0 for a container without parent.
    pub fn depth(&self) -> usize {
        self.0.len() - 1
    }

    /// Whether it is nested, at any depth, in `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.0.starts_with(&other.0)
    }

    /// `<root's directory>/containers/<child>/containers/<grandchild>`: a sandbox in its root's.
    pub fn sandbox_in(&self, root: &Path) -> PathBuf {
        self.0.iter().skip(1).fold(root.to_owned(), |path, part| path.join("containers").join(part))
    }

    /// `<runtime_dir>/containers/<root>/containers/<child>…`: where its process and its end are noted.
    pub fn runtime(&self, runtime_dir: &Path) -> PathBuf {
        self.0.iter().fold(runtime_dir.to_owned(), |path, part| path.join("containers").join(part))
    }

    /// As a message.
    pub fn to_proto(&self) -> v1::ContainerId {
        self.0
            .iter()
            .fold(None, |parent: Option<v1::ContainerId>, part| {
                Some(v1::ContainerId { value: part.clone(), parent: parent.map(Box::new) })
            })
            .unwrap_or_default()
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

fn check(id: &str) -> Result<(), String> {
    mesos::ids::validate(id)?;
    if id.len() > LENGTH_MAX {
        return Err(format!(
            "'ContainerID.value' '{id}' exceeds the maximum length ({LENGTH_MAX})"
        ));
    }
    if id.contains(['.', ' ']) {
        return Err(format!("'ContainerID.value' '{id}' contains invalid characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(parts: &[&str]) -> v1::ContainerId {
        ContainerId(parts.iter().map(|part| (*part).to_owned()).collect()).to_proto()
    }

    #[test]
    fn a_nested_id_names_its_parents() {
        let id = ContainerId::parse(&nested(&["a", "b", "c"])).unwrap();
        assert_eq!(id.to_string(), "a.b.c");
        assert_eq!((id.root(), id.value(), id.depth()), ("a", "c", 2));
        assert_eq!(id.parent().unwrap().to_string(), "a.b");
        assert!(id.is_below(&ContainerId::root_of("a")) && !id.is_below(&id));
        assert_eq!(id.sandbox_in(Path::new("/s")), Path::new("/s/containers/b/containers/c"));
        let runtime = "/r/containers/a/containers/b/containers/c";
        assert_eq!(id.runtime(Path::new("/r")), Path::new(runtime));
        assert_eq!(ContainerId::root_of("a").parent(), None);
    }

    #[test]
    fn ids_that_would_leave_a_directory_are_refused() {
        for (parts, expected) in [
            (&["a.b"][..], "'ContainerID.value' 'a.b' contains invalid characters"),
            (&[".."], "'..' is disallowed"),
            (&["a/b"], "'a/b' contains invalid characters"),
            (
                &["a b", "c"],
                "'ContainerID.parent' is invalid: 'ContainerID.value' 'a b' contains invalid characters",
            ),
            (&[""], "ID must not be empty"),
        ] {
            assert_eq!(ContainerId::parse(&nested(parts)).unwrap_err(), expected);
        }
        assert!(ContainerId::parse(&nested(&["x"; 33])).is_err());
    }
}
