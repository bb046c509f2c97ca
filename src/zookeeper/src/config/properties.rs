//! Java's properties files (`java.util.Properties.load`), with the line that each key is on.

use std::fs;
use std::path::Path;

use super::ConfigError;

/// The text of a file: UTF-8, or what Java reads (ISO 8859-1) where it is none.
///
/// # Errors
/// When the file can't be read.
pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    let bytes =
        fs::read(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect()))
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    /// The line that the key is on, from 1.
    pub(super) line: usize,
    /// The key, escapes resolved.
    pub(super) key: String,
    /// The value, escapes resolved, without blanks around it (`QuorumPeerConfig` trims).
    pub(super) value: String,
}

/// Reads `key=value` lines in their order: `#` and `!` begin comments, `:` or a blank separates too, and a `\` at the
/// end of a line goes on with the next.
pub(super) fn read(text: &str) -> Vec<Property> {
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut line = first.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while goes_on(&line) {
            line.pop();
            let Some((_, next)) = lines.next() else { break };
            line.push_str(next.trim_start());
        }
        let end = key_end(&line);
        let (key, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
        let (key, value) = (unescape(key), unescape(value).trim().to_owned());
        properties.push(Property { line: index + 1, key, value });
    }
    properties
}

/// Whether a line ends with an odd number of backslashes.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Where the key ends: at the first separator that is not escaped.
fn key_end(line: &str) -> usize {
    let mut is_escaped = false;
    for (index, character) in line.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '=' | ':' | ' ' | '\t' | '\u{c}' => return index,
            _ => {}
        }
    }
    line.len()
}

/// `\t`, `\n`, `\r`, `\f` and `\uXXXX`; of every other escape the backslash is dropped.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.clone().take(4).collect();
                let decoded = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                match decoded.filter(|_| digits.len() == 4) {
                    Some(decoded) => {
                        plain.push(decoded);
                        characters.nth(3);
                    }
                    None => plain.push('u'),
                }
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        read(text).into_iter().map(|one| (one.line, one.key, one.value)).collect()
    }

    #[test]
    fn lines_are_read_by_javas_rules() {
        for (text, line, key, value) in [
            ("a=b", 1, "a", "b"),
            ("\n# c\n! d\n  a : b  ", 4, "a", "b"),
            ("a b c", 1, "a", "b c"),
            ("a\t=\tb=c", 1, "a", "b=c"),
            ("a=b\\\n   c", 1, "a", "bc"),
            ("a=b\\\\", 1, "a", "b\\"),
            ("a\\=b=c", 1, "a=b", "c"),
            ("a=\\u0041\\t.", 1, "a", "A\t."),
            ("a=\\uzz", 1, "a", "uzz"),
            ("a", 1, "a", ""),
            ("a=b\\", 1, "a", "b"),
        ] {
            assert_eq!(pairs(text), [(line, key.to_owned(), value.to_owned())], "{text}");
        }
    }

    #[test]
    fn files_that_are_not_utf_8_are_read_as_java_reads_all() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("zoo.cfg");
        for bytes in [&b"# M\xfcller\na=\xe9"[..], "# Müller\na=é".as_bytes()] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(pairs(&read_file(&path).unwrap()), [(2, "a".to_owned(), "é".to_owned())]);
        }
        assert!(read_file(directory.path()).is_err());
    }

    #[test]
    fn every_line_is_kept_in_order() {
        let lines: Vec<usize> = read("a=1\nb=2\na=3").iter().map(|one| one.line).collect();
        assert_eq!(lines, [1, 2, 3]);
    }
}
