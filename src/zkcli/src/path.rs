//! What may be a path (`PathUtils.validatePath`), in the original's words.

use crate::failure::Failure;

fn forbidden(unit: u16) -> bool {
    matches!(unit, 1..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff)
}

fn problem(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("Path length must be > 0".to_owned());
    }
    if !path.starts_with('/') {
        return Some("Path must start with / character".to_owned());
    }
    if path.len() == 1 {
        return None;
    }
    if path.ends_with('/') {
        return Some("Path must not end with / character".to_owned());
    }
    let units: Vec<u16> = path.encode_utf16().collect();
    let (slash, dot) = (u16::from(b'/'), u16::from(b'.'));
    let ends = |index: usize| units.get(index).is_none_or(|unit| *unit == slash);
    for (index, unit) in units.iter().enumerate().skip(1) {
        let before = units[index - 1];
        let reason = if *unit == 0 {
            "null character not allowed"
        } else if *unit == slash && before == slash {
            "empty node name specified"
        } else if *unit == dot
            && ends(index + 1)
            && (before == slash || (before == dot && index > 1 && units[index - 2] == slash))
        {
            "relative paths not allowed"
        } else if forbidden(*unit) {
            "invalid character"
        } else {
            continue;
        };
        return Some(format!("Invalid path string \"{path}\" caused by {reason} @{index}"));
    }
    None
}

/// Refuses what can't be a path.
///
/// # Errors
/// With the original's reason.
pub fn validate(path: &str) -> Result<(), Failure> {
    problem(path).map_or(Ok(()), |reason| Err(Failure::Malformed(reason)))
}

/// A child's path.
pub fn join(parent: &str, child: &str) -> String {
    format!("{}/{child}", parent.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_refused_in_the_originals_words() {
        for path in ["/", "/a", "/a/b.c", "/...", "/a/..b"] {
            assert_eq!(problem(path), None, "{path}");
        }
        for (path, reason) in [
            ("", "Path length must be > 0"),
            ("a", "Path must start with / character"),
            ("/a/", "Path must not end with / character"),
            ("/a//x", "Invalid path string \"/a//x\" caused by empty node name specified @3"),
            ("/a/./x", "Invalid path string \"/a/./x\" caused by relative paths not allowed @3"),
            ("/a/..", "Invalid path string \"/a/..\" caused by relative paths not allowed @4"),
            ("/a\u{1}", "Invalid path string \"/a\u{1}\" caused by invalid character @2"),
            ("/a\0", "Invalid path string \"/a\0\" caused by null character not allowed @2"),
        ] {
            assert_eq!(problem(path).as_deref(), Some(reason));
        }
    }

    #[test]
    fn children_are_joined() {
        assert_eq!((join("/", "a"), join("/a", "b")), ("/a".to_owned(), "/a/b".to_owned()));
    }
}
