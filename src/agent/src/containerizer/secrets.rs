//! Secrets that tasks are given: what a secret says, when it says it itself (the original's default resolver,
//! `common/…/secret/resolver.cpp`). Their content is never logged.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use mesos::v1;
use mesos::v1::environment::variable;
use mesos::v1::secret::Type;
use nix::unistd::User;

/// The content of a secret.
///
/// # Errors
/// When it only names where its content is, or is not whole.
pub fn resolve(secret: &v1::Secret) -> Result<Vec<u8>, String> {
    match (secret.r#type(), &secret.value, &secret.reference) {
        (Type::Value, Some(value), None) => Ok(value.data.clone()),
        (Type::Reference, None, Some(_)) => {
            Err("Default secret resolver cannot resolve references".to_owned())
        }
        (Type::Value, _, _) => {
            Err("Secret of type VALUE must have a value set, and no reference".to_owned())
        }
        (Type::Reference, _, _) => {
            Err("Secret of type REFERENCE must have a reference set, and no value".to_owned())
        }
        (Type::Unknown, _, _) => Err("Secret of unknown type".to_owned()),
    }
}

/// The variables of a command that are secrets.
pub fn variables(command: Option<&v1::CommandInfo>) -> Vec<v1::environment::Variable> {
    let all = command.into_iter().flat_map(|command| &command.environment);
    let all = all.flat_map(|environment| &environment.variables);
    all.filter(|variable| variable.r#type() == variable::Type::Secret).cloned().collect()
}

/// What they are (the isolator `environment_secret`).
///
/// # Errors
/// Which one can't be a variable, and why.
pub(super) fn values(
    variables: &[v1::environment::Variable],
) -> Result<BTreeMap<String, String>, String> {
    let each = variables.iter().map(|variable| {
        let name = &variable.name;
        let named = |reason: &str| format!("Environment variable '{name}': {reason}");
        let secret = variable
            .secret
            .as_ref()
            .ok_or_else(|| named("of type 'SECRET' must have a secret set"))?;
        let content = resolve(secret).map_err(|reason| named(&reason))?;
        let text = String::from_utf8(content).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| named("its secret is no text, or contains a null byte"))?;
        Ok((name.clone(), text))
    });
    each.collect()
}

/// Where the secrets are that a container's process takes over, until it has done so.
pub(super) fn directory(runtime_dir: &Path, container: &str) -> PathBuf {
    runtime_dir.join(".secret").join(container)
}

/// Puts a secret where the container's process finds it, for nobody else to read.
///
/// # Errors
/// What the system says, or that it can't be resolved.
pub(super) fn put(
    directory: &Path,
    secret: &v1::Secret,
    user: Option<&User>,
) -> Result<PathBuf, String> {
    let content = resolve(secret)?;
    let path = directory.join(uuid::Uuid::new_v4().to_string());
    let written = || {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&content)?;
        let Some(user) = user else { return Ok(()) };
        fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
    };
    written().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Removes what a container's process has not taken over.
pub(super) fn forget(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %directory.display(), %error, "not removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: &[u8]) -> v1::Secret {
        v1::Secret {
            r#type: Some(Type::Value as i32),
            value: Some(v1::secret::Value { data: data.to_vec() }),
            reference: None,
        }
    }

    #[test]
    fn only_what_says_itself_is_resolved_and_errors_say_nothing_of_it() {
        let named = |secret: Option<v1::Secret>| v1::environment::Variable {
            name: "V".to_owned(),
            r#type: Some(variable::Type::Secret as i32),
            secret,
            ..Default::default()
        };
        let own = |secret| values(&[named(secret)]);
        assert_eq!(own(Some(secret(b"s3"))).unwrap()["V"], "s3");
        let reference = v1::Secret {
            r#type: Some(Type::Reference as i32),
            reference: Some(v1::secret::Reference { name: "r".to_owned(), key: None }),
            value: None,
        };
        for (wrong, expected) in [
            (Some(reference), "cannot resolve references"),
            (Some(secret(b"s3\0")), "null byte"),
            (Some(secret(b"s3\xff")), "no text"),
            (None, "must have a secret set"),
        ] {
            let text = own(wrong).unwrap_err();
            assert!(text.contains(expected) && !text.contains("s3"), "{text}");
        }
    }

    #[test]
    fn a_secret_in_a_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let runtime = tempfile::TempDir::new().unwrap();
        let directory = directory(runtime.path(), "c");
        let path = put(&directory, &secret(b"s3"), None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"s3");
        for (path, mode) in [(&path, 0o600), (&directory, 0o700)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
        forget(&directory);
        assert!(!directory.exists());
        forget(&directory);
    }
}
