//! Names of images: `[registry/]repository[:tag][@digest]` (`docker/spec.cpp`).

use std::fmt;

use super::spec::Digest;

/// An image's name, checked: nothing in it leads anywhere in a path or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `host` or `host:port`; else the operator's registry.
    pub registry: Option<String>,
    /// Its name there.
    pub repository: String,
    /// Which of its versions.
    pub tag: Option<String>,
    /// What exactly.
    pub digest: Option<Digest>,
}

const TAG_MAX: usize = 128;
const NAME_MAX: usize = 255;

impl Reference {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("Failed to parse docker image '{name}': {what}"));
        if name.len() > NAME_MAX {
            return wrong("it is too long");
        }
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        let digest = match digest.map(|digest| Digest::try_from(digest.to_owned())).transpose() {
            Ok(digest) => digest,
            Err(reason) => return wrong(&reason),
        };
        let (registry, rest) = match rest.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (Some(first.to_owned()), rest)
            }
            _ => (None, rest),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (rest, None),
        };
        let is_word = |text: &str, more: &str| {
            !text.is_empty()
                && text.chars().all(|own| own.is_ascii_alphanumeric() || more.contains(own))
        };
        let is_name = |part: &str| is_word(part, "._-") && !part.bytes().all(|byte| byte == b'.');
        if !repository.split('/').all(is_name) {
            return wrong("expecting [registry/]repository[:tag][@digest]");
        }
        let is_host = |own: &str| {
            is_word(own, ".:-") && own.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        if registry.as_ref().is_some_and(|registry| !is_host(registry)) {
            return wrong("its registry is no host");
        }
        if tag.as_ref().is_some_and(|tag| !is_name(tag) || tag.len() > TAG_MAX) {
            return wrong("its tag is not valid");
        }
        Ok(Self { registry, repository: repository.to_owned(), tag, digest })
    }

    /// What a registry calls this version.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(out, "{registry}/")?;
        }
        write!(out, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, registry, repository, version) in [
            ("busybox", None, "busybox", "latest"),
            ("library/alpine:3.18", None, "library/alpine", "3.18"),
            ("localhost:5000/a/b:c", Some("localhost:5000"), "a/b", "c"),
            ("quay.io/coreos/etcd", Some("quay.io"), "coreos/etcd", "latest"),
            (&format!("busybox@{digest}"), None, "busybox", &digest),
        ] {
            let read = Reference::parse(name).unwrap();
            assert_eq!(read.registry.as_deref(), registry, "{name}");
            assert_eq!((read.repository.as_str(), read.version().as_str()), (repository, version));
            assert_eq!(read.to_string(), name);
        }
        for name in ["", "/", "a//b", "../x", "a/../b", "a:", "a b", "a@sha256:1", "a.b/x?y", "a\n"]
        {
            assert!(Reference::parse(name).is_err(), "{name:?}");
        }
    }
}
