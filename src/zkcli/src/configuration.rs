//! `-client-configuration`: a file of the original's client properties (`ZKClientConfig`).

use std::path::Path;

/// Properties that ask for what this program does not have.
const UNSUPPORTED: [(&str, &str); 2] =
    [("zookeeper.client.secure", "TLS"), ("zookeeper.clientCnxnSocket", "another transport")];

/// Reads a file of properties; what it sets and this program takes no notice of, by name.
///
/// # Errors
/// When it can't be read, or asks for TLS: a session that was to be secret must not begin in the clear.
pub fn check(path: &Path) -> Result<Vec<String>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    check_text(&text).map_err(|error| format!("{}:{error}", path.display()))
}

fn check_text(text: &str) -> Result<Vec<String>, String> {
    let mut ignored = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (key, value) = line
            .split_once(['=', ':'])
            .ok_or_else(|| format!("{}: '{line}' is no property: key=value is", index + 1))?;
        let (key, value) = (key.trim(), value.trim());
        let plain = value == "false" || value.ends_with("ClientCnxnSocketNIO");
        match UNSUPPORTED.iter().find(|(name, _)| *name == key) {
            Some((_, what)) if !plain => {
                return Err(format!(
                    "{}: {key}={value}: zkcli has no {what}; use the server's plain port, or a tunnel to it",
                    index + 1
                ));
            }
            Some(_) => {}
            None => ignored.push(key.to_owned()),
        }
    }
    Ok(ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_asks_for_tls_is_refused_with_the_line() {
        let text = "# clients\nzookeeper.client.secure=true\n";
        let error = check_text(text).unwrap_err();
        assert!(error.starts_with("2: zookeeper.client.secure=true: zkcli has no TLS"), "{error}");
        assert_eq!(check_text("what"), Err("1: 'what' is no property: key=value is".to_owned()));
        assert_eq!(
            check_text("zookeeper.client.secure = false\n\nzookeeper.request.timeout=5\n").unwrap(),
            ["zookeeper.request.timeout"]
        );
    }
}
