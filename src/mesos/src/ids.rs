//! Identifiers: how the master makes them and which ones a framework may choose (Mesos' `common/validation.cpp`).

/// Longest id that names a directory, in bytes.
pub const LENGTH_MAX: usize = 255;

/// Checks an id that a framework chose (task, executor, framework): it becomes part of a path.
///
/// # Errors
/// The original's text of what is wrong with it.
pub fn validate(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".to_owned());
    }
    if id.len() > LENGTH_MAX {
        return Err(format!("ID must not be greater than {LENGTH_MAX} characters"));
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    match id.chars().find(|c| c.is_control() || *c == '/' || *c == '\\') {
        Some(_) => Err(format!("'{id}' contains invalid characters")),
        None => Ok(()),
    }
}

/// Whether bytes are a UUID of a version that there is (stout's `UUID::fromBytes`): all zeros are none.
pub fn is_uuid(bytes: &[u8]) -> bool {
    matches!(bytes.get(6), Some(byte) if bytes.len() == 16 && (1..=5).contains(&(byte >> 4)))
}

/// `<master>-0007`: the id of the master's `number`th framework.
pub fn framework(master: &str, number: u64) -> String {
    format!("{master}-{number:04}")
}

/// `<master>-S3`: the id of the master's `number`th agent.
pub fn agent(master: &str, number: u64) -> String {
    format!("{master}-S{number}")
}

/// `<master>-O3`: the id of the master's `number`th offer.
pub fn offer(master: &str, number: u64) -> String {
    format!("{master}-O{number}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_that_cannot_be_directories_are_refused() {
        assert!(super::validate("task.1-a:b").is_ok());
        for id in ["", ".", "..", "a/b", "a\\b", "a\nb", &"x".repeat(256)] {
            assert!(super::validate(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn a_uuid_has_sixteen_bytes_and_a_version() {
        let mut bytes = [0; 16];
        assert!(!super::is_uuid(&bytes));
        for (version, is_one) in [(0, false), (1, true), (4, true), (5, true), (6, false)] {
            bytes[6] = version << 4 | 0xf;
            assert_eq!(super::is_uuid(&bytes), is_one, "{version}");
        }
        bytes[6] = 0x40;
        assert!(!super::is_uuid(&bytes[..15]));
    }
}
