//! Secrets that tasks are given: what a secret says, when it says it itself (the original's default resolver,
//! `common/…/secret/resolver.cpp`). Their content is never logged.

use mesos::v1;
use mesos::v1::secret::Type;

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
